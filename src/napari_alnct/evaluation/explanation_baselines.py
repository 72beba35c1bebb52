"""Maps that know nothing of the network: what every row of the evaluation of explanations must beat.

*random* is noise, *centre prior* a Gaussian in the middle of the patch, *input intensity* how much denser
than lung a voxel is. Plain intensity beats coarse class-activation maps in deletion, so a faithfulness
figure without that row says nothing.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from napari_alnct.evaluation.explanation_localisation import FloatMap

RANDOM, CENTRE, INTENSITY = "random", "centre prior", "input intensity"
BASELINES = (RANDOM, CENTRE, INTENSITY)
CENTRE_SIGMA_VOX = 6.0
LUNG_HU = -850.0


def baseline_map(name: str, hu: NDArray[np.int16], seed: int = 0) -> FloatMap:
    """Give the map of a baseline row.

    Parameters
    ----------
    name : {"random", "centre prior", "input intensity"}
        Which.
    hu : ndarray of int16, shape (z, y, x)
        The patch.
    seed : int
        Of the random map.

    Returns
    -------
    ndarray of float32, shape (z, y, x)
    """
    if name == RANDOM:
        return np.random.default_rng(seed).random(hu.shape, dtype=np.float32)
    if name == INTENSITY:
        return np.maximum(hu.astype(np.float32) - np.float32(LUNG_HU), np.float32(0))
    if name != CENTRE:
        raise ValueError(f"no baseline is called {name!r}")
    z, y, x = np.ogrid[tuple(slice(-(n - 1) / 2, (n - 1) / 2, complex(0, n)) for n in hu.shape)]
    return np.exp(-(z**2 + y**2 + x**2) / (2 * CENTRE_SIGMA_VOX**2)).astype(np.float32)
