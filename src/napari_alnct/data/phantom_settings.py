"""What kind of synthetic chest CT to make, and the sizes that its nodules take.

The *anatomy* follows from the seed alone and is defined in millimetres of a
reference adult; the *grid* (shape and spacing) only decides how it is sampled.
A field of view smaller than a chest gets a smaller chest, never a cut one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated
from uuid import UUID, uuid5

import numpy as np
from numpy.typing import NDArray

from napari_alnct.core.config import check_bounds
from napari_alnct.core.errors import SettingsError
from napari_alnct.core.geometry import IDENTITY, Geometry, Shape, Triple

UID_NAMESPACE = UUID("6d1f2f5e-8a0b-5c39-9f0e-2b7c1d4a5e60")  # of phantoms, so that no real series has their names
SMALLEST_FIELD_MM = 120.0  # below this a chest cannot hold nodules of real size
_QUANTILES = (0.0, 0.041, 0.423, 0.656, 0.763, 0.958, 1.0)
_DIAMETERS_MM = (3.0, 4.0, 6.0, 8.0, 10.0, 20.0, 30.0)


@dataclass(frozen=True, kw_only=True)
class PhantomSettings:
    """One synthetic scan.

    Raises
    ------
    SettingsError
        If a value lies outside its bounds or the field of view is below 120 mm.
    """

    shape_zyx: Annotated[Shape, {"min": 16, "max": 2048, "label": "Shape (z, y, x)"}] = (300, 512, 512)
    """Number of voxels along z, y, x in LPS order, whatever the direction."""
    spacing_zyx_mm: Annotated[Triple, {"min": 0.3, "max": 5.0, "label": "Spacing (z, y, x), mm"}] = (1.0, 0.7, 0.7)
    """Distance between voxel centres along z, y, x in LPS order, mm."""
    direction: Annotated[tuple[float, ...], {"min": -1.0, "max": 1.0, "label": "Direction"}] = IDENTITY
    """Orientation of the stored file, a signed permutation, row-major as in ITK; it does not change the LPS volume."""
    n_nodules: Annotated[int | tuple[int, int], {"min": 0, "max": 60, "label": "Nodules"}] = 6
    """Number of nodules, or the smallest and largest number."""
    diameter_range_mm: Annotated[tuple[float, float], {"min": 3.0, "max": 40.0, "label": "Diameters (mm)"}] = (
        3.0,
        30.0,
    )
    """Smallest and largest diameter; inside it the distribution is that of LUNA16."""
    n_excluded: Annotated[int | tuple[int, int], {"min": 0, "max": 40, "label": "Excluded findings"}] = (2, 6)
    """Number of findings that are annotated but do not count, or the smallest and largest number."""
    noise_hu: Annotated[float, {"min": 0.0, "max": 200.0, "label": "Noise (HU)"}] = 20.0
    """Standard deviation of the noise in the middle of the scan, HU."""
    padding_hu: Annotated[int | None, {"min": -4096, "max": -1024, "label": "Outside the field of view (HU)"}] = None
    """Value outside the circular field of view, such as -2000 or -3024; none: air."""
    series_uid: str = ""
    """Series identifier; empty: one that follows from the seed."""
    seed: Annotated[int, {"min": 0, "max": 2**63 - 1, "label": "Seed"}] = 0
    """Same settings, same scan."""

    def __post_init__(self) -> None:
        """Check the bounds and the field of view."""
        check_bounds(self)
        extent_mm = [n * s for n, s in zip(self.shape_zyx, self.spacing_zyx_mm, strict=True)]
        if min(extent_mm) < SMALLEST_FIELD_MM:
            shown = " x ".join(f"{e:g}" for e in extent_mm)
            raise SettingsError(
                f"the field of view is {shown} mm, allowed is {SMALLEST_FIELD_MM:g} mm or more along each axis; "
                "use more voxels or a larger spacing"
            )

    @property
    def uid(self) -> str:
        """Give the series identifier."""
        return self.series_uid or phantom_uid(f"scan {self.seed}")


def phantom_uid(name: str) -> str:
    """Give the series identifier of a named phantom: a valid DICOM UID that nobody has to register.

    Parameters
    ----------
    name : str
        The same name gives the same identifier.

    Returns
    -------
    str
        ``2.25.`` and a name-based UUID as a decimal number (DICOM PS3.5, B.2).

    Examples
    --------
    >>> phantom_uid("scan 0")[:5], len(phantom_uid("scan 0")) <= 64
    ('2.25.', True)
    """
    return f"2.25.{uuid5(UID_NAMESPACE, name).int}"


def small_settings(seed: int = 0, *, n_nodules: int | tuple[int, int] = 4) -> PhantomSettings:
    """Give a whole small chest in 96 x 160 x 160 voxels: made in a second or two, for tests and examples.

    The field of view is 168 x 224 x 224 mm, so the body is about two thirds of an
    adult's; nodules and vessels keep their real sizes.

    Parameters
    ----------
    seed : int, optional
        Which scan.
    n_nodules : int or tuple of int, optional
        Number of nodules.

    Returns
    -------
    PhantomSettings
    """
    return PhantomSettings(
        shape_zyx=(96, 160, 160),
        spacing_zyx_mm=(1.75, 1.4, 1.4),
        n_nodules=n_nodules,
        diameter_range_mm=(4.0, 20.0),
        seed=seed,
    )


def draw_count(rng: np.random.Generator, count: int | tuple[int, int]) -> int:
    """Give a number: `count` itself, or one between its two ends."""
    if isinstance(count, int):
        return count
    low, high = sorted(count)
    return int(rng.integers(low, high + 1))


def draw_diameters_mm(
    rng: np.random.Generator, n: int, limits_mm: tuple[float, float] = (3.0, 30.0)
) -> NDArray[np.float64]:
    """Give diameters distributed as in LUNA16, cut to a range.

    Parameters
    ----------
    rng : Generator
        Source of chance.
    n : int
        How many.
    limits_mm : tuple of float
        Smallest and largest diameter.

    Returns
    -------
    ndarray of float64, shape (n,)
        Diameters, mm.

    Notes
    -----
    Inverse of the cumulative distribution of the 1,186 LUNA16 nodules (Setio et al. 2017): 4.1 % below 4 mm,
    42.3 % below 6, 65.6 % below 8, 76.3 % below 10, 95.8 % below 20; straight lines in log diameter between.
    """
    logs = np.log(_DIAMETERS_MM)
    low, high = np.interp(np.log(limits_mm), logs, _QUANTILES)
    values = np.exp(np.interp(rng.uniform(low, high, n), _QUANTILES, logs))
    return np.clip(values, *limits_mm)


def lps_geometry(settings: PhantomSettings) -> Geometry:
    """Give the LPS grid of the scan; the table position (origin) follows from the seed.

    Parameters
    ----------
    settings : PhantomSettings
        The scan.

    Returns
    -------
    Geometry
    """
    rng = np.random.default_rng([settings.seed, 1])
    nz, ny, nx = settings.shape_zyx
    sz, sy, sx = settings.spacing_zyx_mm
    x_mm = -(nx - 1) * sx / 2 + rng.uniform(-15, 15)
    y_mm = -(ny - 1) * sy / 2 - rng.uniform(0, 60)
    z_mm = -(nz - 1) * sz + rng.uniform(-60, 60)
    return Geometry(
        shape_zyx=(nz, ny, nx),
        spacing_zyx_mm=(float(sz), float(sy), float(sx)),
        origin_xyz_mm=(round(x_mm, 2), round(y_mm, 2), round(z_mm, 2)),
    )


def source_geometry(lps: Geometry, direction: tuple[float, ...]) -> Geometry:
    """Give the grid that a file with this direction has: the inverse of `core.geometry.plan_lps`.

    Parameters
    ----------
    lps : Geometry
        Grid in LPS order.
    direction : tuple of 9 float
        A signed permutation matrix, row-major.

    Returns
    -------
    Geometry

    Raises
    ------
    SettingsError
        If the matrix is not a signed permutation.
    """
    matrix = np.reshape(np.asarray(direction, dtype=np.float64), (3, 3))
    if not (np.isin(matrix, (-1.0, 0.0, 1.0)).all() and np.array_equal(matrix.T @ matrix, np.eye(3))):
        raise SettingsError(f"direction is {direction}, allowed are signed permutations; use 1, -1 and 0 only")
    shape, spacing, first = [0, 0, 0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]
    for axis in range(3):  # source array axis z, y, x is column 2, 1, 0
        column = matrix[:, 2 - axis]
        k = 2 - int(np.argmax(np.abs(column)))  # the LPS array axis that it runs along
        shape[axis], spacing[axis] = lps.shape_zyx[k], lps.spacing_zyx_mm[k]
        first[k] = lps.shape_zyx[k] - 1 if column.sum() < 0 else 0
    origin = lps.index_to_world(first)
    return Geometry(
        shape_zyx=(shape[0], shape[1], shape[2]),
        spacing_zyx_mm=(spacing[0], spacing[1], spacing[2]),
        origin_xyz_mm=(float(origin[0]), float(origin[1]), float(origin[2])),
        direction=tuple(float(v) for v in matrix.ravel()),
    )


def supersampling(geometry: Geometry, finest_mm: float = 1.0) -> tuple[int, int, int]:
    """Give how many inner voxels per voxel the anatomy is painted with, along z, y, x."""
    z, y, x = (max(1, math.ceil(s / finest_mm - 1e-6)) for s in geometry.spacing_zyx_mm)
    return z, y, x
