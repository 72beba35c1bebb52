"""A tiny analytic chest for tests: ellipsoids of known place, on any grid."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from napari_alnct.core.geometry import IDENTITY, Geometry
from napari_alnct.core.volume import Volume

BODY = ((0.0, 0.0, 0.0), (150.0, 105.0, 400.0))
RIGHT_LUNG = ((-65.0, 0.0, 0.0), (45.0, 70.0, 90.0))
LEFT_LUNG = ((65.0, 0.0, 0.0), (45.0, 70.0, 90.0))
Axes = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]
Ball = tuple[tuple[float, float, float], float, float]  # centre x, y, z (mm), radius (mm), HU


def chest_geometry(
    spacing_zyx_mm: tuple[float, float, float] = (3.0, 2.0, 2.0), direction: tuple[float, ...] = IDENTITY
) -> Geometry:
    """Give a grid of 340 x 260 x 240 mm (x, y, z) centred on world (0, 0, 0), in any signed axis order."""
    matrix = np.abs(np.reshape(direction, (3, 3)))  # rows: world x, y, z; columns: index x, y, z
    extent_index_xyz = np.array([340.0, 260.0, 240.0]) @ matrix
    z, y, x = (round(e / s) for e, s in zip(extent_index_xyz[::-1], spacing_zyx_mm, strict=True))
    grid = Geometry(shape_zyx=(z, y, x), spacing_zyx_mm=spacing_zyx_mm, direction=direction)
    x0, y0, z0 = -grid.index_to_world((np.array(grid.shape_zyx) - 1) / 2)
    return Geometry(shape_zyx=(z, y, x), spacing_zyx_mm=spacing_zyx_mm, direction=direction, origin_xyz_mm=(x0, y0, z0))


def world_axes(geometry: Geometry) -> Axes:
    """Give the world x, y and z of the voxels, shapes that broadcast to (z, y, x): each changes along one index axis.

    Far faster than the position of every voxel; the grid must be axis-aligned.
    """
    found = {}
    for axis, n in enumerate(geometry.shape_zyx):
        index = np.zeros((n, 3))
        index[:, axis] = np.arange(n)
        world = geometry.index_to_world(index)
        along = int(np.argmax(np.abs(geometry.index_to_world_matrix[:, axis])))
        found[along] = world[:, along].reshape([-1 if k == axis else 1 for k in range(3)])
    return found[0], found[1], found[2]


def world_grid(geometry: Geometry) -> NDArray[np.float64]:
    """Give the world position of every voxel, shape (z, y, x, 3)."""
    return np.stack(np.broadcast_arrays(*world_axes(geometry)), axis=-1)


def ellipsoid(
    world: NDArray[np.float64] | Axes, centre: tuple[float, float, float], radii: tuple[float, float, float]
) -> NDArray[np.bool_]:
    """Tell which positions, (..., 3) or of `world_axes`, lie in an ellipsoid along the axes."""
    x, y, z = world if isinstance(world, tuple) else np.moveaxis(world, -1, 0)
    step_x, step_y, step_z = (((p - c) / r) ** 2 for p, c, r in zip((x, y, z), centre, radii, strict=True))
    inside: NDArray[np.bool_] = step_x + step_y + step_z <= 1
    return inside


def chest_hu(geometry: Geometry, balls: Iterable[Ball] = (), *, has_left_lung: bool = True) -> NDArray[np.int16]:
    """Give HU of a body with two lungs, a table below, and balls, on a grid in any orientation."""
    world = world_axes(geometry)
    hu = np.full(geometry.shape_zyx, -1000, dtype=np.int16)
    hu[ellipsoid(world, *BODY)] = 40
    lungs = ellipsoid(world, *RIGHT_LUNG)
    if has_left_lung:
        lungs |= ellipsoid(world, *LEFT_LUNG)
    hu[lungs] = -860
    x, y, _ = world
    shell, foam = (y > 112) & (y < 124), (y > 114) & (y < 122) & (np.abs(x) < 160)
    hu[np.broadcast_to(shell, hu.shape)] = 100  # a table: a shell of 2 mm ...
    hu[np.broadcast_to(foam, hu.shape)] = -960  # ... around foam
    for centre, radius_mm, value in balls:
        hu[ellipsoid(world, centre, (radius_mm,) * 3)] = value
    return hu


def chest(geometry: Geometry | None = None, balls: Iterable[Ball] = (), *, has_left_lung: bool = True) -> Volume:
    """Give the scan of `chest_hu`."""
    grid = geometry or chest_geometry()
    return Volume.from_source(chest_hu(grid, balls, has_left_lung=has_left_lung), grid, series_uid="1.2.3")
