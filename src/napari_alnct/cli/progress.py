"""The progress of a batch on the terminal: a bar, and one line per failed item, on stderr."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from napari_alnct.batch.runner import BatchProgress


class BatchBar:
    """A bar that follows `napari_alnct.batch.runner.run_batch`; quiet where there is no terminal.

    Parameters
    ----------
    title : str
        Word in front of the bar.
    """

    def __init__(self, title: str) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._console = Console(stderr=True, highlight=False, soft_wrap=True)
        self._bar = Progress(*columns, console=self._console, disable=not self._console.is_terminal)
        self._task = self._bar.add_task(title, total=None)

    def __enter__(self) -> Self:
        """Show the bar."""
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the last state on the screen."""
        self._bar.stop()

    def start(self, n_total: int) -> None:
        """Say how many items there are."""
        self._bar.update(self._task, total=n_total)

    def update(self, progress: BatchProgress) -> None:
        """Move the bar, and name the item when it failed."""
        self._bar.update(self._task, completed=progress.n_done + progress.n_failed)
        if progress.message:
            self._console.print(f"failed: {progress.message}", markup=False)
