"""Occlusion and integrated gradients: by hand, against Captum, without side effects."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from captum.attr import IntegratedGradients, Occlusion
from torch import Tensor, nn

from napari_alnct.core.errors import JobCancelled
from napari_alnct.core.explain.grids import CellGrid
from napari_alnct.core.explain.perturbation import BOX_VOX, STEP_VOX, integrated_gradients, occlusion_map
from tests.core.explain.small_networks import assert_same_state, plain, state_of

FILL = -0.7


def whole(output: Tensor) -> Tensor:
    return output


def inputs(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


class VoxelSum(nn.Module):
    """The logit is the sum of some voxels: what a box takes away can be counted."""

    def __init__(self, weights: Tensor) -> None:
        super().__init__()
        self.register_buffer("weights", weights)

    def forward(self, x: Tensor) -> Tensor:
        """Give one logit per input."""
        return (x * self.weights).sum(dim=(1, 2, 3, 4))


def test_one_voxel_by_hand() -> None:
    """Logit = 3 x voxel (21, 20, 19), which is 2: boxes that cover it cost 3 * (2 - 0.5) = 4.5, all others nothing."""
    weights = torch.zeros(40, 40, 40)
    weights[21, 20, 19] = 3.0
    x = torch.full((1, 1, 40, 40, 40), 2.0)
    drops, grid, logit = occlusion_map(VoxelSum(weights), x, whole, fill=0.5, middle_zyx=(20, 20, 20))
    assert logit.tolist() == [6.0]
    assert grid == CellGrid((4.0,) * 3, (5.5,) * 3)  # boxes of 6 from voxel 3 on, in steps of 4: 3, 7, ..., 31
    assert drops.shape == (8, 8, 8)
    covering = [{k for k in range(8) if 3 + 4 * k <= voxel < 3 + 4 * k + 6} for voxel in (21, 20, 19)]
    assert covering == [{4}, {3, 4}, {3, 4}]
    expected = torch.zeros(8, 8, 8)
    expected[4, 3:5, 3:5] = 4.5
    assert torch.equal(drops, expected)


def test_the_central_forty_millimetres_of_a_patch() -> None:
    """64 voxels: 10 boxes along an axis, from voxel 11 to 52, even around the middle."""
    x = torch.ones(1, 1, 64, 6, 6)
    _, grid, _ = occlusion_map(VoxelSum(x[0, 0]), x, whole, fill=0, middle_zyx=(32, 3, 3))
    first, last = grid.start_zyx[0], grid.start_zyx[0] + 9 * STEP_VOX
    assert (first - BOX_VOX / 2 + 0.5, last + BOX_VOX / 2 - 0.5) == (11, 52)
    assert (first + last) / 2 == 31.5


def test_captum_occlusion_gives_the_same() -> None:
    """X3: Captum spreads each drop over its box and takes means where boxes overlap; so do we here. Below 1e-5."""
    network, x = plain(), inputs(1, 1, 22, 22, 22)
    ours, grid, _ = occlusion_map(network, x, whole, fill=FILL, middle_zyx=(9, 9, 9))
    starts = np.array(grid.start_zyx) - (BOX_VOX - 1) / 2
    assert (starts.tolist(), ours.shape) == ([0, 0, 0], (5, 5, 5))
    total, n = torch.zeros(22, 22, 22, dtype=torch.float64), torch.zeros(22, 22, 22)
    for index in np.ndindex(5, 5, 5):
        box = tuple(slice(STEP_VOX * k, STEP_VOX * k + BOX_VOX) for k in index)
        total[box] += ours[index]
        n[box] += 1
    theirs = Occlusion(network).attribute(
        x, sliding_window_shapes=(1, 6, 6, 6), strides=(1, 4, 4, 4), baselines=FILL, perturbations_per_eval=25
    )
    assert float((total / n - theirs[0, 0]).abs().max()) < 1e-5
    assert float(ours.abs().max()) > 1e-3


def test_captum_integrated_gradients_gives_the_same() -> None:
    """X3: the midpoint rule with the same steps and baseline in float64, below 1e-5."""
    network, x = plain(), inputs(1, 1, 8, 10, 12)
    ours, logit = integrated_gradients(network, x, whole, fill=FILL, steps=20)
    theirs = IntegratedGradients(network).attribute(x, baselines=FILL, n_steps=20, method="riemann_middle")
    assert ours.shape == (8, 10, 12)
    assert float((ours - theirs[0, 0]).abs().max()) < 1e-5
    assert float(ours.abs().max()) > 1e-4
    assert torch.equal(logit, network(x).detach())


def test_integrated_gradients_add_up() -> None:
    """The sum is the logit minus that of plain lung; exact for a linear network."""
    weights = inputs(9, 10, 11).float()
    x = inputs(1, 1, 9, 10, 11).float()
    found, logit = integrated_gradients(VoxelSum(weights), x, whole, fill=FILL)
    assert torch.allclose(found, weights * (x[0, 0] - FILL), atol=1e-5)
    assert float(found.sum()) == pytest.approx(float(logit - FILL * weights.sum()), abs=1e-3)


@pytest.mark.parametrize("context", [torch.inference_mode, torch.no_grad, torch.enable_grad])
def test_the_callers_mode_does_not_matter(context: type[torch.no_grad]) -> None:
    """Both run the same inside inference mode, and give tensors that can be used outside."""
    network, x = plain(), inputs(1, 1, 12, 12, 12)
    expected = integrated_gradients(network, x, whole, fill=FILL)[0]
    with context():
        attribution = integrated_gradients(network, x * 1, whole, fill=FILL)[0]
        drops = occlusion_map(network, x * 1, whole, fill=FILL, middle_zyx=(6, 6, 6))[0]
    assert torch.equal(attribution, expected)
    assert not drops.requires_grad
    assert float((drops + 0).abs().max()) > 0


@pytest.mark.parametrize("method", ["occlusion", "integrated gradients"])
@pytest.mark.parametrize("is_stopped", [False, True], ids=["whole", "stopped"])
def test_the_network_is_left_as_it_was(method: str, is_stopped: bool) -> None:
    """X4, also when the job is cancelled in the middle."""
    network, x = plain().train(), inputs(1, 1, 16, 16, 16)
    network.second.training = False
    before, seen = state_of(network), []

    def pulse(share: float) -> None:
        seen.append(share)
        if is_stopped:
            raise JobCancelled("cancelled")

    def run() -> None:
        if method == "occlusion":
            occlusion_map(network, x, whole, fill=FILL, middle_zyx=(8, 8, 8), pulse=pulse)
        else:
            integrated_gradients(network, x, whole, fill=FILL, pulse=pulse)

    if is_stopped:
        with pytest.raises(JobCancelled):
            run()
    else:
        run()
    assert seen[0] == 0.0
    assert_same_state(before, state_of(network))


def test_the_input_is_left_as_it_was() -> None:
    """Boxes are painted into copies."""
    x = inputs(1, 1, 16, 16, 16)
    kept = x.clone()
    occlusion_map(plain(), x, whole, fill=FILL, middle_zyx=(8, 8, 8))
    integrated_gradients(plain(), x, whole, fill=FILL, steps=2)
    assert torch.equal(x, kept)
