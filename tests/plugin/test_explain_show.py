"""Which evidence is seen, on viewer models alone: off until asked, one scale, all planes, and nothing else moves."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel

from napari_alnct.core.evidence import NO_SUPPORT
from napari_alnct.core.volume import Volume
from napari_alnct.plugin._compat import camera_of
from napari_alnct.plugin._explain_layers import (
    AGAINST,
    EVIDENCE,
    EVIDENCE_KEY,
    MAP_KEY,
    RELATIVE,
    SCORES,
    SUPPORTS,
    evidence_layers,
)
from napari_alnct.plugin._explain_pair import NOTHING
from napari_alnct.plugin._explain_show import EvidenceShow
from napari_alnct.plugin._layers import is_kind, volume_of
from napari_alnct.plugin._reading_view import ReadingView
from tests.plugin.evidence_maps import CELL_MM, made_up_like, made_up_map, made_up_scores, without_support
from tests.plugin.leaks import Traces

pytestmark = pytest.mark.filterwarnings("ignore::pydantic.PydanticDeprecatedSince20")
CENTRE_XYZ_MM = (12.0, -31.0, 44.0)  # of the ball
OTHER_XYZ_MM = (18.0, -25.0, 40.0)


@pytest.fixture
def view(ball: Callable[..., Volume]) -> Iterator[ReadingView]:
    """Give three linked planes of a scan whose voxels are as deep as wide as nothing else."""
    view = ReadingView(ViewerModel())
    view.open(ball(spacing_zyx_mm=(2.5, 0.7, 0.9)))
    yield view
    view.close()


@pytest.fixture
def show(view: ReadingView) -> Iterator[EvidenceShow]:
    """Give what shows evidence in it."""
    show = EvidenceShow(view.viewer, [side.viewer for side in view.sides])
    yield show
    show.close()


def volume_in(view: ReadingView) -> Volume:
    assert view.volume is not None
    return view.volume


def evidence_of(viewer: Any) -> list[Any]:
    return [layer for layer in viewer.layers if is_kind(layer, EVIDENCE)]


def seen_in(view: ReadingView) -> list[set[tuple[str, str]]]:
    """Give candidate and kind of the evidence that is visible, for each plane."""
    return [
        {
            (layer.metadata[EVIDENCE_KEY]["candidate"], layer.metadata[EVIDENCE_KEY]["kind"])
            for layer in evidence_of(plane.viewer)
            if layer.visible
        }
        for plane in view.planes
    ]


def drawn_in(viewer: Any) -> set[tuple[str, str]]:
    """Give candidate and kind of the evidence that has a layer, seen or not."""
    told = [layer.metadata[EVIDENCE_KEY] for layer in evidence_of(viewer)]
    return {(one.get("candidate", "nobody"), one["kind"]) for one in told}


BOTH = {("mark 1", SUPPORTS), ("mark 1", AGAINST)}
BOTH_OF_2 = {("mark 2", SUPPORTS), ("mark 2", AGAINST)}


def two_maps() -> list[Any]:
    """Give maps of two candidates; the second one is half as strong."""
    return [made_up_map(CENTRE_XYZ_MM, "mark 1", peak=1.0), made_up_map(OTHER_XYZ_MM, "mark 2", peak=0.5)]


# -- off until asked ------------------------------------------------------------------------------------


def test_nothing_is_seen_until_asked(view: ReadingView, show: EvidenceShow) -> None:
    """No layer before a map is asked for; hidden ones of the current candidate; switched on, seen in all planes."""
    assert evidence_of(view.viewer) == []
    show.put(volume_in(view), two_maps())
    assert evidence_of(view.viewer) == []
    show.go_to("mark 1")
    assert drawn_in(view.viewer) == BOTH
    assert len(evidence_of(view.viewer)) == 2
    assert seen_in(view) == [set()] * 3
    show.is_on = True
    assert seen_in(view) == [BOTH] * 3
    show.is_on = False
    assert seen_in(view) == [set()] * 3


def test_holding_shows_and_letting_go_hides(view: ReadingView, show: EvidenceShow) -> None:
    """And what is switched on stays so."""
    show.put(volume_in(view), two_maps())
    show.go_to("mark 1")
    show.is_held = True
    assert seen_in(view) == [BOTH] * 3
    show.is_held = False
    assert seen_in(view) == [set()] * 3
    show.is_on = True
    show.is_held = True
    show.is_held = False
    assert seen_in(view) == [BOTH] * 3


def test_only_the_current_candidate_is_seen(view: ReadingView, show: EvidenceShow) -> None:
    """A map explains one score: with another candidate its own is seen, with none nothing."""
    show.put(volume_in(view), two_maps())
    show.is_on = True
    show.go_to("mark 2")
    assert seen_in(view) == [{("mark 2", SUPPORTS), ("mark 2", AGAINST)}] * 3
    show.go_to(None)
    assert seen_in(view) == [set()] * 3


def test_place_window_slab_and_zoom_stay(view: ReadingView, show: EvidenceShow) -> None:
    """Through explaining, switching, another scale and removing, also for cells that reach out of the scan."""
    view.set_window(-800, 300)
    view.set_slab(10)
    view.set_field(77.0)
    corner = tuple(float(v) for v in volume_in(view).geometry.index_to_world([1, 2, 3]))
    view.go_to(CENTRE_XYZ_MM)

    def state() -> tuple[Any, ...]:
        planes = [(p.viewer.dims.range, p.viewer.dims.point, p.viewer.dims.margin_left) for p in view.planes]
        cameras = [(camera_of(p.viewer).center, camera_of(p.viewer).zoom) for p in view.planes]
        active = [p.viewer.layers.selection.active for p in view.planes]
        return view.state(), planes, cameras, active, view.viewer.layers[0].contrast_limits

    before = state()
    show.put(volume_in(view), [*two_maps(), made_up_map(corner, "mark 3")])
    for candidate in ("mark 3", "mark 1"):
        show.go_to(candidate)
        show.is_on = True
        assert state() == before
    show.is_relative, show.is_smooth = True, False
    show.put_scores(volume_in(view), made_up_scores(volume_in(view)))
    assert state() == before
    show.clear()
    assert state() == before


def test_layers_lie_above_the_scan_and_below_the_marks(view: ReadingView, show: EvidenceShow) -> None:
    """In the main view and in the side planes."""
    from tests.plugin.test_reading_view import add_marks

    add_marks(view, 16.0)
    show.put(volume_in(view), two_maps())
    show.go_to("mark 1")
    show.is_on = True
    for plane in view.planes:
        kinds = [layer._type_string for layer in plane.viewer.layers]
        assert (kinds[0], kinds[-1]) == ("image", "points")
        assert set(kinds[1:-1]) == {"image"}


# -- one pair of layers ---------------------------------------------------------------------------------


@pytest.mark.parametrize("is_on", [False, True])
def test_one_pair_of_layers_goes_from_mark_to_mark(view: ReadingView, show: EvidenceShow, is_on: bool) -> None:
    """Eight marks, there and back: two layers, the same two, each time as if made for this mark, in all planes."""
    volume = volume_in(view)
    corner = tuple(float(v) for v in volume.geometry.index_to_world([1, 2, 3]))
    places = [CENTRE_XYZ_MM, OTHER_XYZ_MM, corner, *[(12.0 + k, -31.0 - k, 44.0 - k) for k in range(1, 6)]]
    maps = [made_up_map(place, f"mark {k}", peak=0.2 * k) for k, place in enumerate(places, start=1)]
    show.put(volume, maps)
    show.is_on = is_on
    show.go_to("mark 1")
    pair = evidence_of(view.viewer)
    assert len(pair) == 2
    for one in (*maps, *maps[::-1]):
        show.go_to(one.candidate)
        assert evidence_of(view.viewer) == pair
        wanted = {data[1]["metadata"][EVIDENCE_KEY]["kind"]: data for data in evidence_layers(one, volume, show.limit)}
        for plane in view.planes if is_on else view.planes[:1]:
            layers = {layer.metadata[EVIDENCE_KEY]["kind"]: layer for layer in evidence_of(plane.viewer)}
            assert set(layers) == set(wanted)
            for kind, layer in layers.items():
                values, attributes, _ = wanted[kind]
                assert np.array_equal(layer.data, values)
                assert tuple(layer.scale) == tuple(attributes["scale"])
                assert tuple(layer.translate) == tuple(attributes["translate"])
                assert tuple(layer.contrast_limits) == attributes["contrast_limits"]
                assert layer.name == attributes["name"]
                assert layer.metadata[EVIDENCE_KEY] == attributes["metadata"][EVIDENCE_KEY]
                assert layer.metadata[MAP_KEY] is one
                assert layer.extent.world == pytest.approx(layer.extent.data * layer.scale + layer.translate)
        assert seen_in(view) == [{(one.candidate, SUPPORTS), (one.candidate, AGAINST)} if is_on else set()] * 3


def test_marks_without_a_map_have_no_layer(view: ReadingView, show: EvidenceShow) -> None:
    """Nor those without support; where nothing argues against the score there is one layer; the next has both again."""
    volume = volume_in(view)
    first, second = two_maps()
    only = made_up_like(made_up_map(OTHER_XYZ_MM, "mark 3"), np.abs(second.values))
    show.put(volume, [first, without_support(second), only])
    show.is_on = True
    drawn = {"mark 1": BOTH, "mark 2": set(), "mark 3": {("mark 3", SUPPORTS)}, "mark 4": set()}
    for name in ("mark 1", "mark 2", "mark 3", "mark 1", "mark 4", "mark 3", "mark 2", "mark 1"):
        show.go_to(name)
        assert drawn_in(view.viewer) == drawn[name]
        assert len(evidence_of(view.viewer)) == len(drawn[name])
        assert seen_in(view) == [drawn[name]] * 3
        for plane in view.planes:
            assert plane.viewer.layers[0].visible
    assert show.layers_of("mark 3") == ()


@pytest.mark.parametrize("n_selected", [0, 1, 2])
def test_what_the_user_has_chosen_stays(view: ReadingView, show: EvidenceShow, n_selected: int) -> None:
    """Layers selected and active, order of layers, and how the pair looks: at every mark, also without a map."""
    show.put(volume_in(view), two_maps())
    layers = view.viewer.layers
    points = [view.viewer.add_points(np.zeros((1, 3)), units=("mm",) * 3) for _ in range(2)]
    layers.selection.clear()
    layers.selection.update(points[:n_selected])
    for name in ("mark 1", "mark 3", "mark 2"):
        show.go_to(name)
        assert set(layers.selection) == set(points[:n_selected])
        assert layers.selection.active is (points[0] if n_selected == 1 else None)
    for layer in show.layers_of("mark 2"):
        layer.opacity, layer.colormap = 0.3, "viridis"
    layers.move(1, len(layers))
    order = list(layers)
    layers.selection.active = show.layers_of("mark 2")[0]
    show.go_to("mark 1")
    assert list(layers) == order
    assert layers.selection.active is show.layers_of("mark 1")[0]
    assert {layer.opacity for layer in show.layers_of("mark 1")} == {0.3}
    assert {layer.colormap.name for layer in show.layers_of("mark 1")} == {"viridis"}


def test_a_pair_that_was_moved_by_hand_is_right_at_the_next_mark(view: ReadingView, show: EvidenceShow) -> None:
    """Turned, sheared, stretched and with other limits."""
    show.put(volume_in(view), two_maps())
    show.go_to("mark 1")
    for layer in show.layers_of("mark 1"):
        layer.affine, layer.rotate, layer.scale = np.diag([1, 2, 1, 1]), (0, 10, 0), (1, 2, 3)
        layer.shear, layer.contrast_limits = (0.1, 0, 0), (0.2, 0.3)
    show.go_to("mark 2")
    for layer in show.layers_of("mark 2"):
        told = layer.metadata[MAP_KEY]
        first = told.geometry.index_to_world([0, 0, 0])
        assert np.allclose(layer.data_to_world((0, 0, 0))[::-1], first)
        assert np.allclose(layer.data_to_world((1, 1, 1))[::-1], first + CELL_MM)
        assert tuple(layer.contrast_limits) == (0.0, 1.0)


def test_with_nothing_on_a_jump_leaves_the_layers_for_later(view: ReadingView, show: EvidenceShow) -> None:
    """No layer is touched before the reader rests; what is hidden then is right; showing does not wait."""
    asked: list[None] = []
    show.put(volume_in(view), two_maps())
    show.go_to("mark 1")
    pair = evidence_of(view.viewer)
    show.later = lambda: asked.append(None)
    events: list[Any] = []
    for layer in pair:
        layer.events.connect(events.append)
    view.viewer.layers.events.connect(events.append)
    view.viewer.dims.events.connect(events.append)
    for name in ("mark 2", "mark 3", "mark 1", "mark 2"):
        show.go_to(name)
    assert events == []
    assert len(asked) == 3  # of mark 1 nothing was left to do
    show.is_held = True
    assert seen_in(view) == [BOTH_OF_2] * 3
    show.is_held = False
    show.go_to("mark 1")
    show.settle()
    assert drawn_in(view.viewer) == BOTH
    assert seen_in(view) == [set()] * 3
    show.is_on = True
    assert seen_in(view) == [BOTH] * 3
    assert evidence_of(view.viewer) == pair


def test_a_walk_through_marks_without_evidence_takes_no_layer_out(view: ReadingView, show: EvidenceShow) -> None:
    """That would take a second and more: they wait, hidden, without numbers, candidate or map; told apart by name."""
    first, second = two_maps()
    only = made_up_like(made_up_map(OTHER_XYZ_MM, "mark 3"), np.abs(second.values))
    show.put(volume_in(view), [first, without_support(second), only])
    show.go_to("mark 1")
    pair = evidence_of(view.viewer)
    show.later = lambda: None
    told: list[Any] = []
    show.seen.connect(told.append)
    state = view.state()
    for name, n_empty in (("mark 2", 2), ("mark 1", 0), ("mark 3", 1), ("mark 4", 2), ("mark 3", 1), ("mark 1", 0)):
        show.go_to(name)
        show.settle()
        assert evidence_of(view.viewer) == pair
        empty = [layer for layer in pair if not layer.data.any()]
        assert len(empty) == n_empty
        for layer in empty:
            assert layer.name == f"{layer.metadata[EVIDENCE_KEY]['kind'].capitalize()}: {NOTHING}"
            assert set(layer.metadata[EVIDENCE_KEY]) == {"kind"}
            assert layer.metadata[MAP_KEY] is None
            layer.visible = True  # by the eye of the list: nothing is seen, and nothing is told
            assert told == []
        show.is_smooth = not show.is_smooth
        assert len({str(layer.interpolation2d) for layer in pair}) == 1
        assert view.state() == state
        show.go_to(None)
    show.go_to("mark 4")
    show.tidy()
    assert [len(evidence_of(plane.viewer)) for plane in view.planes] == [0, 0, 0]


def test_what_came_into_view_is_told_once_each_time(view: ReadingView, show: EvidenceShow) -> None:
    """Switched on, held, or by the eye of the layer list; each map once until all is off; nothing without a layer."""
    told: list[str] = []
    show.seen.connect(lambda one: told.append(one.candidate))
    first, second = two_maps()
    show.put(volume_in(view), [first, second, without_support(made_up_map(OTHER_XYZ_MM, "mark 3"))])
    for name in ("mark 1", "mark 2", "mark 3", "mark 1"):
        show.go_to(name)
    assert told == []
    for k in (1, 2):
        show.is_held = True
        show.is_relative, show.is_smooth, show.is_on = True, False, True
        show.is_relative, show.is_smooth, show.is_on = False, True, False
        show.is_held = False
        assert told == ["mark 1"] * k
    for layer in show.layers_of("mark 1"):
        layer.visible = True
    assert told == ["mark 1"] * 3
    show.is_on = True
    assert told == ["mark 1"] * 3
    for name in ("mark 2", "mark 3", "mark 4", "mark 1"):
        show.go_to(name)
    assert told == [*["mark 1"] * 3, "mark 2"]
    show.put(volume_in(view), [first])
    assert len(told) == 4
    show.put(volume_in(view), [two_maps()[0]])
    assert told[3:] == ["mark 2", "mark 1"]  # another map of the same mark
    show.is_on = False
    show.is_on = True
    assert told[3:] == ["mark 2", "mark 1", "mark 1"]


# -- the picture ----------------------------------------------------------------------------------------


def test_the_peak_is_drawn_on_the_ball_in_every_plane(view: ReadingView, show: EvidenceShow) -> None:
    """The strongest pixel of each plane's slice lies within half a cell of the ball's middle."""
    show.put(volume_in(view), [made_up_map(CENTRE_XYZ_MM)])
    show.go_to("mark 1")
    show.is_on = True
    view.go_to(CENTRE_XYZ_MM)
    for plane in view.planes:
        (layer,) = [one for one in evidence_of(plane.viewer) if one.metadata[EVIDENCE_KEY]["kind"] == SUPPORTS]
        pixels = np.asarray(layer._slice.image.view)
        rows, columns = (axis for axis in plane.viewer.dims.displayed)
        peak = np.unravel_index(int(np.argmax(pixels)), pixels.shape)
        for axis, place in ((rows, peak[0]), (columns, peak[1])):
            world = layer.translate[axis] + place * layer.scale[axis]
            assert abs(world - CENTRE_XYZ_MM[::-1][axis]) <= layer.scale[axis] / 2
        assert pixels.max() == pytest.approx(1.0)


def test_a_slab_shows_its_strongest_evidence(view: ReadingView, show: EvidenceShow) -> None:
    """From slices away the peak is seen once the slab reaches it."""
    show.put(volume_in(view), [made_up_map(CENTRE_XYZ_MM)])
    show.go_to("mark 1")
    show.is_on = True
    x, y, z = CENTRE_XYZ_MM
    view.go_to((x, y, z + 7.5))
    (layer,) = [one for one in evidence_of(view.viewer) if one.metadata[EVIDENCE_KEY]["kind"] == SUPPORTS]
    assert np.max(layer._slice.image.view) < 0.5
    view.set_slab(20)
    assert np.max(layer._slice.image.view) == pytest.approx(1.0)


def test_cells_or_smooth(view: ReadingView, show: EvidenceShow) -> None:
    """In all planes."""
    show.put(volume_in(view), two_maps())
    show.go_to("mark 1")
    show.is_on = True
    for is_smooth, name in ((False, "nearest"), (True, "linear")):
        show.is_smooth = is_smooth
        assert {str(layer.interpolation2d) for plane in view.planes for layer in evidence_of(plane.viewer)} == {name}


# -- one scale ------------------------------------------------------------------------------------------


def limits_of(show: EvidenceShow, candidate: str) -> set[tuple[float, ...]]:
    return {tuple(float(v) for v in layer.contrast_limits) for layer in show.layers_of(candidate)}


def limits_at(show: EvidenceShow, candidate: str) -> set[tuple[float, ...]]:
    """Give the limits of a candidate's layers once it is the current one."""
    show.go_to(candidate)
    return limits_of(show, candidate)


def test_all_candidates_of_a_scan_share_one_scale(view: ReadingView, show: EvidenceShow) -> None:
    """Also when a stronger one is explained later; an opposition that is stronger than any support sets it too."""
    volume = volume_in(view)
    show.put(volume, two_maps()[1:])
    assert limits_at(show, "mark 2") == {(0.0, 0.5)}
    show.put(volume, two_maps()[:1])
    assert limits_of(show, "mark 2") == limits_at(show, "mark 1") == limits_at(show, "mark 2") == {(0.0, 1.0)}
    show.put(volume, [made_up_map(OTHER_XYZ_MM, "mark 3", against=2.0)])
    assert show.limit == 2.0
    assert limits_of(show, "mark 2") == limits_at(show, "mark 1") == limits_at(show, "mark 3") == {(0.0, 2.0)}


def test_a_relative_scale_is_asked_for_and_named(view: ReadingView, show: EvidenceShow) -> None:
    """Each map then fills its own scale, in all planes, and the names of the layers say so."""
    show.put(volume_in(view), two_maps())
    assert not show.is_relative
    show.go_to("mark 2")
    show.is_on = True
    show.is_relative = True
    assert limits_of(show, "mark 2") == {(0.0, 0.5)}
    assert all(tuple(layer.contrast_limits) == (0.0, 0.5) for s in view.sides for layer in evidence_of(s.viewer))
    assert all(RELATIVE in layer.name for layer in evidence_of(view.viewer))
    show.is_relative = False
    assert limits_of(show, "mark 2") == {(0.0, 1.0)}
    assert not any(RELATIVE in layer.name for layer in evidence_of(view.viewer))


def test_another_method_replaces_the_maps_of_the_first(view: ReadingView, show: EvidenceShow) -> None:
    """Its unit is another one, so no scale could be shared."""
    show.go_to("mark 1")
    show.put(volume_in(view), two_maps())
    show.put(volume_in(view), [made_up_map(CENTRE_XYZ_MM, method="gradcam")])
    assert [one.method for one in show.maps] == ["gradcam"]
    assert [layer.metadata[EVIDENCE_KEY]["method"] for layer in evidence_of(view.viewer)] == ["gradcam"] * 2
    show.go_to("mark 2")
    assert evidence_of(view.viewer) == []


# -- words, changes, end ---------------------------------------------------------------------------------


def test_a_candidate_without_support_gets_words(view: ReadingView, show: EvidenceShow) -> None:
    """Its map is kept, no layer is made."""
    show.put(volume_in(view), [without_support(made_up_map(CENTRE_XYZ_MM))])
    assert show.reason("mark 1") == NO_SUPPORT
    assert show.layers_of("mark 1") == ()
    assert len(show.maps) == 1
    show.go_to("mark 1")
    show.is_on = True
    assert evidence_of(view.viewer) == []


def test_a_candidate_that_moved_has_no_map(view: ReadingView, show: EvidenceShow) -> None:
    """Nor one that is gone."""
    show.put(volume_in(view), two_maps())
    assert show.map_at("mark 1", OTHER_XYZ_MM) is None
    show.keep_only({"mark 1": OTHER_XYZ_MM, "mark 2": OTHER_XYZ_MM})
    assert [one.candidate for one in show.maps] == ["mark 2"]
    assert show.limit == 0.5


def test_the_score_map_is_seen_until_it_is_hidden(view: ReadingView, show: EvidenceShow) -> None:
    """In all planes, apart from the maps of candidates."""
    show.put_scores(volume_in(view), made_up_scores(volume_in(view)))
    found = [[layer for layer in plane.viewer.layers if is_kind(layer, SCORES)] for plane in view.planes]
    assert [len(layers) for layers in found] == [1, 1, 1]
    assert all(layers[0].visible for layers in found)
    show.scores.visible = False
    assert not any(layers[0].visible for layers in found)
    show.forget_maps()
    assert show.scores is not None


def test_a_layer_taken_away_by_hand_is_gone_everywhere(view: ReadingView, show: EvidenceShow) -> None:
    """The other layer of the candidate stays."""
    show.put(volume_in(view), two_maps())
    show.put_scores(volume_in(view), made_up_scores(volume_in(view)))
    show.go_to("mark 1")
    show.is_on = True
    view.viewer.layers.remove(show.layers_of("mark 1")[0])
    view.viewer.layers.remove(show.scores)
    assert [len(seen) for seen in seen_in(view)] == [1, 1, 1]
    assert show.scores is None
    assert [len(side.viewer.layers) for side in view.sides] == [2, 2]


def test_a_layer_taken_away_by_hand_comes_back_when_it_is_explained_again(
    view: ReadingView, show: EvidenceShow
) -> None:
    """Not by going away and back; the next mark has both of its own; all taken away breaks nothing."""
    show.put(volume_in(view), two_maps())
    show.go_to("mark 1")
    show.is_on = True
    view.viewer.layers.remove(show.layers_of("mark 1")[0])
    for name, kinds in (("mark 2", BOTH_OF_2), ("mark 1", {("mark 1", AGAINST)}), ("mark 2", BOTH_OF_2)):
        show.go_to(name)
        assert drawn_in(view.viewer) == kinds
        assert seen_in(view) == [kinds] * 3
    for layer in list(show.layers_of("mark 2")):
        view.viewer.layers.remove(layer)
    assert seen_in(view) == [set()] * 3
    show.is_relative, show.is_smooth, show.is_on = True, False, False
    show.is_relative, show.is_smooth, show.is_held = False, True, True
    assert seen_in(view) == [set()] * 3
    show.put(volume_in(view), two_maps())
    assert seen_in(view) == [BOTH_OF_2] * 3
    show.go_to("mark 1")
    assert seen_in(view) == [BOTH] * 3


def test_another_scan_takes_the_evidence_of_the_first_away(
    view: ReadingView, show: EvidenceShow, ball: Callable[..., Volume]
) -> None:
    """And switches it off."""
    show.put(volume_in(view), two_maps())
    show.go_to("mark 1")
    show.is_on = True
    other = ball(series_uid="other")
    view.open(other)
    show.put(other, two_maps()[:1])
    assert len(evidence_of(view.viewer)) == 2
    assert all(volume_of(layer) is other for layer in evidence_of(view.viewer))
    assert not show.is_on
    assert seen_in(view) == [set()] * 3


def test_closing_leaves_the_viewer_as_it_was(ball: Callable[..., Volume]) -> None:
    """Ten times: no layer and no callback is left, in the main viewer or beside it."""
    view = ReadingView(ViewerModel())
    view.open(ball())
    view.viewer.layers.selection.active = view.viewer.layers[0]

    def cycle() -> None:
        show = EvidenceShow(view.viewer, [side.viewer for side in view.sides])
        show.put(volume_in(view), two_maps())
        show.put_scores(volume_in(view), made_up_scores(volume_in(view)))
        show.go_to("mark 1")
        show.is_on = True
        show.close()

    cycle()
    traces = [Traces(plane.viewer) for plane in view.planes]
    before = [trace.counts() for trace in traces]
    for _ in range(10):
        cycle()
    assert [trace.counts() for trace in traces] == before
    view.close()
