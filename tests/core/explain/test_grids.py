"""Where a layer's cells lie in the input: hand-worked grids, and centroids that a network carries to each layer."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from napari_alnct.core.explain.grids import CellGrid, layer_grids
from napari_alnct.core.network import DetectorNetwork, Merge, Stage
from tests.core.explain.linear_networks import (
    blob,
    centroid,
    index_of,
    linear_classifier,
    linear_detector,
    make_linear,
    off_centre_steps,
)

EDGE = 64


def conv(kernel: int, *, stride: int = 1, padding: int = 0, dilation: int = 1, source: int = 1) -> nn.Conv3d:
    return nn.Conv3d(source, 1, kernel, stride=stride, padding=padding, dilation=dilation, bias=False)


def one_axis(network: nn.Module, edge: int = EDGE) -> dict[str, tuple[float, float]]:
    """Give (jump, start) of every layer with the same numbers along all axes."""
    grids = layer_grids(network.eval(), torch.zeros(1, 1, edge, edge, edge))
    assert all(len(set(grid.jump_zyx)) == len(set(grid.start_zyx)) == 1 for grid in grids.values())
    return {name: (grid.jump_zyx[0], grid.start_zyx[0]) for name, grid in grids.items()}


class Resnet(nn.Module):
    """Strided 3x3x3 convolutions with padding 1, as in ResNet, four times."""

    def __init__(self) -> None:
        super().__init__()
        self.stages = nn.Sequential(
            *(nn.Sequential(conv(3, stride=2, padding=1), nn.ReLU(inplace=True)) for _ in range(4))
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.stages(x)
        return out.mean(dim=(1, 2, 3, 4))


class Pooling(nn.Module):
    """3x3x3 convolutions and pooling of 2, four times."""

    def __init__(self, pool: type[nn.Module] = nn.AvgPool3d) -> None:
        super().__init__()
        self.stages = nn.Sequential(*(nn.Sequential(conv(3, padding=1), pool(2)) for _ in range(4)))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.stages(x)
        return out.mean(dim=(1, 2, 3, 4))


class Branches(nn.Module):
    """A strided convolution beside another way to half the grid; their sum; a convolution behind it."""

    def __init__(self, other: nn.Module, joined: str = "sum") -> None:
        super().__init__()
        self.main, self.other, self.joined = conv(3, stride=2, padding=1), other, joined
        self.after = conv(3, padding=1, source=2 if joined == "cat" else 1)

    def forward(self, x: Tensor) -> Tensor:
        one, two = self.main(x), self.other(x)
        out: Tensor = self.after(torch.cat([one, two], dim=1) if self.joined == "cat" else one + two)
        return out


class Resized(nn.Module):
    """A layer behind a change of the grid by torch's interpolate."""

    def __init__(self, **how: object) -> None:
        super().__init__()
        self.down, self.after, self.how = conv(2, stride=2), conv(1), how

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.after(functional.interpolate(self.down(x), **self.how))  # type: ignore[arg-type]
        return out


class SqueezeExcite(nn.Module):
    """A factor per channel from the mean of the map itself."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.fc, self.after = conv(2, stride=2), nn.Linear(1, 1), conv(1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.down(x)
        factor = torch.sigmoid(self.fc(functional.adaptive_avg_pool3d(x, 1).flatten(1))).view(-1, 1, 1, 1, 1)
        out: Tensor = self.after(x * factor)
        return out


class Twice(nn.Module):
    """The same layer run twice on the way."""

    def __init__(self) -> None:
        super().__init__()
        self.shared, self.down = conv(3, padding=1), conv(2, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.shared(self.down(self.shared(x)))
        return out


class Rolled(nn.Module):
    """A branch that moves voxels by an operation without a rule, added to one that is known."""

    def __init__(self) -> None:
        super().__init__()
        self.main, self.after = conv(1), conv(1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.after(self.main(x) + torch.roll(self.main.weight * x, 3, dims=2))
        return out


def test_strided_convolutions_with_padding_begin_at_the_edge() -> None:
    """The design's table, k3 s2 p1: 64 voxels to 4 cells at 0, 16, 32, 48, not at 7.5, 23.5, ..."""
    assert one_axis(Resnet())["stages.3"] == (16.0, 0.0)
    assert [one_axis(Resnet())[f"stages.{k}"] for k in range(3)] == [(2.0, 0.0), (4.0, 0.0), (8.0, 0.0)]


@pytest.mark.parametrize("pool", [nn.AvgPool3d, nn.MaxPool3d])
def test_pooling_networks_have_even_cells(pool: type[nn.Module]) -> None:
    """The design's table, pooling by 2: cells at 7.5, 23.5, 39.5, 55.5; each stage worked by hand."""
    found = one_axis(Pooling(pool))
    assert [found[f"stages.{k}"] for k in range(4)] == [(2.0, 0.5), (4.0, 1.5), (8.0, 3.5), (16.0, 7.5)]


def test_kernels_padding_and_dilation_by_hand() -> None:
    """By hand: start 0 + (4 / 2 - 0) 1 = 2, jump 1 * 3; then start 2 + (2 * 2 / 2 - 1) 3 = 5, jump 3 * 1."""
    network = nn.Sequential(conv(5, stride=3), conv(3, padding=1, dilation=2))
    assert one_axis(network) == {"0": (3.0, 2.0), "1": (3.0, 5.0)}


def test_each_axis_has_its_own_numbers() -> None:
    """A kernel, stride and padding per axis give a grid per axis, in the order z, y, x."""
    network = nn.Conv3d(1, 1, (1, 3, 5), stride=(1, 2, 3), padding=(0, 1, 0))
    grids = layer_grids(nn.Sequential(network), torch.zeros(1, 1, 8, 12, 20))
    assert grids == {"0": CellGrid((1.0, 2.0, 3.0), (0.0, 0.0, 2.0))}


def test_our_networks_tile_the_input() -> None:
    """Every layer of classifier and detector: stride s begins at (s - 1) / 2, on the way down and up."""
    for network in (linear_classifier(64), linear_detector()):
        grids = layer_grids(network, torch.zeros(1, 1, 32, 32, 32), network.features)
        assert {grid.jump_zyx[0] for grid in grids.values()} == {2.0, 4.0, 8.0, 16.0}
        assert all(grid.start_zyx == ((grid.jump_zyx[0] - 1) / 2,) * 3 for grid in grids.values())
    names = [f"encoder.stages.{k}" for k in range(4)] + ["merges.0", "merges.1", "encoder.stages.0.blocks.0.second.0"]
    assert set(names) <= set(grids)


@pytest.mark.parametrize("joined", ["sum", "cat"])
def test_a_layer_where_branches_disagree_is_not_offered(joined: str) -> None:
    """k3 s2 p1 begins at 0, pooling at 0.5: the sum has no sure place, nor has what follows; k1 s2 begins at 0 too."""
    assert set(one_axis(Branches(nn.AvgPool3d(2), joined))) == {"main", "other"}
    assert one_axis(Branches(conv(1, stride=2), joined))["after"] == (2.0, 0.0)


def test_a_branch_without_a_rule_spoils_the_sum() -> None:
    """A transposed convolution, a pooling without a rule, or rolled voxels: their place is not known."""
    transposed = nn.Sequential(nn.ConvTranspose3d(1, 1, 2, 2), nn.MaxPool3d(4))
    unknown = [nn.AdaptiveAvgPool3d(EDGE // 2), nn.LPPool3d(1, 2), transposed]
    for other in unknown:
        assert "after" not in one_axis(Branches(other))
    assert set(one_axis(Rolled())) == {"main"}


def test_a_factor_per_channel_moves_nothing() -> None:
    """Squeeze-and-excitation keeps its layer's grid, although the factor's own place is not known."""
    assert one_axis(SqueezeExcite()) == {"down": (2.0, 0.5), "after": (2.0, 0.5)}


def test_a_layer_that_runs_twice_is_not_offered() -> None:
    """It would have two maps."""
    assert set(one_axis(Twice())) == {"down"}


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ({"scale_factor": 2.0, "mode": "nearest"}, (1.0, 0.0)),
        ({"scale_factor": 4, "mode": "trilinear", "align_corners": False}, (0.5, -0.25)),
        ({"size": 96, "mode": "trilinear"}, (2 / 3, 0.5 - 2 * (3 - 1) / (2 * 3))),
        ({"scale_factor": 0.5, "mode": "trilinear"}, (4.0, 1.5)),
        ({"scale_factor": 0.5, "mode": "nearest"}, None),  # takes every second cell, which a mean does not
        ({"scale_factor": 1.5, "mode": "nearest"}, None),
        ({"scale_factor": 2.0, "mode": "trilinear", "align_corners": True}, None),
        ({"scale_factor": 1.26, "mode": "trilinear"}, None),  # 40.32 cells: torch samples by 1.26, not by 40 / 32
    ],
    ids=str,
)
def test_resizing(how: dict[str, object], expected: tuple[float, float] | None) -> None:
    """Cells of stride 2 from 0.5; by s: start -= jump (s - 1) / (2 s), jump /= s; what torch does otherwise is not."""
    found = one_axis(Resized(**how)).get("after")
    assert found == (pytest.approx(expected) if expected else None)


@pytest.mark.parametrize(
    ("network", "shape"),
    [(make_linear(Resnet()), (64, 80, 96)), (make_linear(Pooling()), (64, 80, 96)), (linear_detector(), (64, 80, 96))],
    ids=["resnet", "pooling", "detector"],
)
def test_every_layer_carries_the_centroid(network: nn.Module, shape: tuple[int, int, int]) -> None:
    """X1 at the level of activations: 27 positions, three lengths, every layer or whole stage, within 0.5 voxel."""
    found: dict[str, Tensor] = {}
    grids = layer_grids(network, torch.zeros(1, 1, *shape), getattr(network, "features", None))
    modules = dict(network.named_modules())
    if isinstance(network, DetectorNetwork):
        grids = {name: grid for name, grid in grids.items() if isinstance(modules[name], Stage | Merge)}
    assert len(grids) >= 6
    handles = [
        module.register_forward_hook(lambda _m, _i, out, name=name: found.update({name: out.clone()}))
        for name, module in modules.items()
        if name in grids
    ]
    worst = 0.0
    for place in (np.array(shape) - 1) / 2 + off_centre_steps(5.3):
        with torch.inference_mode():
            network(torch.from_numpy(blob(shape, place)).float()[None, None])
        for name, grid in grids.items():
            values = found[name].sum(dim=(0, 1)).numpy()
            there = centroid(values, np.add(grid.start_zyx, index_of(values.shape) * grid.jump_zyx))
            worst = max(worst, float(np.abs(there - place).max()))
    for handle in handles:
        handle.remove()
    assert worst <= 0.5


def test_watching_leaves_no_hooks() -> None:
    """Also when the network fails on the way."""
    network = nn.Sequential(conv(1), nn.Linear(3, 3))
    with pytest.raises(RuntimeError):
        layer_grids(network, torch.zeros(1, 1, 8, 8, 8))
    assert all(not module._forward_hooks for module in network.modules())
