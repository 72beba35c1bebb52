"""One viewer that shows one plane of a scan: its slice, field of view and slab; no Qt.

Positions are (z, y, x) in world mm, as the viewer's last three axes are. The
*field* is how many mm the shorter side of the canvas covers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from psygnal import Signal

from napari_alnct.core.geometry import Geometry, Triple
from napari_alnct.plugin._compat import camera_of, canvas_size
from napari_alnct.plugin._plane_overlays import PlaneOverlays, edge_letters
from napari_alnct.plugin._windows import slices_beside

if TYPE_CHECKING:
    from napari.components import ViewerModel

PLANES = ("axial", "coronal", "sagittal")  # that show a slice along z, y, x
MARGIN = 0.05  # of the canvas, around a scan that is shown whole
SAME_MM = 1e-6
IN_SIGHT = 0.95  # of the way from the middle of the canvas to its edge


class Plane:
    """A viewer as one plane of a reading.

    Parameters
    ----------
    viewer : napari.components.ViewerModel
        What it shows is up to the owner.
    order : tuple of int, optional
        Of its axes, where it always shows the same plane; default: as the viewer has it.

    Signals
    -------
    sliced : (Plane)
        The user went to another slice.
    zoomed : (Plane)
        The user changed the field of view.
    """

    sliced = Signal(object)
    zoomed = Signal(object)

    def __init__(self, viewer: ViewerModel, order: tuple[int, int, int] | None = None) -> None:
        self.viewer = viewer
        self._order = order
        self.geometry: Geometry | None = None
        self._index = 0
        self._field_mm = 0.0
        self._slab_mm = 0.0
        self._is_driven = False  # while the owner moves it, nothing is told back
        self._slider: tuple[float, ...] = ()  # the slider's range when it was last followed
        self._has_crosshair = True
        self._overlays = PlaneOverlays(viewer)
        self._connections = self._connect()

    # -- facts ----------------------------------------------------------------------------

    @property
    def axis(self) -> int:
        """Give the axis that the slices follow: 0, 1, 2 for z, y, x."""
        return int(self.viewer.dims.order[-3]) - self._first_axis

    @property
    def name(self) -> str:
        """Give ``axial``, ``coronal`` or ``sagittal``."""
        return PLANES[self.axis]

    @property
    def is_flat(self) -> bool:
        """Tell whether a slice of a scan is shown, not a 3-D rendering."""
        return self.geometry is not None and self.viewer.dims.ndim >= 3 and self.viewer.dims.ndisplay == 2

    @property
    def index(self) -> int:
        """Give the slice in view, from 0."""
        return self._index

    @property
    def n_slices(self) -> int:
        """Give the number of slices of the scan in this plane."""
        return 0 if self.geometry is None else self.geometry.shape_zyx[self.axis]

    @property
    def n_beside(self) -> int:
        """Give how many slices on each side of the one in view are in the slab."""
        return 0 if self.geometry is None else slices_beside(self._slab_mm, self.geometry.spacing_zyx_mm[self.axis])

    @property
    def slice_mm(self) -> float:
        """Give the world position of the slice in view along its axis, mm."""
        return self._slice_position(self._index)

    @property
    def cursor_zyx_mm(self) -> Triple | None:
        """Give the place under the mouse, None when it is elsewhere."""
        if not self.viewer.mouse_over_canvas or not self.is_flat:
            return None
        place = [float(value) for value in self.viewer.cursor.position[-3:]]
        place[self.axis] = self.slice_mm
        return place[0], place[1], place[2]

    @property
    def _first_axis(self) -> int:
        return int(self.viewer.dims.ndim) - 3

    def _slice_position(self, index: int) -> float:
        if self.geometry is None:
            return 0.0
        return float(self.geometry.origin_xyz_mm[::-1][self.axis] + index * self.geometry.spacing_zyx_mm[self.axis])

    def _nearest(self, position_mm: float) -> int:
        """Give the slice nearest to a position along the axis; the outermost one beyond the scan."""
        assert self.geometry is not None
        steps = (position_mm - self._slice_position(0)) / self.geometry.spacing_zyx_mm[self.axis]
        return int(np.clip(round(steps), 0, self.n_slices - 1))

    # -- moving ---------------------------------------------------------------------------

    def show_scan(self, geometry: Geometry | None) -> None:
        """Take the grid of the scan to be shown; None: none."""
        if geometry is not None and self._order is not None:
            self.viewer.dims.order = self._order  # napari forgets it when a viewer has no layers
        self.geometry = geometry
        self._set_margins()
        self._write_letters()

    def move_to(self, place_zyx_mm: Triple, *, recentre: bool) -> None:
        """Show the slice nearest to a place and the crosshair there; on demand the place in the middle."""
        if not self.is_flat:
            return
        rows, columns = (axis - self._first_axis for axis in self.viewer.dims.displayed)
        self._go_to_slice(self._nearest(place_zyx_mm[self.axis]))
        if (place_mm := (place_zyx_mm[rows], place_zyx_mm[columns])) != self._overlays.crosshair.place_mm:
            self._overlays.crosshair.place_mm = place_mm
        if recentre:
            camera_of(self.viewer).center = (0.0, place_zyx_mm[rows], place_zyx_mm[columns])

    def sees(self, place_zyx_mm: Triple) -> bool:
        """Tell whether a place, or the slice through it, lies within the canvas."""
        camera = camera_of(self.viewer)
        shown = [place_zyx_mm[axis - self._first_axis] for axis in self.viewer.dims.displayed]
        half_mm = np.divide(canvas_size(self.viewer), 2 * camera.zoom)
        return bool(np.all(np.abs(np.subtract(shown, camera.center[-2:])) < IN_SIGHT * half_mm))

    def step(self, n_slices: int) -> None:
        """Go this many slices on, as the user does with the wheel."""
        index = int(np.clip(self._index + n_slices, 0, self.n_slices - 1))
        if self.is_flat and index != self._index:
            self._go_to_slice(index)
            self.sliced.emit(self)

    def _go_to_slice(self, index: int) -> None:
        self._index, self._slider = index, self._slider_range
        axis, position = self.axis + self._first_axis, self._slice_position(index)
        if abs(self.viewer.dims.point[axis] - position) > SAME_MM:
            self._is_driven = True
            try:
                self.viewer.dims.set_point(axis, position)
            finally:
                self._is_driven = False

    def _on_point(self) -> None:
        """Follow the slider: to the nearest slice of the scan, or at least to the next one in its direction."""
        if self._is_driven or not self.is_flat:
            return
        moved_mm = self.viewer.dims.point[self.axis + self._first_axis] - self.slice_mm
        if abs(moved_mm) <= SAME_MM:
            return
        if self._slider != self._slider_range or self._is_same_step(self.slice_mm + moved_mm):
            self._go_to_slice(self._index)  # the slider rounds to its steps, or was cut short: nobody went anywhere
            return
        index = self._nearest(self.slice_mm + moved_mm)
        if index == self._index:  # other layers can make the slider's steps finer than the slices
            index = int(np.clip(index + np.sign(moved_mm), 0, self.n_slices - 1))
        self._go_to_slice(index)
        self.sliced.emit(self)

    @property
    def _slider_range(self) -> tuple[float, ...]:
        """Give start, stop and step of the viewer's slider: all layers together, the finest one's steps."""
        return tuple(self.viewer.dims.range[self.axis + self._first_axis])

    def _is_same_step(self, position_mm: float) -> bool:
        """Tell whether a position and the slice in view are one step of the slider."""
        start, _, step = self._slider_range
        return round((position_mm - start) / (step or 1.0)) == round((self.slice_mm - start) / (step or 1.0))

    def _on_range(self) -> None:
        """Follow layers that come and go; where that cut the slider short, `_on_point` comes next and goes back."""
        if self.is_flat and self._is_same_step(self.viewer.dims.point[self.axis + self._first_axis]):
            self._slider = self._slider_range

    def _on_order(self) -> None:
        """Another plane is shown in this viewer."""
        self._write_letters()
        if self.is_flat:
            self._index = self._nearest(self.viewer.dims.point[self.axis + self._first_axis])
            self._go_to_slice(self._index)
            self.sliced.emit(self)

    # -- field of view and slab --------------------------------------------------------------

    @property
    def field_mm(self) -> float:
        """Give how many mm the shorter side of the canvas covers."""
        return min(canvas_size(self.viewer)) / float(camera_of(self.viewer).zoom)

    def set_field(self, field_mm: float) -> None:
        """Zoom so that the shorter side of the canvas covers this many mm."""
        self._field_mm = field_mm
        if field_mm > 0 and min(canvas_size(self.viewer)) > 0:
            self._is_driven = True
            try:
                camera_of(self.viewer).zoom = min(canvas_size(self.viewer)) / field_mm
            finally:
                self._is_driven = False

    def _on_zoom(self) -> None:
        if not self._is_driven and self.is_flat:
            self._field_mm = self.field_mm
            self.zoomed.emit(self)

    def _on_size(self) -> None:
        if self.is_flat:
            self.set_field(self._field_mm)

    def set_slab(self, slab_mm: float) -> None:
        """Show slabs of about this thickness; 0 for single slices."""
        self._slab_mm = slab_mm
        self._set_margins()

    def _set_margins(self) -> None:
        """Reach k whole slices to each side along every axis, so the slab is symmetric in each plane."""
        dims = self.viewer.dims
        spacing = (1.0, 1.0, 1.0) if self.geometry is None else self.geometry.spacing_zyx_mm
        slab_mm = 0.0 if self.geometry is None else self._slab_mm
        margins = (0.0,) * max(0, self._first_axis) + tuple(slices_beside(slab_mm, mm) * mm for mm in spacing)
        dims.margin_left = dims.margin_right = margins[-dims.ndim :]

    # -- on the canvas ----------------------------------------------------------------------

    @property
    def letters(self) -> dict[str, str]:
        """Give the letters of the patient's sides on the canvas, edge to letter."""
        return self._overlays.letters

    @property
    def read_out(self) -> str:
        """Give the text in the lower left corner."""
        return self._overlays.read_out

    @read_out.setter
    def read_out(self, text: str) -> None:
        self._overlays.read_out = text

    @property
    def is_crosshair_shown(self) -> bool:
        """Tell whether the crosshair is drawn while a scan is in view."""
        return self._has_crosshair

    @is_crosshair_shown.setter
    def is_crosshair_shown(self, is_shown: bool) -> None:
        self._has_crosshair = is_shown
        self._write_letters()

    def _write_letters(self) -> None:
        """Write the letters, and show the crosshair, where a slice is shown."""
        is_flat = self.is_flat
        orientation = camera_of(self.viewer).orientation2d
        self._overlays.letters = edge_letters(self.viewer.dims.order, orientation) if is_flat else {}
        self._overlays.crosshair.visible = is_flat and self._has_crosshair

    # -- beginning and end --------------------------------------------------------------------

    def _connect(self) -> list[tuple[Any, Any]]:
        dims, camera = self.viewer.dims.events, camera_of(self.viewer).events
        connections = [
            (dims.point, self._on_point),
            (dims.order, self._on_order),
            (dims.ndisplay, self._write_letters),
            (camera.orientation, self._write_letters),
            (camera.zoom, self._on_zoom),
            (self.viewer.canvas.events.size, self._on_size),
        ]
        for emitter, callback in connections:
            emitter.connect(callback)
        dims.range.connect(self._on_range, position="last")  # behind the slider's own
        return [*connections, (dims.range, self._on_range)]

    def close(self) -> None:
        """Leave the viewer as if it had not been here."""
        for emitter, callback in self._connections:
            emitter.disconnect(callback)
        self.show_scan(None)
        self._overlays.close()
