"""The networks, whole: one residual encoder, a detector and a classifier built from it.

``DetectorNetwork``: CT at 1 mm -> per cell of 4 voxels a centre logit, an offset to
the nodule centre and a log diameter. ``ClassifierNetwork``: 64-voxel cube -> one
nodule logit. Both are fully convolutional. Shapes are (batch, channel, z, y, x);
D, H, W are the input's z, y, x sizes.

Down-sampling uses kernel 4 (padding 1) or 2 (padding 0) with stride 2, so the
cells of every stage tile the input evenly: cell i of stride s has its centre at
input voxel ``s * i + (s - 1) / 2``, on the way down and on the way up alike.

References
----------
Residual units: He et al. 2016, arXiv 1512.03385. Centre, offset and size heads:
Zhou et al. 2019, arXiv 1904.07850; for nodules CPM-Net, Song et al. 2020,
MICCAI. Whole volume instead of windows: Hamidian et al. 2017, PMC5568782.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from napari_alnct.core.config import ClassifierNetSettings, DetectorNetSettings, EncoderSettings, Norm

OUTPUT_STRIDE = 4  # input voxels per cell of the detector's output
PRIOR_PROBABILITY = 0.01  # of a cell being a centre before training (focal loss, arXiv 1708.02002, section 3.3)
MEDIAN_DIAMETER_MM = 6.4  # of LUNA16's nodules; log diameters are relative to it


def scale_hu(hu: Tensor, low_hu: float, high_hu: float) -> Tensor:
    """Give HU as the numbers that the networks see: [low, high] HU to [-1, 1].

    Parameters
    ----------
    hu : Tensor, any shape, any number type
        Hounsfield units.
    low_hu, high_hu : float
        The window; values outside are clipped. It comes from the model's recipe.

    Returns
    -------
    Tensor of float32, same shape

    Examples
    --------
    >>> scale_hu(torch.tensor([-2000, -300, 400]), -1000.0, 400.0)
    tensor([-1.,  0.,  1.])
    """
    return (hu.float().clamp(low_hu, high_hu) - low_hu) * (2.0 / (high_hu - low_hu)) - 1.0


def cell_centre(index: Tensor, stride: int = OUTPUT_STRIDE) -> Tensor:
    """Give the input voxel coordinate of cell centres.

    Parameters
    ----------
    index : Tensor
        Cell indices along any axis.
    stride : int
        Input voxels per cell.

    Returns
    -------
    Tensor of float, same shape

    Examples
    --------
    >>> cell_centre(torch.tensor([0, 1, 2]))
    tensor([1.5000, 5.5000, 9.5000])
    """
    return index * float(stride) + (stride - 1) / 2


def normalisation(kind: Norm, channels: int) -> nn.Module:
    """Give a normalisation layer.

    Parameters
    ----------
    kind : {"batch", "group", "instance"}
        Group uses 8 channels per group.
    channels : int
        Channels of its input.

    Returns
    -------
    Module
    """
    if kind == "batch":
        return nn.BatchNorm3d(channels)
    groups = channels if kind == "instance" else max(1, channels // 8)
    return nn.GroupNorm(groups, channels)


class ConvNorm(nn.Sequential):
    """A convolution without bias, then a normalisation."""

    def __init__(self, source: int, target: int, kernel: int, *, norm: Norm, stride: int = 1, padding: int = 0) -> None:
        super().__init__(
            nn.Conv3d(source, target, kernel, stride=stride, padding=padding, bias=False),
            normalisation(norm, target),
        )


class ResidualBlock(nn.Module):
    """Two 3x3x3 convolutions around an identity; keeps the shape."""

    def __init__(self, channels: int, norm: Norm) -> None:
        super().__init__()
        self.first = ConvNorm(channels, channels, 3, norm=norm, padding=1)
        self.second = ConvNorm(channels, channels, 3, norm=norm, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Give ``relu(x + f(x))``, same shape."""
        inner = functional.relu(self.first(x), inplace=True)
        return functional.relu(self.second(inner).add_(x), inplace=True)


class Stage(nn.Module):
    """Halve the grid, then residual blocks."""

    def __init__(self, source: int, target: int, depth: int, norm: Norm, *, is_stem: bool = False) -> None:
        super().__init__()
        kernel, padding = (4, 1) if is_stem else (2, 0)
        self.down = ConvNorm(source, target, kernel, norm=norm, stride=2, padding=padding)
        self.blocks = nn.Sequential(*(ResidualBlock(target, norm) for _ in range(depth)))

    def forward(self, x: Tensor) -> Tensor:
        """Give (B, target, D/2, H/2, W/2)."""
        out: Tensor = self.blocks(functional.relu(self.down(x), inplace=True))
        return out


class Encoder(nn.Module):
    """The shared trunk: feature maps at strides 2, 4, 8, 16, ...

    Parameters
    ----------
    settings : EncoderSettings
        Widths, depths, normalisation.
    """

    def __init__(self, settings: EncoderSettings) -> None:
        super().__init__()
        channels = (1, *settings.channels)
        self.stages = nn.ModuleList(
            Stage(channels[i], channels[i + 1], depth, settings.norm, is_stem=i == 0)
            for i, depth in enumerate(settings.depths)
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        """Give the output of each stage, finest first.

        Parameters
        ----------
        x : Tensor, shape (B, 1, D, H, W)
            Scaled HU; D, H, W multiples of the deepest stride.

        Returns
        -------
        list of Tensor
            Shapes (B, C_i, D / 2**i, H / 2**i, W / 2**i), i = 1, 2, ...
        """
        features = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return features


class Merge(nn.Module):
    """Bring a coarse map to the next finer grid and add the encoder's map."""

    def __init__(self, coarse: int, skip: int, target: int, norm: Norm) -> None:
        super().__init__()
        self.from_coarse = ConvNorm(coarse, target, 1, norm=norm)
        self.from_skip = ConvNorm(skip, target, 1, norm=norm)
        self.block = ResidualBlock(target, norm)

    def forward(self, coarse: Tensor, skip: Tensor) -> Tensor:
        """Give (B, target, grid of skip)."""
        up = functional.interpolate(self.from_coarse(coarse), scale_factor=2.0, mode="nearest")
        out: Tensor = self.block(functional.relu(up + self.from_skip(skip), inplace=True))
        return out


class DetectorNetwork(nn.Module):
    """Fully convolutional nodule detector with an output cell per 4 voxels.

    Parameters
    ----------
    settings : DetectorNetSettings
        Shape of the network.
    """

    def __init__(self, settings: DetectorNetSettings) -> None:
        super().__init__()
        self.settings = settings
        self.encoder = Encoder(settings)
        channels = settings.channels
        head = max(8, 8 * round(settings.head_width * settings.feat_mult / 8))
        targets = (head, *channels[2:])  # width of the merged map at strides 4, 8, ...
        self.merges = nn.ModuleList(
            Merge(
                channels[-1] if i + 1 == len(channels) - 1 else targets[i], channels[i], targets[i - 1], settings.norm
            )
            for i in range(len(channels) - 2, 0, -1)
        )
        self.dropout = nn.Dropout3d(settings.dropout)
        last = head if len(channels) > 2 else channels[-1]
        self.centre = nn.Conv3d(last, 1, 1)
        self.offset = nn.Conv3d(last, 3, 1)
        self.log_diameter = nn.Conv3d(last, 1, 1)
        nn.init.constant_(self.centre.bias, -math.log((1 - PRIOR_PROBABILITY) / PRIOR_PROBABILITY))  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """Give the five numbers of every cell.

        Parameters
        ----------
        x : Tensor, shape (B, 1, D, H, W)
            Scaled HU (`scale_hu`); D, H, W multiples of ``settings.stride``.

        Returns
        -------
        Tensor, shape (B, 5, D/4, H/4, W/4)
            Channel 0 centre logit; 1-3 offset (z, y, x) from the cell centre in
            cells; 4 log of the diameter over 6.4 mm.
        """
        return self.heads(self.features(x))

    def features(self, x: Tensor) -> Tensor:
        """Give the last feature map, (B, head, D/4, H/4, W/4)."""
        stages = self.encoder(x)
        merged: Tensor = stages[-1]  # (B, C, D/16, H/16, W/16)
        for merge, skip in zip(self.merges, stages[-2:0:-1], strict=True):
            merged = merge(merged, skip)  # one grid finer each time
        return merged

    def heads(self, merged: Tensor) -> Tensor:
        """Give the five numbers of every cell from the last feature map, (B, 5, D/4, H/4, W/4)."""
        merged = self.dropout(merged)
        return torch.cat([self.centre(merged), self.offset(merged), self.log_diameter(merged)], dim=1)


def nested_edges(cells: int) -> list[int]:
    """Give the edges of the nested cubes that the classifier's head averages over.

    Parameters
    ----------
    cells : int
        Edge of the deepest map.

    Returns
    -------
    list of int
        The edge itself, then halves down to 2.

    Examples
    --------
    >>> nested_edges(8), nested_edges(4), nested_edges(3)
    ([8, 4, 2], [4, 2], [3])
    """
    edges = [cells]
    while edges[-1] % 4 == 0:
        edges.append(edges[-1] // 2)
    return edges


class ClassifierNetwork(nn.Module):
    """Patch classifier: a cube around a point to one nodule logit.

    The head sees the mean of the deepest map over nested cubes around the middle
    (whole, half, quarter of the edge): the question is whether *the middle* is a
    nodule, and one mean over the whole cannot tell it from a nodule beside it.

    Parameters
    ----------
    settings : ClassifierNetSettings
        Shape of the network.
    """

    def __init__(self, settings: ClassifierNetSettings) -> None:
        super().__init__()
        self.settings = settings
        self.encoder = Encoder(settings)
        self.dropout = nn.Dropout(settings.dropout)
        self.head = nn.Linear(settings.channels[-1] * len(nested_edges(settings.patch_vox // settings.stride)), 1)

    def forward(self, x: Tensor) -> Tensor:
        """Give the nodule logit of each patch.

        Parameters
        ----------
        x : Tensor, shape (B, 1, P, P, P)
            Scaled HU, centred on the point in question.

        Returns
        -------
        Tensor, shape (B,)
        """
        return self.heads(self.features(x))

    def features(self, x: Tensor) -> Tensor:
        """Give the deepest feature map, (B, C, P/16, P/16, P/16)."""
        deepest: Tensor = self.encoder(x)[-1]
        return deepest

    def heads(self, deepest: Tensor) -> Tensor:
        """Give the logits from the deepest feature map, (B,)."""
        edge = deepest.shape[2]
        rims = [(edge - inner) // 2 for inner in nested_edges(edge)]
        means = [deepest[:, :, r : edge - r, r : edge - r, r : edge - r].mean(dim=(2, 3, 4)) for r in rims]
        logit: Tensor = self.head(self.dropout(torch.cat(means, dim=1)))  # (B, C * n_cubes)
        return logit.squeeze(1)


def receptive_radius_vox(settings: DetectorNetSettings) -> int:
    """Give how far from an output cell's centre an input voxel can still change it.

    Parameters
    ----------
    settings : DetectorNetSettings
        Shape of the detector.

    Returns
    -------
    int
        Voxels, an upper bound: half extents of all kernels on the longest path.
    """
    n = len(settings.depths)
    down = 1.5 + sum(0.5 * 2**stage for stage in range(1, n))  # kernels 4 and 2 between the stages
    blocks = sum(2 * depth * 2**stage for stage, depth in enumerate(settings.depths, start=1))
    up = sum((2 + 0.5) * 2**stage for stage in range(2, n))  # merge blocks, nearest neighbour
    return math.ceil(down + blocks + up)


def n_parameters(network: nn.Module) -> int:
    """Give the number of trainable parameters.

    Parameters
    ----------
    network : Module
        Any network.

    Returns
    -------
    int
    """
    return sum(p.numel() for p in network.parameters() if p.requires_grad)
