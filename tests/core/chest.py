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


def world_grid(geometry: Geometry) -> NDArray[np.float64]:
    """Give the world position of every voxel, shape (z, y, x, 3)."""
    index = np.stack(np.meshgrid(*(np.arange(n) for n in geometry.shape_zyx), indexing="ij"), axis=-1)
    return geometry.index_to_world(index.reshape(-1, 3)).reshape(*geometry.shape_zyx, 3)


def ellipsoid(
    world: NDArray[np.float64], centre: tuple[float, float, float], radii: tuple[float, float, float]
) -> NDArray[np.bool_]:
    """Tell which positions lie in an ellipsoid along the axes."""
    inside: NDArray[np.bool_] = (((world - centre) / radii) ** 2).sum(axis=-1) <= 1
    return inside


def chest_hu(geometry: Geometry, balls: Iterable[Ball] = (), *, has_left_lung: bool = True) -> NDArray[np.int16]:
    """Give HU of a body with two lungs, a table below, and balls, on a grid in any orientation."""
    world = world_grid(geometry)
    hu = np.full(geometry.shape_zyx, -1000, dtype=np.int16)
    hu[ellipsoid(world, *BODY)] = 40
    lungs = ellipsoid(world, *RIGHT_LUNG)
    if has_left_lung:
        lungs |= ellipsoid(world, *LEFT_LUNG)
    hu[lungs] = -860
    y = world[..., 1]
    hu[(y > 112) & (y < 124)] = 100  # a table: a shell of 2 mm ...
    hu[(y > 114) & (y < 122) & (np.abs(world[..., 0]) < 160)] = -960  # ... around foam
    for centre, radius_mm, value in balls:
        hu[ellipsoid(world, centre, (radius_mm,) * 3)] = value
    return hu


def chest(geometry: Geometry | None = None, balls: Iterable[Ball] = (), *, has_left_lung: bool = True) -> Volume:
    """Give the scan of `chest_hu`."""
    grid = geometry or chest_geometry()
    return Volume.from_source(chest_hu(grid, balls, has_left_lung=has_left_lung), grid, series_uid="1.2.3")
