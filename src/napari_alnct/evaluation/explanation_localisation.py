"""Where an evidence map points: rows L1 to L5 of the evaluation of explanations.

A *map* is a signed array on the voxel grid of the network's input, a *mask* the nodule on the same
grid. Localisation says whether a map is plausible to a reader, not whether it is true to the network:
that is what `explanation_faithfulness` measures. Equal values are treated as drawn at random, so that a
flat map scores what chance would.

References
----------
Pointing game: Zhang et al. 2018, arXiv 1608.00507, section 4.2. Energy in the object: Wang et al. 2020,
Score-CAM, arXiv 1910.01279, section 4.2.2.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_alnct.core.geometry import Triple

FloatMap = NDArray[np.float32]
Mask = NDArray[np.bool_]
POINTING_REACH_VOX = 1  # the mask grows by this much before the maximum is looked up
HALF_MAXIMUM = 0.5
TIES_SEED = 0


@dataclass(frozen=True, kw_only=True)
class Localisation:
    """How well one map points at one nodule; NaN where a map without support has no answer.

    Parameters
    ----------
    pointing : float
        1 where the maximum lies inside the mask grown by a voxel (L1); between for tied maxima.
    energy, chance : float
        Share of the positive map inside the mask, and of the volume (L2).
    auprc, top_k_iou : float
        Area under the precision-recall curve of the voxels; overlap of the mask with as many strongest voxels (L3).
    peak_error_mm : float
        From the maximum to the mask's centroid (L4).
    spread : float
        Volume at half the maximum or more over the mask's volume (L5).
    """

    pointing: float
    energy: float
    chance: float
    auprc: float
    top_k_iou: float
    peak_error_mm: float
    spread: float


def localise(values: FloatMap, mask: Mask, spacing_zyx_mm: Triple = (1.0, 1.0, 1.0)) -> Localisation:
    """Give rows L1 to L5 for one map.

    Parameters
    ----------
    values : ndarray of float32, shape (z, y, x)
        Signed map.
    mask : ndarray of bool, same shape
        The nodule; at least one voxel.
    spacing_zyx_mm : tuple of float
        Of both.

    Returns
    -------
    Localisation

    Examples
    --------
    >>> mask = np.zeros((9, 9, 9), bool)
    >>> mask[4, 4, 4] = True
    >>> found = localise(mask.astype(np.float32), mask)
    >>> found.pointing, found.energy, found.top_k_iou, found.peak_error_mm, found.spread
    (1.0, 1.0, 1.0, 0.0, 1.0)
    """
    order = strongest_first(values)
    return Localisation(
        pointing=pointing(values, mask),
        energy=energy_share(values, mask),
        chance=float(mask.mean()),
        auprc=average_precision(values, mask),
        top_k_iou=overlap(first_voxels(order, int(mask.sum()), mask.shape), mask),
        peak_error_mm=peak_error_mm(values, mask, spacing_zyx_mm),
        spread=spread(values, mask),
    )


def pointing(values: FloatMap, mask: Mask, reach_vox: int = POINTING_REACH_VOX) -> float:
    """Give the share of the map's maxima inside the mask grown by a few voxels.

    Parameters
    ----------
    values : ndarray of float32, shape (z, y, x)
        Signed map.
    mask : ndarray of bool, same shape
        The nodule.
    reach_vox : int
        How far the mask grows, in voxels along each face.

    Returns
    -------
    float
        0 or 1, between for tied maxima; 0 without support.
    """
    grown = ndimage.binary_dilation(mask, iterations=reach_vox)
    return float(grown[maxima(values)].mean()) if values.max() > 0 else 0.0


def maxima(values: FloatMap) -> Mask:
    """Give the voxels that hold the map's maximum."""
    at_top: Mask = values >= values.max()
    return at_top


def energy_share(values: FloatMap, mask: Mask) -> float:
    """Give the share of the positive map that lies inside the mask; 0 without support.

    Parameters
    ----------
    values : ndarray of float32, shape (z, y, x)
        Signed map.
    mask : ndarray of bool, same shape
        The nodule.

    Returns
    -------
    float
    """
    support = np.maximum(values, 0, dtype=np.float64)
    total = float(support.sum())
    return float(support[mask].sum()) / total if total > 0 else 0.0


def average_precision(values: FloatMap, mask: Mask) -> float:
    """Give the area under the precision-recall curve of the voxels, as a step function.

    Parameters
    ----------
    values : ndarray of float32, shape (z, y, x)
        Signed map.
    mask : ndarray of bool, same shape
        The nodule; at least one voxel.

    Returns
    -------
    float
        1 when every voxel of the mask is above every other; the mask's share of the volume for a flat map.

    Examples
    --------
    >>> average_precision(np.float32([4, 3, 2, 1]), np.array([True, False, True, False]))
    0.8333333333333333
    """
    flat = values.ravel()
    order = np.argsort(-flat, kind="stable")
    hits = np.cumsum(mask.ravel()[order])
    ends = np.flatnonzero(np.diff(flat[order], append=np.float32(np.nan)) != 0)  # equal values enter together
    recall, precision = hits[ends] / hits[-1], hits[ends] / (ends + 1)
    return float(np.sum(np.diff(recall, prepend=0.0) * precision))


def strongest_first(values: FloatMap) -> NDArray[np.intp]:
    """Give the voxels as flat numbers, strongest support first, equal ones in a fixed random order.

    Parameters
    ----------
    values : ndarray of float32, any shape
        Signed map.

    Returns
    -------
    ndarray of int, shape (values.size,)
    """
    shuffled = np.random.default_rng(TIES_SEED).permutation(values.size)
    return shuffled[np.argsort(-values.ravel()[shuffled], kind="stable")]


def first_voxels(order: NDArray[np.intp], count: int, shape: tuple[int, ...]) -> Mask:
    """Give the first voxels of an order as a mask.

    Parameters
    ----------
    order : ndarray of int
        Flat numbers, from `strongest_first`.
    count : int
        How many.
    shape : tuple of int
        Of the mask.

    Returns
    -------
    ndarray of bool
    """
    chosen = np.zeros(order.size, bool)
    chosen[order[:count]] = True
    return chosen.reshape(shape)


def overlap(one: Mask, other: Mask) -> float:
    """Give intersection over union of two masks; 0 when both are empty."""
    union = int((one | other).sum())
    return int((one & other).sum()) / union if union else 0.0


def peak_error_mm(values: FloatMap, mask: Mask, spacing_zyx_mm: Triple) -> float:
    """Give how far the maximum lies from the mask's centroid, the mean for tied maxima; NaN without support.

    Parameters
    ----------
    values : ndarray of float32, shape (z, y, x)
        Signed map.
    mask : ndarray of bool, same shape
        The nodule.
    spacing_zyx_mm : tuple of float
        Of both.

    Returns
    -------
    float
        mm.
    """
    if not values.max() > 0:
        return float("nan")
    step = (np.argwhere(maxima(values)) - np.argwhere(mask).mean(axis=0)) * spacing_zyx_mm
    return float(np.linalg.norm(step, axis=1).mean())


def spread(values: FloatMap, mask: Mask) -> float:
    """Give the volume at half the maximum or more over the mask's volume; NaN without support."""
    top = float(values.max())
    return float((values >= HALF_MAXIMUM * top).sum() / mask.sum()) if top > 0 else float("nan")


def threshold_overlap(hu: NDArray[np.int16], mask: Mask, threshold_hu: float = -400.0) -> float:
    """Give the overlap of a plain threshold segmentation with the mask: what row L3 stands beside.

    Parameters
    ----------
    hu : ndarray of int16, shape (z, y, x)
        The patch.
    mask : ndarray of bool, same shape
        The nodule.
    threshold_hu : float
        Voxels above it that hang together with the one nearest to the mask's centroid are the segmentation.

    Returns
    -------
    float
        Intersection over union; 0 when nothing in the mask is above the threshold.
    """
    pieces, _ = ndimage.label(hu > threshold_hu)
    inside = np.argwhere(mask & (pieces > 0))
    if not len(inside):
        return 0.0
    step = np.linalg.norm(inside - np.argwhere(mask).mean(axis=0), axis=1)
    seed = inside[int(np.argmin(step))]
    return overlap(pieces == pieces[tuple(seed)], mask)
