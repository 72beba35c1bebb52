"""Exports of a reading: read back unchanged, safe in a spreadsheet, whole or not at all, and without names."""

from __future__ import annotations

import csv
import errno
import json
from pathlib import Path

import pytest

from napari_alnct.core.errors import ReadError, ReviewError, SettingsError, TableError
from napari_alnct.core.notice import NOTICE
from napari_alnct.core.review import Review
from napari_alnct.core.review_actions import LockFirstRead, SetMode
from napari_alnct.core.volume import QualityFlag
from napari_alnct.io import atomic_file, review_exports
from napari_alnct.io.csv_files import FORMULA_STARTS
from napari_alnct.io.review_exports import ENDINGS, Format, export_reading, file_names
from napari_alnct.io.review_record import read_reading, reading_of, reading_text
from napari_alnct.io.review_tables import (
    FINDING_COLUMNS,
    finding_rows,
    findings_text,
    luna16_candidates,
    luna16_text,
    read_findings,
)
from napari_alnct.io.tables import read_candidates
from tests.io.reading_case import CANARY, NASTY, actions, candidates, reading, scan

ALL: tuple[Format, ...] = tuple(ENDINGS)


def text_file(folder: Path, text: str) -> Path:
    """Write a text as it is."""
    path = folder / "out"
    path.write_bytes(text.encode())
    return path


@pytest.mark.parametrize("with_all", [False, True], ids=["findings", "all marks"])
def test_the_table_of_findings_reads_back_unchanged(tmp_path: Path, with_all: bool) -> None:
    """All digits, all statuses, reasons, links and notes of any kind."""
    made = reading()
    path = text_file(tmp_path, findings_text(made, with_all=with_all))
    assert read_findings(path) == finding_rows(made, with_all=with_all)
    assert len(read_findings(path)) == (4 if with_all else 2) + len(NASTY)


def test_the_table_opens_as_candidates_too(tmp_path: Path) -> None:
    """LUNA16's columns come first and have no empty cell: a reader's own mark has probability 1."""
    made = reading()
    found = read_candidates(text_file(tmp_path, findings_text(made)))
    assert FINDING_COLUMNS[:5] == ("seriesuid", "coordX", "coordY", "coordZ", "probability")
    assert [c.score for _, c in found[:3]] == [0.91234567890123, 0.35, 1.0]
    assert [c.position_xyz_mm for _, c in found] == [mark.position_xyz_mm for mark in made.review.findings]


def test_no_cell_is_a_formula(tmp_path: Path) -> None:
    """No text that a person typed begins as a formula does, in any cell; numbers may begin with a minus."""
    with text_file(tmp_path, findings_text(reading(), with_all=True)).open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        for column in ("reason", "note", "reader", "model", "seriesuid", "status"):
            assert not row[column].startswith(FORMULA_STARTS)
    assert sum(row["note"].startswith("'") for row in rows) == 6


def test_every_row_carries_the_notice() -> None:
    """A row that is copied out of the table keeps it; a table without rows has its remarks beside it."""
    made = reading()
    assert findings_text(made).count(NOTICE) == len(made.review.findings)
    assert file_names(made, ["csv"])["remarks"].endswith("_remarks.txt")


@pytest.mark.parametrize("with_all", [False, True], ids=["findings", "all marks"])
def test_the_luna16_table_reads_back_unchanged(tmp_path: Path, with_all: bool) -> None:
    """Exactly five columns; the same candidates come back."""
    made = reading(is_clear=True)
    path = text_file(tmp_path, luna16_text(made, with_all=with_all))
    assert path.read_text().splitlines()[0] == "seriesuid,coordX,coordY,coordZ,probability"
    assert read_candidates(path) == luna16_candidates(made, with_all=with_all)
    assert read_candidates(path)[0][0] == scan().series_uid


def test_the_whole_reading_reads_back_unchanged(tmp_path: Path) -> None:
    """Review with its undo, log with times, scan with its flags; the log alone rebuilds the state."""
    made = reading(volume=scan(flags=(QualityFlag("thick_slices", "Slices are 5 mm apart."),)), seen_share=0.4)
    again = read_reading(text_file(tmp_path, reading_text(made)))
    assert again == made
    assert again.review.can_undo
    content = json.loads(reading_text(made))
    assert (content["notice"], len(content["audit"])) == (NOTICE, len(made.entries))
    assert [mark["status"] for mark in content["review"]["marks"][:3]] == ["accepted", "rejected", "uncertain"]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda text: text.replace("accepted", "rejected"), "was changed or is damaged"),
        (lambda text: text.replace('"schema": 1', '"schema": 9'), "has form 9, this version reads 1"),
        (lambda text: text[:-200], "is no exported reading"),
        (lambda text: "[]", "is no exported reading"),
    ],
    ids=["edited", "other form", "torn", "other file"],
)
def test_a_changed_reading_is_refused(tmp_path: Path, change: object, sentence: str) -> None:
    """In one sentence that names the file."""
    path = text_file(tmp_path, change(reading_text(reading())))  # type: ignore[operator]
    with pytest.raises(TableError, match=sentence):
        read_reading(path)
    with pytest.raises(TableError, match="cannot be read"):
        read_reading(tmp_path / "absent.json")


def test_a_log_that_leads_elsewhere_is_refused() -> None:
    """The state shown and its log must be of the same reading."""
    made = reading()
    other = reading_of(Review(), scan(), made.entries)
    with pytest.raises(ReviewError, match="leads to another state"):
        reading_text(other)


def test_hidden_marks_are_in_no_export(tmp_path: Path) -> None:
    """Before the first read is ended: not in tables nor the report, and the whole reading is refused."""
    hidden = reading((SetMode(mode="second reader"), candidates()))
    paths = export_reading(tmp_path, hidden, scan(), ["html", "csv", "luna16"], with_all=True)
    text = "".join(path.read_text() for path in paths)
    assert "hidden until the first read is ended" in text
    assert not any(value in text for value in ("0.91234", "0.912", "12.1", ",0.6,"))
    with pytest.raises(ReviewError, match="end the first read"):
        export_reading(tmp_path, hidden, scan(), ["json"])
    after = reading((SetMode(mode="second reader"), candidates(), LockFirstRead()))
    assert "0.91234" in findings_text(after, with_all=True)


def test_nothing_of_the_patient_is_in_any_export(tmp_path: Path) -> None:
    """A canary in the scan's path, file name, series, flags, fault and candidate table: 0 hits, file names too."""
    flags = (
        QualityFlag("several_series", f"The folder holds 2 series; this is {CANARY}.1.2, as asked for."),
        QualityFlag("header", f"ElementSize {CANARY} contradicts ElementSpacing."),
        QualityFlag("other", f"See /home/{CANARY}/scan.mhd."),
        QualityFlag("remark", f"Series {CANARY}.1.2 is odd."),
    )
    volume = scan(flags=flags)
    fault = ReadError("E_DATA_SIZE", f"{CANARY}.mhd", "1 byte", "0 bytes")
    done = (candidates(f"{CANARY}.csv", ""), *actions()[1:])
    made = reading(done, volume, fault=fault)
    paths = export_reading(tmp_path, made, volume, ALL, with_all=True)
    assert len(paths) == len(ALL) + 1
    for path in paths:
        assert CANARY not in path.name + path.read_text(encoding="utf-8")
    assert "E_DATA_SIZE" in paths[0].read_text()
    clear = reading(done, volume, fault=fault, is_clear=True)
    texts = [path.read_text() for path in export_reading(tmp_path / "clear", clear, volume, ALL)]
    assert sum(CANARY in text for text in texts) == len(texts)  # the canary can be seen when asked for


def test_files_of_an_export_appear_together(tmp_path: Path) -> None:
    """Nothing but the files told of is in the folder, which is made."""
    made = reading()
    paths = export_reading(tmp_path / "new" / "folder", made, scan(), ALL)
    assert sorted((tmp_path / "new" / "folder").iterdir()) == sorted(paths)
    assert [path.name for path in paths] == list(file_names(made, ALL).values())
    assert all(path.stat().st_size for path in paths)


@pytest.mark.parametrize("n_before", [0, 2], ids=["first file", "third file"])
def test_a_full_disk_leaves_the_older_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, n_before: int) -> None:
    """Whichever file does not fit: one sentence, no new file, no rest, and the older ones byte for byte."""
    made = reading()
    paths = export_reading(tmp_path, made, scan(), ALL)
    before = {path: path.read_bytes() for path in paths}
    calls = iter(range(100))
    real = review_exports.os.fsync

    def full(descriptor: int) -> None:
        if next(calls) >= n_before:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(review_exports.os, "fsync", full)
    with pytest.raises(SettingsError) as told:
        export_reading(tmp_path, reading(actions(())), scan(), ALL)
    assert "No space left on device" in str(told.value)
    assert "\n" not in str(told.value)
    assert str(tmp_path) not in str(told.value)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_write_that_stops_in_the_middle_leaves_nothing(tmp_path: Path) -> None:
    """A real limit on file sizes: the report does not fit, the small tables would; none appears."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
        with pytest.raises(SettingsError, match="cannot be written"):
            export_reading(tmp_path, reading(), scan(), ALL)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read-only, a file in its place, or a folder of a file's name: one sentence with the next step."""
    (tmp_path / "file").write_text("x")
    with pytest.raises(SettingsError, match="the folder file cannot be written"):
        export_reading(tmp_path / "file", reading(), scan(), ["csv"])
    taken = tmp_path / "taken"
    names = file_names(reading(), ["json"])
    (taken / names["json"]).mkdir(parents=True)
    with pytest.raises(SettingsError, match="is a folder there; choose another folder"):
        export_reading(taken, reading(), scan(), ["json", "csv"])
    assert [path.name for path in taken.iterdir()] == [names["json"]]

    def refused(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(atomic_file, "open", refused, raising=False)
    with pytest.raises(SettingsError, match=r"Permission denied.*; choose another folder"):
        export_reading(tmp_path, reading(), scan(), ["csv"])


def test_no_format_is_an_error(tmp_path: Path) -> None:
    """And not a silent success."""
    with pytest.raises(SettingsError, match="no format is chosen"):
        export_reading(tmp_path, reading(), scan(), [])


def test_a_note_that_no_file_can_hold_is_told(tmp_path: Path) -> None:
    """Half a character pair, as a broken paste may give; JSON can hold it, a CSV cannot."""
    with pytest.raises(ReviewError, match="type the note again"):
        export_reading(tmp_path, reading(actions(("\ud800",))), scan(), ["csv"])
    assert list(tmp_path.iterdir()) == []
