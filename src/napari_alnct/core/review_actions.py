"""What can happen in a review: marks, and actions on them, as plain values that go to JSON and back."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import Any

from napari_alnct.core.errors import ReviewError
from napari_alnct.core.geometry import Triple

MODES = ("concurrent", "second reader", "study")
TABLES = ("operating_points", "sensitivities")  # of numbers by number, which JSON has not
STATUSES = ("unreviewed", "accepted", "rejected", "uncertain", "reader_added")


@dataclass(frozen=True, kw_only=True)
class Mark:
    """One place in the scan and what was decided about it.

    Parameters
    ----------
    mark_id : int
        Number, from 1; unique in a review.
    position_xyz_mm : tuple of float
        Centre, LPS mm.
    diameter_mm : float
        Diameter, mm; -1 where none is known.
    score : float or None
        The detector's, 0 to 1; None for a reader's own mark.
    status : str
        One of `STATUSES`.
    reason : str
        Why it was rejected; may be empty.
    note : str
        The reader's words.
    linked_to : int or None
        Of an own mark: the detector's mark that shows the same place.
    """

    mark_id: int
    position_xyz_mm: Triple
    diameter_mm: float
    score: float | None
    status: str = "unreviewed"
    reason: str = ""
    note: str = ""
    linked_to: int | None = None

    @property
    def is_own(self) -> bool:
        """Tell whether the reader made it."""
        return self.status == "reader_added"


@dataclass(frozen=True, kw_only=True)
class SetCandidates:
    """The detector, or a table, proposes marks."""

    marks: tuple[Mark, ...]
    threshold: float
    model_name: str = ""
    model_sha256: str = ""
    operating_points: dict[float, float] = field(default_factory=dict)
    sensitivities: dict[float, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Decide:
    """Accept, reject, call uncertain, or take a decision back."""

    mark_id: int
    status: str
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class Annotate:
    """Write a note to a mark."""

    mark_id: int
    note: str


@dataclass(frozen=True, kw_only=True)
class AddMark:
    """Add a nodule that the detector missed."""

    position_xyz_mm: Triple
    diameter_mm: float = -1.0
    linked_to: int | None = None


@dataclass(frozen=True, kw_only=True)
class MoveMark:
    """Put a mark elsewhere."""

    mark_id: int
    position_xyz_mm: Triple


@dataclass(frozen=True, kw_only=True)
class ResizeMark:
    """Give a mark another diameter."""

    mark_id: int
    diameter_mm: float


@dataclass(frozen=True, kw_only=True)
class DeleteMark:
    """Delete an own mark."""

    mark_id: int


@dataclass(frozen=True, kw_only=True)
class LinkMark:
    """Say which of the detector's marks an own one is; None: none of them."""

    mark_id: int
    linked_to: int | None


@dataclass(frozen=True, kw_only=True)
class SetThreshold:
    """Show marks from this score on."""

    threshold: float


@dataclass(frozen=True, kw_only=True)
class SetMode:
    """Choose how to read, before the detector's marks are seen."""

    mode: str


@dataclass(frozen=True, kw_only=True)
class LockFirstRead:
    """End the read without marks; from now on they are shown."""


@dataclass(frozen=True, kw_only=True)
class MarkSearched:
    """Declare the whole lungs searched."""

    share_of_slices: float
    is_of_lungs: bool = False  # of the slices with lung, else of all


@dataclass(frozen=True, kw_only=True)
class NoteExport:
    """Say that files were exported, such as ``csv, html``; the review stays as it is."""

    formats: str


@dataclass(frozen=True, kw_only=True)
class NoteExplained:
    """Say that a mark's score was explained: a heat map was computed, not shown; the review stays as it is.

    Parameters
    ----------
    mark_id : int
        The mark.
    method, layer : str
        How, and at which layer of the network.
    score_name : str
        Whose score: ``second look`` or ``first stage``.
    model_sha256 : str
        Of which model.
    """

    mark_id: int
    method: str
    layer: str
    score_name: str
    model_sha256: str


@dataclass(frozen=True, kw_only=True)
class NoteMapShown:
    """Say that the heat map of a mark came into the reader's view; fields as in `NoteExplained`."""

    mark_id: int
    method: str
    layer: str
    score_name: str
    model_sha256: str


@dataclass(frozen=True, kw_only=True)
class Undo:
    """Take back the last change of marks."""


@dataclass(frozen=True, kw_only=True)
class Redo:
    """Do again what was taken back."""


ReviewAction = (
    SetCandidates
    | Decide
    | Annotate
    | AddMark
    | MoveMark
    | ResizeMark
    | DeleteMark
    | LinkMark
    | SetThreshold
    | SetMode
    | LockFirstRead
    | MarkSearched
    | NoteExport
    | NoteExplained
    | NoteMapShown
    | Undo
    | Redo
)
KINDS: dict[str, Any] = {
    "candidates": SetCandidates,
    "decide": Decide,
    "note": Annotate,
    "add": AddMark,
    "move": MoveMark,
    "resize": ResizeMark,
    "delete": DeleteMark,
    "link": LinkMark,
    "threshold": SetThreshold,
    "mode": SetMode,
    "first read done": LockFirstRead,
    "searched": MarkSearched,
    "export": NoteExport,
    "explained": NoteExplained,
    "map shown": NoteMapShown,
    "undo": Undo,
    "redo": Redo,
}
NAMES = {cls: name for name, cls in KINDS.items()}


def action_to_json(action: ReviewAction) -> dict[str, Any]:
    """Give an action as plain JSON values.

    Parameters
    ----------
    action : ReviewAction
        Any.

    Returns
    -------
    dict
        Its name under ``kind``, and its fields.

    Examples
    --------
    >>> action_to_json(Decide(mark_id=3, status="accepted"))
    {'kind': 'decide', 'mark_id': 3, 'status': 'accepted', 'reason': ''}
    """
    values = asdict(action)
    if isinstance(action, SetCandidates):
        for name in TABLES:
            values[name] = {str(rate): value for rate, value in values[name].items()}
    return {"kind": NAMES[type(action)], **values}


def action_from_json(values: dict[str, Any]) -> ReviewAction:
    """Give the action that `action_to_json` has written.

    Parameters
    ----------
    values : dict
        JSON values.

    Returns
    -------
    ReviewAction

    Raises
    ------
    ReviewError
        If it is none of the known ones, or a field is missing, unknown or of the wrong form.
    """
    try:
        cls = KINDS[values["kind"]]
        rest = {name: value for name, value in values.items() if name != "kind"}
        known = {part.name for part in fields(cls)}
        if set(rest) - known:
            raise KeyError(min(set(rest) - known))
        if "position_xyz_mm" in rest:
            rest["position_xyz_mm"] = _triple(rest["position_xyz_mm"])
        if cls is SetCandidates:
            rest["marks"] = tuple(mark_from_json(mark) for mark in rest["marks"])
            for name in set(TABLES) & set(rest):
                rest[name] = {float(k): float(v) for k, v in rest[name].items()}
        action: ReviewAction = cls(**rest)
    except (KeyError, TypeError, ValueError, AttributeError) as fault:
        raise ReviewError(f"the record holds an action that this version does not know ({fault})") from fault
    return action


def mark_from_json(values: dict[str, Any]) -> Mark:
    """Give a mark from plain JSON values.

    Parameters
    ----------
    values : dict
        As ``asdict`` of a mark gives.

    Returns
    -------
    Mark
    """
    return Mark(**{**values, "position_xyz_mm": _triple(values["position_xyz_mm"])})


def _triple(values: Any) -> Triple:
    x, y, z = (float(value) for value in values)
    return x, y, z
