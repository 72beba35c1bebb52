"""Remove and debias in three dimensions: row F3 of the evaluation of explanations.

Missing voxels are filled with what their 26 neighbours say, so that the shape of the removed region tells
the network as little as possible. Taking away the least relevant voxels first should then cost less than
taking away the most relevant ones.

References
----------
Rong et al. 2022, *A consistent and efficient evaluation strategy for attribution methods* (ROAD),
arXiv 2202.00449, section 4: noisy linear imputation, there with 8 neighbours in the plane. Here faces,
edges and corners weigh 4 : 2 : 1, the outer product of (1, 2, 1).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from napari_alnct.evaluation.explanation_faithfulness import Cube, Scorer
from napari_alnct.evaluation.explanation_localisation import Mask, first_voxels

ROAD_SHARES = (0.2, 0.5, 0.8)  # of the voxels
NOISE_HU = 10.0
CENTRE_WEIGHT = 8.0  # of (1, 2, 1) three times over, which a voxel does not give to itself
MOST_STEPS = 60
TOLERANCE_HU = 0.5  # root mean square of the remaining imbalance, per neighbour weight
Float32 = NDArray[np.float32]


def road_difference(score: Scorer, cube: Cube, order: NDArray[np.intp], seed: int = 0) -> float:
    """Give the logit without the least relevant voxels minus that without the most relevant (F3).

    Parameters
    ----------
    score : callable
        From patches, shape (B, z, y, x), to logits, shape (B,).
    cube : ndarray of int16, shape (z, y, x)
        The patch, HU.
    order : ndarray of int
        Flat voxel numbers, strongest first.
    seed : int
        Of the noise.

    Returns
    -------
    float
        Mean over `ROAD_SHARES`, logits; positive when the map knows what matters.
    """
    counts = [round(share * order.size) for share in ROAD_SHARES]
    missing = [first_voxels(way, count, cube.shape) for way in (order[::-1], order) for count in counts]
    least, most = score(np.stack([impute(cube, mask, seed) for mask in missing])).reshape(2, -1)
    return float(np.mean(least - most))


def impute(cube: Cube, missing: Mask, seed: int = 0, noise_hu: float = NOISE_HU) -> Cube:
    """Give a patch whose missing voxels are the weighted mean of their 26 neighbours, with noise.

    Parameters
    ----------
    cube : ndarray of int16, shape (z, y, x)
        The patch, HU; what it holds at missing voxels is not looked at.
    missing : ndarray of bool, same shape
        Voxels to fill.
    seed : int
        Of the noise.
    noise_hu : float
        Standard deviation of the noise.

    Returns
    -------
    ndarray of int16, shape (z, y, x)
        Voxels that are not missing are as they were.
    """
    if not missing.any() or missing.all():
        return cube.copy()
    known = np.where(missing, 0, cube).astype(np.float32)
    balanced = _solve(known, missing)
    noise = np.random.default_rng(seed).normal(0.0, noise_hu, cube.shape)
    return np.where(missing, np.rint(balanced + noise), cube).astype(np.int16)


def _solve(known: Float32, missing: Mask) -> Float32:
    """Give the patch in balance at its missing voxels: conjugate gradients from a smooth first guess."""
    hole = missing.astype(np.float32)
    weights = _neighbours(np.ones_like(known))
    x = _first_guess(known, missing) * hole
    residual = (_neighbours(known + x) - weights * x) * hole
    direction, squared = residual.copy(), float((residual**2).sum())
    enough = (TOLERANCE_HU * float(weights.mean())) ** 2 * float(hole.sum())
    for _ in range(MOST_STEPS):
        if squared <= enough:
            break
        changed = (weights * direction - _neighbours(direction)) * hole
        step = squared / float((direction * changed).sum())
        x += step * direction
        residual -= step * changed
        before, squared = squared, float((residual**2).sum())
        direction = residual + (squared / before) * direction
    return known + x


def _first_guess(known: Float32, missing: Mask) -> Float32:
    """Give the mean of the known voxels in the smallest block around each voxel that holds any."""
    edge = 2 ** int(np.ceil(np.log2(max(known.shape))))
    room = [(0, edge - n) for n in known.shape]
    total, count = np.pad(known, room), np.pad((~missing).astype(np.float32), room)
    levels = []
    while True:
        levels.append(np.divide(total, count, out=np.full(total.shape, np.nan, np.float32), where=count > 0))
        if total.shape[0] == 1:
            break
        total, count = (_halved(values) for values in (total, count))
    guess = levels.pop()
    while levels:
        for axis in range(3):
            guess = np.repeat(guess, 2, axis=axis)
        finer = levels.pop()
        guess = np.where(np.isnan(finer), guess, finer)
    return guess[tuple(slice(n) for n in known.shape)]


def _halved(values: Float32) -> Float32:
    """Give the sums over blocks of 2 x 2 x 2."""
    n = values.shape[0] // 2
    return values.reshape(n, 2, n, 2, n, 2).sum(axis=(1, 3, 5))


def _neighbours(values: Float32) -> Float32:
    """Give the weighted sum of the 26 neighbours inside the patch."""
    total = values
    for axis in range(3):
        padded = np.moveaxis(total, axis, 0)
        out = 2 * padded
        out[1:] += padded[:-1]
        out[:-1] += padded[1:]
        total = np.moveaxis(out, 0, axis)
    return total - np.float32(CENTRE_WEIGHT) * values
