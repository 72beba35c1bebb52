"""Which hits, misses and false positives a report shows: a fixed rule, so that nobody picks the nice ones.

The outcomes are those of `napari_alnct.evaluation.scoring`; here they are only joined with
the marks and nodules that they speak of, and drawn from. The draw depends on the tables and
a seed alone, not on the order of the scans or the version of a generator.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np

from napari_alnct.batch.froc import FrocTables
from napari_alnct.core.findings import Candidate, ReferenceNodule
from napari_alnct.core.geometry import Triple
from napari_alnct.evaluation.matching import cap_marks
from napari_alnct.evaluation.scoring import ScoredScans
from napari_alnct.io.identifiers import short_hash

Kind = Literal["hit", "miss", "false_positive"]
KINDS: tuple[Kind, ...] = ("hit", "miss", "false_positive")
Row = TypeVar("Row", Candidate, ReferenceNodule)


@dataclass(frozen=True, kw_only=True)
class Example:
    """One outcome to show.

    Parameters
    ----------
    kind : {"hit", "miss", "false_positive"}
        What it is.
    series_uid : str
        The scan.
    nodule : ReferenceNodule or None
        The nodule found or missed; for a false positive the nearest one of the scan, if any.
    mark : Candidate or None
        The mark; for a miss the nearest one of the scan, if any.
    distance_mm : float or None
        Between their centres.
    reason : str
        Why it was chosen, in a few words.
    """

    kind: Kind
    series_uid: str
    nodule: ReferenceNodule | None
    mark: Candidate | None
    distance_mm: float | None
    reason: str = ""

    @property
    def centre_xyz_mm(self) -> Triple:
        """Give the position to look at: the nodule, or the false mark."""
        finding = self.mark if self.kind == "false_positive" else self.nodule
        assert finding is not None
        return finding.position_xyz_mm


@dataclass(frozen=True, kw_only=True)
class ExampleSet:
    """The chosen ones of a kind; ``n_all`` there are, ``n_at_hand`` of them in scans that can be shown."""

    kind: Kind
    chosen: tuple[Example, ...]
    n_all: int
    n_at_hand: int


def list_outcomes(tables: FrocTables, scored: ScoredScans) -> list[Example]:
    """Give every hit, miss and false positive of a result, scan after scan.

    Parameters
    ----------
    tables : FrocTables
        What was judged.
    scored : ScoredScans
        Its outcomes.

    Returns
    -------
    list of Example
        As many of each kind as ``froc.json`` counts.
    """
    marks_of = _grouped(tables.candidates)
    nodules_of = _grouped((nodule.series_uid, nodule) for nodule in tables.annotations)
    outcomes: list[Example] = []
    for series, match in zip(tables.series_list, scored.matches, strict=True):
        marks, nodules = _counted(marks_of[series]), nodules_of[series]
        for nodule, best in zip(nodules, match.nodule_marks, strict=True):
            mark = marks[best] if best >= 0 else _nearest(nodule, marks)
            outcomes.append(_example("hit" if best >= 0 else "miss", series, nodule, mark))
        outcomes += [
            _example("false_positive", series, _nearest(marks[i], nodules), marks[i]) for i in match.false_positives
        ]
    return outcomes


def choose_examples(
    outcomes: Iterable[Example], *, most: int = 12, seed: int = 0, at_hand: Collection[str] | None = None
) -> tuple[ExampleSet, ...]:
    """Give the examples to show: hits, misses, false positives.

    Parameters
    ----------
    outcomes : iterable of Example
        From `list_outcomes`.
    most : int
        Of each kind: all, or else of the hits half the weakest and half drawn at random, of the misses half
        the largest nodules and half drawn at random, of the false positives the strongest.
    seed : int
        Of the draw.
    at_hand : collection of str, optional
        Series that can be shown: others are chosen only when none can.

    Returns
    -------
    tuple of ExampleSet
        One per kind.
    """
    by_kind: dict[Kind, list[Example]] = {kind: [] for kind in KINDS}
    for outcome in outcomes:
        by_kind[outcome.kind].append(outcome)
    return tuple(_chosen(kind, rows, most, seed, at_hand) for kind, rows in by_kind.items())


def _chosen(kind: Kind, rows: list[Example], most: int, seed: int, at_hand: Collection[str] | None) -> ExampleSet:
    shown = rows if at_hand is None else [row for row in rows if row.series_uid in at_hand]
    pool = sorted(shown or rows, key=lambda row: (_rank(row), _lot(row, seed)))
    if kind == "false_positive":
        chosen = [_because(row, "") for row in pool[:most]]
    elif len(pool) <= most:
        chosen = pool
    else:
        first = -(-most // 2)
        word = "among the weakest" if kind == "hit" else "among the largest"
        drawn = sorted(pool[first:], key=lambda row: _lot(row, seed))[: most - first]
        chosen = [_because(row, word) for row in pool[:first]] + [_because(row, "drawn at random") for row in drawn]
    return ExampleSet(kind=kind, chosen=tuple(chosen), n_all=len(rows), n_at_hand=len(shown))


def _rank(row: Example) -> float:
    """Order hits by rising score, misses by falling diameter, false positives by falling score."""
    if row.kind == "miss":
        assert row.nodule is not None
        return -row.nodule.diameter_mm
    assert row.mark is not None
    return row.mark.score if row.kind == "hit" else -row.mark.score


def _lot(row: Example, seed: int) -> str:
    return short_hash(f"{seed} {row.series_uid} {row.centre_xyz_mm}")


def _because(row: Example, reason: str) -> Example:
    return Example(**{**vars(row), "reason": reason})


def _example(kind: Kind, series: str, nodule: ReferenceNodule | None, mark: Candidate | None) -> Example:
    distance = _distance_mm(nodule, mark) if nodule is not None and mark is not None else None
    return Example(kind=kind, series_uid=series, nodule=nodule, mark=mark, distance_mm=distance)


def _distance_mm(a: Candidate | ReferenceNodule, b: Candidate | ReferenceNodule) -> float:
    return float(np.linalg.norm(np.subtract(a.position_xyz_mm, b.position_xyz_mm)))


def _nearest(finding: Candidate | ReferenceNodule, others: Sequence[Row]) -> Row | None:
    return min(others, key=lambda other: _distance_mm(finding, other), default=None)


def _counted(marks: list[Candidate]) -> list[Candidate]:
    """Give the marks of one scan that count, in the order of the table, as the judge numbers them."""
    counted = cap_marks(np.array([mark.score for mark in marks], dtype=float))
    return [mark for mark, counts in zip(marks, counted, strict=True) if counts]


def _grouped(rows: Iterable[tuple[str, Row]]) -> defaultdict[str, list[Row]]:
    groups: defaultdict[str, list[Row]] = defaultdict(list)
    for series, row in rows:
        groups[series].append(row)
    return groups
