"""How alike evidence maps are: rows F4 to F9 of the evaluation of explanations.

A map must change when the network's weights are destroyed (F4), when the question is about another
candidate (F5) and when the score changes (F6). It must not change for a little noise or a step of one
voxel (F7) or with the seed of the training (F8), and it should agree with occlusion (F9, `core.evidence.agreement`).

References
----------
Cascading randomisation: Adebayo et al. 2018, arXiv 1810.03292, section 3. SSIM: Wang et al. 2004, IEEE
Trans Image Process 13(4):600-612, equation 13. Prediction-saliency correlation: Zhang et al. 2024, PMC10831523.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from napari_alnct.core.evidence import spearman
from napari_alnct.evaluation.explanation_localisation import (
    FloatMap,
    Mask,
    first_voxels,
    maxima,
    overlap,
    strongest_first,
)

FloatArray = NDArray[np.float64]
SSIM_SIGMA = 1.5  # cells
SSIM_CONSTANTS = (0.01**2, 0.03**2)
SHIFT_TOLERANCE_VOX = 1.0


def similarity(one: FloatMap, other: FloatMap) -> tuple[float, float]:
    """Give Spearman's rho and SSIM of two maps on the same cells (F4).

    Parameters
    ----------
    one, other : ndarray of float32, shape (z, y, x)
        Signed maps; their scales do not matter.

    Returns
    -------
    tuple of (float, float)
        1, 1 for equal maps.

    Examples
    --------
    >>> cells = np.random.default_rng(0).random((4, 4, 4), dtype=np.float32)
    >>> similarity(cells, 2 * cells)
    (1.0, 1.0)
    """
    return round(spearman(one, other), 12), structural_similarity(one, other)


def structural_similarity(one: FloatMap, other: FloatMap) -> float:
    """Give the mean SSIM of two maps, each divided by its largest magnitude.

    Parameters
    ----------
    one, other : ndarray of float32, shape (z, y, x)
        Signed maps.

    Returns
    -------
    float
        -1 to 1.
    """
    a, b = (_to_unit(values) for values in (one, other))
    c1, c2 = (constant * 2.0**2 for constant in SSIM_CONSTANTS)  # of a range from -1 to 1

    def smooth(values: FloatArray) -> FloatArray:
        return ndimage.gaussian_filter(values, SSIM_SIGMA, mode="nearest", truncate=2.0)

    mean_a, mean_b = smooth(a), smooth(b)
    var_a, var_b = smooth(a * a) - mean_a**2, smooth(b * b) - mean_b**2
    shared = smooth(a * b) - mean_a * mean_b
    value = (2 * mean_a * mean_b + c1) * (2 * shared + c2)
    return round(float((value / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))).mean()), 12)


def _to_unit(values: FloatMap) -> FloatArray:
    top = float(np.abs(values).max())
    return values.astype(np.float64) / (top or 1.0)


def own_and_other(values: FloatMap, own: Mask, other: Mask) -> tuple[float, float]:
    """Give the positive evidence inside the candidate's own mask and inside its neighbour's (F5).

    Parameters
    ----------
    values : ndarray of float32, shape (z, y, x)
        Signed map of the candidate.
    own, other : ndarray of bool, same shape
        Masks of the candidate and of another one in the same patch.

    Returns
    -------
    tuple of (float, float)
        Sums in the map's unit.
    """
    support = np.maximum(values, 0, dtype=np.float64)
    return float(support[own].sum()), float(support[other].sum())


def map_change(before: FloatMap, after: FloatMap) -> float:
    """Give how much a map changed: the sum of the absolute differences over that of the map before (F6).

    Parameters
    ----------
    before, after : ndarray of float32, shape (z, y, x)
        Signed maps in logit units, which must shrink with the score.

    Returns
    -------
    float
        0 for no change, 1 when the map vanished; NaN when there was none before.
    """
    total = float(np.abs(before, dtype=np.float64).sum())
    return float(np.abs(after.astype(np.float64) - before).sum()) / total if total > 0 else float("nan")


def correlation(first: ArrayLike, second: ArrayLike) -> float:
    """Give Pearson's correlation of the pairs that are finite; NaN when there are fewer than 3 or one is constant.

    Parameters
    ----------
    first, second : array_like, shape (N,)
        Paired numbers.

    Returns
    -------
    float
    """
    pairs = np.array([first, second], float)
    pairs = pairs[:, np.isfinite(pairs).all(axis=0)]
    if pairs.shape[1] < 3 or (pairs.std(axis=1) == 0).any():
        return float("nan")
    return float(np.corrcoef(pairs)[0, 1])


def shift_error_vox(before: FloatMap, after: FloatMap, shift_zyx: Sequence[int]) -> float:
    """Give how far the peak is from where a shift of the patch should have taken it (F7).

    Parameters
    ----------
    before, after : ndarray of float32, shape (z, y, x)
        Maps on the voxels of the patch, before and after its content moved.
    shift_zyx : sequence of int
        How the content moved, voxels.

    Returns
    -------
    float
        Voxels; centroids of tied maxima. NaN when a map has no support.
    """
    if not (before.max() > 0 and after.max() > 0):
        return float("nan")
    peaks = [np.argwhere(maxima(values)).mean(axis=0) for values in (before, after)]
    return float(np.linalg.norm(peaks[1] - peaks[0] - shift_zyx))


def strongest_overlap(one: FloatMap, other: FloatMap, count: int) -> float:
    """Give the overlap of the strongest voxels of two maps (F8).

    Parameters
    ----------
    one, other : ndarray of float32, same shape
        Signed maps of two networks.
    count : int
        How many voxels: the nodule's volume.

    Returns
    -------
    float
        Intersection over union.
    """
    a, b = (first_voxels(strongest_first(values), count, values.shape) for values in (one, other))
    return overlap(a, b)
