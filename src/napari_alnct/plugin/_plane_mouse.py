"""The mouse in a plane: wheel through slices, drag for the window, click for the place; no Qt.

Only while reading scroll is on do wheel and right button mean something else than
in napari: the wheel moves one slice (Shift and wheel zooms), a drag with the right
button changes width and level. Towards the reader, the wheel goes to the feet, to
the back and to the left, as pictures are ordered on a reading station.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np

from napari_alnct.core.geometry import Triple
from napari_alnct.plugin._compat import camera_of
from napari_alnct.plugin._plane import Plane
from napari_alnct.plugin._windows import Window, dragged

TOWARDS_READER = (-1, 1, 1)  # step along z, y, x
ZOOM_STEP = 1.15  # of the field, for one step of the wheel
CLICK_PX = 4.0  # moving less than this between press and release is a click
LEFT, RIGHT = 1, 2


class MouseTarget(Protocol):
    """What the mouse works on."""

    is_reading_scroll: bool

    @property
    def window_hu(self) -> Window:
        """Give the window, HU."""

    def set_window(self, low_hu: float, high_hu: float) -> None:
        """Change the window."""

    def point_at(self, plane: Plane, place_zyx_mm: Triple) -> None:
        """Bring the crosshair to a place that was clicked in a plane."""


class PlaneMouse:
    """Listens to the mouse of one plane.

    Parameters
    ----------
    plane : Plane
        Where the mouse is.
    target : MouseTarget
        What it works on.
    """

    def __init__(self, plane: Plane, target: MouseTarget) -> None:
        self.plane, self.target = plane, target
        self._progress = 0.0  # of the wheel, towards the next slice
        plane.viewer.mouse_wheel_callbacks.append(self._on_wheel)
        plane.viewer.mouse_drag_callbacks.append(self._on_press)

    def close(self) -> None:
        """Listen no more."""
        self.plane.viewer.mouse_wheel_callbacks.remove(self._on_wheel)
        self.plane.viewer.mouse_drag_callbacks.remove(self._on_press)

    def _on_wheel(self, viewer: Any, event: Any) -> None:
        if not self.target.is_reading_scroll or not self.plane.is_flat:
            return
        turned = float(np.clip(np.sum(event.delta), -1, 1))  # fast wheels too stop at every slice
        if "Shift" in event.modifiers:
            self._zoom(event, ZOOM_STEP**turned)
        elif len(event.modifiers) == 0:
            self._progress -= turned * TOWARDS_READER[self.plane.axis]
            steps = int(np.fix(self._progress + np.copysign(1e-9, self._progress)))
            self._progress -= steps
            self.plane.step(steps)
        else:
            return  # napari's own: Control for its slider, Alt for the layers
        event.handled = True

    def _zoom(self, event: Any, factor: float) -> None:
        """Zoom about the mouse: what is under it stays there."""
        camera, displayed = camera_of(self.plane.viewer), list(self.plane.viewer.dims.displayed)
        centre, mouse = np.asarray(camera.center[-2:]), np.asarray(event.position)[displayed]
        camera.zoom *= factor
        camera.center = (0.0, *(mouse + (centre - mouse) / factor))

    def _on_press(self, viewer: Any, event: Any) -> Iterator[None]:
        if not self.plane.is_flat or len(event.modifiers) > 0:
            return
        if event.button == LEFT and self._is_free():
            yield from self._click(event)
        elif event.button == RIGHT and self.target.is_reading_scroll:
            yield from self._drag_window(event)

    def _is_free(self) -> bool:
        """Tell whether a click means nothing to the active layer."""
        active = self.plane.viewer.layers.selection.active
        return active is None or str(active.mode) == "pan_zoom"

    def _click(self, event: Any) -> Iterator[None]:
        start, is_click = np.array(event.pos), True
        place = [float(value) for value in event.position[-3:]]
        yield
        while event.type == "mouse_move":
            is_click &= bool(np.hypot(*(np.array(event.pos) - start)) < CLICK_PX)
            yield
        if is_click:
            place[self.plane.axis] = self.plane.slice_mm
            self.target.point_at(self.plane, (place[0], place[1], place[2]))

    def _drag_window(self, event: Any) -> Iterator[None]:
        start, window = np.array(event.pos), self.target.window_hu
        camera = camera_of(self.plane.viewer)
        can_pan, camera.mouse_pan = camera.mouse_pan, False  # else the drag would zoom as well
        event.handled = True
        try:
            yield
            while event.type == "mouse_move":
                right, down = np.array(event.pos) - start
                self.target.set_window(*dragged(window, float(right), float(down)))
                event.handled = True
                yield
        finally:
            camera.mouse_pan = can_pan
