"""Model and settings of a search, as rows of a form; and what a search came to, in words."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QFormLayout, QToolButton

from napari_alnct.core.config import DetectionSettings
from napari_alnct.core.findings import CaseResult
from napari_alnct.core.volume import Volume
from napari_alnct.io.identifiers import without_uids
from napari_alnct.plugin import _jobs
from napari_alnct.plugin._form import make_form, read_form
from napari_alnct.plugin._model_box import ModelBox

if TYPE_CHECKING:
    from napari_alnct.plugin._worker import Job

BASIC_SETTINGS = ("device",)
MORE_SETTINGS = ("precision", "second_look", "mirrored_passes", "lung_margin_mm", "max_candidates", "max_block_mvox")


class DetectionForm:
    """Choice of the model, few settings in view and the others behind a button."""

    def __init__(self) -> None:
        self.settings_form = make_form(DetectionSettings, (*BASIC_SETTINGS, *MORE_SETTINGS))
        self.model_box = ModelBox()
        self.more_button = QToolButton(text="More settings", checkable=True, arrowType=Qt.ArrowType.RightArrow)
        self.more_button.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        self.more_button.setAutoRaise(True)
        self._form: QFormLayout | None = None

    def fill(self, form: QFormLayout) -> None:
        """Put the rows into a form.

        Parameters
        ----------
        form : QFormLayout
            Of a panel.
        """
        self._form = form
        form.addRow("Model", self.model_box)
        for name in BASIC_SETTINGS:
            form.addRow(self.settings_form[name].label, self.settings_form[name].native)
        form.addRow(self.more_button)
        for name in MORE_SETTINGS:
            form.addRow(self.settings_form[name].label, self.settings_form[name].native)
        self.more_button.toggled.connect(self._show_more)
        self._show_more(False)

    def _show_more(self, is_shown: bool) -> None:
        assert self._form is not None
        self.more_button.setArrowType(Qt.ArrowType.DownArrow if is_shown else Qt.ArrowType.RightArrow)
        for name in MORE_SETTINGS:
            self._form.setRowVisible(self.settings_form[name].native, is_shown)

    def make_job(self, volume: Volume) -> Callable[[Job], Any]:
        """Give the search of a scan with the chosen model and settings.

        Parameters
        ----------
        volume : Volume
            The scan.

        Returns
        -------
        callable
            For `start_job`.
        """
        settings = read_form(self.settings_form, DetectionSettings)
        return partial(_jobs.detect_nodules, volume=volume, model=self.model_box.model, settings=settings)


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
