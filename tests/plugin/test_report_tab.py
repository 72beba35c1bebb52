"""The tab Report: tells what will be written, writes it in a thread, and fails in one sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from napari_alnct.core.notice import NOTICE
from napari_alnct.core.review import replay
from napari_alnct.core.review_actions import LockFirstRead, ReviewAction, SetMode
from napari_alnct.io.review_record import read_reading
from napari_alnct.plugin._report_tab import NO_READING, NOTES_HINT, ReportTab
from tests.io.reading_case import CANARY, actions, candidates, reading, scan

pytestmark = pytest.mark.gui
DECIDED = actions(())


@pytest.fixture
def tab(qtbot: Any, tmp_path: Path) -> ReportTab:
    """Give the tab with a folder of its own."""
    made = ReportTab(tmp_path / "exports")
    qtbot.addWidget(made)
    return made


def offer(tab: ReportTab, done: tuple[ReviewAction, ...] = DECIDED, **options: Any) -> None:
    """Show a reading as the dock does."""
    tab.show_reading(replay(done), scan(), reading(done).entries, **options)


def export(tab: ReportTab, qtbot: Any) -> str:
    """Press the button, wait for the end, and give the message."""
    tab.export_button.click()
    assert not tab.export_button.isEnabled()
    qtbot.waitUntil(lambda: tab.job is None, timeout=20_000)
    return str(tab.message.text())


def test_without_a_scan_nothing_can_be_written(tab: ReportTab) -> None:
    """The tab says what to do, and carries the notice."""
    assert tab.preview.toPlainText() == NO_READING
    assert not tab.export_button.isEnabled()
    assert NOTICE in [label.text() for label in tab.findChildren(type(tab.message))]


def test_the_preview_names_the_files_that_are_written(tab: ReportTab, qtbot: Any, tmp_path: Path) -> None:
    """Exactly those of the chosen formats appear; nothing before the button is pressed."""
    offer(tab)
    tab.boxes["luna16"].setChecked(True)
    tab.boxes["json"].setChecked(False)
    text = tab.preview.toPlainText()
    assert not (tmp_path / "exports").exists()
    with qtbot.waitSignal(tab.exported) as told:
        message = export(tab, qtbot)
    names = sorted(path.name for path in (tmp_path / "exports").iterdir())
    assert sorted(path.name for path in told.args[0]) == names
    assert len(names) == 4
    assert all(name in text for name in names)
    assert not any(name.endswith(".json") for name in names)
    assert message == "4 files written to exports."


def test_what_is_exported_reads_back(tab: ReportTab, qtbot: Any, tmp_path: Path) -> None:
    """The file holds the reading that was shown, as hashes; asked for, the series as it is."""
    offer(tab, seen_share=0.5)
    export(tab, qtbot)
    (path,) = (tmp_path / "exports").glob("*.json")
    assert read_reading(path) == tab.reading
    assert not any(CANARY in file.read_text() for file in (tmp_path / "exports").iterdir())
    tab.clear_box.setChecked(True)
    export(tab, qtbot)
    assert CANARY in path.read_text()


def test_rows_and_findings_are_counted_before(tab: ReportTab) -> None:
    """Two findings of four marks; with all marks four rows."""
    offer(tab)
    assert "_findings.csv: 2 rows" in tab.preview.toPlainText()
    assert "key images of 2 findings" in tab.preview.toPlainText()
    tab.all_box.setChecked(True)
    assert "_findings.csv: 4 rows" in tab.preview.toPlainText()


def test_one_is_told_in_the_singular(tab: ReportTab) -> None:
    """One action in the log is no "1 actions"."""
    offer(tab, actions(())[:1])
    assert ".json: 1 action\n" in f"{tab.preview.toPlainText()}\n"


def test_states_are_told_apart_in_the_preview(tab: ReportTab) -> None:
    """Never run, failed, and a reading with notes."""
    offer(tab, ())
    assert "No detector was run on this scan" in tab.preview.toPlainText()
    offer(tab, (), fault=MemoryError("full"))
    assert "The detection failed on this scan" in tab.preview.toPlainText()
    assert NOTES_HINT not in tab.preview.toPlainText()
    offer(tab, actions(("<b>see prior</b>",)))
    assert NOTES_HINT in tab.preview.toPlainText()


def test_hidden_marks_stay_hidden(tab: ReportTab, qtbot: Any, tmp_path: Path) -> None:
    """Before the first read is ended the whole reading is not offered; afterwards it is again."""
    hidden = (SetMode(mode="second reader"), candidates())
    offer(tab, hidden)
    assert not tab.boxes["json"].isEnabled()
    assert "hidden until the first read is ended" in tab.preview.toPlainText()
    assert export(tab, qtbot).startswith("3 files written")
    assert not list((tmp_path / "exports").glob("*.json"))
    offer(tab, (*hidden, LockFirstRead()))
    assert "json" in tab.formats


def test_a_failure_is_one_sentence_and_the_tab_goes_on(tab: ReportTab, qtbot: Any, tmp_path: Path) -> None:
    """A file where the folder should be; then another folder works."""
    (tmp_path / "file").write_text("x")
    offer(tab)
    tab.folder_edit.setText(str(tmp_path / "file"))
    message = export(tab, qtbot)
    assert message.startswith("Nothing was written: reading_")
    assert "choose another folder" in message
    assert str(tmp_path) not in message
    assert not tab.open_button.isEnabled()
    tab.folder_edit.setText(str(tmp_path / "other"))
    assert export(tab, qtbot).startswith("4 files written")
    assert tab.open_button.isEnabled()


def test_no_format_or_folder_is_told(tab: ReportTab) -> None:
    """The button is off without a format; an empty folder is a sentence."""
    offer(tab)
    tab.folder_edit.setText("  ")
    tab.export()
    assert tab.message.text() == "No folder is given; choose one."
    for box in tab.boxes.values():
        box.setChecked(False)
    assert not tab.export_button.isEnabled()
    tab.clear()
    assert tab.preview.toPlainText() == NO_READING


def test_a_tab_that_is_closed_hears_no_more(tab: ReportTab, qtbot: Any, tmp_path: Path) -> None:
    """The export ends by itself, with whole files, and the tab is not touched."""
    offer(tab)
    heard: list[object] = []
    tab.exported.connect(heard.append)
    tab.export_button.click()
    tab.dispose()
    qtbot.waitUntil(lambda: len(list((tmp_path / "exports").glob("reading_*"))) == 4, timeout=20_000)
    qtbot.wait(50)
    assert heard == []
    assert tab.message.text() == "Writing …"
