"""Faults of the disk as sentences; what was on the disk before stays whole."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from napari_alnct.core.errors import ModelError


class DiskError(ModelError):
    """The disk did not take a file; nothing is wrong with the settings or the patches."""


@contextmanager
def saving(path: Path) -> Iterator[None]:
    """Turn a fault of the disk into a sentence.

    Parameters
    ----------
    path : Path
        File that the block writes.

    Yields
    ------
    None

    Raises
    ------
    DiskError
        Names the file and the fault: disk full, no permission, drive gone.
    """
    try:
        yield
    except OSError as fault:
        raise DiskError(
            f"{path.name} cannot be written ({fault.strerror or fault}); what was saved before is whole: "
            "free some space, then resume"
        ) from fault


def replace_file(path: Path, content: bytes, *, before: Callable[[], None] | None = None) -> None:
    """Write a file that appears complete or not at all, also after a loss of power.

    Parameters
    ----------
    path : Path
        Target; its folder must exist. An older file stays until the new one is on the disk.
    content : bytes
        What to write.
    before : callable, optional
        Called when the new file is on the disk and before it takes its name.

    Raises
    ------
    DiskError
        If the disk does not take it.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    with saving(path):
        try:
            with open(temporary, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            if before:
                before()
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
