"""The one door for scans and masks: a path in, a `Volume` on an LPS grid out.

MetaImage is read in this process by our own strict reader. NIfTI, NRRD and
DICOM are parsed in a guarded child process, whose death is a `ReadError` and
nothing worse. Every format ends in the same checks: axis-aligned grid,
right-handed unless allowed, Hounsfield units unless allowed.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_alnct.core.errors import GeometryError, ReadError
from napari_alnct.core.geometry import Geometry, plan_lps, reorient
from napari_alnct.core.volume import QualityFlag, Volume
from napari_alnct.io.dicom import read_dicom
from napari_alnct.io.guarded import run_guarded
from napari_alnct.io.metaimage import check_hu, read_metaimage
from napari_alnct.io.nifti import read_nifti
from napari_alnct.io.nrrd import read_nrrd
from napari_alnct.io.scan_paths import (
    DATA_SUFFIXES,
    DICOM,
    METAIMAGE,
    NIFTI,
    NRRD,
    SUFFIXES,
    expand_scans,
    find_scans,
    is_scan,
    scan_format,
    suffix_of,
)
from napari_alnct.io.source_image import SourceImage, memory_cap_bytes

__all__ = ["ReadOptions", "expand_scans", "find_scans", "is_scan", "read_mask", "read_volume", "scan_format"]

TIMEOUT_S = 300.0
CHILD_BASE_BYTES = 2 << 30  # interpreter and libraries, as address space
CHILD_COPIES = 3  # of the largest volume, while it is decoded and converted


@dataclass(frozen=True)
class ReadOptions:
    """What the user allows, and which series is wanted.

    Parameters
    ----------
    allow_non_hu : bool
        Read voxels that do not look like Hounsfield units; the flag ``not_hu`` stays on the volume.
    allow_left_handed : bool
        Read MetaImage and NRRD scans whose axes are mirrored (determinant -1). NIfTI, where half of all
        files are stored so, needs no permission.
    allow_symlinks : bool
        Let a header's data file be a symbolic link out of its folder.
    series_uid : str or None
        SeriesInstanceUID to take out of a DICOM folder; None takes the axial CT series with most slices.
    ask : bool
        A person will see the flags and decide: give doubtful scans (not HU, left-handed) with their
        flag instead of refusing them.
    """

    allow_non_hu: bool = False
    allow_left_handed: bool = False
    allow_symlinks: bool = False
    series_uid: str | None = None
    ask: bool = False


DEFAULT_OPTIONS = ReadOptions()


def read_volume(path: Path, options: ReadOptions = DEFAULT_OPTIONS) -> Volume:
    """Give the scan at a path: HU on an LPS grid, with what a reader should know about it.

    Parameters
    ----------
    path : Path
        ``.mhd`` (or its ``.raw``/``.zraw``), ``.mha``, ``.nii``, ``.nii.gz``, ``.nrrd``, ``.nhdr``, a DICOM
        file or a folder of DICOM files.
    options : ReadOptions, optional
        Permissions and choice of series.

    Returns
    -------
    Volume
        Its ``series_uid`` is the SeriesInstanceUID of a DICOM series, else the file name without suffix.

    Raises
    ------
    ReadError
        ``E_...`` when the scan must not be used; ``W_NOT_HU`` when it does not look like a chest CT and
        the options do not allow that.
    """
    path = Path(path)
    source = _load(path, options)
    try:
        volume = Volume.from_source(
            source.array, source.geometry, series_uid=source.series_uid, flags=_handedness_flags(path, source)
        )
    except GeometryError as error:
        raise _oblique(path.name, source.geometry) from error
    if volume.has_flag("not_hu") and not (options.allow_non_hu or options.ask):
        raise _not_hu(path.name, source)
    first_of_each = {flag.code: flag for flag in reversed(volume.flags)}
    kept = tuple(flag for flag in volume.flags if first_of_each[flag.code] is flag)
    return replace(volume, flags=kept)


def read_mask(path: Path, options: ReadOptions = DEFAULT_OPTIONS) -> tuple[NDArray[np.uint8], Geometry]:
    """Give a mask in LPS order; the reader contract of scans without the HU step.

    Parameters
    ----------
    path : Path
        As for `read_volume`, except DICOM.
    options : ReadOptions, optional
        Permissions.

    Returns
    -------
    mask : ndarray of uint8, (z, y, x)
        Labels as stored (LUNA16: 3 and 4 are the lungs, 5 the trachea).
    geometry : Geometry
        Its LPS grid.

    Raises
    ------
    ReadError
        As `read_volume`; E_VALUES when a voxel is not a whole number from 0 to 255.
    """
    path = Path(path)
    if scan_format(path) == DICOM:
        hint = "convert the mask to .mha or .nii.gz"
        raise ReadError("E_UNSUPPORTED", path.name, "a mask as MetaImage, NIfTI or NRRD", "DICOM", hint=hint)
    source = _load(path, options)
    if not source.geometry.is_axis_aligned:
        raise _oblique(path.name, source.geometry)
    labels = source.array.astype(np.uint8, copy=False)
    if labels is not source.array and not np.array_equal(labels, source.array):
        lowest, highest = source.array.min(), source.array.max()
        found = f"values from {lowest:g} to {highest:g}"
        raise ReadError("E_VALUES", path.name, "whole numbers from 0 to 255", found, hint="give a mask, not a scan")
    plan = plan_lps(source.geometry)
    return reorient(labels, plan), plan.geometry


def _load(path: Path, options: ReadOptions) -> SourceImage:
    """Read any format in the orientation of the file."""
    if not path.exists():
        raise ReadError("E_DATA_MISSING", path.name, "a file or folder", "nothing", hint="check the path")
    kind = scan_format(path)
    may_mirror = options.allow_left_handed or options.ask
    if kind == METAIMAGE:
        header = path.with_suffix(".mhd") if suffix_of(path) in DATA_SUFFIXES else path
        image = read_metaimage(header, allow_left_handed=may_mirror, allow_symlinks=options.allow_symlinks)
        flags = tuple(QualityFlag("header", sentence) for sentence in image.warnings)
        return SourceImage(image.array, image.geometry, header.stem, flags)
    if kind == NIFTI:
        return replace(_guarded(read_nifti, path), series_uid=path.name[: -len(suffix_of(path))])
    if kind == NRRD:
        source = replace(_guarded(read_nrrd, path, options.allow_symlinks), series_uid=path.stem)
        if source.geometry.is_left_handed and not may_mirror:
            hint = "check the left side of the patient, then allow left-handed scans"
            expected, found = "a right-handed system of axes", "a mirrored one"
            raise ReadError("E_DIRECTION", path.name, expected, found, key="space directions", hint=hint)
        return source
    if kind == DICOM:
        return _guarded(read_dicom, path, options.series_uid)
    raise _not_a_scan(path)


def _guarded(function: Callable[..., dict[str, Any]], path: Path, *args: Any) -> SourceImage:
    memory = CHILD_BASE_BYTES + CHILD_COPIES * memory_cap_bytes()
    full = os.path.abspath(path)
    return SourceImage.from_plain(run_guarded(function, (full, *args), timeout_s=TIMEOUT_S, memory_bytes=memory))


def _handedness_flags(path: Path, source: SourceImage) -> tuple[QualityFlag, ...]:
    if not source.geometry.is_left_handed or scan_format(path) == NIFTI:
        return source.flags
    text = "The file's axes are mirrored (left-handed); check the left side of the patient."
    return (*source.flags, QualityFlag("left_handed", text))


def _not_a_scan(path: Path) -> ReadError:
    if path.is_dir():
        hint = "give a DICOM folder or a scan file"
        return ReadError("E_DATA_MISSING", path.name, "DICOM images in the folder", "none", hint=hint)
    if not path.is_file():
        return ReadError("E_NOT_REGULAR", path.name, "a regular file", "a device or pipe", hint="copy it to a folder")
    if suffix_of(path) in DATA_SUFFIXES:
        hint = "copy the header beside it"
        return ReadError(
            "E_DATA_MISSING", path.with_suffix(".mhd").name, "a header beside the voxels", "none", hint=hint
        )
    expected = f"DICOM or one of {', '.join(SUFFIXES)}"
    return ReadError("E_UNSUPPORTED", path.name, expected, f"'{path.suffix}'", hint="convert the scan")


def _oblique(name: str, geometry: Geometry) -> ReadError:
    cosine = np.abs(np.reshape(geometry.direction, (3, 3))).max(axis=0).min()
    degrees = float(np.degrees(np.arccos(min(1.0, cosine))))
    hint = "resample it to an axis-aligned grid first (3D Slicer: module Resample Scalar/Vector/DWI Volume)"
    found = f"a grid turned by {degrees:.2f} degrees"
    return ReadError("E_DIRECTION", name, "a grid along the patient's axes", found, hint=hint)


def _not_hu(name: str, source: SourceImage) -> ReadError:
    for flag in source.flags:
        if flag.code == "not_hu":
            found = flag.text[0].lower() + flag.text[1:].rstrip(".")
            hint = "check that this is a chest CT, then allow voxels that are not HU"
            return ReadError("W_NOT_HU", name, "Hounsfield units of a chest", found, hint=hint)
    error = check_hu(source.array, name)
    assert error is not None
    return error
