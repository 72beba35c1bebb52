"""The findings of a reading as tables: ours with all that is known, and LUNA16's five columns.

One row is one mark. Positions are world LPS mm and carry all their digits, so that what is
read back is what was written. Text that a spreadsheet would run is guarded.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from napari_alnct import __version__
from napari_alnct.core.findings import NO_DIAMETER_MM, Candidate
from napari_alnct.core.geometry import Geometry
from napari_alnct.core.notice import NOTICE
from napari_alnct.core.review import Review
from napari_alnct.core.review_actions import Mark
from napari_alnct.core.review_summary import told_marks
from napari_alnct.io.csv_files import Cell, Number, Row, read_table, table_lines, unguarded
from napari_alnct.io.review_record import Reading, ScanFacts
from napari_alnct.io.tables import DIAMETER, POSITION, SCORE, SERIES, SUBMISSION_COLUMNS

OWN_SCORE = 1.0  # LUNA16's column has no empty cells; `source` says that it is the reader's
FINDING_COLUMNS = (
    *(SERIES, *POSITION, SCORE, DIAMETER),
    *("mark", "source", "status", "is_shown", "reason", "note", "linked_to", "slice_from_0"),
    *("reader", "mode", "threshold", "model", "model_sha256", "voxel_sha256", "software", "notice"),
)


@dataclass(frozen=True, kw_only=True)
class FindingRow:
    """One row of the table of findings: a mark, and where it comes from."""

    series: str
    mark: Mark
    is_shown: bool
    reader: str
    mode: str
    threshold: float
    model_name: str
    model_sha256: str
    voxel_sha256: str
    software: str


def exported_marks(review: Review, *, with_all: bool) -> tuple[Mark, ...]:
    """Give the marks that go into tables.

    Parameters
    ----------
    review : Review
        Any review.
    with_all : bool
        Rejected and undecided ones too, also those below the threshold; never hidden ones.

    Returns
    -------
    tuple of Mark
    """
    return told_marks(review) if with_all else review.findings


def finding_rows(reading: Reading, *, with_all: bool = False) -> list[FindingRow]:
    """Give the rows of the table of findings.

    Parameters
    ----------
    reading, with_all
        As for `findings_text`.

    Returns
    -------
    list of FindingRow
        One for each mark, in the order of the list.
    """
    review = reading.review
    return [
        FindingRow(
            series=reading.scan.series,
            mark=mark,
            is_shown=review.is_shown(mark),
            reader=reading.reader,
            mode=review.mode,
            threshold=review.threshold,
            model_name=review.model_name,
            model_sha256=review.model_sha256,
            voxel_sha256=reading.scan.voxel_sha256,
            software=__version__,
        )
        for mark in exported_marks(review, with_all=with_all)
    ]


def findings_text(reading: Reading, *, with_all: bool = False) -> str:
    """Give the findings as CSV: LUNA16's columns, the diameter, and ours.

    Parameters
    ----------
    reading : Reading
        What was read.
    with_all : bool, optional
        All marks, not only findings.

    Returns
    -------
    str
        Text that a spreadsheet would run is guarded; the header stands alone when there is no mark.
    """
    rows = finding_rows(reading, with_all=with_all)
    return "".join(table_lines(FINDING_COLUMNS, (_cells(row, reading.scan) for row in rows)))


def read_findings(path: Path) -> list[FindingRow]:
    """Give the rows that `findings_text` wrote.

    Parameters
    ----------
    path : Path
        CSV file.

    Returns
    -------
    list of FindingRow

    Raises
    ------
    TableError
        If a column is missing or a cell cannot be read.
    """
    return [_finding_row(row) for row in read_table(path, FINDING_COLUMNS)]


def luna16_text(reading: Reading, *, with_all: bool = False) -> str:
    """Give a submission in LUNA16's format: five columns, a reader's own marks with probability 1.

    Parameters
    ----------
    reading, with_all
        As for `findings_text`.

    Returns
    -------
    str
        To be judged, the series must stand as it is (`Reading.scan.is_clear`), not as a hash.
    """
    marks = exported_marks(reading.review, with_all=with_all)
    series = reading.scan.series
    rows = ((series, *_position_cells(mark), Number.exact(_score(mark))) for mark in marks)
    return "".join(table_lines(SUBMISSION_COLUMNS, rows))


def luna16_candidates(reading: Reading, *, with_all: bool = False) -> list[tuple[str, Candidate]]:
    """Give what `io.tables.read_candidates` reads from `luna16_text`; it knows no diameters."""
    return [
        (
            reading.scan.series,
            Candidate(position_xyz_mm=mark.position_xyz_mm, score=_score(mark), diameter_mm=NO_DIAMETER_MM),
        )
        for mark in exported_marks(reading.review, with_all=with_all)
    ]


def _cells(row: FindingRow, scan: ScanFacts) -> tuple[Cell, ...]:
    mark = row.mark
    grid = Geometry(shape_zyx=scan.shape_zyx, spacing_zyx_mm=scan.spacing_zyx_mm, origin_xyz_mm=scan.origin_xyz_mm)
    return (
        *(row.series, *_position_cells(mark), _score_cell(mark), Number.exact(mark.diameter_mm)),
        *(mark.mark_id, "reader" if mark.is_own else "detector", mark.status, int(row.is_shown)),
        *(mark.reason, mark.note, "" if mark.linked_to is None else mark.linked_to),
        round(float(grid.world_to_index(mark.position_xyz_mm)[0])),
        *(row.reader, row.mode, Number.exact(row.threshold), row.model_name),
        *(row.model_sha256, row.voxel_sha256, row.software, NOTICE),
    )


def _finding_row(row: Row) -> FindingRow:
    def text(column: str) -> str:
        return unguarded(row.cells[column])

    def number(column: str) -> float | None:
        return row.number(column) if row.cells[column].strip() else None

    linked_to = number("linked_to")
    x, y, z = (row.number(column) for column in POSITION)
    mark = Mark(
        mark_id=int(row.number("mark")),
        position_xyz_mm=(x, y, z),
        diameter_mm=row.number(DIAMETER),
        score=None if text("source") == "reader" else number(SCORE),
        status=text("status"),
        reason=text("reason"),
        note=text("note"),
        linked_to=None if linked_to is None else int(linked_to),
    )
    return FindingRow(
        series=text(SERIES),
        mark=mark,
        is_shown=row.number("is_shown") == 1,
        reader=text("reader"),
        mode=text("mode"),
        threshold=row.number("threshold"),
        model_name=text("model"),
        model_sha256=text("model_sha256"),
        voxel_sha256=text("voxel_sha256"),
        software=text("software"),
    )


def _position_cells(mark: Mark) -> list[Cell]:
    return [Number.exact(value) for value in mark.position_xyz_mm]


def _score(mark: Mark) -> float:
    return OWN_SCORE if mark.is_own else mark.score or 0.0


def _score_cell(mark: Mark) -> Cell:
    return "" if not mark.is_own and mark.score is None else Number.exact(_score(mark))
