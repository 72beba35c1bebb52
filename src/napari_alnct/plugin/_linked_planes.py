"""Three planes that share one place, slab, field of view and layout; no Qt.

Places are (x, y, z), LPS mm; inside, as in the viewers, (z, y, x). The *field* is how
many mm the shorter side of each canvas covers, so all planes show the same part of the
body, however large they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
from psygnal import Signal

from napari_alnct.core.errors import SettingsError
from napari_alnct.core.geometry import Geometry, Triple
from napari_alnct.plugin._plane import Plane
from napari_alnct.plugin._side_models import discard, make_side_models
from napari_alnct.plugin._windows import true_slab_mm

if TYPE_CHECKING:
    from napari.components import ViewerModel

LAYOUTS = ("axial", "axial + planes", "planes")


class LinkedPlanes:
    """The main viewer and two side planes, moving together.

    Parameters
    ----------
    viewer : napari.components.ViewerModel
        Its canvas is the main view.

    Attributes
    ----------
    later : callable or None
        Has `catch_up` called soon; drawing three canvases for each slice would slow the scroll. None: at once.

    Signals
    -------
    moved : (tuple of float)
        The place, LPS mm.
    slab_changed, layout_changed : ()
    """

    moved = Signal(object)
    slab_changed = Signal()
    layout_changed = Signal()

    def __init__(self, viewer: ViewerModel) -> None:
        self.viewer = viewer
        self.main = Plane(viewer)
        self.sides = tuple(Plane(model, order) for order, model in make_side_models(viewer).items())
        self._geometry: Geometry | None = None
        self._place: Triple = (0.0, 0.0, 0.0)  # (z, y, x)
        self._wanted_slab_mm = 0.0
        self._field_mm = 0.0
        self._layout = LAYOUTS[1]
        self._is_linking = False
        self._still: Plane | None = None  # where the user scrolled or clicked last
        self.later: Callable[[], None] | None = None
        for plane in self.planes:
            plane.sliced.connect(self._on_sliced)
            plane.zoomed.connect(self._on_zoomed)
        viewer.events.theme.connect(self._on_theme)

    @property
    def planes(self) -> tuple[Plane, ...]:
        """Give the main plane and the two side planes."""
        return (self.main, *self.sides)

    @property
    def _shown(self) -> tuple[Plane, ...]:
        return (self.main,) if self._layout == "axial" else self.planes

    def _show_grid(self, geometry: Geometry | None) -> None:
        """Take the grid of the scan that the viewers show."""
        self._geometry = geometry
        for plane in self.planes:
            plane.show_scan(geometry)

    def _seen_now(self) -> None:
        """Count what is seen, after slice or slab have changed."""

    def _write(self) -> None:
        """Write on the canvases what has changed."""

    # -- the place ------------------------------------------------------------------------

    @property
    def place_xyz_mm(self) -> Triple:
        """Give the place at the crosshair, LPS mm."""
        z, y, x = self._place
        return x, y, z

    def go_to(self, place_xyz_mm: Triple) -> None:
        """Show a place in the middle of all planes; field of view, window and slab stay.

        Parameters
        ----------
        place_xyz_mm : tuple of float
            LPS mm; outside the scan the outermost slice is shown.
        """
        x, y, z = (float(value) for value in place_xyz_mm)
        self._move((z, y, x), recentre=True)

    def point_at(self, plane: Plane, place_zyx_mm: Triple) -> None:
        """Bring the crosshair to a place in one plane and the other planes to their slices through it.

        Parameters
        ----------
        plane : Plane
            Where it was clicked; this one does not move.
        place_zyx_mm : tuple of float
            World mm.
        """
        self._move(place_zyx_mm, still=plane)

    def cursor_xyz_mm(self) -> Triple:
        """Give the place under the mouse, in whichever plane it is; else the place at the crosshair."""
        for plane in self.planes:
            if (place := plane.cursor_zyx_mm) is not None:
                return place[2], place[1], place[0]
        return self.place_xyz_mm

    def _move(self, place_zyx_mm: Triple, *, recentre: bool = False, still: Plane | None = None) -> None:
        self._place, self._still = place_zyx_mm, still
        self._show_place(recentre=recentre)
        self._tell_place()

    def _show_place(self, *, recentre: bool = False) -> None:
        """Show the place in all planes; those that lost sight of it are recentred, not the one where the user is."""
        with self._linking():
            for plane in self._shown:
                is_lost = plane is not self._still and not plane.sees(self._place)
                plane.move_to(self._place, recentre=recentre or is_lost)

    def _tell_place(self) -> None:
        self._seen_now()
        self._write()
        self.moved.emit(self.place_xyz_mm)

    def _on_sliced(self, plane: Plane) -> None:
        """Follow a scroll: only crosshairs of the other planes move, and those may wait."""
        if self._is_linking or self._geometry is None:
            return
        place = list(self._place)
        place[plane.axis] = plane.slice_mm
        self._place, self._still = (place[0], place[1], place[2]), plane
        if self.later is None:
            self._show_place()
        else:
            self.later()
        self._tell_place()

    def catch_up(self) -> None:
        """Do what a scroll has left for `later`."""
        self._show_place()

    @contextmanager
    def _linking(self) -> Iterator[None]:
        """Hear nothing of what the planes do meanwhile."""
        self._is_linking = True
        try:
            yield
        finally:
            self._is_linking = False

    # -- slab, field of view, layout ---------------------------------------------------------

    @property
    def slab_mm(self) -> float:
        """Give the true thickness of the axial slab, mm; 0 when it is off."""
        if self._geometry is None:
            return self._wanted_slab_mm
        return true_slab_mm(self._wanted_slab_mm, self._geometry.spacing_zyx_mm[0])

    def set_slab(self, slab_mm: float) -> None:
        """Show maximum projections of about this thickness in all planes.

        Parameters
        ----------
        slab_mm : float
            mm; 0 for single slices.

        Raises
        ------
        SettingsError
            If it is negative or no number.
        """
        if not 0 <= slab_mm < np.inf:
            raise SettingsError(f"a slab of {slab_mm:g} mm is none; give 0 or more")
        self._wanted_slab_mm = float(slab_mm)
        with self._linking():
            for plane in self.planes:
                plane.set_slab(self._wanted_slab_mm)
        self._seen_now()
        self._write()
        self.slab_changed.emit()

    # -- field of view and layout -----------------------------------------------------------

    @property
    def field_mm(self) -> float:
        """Give how many mm the shorter side of each canvas covers."""
        return self._field_mm

    def set_field(self, field_mm: float) -> None:
        """Zoom all planes so that the shorter side of each canvas covers this many mm.

        Parameters
        ----------
        field_mm : float
            mm; 60 shows a nodule large.

        Raises
        ------
        SettingsError
            If it is not positive.
        """
        if not 0 < field_mm < np.inf:
            raise SettingsError(f"a field of view of {field_mm:g} mm is none; give one above 0")
        self._field_mm = float(field_mm)
        with self._linking():
            for plane in self.planes:
                plane.set_field(self._field_mm)

    def _on_zoomed(self, plane: Plane) -> None:
        if not self._is_linking and self._geometry is not None:
            self._field_mm = plane.field_mm
            with self._linking():
                for other in self.planes:
                    if other is not plane:
                        other.set_field(self._field_mm)

    @property
    def layout(self) -> str:
        """Give the arrangement, one of `LAYOUTS`."""
        return self._layout

    def set_layout(self, name: str) -> None:
        """Arrange the planes; place, window, slab and field stay.

        Parameters
        ----------
        name : str
            One of `LAYOUTS`.

        Raises
        ------
        SettingsError
            If there is no such layout.
        """
        if name not in LAYOUTS:
            raise SettingsError(f"layout {name!r} is none of {', '.join(LAYOUTS)}; choose one of those")
        if name != self._layout:
            self._layout = name
            with self._linking():
                for plane in self._shown:
                    plane.move_to(self._place, recentre=plane is not self.main)
            self._write()
            self.layout_changed.emit()

    @property
    def is_crosshair_shown(self) -> bool:
        """Tell whether the crosshair is drawn."""
        return self.main.is_crosshair_shown

    @is_crosshair_shown.setter
    def is_crosshair_shown(self, is_shown: bool) -> None:
        for plane in self.planes:
            plane.is_crosshair_shown = is_shown

    def _on_theme(self) -> None:
        for side in self.sides:
            side.viewer.theme = self.viewer.theme

    def close(self) -> None:
        """Let go of the main viewer and of the side planes."""
        self.viewer.events.theme.disconnect(self._on_theme)
        for plane in self.planes:
            plane.sliced.disconnect(self._on_sliced)
            plane.zoomed.disconnect(self._on_zoomed)
            plane.close()
        discard([side.viewer for side in self.sides])
