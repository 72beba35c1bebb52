"""The command train-detector: builds from prepared scans, refuses in one sentence, stops when told. About 15 s CPU."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from napari_alnct.batch.work_lock import WorkLock
from napari_alnct.cli.app import dispatch
from napari_alnct.core.checkpoint import read_recipe
from napari_alnct.io.identifiers import short_hash
from napari_alnct.training.settings import PREPARED, BuildSettings, read_build_settings, settings_to_json

from ..io.prepared_folder import write_prepared
from ..training.tiny_build import SCANS, SETTINGS

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Use one thread: networks this small only wait for each other with more."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make four toy scans in four folds, a recipe and a list."""
    folder = tmp_path_factory.mktemp("data")
    write_prepared(folder / "prepared", SCANS)
    (folder / "recipe.json").write_text(json.dumps(settings_to_json(SETTINGS)))
    (folder / "train.txt").write_text("1.2.1\n1.2.3\n")
    (folder / "patients.csv").write_text("seriesuid,patient\n1.2.1,p\n1.2.2,q\n1.2.3,r\n1.2.4,p\n")
    return folder


def run(root: Path, out: Path, *words: object) -> int:
    """Run the command on the toy scans."""
    base = ("--out", out, "--preproc", root / "prepared", "--config", root / "recipe.json", "--device", "cpu")
    return dispatch(["train-detector", *map(str, (*base, "--cases", root / "cases", *words))])


def test_folds_choose_the_scans(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Folds 0-2 train, fold 3 validates; the model and the best first stage are there, and lines say how it went."""
    assert run(root, tmp_path / "run", "--folds", "0-2", "--val-folds", "3", "--threads", "1") == 0
    said = capsys.readouterr().out
    assert "3 training scans with 3 nodules, 2 donors" in said
    assert "first stage 10/12: validation CPM" in said
    assert "the model is" in said
    facts = read_recipe(tmp_path / "run" / "tiny.safetensors").training
    assert (facts["train_folds"], facts["val_folds"], facts["guard"]) == ([0, 1, 2], [3], "series")
    assert (tmp_path / "run" / "first_stage" / "best_first_stage.safetensors").is_file()


def test_a_list_chooses_the_scans(root: Path, tmp_path: Path) -> None:
    """Of the training folds only the listed scans are used."""
    words = ("--folds", "0-2", "--series", root / "train.txt", "--val-folds", "3", "--threads", "1")
    assert run(root, tmp_path / "run", *words) == 0
    facts = read_recipe(tmp_path / "run" / "tiny.safetensors").training
    assert facts["train_series"] == sorted(map(short_hash, ("1.2.1", "1.2.3")))


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--folds", "0-3", "--val-folds", "3"), "training and validation share 1 scan"),
        (("--folds", "0-2"), "no validation scans are named; give --val-folds or --val-series"),
        (("--val-folds", "3"), "no training scans are named; give --folds or --series"),
        (("--folds", "0-8", "--val-folds", "9"), "no prepared scan lies in fold"),
        (("--folds", "0", "--val-folds", "3", "--patients", "patients.csv"), "share 1 patient"),
        (("--folds", "0", "--val-folds", "3", "--cubes", "recipe.json"), "recipe.json holds no nodule cubes"),
        (("--folds", "0", "--val-folds", "3", "--data", "prepared"), "--preproc and --data are two kinds of build"),
        (("--folds", "a", "--val-folds", "3"), "'a' names no folds"),
    ],
)
def test_what_cannot_be_trained_on_is_refused(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], sentence: str
) -> None:
    """One sentence on stderr, exit code 2, no model."""
    full = [root / word if word in ("patients.csv", "recipe.json", "prepared") else word for word in words]
    assert run(root, tmp_path / "run", *full) == 2
    said = capsys.readouterr().err
    assert sentence in said
    assert len(said.splitlines()) == 1
    assert not list(tmp_path.glob("run/*.safetensors"))


def test_flags_of_the_other_build_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Folds without prepared scans mean nothing."""
    assert dispatch(["train-detector", "--out", str(tmp_path / "run"), "--folds", "1", "--cubes", "x.npz"]) == 2
    assert "--folds, --cubes choose scans or nodules for --preproc" in capsys.readouterr().err


def test_two_builds_in_one_folder_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """While one build holds the folder a second one ends with 2 and says who is there."""
    with WorkLock(tmp_path / "build.lock"):
        assert dispatch(["train-detector", "--out", str(tmp_path), "--phantoms", "2"]) == 2
    assert f"build.lock: process {os.getpid()} on " in capsys.readouterr().err


def test_a_run_stops_when_told(root: Path, tmp_path: Path) -> None:
    """SIGTERM in a long first stage: it saves, says where, and leaves with 130."""
    recipe, out = tmp_path / "long.json", tmp_path / "run"
    long = settings_to_json(SETTINGS) | {"first_stage": {"n_patches": 1_000_000, "batch": 2, "workers": 0}}
    recipe.write_text(json.dumps(long | {"mining_at": [0.00001]}))
    words = ["--out", out, "--preproc", root / "prepared", "--config", recipe, "--cases", root / "cases"]
    words += ["--folds", "0-2", "--val-folds", "3", "--device", "cpu", "--threads", "1"]
    process = subprocess.Popen(
        [sys.executable, "-m", "napari_alnct", "train-detector", *map(str, words)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    resume_point = out / "first_stage" / "resume.pt"
    deadline = time.monotonic() + 120
    while not resume_point.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    said, complaint = process.communicate(timeout=120)
    assert process.returncode == 130, said + complaint
    assert re.search(r"stopped (after|in) .*; the same command goes on there", said)
    assert torch.load(resume_point, weights_only=True)["step"] >= 5


def test_a_recipe_changes_what_it_names(tmp_path: Path) -> None:
    """Left-out settings are those of the kind of build, also inside a part."""
    path = tmp_path / "recipe.json"
    path.write_text('{"validate_every": 7, "crops": {"edge_vox": 64}, "mining_at": [0.5]}')
    ours, bundled = read_build_settings(path, PREPARED), read_build_settings(path)
    assert (ours.validate_every, ours.mining_at, ours.crops.edge_vox) == (7, (0.5,), 64)
    assert ours.crops.nodule_share == PREPARED.crops.nodule_share > 0
    assert bundled.crops.nodule_share == BuildSettings().crops.nodule_share == 0
    assert (ours.first_stage, bundled.first_stage) == (PREPARED.first_stage, BuildSettings().first_stage)
