"""A reading of one scan: its marks, what a reader decided about each, and how it came to that.

A *review* follows from its *actions* alone: the same actions in the same order give the
same review, which is how it is stored, restored and audited. Detector's marks can be
accepted, rejected or called uncertain, never deleted; a reader's own marks can be moved,
resized and deleted. The threshold hides marks and changes nothing about them. Positions
are (x, y, z), LPS mm.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import reduce, singledispatch

from napari_alnct.core.errors import ReviewError
from napari_alnct.core.review_actions import (
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
)
from napari_alnct.core.review_state import KEPT_IN_VIEW, Review, distance_mm, neighbour

DECISIONS = ("accepted", "rejected", "uncertain", "unreviewed")
REASONS = ("vessel", "scar", "airway", "lymph node")
SAME_PLACE_MM = 3.0  # a new candidate this near to a decided one of no known size is the same one

__all__ = ["DECISIONS", "KEPT_IN_VIEW", "REASONS", "Review", "apply", "distance_mm", "neighbour", "replay"]


def replay(actions: Iterable[ReviewAction], start: Review | None = None) -> Review:
    """Give the review that these actions lead to.

    Parameters
    ----------
    actions : iterable of ReviewAction
        In order.
    start : Review, optional
        Default: a fresh one.

    Returns
    -------
    Review

    Raises
    ------
    ReviewError
        If one of them is not allowed where it stands.
    """
    return reduce(apply, actions, start or Review())


def apply(review: Review, action: ReviewAction) -> Review:
    """Give the review after one more action.

    Parameters
    ----------
    review : Review
        Not changed.
    action : ReviewAction
        What happens.

    Returns
    -------
    Review

    Raises
    ------
    ReviewError
        If the action is not allowed now.

    Examples
    --------
    >>> mark = Mark(mark_id=1, position_xyz_mm=(0.0, 0.0, 0.0), diameter_mm=6.0, score=0.9)
    >>> review = apply(Review(), SetCandidates(marks=(mark,), threshold=0.5))
    >>> apply(review, Decide(mark_id=1, status="accepted")).marks[0].status
    'accepted'
    """
    return _applied(action, review)


@singledispatch
def _applied(action: ReviewAction, review: Review) -> Review:
    raise TypeError(f"no such action: {type(action).__name__}")


@_applied.register
def _(action: Decide, review: Review) -> Review:
    mark = review.mark(action.mark_id)
    if action.status not in DECISIONS:
        raise ReviewError(f"status {action.status!r} is none of {', '.join(DECISIONS)}")
    if mark.is_own:
        raise ReviewError(f"mark {mark.mark_id} is your own; delete it if it is none")
    if not review.is_unlocked:
        raise ReviewError("the detector's marks are hidden; end the first read before you decide on them")
    reason = action.reason if action.status == "rejected" else ""
    return _with_mark(review, replace(mark, status=action.status, reason=reason))


@_applied.register
def _(action: Annotate, review: Review) -> Review:
    return _with_mark(review, replace(review.mark(action.mark_id), note=action.note))


@_applied.register
def _(action: AddMark, review: Review) -> Review:
    if action.linked_to is not None:
        review.mark(action.linked_to)
    own = Mark(
        mark_id=review.last_id + 1,
        position_xyz_mm=action.position_xyz_mm,
        diameter_mm=action.diameter_mm,
        score=None,
        status="reader_added",
        linked_to=action.linked_to,
    )
    return replace(_with_marks(review, (*review.marks, own)), last_id=own.mark_id)


@_applied.register
def _(action: MoveMark, review: Review) -> Review:
    return _with_mark(review, replace(review.mark(action.mark_id), position_xyz_mm=action.position_xyz_mm))


@_applied.register
def _(action: ResizeMark, review: Review) -> Review:
    if action.diameter_mm <= 0:
        raise ReviewError(f"a diameter of {action.diameter_mm:g} mm is none; give one above 0")
    return _with_mark(review, replace(review.mark(action.mark_id), diameter_mm=action.diameter_mm))


@_applied.register
def _(action: DeleteMark, review: Review) -> Review:
    mark = review.mark(action.mark_id)
    if not mark.is_own:
        raise ReviewError(f"mark {mark.mark_id} is the detector's; reject it, it stays in the record")
    return _with_marks(review, tuple(other for other in review.marks if other is not mark))


@_applied.register
def _(action: LinkMark, review: Review) -> Review:
    mark = review.mark(action.mark_id)
    if not mark.is_own:
        raise ReviewError(f"mark {mark.mark_id} is the detector's; only your own marks are linked to one of those")
    if action.linked_to is not None and review.mark(action.linked_to).is_own:
        raise ReviewError(f"mark {action.linked_to} is your own; link to one of the detector's")
    return _with_mark(review, replace(mark, linked_to=action.linked_to))


@_applied.register
def _(action: SetThreshold, review: Review) -> Review:
    return replace(review, threshold=min(1.0, max(0.0, action.threshold)))


@_applied.register
def _(action: SetMode, review: Review) -> Review:
    if action.mode == review.mode:
        return review
    if any(not mark.is_own for mark in review.marks) and review.is_unlocked:
        raise ReviewError("the detector's marks were seen already; choose the mode before detection")
    return replace(review, mode=action.mode, is_unlocked=action.mode == "concurrent")


@_applied.register
def _(action: LockFirstRead, review: Review) -> Review:
    if review.is_unlocked:
        raise ReviewError("there is no first read to end: the detector's marks are shown")
    return replace(review, is_unlocked=True, undone=(), redone=())  # what was found unaided stays as it is


@_applied.register
def _(action: MarkSearched, review: Review) -> Review:
    return replace(review, searched_share=action.share_of_slices, searched_of_lungs=action.is_of_lungs)


@_applied.register
def _(action: SetCandidates, review: Review) -> Review:
    """Take new marks; what was decided or made before is carried over and never lost."""
    decided = [mark for mark in review.marks if not mark.is_own and mark.status != "unreviewed"]
    own = [mark for mark in review.marks if mark.is_own]
    taken, marks = set[int](), list[Mark]()
    for new in sorted(action.marks, key=lambda mark: -(mark.score or 0.0)):
        same = _same_place(new, [mark for mark in decided if mark.mark_id not in taken])
        if same is not None:
            taken.add(same.mark_id)
            new = replace(new, status=same.status, reason=same.reason, note=same.note)
        marks.append(new)
    marks += [mark for mark in decided if mark.mark_id not in taken]
    marks.sort(key=lambda mark: -(mark.score or 0.0))
    numbered = [replace(mark, mark_id=number) for number, mark in enumerate((*marks, *own), start=1)]
    return replace(
        review,
        marks=tuple(_relinked(numbered, review)),
        threshold=action.threshold,
        model_name=action.model_name,
        model_sha256=action.model_sha256,
        operating_points=dict(action.operating_points),
        sensitivities=dict(action.sensitivities),
        undone=(),
        redone=(),
        last_id=max(len(numbered), review.last_id),
    )


_applied.register(NoteExport, lambda action, review: review)


@_applied.register(NoteExplained)
@_applied.register(NoteMapShown)
def _(action: NoteExplained | NoteMapShown, review: Review) -> Review:
    review.mark(action.mark_id)
    return review


@_applied.register
def _(action: Undo, review: Review) -> Review:
    if not review.undone:
        raise ReviewError("there is nothing to undo")
    *earlier, last = review.undone
    return replace(review, marks=last, undone=tuple(earlier), redone=(*review.redone, review.marks))


@_applied.register
def _(action: Redo, review: Review) -> Review:
    if not review.redone:
        raise ReviewError("there is nothing to redo")
    *later, last = review.redone
    return replace(review, marks=last, redone=tuple(later), undone=(*review.undone, review.marks))


def _same_place(new: Mark, others: Sequence[Mark]) -> Mark | None:
    def apart_mm(other: Mark) -> float:
        return distance_mm(new.position_xyz_mm, other.position_xyz_mm)

    reach = (other.diameter_mm / 2 if other.diameter_mm > 0 else SAME_PLACE_MM for other in others)
    near = [other for other, mm in zip(others, reach, strict=True) if apart_mm(other) <= mm]
    return min(near, key=apart_mm, default=None)


def _relinked(numbered: Sequence[Mark], before: Review) -> list[Mark]:
    """Give the marks with links to what now lies where the linked mark was; a link to nothing ends."""
    proposed = [mark for mark in numbered if not mark.is_own]

    def now(mark_id: int) -> int | None:
        same = _same_place(before.mark(mark_id), proposed)
        return None if same is None else same.mark_id

    return [mark if mark.linked_to is None else replace(mark, linked_to=now(mark.linked_to)) for mark in numbered]


def _with_mark(review: Review, changed: Mark) -> Review:
    marks = tuple(changed if mark.mark_id == changed.mark_id else mark for mark in review.marks)
    return review if marks == review.marks else _with_marks(review, marks)


def _with_marks(review: Review, marks: tuple[Mark, ...]) -> Review:
    """Give the review with other marks; this can be undone."""
    return replace(review, marks=marks, undone=(*review.undone, review.marks), redone=())
