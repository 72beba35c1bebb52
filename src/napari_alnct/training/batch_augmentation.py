"""Drawn changes applied to a whole batch by torch, on any device.

The same changes as `torchio_augmentation` makes, from the same draws, for GPUs that would
wait for torchio: the loader's processes then only read stored cubes. Placing is one
trilinear `grid_sample` for the batch, blur three matrix products (the matrix is SciPy's
Gaussian filter applied to the unit matrix), noise comes from one generator per patch, so
a patch does not depend on the batch that it is in.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader

from napari_alnct.training.augmentation import (
    N_CONTROL,
    SPLINE_ORDER,
    AugmentSettings,
    PatchChange,
    PatchFrame,
    draw_change,
    rotation_xyz,
)
from napari_alnct.training.patch_dataset import Key, PatchDataset

MOST_AT_ONCE = 32  # patches that are placed together: bounds the memory for their sampling grids
DOMAIN_MARGIN_VOX = 0.25  # by which ITK's BSplineTransformInitializer makes its domain longer than the image


def device_batches(
    loader: DataLoader[tuple[Tensor, Tensor]], device: torch.device | str
) -> Iterator[tuple[Tensor, Tensor]]:
    """Give the batches of a loader on the training device, changed there if that is still to be done.

    Parameters
    ----------
    loader : DataLoader
        From `open_loader`.
    device : torch.device or str
        Where the network is.

    Yields
    ------
    hu : Tensor of float16 or float32, shape (B, P, P, P)
        HU within the window, z y x; not scaled.
    labels : Tensor of float32, shape (B,)
    """
    dataset = loader.dataset
    assert isinstance(dataset, PatchDataset)
    plan: Sequence[list[Key]] = loader.batch_sampler  # type: ignore[assignment]
    for keys, (hu, labels) in zip(plan, loader, strict=True):
        moved, answers = (tensor.to(device, non_blocking=True) for tensor in (hu, labels))
        if dataset.is_raw:
            assert dataset.augment is not None
            moved = augment_batch(moved, keys, dataset.augment, dataset.frame, seed=dataset.seed)
        yield moved, answers


def augment_batch(
    stored_hu: Tensor, keys: Sequence[Key], settings: AugmentSettings, frame: PatchFrame, *, seed: int
) -> Tensor:
    """Give the changed patches of a batch.

    Parameters
    ----------
    stored_hu : Tensor, any number type, shape (B, S, S, S)
        HU with the margin, z y x, on any device.
    keys : sequence of tuple of int
        Epoch and row of each.
    settings : AugmentSettings
        How often and how much.
    frame : PatchFrame
        Sizes, spacing and window.
    seed : int
        Of the run.

    Returns
    -------
    Tensor of float32, shape (B, P, P, P)
        HU within the window, on the same device.
    """
    changes = [draw_change(settings, seed, epoch, row) for epoch, row in keys]
    return change_batch(stored_hu, changes, frame)


def change_batch(stored_hu: Tensor, changes: Sequence[PatchChange], frame: PatchFrame) -> Tensor:
    """Give the patches of a batch with the given changes.

    Parameters
    ----------
    stored_hu : Tensor, any number type, shape (B, S, S, S)
        HU with the margin, z y x, on any device.
    changes : sequence of PatchChange
        One for each.
    frame : PatchFrame
        Sizes, spacing and window.

    Returns
    -------
    Tensor of float32, shape (B, P, P, P)
        HU within the window, on the same device.
    """
    parts = [slice(start, start + MOST_AT_ONCE) for start in range(0, len(changes), MOST_AT_ONCE)]
    with torch.no_grad(), torch.autocast(stored_hu.device.type, enabled=False):  # places need all digits of float32
        patches = [_change_part(stored_hu[part], changes[part], frame) for part in parts]
    return patches[0] if len(patches) == 1 else torch.cat(patches)


def _change_part(stored_hu: Tensor, changes: Sequence[PatchChange], frame: PatchFrame) -> Tensor:
    unit = (stored_hu.float() - frame.low_hu).mul_(1 / frame.width_hu)  # 0 outside is then the lowest HU
    patches = _place(unit, changes, frame)
    _blur(patches, changes, frame)
    lines = torch.tensor([change.unit_line(frame) for change in changes], device=patches.device)
    patches.mul_(lines[:, 0, None, None, None]).add_(lines[:, 1, None, None, None])
    for patch, change in zip(patches, changes, strict=True):
        if change.gamma != 1.0:
            patch.clamp_(0.0, 1.0).pow_(change.gamma)
        if change.noise_hu:
            patch.add_(noise_like(patch.shape, change.noise_seed, patch.device), alpha=change.noise_hu / frame.width_hu)
    return patches.clamp_(0.0, 1.0).mul_(frame.width_hu).add_(frame.low_hu)


def noise_like(shape: tuple[int, ...], seed: int, device: torch.device | str) -> Tensor:
    """Give white noise of standard deviation 1 that depends on the seed and the kind of device alone.

    Parameters
    ----------
    shape : tuple of int
        Of the result.
    seed : int
        Decides it.
    device : torch.device or str
        Where it is made.

    Returns
    -------
    Tensor of float32
    """
    return torch.randn(shape, generator=torch.Generator(device).manual_seed(seed), device=device)


def _place(unit: Tensor, changes: Sequence[PatchChange], frame: PatchFrame) -> Tensor:
    """Flip, move and bend: look up the stored cube where each voxel of the patch comes from."""
    matrices, offsets = zip(*(_backward(change, frame) for change in changes), strict=True)
    matrix = torch.from_numpy(np.stack(matrices)).to(unit.device)  # (B, 3, 3), acts on columns (x, y, z)
    offset = torch.from_numpy(np.stack(offsets)).to(unit.device)  # (B, 3)
    axis = torch.arange(frame.patch_vox, device=unit.device, dtype=torch.float32) - (frame.patch_vox - 1) / 2
    x, y, z = (axis[None, :, None] * matrix[:, None, :, column] for column in range(3))  # (B, P, 3)
    plane = z[:, :, None] + (y + offset[:, None])[:, None]  # (B, P, P, 3)
    grid = plane[:, :, :, None] + x[:, None, None]  # (B, P, P, P, 3), -1 to 1 over the stored cube
    if any(change.control_xyz_mm is not None for change in changes):
        for column, displacement in enumerate(_displacements(changes, frame, unit.device).unbind(-1)):
            grid.addcmul_(displacement[..., None], matrix[:, None, None, None, :, column])
    return functional.grid_sample(unit[:, None], grid, padding_mode="zeros", align_corners=True)[:, 0]


def _backward(change: PatchChange, frame: PatchFrame) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Give matrix and offset from voxels from the middle of the patch to -1 to 1 over the stored cube."""
    signs = np.where(change.flips_zyx[::-1], -1.0, 1.0)
    turn = signs[:, None] * rotation_xyz(change.angles_zyx_deg).T / change.scale
    translation = np.array(change.translation_zyx_mm[::-1]) / frame.spacing_mm
    half = (frame.stored_vox - 1) / 2
    return (turn / half).astype(np.float32), (-turn @ translation / half).astype(np.float32)


def _displacements(changes: Sequence[PatchChange], frame: PatchFrame, device: torch.device) -> Tensor:
    """Give the elastic displacement (x, y, z) of each voxel, voxels, shape (B, P, P, P, 3)."""
    still = np.zeros((N_CONTROL, N_CONTROL, N_CONTROL, 3))
    points = np.stack([still if c.control_xyz_mm is None else c.control_xyz_mm for c in changes]) / frame.spacing_mm
    weights = torch.from_numpy(spline_weights(frame).astype(np.float32)).to(device)
    control = torch.from_numpy(points.astype(np.float32)).to(device)
    return torch.einsum("bxyzc,kz,jy,ix->bkjic", control, weights, weights, weights)


def spline_weights(frame: PatchFrame) -> NDArray[np.float64]:
    """Give the weight of each control point at each voxel of the patch, along one axis.

    Parameters
    ----------
    frame : PatchFrame
        The control points are spread over the stored cube.

    Returns
    -------
    ndarray, shape (P, 7)
        Uniform cubic B-splines; rows add up to 1.
    """
    n_intervals = N_CONTROL - SPLINE_ORDER
    length = frame.stored_vox + DOMAIN_MARGIN_VOX
    places = (np.arange(frame.patch_vox) - (frame.patch_vox - 1) / 2 + length / 2) * n_intervals / length
    distance = np.abs(places[:, None] - (np.arange(N_CONTROL) - 1))
    near = 2 / 3 - distance**2 + distance**3 / 2
    far = np.clip(2 - distance, 0, None) ** 3 / 6
    return np.where(distance < 1, near, far)


def _blur(patches: Tensor, changes: Sequence[PatchChange], frame: PatchFrame) -> None:
    """Blur those patches that are to be, in place."""
    chosen = [number for number, change in enumerate(changes) if change.blur_mm]
    if not chosen:
        return
    unit = np.eye(frame.patch_vox, dtype=np.float64)
    kernels = [ndimage.gaussian_filter1d(unit, changes[n].blur_mm / frame.spacing_mm, axis=0) for n in chosen]
    matrix = torch.from_numpy(np.stack(kernels).astype(np.float32)).to(patches.device)  # (B, P, P)
    index = torch.tensor(chosen, device=patches.device)
    along_x = patches[index] @ matrix.transpose(1, 2)[:, None]
    along_y = matrix[:, None] @ along_x
    patches[index] = torch.einsum("bkz,bzyx->bkyx", matrix, along_y)
