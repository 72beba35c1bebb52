"""What stands on the canvas of a plane: the letters of the patient's sides, a read-out, the crosshair; no Qt."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from napari.components.overlays import TextOverlay

from napari_alnct.plugin._compat import overlays_of
from napari_alnct.plugin._crosshair import CrosshairOverlay, make_drawable

if TYPE_CHECKING:
    from napari.components import ViewerModel

ENDS = (("F", "H"), ("A", "P"), ("R", "L"))  # of the axes z, y, x: at the low and the high end, in LPS
EDGES = ("top_center", "bottom_center", "middle_left", "middle_right")
PREFIX = "alnct_"  # of the names of our overlays
LETTER_POINTS, TEXT_POINTS = 13, 10
TEXT_COLOUR, TEXT_BACK = (1.0, 1.0, 1.0, 1.0), (0.0, 0.0, 0.0, 0.45)


def edge_letters(order: tuple[int, ...], orientation: tuple[str, str]) -> dict[str, str]:
    """Give the letters of the patient's sides at the edges of a canvas.

    Parameters
    ----------
    order : tuple of int
        ``viewer.dims.order``; the last three axes are z, y, x of an LPS scan.
    orientation : tuple of str
        ``camera.orientation2d``: where the displayed rows and columns grow to.

    Returns
    -------
    dict of str to str
        Edge to letter: R, L, A, P, H (head), F (feet).

    Examples
    --------
    >>> edge_letters((0, 1, 2), ("down", "right"))
    {'top_center': 'A', 'bottom_center': 'P', 'middle_left': 'R', 'middle_right': 'L'}
    >>> edge_letters((2, 0, 1), ("up", "right"))
    {'top_center': 'H', 'bottom_center': 'F', 'middle_left': 'A', 'middle_right': 'P'}
    """
    rows, columns = (ENDS[axis - (len(order) - 3)] for axis in order[-2:])
    vertical, horizontal = (str(direction) for direction in orientation)
    down = rows if vertical == "down" else rows[::-1]
    right = columns if horizontal == "right" else columns[::-1]
    return dict(zip(EDGES, (*down, *right), strict=True))


class PlaneOverlays:
    """Letters, read-out and crosshair of one viewer.

    Parameters
    ----------
    viewer : napari.components.ViewerModel
        Where they are added; nothing of napari's own is touched.
    """

    def __init__(self, viewer: ViewerModel) -> None:
        make_drawable()
        self._viewer = viewer
        look = {"color": TEXT_COLOUR, "box": True, "box_color": TEXT_BACK}
        self._texts: dict[str, Any] = {
            edge: TextOverlay(position=edge, font_size=LETTER_POINTS, **look) for edge in EDGES
        }
        self._texts["read_out"] = TextOverlay(position="bottom_left", font_size=TEXT_POINTS, **look)
        self.crosshair = CrosshairOverlay()
        on_canvas, in_scene = overlays_of(viewer)
        for name, overlay in self._texts.items():
            on_canvas[PREFIX + name] = overlay
        in_scene[f"{PREFIX}crosshair"] = self.crosshair

    @property
    def letters(self) -> dict[str, str]:
        """Give the letters on the canvas, edge to letter."""
        return {edge: str(self._texts[edge].text) for edge in EDGES if self._texts[edge].visible}

    @letters.setter
    def letters(self, letters: Mapping[str, str]) -> None:
        for edge in EDGES:
            self._write(edge, letters.get(edge, ""))

    @property
    def read_out(self) -> str:
        """Give the text in the lower left corner."""
        return str(self._texts["read_out"].text)

    @read_out.setter
    def read_out(self, text: str) -> None:
        self._write("read_out", text)

    def _write(self, name: str, text: str) -> None:
        overlay = self._texts[name]
        if overlay.text != text:
            overlay.text = text
        overlay.visible = bool(text)

    def close(self) -> None:
        """Take them off."""
        for overlays in overlays_of(self._viewer):
            for name in [name for name in overlays if str(name).startswith(PREFIX)]:
                del overlays[name]
