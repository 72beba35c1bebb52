"""A folder of scans as a queue of cases, and how far a reader has come with it.

What is kept on disk names no file and no patient: a case is the hash of its path within the folder, the
folder the hash of its own path. Cases come in the order of their paths, or in one that a study gives.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from napari_alnct.core.errors import ReadError
from napari_alnct.io.atomic_file import replacing_text
from napari_alnct.io.identifiers import short_hash
from napari_alnct.io.reviews import reader_folder
from napari_alnct.io.scan_paths import find_scans

QUEUES = "queues"  # folder beside the readings
SHOWN_DIGITS = 6
CASE_STATUSES = ("new", "opened", "done")


@dataclass(frozen=True, kw_only=True)
class Case:
    """One scan of a queue.

    Parameters
    ----------
    number : int
        From 1, in the order of the queue.
    path : Path
        File or DICOM folder.
    key : str
        Hash of its path within the folder.
    status : str
        ``new``, ``opened`` or ``done``.
    """

    number: int
    path: Path
    key: str
    status: str = "new"

    @property
    def title(self) -> str:
        """Give what it is called on the screen: number and hash, no name."""
        return f"Case {self.number} · {self.key[:SHOWN_DIGITS]}"


class CaseQueue:
    """The scans of a folder, and which of them are read.

    Parameters
    ----------
    folder : Path
        Folder of scans, searched with its subfolders.
    readings : Path
        Folder of all readings; progress is kept in ``queues`` in it.
    reader : str
        Readers have their own progress.
    order : sequence of Path, optional
        Scans in the order of a study; default all, by path.

    Raises
    ------
    ReadError
        If the folder holds no scan.
    """

    def __init__(self, folder: Path, readings: Path, reader: str, order: Sequence[Path] | None = None) -> None:
        self.folder = Path(folder)
        paths = find_scans(self.folder) if order is None else list(order)
        if not paths:
            hint = "choose a folder with scans"
            raise ReadError("E_DATA_MISSING", self.folder.name, "scans in this folder", "none", hint=hint)
        place = short_hash(str(self.folder.resolve()))
        self.file = Path(readings) / QUEUES / f"{place}-{reader_folder(reader)}.json"
        self._status = self._load()
        self._paths = {_key(self.folder, path): path for path in paths}
        self.current_key: str | None = None

    @property
    def cases(self) -> list[Case]:
        """Give the cases in their order."""
        return [
            Case(number=number, path=path, key=key, status=self._status.get(key, "new"))
            for number, (key, path) in enumerate(self._paths.items(), start=1)
        ]

    @property
    def current(self) -> Case | None:
        """Give the case that is open, None before the first."""
        return next((case for case in self.cases if case.key == self.current_key), None)

    @property
    def n_done(self) -> int:
        """Give how many cases are done."""
        return sum(case.status == "done" for case in self.cases)

    @property
    def next_case(self) -> Case | None:
        """Give the case to go to: the next one that is not done, from the beginning behind the last; None: all are."""
        cases = self.cases
        start = next((k + 1 for k, case in enumerate(cases) if case.key == self.current_key), 0)
        return next((case for case in cases[start:] + cases[:start] if self._is_open(case)), None)

    def _is_open(self, case: Case) -> bool:
        return case.status != "done" and case.key != self.current_key

    def open(self, case: Case) -> None:
        """Note that a case was opened; one that is done stays done.

        Parameters
        ----------
        case : Case
            Of this queue.

        Raises
        ------
        OSError
            If this cannot be written.
        """
        self.current_key = case.key
        if case.status == "new":
            self._set(case.key, "opened")

    def finish(self) -> None:
        """Note that the current case is done.

        Raises
        ------
        OSError
            If this cannot be written.
        """
        if self.current_key is not None:
            self._set(self.current_key, "done")

    def _set(self, key: str, status: str) -> None:
        after = {**self._status, key: status}
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with replacing_text(self.file) as stream:
            json.dump(after, stream, indent=1, sort_keys=True)
        self._status = after

    def _load(self) -> dict[str, str]:
        """Give what is on disk; a damaged file counts as none, for the readings themselves are elsewhere."""
        try:
            content = json.loads(self.file.read_text(encoding="utf-8"))
            return {str(key): status for key, status in content.items() if status in CASE_STATUSES}
        except (OSError, ValueError, AttributeError):
            return {}


def _key(folder: Path, path: Path) -> str:
    inside = path.is_relative_to(folder)
    return short_hash((path.relative_to(folder) if inside else path).as_posix())
