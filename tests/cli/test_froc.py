"""``froc``: files, figures, messages and exit codes."""

from __future__ import annotations

import csv
import gzip
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from napari_alnct.cli.app import dispatch
from tests.evaluation.reference import expected, reference_paths

HEADER = "seriesuid,coordX,coordY,coordZ,"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Give tables worked by hand: scans a, b, c; nodules in a and b; a finds its nodule, b an excluded finding."""
    (tmp_path / "marks.csv").write_text(f"{HEADER}probability\na,0,0,1,0.9\na,50,0,0,0.8\nb,50,0,0,0.7\n")
    (tmp_path / "other.csv").write_text(f"{HEADER}probability\na,0,0,1,0.9\nb,0,0,0,0.8\n")
    (tmp_path / "nodules.csv").write_text(f"{HEADER}diameter_mm\na,0,0,0,5\nb,0,0,0,12\nz,0,0,0,12\n")
    (tmp_path / "excluded.csv").write_text(f"{HEADER}diameter_mm\nb,52,0,0,-1\n")
    (tmp_path / "scans.csv").write_text("a\nb\nc\n")
    return tmp_path


def froc(folder: Path, *arguments: object, marks: str = "marks.csv") -> int:
    tables = ["--candidates", folder / marks, "--annotations", folder / "nodules.csv"]
    more = ["--seriesuids", folder / "scans.csv", "--out-dir", folder / "out"]
    return dispatch(["froc", *map(str, [*tables, *more, *arguments])])


def document(folder: Path) -> dict[str, object]:
    return json.loads((folder / "out" / "froc.json").read_text())


def test_figures_curves_and_picture_are_written(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One of two nodules before any error; one error in three scans; b's mark is ignored; z is not listed."""
    assert froc(folder, "--excluded", folder / "excluded.csv", "--bootstrap", 50, "--seed", 7) == 0
    figures = document(folder)
    assert figures["cpm"] == 0.5
    names = ("true_positives", "false_positives", "false_negatives", "ignored_excluded", "n_scans", "n_nodules")
    assert [figures[name] for name in names] == [1, 1, 1, 1, 3, 2]
    assert (figures["n_annotations_unlisted"], figures["bootstrap"]["seed"]) == (1, 7)  # type: ignore[index]
    assert {"napari-alnct", "python", "numpy"} == set(figures["versions"])  # type: ignore[call-overload]
    assert len(figures["inputs"]["excluded"]["sha256"]) == 64  # type: ignore[index]
    assert {path.name for path in (folder / "out").iterdir()} == {
        "froc.json",
        "froc_curve.csv",
        "froc_band.csv",
        "froc.png",
    }
    assert (folder / "out" / "froc.png").read_bytes().startswith(b"\x89PNG")
    out = capsys.readouterr().out
    assert "CPM 0.500 (95 % CI" in out
    assert "2 nodules in 3 scans: 1 found, 1 missed; 1 false positives" in out
    assert "Not a medical device" in out


def test_the_curve_file_holds_corners_and_thresholds(folder: Path) -> None:
    """(0, 0) with an infinite threshold, the hit at .9, the error at .8."""
    froc(folder, "--excluded", folder / "excluded.csv", "--bootstrap", 0)
    with (folder / "out" / "froc_curve.csv").open(newline="") as stream:
        rows = list(csv.reader(stream))
    assert rows[0] == ["fp_per_scan", "sensitivity", "threshold"]
    np.testing.assert_allclose(np.array(rows[1:], float), [[0, 0, np.inf], [0, 0.5, 0.9], [1 / 3, 0.5, 0.8]], atol=1e-9)


def test_the_band_file_holds_the_intervals(folder: Path) -> None:
    """121 rates, the seven official ones written exactly; with no bootstrap the cells are empty."""
    froc(folder, "--bootstrap", 40)
    with (folder / "out" / "froc_band.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["fp_per_scan"] for row in rows[::20]] == ["0.125", "0.25", "0.5", "1", "2", "4", "8"]
    figures = document(folder)
    shown = [[float(row["lower"]), float(row["upper"])] for row in rows[::20]]
    np.testing.assert_allclose(shown, figures["sensitivity_ci95"], atol=1e-9)  # type: ignore[arg-type]
    froc(folder, "--bootstrap", 0)
    with (folder / "out" / "froc_band.csv").open(newline="") as stream:
        assert {row["lower"] for row in csv.DictReader(stream)} == {""}


def test_compressed_tables_give_the_same(folder: Path) -> None:
    """.csv.gz for the marks and the excluded findings."""
    froc(folder, "--excluded", folder / "excluded.csv", "--bootstrap", 20)
    plain = document(folder)
    for name in ("marks.csv", "excluded.csv"):
        (folder / f"{name}.gz").write_bytes(gzip.compress((folder / name).read_bytes()))
    froc(folder, "--excluded", folder / "excluded.csv.gz", "--bootstrap", 20, marks="marks.csv.gz")
    packed = document(folder)
    assert {k: v for k, v in packed.items() if k != "inputs"} == {k: v for k, v in plain.items() if k != "inputs"}


def test_a_comparison_is_told_and_recorded(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The other finds both nodules without an error: CPM 1, ours .5."""
    assert froc(folder, "--excluded", folder / "excluded.csv", "--compare", folder / "other.csv") == 0
    compared = document(folder)["compare"]
    assert (compared["other"], compared["other_cpm"], compared["cpm_difference"]) == ("other.csv", 1.0, -0.5)  # type: ignore[index]
    low, high = compared["cpm_difference_ci95"]  # type: ignore[index]
    assert -1 <= low <= -0.5 <= high <= 0
    assert "Against other.csv (CPM 1.000): -0.500, paired 95 % CI" in capsys.readouterr().out


def test_without_excluded_findings_a_note_says_what_that_means(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The mark on b's excluded finding becomes an error."""
    froc(folder, "--bootstrap", 0)
    assert document(folder)["false_positives"] == 2
    assert "cannot be compared with published LUNA16 results" in capsys.readouterr().out


def test_unlisted_marks_are_a_usage_error_and_restrict_leaves_them_out(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit 2, one sentence with the series, nothing written; --restrict counts them."""
    (folder / "scans.csv").write_text("seriesuid\na\nc\n")
    assert froc(folder) == 2
    err = capsys.readouterr().err
    assert "marks.csv: 1 series is not among the 2 listed: b" in err
    assert err.count("\n") == 1
    assert not (folder / "out").exists()
    assert froc(folder, "--restrict", "--bootstrap", 0) == 0
    figures = document(folder)
    assert (figures["candidates_unlisted"], figures["n_scans"], figures["candidates_in_file"]) == (1, 2, 3)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("marks.csv", "seriesuid,coordX,coordY,coordZ\na,0,0,0\n", "no column probability"),
        ("marks.csv", f"{HEADER}probability\na,0,0,zero,0.5\n", "coordZ is 'zero'"),
        ("marks.csv", f"{HEADER}probability\na,0,0,0,nan\n", "probability is 'nan'"),
        ("marks.csv", f"{HEADER}probability\n1.36E+60,0,0,0,0.5\n", "lost their digits"),
        ("nodules.csv", f"{HEADER}diameter_mm\nq,0,0,0,5\n", "none of the 1 annotations"),
        ("scans.csv", "\n", "lists no series"),
    ],
    ids=["missing column", "no number", "nan", "rounded ids", "foreign annotations", "empty list"],
)
def test_damaged_tables_are_one_sentence_and_exit_2(
    folder: Path, capsys: pytest.CaptureFixture[str], name: str, text: str, words: str
) -> None:
    """The sentence says what was found."""
    (folder / name).write_text(text)
    assert froc(folder) == 2
    err = capsys.readouterr().err
    assert words in err
    assert err.count("\n") == 1


def test_a_missing_table_and_a_file_as_folder_are_usage_errors(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit 2, with the name."""
    assert froc(folder, marks="gone.csv") == 2
    assert "gone.csv does not exist" in capsys.readouterr().err
    (folder / "out").write_text("")
    assert froc(folder, "--bootstrap", 0) == 2
    assert "out is a file" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [("--bootstrap", -1), ("--bootstrap", 20_000), ("--seed", -1)], ids=str)
def test_settings_have_bounds(folder: Path, arguments: tuple[object, ...]) -> None:
    """Refused before anything is read."""
    assert froc(folder, *arguments) == 2


def test_froc_loads_no_torch_and_no_gui(folder: Path) -> None:
    """A fresh process that judges loads neither torch nor SimpleITK nor a GUI, nor matplotlib's pyplot."""
    code = (
        "import sys\nfrom napari_alnct.cli.app import dispatch\ncode = dispatch(sys.argv[1:])\n"
        "unwanted = ('torch', 'SimpleITK', 'napari', 'qtpy', 'PyQt6', 'matplotlib.pyplot')\n"
        "print('LOADED', code, *(name for name in unwanted if name in sys.modules))"
    )
    flags = {"candidates": "marks.csv", "annotations": "nodules.csv", "seriesuids": "scans.csv", "out-dir": "out"}
    arguments = [word for flag, name in flags.items() for word in (f"--{flag}", str(folder / name))]
    result = subprocess.run(
        [sys.executable, "-c", code, "froc", *arguments], capture_output=True, text=True, check=True
    )
    assert result.stdout.splitlines()[-1] == "LOADED 0"


@pytest.mark.data
def test_the_command_gives_the_official_result(data_pack: Path, tmp_path: Path) -> None:
    """From the tables to froc.json: counts, sensitivities and CPM of the official script; interval .812-.868."""
    flags = {name: value for name, value in vars(reference_paths(data_pack)).items() if value}
    arguments = [word for name, value in flags.items() for word in (f"--{name}", str(value))]
    assert dispatch(["froc", *arguments, "--out-dir", str(tmp_path)]) == 0
    figures, official = json.loads((tmp_path / "froc.json").read_text()), expected(data_pack)
    np.testing.assert_allclose(figures["sensitivity"], official["sensitivity"], rtol=0, atol=5e-7)
    assert figures["cpm"] == pytest.approx(official["cpm"], abs=5e-7)
    np.testing.assert_allclose(figures["cpm_ci95"], [0.812, 0.868], atol=0.003)
    counts = ("true_positives", "false_positives", "false_negatives", "candidates", "candidates_in_file")
    assert [figures[name] for name in counts] == [1136, 46078, 50, 52708, 55677]
    assert (figures["ignored_excluded"], figures["ignored_double"]) == (5308, 186)
