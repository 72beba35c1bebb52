"""Grids in space: voxel index to world and back, reorientation, crops, resampled grids.

*World* is millimetres in the DICOM patient system LPS: +x to the patient's
left, +y to the back, +z to the head; points are ``(x, y, z)``. A *voxel index*
is ``(z, y, x)``, 0-based, may be continuous and points at the voxel centre.
The order of axes is flipped here and in the image readers, nowhere else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_alnct.core.errors import GeometryError

Triple = tuple[float, float, float]
Shape = tuple[int, int, int]
FloatArray = NDArray[np.float64]
Scalar = TypeVar("Scalar", bound=np.generic)

IDENTITY: tuple[float, ...] = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
ORTHONORMAL_TOLERANCE = 1e-4  # reader contract, step 3
AXIS_ALIGNED_TOLERANCE = 1e-4  # largest off-axis direction cosine that still counts as axis-aligned


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """Origin, spacing, direction and size of a voxel grid.

    Parameters
    ----------
    shape_zyx : tuple of int
        Number of voxels along z, y, x of the array.
    spacing_zyx_mm : tuple of float
        Distance between voxel centres along the array's axes, mm, positive.
    origin_xyz_mm : tuple of float
        World position of the centre of voxel (0, 0, 0), LPS mm.
    direction : tuple of 9 float
        Row-major 3x3 matrix as in ITK: its columns are the world directions
        of the x, y and z index axes.

    Raises
    ------
    GeometryError
        If sizes or spacings are not positive, or the matrix is not orthonormal.
    """

    shape_zyx: Shape
    spacing_zyx_mm: Triple
    origin_xyz_mm: Triple = (0.0, 0.0, 0.0)
    direction: tuple[float, ...] = IDENTITY

    def __post_init__(self) -> None:
        """Refuse grids that have no meaning."""
        if len(self.shape_zyx) != 3 or min(self.shape_zyx) < 1:
            raise GeometryError(f"a grid needs three sizes of at least 1, found {self.shape_zyx}")
        numbers = (*self.spacing_zyx_mm, *self.origin_xyz_mm, *self.direction)
        if len(numbers) != 15 or not np.all(np.isfinite(numbers)):
            raise GeometryError("spacing (3), origin (3) and direction (9) must be finite numbers")
        if min(self.spacing_zyx_mm) <= 0:
            raise GeometryError(f"spacing must be positive, found {self.spacing_zyx_mm} mm")
        matrix = np.reshape(self.direction, (3, 3))
        if np.abs(matrix.T @ matrix - np.eye(3)).max() > ORTHONORMAL_TOLERANCE:
            raise GeometryError("the direction matrix is not orthonormal; export the scan again without shear or scale")

    @property
    def index_to_world_matrix(self) -> FloatArray:
        """Give the 3x3 matrix from index steps (z, y, x) to world steps (x, y, z), mm."""
        columns_xyz = np.reshape(self.direction, (3, 3)) * np.asarray(self.spacing_zyx_mm)[::-1]
        return columns_xyz[:, ::-1]

    @property
    def is_left_handed(self) -> bool:
        """Tell whether the index axes form a mirrored (determinant -1) system."""
        return bool(np.linalg.det(np.reshape(self.direction, (3, 3))) < 0)

    @property
    def is_axis_aligned(self) -> bool:
        """Tell whether every index axis runs along one world axis."""
        magnitude = np.abs(np.reshape(self.direction, (3, 3)))
        return bool(np.minimum(magnitude, np.abs(1 - magnitude)).max() <= AXIS_ALIGNED_TOLERANCE)

    @property
    def is_lps(self) -> bool:
        """Tell whether array axes z, y, x run along world +z, +y, +x."""
        return bool(np.abs(np.subtract(self.direction, IDENTITY)).max() <= AXIS_ALIGNED_TOLERANCE)

    @property
    def extent_zyx_mm(self) -> Triple:
        """Give the size of the grid along its axes, outer edge to outer edge, mm."""
        z, y, x = np.multiply(self.shape_zyx, self.spacing_zyx_mm)
        return float(z), float(y), float(x)

    @property
    def corner_xyz_mm(self) -> Triple:
        """Give the world position of the outer corner of voxel (0, 0, 0), mm."""
        x, y, z = self.index_to_world([-0.5, -0.5, -0.5])
        return float(x), float(y), float(z)

    def index_to_world(self, index_zyx: ArrayLike) -> FloatArray:
        """Give the world positions of voxel indices.

        Parameters
        ----------
        index_zyx : array_like, shape (3,) or (N, 3)
            Voxel indices, may be continuous.

        Returns
        -------
        ndarray, same shape
            World positions (x, y, z), LPS mm.

        Examples
        --------
        >>> Geometry(shape_zyx=(9, 9, 9), spacing_zyx_mm=(2.0, 1.0, 0.5)).index_to_world([1, 2, 3])
        array([1.5, 2. , 2. ])
        """
        index = np.asarray(index_zyx, dtype=np.float64)
        return index @ self.index_to_world_matrix.T + np.asarray(self.origin_xyz_mm)

    def world_to_index(self, world_xyz_mm: ArrayLike) -> FloatArray:
        """Give the continuous voxel indices of world positions.

        Parameters
        ----------
        world_xyz_mm : array_like, shape (3,) or (N, 3)
            World positions (x, y, z), LPS mm.

        Returns
        -------
        ndarray, same shape
            Voxel indices (z, y, x); outside the grid is allowed.

        Examples
        --------
        >>> Geometry(shape_zyx=(9, 9, 9), spacing_zyx_mm=(2.0, 1.0, 0.5)).world_to_index([1.5, 2, 2])
        array([1., 2., 3.])
        """
        step = np.asarray(world_xyz_mm, dtype=np.float64) - np.asarray(self.origin_xyz_mm)
        return step @ np.linalg.inv(self.index_to_world_matrix).T

    def contains(self, world_xyz_mm: ArrayLike) -> NDArray[np.bool_]:
        """Tell which world positions lie inside the outer edges of the grid.

        Parameters
        ----------
        world_xyz_mm : array_like, shape (3,) or (N, 3)
            World positions (x, y, z), LPS mm.

        Returns
        -------
        ndarray of bool, shape () or (N,)
        """
        index = self.world_to_index(world_xyz_mm)
        inside: NDArray[np.bool_] = np.all((index >= -0.5) & (index < np.asarray(self.shape_zyx) - 0.5), axis=-1)
        return inside

    def crop(self, start_zyx: Shape, stop_zyx: Shape) -> Geometry:
        """Give the grid of ``array[start:stop]`` along each axis.

        Parameters
        ----------
        start_zyx, stop_zyx : tuple of int
            Half-open box of voxel indices; it may reach outside the grid, as padding does.

        Returns
        -------
        Geometry

        Raises
        ------
        GeometryError
            If the box is empty.
        """
        z, y, x = (int(stop - start) for start, stop in zip(start_zyx, stop_zyx, strict=True))
        return Geometry(
            shape_zyx=(z, y, x),
            spacing_zyx_mm=self.spacing_zyx_mm,
            origin_xyz_mm=_triple(self.index_to_world(start_zyx)),
            direction=self.direction,
        )

    def resampled(self, spacing_zyx_mm: Triple) -> Geometry:
        """Give the grid with another spacing that covers the same space.

        The outer corner of voxel (0, 0, 0) stays where it is and the spacing is
        exactly the requested one; the far edge moves by at most half a voxel.

        Parameters
        ----------
        spacing_zyx_mm : tuple of float
            New spacing, mm.

        Returns
        -------
        Geometry

        Examples
        --------
        >>> grid = Geometry(shape_zyx=(4, 4, 4), spacing_zyx_mm=(2.0, 1.0, 1.0)).resampled((1.0, 1.0, 1.0))
        >>> grid.shape_zyx, grid.origin_xyz_mm
        ((8, 4, 4), (0.0, 0.0, -0.5))
        """
        z, y, x = (max(1, round(e / s)) for e, s in zip(self.extent_zyx_mm, spacing_zyx_mm, strict=True))
        first_centre = np.divide(spacing_zyx_mm, self.spacing_zyx_mm) / 2 - 0.5  # in old index units
        return Geometry(
            shape_zyx=(z, y, x),
            spacing_zyx_mm=spacing_zyx_mm,
            origin_xyz_mm=_triple(self.index_to_world(first_centre)),
            direction=self.direction,
        )


@dataclass(frozen=True)
class Reorientation:
    """The lossless step from a source array to the LPS array.

    ``source.transpose(axes)`` followed by a flip of ``flipped`` axes.
    """

    axes: tuple[int, int, int]
    flipped: tuple[int, ...]
    geometry: Geometry

    @property
    def is_identity(self) -> bool:
        """Tell whether the array is already in LPS order."""
        return self.axes == (0, 1, 2) and not self.flipped


def plan_lps(source: Geometry) -> Reorientation:
    """Give the permutation and flips that bring a grid to LPS, and the new grid.

    Parameters
    ----------
    source : Geometry
        Grid as stored in the file.

    Returns
    -------
    Reorientation
        Its geometry has the identity direction; world positions do not change.

    Raises
    ------
    GeometryError
        If the grid is oblique; resample it to the patient axes first.
    """
    if not source.is_axis_aligned:
        raise GeometryError(
            "the scan is oblique to the patient axes; resample it to an axis-aligned grid first "
            "(3D Slicer: module Resample Scalar/Vector/DWI Volume)"
        )
    steps = source.index_to_world_matrix  # rows x, y, z; columns z, y, x of the source array
    axes = tuple(int(np.argmax(np.abs(steps[row]))) for row in (2, 1, 0))
    flipped = tuple(k for k, axis in enumerate(axes) if steps[2 - k, axis] < 0)
    first = np.zeros(3)
    for k in flipped:
        first[axes[k]] = source.shape_zyx[axes[k]] - 1
    a, b, c = axes
    geometry = Geometry(
        shape_zyx=(source.shape_zyx[a], source.shape_zyx[b], source.shape_zyx[c]),
        spacing_zyx_mm=(source.spacing_zyx_mm[a], source.spacing_zyx_mm[b], source.spacing_zyx_mm[c]),
        origin_xyz_mm=_triple(source.index_to_world(first)),
    )
    return Reorientation((a, b, c), flipped, geometry)


def reorient(array: NDArray[Scalar], plan: Reorientation) -> NDArray[Scalar]:
    """Give the array in LPS order.

    Parameters
    ----------
    array : ndarray, 3-D
        Voxels in source order.
    plan : Reorientation
        From `plan_lps`.

    Returns
    -------
    ndarray
        The same object when nothing changes, else a C-contiguous copy.
    """
    if plan.is_identity:
        return array
    return np.ascontiguousarray(np.flip(array.transpose(plan.axes), plan.flipped))


def restore(array: NDArray[Scalar], plan: Reorientation) -> NDArray[Scalar]:
    """Give an LPS array back in source order: the inverse of `reorient`.

    Parameters
    ----------
    array : ndarray, 3-D
        Voxels in LPS order.
    plan : Reorientation
        The plan that made it.

    Returns
    -------
    ndarray
        The same object when nothing changes, else a C-contiguous copy.
    """
    if plan.is_identity:
        return array
    inverse = np.argsort(plan.axes)
    return np.ascontiguousarray(np.flip(array, plan.flipped).transpose(inverse))


def _triple(values: ArrayLike) -> Triple:
    a, b, c = np.asarray(values, dtype=np.float64)
    return float(a), float(b), float(c)
