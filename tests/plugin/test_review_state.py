"""A reading under way: going through, deciding, own marks, modes, and that a session goes on exactly."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from napari_alnct.core.config import ReadingSettings
from napari_alnct.core.errors import ReviewError
from napari_alnct.core.findings import Candidate, CaseResult
from napari_alnct.core.proposals import Source
from napari_alnct.core.review import replay
from napari_alnct.io.reviews import ReviewStore
from napari_alnct.plugin._review_state import ReviewSession

SCAN = "cd" * 32
SCORES = (0.9, 0.7, 0.5, 0.3, 0.1)
POINTS = {0.5: 0.8, 1.0: 0.4, 4.0: 0.2}


def candidates() -> tuple[Candidate, ...]:
    """Give five candidates 20 mm apart, the strongest last, so that sorting shows."""
    return tuple(
        Candidate(position_xyz_mm=(20.0 * k, 1.0, 2.0), score=score, diameter_mm=8.0) for k, score in enumerate(SCORES)
    )[::-1]


def result(threshold: float = 0.2, voxel_sha256: str = SCAN) -> CaseResult:
    return CaseResult(
        series_uid="1",
        candidates=candidates(),
        threshold=threshold,
        model_name="m",
        model_sha256="ab",
        device="cpu",
        voxel_sha256=voxel_sha256,
    )


def begun(folder: Path, **settings: Any) -> ReviewSession:
    return ReviewSession(ReviewStore(folder, SCAN, "R"), ReadingSettings(**settings))


@pytest.fixture
def session(tmp_path: Path) -> Iterator[ReviewSession]:
    """Give a reading with four of five marks shown."""
    session = begun(tmp_path)
    session.take_candidates(result(), Source(operating_points=POINTS))
    yield session
    session.close()


def current_id(session: ReviewSession) -> int | None:
    return None if session.current is None else session.current.mark_id


# -- going through -----------------------------------------------------------------------------------


def test_next_visits_every_shown_mark_once_in_order_and_stops(session: ReviewSession) -> None:
    """By falling score; behind the last one nothing happens; the hidden one is not visited."""
    visited = []
    session.current_changed.connect(lambda mark: visited.append(mark.mark_id))
    for _ in range(10):
        session.next()
    assert visited == [1, 2, 3, 4]
    for _ in range(10):
        session.previous()
    assert visited == [1, 2, 3, 4, 3, 2, 1]


def test_a_hidden_mark_cannot_be_gone_to(session: ReviewSession) -> None:
    """Its number leaves no current mark."""
    session.go_to(5)
    assert session.current is None


def test_raising_the_threshold_over_the_current_mark_leaves_none(session: ReviewSession) -> None:
    """And lowering it does not bring the place back by itself; no decision can hit a hidden mark."""
    session.go_to(4)
    session.set_threshold(0.6)
    assert session.current is None
    with pytest.raises(ReviewError, match="no mark is chosen"):
        session.decide("accepted")


# -- deciding -------------------------------------------------------------------------------------------


def test_a_decision_advances_to_the_next_undecided(session: ReviewSession) -> None:
    """Behind the last one comes the first that was passed over; with none left the reader stays."""
    session.go_to(2)
    session.decide("accepted")
    session.decide("rejected", "vessel")
    session.decide("uncertain")
    assert current_id(session) == 1
    session.decide("rejected")
    assert current_id(session) == 1
    assert [mark.status for mark in session.review.marks] == [
        "rejected",
        "accepted",
        "rejected",
        "uncertain",
        "unreviewed",
    ]
    assert session.review.mark(3).reason == "vessel"


def test_without_auto_advance_the_reader_stays(tmp_path: Path) -> None:
    """The setting is heeded."""
    session = begun(tmp_path, auto_advance=False)
    session.take_candidates(result())
    session.next()
    session.decide("accepted")
    assert current_id(session) == 1
    session.close()


def test_n_decisions_and_n_undos_give_the_first_state(session: ReviewSession) -> None:
    """And n redos give the last one; each goes to the mark that it is about."""
    session.go_to(1)
    first = session.review.marks
    for status in ("accepted", "rejected", "uncertain"):
        session.decide(status)
    last = session.review.marks
    places = []
    session.current_changed.connect(lambda mark: places.append(mark.mark_id))
    for _ in range(3):
        session.undo()
    assert session.review.marks == first
    for _ in range(3):
        session.redo()
    assert session.review.marks == last
    assert places == [3, 2, 1, 1, 2, 3]


def test_a_note_is_written_once(session: ReviewSession) -> None:
    """The same words again are no action."""
    session.next()
    session.note("near the fissure")
    session.note("near the fissure")
    assert [type(entry.action).__name__ for entry in session.entries].count("Annotate") == 1
    assert session.review.mark(1).note == "near the fissure"


# -- own marks -------------------------------------------------------------------------------------------


def test_an_added_mark_is_where_the_cursor_was_and_current(session: ReviewSession) -> None:
    """Far from all others it is the reader's only; in a mark of the detector it is linked to that."""
    own = session.add_at((3.25, -7.5, 100.125))
    assert own.position_xyz_mm == (3.25, -7.5, 100.125)
    assert (own.is_own, own.linked_to, current_id(session)) == (True, None, own.mark_id)
    assert session.add_at((22.0, 1.0, 2.0)).linked_to == 2


def test_own_marks_can_be_moved_resized_and_deleted(session: ReviewSession) -> None:
    """And each of these can be undone."""
    own = session.add_at((0.0, 50.0, 0.0))
    session.move_to((1.0, 51.0, 2.0))
    session.resize_by(0.5)
    changed = session.review.mark(own.mark_id)
    assert (changed.position_xyz_mm, changed.diameter_mm) == ((1.0, 51.0, 2.0), 8.5)
    session.delete()
    assert all(not mark.is_own for mark in session.review.marks)
    assert current_id(session) == 4
    for _ in range(3):
        session.undo()
    assert session.review.mark(own.mark_id) == own


def test_a_mark_cannot_be_made_smaller_than_a_millimetre(session: ReviewSession) -> None:
    """Holding the key down ends at 1 mm."""
    session.add_at((0.0, 50.0, 0.0))
    for _ in range(30):
        session.resize_by(-0.5)
    assert session.current is not None
    assert session.current.diameter_mm == 1.0


def test_the_detectors_marks_can_only_be_decided_on(session: ReviewSession) -> None:
    """Moving, resizing and deleting are refused and change nothing."""
    session.go_to(1)
    before = session.review
    for job in (lambda: session.move_to((0.0, 0.0, 0.0)), lambda: session.resize(3.0), session.delete):
        with pytest.raises(ReviewError, match="the detector's"):
            job()
    assert session.review == before


def test_own_marks_are_not_accepted_or_rejected(session: ReviewSession) -> None:
    """One sentence says what to do instead."""
    session.add_at((0.0, 50.0, 0.0))
    with pytest.raises(ReviewError, match="delete it"):
        session.decide("rejected")


# -- threshold ---------------------------------------------------------------------------------------------


def test_the_threshold_only_hides_and_all_can_be_brought_back(session: ReviewSession) -> None:
    """Decisions outlive it: what was accepted stays in view, the rest comes back as it was."""
    session.go_to(4)
    session.decide("accepted")
    session.set_threshold(0.95)
    assert [mark.mark_id for mark in session.review.shown] == [4]
    session.set_threshold(0.0)
    assert len(session.review.shown) == 5
    assert session.review.mark(4).status == "accepted"


def test_a_moving_slider_is_shown_and_not_written(session: ReviewSession) -> None:
    """Only where it stops is in the log, once."""
    n_before = len(session.entries)
    shown = []
    session.changed.connect(lambda review: shown.append(len(review.shown)))
    for threshold in (0.4, 0.6, 0.8):
        session.show_threshold(threshold)
    session.settle_threshold()
    session.settle_threshold()
    assert shown == [3, 2, 1, 1]
    assert len(session.entries) == n_before + 1


def test_a_decision_while_the_slider_moves_is_logged_at_what_was_shown(session: ReviewSession) -> None:
    """The threshold is written before the decision."""
    session.show_threshold(0.6)
    session.next()
    session.decide("accepted")
    assert [type(entry.action).__name__ for entry in session.entries[-2:]] == ["SetThreshold", "Decide"]
    assert session.review.threshold == 0.6


def test_a_slider_that_comes_back_writes_nothing(session: ReviewSession) -> None:
    """Moved away and back to where it was."""
    n_before = len(session.entries)
    session.show_threshold(0.8)
    session.set_threshold(0.2)
    assert len(session.entries) == n_before
    assert session.review.threshold == 0.2


# -- modes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["second reader", "study"])
def test_hidden_marks_cannot_be_reached_before_the_lock(tmp_path: Path, mode: str) -> None:
    """No method shows, chooses or decides on them; after the lock they are there, and own marks stay."""
    session = begun(tmp_path, mode=mode)
    session.take_candidates(result())
    own = session.add_at((0.0, 1.0, 2.0))
    assert own.linked_to is None  # it lies in a hidden mark, which must not show
    for job in (session.next, session.previous, lambda: session.go_to(1), lambda: session.set_threshold(0.0)):
        job()
        assert [mark.mark_id for mark in session.review.shown] == [own.mark_id]
        assert session.current is None or session.current.is_own
    for job in (session.undo, session.redo):
        job()
        assert all(mark.is_own for mark in session.review.shown)
    session.end_first_read()
    assert len(session.review.shown) == 6
    session.next()
    session.decide("accepted")
    session.close()


def test_the_mode_of_a_begun_reading_is_not_changed_by_the_settings(session: ReviewSession, tmp_path: Path) -> None:
    """The wish of the Preferences is for new readings."""
    session.close()
    again = begun(tmp_path, mode="second reader")
    assert again.review.mode == "concurrent"
    again.close()


def test_a_search_is_declared_with_the_share_that_was_seen(session: ReviewSession) -> None:
    """It is part of the record."""
    session.declare_searched(0.875)
    assert session.review.searched_share == 0.875


# -- keeping ------------------------------------------------------------------------------------------------------


def test_a_session_goes_on_exactly(session: ReviewSession, tmp_path: Path) -> None:
    """Review, current mark and place are the same in the next window."""
    session.next()
    session.decide("accepted")
    session.add_at((1.0, 2.0, 3.0))
    session.undo()
    session.go_to(2)
    place = {"window_hu": [-1350.0, 150.0], "place_xyz_mm": [1.5, 2.0, 3.0], "layout": "planes"}
    session.flush(place)
    session.close()
    again = begun(tmp_path)
    assert again.review == session.review
    assert current_id(again) == 2
    assert {key: again.place[key] for key in place} == place
    again.redo()
    assert again.review.marks[-1].is_own
    again.close()


def test_every_action_is_on_disk_before_any_save(session: ReviewSession) -> None:
    """The log alone, read from the disk, gives the review."""
    session.next()
    session.decide("uncertain")
    assert replay(entry.action for entry in session.entries) == session.review


def test_a_second_window_looks_and_does_not_write(session: ReviewSession, tmp_path: Path) -> None:
    """It may go through the marks; actions are refused, saving does nothing, the first goes on."""
    second = begun(tmp_path)
    assert second.is_read_only
    second.next()
    assert current_id(second) == 1
    with pytest.raises(ReviewError, match="another window"):
        second.decide("accepted")
    second.flush({"place_xyz_mm": [9.0, 9.0, 9.0]})
    second.close()
    session.next()
    session.decide("rejected")
    assert session.review.mark(1).status == "rejected"
    assert "place_xyz_mm" not in session.place


def test_marks_of_another_scan_are_refused(session: ReviewSession) -> None:
    """A result knows its scan by the voxels."""
    before = session.review
    with pytest.raises(ReviewError, match="another scan"):
        session.take_candidates(result(voxel_sha256="ef" * 32))
    assert session.review == before


def test_a_table_needs_no_model(tmp_path: Path) -> None:
    """All its marks are shown to begin with, under the table's hash and without operating points."""
    session = begun(tmp_path)
    session.take_candidates(candidates(), Source(sha256="0f"))
    assert len(session.review.shown) == 5
    assert (session.review.model_sha256, session.review.operating_points) == ("0f", {})
    session.close()


def test_the_operating_points_of_the_model_are_kept(session: ReviewSession, tmp_path: Path) -> None:
    """Also over a restart: the slider needs them."""
    shares = {rate: 0.5 + threshold / 2 for rate, threshold in POINTS.items()}
    session.take_candidates(result(), Source(operating_points=POINTS, sensitivities=shares))
    session.close()
    again = begun(tmp_path)
    assert (again.review.operating_points, again.review.sensitivities) == (POINTS, shares)
    again.close()
