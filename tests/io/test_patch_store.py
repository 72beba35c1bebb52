"""Patches on disk: what is written is read, whole or not at all."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from napari_alnct.core.config import PrepareSettings
from napari_alnct.core.errors import TableError
from napari_alnct.io import patch_store
from napari_alnct.io.patch_store import PatchRow, PatchStore, PatchWriter, cube_around

ROWS = (
    PatchRow(
        series_uid="1.2.3",
        label=1,
        kind="nodule",
        centre_zyx_vox=(30, -1, 7),
        position_xyz_mm=(-10.25, 0.1, 1e-3),
        diameter_mm=6.4,
        nodule=0,
        patient="P=1",
        fold=3,
    ),
    PatchRow(series_uid="1.2.4", label=0, kind="lung", centre_zyx_vox=(1, 2, 3), position_xyz_mm=(0.0, 0.0, 0.0)),
)


def write(folder: Path, n: int = 2) -> np.ndarray:
    rng = np.random.default_rng(0)
    cubes = rng.integers(-1200, 600, (n, 12, 12, 12)).astype(np.int16)
    with PatchWriter(folder, PrepareSettings(), patch_vox=8, margin_vox=2, notes={"series": ["1.2.5"]}) as writer:
        for number in range(n):
            writer.add(ROWS[number % 2], cubes[number])
    return cubes


def write_half(folder: Path, cube: np.ndarray) -> None:
    with PatchWriter(folder, PrepareSettings(), patch_vox=8, margin_vox=2, notes={}) as writer:
        writer.add(ROWS[0], cube)
        raise KeyboardInterrupt


def test_what_is_written_is_read(tmp_path: Path) -> None:
    """Rows, voxels, window and the scans without patches come back exactly."""
    cubes = write(tmp_path)
    store = PatchStore.open(tmp_path / "patch_map.csv")
    assert store.rows == ROWS
    np.testing.assert_array_equal(store.hu, cubes)
    assert store.prepare == PrepareSettings()
    assert (store.patch_vox, store.margin_vox, store.stored_vox) == (8, 2, 12)
    assert store.series == {"1.2.3", "1.2.4", "1.2.5"}
    assert store.patients == {"P=1"}


def test_header_grows_in_place(tmp_path: Path) -> None:
    """The number of patches is known only at the end, whatever its digits."""
    cubes = write(tmp_path, 1234)
    np.testing.assert_array_equal(np.load(tmp_path / "patches.npy"), cubes)


def test_a_shifted_cube_is_the_moved_window(tmp_path: Path) -> None:
    """A shift takes its voxels from the margin."""
    cubes = write(tmp_path)
    store = PatchStore.open(tmp_path)
    np.testing.assert_array_equal(store.cube(1), cubes[1, 2:10, 2:10, 2:10])
    np.testing.assert_array_equal(store.cube(1, (2, -2, 1)), cubes[1, 4:12, 0:8, 3:11])


def test_examples_are_patches_without_margin(tmp_path: Path) -> None:
    """``example_pos.npy`` and ``example_neg.npy`` have the edge of a patch."""
    cubes = write(tmp_path)
    np.testing.assert_array_equal(np.load(tmp_path / "example_pos.npy"), cubes[0, 2:10, 2:10, 2:10])
    np.testing.assert_array_equal(np.load(tmp_path / "example_neg.npy"), cubes[1, 2:10, 2:10, 2:10])


def test_a_fault_leaves_the_earlier_patches(tmp_path: Path) -> None:
    """A run that stops half-way changes nothing and leaves nothing behind."""
    cubes = write(tmp_path)
    before = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises(KeyboardInterrupt):
        write_half(tmp_path, cubes[1])
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    np.testing.assert_array_equal(PatchStore.open(tmp_path).hu, cubes)


def test_voxels_of_another_table_are_refused(tmp_path: Path) -> None:
    """A table that lists another number of patches than the array holds is not used."""
    write(tmp_path)
    lines = (tmp_path / "patch_map.csv").read_text().splitlines()
    (tmp_path / "patch_map.csv").write_text("\n".join(lines[:-1]) + "\n")
    with pytest.raises(TableError, match="run sample again"):
        PatchStore.open(tmp_path)


def test_a_store_travels_without_its_voxels(tmp_path: Path) -> None:
    """A worker process maps the file for itself: the pickle stays small."""
    cubes = write(tmp_path, 200)
    store = PatchStore.open(tmp_path)
    assert store.hu.nbytes > 200 * 12**3
    content = pickle.dumps(store)
    assert len(content) < 100_000
    np.testing.assert_array_equal(pickle.loads(content).cube(7), cubes[7, 2:10, 2:10, 2:10])  # noqa: S301


@pytest.mark.parametrize("centre", [(0, 0, 0), (9, 9, 9), (-3, 4, 5), (20, 4, 5), (5, 5, 5)])
def test_cube_around_is_a_window_of_the_padded_scan(centre: tuple[int, int, int]) -> None:
    """Against the plain way: pad, then cut."""
    hu = np.random.default_rng(1).integers(-1000, 400, (10, 10, 10)).astype(np.int16)
    padded = np.pad(hu, 30, constant_values=-1200)
    window = tuple(slice(c + 30 - 3, c + 30 - 3 + 7) for c in centre)
    np.testing.assert_array_equal(cube_around(hu, centre, 7, -1200.0), padded[window])


def test_a_full_disk_at_the_end_leaves_the_earlier_patches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Writing the new table fails: table, voxels and examples of the earlier run are still there and fit."""
    cubes = write(tmp_path)
    before = sorted(path.name for path in tmp_path.iterdir())

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(patch_store, "write_table", full)
    with pytest.raises(OSError, match="No space"):
        write(tmp_path, 3)
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    np.testing.assert_array_equal(PatchStore.open(tmp_path).hu, cubes)


def test_another_table_of_the_same_patches_has_another_fingerprint(tmp_path: Path) -> None:
    """Labels changed in a copy of the table are another data set to a run that would go on."""
    write(tmp_path)
    text = (tmp_path / "patch_map.csv").read_text()
    (tmp_path / "relabelled.csv").write_text(text.replace(",0,lung", ",1,lung"))
    assert PatchStore.open(tmp_path).fingerprint != PatchStore.open(tmp_path / "relabelled.csv").fingerprint
    assert PatchStore.open(tmp_path).fingerprint == PatchStore.open(tmp_path / "patch_map.csv").fingerprint
