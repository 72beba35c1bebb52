"""Write MetaImage files: `.mhd` with `.zraw` or `.raw`, and `.mha` in one file.

Every file appears complete or not at all: bytes go to a temporary file in the
same folder and are renamed when all of them are written. The two files of an
``.mhd`` are renamed data first; a crash between the two renames leaves a pair
that the strict reader refuses unless both versions have the same size.
"""

from __future__ import annotations

import os
import secrets
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from napari_alnct.core.errors import AlnctError
from napari_alnct.core.geometry import Geometry
from napari_alnct.io.metaimage_header import ELEMENT_TYPES, PATH_MARKS, PATTERN_MARK, orientation_letters

WRITE_STEP_BYTES = 1 << 22  # uncompressed bytes handed to zlib at a time
SIZE_DIGITS = 20  # room for CompressedDataSize, filled in after compressing


def write_metaimage(path: Path, array_zyx: NDArray[Any], geometry: Geometry, *, compress_level: int | None = 1) -> None:
    """Write a volume as MetaImage, atomically.

    Parameters
    ----------
    path : Path
        Target; the suffix decides: ``.mhd`` (header, with the voxels beside it
        in ``.zraw`` or ``.raw``) or ``.mha`` (one file). The folder must exist.
    array_zyx : ndarray, shape (z, y, x)
        Voxels in the order of `geometry`; int8, uint8, int16, uint16, int32,
        float32 or float64, any byte order; written little-endian.
    geometry : Geometry
        Grid of `array_zyx`, any orthonormal direction.
    compress_level : int or None, optional
        zlib level 1-9, or None for uncompressed voxels.

    Raises
    ------
    AlnctError
        If the file name cannot be written as a MetaImage name.
    TypeError
        If the element type has no MetaImage name in the reader contract.
    ValueError
        If shapes differ or the suffix is neither ``.mhd`` nor ``.mha``.
    OSError
        If the disk is full or read-only; older files of that name stay as they are.

    Notes
    -----
    Atomic against the death of the process; a power loss can still lose the
    newest file, because the bytes are not forced to the disk.
    """
    path = Path(path)
    _check(path, array_zyx, geometry)
    if path.suffix.lower() == ".mha":
        with _replacing(path) as file:
            _write_one_file(file, array_zyx, geometry, compress_level)
        return
    data_path = path.with_suffix(".raw" if compress_level is None else ".zraw")
    with _replacing(path) as header_file, _replacing(data_path) as data_file:
        size = _write_voxels(data_file, array_zyx, compress_level)
        header_file.write(_header_text(array_zyx, geometry, compress_level, size, data_path.name).encode())
        header_file.flush()  # a full disk must show before the data file is renamed


def _check(path: Path, array_zyx: NDArray[Any], geometry: Geometry) -> None:
    if path.suffix.lower() not in (".mhd", ".mha"):
        raise ValueError(f"{path.name}: a MetaImage file ends in .mhd or .mha")
    refused = (*PATH_MARKS, PATTERN_MARK)
    if any(mark in path.name for mark in refused) or not path.name.isprintable():
        raise AlnctError(f"{path.name!r} holds one of {' '.join(refused)} or a control character; choose another name")
    if array_zyx.dtype.newbyteorder("=") not in ELEMENT_TYPES.values():
        allowed = ", ".join(dtype.name for dtype in ELEMENT_TYPES.values())
        raise TypeError(f"{path.name}: cannot write {array_zyx.dtype} voxels, allowed are {allowed}")
    if array_zyx.shape != geometry.shape_zyx:
        raise ValueError(f"{path.name}: array shape {array_zyx.shape} differs from the grid's {geometry.shape_zyx}")


@contextmanager
def _replacing(path: Path) -> Iterator[BinaryIO]:
    """Give a new file that takes the name `path` when the block ends well, and vanishes when it does not."""
    temporary = path.with_name(f".{path.name[-100:]}.{secrets.token_hex(6)}.tmp")
    try:
        with open(temporary, "xb") as file:
            yield file
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _write_one_file(file: BinaryIO, array_zyx: NDArray[Any], geometry: Geometry, level: int | None) -> None:
    """Write header and voxels of an ``.mha``; the compressed size is filled in last."""
    file.write(_header_text(array_zyx, geometry, level, 0, "LOCAL").encode())
    size = _write_voxels(file, array_zyx, level)
    if level is not None:
        file.seek(0)
        file.write(_header_text(array_zyx, geometry, level, size, "LOCAL").encode())


def _write_voxels(file: BinaryIO, array_zyx: NDArray[Any], level: int | None) -> int:
    """Write all voxels little-endian in C order; give the number of bytes written."""
    dtype = array_zyx.dtype.newbyteorder("<")
    n_slices = max(1, WRITE_STEP_BYTES // max(1, array_zyx[0].nbytes))
    squeeze = None if level is None else zlib.compressobj(level)
    written = 0
    for start in range(0, len(array_zyx), n_slices):
        block = np.ascontiguousarray(array_zyx[start : start + n_slices], dtype=dtype)
        plain = block.reshape(-1).view(np.uint8).data
        written += file.write(plain if squeeze is None else squeeze.compress(plain))
    return written if squeeze is None else written + file.write(squeeze.flush())


def _header_text(array_zyx: NDArray[Any], geometry: Geometry, level: int | None, size: int, data_name: str) -> str:
    element_type = next(name for name, dtype in ELEMENT_TYPES.items() if dtype == array_zyx.dtype.newbyteorder("="))
    axes = np.reshape(geometry.direction, (3, 3)).T  # MetaImage lists one index axis after the other
    lines = [
        "ObjectType = Image",
        "NDims = 3",
        "BinaryData = True",
        "BinaryDataByteOrderMSB = False",
        f"CompressedData = {level is not None}",
        *([] if level is None else [f"CompressedDataSize = {size:<{SIZE_DIGITS}}"]),
        f"TransformMatrix = {_numbers(axes.ravel())}",
        f"Offset = {_numbers(geometry.origin_xyz_mm)}",
        "CenterOfRotation = 0 0 0",
        *([f"AnatomicalOrientation = {orientation_letters(geometry)}"] if geometry.is_axis_aligned else []),
        f"ElementSpacing = {_numbers(geometry.spacing_zyx_mm[::-1])}",
        f"DimSize = {' '.join(str(n) for n in geometry.shape_zyx[::-1])}",
        f"ElementType = {element_type}",
        f"ElementDataFile = {data_name}",
    ]
    return "\n".join(lines) + "\n"


def _numbers(values: Any) -> str:
    """Give the shortest text that reads back as exactly these doubles."""
    return " ".join(repr(float(value)).removesuffix(".0") for value in values)
