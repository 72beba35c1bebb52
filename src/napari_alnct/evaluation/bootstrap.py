"""How far a FROC result would move with other scans: bootstrap over scans.

A *sample* draws as many scans as are listed, with replacement; a scan drawn twice
counts twice, and the divisor stays the number of listed scans. The draws come from
NumPy's legacy Mersenne Twister, whose stream is frozen for good (NEP 19), so a seed
gives the same interval with every version.

References
----------
``computeFROC_bootstrap`` in ``noduleCADEvaluationLUNA16.py`` (Zenodo 3723295);
Efron and Tibshirani, *An Introduction to the Bootstrap*, 1993, chapter 13 (percentile interval).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_alnct.evaluation.froc import FP_RATES
from napari_alnct.evaluation.scoring import ScoredScans

GENERATOR = "numpy.random.RandomState (MT19937, legacy stream), randint(n_scans, size=n_scans) per sample"
LOWER, UPPER = 25, 975  # of 1000 sorted samples, counted from 0 as the official script does

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class ScanDraws:
    """How often each scan is in each sample.

    ``weights`` (samples, scans); ``n_redrawn``: samples without any nodule that were drawn again.
    """

    weights: NDArray[np.int32]
    seed: int
    n_redrawn: int


def draw_scans(nodules_per_scan: IntArray, n_samples: int, seed: int = 0) -> ScanDraws:
    """Draw scans with replacement.

    Parameters
    ----------
    nodules_per_scan : ndarray of int, shape (S,)
        At least one nodule in all: a sample without any has no sensitivity and is drawn again.
    n_samples : int
        Number of samples.
    seed : int
        0 to 2**32 - 1.

    Returns
    -------
    ScanDraws

    Raises
    ------
    ValueError
        If there is no nodule.

    Examples
    --------
    >>> draw_scans(np.array([1, 0, 2]), n_samples=2, seed=0).weights
    array([[2, 1, 0],
           [0, 2, 1]], dtype=int32)
    """
    if not nodules_per_scan.any():
        raise ValueError("no nodule in any scan: there is nothing to draw")
    generator = np.random.RandomState(seed)
    n_scans, n_redrawn = len(nodules_per_scan), 0
    weights = np.empty((n_samples, n_scans), np.int32)
    for row in weights:
        while True:
            drawn = generator.randint(n_scans, size=n_scans, dtype=np.int64)
            row[:] = np.bincount(drawn, minlength=n_scans)
            if row @ nodules_per_scan:
                break
            n_redrawn += 1
    return ScanDraws(weights, seed, n_redrawn)


def nodules_per_scan(scored: ScoredScans) -> IntArray:
    """Give the number of reference nodules of each listed scan.

    Parameters
    ----------
    scored : ScoredScans
        Outcomes.

    Returns
    -------
    ndarray of int, shape (S,)
    """
    return np.bincount(scored.nodules.scan, minlength=scored.n_scans)


def bootstrap_sensitivity(
    scored: ScoredScans, weights: NDArray[np.int32], fp_rates: Sequence[float] = FP_RATES
) -> FloatArray:
    """Give the sensitivity of every sample at false-positive rates.

    Parameters
    ----------
    scored : ScoredScans
        Outcomes of the listed scans.
    weights : ndarray of int, shape (B, S)
        How often each scan is in each sample.
    fp_rates : sequence of float
        False positives per scan.

    Returns
    -------
    ndarray, shape (B, len(fp_rates))

    Notes
    -----
    Only the thresholds at which the curve can bend are evaluated: between two hits the curve is
    horizontal whatever the weights, so one point before each hit and one at it are enough.
    """
    levels = _bend_scores(scored.nodule_scores, scored.false_positive_scores)
    found = np.isfinite(scored.nodule_scores)
    hit_level = np.searchsorted(-levels, -scored.nodule_scores[found])
    error_level = np.searchsorted(-levels, -scored.false_positive_scores)
    hit_scan, error_scan = scored.nodules.scan[found], scored.false_positive_scan
    nodules = weights @ nodules_per_scan(scored)
    values = np.empty((len(weights), len(fp_rates)))
    hits, errors = np.zeros(len(levels) + 1), np.zeros(len(levels) + 1)  # the curve starts at (0, 0)
    for k, weight in enumerate(weights.astype(np.float64)):
        np.cumsum(np.bincount(hit_level, weight[hit_scan], len(levels)), out=hits[1:])
        np.cumsum(np.bincount(error_level, weight[error_scan], len(levels)), out=errors[1:])
        values[k] = np.interp(fp_rates, errors / scored.n_scans, hits / nodules[k])
    return values


def interval(samples: FloatArray) -> FloatArray:
    """Give the 95 % percentile interval: sorted samples number 25 and 975 of 1000, from 0.

    Parameters
    ----------
    samples : ndarray, shape (B,) or (B, M)
        One value (or M) per bootstrap sample.

    Returns
    -------
    ndarray, shape (2,) or (2, M)
        Lower and upper end.

    Examples
    --------
    >>> interval(np.arange(1000.0)[::-1]).tolist()
    [25.0, 975.0]
    """
    n = len(samples)
    return np.sort(samples, axis=0)[[n * LOWER // 1000, n * UPPER // 1000]]


@dataclass(frozen=True)
class PairedDifference:
    """CPM of one result minus that of another on the same scans, with its 95 % interval.

    ``share_above_zero``: share of the samples in which the first is strictly better.
    """

    difference: float
    ci95: tuple[float, float]
    share_above_zero: float


def paired_difference(
    first: ScoredScans, second: ScoredScans, draws: ScanDraws, first_cpms: FloatArray | None = None
) -> PairedDifference:
    """Give the difference in CPM; every sample draws the same scans for both.

    Parameters
    ----------
    first, second : ScoredScans
        Outcomes of two results on the same list of scans.
    draws : ScanDraws
        Samples.
    first_cpms : ndarray, shape (B,), optional
        CPM of the first in each sample, when known already.

    Returns
    -------
    PairedDifference
    """
    if first_cpms is None:
        first_cpms = bootstrap_sensitivity(first, draws.weights).mean(axis=1)
    differences = first_cpms - bootstrap_sensitivity(second, draws.weights).mean(axis=1)
    low, high = interval(differences)
    return PairedDifference(
        first.curve.cpm - second.curve.cpm, (float(low), float(high)), float((differences > 0).mean())
    )


def _bend_scores(nodule_scores: FloatArray, false_positive_scores: FloatArray) -> FloatArray:
    """Give, falling, the scores at which a hit enters, the score just before each, and the lowest of all."""
    found = nodule_scores[np.isfinite(nodule_scores)]
    scores = np.unique(np.concatenate([found, false_positive_scores]))[::-1]
    is_hit = np.isin(scores, found)
    is_kept = is_hit | np.concatenate([is_hit[1:], [True]])[: len(scores)]
    return scores[is_kept]
