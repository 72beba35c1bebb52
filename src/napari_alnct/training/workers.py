"""How a process that prepares patches behaves beside the one that trains."""

from __future__ import annotations

import os
import signal

import torch


def settle_worker(_number: int = 0) -> None:
    """Keep this process to one thread, and leave stopping to the process that trains.

    Parameters
    ----------
    _number : int
        Number of the worker, as a loader gives it.

    Notes
    -----
    A terminal or a scheduler sends its signals to all processes of a run. A worker that ended by
    itself would break the save that the trainer makes before it leaves; torch ends the workers
    when the loader goes, and they notice when the trainer is gone.
    """
    torch.set_num_threads(1)
    os.environ["ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"] = "1"  # ITK below torchio
    leave_stopping()


def leave_stopping() -> None:
    """Ignore Ctrl-C and SIGTERM in this process: its parent decides when it ends."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
