"""The first stage on a whole prepared scan: score map, then peaks as candidates.

Runs the detector network over the whole volume at once, or over overlapping
blocks when memory is short; both give the same map.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from napari_alnct.core.config import DetectorNetSettings, PrepareSettings
from napari_alnct.core.geometry import Geometry
from napari_alnct.core.inference import Runner, is_out_of_memory
from napari_alnct.core.network import (
    MEDIAN_DIAMETER_MM,
    OUTPUT_STRIDE,
    cell_centre,
    receptive_radius_vox,
    scale_hu,
)
from napari_alnct.core.patches import Block, padded_shape, plan_blocks

LEAST_LOGIT = -7.0  # cells below are never candidates
MOST_PEAKS = 600
MOST_OFFSET_CELLS = 2.0
DIAMETER_RANGE_MM = (1.0, 100.0)
SMALLEST_BLOCK_VOX = 2_000_000  # below this, running out of memory is final

Step = Callable[[float], None]


@dataclass(frozen=True, eq=False)
class Peaks:
    """Local maxima of the score map: world positions (N, 3), logits (N,), diameters (N,), strongest first."""

    positions_xyz_mm: NDArray[np.float64]
    logits: NDArray[np.float64]
    diameters_mm: NDArray[np.float64]


def score_map(
    runner: Runner,
    hu: NDArray[np.int16],
    prepare: PrepareSettings,
    *,
    most_voxels: int,
    mirrored_passes: int = 0,
    step: Step | None = None,
) -> Tensor:
    """Give the five numbers of every cell of a prepared scan.

    Parameters
    ----------
    runner : Runner
        Of a detector network.
    hu : ndarray of int16, shape (z, y, x)
        Prepared scan.
    prepare : PrepareSettings
        Its window is the network's.
    most_voxels : int
        Larger scans run in blocks.
    mirrored_passes : int
        0 to 3: how often the scan is searched again, mirrored along x, y, z in turn; the result is the mean.
    step : callable, optional
        Called with the share done, 0 to 1, before every network stage; may raise to stop.

    Returns
    -------
    Tensor of float32, shape (5, d, h, w)
        One cell per 4 voxels, of the scan padded to multiples of the network's stride.

    Raises
    ------
    RuntimeError, MemoryError
        If even small blocks do not fit (`is_out_of_memory`), or the device fails.
    """
    if not mirrored_passes:
        return _one_pass(runner, hu, prepare, most_voxels, step)
    multiple = _detector_settings(runner).stride
    shape = padded_shape((hu.shape[0], hu.shape[1], hu.shape[2]), multiple)
    ends = [(0, n - m) for n, m in zip(shape, hu.shape, strict=True)]
    whole = np.pad(hu, ends, constant_values=round(prepare.low_hu))  # so that cells of both ways coincide
    n_passes = mirrored_passes + 1
    cells = _one_pass(runner, whole, prepare, most_voxels, _part_of(step, 0, n_passes))
    for number, axis in enumerate((2, 1, 0)[:mirrored_passes], start=1):
        part = _part_of(step, number, n_passes)
        mirrored = _one_pass(runner, np.ascontiguousarray(np.flip(whole, axis)), prepare, most_voxels, part)
        mirrored = mirrored.flip(axis + 1)
        mirrored[1 + axis] *= -1  # the offset along the mirrored axis
        cells += mirrored
    return cells / n_passes


def _part_of(step: Step | None, number: int, n_passes: int) -> Step | None:
    """Give the progress of one pass as progress of all."""
    return (lambda share: step((number + share) / n_passes)) if step else None


def _detector_settings(runner: Runner) -> DetectorNetSettings:
    settings = runner.network.settings
    if not isinstance(settings, DetectorNetSettings):
        raise TypeError("score_map needs a detector network")
    return settings


def _one_pass(
    runner: Runner, hu: NDArray[np.int16], prepare: PrepareSettings, most_voxels: int, step: Step | None
) -> Tensor:
    """Give the cells of one search, in smaller and smaller blocks where memory is short."""
    settings = _detector_settings(runner)
    margin, multiple = receptive_radius_vox(settings), settings.stride
    while True:
        shape = padded_shape((hu.shape[0], hu.shape[1], hu.shape[2]), multiple)
        blocks = plan_blocks(shape, most_voxels=most_voxels, margin=margin, multiple=multiple)
        try:
            return _run_blocks(runner, hu, prepare, blocks, shape, step)
        except (MemoryError, RuntimeError) as fault:
            if most_voxels <= SMALLEST_BLOCK_VOX or not is_out_of_memory(fault):
                raise
            most_voxels = max(SMALLEST_BLOCK_VOX, min(most_voxels, hu.size) // 2)
            if runner.device.type == "cuda":
                torch.cuda.empty_cache()


def _run_blocks(
    runner: Runner,
    hu: NDArray[np.int16],
    prepare: PrepareSettings,
    blocks: list[Block],
    shape: tuple[int, int, int],
    step: Step | None,
) -> Tensor:
    out = torch.empty((5, *(n // OUTPUT_STRIDE for n in shape)))
    done, total = 0, len(blocks) * runner.n_pulses

    def pulse() -> None:
        nonlocal done
        if step:
            step(done / total)
        done += 1

    for block in blocks:
        x = scale_hu(_read_block(hu, block, prepare.low_hu), prepare.low_hu, prepare.high_hu)
        y = runner.run(x[None, None], pulse)[0]
        inner = [
            slice((a - s) // OUTPUT_STRIDE, (b - s) // OUTPUT_STRIDE)
            for s, a, b in zip(block.start, block.core_start, block.core_stop, strict=True)
        ]
        target = [
            slice(a // OUTPUT_STRIDE, b // OUTPUT_STRIDE)
            for a, b in zip(block.core_start, block.core_stop, strict=True)
        ]
        out[:, target[0], target[1], target[2]] = y[:, inner[0], inner[1], inner[2]]
    return out


def _read_block(hu: NDArray[np.int16], block: Block, fill_hu: float) -> Tensor:
    """Give the voxels of a block, padded at the far edges of the scan."""
    part = hu[tuple(slice(a, b) for a, b in zip(block.start, block.stop, strict=True))]
    wanted = [b - a for a, b in zip(block.start, block.stop, strict=True)]
    missing = [n - m for n, m in zip(wanted, part.shape, strict=True)]
    x = torch.from_numpy(np.ascontiguousarray(part))
    return functional.pad(x, (0, missing[2], 0, missing[1], 0, missing[0]), value=round(fill_hu))


def find_peaks(cells: Tensor, geometry: Geometry) -> Peaks:
    """Give the local maxima of a score map in world space.

    Parameters
    ----------
    cells : Tensor, shape (5, d, h, w)
        From `score_map`.
    geometry : Geometry
        Grid of the prepared scan, isotropic.

    Returns
    -------
    Peaks
        At most 600, centre = cell centre + offset.
    """
    logit = cells[0]
    is_peak = (functional.max_pool3d(logit[None, None], 3, stride=1, padding=1)[0, 0] == logit) & (logit > LEAST_LOGIT)
    index = is_peak.nonzero()  # (N, 3)
    order = torch.argsort(logit[is_peak], descending=True, stable=True)[:MOST_PEAKS]
    index = index[order]
    z, y, x = index.unbind(1)
    values = cells[:, z, y, x]  # (5, N)
    offset = values[1:4].T.clamp(-MOST_OFFSET_CELLS, MOST_OFFSET_CELLS)
    voxel = cell_centre(index) + offset * OUTPUT_STRIDE
    diameter_mm = MEDIAN_DIAMETER_MM * torch.exp(values[4])
    return Peaks(
        geometry.index_to_world(voxel.double().numpy()),
        values[0].double().numpy(),
        np.clip(diameter_mm.double().numpy(), *DIAMETER_RANGE_MM),
    )
