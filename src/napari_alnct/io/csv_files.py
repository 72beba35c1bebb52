"""CSV files as rows of text: strict when read, whole and safe when written.

Text that a spreadsheet would run as a formula is written with a leading apostrophe,
which reading removes again (CWE-1236). Every fault is a `TableError` that names the
file, the line and what was found there.
"""

from __future__ import annotations

import csv
import gzip
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TextIO, cast

from napari_alnct.core.errors import TableError
from napari_alnct.io.atomic_file import replacing_text

FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\0")

Cell = str | int | float


@dataclass(frozen=True)
class Row:
    """One line of a table.

    Parameters
    ----------
    file : str
        Base name of the file, for messages.
    line : int
        Line number in the file, from 1.
    cells : dict of str to str
        Column name to text.
    """

    file: str
    line: int
    cells: dict[str, str]

    def text(self, column: str) -> str:
        """Give a cell as text, without surrounding blanks.

        Raises
        ------
        TableError
            If it is empty.
        """
        value = unguarded(self.cells[column].strip())
        if not value:
            raise TableError(f"{self.file}, line {self.line}: {column} is empty; fill it in or delete the line")
        return value

    def number(self, column: str) -> float:
        """Give a cell as a finite number.

        Raises
        ------
        TableError
            If it is anything else.
        """
        text = self.cells[column].strip()
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise TableError(f"{self.file}, line {self.line}: {column} is '{text[:40]}'; write a number such as 12.5")
        return value


def read_table(path: Path, required: Sequence[str]) -> list[Row]:
    """Give the rows of a CSV file with a header.

    Parameters
    ----------
    path : Path
        ``.csv`` or ``.csv.gz``, UTF-8, with commas.
    required : sequence of str
        Columns that must be there, in any order.

    Returns
    -------
    list of Row
        Blank lines are left out.

    Raises
    ------
    TableError
        If the file cannot be read, a column is missing or twice there, or a line has too few or too many cells.
    """
    lines = read_lines(path)
    header = [cell.strip() for cell in lines[0][1]] if lines else []
    missing = [column for column in required if column not in header]
    if missing:
        found = ", ".join(header)[:200] or "an empty file"
        raise TableError(f"{path.name} has no column {', '.join(missing)}, found {found}; add it to the first line")
    doubled = sorted({column for column in header if header.count(column) > 1 and column in required})
    if doubled:
        raise TableError(f"{path.name} has the column {', '.join(doubled)} twice; keep one")
    rows = []
    for number, cells in lines[1:]:
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) < len(header) or any(cell.strip() for cell in cells[len(header) :]):
            raise TableError(
                f"{path.name}, line {number}: {len(cells)} cells for {len(header)} columns; "
                "use commas between cells and points in numbers"
            )
        rows.append(Row(path.name, number, dict(zip(header, cells, strict=False))))
    return rows


def write_table(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Cell]]) -> None:
    """Write a CSV file; text cells are guarded, numbers are written as they are.

    Parameters
    ----------
    path : Path
        Target; appears complete or not at all. The folder must exist.
    columns : sequence of str
        Header.
    rows : iterable of sequence
        Cells: text, or numbers. Text that is meant as a number must be given as `Number`.

    Raises
    ------
    TableError
        If a number is not finite.
    """
    with replacing_text(Path(path)) as file:
        file.writelines(table_lines(columns, rows))


def table_lines(columns: Sequence[str], rows: Iterable[Sequence[Cell]]) -> Iterator[str]:
    """Give the lines of a CSV file; text cells are guarded, numbers are written as they are.

    Parameters
    ----------
    columns : sequence of str
        Header.
    rows : iterable of sequence
        Cells, as for `write_table`.

    Yields
    ------
    str
        With their line ends.

    Raises
    ------
    TableError
        If a number is not finite.
    """
    for row in chain((columns,), rows):
        yield ",".join(map(_cell, row)) + "\n"


class Number(str):
    """A number that is already formatted; it is written without a guard.

    Examples
    --------
    >>> Number.fixed(-600.12345, 2)
    '-600.12'
    """

    __slots__ = ()

    @classmethod
    def fixed(cls, value: float, digits: int) -> Number:
        """Give a finite number with this many digits after the point.

        Raises
        ------
        TableError
            If it is not finite.
        """
        return cls(f"{_finite(value):.{digits}f}")

    @classmethod
    def significant(cls, value: float, digits: int) -> Number:
        """Give a finite number with this many significant digits.

        Raises
        ------
        TableError
            If it is not finite.
        """
        return cls(f"{_finite(value):.{digits}g}")

    @classmethod
    def exact(cls, value: float) -> Number:
        """Give the shortest text that reads back as exactly this finite number.

        Raises
        ------
        TableError
            If it is not finite.
        """
        return cls(repr(_finite(value)).removesuffix(".0"))


def guarded(text: str) -> str:
    """Give text that no spreadsheet takes for a formula.

    Parameters
    ----------
    text : str
        Any text.

    Returns
    -------
    str
        With an apostrophe in front where needed; `unguarded` gives the text back.

    Examples
    --------
    >>> guarded("=1+1"), guarded("1.2.840"), unguarded(guarded("'=x"))
    ("'=1+1", '1.2.840', "'=x")
    """
    return f"'{text}" if text.lstrip("'").startswith(FORMULA_STARTS) else text


def unguarded(text: str) -> str:
    """Give the text that `guarded` was given.

    Parameters
    ----------
    text : str
        A cell.

    Returns
    -------
    str
    """
    return text[1:] if text.startswith("'") and text.lstrip("'").startswith(FORMULA_STARTS) else text


def read_lines(path: Path) -> list[tuple[int, list[str]]]:
    """Give line number (from 1) and cells of every line.

    Parameters
    ----------
    path : Path
        ``.csv`` or ``.csv.gz``, UTF-8, with commas.

    Returns
    -------
    list of (int, list of str)

    Raises
    ------
    TableError
        If the file cannot be read.
    """
    path = Path(path)
    try:
        with _opened(path) as file:
            reader = csv.reader(file, strict=True)
            return [(reader.line_num, cells) for cells in reader]
    except FileNotFoundError:
        raise TableError(f"{path.name} does not exist; check the path") from None
    except (OSError, EOFError, UnicodeError, csv.Error) as error:
        raise TableError(f"{path.name} cannot be read as a CSV table ({error}); save it as UTF-8 CSV") from error


def _opened(path: Path) -> TextIO:
    if path.suffix == ".gz":
        return cast(TextIO, gzip.open(path, "rt", encoding="utf-8-sig", newline=""))
    return open(path, encoding="utf-8-sig", newline="")


def _cell(value: Cell) -> str:
    """Give one cell, quoted where needed; `csv.writer` before Python 3.13 leaves a lone CR unquoted."""
    if isinstance(value, Number):
        return str(value)
    if not isinstance(value, str):
        return Number.exact(value) if isinstance(value, float) else str(value)
    text = guarded(value)
    return '"' + text.replace('"', '""') + '"' if any(mark in text for mark in ',"\r\n') else text


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise TableError(f"{value} cannot be written into a table; the result is damaged, run it again")
    return float(value)
