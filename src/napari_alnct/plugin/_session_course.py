"""Going through the marks of a stored reading: the current mark, the threshold that is shown, actions; no Qt.

Every action is on disk when its method returns; while a slider moves, what it shows is not.
"""

from __future__ import annotations

from dataclasses import replace

from psygnal import Signal

from napari_alnct.core.config import ReadingSettings
from napari_alnct.core.review import Review, neighbour
from napari_alnct.core.review_actions import Mark, ReviewAction, SetCandidates, SetThreshold
from napari_alnct.io.reviews import ReviewStore
from napari_alnct.plugin._session_record import SessionRecord


class SessionCourse(SessionRecord):
    """The reader's way through the marks of one scan.

    Parameters
    ----------
    store : ReviewStore
        Open; `close` closes it.
    settings : ReadingSettings, optional
        Advance or stay after a decision.

    Signals
    -------
    changed : (Review,)
        The review, or what of it is shown, is another one.
    current_changed : (Mark or None,)
        The reader is at another mark.
    jumped : (Mark,)
        The views are to show this mark; also sent when it was the current one already.
    """

    changed = Signal(Review)
    current_changed = Signal(object)
    jumped = Signal(object)

    def __init__(self, store: ReviewStore, settings: ReadingSettings | None = None) -> None:
        super().__init__(store)
        self.settings = settings or ReadingSettings()
        self._shown_threshold: float | None = None  # while a slider moves: not in the record

    # -- what it is now ----------------------------------------------------------------------

    @property
    def review(self) -> Review:
        """Give the review as it is shown now."""
        review = self._store.review
        return review if self._shown_threshold is None else replace(review, threshold=self._shown_threshold)

    @property
    def current(self) -> Mark | None:
        """Give the mark that the reader is at, None when it is none that may be seen."""
        review = self.review
        return next((mark for mark in review.shown if mark.mark_id == self._current_id), None)

    @property
    def undecided(self) -> list[Mark]:
        """Give the shown marks that wait for a decision."""
        return [mark for mark in self.review.shown if mark.status == "unreviewed"]

    # -- going through ------------------------------------------------------------------------

    def next(self) -> None:
        """Go to the next shown mark; at the last one nothing happens."""
        self._step(1)

    def previous(self) -> None:
        """Go to the shown mark before; at the first one nothing happens."""
        self._step(-1)

    def go_to(self, mark_id: int | None) -> None:
        """Go to a mark, the views too.

        Parameters
        ----------
        mark_id : int or None
            Number; one that may not be seen, or None, leaves no current mark.
        """
        self.choose(mark_id)
        if self.current is not None:
            self.jumped.emit(self.current)

    def choose(self, mark_id: int | None) -> None:
        """Make a mark the current one and leave the views where they are; otherwise as `go_to`."""
        self._current_id = mark_id
        if self.current is None:
            self._current_id = None
        self.current_changed.emit(self.current)

    def _step(self, step: int) -> None:
        found = neighbour(self.review, self._current_id, step)
        if found is not None:
            self.go_to(found.mark_id)

    def _advance(self) -> None:
        """Go to the next undecided mark; behind the last one, to the first that was passed over."""
        for start in (self._current_id, None):
            found = neighbour(self.review, start, 1, wanted=lambda mark: mark.status == "unreviewed")
            if found is not None:
                self.go_to(found.mark_id)
                return
        self.go_to(self._current_id)

    # -- acting --------------------------------------------------------------------------------

    def act(self, action: ReviewAction) -> Review:
        """Do something; it is on disk when this returns.

        Parameters
        ----------
        action : ReviewAction
            As for `core.review.apply`.

        Returns
        -------
        Review
            As it is shown then.

        Raises
        ------
        ReviewError
            If it is not allowed now, or another window has the reading.
        OSError
            If it cannot be written; the review is as before.
        """
        self.settle_threshold()  # first, so that the log says what was shown when this happened
        self._store.act(action)
        if isinstance(action, SetCandidates):
            self._shown_threshold = None
        self.changed.emit(self.review)
        self._leave_hidden()
        return self.review

    def record(self, action: ReviewAction) -> None:
        """Write down what happened and changed nothing, so that nothing has to be shown anew.

        A window that may only look writes nothing: the reading is another window's.

        Parameters
        ----------
        action : ReviewAction
            One that leaves the review as it is.

        Raises
        ------
        ReviewError, OSError
            As in `act`.
        """
        if not self.is_read_only:
            self.settle_threshold()
            self._store.act(action)

    def _leave_hidden(self) -> None:
        """Be at no mark when the current one may not be seen any more."""
        if self._current_id is not None and self.current is None:
            self.choose(None)

    # -- threshold -----------------------------------------------------------------------------

    def show_threshold(self, threshold: float) -> None:
        """Show marks from this score on, for now: while a slider moves nothing is written."""
        self._shown_threshold = min(1.0, max(0.0, threshold))
        self.changed.emit(self.review)
        self._leave_hidden()

    def settle_threshold(self) -> None:
        """Write the threshold that is shown, unless nothing changed by it or another window has the reading."""
        shown = self._shown_threshold
        if shown is None or self.is_read_only:
            return
        self._shown_threshold = None
        if shown != self._store.review.threshold:
            self._store.act(SetThreshold(threshold=shown))
            self.changed.emit(self.review)

    def set_threshold(self, threshold: float) -> None:
        """Show marks from this score on, and write it."""
        self.show_threshold(threshold)
        self.settle_threshold()
