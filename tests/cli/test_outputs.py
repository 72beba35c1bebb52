"""Outputs that cannot be written are refused at once, by every subcommand that writes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from napari_alnct.cli.app import dispatch
from napari_alnct.cli.outputs import refuse_unwritable_folder, refuse_unwritable_table
from napari_alnct.core.errors import SettingsError

FROC = ("froc", "--candidates", "c.csv", "--annotations", "a.csv", "--seriesuids", "s.csv", "--out-dir")
WRITERS = (
    ("preprocess", "--raw-root", "scans", "--out-root"),
    ("phantom", "--scans", "1", "--out"),
    ("train-detector", "--out"),
    FROC,
)


@pytest.fixture
def locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a folder that nobody may write, whoever runs the tests."""
    folder = tmp_path / "locked"
    folder.mkdir()
    asked = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != folder and asked(path, mode))
    return folder


def test_good_outputs_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new table in a folder that is there, and folders that are missing with their parents, are fine."""
    monkeypatch.chdir(tmp_path)
    refuse_unwritable_table(Path("new.csv"))
    refuse_unwritable_folder(Path("new"))
    refuse_unwritable_folder(tmp_path / "a" / "b")
    refuse_unwritable_folder(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", WRITERS, ids=lambda words: words[0])
def test_locked_folder_ends_the_run_before_it_begins(
    command: tuple[str, ...], locked: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A folder below one that cannot be written is a usage fault: exit code 2, one sentence, nothing made."""
    assert dispatch([*command, str(locked / "new" / "out")]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "napari-alnct-train: out: the folder locked cannot be written; choose another folder\n"
    assert list(locked.iterdir()) == []


def test_file_in_the_way_is_named(tmp_path: Path) -> None:
    """A file where a folder should be is named, also when it is a parent."""
    (tmp_path / "notes.txt").touch()
    for out in (tmp_path / "notes.txt", tmp_path / "notes.txt" / "out"):
        with pytest.raises(SettingsError, match=r"^notes\.txt is a file; choose a folder$"):
            refuse_unwritable_folder(out)


def test_table_in_the_locked_working_folder(locked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder at hand is named too, although the path of the table does not."""
    monkeypatch.chdir(locked)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(SettingsError, match=r"^candidates\.csv: the folder locked cannot be written;"):
        refuse_unwritable_table(Path("candidates.csv"))


def test_wrong_data_pack_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder that is no data pack is named before anything is made."""
    assert dispatch(["train-detector", "--out", str(tmp_path / "run"), "--data", str(tmp_path / "gone")]) == 2
    assert capsys.readouterr().err == (
        "napari-alnct-train: gone: no training/scans.csv there; name the folder of the data pack\n"
    )
    assert list(tmp_path.iterdir()) == []
