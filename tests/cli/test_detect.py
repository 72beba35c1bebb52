"""``detect``: the table, the record beside it, messages and exit codes."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from napari_alnct.batch import detection
from napari_alnct.cli.app import dispatch
from napari_alnct.core.findings import positions_xyz_mm
from napari_alnct.data.phantom import make_phantom, small_settings
from napari_alnct.io.metaimage import write_metaimage
from napari_alnct.io.tables import read_candidates
from tests.core.tiny_models import write_tiny_model

UID = "2.25.77"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder with a tiny model and one good scan in ``scans``."""
    root = tmp_path_factory.mktemp("detect")
    write_tiny_model(root / "tiny.safetensors")
    (root / "scans").mkdir()
    volume = make_phantom(small_settings(seed=5)).volume
    write_metaimage(root / "scans" / f"{UID}.mhd", volume.hu, volume.geometry)
    return root


def detect(folder: Path, *arguments: object) -> int:
    options = ["--model", folder / "tiny.safetensors", "--device", "cpu", "--out", folder / "out.csv"]
    return dispatch(["detect", *map(str, [*arguments, *options])])


def test_the_table_holds_the_candidates_at_or_above_the_threshold(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """LUNA16's columns and the diameter; falling scores, none below; inside the scan; the notice on stdout."""
    assert detect(folder, folder / "scans", "--threshold", "0.5") == 0
    with (folder / "out.csv").open(newline="") as stream:
        header = next(csv.reader(stream))
    assert header == ["seriesuid", "coordX", "coordY", "coordZ", "probability", "diameter_mm"]
    rows = read_candidates(folder / "out.csv")
    scores = [candidate.score for _, candidate in rows]
    assert {series for series, _ in rows} == {UID}
    assert scores == sorted(scores, reverse=True)
    assert min(scores) >= 0.5
    grid = make_phantom(small_settings(seed=5)).volume.geometry
    assert grid.contains(positions_xyz_mm(candidate for _, candidate in rows)).all()
    assert "Not a medical device" in capsys.readouterr().out


def test_all_writes_what_the_threshold_hides(folder: Path) -> None:
    """``--all`` is a superset, at most 100 a scan."""
    detect(folder, folder / "scans", "--all")
    everything = read_candidates(folder / "out.csv")
    middle = everything[len(everything) // 2][1].score
    detect(folder, folder / "scans", "--threshold", str(middle))
    shown = read_candidates(folder / "out.csv")
    assert 0 < len(shown) < len(everything) <= 100
    assert everything[: len(shown)] == shown


def test_the_record_tells_how_the_table_was_made(folder: Path) -> None:
    """Model hash, settings, versions, device and seconds per stage; the series only as a hash."""
    detect(folder, folder / "scans", "--no-second-look")
    text = (folder / "out.run.json").read_text()
    record = json.loads(text)
    assert len(record["model"]["sha256"]) == 64
    assert record["threshold"] == 0.3
    assert record["settings"]["second_look"] is False
    assert record["scans"][0]["status"] == "done"
    assert set(record["scans"][0]["seconds"]) == {"lungs", "resample", "network", "second look"}
    assert record["notice"].startswith("Research software")
    assert UID not in text


def test_one_bad_scan_is_a_failed_row_and_exit_4(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The good scan is written, the bad one is named with its code."""
    bad = tmp_path / "bad.mhd"
    bad.write_text("ObjectType = Image\n")
    assert detect(folder, bad, folder / "scans" / f"{UID}.mhd") == 4
    assert {series for series, _ in read_candidates(folder / "out.csv")} == {UID}
    assert "failed: bad.mhd" in capsys.readouterr().out
    statuses = [scan["status"] for scan in json.loads((folder / "out.run.json").read_text())["scans"]]
    assert statuses == ["failed", "done"]


def test_a_single_refused_scan_is_exit_3_and_one_sentence(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is written, the sentence ends with its code."""
    bad = tmp_path / "bad.mhd"
    bad.write_text("ObjectType = Image\n")
    (folder / "out.csv").unlink(missing_ok=True)
    assert detect(folder, bad) == 3
    assert not (folder / "out.csv").exists()
    assert capsys.readouterr().err.strip().endswith("[E_KEY_MISSING]")


def test_an_unknown_model_and_a_missing_folder_are_usage_errors(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit 2, before any scan is read."""
    assert dispatch(["detect", str(folder / "scans"), "--model", "nope"]) == 2
    assert "no model called nope" in capsys.readouterr().err
    assert dispatch(["detect", str(folder / "scans"), "--out", str(folder / "no" / "out.csv")]) == 2


def test_cancel_writes_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C in mid-run: exit 130, no table."""
    (folder / "out.csv").unlink(missing_ok=True)

    def interrupted(*_: object, **__: object) -> object:
        raise KeyboardInterrupt

    monkeypatch.setattr(detection.Detector, "detect", interrupted)
    assert detect(folder, folder / "scans") == 130
    assert not (folder / "out.csv").exists()
