"""Explanations in the tab Review: the box follows the reading, and the keys reach it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from napari_alnct.core.errors import ReviewError
from napari_alnct.core.evidence import EvidenceMap
from napari_alnct.core.review import Review, distance_mm
from napari_alnct.core.review_actions import Mark, NoteExplained, NoteMapShown
from napari_alnct.plugin._explain_box import ExplainBox
from napari_alnct.plugin._explain_show import SAME_PLACE_MM, EvidenceShow
from napari_alnct.plugin._explain_subject import Subject, Target, subject_of_reading, target_of
from napari_alnct.plugin._open_reading import OpenReading
from napari_alnct.plugin._review_state import ReviewSession

NOT_RECORDED = "This is not in the record of the reading: {}"


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
        self.explained.connect(self._note_explained)
        self.show_.seen.connect(self._note_shown)

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

    # -- the record -------------------------------------------------------------------------------

    def _note_explained(self, maps: Sequence[EvidenceMap]) -> None:
        for one in maps:
            self._note(NoteExplained, one)

    def _note_shown(self, one: EvidenceMap) -> None:
        self._note(NoteMapShown, one)

    def _note(self, kind: type[NoteExplained | NoteMapShown], one: EvidenceMap) -> None:
        """Write to the log what was computed or shown; where it cannot be written, say so and go on."""
        session, mark_id = self._session, self._mark_id_of(one)
        if session is None or mark_id is None:
            return
        try:
            session.record(
                kind(
                    mark_id=mark_id,
                    method=one.method,
                    layer=one.layer,
                    score_name=one.score_name,
                    model_sha256=one.model_sha256,
                )
            )
        except (ReviewError, OSError) as error:
            self._refuse(NOT_RECORDED.format(error))

    def _mark_id_of(self, one: EvidenceMap) -> int | None:
        """Give the number of the mark that a map explains; None when it is gone, or elsewhere now."""
        marks = () if self._session is None else self._session.review.marks
        for mark in marks:
            target = target_of(mark)
            if target is not None and target.name == one.candidate:
                is_there = distance_mm(target.position_xyz_mm, one.position_xyz_mm) <= SAME_PLACE_MM
                return mark.mark_id if is_there else None
        return None

    def dispose(self) -> None:
        """Hear no more of the reading, remove the layers."""
        self.show_session(None)
        super().dispose()
