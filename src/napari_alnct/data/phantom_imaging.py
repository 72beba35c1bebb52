"""From the painted chest to what a scanner stores: slice profile, blur, noise, table, padding, int16.

The chest is painted on an *inner grid* (at most 1 mm) and averaged to the
scan's voxels, so thick slices show the partial volume that real ones do.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_alnct.core.geometry import Geometry
from napari_alnct.data.phantom_anatomy import Fields
from napari_alnct.data.phantom_body import Frame
from napari_alnct.data.phantom_paint import AIR_HU, Float32, Float64, Upsampler, axes_mm

LOWEST_HU, HIGHEST_HU = -1024, 3071
SKIN_MM = 1.8
N_SLAB = 8


@dataclass(frozen=True, kw_only=True)
class Scanner:
    """How one scan was taken."""

    blur_mm: float  # standard deviation of the in-plane point spread
    overlap: float  # share of the neighbouring slices in a slice
    noise_hu: float
    has_table: bool
    padding_hu: int | None


def draw_scanner(seed: int, noise_hu: float, padding_hu: int | None) -> Scanner:
    """Give the scanner that belongs to a seed."""
    rng = np.random.default_rng([seed, 7])
    return Scanner(
        blur_mm=rng.uniform(0.42, 0.75),
        overlap=rng.uniform(0.0, 0.18),
        noise_hu=noise_hu,
        has_table=rng.random() < 0.9,
        padding_hu=padding_hu,
    )


def fill_soft_parts(grid: Geometry, fields: Fields) -> Float32:
    """Give the chest without vessels and bones on the inner grid.

    Parameters
    ----------
    grid : Geometry
        Inner LPS grid.
    fields : Fields
        The chest on its coarse grid.

    Returns
    -------
    ndarray of float32
        HU.
    """
    hu = np.empty(grid.shape_zyx, dtype=np.float32)
    up, lungs = Upsampler(fields.grid, grid), fields.lungs
    edge_mm = float(np.mean(grid.spacing_zyx_mm))
    for start in range(0, grid.shape_zyx[0], N_SLAB):
        z = slice(start, min(start + N_SLAB, grid.shape_zyx[0]))
        skin = up.slab(fields.skin, z)
        part = up.slab(fields.soft_hu, z)
        part[skin > -SKIN_MM] = 15.0
        cover = np.clip(0.5 - skin / np.float32(edge_mm), 0, 1)
        part -= np.float32(AIR_HU)
        part *= cover
        part += np.float32(AIR_HU)
        _fill_lungs(part, up, fields, lungs, z, edge_mm)
        hu[z] = part
    return hu


def _fill_lungs(part: Float32, up: Upsampler, fields: Fields, lungs: Float32, z: slice, edge_mm: float) -> None:
    distance = up.slab(lungs, z)
    rows, columns = np.flatnonzero((distance < 1).any((0, 2))), np.flatnonzero((distance < 1).any((0, 1)))
    if not len(rows) or not len(columns):
        return
    y, x = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    cover = np.clip(0.5 - distance[:, y, x] / np.float32(edge_mm), 0, 1)
    lung = up.slab(fields.lung_hu, z, y, x)
    oblique, horizontal = up.slab(fields.oblique, z, y, x), up.slab(fields.horizontal, z, y, x)
    lung += _sheet_hu(oblique)
    lung += np.where(oblique > 0, _sheet_hu(horizontal), 0)
    lung -= part[:, y, x]
    lung *= cover
    part[:, y, x] += lung


def _sheet_hu(distance: Float32) -> Float32:
    """Give the extra density of a fissure, a sheet less than a millimetre thick."""
    near = np.clip(1.0 - np.abs(distance) * np.float32(1 / 0.8), 0, 1)
    near *= np.float32(200.0)
    return near


def add_table(hu: Float32, grid: Geometry, frame: Frame, back_mm: float) -> None:
    """Add the patient table behind the back, in place.

    Parameters
    ----------
    hu : ndarray of float32
        Chest on the inner grid.
    grid : Geometry
        Inner LPS grid.
    frame : Frame
        Placement of the chest.
    back_mm : float
        World y of the skin of the back.
    """
    _, y, x = axes_mm(grid)
    side = (x - frame.centre_xyz_mm[0])[None, :]
    top = back_mm + 3.0 - side**2 / 2200.0
    depth = y[:, None] - top
    edge = float(np.mean(grid.spacing_zyx_mm[1:]))
    inside = np.clip(0.5 - np.maximum(-depth, depth - 28.0) / edge, 0, 1)
    shell = inside - np.clip(0.5 - np.maximum(1.6 - depth, depth - 26.4) / edge, 0, 1)
    profile = (AIR_HU + inside * 60.0 + shell * 820.0).astype(np.float32)
    first = int(np.searchsorted(y, float(top.min()) - 2.0))
    np.maximum(hu[:, first:], profile[None, first:], out=hu[:, first:])


def average_to(hu: Float32, factors: tuple[int, int, int]) -> Float32:
    """Give the means of blocks of inner voxels: the scan's voxels."""
    if factors == (1, 1, 1):
        return hu
    (nz, ny, nx), (kz, ky, kx) = hu.shape, factors
    result = np.empty((nz // kz, ny // ky, nx // kx), dtype=np.float32)
    for i in range(nz // kz):
        slab = hu[i * kz : (i + 1) * kz].mean(0)
        result[i] = slab.reshape(ny // ky, ky, nx // kx, kx).mean((1, 3))
    return result


def _kernel(sigma: float) -> Float64:
    reach = max(1, int(np.ceil(2.5 * sigma)))
    steps = np.arange(-reach, reach + 1)
    weights = np.exp(-0.5 * (steps / max(sigma, 1e-3)) ** 2)
    return weights / weights.sum()


def expose(hu: Float32, grid: Geometry, scanner: Scanner, seed: int) -> NDArray[np.int16]:
    """Give the stored scan: blurred, noisy, rounded, clipped to what a scanner stores.

    Parameters
    ----------
    hu : ndarray of float32
        Chest on the scan's grid; overwritten.
    grid : Geometry
        LPS grid of the scan.
    scanner : Scanner
        How it is taken.
    seed : int
        Source of the noise.

    Returns
    -------
    ndarray of int16

    Notes
    -----
    White noise is added before the blur, so noise and image have the same
    resolution, as after a reconstruction kernel; its size is set so that the
    standard deviation after the blur is `Scanner.noise_hu`.
    """
    rng = np.random.default_rng([seed, 8])
    _, sy, sx = grid.spacing_zyx_mm
    across, along = _kernel(scanner.blur_mm / sy), _kernel(scanner.blur_mm / sx)
    slices = np.array([scanner.overlap, 1.0, scanner.overlap]) / (1.0 + 2.0 * scanner.overlap)
    gain = np.sqrt((across**2).sum() * (along**2).sum() * (slices**2).sum())
    level = noise_profile(grid, rng) * np.float32(scanner.noise_hu / gain)
    result = np.empty(hu.shape, dtype=np.int16)
    planes: list[Float32] = []  # the blurred slices i - 2, i - 1, i
    for i, plane in enumerate(hu):
        noisy = plane + rng.standard_normal(plane.shape, dtype=np.float32) * level
        noisy = ndimage.correlate1d(noisy, across, axis=0, mode="nearest")
        planes = [*planes[-2:], ndimage.correlate1d(noisy, along, axis=1, mode="nearest")]
        if i:
            result[i - 1] = _slice_of(planes[-3:][0], planes[-2], planes[-1], slices)
    result[-1] = _slice_of(planes[-2:][0], planes[-1], planes[-1], slices)
    return result


def _slice_of(below: Float32, here: Float32, above: Float32, weights: Float64) -> NDArray[np.int16]:
    mixed = weights[1] * here + weights[0] * (below + above)
    return np.rint(np.clip(mixed, LOWEST_HU, HIGHEST_HU)).astype(np.int16)


def noise_profile(grid: Geometry, rng: np.random.Generator) -> Float32:
    """Give the relative noise in a slice, 1 in the middle: less noise near the skin."""
    _, y, x = axes_mm(grid)
    half_y, half_x = (y[-1] - y[0]) / 2, (x[-1] - x[0]) / 2
    radius2 = ((y - y.mean()) / half_y)[:, None] ** 2 + ((x - x.mean()) / half_x)[None, :] ** 2
    return (1.0 - rng.uniform(0.1, 0.3) * np.clip(radius2, 0, 1)).astype(np.float32)


def pad_outside(hu: NDArray[np.int16], padding_hu: int) -> None:
    """Set everything outside the circle that fits into the slices, in place."""
    ny, nx = hu.shape[1:]
    y, x = (np.arange(n) - (n - 1) / 2 for n in (ny, nx))
    outside = (y[:, None] / (ny / 2)) ** 2 + (x[None, :] / (nx / 2)) ** 2 > 1.0
    hu[:, outside] = padding_hu


def lung_masks(grid: Geometry, fields: Fields) -> NDArray[np.uint8]:
    """Give the lungs on the scan's grid: 3 left, 4 right, 0 elsewhere.

    Parameters
    ----------
    grid : Geometry
        LPS grid of the scan.
    fields : Fields
        The chest.

    Returns
    -------
    ndarray of uint8
    """
    labels = np.zeros(grid.shape_zyx, dtype=np.uint8)
    up = Upsampler(fields.grid, grid)
    for start in range(0, grid.shape_zyx[0], N_SLAB):
        z = slice(start, min(start + N_SLAB, grid.shape_zyx[0]))
        for lung, name in ((fields.left_lung, 3), (fields.right_lung, 4)):
            columns = np.flatnonzero((lung < 3).any((0, 1)))
            world_x = axes_mm(fields.grid)[2][columns[[0, -1]]]
            x = slice(*np.searchsorted(axes_mm(grid)[2], world_x + np.array([-5.0, 5.0])))
            part = labels[z, :, x]
            part[up.slab(lung, z, slice(None), x) < 0] = name
    return labels
