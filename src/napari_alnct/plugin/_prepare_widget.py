"""The widget `Preprocess CT`: lung mask and resampled scan as layers."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from napari_alnct.core.config import PrepareSettings
from napari_alnct.core.volume import Volume
from napari_alnct.plugin import _jobs
from napari_alnct.plugin._form import make_form, read_form
from napari_alnct.plugin._layers import LUNGS, RESAMPLED, lungs_layer, resampled_layer
from napari_alnct.plugin._panel import ScanPanel
from napari_alnct.plugin._viewport import add_quietly, hide_earlier

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from napari_alnct.plugin._worker import Job


class PrepareWidget(ScanPanel):
    """Find the lungs of an open scan and resample it.

    Parameters
    ----------
    napari_viewer : napari.components.ViewerModel
        Filled in by napari.
    """

    def __init__(self, napari_viewer: ViewerModel) -> None:
        self.settings_form = make_form(PrepareSettings, ("spacing_mm", "low_hu", "high_hu", "margin_mm"))
        super().__init__(napari_viewer, "Preprocess CT")
        self.results.addStretch(1)
        for widget in self.settings_form.values():
            self.form.addRow(widget.label, widget.native)

    def make_job(self, volume: Volume) -> Callable[[Job], Any]:
        """Give the preparation of this scan with the settings of the form."""
        settings = read_form(self.settings_form, PrepareSettings)
        return partial(_jobs.prepare_scan, volume=volume, settings=settings)

    def show_done(self, volume: Volume, value: _jobs.Preparation) -> None:
        """Put the lung mask and the resampled scan into the viewer; those of earlier runs are hidden, not deleted."""
        hide_earlier(self.viewer, volume, LUNGS, RESAMPLED)
        add_quietly(self.viewer, lungs_layer(value.lungs, volume), above=volume)
        resampled = resampled_layer(value.hu, value.geometry, volume)
        add_quietly(self.viewer, resampled, above=volume).visible = False
        self.message.setText(summary(value))


def summary(preparation: _jobs.Preparation) -> str:
    """Give what was done in a few sentences.

    Parameters
    ----------
    preparation : Preparation
        From the job.

    Returns
    -------
    str
        Lung volume, grid of the resampled scan, time, and what is unusual.
    """
    shape = " × ".join(str(n) for n in preparation.geometry.shape_zyx)
    spacing_mm = preparation.geometry.spacing_zyx_mm[0]
    sentences = [
        f"Lungs of {preparation.lungs_ml / 1000:.1f} litres, found and resampled in {preparation.seconds:.1f} s.",
        f"The resampled scan ({shape} voxels of {spacing_mm:g} mm) is hidden: click its eye in the layer list. "
        f"While it is there the slider moves in steps of {spacing_mm:g} mm or less.",
        *(flag.text for flag in preparation.flags),
    ]
    return "\n".join(sentences)
