"""Progress of transfers on the terminal: a bar for each file on the way."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Self


class DownloadBar:
    """Bars on stderr, one for each file on the way; without a terminal only the lines of ended files.

    Its methods may be called from several threads.
    """

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            Progress,
            TaskID,
            TextColumn,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )

        text = TextColumn("{task.description}", markup=False)
        columns = (text, BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
        self._console = Console(stderr=True, highlight=False, soft_wrap=True)
        self._bar = Progress(*columns, console=self._console, disable=not self._console.is_terminal)
        self._tasks: dict[tuple[str, str], TaskID] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        """Show the bars."""
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the last state on the screen."""
        self._bar.stop()

    def show(self, name: str, stage: str, n_bytes: int, total: int | None) -> None:
        """Move the bar of a file; a new stage of it gets a new bar."""
        key = (name, stage)
        with self._lock:
            if key not in self._tasks:
                self._remove(name)
                self._tasks[key] = self._bar.add_task(f"{stage} {name}", total=total)
            self._bar.update(self._tasks[key], completed=n_bytes)

    def finish(self, name: str, line: str) -> None:
        """Remove the bar of a file and say how it ended."""
        with self._lock:
            self._remove(name)
        self._console.print(line, markup=False)

    def _remove(self, name: str) -> None:
        for key in [key for key in self._tasks if key[0] == name]:
            self._bar.remove_task(self._tasks.pop(key))
