"""All readings of a folder as two tables for analysis: one row a decision, one row a case and reader.

A mark of a reader's own that was made before the first read was ended was *found unaided*. Readers and
cases are told by name, never by file; a case that nobody has begun has a row too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from napari_alnct.core.errors import ReviewError, SettingsError
from napari_alnct.core.notice import NOTICE
from napari_alnct.core.review import SAME_PLACE_MM, Review, apply, distance_mm
from napari_alnct.core.review_actions import LockFirstRead, Mark, MarkSearched, NoteMapShown, SetCandidates
from napari_alnct.core.review_summary import is_finished, told_marks
from napari_alnct.io.csv_files import Cell, Number
from napari_alnct.io.reviews import AUDIT, HASH_LENGTH, AuditEntry, read_audit, reader_folder
from napari_alnct.io.study import Study
from napari_alnct.io.tables import DIAMETER, POSITION, SCORE

DECISION_COLUMNS = (
    *("case", "reader", "mark", "source", "status", "is_unaided", "is_shown", "reason", "note", "linked_to"),
    *(*POSITION, DIAMETER, SCORE, "decided_utc", "map_shown_utc", "is_after_map"),
    *("mode", "threshold", "model", "model_sha256", "notice"),
)
CASE_COLUMNS = (
    *("case", "reader", "place_in_order", "state", "mode", "first_utc", "last_utc", "first_read_ended_utc"),
    *("searched_utc", "searched_share", "searched_of", "n_actions", "n_candidates", "n_shown", "n_undecided"),
    *("n_findings", "n_own", "n_own_unaided", "threshold", "model", "model_sha256"),
    *("voxel_sha256_start", "fault", "notice"),
)


@dataclass(frozen=True, kw_only=True)
class StoredReading:
    """A reading as found on disk; ``fault`` says why its record cannot be used."""

    voxel_start: str
    reader: str
    entries: tuple[AuditEntry, ...] = ()
    fault: str = ""


@dataclass(frozen=True, kw_only=True)
class TracedReading:
    """What became of a reading, and when.

    Parameters
    ----------
    review : Review
        Where it stands.
    decided_utc : dict of int to str
        Mark to the time of its last decision; an own mark's is that of its making.
    unaided : frozenset of int
        Own marks made before the first read was ended.
    shown_utc : dict of int to str
        Mark to the time at which its heat map was first seen.
    after_map : frozenset of int
        Marks whose last decision came after their heat map was seen.
    first_read_utc, searched_utc : str
        When, empty where it did not happen.
    """

    review: Review
    decided_utc: dict[int, str]
    unaided: frozenset[int]
    shown_utc: dict[int, str]
    after_map: frozenset[int]
    first_read_utc: str
    searched_utc: str


def find_readings(root: Path) -> list[StoredReading]:
    """Give all readings below a folder of readings; nothing is locked or changed.

    Parameters
    ----------
    root : Path
        As `napari_alnct.io.reviews.ReviewStore` has it.

    Returns
    -------
    list of StoredReading
        In order of scan and reader; damaged ones with their fault.

    Raises
    ------
    SettingsError
        If the folder is not there, or holds no reading.
    """
    root = Path(root)
    found = [_stored(path) for path in sorted(root.glob(f"{'[0-9a-f]' * HASH_LENGTH}/*/{AUDIT}"))]
    if not found:
        raise SettingsError(f"{root.name} holds no readings; name the folder of readings of the Preferences")
    return found


def trace(entries: Sequence[AuditEntry]) -> TracedReading:
    """Give what became of a reading, and when, by going through its log.

    Parameters
    ----------
    entries : sequence of AuditEntry
        The whole log.

    Returns
    -------
    TracedReading
    """
    trail = _Trail()
    for entry in entries:
        trail.follow(entry)
    own = {mark.mark_id for mark in trail.review.marks if mark.is_own}
    return TracedReading(
        review=trail.review,
        decided_utc=trail.times,
        unaided=frozenset(own & trail.unaided),
        shown_utc=trail.shown,
        after_map=frozenset(trail.after_map),
        first_read_utc=trail.first_read_utc,
        searched_utc=trail.searched_utc,
    )


@dataclass(kw_only=True)
class _Trail:
    """What is known of a reading up to a line of its log; times and sets are by mark."""

    review: Review = field(default_factory=Review)
    times: dict[int, str] = field(default_factory=dict)
    unaided: set[int] = field(default_factory=set)
    shown: dict[int, str] = field(default_factory=dict)
    after_map: set[int] = field(default_factory=set)
    first_read_utc: str = ""
    searched_utc: str = ""

    def follow(self, entry: AuditEntry) -> None:
        """Go on by a line."""
        before, action, utc = self.review, entry.action, entry.utc
        self.review = apply(before, action)
        if isinstance(action, SetCandidates):
            self._renumber(before)
        else:
            self._time(before, utc)
        if not self.review.is_unlocked or isinstance(action, LockFirstRead):
            self.unaided = {mark.mark_id for mark in self.review.marks if mark.is_own}
        if isinstance(action, LockFirstRead):
            self.first_read_utc = utc
        elif isinstance(action, MarkSearched):
            self.searched_utc = utc
        elif isinstance(action, NoteMapShown):
            self.shown.setdefault(action.mark_id, utc)

    def _time(self, before: Review, utc: str) -> None:
        """Give decisions that changed this time, and tell whether the heat map had been seen by then."""
        status = {mark.mark_id: mark.status for mark in before.marks}
        decided = {mark.mark_id: mark.status for mark in self.review.marks if mark.status != "unreviewed"}
        new = {mark_id for mark_id, now in decided.items() if status.get(mark_id) != now}
        self.times = {mark_id: utc if mark_id in new else self.times[mark_id] for mark_id in decided}
        self.after_map = {k for k in decided if k in (self.shown if k in new else self.after_map)}

    def _renumber(self, before: Review) -> None:
        """Follow marks that got new numbers."""
        same = _same_marks(before, self.review)
        self.times = {new: self.times[old] for new, old in same.items()}
        self.unaided = {new for new, old in same.items() if old in self.unaided}
        self.after_map = {new for new, old in same.items() if old in self.after_map}
        places = {mark.mark_id: mark.position_xyz_mm for mark in before.marks}
        seen = [(places[old], utc) for old, utc in self.shown.items() if old in places]
        self.shown = {}
        for mark in self.review.marks:
            times = [utc for place, utc in seen if distance_mm(place, mark.position_xyz_mm) <= SAME_PLACE_MM]
            if times:
                self.shown[mark.mark_id] = min(times)


def study_rows(
    stored: Sequence[StoredReading], study: Study | None = None
) -> tuple[list[tuple[Cell, ...]], list[tuple[Cell, ...]]]:
    """Give the rows of both tables.

    Parameters
    ----------
    stored : sequence of StoredReading
        From `find_readings`.
    study : Study, optional
        Names cases and readers, and says which are missing; without it a case is the start of its voxel hash.

    Returns
    -------
    decisions : list of tuple
        Cells of `DECISION_COLUMNS`: all marks that were shown to a reader or made by one.
    cases : list of tuple
        Cells of `CASE_COLUMNS`; of a study, one row for each case and reader, begun or not.
    """
    decisions: list[tuple[Cell, ...]] = []
    cases: list[tuple[Cell, ...]] = []
    for case, place, reading in _wanted(stored, study):
        traced = None if reading.fault or not reading.entries else trace(reading.entries)
        cases.append(_case_row(case, place, reading, traced))
        if traced is not None:
            decisions += [_decision_row(case, reading, traced, mark) for mark in told_marks(traced.review)]
    return decisions, cases


def _wanted(stored: Sequence[StoredReading], study: Study | None) -> Iterator[tuple[str, Cell, StoredReading]]:
    """Give case, place in the reader's order and reading, in the order of the tables."""
    if study is None:
        yield from ((reading.voxel_start, "", reading) for reading in stored)
        return
    by_place = {(reading.voxel_start, reader_folder(reading.reader)): reading for reading in stored}
    for reader in study.readers:
        order = study.order_for(reader)
        for case in study.cases:
            start = case.voxel_sha256[:HASH_LENGTH]
            missing = StoredReading(voxel_start=start, reader=reader)
            reading = by_place.get((start, reader_folder(reader)), missing)
            yield case.name, order.index(case) + 1, reading


def _stored(path: Path) -> StoredReading:
    folder = path.parent
    try:
        entries = tuple(read_audit(path)[0])
    except ReviewError as error:
        return StoredReading(voxel_start=folder.parent.name, reader=folder.name, fault=str(error))
    reader = entries[-1].reader if entries else folder.name
    return StoredReading(voxel_start=folder.parent.name, reader=reader, entries=entries)


def _same_marks(before: Review, after: Review) -> dict[int, int]:
    """Give for each decided mark its earlier number: the nearest of the same status; statuses are carried over."""
    same = {}
    for mark in after.marks:
        alike = [other for other in before.marks if other.status == mark.status]
        if mark.status != "unreviewed" and alike:
            nearest = min(alike, key=lambda other: distance_mm(other.position_xyz_mm, mark.position_xyz_mm))
            same[mark.mark_id] = nearest.mark_id
    return same


def _decision_row(case: str, reading: StoredReading, traced: TracedReading, mark: Mark) -> tuple[Cell, ...]:
    review = traced.review
    return (
        *(case, reading.reader, mark.mark_id, "reader" if mark.is_own else "detector", mark.status),
        *(int(mark.mark_id in traced.unaided), int(review.is_shown(mark)), mark.reason, mark.note),
        "" if mark.linked_to is None else mark.linked_to,
        *map(Number.exact, (*mark.position_xyz_mm, mark.diameter_mm)),
        "" if mark.score is None else Number.exact(mark.score),
        *(traced.decided_utc.get(mark.mark_id, ""), traced.shown_utc.get(mark.mark_id, "")),
        int(mark.mark_id in traced.after_map) if mark.mark_id in traced.decided_utc else "",
        *(review.mode, Number.exact(review.threshold), review.model_name, review.model_sha256, NOTICE),
    )


def _search_cells(review: Review) -> tuple[Cell, Cell]:
    """Give which share of the slices was seen when the lungs were declared searched, and of which slices."""
    if review.searched_share is None:
        return "", ""
    return Number.exact(review.searched_share), "slices with lung" if review.searched_of_lungs else "all slices"


def _case_row(case: str, place: Cell, reading: StoredReading, traced: TracedReading | None) -> tuple[Cell, ...]:
    start = (case, reading.reader, place)
    end = (reading.voxel_start, reading.fault, NOTICE)
    if traced is None:
        n_blank = len(CASE_COLUMNS) - len(start) - len(end) - 1
        return (*start, "damaged" if reading.fault else "not begun", *[""] * n_blank, *end)
    review, entries = traced.review, reading.entries
    told = told_marks(review)
    proposed = [mark for mark in told if not mark.is_own]
    shown = [mark for mark in proposed if review.is_shown(mark)]
    return (
        *(*start, "done" if is_finished(review) else "under way", review.mode, entries[0].utc, entries[-1].utc),
        *(traced.first_read_utc, traced.searched_utc),
        *_search_cells(review),
        *(len(entries), len(proposed), len(shown), sum(mark.status == "unreviewed" for mark in shown)),
        *(len(review.findings), len(told) - len(proposed), len(traced.unaided), Number.exact(review.threshold)),
        *(review.model_name, review.model_sha256, *end),
    )
