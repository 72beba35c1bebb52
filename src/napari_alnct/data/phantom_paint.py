"""Sampling of shapes on a voxel grid with soft, partial-volume edges.

Shapes are painted in small boxes around them, so the cost follows the size of
the shape and not that of the scan. Points are ``(x, y, z)`` world mm, arrays
are (z, y, x); grids are LPS. *Coverage* is the part of a voxel inside a shape.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_alnct.core.geometry import Geometry

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
AIR_HU = -1000.0
AWAY_FROM_AIR_HU = 100.0  # what the edge of painted air fades into
Box = tuple[slice, slice, slice]
BATCH_VOX = 2**16  # voxels whose distances are computed together: they stay in a core's cache


def axes_mm(grid: Geometry) -> tuple[Float64, Float64, Float64]:
    """Give the world positions of the voxel centres along z, y and x of an LPS grid, mm."""
    first = grid.origin_xyz_mm[::-1]
    z, y, x = (o + s * np.arange(n) for o, s, n in zip(first, grid.spacing_zyx_mm, grid.shape_zyx, strict=True))
    return z.astype(np.float64), y.astype(np.float64), x.astype(np.float64)


def box_around(grid: Geometry, low_xyz_mm: Float64, high_xyz_mm: Float64) -> Box | None:
    """Give the voxels whose centres lie between two corners, or None when there are none."""
    low = np.ceil((low_xyz_mm - np.asarray(grid.origin_xyz_mm))[::-1] / grid.spacing_zyx_mm).astype(int)
    high = np.floor((high_xyz_mm - np.asarray(grid.origin_xyz_mm))[::-1] / grid.spacing_zyx_mm).astype(int) + 1
    low, high = np.maximum(low, 0), np.minimum(high, grid.shape_zyx)
    if np.any(low >= high):
        return None
    return slice(low[0], high[0]), slice(low[1], high[1]), slice(low[2], high[2])


@dataclass(frozen=True, eq=False)
class Tubes:
    """Tapered capsules: N straight pieces with rounded ends.

    Parameters
    ----------
    start_xyz_mm, end_xyz_mm : ndarray, shape (N, 3)
        World points.
    start_radius_mm, end_radius_mm : ndarray, shape (N,)
        Radii at the two ends.
    """

    start_xyz_mm: Float64
    end_xyz_mm: Float64
    start_radius_mm: Float64
    end_radius_mm: Float64

    def __len__(self) -> int:
        """Give the number of pieces."""
        return len(self.start_xyz_mm)

    def select(self, keep: NDArray[np.bool_] | NDArray[np.intp]) -> Tubes:
        """Give some of the pieces, by number or as true and false."""
        return Tubes(
            self.start_xyz_mm[keep], self.end_xyz_mm[keep], self.start_radius_mm[keep], self.end_radius_mm[keep]
        )

    def at_least(self, radius_mm: float) -> Tubes:
        """Give the same pieces, none thinner than this radius."""
        thick = np.maximum(self.start_radius_mm, radius_mm), np.maximum(self.end_radius_mm, radius_mm)
        return Tubes(self.start_xyz_mm, self.end_xyz_mm, *thick)

    def grown(self, factor: float, plus_mm: float) -> Tubes:
        """Give the same pieces with other radii."""
        return Tubes(
            self.start_xyz_mm,
            self.end_xyz_mm,
            np.maximum(self.start_radius_mm * factor + plus_mm, 0.0),
            np.maximum(self.end_radius_mm * factor + plus_mm, 0.0),
        )


def chain(points_xyz_mm: Float64, radii_mm: Float64 | float) -> Tubes:
    """Give the tube through a row of points."""
    points = np.asarray(points_xyz_mm, dtype=np.float64)
    radii = np.broadcast_to(np.asarray(radii_mm, dtype=np.float64), len(points))
    return Tubes(points[:-1], points[1:], radii[:-1].copy(), radii[1:].copy())


def join(*parts: Tubes) -> Tubes:
    """Give several sets of tubes as one."""
    return Tubes(
        np.concatenate([p.start_xyz_mm for p in parts]),
        np.concatenate([p.end_xyz_mm for p in parts]),
        np.concatenate([p.start_radius_mm for p in parts]),
        np.concatenate([p.end_radius_mm for p in parts]),
    )


def tube_distances(grid: Geometry, tubes: Tubes, margin_mm: float) -> Iterator[tuple[int, Box, Float32]]:
    """Give, piece by piece, its number, a box and the signed distance to the tube's surface in it, mm, negative inside.

    Parameters
    ----------
    grid : Geometry
        LPS grid.
    tubes : Tubes
        What to sample.
    margin_mm : float
        How far beyond the surface the box reaches.

    Yields
    ------
    int, tuple of slice, ndarray of float32
        In the order of the size of the boxes.
    """
    for numbers, boxes, distances in _batches(grid, tubes, margin_mm):
        yield from zip(numbers.tolist(), boxes, distances, strict=True)


def _batches(grid: Geometry, tubes: Tubes, margin_mm: float) -> Iterator[tuple[NDArray[np.intp], list[Box], Float32]]:
    """Give pieces with boxes of one shape together: most are a few voxels wide, and one by one they take long."""
    axes = axes_mm(grid)
    low, high = _corners_zyx(grid, tubes, margin_mm)
    kept = np.flatnonzero((low < high).all(axis=1))
    shapes = high[kept] - low[kept]
    order = np.lexsort(shapes.T)
    kept, shapes = kept[order], shapes[order]
    changes = np.flatnonzero((shapes[1:] != shapes[:-1]).any(axis=1)) + 1
    for numbers, alike in zip(np.split(kept, changes), np.split(shapes, changes), strict=True):
        at_once = max(1, BATCH_VOX // max(1, int(np.prod(alike[:1]))))
        for first in range(0, len(numbers), at_once):
            part = numbers[first : first + at_once]
            z, y, x = (axes[k][low[part, k, None] + np.arange(alike[0, k])] for k in range(3))
            yield part, _boxes(low[part], high[part]), _distances(tubes.select(part), z, y, x)


def _corners_zyx(grid: Geometry, tubes: Tubes, margin_mm: float) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Give the first voxel of the box of each piece, and the one behind its last."""
    origin, spacing = np.asarray(grid.origin_xyz_mm), np.asarray(grid.spacing_zyx_mm)[::-1]
    reach = np.maximum(tubes.start_radius_mm, tubes.end_radius_mm)[:, None] + margin_mm
    low = np.ceil((np.minimum(tubes.start_xyz_mm, tubes.end_xyz_mm) - reach - origin) / spacing).astype(int)
    high = np.floor((np.maximum(tubes.start_xyz_mm, tubes.end_xyz_mm) + reach - origin) / spacing).astype(int) + 1
    return np.maximum(low, 0)[:, ::-1], np.minimum(high, grid.shape_zyx[::-1])[:, ::-1]


def _boxes(low_zyx: NDArray[np.intp], high_zyx: NDArray[np.intp]) -> list[Box]:
    corners = zip(low_zyx.tolist(), high_zyx.tolist(), strict=True)
    return [(slice(z0, z1), slice(y0, y1), slice(x0, x1)) for (z0, y0, x0), (z1, y1, x1) in corners]


def _distances(tubes: Tubes, z: Float64, y: Float64, x: Float64) -> Float32:
    """Give the distances of B pieces in boxes of one shape with axes (B, n), shape (B, z, y, x)."""
    start, step = tubes.start_xyz_mm, tubes.end_xyz_mm - tubes.start_xyz_mm
    length2 = np.array([max(float(one @ one), 1e-9) for one in step])[:, None, None, None]
    r0, dr = (r[:, None, None, None] for r in (tubes.start_radius_mm, tubes.end_radius_mm - tubes.start_radius_mm))
    qz, qy, qx = ((axis - start[:, k, None]).astype(np.float32) for k, axis in ((2, z), (1, y), (0, x)))
    sx, sy, sz = step.astype(np.float32).T[:, :, None]
    along = _outer_sum(qz * sz, qy * sy, qx * sx)
    square = _outer_sum(qz * qz, qy * qy, qx * qx)
    t = along * (1 / length2).astype(np.float32)
    np.clip(t, 0, 1, out=t)
    along *= 2
    along -= t * length2.astype(np.float32)
    along *= t
    square -= along
    np.maximum(square, 0, out=square)
    np.sqrt(square, out=square)
    t *= dr.astype(np.float32)
    t += r0.astype(np.float32)
    square -= t
    return square


def _outer_sum(z: Float32, y: Float32, x: Float32) -> Float32:
    """Give z + y + x for all voxels of boxes with axes (B, n)."""
    return (z[:, :, None] + y[:, None, :])[..., None] + x[:, None, None, :]


def paint_tubes(
    hu: Float32, grid: Geometry, tubes: Tubes, inside_hu: float, *, bright: bool = True, around_hu: float | None = None
) -> None:
    """Paint tubes into a scan in place; the brighter (or darker) value wins.

    Parameters
    ----------
    hu : ndarray of float32
        Scan on `grid`.
    grid : Geometry
        LPS grid.
    tubes : Tubes
        What to paint; thinner than a voxel: with the contrast that the voxel's part gives.
    inside_hu : float
        Value inside.
    bright : bool, optional
        True: only where it brightens (vessels, bones); False: only where it darkens (air).
    around_hu : float, optional
        What the edge fades into: nothing darker (or brighter) lies around. Default: air, or 100 HU when darkening.
    """
    edge_mm = float(np.mean(grid.spacing_zyx_mm))
    thinnest = 0.5 * edge_mm
    share = np.minimum((tubes.start_radius_mm + tubes.end_radius_mm) / (2 * thinnest), 1.0) ** 2
    away_hu = around_hu if around_hu is not None else AIR_HU if bright else AWAY_FROM_AIR_HU
    winner = np.maximum if bright else np.minimum
    contrast = ((inside_hu - away_hu) * share).astype(np.float32)
    for numbers, boxes, distances in _batches(grid, tubes.at_least(thinnest), edge_mm / 2):
        distances *= np.float32(-1 / edge_mm)
        distances += np.float32(0.5)
        np.clip(distances, 0, 1, out=distances)
        distances *= contrast[numbers][:, None, None, None]
        distances += np.float32(away_hu)
        for box, painted in zip(boxes, distances, strict=True):
            part = hu[box]
            winner(part, painted, out=part)


class Upsampler:
    """Linear interpolation of a coarse field on a fine grid, a slab of slices at a time.

    Parameters
    ----------
    coarse, fine : Geometry
        LPS grids; fine positions outside the coarse grid take its edge value.
    """

    def __init__(self, coarse: Geometry, fine: Geometry) -> None:
        self._steps = []
        for rough_mm, sharp_mm, n in zip(axes_mm(coarse), axes_mm(fine), coarse.shape_zyx, strict=True):
            position = np.clip((sharp_mm - rough_mm[0]) / (rough_mm[1] - rough_mm[0]), 0, n - 1.000001)
            below = position.astype(np.intp)
            self._steps.append((below, (position - below).astype(np.float32)))

    def slab(self, field: Float32, z: slice, y: slice = slice(None), x: slice = slice(None)) -> Float32:
        """Give the field in a box of the fine grid.

        Parameters
        ----------
        field : ndarray of float32
            On the coarse grid.
        z, y, x : slice
            Box of fine voxels.

        Returns
        -------
        ndarray of float32
        """
        result = field
        for axis, part in enumerate((z, y, x)):
            below, weight = self._steps[axis][0][part], self._steps[axis][1][part]
            weight = weight.reshape([-1 if k == axis else 1 for k in range(3)])
            low = np.take(result, below, axis=axis)
            high = np.take(result, below + 1, axis=axis)
            high -= low
            high *= weight
            low += high
            result = low
        return result
