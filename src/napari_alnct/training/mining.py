"""Hard negatives for the first stage: its own false marks on the training scans.

After a while of training the detector runs over every training scan as it is; what it
marks there and what is neither a nodule nor an excluded finding is what it still gets
wrong. Later patches are drawn around these marks too. Scans that are done are kept, so
a stopped search goes on; with the same weights it finds the same marks.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_alnct.core.config import PrepareSettings
from napari_alnct.core.errors import JobCancelled, ModelError
from napari_alnct.core.inference import Runner
from napari_alnct.io.csv_files import Cell, Number, read_table, write_table
from napari_alnct.training.cases import TrainingCase
from napari_alnct.training.crops import MinedMarks
from napari_alnct.training.marks import find_marks
from napari_alnct.training.saving import saving

MARKS, PARTS = "false_marks.csv", "parts"
COLUMNS = ("case", "z_vox", "y_vox", "x_vox", "logit")
LEAST_LOGIT = -4.0  # a mark scoring less than 2 % is no error worth learning from


def mine(
    runner: Runner,
    cases: Sequence[TrainingCase],
    prepare: PrepareSettings,
    folder: Path,
    *,
    most_per_case: int,
    is_cancelled: Callable[[], bool] | None = None,
) -> MinedMarks:
    """Give the strongest false marks of a detector on training cases, and keep them in a folder.

    Parameters
    ----------
    runner : Runner
        Of the first stage.
    cases : sequence of TrainingCase
        Training cases only.
    prepare : PrepareSettings
        Its window is the network's.
    folder : Path
        Gets ``false_marks.csv``; made when missing.
    most_per_case : int
        Marks kept per case, strongest first.
    is_cancelled : callable, optional
        Asked before every case.

    Returns
    -------
    MinedMarks

    Raises
    ------
    JobCancelled
        If it said so; cases that are done are kept.
    """
    parts = folder / PARTS
    with saving(parts):
        parts.mkdir(parents=True, exist_ok=True)
    found = []
    for number in range(len(cases)):
        path = parts / f"{number:05d}.npy"
        if not path.is_file():
            if is_cancelled and is_cancelled():
                raise JobCancelled(f"stopped in the search for false marks after {number} of {len(cases)} scans")
            _save_whole(path, _false_marks(runner, cases[number], prepare, most_per_case))
        found.append(np.load(path))
    rows: list[tuple[Cell, ...]] = [
        (number, *(int(v) for v in mark[:3]), Number.exact(mark[3]))
        for number, marks in enumerate(found)
        for mark in marks
    ]
    write_table(folder / MARKS, COLUMNS, rows)
    shutil.rmtree(parts)
    return read_mined(folder)


def read_mined(folder: Path) -> MinedMarks:
    """Give the false marks that `mine` has kept.

    Parameters
    ----------
    folder : Path
        Of one round.

    Returns
    -------
    MinedMarks

    Raises
    ------
    ModelError
        If they are not there.
    """
    if not (folder / MARKS).is_file():
        raise ModelError(f"{folder.name}/{MARKS} is gone, so the run cannot go on as it began; begin it anew")
    table = [[row.number(column) for column in COLUMNS] for row in read_table(folder / MARKS, COLUMNS)]
    values = np.array(table, float).reshape(-1, len(COLUMNS))
    return MinedMarks(values[:, 0].astype(np.intp), values[:, 1:4].astype(np.int16), values[:, 4])


def _false_marks(runner: Runner, case: TrainingCase, prepare: PrepareSettings, most: int) -> NDArray[np.float64]:
    """Give voxel and logit of the strongest false marks of one case, shape (N, 4)."""
    marks = find_marks(runner, case, prepare)
    is_error = (marks.labels == 0) & (marks.peaks.logits > LEAST_LOGIT)
    chosen = np.flatnonzero(is_error)[:most]  # peaks come strongest first
    return np.column_stack([marks.index_zyx[chosen], marks.peaks.logits[chosen]]).reshape(-1, 4)


def _save_whole(path: Path, array: NDArray[np.float64]) -> None:
    temporary = path.with_name(f"new-{path.name}")
    with saving(path):
        np.save(temporary, array)
        temporary.replace(path)
