"""A reading that is under way: what a reader decides, adds and chooses; no Qt.

Every action is on disk when its method returns; the place of the reader (what the views show) is saved
by `ReviewSession.flush`, which the dock calls within a second. A place is (x, y, z), LPS mm.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from napari_alnct.core.config import ReadingSettings
from napari_alnct.core.errors import ReviewError
from napari_alnct.core.findings import Candidate, CaseResult
from napari_alnct.core.geometry import Triple
from napari_alnct.core.proposals import Source, proposal
from napari_alnct.core.review import Review, distance_mm, neighbour
from napari_alnct.core.review_actions import (
    AddMark,
    Annotate,
    Decide,
    DeleteMark,
    LockFirstRead,
    Mark,
    MarkSearched,
    MoveMark,
    Redo,
    ResizeMark,
    SetMode,
    Undo,
)
from napari_alnct.core.volume import Volume
from napari_alnct.io.reviews import ReviewStore
from napari_alnct.plugin._session_course import SessionCourse

NEW_DIAMETER_MM = 8.0  # what a mark of unknown size is resized from
LEAST_DIAMETER_MM = 1.0
LINK_MM = 3.0  # a new mark this near to one of the detector's of no known size is on the same place


class ReviewSession(SessionCourse):
    """The reading of one scan by one reader.

    Parameters
    ----------
    store : ReviewStore
        Open; the session closes it.
    settings : ReadingSettings, optional
        Advance or stay after a decision, mode of a new reading.
    """

    def __init__(self, store: ReviewStore, settings: ReadingSettings | None = None) -> None:
        super().__init__(store, settings)
        if not store.stored.entries and not store.is_read_only and self.settings.mode != store.review.mode:
            store.act(SetMode(mode=self.settings.mode))

    @classmethod
    def open(cls, volume: Volume, folder: Path, settings: ReadingSettings | None = None) -> ReviewSession:
        """Open or begin the reading of a scan.

        Parameters
        ----------
        volume : Volume
            The scan; its voxels name the reading.
        folder : Path
            Folder of all readings.
        settings : ReadingSettings, optional
            Who reads, and how.

        Returns
        -------
        ReviewSession

        Raises
        ------
        ReviewError
            If the record cannot be used.
        OSError
            If the folder cannot be made.
        """
        settings = settings or ReadingSettings()
        return cls(ReviewStore(folder, volume.voxel_sha256, settings.reader), settings)

    # -- deciding ------------------------------------------------------------------------------

    def decide(self, status: str, reason: str = "") -> None:
        """Decide on the current mark, and go on where the settings say so.

        Parameters
        ----------
        status : str
            ``accepted``, ``rejected``, ``uncertain`` or ``unreviewed``.
        reason : str, optional
            Why it was rejected.

        Raises
        ------
        ReviewError
            If there is no current mark, or it is the reader's own.
        """
        mark = self._wanted()
        self.act(Decide(mark_id=mark.mark_id, status=status, reason=reason))
        if self.settings.auto_advance and status != "unreviewed":
            self._advance()
        else:
            self.go_to(mark.mark_id)

    def give_reason(self, reason: str) -> None:
        """Say why the current mark was rejected, and stay there."""
        mark = self._wanted()
        if mark.status == "rejected" and reason != mark.reason:
            self.act(Decide(mark_id=mark.mark_id, status="rejected", reason=reason))

    def note(self, text: str) -> None:
        """Write a note to the current mark; the same words again change nothing."""
        mark = self._wanted()
        if text != mark.note:
            self.act(Annotate(mark_id=mark.mark_id, note=text))

    def undo(self) -> None:
        """Take back the last change of marks, and go to the mark that it was about."""
        self._go_where_changed(lambda: self.act(Undo()))

    def redo(self) -> None:
        """Do again what was taken back, and go to the mark that it was about."""
        self._go_where_changed(lambda: self.act(Redo()))

    def _go_where_changed(self, job: Callable[[], Review]) -> None:
        before = {mark.mark_id: mark for mark in self.review.marks}
        changed = [mark for mark in job().marks if before.get(mark.mark_id) != mark]
        if changed and self.review.is_shown(changed[0]):
            self.go_to(changed[0].mark_id)
        elif self.current is None:
            self.go_to(None)

    # -- own marks -------------------------------------------------------------------------------

    def add_at(self, place_xyz_mm: Triple, diameter_mm: float = -1.0) -> Mark:
        """Add a nodule that the detector missed; it is the current mark then.

        Parameters
        ----------
        place_xyz_mm : tuple of float
            LPS mm.
        diameter_mm : float, optional
            Diameter, mm; -1 where it is not known.

        Returns
        -------
        Mark
            The new one; linked to the shown mark of the detector that it lies in, if any.
        """
        place = tuple(float(value) for value in place_xyz_mm)
        action = AddMark(
            position_xyz_mm=(place[0], place[1], place[2]), diameter_mm=diameter_mm, linked_to=self._shown_at(place)
        )
        mark = self.act(action).marks[-1]
        self.choose(mark.mark_id)
        return mark

    def move_to(self, place_xyz_mm: Triple, mark_id: int | None = None) -> None:
        """Put an own mark, by default the current one, elsewhere; the detector's stay where they are."""
        mark = self._own(mark_id, "moved")
        x, y, z = (float(value) for value in place_xyz_mm)
        self.act(MoveMark(mark_id=mark.mark_id, position_xyz_mm=(x, y, z)))
        self.choose(mark.mark_id)

    def resize(self, diameter_mm: float, mark_id: int | None = None) -> None:
        """Give an own mark, by default the current one, another diameter in mm."""
        mark = self._own(mark_id, "resized")
        self.act(ResizeMark(mark_id=mark.mark_id, diameter_mm=max(LEAST_DIAMETER_MM, float(diameter_mm))))

    def resize_by(self, step_mm: float) -> None:
        """Make the current own mark larger or smaller."""
        mark = self._own(None, "resized")
        self.resize((mark.diameter_mm if mark.diameter_mm > 0 else NEW_DIAMETER_MM) + step_mm)

    def delete(self, mark_id: int | None = None) -> None:
        """Delete an own mark, by default the current one; the mark before it is current then."""
        mark = self._own(mark_id, "deleted; reject it")
        before = neighbour(self.review, mark.mark_id, -1)
        self.act(DeleteMark(mark_id=mark.mark_id))
        self.choose(None if before is None else before.mark_id)

    def _own(self, mark_id: int | None, verb: str) -> Mark:
        mark = self._wanted() if mark_id is None else self.review.mark(mark_id)
        if not mark.is_own:
            raise ReviewError(f"mark {mark.mark_id} is the detector's and cannot be {verb}")
        return mark

    def _wanted(self) -> Mark:
        if self.current is None:
            raise ReviewError("no mark is chosen; go to one first")
        return self.current

    def _shown_at(self, place: Sequence[float]) -> int | None:
        """Give the number of the detector's shown mark in which a place lies."""
        x, y, z = place
        for mark in self.review.shown:
            reach = mark.diameter_mm / 2 if mark.diameter_mm > 0 else LINK_MM
            if not mark.is_own and distance_mm(mark.position_xyz_mm, (x, y, z)) <= reach:
                return mark.mark_id
        return None

    # -- candidates, threshold, mode ----------------------------------------------------------------

    def take_candidates(self, found: CaseResult | Sequence[Candidate], source: Source | None = None) -> None:
        """Take marks from a detector or a table; decisions and own marks are kept.

        Parameters
        ----------
        found : CaseResult or sequence of Candidate
            The marks, all of them: the threshold only hides.
        source : Source, optional
            Of a table, or the operating points of a model.

        Raises
        ------
        ReviewError
            If the result is about another scan.
        """
        self.act(proposal(found, source, self._store.voxel_sha256))
        self.go_to(None)

    def set_mode(self, mode: str) -> None:
        """Choose how to read, before the detector's marks are seen."""
        self.act(SetMode(mode=mode))

    def end_first_read(self) -> None:
        """End the read without marks: it is locked, the detector's marks are shown from now on."""
        self.act(LockFirstRead())
        self.go_to(None)

    def declare_searched(self, share: float, *, is_of_lungs: bool = False) -> None:
        """Declare the lungs searched, with the share of the slices, all or those with lung, that were seen, 0 to 1."""
        self.act(MarkSearched(share_of_slices=share, is_of_lungs=is_of_lungs))
