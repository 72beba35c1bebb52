"""The offered topologies with separable [1 2 1]-like weights and no effective ReLU, which keep centroids."""

from __future__ import annotations

from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from napari_alnct.core.checkpoint import Checkpoint, Recipe
from napari_alnct.core.config import ClassifierNetSettings, DetectorNetSettings, PrepareSettings
from napari_alnct.core.network import ClassifierNetwork, DetectorNetwork, ResidualBlock

TAPS = {1: [1.0], 2: [1.0, 1.0], 3: [1.0, 2.0, 1.0], 4: [1.0, 3.0, 3.0, 1.0]}  # by size of the kernel
PREPARE = PrepareSettings(low_hu=-1000.0, high_hu=400.0)
ZERO_HU = -300  # what the network sees as 0
BLOB_HU, SIGMA_VOX = 690.0, 2.5
WIDTHS, DEPTHS = (8, 8, 8, 8), (1, 1, 1, 1)
EARLY = ("encoder.stages.0.", "encoder.stages.1.", "encoder.stages.2.")
SMOOTHING = 16.0  # share of the [1 2 1] branch in a block against the identity: without it strided boxes alias
LAST_SMOOTHING = 1 / 16  # from the deepest stage on no strided box follows, and a wide kernel would reach the border


def separable(kernel: tuple[int, ...], target: int, source: int) -> Tensor:
    """Give weights whose sum over kernel and source channels is 1."""
    z, y, x = (torch.tensor(TAPS[k]) / sum(TAPS[k]) for k in kernel)
    one = z[:, None, None] * y[None, :, None] * x[None, None, :]
    return (one / source).expand(target, source, *one.shape).clone()


def make_linear(network: nn.Module) -> nn.Module:
    """Fill a network with the separable weights; with no number below zero its ReLUs do nothing."""
    for module in network.modules():
        if isinstance(module, nn.Conv3d):
            module.weight.data = separable(module.kernel_size, module.out_channels, module.in_channels)
        if isinstance(module, (nn.Conv3d, nn.Linear)) and module.bias is not None:
            nn.init.zeros_(module.bias)
        if isinstance(module, nn.Linear):
            nn.init.ones_(module.weight)
    for name, block in network.named_modules():
        if isinstance(block, ResidualBlock):
            block.second[0].weight.data *= SMOOTHING if name.startswith(EARLY) else LAST_SMOOTHING
    return network.eval()


def linear_classifier(patch_vox: int = 96) -> ClassifierNetwork:
    """Give a classifier; with 96 voxels its head is one plain mean over 6 cells along each axis."""
    return make_linear(ClassifierNetwork(ClassifierNetSettings(widths=WIDTHS, depths=DEPTHS, patch_vox=patch_vox)))


def linear_detector() -> DetectorNetwork:
    return make_linear(DetectorNetwork(DetectorNetSettings(widths=WIDTHS, depths=DEPTHS, head_width=8)))


def checkpoint_of(classifier: ClassifierNetwork | None, detector: DetectorNetwork | None = None) -> Checkpoint:
    return Checkpoint(Recipe(name="test", prepare=PREPARE), "ab" * 32, detector, classifier)


def blob(
    shape_zyx: tuple[int, int, int], centre_zyx: NDArray[np.float64], sigma: float = SIGMA_VOX
) -> NDArray[np.float64]:
    """Give a Gaussian of height 1."""
    axes = (np.exp(-((np.arange(n) - c) ** 2) / (2 * sigma**2)) for n, c in zip(shape_zyx, centre_zyx, strict=True))
    z, y, x = axes
    return z[:, None, None] * y[None, :, None] * x[None, None, :]


def off_centre_steps(step_vox: float) -> NDArray[np.float64]:
    """Give 27 positions around the middle, none of them on a multiple of a stride, shape (27, 3)."""
    return np.array(list(product((-step_vox, 0.37, step_vox), repeat=3))) + np.array([0.21, -0.43, 0.11])


def centroid(values: NDArray[np.floating], positions: NDArray[np.float64]) -> NDArray[np.float64]:
    """Give the centre of mass of values at positions (N, 3)."""
    weights = values.reshape(-1).astype(np.float64)
    return weights @ positions / weights.sum()


def index_of(shape_zyx: tuple[int, ...]) -> NDArray[np.float64]:
    """Give the indices of all cells, shape (N, 3)."""
    return (
        np.stack(np.meshgrid(*(np.arange(n) for n in shape_zyx), indexing="ij"), axis=-1).reshape(-1, 3).astype(float)
    )
