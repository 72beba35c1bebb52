"""One process at a time in a folder; the lock ends with the process, also when it is killed."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from napari_alnct.core.errors import SettingsError


@contextmanager
def locked_folder(folder: Path, name: str = ".lock") -> Iterator[None]:
    """Hold a folder for this process while the block runs.

    Parameters
    ----------
    folder : Path
        A folder that can be written.
    name : str
        Lock file in it; it stays, empty, because removing it would let two processes in.

    Yields
    ------
    None

    Raises
    ------
    SettingsError
        If another process holds it.
    """
    descriptor = os.open(folder / name, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        try:
            _lock(descriptor)
        except BlockingIOError as error:
            raise SettingsError(f"another process is writing to {folder.name}; wait until it has ended") from error
        yield
    finally:
        os.close(descriptor)


if sys.platform == "win32":

    def _lock(descriptor: int) -> None:
        import msvcrt

        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError as error:
            raise BlockingIOError from error

else:

    def _lock(descriptor: int) -> None:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
