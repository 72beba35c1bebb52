"""Every difference between the napari versions that we support (0.9 and 0.10).

Version checks live here and nowhere else; a failure on a new napari is mended
in this module.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari.components import ViewerModel

SPHERE_PROJECTION = "rescale_spherical"
"""Points mode that draws each mark as the cross-section of a sphere."""


def camera_of(viewer: ViewerModel) -> Any:
    """Give the camera of a viewer.

    Parameters
    ----------
    viewer : napari.components.ViewerModel
        Any viewer, with or without a window.

    Returns
    -------
    napari.components.Camera
        ``viewer.scene.camera`` since napari 0.9, ``viewer.camera`` before.
    """
    scene = getattr(viewer, "scene", None)
    return viewer.camera if scene is None else scene.camera


def current_viewer() -> ViewerModel | None:
    """Give the viewer in front, or None when napari runs without one.

    Returns
    -------
    napari.Viewer or None
    """
    import napari

    return napari.current_viewer()


def warn(text: str) -> None:
    """Show one sentence of warning in the viewer, without a dialog.

    Parameters
    ----------
    text : str
        One sentence; no path and no patient data.
    """
    from napari.utils.notifications import show_warning

    show_warning(text)


def grid_of(viewer: ViewerModel) -> Any:
    """Give the grid mode of a viewer.

    Parameters
    ----------
    viewer : napari.components.ViewerModel
        Any viewer.

    Returns
    -------
    napari.components.grid.GridCanvas
        ``viewer.canvas.grid`` since napari 0.9, ``viewer.grid`` before; ``enabled`` tells whether
        layers stand side by side.
    """
    grid = getattr(getattr(viewer, "canvas", None), "grid", None)
    return viewer.grid if grid is None else grid


def overlays_of(viewer: ViewerModel) -> tuple[Any, Any]:
    """Give the overlays on the canvas and those in the scene.

    Parameters
    ----------
    viewer : napari.components.ViewerModel
        Any viewer.

    Returns
    -------
    tuple of mapping
        ``viewer.canvas.overlays`` and ``viewer.scene.overlays``; overlays can be added and deleted by name.
    """
    return viewer.canvas.overlays, viewer.scene.overlays


def canvas_size(viewer: ViewerModel) -> tuple[int, int]:
    """Give height and width of a viewer's canvas, pixels."""
    height, width = viewer.canvas.size
    return int(height), int(width)


def discard_model(model: ViewerModel) -> None:
    """Let go of what a viewer model without a window of its own hangs on: napari's settings, a thread of slicing.

    Parameters
    ----------
    model : napari.components.ViewerModel
        Not used any more.
    """
    from napari.settings import get_settings
    from napari.utils.events import disconnect_events

    if model.layers:  # clearing collects garbage, which takes a while
        model.layers.clear()
    settings = get_settings()
    for group in (settings.appearance, settings.application, settings.experimental):
        for listener in (model, model.canvas, model.canvas.grid, model.scene.camera):
            disconnect_events(group.events, listener)
    settings.appearance.events.theme.disconnect(model.canvas.events.background_color)
    model._layer_slicer.shutdown()


def set_background(viewer: ViewerModel, colour: Any | None) -> Any:
    """Give a canvas another background, whatever the theme; None: the theme's.

    Parameters
    ----------
    viewer : napari.components.ViewerModel
        Any viewer.
    colour : colour or None
        As napari takes them.

    Returns
    -------
    colour or None
        What it was before.
    """
    before = viewer.canvas.background_color_override
    viewer.canvas.background_color_override = colour
    return before


def warm_up() -> None:
    """Have napari load now what the first layer of a session needs: units, image tools; a third of a second once."""
    import numpy as np
    from napari.layers import Image, Points

    Image(np.zeros((2, 2, 2), np.int16), units=("mm",) * 3, contrast_limits=(0, 1))
    Points(np.zeros((1, 3)), units=("mm",) * 3)


def canvas_of_window(viewer: ViewerModel) -> Any:
    """Give the canvas on which a viewer with a window draws, whose ``events.draw`` tells when; None without one."""
    window = getattr(viewer, "window", None)
    qt_viewer = getattr(window, "_qt_viewer", None)
    return getattr(qt_viewer, "canvas", None)


def main_window_of(viewer: ViewerModel) -> Any:
    """Give the window of a viewer, as a Qt widget, None when it has none.

    Parameters
    ----------
    viewer : napari.components.ViewerModel
        Any viewer.

    Returns
    -------
    QMainWindow or None
    """
    return getattr(getattr(viewer, "window", None), "_qt_window", None)
