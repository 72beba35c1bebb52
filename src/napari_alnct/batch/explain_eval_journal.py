"""Finished scans of an evaluation of explanations, line by line, so that a stopped run goes on.

The first line tells what the figures depend on; each further line is one finished scan with its records,
on disk before the next scan begins. A line that was cut off is dropped; a journal of another run is begun afresh.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from napari_alnct.batch.work_lock import WorkLock

FILE = "explain_eval.partial.jsonl"


class ExplainJournal:
    """The journal of one output folder.

    Parameters
    ----------
    folder : Path
        Output folder; it must exist.
    identity : mapping
        What the figures depend on, JSON values.
    overwrite : bool, optional
        Begin afresh in any case.
    """

    def __init__(self, folder: Path, identity: Mapping[str, Any], *, overwrite: bool = False) -> None:
        self.path = folder / FILE
        self.notes: list[str] = []
        self._identity = json.loads(json.dumps(dict(identity)))
        self._overwrite = overwrite
        self._scans: dict[str, list[dict[str, Any]]] = {}
        self._lock = WorkLock(self.path.with_suffix(".lock"))

    def __enter__(self) -> Self:
        """Read what is there.

        Raises
        ------
        SettingsError
            If another process writes to the same folder.
        """
        self._lock.__enter__()
        try:
            lines = [] if self._overwrite else _whole_lines(self.path)
            if lines and lines[0] != self._identity:
                self.notes.append(f"{self.path.name} is of another run; all scans are measured afresh")
                lines = []
            self._scans = {line["scan"]: line["records"] for line in lines[1:]}
            kept = [self._identity, *lines[1:]]
            self._append("".join(json.dumps(line) + "\n" for line in kept), mode="wb")
        except BaseException:
            self._lock.release()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the folder free; the file stays for the next run unless it holds no scan."""
        if not self._scans:
            self.remove()
        self._lock.release()

    def __len__(self) -> int:
        """Give the number of finished scans."""
        return len(self._scans)

    def find(self, scan: str) -> list[dict[str, Any]] | None:
        """Give the records of a scan that was finished before, else None."""
        return self._scans.get(scan)

    def record(self, scan: str, records: Sequence[dict[str, Any]]) -> None:
        """Add a finished scan; it is on disk when this returns."""
        line = json.dumps({"scan": scan, "records": list(records)})
        self._append(line + "\n", mode="ab")
        self._scans[scan] = json.loads(line)["records"]

    def remove(self) -> None:
        """Delete the file, when the results are written."""
        self.path.unlink(missing_ok=True)

    def _append(self, text: str, *, mode: str) -> None:
        with open(self.path, mode) as file:
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())


def _whole_lines(path: Path) -> list[dict[str, Any]]:
    """Give the lines up to the first damaged one."""
    lines: list[dict[str, Any]] = []
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return lines
    for text in content.splitlines(keepends=True):
        try:
            values = json.loads(text)
        except ValueError:
            break
        is_row = isinstance(values, dict) and (not lines or {"scan", "records"} <= set(values))
        if not (is_row and text.endswith(b"\n")):
            break
        lines.append(values)
    return lines
