"""LUNA16's ``candidates_V2.csv``: places that look like nodules, and whether they are.

The table has 754,975 rows for 888 scans; it is read row by row and only what was asked
for is kept, 24 bytes a row.
"""

from __future__ import annotations

import csv
import gzip
from array import array
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO, cast

import numpy as np
from numpy.typing import NDArray

from napari_alnct.core.errors import TableError
from napari_alnct.io.csv_files import Row, unguarded
from napari_alnct.io.tables import POSITION, SERIES

CLASS = "class"
COLUMNS = (SERIES, *POSITION, CLASS)


def read_false_candidates(path: Path, series: Collection[str]) -> dict[str, NDArray[np.float64]]:
    """Give the candidates that are no nodules (class 0), of these scans.

    Parameters
    ----------
    path : Path
        ``.csv`` or ``.csv.gz`` with seriesuid, coordX, coordY, coordZ, class in any order.
    series : collection of str
        Scans to keep; rows of others are passed over.

    Returns
    -------
    dict of str to ndarray of float64, shape (N, 3)
        World positions (x, y, z), LPS mm, in the order of the file; scans without any are not among the keys.

    Raises
    ------
    TableError
        If the table cannot be read, a column is missing, a cell is broken, or no row is of these scans.
    """
    wanted = set(series)
    kept: dict[str, array[float]] = {}
    n_rows = 0
    for row in _rows(Path(path), wanted):
        n_rows += 1
        label = row.number(CLASS)
        if label not in (0, 1):
            raise TableError(f"{row.file}, line {row.line}: class is {label:g}; 1 is a nodule, 0 is none")
        if label == 0:
            kept.setdefault(row.text(SERIES), array("d")).extend(row.number(column) for column in POSITION)
    if not n_rows:
        raise TableError(f"{Path(path).name} lists no candidate of the {len(wanted)} scans; check that it is theirs")
    return {uid: np.array(numbers).reshape(-1, 3) for uid, numbers in kept.items()}


def _rows(path: Path, series: set[str]) -> Iterator[Row]:
    """Give the rows of these scans, one at a time."""
    with _opened(path) as file:
        reader = csv.reader(file, strict=True)
        header = [cell.strip() for cell in next(reader, [])]
        missing = [column for column in COLUMNS if column not in header]
        if missing:
            found = ", ".join(header)[:200] or "an empty file"
            raise TableError(f"{path.name} has no column {', '.join(missing)}, found {found}; add it to the first line")
        place = header.index(SERIES)
        for cells in reader:
            if len(cells) > place and unguarded(cells[place].strip()) in series:
                if len(cells) < len(header):
                    raise TableError(
                        f"{path.name}, line {reader.line_num}: {len(cells)} cells for {len(header)} columns"
                    )
                yield Row(path.name, reader.line_num, dict(zip(header, cells, strict=False)))


@contextmanager
def _opened(path: Path) -> Iterator[TextIO]:
    """Give the text of a table; faults become sentences."""
    try:
        open_text = gzip.open if path.suffix == ".gz" else open
        with open_text(path, "rt", encoding="utf-8-sig", newline="") as file:
            yield cast(TextIO, file)
    except FileNotFoundError:
        raise TableError(f"{path.name} does not exist; check the path") from None
    except (OSError, EOFError, UnicodeError, csv.Error) as error:
        raise TableError(f"{path.name} cannot be read as a CSV table ({error}); save it as UTF-8 CSV") from error
