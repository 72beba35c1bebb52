"""The tables of one fold: which scan has which part, and which scans were tested with what outcome."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from napari_alnct.batch.crossval_plan import Split
from napari_alnct.batch.detection import DetectedScan
from napari_alnct.core.errors import TableError
from napari_alnct.io.csv_files import read_table, write_table
from napari_alnct.io.tables import SERIES

SPLIT = "scans.csv"
SPLIT_COLUMNS, TESTED_COLUMNS = (SERIES, "part"), (SERIES, "status", "code")
TRAIN, VALIDATION, TEST = "train", "validation", "test"


def hold_split(folder: Path, split: Split) -> Split:
    """Write the split of a new fold; give a begun fold the scans that it was begun with.

    Parameters
    ----------
    folder : Path
        Folder of the fold; it gets ``scans.csv``.
    split : Split
        With all scans that are prepared now.

    Returns
    -------
    Split

    Raises
    ------
    TableError
        If a scan that the fold was begun with cannot be used any more.
    """
    path = folder / SPLIT
    if not path.is_file():
        parts = {TRAIN: split.train, VALIDATION: split.val, TEST: split.test}
        write_table(path, SPLIT_COLUMNS, [(uid, part) for part, series in parts.items() for uid in series])
        return split
    parts = {TRAIN: (), VALIDATION: (), TEST: ()}
    for row in read_table(path, SPLIT_COLUMNS):
        parts[row.text("part")] = (*parts.get(row.text("part"), ()), row.text(SERIES))
    for part, now in ((TRAIN, split.train), (VALIDATION, split.val)):
        lost = sorted(set(parts[part]) - set(now))
        if lost:
            raise TableError(
                f"fold {split.fold} was begun with {len(lost)} scans that cannot be used for {part} now, the first is "
                f"{lost[0]}; restore them or delete {folder.name}"
            )
    return replace(split, train=parts[TRAIN], val=parts[VALIDATION])


def write_tested(path: Path, rows: Sequence[DetectedScan], series: Mapping[Path, str]) -> None:
    """Write the list of the tested scans, also of those that could not be searched: the divisor of the FROC.

    Parameters
    ----------
    path : Path
        ``seriesuids.csv``: seriesuid, status (done or failed), code.
    rows : sequence of DetectedScan
        All test scans of the fold.
    series : mapping of Path to str
        Series of each scan, for those that could not be read.
    """
    cells = [
        (row.result.series_uid, "done", "") if row.result else (series[row.path], "failed", row.fault[0])
        for row in rows
    ]
    write_table(path, TESTED_COLUMNS, cells)


def read_tested(path: Path) -> dict[str, bool]:
    """Give the tested scans of a fold and whether each was searched.

    Parameters
    ----------
    path : Path
        Of `write_tested`.

    Returns
    -------
    dict of str to bool
        In the order of the file.

    Raises
    ------
    TableError
        If it cannot be read.
    """
    return {row.text(SERIES): row.text("status") == "done" for row in read_table(path, TESTED_COLUMNS)}
