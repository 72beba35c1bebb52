"""DICOM series: order, choice, geometry and HU; what must not be stacked is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import (
    BasicTextSRStorage,
    CTImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    RLELossless,
    generate_uid,
)

from napari_alnct.core.errors import ReadError
from napari_alnct.io.dicom import dicom_files, is_dicom_file, read_dicom
from napari_alnct.io.images import ReadOptions, read_volume
from napari_alnct.io.source_image import SourceImage

N_SLICES, ROWS, COLUMNS = 6, 8, 10
STEP_MM = 1.25
UID_A, UID_B = "1.2.826.0.1.1", "1.2.826.0.1.2"


def chest(seed: int = 0, shape: tuple[int, int, int] = (N_SLICES, ROWS, COLUMNS)) -> np.ndarray:
    """Give voxels whose values pass as a chest CT: half lung, half tissue."""
    lung = np.random.default_rng(seed).integers(-950, -800, shape)
    lung[..., shape[2] // 2 :] += 980
    return lung.astype(np.int16)


def dataset(hu: np.ndarray, z_mm: float, **changes: Any) -> FileDataset:
    """Give one CT image; a change to None removes the field."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = changes.pop("syntax", ExplicitVRLittleEndian)
    meta.MediaStorageSOPClassUID = changes.pop("storage", CTImageStorage)
    meta.MediaStorageSOPInstanceUID = generate_uid()
    is_little = meta.TransferSyntaxUID != ExplicitVRBigEndian
    image = FileDataset("", {}, bytes(128), meta, is_implicit_VR=False, is_little_endian=is_little)
    stored = hu.astype(np.int32) - changes.get("RescaleIntercept", -1024)
    fields = {
        "SOPClassUID": CTImageStorage,
        "SOPInstanceUID": meta.MediaStorageSOPInstanceUID,
        "SeriesInstanceUID": UID_A,
        "Modality": "CT",
        "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
        "Rows": hu.shape[0],
        "Columns": hu.shape[1],
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "BitsAllocated": 16,
        "BitsStored": 16,
        "HighBit": 15,
        "PixelRepresentation": 0,
        "PixelSpacing": [0.8, 0.7],
        "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
        "ImagePositionPatient": [-10, -20, z_mm],
        "SliceThickness": STEP_MM,
        "RescaleSlope": 1,
        "RescaleIntercept": -1024,
        "PixelData": stored.astype("<u2" if is_little else ">u2").tobytes(),
    }
    for key, value in (fields | changes).items():
        if value is not None:
            setattr(image, key, value)
    return image


def save_series(folder: Path, hu: np.ndarray | None = None, first: str = "a", **changes: Any) -> np.ndarray:
    """Write a series whose file names are in no order of position; give its HU."""
    hu = chest() if hu is None else hu
    folder.mkdir(exist_ok=True, parents=True)
    for k, plane in enumerate(hu):
        dataset(plane, -100 + k * STEP_MM, **changes).save_as(folder / f"{first}{k * 7 % len(hu):03d}.dcm")
    return hu


def edit(path: Path, **changes: Any) -> None:
    """Set fields of a file; None removes one."""
    image = pydicom.dcmread(path)
    for key, value in changes.items():
        if value is None:
            delattr(image, key)
        else:
            setattr(image, key, value)
    image.save_as(path)


def at(folder: Path, k: int) -> Path:
    """Give the file of the k-th slice from below."""
    paths = sorted(folder.glob("*.dcm"), key=lambda path: pydicom.dcmread(path).ImagePositionPatient[2])
    return paths[k]


def read(path: Path, series_uid: str | None = None) -> SourceImage:
    """Read without a child process."""
    return SourceImage.from_plain(read_dicom(str(path), series_uid))


def codes(source: SourceImage) -> list[str]:
    return [flag.code for flag in source.flags]


def refusal(path: Path) -> ReadError:
    with pytest.raises(ReadError) as caught:
        read(path)
    return caught.value


def test_slices_are_ordered_by_position(tmp_path: Path) -> None:
    """HU, spacing, origin and series id come out right whatever the file names are."""
    hu = save_series(tmp_path)
    source = read(tmp_path)
    np.testing.assert_array_equal(source.array, hu)
    assert source.array.dtype == np.int16
    assert source.geometry.spacing_zyx_mm == (STEP_MM, 0.8, 0.7)
    assert source.geometry.origin_xyz_mm == (-10.0, -20.0, -100.0)
    assert source.geometry.is_lps
    assert source.series_uid == UID_A
    assert source.flags == ()


def test_through_the_door(tmp_path: Path) -> None:
    """`read_volume` gives the same through a child process, from the folder, its parent and any one file."""
    hu = save_series(tmp_path / "patient" / "study")
    for path in (tmp_path / "patient" / "study", tmp_path / "patient", tmp_path / "patient" / "study" / "a003.dcm"):
        volume = read_volume(path)
        np.testing.assert_array_equal(volume.hu, hu)
        assert volume.series_uid == UID_A


@pytest.mark.parametrize(
    "axes",
    [(1, 0, 0, 0, 1, 0), (-1, 0, 0, 0, -1, 0), (0, 1, 0, 0, 0, -1), (1, 0, 0, 0, 0, -1)],
    ids=["supine", "prone", "sagittal", "coronal"],
)
def test_simpleitk_as_oracle(tmp_path: Path, axes: tuple[int, ...]) -> None:
    """Each voxel is where SimpleITK's series reader puts it."""
    normal = np.cross(axes[:3], axes[3:])
    for k, plane in enumerate(chest()):
        position = (normal * k * STEP_MM + [5.5, 6.25, -7.125]).tolist()
        image = dataset(plane, 0, ImageOrientationPatient=list(axes), ImagePositionPatient=position)
        image.save_as(tmp_path / f"{k}.dcm")
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(tmp_path)))
    oracle, source = reader.Execute(), read(tmp_path)
    values = sitk.GetArrayFromImage(oracle)
    for index in np.ndindex(2, 2, 2):
        place = np.multiply(index, np.subtract(values.shape, 1))
        world = oracle.TransformContinuousIndexToPhysicalPoint(place[::-1].astype(float).tolist())
        found = source.geometry.world_to_index(world)
        np.testing.assert_allclose(found, np.rint(found), atol=1e-6)
        assert source.array[tuple(np.rint(found).astype(int))] == values[tuple(place)]


@pytest.mark.parametrize("compression", ["RLE", "big-endian", "JPEG", "JPEG2000"])
def test_transfer_syntaxes(tmp_path: Path, compression: str) -> None:
    """RLE and big-endian pixels (pydicom) and JPEG ones (GDCM) give the HU of plain pixels."""
    hu = chest(shape=(N_SLICES, 32, 32))
    save_series(tmp_path, hu, syntax=ExplicitVRBigEndian if compression == "big-endian" else ExplicitVRLittleEndian)
    for path in tmp_path.glob("*.dcm"):
        if compression == "RLE":
            image = pydicom.dcmread(path)
            image.compress(RLELossless)
            image.save_as(path)
        elif compression.startswith("JPEG"):
            _compress_with_gdcm(path, compression)
    np.testing.assert_array_equal(read(tmp_path).array, hu)


def _compress_with_gdcm(path: Path, compressor: str) -> None:
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.LoadPrivateTagsOn()
    image = reader.Execute()
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    writer.UseCompressionOn()
    writer.SetCompressor(compressor)
    writer.SetFileName(str(path))
    writer.Execute(sitk.Cast(image, sitk.sitkInt16))
    edit(path, SeriesInstanceUID=UID_A)
    assert pydicom.dcmread(path).file_meta.TransferSyntaxUID.is_compressed


def test_fractional_slope(tmp_path: Path) -> None:
    """Stored 1000 with slope 0.5 and intercept -1000.5 is -500.5, rounded to even."""
    save_series(tmp_path)
    for path in tmp_path.glob("*.dcm"):
        pixels = np.full((ROWS, COLUMNS), 1001, "<u2").tobytes()
        edit(path, RescaleSlope=0.5, RescaleIntercept=-1000.5, PixelData=pixels)
    np.testing.assert_array_equal(read(tmp_path).array, -500)


def test_slope_of_each_slice_counts(tmp_path: Path) -> None:
    """Slices with different intercepts are each turned into HU by their own."""
    hu = save_series(tmp_path)
    edit(at(tmp_path, 2), RescaleIntercept=-1000)
    np.testing.assert_array_equal(read(tmp_path).array[2], hu[2] + 24)


def test_chosen_series_is_the_axial_ct_with_most_slices(tmp_path: Path) -> None:
    """Among MR with more, a scout and a shorter CT, the longer CT is taken and the flag names the others."""
    hu = save_series(tmp_path, first="a")
    save_series(tmp_path, chest(1)[:3], first="b", SeriesInstanceUID=UID_B)
    save_series(tmp_path, chest(2, (9, ROWS, COLUMNS)), first="c", SeriesInstanceUID="1.2.826.0.1.3", Modality="MR")
    source = read(tmp_path)
    np.testing.assert_array_equal(source.array, hu)
    assert codes(source) == ["several_series"]
    text = source.flags[0].text
    assert "3 series" in text
    assert UID_B in text
    assert "(CT, 3 images)" in text


def test_wanted_series_is_taken(tmp_path: Path) -> None:
    """`series_uid` chooses, and so does naming one file of the series."""
    save_series(tmp_path, first="a")
    short = save_series(tmp_path, chest(1)[:3], first="b", SeriesInstanceUID=UID_B)
    np.testing.assert_array_equal(read(tmp_path, UID_B).array, short)
    np.testing.assert_array_equal(read(tmp_path / "b000.dcm").array, short)
    volume = read_volume(tmp_path, ReadOptions(series_uid=UID_B))
    assert volume.series_uid == UID_B


def test_unknown_series_lists_those_present(tmp_path: Path) -> None:
    """A series that is not there is refused with the ones that are."""
    save_series(tmp_path)
    with pytest.raises(ReadError, match=rf"1\.9\.9.*{UID_A} \(CT, 6 images\).*E_DATA_MISSING"):
        read(tmp_path, "1.9.9")


def test_scout_images_are_left_out(tmp_path: Path) -> None:
    """A localizer inside the series does not count as mixed orientation."""
    hu = save_series(tmp_path)
    scout = dataset(
        hu[0], 0, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"], ImageOrientationPatient=[1, 0, 0, 0, 0, -1]
    )
    scout.save_as(tmp_path / "scout.dcm")
    source = read(tmp_path)
    np.testing.assert_array_equal(source.array, hu)
    assert codes(source) == ["localizers"]


def test_missing_slice_is_named(tmp_path: Path) -> None:
    """Without the slice at -97.5 mm the message says where, and how many are missing."""
    save_series(tmp_path)
    at(tmp_path, 2).unlink()
    error = refusal(tmp_path)
    assert error.code == "E_SPACING"
    assert "every 1.25 mm" in str(error)
    assert "about 1 missing, the first between -98.75 and -96.25 mm" in str(error)


def test_two_slices_at_one_place(tmp_path: Path) -> None:
    """A second image at -97.5 mm is refused, with the place."""
    hu = save_series(tmp_path)
    dataset(hu[0], -97.5).save_as(tmp_path / "twice.dcm")
    error = refusal(tmp_path)
    assert error.code == "E_SPACING"
    assert "the first at -97.5 mm" in str(error)


def test_two_whole_phases_in_one_series(tmp_path: Path) -> None:
    """Every place twice (half of all steps are 0) is told as places with two."""
    save_series(tmp_path)
    save_series(tmp_path, chest(5), first="b")
    assert "6 places with two" in str(refusal(tmp_path))


def test_jitter_is_accepted_and_told(tmp_path: Path) -> None:
    """A position 0.05 mm off (rounding) is accepted with a flag; 0.01 mm needs none; 0.3 mm is refused."""
    save_series(tmp_path)
    path = at(tmp_path, 3)
    for offset, expected in ((0.005, []), (0.05, ["uneven_slices"])):
        edit(path, ImagePositionPatient=[-10, -20, -96.25 + offset])
        assert codes(read(tmp_path)) == expected
    edit(path, ImagePositionPatient=[-10, -20, -96.25 + 0.3])
    error = refusal(tmp_path)
    assert error.code == "E_SPACING"
    assert "steps of 0.95 to 1.55 mm" in str(error)


def test_gantry_tilt_is_refused(tmp_path: Path) -> None:
    """Slices that move sideways by tan(10 degrees) of their height are told as a tilt of 10 degrees."""
    for k, plane in enumerate(chest()):
        y = -20 + k * STEP_MM * np.tan(np.radians(10))
        dataset(plane, 0, ImagePositionPatient=[-10, round(y, 6), k * STEP_MM]).save_as(tmp_path / f"{k}.dcm")
    error = refusal(tmp_path)
    assert error.code == "E_DIRECTION"
    assert "gantry tilt of 10.0 degrees" in str(error)


def test_oblique_series_is_refused_by_the_door(tmp_path: Path) -> None:
    """A stack that is straight but turned by 10 degrees is refused with the angle and what to do."""
    c, s = np.cos(np.radians(10)), np.sin(np.radians(10))
    for k, plane in enumerate(chest()):
        position = [round(float(v), 8) for v in np.array([0, -s, c]) * k * STEP_MM]
        axes = [1, 0, 0, 0, round(float(c), 8), round(float(s), 8)]
        image = dataset(plane, 0, ImageOrientationPatient=axes, ImagePositionPatient=position)
        image.save_as(tmp_path / f"{k}.dcm")
    with pytest.raises(ReadError, match=r"turned by 10\.00 degrees; resample.*E_DIRECTION"):
        read_volume(tmp_path)


MIXED = {
    "orientation": ({"ImageOrientationPatient": [0, 1, 0, 1, 0, 0]}, "E_DIRECTION"),
    "pixel spacing": ({"PixelSpacing": [0.9, 0.7]}, "E_SPACING"),
    "no position": ({"ImagePositionPatient": None}, "E_KEY_MISSING"),
    "no orientation": ({"ImageOrientationPatient": None}, "E_KEY_MISSING"),
    "no pixel spacing": ({"PixelSpacing": None}, "E_KEY_MISSING"),
    "two numbers as position": ({"ImagePositionPatient": [1, 2]}, "E_HEADER_SYNTAX"),
    "colour": ({"SamplesPerPixel": 3}, "E_UNSUPPORTED"),
    "inverted grey": ({"PhotometricInterpretation": "MONOCHROME1"}, "E_UNSUPPORTED"),
    "many frames": ({"NumberOfFrames": 5}, "E_UNSUPPORTED"),
    "half the pixels": ({"PixelData": bytes(ROWS * COLUMNS)}, "E_DATA_SIZE"),
    "no pixels": ({"PixelData": None}, "E_DATA_SIZE"),
}


@pytest.mark.parametrize("name", MIXED)
def test_one_bad_slice_refuses_the_series(tmp_path: Path, name: str) -> None:
    """One slice that does not fit gives its code."""
    save_series(tmp_path)
    changes, code = MIXED[name]
    edit(at(tmp_path, 3), **changes)
    assert refusal(tmp_path).code == code


def test_mixed_sizes_are_refused(tmp_path: Path) -> None:
    """Slices of two sizes are counted."""
    save_series(tmp_path)
    dataset(chest(0, (1, 16, 16))[0], 50).save_as(tmp_path / "big.dcm")
    error = refusal(tmp_path)
    assert error.code == "E_DIMS"
    assert "6 of 10 x 8, 1 of 16 x 16" in str(error)


def test_single_slice_is_refused(tmp_path: Path) -> None:
    """One image is no volume."""
    save_series(tmp_path, chest()[:1])
    assert refusal(tmp_path).code == "E_NDIMS"


def test_axes_that_are_not_perpendicular_are_refused(tmp_path: Path) -> None:
    """Row and column directions at 80 degrees are no grid."""
    save_series(tmp_path, ImageOrientationPatient=[1, 0, 0, 0.173648, 0.984808, 0])
    assert refusal(tmp_path).code == "E_DIRECTION"


def test_other_modality_needs_permission(tmp_path: Path) -> None:
    """MR is refused as not HU; with permission, or when a person is asked, the flag stays."""
    save_series(tmp_path, Modality="MR")
    with pytest.raises(ReadError, match=r"modality is MR.*W_NOT_HU"):
        read_volume(tmp_path)
    assert read_volume(tmp_path, ReadOptions(allow_non_hu=True)).has_flag("not_hu")
    assert read_volume(tmp_path, ReadOptions(ask=True)).has_flag("not_hu")


@pytest.mark.parametrize("field", ["RescaleSlope", "RescaleIntercept"])
def test_missing_rescale_is_doubtful(tmp_path: Path, field: str) -> None:
    """CT without slope or intercept may not be HU."""
    save_series(tmp_path)
    edit(at(tmp_path, 0), **{field: None})
    assert "not_hu" in codes(read(tmp_path))


def test_insane_padding_becomes_air(tmp_path: Path) -> None:
    """Padding stored as 63536, the unsigned form of -2000, is +62512 HU; it is read as air, and told."""
    hu = chest()
    hu[:, 0, :] = 0
    save_series(tmp_path, hu, PixelPaddingValue=63536)
    for path in tmp_path.glob("*.dcm"):
        pixels = np.frombuffer(pydicom.dcmread(path).PixelData, "<u2").reshape(ROWS, COLUMNS).copy()
        pixels[0] = 63536
        edit(path, PixelData=pixels.tobytes())
    source = read(tmp_path)
    assert (source.array[:, 0] == -1024).all()
    np.testing.assert_array_equal(source.array[:, 1:], hu[:, 1:])
    assert codes(source) == ["padding"]


def test_sane_padding_is_kept(tmp_path: Path) -> None:
    """Padding of 0 stored, -1024 HU, is left as it is; so is tissue when the padding value is a plausible one."""
    hu = chest()
    hu[:, 0, :] = -1024
    save_series(tmp_path, hu, PixelPaddingValue=0)
    source = read(tmp_path)
    np.testing.assert_array_equal(source.array, hu)
    assert source.flags == ()


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"SliceThickness": 2.5}, "slice_overlap"),
        ({"SliceThickness": 0.6}, "slice_gaps"),
        ({"ContrastBolusAgent": "OMNIPAQUE"}, "contrast"),
        ({"LossyImageCompression": "01"}, "lossy"),
    ],
)
def test_flags_of_the_acquisition(tmp_path: Path, changes: dict[str, Any], code: str) -> None:
    """Overlap, gaps between slices, contrast agent and lossy compression are told."""
    save_series(tmp_path, **changes)
    assert codes(read(tmp_path)) == [code]


def test_no_contrast_in_words(tmp_path: Path) -> None:
    """NONE as contrast agent is none."""
    save_series(tmp_path, ContrastBolusAgent="NONE")
    assert read(tmp_path).flags == ()


def test_damaged_file_names_itself(tmp_path: Path) -> None:
    """A file that is DICOM for 132 bytes and noise after is refused by its base name."""
    save_series(tmp_path)
    noise = np.random.default_rng(3).integers(0, 256, 3000, np.uint8).tobytes()
    (tmp_path / "noise.dcm").write_bytes(bytes(128) + b"DICM" + noise)
    with pytest.raises(ReadError) as caught:
        read_volume(tmp_path)
    assert caught.value.code == "E_HEADER_SYNTAX"
    assert caught.value.file == "noise.dcm"
    assert str(tmp_path) not in str(caught.value)


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_cut_file_at_the_end_is_not_passed_over(tmp_path: Path, share: float) -> None:
    """A half copied last slice refuses the series, whether its header or its pixels break off."""
    save_series(tmp_path)
    path = at(tmp_path, N_SLICES - 1)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ReadError) as caught:
        read_volume(tmp_path)
    assert caught.value.code in ("E_HEADER_SYNTAX", "E_KEY_MISSING", "E_DATA_SIZE", "E_DATA_CORRUPT")
    assert caught.value.file == path.name


def test_files_that_are_no_images_are_passed_over(tmp_path: Path) -> None:
    """Text files and DICOM objects without pixels do not disturb."""
    hu = save_series(tmp_path)
    (tmp_path / "README.txt").write_text("x" * 500)
    (tmp_path / "empty").write_bytes(b"")
    report = dataset(hu[0], 0, Rows=None, Columns=None, PixelData=None, Modality="SR", storage=BasicTextSRStorage)
    report.save_as(tmp_path / "report.dcm")
    np.testing.assert_array_equal(read(tmp_path).array, hu)


def test_folder_without_images(tmp_path: Path) -> None:
    """An empty folder has no DICOM files and says so."""
    assert list(dicom_files(tmp_path)) == []
    assert not is_dicom_file(tmp_path)
    assert refusal(tmp_path).code == "E_DATA_MISSING"
