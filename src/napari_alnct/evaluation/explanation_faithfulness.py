"""Whether an evidence map is true to the network: rows F1 and F2 of the evaluation of explanations.

Voxels are taken away or brought back, strongest first, and the network is asked again. What stands in for
a voxel decides much, so there are two *fills*: plain lung with noise, and the blurred patch.

References
----------
Deletion and insertion: Petsiuk et al. 2018, RISE, arXiv 1806.07421, section 4.3.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_alnct.evaluation.explanation_localisation import Mask, first_voxels

Cube = NDArray[np.int16]
FloatArray = NDArray[np.float64]
Scorer = Callable[[Cube], FloatArray]
SHARES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.2)  # of the voxels
LUNG, BLURRED = "lung", "blurred"
FILLS = (LUNG, BLURRED)
LUNG_HU, LUNG_NOISE_HU = -850.0, 25.0
BLUR_VOX = 6.0
LEAST_RANGE = 1.0  # logits between the patch and its fill: with less there is nothing to take away
LUNG_RANGE_HU = (-1000, -600)
LEAST_LUNG_SHARE = 0.7  # of a random place that must be lung
CLEARANCE_VOX = 3  # between a random place and the nodule
N_PLACES, N_TRIES = 4, 400


@dataclass(frozen=True, eq=False)
class Surroundings:
    """A patch with what stands in for its voxels and what the network says of both.

    Parameters
    ----------
    cube : ndarray of int16, shape (z, y, x)
        The patch, HU.
    logit : float
        The network's score of it.
    fills : mapping of str to ndarray
        By name of `FILLS`.
    fill_logits : mapping of str to float
        Scores of the fills alone.
    """

    cube: Cube
    logit: float
    fills: Mapping[str, Cube]
    fill_logits: Mapping[str, float]


def surround(score: Scorer, cube: Cube, seed: int = 0) -> Surroundings:
    """Give a patch with its fills, scored.

    Parameters
    ----------
    score : callable
        From patches, shape (B, z, y, x), to logits, shape (B,).
    cube : ndarray of int16, shape (z, y, x)
        The patch, HU.
    seed : int
        Of the noise.

    Returns
    -------
    Surroundings
    """
    noise = np.random.default_rng(seed).normal(LUNG_HU, LUNG_NOISE_HU, cube.shape)
    blurred = ndimage.gaussian_filter(cube.astype(np.float32), BLUR_VOX, mode="nearest")
    fills = {LUNG: np.rint(noise).astype(np.int16), BLURRED: np.rint(blurred).astype(np.int16)}
    logit, *others = score(np.stack([cube, *fills.values()])).tolist()
    return Surroundings(cube, logit, fills, dict(zip(fills, others, strict=True)))


def removal_areas(score: Scorer, around: Surroundings, order: NDArray[np.intp]) -> dict[str, float]:
    """Give the areas under the deletion and insertion curves with both fills (F1).

    Parameters
    ----------
    score : callable
        From patches to logits.
    around : Surroundings
        From `surround`.
    order : ndarray of int
        Flat voxel numbers, strongest first.

    Returns
    -------
    dict of str to float
        ``deletion lung``, ``insertion lung``, ``deletion blurred``, ``insertion blurred``: the mean logit
        over the shares (trapezia over their logarithm) on a scale where the fill is 0 and the patch 1. Low is
        good for deletion, high for insertion. NaN where patch and fill differ by less than a logit.
    """
    masks = [first_voxels(order, round(share * order.size), around.cube.shape) for share in SHARES]
    cubes = []
    for fill in around.fills.values():
        cubes += [np.where(mask, fill, around.cube) for mask in masks]
        cubes += [np.where(mask, around.cube, fill) for mask in masks]
    logits = score(np.stack(cubes)).reshape(len(around.fills), 2, len(SHARES))
    areas = {}
    for fill_name, (deleted, inserted) in zip(around.fills, logits, strict=True):
        base = around.fill_logits[fill_name]
        span = around.logit - base if around.logit - base >= LEAST_RANGE else np.nan
        areas[f"deletion {fill_name}"] = mean_over_shares((deleted - base) / span)
        areas[f"insertion {fill_name}"] = mean_over_shares((inserted - base) / span)
    return areas


def mean_over_shares(values: FloatArray) -> float:
    """Give the mean of a curve over the logarithm of `SHARES`, by trapezia.

    Parameters
    ----------
    values : ndarray, shape (len(SHARES),)
        One per share.

    Returns
    -------
    float
    """
    place = np.log(SHARES)
    return float(np.trapezoid(values, place) / (place[-1] - place[0]))


def drop_without(score: Scorer, around: Surroundings, masks: list[Mask]) -> FloatArray:
    """Give what the logit loses when each mask becomes lung.

    Parameters
    ----------
    score : callable
        From patches to logits.
    around : Surroundings
        From `surround`.
    masks : list of ndarray of bool, shape (z, y, x)
        What to take away, one at a time.

    Returns
    -------
    ndarray of float64, shape (len(masks),)
    """
    cubes = np.stack([np.where(mask, around.fills[LUNG], around.cube) for mask in masks])
    drops: FloatArray = around.logit - score(cubes)
    return drops


def random_lung(cube: Cube, mask: Mask, seed: int = 0, n_places: int = N_PLACES) -> list[Mask]:
    """Give the nodule's shape at random places in the lung of a patch, clear of the nodule.

    Parameters
    ----------
    cube : ndarray of int16, shape (z, y, x)
        The patch, HU.
    mask : ndarray of bool, same shape
        The nodule.
    seed : int
        Of the choice.
    n_places : int
        How many at most.

    Returns
    -------
    list of ndarray of bool
        Fewer, or none, where there is no room.
    """
    rng, places = np.random.default_rng(seed), list[Mask]()
    voxels = np.argwhere(mask)
    low, high = -voxels.min(axis=0), np.array(mask.shape) - voxels.max(axis=0)
    is_lung = (cube > LUNG_RANGE_HU[0]) & (cube < LUNG_RANGE_HU[1])
    is_free = is_lung & ~ndimage.binary_dilation(mask, iterations=CLEARANCE_VOX)
    for _ in range(N_TRIES):
        moved = tuple((voxels + rng.integers(low, high)).T)
        if is_free[moved].mean() >= LEAST_LUNG_SHARE and not mask[moved].any():
            place = np.zeros(mask.shape, bool)
            place[moved] = True
            places.append(place)
        if len(places) == n_places:
            break
    return places
