"""Read NRRD scans (`.nrrd`, or `.nhdr` with a data file).

Header and voxels are read here, not by ITK: SimpleITK 2.5.7 opens any file
that a header names (``data file: /etc/passwd``), gives sheared axes back as a
direction, and invents origin and axes where the header has none. What is
read: three scalar axes, raw or gzip, one data file beside the header.

References
----------
https://teem.sourceforge.net/nrrd/format.html
"""

from __future__ import annotations

import gzip
import io
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from napari_alnct.core.errors import ReadError
from napari_alnct.core.geometry import Geometry
from napari_alnct.io.metaimage_header import PATH_MARKS, PATTERN_MARK
from napari_alnct.io.regular_file import open_regular
from napari_alnct.io.source_image import SourceImage, check_grid, check_size, read_voxels

MAX_LINES, MAX_LINE_BYTES = 400, 4096
TYPES = {
    "i1": ("signed char", "int8", "int8_t"),
    "u1": ("uchar", "unsigned char", "uint8", "uint8_t"),
    "i2": ("short", "short int", "signed short", "signed short int", "int16", "int16_t"),
    "u2": ("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"),
    "i4": ("int", "signed int", "int32", "int32_t"),
    "u4": ("uint", "unsigned int", "uint32", "uint32_t"),
    "f4": ("float",),
    "f8": ("double",),
}
DTYPES = {name: code for code, names in TYPES.items() for name in names}
SPACES = {  # world axes of the header -> sign of LPS x, y, z
    "left-posterior-superior": (1.0, 1.0, 1.0),
    "lps": (1.0, 1.0, 1.0),
    "right-anterior-superior": (-1.0, -1.0, 1.0),
    "ras": (-1.0, -1.0, 1.0),
    "left-anterior-superior": (1.0, -1.0, 1.0),
    "las": (1.0, -1.0, 1.0),
}
DATA_FIELDS = ("data file", "datafile")
NEUTRAL = {"byte skip": "0", "byteskip": "0", "line skip": "0", "lineskip": "0"}
_NUMBER = r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?"
_VECTOR = re.compile(rf"\(\s*({_NUMBER})\s*,\s*({_NUMBER})\s*,\s*({_NUMBER})\s*\)")
HINT = "export the scan again"


@dataclass(frozen=True)
class _Header:
    """The fields of one header, names in lower case."""

    file: str
    fields: dict[str, str]

    def text(self, key: str) -> str:
        if not self.fields.get(key):
            raise ReadError("E_KEY_MISSING", self.file, f"the field '{key}'", "none", hint=HINT)
        return self.fields[key]

    def error(self, code: str, key: str, expected: str, hint: str = HINT) -> ReadError:
        found = self.fields[key]
        return ReadError(code, self.file, expected, repr(found[:60]), key=key, hint=hint)

    def vectors(self, key: str, count: int, code: str) -> NDArray[np.float64]:
        found = _VECTOR.findall(self.text(key))
        if len(found) != count or _VECTOR.sub("", self.fields[key]).strip():
            raise self.error(code, key, f"{count} vectors of 3 finite numbers" if count > 1 else "3 finite numbers")
        return np.array(found, dtype=np.float64)


def read_nrrd(path: str, allow_symlinks: bool = False) -> dict[str, Any]:
    """Give the image in a NRRD file; runs in a guarded child process.

    Parameters
    ----------
    path : str
        ``.nrrd`` or ``.nhdr`` file.
    allow_symlinks : bool, optional
        Let the data file be a symlink that leaves the folder.

    Returns
    -------
    dict
        `SourceImage.to_plain`.

    Raises
    ------
    ReadError
        With the code of the first rule that fails.
    """
    name = Path(path).name
    real = Path(os.path.realpath(path))
    raw, _ = open_regular(real, name=name, missing_code="E_DATA_MISSING", hint="check the path")
    with io.BufferedReader(raw) as file:  # type: ignore[type-var]
        header = _read_header(file, name)
        shape = check_size(name, _integers(header, "sizes")[::-1], _dtype(header).itemsize)
        geometry = _geometry(header, shape)
        if header.fields.keys() & set(DATA_FIELDS):
            with _open_data(header, real, allow_symlinks) as data:
                voxels = read_voxels(_decoded(header, data), shape, _dtype(header), name)
        else:
            voxels = read_voxels(_decoded(header, file), shape, _dtype(header), name)
    return SourceImage(voxels, geometry).to_plain()


def _read_header(file: IO[bytes], name: str) -> _Header:
    """Read up to the empty line (or the end, in a detached header)."""
    hint = "check that this is a NRRD file"
    first = file.readline(MAX_LINE_BYTES)
    if not re.fullmatch(rb"NRRD000[1-5]\r?\n", first):
        raise ReadError("E_HEADER_SYNTAX", name, "a NRRD header", repr(first[:30]), hint=hint)
    fields: dict[str, str] = {}
    for _ in range(MAX_LINES):
        line = file.readline(MAX_LINE_BYTES + 1)
        if len(line) > MAX_LINE_BYTES:
            raise ReadError(
                "E_HEADER_SYNTAX", name, f"lines of at most {MAX_LINE_BYTES} bytes", "a longer one", hint=hint
            )
        text = line.decode("latin-1").strip()
        if not text:
            return _checked(_Header(name, fields))
        if text.startswith("#") or re.match(r"[^:]+:=", text):
            continue
        key, separator, value = text.partition(":")
        key = key.strip().lower()
        if not separator:
            raise ReadError("E_HEADER_SYNTAX", name, "'field: value'", repr(text[:60]), hint=hint)
        if key in fields:
            raise ReadError("E_DUP_KEY", name, "each field once", f"'{key}' twice", key=key, hint=HINT)
        fields[key] = value.strip()
    raise ReadError("E_HEADER_SYNTAX", name, f"at most {MAX_LINES} lines", "more", hint=hint)


def _checked(header: _Header) -> _Header:
    """Refuse what would give the voxels another meaning."""
    if header.text("dimension") != "3":
        raise header.error("E_NDIMS", "dimension", "3", "export one three-dimensional series")
    for key, neutral in NEUTRAL.items():
        if header.fields.get(key, neutral) != neutral:
            raise header.error("E_UNSUPPORTED", key, neutral, "convert the scan")
    units = re.findall(r'"([^"]*)"', header.fields.get("space units", ""))
    if any(unit not in ("mm", "") for unit in units):
        raise header.error("E_UNSUPPORTED", "space units", "mm", "convert the scan")
    if header.text("encoding").lower() not in ("raw", "gzip", "gz"):
        raise header.error("E_UNSUPPORTED", "encoding", "raw or gzip", "convert the scan")
    return header


def _integers(header: _Header, key: str) -> list[int]:
    words = header.text(key).split()
    if len(words) != 3 or not all(re.fullmatch(r"[+-]?[0-9]{1,18}", word) for word in words):
        raise header.error("E_HEADER_SYNTAX", key, "3 whole numbers")
    return [int(word) for word in words]


def _dtype(header: _Header) -> np.dtype[Any]:
    code = DTYPES.get(header.text("type").lower())
    if code is None:
        raise header.error("E_TYPE", "type", f"one of {', '.join(names[0] for names in TYPES.values())}")
    dtype = np.dtype(code)
    if dtype.itemsize == 1:
        return dtype
    endian = header.text("endian").lower()
    if endian not in ("little", "big"):
        raise header.error("E_HEADER_SYNTAX", "endian", "little or big")
    return dtype.newbyteorder("<" if endian == "little" else ">")


def _geometry(header: _Header, shape: tuple[int, int, int]) -> Geometry:
    signs = SPACES.get(header.text("space").lower())
    if signs is None:
        raise header.error("E_DIRECTION", "space", f"one of {', '.join(SPACES)}")
    steps = header.vectors("space directions", 3, "E_DIRECTION").T * np.array(signs)[:, None]  # columns: index axes
    origin = header.vectors("space origin", 1, "E_ORIGIN")[0] * signs
    spacing_xyz = np.linalg.norm(steps, axis=0)
    axes = steps / np.where(spacing_xyz > 0, spacing_xyz, 1)
    return check_grid(header.file, shape, spacing_xyz[::-1].tolist(), origin.tolist(), axes)


def _decoded(header: _Header, file: IO[bytes]) -> IO[bytes]:
    if header.text("encoding").lower() == "raw":
        return file
    return gzip.GzipFile(fileobj=file)  # type: ignore[return-value]


def _open_data(header: _Header, header_path: Path, allow_symlinks: bool) -> IO[bytes]:
    """Open the data file, which must lie beside its header."""
    key = next(field for field in DATA_FIELDS if field in header.fields)
    name = header.text(key)
    if name.split()[0] == "LIST" or PATTERN_MARK in name:
        raise header.error("E_UNSUPPORTED", key, "one data file", "convert the scan to one file")
    if any(mark in name for mark in PATH_MARKS) or name in (".", "..") or name == header_path.name:
        raise header.error("E_PATH_ESCAPE", key, "the name of a file beside the header", "move both to one folder")
    real = Path(os.path.realpath(header_path.parent / name))
    if real.parent != header_path.parent and not allow_symlinks:
        raise header.error(
            "E_PATH_ESCAPE", key, "a file in the header's folder", "copy the data file, or allow symbolic links"
        )
    raw, _ = open_regular(real, name=name, missing_code="E_DATA_MISSING", hint="copy the data file beside the header")
    return io.BufferedReader(raw)  # type: ignore[type-var]
