"""Step 3 of the reader contract: what the entries of a MetaImage header mean.

MetaImage lists axes as x, y, z and gives the direction one index axis after the
other; `Geometry` has arrays as (z, y, x) and ITK's matrix, whose columns are
those axes. World is LPS mm, as in ITK. The contract is ``docs/reader-contract.md``.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from napari_alnct.core.errors import GeometryError, ReadError
from napari_alnct.core.geometry import IDENTITY, Geometry, Shape, Triple
from napari_alnct.io.metaimage_grammar import DATA_KEY, LOCAL_NAMES, read_header_text, shown, syntax_error
from napari_alnct.io.metaimage_values import HeaderValues, same_numbers
from napari_alnct.io.physical_memory import physical_memory_bytes

ELEMENT_TYPES: dict[str, np.dtype[Any]] = {
    "MET_SHORT": np.dtype(np.int16),
    "MET_USHORT": np.dtype(np.uint16),
    "MET_UCHAR": np.dtype(np.uint8),
    "MET_CHAR": np.dtype(np.int8),
    "MET_INT": np.dtype(np.int32),
    "MET_FLOAT": np.dtype(np.float32),
    "MET_DOUBLE": np.dtype(np.float64),
}
PATH_MARKS = ("/", "\\", ":")  # refused in a data file name, on every system
PATTERN_MARK = "%"  # announces one file per slice
MAX_NAME_CHARACTERS = 255  # what common file systems take
MAX_AXIS = 4096  # voxels
SPACING_RANGE_MM = (0.05, 10.0)
MAX_EXTENT_MM = 2000.0
MAX_ORIGIN_MM = 1e6  # doubles still hold 1e-6 mm there
MAX_VOLUME_BYTES = 4 << 30
MAX_MEMORY_SHARE = 0.25
MAX_COSINE = 1.001  # keeps the squares of the orthonormality check finite
# What the volume would need to be read differently: key, values that change nothing, name of the feature.
NEUTRAL_VALUES: tuple[tuple[str, tuple[float, ...], str], ...] = (
    ("ElementNumberOfChannels", (1.0,), "one channel"),
    ("HeaderSize", (0.0,), "no HeaderSize, or 0"),
    ("ElementToIntensityFunctionSlope", (1.0,), "no intensity slope (the meaning in HU is unclear)"),
    ("ElementToIntensityFunctionOffset", (0.0,), "no intensity offset (the meaning in HU is unclear)"),
)


@dataclass(frozen=True, kw_only=True)
class MetaImageHeader:
    """What a MetaImage header says; no voxel has been read.

    Parameters
    ----------
    name : str
        Base name of the header file.
    geometry : Geometry
        Grid of the volume as stored, LPS mm.
    dtype : numpy.dtype
        Element type in native byte order.
    is_big_endian : bool
        Byte order in the file.
    is_compressed : bool
        Whether the voxels are one zlib stream.
    compressed_bytes : int or None
        Length of that stream, when the header gives it.
    data_name : str
        Base name of the data file; equal to `name` when the voxels follow the header.
    data_offset : int
        Where the voxels begin in the data file.
    identity : tuple of int
        Device and inode of the header file.
    warnings : tuple of str
        Contradictions that do not change the reading, one sentence each.
    """

    name: str
    geometry: Geometry
    dtype: np.dtype[Any]
    is_big_endian: bool
    is_compressed: bool
    compressed_bytes: int | None
    data_name: str
    data_offset: int
    identity: tuple[int, int]
    warnings: tuple[str, ...] = ()

    @property
    def is_local(self) -> bool:
        """Tell whether the voxels follow the header in the same file."""
        return self.data_offset > 0

    @property
    def n_bytes(self) -> int:
        """Give the size of the uncompressed voxels."""
        return math.prod(self.geometry.shape_zyx) * self.dtype.itemsize


def read_header(path: Path, *, allow_left_handed: bool = False) -> MetaImageHeader:
    """Read and check the header of a MetaImage file; the data file is not looked at.

    Parameters
    ----------
    path : Path
        ``.mhd`` or ``.mha`` file.
    allow_left_handed : bool, optional
        Accept a mirrored direction matrix (determinant -1).

    Returns
    -------
    MetaImageHeader

    Raises
    ------
    ReadError
        With the code of the first rule that fails (``docs/reader-contract.md``, steps 1 to 3).
    """
    text = read_header_text(Path(path))
    values = HeaderValues(text)
    if values.integer("NDims") != 3:
        raise values.error("E_NDIMS", "NDims", "3", hint="export one three-dimensional series")
    shape_zyx = _shape(values)
    dtype = _element_type(values)
    _refuse_unsupported(values)
    _refuse_too_big(values, shape_zyx, dtype)
    geometry = _geometry(values, shape_zyx, allow_left_handed)
    is_compressed = values.boolean("CompressedData", default=False)
    data_name = _data_name(values)
    is_local = data_name in LOCAL_NAMES
    if is_local and Path(path).suffix.lower() != ".mha":
        raise values.error("E_UNSUPPORTED", DATA_KEY, "a file name", hint="rename the file to .mha")
    return MetaImageHeader(
        name=text.name,
        geometry=geometry,
        dtype=dtype,
        is_big_endian=values.boolean("BinaryDataByteOrderMSB", default=False),
        is_compressed=is_compressed,
        compressed_bytes=values.integer("CompressedDataSize") if values.has("CompressedDataSize") else None,
        data_name=text.name if is_local else data_name,
        data_offset=text.n_bytes if is_local else 0,
        identity=text.identity,
        warnings=_warnings(values, geometry),
    )


def orientation_letters(geometry: Geometry) -> str:
    """Give ITK's three letters for an axis-aligned grid: the side at which each index axis x, y, z starts.

    Parameters
    ----------
    geometry : Geometry
        Axis-aligned grid.

    Returns
    -------
    str
        ``RAI`` for LPS order: from right, from anterior, from inferior.

    Examples
    --------
    >>> orientation_letters(Geometry(shape_zyx=(2, 2, 2), spacing_zyx_mm=(1, 1, 1)))
    'RAI'
    """
    axes = np.reshape(geometry.direction, (3, 3)).T
    rows = np.argmax(np.abs(axes), axis=1)
    return "".join(("RL", "AP", "IS")[row][int(axis[row] < 0)] for row, axis in zip(rows, axes, strict=True))


def _data_name(values: HeaderValues) -> str:
    """Give the name of the data file, fit to be shown in a message."""
    name = values.text(DATA_KEY)
    if len(name) > MAX_NAME_CHARACTERS or not name.isprintable():
        expected = f"a name of at most {MAX_NAME_CHARACTERS} printable characters"
        raise syntax_error(values.name, expected, shown(name), key=DATA_KEY, hint="rename the data file")
    return name


def _shape(values: HeaderValues) -> Shape:
    x, y, z = values.integers("DimSize", 3)
    if not all(1 <= size <= MAX_AXIS for size in (x, y, z)):
        raise values.error("E_DIMS", "DimSize", f"1 to {MAX_AXIS} voxels per axis")
    return z, y, x


def _element_type(values: HeaderValues) -> np.dtype[Any]:
    dtype = ELEMENT_TYPES.get(values.text("ElementType"))
    if dtype is None:
        raise values.error("E_TYPE", "ElementType", f"one of {', '.join(ELEMENT_TYPES)}", hint="convert the scan")
    return dtype


def _refuse_unsupported(values: HeaderValues) -> None:
    """Refuse features that would change the meaning of the voxels."""
    hint = "convert the scan to a plain three-dimensional volume"
    if values.has("ObjectType") and values.text("ObjectType") != "Image":
        raise values.error("E_UNSUPPORTED", "ObjectType", "Image", hint=hint)
    if not values.boolean("BinaryData", default=True):
        raise values.error("E_UNSUPPORTED", "BinaryData", "True", hint=hint)
    if values.entries.get("DistanceUnits", "mm") not in ("mm", "?"):
        raise values.error("E_UNSUPPORTED", "DistanceUnits", "mm", hint=hint)
    for key, neutral, expected in NEUTRAL_VALUES:
        if values.has(key) and values.floats(key, 1, "E_UNSUPPORTED")[0] not in neutral:
            raise values.error("E_UNSUPPORTED", key, expected, hint=hint)


def _refuse_too_big(values: HeaderValues, shape_zyx: Shape, dtype: np.dtype[Any]) -> None:
    n_bytes = math.prod(shape_zyx) * dtype.itemsize
    limit = min(MAX_VOLUME_BYTES, int(MAX_MEMORY_SHARE * physical_memory_bytes()))
    if n_bytes > limit:
        found = f"{n_bytes} bytes for {' x '.join(map(str, shape_zyx[::-1]))} voxels"
        hint = "crop the scan or use a machine with more memory"
        raise ReadError("E_TOO_BIG", values.name, f"at most {limit} bytes", found, key="DimSize", hint=hint)


def _geometry(values: HeaderValues, shape_zyx: Shape, allow_left_handed: bool) -> Geometry:
    spacing = _spacing_zyx_mm(values, shape_zyx)
    x, y, z = values.floats("Offset", 3, "E_ORIGIN")
    if max(abs(x), abs(y), abs(z)) > MAX_ORIGIN_MM:
        raise values.error("E_ORIGIN", "Offset", f"at most {MAX_ORIGIN_MM:g} mm from 0")
    key = "TransformMatrix"
    axes = values.floats(key, 9, "E_DIRECTION") if values.has(key) else IDENTITY
    orthonormal = "three perpendicular axes of length 1"
    hint = "resample the scan to a grid without shear and scale"
    if max(map(abs, axes)) > MAX_COSINE:
        raise values.error("E_DIRECTION", key, orthonormal, hint=hint)
    direction = tuple(axes[3 * column + row] for row in range(3) for column in range(3))
    try:
        geometry = Geometry(shape_zyx=shape_zyx, spacing_zyx_mm=spacing, origin_xyz_mm=(x, y, z), direction=direction)
    except GeometryError as error:
        raise values.error("E_DIRECTION", key, orthonormal, hint=hint) from error
    if geometry.is_left_handed and not allow_left_handed:
        hint = "check the left side of the patient, then allow left-handed scans"
        raise values.error("E_DIRECTION", key, "a right-handed system of axes", hint=hint)
    return geometry


def _spacing_zyx_mm(values: HeaderValues, shape_zyx: Shape) -> Triple:
    key, (low, high) = "ElementSpacing", SPACING_RANGE_MM
    x, y, z = values.floats(key, 3, "E_SPACING")
    if not all(low <= step <= high for step in (x, y, z)):
        raise values.error(
            "E_SPACING", key, f"{low:g} to {high:g} mm per axis", hint="correct the spacing in the header"
        )
    if max(size * step for size, step in zip(shape_zyx, (z, y, x), strict=True)) > MAX_EXTENT_MM:
        hint = "correct spacing or size in the header"
        raise values.error("E_SPACING", key, f"a volume of at most {MAX_EXTENT_MM:g} mm per axis", hint=hint)
    return z, y, x


def _warnings(values: HeaderValues, geometry: Geometry) -> tuple[str, ...]:
    """Give sentences on entries that contradict what was used."""
    found = []
    size, spacing = values.entries.get("ElementSize", ""), values.entries["ElementSpacing"]
    if size and not same_numbers(size, spacing):
        found.append(f"ElementSize {shown(size)} contradicts ElementSpacing {shown(spacing)}; ElementSpacing is used.")
    letters = values.entries.get("AnatomicalOrientation", "")
    if re.fullmatch("[RLAPIS]{3}", letters) and geometry.is_axis_aligned and letters != orientation_letters(geometry):
        meaning = orientation_letters(geometry)
        found.append(f"AnatomicalOrientation {letters} contradicts TransformMatrix ({meaning}); the matrix is used.")
    return tuple(found)
