"""The log of a reading tells what was explained and which heat maps the reader saw, and nothing else changes by it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from napari.components import ViewerModel

from napari_alnct.core.evidence import EvidenceMap
from napari_alnct.core.findings import Candidate, CaseResult
from napari_alnct.core.proposals import Source
from napari_alnct.core.review import replay
from napari_alnct.core.review_actions import Decide, NoteExplained, NoteMapShown, action_to_json
from napari_alnct.core.volume import Volume
from napari_alnct.io.reviews import ReviewStore
from napari_alnct.plugin._explain_jobs import Explanation
from napari_alnct.plugin._open_reading import OpenReading
from napari_alnct.plugin._reading_view import ReadingView
from napari_alnct.plugin._settings import Preferences
from tests.plugin.evidence_maps import made_up_map, without_support

pytestmark = [pytest.mark.gui, pytest.mark.filterwarnings("ignore::pydantic.PydanticDeprecatedSince20")]
PLUGIN = "napari-alnct"
PLACES = ((12.0, -31.0, 44.0), (4.0, -25.0, 40.0), (20.0, -38.0, 50.0))
FACTS = {"method": "hirescam", "layer": "encoder.stages.1", "score_name": "second look", "model_sha256": "ab" * 32}


@pytest.fixture
def reading(tmp_path: Path, qapp: Any, ball: Callable[..., Volume]) -> Iterator[OpenReading]:
    """Give a reading with three marks of a model, in viewers without a window."""
    from napari.settings import get_plugin_settings

    page = get_plugin_settings(PLUGIN)
    page.reading.folder = str(tmp_path / "readings")
    preferences = Preferences()
    view = ReadingView(ViewerModel())
    reading = OpenReading(view, preferences)
    volume = ball()
    reading.begin(volume)
    found = tuple(Candidate(position_xyz_mm=p, score=0.9 - k / 10, diameter_mm=6.0) for k, p in enumerate(PLACES))
    assert reading.session is not None
    reading.session.take_candidates(
        CaseResult(
            series_uid=volume.series_uid,
            candidates=found,
            threshold=0.5,
            model_name="made-up",
            model_sha256="ab" * 32,
            device="cpu",
            voxel_sha256=volume.voxel_sha256,
        ),
        Source(),
    )
    yield reading
    reading.close()
    view.close()
    preferences.close()
    page.reset()


@pytest.fixture
def box(reading: OpenReading, qtbot: Any) -> Iterator[Any]:
    """Give the box of the tab Review for it, at the first mark."""
    from napari_alnct.plugin._explain_reading import ReadingExplainBox

    box = ReadingExplainBox(reading)
    qtbot.addWidget(box)
    box.show_session(reading.session)
    reading.session.go_to(1)
    yield box
    box.dispose()


def done(box: Any, *maps: EvidenceMap) -> None:
    """Do what the box does when a job has made these maps."""
    box._subject = box.source.subject()
    box._on_done(Explanation(maps, {}, (), 0.1))


def map_of(number: int) -> EvidenceMap:
    return made_up_map(PLACES[number - 1], f"mark {number}", peak=number)


def told(reading: OpenReading) -> list[tuple[str, int]]:
    """Give kind and mark of each line of the log after the candidates."""
    lines = [action_to_json(entry.action) for entry in reading.session.entries]
    return [(line["kind"], line["mark_id"]) for line in lines if line["kind"] in ("explained", "map shown", "decide")]


@pytest.fixture(autouse=True)
def _finder(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the made-up model be at hand."""
    monkeypatch.setattr("napari_alnct.plugin._explain_subject.finder_of", lambda review, own_models=(): "made-up")


def test_what_was_explained_is_in_the_log(reading: OpenReading, box: Any) -> None:
    """Each mark with method, layer, score and model; also one without support; shown it is not."""
    done(box, map_of(1), map_of(2), without_support(map_of(3)))
    assert told(reading) == [("explained", 1), ("explained", 2), ("explained", 3)]
    assert reading.session.entries[-2].action == NoteExplained(mark_id=2, **FACTS)
    done(box, map_of(1))
    assert told(reading)[3:] == [("explained", 1)]


def test_what_was_seen_is_in_the_log_once_each_showing(reading: OpenReading, box: Any) -> None:
    """Held and let go twice: two lines; on, through the marks and back: one a mark that has layers; never while off."""
    done(box, map_of(1), map_of(2), without_support(map_of(3)))
    session, n_before = reading.session, len(reading.session.entries)
    for number in (2, 3, 1):
        session.go_to(number)
    assert len(session.entries) == n_before
    for _ in range(2):
        box.hold_by_hand(True)
        box.relative_box.click()
        box.hold_by_hand(True)
        box.hold_by_hand(False)
    assert told(reading)[3:] == [("map shown", 1)] * 2
    assert session.entries[-1].action == NoteMapShown(mark_id=1, **FACTS)
    box.switch(True)
    for number in (2, 3, 1, 2):
        session.go_to(number)
    assert told(reading)[5:] == [("map shown", 1), ("map shown", 2)]
    box.switch(False)
    box.switch(True)
    assert told(reading)[7:] == [("map shown", 2)]


def test_decisions_stand_before_or_after_what_was_seen(reading: OpenReading, box: Any) -> None:
    """In the order in which it happened; replayed the log gives the reading, with these lines and without."""
    done(box, map_of(1), map_of(2))
    reading.session.settings = type(reading.session.settings)(auto_advance=True)
    reading.session.decide("accepted")  # of mark 1, unseen; goes on to mark 2
    box.hold_by_hand(True)
    box.hold_by_hand(False)
    reading.session.decide("rejected")
    lines = [("explained", 1), ("explained", 2), ("decide", 1), ("map shown", 2), ("decide", 2)]
    assert told(reading) == lines
    actions = [entry.action for entry in reading.session.entries]
    assert replay(actions) == reading.session.stored_review
    quiet = [action for action in actions if not isinstance(action, NoteExplained | NoteMapShown)]
    assert replay(quiet) == reading.session.stored_review
    reading.session.undo()
    assert isinstance(actions[-1], Decide)
    assert reading.session.review.mark(2).status == "unreviewed"


def test_a_map_that_no_mark_has_any_more_is_no_line(reading: OpenReading, box: Any) -> None:
    """A job ends after another search has given the marks new places."""
    moved = [Candidate(position_xyz_mm=(5.0, -20.0, 41.0), score=0.9, diameter_mm=6.0)]
    box._subject = box.source.subject()
    reading.session.take_candidates(moved, Source())
    box._on_done(Explanation((map_of(1), map_of(2)), {}, (), 0.1))
    assert told(reading) == []


def test_a_disk_that_refuses_is_told_and_the_map_is_seen(
    reading: OpenReading, box: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The explanation does not fail; the reader learns that the record lacks it."""
    done(box, map_of(1))
    heard: list[str] = []
    reading.told.connect(heard.append)

    def refuse(self: ReviewStore, action: Any, **how: Any) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(ReviewStore, "act", refuse)
    box.hold_by_hand(True)
    assert all(layer.visible for layer in box.show_.layers_of("mark 1"))
    assert "not in the record of the reading: disk full" in heard[-1] == box.message.text()


def test_a_window_that_may_only_look_writes_nothing(
    reading: OpenReading, box: Any, qtbot: Any, ball: Callable[..., Volume]
) -> None:
    """It shows maps; the record is the other window's."""
    from napari_alnct.plugin._explain_reading import ReadingExplainBox

    view = ReadingView(ViewerModel())
    second = OpenReading(view, reading.preferences)
    second.begin(reading.volume)
    assert second.session.is_read_only
    other = ReadingExplainBox(second)
    qtbot.addWidget(other)
    other.show_session(second.session)
    second.session.go_to(1)
    n_before = len(reading.session.entries)
    done(other, map_of(1))
    other.switch(True)
    assert all(layer.visible for layer in other.show_.layers_of("mark 1"))
    assert len(reading.session.entries) == n_before
    other.dispose()
    second.close()
    view.close()
