"""One drawn change applied to one patch by torchio's transforms.

torchio's tensors are (channel, x, y, z) and its world is RAS mm; here the middle of the
stored cube is the origin of that world. Voxels are mapped to [0, 1] over the HU window
first: 0, which torchio fills in beyond the stored cube, is then the lowest HU, and
gamma never meets a negative number.

Three habits of torchio are kept out. Rotation and scaling change the header of the image,
so that one `torchio.Resample` fills just the 64-voxel grid (`torchio.Affine` fills the whole
stored cube). Transforms neither copy nor keep a history. Noise comes from a generator of
its own: `torchio.Noise` seeds the global ones, that of a GPU too, and does not put that back.
"""

from __future__ import annotations

import numpy as np
import torch
import torchio
from numpy.typing import NDArray
from torch import Tensor

from napari_alnct.training.augmentation import PatchChange, PatchFrame, rotation_xyz
from napari_alnct.training.batch_augmentation import noise_like

_FORWARD = "forward"  # key of the matrix that moves the image
_BARE = {"copy": False, "parse_input": False}
_LPS = np.array([-1.0, -1.0, 1.0])


def change_patch(stored_hu: NDArray[np.int16], change: PatchChange, frame: PatchFrame) -> Tensor:
    """Give one patch with one change, by torchio.

    Parameters
    ----------
    stored_hu : ndarray of int16, shape (S, S, S)
        HU with the margin, z y x.
    change : PatchChange
        What to do.
    frame : PatchFrame
        Sizes, spacing and window.

    Returns
    -------
    Tensor of float32, shape (P, P, P)
        HU within the window, z y x.
    """
    unit = torch.from_numpy(stored_hu.astype(np.float32)).sub_(frame.low_hu).div_(frame.width_hu)
    with torch.random.fork_rng(devices=[]):  # each transform draws a number to decide whether it runs
        subject = torchio.Subject(patch=_image(unit, change, frame))
        changed: Tensor = torchio.Compose(_transforms(change, frame), copy=False)(subject)["patch"].data
    return changed[0].permute(2, 1, 0).contiguous().mul_(frame.width_hu).add_(frame.low_hu)


def _image(unit: Tensor, change: PatchChange, frame: PatchFrame) -> torchio.ScalarImage:
    forward = np.eye(4)
    mirror = np.where(change.flips_zyx[::-1], -1.0, 1.0)
    forward[:3, :3] = change.scale * rotation_xyz(change.angles_zyx_deg) * mirror  # mirrored first
    forward[:3, 3] = change.translation_zyx_mm[::-1]
    tensor = unit.permute(2, 1, 0)[None]  # (1, x, y, z), a view
    return torchio.ScalarImage(tensor=tensor, affine=_centred(frame.stored_vox, frame), **{_FORWARD: forward})


def _centred(edge_vox: int, frame: PatchFrame) -> NDArray[np.float64]:
    """Give the index -> world matrix of a cube whose middle is the origin."""
    affine = np.diag([frame.spacing_mm] * 3 + [1.0])
    affine[:3, 3] = -frame.spacing_mm * (edge_vox - 1) / 2
    return affine


def _transforms(change: PatchChange, frame: PatchFrame) -> list[torchio.Transform]:
    """Give the transforms that this change needs; what would change nothing is left out."""
    steps = _placing(change, frame)
    if change.blur_mm:
        steps.append(torchio.Blur((change.blur_mm,) * 3, **_BARE))
    factor, offset = change.unit_line(frame)
    if (factor, offset) != (1.0, 0.0):
        steps.append(torchio.Lambda(lambda unit: unit * factor + offset, **_BARE))
    if change.gamma != 1.0:
        steps += [torchio.Clamp(0.0, 1.0, **_BARE), torchio.Gamma(change.gamma, **_BARE)]
    if change.noise_hu:
        edges, std = (frame.patch_vox,) * 3, change.noise_hu / frame.width_hu
        noise = noise_like(edges, change.noise_seed, "cpu").permute(2, 1, 0).mul_(std)  # drawn z y x
        steps.append(torchio.Lambda(lambda unit: unit + noise, **_BARE))
    return [*steps, torchio.Clamp(0.0, 1.0, **_BARE)]


def _placing(change: PatchChange, frame: PatchFrame) -> list[torchio.Transform]:
    """Give the transforms from the stored cube to the patch."""
    crop = torchio.Crop(frame.margin_vox, **_BARE)
    axes = [axis for axis, is_on in enumerate(change.flips_zyx[::-1]) if is_on]
    flip = [torchio.Flip(axes, **_BARE)] if axes else []
    if change.control_xyz_mm is not None:
        return [*flip, _bending(change), crop]
    if change.is_resampled:  # the header holds the flips too
        target = ((frame.patch_vox,) * 3, _centred(frame.patch_vox, frame))
        return [torchio.Resample(target, pre_affine_name=_FORWARD, **_BARE)]
    return [crop, *flip]


def _bending(change: PatchChange) -> torchio.Transform:
    """Give affine and elastic deformation in one resampling; ITK's control points and displacements are LPS."""
    assert change.control_xyz_mm is not None
    control_lps = change.control_xyz_mm[::-1, ::-1] * _LPS
    translation = np.array(change.translation_zyx_mm[::-1]) / change.scale  # torchio scales it afterwards
    affine = {
        "scales": (change.scale,) * 3,
        "degrees": change.angles_zyx_deg[::-1],
        "translation": tuple(translation.tolist()),
        "default_pad_value": 0.0,
    }
    largest = tuple(np.abs(control_lps).max(axis=(0, 1, 2)).tolist())
    elastic = {"control_points": control_lps, "max_displacement": largest}
    return torchio.AffineElasticDeformation(affine_first=True, affine_params=affine, elastic_params=elastic, **_BARE)
