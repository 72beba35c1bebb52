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
from napari_alnct.plugin._explain_layers import AGAINST, EVIDENCE, EVIDENCE_KEY, RELATIVE, SCORES, SUPPORTS
from napari_alnct.plugin._explain_show import EvidenceShow
from napari_alnct.plugin._layers import is_kind
from napari_alnct.plugin._reading_view import ReadingView
from tests.plugin.evidence_maps import made_up_map, made_up_scores, without_support
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


BOTH = {("mark 1", SUPPORTS), ("mark 1", AGAINST)}


def two_maps() -> list[Any]:
    """Give maps of two candidates; the second one is half as strong."""
    return [made_up_map(CENTRE_XYZ_MM, "mark 1", peak=1.0), made_up_map(OTHER_XYZ_MM, "mark 2", peak=0.5)]


# -- off until asked ------------------------------------------------------------------------------------


def test_nothing_is_seen_until_asked(view: ReadingView, show: EvidenceShow) -> None:
    """No layer before a map; with a map hidden layers; switched on, those of the current candidate in all planes."""
    assert evidence_of(view.viewer) == []
    show.put(volume_in(view), two_maps())
    assert len(evidence_of(view.viewer)) == 4
    assert seen_in(view) == [set()] * 3
    show.go_to("mark 1")
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


def test_all_candidates_of_a_scan_share_one_scale(view: ReadingView, show: EvidenceShow) -> None:
    """Also when a stronger one is explained later; an opposition that is stronger than any support sets it too."""
    volume = volume_in(view)
    show.put(volume, two_maps()[1:])
    assert limits_of(show, "mark 2") == {(0.0, 0.5)}
    show.put(volume, two_maps()[:1])
    assert limits_of(show, "mark 1") == limits_of(show, "mark 2") == {(0.0, 1.0)}
    show.put(volume, [made_up_map(OTHER_XYZ_MM, "mark 3", against=2.0)])
    assert show.limit == 2.0
    assert limits_of(show, "mark 1") == limits_of(show, "mark 3") == {(0.0, 2.0)}


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
    show.put(volume_in(view), two_maps())
    show.put(volume_in(view), [made_up_map(CENTRE_XYZ_MM, method="gradcam")])
    assert [one.method for one in show.maps] == ["gradcam"]
    assert len(evidence_of(view.viewer)) == 2


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
    """The other layers of the candidate stay."""
    show.put(volume_in(view), two_maps())
    show.put_scores(volume_in(view), made_up_scores(volume_in(view)))
    show.go_to("mark 1")
    show.is_on = True
    view.viewer.layers.remove(show.layers_of("mark 1")[0])
    view.viewer.layers.remove(show.scores)
    assert [len(seen) for seen in seen_in(view)] == [1, 1, 1]
    assert show.scores is None
    assert [len(side.viewer.layers) for side in view.sides] == [2, 2]


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
