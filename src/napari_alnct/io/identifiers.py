"""Hashes that stand for series and files wherever their names must not appear."""

from __future__ import annotations

import hashlib
import re

DICOM_UID = re.compile(r"\b[0-2](?:\.\d+){3,}")


def short_hash(text: str) -> str:
    """Give 16 hexadecimal digits that stand for an identifier or a file name.

    Parameters
    ----------
    text : str
        Any text, also a file name that is not Unicode.

    Returns
    -------
    str
        Beginning of the SHA-256.

    Examples
    --------
    >>> short_hash("1.2.840.1")
    'f9a13599155b7052'
    """
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:16]


def without_uids(text: str) -> str:
    """Give a sentence in which hashes stand for DICOM identifiers.

    Parameters
    ----------
    text : str
        A sentence for people, such as that on the series of a folder.

    Returns
    -------
    str

    Examples
    --------
    >>> without_uids("This is 1.2.840.1, 2.5 mm apart.")
    'This is f9a13599155b7052, 2.5 mm apart.'
    """
    return DICOM_UID.sub(lambda match: short_hash(match[0]), text)
