"""The tab Data: choose or open a scan, go through a folder of cases or a study, load candidates from a table."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QComboBox,
    QFileDialog,
    QFormLayout,
    QGridLayout,
    QLabel,
    QLineEdit,
    QListWidget,
    QListWidgetItem,
    QPushButton,
    QVBoxLayout,
)

from napari_alnct.core.errors import AlnctError
from napari_alnct.core.volume import Volume
from napari_alnct.core.wording import counted
from napari_alnct.io.case_queue import Case, CaseQueue
from napari_alnct.io.identifiers import without_uids
from napari_alnct.io.proposed_marks import read_proposed
from napari_alnct.io.study import read_study
from napari_alnct.plugin._layers import volume_of
from napari_alnct.plugin._open_reading import OpenReading
from napari_alnct.plugin._scan_opening import ScanOpening

STATUS_SIGNS = {"new": "○", "opened": "◐", "done": "●"}
QUEUE_TIP = "○ new, ◐ begun, ● done. A click opens the case. File names are in the tips of the entries."
NO_SCAN = "No scan is open."


class DataTab(ScanOpening):
    """Where scans and candidates come from.

    Parameters
    ----------
    reading : OpenReading
        Gets candidates; its reader and folder decide where progress is kept.

    Signals
    -------
    taken : ()
        Candidates of a table are in the reading.
    """

    taken = Signal()

    def __init__(self, reading: OpenReading) -> None:
        super().__init__(reading)
        self.queue: CaseQueue | None = None
        self._case_volume: Volume | None = None  # of the queue: taken away when the next one comes
        self.scan_box = QComboBox(toolTip="The scan that is read.")
        self.scan_box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.reader_edit = QLineEdit(reading.preferences.reading.reader, placeholderText="reader")
        self.reader_edit.setToolTip("Who reads. Readers have readings of their own.")
        self.buttons = {name: QPushButton(text, toolTip=tip) for name, (text, tip) in BUTTONS.items()}
        self.flags = QLabel(wordWrap=True)
        self.progress, self.cases = QLabel(), QListWidget(toolTip=QUEUE_TIP)
        self.next_button = QPushButton("Done, next case", toolTip="This case is done; open the next one that is not.")
        self.waiting = [*map(self.buttons.get, ("scan", "dicom", "folder", "study")), self.cases, self.next_button]
        self._lay_out()
        for name, button in self.buttons.items():
            button.clicked.connect(getattr(self, f"_ask_{name}"))
        self.next_button.clicked.connect(self.next_case)
        self.cases.itemClicked.connect(self._on_case)
        self.reader_edit.editingFinished.connect(self._on_reader)
        reading.began.connect(self.show_scan)
        reading.ended.connect(self.show_scan)
        self.show_scan()
        self._show_queue()

    def _lay_out(self) -> None:
        form = QFormLayout()
        form.addRow("Reader", self.reader_edit)
        form.addRow("Scan", self.scan_box)
        grid = QGridLayout()
        grid.setSpacing(4)
        for place, button in enumerate(self.buttons.values()):
            row, column_of = divmod(place, 2)
            grid.addWidget(button, row, column_of, 1, 2 if place == len(self.buttons) - 1 else 1)
        column = QVBoxLayout(self)
        column.addLayout(form)
        column.addWidget(self.flags)
        column.addLayout(grid)
        column.addWidget(self.message)
        column.addWidget(self.progress)
        column.addWidget(self.cases, 1)
        column.addWidget(self.next_button)
        column.addStretch(0)

    # -- the scan ---------------------------------------------------------------------------------

    def show_scan(self) -> None:
        """Show what is unusual about the scan, and what can be done with it."""
        volume = self.reading.volume
        texts = [NO_SCAN] if volume is None else [without_uids(flag.text) for flag in volume.flags]
        self.flags.setText("\n".join(texts))
        self.flags.setVisible(bool(texts))
        self.buttons["table"].setEnabled(self.reading.session is not None)

    # -- candidates ---------------------------------------------------------------------------------

    def load_table(self, path: Path) -> None:
        """Take the candidates of this scan from a table into the reading.

        Parameters
        ----------
        path : Path
            CSV with LUNA16's column names.
        """
        session, volume = self.reading.session, self.reading.volume
        if session is None or volume is None:
            return
        try:
            found, source = read_proposed(path, volume.series_uid)
            session.take_candidates(found, source)
        except (AlnctError, OSError) as error:
            self.message.setText(str(error))
            return
        is_shown = session.review.is_unlocked
        loaded = f"{counted(len(found), 'mark')} loaded."
        self.message.setText(loaded if is_shown else "Marks are loaded; they are hidden.")
        self.taken.emit()

    def _ask_table(self) -> None:
        path, _ = QFileDialog.getOpenFileName(self, "Load candidates", "", "Tables (*.csv *.csv.gz)")
        if path:
            self.load_table(Path(path))

    # -- a folder of cases, a study --------------------------------------------------------------------

    def open_folder(self, folder: Path) -> None:
        """Make the scans of a folder a queue, and open the first one that is not done.

        Parameters
        ----------
        folder : Path
            With scans, also in subfolders.
        """
        preferences = self.reading.preferences
        self._begin_queue(lambda: CaseQueue(folder, preferences.folder, preferences.reading.reader))

    def open_study(self, file: Path) -> None:
        """Make the cases of a study a queue, in the order of this reader, to be read as a study.

        Parameters
        ----------
        file : Path
            Study file.
        """
        preferences = self.reading.preferences

        def make() -> CaseQueue:
            """Give the queue of this reader, whose mode is study from now on."""
            reader = preferences.reading.reader
            paths = [case.path for case in read_study(file).order_for(reader)]
            preferences.remember(mode="study")
            return CaseQueue(file.parent, preferences.folder, reader, paths)

        self._begin_queue(make)

    def _begin_queue(self, make: Callable[[], CaseQueue]) -> None:
        try:
            self.queue = make()
        except (AlnctError, OSError) as error:
            self.message.setText(str(error))
            return
        self._case_volume = None
        self._show_queue()
        self._go_on()

    def _ask_folder(self) -> None:
        folder = QFileDialog.getExistingDirectory(self, "A folder of scans")
        if folder:
            self.open_folder(Path(folder))

    def _ask_study(self) -> None:
        path, _ = QFileDialog.getOpenFileName(self, "Open a study", "", "Studies (*.json)")
        if path:
            self.open_study(Path(path))

    def next_case(self) -> None:
        """Note that the current case is done, and open the next one that is not."""
        if self.queue is None or self.job is not None:
            return
        try:
            self.queue.finish()
        except OSError as error:
            self.message.setText(f"Progress cannot be kept: {error}")
        self._show_queue()
        self._go_on()

    def _go_on(self) -> None:
        case = None if self.queue is None else self.queue.next_case
        if case is not None:
            self.open_case(case)

    def open_case(self, case: Case) -> None:
        """Open a case of the queue; the scan of the case before is closed then.

        Parameters
        ----------
        case : Case
            Of the queue.
        """
        self.open_scan(case.path, partial(self._on_case_read, case))

    def _on_case_read(self, case: Case, volume: Volume) -> None:
        before, self._case_volume = self._case_volume, volume
        if before is not None:
            self.reading.end()
            layers = self.reading.view.viewer.layers
            for layer in [layer for layer in layers if volume_of(layer) is before]:
                layers.remove(layer)
        try:
            assert self.queue is not None
            self.queue.open(case)
        except OSError as error:
            self.message.setText(f"Progress cannot be kept: {error}")
        self._show_queue()

    def _on_case(self, item: QListWidgetItem) -> None:
        if self.queue is not None:
            self.open_case(self.queue.cases[self.cases.row(item)])

    def _show_queue(self) -> None:
        queue = self.queue
        for part in (self.progress, self.cases, self.next_button):
            part.setVisible(queue is not None)
        if queue is None:
            return
        self.cases.clear()
        for case in queue.cases:
            item = QListWidgetItem(f"{STATUS_SIGNS[case.status]}  {case.title}")
            item.setToolTip(case.path.name)
            self.cases.addItem(item)
            if case.key == queue.current_key:
                self.cases.setCurrentItem(item)
        self.progress.setText(f"{queue.n_done} of {counted(len(queue.cases), 'case')} done")

    # -- the reader -----------------------------------------------------------------------------------------

    def _on_reader(self) -> None:
        self.reading.preferences.remember(reader=self.reader_edit.text().strip())

    def dispose(self, event: Any = None) -> None:
        """Stop reading a file, and hear no more of the reading."""
        self.reading.began.disconnect(self.show_scan)
        self.reading.ended.disconnect(self.show_scan)
        super().dispose(event)


BUTTONS = {
    "scan": ("Scan file …", "A file: .mhd, .mha, .nii, .nrrd, .dcm."),
    "dicom": ("DICOM folder …", "One series."),
    "folder": ("Folder of cases …", "All scans in a folder, one after the other; progress is kept."),
    "study": ("Study …", "Cases in the order of this reader; marks are hidden until each first read is ended."),
    "table": ("Load candidates (CSV) …", "LUNA16's columns; then no model is needed."),
}
