"""What the widgets that work on an open scan have in common: scan, Run, Cancel, progress, message, notice."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QEvent, Qt
from qtpy.QtWidgets import (
    QComboBox,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QProgressBar,
    QPushButton,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from napari_alnct.core.notice import NOTICE
from napari_alnct.core.volume import Volume
from napari_alnct.plugin._layers import CT, ct_volumes, is_kind, volume_of
from napari_alnct.plugin._viewport import bring_forward, keep_upright
from napari_alnct.plugin._worker import Job, start_job

if TYPE_CHECKING:
    from napari.components import ViewerModel

NO_SCAN = (
    "Open a chest CT first: File > Open, or File > Open Sample. When napari asks for a reader, choose "
    "ALNCT lung nodules: an image from another one has no place in the patient and cannot be searched."
)
PROGRESS_STEPS = 1000
MINIMUM_WIDTH = 300  # pixels: no label is cut off


class ScanPanel(QWidget):  # type: ignore[misc]  # Qt classes are untyped here
    """A panel that runs one job at a time on an open scan.

    Parameters
    ----------
    viewer : napari.components.ViewerModel
        Scans come from its layers, results go there.
    run_text : str
        Label of the button that starts the job.
    """

    def __init__(self, viewer: ViewerModel, run_text: str) -> None:
        super().__init__()
        self.viewer = viewer
        self.job: Job | None = None
        self._job_volume: Volume | None = None
        self._read_volume: Volume | None = None  # chosen last
        self.scan_box = QComboBox(toolTip="The open scan to work on.")
        self.scan_box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.form = QFormLayout(rowWrapPolicy=QFormLayout.RowWrapPolicy.WrapLongRows)
        self.form.addRow("Scan", self.scan_box)
        self.run_button = QPushButton(run_text)
        self.cancel_button = QPushButton("Cancel", toolTip="Stop; layers of earlier runs stay as they are.")
        self.progress_bar = QProgressBar(maximum=PROGRESS_STEPS, textVisible=False)
        self.message = _text_label()
        self.results = QVBoxLayout()
        self.setMinimumWidth(MINIMUM_WIDTH)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Expanding)  # else napari adds room below
        self._lay_out()
        self.run_button.clicked.connect(self.run)
        self.cancel_button.clicked.connect(self.cancel)
        self.scan_box.currentIndexChanged.connect(self._on_scan_chosen)
        self._is_listening = False
        self._listen()
        self._set_running(False)
        keep_upright(viewer)

    def _lay_out(self) -> None:
        notice = _text_label(NOTICE)
        notice.setObjectName("notice")
        buttons = QHBoxLayout()
        buttons.addWidget(self.run_button, 1)
        buttons.addWidget(self.cancel_button)
        column = QVBoxLayout(self)
        column.addLayout(self.form)
        column.addLayout(buttons)
        column.addWidget(self.progress_bar)
        column.addWidget(self.message)
        column.addLayout(self.results, 1)
        column.addWidget(notice)

    # -- for the widgets ---------------------------------------------------------------

    def make_job(self, volume: Volume) -> Callable[[Job], Any]:
        """Give the function to run in a thread for this scan."""
        raise NotImplementedError

    def show_partial(self, volume: Volume, value: Any) -> None:
        """Show an intermediate result of a job on this scan."""

    def show_done(self, volume: Volume, value: Any) -> None:
        """Show the result of a job on this scan."""
        raise NotImplementedError

    def take_back(self) -> None:
        """Remove what `show_partial` showed: the job was cancelled or failed."""

    def show_scan(self, volume: Volume | None) -> None:
        """React to another scan being chosen; None when there is none."""

    # -- running -------------------------------------------------------------------------

    @property
    def volume(self) -> Volume | None:
        """Give the chosen scan, None when there is none."""
        volume = self.scan_box.currentData()
        return volume if isinstance(volume, Volume) else None

    def run(self) -> None:
        """Start the job on the chosen scan, unless one is running."""
        volume = self.volume
        if volume is None or self.job is not None:
            return
        work = self.make_job(volume)
        self.progress_bar.setValue(0)
        self.message.setText("Starting …")
        self._job_volume = volume
        self.job = start_job(work, self._connect)
        self._set_running(True)

    def cancel(self) -> None:
        """Ask the running job to stop."""
        if self.job is not None:
            self.message.setText("Cancelling …")
            self.cancel_button.setEnabled(False)
            self.job.cancel()

    def _connect(self, job: Job) -> None:
        job.progressed.connect(self._on_progress)
        job.found.connect(self._on_found)
        job.done.connect(self._on_done)
        job.failed.connect(self._on_failed)
        job.cancelled.connect(self._on_cancelled)

    def _on_progress(self, stage: str, fraction: float) -> None:
        self.progress_bar.setValue(round(fraction * PROGRESS_STEPS))
        if self.cancel_button.isEnabled():
            self.message.setText(f"{stage[:1].upper()}{stage[1:]} …")

    def _on_found(self, value: Any) -> None:
        if self._job_volume is not None:
            bring_forward(self.viewer, self._job_volume)
            self.show_partial(self._job_volume, value)

    def _on_done(self, value: Any) -> None:
        volume = self._job_volume
        self._set_running(False)
        self.message.setText("")
        if volume is not None:
            bring_forward(self.viewer, volume)
            self.show_done(volume, value)

    def _on_failed(self, error: Exception) -> None:
        self._set_running(False)
        self.take_back()
        self.message.setText(f"Failed: {error}")

    def _on_cancelled(self) -> None:
        self._set_running(False)
        self.take_back()
        self.message.setText("Cancelled. Nothing was changed.")

    def _set_running(self, is_running: bool) -> None:
        if not is_running:
            self.job = self._job_volume = None
        self.run_button.setEnabled(not is_running and self.volume is not None)
        self.scan_box.setEnabled(not is_running)
        self.cancel_button.setEnabled(is_running)
        self.progress_bar.setVisible(is_running)

    # -- following the layer list ------------------------------------------------------------

    def _listen(self) -> None:
        if not self._is_listening:
            self._is_listening = True
            for emitter in self._layer_events():
                emitter.connect(self._on_layers_changed)
            self._on_layers_changed()

    def _layer_events(self) -> tuple[Any, ...]:
        events = self.viewer.layers.events
        return events.inserted, events.removed, events.reordered

    def dispose(self) -> None:
        """Let go of the viewer: stop a running job, hear no more of its layers."""
        if self.job is not None:
            self.job.drop()
            self.job = self._job_volume = None
        if self._is_listening:
            self._is_listening = False
            for emitter in self._layer_events():
                emitter.disconnect(self._on_layers_changed)

    def event(self, event: QEvent) -> bool:
        """Let go when the dock is closed for good; listen again when shown again."""
        if event.type() == QEvent.Type.ParentChange and self.parent() is None:
            self.dispose()
        elif event.type() == QEvent.Type.Show:
            self._listen()
        return bool(super().event(event))

    def _on_layers_changed(self, event: Any = None) -> None:
        chosen, volumes = self.volume, ct_volumes(self.viewer.layers)
        if self.job is not None and not any(volume is self._job_volume for _, volume in volumes):
            self.cancel()  # its scan was closed
        if getattr(event, "type", "") == "inserted":
            chosen = self._after_opening(event.value, chosen)
        self.scan_box.blockSignals(True)
        self.scan_box.clear()
        for name, volume in volumes:
            self.scan_box.addItem(name, volume)
        index = next((k for k, (_, volume) in enumerate(volumes) if volume is chosen), self._front(volumes))
        self.scan_box.setCurrentIndex(index)
        self.scan_box.blockSignals(False)
        self._on_scan_chosen()

    def _after_opening(self, layer: Any, chosen: Volume | None) -> Volume | None:
        """Give the scan to read now: the one opened last; hide what belongs to a scan that is not read."""
        if is_kind(layer, CT):
            return chosen if self.job is not None else volume_of(layer)
        if chosen is not None:
            bring_forward(self.viewer, chosen)
        return chosen

    def _front(self, volumes: list[tuple[str, Volume]]) -> int:
        """Give the index of the scan that is seen, the last one when all or none are; -1 without a scan."""
        seen = [volume_of(layer) for layer in self.viewer.layers if is_kind(layer, CT) and layer.visible]
        indices = [k for k, (_, volume) in enumerate(volumes) if any(volume is other for other in seen)]
        return indices[-1] if indices else len(volumes) - 1

    def _on_scan_chosen(self, index: int = 0) -> None:
        volume = self.volume
        self.run_button.setEnabled(volume is not None and self.job is None)
        if volume is None:
            self.message.setText(NO_SCAN)
        elif self.message.text() == NO_SCAN:
            self.message.setText("")
        if volume is not None and volume is not self._read_volume:
            bring_forward(self.viewer, volume)
        self._read_volume = volume
        self.show_scan(volume)


def _text_label(text: str = "") -> QLabel:
    label = QLabel(text, wordWrap=True)
    label.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Maximum)  # free space goes to the results
    label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
    return label
