"""NRRD: grid and voxels against SimpleITK; foreign files and damage refused."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from napari_alnct.core.errors import ReadError
from napari_alnct.io.nrrd import read_nrrd
from napari_alnct.io.source_image import SourceImage

CUBE = np.random.default_rng(8).integers(-1000, 1000, (4, 5, 6)).astype(np.int16)
FIELDS = {
    "type": "short",
    "dimension": "3",
    "space": "left-posterior-superior",
    "sizes": "6 5 4",
    "space directions": "(0.7,0,0) (0,0.8,0) (0,0,1.25)",
    "kinds": "domain domain domain",
    "endian": "little",
    "encoding": "raw",
    "space origin": "(-10,20.5,-300)",
}


def read(path: Path, allow_symlinks: bool = False) -> SourceImage:
    return SourceImage.from_plain(read_nrrd(str(path), allow_symlinks))


def save(path: Path, data: bytes | None = None, **changes: str | None) -> Path:
    """Write a NRRD file by hand; a field set to None is left out, ``_`` in names stands for a space."""
    fields = FIELDS | {key.replace("_", " "): value for key, value in changes.items()}
    lines = ["NRRD0004", "# by hand", *(f"{key}: {value}" for key, value in fields.items() if value is not None)]
    header = "\n".join([*lines, "note:=a key-value pair", "", ""]).encode()
    path.write_bytes(header + (CUBE.tobytes() if data is None else data))
    return path


@pytest.mark.parametrize("compressed", [False, True], ids=["raw", "gzip"])
@pytest.mark.parametrize("name", ["a.nrrd", "a.nhdr"])
def test_simpleitk_as_oracle(tmp_path: Path, name: str, compressed: bool) -> None:
    """Attached and detached files of SimpleITK have its voxels and its world positions."""
    image = sitk.GetImageFromArray(CUBE)
    image.SetSpacing((0.7, 0.8, 1.25))
    image.SetOrigin((-10.125, 20.5, -300.75))
    image.SetDirection((0, 0, -1, 1, 0, 0, 0, -1, 0))
    sitk.WriteImage(image, str(tmp_path / name), useCompression=compressed)
    source = read(tmp_path / name)
    np.testing.assert_array_equal(source.array, CUBE)
    for index in ((0, 0, 0), (5, 4, 3), (1.25, -2.5, 3.75)):
        expected = image.TransformContinuousIndexToPhysicalPoint(index)
        np.testing.assert_allclose(source.geometry.index_to_world(index[::-1]), expected, atol=1e-6)


@pytest.mark.parametrize("space", ["RAS", "right-anterior-superior", "LAS", "left-posterior-superior"])
def test_spaces(tmp_path: Path, space: str) -> None:
    """World positions of other spaces are turned into LPS as SimpleITK does."""
    path = save(tmp_path / "a.nrrd", space=space)
    source, oracle = read(path), sitk.ReadImage(str(path))
    for index in ((0, 0, 0), (5, 4, 3)):
        expected = oracle.TransformContinuousIndexToPhysicalPoint(index)
        np.testing.assert_allclose(source.geometry.index_to_world(index[::-1]), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("kind", "dtype"), [("uchar", "u1"), ("int8", "i1"), ("unsigned short", "u2"), ("int", "i4"), ("float", "f4")]
)
def test_number_types(tmp_path: Path, kind: str, dtype: str) -> None:
    """Every type of number that scans and masks come in is read as it is."""
    array = (np.abs(CUBE) % 100).astype(dtype)
    found = read(save(tmp_path / "a.nrrd", array.tobytes(), type=kind)).array
    np.testing.assert_array_equal(found, array)
    assert found.dtype == array.dtype


def test_big_endian(tmp_path: Path) -> None:
    """Big-endian voxels come in native order."""
    found = read(save(tmp_path / "a.nrrd", CUBE.astype(">i2").tobytes(), endian="big")).array
    np.testing.assert_array_equal(found, CUBE)
    assert found.dtype == np.dtype(np.int16)


REFUSED = {
    "no NRRD": ({"data": None}, "E_HEADER_SYNTAX"),
    "four axes": ({"dimension": "4"}, "E_NDIMS"),
    "no size": ({"sizes": None}, "E_KEY_MISSING"),
    "two sizes": ({"sizes": "6 5"}, "E_HEADER_SYNTAX"),
    "text as size": ({"sizes": "six 5 4"}, "E_HEADER_SYNTAX"),
    "negative size": ({"sizes": "-6 5 4"}, "E_DIMS"),
    "huge size": ({"sizes": "100000000000 5 4"}, "E_DIMS"),
    "too big": ({"sizes": "4096 4096 4096"}, "E_TOO_BIG"),
    "unknown type": ({"type": "block"}, "E_TYPE"),
    "no byte order": ({"endian": None}, "E_KEY_MISSING"),
    "text as voxels": ({"encoding": "ascii"}, "E_UNSUPPORTED"),
    "byte skip": ({"byte_skip": "-1"}, "E_UNSUPPORTED"),
    "metres": ({"space_units": '"m" "m" "m"'}, "E_UNSUPPORTED"),
    "no space": ({"space": None}, "E_KEY_MISSING"),
    "unknown space": ({"space": "scanner-xyz"}, "E_DIRECTION"),
    "no directions": ({"space_directions": None}, "E_KEY_MISSING"),
    "two directions": ({"space_directions": "(1,0,0) (0,1,0)"}, "E_DIRECTION"),
    "NaN direction": ({"space_directions": "(nan,0,0) (0,1,0) (0,0,1)"}, "E_DIRECTION"),
    "shear": ({"space_directions": "(0.7,0,0) (0.3,0.8,0) (0,0,1.25)"}, "E_DIRECTION"),
    "zero direction": ({"space_directions": "(0,0,0) (0,0.8,0) (0,0,1.25)"}, "E_SPACING"),
    "wide spacing": ({"space_directions": "(700,0,0) (0,0.8,0) (0,0,1.25)"}, "E_SPACING"),
    "no origin": ({"space_origin": None}, "E_KEY_MISSING"),
    "far origin": ({"space_origin": "(1e30,0,0)"}, "E_ORIGIN"),
    "bytes missing": ({"data": CUBE.tobytes()[:-2]}, "E_DATA_SIZE"),
    "bytes left over": ({"data": CUBE.tobytes() + b"\0"}, "E_DATA_SIZE"),
    "cut gzip": ({"data": gzip.compress(CUBE.tobytes())[:-30], "encoding": "gzip"}, "E_DATA_CORRUPT"),
    "gzip bomb": ({"data": gzip.compress(bytes(1 << 24)), "encoding": "gzip"}, "E_DATA_SIZE"),
    "foreign file": ({"data_file": "/etc/passwd"}, "E_PATH_ESCAPE"),
    "file above": ({"data_file": "../secret.raw"}, "E_PATH_ESCAPE"),
    "the header itself": ({"datafile": "a.nrrd"}, "E_PATH_ESCAPE"),
    "list of files": ({"data_file": "LIST"}, "E_UNSUPPORTED"),
    "pattern of files": ({"data_file": "slice%03d.raw 1 4 1"}, "E_UNSUPPORTED"),
    "absent file": ({"data_file": "b.raw"}, "E_DATA_MISSING"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_bad_files_are_refused(tmp_path: Path, name: str) -> None:
    """Each fault gives its code."""
    changes, code = REFUSED[name]
    path = save(tmp_path / "a.nrrd", **changes)
    if name == "no NRRD":
        path.write_bytes(b"\x89PNG" + path.read_bytes())
    with pytest.raises(ReadError) as caught:
        read(path)
    assert caught.value.code == code


def test_field_given_twice_is_refused(tmp_path: Path) -> None:
    """Two sizes contradict each other."""
    path = save(tmp_path / "a.nrrd")
    path.write_bytes(path.read_bytes().replace(b"kinds:", b"sizes: 3 3 3\nkinds:"))
    with pytest.raises(ReadError, match="E_DUP_KEY"):
        read(path)


@pytest.mark.skipif(os.name == "nt", reason="needs symbolic links")
def test_symlink_out_of_the_folder(tmp_path: Path) -> None:
    """A data file that leads out of the folder is read only when allowed."""
    folder = tmp_path / "scan"
    folder.mkdir()
    (tmp_path / "far.raw").write_bytes(CUBE.tobytes())
    (folder / "b.raw").symlink_to(tmp_path / "far.raw")
    path = save(folder / "a.nhdr", b"", data_file="b.raw")
    with pytest.raises(ReadError, match=r"allow symbolic links \[E_PATH_ESCAPE\]"):  # the words that bring the flag
        read(path)
    np.testing.assert_array_equal(read(path, allow_symlinks=True).array, CUBE)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_named_pipe_is_refused(tmp_path: Path) -> None:
    """A pipe that nobody writes to is refused at once, as header and as data file."""
    os.mkfifo(tmp_path / "b.raw")
    for path in (save(tmp_path / "a.nhdr", b"", data_file="b.raw"), tmp_path / "b.raw"):
        with pytest.raises(ReadError, match="E_NOT_REGULAR"):
            read(path)
