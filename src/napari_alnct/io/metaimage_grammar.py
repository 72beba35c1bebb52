"""Steps 1 and 2 of the reader contract: from the bytes of a header to its entries.

A MetaImage header is text of lines ``Key = value``; ``ElementDataFile`` ends
it. In an ``.mha`` the voxels follow in the same file. Nothing here knows what
a value means. The contract is ``docs/reader-contract.md``.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from napari_alnct.core.errors import ReadError
from napari_alnct.io.regular_file import open_regular, reason

MAX_HEADER_BYTES = 1 << 20
MAX_LINES = 200
MAX_LINE_CHARACTERS = 4096
BLANKS = " \t\r"
SHOWN_CHARACTERS = 60  # of a value, in a message
DATA_KEY = "ElementDataFile"
LOCAL_NAMES = ("LOCAL", "Local", "local")  # spellings that MetaIO takes

ALIASES = {
    "Position": "Offset",
    "Origin": "Offset",
    "Rotation": "TransformMatrix",
    "Orientation": "TransformMatrix",
    "ElementByteOrderMSB": "BinaryDataByteOrderMSB",
}
INTERPRETED_KEYS = frozenset(
    {
        *("ObjectType", "NDims", "DimSize", "DistanceUnits", "HeaderSize", "ElementDataFile"),
        *("BinaryData", "BinaryDataByteOrderMSB", "CompressedData", "CompressedDataSize"),
        *("TransformMatrix", "Offset", "AnatomicalOrientation", "ElementSpacing", "ElementSize"),
        *("ElementType", "ElementNumberOfChannels"),
        *("ElementToIntensityFunctionSlope", "ElementToIntensityFunctionOffset"),
    }
)
_SPELLINGS = {key.lower(): key for key in (*INTERPRETED_KEYS, *ALIASES)}
_DATA_LINE = re.compile(rb"^[ \t]*ElementDataFile[ \t]*=([^\n]*)(?:\n|\Z)", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class HeaderText:
    """The entries of a header, not yet understood.

    Parameters
    ----------
    name : str
        Base name of the header file.
    entries : dict of str to str
        Interpreted and unknown keys to values; aliases under their main name.
    n_bytes : int
        Length of the header; in an ``.mha`` the voxels begin here.
    identity : tuple of int
        Device and inode of the file, to recognise it again.
    """

    name: str
    entries: dict[str, str]
    n_bytes: int
    identity: tuple[int, int]


def read_header_text(path: Path) -> HeaderText:
    """Read the entries of a MetaImage header.

    Parameters
    ----------
    path : Path
        ``.mhd`` or ``.mha`` file; symbolic links to it are followed.

    Returns
    -------
    HeaderText

    Raises
    ------
    ReadError
        E_HEADER_SYNTAX, E_DUP_KEY, E_NOT_REGULAR, E_KEY_MISSING or E_UNSUPPORTED (``LIST``).
    """
    raw, identity = _read_start(path)
    end = _DATA_LINE.search(raw)
    value = "" if end is None else _text(end[1]).strip(BLANKS)
    head = raw if end is None or not (_is_list(value) or value in LOCAL_NAMES) else raw[: end.end()]
    _refuse_foreign(head, path.name)
    lines = _text(head).removeprefix("\ufeff").split("\n")
    _refuse_oversized(lines, path.name)
    return HeaderText(name=path.name, entries=_entries(lines, path.name), n_bytes=len(head), identity=identity)


def syntax_error(name: str, expected: str, found: str, *, key: str = "", hint: str = "") -> ReadError:
    """Give the error for a header that is not readable.

    Parameters
    ----------
    name : str
        Base name of the header.
    expected, found : str
        What the contract demands, and what was there.
    key, hint : str, optional
        Key at fault and next step.

    Returns
    -------
    ReadError
        With code E_HEADER_SYNTAX.
    """
    return ReadError("E_HEADER_SYNTAX", name, expected, found, key=key, hint=hint or "export or copy the scan again")


def shown(text: str) -> str:
    """Give untrusted text in quotes for a message: short, printable, on one line.

    Parameters
    ----------
    text : str
        Any text.

    Returns
    -------
    str

    Examples
    --------
    >>> shown("eight 8 8")
    "'eight 8 8'"
    """
    return repr(text if len(text) <= SHOWN_CHARACTERS else text[:SHOWN_CHARACTERS] + "...")


def _read_start(path: Path) -> tuple[bytes, tuple[int, int]]:
    """Give the first bytes, one more than a header may have, and the identity of the file."""
    real = Path(os.path.realpath(path))
    file, status = open_regular(real, name=path.name, missing_code="E_HEADER_SYNTAX", hint="check the path of the scan")
    with file:
        try:
            start = file.read(MAX_HEADER_BYTES + 1)
            while len(start) <= MAX_HEADER_BYTES and (more := file.read(MAX_HEADER_BYTES + 1 - len(start))):
                start += more
        except OSError as error:
            raise syntax_error(path.name, "a readable file", reason(error)) from error
    return start, (status.st_dev, status.st_ino)


def _text(raw: bytes) -> str:
    """Decode as UTF-8, else as Latin-1, which takes every byte."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def _refuse_foreign(head: bytes, name: str) -> None:
    """Refuse what is no MetaImage header at all, with the likely reason."""
    expected = "a MetaImage header"
    start = head[:1024].removeprefix(b"\xef\xbb\xbf").lstrip()
    if not head.strip():
        raise syntax_error(name, expected, "an empty file")
    if start.startswith(b"<"):
        raise syntax_error(name, expected, "text that looks like a web page", hint="download the scan again")
    if start.startswith(b"version https://git-lfs"):
        raise syntax_error(name, expected, "a Git LFS pointer", hint="fetch the file with git lfs pull")
    if b"\0" in head:
        raise syntax_error(name, expected, "binary data")
    if len(head) > MAX_HEADER_BYTES:
        raise syntax_error(name, f"a header of at most {MAX_HEADER_BYTES} bytes", "a longer one")


def _refuse_oversized(lines: list[str], name: str) -> None:
    if lines and not lines[-1]:
        lines.pop()  # the last line ended properly
    if len(lines) > MAX_LINES:
        raise syntax_error(name, f"a header of at most {MAX_LINES} lines", f"{len(lines)} lines")
    longest = max(map(len, lines), default=0)
    if longest > MAX_LINE_CHARACTERS:
        raise syntax_error(name, f"lines of at most {MAX_LINE_CHARACTERS} characters", f"one of {longest}")


def _entries(lines: list[str], name: str) -> dict[str, str]:
    """Give the entries of a header's lines; the data file must come last."""
    entries: dict[str, str] = {}
    given_as: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip(BLANKS):
            continue
        given, value = _split(line, number, name)
        key = ALIASES.get(given, given)
        if key in entries:
            found = "it twice" if given == given_as[key] else f"both {given_as[key]} and {given}"
            raise ReadError(
                "E_DUP_KEY", name, "each key once", found, key=shown(given)[1:-1], hint="remove one of the two"
            )
        if DATA_KEY in entries:
            raise syntax_error(name, f"{DATA_KEY} in the last line", f"line {number} below it")
        if key == DATA_KEY and _is_list(value):
            hint = "store the volume in one .raw, .zraw or .mha file"
            raise ReadError("E_UNSUPPORTED", name, "one data file", "a LIST of files", key=DATA_KEY, hint=hint)
        entries[key], given_as[key] = value, given
    if not INTERPRETED_KEYS & entries.keys():
        raise syntax_error(name, "a MetaImage header", "none of its keys")
    return entries


def _split(line: str, number: int, name: str) -> tuple[str, str]:
    """Give key and value of one line."""
    key, equals, value = line.partition("=")
    key = key.strip(BLANKS)
    if not equals or not key or ":" in key or not key.isprintable():  # MetaIO also ends a key at a colon
        raise syntax_error(name, "lines of the form Key = value", f"another form in line {number}")
    known = _SPELLINGS.get(key.lower(), key)
    if known != key:
        raise syntax_error(name, f"the key {known}", shown(key), hint="MetaImage keys are case-sensitive; correct it")
    return key, value.strip(BLANKS)


def _is_list(value: str) -> bool:
    """Tell whether a data file value announces a list of files."""
    return value == "LIST" or value.startswith(("LIST ", "LIST\t"))
