"""The crosshair of a plane, as an overlay of napari's scene: no layer, so nothing is sliced again when it moves.

The overlay is plain data. It is drawn by a small vispy visual, which is handed to
napari as soon as there can be a canvas.
"""

from __future__ import annotations

import sys
from typing import Any

from napari.components.overlays import SceneOverlay

GAP_MM = 9.0  # from the place to where the lines begin: a nodule stays uncovered
REACH_MM = 1e4  # the lines leave every canvas
COLOUR = (0.34, 0.71, 0.91, 0.75)  # sky blue of Okabe and Ito


class CrosshairOverlay(SceneOverlay):  # type: ignore[misc]  # napari is untyped here
    """Two lines that cross at a place.

    Attributes
    ----------
    place_mm : tuple of float
        Row and column of the displayed axes, world mm.
    """

    place_mm: tuple[float, float] = (0.0, 0.0)


def make_drawable() -> None:
    """Tell napari how to draw crosshairs, once its canvases are loaded; without them nothing is needed."""
    drawing = sys.modules.get("napari._vispy.utils.visual")
    if drawing is not None and CrosshairOverlay not in drawing.overlay_to_visual:
        drawing.overlay_to_visual[CrosshairOverlay] = _visual_class()


def _visual_class() -> Any:
    from napari._vispy.overlays.base import ViewerOverlayMixin, VispySceneOverlay
    from vispy.scene.visuals import Line

    class VispyCrosshair(ViewerOverlayMixin, VispySceneOverlay):  # type: ignore[misc]  # napari is untyped here
        """Draws a `CrosshairOverlay`; moving it changes a transform only."""

        def __init__(self, **kwargs: Any) -> None:
            lines = Line(pos=_line_ends(), color=COLOUR, connect="segments", method="gl", width=1)
            super().__init__(node=lines, **kwargs)
            self.overlay.events.place_mm.connect(self._on_place)
            self.reset()

        def _on_place(self) -> None:
            row, column = self.overlay.place_mm
            self.node.transform.reset()
            self.node.transform.translate((column, row, 0))

        def reset(self) -> None:
            """Draw what the overlay says now."""
            super().reset()
            self._on_place()

        def close(self) -> None:
            """Hear no more of the overlay."""
            self.overlay.events.place_mm.disconnect(self._on_place)
            super().close()

    return VispyCrosshair


def _line_ends() -> Any:
    """Give the ends of the four lines around (0, 0), in pairs."""
    import numpy as np

    near, far = GAP_MM, REACH_MM
    ends = [(-far, 0), (-near, 0), (near, 0), (far, 0), (0, -far), (0, -near), (0, near), (0, far)]
    return np.array(ends, dtype=np.float32)
