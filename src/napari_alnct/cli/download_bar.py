"""Progress of transfers on the terminal: a bar for each file on the way."""

from __future__ import annotations

import threading

from napari_alnct.cli.live_bar import LiveBar


class DownloadBar(LiveBar):
    """Bars on stderr, one for each file on the way; without a terminal only the lines of ended files.

    Its methods may be called from several threads.
    """

    def __init__(self) -> None:
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            TaskID,
            TextColumn,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )

        text = TextColumn("{task.description}", markup=False)
        columns = (text, BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
        super().__init__(*columns, is_transient=False)
        self._tasks: dict[tuple[str, str], TaskID] = {}
        self._lock = threading.Lock()

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
