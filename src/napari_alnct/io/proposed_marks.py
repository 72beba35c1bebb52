"""Marks for a reading from a table: candidates with scores, or annotations, which count as certain."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from napari_alnct.core.errors import TableError
from napari_alnct.core.findings import Candidate
from napari_alnct.core.proposals import Source
from napari_alnct.io.csv_files import read_lines
from napari_alnct.io.tables import SCORE, read_annotations, read_candidates

CERTAIN = 1.0  # score of a mark from a table without scores


def read_proposed(path: Path, series_uid: str) -> tuple[tuple[Candidate, ...], Source]:
    """Give the marks of one series in a table.

    Parameters
    ----------
    path : Path
        CSV with LUNA16's column names; with ``probability`` it holds candidates, else annotations.
    series_uid : str
        Series of the scan.

    Returns
    -------
    tuple of (tuple of Candidate, Source)
        In the order of the file; the source has the hash of the file and shows all of them to begin with.

    Raises
    ------
    TableError
        If the table cannot be read, or no row is about this series.
    """
    path = Path(path)
    rows = _rows(path)
    found = tuple(candidate for uid, candidate in rows if uid == series_uid)
    if not found:
        n_series = len({uid for uid, _ in rows})
        raise TableError(
            f"{path.name}: no row is about this scan, its {n_series} series are others; choose the table of this scan"
        )
    return found, Source(sha256=hashlib.sha256(path.read_bytes()).hexdigest())


def _rows(path: Path) -> Sequence[tuple[str, Candidate]]:
    _, header = next(iter(read_lines(path)), (1, []))
    if SCORE in [cell.strip() for cell in header]:
        return read_candidates(path)
    return [
        (
            nodule.series_uid,
            Candidate(position_xyz_mm=nodule.position_xyz_mm, score=CERTAIN, diameter_mm=nodule.diameter_mm),
        )
        for nodule in read_annotations(path)
    ]
