"""The view of a reading: a scan in three linked planes, its window, its marks, and what of it was seen.

A `ReadingView` drives the main viewer and two viewer models of its own for the side
planes, which share the scan's array. It needs no window: `plugin._views` shows the side
planes on the screen.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from psygnal import Signal

from napari_alnct.core.errors import SettingsError
from napari_alnct.core.geometry import Triple
from napari_alnct.core.volume import Volume
from napari_alnct.core.wording import counted
from napari_alnct.plugin._compat import set_background
from napari_alnct.plugin._layers import CT, LUNGS, ct_layer, is_kind, layers_of, volume_of
from napari_alnct.plugin._linked_planes import LAYOUTS, LinkedPlanes
from napari_alnct.plugin._mark_rings import MarkRings
from napari_alnct.plugin._plane import MARGIN
from napari_alnct.plugin._plane_mouse import PlaneMouse
from napari_alnct.plugin._seen import SeenSlices, lung_slices
from napari_alnct.plugin._viewport import add_quietly, bring_forward, keep_upright
from napari_alnct.plugin._windows import PRESETS, SLABS_MM, Window, preset_window, window_text

if TYPE_CHECKING:
    from napari.components import ViewerModel

LUNG = PRESETS["lung"]
CLOSE_UP_MM = 60.0  # of the field: a nodule is seen large, with its surroundings
UNUSABLE = (KeyError, TypeError, ValueError, OverflowError, SettingsError)  # what a damaged state can raise

__all__ = ["LAYOUTS", "PRESETS", "SLABS_MM", "ReadingView"]


class ReadingView(LinkedPlanes):
    """What is seen of a scan in three linked planes, and how.

    Parameters
    ----------
    viewer : napari.components.ViewerModel
        Its canvas is the main view.

    Attributes
    ----------
    is_reading_scroll : bool
        Whether the wheel moves slices and a drag with the right button changes the window; else as in napari.
    counts_drawn : bool
        Whether a slice counts as seen when `note_drawn` says so; else as soon as the viewer goes there.

    Signals
    -------
    moved : (tuple of float)
        The place, LPS mm.
    window_changed, slab_changed, layout_changed, seen_changed : ()
    """

    window_changed = Signal()
    seen_changed = Signal()

    def __init__(self, viewer: ViewerModel) -> None:
        super().__init__(viewer)
        self.is_reading_scroll = True
        self.counts_drawn = False
        self._volume: Volume | None = None
        self._image: Any = None  # the layer of the scan in the main viewer
        self._window: Window | None = None
        self._wide_field_mm = 0.0  # before the last close-up
        self._seen = SeenSlices(0)
        self._marks: MarkRings | None = None
        self._background = set_background(viewer, "black")
        self._mice = [PlaneMouse(plane, self) for plane in self.planes]
        viewer.layers.events.inserted.connect(self._on_layer_inserted)
        viewer.layers.events.removed.connect(self._on_layer_removed)
        keep_upright(viewer)

    # -- the scan -------------------------------------------------------------------------

    @property
    def volume(self) -> Volume | None:
        """Give the scan in view, None before `open` and when its layer was removed."""
        return self._volume

    def open(self, volume: Volume) -> None:
        """Show a scan from its middle: find its layer or make it, and show the same array in the side planes.

        Window, slab and layout stay as they were for the scan before.

        Parameters
        ----------
        volume : Volume
            The scan; opening the one in view again only brings it forward.
        """
        if volume is not self._volume:
            self._forget()
            self._take(volume)
        bring_forward(self.viewer, volume)

    def _take(self, volume: Volume) -> None:
        geometry = volume.geometry
        found = layers_of(self.viewer.layers, volume, CT)
        self._image = found[-1] if found else add_quietly(self.viewer, ct_layer(volume))
        self._volume = volume
        self._seen = SeenSlices(geometry.shape_zyx[0])
        for lungs in layers_of(self.viewer.layers, volume, LUNGS):
            self._take_lungs(lungs)
        self.viewer.dims.ndisplay = 2
        if self._window is not None:
            self._image.contrast_limits = self._window
        self._window = self._limits()
        for side in self.sides:
            image = add_quietly(side.viewer, ct_layer(volume))
            image.contrast_limits = self._window
        self._show_grid(geometry)
        self._image.events.contrast_limits.connect(self._on_limits)
        self.fit()
        self.go_to(_middle(volume))

    def _forget(self) -> None:
        """Let go of the scan in view."""
        if self._image is not None:
            self._image.events.contrast_limits.disconnect(self._on_limits)
        self._image = self._volume = None
        self._seen = SeenSlices(0)
        self._show_grid(None)
        for side in self.sides:
            if side.viewer.layers:  # clearing collects garbage, which takes a while
                side.viewer.layers.clear()
        self.show_marks(None)  # whose copies have gone with the other layers, all at once
        self._write()

    def leave(self) -> None:
        """Let go of the scan in view, as when its layer is removed; the layer stays."""
        self._forget()

    def _on_layer_inserted(self, event: Any) -> None:
        if self._volume is not None and is_kind(event.value, LUNGS) and volume_of(event.value) is self._volume:
            self._take_lungs(event.value)
            self.seen_changed.emit()

    def _take_lungs(self, layer: Any) -> None:
        slices = lung_slices(layer.data)
        self._seen.count_lungs(slices.start, slices.stop)

    def _on_layer_removed(self, event: Any) -> None:
        if event.value is self._image and self._image is not None:
            self._forget()
        elif self._marks is not None and event.value is self._marks.source:
            self.show_marks(None)

    def fit(self) -> None:
        """Show the whole axial slice; coronal and sagittal planes at the same scale."""
        if self._volume is not None:
            self.set_field(max(self._volume.geometry.extent_zyx_mm[1:]) / (1 - MARGIN))

    def toggle_close_up(self) -> None:
        """Show 60 mm around the place in all planes; when it is so, as much as before, or the whole scan."""
        if self._volume is None:
            return
        is_close = self._field_mm <= CLOSE_UP_MM
        if not is_close:
            self._wide_field_mm = self._field_mm
            self.set_field(CLOSE_UP_MM)
        elif self._wide_field_mm:
            self.set_field(self._wide_field_mm)
        else:
            self.fit()
        self.go_to(self.place_xyz_mm)

    # -- window and slab ----------------------------------------------------------------------

    @property
    def window_hu(self) -> Window:
        """Give the lowest and highest value shown, HU."""
        return LUNG if self._window is None else self._window

    def set_window(self, low_hu: float, high_hu: float) -> None:
        """Show values from low to high in all planes.

        Parameters
        ----------
        low_hu, high_hu : float
            HU.

        Raises
        ------
        SettingsError
            If low is not below high.
        """
        if not low_hu < high_hu:
            raise SettingsError(f"a window from {low_hu:g} to {high_hu:g} HU shows nothing; give low below high")
        if self._image is None:
            self._window = (float(low_hu), float(high_hu))
            self.window_changed.emit()
        else:
            self._image.contrast_limits = (float(low_hu), float(high_hu))

    def use_preset(self, name: str) -> None:
        """Use the window of a preset.

        Parameters
        ----------
        name : str
            One of `PRESETS`.

        Raises
        ------
        SettingsError
            If there is no such preset.
        """
        self.set_window(*preset_window(name))

    def _limits(self) -> Window:
        low, high = self._image.contrast_limits
        return float(low), float(high)

    def _on_limits(self) -> None:
        """Follow the layer, however its limits were changed; napari can tell of one change twice."""
        if self._limits() == self._window:
            return
        self._window = self._limits()
        for side in self.sides:
            for image in side.viewer.layers[:1]:
                image.contrast_limits = self._window
        self._write()
        self.window_changed.emit()

    # -- what was seen ------------------------------------------------------------------------

    @property
    def seen_slices(self) -> NDArray[np.bool_]:
        """Give for each axial slice whether the main view has shown it, alone or in a slab."""
        return self._seen.mask.copy()

    def seen_share(self, slices: range | None = None) -> float:
        """Give the share of the axial slices that were shown.

        Parameters
        ----------
        slices : range, optional
            Default: those with lung, all while `lung_slices` is not known.

        Returns
        -------
        float
            0 to 1.
        """
        return self._seen.share(slices)

    @property
    def lung_slices(self) -> range | None:
        """Give the axial slices from the first to the last with lung, None while that is not known."""
        return self._seen.lungs

    def count_lungs(self, slices: range) -> None:
        """Take which axial slices hold lung: the share of those is what counts from now on."""
        self._seen.count_lungs(slices.start, slices.stop)
        self.seen_changed.emit()

    def note_drawn(self, event: Any = None) -> None:
        """Count the slice or slab that is on the canvas of the main view now."""
        index, beside = self.main.index, self.main.n_beside
        if self.main.is_flat and self.main.axis == 0 and self._seen.add(index - beside, index + beside + 1):
            self.seen_changed.emit()

    def _seen_now(self) -> None:
        if not self.counts_drawn:
            self.note_drawn()

    def _write(self) -> None:
        """Write window, slab and slice on the canvases."""
        for plane in self._shown:
            lines = [f"{plane.name} {plane.index}"] if plane.is_flat else []  # short: a side plane is narrow
            if plane is self.main and lines:
                lines = [f"{lines[0]}/{plane.n_slices - 1}"]
                n_slices = 2 * plane.n_beside + 1
                slab = [f"slab {self.slab_mm:g} mm, {counted(n_slices, 'slice')}"] if self._wanted_slab_mm else []
                lines = [window_text(self.window_hu), *slab, *lines]
            plane.read_out = "\n".join(lines)

    # -- marks, state, end --------------------------------------------------------------------

    def show_marks(self, layer: Any | None) -> None:
        """Show the marks of a points layer of the main viewer in the side planes too.

        Parameters
        ----------
        layer : napari.layers.Points or None
            The copies follow it; None takes them away.
        """
        if self._marks is not None:
            if self._marks.source is layer:
                return
            self._marks.close()
            self._marks = None
        if layer is not None and self._volume is not None:
            self._marks = MarkRings(layer, [side.viewer for side in self.sides])

    def state(self) -> dict[str, Any]:
        """Give place, window, slab, layout, field and seen slices as JSON values.

        Returns
        -------
        dict
            For `restore`.
        """
        return {
            "place_xyz_mm": list(self.place_xyz_mm),
            "window_hu": list(self.window_hu),
            "slab_mm": self._wanted_slab_mm,
            "field_mm": self._field_mm,
            "layout": self._layout,
            "is_reading_scroll": self.is_reading_scroll,
            "seen_slices": self._seen.ranges(),
            "lung_slices": None if self.lung_slices is None else [self.lung_slices.start, self.lung_slices.stop],
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Show what `state` has described.

        Parameters
        ----------
        state : dict
            What is missing in it, or cannot be used, stays as it is.
        """
        steps: dict[str, Callable[[Any], None]] = {
            "layout": self.set_layout,
            "window_hu": lambda window: self.set_window(*window),
            "slab_mm": self.set_slab,
            "field_mm": self.set_field,
            "place_xyz_mm": self.go_to,
            "is_reading_scroll": lambda is_on: setattr(self, "is_reading_scroll", bool(is_on)),
            "seen_slices": self._restore_seen,
            "lung_slices": lambda slices: self._seen.count_lungs(*slices),  # None changes nothing
        }
        for name, step in steps.items():
            try:
                step(state[name])
            except UNUSABLE:
                continue
        self.seen_changed.emit()

    def _restore_seen(self, ranges: Any) -> None:
        """Count what was seen then, not the slice that the scan happened to be opened at."""
        seen = SeenSlices(len(self._seen.mask))
        seen.add_ranges(ranges)
        seen.lungs = self._seen.lungs
        self._seen = seen
        self._seen_now()

    def close(self) -> None:
        """Let go of the main viewer: callbacks, overlays, side planes; the scan's layer stays."""
        self.viewer.layers.events.inserted.disconnect(self._on_layer_inserted)
        self.viewer.layers.events.removed.disconnect(self._on_layer_removed)
        self._forget()
        for mouse in self._mice:
            mouse.close()
        super().close()
        set_background(self.viewer, self._background)


def _middle(volume: Volume) -> Triple:
    x, y, z = volume.geometry.index_to_world([n // 2 for n in volume.geometry.shape_zyx])
    return float(x), float(y), float(z)
