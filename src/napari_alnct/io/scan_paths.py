"""Tell scans from other paths, and find them in folders; no byte is parsed.

A scan is a file of a known suffix, a file that begins as DICOM does, or a
folder of such files. Masks lie in folders and files with telling names.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from napari_alnct.core.errors import ReadError
from napari_alnct.io.dicom import dicom_files, is_dicom_file

METAIMAGE, NIFTI, NRRD, DICOM = "MetaImage", "NIfTI", "NRRD", "DICOM"
SUFFIXES = {
    ".mhd": METAIMAGE,
    ".mha": METAIMAGE,
    ".nii": NIFTI,
    ".nii.gz": NIFTI,
    ".nrrd": NRRD,
    ".nhdr": NRRD,
}
DATA_SUFFIXES = (".raw", ".zraw")
MASK_FOLDERS = ("seg-lungs", "masks", "mask", "lungs", "segmentations")
MASK_ENDINGS = ("_lung", "_lungs", "_mask", "_seg", "-seg", "-label")


def scan_format(path: Path) -> str:
    """Give the format that a path is read as; no byte is parsed.

    Parameters
    ----------
    path : Path
        A file or folder.

    Returns
    -------
    str
        ``MetaImage``, ``NIfTI``, ``NRRD`` or ``DICOM``; empty when it is none of them.

    Examples
    --------
    >>> scan_format(Path("scan.nii.gz"))
    'NIfTI'
    """
    suffix = suffix_of(path)
    if path.is_dir():
        return DICOM if next(dicom_files(path), None) is not None else ""
    if suffix in SUFFIXES:
        return SUFFIXES[suffix]
    if suffix in DATA_SUFFIXES and path.with_suffix(".mhd").is_file():
        return METAIMAGE
    return DICOM if is_dicom_file(path) else ""


def is_scan(path: Path) -> bool:
    """Tell whether a path looks like something that `read_volume` reads; no byte is parsed.

    Parameters
    ----------
    path : Path
        A file or folder.

    Returns
    -------
    bool
    """
    path = Path(path)
    try:
        return path.exists() and scan_format(path) != ""
    except (OSError, ReadError):
        return False


def find_scans(folder: Path) -> list[Path]:
    """Give the scans in a folder and its subfolders, in order of path.

    Parameters
    ----------
    folder : Path
        A folder.

    Returns
    -------
    list of Path
        Files of the known formats, and folders that hold DICOM files. Hidden folders, folders of masks
        (such as ``seg-lungs-LUNA16``), mask files (``..._lung.mha``) and symbolic links to folders are left out.
    """
    found: list[Path] = []
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not _is_mask_folder(name) and not name.startswith("."))
        paths = [Path(parent, name) for name in sorted(names) if not name.startswith(".")]
        scans = [path for path in paths if suffix_of(path) in SUFFIXES and not _is_mask_file(path)]
        found.extend(scans)
        if not scans and any(map(is_dicom_file, paths)):
            found.append(Path(parent))
    return sorted(found)


def expand_scans(paths: Iterable[Path]) -> list[Path]:
    """Give the scans that a user means by files and folders.

    Parameters
    ----------
    paths : iterable of Path
        Scan files, DICOM folders, and folders that contain scans. A path that does not exist is kept:
        reading it gives the error.

    Returns
    -------
    list of Path
        Each scan once, however often it was named; of ``.raw`` and ``.zraw`` files the header beside them.

    Raises
    ------
    ReadError
        E_DATA_MISSING when a folder holds no scan.
    """
    scans: list[Path] = []
    for path in map(named, paths):
        if not path.is_dir() or next(dicom_files(path, nested=False), None) is not None:
            scans.append(_header_of(path))
            continue
        inside = find_scans(path)
        if not inside:
            hint = "give a scan file, a DICOM folder or a folder of scans"
            raise ReadError("E_DATA_MISSING", path.name, "scans in this folder", "none", hint=hint)
        scans.extend(inside)
    return list({os.path.abspath(scan): scan for scan in scans}.values())


def named(path: Path) -> Path:
    """Give a path whose last part is the name of the file or folder, also for ``.`` and ``..``.

    Parameters
    ----------
    path : Path
        Any path.

    Returns
    -------
    Path
        The path itself, or its absolute form when it ends in no name.
    """
    path = Path(path)
    return Path(os.path.abspath(path)) if path.name in ("", "..") else path


def suffix_of(path: Path) -> str:
    """Give the suffix of a path in lower case, ``.nii.gz`` as one.

    Parameters
    ----------
    path : Path
        Any path.

    Returns
    -------
    str

    Examples
    --------
    >>> suffix_of(Path("Scan.NII.gz"))
    '.nii.gz'
    """
    name = path.name.lower()
    return ".nii.gz" if name.endswith(".nii.gz") else path.suffix.lower()


def _header_of(path: Path) -> Path:
    """Give the header of a file of voxels, else the path itself."""
    header = path.with_suffix(".mhd")
    return header if suffix_of(path) in DATA_SUFFIXES and header.is_file() else path


def _is_mask_folder(name: str) -> bool:
    name = name.lower()
    return name.startswith(MASK_FOLDERS[0]) or name in MASK_FOLDERS


def _is_mask_file(path: Path) -> bool:
    return path.name.lower().removesuffix(suffix_of(path)).endswith(MASK_ENDINGS)
