"""Marks of a reading as a layer: where they are, how they look, and that edits become actions."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel

from napari_alnct.core.config import ReadingSettings
from napari_alnct.core.findings import Candidate
from napari_alnct.core.volume import Volume
from napari_alnct.plugin._layers import MARK_UNIT_MM, points_xyz_mm
from napari_alnct.plugin._review_marks import CURRENT_WIDTH, LOOKS, ReviewMarks
from napari_alnct.plugin._review_state import ReviewSession
from napari_alnct.plugin._writer import write_marks

pytestmark = pytest.mark.filterwarnings("ignore::pydantic.PydanticDeprecatedSince20")
CENTRE = (12.0, -31.0, 44.0)
CANARY = "DOE^JANE^19700101"


@dataclass
class Scene:
    """A viewer, a reading and its layer."""

    viewer: ViewerModel
    session: ReviewSession
    marks: ReviewMarks
    refused: list[str]

    @property
    def layer(self) -> Any:
        return self.marks.layer

    def statuses(self) -> list[str]:
        return list(self.layer.features["status"])


def scene(folder: Path, volume: Volume, **settings: Any) -> Scene:
    viewer, refused = ViewerModel(), list[str]()
    session = ReviewSession.open(volume, folder, ReadingSettings(**settings))
    session.take_candidates(
        [
            Candidate(position_xyz_mm=(CENTRE[0] + 10 * k, CENTRE[1], CENTRE[2]), score=score, diameter_mm=8.0)
            for k, score in enumerate((0.9, 0.6, 0.2))
        ]
    )
    return Scene(viewer, session, ReviewMarks(viewer, session, volume, refused.append), refused)


@pytest.fixture
def reading(tmp_path: Path, ball: Callable[..., Volume]) -> Iterator[Scene]:
    """Give three marks, the first in the middle of the ball."""
    found = scene(tmp_path, ball(series_uid=CANARY))
    yield found
    found.session.close()


def centres(layer: Any) -> np.ndarray:
    return points_xyz_mm(layer.data, {"scale": layer.scale, "translate": layer.translate})


# -- drawing --------------------------------------------------------------------------------------------


def test_marks_lie_where_they_are_and_have_their_diameter(reading: Scene) -> None:
    """World mm to the micrometre; the ring of an undecided mark is as wide as the nodule."""
    assert centres(reading.layer)[0] == pytest.approx(CENTRE, abs=1e-3)
    assert reading.layer.size[0] * MARK_UNIT_MM == pytest.approx(8.0)
    assert not reading.layer.face_color.any()


def test_every_status_has_a_colour_and_a_shape_of_its_own() -> None:
    """So that neither the colour-blind nor a grey print mixes them up."""
    assert len({look.colour for look in LOOKS.values()}) == len(LOOKS)
    assert len({look.symbol for look in LOOKS.values()}) == len(LOOKS)


def test_a_decision_changes_colour_and_shape(reading: Scene) -> None:
    """Of this mark alone."""
    before = reading.layer.border_color.copy()
    reading.session.go_to(2)
    reading.session.decide("accepted")
    assert reading.statuses() == ["unreviewed", "accepted", "unreviewed"]
    assert str(reading.layer.symbol[1]) == LOOKS["accepted"].symbol
    changed = np.any(reading.layer.border_color != before, axis=1)
    assert changed.tolist() == [False, True, False]


def test_the_current_mark_stands_out(reading: Scene) -> None:
    """Its line is wider, and only its."""
    reading.session.go_to(3)
    widths = reading.layer.border_width / reading.layer.border_width.min()
    assert widths.tolist() == pytest.approx([1, 1, CURRENT_WIDTH])
    reading.session.go_to(None)
    assert np.ptp(reading.layer.border_width) == 0


def test_the_threshold_hides_and_keeps(reading: Scene) -> None:
    """The layer has all marks, those below are not shown; they come back."""
    reading.session.show_threshold(0.5)
    assert reading.layer.shown.tolist() == [True, True, False]
    reading.session.set_threshold(0.0)
    assert reading.layer.shown.all()


@pytest.mark.parametrize("mode", ["second reader", "study"])
def test_marks_that_must_not_be_seen_are_not_in_the_layer(
    tmp_path: Path, ball: Callable[..., Volume], mode: str
) -> None:
    """No key, eye or table of features can show them before the lock."""
    hidden = scene(tmp_path, ball(), mode=mode)
    hidden.session.add_at((0.0, 0.0, 0.0))
    assert hidden.statuses() == ["reader_added"]
    hidden.session.end_first_read()
    assert len(hidden.layer.data) == 4
    hidden.session.close()


def test_no_text_of_the_patient_is_on_the_screen_or_in_the_state(reading: Scene) -> None:
    """The series identifier, here a name, stands in no layer name, and in no file of the reading."""
    reading.session.add_at((1.0, 2.0, 3.0))
    reading.session.flush({"place_xyz_mm": [1.0, 2.0, 3.0]})
    assert all("DOE" not in layer.name for layer in reading.viewer.layers)
    files = [path for path in reading.session.folder.rglob("*") if path.is_file()]
    assert len(files) >= 2
    assert all(b"DOE" not in path.read_bytes() and "DOE" not in str(path) for path in files)


def test_the_layer_can_be_saved_as_a_table(reading: Scene, tmp_path: Path) -> None:
    """Napari's File > Save knows it, own marks included."""
    reading.session.add_at((1.0, 2.0, 3.0), 5.0)
    data, attributes, _ = reading.layer.as_layer_data_tuple()
    write_marks(str(tmp_path / "marks.csv"), data, attributes)
    assert len((tmp_path / "marks.csv").read_text().splitlines()) == 5


# -- edits -----------------------------------------------------------------------------------------------


def test_a_point_added_in_the_layer_is_an_own_mark(reading: Scene) -> None:
    """At its place, linked where it lies in a mark of the detector, and current."""
    reading.layer.add(np.array([[0.44, -0.31, 0.5]]))
    own = reading.session.review.marks[-1]
    assert own.is_own
    assert own.position_xyz_mm == pytest.approx((50.0, -31.0, 44.0))
    assert reading.session.current == own
    assert reading.statuses()[-1] == "reader_added"
    assert len(reading.layer.data) == len(reading.layer.size) == len(reading.layer.features) == 4


def dragged(layer: Any, index: int, shift_mm: float) -> None:
    """Drag a point as napari's mouse code does: start, then one move."""
    layer.selected_data = {index}
    layer._set_drag_start({index}, layer.data[index])
    layer._move({index}, layer.data[index] + np.array([0.0, shift_mm, shift_mm]) / MARK_UNIT_MM)


def test_an_own_mark_can_be_dragged(reading: Scene) -> None:
    """The move is an action and can be undone."""
    own = reading.session.add_at((0.0, 0.0, 0.0))
    dragged(reading.layer, 3, 4.0)
    assert reading.session.review.mark(own.mark_id).position_xyz_mm == pytest.approx((4.0, 4.0, 0.0))
    reading.session.undo()
    assert centres(reading.layer)[3] == pytest.approx((0, 0, 0), abs=1e-3)


def test_a_mark_of_the_detector_is_drawn_back(reading: Scene) -> None:
    """Dragged, resized or deleted: the layer is as before, one sentence says why, nothing is in the log."""
    n_before, data = len(reading.session.entries), reading.layer.data.copy()
    dragged(reading.layer, 0, 4.0)
    reading.layer.selected_data = {1}
    reading.layer.current_size = 0.3
    reading.layer.selected_data = {0}
    reading.layer.remove_selected()
    assert np.array_equal(reading.layer.data, data)
    assert reading.layer.size.tolist() == pytest.approx([0.08] * 3)
    assert ["moved" in reading.refused[0], "resized" in reading.refused[1], "deleted" in reading.refused[2]] == [
        True
    ] * 3
    assert len(reading.session.entries) == n_before


def test_an_own_mark_can_be_resized_in_the_layer(reading: Scene) -> None:
    """The slider of napari sets the size of the shape; the diameter follows."""
    own = reading.session.add_at((0.0, 0.0, 0.0), 10.0)
    reading.layer.selected_data = {3}
    reading.layer.current_size = 0.12 * LOOKS["reader_added"].widening
    assert reading.session.review.mark(own.mark_id).diameter_mm == pytest.approx(12.0)


def test_an_own_mark_can_be_deleted_in_the_layer(reading: Scene) -> None:
    """And comes back by undo, where it was."""
    reading.session.add_at((0.0, 0.0, 0.0))
    reading.session.add_at((5.0, 5.0, 5.0))
    reading.layer.selected_data = {3}
    reading.layer.remove_selected()
    assert [mark.position_xyz_mm for mark in reading.session.review.marks if mark.is_own] == [(5.0, 5.0, 5.0)]
    reading.session.undo()
    assert centres(reading.layer)[3:] == pytest.approx(np.array([[0, 0, 0], [5, 5, 5]]), abs=1e-3)


def test_a_chosen_point_is_the_current_mark(reading: Scene) -> None:
    """Without a jump, so that it can be dragged on."""
    jumps = []
    reading.session.jumped.connect(jumps.append)
    reading.layer.selected_data = {1}
    assert reading.session.current == reading.session.review.mark(2)
    assert jumps == []


def test_a_window_that_may_only_look_cannot_edit(reading: Scene, ball: Callable[..., Volume]) -> None:
    """An added point is taken back with a sentence."""
    second = scene_of_second_window(reading, ball(series_uid=CANARY))
    second.layer.add(np.array([[0.0, 0.0, 0.0]]))
    assert len(second.layer.data) == 3
    assert "another window" in second.refused[0]


def scene_of_second_window(first: Scene, volume: Volume) -> Scene:
    viewer, refused = ViewerModel(), list[str]()
    session = ReviewSession.open(volume, first.session.folder.parents[1])
    return Scene(viewer, session, ReviewMarks(viewer, session, volume, refused.append), refused)


# -- end ------------------------------------------------------------------------------------------------------


def test_closing_leaves_nothing(reading: Scene) -> None:
    """The layer is gone and the session calls nobody."""
    reading.marks.close()
    assert len(reading.viewer.layers) == 0
    assert len(reading.session.changed) == len(reading.session.current_changed) == 0
    reading.session.go_to(1)
    reading.session.decide("accepted")


def test_the_user_keeps_the_active_layer(tmp_path: Path, ball: Callable[..., Volume]) -> None:
    """Marks come on top without being selected."""
    volume = ball()
    viewer = ViewerModel()
    image = viewer.add_image(np.zeros((4, 4, 4)))
    session = ReviewSession.open(volume, tmp_path)
    marks = ReviewMarks(viewer, session, volume, print)
    assert viewer.layers.selection.active is image
    assert viewer.layers[-1] is marks.layer
    session.close()


def test_state_on_disk_is_json(reading: Scene) -> None:
    """For other programs: statuses by name."""
    reading.session.go_to(1)
    reading.session.decide("rejected", "scar")
    reading.session.flush({})
    state = json.loads((reading.session.folder / "review.json").read_text())
    assert state["review"]["marks"][0]["status"] == "rejected"
    assert state["review"]["marks"][0]["reason"] == "scar"
