"""Opening scans and tables: every format lands at the same mm, doubts are told, wrong tables are refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Layer

from napari_alnct.core.errors import ReadError, TableError
from napari_alnct.core.findings import Candidate, ReferenceNodule
from napari_alnct.core.volume import QualityFlag, Volume
from napari_alnct.io.metaimage_writer import write_metaimage
from napari_alnct.io.tables import write_annotations, write_candidates
from napari_alnct.plugin import _reader
from napari_alnct.plugin._layers import ct_layer, volume_of

CENTRE_XYZ_MM = (12.0, -31.0, 44.0)
PRONE = (-1, 0, 0, 0, -1, 0, 0, 0, 1)


@pytest.fixture
def warnings_shown(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Collect the sentences that the viewer would show."""
    shown: list[str] = []
    monkeypatch.setattr(_reader, "warn", shown.append)
    return shown


@pytest.fixture
def open_viewer(monkeypatch: pytest.MonkeyPatch) -> ViewerModel:
    """Make a viewer without a window the current one."""
    viewer = ViewerModel()
    monkeypatch.setattr(_reader, "current_viewer", lambda: viewer)
    return viewer


def read(path: Path) -> list:
    """Open a path as napari does."""
    reader = _reader.get_reader(str(path))
    assert reader is not None
    return reader(str(path))


def write_scan(volume: Volume, path: Path) -> Path:
    """Write a scan in the orientation of its file, by our writer or by SimpleITK."""
    array = volume.in_source_order(volume.hu)
    if path.suffix in (".mhd", ".mha"):
        write_metaimage(path, array, volume.source_geometry)
        return path
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(array)
    image.SetSpacing(volume.source_geometry.spacing_zyx_mm[::-1])
    image.SetOrigin(volume.source_geometry.origin_xyz_mm)
    image.SetDirection(volume.source_geometry.direction)
    sitk.WriteImage(image, str(path))
    return path


@pytest.mark.parametrize("name", ["a.mhd", "a.mha", "a.nii", "a.nii.gz", "a.nrrd", "a.nhdr"])
def test_every_format_puts_the_nodule_at_the_same_mm(
    ball: Callable[..., Volume], tmp_path: Path, warnings_shown: list[str], name: str
) -> None:
    """A flipped scan in any format: the bright ball is within half a voxel of its true world position."""
    path = write_scan(ball(PRONE), tmp_path / name)
    ((data, attributes, kind),) = read(path)
    layer = Layer.create(data, attributes, kind)
    centre = layer.data_to_world(np.argwhere(layer.data > -500).mean(axis=0))
    off_in_voxels = (np.asarray(centre) - CENTRE_XYZ_MM[::-1]) / layer.scale
    assert np.abs(off_in_voxels).max() < 0.5
    assert layer.data.dtype == np.int16


def test_zraw_opens_its_header(ball: Callable[..., Volume], tmp_path: Path, warnings_shown: list[str]) -> None:
    """Choosing the voxel file of an .mhd opens the scan."""
    write_scan(ball(), tmp_path / "a.mhd")
    ((_, attributes, _),) = read(tmp_path / "a.zraw")
    assert attributes["metadata"]["alnct_volume"].series_uid == "a"


def test_dicom_folder_and_file_open_the_series(
    ball: Callable[..., Volume], tmp_path: Path, warnings_shown: list[str]
) -> None:
    """A folder of DICOM slices, one slice of it, or all slices opened "as stack" give the scan at its true place."""
    write_dicom(ball(), tmp_path)
    slices = sorted(str(path) for path in tmp_path.iterdir())
    for chosen in (str(tmp_path), slices[0], slices):
        reader = _reader.get_reader(chosen)
        assert reader is not None
        ((data, attributes, kind),) = reader(chosen)
        layer = Layer.create(data, attributes, kind)
        centre = layer.data_to_world(np.argwhere(layer.data > -500).mean(axis=0))
        assert np.abs((np.asarray(centre) - CENTRE_XYZ_MM[::-1]) / layer.scale).max() < 0.5


def write_dicom(volume: Volume, folder: Path) -> None:
    """Write an LPS scan as a CT series, one file per slice."""
    import pydicom
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

    series, study, frame = generate_uid(), generate_uid(), generate_uid()
    _, sy, sx = volume.geometry.spacing_zyx_mm
    for k, plane in enumerate(volume.hu):
        ds = pydicom.Dataset()
        ds.SOPClassUID, ds.SOPInstanceUID, ds.Modality = CTImageStorage, generate_uid(), "CT"
        ds.SeriesInstanceUID, ds.StudyInstanceUID, ds.FrameOfReferenceUID = series, study, frame
        ds.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        ds.ImagePositionPatient = [round(float(v), 6) for v in volume.geometry.index_to_world([k, 0, 0])]
        ds.PixelSpacing, ds.SliceThickness, ds.InstanceNumber = [sy, sx], volume.geometry.spacing_zyx_mm[0], k + 1
        ds.Rows, ds.Columns = plane.shape
        ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 1
        ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
        ds.RescaleIntercept, ds.RescaleSlope = 0, 1
        ds.PixelData = plane.astype("<i2").tobytes()
        ds.file_meta = pydicom.dataset.FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ds.save_as(folder / f"{k:03d}.dcm", enforce_file_format=True)


def test_voxels_that_are_not_hu_open_with_a_warning(
    ball: Callable[..., Volume], tmp_path: Path, warnings_shown: list[str]
) -> None:
    """The viewer shows a scan without lung or tissue values, and says so."""
    volume = ball()
    write_metaimage(tmp_path / "a.mha", (volume.hu // 4).astype(np.int16), volume.geometry)
    read(tmp_path / "a.mha")
    assert any("Hounsfield" in text for text in warnings_shown)


def test_left_handed_scan_opens_with_a_warning(
    ball: Callable[..., Volume], tmp_path: Path, warnings_shown: list[str]
) -> None:
    """The viewer shows a scan with mirrored axes at its true place, and says so."""
    path = write_scan(ball((-1, 0, 0, 0, 1, 0, 0, 0, 1)), tmp_path / "a.mha")
    ((data, attributes, kind),) = read(path)
    layer = Layer.create(data, attributes, kind)
    centre = layer.data_to_world(np.argwhere(layer.data > -500).mean(axis=0))
    assert np.abs((np.asarray(centre) - CENTRE_XYZ_MM[::-1]) / layer.scale).max() < 0.5
    assert any("mirror" in text or "left-handed" in text for text in warnings_shown)


def test_no_series_identifier_is_shown(
    ball: Callable[..., Volume], tmp_path: Path, warnings_shown: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder of several series: what the viewer says of it holds hashes, which screenshots may show."""
    text = "The folder holds 2 series; this is 1.2.840.113619.2.1. Others: 1.2.840.113619.2.2 (CT, 9 images)."
    volume = ball().with_flags(QualityFlag("several_series", text))
    monkeypatch.setattr(_reader, "read_volume", lambda *_: volume)
    _reader.read_scan(tmp_path)
    assert "The folder holds 2 series" in warnings_shown[-1]
    assert "113619" not in "".join(warnings_shown)


def test_plain_scan_opens_without_a_warning(
    ball: Callable[..., Volume], tmp_path: Path, warnings_shown: list[str]
) -> None:
    """An ordinary chest scan is opened in silence, also when its field of view is a padded circle."""
    volume = ball()
    hu = volume.hu.copy()
    hu[:, :8] = 40
    hu[:, -8:, :8] = -2048
    write_metaimage(tmp_path / "a.mha", hu, volume.geometry)
    read(tmp_path / "a.mha")
    assert warnings_shown == []


def test_bad_scan_is_an_error_with_a_code(tmp_path: Path) -> None:
    """A header that must not be trusted raises the reader's own sentence."""
    (tmp_path / "a.mhd").write_text("NDims = 3\n")
    with pytest.raises(ReadError, match=r"a\.mhd.*\[E_"):
        read(tmp_path / "a.mhd")


@pytest.mark.parametrize("name", ["points.csv", "empty.csv", "binary.csv", "picture.png"])
def test_files_of_others_are_left_to_others(tmp_path: Path, name: str) -> None:
    """A CSV without LUNA16's columns and unknown suffixes are not ours."""
    content = {"points.csv": b"index,axis-0,axis-1\n0,1,2\n", "binary.csv": bytes(range(256))}.get(name, b"")
    (tmp_path / name).write_bytes(content)
    assert _reader.get_reader(str(tmp_path / name)) is None


def test_folder_without_dicom_is_left_to_others(tmp_path: Path) -> None:
    """A folder of other files is not ours."""
    (tmp_path / "notes.txt").write_text("hello")
    assert _reader.get_reader(str(tmp_path)) is None


def nodule(uid: str, z_mm: float = 44.0) -> ReferenceNodule:
    """Give a reference nodule of a series."""
    return ReferenceNodule(series_uid=uid, position_xyz_mm=(12.0, -31.0, z_mm), diameter_mm=16.0)


def test_annotations_go_to_the_open_scan_of_their_series(
    ball: Callable[..., Volume], tmp_path: Path, open_viewer: ViewerModel
) -> None:
    """Of a table of three series only the rows of the open scan are shown, tied to that scan."""
    volume = ball(series_uid="s2")
    open_viewer.add_layer(Layer.create(*ct_layer(volume)))
    write_annotations(tmp_path / "a.csv", [nodule("s1"), nodule("s2"), nodule("s2", 50.0), nodule("s3")])
    (layer_data,) = read(tmp_path / "a.csv")
    layer = Layer.create(*layer_data)
    assert len(layer.data) == 2
    assert volume_of(layer) is volume
    assert np.allclose(layer.data_to_world(layer.data[0]), CENTRE_XYZ_MM[::-1])


@pytest.mark.parametrize(
    ("name", "title"), [("annotations.csv", "Reference nodules"), ("annotations_excluded.csv", "Excluded findings")]
)
def test_excluded_findings_are_not_called_nodules(
    tmp_path: Path, open_viewer: ViewerModel, name: str, title: str
) -> None:
    """LUNA16's table of findings that are neither nodule nor error is named as such in the layer list."""
    write_annotations(tmp_path / name, [nodule("s1")])
    ((_, attributes, _),) = read(tmp_path / name)
    assert attributes["name"].startswith(f"{title} ")


def test_candidates_with_scores_become_marks(
    ball: Callable[..., Volume], tmp_path: Path, open_viewer: ViewerModel
) -> None:
    """A table with a probability column gives ranked marks with scores; missing diameters get a ring too."""
    open_viewer.add_layer(Layer.create(*ct_layer(ball(series_uid="s1"))))
    rows = [("s1", Candidate(position_xyz_mm=CENTRE_XYZ_MM, score=score, diameter_mm=5.0)) for score in (0.2, 0.8)]
    write_candidates(tmp_path / "c.csv", rows, columns=("seriesuid", "coordX", "coordY", "coordZ", "probability"))
    (layer_data,) = read(tmp_path / "c.csv")
    layer = Layer.create(*layer_data)
    assert list(layer.features["score"]) == [0.8, 0.2]
    assert (layer.size > 0).all()


def test_table_of_another_series_is_refused(
    ball: Callable[..., Volume], tmp_path: Path, open_viewer: ViewerModel
) -> None:
    """Marks are never drawn on a scan of another series; the message names file and remedy."""
    open_viewer.add_layer(Layer.create(*ct_layer(ball(series_uid="ZZCANARYZZ"))))
    write_annotations(tmp_path / "a.csv", [nodule("other")])
    with pytest.raises(TableError, match=r"a\.csv.*open the scan") as caught:
        read(tmp_path / "a.csv")
    assert "CANARY" not in str(caught.value)


def test_table_of_one_series_opens_without_a_scan(tmp_path: Path, open_viewer: ViewerModel) -> None:
    """With no scan open, all rows of the only series are shown at their world positions."""
    write_annotations(tmp_path / "a.csv", [nodule("s1"), nodule("s1", 60.0)])
    (layer_data,) = read(tmp_path / "a.csv")
    layer = Layer.create(*layer_data)
    assert np.allclose(layer.data_to_world(layer.data[1]), (60.0, -31.0, 12.0))


def test_table_of_many_series_needs_an_open_scan(tmp_path: Path, open_viewer: ViewerModel) -> None:
    """With no scan open, a table of two series cannot be placed."""
    write_annotations(tmp_path / "a.csv", [nodule("s1"), nodule("s2")])
    with pytest.raises(TableError, match="2 series; open one"):
        read(tmp_path / "a.csv")
