"""The tab Report: what a reading came to, and its files: report, findings, the whole reading, LUNA16's table.

Nothing is written before the button is pressed; what will be written is listed with its names. A report
with many key images takes seconds, so files are made in a thread.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from html import escape
from pathlib import Path
from typing import Any

from qtpy.QtCore import QUrl, Signal
from qtpy.QtGui import QDesktopServices
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QFileDialog,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QPushButton,
    QTextBrowser,
    QVBoxLayout,
    QWidget,
)

from napari_alnct.core.notice import NOTICE
from napari_alnct.core.review import Review
from napari_alnct.core.volume import Volume
from napari_alnct.core.wording import counted
from napari_alnct.io.review_exports import Format, export_reading, file_names
from napari_alnct.io.review_record import Reading, reading_of
from napari_alnct.io.review_report import ReportOptions
from napari_alnct.io.review_tables import exported_marks
from napari_alnct.io.reviews import AuditEntry
from napari_alnct.plugin._worker import Job, start_job

NO_READING = "Open a scan in the tab Data; what was found in it is exported here."
FORMATS: dict[Format, tuple[str, str, bool]] = {  # label, tooltip, chosen to begin with
    "html": (
        "Report with key images (HTML)",
        "One page that needs nothing but itself: it can be mailed or printed.",
        True,
    ),
    "csv": ("Findings (CSV)", "One row a finding: place in mm, diameter, score, status, reason, note, model.", True),
    "json": (
        "Whole reading with its log (JSON)",
        "Every action with its time; the reading can be rebuilt from it.",
        True,
    ),
    "luna16": ("LUNA16 table (CSV)", "Five columns; your own marks have probability 1.", False),
}
SLABS_MM = (0.0, 5.0, 10.0, 15.0)
CLEAR_TIP = (
    "Only for public data. Without it the series is a hash, and names of files are left out; a LUNA16 table can be "
    "judged only with it."
)
NOTES_HINT = "Notes are written as typed: they must not name the patient."


class ReportTab(QWidget):  # type: ignore[misc]  # Qt classes are untyped here
    """Choice of files, their preview, and the button that writes them.

    Parameters
    ----------
    folder : Path, optional
        Where files go until another folder is chosen; default: ``napari-alnct/exports`` in the home folder.

    Signals
    -------
    exported : (list of Path,)
        These files were written.
    """

    exported = Signal(object)

    def __init__(self, folder: Path | None = None) -> None:
        super().__init__()
        self.job: Job | None = None
        self._source: dict[str, Any] | None = None  # arguments of `reading_of`, less `is_clear`
        self._written: list[Path] = []
        self.preview = QTextBrowser(openLinks=False)
        self.preview.setAccessibleName("What will be exported")
        self.boxes = {kind: _box(*texts) for kind, texts in FORMATS.items()}
        self.all_box = _box("All marks in the tables", "Rejected and undecided ones too, not only findings.", False)
        self.clear_box = _box("Name the series as in the file", CLEAR_TIP, False)
        self.slab_box = QComboBox(toolTip="What the key images show: one slice, or the maximum over a slab.")
        for slab_mm in SLABS_MM:
            self.slab_box.addItem(f"slab of {slab_mm:g} mm" if slab_mm else "single slices", slab_mm)
        self.folder_edit = QLineEdit(str(folder or Path.home() / "napari-alnct" / "exports"))
        self.folder_edit.setToolTip("Made when missing; earlier files of the same names are replaced.")
        self.browse_button = QPushButton("Choose …")
        self.export_button = QPushButton("Export")
        self.open_button = QPushButton("Open report", toolTip="Show the report in the web browser.")
        self.message = QLabel(wordWrap=True)
        self._lay_out()
        for box in (*self.boxes.values(), self.all_box, self.clear_box):
            box.toggled.connect(self.refresh)
        self.browse_button.clicked.connect(self._browse)
        self.export_button.clicked.connect(self.export)
        self.open_button.clicked.connect(self._open_report)
        self.refresh()

    def _lay_out(self) -> None:
        column = QVBoxLayout(self)
        column.addWidget(self.preview, 1)
        for box in (*self.boxes.values(), self.all_box, self.clear_box):
            column.addWidget(box)
        place = QHBoxLayout()
        place.addWidget(self.folder_edit, 1)
        place.addWidget(self.browse_button)
        form = QFormLayout(rowWrapPolicy=QFormLayout.RowWrapPolicy.WrapLongRows)
        form.addRow("Key images", self.slab_box)
        form.addRow("Folder", place)
        column.addLayout(form)
        buttons = QHBoxLayout()
        buttons.addWidget(self.export_button, 1)
        buttons.addWidget(self.open_button)
        column.addLayout(buttons)
        column.addWidget(self.message)
        notice = QLabel(NOTICE, wordWrap=True)
        notice.setObjectName("notice")
        column.addWidget(notice)

    # -- what there is to export -------------------------------------------------------------

    def show_reading(
        self,
        review: Review,
        volume: Volume,
        entries: Sequence[AuditEntry],
        *,
        fault: Exception | str | None = None,
        seen_share: float | None = None,
        seen_of_lungs: bool = False,
    ) -> None:
        """Offer a reading for export; call it again when the reading has changed.

        Parameters
        ----------
        review : Review
            Where it stands, as on disk: it follows from the entries.
        volume : Volume
            The scan.
        entries : sequence of AuditEntry
            The whole log.
        fault : Exception or str, optional
            Why the last run of the detector on this scan failed; None when it did not, or never ran.
        seen_share : float, optional
            Share of the slices seen so far.
        seen_of_lungs : bool, optional
            Whether of the slices with lung alone.
        """
        if self._source is None or self._source["volume"] is not volume:
            self._written = []
            self.message.setText("")
        self._source = {
            "review": review,
            "volume": volume,
            "entries": tuple(entries),
            "fault": fault,
            "seen_share": seen_share,
            "seen_of_lungs": seen_of_lungs,
        }
        self.refresh()

    def clear(self) -> None:
        """Offer nothing: no scan is open."""
        self._source, self._written = None, []
        self.message.setText("")
        self.refresh()

    @property
    def reading(self) -> Reading | None:
        """Give what would be exported, None without a scan."""
        return None if self._source is None else reading_of(**self._source, is_clear=self.clear_box.isChecked())

    @property
    def formats(self) -> list[Format]:
        """Give the chosen formats that can be written now."""
        return [kind for kind, box in self.boxes.items() if box.isChecked() and box.isEnabledTo(self)]

    def refresh(self) -> None:
        """Show anew what would be written."""
        reading = self.reading
        is_hidden = reading is not None and reading.summary.state == "hidden"
        self.boxes["json"].setEnabled(not is_hidden)
        formats = self.formats
        self.all_box.setEnabled(bool({"csv", "luna16"} & set(formats)))
        self.slab_box.setEnabled("html" in formats)
        self.export_button.setEnabled(reading is not None and bool(formats) and self.job is None)
        self.open_button.setEnabled(self.job is None and any(path.suffix == ".html" for path in self._written))
        self.preview.setHtml(
            escape(NO_READING) if reading is None else preview_html(reading, formats, self.all_box.isChecked())
        )

    # -- writing ----------------------------------------------------------------------------------

    def export(self) -> None:
        """Write the chosen files, in a thread."""
        reading = self.reading
        if reading is None or self._source is None or self.job is not None or not self.formats:
            return
        folder = self.folder_edit.text().strip()
        if not folder:
            self.message.setText("No folder is given; choose one.")
            return
        make = partial(
            export_reading,
            Path(folder).expanduser(),
            reading,
            self._source["volume"],
            self.formats,
            with_all=self.all_box.isChecked(),
            options=ReportOptions(slab_mm=self.slab_box.currentData()),
        )
        self.message.setText("Writing …")
        self.job = start_job(lambda job: make(), self._connect)
        self.refresh()

    def _connect(self, job: Job) -> None:
        job.done.connect(self._on_done)
        job.failed.connect(self._on_failed)
        job.cancelled.connect(self._on_cancelled)

    def _on_done(self, paths: list[Path]) -> None:
        self.job, self._written = None, paths
        self.message.setText(f"{counted(len(paths), 'file')} written to {paths[0].parent.name}.")
        self.refresh()
        self.exported.emit(paths)

    def _on_failed(self, error: Exception) -> None:
        self.job = None
        self.message.setText(f"Nothing was written: {error}")
        self.refresh()

    def _on_cancelled(self) -> None:
        self.job = None
        self.message.setText("")
        self.refresh()

    def dispose(self) -> None:
        """Hear no more of a running export; it ends by itself, with whole files."""
        if self.job is not None:
            self.job.drop()
            self.job = None

    def _browse(self) -> None:
        folder = QFileDialog.getExistingDirectory(self, "Folder for the files", self.folder_edit.text())
        if folder:
            self.folder_edit.setText(folder)

    def _open_report(self) -> None:
        for path in self._written:
            if path.suffix == ".html":
                QDesktopServices.openUrl(QUrl.fromLocalFile(str(path)))


def preview_html(reading: Reading, formats: Sequence[Format], with_all: bool) -> str:
    """Give what an export would hold, as simple rich text.

    Parameters
    ----------
    reading : Reading
        What was read.
    formats : sequence of str
        Chosen formats.
    with_all : bool
        Whether tables get all marks.

    Returns
    -------
    str
    """
    summary = reading.summary
    lines = [f"<p><b>{escape(sentence)}</b></p>" for sentence in summary.results]
    cautions = [*summary.cautions, *(f"The scan: {flag.text}" for flag in reading.scan.flags)]
    if cautions:
        lines.append("<ul>" + "".join(f"<li>{escape(text)}</li>" for text in cautions) + "</ul>")
    if summary.state == "hidden":
        lines.append("<p>The whole reading can be exported when the first read is ended.</p>")
    if any(mark.note for mark in exported_marks(reading.review, with_all=True)):
        lines.append(f"<p>{escape(NOTES_HINT)}</p>")
    files = "".join(
        f"<li>{escape(name)}{escape(_content(reading, kind, with_all))}</li>"
        for kind, name in file_names(reading, formats).items()
    )
    lines.append(f"<p>Files:</p><ul>{files}</ul>" if files else "<p>No file is chosen.</p>")
    return "".join(lines)


def _content(reading: Reading, kind: str, with_all: bool) -> str:
    """Give how much a file holds."""
    if kind in ("csv", "luna16"):
        n = len(exported_marks(reading.review, with_all=with_all))
        return f": {counted(n, 'row')}"
    if kind == "html":
        return f": key images of {counted(len(reading.review.findings), 'finding')}"
    return f": {counted(len(reading.entries), 'action')}" if kind == "json" else ": caveats of the tables"


def _box(label: str, tip: str, is_chosen: bool) -> QCheckBox:
    box = QCheckBox(label, toolTip=tip)
    box.setChecked(is_chosen)
    return box
