"""``report``: the command line, messages and exit codes."""

from __future__ import annotations

from pathlib import Path

import pytest

from napari_alnct.cli.app import dispatch
from tests.batch.report_case import Page, write_case


def report(folder: Path, *arguments: object) -> int:
    return dispatch(["report", *map(str, [*arguments, "--out", folder / "report.html"])])


def test_tables_and_scans_make_a_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 0; the line says examples and pictures; the notice on stdout."""
    folder = write_case(tmp_path)
    tables = [
        "--candidates",
        folder / "marks.csv",
        "--annotations",
        folder / "nodules.csv",
        "--scans",
        folder / "scans",
    ]
    assert report(folder, *tables, "--title", "Mine", "--examples", 1) == 0
    out = capsys.readouterr().out
    assert "3 examples, 3 with pictures" in out
    assert "Not a medical device" in out
    assert "Mine" in Page(folder / "report.html").text


def test_a_run_folder_is_enough(tmp_path: Path) -> None:
    """``froc`` writes beside the tables; ``report --run`` finds both."""
    folder = write_case(tmp_path)
    tables = ["--candidates", "marks.csv", "--annotations", "nodules.csv", "--seriesuids", "scans.csv"]
    arguments = [str(folder / name) if name.endswith(".csv") else name for name in tables]
    assert dispatch(["froc", *arguments, "--bootstrap", "20", "--out-dir", str(folder / "froc")]) == 0
    assert report(folder, "--run", folder, "--scans", folder / "scans") == 0
    text = Page(folder / "report.html").text
    assert "20 bootstraps over scans" in text
    assert "Hits: 1 of 1" in text


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "nothing to report on"),
        (["--run", "absent"], "absent is no folder"),
        (["--candidates", "marks.csv"], "--annotations"),
        (["--candidates", "marks.csv", "--annotations", "nodules.csv"], "--seriesuids"),
        (["--model", "none"], "no model called none"),
    ],
    ids=["nothing", "no folder", "no reference", "no list", "no model"],
)
def test_usage_is_one_sentence_and_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], sentence: str
) -> None:
    """What is missing is named with its flag; nothing is written."""
    folder = write_case(tmp_path)
    full = [str(folder / a) if a.endswith(".csv") else a for a in arguments]
    assert report(folder, *full) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert error.count("\n") == 1
    assert not (folder / "report.html").exists()


def test_an_output_that_cannot_be_written_is_refused_first(tmp_path: Path) -> None:
    """A missing folder is told before any work."""
    assert dispatch(["report", "--run", str(tmp_path), "--out", str(tmp_path / "no" / "r.html")]) == 2


@pytest.mark.parametrize(
    ("flag", "says"), [("--eval-dir", "metrics.json"), ("--froc-dir", "froc.json"), ("--train-dir", "log.csv")]
)
@pytest.mark.parametrize("is_there", [False, True], ids=["missing", "of something else"])
def test_a_folder_without_what_it_is_named_for_is_refused(
    flag: str, says: str, is_there: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One sentence with the flag and the folder, code 2, and no page."""
    if is_there:
        (tmp_path / "other").mkdir()
    assert dispatch(["report", flag, str(tmp_path / "other"), "--out", str(tmp_path / "page.html")]) == 2
    message = capsys.readouterr().err
    assert f"{flag}: other " in message
    assert (says in message) == is_there
    assert not (tmp_path / "page.html").exists()
