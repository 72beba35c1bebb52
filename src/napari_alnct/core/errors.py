"""The errors that this package raises on purpose.

Every message is one sentence that names the thing, the value found and the
next step. Front ends show ``str(error)`` and nothing else; codes and exit
status come from the attributes. The codes are those of ``docs/reader-contract.md``.
"""

from __future__ import annotations


class AlnctError(Exception):
    """A fault that the user can understand and act on."""


class SettingsError(AlnctError):
    """A setting lies outside its allowed range."""


class GeometryError(AlnctError):
    """A grid cannot be used: not orthogonal, not axis-aligned, or empty."""


class ModelError(AlnctError):
    """A model file is missing, damaged, unknown or fails its self-test."""


class LungsNotFoundError(AlnctError):
    """A scan shows no lungs, or a lung mask does not belong to it."""


class TableError(AlnctError):
    """A CSV or JSON table lacks a column, or holds a value that cannot be read."""


class ReviewError(AlnctError):
    """An action that a reading does not allow now, or a record of a reading that cannot be used."""


class JobCancelled(AlnctError):
    """The user stopped a running job; nothing was written."""


class ReadError(AlnctError):
    """A scan that must not be used, with the reason as a code.

    Parameters
    ----------
    code : str
        ``E_...`` (refused) or ``W_NOT_HU`` (refused unless allowed).
    file : str
        Base name of the file at fault; never a full path.
    expected, found : str
        What the contract demands, and what was there.
    key : str, optional
        Header key at fault, empty when it is not about one key.
    hint : str, optional
        The next step for the user.

    Examples
    --------
    >>> str(ReadError("E_DATA_SIZE", "a.raw", "1024 bytes", "512 bytes", hint="copy the file again"))
    'a.raw: expected 1024 bytes, found 512 bytes; copy the file again [E_DATA_SIZE]'
    """

    def __init__(self, code: str, file: str, expected: str, found: str, *, key: str = "", hint: str = "") -> None:
        self.code = code
        self.file = file
        self.key = key
        self.expected = expected
        self.found = found
        self.hint = hint
        place = f"{file}, {key}" if key else file
        remedy = f"; {hint}" if hint else ""
        super().__init__(f"{place}: expected {expected}, found {found}{remedy} [{code}]")

    def __reduce__(self) -> tuple[object, ...]:
        """Let the error cross a process border unchanged."""
        return (_rebuild_read_error, (self.code, self.file, self.expected, self.found, self.key, self.hint))


def _rebuild_read_error(code: str, file: str, expected: str, found: str, key: str, hint: str) -> ReadError:
    return ReadError(code, file, expected, found, key=key, hint=hint)
