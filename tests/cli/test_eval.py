"""``eval``: files, figures, messages and exit codes."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from napari_alnct.cli.app import dispatch
from napari_alnct.core.config import to_json
from napari_alnct.io.identifiers import short_hash
from tests.batch.tiny_patches import SMALL, series_uid, small_network, small_rows, write_patches, write_small_model


@pytest.fixture(autouse=True)
def quick_pictures(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the drawing out, which has tests of its own, but for the documented line."""
    if "documented" not in request.node.name:
        monkeypatch.setattr("napari_alnct.evaluation.curve_plots._png", lambda _: b"\x89PNG")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Give patches of six scans and a model that was trained on others."""
    write_patches(tmp_path / "val")
    write_small_model(tmp_path / "best.safetensors", training={"train_series": [short_hash("other")]})
    return tmp_path


def run(folder: Path, *arguments: object, ckpt: str = "best.safetensors") -> int:
    fixed = ["--csv", folder / "val" / "patch_map.csv", "--plot-dir", folder / "plots" / "val", "--device", "cpu"]
    model = ckpt if ckpt == "default" else folder / ckpt
    return dispatch(["eval", "--ckpt", str(model), *map(str, [*fixed, "--bootstrap", 20, *arguments])])


def metrics(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "plots" / "val" / "metrics.json").read_text())


def test_the_documented_line_writes_everything(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Figures, curves, pictures and scores, in folders that are made; a summary with notes and the notice."""
    assert run(folder, "--out-csv", folder / "results" / "val_candidates.csv", "--seed", 3) == 0
    figures = metrics(folder)
    assert (figures["counts"]["patches"], figures["counts"]["scans"]) == (24, 6)
    assert (figures["bootstrap"]["samples"], figures["bootstrap"]["seed"]) == (20, 3)
    assert figures["operating_point"]["rule"] == "default"
    out = capsys.readouterr().out
    assert f"small: AUC {figures['auc']:.3f} (95 % CI" in out
    assert "12 patches with a nodule and 12 without, of 6 scans; the intervals draw scans" in out
    assert "Note: There are only 6 scans" in out
    assert "metrics.json, roc.png, pr.png, roc.csv" in out
    assert "Not a medical device" in out
    with (folder / "results" / "val_candidates.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert list(rows[0]) == ["seriesuid", "coordX", "coordY", "coordZ", "probability", "label", "diameter_mm", "kind"]
    assert len(rows) == 24


def test_froc_takes_the_scores(folder: Path) -> None:
    """The table of scores is a table of candidates: every nodule is hit by its own patches."""
    run(folder, "--out-csv", folder / "c.csv")
    lines = [f"{series_uid(scan)},40,30.5,-20.25,{4 + 3 * scan}" for scan in range(6)]
    (folder / "nodules.csv").write_text("seriesuid,coordX,coordY,coordZ,diameter_mm\n" + "\n".join(lines))
    (folder / "scans.csv").write_text("\n".join(map(series_uid, range(6))))
    tables = ["--candidates", "c.csv", "--annotations", "nodules.csv", "--seriesuids", "scans.csv", "--out-dir", "froc"]
    line = [part if part.startswith("--") else str(folder / part) for part in tables]
    assert dispatch(["froc", *line, "--bootstrap", "0"]) == 0
    assert json.loads((folder / "froc" / "froc.json").read_text())["true_positives"] == 6


def test_the_same_seed_gives_the_same_file(folder: Path) -> None:
    """Twice the same figures, byte by byte."""
    texts = []
    for _ in range(2):
        assert run(folder, "--operating-point", "youden") == 0
        texts.append((folder / "plots" / "val" / "metrics.json").read_bytes())
    assert texts[0] == texts[1]
    assert metrics(folder)["operating_point"]["is_optimistic"] is True


def test_weights_with_their_shape_give_the_same_figures(folder: Path) -> None:
    """The network of the model file as a .pth of a distributed run, with the JSON of its shape beside it."""
    run(folder)
    expected = metrics(folder)["auc"]
    weights = {f"module.{key}": value for key, value in small_network().state_dict().items()}
    torch.save({"model": weights}, folder / "w.pth")
    (folder / "w.json").write_text(json.dumps({"network": to_json(SMALL)}))
    assert run(folder, ckpt="w.pth") == 0
    figures = metrics(folder)
    assert figures["auc"] == expected
    assert (figures["model"]["weights_key"], figures["model"]["has_recipe"]) == ("model", False)


def test_the_bundled_model_is_known_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its second look judges 64-voxel patches."""
    write_patches(tmp_path / "val", small_rows(1), edge=64)
    assert run(tmp_path, ckpt="default") == 0
    assert "All patches come from one scan" in capsys.readouterr().out
    assert metrics(tmp_path)["model"]["network"]["widths"] == [24, 48, 96]


def test_a_single_class_is_judged_as_far_as_possible(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One sentence on what is undefined, exit code 0, the other files written."""
    write_patches(folder / "val", [row for row in small_rows() if not row.label])
    assert run(folder) == 0
    out = capsys.readouterr().out
    assert "AUC undefined" in out
    assert "The table holds only patches without nodule: ROC curve, AUC and average precision are undefined." in out
    assert (folder / "plots" / "val" / "calibration.png").is_file()
    assert not (folder / "plots" / "val" / "roc.png").exists()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--feat-mult", 2.0], "best.safetensors was made with feat_mult 1, not 2"),
        (["--operating-point", "best"], "operating point 'best' is unknown"),
        (["--config", "x.json"], "holds its own settings"),
        (["--out-csv", "FOLDER"], "is a folder; name a file in it"),
        (["--plot-dir", "FOLDER/val/patch_map.csv"], "patch_map.csv is a file; choose a folder"),
        (["--csv", "FOLDER/nothing.csv"], "nothing.csv does not exist"),
        (["--ckpt", "FOLDER/nothing.pth"], "nothing.pth: no such model file"),
        (["--batch", 0], "Must be >= 1"),
    ],
    ids=lambda value: str(value[0]) if isinstance(value, list) else "",
)
def test_faults_are_one_sentence(
    folder: Path, arguments: list[object], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2, one line on stderr, nothing written."""
    fixed = {"--csv": "FOLDER/val", "--ckpt": "FOLDER/best.safetensors", "--plot-dir": "FOLDER/plots/val"}
    fixed |= {str(arguments[0]): str(arguments[1])}
    line = [part.replace("FOLDER", str(folder)) for pair in fixed.items() for part in pair]
    assert dispatch(["eval", *line, "--device", "cpu"]) == 2
    err = capsys.readouterr().err
    assert sentence in err
    assert len(err.strip().splitlines()) == 1
    assert not (folder / "plots").exists()


def test_training_scans_are_refused_unless_allowed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The leak guard: refused in one sentence; allowed, the figures say so."""
    write_small_model(folder / "best.safetensors", training={"train_series": [short_hash(series_uid(0))]})
    assert run(folder) == 2
    assert "was trained on 1 of the 6 scans in the table" in capsys.readouterr().err
    assert run(folder, "--allow-trained-on") == 0
    assert "these are no figures of unseen scans" in metrics(folder)["notes"][0]


def test_code_in_a_model_file_does_not_run(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A whole pickled network is refused with what to do instead."""
    torch.save(small_network(), folder / "whole.pth")
    assert run(folder, ckpt="whole.pth") == 2
    assert "holds pickled objects, which can run code when they are read, and was not opened" in capsys.readouterr().err


def test_an_interrupted_run_leaves_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C while the patches are scored: exit code 130, no files."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("napari_alnct.cli.count_bar.CountBar.show", stop)
    assert run(folder, "--out-csv", folder / "c.csv") == 130
    assert not (folder / "plots").exists()
    assert not (folder / "c.csv").exists()
