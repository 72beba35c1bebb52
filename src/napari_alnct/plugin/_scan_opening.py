"""Opening a scan: the files are read in a thread, then the scan is in the viewer."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from qtpy.QtWidgets import QFileDialog, QLabel, QWidget

from napari_alnct.core.volume import Volume
from napari_alnct.io.images import ReadOptions, read_volume
from napari_alnct.plugin._layers import ct_layer
from napari_alnct.plugin._open_reading import OpenReading
from napari_alnct.plugin._viewport import add_quietly
from napari_alnct.plugin._worker import Job, start_job

SCANS = "Scans (*.mhd *.mha *.zraw *.nii *.nii.gz *.nrrd *.nhdr *.dcm);;All files (*)"


class ScanOpening(QWidget):  # type: ignore[misc]  # Qt classes are untyped here
    """What can open scans, one at a time.

    Parameters
    ----------
    reading : OpenReading
        Its viewer gets them.

    Attributes
    ----------
    job : Job or None
        Reads a scan now.
    waiting : list of QWidget
        Off while a scan is read.
    """

    def __init__(self, reading: OpenReading) -> None:
        super().__init__()
        self.reading = reading
        self.job: Job | None = None
        self.message = QLabel(wordWrap=True)
        self.waiting: list[QWidget] = []

    def open_scan(self, path: Path, then: Callable[[Volume], None] | None = None) -> None:
        """Read a scan in a thread and put it into the viewer.

        Parameters
        ----------
        path : Path
            File or DICOM folder.
        then : callable, optional
            Gets the scan, before it is in the viewer.
        """
        if self.job is not None:
            return
        self.message.setText("Opening …")

        def connect(job: Job) -> None:
            """Hear of the end of the job."""
            job.done.connect(partial(self._on_read, then))
            job.failed.connect(self._on_failed)
            job.cancelled.connect(self._on_cancelled)

        self.job = start_job(lambda job: read_volume(path, ReadOptions(ask=True)), connect)
        self._set_busy(True)

    def _on_read(self, then: Callable[[Volume], None] | None, volume: Volume) -> None:
        self._on_cancelled()
        if then is not None:
            then(volume)
        add_quietly(self.reading.view.viewer, ct_layer(volume))

    def _on_failed(self, error: Exception) -> None:
        self._on_cancelled()
        self.message.setText(str(error))

    def _on_cancelled(self) -> None:
        self.job = None
        self.message.setText("")
        self._set_busy(False)

    def _set_busy(self, is_busy: bool) -> None:
        for part in self.waiting:
            part.setEnabled(not is_busy)

    def _ask_scan(self) -> None:
        path, _ = QFileDialog.getOpenFileName(self, "Open a scan", "", SCANS)
        if path:
            self.open_scan(Path(path))

    def _ask_dicom(self) -> None:
        folder = QFileDialog.getExistingDirectory(self, "Open a DICOM series")
        if folder:
            self.open_scan(Path(folder))

    def dispose(self, event: Any = None) -> None:
        """Stop reading a file."""
        if self.job is not None:
            self.job.drop()
            self.job = None
