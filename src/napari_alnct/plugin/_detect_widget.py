"""The widget `Detect nodules`: run a model on an open scan, see its marks and go through them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QToolButton

from napari_alnct.core.config import DetectionSettings
from napari_alnct.core.findings import CaseResult
from napari_alnct.core.volume import Volume
from napari_alnct.io.identifiers import without_uids
from napari_alnct.plugin import _jobs
from napari_alnct.plugin._form import make_form, read_form
from napari_alnct.plugin._layers import MARKS, RESULT_KEY, THRESHOLD_KEY, layers_of, marks_layer
from napari_alnct.plugin._marks_panel import MarksPanel
from napari_alnct.plugin._model_box import ModelBox
from napari_alnct.plugin._panel import ScanPanel
from napari_alnct.plugin._viewport import add_quietly, hide_earlier

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from napari_alnct.plugin._worker import Job

BASIC_SETTINGS = ("device",)
MORE_SETTINGS = ("precision", "second_look", "mirrored_passes", "lung_margin_mm", "max_candidates", "max_block_mvox")


class DetectWidget(ScanPanel):
    """Search an open scan for nodules.

    Parameters
    ----------
    napari_viewer : napari.components.ViewerModel
        Filled in by napari.
    """

    def __init__(self, napari_viewer: ViewerModel) -> None:
        self.settings_form = make_form(DetectionSettings, (*BASIC_SETTINGS, *MORE_SETTINGS))
        self.model_box = ModelBox()
        self.marks = MarksPanel(napari_viewer)
        self._first_marks: Any = None  # the layer of a job that still runs
        super().__init__(napari_viewer, "Detect nodules")
        self.run_button.setToolTip("Search the whole scan. Marks appear as soon as they are found.")
        self.results.addWidget(self.marks, 1)
        self.results.addStretch(0)
        self._fill_form()

    def _fill_form(self) -> None:
        self.form.addRow("Model", self.model_box)
        for name in BASIC_SETTINGS:
            self.form.addRow(self.settings_form[name].label, self.settings_form[name].native)
        more = QToolButton(text="More settings", checkable=True, arrowType=Qt.ArrowType.RightArrow)
        more.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        more.setAutoRaise(True)
        more.toggled.connect(self._show_more)
        self.more_button = more
        self.form.addRow(more)
        for name in MORE_SETTINGS:
            self.form.addRow(self.settings_form[name].label, self.settings_form[name].native)
        self._show_more(False)

    def _show_more(self, is_shown: bool) -> None:
        self.more_button.setArrowType(Qt.ArrowType.DownArrow if is_shown else Qt.ArrowType.RightArrow)
        for name in MORE_SETTINGS:
            self.form.setRowVisible(self.settings_form[name].native, is_shown)

    def make_job(self, volume: Volume) -> Callable[[Job], Any]:
        """Give the search of this scan with the chosen model and settings."""
        settings = read_form(self.settings_form, DetectionSettings)
        return partial(_jobs.detect_nodules, volume=volume, model=self.model_box.model, settings=settings)

    def show_partial(self, volume: Volume, value: _jobs.FirstMarks) -> None:
        """Show the marks found so far; those of earlier runs stay until this run is done."""
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


def summary(result: CaseResult, seconds: float) -> str:
    """Give what a run found, on what device and in what time.

    Parameters
    ----------
    result : CaseResult
        From the detector.
    seconds : float
        Wall time of the whole run.

    Returns
    -------
    str
        Sentences, one per line, without series identifiers; an empty result is not "no nodule".

    Examples
    --------
    >>> empty = CaseResult(
    ...     series_uid="1", candidates=(), threshold=0.5, model_name="m", model_sha256="", device="cpu float32"
    ... )
    >>> print(summary(empty, 2.5))
    No candidate above 0.50 (model m). This does not mean that there is no nodule.
    Model m on cpu float32, 2.5 s.
    """
    found = [] if result.shown else [result.summary]
    notes = map(without_uids, result.notes)
    return "\n".join([*found, f"Model {result.model_name} on {result.device}, {seconds:.1f} s.", *notes])
