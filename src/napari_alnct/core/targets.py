"""What the detector is trained towards: assignment of reference nodules to cells, and losses.

A *cell* is one position of the detector's output grid. The cells nearest to a
nodule's centre are positive, a shell around them and every place that must not
be judged is ignored, the rest is negative.

References
----------
Nearest-k assignment with ignored neighbours: CPM-Net, Song et al. 2020, MICCAI.
Focal loss: Lin et al. 2017, arXiv 1708.02002, equation 5.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from napari_alnct.core.network import MEDIAN_DIAMETER_MM, OUTPUT_STRIDE

POSITIVE, NEGATIVE, IGNORED = 1, 0, -1
N_POSITIVE_CELLS = 5
N_NEAR_CELLS = 27  # up to this rank of distance a cell that is not positive is ignored
LEAST_IGNORED_RADIUS_MM = 5.0
FOCAL_ALPHA, FOCAL_GAMMA = 0.75, 2.0
FOCAL_WEIGHT, HARDEST_WEIGHT, N_HARDEST = 4.0, 0.1, 40


@dataclass(frozen=True, eq=False)
class CellTargets:
    """Targets of one patch.

    ``state`` int8 (d, h, w): 1 positive, 0 negative, -1 ignored.
    ``regression`` float32 (4, d, h, w): offset (z, y, x) in cells and log of the
    diameter over 6.4 mm; meaningful where the state is positive.
    """

    state: NDArray[np.int8]
    regression: NDArray[np.float32]


def assign_cells(
    shape_cells: tuple[int, int, int],
    centres_zyx_vox: NDArray[np.float64],
    diameters_mm: NDArray[np.float64],
    ignored_zyx_vox: NDArray[np.float64],
    ignored_radii_mm: NDArray[np.float64],
) -> CellTargets:
    """Give the targets of a patch at 1 mm.

    Parameters
    ----------
    shape_cells : tuple of int
        Size of the output grid (z, y, x).
    centres_zyx_vox : ndarray, shape (N, 3)
        Nodule centres in patch voxels (= mm).
    diameters_mm : ndarray, shape (N,)
        Their diameters.
    ignored_zyx_vox : ndarray, shape (M, 3)
        Centres of spheres that are neither right nor wrong (excluded findings,
        nodules whose centre lies outside the patch).
    ignored_radii_mm : ndarray, shape (M,)
        Their radii.

    Returns
    -------
    CellTargets
    """
    axes = [np.arange(n) * float(OUTPUT_STRIDE) + (OUTPUT_STRIDE - 1) / 2 for n in shape_cells]
    state = np.zeros(shape_cells, np.int8)
    regression = np.zeros((4, *shape_cells), np.float32)
    for centre, radius in zip(ignored_zyx_vox, ignored_radii_mm, strict=True):
        state[_squared_distance(axes, centre) < radius**2] = IGNORED
    distances = [_squared_distance(axes, centre) for centre in centres_zyx_vox]
    ranked = [_rank_cells(distance2) for distance2 in distances]
    for near, distance2, diameter in zip(ranked, distances, diameters_mm, strict=True):
        state[distance2 < max(diameter / 2, LEAST_IGNORED_RADIUS_MM) ** 2] = IGNORED
        state.flat[near] = IGNORED
    for near, centre, diameter in zip(ranked, centres_zyx_vox, diameters_mm, strict=True):
        cells = np.unravel_index(near[:N_POSITIVE_CELLS], shape_cells)
        state[cells] = POSITIVE
        for k in range(3):
            regression[k][cells] = (centre[k] - axes[k][cells[k]]) / OUTPUT_STRIDE
        regression[3][cells] = np.log(diameter / MEDIAN_DIAMETER_MM)
    return CellTargets(state, regression)


def _squared_distance(axes: list[NDArray[Any]], centre: NDArray[np.float64]) -> NDArray[np.float64]:
    z, y, x = ((axis - c) ** 2 for axis, c in zip(axes, centre, strict=True))
    return z[:, None, None] + y[None, :, None] + x[None, None, :]


def _rank_cells(distance2: NDArray[np.float64]) -> NDArray[np.intp]:
    """Give the flat indices of the nearest cells, nearest first."""
    count = min(N_NEAR_CELLS, distance2.size - 1)
    near = np.argpartition(distance2, count, axis=None)[:count]
    return near[np.argsort(distance2.flat[near], kind="stable")]


def detection_loss(output: Tensor, state: Tensor, regression: Tensor) -> dict[str, Tensor]:
    """Give the parts of the detector's loss; their sum under ``total`` is minimised.

    Parameters
    ----------
    output : Tensor, shape (B, 5, d, h, w)
        From `DetectorNetwork`: centre logit, offset, log diameter.
    state : Tensor of int8, shape (B, d, h, w)
        1 positive, 0 negative, -1 ignored.
    regression : Tensor, shape (B, 4, d, h, w)
        Offset and log-diameter targets.

    Returns
    -------
    dict of str to Tensor
        ``total``, ``focal``, ``hardest``, ``offset``, ``diameter``.
    """
    output = output.float()
    logit, positive, negative = output[:, 0], state == POSITIVE, state == NEGATIVE
    n_positive = positive.sum().clamp(min=1)
    probability = torch.sigmoid(logit)
    log_p, log_not_p = functional.logsigmoid(logit), functional.logsigmoid(-logit)
    miss = FOCAL_ALPHA * ((1 - probability) ** FOCAL_GAMMA * -log_p)[positive].sum()
    false = (1 - FOCAL_ALPHA) * (probability**FOCAL_GAMMA * -log_not_p)[negative].sum()
    focal = FOCAL_WEIGHT * (miss + false) / n_positive
    per_patch = torch.where(negative, -log_not_p, torch.zeros_like(logit)).flatten(1)
    hardest = HARDEST_WEIGHT * per_patch.topk(min(N_HARDEST, per_patch.shape[1]), dim=1).values.mean()
    error = functional.smooth_l1_loss(output[:, 1:], regression, reduction="none", beta=0.1)
    where = positive.unsqueeze(1)
    offset = (error[:, :3] * where).sum() / n_positive
    diameter = (error[:, 3:] * where).sum() / n_positive
    total = focal + hardest + offset + diameter
    return {"total": total, "focal": focal, "hardest": hardest, "offset": offset, "diameter": diameter}
