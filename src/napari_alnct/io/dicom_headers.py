"""The header of one DICOM image, reduced to what makes a CT volume out of slices.

pydicom is imported inside functions: only the guarded child process loads it.

References
----------
DICOM PS3.3: C.7.6.2 (image plane), C.8.2.1 (CT image), C.7.5.1.1.2 (pixel padding).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_alnct.core.errors import ReadError

KEYWORDS = [
    "SeriesInstanceUID",
    "Modality",
    "ImageType",
    "Rows",
    "Columns",
    "NumberOfFrames",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "BitsAllocated",
    "PixelRepresentation",
    "PixelSpacing",
    "ImageOrientationPatient",
    "ImagePositionPatient",
    "SliceThickness",
    "RescaleSlope",
    "RescaleIntercept",
    "PixelPaddingValue",
    "PixelPaddingRangeLimit",
    "ContrastBolusAgent",
    "LossyImageCompression",
]
CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
DICOM_DIRECTORY = "1.2.840.10008.1.3.10"
REPLACE_HINT = "export the series again, or remove this file if it is not part of it"
NO_CONTRAST = {"", "NONE", "NO", "N", "0"}


@dataclass(frozen=True, kw_only=True)
class SliceHeader:
    """What one DICOM image says about its place and its values.

    Parameters
    ----------
    path : str
        The file.
    series_uid, modality : str
        SeriesInstanceUID and Modality.
    is_localizer : bool
        A scout image, no part of the volume.
    is_plain : bool
        One frame, one grey channel, low values dark.
    shape_yx : tuple of int
        Rows and columns.
    spacing_yx_mm : tuple of float or None
        Distance between rows and between columns.
    axes_xyz : tuple of 6 float or None
        World direction of growing column index, then of growing row index.
    position_xyz_mm : tuple of float or None
        World position of the first pixel's centre, LPS.
    thickness_mm : float or None
        SliceThickness.
    slope, intercept : float or None
        HU = slope x stored value + intercept.
    padding : tuple of int or None
        Lowest and highest stored value that mean "outside the field of view".
    stored_bytes : int
        Bytes per pixel in uncompressed data.
    needs_gdcm : bool
        Compressed other than by RLE.
    has_contrast, is_lossy : bool
        Contrast agent given; pixel data once compressed with loss.
    """

    path: str
    series_uid: str
    modality: str
    is_localizer: bool
    is_plain: bool
    shape_yx: tuple[int, int]
    spacing_yx_mm: tuple[float, ...] | None
    axes_xyz: tuple[float, ...] | None
    position_xyz_mm: tuple[float, ...] | None
    thickness_mm: float | None
    slope: float | None
    intercept: float | None
    padding: tuple[int, int] | None
    stored_bytes: int
    needs_gdcm: bool
    has_contrast: bool
    is_lossy: bool

    @property
    def name(self) -> str:
        """Give the base name of the file."""
        return Path(self.path).name

    @property
    def is_placed(self) -> bool:
        """Tell whether the image says where it lies in the patient."""
        return None not in (self.spacing_yx_mm, self.axes_xyz, self.position_xyz_mm)


def read_slice_header(path: str) -> SliceHeader | None:
    """Give the header of one DICOM file; None when it holds no image.

    Parameters
    ----------
    path : str
        A file that begins as DICOM does.

    Returns
    -------
    SliceHeader or None

    Raises
    ------
    ReadError
        E_HEADER_SYNTAX when the header cannot be parsed.
    """
    import pydicom

    try:
        dataset = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=KEYWORDS)
        return _header(path, dataset) if _is_image(dataset, Path(path).name) else None
    except ReadError:
        raise
    except Exception as error:  # pydicom raises whatever its parser meets
        found = f"one that raises {type(error).__name__}"
        raise ReadError("E_HEADER_SYNTAX", Path(path).name, "a DICOM header", found, hint=REPLACE_HINT) from error


def _is_image(dataset: Any, name: str) -> bool:
    """Tell images from directories and reports; refuse an image whose header breaks off."""
    storage = str(dataset.file_meta.get("MediaStorageSOPClassUID", ""))
    has_size = bool(dataset.get("Rows") and dataset.get("Columns"))
    is_cut = not dataset.get("SeriesInstanceUID") or (storage == CT_IMAGE and not has_size)
    if is_cut and storage != DICOM_DIRECTORY:
        raise ReadError("E_HEADER_SYNTAX", name, "a whole DICOM header", "one that breaks off", hint=REPLACE_HINT)
    return has_size


def _header(path: str, dataset: Any) -> SliceHeader:
    name = Path(path).name
    grey = int(dataset.get("SamplesPerPixel") or 1) == 1
    dark_low = str(dataset.get("PhotometricInterpretation") or "MONOCHROME2") == "MONOCHROME2"
    return SliceHeader(
        path=path,
        series_uid=str(dataset.SeriesInstanceUID),
        modality=str(dataset.get("Modality") or ""),
        is_localizer="LOCALIZER" in [str(word).upper() for word in _items(dataset.get("ImageType"))],
        is_plain=grey and dark_low and int(dataset.get("NumberOfFrames") or 1) == 1,
        shape_yx=(int(dataset.Rows), int(dataset.Columns)),
        spacing_yx_mm=_floats(dataset, "PixelSpacing", 2, name),
        axes_xyz=_floats(dataset, "ImageOrientationPatient", 6, name),
        position_xyz_mm=_floats(dataset, "ImagePositionPatient", 3, name),
        thickness_mm=_float(dataset, "SliceThickness", name),
        slope=_float(dataset, "RescaleSlope", name),
        intercept=_float(dataset, "RescaleIntercept", name),
        padding=_padding(dataset),
        stored_bytes=int(dataset.get("BitsAllocated") or 16) // 8,
        needs_gdcm=_needs_gdcm(dataset),
        has_contrast=str(dataset.get("ContrastBolusAgent") or "").strip().upper() not in NO_CONTRAST,
        is_lossy=str(dataset.get("LossyImageCompression") or "") == "01",
    )


def _items(value: Any) -> list[Any]:
    if value is None or value == "":
        return []
    return [value] if isinstance(value, (str, int, float)) else list(value)


def _floats(dataset: Any, keyword: str, count: int, name: str) -> tuple[float, ...] | None:
    """Give the numbers of a field; None when it is absent or empty."""
    items = _items(dataset.get(keyword))
    if not items:
        return None
    numbers = tuple(float(item) for item in items)
    if len(numbers) != count or not all(map(math.isfinite, numbers)):
        found = f"{len(numbers)} numbers" if len(numbers) != count else "others"
        raise ReadError("E_HEADER_SYNTAX", name, f"{count} finite numbers", found, key=keyword, hint=REPLACE_HINT)
    return numbers


def _float(dataset: Any, keyword: str, name: str) -> float | None:
    numbers = _floats(dataset, keyword, 1, name)
    return numbers[0] if numbers else None


def _padding(dataset: Any) -> tuple[int, int] | None:
    """Give the padding range in stored values; a signed value written as unsigned is turned back."""
    ends = [dataset.get(keyword) for keyword in ("PixelPaddingValue", "PixelPaddingRangeLimit")]
    numbers = [int(end) for end in ends if end not in (None, "")]
    if not numbers:
        return None
    bits = int(dataset.get("BitsAllocated") or 16)
    if int(dataset.get("PixelRepresentation") or 0) == 1:
        numbers = [number - (1 << bits) if number >= 1 << (bits - 1) else number for number in numbers]
    return min(numbers), max(numbers)


def _needs_gdcm(dataset: Any) -> bool:
    from pydicom.uid import RLELossless

    syntax = getattr(dataset.file_meta, "TransferSyntaxUID", None)
    if syntax is None or syntax == RLELossless:
        return False
    return bool(not syntax.is_transfer_syntax or syntax.is_compressed)
