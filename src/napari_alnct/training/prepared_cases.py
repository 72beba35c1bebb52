"""Training cases from a prepared data set, made once and then mapped from disk.

Each scan becomes one folder of a `CaseLibrary`, named after the hash of its series;
folders are shared by all runs, folds and settings that name the same place. What a
run may use is decided by its lists of series alone: hosts, donors and mined marks
come from the folders of the training series.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from napari_alnct.core.errors import SettingsError
from napari_alnct.io.identifiers import short_hash
from napari_alnct.io.prepared import PreparedDataset, PreparedEntry, PreparedFinding
from napari_alnct.training.build_run import Log
from napari_alnct.training.case_library import LIBRARY_VERSION, CaseLibrary, is_stored, write_case
from napari_alnct.training.cases import TrainingCase, make_case
from napari_alnct.training.nodule_cutting import cut_donors
from napari_alnct.training.workers import leave_stopping

SPACING_MM = 1.0  # that cells, donors and insertion are made for
BYTES_PER_VOXEL = 2.2  # of an unpacked scan: int16 and one bit of mask, with room for spots


@dataclass(frozen=True, kw_only=True)
class _Task:
    """All that a worker needs to store one case."""

    dataset: PreparedDataset
    entry: PreparedEntry
    folder: Path
    ceiling_hu: float
    fingerprint: str


def store_cases(
    dataset: PreparedDataset, series: Sequence[str], folder: Path, *, ceiling_hu: float, n_jobs: int, log: Log
) -> CaseLibrary:
    """Give the cases of some prepared scans, storing those that are not stored yet.

    Parameters
    ----------
    dataset : PreparedDataset
        Prepared at 1 mm.
    series : sequence of str
        Scans, in the order in which the cases are numbered.
    folder : Path
        Where case folders lie; a whole LUNA16 takes about 35 GB.
    ceiling_hu : float
        Upper end of the window that donors and hosts share.
    n_jobs : int
        Scans at a time; each takes about 1 GB while it is being stored.
    log : callable
        Told what is being done.

    Returns
    -------
    CaseLibrary

    Raises
    ------
    SettingsError
        If the scans were prepared at another spacing than 1 mm.
    TableError, ReadError
        If a series is not prepared, or a file is missing or damaged.
    """
    if dataset.prepare.spacing_mm != SPACING_MM:
        raise SettingsError(
            f"the scans are prepared at {dataset.prepare.spacing_mm:g} mm, the detector learns at {SPACING_MM:g} mm; "
            "run preprocess with --spacing-mm 1 into another folder"
        )
    chosen = dataset.select(series=series)
    chosen.require_files()
    entries = {entry.series_uid: entry for entry in chosen.scans}
    tasks = [_task(chosen, entries[uid], folder, ceiling_hu) for uid in series]
    left = [task for task in tasks if not is_stored(task.folder, task.fingerprint)]
    if left:
        size = sum(np.prod(task.entry.geometry.shape_zyx, dtype=float) for task in left) * BYTES_PER_VOXEL
        log(f"unpacking {len(left)} of {len(tasks)} scans into {folder.name}, about {size / 1e9:.2g} GB")
    _store_all(left, n_jobs, log)
    return CaseLibrary([task.folder for task in tasks])


def prepared_case(dataset: PreparedDataset, entry: PreparedEntry) -> TrainingCase:
    """Give one prepared scan as training case.

    Parameters
    ----------
    dataset : PreparedDataset
        With its annotations.
    entry : PreparedEntry
        The scan.

    Returns
    -------
    TrainingCase
        With all its nodules, also those whose centre lies outside the prepared box: they count as missed.
    """
    hu, lungs, geometry = dataset.read(entry)
    nodules, excluded = dataset.nodules_of(entry.series_uid), dataset.excluded_of(entry.series_uid)
    return make_case(
        entry.series_uid,
        hu,
        lungs,
        geometry,
        nodules_xyz_mm=np.array([n.position_xyz_mm for n in nodules], float).reshape(-1, 3),
        diameters_mm=np.array([n.diameter_mm for n in nodules], float),
        excluded_xyz_mm=np.array([n.position_xyz_mm for n in excluded], float).reshape(-1, 3),
        excluded_diameters_mm=np.array([n.diameter_mm for n in excluded], float),
    )


def _task(dataset: PreparedDataset, entry: PreparedEntry, folder: Path, ceiling_hu: float) -> _Task:
    """Give the task of one scan, with the annotations of that scan alone."""
    uid = entry.series_uid
    found, excluded = dataset.nodules_of(uid), dataset.excluded_of(uid)
    alone = PreparedDataset(dataset.labels_path, (entry,), dataset.prepare, {uid: found}, {uid: excluded})
    return _Task(
        dataset=alone,
        entry=entry,
        folder=folder / short_hash(uid),
        ceiling_hu=ceiling_hu,
        fingerprint=_fingerprint(entry, (*found, *excluded), ceiling_hu),
    )


def _fingerprint(entry: PreparedEntry, findings: Sequence[PreparedFinding], ceiling_hu: float) -> str:
    """Give a hash of all that a stored case depends on: files, grid, annotations, window of the donors."""
    stats = [path.stat() for path in (entry.volume_path, entry.lungs_path)]
    files = [(stat.st_size, stat.st_mtime_ns) for stat in stats]
    content = repr((LIBRARY_VERSION, entry.series_uid, files, entry.geometry, list(findings), ceiling_hu))
    return hashlib.sha256(content.encode()).hexdigest()


def _store_all(tasks: Sequence[_Task], n_jobs: int, log: Log) -> None:
    if n_jobs <= 1 or len(tasks) <= 1:
        for number, task in enumerate(tasks, start=1):
            log(f"scan {number} of {len(tasks)}: {_store(task)}")
        return
    n_workers = min(n_jobs, len(tasks))
    with ProcessPoolExecutor(n_workers, mp_context=get_context("spawn"), initializer=leave_stopping) as pool:
        for number, line in enumerate(pool.map(_store, tasks), start=1):
            log(f"scan {number} of {len(tasks)}: {line}")


def _store(task: _Task) -> str:
    """Store one case and say what it holds."""
    case = prepared_case(task.dataset, task.entry)
    donors = cut_donors(case, ceiling_hu=task.ceiling_hu)
    write_case(task.folder, case, donors, task.fingerprint)
    return f"{len(case.diameters_mm)} nodules, {len(donors)} cut out"
