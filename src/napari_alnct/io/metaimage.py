"""Read and write MetaImage volumes (`.mhd` with `.raw` or `.zraw`, `.mha`).

The reader is our own, numpy and zlib only, so that a wrong header fails loudly
instead of giving wrong voxels: see ``docs/reader-contract.md`` for the rules,
the error codes and what other readers do with the same files.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from napari_alnct.core.errors import ReadError
from napari_alnct.core.geometry import Geometry
from napari_alnct.core.volume import hu_doubt
from napari_alnct.io.metaimage_header import MetaImageHeader, read_header
from napari_alnct.io.metaimage_voxels import read_voxels
from napari_alnct.io.metaimage_writer import write_metaimage

__all__ = ["MetaImage", "MetaImageHeader", "check_hu", "read_header", "read_metaimage", "write_metaimage"]


@dataclass(frozen=True, eq=False)
class MetaImage:
    """An accepted MetaImage volume.

    Parameters
    ----------
    array : ndarray, shape (z, y, x)
        Voxels in the order and type of the file, native byte order, own memory.
    geometry : Geometry
        Grid of `array` as stored, LPS mm; not necessarily in LPS order.
    warnings : tuple of str
        Sentences on header entries that contradict what was used.
    """

    array: NDArray[Any]
    geometry: Geometry
    warnings: tuple[str, ...] = ()


def read_metaimage(path: Path, *, allow_left_handed: bool = False, allow_symlinks: bool = False) -> MetaImage:
    """Read a MetaImage volume, or refuse it with a reason.

    Parameters
    ----------
    path : Path
        ``.mhd`` or ``.mha`` file.
    allow_left_handed : bool, optional
        Accept a mirrored direction matrix (determinant -1).
    allow_symlinks : bool, optional
        Let the data file be a symbolic link that leads out of the folder.

    Returns
    -------
    MetaImage
        Scans and masks alike: whether voxels look like HU is asked by `check_hu`.

    Raises
    ------
    ReadError
        With the code of the first rule that fails; nothing else is raised for a bad file.
    """
    header = read_header(path, allow_left_handed=allow_left_handed)
    array = read_voxels(path, header, allow_symlinks=allow_symlinks)
    return MetaImage(array, header.geometry, header.warnings)


def check_hu(array: NDArray[Any], file: str) -> ReadError | None:
    """Give the W_NOT_HU error for voxels that do not look like a chest CT.

    Parameters
    ----------
    array : ndarray
        Voxels before any conversion to int16.
    file : str
        Base name for the message.

    Returns
    -------
    ReadError or None
        To raise (headless), to show (viewer) or to drop (allowed by the user).
    """
    doubt = hu_doubt(array)
    if doubt is None:
        return None
    hint = "check that this is a chest CT, then allow voxels that are not HU"
    return ReadError("W_NOT_HU", file, "Hounsfield units of a chest", doubt, hint=hint)
