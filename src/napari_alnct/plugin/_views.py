"""The side planes on the screen: coronal and sagittal canvases beside the main one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtWidgets import QWidget

if TYPE_CHECKING:
    from napari_alnct.plugin._reading_view import ReadingView


class PlanesWidget(QWidget):  # type: ignore[misc]  # Qt classes are untyped here
    """Coronal and sagittal planes of a reading.

    Parameters
    ----------
    view : ReadingView
        What to show.
    """

    def __init__(self, view: ReadingView) -> None:
        super().__init__()
        self.view = view
