"""How far the figures of patches would move with other scans.

Patches of one scan are not independent: the 95 % intervals draw whole scans (or patients,
where they are known) with replacement, the *clusters*. A sample without a class that the
table has is drawn again. DeLong's interval, which takes every patch for independent, is
given for comparison only.

References
----------
Cluster bootstrap: Field and Welsh 2007, JRSS B 69:369-390; percentile interval as in `bootstrap`.
DeLong, DeLong and Clarke-Pearson 1988, Biometrics 44:837-845, computed as in Sun and Xu 2014, IEEE Signal
Processing Letters 21:1389-1393. Wilson 1927, JASA 22:209-212.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_alnct.evaluation.bootstrap import interval
from napari_alnct.evaluation.curves import auc, middle_ranks, share

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.intp]
BoolArray = NDArray[np.bool_]
Interval = tuple[float, float]

Z95 = 1.959963984540054  # 97.5 % quantile of the standard normal distribution
GRID = np.linspace(0.0, 1.0, 101)  # false-positive rates and recalls of the bands
FEWEST_CLUSTERS = 2
ROUNDING = 1e-12


@dataclass(frozen=True, eq=False)
class ClusterDraws:
    """How often each cluster is in each sample: ``weights`` (B, C)."""

    weights: NDArray[np.float64]
    seed: int
    n_redrawn: int


@dataclass(frozen=True, eq=False)
class CurveSamples:
    """Curves of all samples: ``auc``, ``average_precision`` (B,); ``sensitivity``, ``precision`` (B, 101) at `GRID`."""

    auc: FloatArray
    average_precision: FloatArray
    sensitivity: FloatArray
    precision: FloatArray


def draw_clusters(cluster: IntArray, labels: ArrayLike, n_samples: int, seed: int = 0) -> ClusterDraws | None:
    """Draw clusters with replacement.

    Parameters
    ----------
    cluster : ndarray of int, shape (N,)
        Cluster of each patch, 0 to C - 1.
    labels : array of 0 and 1, shape (N,)
        Each class that is there is in every sample.
    n_samples : int
        Number of samples.
    seed : int
        0 to 2**32 - 1.

    Returns
    -------
    ClusterDraws or None
        None for no samples, or a single cluster: nothing can be said about others.

    Examples
    --------
    >>> draw_clusters(np.array([0, 1, 1]), [1, 0, 1], n_samples=2, seed=0).weights
    array([[1., 1.],
           [1., 1.]])
    """
    n_clusters = int(cluster.max()) + 1 if len(cluster) else 0
    if n_clusters < FEWEST_CLUSTERS or not n_samples:
        return None
    is_positive = np.asarray(labels).astype(bool)
    holds = np.stack([np.bincount(cluster[kind], minlength=n_clusters) for kind in (is_positive, ~is_positive)])
    holds = holds[holds.any(axis=1)]  # a class that is absent cannot be demanded
    generator = np.random.RandomState(seed)
    weights, n_redrawn = np.empty((n_samples, n_clusters)), 0
    for row in weights:
        while True:
            drawn = generator.randint(n_clusters, size=n_clusters, dtype=np.int64)
            row[:] = np.bincount(drawn, minlength=n_clusters)
            if (holds @ row > 0).all():
                break
            n_redrawn += 1
    return ClusterDraws(weights, seed, n_redrawn)


def bootstrap_curves(
    labels: ArrayLike, scores: ArrayLike, cluster: IntArray, draws: ClusterDraws, *, with_bands: bool = True
) -> CurveSamples:
    """Give ROC and precision-recall figures of every sample.

    Parameters
    ----------
    labels : array of 0 and 1, shape (N,)
        Both classes.
    scores : array, shape (N,)
        Finite.
    cluster : ndarray of int, shape (N,)
        Cluster of each patch; a sample may lack the class of a part of them, its figures are nan then.
    draws : ClusterDraws
        Samples.
    with_bands : bool
        Also the curves at `GRID`; else those arrays are empty.

    Returns
    -------
    CurveSamples
    """
    is_positive = np.asarray(labels).astype(bool)
    distinct, level = np.unique(-np.asarray(scores, np.float64), return_inverse=True)
    n, n_grid = len(draws.weights), len(GRID) if with_bands else 0
    samples = CurveSamples(np.empty(n), np.empty(n), np.empty((n, n_grid)), np.empty((n, n_grid)))
    hits, errors = np.zeros(len(distinct) + 1), np.zeros(len(distinct) + 1)  # from above all scores down
    for k, weight in enumerate(draws.weights):
        of_patch = weight[cluster]
        np.cumsum(np.bincount(level[is_positive], of_patch[is_positive], len(distinct)), out=hits[1:])
        np.cumsum(np.bincount(level[~is_positive], of_patch[~is_positive], len(distinct)), out=errors[1:])
        _fill(samples, k, hits, errors)
    return samples


def _fill(samples: CurveSamples, k: int, hits: FloatArray, errors: FloatArray) -> None:
    """Put the figures of one sample into row k."""
    n_positive, n_negative = hits[-1], errors[-1]
    if not n_positive or not n_negative:
        samples.auc[k] = samples.average_precision[k] = np.nan
        samples.sensitivity[k], samples.precision[k] = np.nan, np.nan
        return
    called = hits[1:] + errors[1:]
    precision = np.divide(hits[1:], called, out=np.zeros_like(called), where=called > 0)
    samples.auc[k] = np.trapezoid(hits, errors) / (n_positive * n_negative)
    samples.average_precision[k] = np.diff(hits) @ precision / n_positive
    if samples.sensitivity.shape[1]:
        samples.sensitivity[k] = np.interp(GRID, errors / n_negative, hits / n_positive)
        wanted = np.maximum(GRID * n_positive * (1 - ROUNDING), ROUNDING)  # where nothing is recalled: the first hit
        reached = np.searchsorted(hits[1:], wanted)
        samples.precision[k] = precision[np.minimum(reached, len(precision) - 1)]


def bootstrap_shares(part: BoolArray, whole: BoolArray, cluster: IntArray, draws: ClusterDraws) -> FloatArray:
    """Give ``sum(part and whole) / sum(whole)`` of every sample, (B,); nan where a sample has none of the whole.

    Parameters
    ----------
    part, whole : ndarray of bool, shape (N,)
        Patches that count above and below the line.
    cluster : ndarray of int, shape (N,)
        Cluster of each patch.
    draws : ClusterDraws
        Samples.

    Returns
    -------
    ndarray, shape (B,)
    """
    n_clusters = draws.weights.shape[1]
    above, below = (draws.weights @ np.bincount(cluster[k], minlength=n_clusters) for k in (part & whole, whole))
    return np.divide(above, below, out=np.full(len(below), np.nan), where=below > 0)


def share_interval(part: BoolArray, whole: BoolArray, cluster: IntArray, draws: ClusterDraws | None) -> Interval | None:
    """Give the 95 % interval of a share of patches.

    Parameters
    ----------
    part, whole : ndarray of bool, shape (N,)
        Patches that count above and below the line.
    cluster : ndarray of int, shape (N,)
        Cluster of each patch.
    draws : ClusterDraws or None
        Samples.

    Returns
    -------
    tuple of float or None
        Percentile interval over clusters. Where the share is 0 or 1 every sample agrees and the bootstrap says
        nothing: then Wilson's interval, with the clusters that count as its number of trials. None without
        samples, without anything below the line, or when all of that is in one cluster.
    """
    if draws is None or not whole.any():
        return None
    value = share(int((part & whole).sum()), int(whole.sum()))
    n_clusters = len(np.unique(cluster[whole]))
    if value in (0.0, 1.0):
        return wilson_interval(value, n_clusters)
    if n_clusters < FEWEST_CLUSTERS:
        return None
    return sample_interval(bootstrap_shares(part, whole, cluster, draws))


def sample_interval(samples: FloatArray) -> Interval | None:
    """Give the 95 % percentile interval of samples; those that are nan are left out, None when all are."""
    known = samples[~np.isnan(samples)]
    if not len(known):
        return None
    low, high = interval(known)
    return float(low), float(high)


def delong_interval(labels: ArrayLike, scores: ArrayLike) -> Interval | None:
    """Give DeLong's 95 % interval of the area under the ROC curve, cut at 0 and 1.

    Parameters
    ----------
    labels : array of 0 and 1, shape (N,)
        Numbers or booleans.
    scores : array, shape (N,)
        Finite.

    Returns
    -------
    tuple of float or None
        None when a class has fewer than two patches, or no pair is out of order: then nothing varies.

    Examples
    --------
    >>> low, high = delong_interval([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8])
    >>> round(low, 4), round(high, 4)
    (0.057, 1.0)
    """
    is_positive, values = np.asarray(labels).astype(bool), np.asarray(scores, np.float64)
    positives, negatives = values[is_positive], values[~is_positive]
    m, n = len(positives), len(negatives)
    if min(m, n) < 2:
        return None
    together = middle_ranks(np.concatenate([positives, negatives]))
    above = (together[:m] - middle_ranks(positives)) / n  # for each nodule the share of others below it
    below = 1 - (together[m:] - middle_ranks(negatives)) / m  # for each other the share of nodules above it
    half = Z95 * math.sqrt(above.var(ddof=1) / m + below.var(ddof=1) / n)
    if not half:
        return None
    middle = auc(is_positive, values)
    return max(0.0, middle - half), min(1.0, middle + half)


def wilson_interval(value: float, n: int) -> Interval:
    """Give Wilson's 95 % interval of a share.

    Parameters
    ----------
    value : float
        Share, 0 to 1.
    n : int
        Independent trials, at least 1.

    Returns
    -------
    tuple of float

    Examples
    --------
    >>> low, high = wilson_interval(1.0, 10)
    >>> round(low, 4), high
    (0.7225, 1.0)
    """
    middle = (value + Z95**2 / (2 * n)) / (1 + Z95**2 / n)
    half = Z95 / (1 + Z95**2 / n) * math.sqrt(value * (1 - value) / n + Z95**2 / (4 * n**2))
    return (0.0 if value == 0 else middle - half), (1.0 if value == 1 else middle + half)
