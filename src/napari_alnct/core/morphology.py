"""Growing, closing and filling of 3-D masks with distances in millimetres.

A *ball* of radius r mm holds all voxel offsets whose length is at most r, so the
operations mean the same on anisotropic grids. Dilation is the union of shifted
copies, which beats a distance transform for the few voxels needed here.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_alnct.core.geometry import Shape, Triple

Mask = NDArray[np.bool_]


def dilate_ball(mask: Mask, radius_mm: float, spacing_zyx_mm: Triple) -> Mask:
    """Give the mask grown by a ball.

    Parameters
    ----------
    mask : ndarray of bool, shape (z, y, x)
        What to grow; nothing enters from outside the array.
    radius_mm : float
        Radius of the ball, mm, at least 0.
    spacing_zyx_mm : tuple of float
        Voxel spacing, mm.

    Returns
    -------
    ndarray of bool
        All voxels whose centre lies within the radius of a centre in the mask.

    Examples
    --------
    >>> dilate_ball(np.array([[[False, False, True, False, False]]]), 1.0, (1.0, 1.0, 1.0)).astype(int)
    array([[[0, 1, 1, 1, 0]]])
    """
    out = mask.copy()
    reach = [int(radius_mm / step + 1e-9) for step in spacing_zyx_mm]
    runs = _dilated_runs(mask, reach[2])
    for dz in range(reach[0] + 1):
        for dy in range(reach[1] + 1):
            rest = radius_mm**2 - (dz * spacing_zyx_mm[0]) ** 2 - (dy * spacing_zyx_mm[1]) ** 2
            if rest < -1e-9:
                break
            run = runs[int(np.sqrt(max(rest, 0.0)) / spacing_zyx_mm[2] + 1e-9)]
            for sign_z in {1, -1} if dz else {1}:
                for sign_y in {1, -1} if dy else {1}:
                    _or_shifted(out, run, sign_z * dz, sign_y * dy)
    return out


def close_ball(mask: Mask, radius_mm: float, spacing_zyx_mm: Triple) -> Mask:
    """Give the mask with dents and gaps narrower than a ball filled.

    Parameters
    ----------
    mask : ndarray of bool, shape (z, y, x)
        What to close; the array is padded, so its faces bring no artefacts.
    radius_mm : float
        Radius of the ball, mm.
    spacing_zyx_mm : tuple of float
        Voxel spacing, mm.

    Returns
    -------
    ndarray of bool
        Contains the mask.
    """
    pad = [(n, n) for n in (int(radius_mm / step) + 1 for step in spacing_zyx_mm)]
    grown = dilate_ball(np.pad(mask, pad), radius_mm, spacing_zyx_mm)
    closed = ~dilate_ball(~grown, radius_mm, spacing_zyx_mm)
    inner = tuple(slice(n, -n) for n, _ in pad)
    return closed[inner] | mask


def fill_cavities(mask: Mask) -> Mask:
    """Give the mask with everything filled that is enclosed in three dimensions.

    Parameters
    ----------
    mask : ndarray of bool, shape (z, y, x)
        A shell or a body with cavities.

    Returns
    -------
    ndarray of bool
        The mask and all background that no face-connected path links to a face of the array.
    """
    labels, _ = ndimage.label(~mask)
    faces = [labels[index] for axis in range(3) for index in _end_slices(axis)]
    outside = np.zeros(labels.max() + 1, dtype=bool)
    for face in faces:
        outside[np.unique(face)] = True
    outside[0] = False
    return ~outside[labels]


def bounding_box(mask: Mask) -> tuple[Shape, Shape]:
    """Give the smallest box of voxel indices that holds a mask.

    Parameters
    ----------
    mask : ndarray of bool, shape (z, y, x)
        At least one voxel is set.

    Returns
    -------
    start_zyx, stop_zyx : tuple of int
        Half-open box.

    Examples
    --------
    >>> bounding_box(np.array([[[False, True, True, False]]]))
    ((0, 0, 1), (1, 1, 3))
    """
    z, y, x = (np.flatnonzero(mask.any(axis=other)) for other in ((1, 2), (0, 2), (0, 1)))
    return (int(z[0]), int(y[0]), int(x[0])), (int(z[-1]) + 1, int(y[-1]) + 1, int(x[-1]) + 1)


def _end_slices(axis: int) -> list[tuple[slice | int, ...]]:
    return [tuple(end if k == axis else slice(None) for k in range(3)) for end in (0, -1)]


def _dilated_runs(mask: Mask, reach: int) -> list[Mask]:
    """Give the mask dilated along x by 0, 1, ... voxels."""
    runs = [mask]
    for n in range(1, reach + 1):
        run = runs[-1].copy()
        run[..., n:] |= mask[..., :-n]
        run[..., :-n] |= mask[..., n:]
        runs.append(run)
    return runs


def _or_shifted(out: Mask, mask: Mask, dz: int, dy: int) -> None:
    """Unite `out` with `mask` moved by (dz, dy)."""
    nz, ny = out.shape[:2]
    if abs(dz) >= nz or abs(dy) >= ny:
        return
    to = (slice(max(dz, 0), nz + min(dz, 0)), slice(max(dy, 0), ny + min(dy, 0)))
    source = (slice(max(-dz, 0), nz + min(-dz, 0)), slice(max(-dy, 0), ny + min(-dy, 0)))
    out[to] |= mask[source]
