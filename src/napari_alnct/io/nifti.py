"""Read NIfTI-1 and NIfTI-2 scans (`.nii`, `.nii.gz`).

Header and voxels are read here, not by ITK: SimpleITK 2.5.7 fills a truncated
NIfTI file with zeros (water, in HU), takes one of two contradicting
transforms in silence, and invents a grid for a file without one. NIfTI's
world is RAS (+x to the right, +y to the front); x and y change sign here.

References
----------
https://nifti.nimh.nih.gov/pub/dist/src/niftilib/nifti1.h (methods 2 and 3) and nifti2.h.
"""

from __future__ import annotations

import gzip
import io
import os
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
from numpy.typing import NDArray

from napari_alnct.core.errors import ReadError
from napari_alnct.core.geometry import Geometry, Shape
from napari_alnct.io.regular_file import open_regular
from napari_alnct.io.source_image import SourceImage, check_grid, check_size, read_voxels

NIFTI1_BYTES, NIFTI2_BYTES = 348, 540
DTYPES = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4"}
UNIT_MM = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}  # unknown counts as mm, as everywhere
AGREEMENT_MM = 0.5  # qform and sform may differ by rounding
QUATERNION_ROUNDING = 4 * float(np.finfo(np.float32).eps)
RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0])

# Only the fields that carry meaning for a scan: name, format, byte offset in NIfTI-1 and in NIfTI-2.
FIELDS: tuple[tuple[str, str, str, int, int], ...] = (
    ("dim", "8i2", "8i8", 40, 16),
    ("datatype", "i2", "i2", 70, 12),
    ("pixdim", "8f4", "8f8", 76, 104),
    ("vox_offset", "f4", "i8", 108, 168),
    ("scl_slope", "f4", "f8", 112, 176),
    ("scl_inter", "f4", "f8", 116, 184),
    ("xyzt_units", "u1", "i4", 123, 500),
    ("qform_code", "i2", "i4", 252, 344),
    ("sform_code", "i2", "i4", 254, 348),
    ("quatern", "3f4", "3f8", 256, 352),
    ("qoffset", "3f4", "3f8", 268, 376),
    ("srow", "(3,4)f4", "(3,4)f8", 280, 400),
    ("magic", "S4", "S4", 344, 4),
)


@dataclass(frozen=True, eq=False)
class _Header:
    """Fields of one header as stored, the file's base name, and the byte order (``<`` or ``>``)."""

    file: str
    order: Literal["<", ">"]
    fields: Any

    def numbers(self, name: str) -> NDArray[np.float64]:
        return np.asarray(self.fields[name], dtype=np.float64)

    def integer(self, name: str) -> int:
        return int(self.fields[name])

    def error(self, code: str, key: str, expected: str, found: str, hint: str) -> ReadError:
        return ReadError(code, self.file, expected, found, key=key, hint=hint)


def read_nifti(path: str) -> dict[str, Any]:
    """Give the image in a NIfTI file; runs in a guarded child process.

    Parameters
    ----------
    path : str
        ``.nii`` or ``.nii.gz`` file.

    Returns
    -------
    dict
        `SourceImage.to_plain`; the voxels are scaled by the header's slope and intercept.

    Raises
    ------
    ReadError
        With the code of the first rule that fails.
    """
    name = Path(path).name
    raw, _ = open_regular(Path(os.path.realpath(path)), name=name, missing_code="E_DATA_MISSING", hint="check the path")
    with raw:
        stream: Any = gzip.GzipFile(fileobj=raw) if name.lower().endswith(".gz") else io.BufferedReader(raw)
        header = _read_header(stream, name)
        shape, dtype = _shape(header), _dtype(header)
        check_size(name, shape, dtype.itemsize)
        geometry = _geometry(header, shape)
        voxels = read_voxels(stream, shape, dtype, name)
    return SourceImage(_scaled(voxels, header), geometry).to_plain()


def _read_header(stream: IO[bytes], name: str) -> _Header:
    hint = "check that this is a NIfTI file"
    try:
        data = stream.read(NIFTI1_BYTES)
        big = data[:4] in (NIFTI1_BYTES.to_bytes(4, "big"), NIFTI2_BYTES.to_bytes(4, "big"))
        size = int.from_bytes(data[:4], "big" if big else "little")
        data += stream.read(max(0, min(size, NIFTI2_BYTES) - len(data)))
        if size not in (NIFTI1_BYTES, NIFTI2_BYTES) or len(data) < size:
            raise ReadError("E_HEADER_SYNTAX", name, "a NIfTI header", "another beginning", hint=hint)
        order: Literal["<", ">"] = ">" if big else "<"
        header = _Header(name, order, _fields(data, size, order))
        if bytes(header.fields["magic"])[:3] not in (b"n+1", b"n+2"):
            found = repr(bytes(header.fields["magic"]))
            raise header.error(
                "E_UNSUPPORTED", "magic", "voxels in the same file (n+1 or n+2)", found, "convert the scan"
            )
        start = float(header.fields["vox_offset"])
        if not (size <= start <= 1 << 20 and start == int(start)):
            raise header.error("E_HEADER_SYNTAX", "vox_offset", f"{size} to {1 << 20}", f"{start:g}", hint)
        stream.read(int(start) - size)  # header extensions
    except (EOFError, OSError, zlib.error) as error:
        raise ReadError("E_DATA_CORRUPT", name, "an intact file", "a damaged gzip stream", hint=hint) from error
    return header


def _fields(data: bytes, size: int, order: Literal["<", ">"]) -> Any:
    is_second = size == NIFTI2_BYTES
    layout: np.dtype[Any] = np.dtype(
        {  # type: ignore[call-overload]
            "names": [field[0] for field in FIELDS],
            "formats": [field[1 + is_second] for field in FIELDS],
            "offsets": [field[3 + is_second] for field in FIELDS],
            "itemsize": size,
        }
    )
    return np.frombuffer(data, layout.newbyteorder(order), count=1)[0]


def _shape(header: _Header) -> Shape:
    """Give the size z, y, x; a trailing axis of length 1 is no axis."""
    dim = [int(size) for size in header.fields["dim"]]
    hint = "export one three-dimensional series"
    if not 1 <= dim[0] <= 7:
        raise header.error("E_HEADER_SYNTAX", "dim", "1 to 7 axes", str(dim[0]), "export the scan again")
    sizes = dim[1 : dim[0] + 1]
    if dim[0] < 3 or any(size != 1 for size in sizes[3:]):
        raise header.error("E_NDIMS", "dim", "3 axes", " x ".join(map(str, sizes)), hint)
    return sizes[2], sizes[1], sizes[0]


def _dtype(header: _Header) -> np.dtype[Any]:
    code = header.integer("datatype")
    if code not in DTYPES:
        expected = f"one of {', '.join(np.dtype(name).name for name in DTYPES.values())}"
        raise header.error("E_TYPE", "datatype", expected, f"code {code}", "convert the scan")
    return np.dtype(DTYPES[code]).newbyteorder(header.order)


def _geometry(header: _Header, shape: Shape) -> Geometry:
    """Give the grid from sform or qform, which must agree when both are there."""
    units = header.integer("xyzt_units") & 7
    if units not in UNIT_MM:
        raise header.error("E_UNSUPPORTED", "xyzt_units", "metres, mm or micrometres", str(units), "convert the scan")
    transforms = []
    if header.integer("sform_code") > 0:
        transforms.append(header.numbers("srow"))
    if header.integer("qform_code") > 0:
        transforms.append(_qform(header))
    hint = "export the scan again with its orientation"
    if not transforms:
        expected, found = "a code above 0", "0: no orientation"
        raise header.error("E_DIRECTION", "qform_code, sform_code", expected, found, hint)
    if not all(np.isfinite(transform).all() for transform in transforms):
        raise header.error("E_DIRECTION", "srow, quatern", "finite numbers", "others", hint)
    if len(transforms) == 2:
        _refuse_disagreement(header, transforms[0], transforms[1], shape, UNIT_MM[units])
    matrix = RAS_TO_LPS @ transforms[0] * UNIT_MM[units]
    spacing_xyz = np.linalg.norm(matrix[:, :3], axis=0)
    axes = matrix[:, :3] / np.where(spacing_xyz > 0, spacing_xyz, 1)
    return check_grid(header.file, shape, spacing_xyz[::-1].tolist(), matrix[:, 3].tolist(), axes)


def _qform(header: _Header) -> NDArray[np.float64]:
    """Give method 2 of nifti1.h: a unit quaternion, pixdim and an offset, as a 3x4 matrix."""
    quatern = header.numbers("quatern")
    rest = 1.0 - float(quatern @ quatern)
    if rest < QUATERNION_ROUNDING:  # half a turn: the root would blow rounding up to 0.04 degrees
        quatern, rest = quatern / np.linalg.norm(quatern), 0.0
    a, (b, c, d) = np.sqrt(rest), quatern
    rotation = np.array(
        [
            [a * a + b * b - c * c - d * d, 2 * b * c - 2 * a * d, 2 * b * d + 2 * a * c],
            [2 * b * c + 2 * a * d, a * a + c * c - b * b - d * d, 2 * c * d - 2 * a * b],
            [2 * b * d - 2 * a * c, 2 * c * d + 2 * a * b, a * a + d * d - c * c - b * b],
        ]
    )
    pixdim = header.numbers("pixdim")
    handedness = -1.0 if pixdim[0] < 0 else 1.0
    steps = rotation * pixdim[1:4] * np.array([1.0, 1.0, handedness])
    return np.column_stack([steps, header.numbers("qoffset")])


def _refuse_disagreement(
    header: _Header, sform: NDArray[np.float64], qform: NDArray[np.float64], shape: Shape, unit_mm: float
) -> None:
    """Refuse two transforms that put a corner of the grid at different places."""
    ends = np.array(np.meshgrid(*[[0, size - 1] for size in shape[::-1]])).reshape(3, -1)
    corners = np.vstack([ends, np.ones(ends.shape[1])])
    apart_mm = float(np.linalg.norm((sform - qform) @ corners, axis=0).max()) * unit_mm
    if apart_mm > AGREEMENT_MM:
        found = f"places up to {apart_mm:.1f} mm apart"
        hint = "keep one of them: set the code of the wrong one to 0"
        raise header.error("E_DIRECTION", "qform, sform", "the same place for each voxel", found, hint)


def _scaled(voxels: NDArray[Any], header: _Header) -> NDArray[Any]:
    """Apply slope and intercept; a slope of 0 or NaN means none (nifti1.h)."""
    slope, intercept = float(header.fields["scl_slope"]), float(header.fields["scl_inter"])
    if slope == 0 or np.isnan(slope) or (slope, intercept) == (1.0, 0.0):
        return voxels
    if not (np.isfinite(slope) and np.isfinite(intercept)):
        raise header.error("E_VALUES", "scl_slope, scl_inter", "finite numbers", "others", "export the scan again")
    precision = np.float32 if voxels.dtype.itemsize <= 2 else np.float64
    return voxels * precision(slope) + precision(intercept)
