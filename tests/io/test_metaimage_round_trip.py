"""Writing and reading MetaImage: what comes back is what went in, and SimpleITK agrees."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray

from napari_alnct.core.geometry import Geometry
from napari_alnct.io.metaimage import read_header, read_metaimage, write_metaimage

DTYPES = ("int8", "uint8", "int16", "uint16", "int32", "float32", "float64")
KINDS = [(".mhd", 1), (".mhd", None), (".mha", 1), (".mha", None)]
KIND_IDS = ["zraw", "raw", "mha-zlib", "mha-raw"]
SHAPE_ZYX = (3, 4, 5)
SIGNED_PERMUTATIONS = [
    (order, signs) for order in itertools.permutations(range(3)) for signs in itertools.product((1, -1), repeat=3)
]
# A rotation by 30 degrees about z, then by 20 degrees about x: oblique, right-handed.
OBLIQUE = np.array([[1, 0, 0], [0, np.cos(0.349), -np.sin(0.349)], [0, np.sin(0.349), np.cos(0.349)]]) @ np.array(
    [[np.cos(0.5236), -np.sin(0.5236), 0], [np.sin(0.5236), np.cos(0.5236), 0], [0, 0, 1]]
)


def ramp(dtype: str) -> NDArray[Any]:
    """Give an array in which every voxel differs and the type's limits occur."""
    array = np.arange(np.prod(SHAPE_ZYX)).reshape(SHAPE_ZYX).astype(dtype)
    kind = np.finfo if array.dtype.kind == "f" else np.iinfo
    limits = kind(array.dtype.newbyteorder("="))
    array.flat[0], array.flat[-1] = limits.min, limits.max
    return array


def grid(matrix: NDArray[Any]) -> Geometry:
    """Give an anisotropic grid far from the origin, with this direction matrix."""
    return Geometry(
        shape_zyx=SHAPE_ZYX,
        spacing_zyx_mm=(1.25, 0.703125, 1 / 3),
        origin_xyz_mm=(-198.10000610351562, 1e-7, 1234.5),
        direction=tuple(map(float, np.ravel(matrix))),
    )


@pytest.mark.parametrize("dtype", [*DTYPES, ">i2", ">f4", ">f8"])
@pytest.mark.parametrize(("suffix", "level"), KINDS, ids=KIND_IDS)
def test_every_type_and_kind_of_file_comes_back(dtype: str, suffix: str, level: int | None, tmp_path: Path) -> None:
    """Voxels, type and geometry survive bit by bit, and SimpleITK reads the same from our file."""
    path, array, geometry = tmp_path / f"scan{suffix}", ramp(dtype), grid(np.eye(3))
    write_metaimage(path, array, geometry, compress_level=level)
    image, oracle = read_metaimage(path), sitk.ReadImage(str(path))
    assert image.geometry == geometry
    assert image.warnings == ()
    assert image.array.dtype == array.dtype.newbyteorder("=")
    np.testing.assert_array_equal(image.array, array)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(oracle), array)


@pytest.mark.parametrize(("order", "signs"), SIGNED_PERMUTATIONS)
def test_every_signed_permutation_of_axes(order: tuple[int, ...], signs: tuple[int, ...], tmp_path: Path) -> None:
    """All 48 directions agree with SimpleITK to 1e-6 mm; the 24 left-handed ones need the flag."""
    matrix = np.zeros((3, 3))
    matrix[list(order), range(3)] = signs
    geometry, path = grid(matrix), tmp_path / "scan.mha"
    write_metaimage(path, ramp("int16"), geometry)
    if geometry.is_left_handed:
        with pytest.raises(Exception, match="E_DIRECTION"):
            read_metaimage(path)
    image = read_metaimage(path, allow_left_handed=geometry.is_left_handed)
    assert image.geometry == geometry
    assert image.warnings == ()  # the orientation letters that we write fit the matrix
    oracle = sitk.ReadImage(str(path))
    index_zyx = np.array(list(itertools.product(*((0, n - 1) for n in SHAPE_ZYX))))
    expected = [oracle.TransformIndexToPhysicalPoint(list(map(int, index[::-1]))) for index in index_zyx]
    world = image.geometry.index_to_world(index_zyx)
    np.testing.assert_allclose(world, expected, rtol=0, atol=1e-6)
    np.testing.assert_allclose(image.geometry.world_to_index(world), index_zyx, rtol=0, atol=1e-6)


def test_oblique_grid(tmp_path: Path) -> None:
    """An oblique direction is kept exactly, without orientation letters."""
    path, geometry = tmp_path / "scan.mhd", grid(OBLIQUE)
    write_metaimage(path, ramp("int16"), geometry)
    assert read_metaimage(path).geometry == geometry
    assert sitk.ReadImage(str(path)).GetDirection() == pytest.approx(geometry.direction, abs=1e-12)
    assert b"AnatomicalOrientation" not in path.read_bytes()


@pytest.mark.parametrize("dtype", DTYPES)
def test_files_of_simpleitk(dtype: str, tmp_path: Path) -> None:
    """What SimpleITK writes, compressed or not, is read as SimpleITK means it."""
    image = sitk.GetImageFromArray(ramp(dtype))
    image.SetSpacing((0.5, 0.7, 2.5))
    image.SetOrigin((-10.25, 3.5, -200.0))
    image.SetDirection((0, 0, 1, 1, 0, 0, 0, 1, 0))
    for name, compress in (("a.mhd", True), ("b.mhd", False), ("c.mha", True), ("d.mha", False)):
        sitk.WriteImage(image, str(tmp_path / name), useCompression=compress)
        ours = read_metaimage(tmp_path / name)
        np.testing.assert_array_equal(ours.array, ramp(dtype))
        assert ours.geometry.spacing_zyx_mm == (2.5, 0.7, 0.5)
        assert ours.geometry.origin_xyz_mm == (-10.25, 3.5, -200.0)
        assert ours.geometry.direction == image.GetDirection()


@pytest.mark.parametrize("dtype", ["i2", "u2", "i4", "f4", "f8"])
@pytest.mark.parametrize("is_zlib", [False, True], ids=["raw", "zraw"])
def test_big_endian_files(dtype: str, is_zlib: bool, tmp_path: Path) -> None:
    """A header with BinaryDataByteOrderMSB = True gives the same numbers, in native order."""
    import zlib

    path, array = tmp_path / "scan.mhd", ramp(dtype)
    write_metaimage(path, array, grid(np.eye(3)), compress_level=1 if is_zlib else None)
    header = path.read_text().replace("ByteOrderMSB = False", "ByteOrderMSB = True")
    path.write_text("".join(line for line in header.splitlines(keepends=True) if "DataSize" not in line))
    swapped = array.astype(f">{dtype}").tobytes()
    (tmp_path / ("scan.zraw" if is_zlib else "scan.raw")).write_bytes(zlib.compress(swapped) if is_zlib else swapped)
    image = read_metaimage(path)
    assert image.array.dtype.isnative
    np.testing.assert_array_equal(image.array, array)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(path))), array)


def test_views_are_written_as_they_look(tmp_path: Path) -> None:
    """A transposed, flipped, strided view is written in its own order, not in that of its memory."""
    view = np.arange(2 * 6 * 4, dtype=np.int16).reshape(2, 6, 4).transpose(2, 0, 1)[::-1, :, ::2]
    geometry = Geometry(shape_zyx=view.shape, spacing_zyx_mm=(1.0, 1.0, 1.0))
    write_metaimage(tmp_path / "view.mhd", view, geometry)
    np.testing.assert_array_equal(read_metaimage(tmp_path / "view.mhd").array, view)


def test_many_blocks(tmp_path: Path) -> None:
    """A volume larger than all inner steps (4 MiB written, 1 MiB inflated, 256 KiB read) comes back."""
    noise = np.random.default_rng(1).integers(-1000, 400, (11, 512, 513), dtype=np.int16)
    geometry = Geometry(shape_zyx=noise.shape, spacing_zyx_mm=(1.0, 0.7, 0.7))
    for suffix, level in KINDS:
        write_metaimage(tmp_path / f"scan{suffix}", noise, geometry, compress_level=level)
        np.testing.assert_array_equal(read_metaimage(tmp_path / f"scan{suffix}").array, noise)


@pytest.mark.parametrize("name", ["größe 肺.mhd", "a.b.c.mhd", "1.3.6.1.4.1.14519.5.2.1.mhd", "UPPER.MHD", "x.MHA"])
def test_names(name: str, tmp_path: Path) -> None:
    """Spaces, dots, other alphabets and capital suffixes work for header and data file."""
    write_metaimage(tmp_path / name, ramp("int16"), grid(np.eye(3)))
    np.testing.assert_array_equal(read_metaimage(tmp_path / name).array, ramp("int16"))
    assert len(list(tmp_path.iterdir())) == (1 if name.endswith("MHA") else 2)


def test_compressed_size_is_exact(tmp_path: Path) -> None:
    """CompressedDataSize is the length of the stream, in both kinds of file."""
    for suffix in (".mhd", ".mha"):
        path = tmp_path / f"scan{suffix}"
        write_metaimage(path, ramp("int16"), grid(np.eye(3)))
        header = read_header(path)
        data = path if header.is_local else path.with_suffix(".zraw")
        assert header.compressed_bytes == data.stat().st_size - header.data_offset
