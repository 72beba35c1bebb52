"""The linked planes of a reading: one place, window, slab and field of view for axial, coronal and sagittal.

A `ReadingView` drives the main viewer and two viewer models of its own for the side
planes, which share the scan's array. It needs no window: `plugin._views` shows the side
planes on the screen. Places are (x, y, z), LPS mm.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from psygnal import Signal

from napari_alnct.core.geometry import Triple
from napari_alnct.core.volume import Volume
from napari_alnct.plugin._windows import PRESETS, Window

if TYPE_CHECKING:
    from napari.components import ViewerModel

LAYOUTS = ("axial", "axial + planes", "planes")

__all__ = ["LAYOUTS", "PRESETS", "ReadingView"]


class ReadingView:
    """What is seen of a scan in three linked planes, and how.

    Parameters
    ----------
    viewer : napari.components.ViewerModel
        Its canvas is the main view.

    Signals
    -------
    moved : (tuple of float)
        The place, LPS mm.
    window_changed, slab_changed, layout_changed, seen_changed : ()
    """

    moved = Signal(object)
    window_changed = Signal()
    slab_changed = Signal()
    layout_changed = Signal()
    seen_changed = Signal()

    def __init__(self, viewer: ViewerModel) -> None:
        self.viewer = viewer

    def open(self, volume: Volume) -> None:
        """Show a scan: find its layer in the main viewer or make it, and show the same array in the side planes."""
        raise NotImplementedError

    @property
    def volume(self) -> Volume | None:
        """Give the scan in view, None before `open`."""
        raise NotImplementedError

    @property
    def place_xyz_mm(self) -> Triple:
        """Give the place at the crosshair, LPS mm."""
        raise NotImplementedError

    def go_to(self, place_xyz_mm: Triple) -> None:
        """Show a place in the middle of all planes; field of view, window and slab stay."""
        raise NotImplementedError

    def cursor_xyz_mm(self) -> Triple:
        """Give the place under the mouse, in whichever plane it is; else the place at the crosshair."""
        raise NotImplementedError

    @property
    def window_hu(self) -> Window:
        """Give the lowest and highest value shown, HU."""
        raise NotImplementedError

    def set_window(self, low_hu: float, high_hu: float) -> None:
        """Show values from low to high, in all planes."""
        raise NotImplementedError

    def use_preset(self, name: str) -> None:
        """Use the window of this name, one of `PRESETS`."""
        raise NotImplementedError

    @property
    def slab_mm(self) -> float:
        """Give the true thickness of the axial slab, mm; 0 when it is off."""
        raise NotImplementedError

    def set_slab(self, slab_mm: float) -> None:
        """Show maximum projections of about this thickness, in all planes; 0 for single slices."""
        raise NotImplementedError

    @property
    def field_mm(self) -> float:
        """Give how many mm the shorter side of each canvas covers."""
        raise NotImplementedError

    def set_field(self, field_mm: float) -> None:
        """Zoom all planes so that the shorter side of each canvas covers this many mm."""
        raise NotImplementedError

    @property
    def layout(self) -> str:
        """Give the arrangement, one of `LAYOUTS`."""
        raise NotImplementedError

    def set_layout(self, name: str) -> None:
        """Arrange the planes: one of `LAYOUTS`."""
        raise NotImplementedError

    @property
    def is_reading_scroll(self) -> bool:
        """Tell whether the wheel moves slices and a drag with the right button changes the window."""
        raise NotImplementedError

    @is_reading_scroll.setter
    def is_reading_scroll(self, is_on: bool) -> None:
        raise NotImplementedError

    @property
    def seen_slices(self) -> NDArray[np.bool_]:
        """Give for each axial slice whether the main view has shown it."""
        raise NotImplementedError

    def seen_share(self, slices: range | None = None) -> float:
        """Give the share of the axial slices (of these, such as those of the lungs, or of all) that were shown."""
        raise NotImplementedError

    def show_marks(self, layer: Any | None) -> None:
        """Show the marks of a points layer of the main viewer in the side planes too; None: none."""
        raise NotImplementedError

    def state(self) -> dict[str, Any]:
        """Give place, window, slab, layout, field and seen slices as JSON values."""
        raise NotImplementedError

    def restore(self, state: dict[str, Any]) -> None:
        """Show what `state` has described; what is missing or cannot be used stays as it is."""
        raise NotImplementedError

    def close(self) -> None:
        """Let go of the main viewer: callbacks, overlays, side planes; the scan's layer stays."""
        raise NotImplementedError
