"""Typed access to the entries of a MetaImage header: strict patterns, exact counts.

Text that is not a number is a syntax error; a number that is not finite is an
error of its key. Every failure names the file, the key and the value found.
"""

from __future__ import annotations

import math
import re

from napari_alnct.core.errors import ReadError
from napari_alnct.io.metaimage_grammar import HeaderText, shown, syntax_error

TRUE_WORDS, FALSE_WORDS = ("true", "t", "1"), ("false", "f", "0")
_INTEGER = re.compile(r"[+-]?[0-9]+")
_FLOAT = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[+-]?(nan(\([a-z0-9_]*\))?|inf(inity)?|1\.#[a-z0-9]+)", re.IGNORECASE)


class HeaderValues:
    """The values of one header, by key.

    Parameters
    ----------
    header : HeaderText
        Entries as text.
    """

    def __init__(self, header: HeaderText) -> None:
        self.name = header.name
        self.entries = header.entries

    def has(self, key: str) -> bool:
        """Tell whether the header holds this key."""
        return key in self.entries

    def error(self, code: str, key: str, expected: str, *, hint: str = "export the scan again") -> ReadError:
        """Give the error that the value of a present key is not usable.

        Parameters
        ----------
        code, key, expected, hint : str
            As in `ReadError`; the value found is added.

        Returns
        -------
        ReadError
        """
        return ReadError(code, self.name, expected, shown(self.entries[key]), key=key, hint=hint)

    def text(self, key: str) -> str:
        """Give a required value as text.

        Parameters
        ----------
        key : str
            Name of the entry.

        Returns
        -------
        str
            Not empty.

        Raises
        ------
        ReadError
            E_KEY_MISSING if the key is absent or empty.
        """
        value = self.entries.get(key, "")
        if not value:
            found = "an empty one" if key in self.entries else "none"
            raise ReadError("E_KEY_MISSING", self.name, f"a value of {key}", found, hint="export the scan again")
        return value

    def integers(self, key: str, count: int) -> tuple[int, ...]:
        """Give a required list of whole numbers.

        Parameters
        ----------
        key : str
            Name of the entry.
        count : int
            Exact length of the list.

        Returns
        -------
        tuple of int

        Raises
        ------
        ReadError
            E_KEY_MISSING, or E_HEADER_SYNTAX for other text or another count.
        """
        words = self._words(key, count)
        if not all(map(_INTEGER.fullmatch, words)):
            raise syntax_error(self.name, "whole numbers", shown(self.entries[key]), key=key)
        return tuple(map(int, words))

    def integer(self, key: str) -> int:
        """Give one required whole number; raises as `integers`."""
        return self.integers(key, 1)[0]

    def floats(self, key: str, count: int, code: str) -> tuple[float, ...]:
        """Give a required list of finite numbers.

        Parameters
        ----------
        key : str
            Name of the entry.
        count : int
            Exact length of the list.
        code : str
            Code of the error when a number is NaN or infinite.

        Returns
        -------
        tuple of float

        Raises
        ------
        ReadError
            `code`, E_KEY_MISSING, or E_HEADER_SYNTAX for other text or another count.
        """
        words = self._words(key, count)
        if not all(_FLOAT.fullmatch(word) or _NOT_FINITE.fullmatch(word) for word in words):
            hint = "write decimals with a point" if "," in self.entries[key] else ""
            raise syntax_error(self.name, "numbers", shown(self.entries[key]), key=key, hint=hint)
        numbers = tuple(math.nan if _NOT_FINITE.fullmatch(word) else float(word) for word in words)
        if not all(map(math.isfinite, numbers)):
            raise self.error(code, key, "finite numbers")
        return numbers

    def boolean(self, key: str, *, default: bool) -> bool:
        """Give a yes-or-no value.

        Parameters
        ----------
        key : str
            Name of the entry.
        default : bool
            Value when the key is absent.

        Returns
        -------
        bool

        Raises
        ------
        ReadError
            E_KEY_MISSING if the value is empty, E_HEADER_SYNTAX for another word.
        """
        if not self.has(key):
            return default
        word = self.text(key).lower()
        if word not in (*TRUE_WORDS, *FALSE_WORDS):
            raise syntax_error(self.name, "True or False", shown(self.entries[key]), key=key)
        return word in TRUE_WORDS

    def _words(self, key: str, count: int) -> list[str]:
        words = re.split(r"[ \t]+", self.text(key))
        if len(words) != count:
            number = "number" if count == 1 else "numbers"
            raise syntax_error(self.name, f"{count} {number}", f"{len(words)} in {shown(self.entries[key])}", key=key)
        return words


def same_numbers(first: str, second: str) -> bool:
    """Tell whether two texts list the same numbers, however they are written.

    Parameters
    ----------
    first, second : str
        Header values.

    Returns
    -------
    bool
        False when one of them holds something else than numbers.

    Examples
    --------
    >>> same_numbers("0.70 1", "0.7 1.0"), same_numbers("1 1", "1 2")
    (True, False)
    """
    words, others = first.split(), second.split()
    if not all(map(_FLOAT.fullmatch, (*words, *others))):
        return False
    return [float(word) for word in words] == [float(word) for word in others]
