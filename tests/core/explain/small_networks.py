"""Small networks with random weights, scans for them, and pictures of a network's whole state."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from napari_alnct.core.config import ClassifierNetSettings, DetectorNetSettings
from napari_alnct.core.geometry import Geometry
from napari_alnct.core.network import ClassifierNetwork, DetectorNetwork

WIDTHS, DEPTHS = (8, 8, 16, 16), (1, 1, 1, 1)
EDGE = 32
ISOTROPIC = Geometry(shape_zyx=(72, 80, 88), spacing_zyx_mm=(1.0, 1.0, 1.0), origin_xyz_mm=(-31.5, 12.0, -250.25))


def lively(network: nn.Module, seed: int) -> nn.Module:
    """Give batch normalisations running statistics and offsets, as training does, and heads that tell."""
    torch.manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm3d):
            nn.init.normal_(module.running_mean, 0, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
            nn.init.normal_(module.bias, 0, 0.2)
    return network.eval()


def classifier(patch_vox: int = EDGE, seed: int = 0) -> ClassifierNetwork:
    torch.manual_seed(seed)
    network = ClassifierNetwork(ClassifierNetSettings(widths=WIDTHS, depths=DEPTHS, patch_vox=patch_vox))
    nn.init.normal_(network.head.weight, 0, 1.0)
    return lively(network, seed)


def detector(seed: int = 1) -> DetectorNetwork:
    torch.manual_seed(seed)
    network = DetectorNetwork(DetectorNetSettings(widths=WIDTHS, depths=DEPTHS, head_width=8))
    nn.init.normal_(network.centre.weight, 0, 1.5)
    nn.init.constant_(network.centre.bias, 0.0)
    return lively(network, seed)


class Plain(nn.Module):
    """Convolution, ReLU (in place or not), strided convolution, global mean, linear: for oracles."""

    def __init__(self, *, in_place: bool = False) -> None:
        super().__init__()
        self.in_place = in_place
        self.first, self.second = nn.Conv3d(1, 3, 3, padding=1), nn.Conv3d(3, 4, 2, stride=2)
        self.dropout, self.head = nn.Dropout(0.5), nn.Linear(4, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Give one logit per input."""
        x = functional.relu(self.first(x), inplace=self.in_place)
        x = functional.relu(self.second(x), inplace=self.in_place)
        logit: Tensor = self.head(self.dropout(x.mean(dim=(2, 3, 4))))
        return logit.squeeze(1)


def plain(*, in_place: bool = False, seed: int = 3) -> Plain:
    torch.manual_seed(seed)
    return Plain(in_place=in_place).double().eval()


def noise_scan(geometry: Geometry = ISOTROPIC, seed: int = 0) -> NDArray[np.int16]:
    """Give lung-like noise with some bright balls."""
    rng = np.random.default_rng(seed)
    hu = rng.normal(-800, 80, geometry.shape_zyx)
    index = np.stack(np.indices(geometry.shape_zyx), axis=-1)
    for _ in range(12):
        centre, radius = rng.uniform(0, geometry.shape_zyx), rng.uniform(2, 5)
        hu[((index - centre) ** 2).sum(axis=-1) <= radius**2] += 700
    return hu.astype(np.int16)


def state_of(network: nn.Module) -> dict[str, Any]:
    """Give all of a network that could change: numbers, modes, hooks, flags, gradients."""
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    parameters = dict(network.named_parameters())
    return {
        "numbers": {key: value.clone() for key, value in network.state_dict().items()},
        "modes": {name: module.training for name, module in network.named_modules()},
        "hooks": {name: [len(getattr(module, kind)) for kind in hooks] for name, module in network.named_modules()},
        "flags": {name: parameter.requires_grad for name, parameter in parameters.items()},
        "gradients": {name: parameter.grad is None for name, parameter in parameters.items()},
    }


def assert_same_state(before: dict[str, Any], after: dict[str, Any]) -> None:
    assert {key: before[key] for key in before if key != "numbers"} == {k: after[k] for k in after if k != "numbers"}
    assert before["numbers"].keys() == after["numbers"].keys()
    assert all(torch.equal(value, after["numbers"][key]) for key, value in before["numbers"].items())
