"""Tables of marks and annotations -> the outcome of every listed scan, by LUNA16's rule.

The *list* says which scans were searched: it is the divisor of the false-positive
rate, scans without marks or nodules included, and annotations of other scans are
left out. Series identifiers are text; a mark whose series is not listed is refused,
because a mistyped or rounded identifier would otherwise count as a missed nodule.

References
----------
``noduleCADEvaluationLUNA16.py`` of the LUNA16 challenge (Zenodo 3723295).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from napari_alnct.core.errors import TableError
from napari_alnct.core.findings import Candidate, ReferenceNodule
from napari_alnct.evaluation.froc import FrocCurve, curve_of_scores
from napari_alnct.evaluation.matching import ScanMatch, cap_marks, match_scan, radius_mm

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.intp]
ROUNDED = re.compile(r"[+-]?\d+([.,]\d+)?[eE][+-]?\d+")  # what a spreadsheet makes of a long identifier
MOST_NAMED = 3


@dataclass(frozen=True, eq=False)
class PointTable:
    """Points with one value each, in the order of their scans.

    ``scan`` (N,): index into the list of series, rising; ``xyz_mm`` (N, 3): world LPS mm;
    ``values`` (N,): score of a mark or diameter (mm) of a finding; ``unlisted``: the series,
    once per row, of the rows left out.
    """

    scan: IntArray
    xyz_mm: FloatArray
    values: FloatArray
    unlisted: tuple[str, ...]

    def part(self, scan: int) -> tuple[FloatArray, FloatArray]:
        """Give positions (world xyz mm) and values of one scan.

        Parameters
        ----------
        scan : int
            Index into the list of series.

        Returns
        -------
        tuple of ndarray
        """
        here = slice(*np.searchsorted(self.scan, [scan, scan + 1]))
        return self.xyz_mm[here], self.values[here]


@dataclass(frozen=True, eq=False)
class ScoredScans:
    """The outcomes of all listed scans.

    ``matches``: one per scan; ``nodules``: the reference nodules of the listed scans, in the order of
    the matches; ``marks_per_scan`` (S,): after the cap; ``n_in_file``, ``n_capped_scans``: rows of the
    table, scans that exceed the cap; ``hit_offsets_xyz_mm`` (H, 3): mark minus nodule of each hit.
    """

    matches: tuple[ScanMatch, ...]
    nodules: PointTable
    marks_per_scan: IntArray
    n_in_file: int
    n_capped_scans: int
    n_unlisted_marks: int
    hit_offsets_xyz_mm: FloatArray

    @property
    def n_scans(self) -> int:
        """Give the number of listed scans, the divisor of the false-positive rate."""
        return len(self.matches)

    @cached_property
    def nodule_scores(self) -> FloatArray:
        """Give the best score of each nodule, -inf when missed."""
        return np.concatenate([m.nodule_scores for m in self.matches])

    @cached_property
    def false_positive_scores(self) -> FloatArray:
        """Give the scores of all false positives, scan after scan."""
        return np.concatenate([m.false_positive_scores for m in self.matches])

    @cached_property
    def false_positive_scan(self) -> IntArray:
        """Give the scan of each false positive."""
        return np.repeat(np.arange(self.n_scans), [len(m.false_positives) for m in self.matches])

    @cached_property
    def curve(self) -> FrocCurve:
        """Give the FROC curve."""
        return curve_of_scores(self.nodule_scores, self.false_positive_scores, self.n_scans)

    @property
    def n_found(self) -> int:
        """Give the number of nodules that a mark hits: true positives."""
        return int(np.isfinite(self.nodule_scores).sum())


def score_scans(
    marks: Sequence[tuple[str, Candidate]],
    annotations: Sequence[ReferenceNodule],
    excluded: Sequence[ReferenceNodule],
    series_list: Sequence[str],
    *,
    marks_name: str = "the table of candidates",
    is_restricted: bool = False,
) -> ScoredScans:
    """Give the outcomes of the listed scans.

    Parameters
    ----------
    marks : sequence of (str, Candidate)
        Series and mark, any order; not capped yet.
    annotations, excluded : sequence of ReferenceNodule
        Reference nodules and excluded findings; those of unlisted scans are left out.
    series_list : sequence of str
        The scans that were searched, each once.
    marks_name : str
        Name of the table of marks, for messages.
    is_restricted : bool
        Leave out the marks of unlisted scans instead of refusing them.

    Returns
    -------
    ScoredScans

    Raises
    ------
    TableError
        If a mark belongs to no listed scan, an annotation's series looks like a rounded number, the list
        names a series twice, or no annotation lies in a listed scan.
    """
    index = {series: i for i, series in enumerate(series_list)}
    if len(index) < len(series_list):
        raise TableError(f"the list of series names {len(series_list) - len(index)} of them twice; name each once")
    table = _points(index, (s for s, _ in marks), [m.position_xyz_mm for _, m in marks], [m.score for _, m in marks])
    if table.unlisted and not is_restricted:
        raise TableError(_refusal(table.unlisted, marks_name, len(index)))
    nodules, ignored = (_findings(index, rows) for rows in (annotations, excluded))
    if not len(nodules.scan):
        raise TableError(
            f"none of the {len(annotations)} annotations lies in the {len(index)} listed scans; "
            "check that both tables name the series in the same way"
        )
    return _matched(table, nodules, ignored, len(index))


def _matched(marks: PointTable, nodules: PointTable, excluded: PointTable, n_scans: int) -> ScoredScans:
    """Cap and match scan by scan."""
    matches, offsets, counts, n_capped = [], [], [], 0
    for scan in range(n_scans):
        xyz, scores = marks.part(scan)
        counted = cap_marks(scores)
        n_capped += not counted.all()
        xyz, scores = xyz[counted], scores[counted]
        centres, diameters = nodules.part(scan)
        match = match_scan(xyz, scores, centres, diameters, *excluded.part(scan))
        found = match.nodule_marks >= 0
        matches.append(match)
        counts.append(len(scores))
        offsets.append(xyz[match.nodule_marks[found]] - centres[found])
    return ScoredScans(
        tuple(matches),
        nodules,
        np.array(counts, np.intp),
        len(marks.scan) + len(marks.unlisted),
        n_capped,
        len(marks.unlisted),
        np.concatenate(offsets),
    )


def _findings(index: dict[str, int], rows: Sequence[ReferenceNodule]) -> PointTable:
    positions, diameters = [r.position_xyz_mm for r in rows], [2 * radius_mm(r.diameter_mm) for r in rows]
    table = _points(index, (r.series_uid for r in rows), positions, diameters)
    rounded = [series for series in table.unlisted if ROUNDED.fullmatch(series)]
    if rounded:
        raise TableError(
            f"the annotations name the series {_some(rounded)}: a program took identifiers for numbers and lost "
            "their digits; export them as text"
        )
    return table


def _points(
    index: dict[str, int],
    series: Iterable[str],
    positions_xyz_mm: Sequence[tuple[float, float, float]],
    values: Sequence[float],
) -> PointTable:
    """Sort rows by their scan, in the order of the table within one; put unlisted ones aside."""
    names = list(series)
    scan = np.array([index.get(name, -1) for name in names], np.intp)
    order = np.argsort(scan, kind="stable")[int((scan < 0).sum()) :]
    unlisted = tuple(name for name, i in zip(names, scan, strict=True) if i < 0)
    xyz = np.array(positions_xyz_mm, np.float64).reshape(-1, 3)
    return PointTable(scan[order], xyz[order], np.array(values, np.float64)[order], unlisted)


def _refusal(unlisted: Sequence[str], name: str, n_listed: int) -> str:
    series = list(dict.fromkeys(unlisted))
    cause = (
        "identifiers were taken for numbers and lost their digits; export them as text"
        if any(map(ROUNDED.fullmatch, series))
        else "add them to the list, or restrict the table to the listed scans"
    )
    word = "series is" if len(series) == 1 else "series are"
    return f"{name}: {len(series)} {word} not among the {n_listed} listed: {_some(series)}; {cause}"


def _some(series: Sequence[str]) -> str:
    named = ", ".join(text[:70] for text in series[:MOST_NAMED])
    return named if len(series) <= MOST_NAMED else f"{named} and {len(series) - MOST_NAMED} more"
