"""Whether scores mean what they say: reliability curve, expected calibration error, Brier score.

Scores are read as probabilities. They are calibrated for the mix of patches in the table,
which sampling decides (``--neg-ratio``); it is not that of the findings in a scan.

References
----------
Expected calibration error (ECE): Naeini, Cooper and Hauskrecht 2015, AAAI. Bins of equal mass: Nixon et al.
2019, arXiv 1904.01685. Brier 1950, Monthly Weather Review 78:1-3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]
Binning = Literal["equal mass", "equal width"]
N_BINS = 10


@dataclass(frozen=True, eq=False)
class Reliability:
    """Mean score against share of nodules, bin by bin, rising; empty bins are left out.

    ``bins`` (N,): the bin of each patch; ``mean_score``, ``share``, ``n`` (K,): of each bin; ``n_positive`` (K,).
    """

    binning: Binning
    bins: NDArray[np.intp]
    mean_score: FloatArray
    n_positive: NDArray[np.intp]
    n: NDArray[np.intp]

    @property
    def share(self) -> FloatArray:
        """Give the share of nodules in each bin, (K,)."""
        return self.n_positive / self.n

    @property
    def ece(self) -> float:
        """Give the mean distance between score and share, each bin weighted by its patches; 0 is best."""
        return float(np.average(np.abs(self.mean_score - self.share), weights=self.n))


def reliability(
    labels: ArrayLike, scores: ArrayLike, *, n_bins: int = N_BINS, binning: Binning = "equal mass"
) -> Reliability:
    """Give the reliability curve.

    Parameters
    ----------
    labels : array of 0 and 1, shape (N,)
        At least one.
    scores : array, shape (N,)
        Probabilities, 0 to 1.
    n_bins : int
        Most bins.
    binning : {"equal mass", "equal width"}
        As many patches in each (equal scores stay together, so fewer bins where many are equal), or equal parts
        of 0 to 1, each closed below and open above, the last closed.

    Returns
    -------
    Reliability

    Examples
    --------
    >>> curve = reliability([0, 1, 1, 1], [0.2, 0.4, 0.8, 1.0], n_bins=2)
    >>> curve.mean_score.round(9).tolist(), curve.share.tolist(), round(curve.ece, 9)
    ([0.3, 0.9], [0.5, 1.0], 0.15)
    """
    is_positive, values = np.asarray(labels).astype(bool), np.asarray(scores, np.float64)
    if binning == "equal width":
        wanted = np.minimum((values * n_bins).astype(np.intp), n_bins - 1)
    else:
        _, level, counts = np.unique(values, return_inverse=True, return_counts=True)
        before = np.cumsum(counts) - counts + (counts - 1) / 2  # the middle of a run of equals decides for all
        wanted = (before[level] * n_bins / len(values)).astype(np.intp)
    _, bins = np.unique(wanted, return_inverse=True)
    n = np.bincount(bins)
    return Reliability(
        binning, bins, np.bincount(bins, values) / n, np.bincount(bins[is_positive], minlength=len(n)), n
    )


def brier_score(labels: ArrayLike, scores: ArrayLike) -> float:
    """Give the mean squared distance between label and score.

    Parameters
    ----------
    labels : array of 0 and 1, shape (N,)
        At least one.
    scores : array, shape (N,)
        Probabilities, 0 to 1.

    Returns
    -------
    float
        0 is best; a constant score of p, the share of nodules, has p (1 - p).

    Examples
    --------
    >>> brier_score([0, 1], [0.5, 1.0])
    0.125
    """
    return float(np.mean((np.asarray(scores, np.float64) - np.asarray(labels, np.float64)) ** 2))
