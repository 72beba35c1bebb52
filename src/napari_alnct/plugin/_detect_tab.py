"""The tab Detect: one button that prepares and searches the scan of the reading; its marks go into the reading."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Signal

from napari_alnct.core.errors import AlnctError
from napari_alnct.core.proposals import Source
from napari_alnct.core.volume import Volume
from napari_alnct.plugin import _jobs
from napari_alnct.plugin._detection_form import DetectionForm, summary
from napari_alnct.plugin._open_reading import OpenReading
from napari_alnct.plugin._panel import ScanPanel

if TYPE_CHECKING:
    from napari_alnct.plugin._worker import Job

HIDDEN = "The scan is searched. Its marks are shown when you end your first read."
NO_RECORD = "The marks cannot be kept: the record of this reading is not open."


class DetectTab(ScanPanel):
    """Search the scan that is read.

    Parameters
    ----------
    reading : OpenReading
        Takes the marks.

    Signals
    -------
    scan_chosen : (Volume or None,)
        The scan to read now: opened last, or chosen.
    listed : ()
        The list of open scans, or the choice, may be another one.
    searched : ()
        New marks are in the reading.
    """

    scan_chosen = Signal(object)
    listed = Signal()
    searched = Signal()

    def __init__(self, reading: OpenReading) -> None:
        self.reading = reading
        self.fault: Exception | None = None  # why the last search of this scan failed
        self._told: Volume | None = None  # the scan that `scan_chosen` was sent for
        self.detection_form = DetectionForm()
        super().__init__(reading.view.viewer, "Prepare and detect")
        self.run_button.setToolTip("Find the lungs, resample, search: minutes without a GPU. You can go on reading.")
        self.form.setRowVisible(self.scan_box, False)  # it is in the tab Data
        self.detection_form.fill(self.form)
        self.results.addStretch(1)

    def make_job(self, volume: Volume) -> Callable[[Job], Any]:
        """Give the search of this scan with the chosen model and settings."""
        self.fault = None
        return self.detection_form.make_job(volume)

    def show_partial(self, volume: Volume, value: _jobs.FirstMarks | _jobs.FoundLungs) -> None:
        """Count the slices with lung from now on; marks wait until all are there."""
        if isinstance(value, _jobs.FoundLungs) and self.reading.volume is volume:
            self.reading.view.count_lungs(value.slices)

    def show_done(self, volume: Volume, value: _jobs.Detection) -> None:
        """Put the marks into the reading; while they must not be seen, nothing is told of them."""
        session = self.reading.session
        if session is None or self.reading.volume is not volume:
            self.message.setText(NO_RECORD)
            return
        try:
            session.take_candidates(
                value.result, Source(operating_points=value.operating_points, sensitivities=value.sensitivities)
            )
        except (AlnctError, OSError) as error:
            self.message.setText(f"The marks cannot be kept: {error}")
            return
        self.message.setText(summary(value.result, value.seconds) if session.review.is_unlocked else HIDDEN)
        self.searched.emit()

    def show_scan(self, volume: Volume | None) -> None:
        """Tell which scan is to be read, when it is another one."""
        self.listed.emit()
        if volume is self._told:
            return
        self._told, self.fault = volume, None
        if self.job is None and volume is not None:
            self.message.setText("")
        self.scan_chosen.emit(volume)

    def _on_failed(self, error: Exception) -> None:
        self.fault = error
        super()._on_failed(error)
