"""Readings on disk: an audit log that every action is appended to, and the state as one JSON file.

A reading of one scan by one reader is a folder named after the scan's voxels::

    <root>/<voxel hash>/<reader>/audit.jsonl    one line per action, flushed to the disk before it counts
                                 review.json    state and place of the reader; review.json.bak the one before
                                 .lock          held by the window that writes

The log is the truth: the state follows from it (`core.review.replay`). Each line carries a
hash of itself and of the line before, so a line that was torn by a crash, changed or taken out
is noticed. Nothing in it names the patient: the scan is its voxel hash.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from napari_alnct import __version__
from napari_alnct.core.errors import ReviewError, SettingsError
from napari_alnct.core.notice import NOTICE
from napari_alnct.core.review import Review, apply
from napari_alnct.core.review_actions import ReviewAction, action_from_json, action_to_json
from napari_alnct.core.wording import counted
from napari_alnct.io.atomic_file import replacing_text
from napari_alnct.io.folder_lock import locked_folder

SCHEMA = 1
AUDIT, STATE, BACKUP = "audit.jsonl", "review.json", "review.json.bak"
HASH_LENGTH, SUM_LENGTH = 32, 16
DEFAULT_READER = "reader"
LONGEST_READER = 40


@dataclass(frozen=True, kw_only=True)
class AuditEntry:
    """One line of the log: number from 1, UTC time, who, what, with which software."""

    number: int
    utc: str
    reader: str
    action: ReviewAction
    software: str


@dataclass(frozen=True, kw_only=True)
class Stored:
    """What was found on disk: the review, the log, where the reader was, and what to tell about it."""

    review: Review
    entries: tuple[AuditEntry, ...] = ()
    session: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


class ReviewStore:
    """The reading of one scan by one reader, open for writing where no other window has it.

    Parameters
    ----------
    root : Path
        Folder of all readings; made when missing.
    voxel_sha256 : str
        Identity of the scan.
    reader : str
        Who reads; becomes a folder name.

    Raises
    ------
    ReviewError
        If the record belongs to another scan or another version, or was changed.
    """

    def __init__(self, root: Path, voxel_sha256: str, reader: str = DEFAULT_READER) -> None:
        if not voxel_sha256:
            raise ReviewError("the scan has no identity (voxel hash), so nothing can be stored about it; open it again")
        self.voxel_sha256, self.reader = voxel_sha256, reader
        self.folder = Path(root) / voxel_sha256[:HASH_LENGTH] / reader_folder(reader)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._held = ExitStack()
        try:
            self._held.enter_context(locked_folder(self.folder))
            self.is_read_only = False
        except SettingsError:
            self.is_read_only = True
        try:
            self.stored = _load(self.folder, voxel_sha256)
        except ReviewError:
            self._held.close()
            raise
        self.review = self.stored.review
        self._number = len(self.stored.entries)
        self._sum = _last_sum(self.folder / AUDIT) if self._number else ""
        if not self.is_read_only:
            _cut_torn_line(self.folder / AUDIT)

    def act(self, action: ReviewAction, *, utc: datetime | None = None) -> Review:
        """Do something: it is on the disk when this returns.

        Parameters
        ----------
        action : ReviewAction
            What happens.
        utc : datetime, optional
            When; default now.

        Returns
        -------
        Review
            As it is now; also under ``review``.

        Raises
        ------
        ReviewError
            If the action is not allowed, or another window has the reading.
        OSError
            If it cannot be written; the review is as before.
        """
        self._refuse_read_only()
        after = apply(self.review, action)
        line, self_sum = _line(self._number + 1, utc or datetime.now(UTC), self.reader, action, self._sum)
        _append(self.folder / AUDIT, line)
        self._number, self._sum, self.review = self._number + 1, self_sum, after
        return after

    def save(self, session: Mapping[str, Any]) -> None:
        """Write the state and the place of the reader; the file before is kept.

        Parameters
        ----------
        session : mapping
            JSON values: place, window, slab, layout and the like.

        Raises
        ------
        OSError
            If it cannot be written; the older file stays.
        """
        self._refuse_read_only()
        content = {
            "notice": NOTICE,
            "schema": SCHEMA,
            "software": __version__,
            "voxel_sha256": self.voxel_sha256,
            "reader": self.reader,
            "n_actions": self._number,
            "audit_sum": self._sum,
            "review": _review_to_json(self.review),
            "session": dict(session),
        }
        path = self.folder / STATE
        if path.is_file():
            with replacing_text(self.folder / BACKUP) as stream:
                stream.write(path.read_text(encoding="utf-8"))
        with replacing_text(path) as stream:
            json.dump(_with_checksum(content), stream, indent=1)

    def _refuse_read_only(self) -> None:
        if self.is_read_only:
            raise ReviewError("this reading is open in another window; close it there, then open the scan again")

    def close(self) -> None:
        """Let another window write."""
        self._held.close()


def reader_folder(reader: str) -> str:
    """Give the folder name of a reader: letters, digits, dash; others become a dash.

    Parameters
    ----------
    reader : str
        As typed.

    Returns
    -------
    str

    Examples
    --------
    >>> reader_folder("Dr. Weiss/2"), reader_folder("")
    ('dr-weiss-2', 'reader')
    """
    words = "".join(letter if letter.isalnum() else " " for letter in reader.lower()).split()
    return "-".join(words)[:LONGEST_READER] or DEFAULT_READER


def read_audit(path: Path) -> tuple[list[AuditEntry], list[str]]:
    """Give the entries of a log, and what is wrong with it.

    Parameters
    ----------
    path : Path
        ``audit.jsonl``; it may be missing.

    Returns
    -------
    tuple of (list of AuditEntry, list of str)
        A torn last line is left out and noted.

    Raises
    ------
    ReviewError
        If a line in the middle is broken, was changed, or is missing.
    """
    entries: list[AuditEntry] = []
    notes: list[str] = []
    lines = path.read_bytes().split(b"\n") if path.is_file() else []
    last_sum, rest = "", lines.pop() if lines else b""
    if rest:
        notes.append("The last action was not written whole when the program ended; it is left out.")
    for number, raw in enumerate(lines, start=1):
        entry, last_sum = _entry(path, number, raw, last_sum)
        entries.append(entry)
    return entries, notes


def _entry(path: Path, number: int, raw: bytes, last_sum: str) -> tuple[AuditEntry, str]:
    try:
        values = json.loads(raw)
        found = values.pop("sum")
        is_whole = found == _sum_of(values, last_sum) and values["number"] == number
    except (ValueError, KeyError, TypeError, AttributeError):
        is_whole = False
    if not is_whole:
        raise ReviewError(
            f"{path.name}, line {number}: the record was changed or is damaged; put back a copy of the folder "
            f"{path.parent.name}, or move it away to begin anew"
        )
    if values["schema"] != SCHEMA:
        raise ReviewError(
            f"{path.name}: written by version {values['software']} in form {values['schema']}, this version reads "
            f"form {SCHEMA}; open it with that version"
        )
    entry = AuditEntry(
        number=number,
        utc=values["utc"],
        reader=values["reader"],
        action=action_from_json(values["action"]),
        software=values["software"],
    )
    return entry, found


def _line(number: int, utc: datetime, reader: str, action: ReviewAction, last_sum: str) -> tuple[bytes, str]:
    values = {
        "number": number,
        "schema": SCHEMA,
        "utc": utc.isoformat(timespec="milliseconds"),
        "reader": reader,
        "software": __version__,
        "action": action_to_json(action),
    }
    own_sum = _sum_of(values, last_sum)
    return json.dumps({**values, "sum": own_sum}).encode() + b"\n", own_sum


def _sum_of(values: Mapping[str, Any], last_sum: str) -> str:
    text = json.dumps(values, sort_keys=True) + last_sum
    return hashlib.sha256(text.encode()).hexdigest()[:SUM_LENGTH]


def _append(path: Path, line: bytes) -> None:
    """Add a line and see it on the disk; after a fault the file is as it was."""
    with open(path, "ab") as stream:
        before = stream.tell()
        try:
            stream.write(line)
            stream.flush()
            os.fsync(stream.fileno())
        except OSError:
            os.truncate(path, before)
            raise


def _cut_torn_line(path: Path) -> None:
    """Take out what a crash left behind the last whole line, so that the next one begins well."""
    if path.is_file():
        content = path.read_bytes()
        end = content.rfind(b"\n") + 1
        if end < len(content):
            os.truncate(path, end)


def _last_sum(path: Path) -> str:
    lines = path.read_bytes().split(b"\n")[:-1]
    return str(json.loads(lines[-1])["sum"])


def _load(folder: Path, voxel_sha256: str) -> Stored:
    entries, notes = read_audit(folder / AUDIT)
    review = Review()
    for entry in entries:
        review = apply(review, entry.action)
    content, more = _read_state(folder)
    if content is not None and content["voxel_sha256"] != voxel_sha256:
        raise ReviewError("this reading belongs to another scan with other voxels; open the scan that it was made on")
    if content is not None and content["n_actions"] > len(entries):
        raise ReviewError(
            f"the record holds {counted(len(entries), 'action')}, the state that was saved {content['n_actions']}; "
            "put back a copy of the folder, or move it away to begin anew"
        )
    session = dict(content["session"]) if content is not None else {}
    return Stored(review=review, entries=tuple(entries), session=session, notes=(*notes, *more))


def _read_state(folder: Path) -> tuple[dict[str, Any] | None, tuple[str, ...]]:
    """Give the state file, or the one before where it is damaged."""
    for name in (STATE, BACKUP):
        try:
            content = json.loads((folder / name).read_text(encoding="utf-8"))
            is_whole = content == _with_checksum({k: v for k, v in content.items() if k != "checksum"})
        except (OSError, ValueError, AttributeError):
            continue
        if is_whole and content["schema"] == SCHEMA:
            note = "The saved place was damaged; the one before it is used." if name == BACKUP else ""
            return content, (note,) if note else ()
    return None, ()


def _with_checksum(content: dict[str, Any]) -> dict[str, Any]:
    text = json.dumps(content, sort_keys=True)
    return {**content, "checksum": hashlib.sha256(text.encode()).hexdigest()}


def _review_to_json(review: Review) -> dict[str, Any]:
    """Give the state for people and other programs; this program restores it from the log."""
    return {
        "mode": review.mode,
        "threshold": review.threshold,
        "is_unlocked": review.is_unlocked,
        "searched_share": review.searched_share,
        "searched_of_lungs": review.searched_of_lungs,
        "model_name": review.model_name,
        "model_sha256": review.model_sha256,
        "marks": [asdict(mark) for mark in review.marks],
    }
