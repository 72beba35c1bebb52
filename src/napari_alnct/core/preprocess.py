"""A scan in the form that the network sees: HU window, lung box, isotropic spacing.

A *prepared scan* has its own grid, and that grid is true: the spacing is exactly the
requested one and every voxel centre lies where its geometry says. Positions therefore
pass between the scan and the prepared scan through world millimetres, without loss.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_alnct.core.config import PrepareSettings
from napari_alnct.core.errors import GeometryError
from napari_alnct.core.geometry import FloatArray, Geometry
from napari_alnct.core.lungs import LungMask, segment_lungs
from napari_alnct.core.resampling import resample_linear
from napari_alnct.core.volume import HuArray, Volume


@dataclass(frozen=True, eq=False)
class PreparedScan:
    """The box around the lungs at isotropic spacing.

    Parameters
    ----------
    hu : ndarray of int16, shape (z, y, x)
        Hounsfield units, clipped to the window of the settings.
    geometry : Geometry
        LPS grid of `hu`, exact.
    lungs : LungMask
        Lungs on their own coarse grid; ``lungs.on_grid(geometry)`` fits `hu`.

    Raises
    ------
    GeometryError
        If array and grid disagree.
    """

    hu: HuArray
    geometry: Geometry
    lungs: LungMask

    def __post_init__(self) -> None:
        """Hold the invariants: int16 on an LPS grid of the same shape."""
        if self.hu.dtype != np.int16 or self.hu.shape != self.geometry.shape_zyx or not self.geometry.is_lps:
            raise GeometryError(f"{self.hu.dtype} array of shape {self.hu.shape} does not fit {self.geometry}")

    def to_index(self, world_xyz_mm: ArrayLike) -> FloatArray:
        """Give the continuous voxel indices (z, y, x) of world positions (x, y, z), mm."""
        return self.geometry.world_to_index(world_xyz_mm)

    def to_world(self, index_zyx: ArrayLike) -> FloatArray:
        """Give the world positions (x, y, z), mm, of voxel indices (z, y, x)."""
        return self.geometry.index_to_world(index_zyx)


def resample(
    volume: Volume,
    geometry: Geometry,
    low_hu: float,
    high_hu: float,
    dtype: type[np.int16] | type[np.float32] = np.int16,
) -> NDArray[np.int16] | NDArray[np.float32]:
    """Give a scan on another grid.

    Parameters
    ----------
    volume : Volume
        Scan.
    geometry : Geometry
        LPS grid to fill; the edge of the scan continues outside it.
    low_hu, high_hu : float
        Values are clipped to this window before interpolation.
    dtype : {numpy.int16, numpy.float32}, optional
        Of the result; int16 is rounded to the nearest.

    Returns
    -------
    ndarray of int16 or float32, shape ``geometry.shape_zyx``
        Hounsfield units by trilinear interpolation.

    Raises
    ------
    GeometryError
        If the grid is not LPS.
    """
    return resample_linear(volume.hu, volume.geometry, geometry, window=(low_hu, high_hu), dtype=dtype)


def lung_box_geometry(geometry: Geometry, lungs: LungMask, settings: PrepareSettings) -> Geometry:
    """Give the grid of the prepared scan.

    Parameters
    ----------
    geometry : Geometry
        LPS grid of the scan.
    lungs : LungMask
        Lungs of the same patient.
    settings : PrepareSettings
        Spacing and margin.

    Returns
    -------
    Geometry
        Box around the lungs with the margin, inside the scan, at exactly the spacing asked for.

    Raises
    ------
    LungsNotFoundError
        If lungs and scan do not overlap.
    """
    start, stop = lungs.box_zyx(geometry, settings.margin_mm)
    return geometry.crop(start, stop).resampled((settings.spacing_mm,) * 3)


def prepare(volume: Volume, settings: PrepareSettings | None = None, lungs: LungMask | None = None) -> PreparedScan:
    """Give a scan as the network needs it.

    Parameters
    ----------
    volume : Volume
        Chest CT.
    settings : PrepareSettings, optional
        Spacing, window and margin; the defaults when left out.
    lungs : LungMask, optional
        Lungs found before; segmented here when left out.

    Returns
    -------
    PreparedScan

    Raises
    ------
    LungsNotFoundError
        If the scan shows no lungs, or the given mask lies outside it.
    """
    settings = settings or PrepareSettings()
    lungs = lungs or segment_lungs(volume)
    grid = lung_box_geometry(volume.geometry, lungs, settings)
    hu = resample_linear(volume.hu, volume.geometry, grid, window=(settings.low_hu, settings.high_hu))
    return PreparedScan(hu, grid, lungs)
