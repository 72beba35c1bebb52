"""Writing MetaImage files: complete or not at all, and nothing that could not be read back."""

from __future__ import annotations

import errno
import io
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_alnct.core.errors import AlnctError
from napari_alnct.core.geometry import Geometry
from napari_alnct.io import metaimage_writer
from napari_alnct.io.metaimage import read_metaimage, write_metaimage

SHAPE_ZYX = (4, 64, 64)
GEOMETRY = Geometry(shape_zyx=SHAPE_ZYX, spacing_zyx_mm=(1.0, 1.0, 1.0))
OLD = np.full(SHAPE_ZYX, -1000, np.int16)
NEW = np.random.default_rng(0).integers(-1000, 400, SHAPE_ZYX).astype(np.int16)
KINDS = [("scan.mhd", 1), ("scan.mhd", None), ("scan.mha", 1), ("scan.mha", None)]


class FullDisk(io.FileIO):
    """A file on a disk that takes `room` more bytes."""

    room = 0

    def write(self, data: Any) -> int:
        self.room -= len(data)
        if self.room < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(data)


@pytest.mark.parametrize("room", [0, 100, 600])
@pytest.mark.parametrize(("name", "level"), KINDS)
def test_full_disk_leaves_the_old_scan(
    name: str, level: int | None, room: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the disk fills at any moment, the error passes through, the old scan is whole and no part stays."""
    path = tmp_path / name
    write_metaimage(path, OLD, GEOMETRY, compress_level=level)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    monkeypatch.setattr(FullDisk, "room", room)
    monkeypatch.setattr(metaimage_writer, "open", FullDisk, raising=False)
    with pytest.raises(OSError, match="No space left"):
        write_metaimage(path, NEW, GEOMETRY, compress_level=level)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before
    np.testing.assert_array_equal(read_metaimage(path).array, OLD)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
def test_full_disk_shows_before_the_data_file_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A header that fails only when its buffer is flushed (a real full device) still leaves the old pair."""
    path = tmp_path / "scan.mhd"
    write_metaimage(path, OLD, GEOMETRY)

    def open_full(name: Path, mode: str) -> Any:
        return open("/dev/full", "wb") if "mhd" in name.name else open(name, mode)

    monkeypatch.setattr(metaimage_writer, "open", open_full, raising=False)
    with pytest.raises(OSError, match="No space left"):
        write_metaimage(path, NEW, GEOMETRY)
    monkeypatch.undo()
    np.testing.assert_array_equal(read_metaimage(path).array, OLD)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["scan.mhd", "scan.zraw"]


def test_interrupt_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C in the middle of writing leaves the folder as it was."""

    def interrupted(*_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(metaimage_writer, "_write_voxels", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_metaimage(tmp_path / "scan.mhd", NEW, GEOMETRY)
    assert list(tmp_path.iterdir()) == []


def test_data_file_appears_before_the_header(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever sees the new header finds its data file already there."""
    order: list[str] = []
    replace = os.replace
    monkeypatch.setattr(os, "replace", lambda a, b: (order.append(Path(b).name), replace(a, b)))
    write_metaimage(tmp_path / "scan.mhd", NEW, GEOMETRY)
    assert order == ["scan.zraw", "scan.mhd"]


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX modes")
def test_new_files_have_the_usual_mode(tmp_path: Path) -> None:
    """Others may read the files as far as the user's umask allows: no private temporary mode stays."""
    write_metaimage(tmp_path / "scan.mhd", NEW, GEOMETRY)
    umask = os.umask(0)
    os.umask(umask)
    assert {file.stat().st_mode & 0o777 for file in tmp_path.iterdir()} == {0o666 & ~umask}


@pytest.mark.parametrize("name", ["50%.mhd", "a:b.mhd", "a\\b.mha", "a\nb.mhd"])
def test_names_that_the_reader_refuses(name: str, tmp_path: Path) -> None:
    """A name that could not be read back is refused with the reason, before anything is written."""
    with pytest.raises(AlnctError, match="choose another name"):
        write_metaimage(tmp_path / name, NEW, GEOMETRY)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("dtype", [np.int64, np.uint32, np.bool_, np.complex64, np.float16])
def test_types_without_a_name(dtype: type, tmp_path: Path) -> None:
    """An element type outside the contract is refused and the allowed ones are listed."""
    with pytest.raises(TypeError, match="allowed are int16, uint16"):
        write_metaimage(tmp_path / "scan.mhd", NEW.astype(dtype), GEOMETRY)


def test_array_and_grid_must_agree(tmp_path: Path) -> None:
    """An array of another shape than the grid is refused."""
    with pytest.raises(ValueError, match="differs from the grid"):
        write_metaimage(tmp_path / "scan.mhd", NEW[:2], GEOMETRY)


def test_other_suffixes(tmp_path: Path) -> None:
    """Only .mhd and .mha are MetaImage names."""
    with pytest.raises(ValueError, match="ends in"):
        write_metaimage(tmp_path / "scan.nii", NEW, GEOMETRY)
