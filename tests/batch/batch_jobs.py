"""Jobs for the tests of the runner, importable by its child processes."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

from napari_alnct.core.errors import ReadError, SettingsError


def double(task: int) -> dict[str, Any]:
    """Give twice a number and the process that did it."""
    return {"value": 2 * task, "pid": os.getpid()}


def misbehave(task: str) -> dict[str, Any]:
    """Do what the task says."""
    if task == "refuse":
        raise ReadError("E_DATA_SIZE", "a.raw", "2 bytes", "1 byte")
    if task == "setting":
        raise SettingsError("spacing is -1, allowed is 0.3 to 5")
    if task == "bug":
        return {"value": 1 / 0}
    if task == "memory":
        raise MemoryError
    if task == "disk":
        raise OSError(28, "No space left on device", "/secret/place/a.mha")
    if task == "die":
        os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))
        time.sleep(10)
    return {"value": task}


def hold_a_file(task: str) -> dict[str, Any]:
    """Make a file, work for a long time, and remove the file in any case."""
    path = Path(task)
    path.touch()
    try:
        time.sleep(60)
    finally:
        path.unlink()
    return {}
