"""A CT scan in memory: Hounsfield units on an LPS grid.

A `Volume` is always int16 HU, axes (z, y, x), with +z to the head, +y to the
back and +x to the patient's left. The grid as stored in the file is kept, so
that masks and maps can be written back in the source's own orientation.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_alnct.core.errors import GeometryError
from napari_alnct.core.geometry import Geometry, Reorientation, plan_lps, reorient, restore

HuArray = NDArray[np.int16]
THICK_SLICE_MM = 2.5  # LUNA16 admits slices up to 2.5 mm
HU_RANGE = (-4096, 32767)  # reader contract, step 6
LUNG_PERCENTILE_HU = -500  # a chest CT has at least 5 % lung or air below this
TISSUE_PERCENTILE_HU = 0  # and at least 0.1 % soft tissue or bone above this
AIR_HU = -1024  # no tissue is below; scanners mark voxels outside their field of view so
PADDING_SHARE = 0.01  # of the voxels: less is noise, not a mark
SAMPLE_STEP = 5  # every 5th voxel along each axis gives the percentiles


@dataclass(frozen=True)
class QualityFlag:
    """A property of the scan that a reader should know.

    ``code`` is stable (``thick_slices``, ``gaps``, ``not_hu``, ``padding``, ...);
    ``text`` is one sentence for people.
    """

    code: str
    text: str


@dataclass(frozen=True, eq=False)
class Volume:
    """A CT scan on an LPS grid.

    Parameters
    ----------
    hu : ndarray of int16, shape (z, y, x)
        Hounsfield units.
    geometry : Geometry
        Grid of `hu`; its direction is the identity (LPS).
    source_geometry : Geometry
        Grid as stored in the file.
    series_uid : str
        Series identifier; the base name of the file when the format has none.
    flags : tuple of QualityFlag
        What a reader should know about this scan.

    Raises
    ------
    GeometryError
        If array and grid disagree or the grid is not LPS.
    """

    hu: HuArray
    geometry: Geometry
    source_geometry: Geometry
    series_uid: str = ""
    flags: tuple[QualityFlag, ...] = ()

    def __post_init__(self) -> None:
        """Hold the invariants: int16, LPS, matching shape."""
        if self.hu.dtype != np.int16:
            raise TypeError(f"a Volume holds int16 HU, got {self.hu.dtype}")
        if self.hu.shape != self.geometry.shape_zyx:
            raise GeometryError(f"array shape {self.hu.shape} differs from the grid's {self.geometry.shape_zyx}")
        if not self.geometry.is_lps:
            raise GeometryError("a Volume must be in LPS order; use Volume.from_source")

    @classmethod
    def from_source(
        cls, hu: NDArray[np.generic], geometry: Geometry, *, series_uid: str = "", flags: tuple[QualityFlag, ...] = ()
    ) -> Volume:
        """Give the Volume of an array in any axis-aligned orientation.

        Parameters
        ----------
        hu : ndarray, 3-D, any number type
            Hounsfield units in source order; rounded and clipped to int16.
        geometry : Geometry
            Grid of `hu`.
        series_uid : str, optional
            Series identifier.
        flags : tuple of QualityFlag, optional
            Known properties; geometry and HU flags are added here.

        Returns
        -------
        Volume

        Raises
        ------
        GeometryError
            If the grid is oblique.
        """
        plan = plan_lps(geometry)
        voxels = reorient(to_int16(hu), plan)
        found = (*flags, *geometry_flags(plan.geometry), *hu_flags(hu))
        return cls(voxels, plan.geometry, geometry, series_uid, found)

    @cached_property
    def reorientation(self) -> Reorientation:
        """Give the lossless step from the source grid to this one."""
        return plan_lps(self.source_geometry)

    @cached_property
    def voxel_sha256(self) -> str:
        """Give the SHA-256 of shape, spacing, origin and voxels: the identity of the scan."""
        grid = (self.geometry.shape_zyx, self.geometry.spacing_zyx_mm, self.geometry.origin_xyz_mm)
        digest = hashlib.sha256(repr(grid).encode())
        digest.update(np.ascontiguousarray(self.hu).data)
        return digest.hexdigest()

    def has_flag(self, code: str) -> bool:
        """Tell whether the scan carries the flag with this code."""
        return any(flag.code == code for flag in self.flags)

    def in_source_order(self, array: NDArray[np.generic]) -> NDArray[np.generic]:
        """Give an array on this grid back in the orientation of the file."""
        return restore(array, self.reorientation)

    def with_flags(self, *flags: QualityFlag) -> Volume:
        """Give the same scan with more flags."""
        return replace(self, flags=(*self.flags, *flags))


def to_int16(values: NDArray[np.generic]) -> HuArray:
    """Give values as int16: rounded, clipped to the type's range, not copied when already int16.

    Parameters
    ----------
    values : ndarray
        Finite numbers of any type.

    Returns
    -------
    ndarray of int16

    Examples
    --------
    >>> to_int16(np.array([1.5, 70000.0, -3.0]))
    array([    2, 32767,    -3], dtype=int16)
    """
    if values.dtype == np.int16:
        return values.astype(np.int16, copy=False)  # also turns big-endian into native order
    limits = np.iinfo(np.int16)
    if values.dtype.kind == "f":
        return np.clip(np.rint(values), limits.min, limits.max).astype(np.int16)
    return np.clip(values, limits.min, limits.max).astype(np.int16)


def geometry_flags(geometry: Geometry) -> tuple[QualityFlag, ...]:
    """Give the flags that follow from the grid alone.

    Parameters
    ----------
    geometry : Geometry
        LPS grid.

    Returns
    -------
    tuple of QualityFlag
        ``thick_slices`` above 2.5 mm.
    """
    thickness_mm = geometry.spacing_zyx_mm[0]
    if thickness_mm <= THICK_SLICE_MM + 1e-3:
        return ()
    text = f"Slices are {thickness_mm:g} mm apart; models are judged on scans up to {THICK_SLICE_MM:g} mm."
    return (QualityFlag("thick_slices", text),)


def hu_flags(values: NDArray[Any]) -> tuple[QualityFlag, ...]:
    """Give the flags that follow from the voxels: ``not_hu`` and ``padding``.

    Parameters
    ----------
    values : ndarray of numbers
        Voxels before any conversion to int16, which would hide values out of range.

    Returns
    -------
    tuple of QualityFlag
    """
    doubt = hu_doubt(values)
    if doubt is not None:
        return (QualityFlag("not_hu", f"The voxels do not look like Hounsfield units of a chest: {doubt}."),)
    padding = padding_hu(values)
    if padding is None:
        return ()
    return (QualityFlag("padding", f"Voxels outside the scanner's field of view hold {padding:g} HU."),)


def hu_doubt(values: NDArray[Any]) -> str | None:
    """Give the reason why voxels do not look like a chest CT in Hounsfield units.

    Parameters
    ----------
    values : ndarray of numbers, 3-D
        Voxels before any conversion to int16.

    Returns
    -------
    str or None
        A phrase with the numbers found; None when nothing speaks against HU.

    Notes
    -----
    Reader contract, step 6: all voxels within [-4096, 32767], 5th percentile below -500 HU and
    99.9th percentile above 0 HU (percentiles of every 5th voxel along each axis).

    Examples
    --------
    >>> hu_doubt(np.full((2, 2, 2), 64536, np.uint16))
    'values from 64536 to 64536, outside -4096 to 32767'
    """
    lowest, highest = float(values.min()), float(values.max())
    if not (lowest >= HU_RANGE[0] and highest <= HU_RANGE[1]):  # also true for NaN
        return f"values from {lowest:g} to {highest:g}, outside {HU_RANGE[0]} to {HU_RANGE[1]}"
    low, high = np.percentile(_sample(values), [5, 99.9])
    if not low < LUNG_PERCENTILE_HU:
        return f"5th percentile {low:.0f}, not below {LUNG_PERCENTILE_HU}"
    if not high > TISSUE_PERCENTILE_HU:
        return f"99.9th percentile {high:.0f}, not above {TISSUE_PERCENTILE_HU}"
    return None


def padding_hu(values: NDArray[Any]) -> float | None:
    """Give the value that marks voxels outside the scanner's field of view.

    Parameters
    ----------
    values : ndarray of numbers, 3-D
        Voxels in HU.

    Returns
    -------
    float or None
        The lowest value, when it is below -1024 HU and fills at least 1 % of the voxels.

    Examples
    --------
    >>> padding_hu(np.array([[[-3024, -3024, 40]]], np.int16))
    -3024.0
    """
    sample = _sample(values)
    lowest = sample.min()
    if lowest < AIR_HU and np.mean(sample == lowest) >= PADDING_SHARE:
        return float(lowest)
    return None


def _sample(values: NDArray[Any]) -> NDArray[Any]:
    return values[::SAMPLE_STEP, ::SAMPLE_STEP, ::SAMPLE_STEP]
