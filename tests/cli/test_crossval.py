"""``crossval`` from the command line: the real trainer, tiny; plans, second runs, refusals, exit codes."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest

from napari_alnct.cli.app import dispatch
from napari_alnct.training.loop import TrainSettings
from napari_alnct.training.settings import settings_to_json
from tests.batch.crossval_parts import make_raw
from tests.training.tiny_build import SETTINGS


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give three scans in three folds, and the recipe of a tiny detector beside them."""
    raw = make_raw(tmp_path_factory.mktemp("crossval") / "raw", n_scans=3)
    schedule = TrainSettings(n_patches=160, batch=4, learning_rate=0.01, workers=0, ema=0.9)
    settings = replace(SETTINGS, first_stage=schedule, mining_at=(0.5,), validate_every=40)
    (raw.parent / "tiny.json").write_text(json.dumps(settings_to_json(settings)))
    return raw


def crossval(raw: Path, work_dir: Path, *more: str) -> int:
    paths = ["--raw-root", str(raw), "--work-dir", str(work_dir), "--config", str(raw.parent / "tiny.json")]
    return dispatch(["crossval", *paths, "--device", "cpu", "--threads", "1", "--bootstrap", "50", *more])


def test_one_command_from_raw_scans_to_a_joined_froc(
    raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Prepared, trained, tested, judged; a second call does nothing again; the plan then knows the times."""
    work = tmp_path / "cv"
    assert crossval(raw, work, "--only-fold", "0") == 0
    out = capsys.readouterr().out
    assert "fold 0: training on 1 scans, validation on 1" in out
    assert "1 of 3 folds joined, 1 scans: CPM" in out
    assert "Not a medical device" in out
    froc = json.loads((work / "joined" / "froc.json").read_text())
    assert (froc["n_scans"], froc["n_nodules"]) == (1, 2)
    with (work / "joined" / "folds.csv").open(newline="") as stream:
        (row,) = csv.DictReader(stream)
    assert (row["fold"], row["val_fold"], row["n_train"], row["n_nodules"]) == ("0", "1", "1", "2")
    assert float(row["cpm"]) == pytest.approx(froc["cpm"], abs=1e-6)
    assert "first stage" in (work / "fold0" / "training.log").read_text()
    trained = (work / "fold0" / "model.json").stat().st_mtime_ns
    assert crossval(raw, work, "--only-fold", "0") == 0
    assert (work / "fold0" / "model.json").stat().st_mtime_ns == trained
    assert "training on" not in capsys.readouterr().out
    assert crossval(raw, work, "--dry-run") == 0
    out = capsys.readouterr().out
    assert "done (1 scans tested)" in out
    assert "train: going on, 1 of 3 folds" in out
    assert "time to train 2 folds: about" in out


def test_a_dry_run_shows_the_plan_and_writes_nothing(
    raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Folds, parts, guard; of times only that none was measured."""
    patients = tmp_path / "patients.csv"
    patients.write_text("seriesuid,patient\nscan0,A\nscan1,B\nscan2,C\n")
    assert crossval(raw, tmp_path / "cv", "--dry-run", "--folds", "0-1", "--patients", str(patients)) == 0
    out = capsys.readouterr().out
    assert "2 of 3 folds to test, 3 scans; leak guard: patient level" in out
    assert "time to train 2 folds: not known, none was measured in this folder yet" in out
    assert not (tmp_path / "cv").exists()


@pytest.mark.parametrize(
    ("more", "code", "message"),
    [
        (["--folds", "7"], 2, "there are no scans in fold 7; the folds are 0, 1, 2"),
        (["--folds", "0-1", "--only-fold", "2"], 2, "--only-fold 2 is not among the folds to test, which are 0, 1"),
        (["--folds", "first"], 2, "'first' names no folds"),
        (["--patients", "{leak}"], 2, "1 patient of the test is in training too, the first is A"),
    ],
    ids=["a fold too many", "a fold not chosen", "no number", "a patient in two folds"],
)
def test_what_cannot_be_done_is_said_before_any_work(
    raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], code: int, message: str
) -> None:
    """One sentence, exit 2, and no work folder."""
    leak = tmp_path / "leak.csv"
    leak.write_text("series,patient\nscan0,A\nscan1,B\nscan2,A\n")
    assert crossval(raw, tmp_path / "cv", *(text.format(leak=leak) for text in more)) == code
    assert message in capsys.readouterr().err
    assert not (tmp_path / "cv").exists()


def test_an_absent_data_set_is_refused(tmp_path: Path) -> None:
    """As a path that is wrong: exit 3."""
    assert dispatch(["crossval", "--raw-root", str(tmp_path / "no"), "--work-dir", str(tmp_path / "cv")]) == 3
