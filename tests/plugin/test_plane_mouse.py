"""Wheel, drag and click in a plane, with events as napari gives them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.utils._proxies import ReadOnlyWrapper
from napari.utils.interactions import (
    mouse_move_callbacks,
    mouse_press_callbacks,
    mouse_release_callbacks,
    mouse_wheel_callbacks,
)

from napari_alnct.core.volume import Volume
from napari_alnct.plugin._compat import camera_of
from napari_alnct.plugin._plane import Plane
from napari_alnct.plugin._reading_view import ReadingView

PLACE_ZYX_MM = (44.0, -31.0, 12.0)


@pytest.fixture
def view(ball: Callable[..., Volume]) -> Iterator[ReadingView]:
    """Give a view of a scan."""
    view = ReadingView(ViewerModel())
    view.open(ball())
    yield view
    view.close()


def event(kind: str, **values: Any) -> Any:
    """Give an event as napari wraps it."""
    native = SimpleNamespace(inverted=lambda: False)
    plain = {"type": kind, "modifiers": (), "pos": (50, 50), "position": PLACE_ZYX_MM, "handled": False}
    plain |= {"button": 1, "is_dragging": True, "native": native, "delta": (0, 0)}
    return ReadOnlyWrapper(SimpleNamespace(**{**plain, **values}), exceptions=("handled",))


def turn(plane: Plane, delta: float, **values: Any) -> Any:
    """Turn the wheel; positive is away from the reader."""
    wheel = event("mouse_wheel", delta=(0, delta), **values)
    mouse_wheel_callbacks(plane.viewer, wheel)
    return wheel


def drag(plane: Plane, *places: tuple[int, int], **values: Any) -> None:
    """Press, move and release."""
    mouse_press_callbacks(plane.viewer, event("mouse_press", pos=places[0], **values))
    for place in places[1:]:
        mouse_move_callbacks(plane.viewer, event("mouse_move", pos=place, **values))
    mouse_release_callbacks(plane.viewer, event("mouse_release", pos=places[-1], **values))


@pytest.mark.parametrize(("number", "step"), [(0, -1), (1, 1), (2, 1)], ids=["axial", "coronal", "sagittal"])
def test_one_notch_is_one_slice(view: ReadingView, number: int, step: int) -> None:
    """Towards the reader: to the feet, to the back, to the left; away from the reader: back again; zoom as before."""
    plane = view.planes[number]
    index, zoom = plane.index, camera_of(plane.viewer).zoom
    assert turn(plane, -1.0).handled
    assert plane.index == index + step
    turn(plane, 1.0)
    assert (plane.index, camera_of(plane.viewer).zoom) == (index, zoom)


def test_a_fast_wheel_stops_at_every_slice_and_a_slow_one_adds_up(view: ReadingView) -> None:
    """An event of three notches is one slice; ten tenths of a notch are one slice."""
    index = view.main.index
    turn(view.main, -3.0)
    assert view.main.index == index - 1
    for _ in range(10):
        turn(view.main, -0.1)
    assert view.main.index == index - 2


def test_the_wheel_ends_at_the_last_slice(view: ReadingView) -> None:
    """Past the end nothing happens, and one notch back is one slice back."""
    for _ in range(40):
        turn(view.main, -1.0)
    assert view.main.index == 0
    turn(view.main, 1.0)
    assert view.main.index == 1


def test_without_reading_scroll_the_wheel_is_naparis(view: ReadingView) -> None:
    """Off: our callback does nothing and leaves the event to napari's zoom."""
    view.is_reading_scroll = False
    index = view.main.index
    assert not turn(view.main, -1.0).handled
    assert view.main.index == index


@pytest.mark.parametrize("key", ["Control", "Alt"])
def test_naparis_own_wheel_keys_are_left_alone(view: ReadingView, key: str) -> None:
    """Control moves napari's slider and Alt goes through the layers, as everywhere in napari."""
    zoom = camera_of(view.main.viewer).zoom
    assert not turn(view.main, -1.0, modifiers=(key,)).handled
    assert camera_of(view.main.viewer).zoom == zoom


@pytest.mark.parametrize("number", [0, 1, 2], ids=["axial", "coronal", "sagittal"])
def test_shift_and_wheel_zoom_about_the_mouse(view: ReadingView, number: int) -> None:
    """What is under the mouse stays under it, in every plane."""
    plane = view.planes[number]
    camera, displayed = camera_of(plane.viewer), list(plane.viewer.dims.displayed)
    mouse = np.array(PLACE_ZYX_MM)[displayed]
    before = (mouse - camera.center[-2:]) * camera.zoom
    zoom = camera.zoom
    assert turn(plane, 1.0, modifiers=("Shift",)).handled
    assert camera.zoom > zoom
    assert (mouse - camera.center[-2:]) * camera.zoom == pytest.approx(before)


def test_a_drag_with_the_right_button_changes_the_window(view: ReadingView) -> None:
    """30 pixels to the right widen by 120 HU, 10 down raise the level by 40; panning is off meanwhile."""
    view.use_preset("mediastinum")
    can_pan = []
    view.window_changed.connect(lambda: can_pan.append(camera_of(view.main.viewer).mouse_pan))
    drag(view.main, (100, 100), (110, 105), (130, 110), button=2)
    assert view.window_hu == (40 + 40 - 260, 40 + 40 + 260)
    assert can_pan == [False, False]
    assert camera_of(view.main.viewer).mouse_pan


def test_without_reading_scroll_the_right_button_is_naparis(view: ReadingView) -> None:
    """Off: the window stays."""
    view.is_reading_scroll = False
    before = view.window_hu
    drag(view.main, (100, 100), (130, 110), button=2)
    assert view.window_hu == before


def test_a_click_sets_the_place_and_a_drag_does_not(view: ReadingView) -> None:
    """Pressed and let go within 4 pixels is a click; moved further it is a pan."""
    coronal = view.sides[0]
    before = view.place_xyz_mm
    drag(coronal, (50, 50), (80, 50), (50, 50))
    assert view.place_xyz_mm == before
    drag(coronal, (50, 50), (52, 51))
    assert view.place_xyz_mm == pytest.approx((12.0, coronal.slice_mm, 44.0))


def test_a_click_that_means_something_to_a_layer_moves_nothing(view: ReadingView) -> None:
    """While marks are being added, a click in the main view is a mark and no jump."""
    points = view.viewer.add_points(np.zeros((1, 3)), ndim=3)
    points.mode = "add"
    before = view.place_xyz_mm
    drag(view.main, (50, 50))
    assert view.place_xyz_mm == before


def test_closing_while_a_button_is_held_is_survived(ball: Callable[..., Volume]) -> None:
    """The view is closed during a drag; the release does nothing."""
    viewer = ViewerModel()
    view = ReadingView(viewer)
    view.open(ball())
    mouse_press_callbacks(viewer, event("mouse_press", button=2))
    view.close()
    mouse_release_callbacks(viewer, event("mouse_release", button=2))
    assert camera_of(viewer).mouse_pan
