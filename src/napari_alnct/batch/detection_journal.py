"""Finished scans of a detection run, kept line by line, so that a stopped run goes on.

A *journal* is a file of JSON lines beside the table. Its first line tells what the results
depend on: model, settings, what may be read, version. Each further line is one finished scan
with the identity of its input, on disk before the next scan ends (fsync). A line that was cut
off is dropped. Failed scans are not in it: they are tried again.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from napari_alnct import __version__
from napari_alnct.batch.input_identity import input_fingerprint
from napari_alnct.batch.work_lock import WorkLock
from napari_alnct.core.config import DetectionSettings, to_json
from napari_alnct.core.findings import Candidate, CaseResult
from napari_alnct.io.identifiers import short_hash
from napari_alnct.io.images import ReadOptions

SCHEMA = 1
SUFFIX = ".partial.jsonl"
NOT_DECISIVE = ("threshold", "device")  # settings that can differ: all candidates are kept, each with its device


def journal_path(table: Path) -> Path:
    """Give the journal of a table: ``<table>.partial.jsonl`` beside it."""
    return table.with_name(table.name + SUFFIX)


def run_identity(model_sha256: str, settings: DetectionSettings, options: ReadOptions) -> dict[str, Any]:
    """Give what the results of a run depend on, apart from the scans.

    Parameters
    ----------
    model_sha256 : str
        Of the model file.
    settings : DetectionSettings
        The threshold does not matter, since all candidates are kept.
    options : ReadOptions
        What may be read.

    Returns
    -------
    dict
        JSON values.
    """
    decisive = {name: value for name, value in to_json(settings).items() if name not in NOT_DECISIVE}
    parts = {"model": model_sha256, "settings": decisive, "reading": asdict(options), "version": __version__}
    return {"journal": "detect", "schema": SCHEMA, **parts}


class DetectionJournal:
    """The journal of one table, open for reading and adding.

    Parameters
    ----------
    path : Path
        File; made when missing. Another process that is at it makes `__enter__` refuse.
    identity : mapping
        Of `run_identity`; a journal of another run is begun afresh, with a note.
    overwrite : bool, optional
        Begin afresh in any case.
    """

    def __init__(self, path: Path, identity: Mapping[str, Any], *, overwrite: bool = False) -> None:
        self.path = Path(path)
        self.identity = json.loads(json.dumps(dict(identity)))
        self.notes: list[str] = []
        self._overwrite = overwrite
        self._rows: dict[str, dict[str, Any]] = {}
        self._file: IO[bytes] | None = None
        self._lock = WorkLock(self.path.with_suffix(".lock"))
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        """Read what is there and open the file for adding.

        Raises
        ------
        SettingsError
            If another process is writing the same table.
        """
        with contextlib.ExitStack() as stack:
            stack.enter_context(self._lock)
            lines, n_bytes = self._usable_lines()
            self._file = stack.enter_context(open(self.path, "ab"))
            self._file.truncate(n_bytes)
            if not n_bytes:
                self._write(self.identity)
                _sync_folder(self.path.parent)
            self._rows = {row["key"]: row for row in lines[1:]}
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file; it stays for the next run, unless it holds no scan or was removed."""
        with self._stack:
            if not self._rows:
                self.remove()

    def __len__(self) -> int:
        """Give the number of finished scans in it."""
        return len(self._rows)

    def find(self, path: Path) -> tuple[float, CaseResult] | None:
        """Give seconds of reading and result of a scan that was finished before.

        Parameters
        ----------
        path : Path
            Scan.

        Returns
        -------
        tuple of (float, CaseResult) or None
            None when it was not, or its files have changed since.
        """
        row = self._rows.get(_key(path))
        if row is None:
            return None
        if row["input"] != input_fingerprint([path]):
            self.notes.append(f"{path.name} has changed since it was searched; it is searched again")
            return None
        return float(row["read_seconds"]), _result(row["result"])

    def record(self, path: Path, fingerprint: str, read_seconds: float, result: CaseResult) -> None:
        """Add a finished scan; it is on disk when this returns.

        Parameters
        ----------
        path : Path
            Scan.
        fingerprint : str
            `input_fingerprint` of it, taken before it was read.
        read_seconds : float
            Wall time of reading it.
        result : CaseResult
            What was found.
        """
        row: dict[str, Any] = {"key": _key(path), "input": fingerprint, "read_seconds": read_seconds}
        row["result"] = _plain(result)
        self._write(row)
        self._rows[row["key"]] = row

    def remove(self) -> None:
        """Delete the file, when table and record are written."""
        if self._file is not None:
            self._file.close()
        self.path.unlink(missing_ok=True)

    def _usable_lines(self) -> tuple[list[dict[str, Any]], int]:
        """Give the whole lines of this run's journal and their bytes; none of another run's."""
        lines, n_bytes = ([], 0) if self._overwrite else _whole_lines(self.path)
        changed = [key for key in self.identity if lines and lines[0].get(key) != self.identity[key]]
        if not changed:
            return lines, n_bytes
        what = " and ".join(changed)
        self.notes.append(f"{self.path.name} is of a run with another {what}; all scans are searched afresh")
        return [], 0

    def _write(self, values: Mapping[str, Any]) -> None:
        assert self._file is not None, "the journal is open"
        self._file.write(json.dumps(values).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())


def _whole_lines(path: Path) -> tuple[list[dict[str, Any]], int]:
    """Give the lines up to the first damaged one, and the bytes that they take."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return [], 0
    lines: list[dict[str, Any]] = []
    n_bytes = 0
    for line in content.splitlines(keepends=True):
        try:
            values = json.loads(line)
        except ValueError:
            break
        is_row = isinstance(values, dict) and (not lines or {"key", "input", "read_seconds", "result"} <= set(values))
        if not (is_row and line.endswith(b"\n")):
            break
        lines.append(values)
        n_bytes += len(line)
    return lines, n_bytes


def _key(path: Path) -> str:
    return short_hash(os.path.abspath(path))


def _plain(result: CaseResult) -> dict[str, Any]:
    """Give a result as JSON values; a candidate is x, y, z (mm), score, diameter (mm)."""
    values = asdict(replace(result, candidates=()))
    values["candidates"] = [[*c.position_xyz_mm, c.score, c.diameter_mm] for c in result.candidates]
    return values


def _result(values: Mapping[str, Any]) -> CaseResult:
    candidates = tuple(
        Candidate(position_xyz_mm=(x, y, z), score=score, diameter_mm=diameter)
        for x, y, z, score, diameter in values["candidates"]
    )
    return CaseResult(**{**values, "candidates": candidates, "notes": tuple(values["notes"])})


def _sync_folder(folder: Path) -> None:
    """Make a new name durable, where the system can."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
