"""Steps 4 to 6 of the reader contract: from an accepted header to finite voxels.

The data file must be a regular file in the folder of its header and hold
exactly the declared bytes. Sizes are compared before memory is taken; a
compressed stream fills the one buffer of the volume and stops at one byte more.
The contract is ``docs/reader-contract.md``.
"""

from __future__ import annotations

import os
import sys
import zlib
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from napari_alnct.core.errors import ReadError
from napari_alnct.io.metaimage_grammar import DATA_KEY
from napari_alnct.io.metaimage_header import PATH_MARKS, PATTERN_MARK, MetaImageHeader
from napari_alnct.io.regular_file import open_regular, reason

READ_STEP_BYTES = 1 << 18  # compressed bytes read at a time
INFLATE_STEP_BYTES = 1 << 20  # voxel bytes inflated at a time: stays in the processor's cache
MAX_DEFLATE_RATIO = 1032  # zlib, technical details: no stream expands more
COPY_HINT = "copy or download the scan again"


def read_voxels(path: Path, header: MetaImageHeader, *, allow_symlinks: bool = False) -> NDArray[Any]:
    """Read the voxels that a header declares.

    Parameters
    ----------
    path : Path
        The header file; the data file lies in its folder.
    header : MetaImageHeader
        From `read_header` for the same path.
    allow_symlinks : bool, optional
        Let the data file be a symbolic link that leads out of the folder.

    Returns
    -------
    ndarray, shape (z, y, x)
        Voxels as stored, native byte order, own memory.

    Raises
    ------
    ReadError
        With the code of the first rule that fails (steps 4 to 6).
    """
    data_path = _data_path(Path(path), header, allow_symlinks)
    hint = COPY_HINT if header.is_local else "put it beside the header"
    file, status = open_regular(data_path, name=header.data_name, missing_code="E_DATA_MISSING", hint=hint)
    with file:
        if not header.is_local and (status.st_dev, status.st_ino) == header.identity:
            raise _escape(header, "the header itself", "name the data file in the header")
        _refuse_wrong_size(header, status.st_size - header.data_offset)
        array = _allocate(header)
        read_into = _inflate if header.is_compressed else _fill
        try:
            file.seek(header.data_offset)
            read_into(file, array.reshape(-1).view(np.uint8).data, header.data_name)
        except OSError as error:
            found = reason(error)
            raise ReadError("E_DATA_MISSING", header.data_name, "a readable file", found, hint=COPY_HINT) from error
    if header.is_big_endian != (sys.byteorder == "big"):
        array.byteswap(inplace=True)
    _refuse_not_finite(array, header.data_name)
    return array


def _data_path(path: Path, header: MetaImageHeader, allow_symlinks: bool) -> Path:
    """Give the resolved data file: a bare name in the header's folder."""
    if header.is_local:
        return Path(os.path.realpath(path))
    name = header.data_name
    if name in (".", "..") or any(mark in name for mark in PATH_MARKS):
        raise _escape(header, "a path", "put the data file beside the header and name it without folders")
    if PATTERN_MARK in name:
        hint = "store the volume in one .raw, .zraw or .mha file"
        raise ReadError("E_UNSUPPORTED", header.name, "one data file", "a pattern of names", key=DATA_KEY, hint=hint)
    folder = os.path.realpath(path.parent)
    real = Path(os.path.realpath(os.path.join(folder, name)))
    if not allow_symlinks and not real.is_relative_to(folder):
        raise _escape(header, "a symbolic link out of it", "copy the data file, or allow symbolic links")
    return real


def _escape(header: MetaImageHeader, found: str, hint: str) -> ReadError:
    return ReadError("E_PATH_ESCAPE", header.name, "a data file in its folder", found, key=DATA_KEY, hint=hint)


def _refuse_wrong_size(header: MetaImageHeader, n_found: int) -> None:
    """Compare the length of the data with the header, before any voxel is read."""
    if header.is_compressed:
        if header.compressed_bytes not in (None, n_found):
            raise _wrong_size(header.data_name, f"{header.compressed_bytes} compressed bytes", f"{n_found} bytes")
        most = n_found * MAX_DEFLATE_RATIO
        if header.n_bytes > most:
            raise _wrong_size(header.data_name, f"{header.n_bytes} bytes", f"a stream of at most {most} bytes")
    elif header.n_bytes != n_found:
        raise _wrong_size(header.data_name, f"{header.n_bytes} bytes", f"{n_found} bytes")


def _wrong_size(name: str, expected: str, found: str) -> ReadError:
    hint = "copy or download the scan again, or correct DimSize and ElementType"
    return ReadError("E_DATA_SIZE", name, expected, found, hint=hint)


def _allocate(header: MetaImageHeader) -> NDArray[Any]:
    """Give the empty volume; the header's sizes were accepted before."""
    try:
        return np.empty(header.geometry.shape_zyx, header.dtype)
    except MemoryError as error:
        hint = "close other programs or crop the scan"
        raise ReadError("E_TOO_BIG", header.name, "enough free memory", f"{header.n_bytes} bytes", hint=hint) from error


def _fill(file: BinaryIO, buffer: memoryview, name: str) -> None:
    """Read uncompressed voxels straight into the volume."""
    n_filled = 0
    while n_filled < len(buffer):
        n_read = file.readinto(buffer[n_filled:])  # type: ignore[attr-defined]
        if not n_read:  # the file shrank since its size was taken
            raise _wrong_size(name, f"{len(buffer)} bytes", f"{n_filled} bytes")
        n_filled += n_read


def _inflate(file: BinaryIO, buffer: memoryview, name: str) -> None:
    """Inflate one zlib stream into the volume; stop at one byte more than it holds."""
    stream = zlib.decompressobj()
    pending, n_filled = b"", 0
    while not stream.eof:
        pending = pending or file.read(READ_STEP_BYTES)
        try:
            piece = stream.decompress(pending, min(INFLATE_STEP_BYTES, len(buffer) - n_filled + 1))
        except zlib.error as error:
            raise ReadError("E_DATA_CORRUPT", name, "a sound zlib stream", "a damaged one", hint=COPY_HINT) from error
        if not piece and not pending and not stream.eof:
            raise ReadError("E_DATA_CORRUPT", name, "a whole zlib stream", "one cut short", hint=COPY_HINT)
        if n_filled + len(piece) > len(buffer):
            raise _wrong_size(name, f"{len(buffer)} bytes", "more in the compressed stream")
        buffer[n_filled : n_filled + len(piece)] = piece
        n_filled += len(piece)
        pending = stream.unconsumed_tail
    if n_filled < len(buffer):
        raise _wrong_size(name, f"{len(buffer)} bytes", f"{n_filled} bytes in the compressed stream")
    if stream.unused_data or file.read(1):
        raise _wrong_size(name, "the end of the file after the compressed stream", "more bytes")


def _refuse_not_finite(array: NDArray[Any], name: str) -> None:
    if array.dtype.kind == "f" and not all(np.isfinite(plane).all() for plane in array):
        raise ReadError("E_VALUES", name, "finite voxels", "NaN or infinity", hint="export the scan again")
