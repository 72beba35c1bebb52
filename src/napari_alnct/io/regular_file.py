"""Open a file that an untrusted header names, and only if it is a regular file.

A FIFO would block for ever, a device would deliver endless or foreign bytes,
and a symlink could be swapped between a check and the opening. The kind of the
file is therefore looked at before opening (a tape or a socket is not touched)
and again on the open file.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO

from napari_alnct.core.errors import ReadError

OPEN_FLAGS = (
    os.O_RDONLY
    | getattr(os, "O_NOFOLLOW", 0)  # absent on Windows
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_NOCTTY", 0)
    | getattr(os, "O_BINARY", 0)  # present on Windows only
)


def open_regular(path: Path, *, name: str, missing_code: str, hint: str) -> tuple[BinaryIO, os.stat_result]:
    """Open a regular file for reading, without buffering.

    Parameters
    ----------
    path : Path
        Path without symlinks in its last part, as `os.path.realpath` gives it.
    name : str
        Base name for messages.
    missing_code : str
        Code of the error when the file is absent or cannot be read.
    hint : str
        Next step for the user when it is absent.

    Returns
    -------
    file : BinaryIO
        Unbuffered; the caller closes it.
    status : os.stat_result
        Of the open file.

    Raises
    ------
    ReadError
        `missing_code`, or E_NOT_REGULAR for a folder, FIFO, socket or device.
    """
    try:
        _refuse_irregular(os.stat(path, follow_symlinks=False), name)
        descriptor = os.open(path, OPEN_FLAGS)
    except (OSError, ValueError) as error:  # ValueError: a name that the file system cannot encode
        remedy = hint if isinstance(error, FileNotFoundError) else "check the file and its permissions"
        raise ReadError(missing_code, name, "a readable file", reason(error), hint=remedy) from error
    try:
        status = os.fstat(descriptor)
        _refuse_irregular(status, name)
        return os.fdopen(descriptor, "rb", buffering=0), status
    except BaseException:
        os.close(descriptor)
        raise


def reason(error: Exception) -> str:
    """Give the system's reason for a failure, without any path.

    Parameters
    ----------
    error : Exception
        An OSError, or a ValueError from encoding a name.

    Returns
    -------
    str

    Examples
    --------
    >>> reason(FileNotFoundError(2, "No such file or directory", "/home/me/scan.raw"))
    'no such file'
    """
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, PermissionError):
        return "no permission to read it"
    text = error.strerror if isinstance(error, OSError) and error.strerror else "a name that cannot be used here"
    return text[0].lower() + text[1:]


def _refuse_irregular(status: os.stat_result, name: str) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise ReadError(
            "E_NOT_REGULAR", name, "a regular file", _kind(status.st_mode), hint="copy the scan again as plain files"
        )


def _kind(mode: int) -> str:
    """Name the kind of a file that is not a regular one."""
    kinds = (
        (stat.S_ISDIR, "a folder"),
        (stat.S_ISFIFO, "a named pipe"),
        (stat.S_ISSOCK, "a socket"),
        (stat.S_ISLNK, "a symbolic link"),
    )
    return next((text for test, text in kinds if test(mode)), "a device")
