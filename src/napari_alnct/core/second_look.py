"""The second look: a classifier judges the cube around each mark of the first stage.

The strongest marks are looked at once more, mirrored left to right, and the mean of both
logits counts: a network answers a little differently to the mirrored chest, and the mean
of two answers ranks better (docs/training.md has the figures).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from napari_alnct.core.config import PrepareSettings
from napari_alnct.core.inference import Runner
from napari_alnct.core.network import scale_hu

MIRRORED_LOOKS = 40  # of at most 100 marks: those that can be among the errors that count, for 40 % more time
BATCH = 16  # cubes at once
LEFT_RIGHT = -1  # axis of a cube (z, y, x); prepared scans are LPS
FloatArray = NDArray[np.float64]


def second_look_logits(
    runner: Runner,
    hu: NDArray[np.int16],
    centres_zyx: NDArray[np.int_],
    edge: int,
    settings: PrepareSettings,
    *,
    n_mirrored: int = 0,
    step: Callable[[float], None] | None = None,
    pulse: Callable[[], None] | None = None,
) -> FloatArray:
    """Give the classifier's logit of each mark; detection and calibration score with this alone.

    Parameters
    ----------
    runner : Runner
        Of a classifier network.
    hu : ndarray of int16, shape (z, y, x)
        Prepared scan.
    centres_zyx : ndarray of int, shape (N, 3)
        Middle voxels of the cubes.
    edge : int
        Voxels along each axis of a cube.
    settings : PrepareSettings
        Its window is the network's.
    n_mirrored : int
        So many marks, the strongest, are looked at again mirrored; theirs is the mean of both logits.
    step : callable, optional
        Called with the share done before every batch; may raise to stop.
    pulse : callable, optional
        Called before every convolution; may raise to stop.

    Returns
    -------
    ndarray of float64, shape (N,)
    """
    n_again = min(n_mirrored, len(centres_zyx))
    n_cubes = len(centres_zyx) + n_again

    def tell(n_done: int) -> None:
        if step:
            step(n_done / n_cubes)

    logits = _look(runner, _cubes(hu, centres_zyx, edge, settings), settings, tell, pulse)
    again = np.argsort(-logits, kind="stable")[:n_again]
    strongest = _cubes(hu, centres_zyx[again], edge, settings)
    mirrored = (np.ascontiguousarray(np.flip(cubes, LEFT_RIGHT)) for cubes in strongest)
    logits[again] += _look(runner, mirrored, settings, lambda n_done: tell(len(centres_zyx) + n_done), pulse)
    logits[again] /= 2
    return logits


def _cubes(
    hu: NDArray[np.int16], centres_zyx: NDArray[np.int_], edge: int, settings: PrepareSettings
) -> Iterator[NDArray[np.int16]]:
    """Give the cubes of the marks, a batch at a time."""
    for first in range(0, len(centres_zyx), BATCH):
        yield np.stack([cut_cube(hu, centre, edge, settings.low_hu) for centre in centres_zyx[first : first + BATCH]])


def _look(
    runner: Runner,
    batches: Iterable[NDArray[np.int16]],
    settings: PrepareSettings,
    tell: Callable[[int], None],
    pulse: Callable[[], None] | None,
) -> FloatArray:
    """Give the logit of each cube; told before every batch how many are done."""
    logits, n_done = [np.zeros(0)], 0
    for cubes in batches:
        tell(n_done)
        x = scale_hu(torch.from_numpy(cubes), settings.low_hu, settings.high_hu).unsqueeze(1)
        logits.append(runner.run(x, pulse).double().numpy())
        n_done += len(cubes)
    return np.concatenate(logits)


def cut_cube(hu: NDArray[np.int16], centre_zyx: NDArray[np.int_], edge: int, fill_hu: float) -> NDArray[np.int16]:
    """Give a cube of voxels around a centre, padded where it reaches outside.

    Parameters
    ----------
    hu : ndarray of int16, shape (z, y, x)
        Prepared scan.
    centre_zyx : ndarray of int, shape (3,)
        Becomes voxel ``edge // 2`` of the cube.
    edge : int
        Voxels along each axis.
    fill_hu : float
        Value outside the scan.

    Returns
    -------
    ndarray of int16, shape (edge, edge, edge)
    """
    out = np.full((edge,) * 3, round(fill_hu), np.int16)
    start = centre_zyx - edge // 2
    source = tuple(slice(max(0, a), max(0, min(n, a + edge))) for a, n in zip(start, hu.shape, strict=True))
    target = tuple(slice(s.start - a, s.stop - a) for s, a in zip(source, start, strict=True))
    out[target] = hu[source]
    return out
