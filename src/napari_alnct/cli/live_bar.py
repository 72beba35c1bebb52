"""The one live line of a long command: a rich bar on stderr, quiet where there is no terminal."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from rich.progress import ProgressColumn


class LiveBar:
    """A bar between start and stop; the displays of the commands are its children.

    Parameters
    ----------
    *columns : rich.progress.ProgressColumn
        What the line consists of.
    is_transient : bool
        Whether the line is gone at the end, or its last state stays.
    is_shown : bool
        Whether this process shows anything: one of several processes does.
    """

    def __init__(self, *columns: ProgressColumn, is_transient: bool = True, is_shown: bool = True) -> None:
        from rich.console import Console
        from rich.progress import Progress

        self.is_shown = is_shown
        self._console = Console(stderr=True, highlight=False, soft_wrap=True)
        is_off = not (is_shown and self._console.is_terminal)
        self._bar: Any = Progress(*columns, console=self._console, disable=is_off, transient=is_transient)

    @property
    def is_live(self) -> bool:
        """Tell whether there is a terminal to show the bar on."""
        return not self._bar.disable

    def __enter__(self) -> Self:
        """Show the bar."""
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take the bar off the screen, or leave its last state there."""
        self._bar.stop()

    def line(self, text: str) -> None:
        """Print a line on stdout, above the bar.

        Parameters
        ----------
        text : str
            What happened.
        """
        if not self.is_shown:
            return
        if self.is_live:
            self._bar.stop()
        print(text, flush=True)
        if self.is_live:
            self._bar.start()
