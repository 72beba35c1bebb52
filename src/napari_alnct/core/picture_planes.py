"""Pictures of a scan as radiologists see it: the patient's right side on the left, the front or the head on top."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_alnct.core.geometry import Geometry, Triple
from napari_alnct.core.resampling import axis_indices, resample_linear

Pixels = NDArray[np.uint8]

LUNG_WINDOW_HU = (-1350.0, 150.0)  # width 1500, level -600
OUTSIDE_GREY = 110  # where there is no scan


@dataclass(frozen=True)
class Plane:
    """A way to cut a patient.

    Parameters
    ----------
    name : str
        ``axial``, ``coronal`` or ``sagittal``.
    column, row, normal : int
        World axes (0 = x, 1 = y, 2 = z) of the picture's columns and rows, and across it.
    is_head_up : bool
        Whether rows run against +z.
    letters : tuple of str
        Sides of the patient at the left, right, top and bottom edge.
    """

    name: str
    column: int
    row: int
    normal: int
    is_head_up: bool
    letters: tuple[str, str, str, str]


PLANES = (
    Plane("axial", 0, 1, 2, False, ("R", "L", "A", "P")),
    Plane("coronal", 0, 2, 1, True, ("R", "L", "H", "F")),
    Plane("sagittal", 1, 2, 0, True, ("A", "P", "H", "F")),
)


def picture_grid(centre_xyz_mm: Triple, plane: Plane, slice_mm: float, n_pixels: int, pixel_mm: float) -> Geometry:
    """Give the LPS grid of a picture: a single voxel along the normal.

    Parameters
    ----------
    centre_xyz_mm : tuple of float
        World LPS mm; in the middle of the picture.
    plane : Plane
        How it is cut.
    slice_mm : float
        World position along the normal, mm.
    n_pixels : int
        Along its edge.
    pixel_mm : float
        Edge of a pixel, mm.

    Returns
    -------
    Geometry
    """
    shape, origin = [1, 1, 1], list(centre_xyz_mm)
    origin[plane.normal] = slice_mm
    for axis in (plane.column, plane.row):
        shape[axis] = n_pixels
        origin[axis] -= pixel_mm * (n_pixels - 1) / 2
    x, y, z = origin
    nx, ny, nz = shape
    return Geometry(shape_zyx=(nz, ny, nx), spacing_zyx_mm=(pixel_mm,) * 3, origin_xyz_mm=(x, y, z))


def upright_grey(
    hu: NDArray[np.generic], scan: Geometry, picture: Geometry, plane: Plane, window_hu: tuple[float, float]
) -> Pixels:
    """Give a picture of a scan as radiologists see it.

    Parameters
    ----------
    hu : ndarray, shape (z, y, x)
        Hounsfield units.
    scan, picture : Geometry
        Grids of `hu` and, from `picture_grid`, of the picture.
    plane : Plane
        How it is cut.
    window_hu : tuple of float
        Black and white, HU.

    Returns
    -------
    ndarray of uint8, shape (n, n)
        Rows from the top, columns from the left; one grey outside the scan.
    """
    low, high = window_hu
    values = resample_linear(hu, scan, picture, window=window_hu, dtype=np.float32)
    grey = np.rint((values - low) * (255 / (high - low))).astype(np.uint8)
    grey[~_is_inside(scan, picture)] = OUTSIDE_GREY
    flat = grey.squeeze(axis=2 - plane.normal)
    return np.ascontiguousarray(flat[::-1] if plane.is_head_up else flat)


def _is_inside(scan: Geometry, grid: Geometry) -> NDArray[np.bool_]:
    """Tell which voxels of an LPS grid lie inside the outer edges of another."""
    z, y, x = (
        (index >= -0.5) & (index < n - 0.5) for index, n in zip(axis_indices(scan, grid), scan.shape_zyx, strict=True)
    )
    inside: NDArray[np.bool_] = z[:, None, None] & y[None, :, None] & x[None, None, :]
    return inside
