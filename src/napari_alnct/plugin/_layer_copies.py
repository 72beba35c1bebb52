"""An image layer of the main viewer, copied into other viewers and kept like it; no Qt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from napari.components import ViewerModel

LOOK = ("opacity", "contrast_limits_range", "contrast_limits", "colormap", "gamma", "blending", "interpolation2d")
PLACED = ("scale", "translate", "name", "metadata")  # what other values bring with them
FIXED = ("units", "axis_labels", "projection_mode", "rgb")
FOLLOWED = ("visible", *LOOK)


class LayerCopies:
    """Copies of an image layer just above the scan of other viewers, made when the layer is first seen.

    Parameters
    ----------
    source : napari.layers.Image
        Of the main viewer; its array is shared, not copied.
    viewers : sequence of napari.components.ViewerModel
        Where to show it too; a viewer without layers is left alone.
    """

    def __init__(self, source: Any, viewers: Sequence[ViewerModel]) -> None:
        self.source = source
        self._viewers = list(viewers)
        self.copies: list[Any] = []
        for name in FOLLOWED:
            getattr(source.events, name).connect(self._follow)
        self._follow()

    def _follow(self, event: Any = None) -> None:
        """Make the copies what the source is now; what has not changed is left alone.

        Other values and their place are taken when the source is seen: they are changed while it is hidden.
        """
        if self.source.visible and not self.copies:
            self.copies = [_add_copy(viewer, self.source) for viewer in self._viewers if viewer.layers]
        for copy in self.copies:
            if self.source.visible and copy.data is not self.source.data:
                copy.data = self.source.data
                for name in PLACED:
                    setattr(copy, name, getattr(self.source, name))
            for name in (*LOOK, "visible"):
                wanted = getattr(self.source, name)
                if not _is_same(wanted, getattr(copy, name)):
                    setattr(copy, name, wanted)

    def close(self) -> None:
        """Remove the copies."""
        for name in FOLLOWED:
            getattr(self.source.events, name).disconnect(self._follow)
        for copy in self.copies:
            for viewer in self._viewers:
                if copy in viewer.layers:
                    viewer.layers.remove(copy)
        self.copies = []


def _add_copy(viewer: ViewerModel, source: Any) -> Any:
    """Put a copy above the scan, below marks; the active layer stays so."""
    from napari.layers import Image

    names = [name for name in (*LOOK, *FIXED, *PLACED) if name != "contrast_limits_range"]
    copy = Image(source.data, **{name: getattr(source, name) for name in names})
    active = viewer.layers.selection.active
    viewer.layers.insert(1, copy)
    viewer.layers.selection.active = active
    return copy


def _is_same(one: Any, other: Any) -> bool:
    if hasattr(one, "colors"):
        return one is other or bool(np.array_equal(one.colors, other.colors))
    return bool(np.array_equal(np.asarray(one), np.asarray(other)))
