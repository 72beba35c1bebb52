"""What a reading came to, in words: was the scan searched by machine, what was found, what is still open.

A scan that nobody searched, a detection that failed and a detection that found nothing look
alike in an empty list; here they are told apart.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from napari_alnct.core.notice import NO_CANDIDATE
from napari_alnct.core.operating_points import OperatingScale
from napari_alnct.core.proposals import TABLE_NAME
from napari_alnct.core.review import Review
from napari_alnct.core.review_actions import Mark, ReviewAction, SetCandidates
from napari_alnct.core.wording import counted

CandidateState = Literal["not run", "failed", "hidden", "none", "some"]
STATE_TEXT: dict[CandidateState, str] = {
    "not run": "No detector was run on this scan and no candidates were loaded: no machine has searched it.",
    "failed": "The detection failed on this scan: no machine has searched it.",
    "hidden": "The detector's marks are hidden until the first read is ended.",
}
STATUS_TEXT = {
    "accepted": "accepted",
    "uncertain": "uncertain",
    "reader_added": "added by the reader",
    "rejected": "rejected",
    "unreviewed": "not decided",
}
NO_MODEL = "not known"


@dataclass(frozen=True, kw_only=True)
class ReviewSummary:
    """A reading in numbers and sentences.

    Parameters
    ----------
    state : str
        ``not run``, ``failed``, ``hidden`` (before the first read is ended), ``none`` (no mark at or above the
        threshold) or ``some``.
    counts : dict of str to int
        Marks that may be told of, by status.
    results : tuple of str
        What was found, in one to three sentences.
    cautions : tuple of str
        What is still open, one sentence each.
    """

    state: CandidateState
    counts: dict[str, int]
    results: tuple[str, ...]
    cautions: tuple[str, ...]


def summarise(review: Review, actions: Sequence[ReviewAction], *, has_failed: bool = False) -> ReviewSummary:
    """Give what a reading came to.

    Parameters
    ----------
    review : Review
        Where it stands.
    actions : sequence of ReviewAction
        What led there.
    has_failed : bool, optional
        Whether the last run of the detector on this scan failed.

    Returns
    -------
    ReviewSummary

    Examples
    --------
    >>> summarise(Review(), []).state
    'not run'
    """
    state = candidate_state(review, actions, has_failed=has_failed)
    return ReviewSummary(
        state=state,
        counts=dict(Counter(mark.status for mark in told_marks(review))),
        results=(_candidate_sentence(review, state), _finding_sentence(review)),
        cautions=tuple(_cautions(review, actions, state, has_failed)),
    )


def candidate_state(review: Review, actions: Sequence[ReviewAction], *, has_failed: bool = False) -> CandidateState:
    """Tell whether candidates were looked for, and whether there are any to see.

    Parameters
    ----------
    review : Review
        Where the reading stands.
    actions : sequence of ReviewAction
        What led there.
    has_failed : bool, optional
        Whether the last run of the detector failed.

    Returns
    -------
    str
        As in `ReviewSummary`; candidates of an earlier run count although a later one failed.
    """
    proposed = [mark for mark in review.marks if not mark.is_own]
    if not proposed and not any(isinstance(action, SetCandidates) for action in actions):
        return "failed" if has_failed else "not run"
    if not review.is_unlocked:
        return "hidden"
    return "some" if any(review.is_shown(mark) for mark in proposed) else "none"


def told_marks(review: Review) -> tuple[Mark, ...]:
    """Give the marks that may be told of: before the first read is ended, the reader's own alone.

    Parameters
    ----------
    review : Review
        Any review.

    Returns
    -------
    tuple of Mark
        In the order of the list; marks below the threshold are among them.
    """
    return tuple(mark for mark in review.marks if mark.is_own or review.is_unlocked)


def is_finished(review: Review) -> bool:
    """Tell whether a reading is done: marks shown, all decided, and the lungs declared searched.

    Parameters
    ----------
    review : Review
        Where it stands. In the mode second reader the unaided first read is the search.

    Returns
    -------
    bool
    """
    is_searched = review.searched_share is not None or review.mode == "second reader"
    return review.is_unlocked and is_searched and review.n_decided == len(review.shown)


def expectation(review: Review) -> str:
    """Give the false marks per scan, and where known the share of nodules, to expect at the threshold, in words.

    Parameters
    ----------
    review : Review
        With the model's operating points.

    Returns
    -------
    str
        ``not known`` where the model came without them.
    """
    scale = OperatingScale.of(review.operating_points, review.sensitivities)
    return "not known" if scale is None else scale.text(review.threshold)


def model_text(review: Review) -> str:
    """Give what proposed the marks, in words.

    Parameters
    ----------
    review : Review
        Any review.

    Returns
    -------
    str
        The name of the model, or that it is not known.
    """
    if review.model_name == TABLE_NAME:
        return f"{NO_MODEL}, from {TABLE_NAME}"
    return review.model_name or NO_MODEL


def _candidate_sentence(review: Review, state: CandidateState) -> str:
    if state in STATE_TEXT:
        return STATE_TEXT[state]
    model = model_text(review)
    if state == "none":
        return NO_CANDIDATE.format(threshold=review.threshold, model=model)
    proposed = [mark for mark in review.marks if not mark.is_own]
    n_shown = sum(map(review.is_shown, proposed))
    shown = f"{n_shown} of {counted(len(proposed), 'candidate')} shown"
    return f"{shown} at the threshold {review.threshold:.2f} (model {model})."


def _finding_sentence(review: Review) -> str:
    if not review.findings:
        return "The reader recorded no finding."
    counts = Counter(mark.status for mark in review.findings)
    parts = ", ".join(f"{counts[status]} {STATUS_TEXT[status]}" for status in STATUS_TEXT if counts[status])
    return f"The reader recorded {counted(len(review.findings), 'finding')}: {parts}."


def _cautions(review: Review, actions: Sequence[ReviewAction], state: CandidateState, has_failed: bool) -> list[str]:
    found = []
    if has_failed and state != "failed":
        found.append("The last detection failed; the marks are those of an earlier run.")
    shown = [mark for mark in review.shown if not mark.is_own]
    n_open = sum(mark.status == "unreviewed" for mark in shown)
    if n_open:
        found.append(f"{n_open} of {len(shown)} shown {_marks(len(shown))} not decided: the reading is not finished.")
    n_below = sum(not review.is_shown(mark) for mark in review.marks) if review.is_unlocked else 0
    if n_below:
        found.append(f"{n_below} {_marks(n_below)} below the threshold and not shown.")
    if not review.is_unlocked:
        found.append(f"Mode {review.mode}: the first read is not ended.")
    if review.searched_share is None:
        found.append("The reader has not declared the lungs searched beyond the marks.")
    return found


def _marks(n: int) -> str:
    return "mark is" if n == 1 else "marks are"
