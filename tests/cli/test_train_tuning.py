"""``train --tune``: flags that fix a setting, refusals, messages, exit codes."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from napari_alnct.cli.app import dispatch
from tests.batch.tuning_case import command, write_stores


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder with patches."""
    root = tmp_path_factory.mktemp("tuning")
    write_stores(root)
    return root


def train(folder: Path, save_dir: Path, *arguments: object) -> int:
    return dispatch(command(folder, save_dir, *arguments)[3:])


def test_flags_that_are_given_are_not_searched(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """--lr and --feat-mult stay as given; the table has columns for the others. A line per trial."""
    assert train(folder, tmp_path / "m", "--tune", 1, "--lr", 0.002, "--feat-mult", 1) == 0
    with (tmp_path / "m" / "trials.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert {"learning_rate", "width", "stages", "blocks", "strength"} & set(row) == set()
    assert {"weight_decay", "dropout", "neg_ratio"} <= set(row)
    out = capsys.readouterr().out
    assert "trial 0 (1 of 1 done): done after 2 epochs" in out
    assert "lr 2.0e-03" in out
    assert "the search is done: 1 trials" in out
    assert "trained in full: best validation AUC" in out
    assert (tmp_path / "m" / "best_full" / "best.safetensors").is_file()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--overwrite"], "choose another --save-dir"),
        (["--shuffle-labels"], "without --tune"),
        (["--dropout", "0.1", "--lr", "0.1", "--weight-decay", "0", "--neg-ratio", "1", "--feat-mult", "1"], "nothing"),
    ],
    ids=["overwrite", "control", "all fixed"],
)
def test_what_makes_no_sense_is_refused(
    folder: Path, tmp_path: Path, arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """One sentence, exit code 2."""
    assert train(folder, tmp_path / "m", "--tune", 2, *arguments) == 2
    assert sentence in capsys.readouterr().err


def test_torchrun_is_refused(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A trial is one process; several processes share the study instead."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert train(folder, tmp_path / "m", "--tune", 2) == 2


@pytest.mark.parametrize(
    "flag", [("--timeout", 5), ("--study", "s.journal"), ("--tune-epochs", 3), ("--pruner", "median")], ids=str
)
def test_flags_of_a_search_need_one(
    folder: Path, tmp_path: Path, flag: tuple[str, object], capsys: pytest.CaptureFixture[str]
) -> None:
    """Without --tune they would do nothing: refused by name, exit code 2."""
    assert train(folder, tmp_path / "m", *flag) == 2
    assert f"{flag[0]} is of a search" in capsys.readouterr().err
