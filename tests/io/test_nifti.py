"""NIfTI: grid and voxels against SimpleITK and nibabel; damaged files refused."""

from __future__ import annotations

import gzip
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from napari_alnct.core.errors import ReadError
from napari_alnct.core.geometry import Geometry
from napari_alnct.io.nifti import read_nifti
from napari_alnct.io.source_image import SourceImage

RAS_TO_LPS = np.array([-1.0, -1.0, 1.0])
RNG = np.random.default_rng(7)
CUBE = RNG.integers(-1000, 1000, (4, 5, 6)).astype(np.int16)
AFFINE = np.array([[-0.7, 0, 0, 100.5], [0, -0.8, 0, 90.25], [0, 0, 1.25, -300], [0, 0, 0, 1.0]])


def read(path: Path) -> SourceImage:
    return SourceImage.from_plain(read_nifti(str(path)))


def save(path: Path, array_zyx: np.ndarray, affine: np.ndarray | None = AFFINE, **fields: object) -> Path:
    """Write with nibabel, then set header fields."""
    image = nibabel.Nifti1Image(array_zyx.transpose(), affine)
    for key, value in fields.items():
        image.header[key] = value
    nibabel.save(image, path)
    return path


def patch(path: Path, offset: int, data: bytes) -> None:
    """Overwrite bytes of an uncompressed file."""
    content = bytearray(path.read_bytes())
    content[offset : offset + len(data)] = data
    path.write_bytes(content)


def assert_places_agree(geometry: Geometry, affine_ras: np.ndarray, tolerance_mm: float = 1e-6) -> None:
    """Compare the world position of every corner with an affine of nibabel."""
    for index_xyz in np.ndindex(2, 2, 2):
        index = np.multiply(index_xyz, np.subtract(geometry.shape_zyx[::-1], 1))
        expected = (affine_ras @ [*index, 1])[:3] * RAS_TO_LPS
        np.testing.assert_allclose(geometry.index_to_world(index[::-1]), expected, atol=tolerance_mm)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_nibabel_as_oracle(tmp_path: Path, suffix: str) -> None:
    """Voxels and positions are those of nibabel, RAS turned into LPS."""
    path = save(tmp_path / f"a{suffix}", CUBE)
    source, oracle = read(path), nibabel.load(path)
    np.testing.assert_array_equal(source.array, np.asarray(oracle.dataobj).transpose())
    assert source.array.dtype == np.int16
    assert_places_agree(source.geometry, oracle.affine)


@pytest.mark.parametrize("direction", [(1, 0, 0, 0, 1, 0, 0, 0, 1), (0, 0, -1, 1, 0, 0, 0, -1, 0)], ids=str)
def test_simpleitk_as_oracle(tmp_path: Path, direction: tuple[float, ...]) -> None:
    """A file of SimpleITK has the same world positions here and there."""
    image = sitk.GetImageFromArray(CUBE)
    image.SetSpacing((0.7, 0.8, 1.25))
    image.SetOrigin((-10.125, 20.5, -300.75))
    image.SetDirection(direction)
    sitk.WriteImage(image, str(tmp_path / "a.nii.gz"))
    source, oracle = read(tmp_path / "a.nii.gz"), sitk.ReadImage(str(tmp_path / "a.nii.gz"))
    np.testing.assert_array_equal(source.array, CUBE)
    for index in ((0, 0, 0), (5, 4, 3), (1.25, -2.5, 3.75)):
        expected = oracle.TransformContinuousIndexToPhysicalPoint(index)
        np.testing.assert_allclose(source.geometry.index_to_world(index[::-1]), expected, atol=1e-6)


def test_nifti2(tmp_path: Path) -> None:
    """NIfTI-2 is read with the same result as NIfTI-1."""
    nibabel.save(nibabel.Nifti2Image(CUBE.transpose(), AFFINE), tmp_path / "two.nii")
    source = read(tmp_path / "two.nii")
    np.testing.assert_array_equal(source.array, CUBE)
    assert_places_agree(source.geometry, AFFINE)


def test_big_endian(tmp_path: Path) -> None:
    """A big-endian file has the same voxels and places, in native byte order."""
    image = nibabel.Nifti1Image(CUBE.transpose(), AFFINE).as_reoriented([[0, 1], [1, 1], [2, 1]])
    header = image.header.as_byteswapped(">")
    nibabel.save(nibabel.Nifti1Image(CUBE.transpose(), AFFINE, header), tmp_path / "big.nii")
    assert (tmp_path / "big.nii").read_bytes()[:4] == (348).to_bytes(4, "big")
    source = read(tmp_path / "big.nii")
    np.testing.assert_array_equal(source.array, CUBE)
    assert source.array.dtype == np.dtype(np.int16)
    assert_places_agree(source.geometry, AFFINE, 1e-4)


@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i4", "u4", "f4", "f8"])
def test_number_types(tmp_path: Path, dtype: str) -> None:
    """Every type of number that scans and masks come in is read as it is."""
    array = (np.abs(CUBE) % 100).astype(dtype)
    found = read(save(tmp_path / "a.nii", array)).array
    np.testing.assert_array_equal(found, array)
    assert found.dtype == array.dtype


def test_slope_and_intercept(tmp_path: Path) -> None:
    """Stored 0 and 1000 with slope 0.5 and intercept -100 are -100 and 400."""
    array = np.zeros((2, 2, 2), np.int16)
    array[0, 0, 1] = 1000
    path = save(tmp_path / "a.nii", array)
    patch(path, 112, np.array([0.5, -100], "<f4").tobytes())
    found = read(path).array
    assert found[0, 0, 0] == -100
    assert found[0, 0, 1] == 400


def test_qform_alone(tmp_path: Path) -> None:
    """Without a sform the quaternion gives the grid, oblique and mirrored ones too."""
    angle = np.radians(20)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, -1.0]])
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = turn * [0.7, 0.8, 1.25], (5, 6, 7)
    image = nibabel.Nifti1Image(CUBE.transpose(), None)
    image.set_qform(affine, 1)
    image.set_sform(None, 0)
    nibabel.save(image, tmp_path / "q.nii")
    assert_places_agree(read(tmp_path / "q.nii").geometry, nibabel.load(tmp_path / "q.nii").affine, 1e-4)


def test_half_turn_in_a_rounded_quaternion_is_exact(tmp_path: Path) -> None:
    """(0, 0, 0.99999994), half a turn in float32, is axis-aligned; taken literally it is 0.04 degrees off."""
    image = nibabel.Nifti1Image(CUBE.transpose(), None)
    image.set_qform(np.diag([-1.0, -1.0, 1.0, 1.0]), 1)
    image.set_sform(None, 0)
    nibabel.save(image, tmp_path / "q.nii")
    patch(tmp_path / "q.nii", 256, np.array([0, 0, 0.99999994], "<f4").tobytes())
    assert read(tmp_path / "q.nii").geometry.is_lps


@pytest.mark.parametrize(("code", "factor"), [(2, 1.0), (3, 0.001), (1, 1000.0)], ids=["mm", "micrometre", "metre"])
def test_units(tmp_path: Path, code: int, factor: float) -> None:
    """Metres and micrometres are turned into millimetres."""
    affine = AFFINE.copy()
    affine[:3] /= factor
    path = save(tmp_path / "a.nii", CUBE, affine)
    patch(path, 123, bytes([code]))
    assert_places_agree(read(path).geometry, AFFINE, 1e-4)


def test_trailing_axis_of_one(tmp_path: Path) -> None:
    """A fourth axis of length 1 is no axis."""
    nibabel.save(nibabel.Nifti1Image(CUBE.transpose()[..., None], AFFINE), tmp_path / "a.nii")
    np.testing.assert_array_equal(read(tmp_path / "a.nii").array, CUBE)


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def _extend(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0\0")


DAMAGES = {
    "empty": (lambda path: path.write_bytes(b""), "E_HEADER_SYNTAX"),
    "text": (lambda path: path.write_text("<html>" * 100), "E_HEADER_SYNTAX"),
    "half a header": (lambda path: path.write_bytes(path.read_bytes()[:200]), "E_HEADER_SYNTAX"),
    "bytes missing": (_truncate, "E_DATA_SIZE"),
    "bytes left over": (_extend, "E_DATA_SIZE"),
    "pair of files": (lambda path: patch(path, 344, b"ni1\0"), "E_UNSUPPORTED"),
    "no orientation": (lambda path: patch(path, 252, b"\0\0\0\0"), "E_DIRECTION"),
    "transforms disagree": (lambda path: patch(path, 268, np.array([7], "<f4").tobytes()), "E_DIRECTION"),
    "NaN in the transform": (lambda path: patch(path, 280, np.array([np.nan], "<f4").tobytes()), "E_DIRECTION"),
    "four axes": (lambda path: patch(path, 40, np.array([4, 6, 5, 2, 2], "<i2").tobytes()), "E_NDIMS"),
    "two axes": (lambda path: patch(path, 40, np.array([2, 30, 4], "<i2").tobytes()), "E_NDIMS"),
    "negative size": (lambda path: patch(path, 42, np.array([-6], "<i2").tobytes()), "E_DIMS"),
    "huge size": (lambda path: patch(path, 42, np.array([32767] * 3, "<i2").tobytes()), "E_DIMS"),
    "too big": (lambda path: patch(path, 42, np.array([4096] * 3, "<i2").tobytes()), "E_TOO_BIG"),
    "complex numbers": (lambda path: patch(path, 70, np.array([32], "<i2").tobytes()), "E_TYPE"),
    "voxels inside the header": (lambda path: patch(path, 108, np.array([100], "<f4").tobytes()), "E_HEADER_SYNTAX"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damaged_files_are_refused(tmp_path: Path, name: str) -> None:
    """Each damage gives its code; nothing is read as voxels."""
    image = nibabel.Nifti1Image(CUBE.transpose(), AFFINE)
    image.set_qform(AFFINE, 1)
    image.set_sform(AFFINE, 1)
    nibabel.save(image, tmp_path / "a.nii")
    damage, code = DAMAGES[name]
    damage(tmp_path / "a.nii")
    with pytest.raises(ReadError) as caught:
        read(tmp_path / "a.nii")
    assert caught.value.code == code
    assert caught.value.file == "a.nii"


def test_shear_is_refused(tmp_path: Path) -> None:
    """A sheared sform is no grid."""
    affine = AFFINE.copy()
    affine[0, 1] = 0.2
    image = nibabel.Nifti1Image(CUBE.transpose(), None)
    image.set_sform(affine, 1)
    nibabel.save(image, tmp_path / "a.nii")
    with pytest.raises(ReadError, match="E_DIRECTION"):
        read(tmp_path / "a.nii")


def test_not_a_number_is_refused(tmp_path: Path) -> None:
    """One NaN voxel refuses the scan and is counted."""
    array = CUBE.astype(np.float32)
    array[1, 2, 3] = np.nan
    with pytest.raises(ReadError, match=r"1 that are NaN.*E_VALUES"):
        read(save(tmp_path / "a.nii", array))


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda data: data[: len(data) // 2], "E_DATA_CORRUPT"),
        (lambda data: data[:60] + bytes([data[60] ^ 255]) + data[61:], "E_DATA_CORRUPT"),
        (lambda data: gzip.compress(gzip.decompress(data)[:-6]), "E_DATA_SIZE"),
        (lambda data: gzip.compress(gzip.decompress(data) + bytes(1 << 24)), "E_DATA_SIZE"),
        (lambda data: gzip.decompress(data), "E_DATA_CORRUPT"),
    ],
    ids=["cut", "one byte", "short", "bomb", "not compressed"],
)
def test_damaged_compression_is_refused(tmp_path: Path, change: object, code: str) -> None:
    """SimpleITK reads a cut .nii.gz as zeros; here each damage is an error."""
    path = save(tmp_path / "a.nii.gz", CUBE)
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(ReadError) as caught:
        read(path)
    assert caught.value.code == code
