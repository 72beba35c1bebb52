"""How our overlays are drawn by vispy: few draw calls, for each one costs a millisecond on a machine without a GPU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from napari._vispy.overlays.base import ViewerOverlayMixin, VispyCanvasOverlay, VispySceneOverlay
from napari._vispy.visuals.text import Text
from vispy.scene.visuals import Line

from napari_alnct.plugin._compat import canvas_size

GAP_MM = 9.0  # from the place to where the lines begin: a nodule stays uncovered
REACH_MM = 1e4  # the lines leave every canvas
LINE_COLOUR = (0.34, 0.71, 0.91, 0.75)  # sky blue of Okabe and Ito
LETTER_POINTS, TEXT_POINTS = 13, 9
LETTER_PX, CORNER_PX = 18, 8  # from the edge of the canvas
NARROW_PX = 260  # of a canvas: the read-out stands above the letter, beside it there is no room
OUTLINE_PX = ((-1, 0), (1, 0), (0, -1), (0, 1), (0, 0))  # dark copies below the white text
HALO_PX = (*((2 * x, 2 * y) for x in (-1, 0, 1) for y in (-1, 0, 1) if (x, y) != (0, 0)), (0, 0))  # of the letters
DARK, WHITE = (0.0, 0.0, 0.0, 0.9), (1.0, 1.0, 1.0, 1.0)


class VispyCrosshair(ViewerOverlayMixin, VispySceneOverlay):  # type: ignore[misc]  # napari is untyped here
    """Draws a `CrosshairOverlay`; moving it changes a transform only."""

    def __init__(self, **kwargs: Any) -> None:
        lines = Line(pos=_line_ends(), color=LINE_COLOUR, connect="segments", method="gl", width=1)
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


class VispyCanvasText(ViewerOverlayMixin, VispyCanvasOverlay):  # type: ignore[misc]  # napari is untyped here
    """Draws a `CanvasTextOverlay`: white, with a dark outline, so that it is read on any tissue."""

    def __init__(self, *, font_info: Any, **kwargs: Any) -> None:
        letters = _text(font_info, LETTER_POINTS, ("center", "center"))
        super().__init__(node=letters, font_info=font_info, **kwargs)
        self._lines = _text(font_info, TEXT_POINTS, ("left", "top"))  # y grows downwards: the text lies above its place
        self._last_line = _text(font_info, TEXT_POINTS, ("left", "top"))
        self._lines.parent = self._last_line.parent = self.node
        self._connections = [
            (self.overlay.events.letters, self._on_letters),
            (self.overlay.events.lines, self._on_lines),
            (self.overlay.events.last_line, self._on_last_line),
            (self.viewer.canvas.events.size, self._on_text),
        ]
        for emitter, callback in self._connections:
            emitter.connect(callback)
        self.reset()

    def _on_letters(self) -> None:
        height, width = canvas_size(self.viewer)
        middle, far = (width / 2, height / 2), (width - LETTER_PX, height - LETTER_PX)
        places = [(middle[0], LETTER_PX), (middle[0], far[1]), (LETTER_PX, middle[1]), (far[0], middle[1])]
        _write(self.node, self.overlay.letters, places, HALO_PX)  # wide: the crosshair often runs into a letter

    def _on_lines(self) -> None:
        _write(self._lines, [self.overlay.lines], [(CORNER_PX, self._bottom - 1.3 * self._last_line.get_line_height())])

    def _on_last_line(self) -> None:
        _write(self._last_line, [self.overlay.last_line], [(CORNER_PX, self._bottom)])

    @property
    def _bottom(self) -> float:
        height, width = canvas_size(self.viewer)
        return height - (2 * LETTER_PX if width < NARROW_PX else CORNER_PX)

    def _on_text(self) -> None:
        self._on_letters()
        self._on_lines()
        self._on_last_line()

    def reset(self) -> None:
        """Draw what the overlay says now."""
        super().reset()
        self._on_text()

    def close(self) -> None:
        """Hear no more of the overlay."""
        for emitter, callback in self._connections:
            emitter.disconnect(callback)
        self._lines.parent = self._last_line.parent = None
        super().close()


def _text(font_info: Any, points: float, anchors: tuple[str, str]) -> Any:
    text = Text(pos=(0, 0), font_info=font_info, color=WHITE)
    text.font_size, text.anchors = points, anchors
    return text


def _write(
    node: Any,
    texts: Sequence[str],
    places: Sequence[tuple[float, float]],
    outline_px: Sequence[tuple[int, int]] = OUTLINE_PX,
) -> None:
    """Write texts at places on the canvas: all dark copies first, the white ones last."""
    pairs = [(text, place) for text, place in zip(texts, places, strict=True) if text]
    node.visible = bool(pairs)
    if pairs:
        node.text = [text for _ in outline_px for text, _ in pairs]
        node.pos = [np.add(place, offset) for offset in outline_px for _, place in pairs]
        shades = [DARK] * (len(outline_px) - 1) + [WHITE]
        node.color = [shade for shade in shades for _ in pairs]


def _line_ends() -> Any:
    """Give the ends of the four lines around (0, 0), in pairs."""
    near, far = GAP_MM, REACH_MM
    ends = [(-far, 0), (-near, 0), (near, 0), (far, 0), (0, -far), (0, -near), (0, near), (0, far)]
    return np.array(ends, dtype=np.float32)
