"""What a reading came to: never run, failed, hidden, nothing found and something found are told apart."""

from __future__ import annotations

import pytest

from napari_alnct.core.notice import NO_CANDIDATE
from napari_alnct.core.review import Review, replay
from napari_alnct.core.review_actions import (
    AddMark,
    Decide,
    LockFirstRead,
    Mark,
    MarkSearched,
    ReviewAction,
    SetCandidates,
    SetMode,
    SetThreshold,
)
from napari_alnct.core.review_summary import expectation, is_finished, summarise, told_marks

MARKS = tuple(
    Mark(mark_id=k + 1, position_xyz_mm=(10.0 * k, 0.0, 0.0), diameter_mm=6.0, score=score)
    for k, score in enumerate((0.9, 0.6, 0.3))
)
FOUND = SetCandidates(marks=MARKS, threshold=0.5, model_name="m", model_sha256="ab", operating_points={1.0: 0.5})
NOTHING = SetCandidates(marks=(), threshold=0.5, model_name="m", model_sha256="ab")
SECOND = SetMode(mode="second reader")


@pytest.mark.parametrize(
    ("actions", "has_failed", "state", "sentence"),
    [
        ((), False, "not run", "No detector was run on this scan"),
        ((AddMark(position_xyz_mm=(1.0, 1.0, 1.0)),), False, "not run", "No detector was run"),
        ((), True, "failed", "The detection failed on this scan"),
        ((NOTHING,), False, "none", "No candidate above 0.50 (model m). This does not mean that there is no nodule."),
        ((FOUND, SetThreshold(threshold=0.95)), False, "none", "No candidate above 0.95 (model m)."),
        ((SECOND, FOUND), False, "hidden", "The detector's marks are hidden"),
        ((SECOND, FOUND, LockFirstRead()), False, "some", "2 of 3 candidates shown at the threshold 0.50 (model m)."),
        ((FOUND,), True, "some", "2 of 3 candidates shown"),
    ],
    ids=[
        "never run",
        "own mark only",
        "failed",
        "found none",
        "none above",
        "hidden",
        "first read ended",
        "fails again",
    ],
)
def test_states_are_told_apart(actions: tuple[ReviewAction, ...], has_failed: bool, state: str, sentence: str) -> None:
    """Each of them has a state and a sentence of its own."""
    summary = summarise(replay(actions), actions, has_failed=has_failed)
    assert summary.state == state
    assert summary.results[0].startswith(sentence)


def test_the_empty_result_has_the_words_of_the_design() -> None:
    """To the letter."""
    assert NO_CANDIDATE.format(threshold=0.5, model="m") == (
        "No candidate above 0.50 (model m). This does not mean that there is no nodule."
    )


def test_findings_are_counted_by_how_they_came() -> None:
    """One accepted, one uncertain, one added, one rejected that is no finding."""
    actions = (
        FOUND,
        *(Decide(mark_id=k + 1, status=s) for k, s in enumerate(("accepted", "uncertain", "rejected"))),
        AddMark(position_xyz_mm=(50.0, 0.0, 0.0)),
    )
    summary = summarise(replay(actions), actions)
    assert summary.results[1] == "The reader recorded 3 findings: 1 accepted, 1 uncertain, 1 added by the reader."
    assert summary.counts == {"accepted": 1, "uncertain": 1, "rejected": 1, "reader_added": 1}


def test_what_is_open_is_said() -> None:
    """Undecided, hidden by the threshold, not searched, an earlier run; nothing of it when all is done."""
    summary = summarise(replay([FOUND]), [FOUND], has_failed=True)
    assert summary.cautions == (
        "The last detection failed; the marks are those of an earlier run.",
        "2 of 2 shown marks are not decided: the reading is not finished.",
        "1 mark is below the threshold and not shown.",
        "The reader has not declared the lungs searched beyond the marks.",
    )
    done = (
        FOUND,
        SetThreshold(threshold=0.0),
        *(Decide(mark_id=k, status="rejected") for k in (1, 2, 3)),
        MarkSearched(share_of_slices=0.97),
    )
    assert summarise(replay(done), done).cautions == ()


def test_hidden_marks_are_not_told_of() -> None:
    """Before the first read is ended, only the reader's own are."""
    review = replay([SECOND, FOUND, AddMark(position_xyz_mm=(1.0, 1.0, 1.0))])
    assert [mark.is_own for mark in told_marks(review)] == [True]
    summary = summarise(review, [SECOND, FOUND])
    assert summary.counts == {"reader_added": 1}
    assert "Mode second reader: the first read is not ended." in summary.cautions
    assert not any("3" in sentence for sentence in (*summary.results, *summary.cautions))


def test_expected_false_marks_come_from_the_model() -> None:
    """Its own number at its threshold; not known without a table."""
    assert expectation(replay([FOUND])) == "1 false mark per scan"
    assert expectation(Review()) == "not known"


@pytest.mark.parametrize(
    ("actions", "is_done"),
    [
        ((), False),
        ((FOUND, Decide(mark_id=1, status="accepted"), Decide(mark_id=2, status="rejected")), False),
        (
            (
                FOUND,
                Decide(mark_id=1, status="accepted"),
                Decide(mark_id=2, status="rejected"),
                MarkSearched(share_of_slices=1.0),
            ),
            True,
        ),
        ((FOUND, MarkSearched(share_of_slices=1.0)), False),
        ((SetMode(mode="second reader"), MarkSearched(share_of_slices=1.0)), False),
        ((SetMode(mode="second reader"), FOUND, LockFirstRead(), SetThreshold(threshold=0.99)), True),
    ],
    ids=["fresh", "not searched", "done", "not decided", "first read not ended", "second reader, none above"],
)
def test_when_a_reading_is_done(actions: tuple[ReviewAction, ...], is_done: bool) -> None:
    """Marks shown and decided, lungs searched; a second reader's first read is the search."""
    assert is_finished(replay(actions)) == is_done
