"""Progress on the terminal: bars on stderr, quiet where there is no terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_alnct.cli.live_bar import LiveBar
from napari_alnct.cli.options import with_flag

if TYPE_CHECKING:
    from napari_alnct.batch.runner import BatchProgress


class BatchBar(LiveBar):
    """A bar that follows `napari_alnct.batch.runner.run_batch`; quiet where there is no terminal.

    Parameters
    ----------
    title : str
        Word in front of the bar.
    """

    def __init__(self, title: str) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        super().__init__(*columns, is_transient=False)
        self._task = self._bar.add_task(title, total=None)

    def start(self, n_total: int) -> None:
        """Say how many items there are."""
        self._bar.update(self._task, total=n_total)

    def update(self, progress: BatchProgress) -> None:
        """Move the bar, and name the item when it failed."""
        self._bar.update(self._task, completed=progress.n_done + progress.n_failed)
        if progress.message:
            is_named = progress.message.startswith(progress.key)
            text = progress.message if is_named else f"{progress.key}: {progress.message}"
            self._console.print(f"failed: {with_flag(text)}", markup=False)


class ScanBar(LiveBar):
    """A bar that follows the stages of scan after scan; lines of results go to stdout above it.

    Parameters
    ----------
    n_scans : int
        Scans in the run.
    """

    def __init__(self, n_scans: int) -> None:
        from rich.progress import BarColumn, TextColumn, TimeElapsedColumn

        super().__init__(TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
        self.n_scans, self.n_done = n_scans, 0
        self._task = self._bar.add_task("reading", total=float(n_scans))

    def show(self, stage: str, share: float) -> None:
        """Show the stage of the scan at hand and the share of it that is done, 0 to 1."""
        text = f"scan {self.n_done + 1} of {self.n_scans}: {stage}"
        self._bar.update(self._task, completed=self.n_done + share, description=text)

    def finish(self, line: str) -> None:
        """Count a scan as done and print its line."""
        self.n_done += 1
        self._bar.stop()
        print(line, flush=True)
        if self.n_done < self.n_scans:
            self._bar.update(self._task, completed=float(self.n_done), description="reading")
            self._bar.start()
