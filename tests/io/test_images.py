"""The one door: every format ends as the same HU on the same LPS grid, or as a refusal."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from napari_alnct.core.errors import ReadError
from napari_alnct.core.geometry import Geometry
from napari_alnct.io import images
from napari_alnct.io.guarded import run_guarded
from napari_alnct.io.images import ReadOptions, expand_scans, find_scans, is_scan, read_mask, read_volume
from napari_alnct.io.metaimage import write_metaimage
from napari_alnct.io.nrrd import read_nrrd
from napari_alnct.io.source_image import SourceImage

SPACING_XYZ, ORIGIN_XYZ = (0.7, 0.8, 1.25), (-100.125, 50.5, -300.75)
LEFT_ALLOWED = ReadOptions(allow_left_handed=True)
SUFFIXES = (".mhd", ".mha", ".nii", ".nii.gz", ".nrrd", ".nhdr")


def chest(shape: tuple[int, int, int] = (5, 6, 8)) -> np.ndarray:
    """Give distinct voxels that pass as a chest CT: half lung, half tissue."""
    values = np.arange(np.prod(shape)).reshape(shape)
    return np.where(np.arange(shape[2]) < shape[2] // 2, values - 950, values + 30).astype(np.int16)


def as_image(array: np.ndarray, direction: tuple[float, ...] = (1, 0, 0, 0, 1, 0, 0, 0, 1)) -> sitk.Image:
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(SPACING_XYZ)
    image.SetOrigin(ORIGIN_XYZ)
    image.SetDirection(direction)
    return image


def save(path: Path, array: np.ndarray | None = None, **keywords: object) -> Path:
    sitk.WriteImage(as_image(chest() if array is None else array, **keywords), str(path))
    return path


def signed_permutations() -> list[tuple[float, ...]]:
    """Give the 48 matrices with one +1 or -1 in each row and column."""
    found = []
    for order, signs in itertools.product(itertools.permutations(range(3)), itertools.product((1, -1), repeat=3)):
        matrix = np.zeros((3, 3))
        matrix[list(order), range(3)] = signs
        found.append(tuple(matrix.ravel().tolist()))
    return found


def assert_same_scan(hu: np.ndarray, geometry: Geometry, oracle: sitk.Image) -> None:
    """Check that each corner of the image lies where SimpleITK says, with its value, and the way back."""
    for ends in itertools.product((0, 1), repeat=3):
        index_xyz = [int(end * (size - 1)) for end, size in zip(ends, oracle.GetSize(), strict=True)]
        world = oracle.TransformContinuousIndexToPhysicalPoint([float(k) for k in index_xyz])
        index_zyx = geometry.world_to_index(world)
        nearest = np.rint(index_zyx)
        np.testing.assert_allclose(geometry.index_to_world(nearest), world, rtol=0, atol=1e-6)
        np.testing.assert_allclose(geometry.world_to_index(geometry.index_to_world(nearest)), nearest, atol=1e-9)
        assert hu[tuple(nearest.astype(int))] == oracle[index_xyz]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_format_gives_the_same_scan(tmp_path: Path, suffix: str) -> None:
    """HU, LPS grid and name agree with SimpleITK for each format."""
    path = save(tmp_path / f"case one{suffix}", direction=(-1, 0, 0, 0, -1, 0, 0, 0, 1))
    volume = read_volume(path)
    assert_same_scan(volume.hu, volume.geometry, sitk.ReadImage(str(path)))
    assert volume.geometry.is_lps
    assert volume.hu.dtype == np.int16
    assert volume.hu.flags.c_contiguous
    assert volume.series_uid == "case one"
    np.testing.assert_array_equal(volume.in_source_order(volume.hu), chest())


@pytest.mark.parametrize("direction", signed_permutations(), ids=lambda d: "".join(f"{v:+.0f}" for v in d))
def test_all_48_axis_permutations(tmp_path: Path, direction: tuple[float, ...]) -> None:
    """MetaImage and NRRD: the 24 mirrored ones need permission; all give SimpleITK's positions to 1e-6 mm."""
    image = as_image(chest(), direction)
    is_mirrored = np.linalg.det(np.reshape(direction, (3, 3))) < 0
    sitk.WriteImage(image, str(tmp_path / "a.mha"))
    sitk.WriteImage(image, str(tmp_path / "a.nrrd"))
    if is_mirrored:
        with pytest.raises(ReadError, match="E_DIRECTION"):
            read_volume(tmp_path / "a.mha")
    volume = read_volume(tmp_path / "a.mha", LEFT_ALLOWED)
    assert_same_scan(volume.hu, volume.geometry, image)
    assert volume.has_flag("left_handed") == is_mirrored
    source = SourceImage.from_plain(read_nrrd(str(tmp_path / "a.nrrd")))
    assert source.geometry.is_left_handed == is_mirrored
    np.testing.assert_allclose(source.geometry.index_to_world_matrix, volume.source_geometry.index_to_world_matrix)
    assert source.geometry.origin_xyz_mm == ORIGIN_XYZ


def test_nibabel_as_second_oracle(tmp_path: Path) -> None:
    """A left-handed NIfTI file of nibabel, as dcm2niix writes them, is read without permission and in place."""
    affine = np.array([[-0.7, 0, 0, 100.0], [0, 0.8, 0, -50], [0, 0, 1.25, -300], [0, 0, 0, 1]])
    hu = chest()
    nibabel.save(nibabel.Nifti1Image(hu.transpose(), affine), tmp_path / "a.nii.gz")
    volume = read_volume(tmp_path / "a.nii.gz")
    oracle = nibabel.as_closest_canonical(nibabel.load(tmp_path / "a.nii.gz"))  # RAS order
    np.testing.assert_array_equal(volume.hu, np.asarray(oracle.dataobj).transpose()[:, ::-1, ::-1])
    x, y, z = volume.geometry.index_to_world([0, 0, 0])
    far = oracle.affine @ [*(np.array(oracle.shape) - 1), 1]
    np.testing.assert_allclose((-x, -y, z), (far[0], far[1], oracle.affine[2, 3]), atol=1e-4)
    assert not volume.has_flag("left_handed")


def test_mirrored_nrrd_at_the_door(tmp_path: Path) -> None:
    """A mirrored NRRD scan is refused, or read with a flag when allowed or when a person is asked."""
    path = save(tmp_path / "a.nrrd", direction=(-1, 0, 0, 0, 1, 0, 0, 0, 1))
    with pytest.raises(ReadError, match=r"right-handed.*allow left-handed scans.*E_DIRECTION"):
        read_volume(path)
    for options in (LEFT_ALLOWED, ReadOptions(ask=True)):
        assert read_volume(path, options).has_flag("left_handed")


@pytest.mark.parametrize("suffix", [".mha", ".nii"])
def test_oblique_is_refused_with_what_to_do(tmp_path: Path, suffix: str) -> None:
    """A grid turned by 5 degrees is refused with the angle and a way out."""
    c, s = float(np.cos(np.radians(5))), float(np.sin(np.radians(5)))
    path = save(tmp_path / f"a{suffix}", direction=(c, -s, 0, s, c, 0, 0, 0, 1))
    with pytest.raises(ReadError, match=r"5\.00 degrees; resample it.*E_DIRECTION"):
        read_volume(path)
    with pytest.raises(ReadError, match="E_DIRECTION"):
        read_mask(path)


@pytest.mark.parametrize("suffix", [".mha", ".nrrd"])
def test_not_hu(tmp_path: Path, suffix: str) -> None:
    """Voxels that are no chest CT are refused with the reason; allowed or asked, they keep one flag."""
    path = save(tmp_path / f"a{suffix}", np.full((4, 4, 4), 100, np.int16))
    with pytest.raises(ReadError, match=r"5th percentile 100.*W_NOT_HU"):
        read_volume(path)
    for options in (ReadOptions(allow_non_hu=True), ReadOptions(ask=True)):
        assert [flag.code for flag in read_volume(path, options).flags] == ["not_hu"]


def test_float_voxels_are_rounded(tmp_path: Path) -> None:
    """Floating-point HU become the nearest int16."""
    path = save(tmp_path / "a.nii", chest().astype(np.float32) + 0.4)
    np.testing.assert_array_equal(read_volume(path).hu, chest())


@pytest.mark.parametrize("suffix", [".raw", ".zraw"])
def test_data_file_opens_its_header(tmp_path: Path, suffix: str) -> None:
    """The voxel file of a .mhd stands for the scan; alone it names the missing header."""
    geometry = Geometry(shape_zyx=(5, 6, 8), spacing_zyx_mm=(1.25, 0.8, 0.7))
    write_metaimage(tmp_path / "a.mhd", chest(), geometry, compress_level=1 if suffix == ".zraw" else None)
    assert read_volume(tmp_path / f"a{suffix}").series_uid == "a"
    (tmp_path / "a.mhd").unlink()
    with pytest.raises(ReadError, match=r"a\.mhd.*E_DATA_MISSING"):
        read_volume(tmp_path / f"a{suffix}")


def test_contradicting_header_entries_become_flags(tmp_path: Path) -> None:
    """What the MetaImage reader warns of is told with the volume."""
    path = save(tmp_path / "a.mhd")
    path.write_text(path.read_text().replace("ElementSpacing", "ElementSize = 9 9 9\nElementSpacing"))
    assert [flag.code for flag in read_volume(path).flags] == ["header"]


def test_paths_that_are_no_scans(tmp_path: Path) -> None:
    """Absent, empty and foreign paths each get their code."""
    (tmp_path / "notes.txt").write_text("x" * 300)
    (tmp_path / "empty").mkdir()
    for name, code in (("nothing.mhd", "E_DATA_MISSING"), ("notes.txt", "E_UNSUPPORTED"), ("empty", "E_DATA_MISSING")):
        with pytest.raises(ReadError) as caught:
            read_volume(tmp_path / name)
        assert caught.value.code == code
        assert str(tmp_path) not in str(caught.value)
        assert not is_scan(tmp_path / name)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
@pytest.mark.parametrize("name", ["pipe", "pipe.nii", "pipe.mhd"])
def test_named_pipe_is_refused_at_once(tmp_path: Path, name: str) -> None:
    """A pipe that nobody writes to does not block, whatever its suffix."""
    os.mkfifo(tmp_path / name)
    with pytest.raises(ReadError, match="E_NOT_REGULAR"):
        read_volume(tmp_path / name)


def test_mask_keeps_its_labels(tmp_path: Path) -> None:
    """Labels 3, 4, 5 of LUNA16 come back on the LPS grid, from any integer or float type, without the HU step."""
    labels = np.zeros((5, 6, 8), np.uint8)
    labels[1:3, 2:4, 1:3], labels[3, 2, 5], labels[4, 5, 7] = 3, 4, 5
    for name, kind in (("a.mha", np.uint8), ("b.nii.gz", np.int16), ("c.nrrd", np.float32)):
        image = as_image(labels.astype(kind), (-1, 0, 0, 0, -1, 0, 0, 0, 1))
        sitk.WriteImage(image, str(tmp_path / name))
        mask, geometry = read_mask(tmp_path / name)
        assert mask.dtype == np.uint8
        assert geometry.is_lps
        assert_same_scan(mask, geometry, image)


@pytest.mark.parametrize("value", [-1, 256, 0.5])
def test_scan_is_no_mask(tmp_path: Path, value: float) -> None:
    """Values that no label can have are refused."""
    array = np.zeros((3, 3, 3), np.float32)
    array[1, 1, 1] = value
    with pytest.raises(ReadError, match="E_VALUES"):
        read_mask(save(tmp_path / "a.mha", array))


def test_death_of_the_reader_is_an_error_of_the_scan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A child that vanishes while reading gives E_READER_DIED; the next scan is read."""
    path = save(tmp_path / "a.nii")
    monkeypatch.setattr(
        images, "run_guarded", lambda _, __, **limits: run_guarded(os._exit, [9], file="a.nii", **limits)
    )
    with pytest.raises(ReadError, match=r"a\.nii.*status 9.*E_READER_DIED"):
        read_volume(path)
    monkeypatch.undo()
    np.testing.assert_array_equal(read_volume(path).hu, chest())


def test_finding_scans(tmp_path: Path) -> None:
    """Scans of all formats are found in order; masks, hidden files and data files are not."""
    wanted = ["a/one.mhd", "a/two.nii.gz", "b/c/three.nrrd", "four.mha"]
    others = [
        "seg-lungs-LUNA16/one.mhd",
        "masks/one.mha",
        "a/one_lung.mha",
        "a/.hidden.mhd",
        "a/readme.txt",
        ".git/x.mha",
    ]
    for name in (*wanted, *others):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(save(tmp_path / "source.mha"), tmp_path / name)
    (tmp_path / "source.mha").unlink()
    series = tmp_path / "patient" / "series"
    series.mkdir(parents=True)
    for name in ("1", "2"):
        (series / name).write_bytes(bytes(128) + b"DICM")
    expected = sorted([*(tmp_path / name for name in wanted), series])
    assert find_scans(tmp_path) == expected
    assert all(map(is_scan, expected))
    assert expand_scans([tmp_path / "a", series, tmp_path / "absent.mhd"]) == [
        tmp_path / "a/one.mhd",
        tmp_path / "a/two.nii.gz",
        series,
        tmp_path / "absent.mhd",
    ]


def test_each_scan_is_expanded_once(tmp_path: Path) -> None:
    """A shell pattern names header and voxels, a folder and a file in it name one scan twice: it is searched once."""
    header = save(tmp_path / "scan.mhd")
    assert expand_scans([header, tmp_path / "scan.raw", tmp_path, header]) == [header]
    assert expand_scans([tmp_path / "scan.raw"]) == [header]


def test_the_present_folder_has_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``.`` and ``..`` stand for folders whose names appear in messages and tables."""
    series = tmp_path / "series"
    (series / "inner").mkdir(parents=True)
    (series / "1").write_bytes(bytes(128) + b"DICM")
    monkeypatch.chdir(series)
    assert expand_scans([Path(".")]) == [series]
    monkeypatch.chdir(series / "inner")
    assert expand_scans([Path("..")]) == [series]


def test_folder_without_scans_is_told(tmp_path: Path) -> None:
    """An empty folder given as input is an error, not an empty result."""
    with pytest.raises(ReadError, match="E_DATA_MISSING"):
        expand_scans([tmp_path])


def test_door_loads_no_heavy_library() -> None:
    """Importing the door loads neither torch nor a GUI, and neither pydicom nor SimpleITK."""
    code = (
        "import sys, napari_alnct.io.images\n"
        "print([name for name in ('torch', 'napari', 'qtpy', 'pydicom', 'SimpleITK', 'scipy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == "[]"


@pytest.mark.data
def test_real_scans_have_the_geometry_of_simpleitk(data_pack: Path) -> None:
    """Both LUNA16 scans of the data pack: same voxels and places as SimpleITK, and found by `find_scans`."""
    paths = find_scans(data_pack / "luna16")
    assert len(paths) == 2
    for path in paths:
        volume, oracle = read_volume(path), sitk.ReadImage(str(path))
        assert volume.series_uid == path.stem
        assert not volume.has_flag("not_hu")
        assert_same_scan(volume.hu, volume.geometry, oracle)
