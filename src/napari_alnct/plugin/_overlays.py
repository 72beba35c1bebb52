"""Our overlays as plain data: a crosshair in the scene, letters and lines of text on the canvas; no Qt, no vispy.

They are no layers, so nothing is sliced again when they change. `make_drawable` hands
napari the vispy visuals (`plugin._overlay_visuals`) as soon as there can be a canvas.
"""

from __future__ import annotations

import sys

from napari.components.overlays import CanvasOverlay, SceneOverlay

EDGES = ("top", "bottom", "left", "right")
FREE = "free"  # napari lays out those overlays only that stand at one of its own positions


class CrosshairOverlay(SceneOverlay):  # type: ignore[misc]  # napari is untyped here
    """Two lines that cross at a place.

    Attributes
    ----------
    place_mm : tuple of float
        Row and column of the displayed axes, world mm.
    """

    place_mm: tuple[float, float] = (0.0, 0.0)


class CanvasTextOverlay(CanvasOverlay):  # type: ignore[misc]  # napari is untyped here
    """Letters in the middle of the edges, and lines in the lower left corner.

    Attributes
    ----------
    letters : tuple of str
        At the top, bottom, left and right.
    lines : str
        What changes now and then.
    last_line : str
        What changes with each slice; it stands below the others.
    """

    letters: tuple[str, str, str, str] = ("", "", "", "")
    lines: str = ""
    last_line: str = ""
    position: str = FREE
    box: bool = False


def make_drawable() -> None:
    """Tell napari how to draw our overlays, once its canvases are loaded; without them nothing is needed."""
    drawing = sys.modules.get("napari._vispy.utils.visual")
    if drawing is not None and CrosshairOverlay not in drawing.overlay_to_visual:
        from napari_alnct.plugin import _overlay_visuals

        drawing.overlay_to_visual[CrosshairOverlay] = _overlay_visuals.VispyCrosshair
        drawing.overlay_to_visual[CanvasTextOverlay] = _overlay_visuals.VispyCanvasText
