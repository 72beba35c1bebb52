"""Canvases for viewer models without a window: napari's own, less all that a side plane does not need.

What is not public in napari 0.9 and 0.10 is touched here, beside `plugin._compat`, which may not know Qt.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt

if TYPE_CHECKING:
    from napari.components import ViewerModel


def make_canvas(model: ViewerModel) -> Any:
    """Give a Qt widget that shows a viewer model: its canvas alone, without slider, keys and dropping of files.

    Parameters
    ----------
    model : napari.components.ViewerModel
        One without a window of its own.

    Returns
    -------
    QWidget
        Close it with `close_canvas`.
    """
    widget = _canvas_class()(model)
    widget.dims.hide()
    widget.setAcceptDrops(False)
    widget._welcome_widget.setAcceptDrops(False)
    for part in (widget, widget.canvas.native):
        part.setFocusPolicy(Qt.FocusPolicy.NoFocus)  # keys go on to the main view
    scene = widget.canvas._scene_canvas

    def draw_marks_over_images(event: Any = None) -> None:
        """Let what is drawn later win at the same depth."""
        scene.context.set_depth_func("lequal")  # napari sets it once; a dock that moves makes a new context

    scene.events.initialize.connect(draw_marks_over_images)
    return widget


@cache
def _canvas_class() -> Any:
    """Give napari's widget of a viewer, but one that does not bind all keys of napari anew."""
    from napari.qt import QtViewer

    class SideCanvas(QtViewer):  # type: ignore[misc]  # napari is untyped here
        """A canvas that takes no keys. To bind those of the whole program again took half of the time to open it."""

        def _bind_shortcuts(self) -> None:
            """Leave the keys as the main window has bound them."""

    return SideCanvas


def close_canvas(widget: Any) -> None:
    """Close what `make_canvas` has made, with what it listens to."""
    from napari.utils.events import disconnect_events

    model = widget.viewer
    widget.canvas._disconnect_events()
    _forget_sliders(widget.dims.slider_widgets)
    for part in (model.layers, model.dims, model.layers.selection, model.scene.camera, model._layer_slicer):
        for listener in (widget, widget.dims, widget.canvas, widget.canvas.camera):
            disconnect_events(part.events, listener)
    widget.close()
    widget.setParent(None)
    widget.deleteLater()


def _forget_sliders(sliders: Sequence[Any]) -> None:
    """Take off what napari's sliders leave on its settings: functions that hold a weak reference to a slider."""
    from napari.settings import get_settings

    events = get_settings().application.events
    for emitter in (events.playback_fps, events.playback_mode):
        for callback in list(emitter.callbacks):
            held = [cell.cell_contents for cell in getattr(callback, "__closure__", None) or ()]
            owners = [reference() for reference in held if isinstance(reference, weakref.ref)]
            if any(owner is None or owner in sliders for owner in owners):
                emitter.disconnect(callback)
