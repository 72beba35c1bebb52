"""Files that appear complete or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO


@contextmanager
def replacing_text(path: Path) -> Iterator[TextIO]:
    r"""Give a new text file that takes the name `path` when the block ends well.

    Parameters
    ----------
    path : Path
        Target; its folder must exist. Until the end, and after an error, an older file of that
        name stays as it is.

    Yields
    ------
    TextIO
        UTF-8, line ends written as given (``\n`` stays ``\n``, also on Windows).

    Raises
    ------
    OSError
        If the folder cannot be written, or the disk is full.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name[-100:]}.{secrets.token_hex(6)}.tmp")
    try:
        with open(temporary, "x", encoding="utf-8", newline="") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def replace_bytes(path: Path, content: bytes) -> None:
    """Write a file that takes the name `path` when it is whole.

    Parameters
    ----------
    path : Path
        Target; its folder must exist. After an error an older file of that name stays as it is.
    content : bytes
        All of it.

    Raises
    ------
    OSError
        If the folder cannot be written, or the disk is full.
    """
    temporary = path.with_name(f".{path.name[-100:]}.{secrets.token_hex(6)}.tmp")
    try:
        temporary.write_bytes(content)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
