"""Signs that the tables given to the judge are not what they seem, as sentences for people.

None of them changes a number. Each is a mistake known from published
projects that makes a result look better or worse than it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from napari_alnct.core.findings import Candidate, ReferenceNodule
from napari_alnct.evaluation.froc import FP_RATES
from napari_alnct.evaluation.scoring import ScoredScans, score_scans

MOST_OFFSET_MM = 0.5  # half a voxel of 1 mm costs 0.02 CPM
FEWEST_HITS = 20  # for a median that means something
FOUND_TOO_FEW = 0.5


def table_notes(scored: ScoredScans, *, has_excluded: bool) -> list[str]:
    """Give what is suspicious about a result.

    Parameters
    ----------
    scored : ScoredScans
        Outcomes.
    has_excluded : bool
        A table of excluded findings was given.

    Returns
    -------
    list of str
        Sentences; mostly none.
    """
    notes = []
    if not has_excluded:
        notes.append(
            "No table of excluded findings was given: marks on them count as false positives, and the figures cannot "
            "be compared with published LUNA16 results."
        )
    has_nodule = np.bincount(scored.nodules.scan, minlength=scored.n_scans) > 0
    n_free = int((~has_nodule).sum())
    if n_free and not scored.marks_per_scan[~has_nodule].any() and scored.marks_per_scan.any():
        notes.append(
            f"None of the {n_free} listed scans without a nodule has a mark: if they were not searched, the false "
            "positives per scan are too low; search them, or take them off the list."
        )
    last = float(scored.curve.fp_per_scan[-1])
    if last < FP_RATES[-1]:
        notes.append(
            f"The curve ends at {last:.3g} false positives per scan; at higher rates its last sensitivity is taken. "
            "Write all candidates, not only those above a threshold, to judge the whole curve."
        )
    return notes + _offset_notes(scored)


def mirror_notes(
    marks: Sequence[tuple[str, Candidate]],
    annotations: Sequence[ReferenceNodule],
    excluded: Sequence[ReferenceNodule],
    series_list: Sequence[str],
    scored: ScoredScans,
) -> list[str]:
    """Tell when marks fit far better with x and y negated: RAS positions in a table that must be LPS.

    Parameters
    ----------
    marks, annotations, excluded, series_list : sequence
        As `score_scans` takes them.
    scored : ScoredScans
        Their outcomes.

    Returns
    -------
    list of str
        One sentence or none; looked at only when fewer than half of the nodules are found.
    """
    if scored.n_found >= FOUND_TOO_FEW * len(scored.nodule_scores):
        return []
    mirrored = [(series, replace(m, position_xyz_mm=_mirrored(m.position_xyz_mm))) for series, m in marks]
    other = score_scans(mirrored, annotations, excluded, series_list, is_restricted=True)
    if other.n_found <= 2 * scored.n_found + 1:
        return []
    return [
        f"With x and y of all marks negated {other.n_found} nodules would be found instead of {scored.n_found}: "
        "the marks seem to be RAS; write LPS world coordinates."
    ]


def _mirrored(position_xyz_mm: tuple[float, float, float]) -> tuple[float, float, float]:
    x, y, z = position_xyz_mm
    return -x, -y, z


def _offset_notes(scored: ScoredScans) -> list[str]:
    if len(scored.hit_offsets_xyz_mm) < FEWEST_HITS:
        return []
    median = np.median(scored.hit_offsets_xyz_mm, axis=0)
    if np.abs(median).max() <= MOST_OFFSET_MM:
        return []
    x, y, z = median
    return [
        f"Hits lie off their nodules by a median of ({x:+.1f}, {y:+.1f}, {z:+.1f}) mm along x, y, z: a half-voxel or "
        "origin error in the way back to world coordinates loses small nodules."
    ]
