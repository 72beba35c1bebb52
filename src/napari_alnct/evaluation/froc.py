"""FROC curve and CPM of a set of scans, exactly by LUNA16's rule.

FROC: sensitivity (found / all reference nodules) against false positives per
scan. CPM: its mean at 1/8, 1/4, 1/2, 1, 2, 4 and 8 false positives per scan.

References
----------
``noduleCADEvaluationLUNA16.py`` of the LUNA16 challenge (Zenodo 3723295);
Setio et al. 2017, Med Image Anal 42:1-13, section 4.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_alnct.evaluation.matching import ScanMatch

FP_RATES = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
RATE_LABELS = ("1/8", "1/4", "1/2", "1", "2", "4", "8")
FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class FrocCurve:
    """A FROC curve, from the highest threshold down.

    ``fp_per_scan``, ``sensitivity``, ``thresholds``: shape (K,), the first point is (0, 0).
    """

    fp_per_scan: FloatArray
    sensitivity: FloatArray
    thresholds: FloatArray
    n_scans: int
    n_nodules: int

    def sensitivity_at(self, fp_rates: Sequence[float] = FP_RATES) -> FloatArray:
        """Give the sensitivity at false-positive rates, interpolated linearly.

        Parameters
        ----------
        fp_rates : sequence of float
            False positives per scan.

        Returns
        -------
        ndarray, shape (len(fp_rates),)
        """
        return np.interp(fp_rates, self.fp_per_scan, self.sensitivity)

    @property
    def cpm(self) -> float:
        """Give the mean sensitivity at the seven official rates."""
        return float(self.sensitivity_at().mean())

    def corners(self) -> NDArray[np.intp]:
        """Give the points where the curve bends, and its two ends; the points between lie on straight lines.

        Returns
        -------
        ndarray of int
            Indices into ``fp_per_scan``, rising.
        """
        steps = np.stack([np.diff(self.fp_per_scan * self.n_scans), np.diff(self.sensitivity * self.n_nodules)])
        bends = np.any(np.diff(np.rint(steps), axis=1) != 0, axis=0)
        keep = np.concatenate([[True], bends, [True]])[: len(self.fp_per_scan)]
        return np.flatnonzero(keep)

    def threshold_at(self, fp_rate: float) -> float:
        """Give the lowest threshold that keeps the false positives per scan at or below a rate.

        Parameters
        ----------
        fp_rate : float
            False positives per scan.

        Returns
        -------
        float
            Marks scoring at or above it are shown.
        """
        allowed = np.flatnonzero(self.fp_per_scan <= fp_rate)
        return float(self.thresholds[allowed[-1]])


def froc_curve(matches: Sequence[ScanMatch], n_scans: int | None = None) -> FrocCurve:
    """Give the FROC curve of the outcomes of all scans.

    Parameters
    ----------
    matches : sequence of ScanMatch
        One per scan that has marks or nodules.
    n_scans : int, optional
        Number of listed scans, with those that have neither; default all given.

    Returns
    -------
    FrocCurve
        Marks with equal scores enter together.
    """
    total = len(matches) if n_scans is None else n_scans
    nodules = np.concatenate([m.nodule_scores for m in matches]) if matches else np.zeros(0)
    false = np.concatenate([m.false_positive_scores for m in matches]) if matches else np.zeros(0)
    return curve_of_scores(nodules, false, total)


def curve_of_scores(nodule_scores: FloatArray, false_positive_scores: FloatArray, n_scans: int) -> FrocCurve:
    """Give the FROC curve of scores gathered over all scans.

    Parameters
    ----------
    nodule_scores : ndarray, shape (N,)
        Best score of each reference nodule, -inf when missed: it counts in the divisor only.
    false_positive_scores : ndarray, shape (M,)
        Scores of the marks that hit nothing.
    n_scans : int
        Number of listed scans.

    Returns
    -------
    FrocCurve

    Examples
    --------
    >>> curve = curve_of_scores(np.array([0.9, -np.inf]), np.array([0.4]), n_scans=2)
    >>> curve.fp_per_scan.tolist(), curve.sensitivity.tolist()
    ([0.0, 0.0, 0.5], [0.0, 0.5, 0.5])
    """
    found = np.sort(nodule_scores[np.isfinite(nodule_scores)])
    false = np.sort(false_positive_scores)
    thresholds = np.unique(np.concatenate([found, false]))[::-1]
    hits = len(found) - np.searchsorted(found, thresholds, side="left")
    errors = len(false) - np.searchsorted(false, thresholds, side="left")
    return FrocCurve(
        np.concatenate([[0.0], errors / max(1, n_scans)]),
        np.concatenate([[0.0], hits / max(1, len(nodule_scores))]),
        np.concatenate([[np.inf], thresholds]),
        n_scans,
        len(nodule_scores),
    )
