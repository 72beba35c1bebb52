"""A reading: decisions, undo, threshold, modes, new marks; and that actions alone make it."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from napari_alnct.core.errors import ReviewError
from napari_alnct.core.review import Review, apply, neighbour, replay
from napari_alnct.core.review_actions import (
    KINDS,
    AddMark,
    Annotate,
    Decide,
    DeleteMark,
    LinkMark,
    LockFirstRead,
    Mark,
    MarkSearched,
    MoveMark,
    NoteExplained,
    NoteExport,
    NoteMapShown,
    Redo,
    ResizeMark,
    ReviewAction,
    SetCandidates,
    SetMode,
    SetThreshold,
    Undo,
    action_from_json,
    action_to_json,
)

SCORES = (0.9, 0.6, 0.4, 0.1)


def candidates(threshold: float = 0.3, *, shift_mm: float = 0.0) -> SetCandidates:
    """Give four marks 20 mm apart, 8 mm wide."""
    marks = tuple(
        Mark(mark_id=k + 1, position_xyz_mm=(20.0 * k + shift_mm, 0.0, 0.0), diameter_mm=8.0, score=score)
        for k, score in enumerate(SCORES)
    )
    return SetCandidates(
        marks=marks,
        threshold=threshold,
        model_name="m",
        model_sha256="ab",
        operating_points={1.0: 0.3},
        sensitivities={1.0: 0.75},
    )


@pytest.fixture
def review() -> Review:
    return apply(Review(), candidates())


def statuses(review: Review) -> list[str]:
    return [mark.status for mark in review.marks]


def test_n_decisions_and_n_undos_give_the_first_state(review: Review) -> None:
    """And n redos give the last one again."""
    kinds = ("accepted", "rejected", "uncertain")
    after = replay([Decide(mark_id=1 + k % 4, status=kinds[k % 3]) for k in range(7)], review)
    back = replay([Undo()] * len(after.undone), after)
    assert back.marks == review.marks
    assert replay([Redo()] * len(back.redone), back).marks == after.marks


def test_a_decision_that_changes_nothing_is_no_step(review: Review) -> None:
    """Accepting twice needs one undo."""
    twice = replay([Decide(mark_id=1, status="accepted")] * 2, review)
    assert apply(twice, Undo()).marks == review.marks
    with pytest.raises(ReviewError, match="nothing to undo"):
        replay([Undo(), Undo()], twice)


def test_a_new_decision_ends_what_could_be_redone(review: Review) -> None:
    """As in any editor."""
    after = replay([Decide(mark_id=1, status="accepted"), Undo(), Decide(mark_id=2, status="rejected")], review)
    assert not after.can_redo
    with pytest.raises(ReviewError, match="nothing to redo"):
        apply(after, Redo())


def test_the_threshold_hides_and_changes_nothing(review: Review) -> None:
    """Marks below come back; findings stay in view; what was decided stays decided."""
    accepted = apply(review, Decide(mark_id=3, status="accepted"))
    rejected = apply(accepted, Decide(mark_id=2, status="rejected", reason="vessel"))
    high = apply(rejected, SetThreshold(threshold=0.95))
    assert [mark.mark_id for mark in high.shown] == [3]
    low = apply(high, SetThreshold(threshold=-1.0))
    assert low.threshold == 0.0
    assert [mark.mark_id for mark in low.shown] == [1, 2, 3, 4]
    assert low.mark(2).reason == "vessel"
    assert low.marks == rejected.marks


def test_a_reason_belongs_to_a_rejection(review: Review) -> None:
    """It goes when the mark is accepted after all."""
    after = replay([Decide(mark_id=1, status="rejected", reason="scar"), Decide(mark_id=1, status="accepted")], review)
    assert after.mark(1).reason == ""


def test_next_visits_every_shown_mark_once_in_order_and_stops(review: Review) -> None:
    """Three of four are at or above the threshold; back again the other way."""
    seen, at = [], None
    while (mark := neighbour(review, at, 1)) is not None:
        seen.append(at := mark.mark_id)
    assert seen == [1, 2, 3]
    back = []
    while (mark := neighbour(review, at, -1)) is not None:
        back.append(at := mark.mark_id)
    assert back == [2, 1]
    decided = apply(review, Decide(mark_id=2, status="accepted"))
    undecided = neighbour(decided, 1, 1, wanted=lambda mark: mark.status == "unreviewed")
    assert undecided is not None
    assert undecided.mark_id == 3


def test_own_marks_can_be_moved_resized_noted_linked_and_deleted(review: Review) -> None:
    """The detector's cannot be deleted, and own ones are not decided upon."""
    added = apply(review, AddMark(position_xyz_mm=(1.0, 2.0, 3.0), diameter_mm=5.0))
    assert (added.marks[-1].mark_id, added.marks[-1].status) == (5, "reader_added")
    changed = replay(
        [
            MoveMark(mark_id=5, position_xyz_mm=(4.0, 5.0, 6.0)),
            ResizeMark(mark_id=5, diameter_mm=7.5),
            Annotate(mark_id=5, note="beside the hilum"),
            LinkMark(mark_id=5, linked_to=4),
        ],
        added,
    )
    assert changed.mark(5) == replace(
        added.mark(5), position_xyz_mm=(4.0, 5.0, 6.0), diameter_mm=7.5, note="beside the hilum", linked_to=4
    )
    assert apply(changed, DeleteMark(mark_id=5)).marks == review.marks
    for action, reason in (
        (DeleteMark(mark_id=1), "reject it"),
        (Decide(mark_id=5, status="accepted"), "your own"),
        (LinkMark(mark_id=1, linked_to=2), "only your own"),
        (LinkMark(mark_id=5, linked_to=5), "your own; link"),
        (ResizeMark(mark_id=5, diameter_mm=0.0), "above 0"),
        (Decide(mark_id=9, status="accepted"), "no mark 9"),
        (Decide(mark_id=1, status="perhaps"), "none of accepted"),
    ):
        with pytest.raises(ReviewError, match=reason):
            apply(changed, action)


def test_a_number_is_never_used_twice(review: Review) -> None:
    """Not after an undo whose redo is gone either."""
    after = replay(
        [
            AddMark(position_xyz_mm=(0, 0, 0)),
            Undo(),
            Decide(mark_id=1, status="accepted"),
            AddMark(position_xyz_mm=(9, 0, 0)),
        ],
        review,
    )
    assert after.marks[-1].mark_id == 6


def test_second_reader_sees_no_mark_before_the_first_read_is_done() -> None:
    """Neither in the list, nor by going on, nor can one be decided; own marks of that read stay for good."""
    hidden = replay([SetMode(mode="second reader"), candidates(0.0)])
    assert hidden.shown == ()
    assert neighbour(hidden, None, 1) is None
    with pytest.raises(ReviewError, match="end the first read"):
        apply(hidden, Decide(mark_id=1, status="accepted"))
    read = replay([AddMark(position_xyz_mm=(0.0, 0.0, 0.0)), LockFirstRead()], hidden)
    assert len(read.shown) == 5
    assert not read.can_undo
    with pytest.raises(ReviewError, match="no first read to end"):
        apply(read, LockFirstRead())


def test_the_mode_is_chosen_before_marks_are_seen(review: Review) -> None:
    """Afterwards it would be a claim, not a way to read."""
    with pytest.raises(ReviewError, match="before detection"):
        apply(review, SetMode(mode="second reader"))
    assert apply(review, SetMode(mode="concurrent")) is review


def test_a_new_detection_loses_no_decision(review: Review) -> None:
    """Decisions and links follow marks within the old one's radius; decided marks without a partner stay."""
    before = replay(
        [
            Decide(mark_id=1, status="accepted"),
            Decide(mark_id=4, status="rejected", reason="vessel"),
            AddMark(position_xyz_mm=(20.0, 1.0, 0.0), linked_to=2),
        ],
        review,
    )
    again = candidates(shift_mm=3.0)
    fewer = replace(again, marks=again.marks[:3])
    after = apply(before, fewer)
    assert statuses(after) == ["accepted", "unreviewed", "unreviewed", "rejected", "reader_added"]
    assert after.marks[0].position_xyz_mm[0] == 3.0
    assert after.marks[3].position_xyz_mm[0] == 60.0
    assert [mark.mark_id for mark in after.marks] == [1, 2, 3, 4, 5]
    assert after.marks[4].linked_to == 2
    far = apply(before, candidates(shift_mm=9.0))
    assert statuses(far).count("accepted") == 1
    assert len(far.marks) == 4 + 2 + 1
    assert far.marks[-1].linked_to is None


def test_findings_are_what_the_reader_took_for_nodules(review: Review) -> None:
    """Accepted, uncertain and added; not rejected or untouched."""
    after = replay(
        [
            Decide(mark_id=1, status="accepted"),
            Decide(mark_id=2, status="rejected"),
            Decide(mark_id=4, status="uncertain"),
            AddMark(position_xyz_mm=(0.0, 0.0, 0.0)),
            MarkSearched(share_of_slices=0.97),
        ],
        review,
    )
    assert [mark.mark_id for mark in after.findings] == [1, 4, 5]
    assert (after.n_decided, after.searched_share) == (4, 0.97)


FACTS = {"method": "hirescam", "layer": "encoder.stages.1", "score_name": "second look", "model_sha256": "ab" * 32}


def random_action(draw: random.Random, review: Review) -> ReviewAction:
    """Give any action; it may not be allowed."""
    number = draw.randint(1, max(1, review.last_id))
    place = tuple(draw.uniform(-90, 90) for _ in range(3))
    return draw.choice(
        [
            Decide(mark_id=number, status=draw.choice(["accepted", "rejected", "uncertain", "unreviewed"])),
            AddMark(position_xyz_mm=place, diameter_mm=draw.uniform(3, 9)),
            MoveMark(mark_id=number, position_xyz_mm=place),
            ResizeMark(mark_id=number, diameter_mm=draw.uniform(3, 20)),
            DeleteMark(mark_id=number),
            Annotate(mark_id=number, note="=1+1"),
            LinkMark(mark_id=number, linked_to=draw.choice([None, 1])),
            SetThreshold(threshold=draw.random()),
            draw.choice([NoteExplained, NoteMapShown])(mark_id=number, **FACTS),
            Undo(),
            Redo(),
            candidates(shift_mm=draw.uniform(0, 9)),
        ]
    )


@pytest.mark.parametrize("seed", range(20))
def test_actions_alone_make_the_review_through_json_too(seed: int) -> None:
    """A hundred random actions, those that are allowed written and read again: the same review."""
    draw, review, done = random.Random(seed), Review(), []
    for _ in range(100):
        action = random_action(draw, review)
        try:
            review = apply(review, action)
        except ReviewError:
            continue
        done.append(action)
    assert len(done) > 30
    assert replay(action_from_json(action_to_json(action)) for action in done) == review
    ids = [mark.mark_id for mark in review.marks]
    assert len(ids) == len(set(ids))


def test_an_export_is_a_line_of_the_log_and_changes_nothing(review: Review) -> None:
    """Also what can be undone stays."""
    decided = apply(review, Decide(mark_id=1, status="accepted"))
    assert apply(decided, action_from_json(action_to_json(NoteExport(formats="csv, html")))) == decided


@pytest.mark.parametrize("kind", [NoteExplained, NoteMapShown])
def test_an_explanation_is_a_line_of_the_log_and_changes_nothing(
    review: Review, kind: type[NoteExplained | NoteMapShown]
) -> None:
    """Also what can be undone and redone stays; of a mark that is not there it is refused."""
    decided = replay([Decide(mark_id=1, status="accepted"), Decide(mark_id=2, status="rejected"), Undo()], review)
    told = action_from_json(action_to_json(kind(mark_id=2, **FACTS)))
    assert told == kind(mark_id=2, **FACTS)
    assert apply(decided, told) == decided
    assert apply(decided, told).redone == decided.redone != ()
    with pytest.raises(ReviewError, match="no mark 9"):
        apply(decided, kind(mark_id=9, **FACTS))


@pytest.mark.parametrize("seed", range(5))
def test_a_log_with_explanations_leads_where_it_does_without(seed: int) -> None:
    """Replay identity: taken out of a random log, or put in anywhere, they make no difference."""
    draw, review, done = random.Random(100 + seed), Review(), []
    for _ in range(100):
        action = random_action(draw, review)
        try:
            review = apply(review, action)
        except ReviewError:
            continue
        done.append(action)
    notes = (NoteExplained, NoteMapShown)
    assert any(isinstance(action, notes) for action in done)
    assert replay(action for action in done if not isinstance(action, notes)) == replay(done)


def test_every_action_has_a_name_and_strange_ones_are_refused() -> None:
    """A record of a later version is not half understood."""
    assert len(KINDS) == 17
    for values in (
        {"kind": "erase"},
        {"kind": "decide"},
        {"kind": "undo", "why": 1},
        {"kind": "move", "mark_id": 1, "position_xyz_mm": [1, 2]},
    ):
        with pytest.raises(ReviewError, match="does not know"):
            action_from_json(values)
