"""What changes when voxels change: occlusion sensitivity and integrated gradients.

Both replace tissue by plain lung and ask what the logit loses. *Occlusion* (Zeiler and Fergus 2014, arXiv 1311.2901)
does so box by box and needs no gradient: a second opinion on every other map. *Integrated gradients* (Sundararajan et
al. 2017, arXiv 1703.01365) sums gradients on the straight way from plain lung to the patch; its sum over all voxels is
the difference of the two logits.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import torch
from torch import Tensor, nn

from napari_alnct.core.explain.activation import Score, evaluating
from napari_alnct.core.explain.grids import CellGrid

BOX_VOX = 6
STEP_VOX = 4
REACH_VOX = 20  # the central 40 mm of a patch at 1 mm
LUNG_HU = -850.0  # what a box becomes
STEPS = 32
OCCLUDED_VOX = 8 * 64**3  # voxels that a network sees at once
STEPS_VOX = 8 * 64**3  # the same with gradients: steps on the way
Pulse = Callable[[float], None]


def occlusion_map(
    network: nn.Module,
    x: Tensor,
    score: Score,
    *,
    fill: float,
    middle_zyx: tuple[int, int, int],
    reach_vox: int = REACH_VOX,
    pulse: Pulse | None = None,
) -> tuple[Tensor, CellGrid, Tensor]:
    """Give what the logit loses when a small box becomes plain lung.

    Parameters
    ----------
    network : Module
        Runs in evaluation mode and is left as it was.
    x : Tensor, shape (1, 1, D, H, W)
        One input.
    score : callable
        Takes the network's output to logits, shape (B,).
    fill : float
        Plain lung in the network's numbers.
    middle_zyx : tuple of int
        Voxel around which the boxes lie.
    reach_vox : int
        Boxes lie within this distance of the middle along each axis, where the input reaches so far.
    pulse : callable, optional
        Called with the share done before every batch; may raise to stop.

    Returns
    -------
    drops : Tensor, shape (d, h, w)
        Logit of the input minus logit with the box; positive where the box held support.
    grid : CellGrid
        Where the boxes' centres lie.
    logit : Tensor, shape (1,)
        Of the input itself.
    """
    axes = [_box_starts(middle, n, reach_vox) for middle, n in zip(middle_zyx, x.shape[2:], strict=True)]
    places = list(product(*axes))
    drops, size = [], _batch(x, OCCLUDED_VOX)
    with evaluating(network, x.device, with_gradient=False):
        logit = score(network(x.clone()))
        for first in range(0, len(places), size):
            if pulse:
                pulse(first / len(places))
            part = places[first : first + size]
            batch = x.repeat(len(part), 1, 1, 1, 1)
            for one, (z, y, k) in zip(batch, part, strict=True):
                one[:, z : z + BOX_VOX, y : y + BOX_VOX, k : k + BOX_VOX] = fill
            drops.append(logit - score(network(batch)))
    starts = tuple(axis[0] + (BOX_VOX - 1) / 2 for axis in axes)
    grid = CellGrid((float(STEP_VOX),) * 3, (starts[0], starts[1], starts[2]))
    depth, height, width = (len(axis) for axis in axes)
    return torch.cat(drops).reshape(depth, height, width), grid, logit


def _batch(x: Tensor, most_vox: int) -> int:
    """Give how many inputs of this size go through a network at once."""
    return max(1, most_vox // x.numel())


def _box_starts(middle: int, size: int, reach: int) -> list[int]:
    """Give the first voxels of the boxes along one axis, in steps, even around the middle where there is room."""
    n = 2 * reach // STEP_VOX
    first = middle - (STEP_VOX * (n - 1) + BOX_VOX) // 2
    starts = [start for start in range(first, first + STEP_VOX * n, STEP_VOX) if 0 <= start <= size - BOX_VOX]
    return starts or [max(0, (size - BOX_VOX) // 2)]


def integrated_gradients(
    network: nn.Module, x: Tensor, score: Score, *, fill: float, steps: int = STEPS, pulse: Pulse | None = None
) -> tuple[Tensor, Tensor]:
    """Give the integrated gradients of one input against plain lung, by the midpoint rule.

    Parameters
    ----------
    network : Module
        Runs in evaluation mode and is left as it was.
    x : Tensor, shape (1, 1, D, H, W)
        One input.
    score : callable
        Takes the network's output to logits, shape (B,).
    fill : float
        Plain lung in the network's numbers: the baseline.
    steps : int
        Points on the way.
    pulse : callable, optional
        Called with the share done before every batch; may raise to stop.

    Returns
    -------
    attribution : Tensor, shape (D, H, W)
        Per voxel; the sum is the logit minus that of plain lung, up to the midpoint rule's error.
    logit : Tensor, shape (1,)
    """
    size = _batch(x, STEPS_VOX)
    with evaluating(network, x.device, with_gradient=True):
        x = x.detach().clone()
        way = (torch.arange(steps, device=x.device, dtype=x.dtype) + 0.5) / steps
        total = torch.zeros_like(x)
        for first in range(0, steps, size):
            if pulse:
                pulse(first / steps)
            shares = way[first : first + size].view(-1, 1, 1, 1, 1)
            points = (fill + shares * (x - fill)).requires_grad_()
            (gradient,) = torch.autograd.grad(score(network(points)).sum(), points)
            total += gradient.sum(dim=0, keepdim=True)
        with torch.no_grad():
            logit = score(network(x))
    return ((x - fill) * total / steps)[0, 0].detach(), logit.detach()
