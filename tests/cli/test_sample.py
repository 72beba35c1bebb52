"""The subcommand sample, from phantoms on: train and validation patches of unseen scans, errors, Ctrl-C.

Three small phantoms, two of them with reversed axes; about 15 s of CPU.
"""

from __future__ import annotations

import csv
import json
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from napari_alnct.cli.app import dispatch
from napari_alnct.io.metaimage import read_metaimage
from napari_alnct.io.patch_store import PatchStore
from napari_alnct.io.prepared import PreparedDataset

from ..io.prepared_folder import TRIO, write_prepared


def run(*words: object) -> int:
    """Run a command line in this process."""
    return dispatch([str(word) for word in words])


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make three phantoms (with nodules, without, with) and prepare them, by the commands."""
    root = tmp_path_factory.mktemp("data")
    assert run("phantom", "--out", root / "raw", "--scans", 3, "--seed", 8, "--shape", 96, 140, 140) == 0
    assert run("preprocess", "--raw-root", root / "raw", "--out-root", root / "prep", "--jobs", 1) == 0
    return root


def truth(data: Path) -> dict[str, list[tuple[np.ndarray, float]]]:
    """Give the annotated nodules as the phantom wrote them: world position and diameter, by series."""
    nodules: dict[str, list[tuple[np.ndarray, float]]] = {}
    with open(data / "raw" / "CSVFILES" / "annotations.csv", newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            place = np.array([float(row[f"coord{axis}"]) for axis in "XYZ"])
            nodules.setdefault(row["seriesuid"], []).append((place, float(row["diameter_mm"])))
    return nodules


def test_train_and_validation_patches_of_phantoms(data: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The two calls of the README: folds 0-1 and fold 2; every position holds in the world of the phantom.

    The scans are anisotropic and stored with x and y reversed. The world position of each patch is that of
    its centre voxel; of a nodule's first patch it is within half a voxel diagonal of the annotated centre,
    of the others within 3 mm. Its middle is brighter than the lung around. Scan 1, without nodules, gives
    as many negatives as scan 0.
    """
    raw = next((data / "raw" / "subset0").glob("*.mhd"))
    assert read_metaimage(raw).geometry.direction[0] == -1
    train, val, prep = data / "patches" / "train", data / "patches" / "val", data / "prep"
    flags = ("--labels", prep / "labels_vox.csv", "--vol-dir", prep / "volumes", "--neg-ratio", 1, "--patch-vox", 48)
    assert run("sample", *flags, "--out-dir", train, "--folds", "0-1") == 0
    assert run("sample", *flags, "--out-dir", val, "--folds", 2, "--per-nodule", 1, "--apart-from", train) == 0
    assert "leak guard: series level; no scan in common with patches/train (2 scans)" in capfd.readouterr().out

    dataset, nodules = PreparedDataset.open(prep), truth(data)
    for folder in (train, val):
        store = PatchStore.open(folder / "patch_map.csv")
        grids = {scan.series_uid: scan.geometry for scan in dataset.scans}
        for number, row in enumerate(store.rows):
            world = np.array(row.position_xyz_mm)
            np.testing.assert_allclose(world, grids[row.series_uid].index_to_world(row.centre_zyx_vox), atol=1e-9)
            steps = [np.linalg.norm(world - place) for place, _ in nodules.get(row.series_uid, [])]
            if row.label:
                assert row.nodule is not None
                place, diameter = nodules[row.series_uid][row.nodule]
                assert row.diameter_mm == diameter
                is_first = row.nodule not in {r.nodule for r in store.rows[:number] if r.series_uid == row.series_uid}
                assert np.linalg.norm(world - place) <= (np.sqrt(3) / 2 if is_first else 3.0)
                if is_first:
                    cube = store.cube(number)
                    assert cube[23:26, 23:26, 23:26].mean() > np.median(cube[cube < -500]) + 100
            else:
                radii = [diameter / 2 for _, diameter in nodules.get(row.series_uid, [])]
                assert all(step > radius + 8 for step, radius in zip(steps, radii, strict=True))
    store = PatchStore.open(train)
    by_fold = {fold: sum(row.fold == fold and not row.label for row in store.rows) for fold in (0, 1)}
    assert store.labels.sum() == sum(by_fold.values()) > 0
    assert abs(by_fold[0] - by_fold[1]) <= 1
    assert store.series.isdisjoint(PatchStore.open(val).series)


@pytest.fixture(scope="module")
def toys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make three toy scans, with lists, patients and candidates beside them."""
    root = write_prepared(tmp_path_factory.mktemp("toys"))
    (root / "two.csv").write_text("seriesuid\n1.2.1\n1.2.2\n")
    (root / "patients.csv").write_text("seriesuid,patient\n1.2.1,A\n1.2.2,B\n1.2.3,B\n")
    free = TRIO[0].geometry.index_to_world((12.0, 50.0, 14.0))
    rows = f"1.2.1,{free[0]},{free[1]},{free[2]},0\n9.9,1,2,3,0\n"
    (root / "candidates.csv").write_text("seriesuid,coordX,coordY,coordZ,class\n" + rows)
    return root


SMALL = ("--patch-vox", 32, "--margin-vox", 4, "--jobs", 1)


def test_the_summary_tells_all(toys: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Positives by size, negatives by kind, scans, size on disk, guard, place; --vol-dir may be left out."""
    words = ("--candidates", toys / "candidates.csv", "--patients", toys / "patients.csv", "--neg-ratio", 2)
    assert run("sample", "--labels", toys, "--out-dir", tmp_path / "out", *SMALL, *words) == 0
    lines = capfd.readouterr().out.splitlines()
    assert lines[0] == "9 positives of 3 nodules (3-6 mm 1, 6-10 mm 1, 10-20 mm 1)"
    assert lines[1].startswith("18 negatives from 3 of 3 scans, 1 of them without nodules (candidate 1, lung ")
    assert lines[2] == "3 MB, 32 voxels and 4 around"
    assert lines[3].startswith("leak guard: patient level; no other patches were named")
    assert lines[4] == f"written to {(tmp_path / 'out').resolve()}"
    assert {row.patient for row in PatchStore.open(tmp_path / "out").rows} == {"A", "B"}


def test_series_and_mining(toys: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """--series selects scans; --mine takes the false marks of a bundled model, should it have any."""
    words = ("--series", toys / "two.csv", "--mine", "default", "--device", "cpu", "--hard-share", 1)
    assert run("sample", "--labels", toys, "--out-dir", tmp_path / "out", *SMALL, *words) == 0
    store = PatchStore.open(tmp_path / "out")
    assert store.series == {"1.2.1", "1.2.2"}
    assert len(store.description["hard_negatives"]["model"]["sha256"]) == 64
    assert capfd.readouterr().out.startswith("6 positives of 2 nodules (3-6 mm 1, 6-10 mm 1)\n6 negatives from 2 of 2")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--folds", "7"), "no prepared scan lies in fold 7; the folds of labels_vox.csv are 0, 1, 2"),
        (("--folds", "x"), "'x' names no folds"),
        (("--folds", "1"), "lists no nodule inside the 1 scans of the selection"),
        (("--series", "patients.csv", "--folds", "3"), "no prepared scan lies in fold 3"),
        (("--candidates", "none.csv"), "none.csv does not exist"),
        (("--candidates", "two.csv"), "two.csv has no column coordX"),
        (("--patients", "two.csv"), "needs the columns seriesuid and patient"),
        (("--mine", "none"), "no model called none"),
        (("--jitter-mm", "20"), "jitter_mm is 20, allowed is at most clearance_mm"),
        (("--jitter-mm", "16", "--clearance-mm", "16"), "jitter_mm is 16, allowed is at most 15"),
        (("--vol-dir", "nowhere"), "nowhere is no folder of volumes"),
        (("--apart-from", "out"), "is the folder to write and one to stay apart from"),
        (("--apart-from", "lungs"), "patch_map.csv"),
        (("--jobs", "0"), "Must be >= 1"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, tuple) else "",
)
def test_faults_are_one_sentence(
    toys: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    sentence: str,
) -> None:
    """Exit code 2, one line on stderr, nothing written."""
    monkeypatch.chdir(toys)
    out = toys / "out" if "out" in words else tmp_path / "out"
    small = [word for word in SMALL if "--jobs" not in words or word not in ("--jobs", 1)]
    assert run("sample", "--labels", "labels_vox.csv", "--out-dir", out, *small, *words) == 2
    error = capfd.readouterr().err
    assert sentence in error
    assert len(error.strip().splitlines()) == 1
    assert not out.exists()


def test_the_guard_refuses_shared_scans_and_patients(
    toys: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Fold 2 shares patient B with fold 1: fine at series level, refused at patient level."""
    train, val = tmp_path / "train", tmp_path / "val"
    base = ("sample", "--labels", toys, *SMALL)
    assert run(*base, "--out-dir", train, "--folds", "0-1") == 0
    assert run(*base, "--out-dir", val, "--folds", "1", "2", "--apart-from", train) == 2
    assert "1 scans of the selection are in" in capfd.readouterr().err
    patients = ("--patients", toys / "patients.csv")
    assert run(*base, "--out-dir", val, "--folds", "2", "--apart-from", train, *patients) == 2
    assert "1 patients of the selection are in" in capfd.readouterr().err
    assert not val.exists()
    assert run(*base, "--out-dir", val, "--folds", "2", "--apart-from", train) == 0
    assert json.loads((val / "patches.json").read_text())["leak_guard"]["n_series_compared"] == 2


@pytest.mark.skipif(os.name == "nt", reason="signals of this kind are POSIX")
def test_ctrl_c_leaves_nothing(
    toys: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit code 130 in the middle of the second scan; the folder that was made is gone."""
    read = PreparedDataset.read

    def interrupted(dataset, scan):
        if scan.series_uid == "1.2.2":
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.5)
        return read(dataset, scan)

    monkeypatch.setattr(PreparedDataset, "read", interrupted)
    assert run("sample", "--labels", toys, "--out-dir", tmp_path / "out", *SMALL) == 130
    assert "cancelled; nothing was left half-written" in capfd.readouterr().err
    assert not (tmp_path / "out").exists()
