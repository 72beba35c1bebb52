"""How well scores tell two classes apart: the area under the ROC curve.

Labels are 1 (nodule) and 0 (none); higher scores mean more likely 1.

References
----------
Hanley and McNeil 1982, Radiology 143:29-36 (the area is the Mann-Whitney statistic).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike


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
    _, level, counts = np.unique(values, return_inverse=True, return_counts=True)
    middle_ranks = np.cumsum(counts) - (counts - 1) / 2  # from 1; equal scores share the middle of their ranks
    surplus = middle_ranks[level[is_positive]].sum() - n_positive * (n_positive + 1) / 2
    return float(surplus / (n_positive * n_negative))
