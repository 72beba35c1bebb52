"""Spheres in world space: merging candidates that mean the same thing."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

LEAST_MERGE_RADIUS_MM = 4.0
RIM = 1.25  # of its radius a stronger candidate clears: lobes and spicules of a large one get marks of their own


def merge_close(
    positions_mm: NDArray[np.float64],
    scores: NDArray[np.float64],
    diameters_mm: NDArray[np.float64],
    *,
    least_radius_mm: float = LEAST_MERGE_RADIUS_MM,
) -> NDArray[np.intp]:
    """Give the candidates that remain when those inside a stronger one, or on its rim, are dropped.

    Parameters
    ----------
    positions_mm : ndarray, shape (N, 3)
        Centres, mm, any axis order.
    scores : ndarray, shape (N,)
        Higher is stronger; equal scores keep their order.
    diameters_mm : ndarray, shape (N,)
        Diameters.
    least_radius_mm : float
        A stronger candidate clears at least this far around it, else 1.25 times its radius.

    Returns
    -------
    ndarray of int, shape (K,)
        Indices of the kept candidates, strongest first.

    Examples
    --------
    >>> merge_close(np.array([[0.0, 0, 0], [0, 0, 3], [0, 0, 9]]), np.array([0.5, 0.9, 0.2]), np.full(3, 6.0))
    array([1, 2])
    """
    order = np.argsort(-scores, kind="stable")
    alive = np.ones(len(order), bool)
    kept = []
    for i in order:
        if not alive[i]:
            continue
        kept.append(i)
        reach = max(RIM * diameters_mm[i] / 2, least_radius_mm)
        alive &= np.linalg.norm(positions_mm - positions_mm[i], axis=1) >= reach
    return np.array(kept, dtype=np.intp)
