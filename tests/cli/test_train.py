"""``train``: one command from patches to a model, killed, stopped, shared by processes."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from napari_alnct.batch.work_lock import WorkLock
from napari_alnct.cli import training_display
from napari_alnct.cli.app import dispatch
from napari_alnct.cli.training_display import TrainingDisplay, epoch_line
from napari_alnct.core.checkpoint import read_checkpoint
from napari_alnct.core.config import to_json
from napari_alnct.training.classifier import EpochReport, StepReport
from napari_alnct.training.resume import CURRENT
from tests.training.patches import TINY, write_patches

DYING = """
import os, signal, sys, torch
from napari_alnct.cli.app import dispatch
from napari_alnct.cli.training_display import TrainingDisplay

def die(display, report):
    if report.step == {step}:
        os.kill({whom}, signal.{signal})

TrainingDisplay.step = die
torch.set_num_threads({threads})
sys.exit(dispatch(sys.argv[1:]))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Give a folder with training and validation patches and settings."""
    write_patches(tmp_path / "train", series=["1.2.3"], seed=1)
    write_patches(tmp_path / "val", series=["1.2.4"], seed=2, n=8)
    (tmp_path / "settings.json").write_text(json.dumps(to_json(TINY)))
    return tmp_path


def command(folder: Path, run: str, *more: str) -> list[str]:
    sides = [f"--{side}-csv={folder / side / 'patch_map.csv'}" for side in ("train", "val")]
    place = [f"--save-dir={folder / run}", f"--config={folder / 'settings.json'}", "--device=cpu"]
    return ["train", *sides, *place, *more]


def die_at(
    step: int, how: str, folder: Path, run: str, *more: str, whom: str = "os.getpid()"
) -> subprocess.CompletedProcess[str]:
    """Train in a process of its own that gets a signal at a step; with `whom` 0 its workers get it too."""
    script = DYING.format(step=step, signal=how, threads=torch.get_num_threads(), whom=whom)
    arguments = [sys.executable, "-c", script, *command(folder, run, *more)]
    return subprocess.run(arguments, capture_output=True, text=True, timeout=200, start_new_session=True)


def state(folder: Path) -> dict[str, torch.Tensor]:
    stored = torch.load(folder / CURRENT, weights_only=True)
    return {f"{part}.{k}": v for part in ("network", "average") for k, v in stored[part].items()}


def lines(path: Path) -> list[list[str]]:
    with path.open() as file:
        return [[cell for name, cell in row.items() if name != "seconds"] for row in csv.DictReader(file)]


def test_one_command_trains_and_says_what_it_did(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A line per epoch on stdout, the level of the leak guard, a model; flags win over the file."""
    assert dispatch(command(folder, "run", "--epochs", "2", "--feat-mult", "2.0", "--lr", "0.002")) == 0
    out, err = capsys.readouterr()
    assert [line[:10] for line in out.splitlines()[:2]] == ["epoch 1/2 ", "epoch 2/2 "]
    assert "leak guard: series level" in out
    assert err == ""
    training = read_checkpoint(folder / "run" / "best.safetensors").recipe.training["settings"]
    assert (training["epochs"], training["network"]["feat_mult"], training["learning_rate"]) == (2, 2.0, 0.002)
    assert training["batch"] == TINY.batch


def test_two_runs_in_one_folder_are_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """While one run holds the folder a second one ends with 2 and says who is there; afterwards it is free again."""
    (folder / "run").mkdir()
    with WorkLock(folder / "run" / "train.lock"):
        assert dispatch(command(folder, "run", "--epochs", "1")) == 2
    assert f"train.lock: process {os.getpid()} on " in capsys.readouterr().err
    assert not (folder / "run" / "best.safetensors").exists()
    assert dispatch(command(folder, "run", "--epochs", "1")) == 0
    assert not (folder / "run" / "train.lock").exists()


@pytest.mark.skipif(os.name != "posix", reason="kill -9 is a POSIX signal")
def test_kill_9_in_mid_epoch_and_resume_give_the_weights_of_an_uninterrupted_run(folder: Path) -> None:
    """Killed in step 11 of 12 (resume point 9), with dropout, changed patches and a loader's process: bit for bit."""
    settings = replace(
        TINY,
        workers=1,
        network=replace(TINY.network, dropout=0.3),
        augment=replace(TINY.augment, strength=1.0, backend="batched"),
        precision="auto",
    )
    (folder / "settings.json").write_text(json.dumps(to_json(settings)))
    assert dispatch(command(folder, "whole")) == 0
    assert die_at(11, "SIGKILL", folder, "cut").returncode == -signal.SIGKILL
    assert torch.load(folder / "cut" / CURRENT, weights_only=True)["step"] == 9
    assert lines(folder / "cut" / "steps.csv")[-1][0] == "10"
    assert dispatch(command(folder, "cut", "--resume")) == 0
    whole, cut = state(folder / "whole"), state(folder / "cut")
    assert all(torch.equal(whole[name], cut[name]) for name in whole)
    models = [read_checkpoint(folder / run / "best.safetensors") for run in ("whole", "cut")]
    ours, theirs = (model.classifier.state_dict() for model in models if model.classifier)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    for name in ("log.csv", "steps.csv"):
        assert lines(folder / "cut" / name) == lines(folder / "whole" / name)


@pytest.mark.skipif(os.name != "posix", reason="signals to a process are a POSIX feature")
def test_ctrl_c_saves_and_leaves_with_130(folder: Path) -> None:
    """The step ends, a resume point holds it, the exit code is 130 and a line says how to go on."""
    ended = die_at(6, "SIGINT", folder, "run")
    assert ended.returncode == 130
    assert "stopped after step 6 of 12; the same command with --resume goes on there" in ended.stdout
    assert ended.stderr == "napari-alnct-train: cancelled; nothing was left half-written\n"
    assert torch.load(folder / "run" / CURRENT, weights_only=True)["step"] == 6
    assert (folder / "run" / "best.safetensors").is_file()


@pytest.mark.skipif(os.name != "posix", reason="signals to a process are a POSIX feature")
@pytest.mark.parametrize("how", ["SIGTERM", "SIGINT"])
def test_a_signal_to_the_whole_group_saves_too(how: str, folder: Path) -> None:
    """A scheduler's SIGTERM, or Ctrl-C in a terminal, reaches the workers as well: still saved, 130, one sentence."""
    ended = die_at(6, how, folder, "run", "--workers=2", whom="0")
    assert ended.returncode == 130
    assert ended.stderr == "napari-alnct-train: cancelled; nothing was left half-written\n"
    assert torch.load(folder / "run" / CURRENT, weights_only=True)["step"] >= 6


def test_two_processes_give_the_result_of_one(folder: Path) -> None:
    """2 gloo processes started by torchrun, group norm, float32: weights within 1e-5 of one process, one set of files.

    The batch of 4 is 2 + 2, so only the order of sums differs. (Dropout is off: each process draws its own.)
    """
    settings = replace(TINY, network=replace(TINY.network, dropout=0.0))
    (folder / "settings.json").write_text(json.dumps(to_json(settings)))
    assert dispatch(command(folder, "one")) == 0
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    arguments = [*torchrun, "-m", "napari_alnct.cli.app", *command(folder, "two")]
    ended = subprocess.run(
        arguments, capture_output=True, text=True, timeout=250, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    assert ended.returncode == 0, ended.stderr
    assert [line.split()[1] for line in ended.stdout.splitlines() if line.startswith("epoch")] == ["1/3", "2/3", "3/3"]
    assert "Warning" not in ended.stderr
    one, two = state(folder / "one"), state(folder / "two")
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, atol=1e-5, rtol=1e-4)
    ours, theirs = (lines(folder / run / "log.csv") for run in ("one", "two"))
    assert len(theirs) == 3
    for mine, other in zip(ours, theirs, strict=True):
        assert [float(v) for v in other] == pytest.approx([float(v) for v in mine], rel=1e-3, abs=1e-5)
    recipe = read_checkpoint(folder / "two" / "best.safetensors").recipe
    assert recipe.training["n_processes"] == 2


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (["--epochs", "0"], "epochs is 0, allowed is 1 to 100000"),
        (["--resume", "--overwrite"], "not both"),
        (["--config", "absent.json"], "absent.json: not a readable JSON file"),
    ],
    ids=["bounds", "flags", "file"],
)
def test_wrong_settings_are_one_sentence_and_code_2(
    change: list[str], sentence: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is trained, nothing is written."""
    arguments = [a for a in command(folder, "run") if "--config" not in a or "--config" not in change]
    assert dispatch([*arguments, *change]) == 2
    err = capsys.readouterr().err
    assert sentence in err
    assert err.count("\n") == 1
    assert not (folder / "run" / "best.safetensors").exists()


def test_the_same_patches_on_both_sides_are_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The leak guard of the command."""
    sides = [f"--{side}-csv={folder / 'train'}" for side in ("train", "val")]
    assert dispatch(["train", *sides, f"--save-dir={folder / 'run'}"]) == 2
    assert "training and validation share 1 scan" in capsys.readouterr().err


def test_a_terminal_gets_a_live_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Epoch, step, loss, AUC, learning rate, patches per second; lines of epochs go to stdout."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "160")
    clock = iter([10.0, 10.5, 11.0])
    with TrainingDisplay(n_epochs=5, batch=16) as display:
        monkeypatch.setattr(training_display.time, "monotonic", lambda: next(clock))
        for step in (49, 50, 51):
            display.step(StepReport(step, 100, 0.25, 5e-4))
        monkeypatch.undo()
        assert display._bar is not None
        task = display._bar.tasks[0]
        assert (task.description, task.completed, task.total) == ("epoch 3/5, step", 51, 100)
        assert task.fields["facts"] == "loss 0.250  AUC -  lr 5.0e-04  32 patches/s"
        display.epoch(EpochReport(3, 5, 0.2, 0.3, 0.9, 4e-4, 12.0, is_best=True))
        display.step(StepReport(61, 100, 0.2, 4e-4))
        assert "AUC 0.9000" in display._bar.tasks[0].fields["facts"]
    out, _ = capsys.readouterr()
    assert out == "epoch 3/5  loss 0.2000  val loss 0.3000  val AUC 0.9000  lr 4.00e-04  12 s  best\n"


def test_steps_that_float16_left_out_are_said() -> None:
    """Skipping is never silent."""
    report = EpochReport(3, 5, 0.2, 0.3, 0.9, 4e-4, 12.0, is_best=False, n_overflows=2)
    assert epoch_line(report).endswith("12 s  2 steps left out (float16 overflow)")
