"""Windows of Hounsfield units and slabs of slices, as numbers; no viewer.

A *window* has a width (W) and a level (L), its middle; the picture is black below
``L - W/2`` and white above ``L + W/2``. A *slab* is a maximum projection over the
2k + 1 slices around the one in view.
"""

from __future__ import annotations

from napari_alnct.core.errors import SettingsError

Window = tuple[float, float]

PRESETS: dict[str, Window] = {  # (low, high), HU
    "lung": (-1350.0, 150.0),  # W 1500 L -600, as OHIF
    "mediastinum": (-160.0, 240.0),  # W 400 L 40, as OHIF
    "bone": (-500.0, 1300.0),  # W 1800 L 400
    "ground glass": (-1000.0, -300.0),  # W 700 L -650; provisional
}
SLABS_MM = (5.0, 10.0, 15.0)  # offered by key; 10 mm is the usual one
LEAST_WIDTH_HU = 1.0
DRAG_HU = 4.0  # per pixel of a drag: a screen's width covers the range of a CT


def width_and_level(window_hu: Window) -> tuple[float, float]:
    """Give width and level of a window.

    Parameters
    ----------
    window_hu : tuple of float
        Lowest and highest value shown, HU.

    Returns
    -------
    tuple of float
        Width and level, HU.

    Examples
    --------
    >>> width_and_level((-1350, 150))
    (1500, -600.0)
    """
    low, high = window_hu
    return high - low, (low + high) / 2


def window_of(width_hu: float, level_hu: float) -> Window:
    """Give the window with this width and level.

    Parameters
    ----------
    width_hu : float
        Width, HU; below 1 it is taken as 1.
    level_hu : float
        Middle, HU.

    Returns
    -------
    tuple of float
        Lowest and highest value shown, HU.

    Examples
    --------
    >>> window_of(400, 40)
    (-160.0, 240.0)
    """
    half = max(width_hu, LEAST_WIDTH_HU) / 2
    return level_hu - half, level_hu + half


def dragged(window_hu: Window, right_px: float, down_px: float) -> Window:
    """Give the window after a drag: to the right widens it, down raises its level and darkens the picture.

    Parameters
    ----------
    window_hu : tuple of float
        When the drag began, HU.
    right_px, down_px : float
        How far the mouse has moved, pixels.

    Returns
    -------
    tuple of float

    Examples
    --------
    >>> dragged((-160, 240), right_px=10, down_px=-5)
    (-200.0, 240.0)
    """
    width, level = width_and_level(window_hu)
    return window_of(width + DRAG_HU * right_px, level + DRAG_HU * down_px)


def window_text(window_hu: Window) -> str:
    """Give a window in words, with the name of the preset that it is.

    Parameters
    ----------
    window_hu : tuple of float
        HU.

    Returns
    -------
    str

    Examples
    --------
    >>> window_text((-1350, 150)), window_text((-100, 101))
    ('W 1500 L -600 lung', 'W 201 L 0')
    """
    width, level = width_and_level(window_hu)
    names = [f" {name}" for name, preset in PRESETS.items() if preset == tuple(window_hu)]
    return f"W {width:.0f} L {level:.0f}{''.join(names)}"


def preset_window(name: str) -> Window:
    """Give the window of a preset.

    Parameters
    ----------
    name : str
        One of `PRESETS`.

    Returns
    -------
    tuple of float

    Raises
    ------
    SettingsError
        If there is no such preset.
    """
    if name not in PRESETS:
        raise SettingsError(f"window {name!r} is none of {', '.join(PRESETS)}; choose one of those")
    return PRESETS[name]


def slices_beside(slab_mm: float, spacing_mm: float) -> int:
    """Give how many slices on each side of the one in view make a slab nearest to the wanted thickness.

    Parameters
    ----------
    slab_mm : float
        Wanted thickness, mm; 0 for none.
    spacing_mm : float
        Distance between slices, mm.

    Returns
    -------
    int
        k; the slab has 2k + 1 slices, so it is symmetric.

    Examples
    --------
    >>> slices_beside(10, 2.5), slices_beside(10, 0.7), slices_beside(0, 1)
    (2, 7, 0)
    """
    return max(0, round(slab_mm / 2 / spacing_mm))


def true_slab_mm(slab_mm: float, spacing_mm: float) -> float:
    """Give the thickness that a slab really has, 0 when it is off.

    Parameters
    ----------
    slab_mm : float
        Wanted thickness, mm; 0 for none.
    spacing_mm : float
        Distance between slices, mm.

    Returns
    -------
    float
        (2k + 1) times the spacing, mm.

    Examples
    --------
    >>> true_slab_mm(10, 2.5), true_slab_mm(0, 2.5)
    (12.5, 0.0)
    """
    return (2 * slices_beside(slab_mm, spacing_mm) + 1) * spacing_mm if slab_mm > 0 else 0.0
