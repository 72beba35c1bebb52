"""The marks of a reading as a points layer: hollow rings, their status by colour and shape; no Qt.

The layer is a view. What the user does in it (adds, drags, resizes or deletes a point) becomes an action
of the reading; what is not allowed, such as moving one of the detector's marks, is drawn back. Marks that
must not be seen yet are not in the layer at all; those below the threshold are in it, but not shown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_alnct.core.errors import AlnctError
from napari_alnct.core.review import Review, distance_mm
from napari_alnct.core.review_actions import STATUSES, Mark
from napari_alnct.core.volume import Volume
from napari_alnct.plugin._compat import SPHERE_PROJECTION
from napari_alnct.plugin._layers import (
    KIND_KEY,
    MARK_UNIT_MM,
    MOST_PIXELS,
    RING_MM,
    SERIES_KEY,
    UNKNOWN_DIAMETER_MM,
    VOLUME_KEY,
    WIDENING_KEY,
    ring_diameters_mm,
    short_id,
    world_attributes,
)
from napari_alnct.plugin._review_state import ReviewSession

if TYPE_CHECKING:
    from napari.components import ViewerModel

REVIEW = "review"  # kind of the layer
CURRENT_WIDTH = 1.75  # the ring of the current mark is so many times as wide
SAME_MM = 1e-4  # an edit smaller than this is none
OWN_SCORE = 1.0  # in the features, so that the layer can be saved as a table


@dataclass(frozen=True)
class StatusLook:
    """How a status is drawn: colour-blind safe (Okabe and Ito), and by its shape.

    Parameters
    ----------
    colour : str
        Hexadecimal.
    symbol : str
        napari's name of the shape.
    widening : float
        Size of the shape over the diameter of the mark, so that its lines lie around the nodule.
    width : float
        Of the line, over that of an undecided mark.
    text : str
        For people.
    """

    colour: str
    symbol: str
    widening: float
    width: float
    text: str


LOOKS = {
    "unreviewed": StatusLook("#e69f00", "disc", 1.0, 1.0, "to decide"),
    "accepted": StatusLook("#009e73", "square", 1.0, 1.0, "accepted"),
    "rejected": StatusLook("#999999", "triangle_down", 1.8, 0.6, "rejected"),
    "uncertain": StatusLook("#f0e442", "diamond", 2**0.5, 1.0, "uncertain"),
    "reader_added": StatusLook("#56b4e9", "ring", 2.0, 1.0, "own mark"),
}
assert tuple(LOOKS) == STATUSES

Refused = Callable[[str], None]


class ReviewMarks:
    """The marks of a reading in a viewer.

    Parameters
    ----------
    viewer : napari.components.ViewerModel
        Gets one points layer, on top.
    session : ReviewSession
        What is drawn, and what edits go to.
    volume : Volume
        The scan.
    refused : callable
        Gets one sentence when an edit is not allowed.
    """

    def __init__(self, viewer: ViewerModel, session: ReviewSession, volume: Volume, refused: Refused) -> None:
        self.viewer, self.session, self.volume, self._refused = viewer, session, volume, refused
        self._marks: tuple[Mark, ...] = ()
        self._is_drawing = False
        self.layer = self._add_layer()
        self._draw(session.review)
        session.changed.connect(self._draw)
        session.current_changed.connect(self._on_current)
        self.layer.events.data.connect(self._on_data)
        self.layer.events.size.connect(self._on_size)
        self.layer.selected_data.events.items_changed.connect(self._on_selected)

    def close(self) -> None:
        """Take the layer out of the viewer and hear no more of anything."""
        self.session.changed.disconnect(self._draw)
        self.session.current_changed.disconnect(self._on_current)
        self.layer.events.data.disconnect(self._on_data)
        self.layer.events.size.disconnect(self._on_size)
        self.layer.selected_data.events.items_changed.disconnect(self._on_selected)
        if self.layer in self.viewer.layers:
            self.viewer.layers.remove(self.layer)

    # -- drawing --------------------------------------------------------------------------------

    def _add_layer(self) -> Any:
        from napari.layers import Points

        active = self.viewer.layers.selection.active
        layer = Points(
            np.zeros((0, 3)),
            ndim=3,
            features=_features(()),
            name=f"Reading {short_id(self.volume.series_uid)}",
            metadata={KIND_KEY: REVIEW, VOLUME_KEY: self.volume, SERIES_KEY: self.volume.series_uid},
            scale=(MARK_UNIT_MM,) * 3,
            face_color="transparent",
            border_color=LOOKS["reader_added"].colour,
            border_width=RING_MM / MARK_UNIT_MM,
            border_width_is_relative=False,
            canvas_size_limits=(0, MOST_PIXELS),
            projection_mode=SPHERE_PROJECTION,
            size=UNKNOWN_DIAMETER_MM / MARK_UNIT_MM,
            **world_attributes(),
        )
        self.viewer.add_layer(layer)
        if active is not None:
            self.viewer.layers.selection.active = active
        return layer

    def _draw(self, review: Review) -> None:
        """Make the layer what the review is, touching no more than has changed."""
        marks = tuple(mark for mark in review.marks if mark.is_own or review.is_unlocked)
        self._is_drawing = True
        try:
            places = _places(marks)
            if len(marks) != len(self.layer.data) or not np.array_equal(places, self.layer.data):
                self.layer.selected_data.clear()
                self.layer.data = places
            self._marks = marks
            if marks:
                self._draw_looks(review)
        finally:
            self._is_drawing = False

    def _draw_looks(self, review: Review) -> None:
        marks, current = self._marks, self.session.current
        looks = [LOOKS[mark.status] for mark in marks]
        self.layer.metadata[WIDENING_KEY] = np.array([look.widening for look in looks])
        is_current = np.array([current is not None and mark.mark_id == current.mark_id for mark in marks])
        widths = np.array([look.width for look in looks]) * np.where(is_current, CURRENT_WIDTH, 1.0)
        wanted = {
            "symbol": np.array([look.symbol for look in looks]),
            "size": self._sizes(marks),
            "border_width": widths * RING_MM / MARK_UNIT_MM,
            "border_color": np.array([_rgba(look.colour) for look in looks]),
            "face_color": np.zeros((len(marks), 4)),
            "shown": np.array([review.is_shown(mark) for mark in marks]),
        }
        for name, values in wanted.items():
            found = np.asarray(getattr(self.layer, name))
            if name == "symbol":
                found = np.array([str(symbol) for symbol in found])
            is_same = np.array_equal(found, values) if name in ("symbol", "shown") else _is_close(found, values)
            if not is_same:
                setattr(self.layer, name, values)
        features = _features(marks)
        if not all(np.array_equal(self.layer.features.get(name), column) for name, column in features.items()):
            self.layer.features = features

    def _sizes(self, marks: Iterable[Mark]) -> NDArray[np.float64]:
        diameters = ring_diameters_mm([mark.diameter_mm for mark in marks], self.volume.geometry.spacing_zyx_mm[0])
        return diameters * [LOOKS[mark.status].widening for mark in marks] / MARK_UNIT_MM

    def _on_current(self, mark: Mark | None) -> None:
        self._draw(self.session.review)

    # -- edits in the layer ------------------------------------------------------------------------

    def _on_data(self, event: Any) -> None:
        """Turn what the user did to points into actions."""
        if self._is_drawing:
            return
        indices = [int(index) for index in event.data_indices]
        match str(event.action):
            case "added":
                self._edit([partial(self.session.add_at, self._place(k)) for k in indices])
            case "removed":
                self._edit([partial(self.session.delete, self._marks[k].mark_id) for k in indices])
            case "changed":
                moves = [(self._marks[k], self._place(k)) for k in indices]
                moved = [(mark, place) for mark, place in moves if distance_mm(mark.position_xyz_mm, place) > SAME_MM]
                self._edit([partial(self.session.move_to, place, mark.mark_id) for mark, place in moved])

    def _on_size(self, event: Any = None) -> None:
        """Turn a new size of selected points into actions."""
        if self._is_drawing or len(self.layer.size) != len(self._marks):
            return
        drawn, sizes = self._sizes(self._marks), np.asarray(self.layer.size)
        changed = np.flatnonzero(~np.isclose(drawn, sizes, atol=SAME_MM / MARK_UNIT_MM))
        marks = [self._marks[k] for k in changed]
        diameters = [float(sizes[k]) * MARK_UNIT_MM / LOOKS[self._marks[k].status].widening for k in changed]
        pairs = zip(diameters, marks, strict=True)
        self._edit([partial(self.session.resize, diameter, mark.mark_id) for diameter, mark in pairs])

    def _on_selected(self, event: Any = None) -> None:
        """Make a mark chosen with the mouse the current one; the views stay, so that it can be dragged."""
        chosen = list(self.layer.selected_data)
        if not self._is_drawing and len(chosen) == 1 and chosen[0] < len(self._marks):
            self.session.choose(self._marks[chosen[0]].mark_id)

    def _edit(self, jobs: Iterable[Callable[[], Any]]) -> None:
        """Do what is allowed; what is not is drawn back."""
        for job in jobs:
            try:
                job()
            except (AlnctError, OSError) as error:
                self._refused(str(error))
        self._draw(self.session.review)

    def _place(self, index: int) -> tuple[float, float, float]:
        z, y, x = (float(value) * MARK_UNIT_MM for value in self.layer.data[index])
        return x, y, z


def _places(marks: Iterable[Mark]) -> NDArray[np.float64]:
    centres = np.array([mark.position_xyz_mm for mark in marks], dtype=np.float64).reshape(-1, 3)
    return np.ascontiguousarray(centres[:, ::-1] / MARK_UNIT_MM)


def _features(marks: Iterable[Mark]) -> dict[str, NDArray[Any]]:
    marks = list(marks)
    return {
        "id": np.array([mark.mark_id for mark in marks], dtype=np.int64),
        "score": np.array([OWN_SCORE if mark.score is None else mark.score for mark in marks], dtype=np.float64),
        "status": np.array([mark.status for mark in marks], dtype=object),
        "diameter_mm": np.array([mark.diameter_mm for mark in marks], dtype=np.float64),
    }


def _rgba(colour: str) -> tuple[float, float, float, float]:
    red, green, blue = (int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5))
    return red, green, blue, 1.0


def _is_close(found: Any, wanted: Any) -> bool:
    found, wanted = np.asarray(found, dtype=np.float64), np.asarray(wanted, dtype=np.float64)
    return found.shape == wanted.shape and bool(np.allclose(found, wanted, rtol=0, atol=SAME_MM / MARK_UNIT_MM))
