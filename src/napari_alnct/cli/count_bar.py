"""A bar for a count that grows: on stderr, quiet where there is no terminal."""

from __future__ import annotations

from napari_alnct.cli.live_bar import LiveBar


class CountBar(LiveBar):
    """A bar that follows a number of things done; gone when it ends.

    Parameters
    ----------
    title : str
        Word in front of the bar.
    """

    def __init__(self, title: str) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        super().__init__(*columns)
        self._task = self._bar.add_task(title, total=None)

    def show(self, done: int, total: int) -> None:
        """Show how many of how many are done."""
        self._bar.update(self._task, completed=done, total=total)
