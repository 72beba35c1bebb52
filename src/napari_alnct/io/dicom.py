"""Read a DICOM series: a folder, or any one file of it, to HU on its grid.

Headers are parsed by pydicom. So are uncompressed and RLE pixels; other
compressions (JPEG, JPEG 2000, JPEG-LS) go through SimpleITK's GDCM. Both
libraries are imported inside functions, because all of this runs in a guarded
child process (`napari_alnct.io.guarded`); `is_dicom_file` and `dicom_files`
alone are for the parent.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_alnct.core.errors import ReadError
from napari_alnct.core.volume import QualityFlag, to_int16
from napari_alnct.io.dicom_headers import SliceHeader, read_slice_header
from napari_alnct.io.dicom_series import arrange, choose_series
from napari_alnct.io.regular_file import reason
from napari_alnct.io.source_image import SourceImage

PREAMBLE_BYTES, MAGIC = 128, b"DICM"
MAX_FILES = 20_000
SANE_PADDING_HU = (-4096, 3071)  # what 12-bit CT can hold, and its usual padding
AIR_HU = -1024
LARGEST_WHOLE = 32_768  # slope and intercept for which int32 cannot overflow
RELOAD_HINT = "export or download the series again"


def is_dicom_file(path: Path) -> bool:
    """Tell whether a regular file begins as DICOM does; nothing is parsed.

    Parameters
    ----------
    path : Path
        Any path.

    Returns
    -------
    bool
    """
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            return file.read(PREAMBLE_BYTES + len(MAGIC))[PREAMBLE_BYTES:] == MAGIC
    except OSError:
        return False


def dicom_files(folder: Path, *, nested: bool = True) -> Iterator[Path]:
    """Give the DICOM files of a folder in order of name; those of its subfolders when it has none itself.

    Parameters
    ----------
    folder : Path
        A folder.
    nested : bool, optional
        Look into subfolders when the folder itself has none.

    Yields
    ------
    Path

    Raises
    ------
    ReadError
        E_TOO_BIG after 20,000 files; E_DATA_MISSING when the folder cannot be listed.
    """
    try:
        paths = sorted(folder.iterdir())
    except OSError as error:
        raise ReadError("E_DATA_MISSING", folder.name, "a readable folder", reason(error)) from error
    found_here = False
    for path in paths:
        if is_dicom_file(path):
            found_here = True
            yield path
    if found_here or not nested:
        return
    n_seen = 0
    for parent, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            n_seen += 1
            if n_seen > MAX_FILES:
                hint = "give the folder of one series"
                raise ReadError("E_TOO_BIG", folder.name, f"at most {MAX_FILES} files", "more", hint=hint)
            if is_dicom_file(Path(parent, name)):
                yield Path(parent, name)


def read_dicom(path: str, series_uid: str | None = None) -> dict[str, Any]:
    """Give the HU of one DICOM series; runs in a guarded child process.

    Parameters
    ----------
    path : str
        A folder, or one file: then the series it belongs to.
    series_uid : str, optional
        SeriesInstanceUID to take out of a folder with several.

    Returns
    -------
    dict
        `SourceImage.to_plain` with int16 HU, (z, y, x) in the order of the images.

    Raises
    ------
    ReadError
        With the code of the first rule that fails.
    """
    source = Path(path)
    if source.is_dir():
        files = list(dicom_files(source))
    else:
        own = read_slice_header(path)
        if own is None:
            raise ReadError("E_DATA_MISSING", source.name, "a DICOM image", "none", hint="give a folder of CT slices")
        series_uid = series_uid or own.series_uid
        files = list(dicom_files(source.parent, nested=False))
    headers = [header for file in files if (header := read_slice_header(str(file))) is not None]
    if not source.is_dir():
        headers = [header for header in headers if header.series_uid == series_uid]
    slices, chosen_flags = choose_series(headers, series_uid, source.name)
    ordered, geometry, flags = arrange(slices, source.name)
    hu, padding_flags = _stack(ordered, geometry.shape_zyx)
    flags = (*chosen_flags, *flags, *padding_flags)
    return SourceImage(hu, geometry, ordered[0].series_uid, flags).to_plain()


def _stack(slices: list[SliceHeader], shape: tuple[int, int, int]) -> tuple[NDArray[np.int16], tuple[QualityFlag, ...]]:
    volume = np.empty(shape, np.int16)
    tamed_hu: set[float] = set()
    for k, header in enumerate(slices):
        hu = _slice_hu(header)
        if header.padding is not None:
            low, high = sorted(float(_rescaled(np.array(end), header)) for end in header.padding)
            if (low < SANE_PADDING_HU[0] or high > SANE_PADDING_HU[1]) and _fill_with_air(hu, low, high):
                tamed_hu.add(low)
        volume[k] = to_int16(hu)
    if not tamed_hu:
        return volume, ()
    text = f"Pixels outside the field of view were padded with {min(tamed_hu):g} HU and are read as {AIR_HU} HU."
    return volume, (QualityFlag("padding", text),)


def _slice_hu(header: SliceHeader) -> NDArray[Any]:
    """Give the HU of one slice, int32 or float."""
    try:
        hu = _gdcm_hu(header) if header.needs_gdcm else _pydicom_hu(header)
    except (ReadError, MemoryError):
        raise
    except Exception as error:  # either library raises whatever its decoder meets
        found = f"some that raise {type(error).__name__}"
        raise ReadError("E_DATA_CORRUPT", header.name, "readable pixels", found, hint=RELOAD_HINT) from error
    if hu.shape != header.shape_yx:
        found = f"an array of shape {hu.shape}"
        raise ReadError("E_DATA_SIZE", header.name, f"rows x columns {header.shape_yx}", found, hint=RELOAD_HINT)
    return hu


def _pydicom_hu(header: SliceHeader) -> NDArray[Any]:
    import pydicom

    dataset = pydicom.dcmread(header.path)
    if "PixelData" not in dataset:
        raise ReadError("E_DATA_SIZE", header.name, "pixel data", "none", hint=RELOAD_HINT)
    if not dataset.file_meta.TransferSyntaxUID.is_compressed:
        n_bytes = header.shape_yx[0] * header.shape_yx[1] * header.stored_bytes
        n_found = len(dataset.PixelData)
        if n_found not in (n_bytes, n_bytes + n_bytes % 2):
            raise ReadError("E_DATA_SIZE", header.name, f"{n_bytes} bytes", f"{n_found} bytes", hint=RELOAD_HINT)
    return _rescaled(dataset.pixel_array, header)


def _gdcm_hu(header: SliceHeader) -> NDArray[Any]:
    """Let GDCM decode; it applies slope and intercept itself."""
    import SimpleITK as sitk

    reader = sitk.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(header.path)
    pixels: NDArray[Any] = sitk.GetArrayFromImage(reader.Execute())
    return pixels[0] if pixels.ndim == 3 and len(pixels) == 1 else pixels


def _rescaled(stored: NDArray[Any], header: SliceHeader) -> NDArray[Any]:
    """Give slope x stored + intercept: int32 when both are whole, else float32."""
    slope = 1.0 if header.slope is None else header.slope
    intercept = 0.0 if header.intercept is None else header.intercept
    is_whole = slope == int(slope) and intercept == int(intercept)
    if is_whole and stored.dtype.itemsize <= 2 and max(abs(slope), abs(intercept)) <= LARGEST_WHOLE:
        return stored.astype(np.int32) * int(slope) + int(intercept)
    return stored.astype(np.float32) * np.float32(slope) + np.float32(intercept)


def _fill_with_air(hu: NDArray[Any], low: float, high: float) -> bool:
    """Turn a range of values into air, in place; tell whether there were any."""
    is_padding = (hu >= low) & (hu <= high)
    hu[is_padding] = AIR_HU
    return bool(is_padding.any())
