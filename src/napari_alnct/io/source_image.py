"""What NIfTI, NRRD and DICOM readers give, and the checks that they share.

A *source image* is in the orientation of the file. The limits are those of
the reader contract (``docs/reader-contract.md``, steps 3, 5 and 6); every
size is checked before memory is asked for.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from napari_alnct.core.errors import GeometryError, ReadError
from napari_alnct.core.geometry import Geometry, Shape, Triple
from napari_alnct.core.volume import QualityFlag
from napari_alnct.io.metaimage_header import (
    MAX_AXIS,
    MAX_EXTENT_MM,
    MAX_MEMORY_SHARE,
    MAX_ORIGIN_MM,
    MAX_VOLUME_BYTES,
    SPACING_RANGE_MM,
)
from napari_alnct.io.physical_memory import physical_memory_bytes

STEP_BYTES = 1 << 22


@dataclass(frozen=True, eq=False)
class SourceImage:
    """Voxels and grid as stored in a file.

    Parameters
    ----------
    array : ndarray, 3-D, any number type
        Voxels in source order.
    geometry : Geometry
        Grid of `array`.
    series_uid : str
        Series identifier.
    flags : tuple of QualityFlag
        What the reader of the format noticed.
    """

    array: NDArray[Any]
    geometry: Geometry
    series_uid: str = ""
    flags: tuple[QualityFlag, ...] = ()

    def to_plain(self) -> dict[str, Any]:
        """Give the image as JSON values and one array, for the way out of a child process."""
        return {
            "array": self.array,
            "shape_zyx": self.geometry.shape_zyx,
            "spacing_zyx_mm": self.geometry.spacing_zyx_mm,
            "origin_xyz_mm": self.geometry.origin_xyz_mm,
            "direction": self.geometry.direction,
            "series_uid": self.series_uid,
            "flags": [[flag.code, flag.text] for flag in self.flags],
        }

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> SourceImage:
        """Give the image that `to_plain` took apart."""
        z, y, x = plain["shape_zyx"]
        dz, dy, dx = plain["spacing_zyx_mm"]
        ox, oy, oz = plain["origin_xyz_mm"]
        geometry = Geometry(
            shape_zyx=(z, y, x),
            spacing_zyx_mm=(dz, dy, dx),
            origin_xyz_mm=(ox, oy, oz),
            direction=tuple(plain["direction"]),
        )
        flags = tuple(QualityFlag(code, text) for code, text in plain["flags"])
        return cls(plain["array"], geometry, plain["series_uid"], flags)


def memory_cap_bytes() -> int:
    """Give the largest volume that is read: 4 GiB, or a quarter of the memory."""
    return min(MAX_VOLUME_BYTES, int(MAX_MEMORY_SHARE * physical_memory_bytes()))


def check_size(file: str, shape_zyx: Sequence[int], itemsize: int) -> Shape:
    """Give a shape that is safe to allocate.

    Parameters
    ----------
    file : str
        Base name for messages.
    shape_zyx : sequence of int
        Voxels along z, y, x of the array.
    itemsize : int
        Bytes per voxel.

    Returns
    -------
    tuple of int

    Raises
    ------
    ReadError
        E_NDIMS, E_DIMS or E_TOO_BIG.

    Examples
    --------
    >>> check_size("a.nrrd", [9, 8, 7], 2)
    (9, 8, 7)
    """
    sizes = " x ".join(str(size) for size in reversed(shape_zyx))
    if len(shape_zyx) != 3:
        raise ReadError("E_NDIMS", file, "3 axes", f"{len(shape_zyx)}", hint="export one three-dimensional series")
    if not all(1 <= size <= MAX_AXIS for size in shape_zyx):
        raise ReadError("E_DIMS", file, f"1 to {MAX_AXIS} voxels per axis", sizes, hint="export the scan again")
    n_bytes, limit = math.prod(shape_zyx) * itemsize, memory_cap_bytes()
    if n_bytes > limit:
        hint = "crop the scan or use a machine with more memory"
        raise ReadError("E_TOO_BIG", file, f"at most {limit} bytes", f"{n_bytes} bytes for {sizes} voxels", hint=hint)
    z, y, x = shape_zyx
    return int(z), int(y), int(x)


def check_grid(
    file: str, shape_zyx: Shape, spacing_zyx_mm: Sequence[float], origin_xyz_mm: Sequence[float], axes_xyz: NDArray[Any]
) -> Geometry:
    """Give the grid of a scan, or refuse what cannot be one.

    Parameters
    ----------
    file : str
        Base name for messages.
    shape_zyx : tuple of int
        From `check_size`.
    spacing_zyx_mm, origin_xyz_mm : sequence of 3 float
        Spacing along the array's axes; world position of voxel (0, 0, 0), LPS mm.
    axes_xyz : ndarray, shape (3, 3)
        Columns: world directions of the x, y, z index axes.

    Returns
    -------
    Geometry

    Raises
    ------
    ReadError
        E_SPACING, E_ORIGIN or E_DIRECTION.
    """
    spacing, (low, high) = _triple(spacing_zyx_mm), SPACING_RANGE_MM
    shown = " x ".join(f"{step:g}" for step in reversed(spacing))
    if not all(low <= step <= high for step in spacing):  # also refuses NaN
        hint = "correct the spacing in the header"
        raise ReadError("E_SPACING", file, f"a spacing of {low:g} to {high:g} mm", f"{shown} mm", hint=hint)
    if max(size * step for size, step in zip(shape_zyx, spacing, strict=True)) > MAX_EXTENT_MM:
        hint = "correct spacing or size in the header"
        raise ReadError("E_SPACING", file, f"at most {MAX_EXTENT_MM:g} mm per axis", f"voxels of {shown} mm", hint=hint)
    origin = _triple(origin_xyz_mm)
    if not all(abs(value) <= MAX_ORIGIN_MM for value in origin):
        found = " ".join(f"{value:g}" for value in origin)
        raise ReadError("E_ORIGIN", file, "an origin near the patient", found, hint="export the scan again")
    try:
        direction = tuple(float(value) for value in np.ravel(axes_xyz))
        return Geometry(shape_zyx=shape_zyx, spacing_zyx_mm=spacing, origin_xyz_mm=origin, direction=direction)
    except GeometryError as error:
        hint = "resample the scan to a grid without shear and scale"
        raise ReadError("E_DIRECTION", file, "three perpendicular axes", "others", hint=hint) from error


def read_voxels(stream: IO[bytes], shape_zyx: Shape, dtype: np.dtype[Any], file: str) -> NDArray[Any]:
    """Give the voxels that fill the rest of a stream exactly.

    Parameters
    ----------
    stream : binary file
        Raw or decompressing; its position is the first voxel.
    shape_zyx : tuple of int
        From `check_size`.
    dtype : numpy.dtype
        As stored, with its byte order.
    file : str
        Base name for messages.

    Returns
    -------
    ndarray
        In native byte order.

    Raises
    ------
    ReadError
        E_DATA_SIZE when bytes are missing or left over; E_DATA_CORRUPT when the stream is damaged;
        E_VALUES when a voxel is not a finite number.
    """
    n_bytes = math.prod(shape_zyx) * dtype.itemsize
    hint = "copy or export the scan again"
    array: NDArray[Any] = np.empty(shape_zyx, dtype)
    view, done = array.reshape(-1).view(np.uint8).data, 0
    try:
        while done < n_bytes and (count := stream.readinto(view[done : done + STEP_BYTES])):  # type: ignore[attr-defined]
            done += count
        excess = stream.read(1)
    except (EOFError, OSError, zlib.error) as error:  # gzip.BadGzipFile is an OSError
        found = f"a damaged one after {done} bytes"
        raise ReadError("E_DATA_CORRUPT", file, "an intact compressed stream", found, hint=hint) from error
    if done < n_bytes or excess:
        found = "more" if excess else f"{done} bytes"
        raise ReadError("E_DATA_SIZE", file, f"{n_bytes} bytes of voxels", found, hint=hint)
    check_finite(array, file)
    return array.astype(dtype.newbyteorder("="), copy=False)


def check_finite(array: NDArray[Any], file: str) -> None:
    """Refuse voxels that are not finite numbers.

    Parameters
    ----------
    array : ndarray, 3-D
        Looked at slice by slice.
    file : str
        Base name for messages.

    Raises
    ------
    ReadError
        E_VALUES.
    """
    if array.dtype.kind != "f":
        return
    n_bad = sum(int(plane.size - np.count_nonzero(np.isfinite(plane))) for plane in array)
    if n_bad:
        found = f"{n_bad} that are NaN or infinite"
        raise ReadError("E_VALUES", file, "finite voxels", found, hint="export the scan again")


def _triple(values: Sequence[float]) -> Triple:
    a, b, c = (float(value) for value in values)
    return a, b, c
