"""Marks in all planes: a points layer of the main viewer, copied into the side planes and kept like it; no Qt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_alnct.plugin._spheres import cut_spheres_by_slabs

if TYPE_CHECKING:
    from napari.components import ViewerModel

LOOK = ("size", "symbol", "border_width", "border_color", "face_color", "shown")  # one value for each mark
STYLE = ("border_width_is_relative", "opacity", "visible", "blending", "antialiasing", "canvas_size_limits")
PLACE = ("scale", "translate", "units", "axis_labels")
FOLLOWED = (*(name for name in LOOK if name != "shown"), "data", "features", "set_data", *STYLE, "scale", "translate")


class MarkRings:
    """The marks of one layer, shown in the side planes too.

    Parameters
    ----------
    source : napari.layers.Points
        Of the main viewer; it stays the only place where marks are edited.
    viewers : sequence of napari.components.ViewerModel
        The side planes.
    """

    def __init__(self, source: Any, viewers: Sequence[ViewerModel]) -> None:
        self.source = source
        self.copies = [viewer.add_layer(_copy_of(source)) for viewer in viewers]
        for viewer, copy in zip(viewers, self.copies, strict=True):
            viewer.layers.selection.active = viewer.layers[0]  # a click there never edits a mark
            copy.editable = False
        self._viewers = list(viewers)
        for layer in (source, *self.copies):
            cut_spheres_by_slabs(layer, True)
        for name in FOLLOWED:
            getattr(source.events, name).connect(self._follow)

    def _follow(self, event: Any = None) -> None:
        """Make the copies what the source is now; what has not changed is left alone."""
        for copy in self.copies:
            _make_alike(self.source, copy)

    def close(self) -> None:
        """Remove the copies; the source is as it was."""
        for name in FOLLOWED:
            getattr(self.source.events, name).disconnect(self._follow)
        cut_spheres_by_slabs(self.source, False)
        for viewer, copy in zip(self._viewers, self.copies, strict=True):
            if copy in viewer.layers:
                viewer.layers.remove(copy)
        self.copies = []


def _copy_of(source: Any) -> Any:
    """Give a points layer with the same marks; not the user's features, which may be long."""
    from napari.layers import Points

    attributes = {name: getattr(source, name) for name in (*LOOK, *STYLE, *PLACE, "projection_mode")}
    if len(source.data) == 0:
        attributes = {name: value for name, value in attributes.items() if name not in LOOK}
    return Points(np.array(source.data), ndim=3, name=source.name, metadata=dict(source.metadata), **attributes)


def _make_alike(source: Any, copy: Any) -> None:
    copy.metadata = dict(source.metadata)
    if not np.array_equal(source.data, copy.data):
        copy.selected_data = set()
        copy.data = np.array(source.data)
    for name in (*LOOK, *STYLE, "scale", "translate"):
        wanted = getattr(source, name)
        if not np.array_equal(np.asarray(wanted), np.asarray(getattr(copy, name))):
            setattr(copy, name, wanted)
