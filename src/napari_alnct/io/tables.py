"""Candidates, annotations and lists of series as CSV, with LUNA16's column names.

Series identifiers are text and never numbers; positions are world mm (LPS).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from napari_alnct.core.errors import TableError
from napari_alnct.core.findings import NO_DIAMETER_MM, Candidate, ReferenceNodule
from napari_alnct.core.geometry import Triple
from napari_alnct.io.csv_files import Cell, Number, Row, read_lines, read_table, unguarded, write_table

SERIES = "seriesuid"
POSITION = ("coordX", "coordY", "coordZ")
SCORE = "probability"
DIAMETER = "diameter_mm"
CANDIDATE_COLUMNS = (SERIES, *POSITION, SCORE, DIAMETER)
SUBMISSION_COLUMNS = (SERIES, *POSITION, SCORE)  # exactly LUNA16's
ANNOTATION_COLUMNS = (SERIES, *POSITION, DIAMETER)


def write_candidates(
    path: Path, rows: Iterable[tuple[str, Candidate]], *, columns: Sequence[str] = CANDIDATE_COLUMNS
) -> None:
    """Write candidates as a LUNA16 submission, with diameters.

    Parameters
    ----------
    path : Path
        CSV file; appears complete or not at all.
    rows : iterable of (str, Candidate)
        Series and candidate, in the order to write.
    columns : sequence of str, optional
        Some of `CANDIDATE_COLUMNS`; `SUBMISSION_COLUMNS` is LUNA16's own format.

    Raises
    ------
    TableError
        If a number is not finite.
    """
    cells = ({**_position_cells(c.position_xyz_mm), SERIES: uid, **_score_cells(c)} for uid, c in rows)
    write_table(path, columns, ([row[column] for column in columns] for row in cells))


def read_candidates(path: Path) -> list[tuple[str, Candidate]]:
    """Give the candidates of a CSV file.

    Parameters
    ----------
    path : Path
        ``.csv`` or ``.csv.gz`` with a header; columns in any order, others are ignored.

    Returns
    -------
    list of (str, Candidate)
        Series and candidate in the order of the file; diameter -1 where the table has none.

    Raises
    ------
    TableError
        If a column is missing or a cell cannot be read.
    """
    found = []
    for row in read_table(path, SUBMISSION_COLUMNS):
        diameter = row.number(DIAMETER) if row.cells.get(DIAMETER, "").strip() else NO_DIAMETER_MM
        candidate = Candidate(position_xyz_mm=_position(row), score=row.number(SCORE), diameter_mm=diameter)
        found.append((row.text(SERIES), candidate))
    return found


def write_annotations(path: Path, nodules: Iterable[ReferenceNodule]) -> None:
    """Write reference nodules or excluded findings in LUNA16's format.

    Parameters
    ----------
    path : Path
        CSV file; appears complete or not at all.
    nodules : iterable of ReferenceNodule
        In the order to write.

    Raises
    ------
    TableError
        If a number is not finite.
    """
    cells = ((n.series_uid, *map(Number.exact, n.position_xyz_mm), Number.exact(n.diameter_mm)) for n in nodules)
    write_table(path, ANNOTATION_COLUMNS, cells)


def read_annotations(path: Path) -> list[ReferenceNodule]:
    """Give the nodules of ``annotations.csv`` or ``annotations_excluded.csv``.

    Parameters
    ----------
    path : Path
        ``.csv`` or ``.csv.gz`` with a header; columns in any order, others but ``kind`` are ignored.

    Returns
    -------
    list of ReferenceNodule
        In the order of the file; diameter -1 where none was given.

    Raises
    ------
    TableError
        If a column is missing or a cell cannot be read.
    """
    return [
        ReferenceNodule(
            series_uid=row.text(SERIES),
            position_xyz_mm=_position(row),
            diameter_mm=row.number(DIAMETER),
            kind=unguarded(row.cells.get("kind", "").strip()),
        )
        for row in read_table(path, ANNOTATION_COLUMNS)
    ]


def read_series_list(path: Path) -> list[str]:
    """Give the series of ``seriesuids.csv``: one per line, with or without a header.

    Parameters
    ----------
    path : Path
        Text file; of a table the column ``seriesuid``, else the first, is taken.

    Returns
    -------
    list of str
        In the order of the file, each once.

    Raises
    ------
    TableError
        If the file lists nothing.
    """
    lines = [(number, cells) for number, cells in read_lines(path) if any(cell.strip() for cell in cells)]
    header = [cell.strip() for cell in lines[0][1]] if lines else []
    column = header.index(SERIES) if SERIES in header else 0
    rows = lines[1:] if SERIES in header else lines
    series = [unguarded(cells[column].strip()) for _, cells in rows if len(cells) > column]
    if not any(series):
        raise TableError(f"{path.name} lists no series; write one series identifier per line")
    return list(dict.fromkeys(uid for uid in series if uid))


def _position_cells(position_xyz_mm: Triple) -> dict[str, Cell]:
    return {column: Number.fixed(v, 4) for column, v in zip(POSITION, position_xyz_mm, strict=True)}


def _score_cells(candidate: Candidate) -> dict[str, Cell]:
    return {SCORE: Number.significant(candidate.score, 7), DIAMETER: Number.fixed(candidate.diameter_mm, 2)}


def _position(row: Row) -> Triple:
    return row.number(POSITION[0]), row.number(POSITION[1]), row.number(POSITION[2])
