"""The linked planes on models alone: place, window, slab, field, layout, letters, coverage, marks, state, end."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from napari.components import ViewerModel

from napari_alnct.core.errors import SettingsError
from napari_alnct.core.findings import Candidate
from napari_alnct.core.volume import Volume
from napari_alnct.io.images import ReadOptions, read_volume
from napari_alnct.plugin._compat import camera_of
from napari_alnct.plugin._layers import CT, layers_of, lungs_layer, marks_layer, points_xyz_mm
from napari_alnct.plugin._plane import Plane
from napari_alnct.plugin._reading_view import LAYOUTS, PRESETS, ReadingView
from napari_alnct.plugin._viewport import add_quietly
from tests.plugin.leaks import Traces

CENTRE_XYZ_MM = (12.0, -31.0, 44.0)  # of the ball, which lies to the right, the front and the feet of the scan's middle
SIGNED_PERMUTATIONS = [
    tuple(float(value) for value in (np.eye(3)[list(axes)] * signs).ravel())
    for axes in itertools.permutations(range(3))
    for signs in itertools.product((1, -1), repeat=3)
]


@pytest.fixture
def view(ball: Callable[..., Volume]) -> Iterator[ReadingView]:
    """Give a view of a scan with a ball."""
    view = ReadingView(ViewerModel())
    view.open(ball())
    yield view
    view.close()


def picture(plane: Plane) -> np.ndarray:
    """Give what a plane shows, as it lies on the canvas: first row at the top, first column at the left."""
    pixels = np.asarray(plane.viewer.layers[0]._slice.image.view)
    vertical, horizontal = (str(direction) for direction in camera_of(plane.viewer).orientation2d)
    return pixels[:: -1 if vertical == "up" else 1, :: -1 if horizontal == "left" else 1]


def add_marks(view: ReadingView, *diameters_mm: float) -> Any:
    """Add marks in and beside the ball, and show them in all planes."""
    x, y, z = CENTRE_XYZ_MM
    found = [
        Candidate(position_xyz_mm=(x + 5 * k, y, z), score=0.9 - k / 10, diameter_mm=diameter)
        for k, diameter in enumerate(diameters_mm)
    ]
    assert view.volume is not None
    layer = add_quietly(view.viewer, marks_layer(found, series_uid="1", volume=view.volume))
    view.show_marks(layer)
    return layer


# -- geometry ----------------------------------------------------------------------------------


def test_letters_are_right_for_every_direction_matrix(ball: Callable[..., Volume]) -> None:
    """48 ways to store a scan: the ball lies towards R, A and F, whichever plane shows it."""
    view = ReadingView(ViewerModel())
    for direction in SIGNED_PERMUTATIONS:
        view.open(ball(direction, spacing_zyx_mm=(2.5, 1.2, 0.9)))
        view.go_to(CENTRE_XYZ_MM)
        for plane, wanted in zip(view.planes, ({"A", "R"}, {"F", "R"}, {"F", "A"}), strict=True):
            pixels = picture(plane)
            down, right = np.argwhere(pixels > 0).mean(axis=0) - (np.array(pixels.shape) - 1) / 2
            found = {plane.letters["bottom" if down > 0 else "top"], plane.letters["right" if right > 0 else "left"]}
            assert found == wanted, (direction, plane.name)
        view.viewer.layers.clear()
    view.close()


@pytest.mark.parametrize("signs", list(itertools.product((1.0, -1.0), repeat=3)), ids=str)
def test_landmarks_of_a_file_are_at_their_place_in_every_plane(signs: tuple[float, ...], tmp_path: Path) -> None:
    """ITK places voxels of a file with this direction; opened, each lies there to 1e-3 mm in all three viewers."""
    array = np.full((12, 14, 16), -900, dtype=np.int16)
    landmarks = {(1, 2, 3): 901, (10, 3, 12): 902, (4, 11, 9): 903}
    for index, value in landmarks.items():
        array[index] = value
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((0.7, 0.9, 2.5))
    image.SetOrigin((-31.3, 17.9, -205.2))
    image.SetDirection(np.diag(signs).ravel().tolist())
    sitk.WriteImage(image, str(tmp_path / "scan.mha"))
    view = ReadingView(ViewerModel())
    view.open(read_volume(tmp_path / "scan.mha", ReadOptions(ask=True)))
    for plane in view.planes:
        layer = plane.viewer.layers[0]
        for (k, j, i), value in landmarks.items():
            world_zyx = layer.data_to_world(np.argwhere(np.asarray(layer.data) == value)[0])
            truth = image.TransformIndexToPhysicalPoint((i, j, k))
            assert np.abs(np.subtract(world_zyx[::-1], truth)).max() < 1e-3, plane.name
    view.close()


def test_all_planes_share_the_array(view: ReadingView) -> None:
    """Three planes of a scan hold one array, not three."""
    assert view.volume is not None
    assert all(plane.viewer.layers[0].data is view.volume.hu for plane in view.planes)


def test_opening_finds_the_layer_of_the_scan(view: ReadingView, ball: Callable[..., Volume]) -> None:
    """A scan that is open already gets no second layer; another one gets its own, and the first is hidden."""
    first, second = view.volume, ball(series_uid="other")
    assert first is not None
    view.open(second)
    view.open(first)
    assert [len(layers_of(view.viewer.layers, volume, CT)) for volume in (first, second)] == [1, 1]
    assert [layer.visible for layer in view.viewer.layers] == [True, False]
    assert all(plane.viewer.layers[0].data is first.hu for plane in view.planes)


# -- the place ---------------------------------------------------------------------------------


def test_a_jump_shows_the_place_in_the_middle_of_all_planes(view: ReadingView) -> None:
    """Each plane shows the slice nearest to the place, with the place under the middle of its canvas."""
    told: list[Any] = []
    view.moved.connect(told.append)
    view.go_to(CENTRE_XYZ_MM)
    assert view.volume is not None
    index = view.volume.geometry.world_to_index(CENTRE_XYZ_MM)
    assert [plane.index for plane in view.planes] == [round(value) for value in index]
    for plane in view.planes:
        rows, columns = plane.viewer.dims.displayed
        wanted = (CENTRE_XYZ_MM[::-1][rows], CENTRE_XYZ_MM[::-1][columns])
        assert camera_of(plane.viewer).center[-2:] == pytest.approx(wanted)
        assert plane._overlays.crosshair.place_mm == pytest.approx(wanted)
    assert told == [CENTRE_XYZ_MM]


def test_a_jump_changes_no_window_slab_or_field(view: ReadingView) -> None:
    """What the reader has set stays, on the layers and on the cameras."""
    view.set_window(-200, 300)
    view.set_slab(10)
    view.set_field(33.0)
    zooms = [camera_of(plane.viewer).zoom for plane in view.planes]
    margins = [plane.viewer.dims.margin_left for plane in view.planes]
    view.go_to(CENTRE_XYZ_MM)
    view.go_to((0.0, -20.0, 60.0))
    assert [tuple(plane.viewer.layers[0].contrast_limits) for plane in view.planes] == [(-200, 300)] * 3
    assert [camera_of(plane.viewer).zoom for plane in view.planes] == zooms
    assert [plane.viewer.dims.margin_left for plane in view.planes] == margins
    assert (view.window_hu, view.field_mm) == ((-200, 300), 33.0)


def test_a_place_outside_the_scan_shows_the_outermost_slice(view: ReadingView) -> None:
    """Marks from another table cannot break the view."""
    view.go_to((1e5, -1e5, 1e5))
    assert [plane.index for plane in view.planes] == [view.main.n_slices - 1, 0, view.sides[1].n_slices - 1]


def test_scrolling_a_plane_moves_the_crosshair_of_the_others(view: ReadingView) -> None:
    """A step in the coronal plane changes y alone; the axial plane keeps its slice and shows the new y."""
    view.go_to(CENTRE_XYZ_MM)
    axial_index = view.main.index
    coronal = view.sides[0]
    coronal.step(3)
    assert view.place_xyz_mm == pytest.approx((CENTRE_XYZ_MM[0], coronal.slice_mm, CENTRE_XYZ_MM[2]))
    assert view.main.index == axial_index
    assert view.main._overlays.crosshair.place_mm == pytest.approx((coronal.slice_mm, CENTRE_XYZ_MM[0]))


def test_the_slider_of_napari_moves_the_place(view: ReadingView) -> None:
    """Whatever moves the main viewer's slice, the side planes follow."""
    view.viewer.dims.set_current_step(0, 3)
    assert view.main.index == 3
    assert view.place_xyz_mm[2] == pytest.approx(view.main.slice_mm)
    assert view.sides[0]._overlays.crosshair.place_mm[0] == pytest.approx(view.main.slice_mm)


def test_a_slider_with_finer_steps_still_moves_whole_slices(view: ReadingView) -> None:
    """A finer layer beside the scan makes the slider's steps smaller; each one goes to the next slice."""
    view.viewer.add_image(np.zeros((60, 5, 5), np.int16), scale=(1, 1, 1), translate=(20, -31, 12))
    seen = []
    for _ in range(3):
        view.viewer.dims._increment_dims_right(0)
        seen.append((view.main.index, round(view.viewer.dims.point[0] - view.main.slice_mm, 6)))
    start = seen[0][0]
    assert seen == [(start, 0.0), (start + 1, 0.0), (start + 2, 0.0)]


def test_crosshairs_wait_when_asked_to(view: ReadingView) -> None:
    """With `later` set, a scroll asks for it and leaves the other planes alone until `catch_up`."""
    asked: list[bool] = []
    view.later = lambda: asked.append(True)
    before = view.sides[0]._overlays.crosshair.place_mm
    view.main.step(2)
    assert asked
    assert view.sides[0]._overlays.crosshair.place_mm == before
    view.catch_up()
    assert view.sides[0]._overlays.crosshair.place_mm[0] == pytest.approx(view.main.slice_mm)


def test_a_click_moves_the_other_planes_only(view: ReadingView) -> None:
    """Where it was clicked nothing moves but the crosshair; the others go to their slices through the place."""
    view.go_to(CENTRE_XYZ_MM)
    view.set_field(20.0)
    centre, index = camera_of(view.main.viewer).center, view.main.index
    view.point_at(view.main, (view.main.slice_mm, -25.0, 16.0))
    assert (camera_of(view.main.viewer).center, view.main.index) == (centre, index)
    assert view.sides[0].slice_mm == pytest.approx(-25.0, abs=0.35)
    assert view.sides[1].slice_mm == pytest.approx(16.0, abs=0.45)


def test_planes_that_lose_sight_of_the_place_are_recentred(view: ReadingView) -> None:
    """Zoomed in, a far click brings the other planes along; a near one leaves them where they are."""
    view.go_to(CENTRE_XYZ_MM)
    view.set_field(20.0)
    coronal = camera_of(view.sides[0].viewer)
    centre = coronal.center
    view.point_at(view.main, (view.main.slice_mm, -31.0, 15.0))
    assert coronal.center == centre
    view.point_at(view.main, (view.main.slice_mm, -31.0, 30.0))
    assert coronal.center[-1] == pytest.approx(30.0)


def test_cursor_is_the_place_under_the_mouse_of_any_plane(view: ReadingView) -> None:
    """The mouse over the sagittal plane: y and z from the mouse, x from the slice; over none: the crosshair."""
    view.go_to(CENTRE_XYZ_MM)
    assert view.cursor_xyz_mm() == CENTRE_XYZ_MM
    sagittal = view.sides[1]
    sagittal.viewer.mouse_over_canvas = True
    sagittal.viewer.cursor.position = (40.0, -20.0, -999.0)
    assert view.cursor_xyz_mm() == pytest.approx((sagittal.slice_mm, -20.0, 40.0))


# -- window, slab, field, layout -------------------------------------------------------------------


@pytest.mark.parametrize("name", list(PRESETS))
def test_presets_reach_all_planes(view: ReadingView, name: str) -> None:
    """A preset sets its exact limits on the scan in all planes and stands in the read-out."""
    view.use_preset(name)
    assert [tuple(plane.viewer.layers[0].contrast_limits) for plane in view.planes] == [PRESETS[name]] * 3
    assert view.main.read_out.splitlines()[0].endswith(name)


def test_limits_changed_in_napari_reach_all_planes(view: ReadingView) -> None:
    """Napari's own slider works too, and it is told once."""
    told: list[bool] = []
    view.window_changed.connect(lambda: told.append(True))
    view.viewer.layers[0].contrast_limits = (-10, 20)
    assert view.window_hu == (-10, 20)
    assert [tuple(side.viewer.layers[0].contrast_limits) for side in view.sides] == [(-10, 20)] * 2
    assert told == [True]


@pytest.mark.parametrize(("low", "high"), [(10, 10), (20, 10), (float("nan"), 10)])
def test_a_window_that_shows_nothing_is_refused(view: ReadingView, low: float, high: float) -> None:
    """Low must be below high."""
    with pytest.raises(SettingsError, match="give low below high"):
        view.set_window(low, high)


def test_the_next_scan_keeps_window_and_slab(view: ReadingView, ball: Callable[..., Volume]) -> None:
    """Going through a queue of cases, the reader's window and slab stay."""
    view.use_preset("bone")
    view.set_slab(15)
    view.open(ball(series_uid="next", spacing_zyx_mm=(1.0, 1.0, 1.0)))
    assert tuple(view.viewer.layers[-1].contrast_limits) == PRESETS["bone"]
    assert view.main.viewer.dims.margin_left == (8.0, 8.0, 8.0)


@pytest.mark.parametrize("slab_mm", [5.0, 10.0, 15.0])
def test_a_slab_is_the_maximum_of_2k_plus_1_slices(view: ReadingView, slab_mm: float) -> None:
    """In each plane, on inner slices and at both ends of the scan, the picture is the maximum over the slices near."""
    assert view.volume is not None
    random = np.random.default_rng(3)
    view.volume.hu[:] = random.integers(-1000, 500, view.volume.hu.shape)  # no two slices alike
    view.set_slab(slab_mm)
    for plane in view.planes:
        spacing = view.volume.geometry.spacing_zyx_mm[plane.axis]
        k = round(slab_mm / 2 / spacing)
        assert plane.n_beside == k
        for index in (0, 1, plane.n_slices // 2, plane.n_slices - 1):
            plane.step(index - plane.index)
            near = np.arange(max(0, index - k), min(plane.n_slices, index + k + 1))
            wanted = np.take(view.volume.hu, near, axis=plane.axis).max(axis=plane.axis)
            assert np.array_equal(plane.viewer.layers[0]._slice.image.view, wanted), (plane.name, index)


def test_the_slab_says_its_true_thickness(view: ReadingView) -> None:
    """10 mm of 2.5 mm slices are five slices, 12.5 mm; off is 0; the read-out says so."""
    view.set_slab(10)
    assert view.slab_mm == 12.5
    assert "slab 12.5 mm, 5 slices" in view.main.read_out
    view.set_slab(0)
    assert view.slab_mm == 0
    assert "slab" not in view.main.read_out
    with pytest.raises(SettingsError, match="give 0 or more"):
        view.set_slab(-1)


def test_zooming_one_plane_zooms_all(view: ReadingView) -> None:
    """All planes show the same field, also when a canvas has another size."""
    view.sides[0].viewer.canvas.size = (300, 200)
    camera_of(view.main.viewer).zoom *= 3
    assert [plane.field_mm for plane in view.planes] == pytest.approx([view.field_mm] * 3)


def test_a_close_up_shows_60_mm_around_the_place_and_goes_back(view: ReadingView) -> None:
    """In all planes, centred; window, slab and place stay; from a close-up that was zoomed to, the whole scan."""
    view.set_slab(10)
    view.set_field(200)
    view.go_to(CENTRE_XYZ_MM)
    before = view.state()
    view.toggle_close_up()
    assert [plane.field_mm for plane in view.planes] == pytest.approx([60.0] * 3)
    for plane in view.planes:
        shown = [CENTRE_XYZ_MM[::-1][axis] for axis in plane.viewer.dims.displayed]
        assert camera_of(plane.viewer).center[-2:] == pytest.approx(shown)
    assert {**view.state(), "field_mm": before["field_mm"]} == before
    view.toggle_close_up()
    assert view.state() == before
    other = ReadingView(ViewerModel())
    assert view.volume is not None
    other.open(view.volume)
    whole = other.field_mm
    other.set_field(40)
    other.toggle_close_up()
    assert other.field_mm == whole
    other.close()


def test_the_field_stays_when_a_canvas_changes_its_size(view: ReadingView) -> None:
    """A smaller window or another layout shows the same part of the body, and back again."""
    zoom = camera_of(view.main.viewer).zoom
    size = view.viewer.canvas.size
    view.viewer.canvas.size = (400, 300)
    assert view.main.field_mm == pytest.approx(view.field_mm)
    view.viewer.canvas.size = size
    assert camera_of(view.main.viewer).zoom == pytest.approx(zoom)


def test_layouts_leave_everything_else_alone(view: ReadingView) -> None:
    """Through all layouts and back: place, window, slab, field as before; hidden planes have caught up."""
    view.set_slab(5)
    before = view.state()
    for name in (*LAYOUTS, before["layout"]):
        view.set_layout(name)
    assert view.state() == before
    view.set_layout("axial")
    view.go_to(CENTRE_XYZ_MM)
    view.set_layout("planes")
    assert view.sides[1].slice_mm == pytest.approx(CENTRE_XYZ_MM[0], abs=0.45)
    with pytest.raises(SettingsError, match="is none of axial, axial"):
        view.set_layout("sagittal")


def test_another_order_in_the_main_viewer_keeps_letters_and_place(view: ReadingView) -> None:
    """Napari's own roll shows a coronal plane in the main view: right letters, at the place."""
    view.go_to(CENTRE_XYZ_MM)
    view.viewer.dims.order = (1, 0, 2)
    assert view.main.letters == {"top": "H", "bottom": "F", "left": "R", "right": "L"}
    view.go_to(CENTRE_XYZ_MM)
    assert view.main.slice_mm == pytest.approx(CENTRE_XYZ_MM[1], abs=0.35)
    view.viewer.dims.ndisplay = 3
    assert view.main.letters == {}


# -- what was seen ---------------------------------------------------------------------------------


def test_coverage_counts_what_the_main_view_has_shown(view: ReadingView) -> None:
    """Single slices count alone, slabs with all their slices; a coronal main view counts nothing."""
    start = view.main.index
    view.main.step(-2)
    assert np.flatnonzero(view.seen_slices).tolist() == [start - 2, start]
    view.set_slab(10)
    assert view.seen_slices[start - 4 : start + 1].all()
    assert view.seen_share() == pytest.approx(view.seen_slices.sum() / 20)
    assert view.seen_share(range(start, start + 2)) == 0.5
    seen = view.seen_slices.sum()
    view.viewer.dims.order = (1, 0, 2)
    view.main.step(3)
    assert view.seen_slices.sum() == seen


def test_coverage_counts_slices_with_lung_when_these_are_known(view: ReadingView) -> None:
    """From the job or a mask; until then all; a range outside the scan is none."""
    view.main.step(4 - view.main.index)
    view.main.step(1)
    n_seen = view.seen_slices.sum()
    assert (view.lung_slices, view.seen_share()) == (None, pytest.approx(n_seen / 20))
    view.count_lungs(range(4, 8))
    assert (view.lung_slices, view.seen_share()) == (range(4, 8), 0.5)
    view.count_lungs(range(30, 40))
    assert view.lung_slices is None
    assert view.volume is not None
    mask = np.zeros(view.volume.geometry.shape_zyx, dtype=bool)
    mask[5:15:3] = True
    add_quietly(view.viewer, lungs_layer(mask, view.volume))
    assert (view.lung_slices, view.seen_share()) == (range(5, 15), pytest.approx(view.seen_slices[5:15].mean()))


def test_a_lung_mask_that_is_there_already_counts(view: ReadingView, ball: Callable[..., Volume]) -> None:
    """The widget Preprocess CT may have drawn it before the reading began; that of another scan does not count."""
    volume = ball(series_uid="1.2.9")
    mask = np.zeros(volume.geometry.shape_zyx, dtype=bool)
    mask[2:5] = True
    add_quietly(view.viewer, lungs_layer(mask, volume))
    assert view.lung_slices is None
    view.open(volume)
    assert view.lung_slices == range(2, 5)


def test_coverage_can_wait_for_the_screen(view: ReadingView) -> None:
    """With a window, a slice counts when it was drawn, not when a fast wheel went past it."""
    view.counts_drawn = True
    seen = view.seen_slices.sum()
    view.main.step(1)
    view.main.step(1)
    assert view.seen_slices.sum() == seen
    view.note_drawn()
    assert view.seen_slices.sum() == seen + 1


# -- marks -------------------------------------------------------------------------------------


def test_marks_are_in_all_planes_at_their_place_and_size(view: ReadingView) -> None:
    """World position and drawn diameter are those of the marks, in each plane."""
    add_marks(view, 16.0)
    view.go_to(CENTRE_XYZ_MM)
    for plane in view.planes:
        layer = plane.viewer.layers[-1]
        place = points_xyz_mm(layer.data, {"scale": layer.scale, "translate": layer.translate})
        assert np.allclose(place, CENTRE_XYZ_MM)
        offset_mm = abs(CENTRE_XYZ_MM[::-1][plane.axis] - plane.slice_mm)
        assert 100 * layer._view_size == pytest.approx([2 * np.sqrt(8.0**2 - offset_mm**2)])


def test_copies_follow_the_marks(view: ReadingView) -> None:
    """Moved, added, deleted, resized, recoloured and hidden marks are so in the side planes too."""
    source = add_marks(view, 16.0, 8.0)
    copies = [side.viewer.layers[-1] for side in view.sides]
    source.data = source.data + 0.01
    source.add(source.data[0] + 0.2)
    source.selected_data = {1}
    source.remove_selected()
    source.size = [0.05, 0.3]
    source.symbol = ["square", "diamond"]
    source.border_color = ["red", "blue"]
    source.border_width = [0.01, 0.02]
    source.shown = [True, False]
    for copy in copies:
        for name in ("data", "size", "border_color", "border_width", "shown"):
            assert np.array_equal(getattr(copy, name), getattr(source, name)), name
        assert list(copy.symbol) == list(source.symbol)
    source.visible = False
    assert [copy.visible for copy in copies] == [False, False]


def test_marks_can_begin_and_end_empty(view: ReadingView) -> None:
    """A reading without marks gets its first one, and loses it again, in all planes."""
    source = add_marks(view)
    copies = [side.viewer.layers[-1] for side in view.sides]
    source.add([0.44, -0.31, 0.12])
    assert [len(copy.data) for copy in copies] == [1, 1]
    source.data = np.zeros((0, 3))
    assert [len(copy.data) for copy in copies] == [0, 0]


def test_taking_marks_away_leaves_the_layer_to_the_user(view: ReadingView) -> None:
    """Without marks the side planes hold the scan alone; the layer in the main viewer stays, cut by napari again."""
    source = add_marks(view, 16.0)
    view.show_marks(None)
    assert [len(side.viewer.layers) for side in view.sides] == [1, 1]
    assert source in view.viewer.layers
    assert "make_slice_request_internal" not in vars(source._slicing_state)


def test_deleting_the_layers_in_napari_is_survived(view: ReadingView) -> None:
    """The marks' layer deleted: no marks. The scan's layer deleted: no scan, empty side planes, no letters."""
    view.viewer.layers.remove(add_marks(view, 16.0))
    assert [len(side.viewer.layers) for side in view.sides] == [1, 1]
    view.viewer.layers.clear()
    assert view.volume is None
    assert [len(side.viewer.layers) for side in view.sides] == [0, 0]
    assert (view.main.letters, view.main.read_out) == ({}, "")
    view.go_to(CENTRE_XYZ_MM)


# -- state and end ----------------------------------------------------------------------------------


def test_state_survives_json_and_comes_back(view: ReadingView, ball: Callable[..., Volume]) -> None:
    """Place, window, slab, field, layout, scroll mode and seen slices are the same in a new view of the scan."""
    view.use_preset("mediastinum")
    view.set_slab(10)
    view.set_field(42.0)
    view.go_to(CENTRE_XYZ_MM)
    view.set_layout("planes")
    view.is_reading_scroll = False
    state = json.loads(json.dumps(view.state()))
    other = ReadingView(ViewerModel())
    other.open(ball())
    other.restore(state)
    assert {**other.state(), "seen_slices": None} == {**state, "seen_slices": None}
    assert (other.seen_slices >= view.seen_slices).all()
    assert other.slab_mm == 12.5
    other.close()


DAMAGE = {
    "window_hu": [5],
    "slab_mm": "thick",
    "field_mm": -3,
    "place_xyz_mm": [1, 2],
    "layout": 7,
    "seen_slices": [["a", 2]],
}


@pytest.mark.parametrize("name", list(DAMAGE))
def test_a_damaged_state_changes_only_what_can_be_used(view: ReadingView, name: str) -> None:
    """One bad value costs that value alone."""
    before = view.state()
    view.restore({"window_hu": [-100, 100], "layout": "planes", name: DAMAGE[name]})
    after = view.state()
    assert after[name] == before[name]
    assert (after["layout"] == "planes") is (name != "layout")


def test_closing_leaves_the_viewer_as_it_was(ball: Callable[..., Volume]) -> None:
    """20 times: no overlay, callback, margin or mouse callback is left; the scan's layer is."""
    viewer = ViewerModel()
    volume = ball()

    def cycle() -> None:
        view = ReadingView(viewer)
        view.open(volume)
        view.set_slab(10)
        add_marks(view, 16.0)
        view.close()
        viewer.layers.remove(viewer.layers[-1])

    cycle()
    traces = Traces(viewer)
    counts = traces.counts()
    for _ in range(20):
        cycle()
    assert traces.counts() == counts
    assert [layer.metadata["alnct_kind"] for layer in viewer.layers] == [CT]
    assert viewer.dims.margin_left == viewer.dims.margin_right == (0.0, 0.0, 0.0)


OPEN_A_SCAN = """
import sys
import numpy as np
from napari.components import ViewerModel
from napari_alnct.core.geometry import Geometry
from napari_alnct.core.volume import Volume
from napari_alnct.plugin._reading_view import ReadingView
grid = Geometry(shape_zyx=(4, 4, 4), spacing_zyx_mm=(1, 1, 1))
view = ReadingView(ViewerModel())
view.open(Volume(np.full((4, 4, 4), -900, np.int16), grid, grid, "1"))
view.close()
print([name for name in ("torch", "SimpleITK", "qtpy", "PyQt6", "PySide6") if name in sys.modules])
"""


def test_a_view_needs_no_torch_and_no_window() -> None:
    """Opening a scan in the three planes loads neither torch nor Qt."""
    answer = subprocess.run([sys.executable, "-c", OPEN_A_SCAN], capture_output=True, text=True, timeout=120)
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.strip() == "[]"
