"""Ctrl-C and SIGTERM as a wish that a long run heeds between steps."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import FrameType


@contextmanager
def stop_signals() -> Iterator[Callable[[], bool]]:
    """Give the question whether the user wants to stop, while the block lasts.

    Yields
    ------
    callable
        True after the first Ctrl-C or SIGTERM; a second Ctrl-C ends at once.

    Raises
    ------
    KeyboardInterrupt
        On the second Ctrl-C.
    """
    found: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        """Note a signal; a second Ctrl-C stops at once."""
        if found and number == signal.SIGINT:
            raise KeyboardInterrupt
        found.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(found)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
