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

    def select(self, keep: NDArray[np.bool_]) -> Tubes:
        """Give some of the pieces."""
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
    """
    axes = axes_mm(grid)
    origin, spacing = np.asarray(grid.origin_xyz_mm), np.asarray(grid.spacing_zyx_mm)[::-1]
    reach = np.maximum(tubes.start_radius_mm, tubes.end_radius_mm)[:, None] + margin_mm
    low = np.ceil((np.minimum(tubes.start_xyz_mm, tubes.end_xyz_mm) - reach - origin) / spacing).astype(int)
    high = np.floor((np.maximum(tubes.start_xyz_mm, tubes.end_xyz_mm) + reach - origin) / spacing).astype(int) + 1
    low, high = np.maximum(low, 0), np.minimum(high, grid.shape_zyx[::-1])
    for i in np.flatnonzero((low < high).all(axis=1)):
        (x0, y0, z0), (x1, y1, z1) = low[i].tolist(), high[i].tolist()
        box = (slice(z0, z1), slice(y0, y1), slice(x0, x1))
        yield int(i), box, _distance(tubes, int(i), axes[0][z0:z1], axes[1][y0:y1], axes[2][x0:x1])


def _distance(tubes: Tubes, i: int, z: Float64, y: Float64, x: Float64) -> Float32:
    p, step = tubes.start_xyz_mm[i], tubes.end_xyz_mm[i] - tubes.start_xyz_mm[i]
    length2 = max(float(step @ step), 1e-9)
    r0, dr = float(tubes.start_radius_mm[i]), float(tubes.end_radius_mm[i] - tubes.start_radius_mm[i])
    qx, qy, qz = (x - p[0]).astype(np.float32), (y - p[1]).astype(np.float32), (z - p[2]).astype(np.float32)
    sx, sy, sz = step.astype(np.float32)
    along = ((qz * sz)[:, None] + qy * sy)[:, :, None] + qx * sx
    square = ((qz * qz)[:, None] + qy * qy)[:, :, None] + qx * qx
    t = np.clip(along * np.float32(1 / length2), 0, 1)
    along *= 2
    along -= t * np.float32(length2)
    along *= t
    square -= along
    np.maximum(square, 0, out=square)
    np.sqrt(square, out=square)
    t *= np.float32(dr)
    t += np.float32(r0)
    square -= t
    return square


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
    for i, box, distance in tube_distances(grid, tubes.at_least(thinnest), edge_mm / 2):
        distance *= np.float32(-1 / edge_mm)
        distance += np.float32(0.5)
        np.clip(distance, 0, 1, out=distance)
        distance *= np.float32((inside_hu - away_hu) * share[i])
        distance += np.float32(away_hu)
        winner(hu[box], distance, out=hu[box])


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
