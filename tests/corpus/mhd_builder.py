"""Build the malformed MetaImage files of the corpus: one good scan and patches to it.

The base volume is 8x8x8 int16 with the values -1000..-489, so that any
permutation, shift or foreign byte shows. A case patches the header (`put`,
`drop`, `edit`), the payload (`data`) or the file system (`place`).
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

ACCEPT = "accept"
VOXELS = np.arange(-1000, -488, dtype="<i2").reshape(8, 8, 8)
RAW = VOXELS.tobytes()
DATA_NAME = "scan.raw"
HEADER = {
    "ObjectType": "Image",
    "NDims": "3",
    "BinaryData": "True",
    "BinaryDataByteOrderMSB": "False",
    "CompressedData": "False",
    "TransformMatrix": "1 0 0 0 1 0 0 0 1",
    "Offset": "-10 -20 -30",
    "ElementSpacing": "0.7 0.7 1.25",
    "DimSize": "8 8 8",
    "ElementType": "MET_SHORT",
    "ElementDataFile": DATA_NAME,
}


@dataclass(frozen=True, kw_only=True)
class MhdCase:
    """One input and the outcome that the reader contract demands.

    Parameters
    ----------
    case_id : str
        Number and short name.
    codes : tuple of str
        Allowed outcomes: error codes, W_NOT_HU or ``accept``.
    text : tuple of str
        What the message must say.
    put : dict
        Header values to set; new keys come before the last line.
    drop : tuple of str
        Header keys to leave out.
    edit : callable
        Bytes of the header to other bytes.
    data : callable
        Payload to another payload; None for no data file.
    place : callable
        Change to the folder, after the files were written.
    is_zlib, is_local : bool
        Start from a compressed payload; from an ``.mha`` with the voxels in the same file.
    needs : tuple of str
        What the system must offer: ``fifo``, ``symlink``, ``modes``, ``sparse``.
    """

    case_id: str
    codes: tuple[str, ...]
    text: tuple[str, ...] = ()
    put: dict[str, str] = field(default_factory=dict)
    drop: tuple[str, ...] = ()
    edit: Callable[[bytes], bytes] | None = None
    data: Callable[[bytes], bytes | None] | None = None
    place: Callable[[Path], object] | None = None
    is_zlib: bool = False
    is_local: bool = False
    needs: tuple[str, ...] = ()

    @property
    def is_accepted(self) -> bool:
        """Tell whether the reader must give a volume (W_NOT_HU is judged on it)."""
        return self.codes[0] in (ACCEPT, "W_NOT_HU")

    def build(self, parent: Path) -> Path:
        """Write the files of this case into ``parent/scan`` and give the path of the header."""
        folder = parent / "scan"
        folder.mkdir()
        payload: bytes | None = zlib.compress(RAW, 6) if self.is_zlib else RAW
        if self.data is not None:
            payload = self.data(payload or b"")
        header = self._header(payload or b"")
        path = folder / ("scan.mha" if self.is_local else "scan.mhd")
        if self.is_local:
            header, payload = header + (payload or b""), None
        path.write_bytes(header)
        if payload is not None:
            (folder / DATA_NAME).write_bytes(payload)
        if self.place is not None:
            self.place(folder)
        return path

    def _header(self, payload: bytes) -> bytes:
        values = dict(HEADER)
        if self.is_zlib:
            values |= {"CompressedData": "True", "CompressedDataSize": str(len(payload))}
        if self.is_local:
            values["ElementDataFile"] = "LOCAL"
        values |= self.put
        values["ElementDataFile"] = values.pop("ElementDataFile")  # last, whatever was added
        lines = [f"{key} = {value}\n" for key, value in values.items() if key not in self.drop]
        text = "".join(lines).encode()
        return text if self.edit is None else self.edit(text)


def add_line(line: str) -> Callable[[bytes], bytes]:
    """Give an edit that puts a line at the top of the header."""
    return lambda header: line.encode() + b"\n" + header


def add_tail(text: str) -> Callable[[bytes], bytes]:
    """Give an edit that puts text below the header."""
    return lambda header: header + text.encode()


def rename_data(name: str) -> Callable[[Path], object]:
    """Give a file-system patch that renames the data file."""
    return lambda folder: (folder / DATA_NAME).rename(folder / name)


def write_slices(*missing: int) -> Callable[[Path], object]:
    """Give a file-system patch that writes one file per slice, less some."""

    def place(folder: Path) -> None:
        for number in set(range(8)) - set(missing):
            (folder / f"slice{number}.raw").write_bytes(VOXELS[number].tobytes())

    return place


def flip_byte(position: int) -> Callable[[bytes], bytes]:
    """Give a payload patch that inverts one byte."""
    return lambda raw: raw[:position] + bytes([raw[position] ^ 0xFF]) + raw[position + 1 :]


def zlib_zeros(n_mib: int) -> bytes:
    """Give a valid zlib stream of zeros, fast: one flushed block of 1 MiB is repeated.

    A full flush ends on a byte and forgets the window, so blocks can be joined;
    the checksum of n zero bytes is known (RFC 1950: a = 1, b = n mod 65521).
    """
    squeeze = zlib.compressobj(9)
    start = squeeze.compress(b"")
    block = squeeze.compress(bytes(1 << 20)) + squeeze.flush(zlib.Z_FULL_FLUSH)
    head, block = (start + block)[:2], (start + block)[2:]
    n_bytes = n_mib << 20
    checksum = ((n_bytes % 65521) << 16 | 1).to_bytes(4, "big")
    return head + block * n_mib + b"\x03\x00" + checksum
