"""The reading that is open in a viewer: scan, stored session, marks and view, joined; no Qt.

`OpenReading` begins the reading of a scan where it was left, keeps the views at the mark that the reader
goes to, and tells its owner in words what could not be done. Its owner saves it within a second of
``unsaved``.
"""

from __future__ import annotations

from typing import Any

from psygnal import Signal

from napari_alnct.core.errors import AlnctError
from napari_alnct.core.review import Review
from napari_alnct.core.review_actions import Mark
from napari_alnct.core.volume import Volume
from napari_alnct.plugin._layers import CT, MARKS, layers_of
from napari_alnct.plugin._reading_view import ReadingView
from napari_alnct.plugin._review_marks import ReviewMarks
from napari_alnct.plugin._review_state import ReviewSession
from napari_alnct.plugin._settings import Preferences
from napari_alnct.plugin._viewport import hide_earlier

READ_ONLY = (
    "This reading is open in another window: you can look, not decide. Close it there, then choose the scan again."
)
VIEW_KEY = "view"  # in the session on disk
VIEW_SIGNALS = ("moved", "window_changed", "slab_changed", "layout_changed", "seen_changed")


class OpenReading:
    """One scan being read in a viewer, or none.

    Parameters
    ----------
    view : ReadingView
        Shows the scan.
    preferences : Preferences
        Who reads, where readings are kept, how a new one begins.

    Attributes
    ----------
    session : ReviewSession or None
        The reading; None without a scan, or when its record cannot be used.

    Signals
    -------
    began, ended : ()
        A reading was opened, or closed.
    told : (str,)
        A sentence for the reader; empty when the last one is settled.
    unsaved : ()
        The place of the reader has changed since it was saved.
    marks_lost : ()
        Somebody removed the layer of marks; `put_back_marks` is to be called, later.
    """

    began = Signal()
    ended = Signal()
    told = Signal(str)
    unsaved = Signal()
    marks_lost = Signal()

    def __init__(self, view: ReadingView, preferences: Preferences) -> None:
        self.view, self.preferences = view, preferences
        self.session: ReviewSession | None = None
        self.volume: Volume | None = None
        self._marks: ReviewMarks | None = None
        self._has_begun = False  # the first reading takes window and layout from the settings
        view.viewer.layers.events.removed.connect(self._on_layer_removed)
        for name in VIEW_SIGNALS:
            getattr(view, name).connect(self._on_view)

    # -- beginning and ending ----------------------------------------------------------------------

    def begin(self, volume: Volume) -> None:
        """Open the reading of a scan where it was left; a fault is told, the scan is shown nevertheless.

        Parameters
        ----------
        volume : Volume
            The scan; the one that is read already is only brought forward.
        """
        if volume is self.volume and self.session is not None:
            self.view.open(volume)
            return
        self.end()
        self.volume = volume
        self.view.open(volume)
        try:
            session = ReviewSession.open(volume, self.preferences.folder, self.preferences.reading)
        except (AlnctError, OSError) as error:
            self.told.emit(f"Nothing can be decided: {error}")
            return
        self._restore(session)
        self.session = session
        self._show_marks()
        session.changed.connect(self._on_changed)
        session.current_changed.connect(self._on_current)
        session.jumped.connect(self._on_jumped)
        self.told.emit(" ".join((*session.notes, *([READ_ONLY] if session.is_read_only else []))))
        self.began.emit()

    def _restore(self, session: ReviewSession) -> None:
        """Show what was saved; a new reading begins as the one before, the first one as the settings say."""
        saved, settings = session.place.get(VIEW_KEY), self.preferences.reading
        if not self._has_begun:
            self.view.use_preset(settings.window)
            self.view.set_layout(settings.layout)
            self.view.is_reading_scroll = settings.reading_scroll
        if isinstance(saved, dict):
            self.view.restore(saved)
        self._has_begun = True

    def _show_marks(self) -> None:
        assert self.session is not None
        assert self.volume is not None
        if not self.session.review.is_unlocked:
            hide_earlier(self.view.viewer, self.volume, MARKS)
        self._marks = ReviewMarks(self.view.viewer, self.session, self.volume, self.told.emit)
        self.view.show_marks(self._marks.layer)

    def end(self, *, leaves_scan: bool = False) -> None:
        """Save and close the reading; the scan stays open.

        Parameters
        ----------
        leaves_scan : bool
            Whether the view lets go of the scan too, which then takes its layers out of the side planes at once.
        """
        session, self.session, marks, self._marks = self.session, None, self._marks, None
        self.volume = None
        if session is None:
            return
        self._save(session)
        session.changed.disconnect(self._on_changed)
        session.current_changed.disconnect(self._on_current)
        session.jumped.disconnect(self._on_jumped)
        if leaves_scan:
            self.view.leave()
        else:
            self.view.show_marks(None)
        if marks is not None:
            marks.close()
        session.close()
        self.ended.emit()

    def close(self) -> None:
        """End the reading and let go of the view."""
        self.end(leaves_scan=True)
        self.view.viewer.layers.events.removed.disconnect(self._on_layer_removed)
        for name in VIEW_SIGNALS:
            getattr(self.view, name).disconnect(self._on_view)

    def abandon(self) -> None:
        """Let another window write, and leave the viewer alone: it is gone already."""
        session, self.session = self.session, None
        if session is not None:
            session.close()

    # -- saving --------------------------------------------------------------------------------------

    def save(self) -> None:
        """Save the place of the reader; a fault is told, decisions are on disk already."""
        if self.session is not None:
            self._save(self.session)

    def _save(self, session: ReviewSession) -> None:
        try:
            session.settle_threshold()
            session.flush({VIEW_KEY: self.view.state()})
        except (AlnctError, OSError) as error:
            self.told.emit(f"The place in the scan could not be saved: {error}")

    # -- following ------------------------------------------------------------------------------------

    def _on_changed(self, review: Review) -> None:
        self.unsaved.emit()

    def _on_current(self, mark: Mark | None) -> None:
        self.unsaved.emit()

    def _on_view(self, place: Any = None) -> None:
        if self.session is not None:
            self.unsaved.emit()

    def _on_jumped(self, mark: Mark) -> None:
        self.view.go_to(mark.position_xyz_mm)

    def _on_layer_removed(self, event: Any) -> None:
        """End with the scan; tell when somebody takes the layer of marks away."""
        if self.session is None or self.volume is None:
            return
        if not layers_of(self.view.viewer.layers, self.volume, CT):
            self.end()
        elif self._marks is not None and event.value is self._marks.layer:
            self._marks.close()
            self._marks = None
            self.marks_lost.emit()

    def put_back_marks(self) -> None:
        """Show the marks again when somebody took their layer away; not from within that removal."""
        if self.session is not None and self._marks is None:
            self._show_marks()
            self.told.emit("The layer of marks belongs to the reading; it was put back.")
