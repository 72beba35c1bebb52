"""How well scores tell two classes apart: ROC, precision-recall, and the table of a threshold.

Labels are 1 (nodule) and 0 (none); higher scores mean more likely 1, and a score at or
above a threshold calls its patch a nodule. Sensitivity (recall): share of the nodules so
called; specificity: share of the others not so called; precision (PPV): share of nodules
among what is so called. Equal scores enter a curve together. What has no divisor is nan.

References
----------
Area under the ROC curve: Hanley and McNeil 1982, Radiology 143:29-36 (the Mann-Whitney statistic).
Average precision: the step-wise sum of ``sklearn.metrics.average_precision_score``; no interpolation
(Davis and Goadrich 2006, ICML).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]


def auc(labels: ArrayLike, scores: ArrayLike) -> float:
    """Give the area under the ROC curve: the share of (1, 0) pairs in which the 1 scores higher, ties half.

    Parameters
    ----------
    labels : array of 0 and 1, shape (N,)
        Numbers or booleans.
    scores : array, shape (N,)
        Logits or probabilities; only their order counts.

    Returns
    -------
    float
        0 to 1; nan when a class is absent or a score is not a number.

    Examples
    --------
    >>> auc([0, 0, 1, 1], [0.1, 0.4, 0.4, 0.8])
    0.875
    """
    is_positive = np.asarray(labels).astype(bool)
    values = np.asarray(scores, np.float64)
    n_positive = int(is_positive.sum())
    n_negative = len(is_positive) - n_positive
    if not n_positive or not n_negative or np.isnan(values).any():
        return math.nan
    surplus = middle_ranks(values)[is_positive].sum() - n_positive * (n_positive + 1) / 2
    return float(surplus / (n_positive * n_negative))


def middle_ranks(values: FloatArray) -> FloatArray:
    """Give ranks from 1; equal values share the middle of their ranks.

    Parameters
    ----------
    values : ndarray, shape (N,)
        Finite numbers.

    Returns
    -------
    ndarray, shape (N,)

    Examples
    --------
    >>> middle_ranks(np.array([5.0, 1.0, 5.0])).tolist()
    [2.5, 1.0, 2.5]
    """
    _, level, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks: FloatArray = (np.cumsum(counts) - (counts - 1) / 2)[level]
    return ranks


@dataclass(frozen=True, eq=False)
class ThresholdCurve:
    """What is called a nodule at every threshold, from above all scores down.

    ``thresholds`` (K,): the first is inf, then the distinct scores, falling; ``hits``, ``errors`` (K,): nodules
    and others scoring at or above each; ``n_positive``, ``n_negative``: all nodules, all others.
    """

    thresholds: FloatArray
    hits: NDArray[np.intp]
    errors: NDArray[np.intp]
    n_positive: int
    n_negative: int

    @property
    def sensitivity(self) -> FloatArray:
        """Give the share of nodules at or above each threshold, (K,)."""
        return shares(self.hits, self.n_positive)

    @property
    def false_positive_rate(self) -> FloatArray:
        """Give the share of the others at or above each threshold, (K,): 1 - specificity."""
        return shares(self.errors, self.n_negative)

    @property
    def precision(self) -> FloatArray:
        """Give the share of nodules among what is at or above each threshold, (K,); nan at the first."""
        return shares(self.hits, self.hits + self.errors)

    @property
    def average_precision(self) -> float:
        """Give the mean precision over the nodules: each counts that of its own threshold; nan without nodules."""
        if not self.n_positive:
            return math.nan
        return float((np.diff(self.hits) * self.precision[1:]).sum() / self.n_positive)

    def corners(self) -> NDArray[np.intp]:
        """Give the points where the ROC curve bends, and its two ends; the others lie on lines between them.

        Returns
        -------
        ndarray of int
            Indices into ``thresholds``, rising.
        """
        steps = np.stack([np.diff(self.errors), np.diff(self.hits)])
        turns = steps[0, :-1] * steps[1, 1:] != steps[0, 1:] * steps[1, :-1]
        return np.flatnonzero(np.concatenate([[True], turns, [True]])[: len(self.thresholds)])


def threshold_curve(labels: ArrayLike, scores: ArrayLike) -> ThresholdCurve:
    """Give the curve of labelled scores.

    Parameters
    ----------
    labels : array of 0 and 1, shape (N,)
        Numbers or booleans.
    scores : array, shape (N,)
        Finite.

    Returns
    -------
    ThresholdCurve

    Examples
    --------
    >>> curve = threshold_curve([0, 1, 1], [0.2, 0.2, 0.9])
    >>> curve.thresholds.tolist(), curve.hits.tolist(), curve.errors.tolist()
    ([inf, 0.9, 0.2], [0, 1, 2], [0, 0, 1])
    """
    is_positive, values = np.asarray(labels).astype(bool), np.asarray(scores, np.float64)
    distinct, level = np.unique(-values, return_inverse=True)
    hits, errors = (
        np.cumsum(np.bincount(level[kind], minlength=len(distinct))) for kind in (is_positive, ~is_positive)
    )
    n_positive = int(is_positive.sum())
    return ThresholdCurve(
        np.concatenate([[np.inf], -distinct]),
        np.concatenate([[0], hits]),
        np.concatenate([[0], errors]),
        n_positive,
        len(values) - n_positive,
    )


@dataclass(frozen=True)
class Confusion:
    """The four counts of a threshold; shares without a divisor are nan."""

    threshold: float
    true_positives: int
    false_positives: int
    true_negatives: int
    false_negatives: int

    @property
    def sensitivity(self) -> float:
        """Give the share of the nodules that are called so."""
        return share(self.true_positives, self.true_positives + self.false_negatives)

    @property
    def specificity(self) -> float:
        """Give the share of the others that are not called nodules."""
        return share(self.true_negatives, self.true_negatives + self.false_positives)

    @property
    def ppv(self) -> float:
        """Give the share of nodules among what is called so; it depends on how many others were sampled."""
        return share(self.true_positives, self.true_positives + self.false_positives)

    @property
    def npv(self) -> float:
        """Give the share of others among what is not called a nodule; it depends on how many were sampled."""
        return share(self.true_negatives, self.true_negatives + self.false_negatives)

    @property
    def accuracy(self) -> float:
        """Give the share of patches called rightly."""
        n = self.true_positives + self.false_positives + self.true_negatives + self.false_negatives
        return share(self.true_positives + self.true_negatives, n)

    @property
    def f1(self) -> float:
        """Give the harmonic mean of sensitivity and PPV."""
        return share(2 * self.true_positives, 2 * self.true_positives + self.false_positives + self.false_negatives)


def confusion_at(labels: ArrayLike, scores: ArrayLike, threshold: float) -> Confusion:
    """Give the confusion matrix of a threshold.

    Parameters
    ----------
    labels : array of 0 and 1, shape (N,)
        Numbers or booleans.
    scores : array, shape (N,)
        Finite.
    threshold : float
        Scores at or above it call their patch a nodule.

    Returns
    -------
    Confusion

    Examples
    --------
    >>> confusion_at([0, 0, 1, 1], [0.1, 0.5, 0.5, 0.4], 0.5)
    Confusion(threshold=0.5, true_positives=1, false_positives=1, true_negatives=1, false_negatives=1)
    """
    is_positive, is_called = np.asarray(labels).astype(bool), np.asarray(scores, np.float64) >= threshold
    return Confusion(
        float(threshold),
        int((is_called & is_positive).sum()),
        int((is_called & ~is_positive).sum()),
        int((~is_called & ~is_positive).sum()),
        int((~is_called & is_positive).sum()),
    )


def share(part: float, whole: float) -> float:
    """Give ``part / whole``; nan when the whole is 0."""
    return part / whole if whole else math.nan


def shares(part: ArrayLike, whole: ArrayLike) -> FloatArray:
    """Give ``part / whole`` of arrays that broadcast; nan where the whole is 0."""
    above, below = np.broadcast_arrays(np.asarray(part, np.float64), np.asarray(whole, np.float64))
    return np.divide(above, below, out=np.full(above.shape, np.nan), where=below != 0)
