"""Put real nodules into other lungs: copy-paste with a seam that is no cue.

A *donor* is a cube of CT around a nodule with its outline. It is turned,
scaled, and blended into the *host*: added where it is faint, the maximum where
it is dense. Plain lung is pasted through the same code as a control.

References
----------
Copy-paste of lesions: Ghiasi et al. 2021, arXiv 2012.07177; the blending rule
is this project's own, see docs/training.md.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

DENSE_HU = 300.0  # above the lung level by this much a donor voxel counts as fully dense
LUNG_HU = (-960.0, -600.0)  # what counts as lung around a donor nodule
DEFAULT_LUNG_HU = -850.0
SOFT_EDGE_VOX = 0.8
RIM_VOX = 6  # kept around the outline when a donor is cut
LEAST_VISIBLE = 0.4  # of a donor's contrast must be gained where it is put
WAYS = ("mixed", "replace", "add")  # of blending; the first is the rule in `blend`
WAY_SHARES = (0.6, 0.25, 0.15)
SOFTENING_VOX = (0.0, 1.0)  # further blur of the outline, so that no one seam can be learnt
FAINT_SHARE = 0.2  # of the donors become part-solid or ground glass
FAINT_HU = (130.0, 380.0)  # their contrast over the lung
CORE_SHARE = 0.4  # of the faint ones keep a solid core


@dataclass(frozen=True, eq=False)
class Donor:
    """A nodule cut from its scan: contrast over its lung, soft outline, diameter.

    ``contrast_hu`` float32 (z, y, x) is HU minus `level_hu`; ``outline`` float32
    in [0, 1]; voxels of 1 mm; ``diameter_mm`` of the sphere with the outline's volume.
    """

    contrast_hu: NDArray[np.float32]
    outline: NDArray[np.float32]
    centre_zyx_vox: NDArray[np.float64]
    level_hu: float
    diameter_mm: float
    name: str = ""


def make_donor(
    hu: NDArray[np.int16], mask: NDArray[np.bool_], diameter_mm: float, *, ceiling_hu: float, name: str = ""
) -> Donor:
    """Give a donor from a cube and its outline.

    Parameters
    ----------
    hu : ndarray, shape (z, y, x)
        CT at 1 mm.
    mask : ndarray of bool, same shape
        Nodule.
    diameter_mm : float
        Diameter of the sphere with the mask's volume.
    ceiling_hu : float
        Values above are clipped, so that donor and host share one window.
    name : str, optional
        For the record.

    Returns
    -------
    Donor
    """
    ring = ndimage.binary_dilation(mask, iterations=5) & ~ndimage.binary_dilation(mask, iterations=2)
    lung = hu[ring & (hu > LUNG_HU[0]) & (hu < LUNG_HU[1])]
    level = float(np.median(lung)) if lung.size > 30 else DEFAULT_LUNG_HU
    box = ndimage.find_objects(mask.astype(np.int8))[0]
    cut = tuple(slice(max(0, s.start - RIM_VOX), s.stop + RIM_VOX) for s in box)
    soft = ndimage.gaussian_filter(ndimage.binary_dilation(mask[cut]).astype(np.float32), SOFT_EDGE_VOX)
    contrast = np.minimum(hu[cut], ceiling_hu).astype(np.float32) - level
    centre = np.array(ndimage.center_of_mass(mask[cut]))
    return Donor(contrast, soft, centre, level, float(diameter_mm), name)


def transform_donor(donor: Donor, scale: float, rng: np.random.Generator) -> Donor:
    """Give the donor turned at random, mirrored at random and scaled.

    Parameters
    ----------
    donor : Donor
        Any donor.
    scale : float
        New size over old size.
    rng : Generator
        Source of the rotation.

    Returns
    -------
    Donor
        Its array is a cube that holds the whole outline.
    """
    rotation = _random_rotation(rng)
    half = int(np.ceil(scale * np.linalg.norm(np.array(donor.outline.shape) / 2) * 0.75)) + 2
    edge = 2 * half + 1
    matrix = rotation / scale
    shift = donor.centre_zyx_vox - matrix @ np.full(3, float(half))
    options = {"matrix": matrix, "offset": shift, "output_shape": (edge,) * 3, "order": 1}
    outline = ndimage.affine_transform(donor.outline, mode="constant", cval=0.0, **options)
    contrast = ndimage.affine_transform(donor.contrast_hu, mode="nearest", **options)
    return Donor(contrast, outline, np.full(3, float(half)), donor.level_hu, donor.diameter_mm * scale, donor.name)


def blend(host: NDArray[np.float32], donor: Donor, centre_zyx_vox: NDArray[np.int_], way: str = "mixed") -> bool:
    """Blend a donor into the host in place, its centre at the given voxel.

    Parameters
    ----------
    host : ndarray of float32, shape (z, y, x)
        HU at 1 mm; changed in place.
    donor : Donor
        Already transformed.
    centre_zyx_vox : ndarray of int, shape (3,)
        Where the donor's centre goes.
    way : {"mixed", "replace", "add"}
        The rule of the notes; the donor in place of the host; its contrast on top of the host.

    Returns
    -------
    bool
        False, and nothing changed, when the centre lies outside the host.

    Notes
    -----
    With contrast c over the donor's lung, s = clip(c / 300, 0, 1) and soft outline m:
    ``(1 - s) (host + m c) + s (m max(c + level, host) + (1 - m) host)``.
    """
    if np.any(centre_zyx_vox < 0) or np.any(centre_zyx_vox >= host.shape):
        return False
    inside, part = _overlap(host, donor, centre_zyx_vox)
    m, c, h = donor.outline[part], donor.contrast_hu[part], host[inside]
    if way == "replace":
        host[inside] = m * np.maximum(c + donor.level_hu, np.where(h > LUNG_HU[1], h, c + donor.level_hu)) + (1 - m) * h
        return True
    if way == "add":
        host[inside] = h + m * np.minimum(c, np.maximum(donor.level_hu + c - h, 0.0))
        return True
    s = np.clip(c / DENSE_HU, 0.0, 1.0)
    dense = m * np.maximum(c + donor.level_hu, h) + (1 - m) * h
    host[inside] = (1 - s) * (h + m * c) + s * dense
    return True


def is_visible(host: NDArray[np.float32], donor: Donor, centre_zyx_vox: NDArray[np.int_]) -> bool:
    """Tell whether a nodule would show at a place: not where a vessel or the chest wall is as dense already.

    Parameters
    ----------
    host : ndarray of float32, shape (z, y, x)
        HU at 1 mm.
    donor : Donor
        Already transformed.
    centre_zyx_vox : ndarray of int, shape (3,)
        Where its centre would go; inside the host.

    Returns
    -------
    bool
        Whether the host would gain at least 0.4 of the donor's contrast over lung.
    """
    inside, part = _overlap(host, donor, centre_zyx_vox)
    contrast = np.clip(donor.contrast_hu, 0.0, None) * (donor.outline > 0.5)
    gain = np.clip(donor.contrast_hu[part] + donor.level_hu - host[inside], 0.0, None) * (donor.outline[part] > 0.5)
    return bool(np.minimum(gain, contrast[part]).sum() >= LEAST_VISIBLE * contrast.sum())


def _overlap(
    host: NDArray[np.float32], donor: Donor, centre_zyx_vox: NDArray[np.int_]
) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Give the part of the host that a donor covers, and the part of the donor that lies in the host."""
    start = centre_zyx_vox - donor.centre_zyx_vox.astype(int)
    stop = start + donor.outline.shape
    inside = tuple(slice(max(0, a), min(n, b)) for a, b, n in zip(start, stop, host.shape, strict=True))
    return inside, tuple(slice(s.start - a, s.stop - a) for s, a in zip(inside, start, strict=True))


def vary(donor: Donor, rng: np.random.Generator) -> tuple[Donor, str]:
    """Give the donor with another rim and, now and then, as part-solid or ground-glass; and a way to blend it.

    Parameters
    ----------
    donor : Donor
        Already transformed.
    rng : Generator
        Source of chance.

    Returns
    -------
    tuple of (Donor, str)
        Diameter and place stay; the way is one of `WAYS`.
    """
    softening = rng.uniform(*SOFTENING_VOX)
    outline = ndimage.gaussian_filter(donor.outline, softening) if softening > 0.3 else donor.outline
    contrast = donor.contrast_hu
    if rng.random() < FAINT_SHARE:
        faint = np.minimum(contrast, np.float32(rng.uniform(*FAINT_HU)))
        if rng.random() < CORE_SHARE:
            core = _core(donor, rng.uniform(0.25, 0.55))
            faint = core * contrast + (1 - core) * faint
        contrast = faint
    varied = Donor(contrast, outline, donor.centre_zyx_vox, donor.level_hu, donor.diameter_mm, donor.name)
    return varied, str(rng.choice(WAYS, p=WAY_SHARES))


def _core(donor: Donor, share: float) -> NDArray[np.float32]:
    """Give a soft ball around the centre whose diameter is this share of the donor's."""
    z, y, x = (np.arange(n) - c for n, c in zip(donor.outline.shape, donor.centre_zyx_vox, strict=True))
    distance = np.sqrt(z[:, None, None] ** 2 + y[:, None] ** 2 + x**2)
    return np.clip(share * donor.diameter_mm / 2 - distance + 0.5, 0.0, 1.0).astype(np.float32)


def _random_rotation(rng: np.random.Generator) -> NDArray[np.float64]:
    """Give a random rotation, mirrored half the time (QR of a Gaussian matrix)."""
    q, r = np.linalg.qr(rng.standard_normal((3, 3)))
    return q * np.sign(np.diag(r))
