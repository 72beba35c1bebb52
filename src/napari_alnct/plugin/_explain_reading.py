"""Explanations in the tab Review: the box follows the reading, and the keys reach it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from napari_alnct.core.review import Review
from napari_alnct.core.review_actions import Mark
from napari_alnct.plugin._explain_box import ExplainBox
from napari_alnct.plugin._explain_show import EvidenceShow
from napari_alnct.plugin._explain_subject import Subject, Target, subject_of_reading, target_of
from napari_alnct.plugin._open_reading import OpenReading
from napari_alnct.plugin._review_state import ReviewSession


class ReadingSource:
    """The marks of a reading as candidates to explain.

    Parameters
    ----------
    reading : OpenReading
        The reading.

    Attributes
    ----------
    own_models : callable
        Gives the paths of model files that the user has opened.
    """

    def __init__(self, reading: OpenReading) -> None:
        self.reading = reading
        self.own_models: Callable[[], Sequence[str]] = tuple

    def current(self) -> Target | None:
        """Give the current mark, while marks may be seen."""
        session = self.reading.session
        return target_of(session.current) if session is not None and session.review.is_unlocked else None

    def subject(self) -> Subject:
        """Give scan, marks and model; parameters and errors as in `subject_of_reading`."""
        return subject_of_reading(self.reading, self.own_models())


class ReadingExplainBox(ExplainBox):
    """Explains the marks of a reading.

    Parameters
    ----------
    reading : OpenReading
        The reading, whose views show the maps too.
    """

    def __init__(self, reading: OpenReading) -> None:
        self._source = ReadingSource(reading)
        self._session: ReviewSession | None = None
        view = reading.view
        super().__init__(EvidenceShow(view.viewer, [side.viewer for side in view.sides]), self._source)
        self.refused.connect(reading.told.emit)

    @property
    def commands(self) -> dict[str, Callable[[], object]]:
        """Give what keys do here, by the names of the table of keys."""
        return {
            "explain": self.explain,
            "heat_map": partial(self.switch, None),
            "hold_heat_map": self.hold,
        }

    def know_models(self, own_models: Callable[[], Sequence[str]]) -> None:
        """Take where the paths of the user's own models come from."""
        self._source.own_models = own_models

    def show_session(self, session: ReviewSession | None) -> None:
        """Explain the marks of this reading from now on, None: of none."""
        if self._session is not None:
            self._session.changed.disconnect(self._on_changed)
            self._session.current_changed.disconnect(self._on_current)
        if session is not self._session:
            self.reset()
        self._session = session
        if session is not None:
            session.changed.connect(self._on_changed)
            session.current_changed.connect(self._on_current)
        self.follow()

    def _on_changed(self, review: Review) -> None:
        marks = review.marks if review.is_unlocked else ()
        self.keep_only(target for mark in marks if (target := target_of(mark)) is not None)

    def _on_current(self, mark: Mark | None) -> None:
        self.follow()

    def dispose(self) -> None:
        """Hear no more of the reading, remove the layers."""
        self.show_session(None)
        super().dispose()
