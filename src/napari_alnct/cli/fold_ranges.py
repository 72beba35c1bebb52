"""Folds on the command line: ``0 1 2``, ``0-9``, ``0-2,5``."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated

from cyclopts import Parameter

from napari_alnct.core.errors import SettingsError

FoldRanges = Annotated[tuple[str, ...], Parameter(consume_multiple=True, negative=())]
PART = re.compile(r"(\d{1,3})(?:-(\d{1,3}))?")


def folds_of(ranges: Iterable[str]) -> tuple[int, ...]:
    """Give the folds that a user means, rising, each once.

    Parameters
    ----------
    ranges : iterable of str
        Numbers and ranges; several may be joined by commas.

    Returns
    -------
    tuple of int
        Empty when nothing was given.

    Raises
    ------
    SettingsError
        If a part is neither a number nor a range.

    Examples
    --------
    >>> folds_of(["0-2,5", "4"])
    (0, 1, 2, 4, 5)
    """
    folds: set[int] = set()
    for part in (part.strip() for text in ranges for part in text.split(",")):
        match = PART.fullmatch(part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if first > last:
            raise SettingsError(f"'{part}' names no folds; write numbers and ranges such as 0-2,5")
        folds.update(range(first, last + 1))
    return tuple(sorted(folds))
