"""The widget `Detect nodules`: run a model on an open scan, see its marks and go through them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from napari_alnct.core.volume import Volume
from napari_alnct.plugin import _jobs
from napari_alnct.plugin._detection_form import DetectionForm, summary
from napari_alnct.plugin._layers import MARKS, RESULT_KEY, THRESHOLD_KEY, layers_of, marks_layer
from napari_alnct.plugin._marks_panel import MarksPanel
from napari_alnct.plugin._panel import ScanPanel
from napari_alnct.plugin._viewport import add_quietly, hide_earlier

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from napari_alnct.plugin._worker import Job


class DetectWidget(ScanPanel):
    """Search an open scan for nodules.

    Parameters
    ----------
    napari_viewer : napari.components.ViewerModel
        Filled in by napari.
    """

    def __init__(self, napari_viewer: ViewerModel) -> None:
        self.detection_form = DetectionForm()
        self.settings_form, self.model_box = self.detection_form.settings_form, self.detection_form.model_box
        self.more_button = self.detection_form.more_button
        self.marks = MarksPanel(napari_viewer)
        self._first_marks: Any = None  # the layer of a job that still runs
        super().__init__(napari_viewer, "Detect nodules")
        self.run_button.setToolTip("Search the whole scan. Marks appear as soon as they are found.")
        self.results.addWidget(self.marks, 1)
        self.results.addStretch(0)
        self.detection_form.fill(self.form)

    def make_job(self, volume: Volume) -> Callable[[Job], Any]:
        """Give the search of this scan with the chosen model and settings."""
        return self.detection_form.make_job(volume)

    def show_partial(self, volume: Volume, value: _jobs.FirstMarks | _jobs.FoundLungs) -> None:
        """Show the marks found so far; those of earlier runs stay until this run is done."""
        if isinstance(value, _jobs.FoundLungs):
            return
        self.take_back()
        layer_data = marks_layer(
            value.candidates, series_uid=volume.series_uid, threshold=value.threshold, volume=volume
        )
        self._first_marks = add_quietly(self.viewer, layer_data)

    def show_done(self, volume: Volume, value: _jobs.Detection) -> None:
        """Show the marks and what they mean; marks of earlier runs are hidden, not deleted."""
        self.take_back()
        hide_earlier(self.viewer, volume, MARKS)
        result = value.result
        layer_data = marks_layer(
            result.candidates,
            series_uid=volume.series_uid,
            threshold=result.threshold,
            volume=volume,
            result=result,
            operating_points=value.operating_points,
        )
        add_quietly(self.viewer, layer_data)
        self.message.setText(summary(result, value.seconds))

    def take_back(self) -> None:
        """Remove the marks of a run that is not done."""
        if self._first_marks is not None and self._first_marks in self.viewer.layers:
            self.viewer.layers.remove(self._first_marks)
        self._first_marks = None

    def show_scan(self, volume: Volume | None) -> None:
        """Show the newest marks of the chosen scan."""
        layers = [] if volume is None else layers_of(self.viewer.layers, volume, MARKS)
        layer = layers[-1] if layers else None
        if layer is self.marks.layer:
            return
        self.marks.show_layer(layer, 0.0 if layer is None else layer.metadata[THRESHOLD_KEY])
        if self.job is None and volume is not None:
            result = None if layer is None else layer.metadata.get(RESULT_KEY)
            self.message.setText("" if result is None else summary(result, sum(result.seconds.values())))
