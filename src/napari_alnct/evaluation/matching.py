"""Hits, misses and false positives of one scan, exactly by LUNA16's rule.

A *hit* is a mark whose centre is nearer to the reference centre than the
nodule's radius (strictly). Included nodules come first, then excluded findings;
marks on excluded findings are ignored; what is left over is a false positive.

References
----------
``noduleCADEvaluationLUNA16.py`` of the LUNA16 challenge (Zenodo 3723295).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MOST_MARKS = 100
NO_DIAMETER_MM = 10.0  # a negative diameter in annotations_excluded.csv counts as 10 mm
MISSED = -np.inf

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ScanMatch:
    """The outcome of one scan.

    ``nodule_scores`` (N,): best mark of each nodule, -inf when missed;
    ``nodule_marks`` (N,): index of that mark, -1 when missed;
    ``false_positives``: indices of the marks left over; ``false_positive_scores``
    their scores; ``n_on_excluded``, ``n_double``: ignored marks.
    """

    nodule_scores: FloatArray
    nodule_marks: NDArray[np.intp]
    false_positives: NDArray[np.intp]
    false_positive_scores: FloatArray
    n_on_excluded: int
    n_double: int


def cap_marks(scores: FloatArray, most: int = MOST_MARKS) -> NDArray[np.bool_]:
    """Tell which marks of a scan count.

    Parameters
    ----------
    scores : ndarray, shape (N,)
        Scores of all marks of one scan.
    most : int
        More marks than this, and only those scoring strictly above the
        (most + 1)-th best count: marks that tie with it are lost.

    Returns
    -------
    ndarray of bool, shape (N,)

    Examples
    --------
    >>> cap_marks(np.array([0.9, 0.5, 0.5, 0.1]), most=2)
    array([ True, False, False, False])
    """
    if len(scores) <= most:
        return np.ones(len(scores), bool)
    limit = np.sort(scores)[::-1][most]
    return scores > limit


def match_scan(
    marks_xyz_mm: FloatArray,
    scores: FloatArray,
    nodules_xyz_mm: FloatArray,
    nodule_diameters_mm: FloatArray,
    excluded_xyz_mm: FloatArray,
    excluded_diameters_mm: FloatArray,
) -> ScanMatch:
    """Give the outcome of one scan.

    Parameters
    ----------
    marks_xyz_mm, nodules_xyz_mm, excluded_xyz_mm : ndarray, shape (N, 3)
        World centres, LPS mm.
    scores : ndarray, shape (N,)
        Scores of the marks (already capped).
    nodule_diameters_mm, excluded_diameters_mm : ndarray, shape (N,)
        Diameters, mm; negative means 10 mm.

    Returns
    -------
    ScanMatch
    """
    n = len(scores)
    hits = _inside(marks_xyz_mm, nodules_xyz_mm, nodule_diameters_mm)  # (nodules, marks)
    ignored = _inside(marks_xyz_mm, excluded_xyz_mm, excluded_diameters_mm)
    is_found = hits.any(axis=1)
    best = np.full(len(hits), -1, np.intp)
    if n:
        best[is_found] = np.where(hits, scores, MISSED).argmax(axis=1)[is_found]
    on_nodule = hits.any(axis=0)
    on_excluded = ignored.any(axis=0) & ~on_nodule
    left = np.flatnonzero(~on_nodule & ~on_excluded)
    nodule_scores = np.full(len(hits), MISSED)
    nodule_scores[is_found] = scores[best[is_found]]
    n_double = int(np.maximum(hits.sum(axis=1) - 1, 0).sum())
    return ScanMatch(nodule_scores, best, left, scores[left], int(on_excluded.sum()), n_double)


def radius_mm(diameter_mm: float) -> float:
    """Give the radius within which a mark hits a finding.

    Parameters
    ----------
    diameter_mm : float
        Diameter, mm; negative when none was given.

    Returns
    -------
    float
        Half the diameter, mm; 5 when none was given.

    Examples
    --------
    >>> radius_mm(6.0), radius_mm(-1.0)
    (3.0, 5.0)
    """
    return (NO_DIAMETER_MM if diameter_mm < 0 else diameter_mm) / 2


def _inside(marks: FloatArray, centres: FloatArray, diameters_mm: FloatArray) -> NDArray[np.bool_]:
    """Tell for (finding, mark) whether the mark's centre lies inside the finding."""
    if not len(marks) or not len(centres):
        return np.zeros((len(centres), len(marks)), bool)
    radius = np.where(diameters_mm < 0, NO_DIAMETER_MM, diameters_mm) / 2
    step = marks[None, :, :] - centres[:, None, :]
    squared = step[..., 0] ** 2 + step[..., 1] ** 2 + step[..., 2] ** 2
    inside: NDArray[np.bool_] = squared < (radius**2)[:, None]
    return inside
