"""What stands on the canvas of a plane: the letters of the patient's sides, a read-out, the crosshair; no Qt."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from napari_alnct.plugin._compat import overlays_of
from napari_alnct.plugin._overlays import EDGES, CanvasTextOverlay, CrosshairOverlay, make_drawable

if TYPE_CHECKING:
    from napari.components import ViewerModel

ENDS = (("F", "H"), ("A", "P"), ("R", "L"))  # of the axes z, y, x: at the low and the high end, in LPS
PREFIX = "alnct_"  # of the names of our overlays


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
    {'top': 'A', 'bottom': 'P', 'left': 'R', 'right': 'L'}
    >>> edge_letters((2, 0, 1), ("up", "right"))
    {'top': 'H', 'bottom': 'F', 'left': 'A', 'right': 'P'}
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
        self._text = CanvasTextOverlay()
        self.crosshair = CrosshairOverlay()
        on_canvas, in_scene = overlays_of(viewer)
        on_canvas[f"{PREFIX}text"] = self._text
        in_scene[f"{PREFIX}crosshair"] = self.crosshair

    @property
    def letters(self) -> dict[str, str]:
        """Give the letters on the canvas, edge to letter; empty where none are shown."""
        shown = zip(EDGES, self._text.letters, strict=True) if self._text.visible else ()
        return {edge: letter for edge, letter in shown if letter}

    @letters.setter
    def letters(self, letters: Mapping[str, str]) -> None:
        top, bottom, left, right = (letters.get(edge, "") for edge in EDGES)
        self._text.letters = (top, bottom, left, right)
        self._text.visible = bool(letters)

    @property
    def read_out(self) -> str:
        """Give the text in the lower left corner; it is seen when letters are."""
        return "\n".join(filter(None, (self._text.lines, self._text.last_line)))

    @read_out.setter
    def read_out(self, text: str) -> None:
        if text != self.read_out:  # setting a field of an overlay is slow, even to the same value
            self._text.lines, _, self._text.last_line = text.rpartition("\n")

    def close(self) -> None:
        """Take them off."""
        for overlays in overlays_of(self._viewer):
            for name in [name for name in overlays if str(name).startswith(PREFIX)]:
                del overlays[name]
