"""Where a reading of one scan stands: its marks, what a reader decided about each, and what may be seen now.

Positions are (x, y, z), LPS mm. `core.review` says how a reading comes to another state.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from napari_alnct.core.errors import ReviewError
from napari_alnct.core.geometry import Triple
from napari_alnct.core.review_actions import Mark

KEPT_IN_VIEW = ("accepted", "uncertain", "reader_added")  # findings stay visible whatever the threshold


@dataclass(frozen=True, kw_only=True)
class Review:
    """Where a reading stands.

    Parameters
    ----------
    marks : tuple of Mark
        Detector's marks by falling score, then the reader's own in the order of their making.
    threshold : float
        Lowest score shown.
    mode : str
        ``concurrent``, ``second reader`` or ``study``.
    is_unlocked : bool
        Whether the detector's marks may be seen: in the other two modes only after the first read.
    searched_share : float or None
        Share of the slices seen when the reader declared the lungs searched; None before.
    searched_of_lungs : bool
        Whether it is the share of the slices with lung, else of all.
    model_name, model_sha256 : str
        What proposed the marks.
    operating_points : dict of float to float
        False marks per scan to threshold, as stored with the model.
    sensitivities : dict of float to float
        False marks per scan to the share of nodules found, where the model has stored it.
    undone, redone : tuple of tuple of Mark
        Earlier and later marks, the nearest last.
    last_id : int
        Highest number that a mark has had; none is used twice, not even after an undo.
    """

    marks: tuple[Mark, ...] = ()
    threshold: float = 0.5
    mode: str = "concurrent"
    is_unlocked: bool = True
    searched_share: float | None = None
    searched_of_lungs: bool = False
    model_name: str = ""
    model_sha256: str = ""
    operating_points: dict[float, float] = field(default_factory=dict)
    sensitivities: dict[float, float] = field(default_factory=dict)
    undone: tuple[tuple[Mark, ...], ...] = ()
    redone: tuple[tuple[Mark, ...], ...] = ()
    last_id: int = 0

    def mark(self, mark_id: int) -> Mark:
        """Give the mark with this number.

        Parameters
        ----------
        mark_id : int
            Number, from 1.

        Returns
        -------
        Mark

        Raises
        ------
        ReviewError
            If there is none.
        """
        for mark in self.marks:
            if mark.mark_id == mark_id:
                return mark
        raise ReviewError(f"there is no mark {mark_id}; the list has {len(self.marks)}")

    @property
    def shown(self) -> tuple[Mark, ...]:
        """Give the marks that may be seen now, in the order of the list."""
        return tuple(mark for mark in self.marks if self.is_shown(mark))

    def is_shown(self, mark: Mark) -> bool:
        """Tell whether a mark may be seen now: by lock, threshold and what was decided.

        Parameters
        ----------
        mark : Mark
            One of this review.

        Returns
        -------
        bool
        """
        if mark.is_own:
            return True
        if not self.is_unlocked:
            return False
        return mark.status in KEPT_IN_VIEW or (mark.score or 0.0) >= self.threshold

    @property
    def n_decided(self) -> int:
        """Give how many of the shown marks are decided or the reader's own."""
        return sum(mark.status != "unreviewed" for mark in self.shown)

    @property
    def findings(self) -> tuple[Mark, ...]:
        """Give what the reader took for nodules: accepted, added, and uncertain ones."""
        return tuple(mark for mark in self.marks if mark.status in KEPT_IN_VIEW)

    @property
    def can_undo(self) -> bool:
        """Tell whether there is something to undo."""
        return bool(self.undone)

    @property
    def can_redo(self) -> bool:
        """Tell whether there is something to redo."""
        return bool(self.redone)


def neighbour(
    review: Review, mark_id: int | None, step: int, *, wanted: Callable[[Mark], bool] = lambda _: True
) -> Mark | None:
    """Give the mark to go to from this one, in the order of the list.

    Parameters
    ----------
    review : Review
        Any review.
    mark_id : int or None
        Where the reader is; None: before the first.
    step : int
        1 or -1.
    wanted : callable, optional
        Which marks to stop at; default all that are shown.

    Returns
    -------
    Mark or None
        None at the end: the list does not go round.
    """
    place = next((k for k, mark in enumerate(review.marks) if mark.mark_id == mark_id), None)
    if place is None:
        place = -1 if step > 0 else len(review.marks)
    ahead: Sequence[Mark] = review.marks[place + 1 :] if step > 0 else review.marks[:place][::-1]
    return next((mark for mark in ahead if review.is_shown(mark) and wanted(mark)), None)


def distance_mm(first: Triple, second: Triple) -> float:
    """Give the distance of two places, mm."""
    return float(sum((a - b) ** 2 for a, b in zip(first, second, strict=True)) ** 0.5)
