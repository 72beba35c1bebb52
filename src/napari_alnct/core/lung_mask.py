"""Where the lungs are: a mask on a coarse grid, asked through world positions."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage
from scipy.spatial import KDTree

from napari_alnct.core.errors import LungsNotFoundError
from napari_alnct.core.geometry import FloatArray, Geometry, Shape
from napari_alnct.core.morphology import Mask, bounding_box
from napari_alnct.core.resampling import resample_linear
from napari_alnct.core.volume import QualityFlag

LITRES_OF_TWO_LUNGS = (1.0, 12.0)
HEIGHT_OF_LUNGS_MM = 200.0
IMPLAUSIBLE = ("one_lung", "small_lungs", "large_lungs")


@dataclass(frozen=True, eq=False)
class LungMask:
    """Where the lungs are, on a coarse grid.

    Parameters
    ----------
    mask : ndarray of bool, shape (z, y, x)
        Lungs with the nodules and vessels in them; at least one voxel is set.
    geometry : Geometry
        LPS grid of `mask`, usually about 2 mm; world positions are those of the scan.

    Raises
    ------
    LungsNotFoundError
        If the mask is empty.
    """

    mask: Mask
    geometry: Geometry

    def __post_init__(self) -> None:
        """Refuse an empty mask."""
        if not self.mask.any():
            raise LungsNotFoundError("the lung mask is empty; check that the scan shows the chest")

    @cached_property
    def _bounds_zyx(self) -> tuple[FloatArray, FloatArray]:
        """Outer edges of the lungs in continuous indices of the coarse grid."""
        start, stop = bounding_box(self.mask)
        return np.array(start) - 0.5, np.array(stop) - 0.5

    def box_zyx(self, geometry: Geometry, margin_mm: float) -> tuple[Shape, Shape]:
        """Give the box around the lungs in the voxel indices of another grid.

        Parameters
        ----------
        geometry : Geometry
            LPS grid of the same patient.
        margin_mm : float
            Space to keep around the lungs, mm.

        Returns
        -------
        start_zyx, stop_zyx : tuple of int
            Half-open box, clipped to the grid.

        Raises
        ------
        LungsNotFoundError
            If the lungs and the grid do not overlap.
        """
        corners = [self.geometry.index_to_world(edge) for edge in self._bounds_zyx]
        low = geometry.world_to_index(corners[0] - margin_mm)
        high = geometry.world_to_index(corners[1] + margin_mm)
        start = np.maximum(np.floor(low + 0.5 + 1e-6), 0).astype(int)
        stop = np.minimum(np.ceil(high + 0.5 - 1e-6), geometry.shape_zyx).astype(int)
        if np.any(stop <= start):
            raise LungsNotFoundError("the lungs lie outside the grid; are mask and scan of the same patient?")
        return _shape(start), _shape(stop)

    def distance_mm(self, world_xyz_mm: ArrayLike) -> FloatArray:
        """Give how far points lie outside the lungs.

        Parameters
        ----------
        world_xyz_mm : array_like, shape (N, 3)
            World positions (x, y, z), LPS mm.

        Returns
        -------
        ndarray of float64, shape (N,)
            Distance to the nearest lung voxel's surface, mm; 0 inside.
        """
        points = np.asarray(world_xyz_mm, dtype=np.float64).reshape(-1, 3)
        half = np.asarray(self.geometry.spacing_zyx_mm)[::-1] / 2
        _, nearest = self._tree.query(points)
        outside: FloatArray = np.maximum(np.abs(points - self._tree.data[nearest]) - half, 0.0)
        distance: FloatArray = np.linalg.norm(outside, axis=1)
        distance[self.holds(points)] = 0.0
        return distance

    def holds(self, world_xyz_mm: ArrayLike) -> NDArray[np.bool_]:
        """Tell which points lie in a lung voxel.

        Parameters
        ----------
        world_xyz_mm : array_like, shape (N, 3)
            World positions (x, y, z), LPS mm.

        Returns
        -------
        ndarray of bool, shape (N,)
        """
        points = np.asarray(world_xyz_mm, dtype=np.float64).reshape(-1, 3)
        inside = self.geometry.contains(points)
        index = np.floor(self.geometry.world_to_index(points) + 0.5).astype(int)
        index = np.clip(index, 0, np.asarray(self.geometry.shape_zyx) - 1)
        held: NDArray[np.bool_] = inside & self.mask[tuple(index.T)]
        return held

    @cached_property
    def _tree(self) -> KDTree:
        """Search tree over the centres of the outermost lung voxels, world mm."""
        surface = self.mask & ~ndimage.binary_erosion(self.mask)
        return KDTree(self.geometry.index_to_world(np.argwhere(surface)))

    def on_grid(self, geometry: Geometry) -> Mask:
        """Give the mask on another grid, with smooth edges.

        Parameters
        ----------
        geometry : Geometry
            LPS grid of the same patient.

        Returns
        -------
        ndarray of bool, shape ``geometry.shape_zyx``
            Linear interpolation of the mask, cut at one half; the same world positions.
        """
        return resample_linear(self._padded, self._padded_geometry, geometry, dtype=np.float32) >= 0.5

    @property
    def _padded(self) -> NDArray[np.uint8]:
        """The mask with one empty voxel around, unless it is cut by the first or last slice."""
        return np.pad(self.mask.astype(np.uint8), ((0, 0), (1, 1), (1, 1)))

    @property
    def _padded_geometry(self) -> Geometry:
        nz, ny, nx = self.geometry.shape_zyx
        return self.geometry.crop((0, -1, -1), (nz, ny + 1, nx + 1))

    @cached_property
    def volume_ml(self) -> float:
        """Give the volume of the mask, ml."""
        return float(np.count_nonzero(self.mask) * np.prod(self.geometry.spacing_zyx_mm) / 1000)

    @cached_property
    def flags(self) -> tuple[QualityFlag, ...]:
        """Give what a reader should know: ``one_lung``, ``small_lungs``, ``large_lungs``, ``cut_lungs``."""
        return _flags(self)

    @property
    def is_plausible(self) -> bool:
        """Tell whether this looks like two lungs of an adult, allowing for a cut field of view."""
        return not any(flag.code in IMPLAUSIBLE for flag in self.flags)


def _flags(lungs: LungMask) -> tuple[QualityFlag, ...]:
    box = bounding_box(lungs.mask)
    height_mm, depth_mm, width_mm = np.subtract(box[1], box[0]) * lungs.geometry.spacing_zyx_mm
    columns = np.count_nonzero(lungs.mask, axis=(0, 1))[box[0][2] : box[1][2]]
    right, left = int(columns[: len(columns) // 2].sum()), int(columns[len(columns) // 2 :].sum())
    is_cut = box[0][0] == 0 or box[1][0] == lungs.geometry.shape_zyx[0]
    low, high = LITRES_OF_TWO_LUNGS
    low *= min(1.0, height_mm / HEIGHT_OF_LUNGS_MM) if is_cut else 1.0
    litres = lungs.volume_ml / 1000
    checks = {
        "one_lung": (
            width_mm < 0.95 * depth_mm or min(right, left) < 0.25 * max(right, left),
            "Only one lung holds air; nodules in the other side can be missed.",
        ),
        "small_lungs": (litres < low, f"The lungs hold {litres:.1f} litres, less than the usual {low:.1f}."),
        "large_lungs": (litres > high, f"The lungs hold {litres:.1f} litres, more than the usual {high:.1f}."),
        "cut_lungs": (is_cut, "The lungs reach the first or last slice; what lies beyond was not searched."),
    }
    return tuple(QualityFlag(code, text) for code, (is_found, text) in checks.items() if is_found)


def _shape(values: NDArray[np.intp]) -> Shape:
    z, y, x = (int(v) for v in values)
    return z, y, x
