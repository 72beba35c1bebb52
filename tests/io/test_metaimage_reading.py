"""Reading MetaImage: what the corpus does not cover; flags, privacy, memory, damage byte by byte, HU."""

from __future__ import annotations

import os
import pickle
import sys
import time
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest

from napari_alnct.core.errors import ReadError
from napari_alnct.core.geometry import Geometry
from napari_alnct.core.volume import Volume, hu_doubt, padding_hu
from napari_alnct.io import metaimage_header, metaimage_voxels, regular_file
from napari_alnct.io.metaimage import check_hu, read_header, read_metaimage, write_metaimage

from ..corpus.mhd_builder import RAW, VOXELS, MhdCase, zlib_zeros

GOOD = MhdCase(case_id="good", codes=())
needs_links = pytest.mark.skipif(sys.platform == "win32", reason="symbolic links need a privilege here")


def code_of(path: Path, **flags: bool) -> str:
    """Give the code with which a file is refused."""
    with pytest.raises(ReadError) as caught:
        read_metaimage(path, **flags)
    return caught.value.code


def chest_like(dtype: str = "int16") -> np.ndarray:
    """Give a volume that passes the HU check: a third air, the rest tissue."""
    values = np.full((10, 20, 20), 40, dtype)
    values[:4] = -900
    return values


def test_header_alone_needs_no_data_file(tmp_path: Path) -> None:
    """Geometry and type are known without the data file, so that `info` can look at a broken pair."""
    path = MhdCase(case_id="", codes=(), data=lambda raw: None).build(tmp_path)
    header = read_header(path)
    assert header.geometry.shape_zyx == (8, 8, 8)
    assert header.geometry.spacing_zyx_mm == (1.25, 0.7, 0.7)
    assert header.geometry.origin_xyz_mm == (-10.0, -20.0, -30.0)
    assert (header.dtype, header.n_bytes, header.is_compressed) == (np.dtype(np.int16), 1024, False)
    assert (header.name, header.data_name, header.is_local) == ("scan.mhd", "scan.raw", False)


def test_left_handed_needs_the_flag(tmp_path: Path) -> None:
    """A mirrored scan is read only when the user said so, and keeps its mirrored direction."""
    path = MhdCase(case_id="", codes=(), put={"TransformMatrix": "1 0 0 0 1 0 0 0 -1"}).build(tmp_path)
    assert code_of(path) == "E_DIRECTION"
    image = read_metaimage(path, allow_left_handed=True)
    assert image.geometry.is_left_handed
    np.testing.assert_allclose(image.geometry.index_to_world([1, 0, 0]), [-10, -20, -31.25])


@needs_links
def test_link_out_needs_the_flag(tmp_path: Path) -> None:
    """A data file that is linked from elsewhere is read only when the user said so."""
    path = GOOD.build(tmp_path)
    outside = tmp_path / "outside.raw"
    (path.parent / "scan.raw").rename(outside)
    (path.parent / "scan.raw").symlink_to(outside)
    assert code_of(path) == "E_PATH_ESCAPE"
    np.testing.assert_array_equal(read_metaimage(path, allow_symlinks=True).array, VOXELS)


@needs_links
@pytest.mark.parametrize("name", ["scan.mhd", "scan.mha"])
def test_header_may_be_a_link(name: str, tmp_path: Path) -> None:
    """A linked header is followed; its data file is looked for beside the link, as SimpleITK does."""
    path = GOOD.build(tmp_path) if name == "scan.mhd" else tmp_path / "other.mha"
    if name == "scan.mha":
        write_metaimage(path, VOXELS, Geometry(shape_zyx=(8, 8, 8), spacing_zyx_mm=(1.0, 1.0, 1.0)))
    link = tmp_path / name
    link.symlink_to(path)
    if name == "scan.mhd":
        assert code_of(link) == "E_DATA_MISSING"
        (tmp_path / "scan.raw").write_bytes(RAW)
    np.testing.assert_array_equal(read_metaimage(link).array, VOXELS)


@pytest.mark.parametrize("kind", ["missing", "folder", "fifo"])
def test_header_that_is_no_file(kind: str, tmp_path: Path) -> None:
    """A missing header, a folder and a named pipe are refused at once and named."""
    path = tmp_path / "scan.mhd"
    if kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        if not hasattr(os, "mkfifo"):
            pytest.skip("no named pipes here")
        os.mkfifo(path)
    assert code_of(path) == ("E_HEADER_SYNTAX" if kind == "missing" else "E_NOT_REGULAR")


@pytest.mark.parametrize("error", [PermissionError(13, "Permission denied"), OSError(5, "Input/output error")])
def test_unreadable_data_file(error: OSError, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A data file that the system does not open is E_DATA_MISSING with the system's reason, also for root."""
    path = GOOD.build(tmp_path)
    real_open = os.open

    def failing(name: str | Path, *rest: int) -> int:
        if os.fspath(name).endswith(".raw"):
            raise error
        return real_open(name, *rest)

    monkeypatch.setattr(regular_file.os, "open", failing)
    with pytest.raises(ReadError, match=r"scan\.raw.*(no permission|input/output error)") as caught:
        read_metaimage(path)
    assert caught.value.code == "E_DATA_MISSING"


@pytest.mark.timeout(20)
@pytest.mark.parametrize("kind", ["folder", "fifo", "link"])
def test_file_swapped_after_the_check(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What counts is the opened file, not an earlier look at its name: no pipe blocks, no link is followed."""
    if sys.platform == "win32":
        pytest.skip("neither pipes nor links here, and folders cannot be opened")
    path = GOOD.build(tmp_path)
    data = path.parent / "scan.raw"
    before = os.stat(data)
    data.rename(tmp_path / "elsewhere.raw")
    {"folder": os.mkdir, "fifo": os.mkfifo, "link": lambda name: os.symlink("../elsewhere.raw", name)}[kind](data)
    monkeypatch.setattr(regular_file.os, "stat", lambda *_, **__: before)
    monkeypatch.setattr(metaimage_voxels.os.path, "realpath", os.path.abspath)  # the link appears after resolving
    assert code_of(path) == ("E_DATA_MISSING" if kind == "link" else "E_NOT_REGULAR")


def test_file_that_shrinks_while_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file cut short between the size check and the reading is refused, not padded with old memory."""
    path = GOOD.build(tmp_path)
    allocate = metaimage_voxels._allocate

    def shrink(header: metaimage_header.MetaImageHeader) -> np.ndarray:
        os.truncate(path.parent / "scan.raw", 100)
        return allocate(header)

    monkeypatch.setattr(metaimage_voxels, "_allocate", shrink)
    assert code_of(path) == "E_DATA_SIZE"


def test_every_flipped_bit_of_a_stream_is_noticed(tmp_path: Path) -> None:
    """No flipped byte of a compressed volume, at any place, gives voxels."""
    stream = zlib.compress(RAW, 6)
    path = MhdCase(case_id="", codes=(), is_zlib=True).build(tmp_path)
    codes = set()
    for position in range(len(stream)):
        damaged = bytearray(stream)
        damaged[position] ^= 1 << position % 8
        (path.parent / "scan.raw").write_bytes(damaged)
        codes.add(code_of(path))
    assert codes <= {"E_DATA_CORRUPT", "E_DATA_SIZE"}


def test_every_truncation_of_a_stream_is_noticed(tmp_path: Path) -> None:
    """A stream without a size in the header that ends early, at any byte, is E_DATA_CORRUPT."""
    stream = zlib.compress(RAW, 6)
    path = MhdCase(case_id="", codes=(), is_zlib=True, drop=("CompressedDataSize",)).build(tmp_path)
    for length in range(1, len(stream), 7):
        (path.parent / "scan.raw").write_bytes(stream[:length])
        assert code_of(path) == ("E_DATA_CORRUPT" if 1032 * length >= 1024 else "E_DATA_SIZE")


def test_memory_cap_follows_the_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A volume above a quarter of the memory is refused before anything is allocated, one below is read."""
    path = GOOD.build(tmp_path)
    monkeypatch.setattr(metaimage_header, "physical_memory_bytes", lambda: 4 * 1024)
    assert read_metaimage(path).array.nbytes == 1024
    monkeypatch.setattr(metaimage_header, "physical_memory_bytes", lambda: 4 * 1024 - 4)
    assert code_of(path) == "E_TOO_BIG"


def test_no_memory_is_a_read_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the system gives no memory for an accepted size, the message says so."""

    def refuse(*_: object) -> np.ndarray:
        raise MemoryError

    path = GOOD.build(tmp_path)
    monkeypatch.setattr(metaimage_voxels.np, "empty", refuse)
    assert code_of(path) == "E_TOO_BIG"


@pytest.mark.parametrize("level", [1, None], ids=["zraw", "raw"])
@pytest.mark.parametrize("dtype", ["int16", ">f4"])
def test_no_second_copy_of_the_volume(level: int | None, dtype: str, tmp_path: Path) -> None:
    """Reading 32 MB takes its own memory and less than 4 MB on top, big-endian floats included."""
    shape = (64, 512, 512) if dtype == "int16" else (32, 512, 512)
    path = tmp_path / "scan.mhd"
    geometry = Geometry(shape_zyx=shape, spacing_zyx_mm=(1.0, 0.7, 0.7))
    write_metaimage(path, np.zeros(shape, dtype), geometry, compress_level=level)
    path.write_text(path.read_text().replace("MSB = False", f"MSB = {dtype[0] == '>'}"))
    tracemalloc.start()
    array = read_metaimage(path).array
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak - array.nbytes < 4 << 20


def test_inflating_stops_at_one_byte_more(tmp_path: Path) -> None:
    """Of a stream of 1 GiB behind 1 KiB of voxels, no more than the next byte is unfolded."""
    path = MhdCase(case_id="", codes=(), is_zlib=True, data=lambda _: zlib_zeros(1024)).build(tmp_path)
    header = read_header(path)
    tracemalloc.start()
    with pytest.raises(ReadError, match="more in the compressed stream"):
        metaimage_voxels.read_voxels(path, header)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3 * metaimage_voxels.READ_STEP_BYTES  # what was read, and the unread rest of it


def test_long_numbers_take_no_time(tmp_path: Path) -> None:
    """A line of digits that almost is a number is refused without backtracking for long."""
    path = MhdCase(case_id="", codes=(), put={"Offset": "1" * 4000 + "x 0 0"}).build(tmp_path)
    start = time.process_time()
    assert code_of(path) == "E_HEADER_SYNTAX"
    assert time.process_time() - start < 0.2


def test_messages_keep_paths_and_long_values_out(tmp_path: Path) -> None:
    """Neither folders nor a whole foreign value appear in a message: base names and 60 characters at most."""
    secret = "/home/ZZCANARYZZ/patient.raw"
    path = MhdCase(case_id="", codes=(), put={"ElementDataFile": secret}).build(tmp_path)
    with pytest.raises(ReadError) as caught:
        read_metaimage(path)
    assert "ZZCANARYZZ" not in str(caught.value)
    (tmp_path / "other").mkdir()
    other = MhdCase(case_id="", codes=(), put={"DimSize": "8 8 " + "name " * 500}).build(tmp_path / "other")
    with pytest.raises(ReadError) as caught:
        read_metaimage(other)
    assert len(str(caught.value)) < 250


def test_error_survives_pickling(tmp_path: Path) -> None:
    """An error from a worker process says the same in the parent."""
    path = MhdCase(case_id="", codes=(), data=lambda raw: raw[:-1]).build(tmp_path)
    with pytest.raises(ReadError) as caught:
        read_metaimage(path)
    copy = pickle.loads(pickle.dumps(caught.value))  # noqa: S301 - our own bytes
    assert (str(copy), copy.code) == (str(caught.value), "E_DATA_SIZE")


@pytest.mark.parametrize("dtype", ["int16", "int32", "float32", "float64"])
def test_a_chest_passes_the_hu_check(dtype: str) -> None:
    """Air and tissue in HU pass, whatever the element type."""
    assert hu_doubt(chest_like(dtype)) is None
    assert check_hu(chest_like(dtype), "scan.mhd") is None


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda hu: hu + 1024, "5th percentile 124"),  # stored values with the offset still to be subtracted
        (lambda hu: np.minimum(hu, -100), "99.9th percentile -100"),
        (lambda hu: np.where(hu > 0, -5000, hu), "-5000 to -900"),
        (lambda hu: hu.astype(np.int32) + 33000, "32100 to 33040"),
        (lambda hu: hu.astype(np.int16).view(np.uint16), "40 to 64636"),  # signed HU read as unsigned
        (lambda hu: np.where(hu > 0, np.nan, hu), "nan"),
    ],
    ids=["offset", "no-tissue", "too-low", "too-high", "unsigned", "nan"],
)
def test_other_numbers_fail_the_hu_check(change, text: str) -> None:  # type: ignore[no-untyped-def]
    """Numbers that are no HU of a chest are found before a conversion to int16 could hide them."""
    error = check_hu(change(chest_like("float64" if text == "nan" else "int16")), "scan.mhd")
    assert error is not None
    assert error.code == "W_NOT_HU"
    assert text in str(error)


def test_volume_judges_the_values_before_clipping() -> None:
    """Unsigned 64536 would clip to a harmless 32767; the Volume carries the flag all the same."""
    geometry = Geometry(shape_zyx=(10, 20, 20), spacing_zyx_mm=(1.0, 1.0, 1.0))
    assert Volume.from_source(chest_like().view(np.uint16), geometry).has_flag("not_hu")
    assert not Volume.from_source(chest_like(), geometry).has_flag("not_hu")


def test_padding_is_recorded() -> None:
    """A value below air that fills 1 % or more is the padding; a single dark voxel is not."""
    hu = chest_like()
    assert padding_hu(hu) is None
    hu[0, 0, 0] = -3024
    assert padding_hu(hu[:, ::1, ::1]) == -3024  # 1 of 32 looked at
    big = np.full((50, 50, 50), -900, np.int16)
    big[0, 0, 0] = -3024
    assert padding_hu(big) is None  # 1 of 1000 looked at
    flags = Volume.from_source(hu, Geometry(shape_zyx=hu.shape, spacing_zyx_mm=(1.0, 1.0, 1.0))).flags
    assert [flag.code for flag in flags] == ["padding"]


@pytest.mark.data
def test_real_scans_equal_simpleitk(data_pack: Path) -> None:
    """Each LUNA16 scan of the data pack is read as SimpleITK reads it, looks like HU and has no warning."""
    sitk = pytest.importorskip("SimpleITK")
    paths = sorted((data_pack / "luna16").glob("subset*/*.mhd"))
    assert paths
    for path in paths:
        image, oracle = read_metaimage(path), sitk.ReadImage(str(path))
        np.testing.assert_array_equal(image.array, sitk.GetArrayViewFromImage(oracle))
        assert image.geometry.spacing_zyx_mm[::-1] == oracle.GetSpacing()
        assert image.geometry.origin_xyz_mm == oracle.GetOrigin()
        assert image.geometry.direction == oracle.GetDirection()
        assert check_hu(image.array, path.name) is None
        assert image.warnings == ()
