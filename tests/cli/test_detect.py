"""``detect``: the table, the record beside it, messages and exit codes."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from napari_alnct.batch import detection
from napari_alnct.batch.work_lock import WorkLock
from napari_alnct.cli.app import dispatch
from napari_alnct.core.findings import CaseResult, positions_xyz_mm
from napari_alnct.core.geometry import Geometry
from napari_alnct.core.volume import Volume
from napari_alnct.data.phantom import make_phantom, small_settings
from napari_alnct.io.metaimage import read_metaimage, write_metaimage
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


def copy_scan(folder: Path, path: Path) -> Path:
    """Write the good scan once more under another path."""
    image = read_metaimage(folder / "scans" / f"{UID}.mhd")
    write_metaimage(path, image.array, image.geometry)
    return path


def no_lungs(path: Path) -> Path:
    """Write a scan of a slab in air, which passes as HU but shows no lungs."""
    hu = np.full((20, 40, 40), -1000, np.int16)
    hu[:, 5:35, 5:35] = 40
    write_metaimage(path, hu, Geometry(shape_zyx=hu.shape, spacing_zyx_mm=(2.0, 2.0, 2.0)))
    return path


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
    assert record["threshold"] == 0.4  # the first stage's own point, as the second look was off
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


def test_a_single_scan_without_lungs_is_exit_3(folder: Path, tmp_path: Path) -> None:
    """A scan that cannot be used is refused, whatever the reason: no usage error."""
    assert detect(folder, no_lungs(tmp_path / "slab.mha")) == 3


def test_a_failed_row_names_its_scan(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Also where the fault itself does not know the file."""
    assert detect(folder, no_lungs(tmp_path / "slab.mha"), folder / "scans") == 4
    assert "failed: slab.mha: no lungs in this scan" in capsys.readouterr().out


def test_a_fault_that_nobody_foresaw_costs_one_row(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The rows of the other scans are written; the message may hold paths and is not shown."""
    copy_scan(folder, tmp_path / "first.mhd")
    original = detection.read_volume

    def fragile(path: Path, options: object) -> object:
        if path.name == "first.mhd":
            raise MemoryError(f"ZZCANARYZZ {path}")
        return original(path, options)

    monkeypatch.setattr(detection, "read_volume", fragile)
    assert detect(folder, tmp_path / "first.mhd", folder / "scans", "--threshold", "0.3") == 4
    assert {series for series, _ in read_candidates(folder / "out.csv")} == {UID}
    out = capsys.readouterr().out
    assert "failed: first.mhd: not enough memory" in out
    assert "ZZCANARYZZ" not in out + (folder / "out.run.json").read_text()


def test_two_scans_of_one_name_are_not_mixed_in_one_table(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two patients' folders with a file of the same name: the second is a failed row."""
    copy_scan(folder, tmp_path / f"{UID}.mhd")
    assert detect(folder, folder / "scans", tmp_path, "--all") == 4
    assert len(read_candidates(folder / "out.csv")) <= 100
    assert f"failed: {UID}.mhd: has the series or file name of an earlier scan" in capsys.readouterr().out


def test_the_record_holds_no_series_identifier_in_notes(tmp_path: Path) -> None:
    """The reader's sentence on other series of a folder names them; the record gives hashes."""
    uids = ("1.2.840.113619.2.55.3", "2.25.12345.6.7")
    result = CaseResult(
        series_uid=uids[0],
        candidates=(),
        threshold=0.5,
        model_name="m",
        model_sha256="",
        device="cpu",
        notes=(f"The folder holds 2 series; this is {uids[0]}. Others: {uids[1]} (CT, 20 images), 2.5 mm.",),
    )
    record = detection._scan_record(detection.DetectedScan(path=tmp_path, read_seconds=0.0, result=result))
    assert not any(uid in json.dumps(record) for uid in uids)
    assert record["notes"][0].endswith("(CT, 20 images), 2.5 mm.")


def test_a_folder_as_table_is_refused_before_the_work(folder: Path, tmp_path: Path) -> None:
    """Not after hours of searching, when the table is renamed into place."""
    options = ["--model", str(folder / "tiny.safetensors"), "--out", str(tmp_path)]
    assert dispatch(["detect", str(folder / "absent.mhd"), *options]) == 2


def test_names_that_the_terminal_lacks_do_not_end_the_run(folder: Path, tmp_path: Path) -> None:
    """A scan named in Chinese on a Western terminal: escaped, exit 0; as JSON it reads back."""
    copy_scan(folder, tmp_path / "胸部.mhd")
    environment = {**os.environ, "PYTHONIOENCODING": "cp1252"}
    command = [sys.executable, "-m", "napari_alnct", "info", str(tmp_path / "胸部.mhd")]
    plain = subprocess.run(command, env=environment, capture_output=True, check=False)
    assert (plain.returncode, plain.stderr) == (0, b"")
    assert b"\\u80f8" in plain.stdout
    as_json = subprocess.run([*command, "--json"], env=environment, capture_output=True, check=True)
    assert json.loads(as_json.stdout)["file"] == "胸部.mhd"


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


def three_scans(folder: Path, place: Path) -> Path:
    """Write the good scan three times, under the names a, b and c."""
    place.mkdir(parents=True)
    for name in "abc":
        copy_scan(folder, place / f"{name}.mhd")
    return place


def killed_at(n_scans: int, arguments: list[str]) -> int:
    """Run the command in another process that kills itself (SIGKILL) when the scan after `n_scans` is searched."""
    code = f"""
import os, signal, sys
from napari_alnct.cli.app import dispatch
from napari_alnct.core.detector import Detector
original, counts = Detector.detect, []
def mortal(self, *args, **kwargs):
    counts.append(1)
    if len(counts) > {n_scans}:
        os.kill(os.getpid(), signal.SIGKILL)
    return original(self, *args, **kwargs)
Detector.detect = mortal
sys.exit(dispatch(sys.argv[1:]))
"""
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, check=False).returncode


def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Note the series of every scan that is searched from now on."""
    searched: list[str] = []
    original = detection.Detector.detect

    def noting(self: detection.Detector, volume: Volume, *args: object, **kwargs: object) -> CaseResult:
        searched.append(volume.series_uid)
        return original(self, volume, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(detection.Detector, "detect", noting)
    return searched


@pytest.fixture(scope="module")
def killed(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder with three scans and the journal of a run over them that was killed in the third."""
    root = tmp_path_factory.mktemp("killed")
    scans, out = three_scans(folder, root / "work" / "three"), root / "work" / "t.csv"
    arguments = ["detect", str(scans), "--model", str(folder / "tiny.safetensors"), "--device", "cpu", "--all"]
    assert killed_at(2, [*arguments, "--out", str(out)]) == -9
    assert not out.exists()
    shutil.copytree(root / "work", root / "kept")
    return root


@pytest.fixture
def stopped(killed: Path) -> tuple[Path, Path]:
    """Give its scans and its table, as they were just after the kill, in the same place."""
    shutil.rmtree(killed / "work")
    shutil.copytree(killed / "kept", killed / "work")
    return killed / "work" / "three", killed / "work" / "t.csv"


def again(folder: Path, scans: Path, out: Path, *more: str) -> int:
    arguments = [str(scans), "--model", str(folder / "tiny.safetensors"), "--device", "cpu", "--all", "--out", str(out)]
    return dispatch(["detect", *arguments, *more])


def test_a_killed_run_goes_on_where_it_ended(
    folder: Path,
    stopped: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Killed with -9 in the third scan: the same command searches that one alone; same table as without the kill."""
    scans, out = stopped
    searched = counted(monkeypatch)
    assert again(folder, scans, out) == 0
    assert searched == ["c"]
    assert "going on: 2 scans were finished before" in capsys.readouterr().out
    assert again(folder, scans, tmp_path / "whole.csv") == 0
    assert out.read_bytes() == (tmp_path / "whole.csv").read_bytes()
    assert json.loads((out.parent / "t.run.json").read_text())["n_scans_of_earlier_runs"] == 2
    assert {path.name for path in out.parent.iterdir()} == {"three", "t.csv", "t.run.json"}


def test_a_new_threshold_does_not_cost_the_finished_scans(
    folder: Path, stopped: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The journal holds all candidates, so the table follows the threshold of the last command."""
    scans, out = stopped
    searched = counted(monkeypatch)
    assert again(folder, scans, out, "--threshold", "0.6") == 0
    assert searched == ["c"]
    record = json.loads((out.parent / "t.run.json").read_text())
    assert {scan["threshold"] for scan in record["scans"]} == {0.6}


def test_a_torn_last_line_costs_one_scan(
    folder: Path, stopped: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Power was lost in the middle of a line: that scan is searched again, the ones before it are kept."""
    scans, out = stopped
    journal = out.with_name("t.csv.partial.jsonl")
    journal.write_bytes(journal.read_bytes()[:-40])
    searched = counted(monkeypatch)
    assert again(folder, scans, out) == 0
    assert searched == ["b", "c"]
    assert {series for series, _ in read_candidates(out)} == {"a", "b", "c"}


@pytest.mark.parametrize(
    ("more", "searched_again", "told"),
    [
        (["--overwrite"], ["a", "b", "c"], "3 of 3 scans done"),
        (["--no-second-look"], ["a", "b", "c"], "with another settings; all scans are searched afresh"),
        (["--allow-symlinks"], ["a", "b", "c"], "with another reading; all scans are searched afresh"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else None,
)
def test_what_was_found_in_another_way_is_not_mixed_in(
    folder: Path,
    stopped: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    more: list[str],
    searched_again: list[str],
    told: str,
) -> None:
    """Other settings, other permissions, or --overwrite: every scan is searched again, and it is said."""
    scans, out = stopped
    searched = counted(monkeypatch)
    assert again(folder, scans, out, *more) == 0
    assert searched == searched_again
    assert told in capsys.readouterr().out


def test_a_scan_that_changed_is_searched_again(
    folder: Path, stopped: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The voxels beside the header have another time: that scan and the one not yet done, and it is said."""
    scans, out = stopped
    os.utime(next(path for path in scans.glob("b.*raw")), (1, 1))
    searched = counted(monkeypatch)
    assert again(folder, scans, out) == 0
    assert searched == ["b", "c"]
    assert "note: b.mhd has changed since it was searched" in capsys.readouterr().out


def test_another_model_starts_afresh(
    folder: Path, stopped: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hash of the file decides, not its name."""
    scans, out = stopped
    write_tiny_model(tmp_path / "other" / "tiny.safetensors", with_classifier=False)
    searched = counted(monkeypatch)
    assert again(tmp_path / "other", scans, out) == 0
    assert searched == ["a", "b", "c"]


def test_a_table_that_is_being_written_is_left_alone(
    folder: Path, stopped: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """A second process with the same --out is refused; the lock of the killed one is not in the way."""
    scans, out = stopped
    with WorkLock(out.with_name("t.csv.partial.lock")):
        assert again(folder, scans, out) == 2
    assert "is at this work" in capsys.readouterr().err


def test_a_wrong_path_is_refused_before_torch_is_loaded(tmp_path: Path) -> None:
    """At once: exit 3, the name, and no import of torch; also when another path is right."""
    code = (
        "import sys\nfrom napari_alnct.cli.app import dispatch\n"
        "print(dispatch(sys.argv[1:]), *(name for name in ('torch', 'SimpleITK') if name in sys.modules))"
    )
    (tmp_path / "there.mhd").touch()
    for paths in (["absent.mhd"], ["there.mhd", "absent.mhd"]):
        command = [sys.executable, "-c", code, "detect", *paths]
        run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
        assert run.stdout.split() == ["3"]
        assert "absent.mhd: expected a scan or folder, found nothing; check the path" in run.stderr


def test_folds_and_a_list_of_series_choose_the_scans(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """--folds by the subset folders, --series by name; what is not there is refused by name."""
    for name, fold in (("a", 0), ("b", 0), ("c", 3)):
        (tmp_path / "raw" / f"subset{fold}").mkdir(parents=True, exist_ok=True)
        copy_scan(folder, tmp_path / "raw" / f"subset{fold}" / f"{name}.mhd")
    (tmp_path / "list.csv").write_text("seriesuid\na\nc\n")
    for choice, expected in ((["--folds", "1-3"], {"c"}), (["--series", str(tmp_path / "list.csv")], {"a", "c"})):
        assert detect(folder, tmp_path / "raw", "--all", *choice) == 0
        assert {series for series, _ in read_candidates(folder / "out.csv")} == expected
    (tmp_path / "list.csv").write_text("a\nx\n")
    assert detect(folder, tmp_path / "raw", "--series", tmp_path / "list.csv") == 2
    assert "1 of its 2 series are not among the 3 scans, the first is x" in capsys.readouterr().err
    assert detect(folder, tmp_path / "raw", "--folds", "7") == 2
    assert detect(folder, tmp_path / "raw", "--folds", "two") == 2


def test_a_table_of_names_gives_the_series(folder: Path, tmp_path: Path) -> None:
    """Where scans.csv names the files, a chosen scan has the series that the annotations use."""
    (tmp_path / "raw").mkdir()
    copy_scan(folder, tmp_path / "raw" / "a.mhd")
    (tmp_path / "raw" / "scans.csv").write_text("file,seriesuid\na.mhd,1.2.3\n")
    (tmp_path / "list.csv").write_text("1.2.3\n")
    assert detect(folder, tmp_path / "raw", "--all", "--series", tmp_path / "list.csv") == 0
    assert {series for series, _ in read_candidates(folder / "out.csv")} == {"1.2.3"}
