"""Prepare a data set: volumes at isotropic spacing, lung masks and annotations in voxels.

The output folder holds ``volumes/<series>.mha`` (int16 HU), ``lungs/<series>.mha``
(uint8, 1 = lung, same grid), ``labels_vox.csv`` and ``manifest.json``. Every file
appears whole or not at all; a run that was stopped goes on where it ended.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from napari_alnct.batch.labels import LABEL_COLUMNS, label_rows
from napari_alnct.batch.manifest import Manifest
from napari_alnct.batch.runner import BatchProgress, run_batch
from napari_alnct.core.config import PrepareSettings, to_json
from napari_alnct.core.lungs import LungMask, lungs_from_labels, segment_lungs
from napari_alnct.core.preprocess import prepare
from napari_alnct.io.csv_files import Cell, write_table
from napari_alnct.io.images import ReadOptions, read_mask, read_volume, scan_format
from napari_alnct.io.luna16 import Dataset, ScanEntry
from napari_alnct.io.metaimage import write_metaimage
from napari_alnct.io.scan_paths import DICOM

VOLUMES, LUNGS = "volumes", "lungs"
LABELS, MANIFEST = "labels_vox.csv", "manifest.json"


@dataclass(frozen=True, kw_only=True)
class PrepareTask:
    """All that a worker needs to prepare one scan."""

    entry: ScanEntry
    out_root: Path
    settings: PrepareSettings
    options: ReadOptions
    has_own_lungs: bool


@dataclass(frozen=True, kw_only=True)
class PreparationReport:
    """What a run of `prepare_dataset` came to.

    Parameters
    ----------
    n_prepared, n_kept, n_failed : int
        Scans prepared now, ready from an earlier run, and failed.
    failures : dict of str to str
        Series to the sentence that says why.
    n_nodules, n_excluded : int
        Rows of ``labels_vox.csv``.
    n_outside : int
        Annotated nodules that lie outside the prepared box.
    """

    n_prepared: int
    n_kept: int
    n_failed: int
    failures: dict[str, str]
    n_nodules: int
    n_excluded: int
    n_outside: int


def prepare_dataset(
    dataset: Dataset,
    out_root: Path,
    settings: PrepareSettings,
    options: ReadOptions,
    *,
    has_own_lungs: bool = False,
    n_jobs: int = 1,
    overwrite: bool = False,
    on_start: Callable[[int, int], None] | None = None,
    on_progress: Callable[[BatchProgress], None] | None = None,
    is_cancelled: Callable[[], bool] | None = None,
) -> PreparationReport:
    """Prepare all scans of a data set, several at a time.

    Parameters
    ----------
    dataset : Dataset
        Scans, masks and annotations.
    out_root : Path
        Folder to write; made when missing.
    settings : PrepareSettings
        Spacing, HU window and margin.
    options : ReadOptions
        What may be read.
    has_own_lungs : bool, optional
        Find the lungs even where a mask is supplied.
    n_jobs : int, optional
        Scans at a time; each needs about 1 GB for 512 x 512 x 300 voxels.
    overwrite : bool, optional
        Prepare again what is ready.
    on_start : callable, optional
        Called once with the number of scans to prepare and of scans that are ready.
    on_progress, is_cancelled : callable, optional
        As in `run_batch`.

    Returns
    -------
    PreparationReport

    Raises
    ------
    JobCancelled
        If `is_cancelled` said so; prepared scans are kept, ``labels_vox.csv`` is not rewritten.
    TableError
        If the output folder belongs to another kind of job.
    """
    out_root = Path(out_root)
    for folder in (VOLUMES, LUNGS):
        (out_root / folder).mkdir(parents=True, exist_ok=True)
    entries = {entry.series_uid: entry for entry in dataset.scans}
    choices = {"own_lungs": has_own_lungs, "series_uid": options.series_uid}
    manifest = Manifest(out_root / MANIFEST, "preprocess", {**to_json(settings), **choices})
    _forget_lost(out_root, manifest)
    to_do = manifest.plan({key: _fingerprint(entry) for key, entry in entries.items()}, overwrite=overwrite)
    if on_start is not None:
        on_start(len(to_do), len(entries) - len(to_do))
    tasks = {
        key: PrepareTask(
            entry=entries[key], out_root=out_root, settings=settings, options=options, has_own_lungs=has_own_lungs
        )
        for key in to_do
    }
    try:
        run_batch(prepare_scan, tasks, manifest, n_jobs=n_jobs, on_progress=on_progress, is_cancelled=is_cancelled)
    finally:
        _sweep(out_root)
    _forget_renamed(manifest, entries)
    _refuse_doubles(manifest)
    rows = list(label_rows(dataset, manifest))
    write_table(out_root / LABELS, LABEL_COLUMNS, rows)
    return _report(manifest, list(entries), to_do, rows)


def prepare_scan(task: PrepareTask) -> dict[str, Any]:
    """Prepare one scan and write its two files.

    Parameters
    ----------
    task : PrepareTask
        The scan and where to write.

    Returns
    -------
    dict
        For the manifest: series, file name, grid of the prepared scan, lungs and flags.

    Raises
    ------
    AlnctError
        If the scan or its mask cannot be used.
    """
    volume = read_volume(task.entry.path, task.options)
    has_identifier = scan_format(task.entry.path) == DICOM and volume.series_uid
    uid = volume.series_uid if has_identifier else task.entry.series_uid
    lungs = _lungs(task) or segment_lungs(volume)
    prepared = prepare(volume, task.settings, lungs)
    name = f"{file_stem(uid)}.mha"
    mask = lungs.on_grid(prepared.geometry).astype(np.uint8)
    write_metaimage(task.out_root / LUNGS / name, mask, prepared.geometry)
    write_metaimage(task.out_root / VOLUMES / name, prepared.hu, prepared.geometry)
    return {
        "series_uid": uid,
        "file": name,
        "source": task.entry.path.name,
        "subset": task.entry.subset,
        "geometry": asdict(prepared.geometry),
        "lungs_from": "own" if _uses_own(task) else "supplied mask",
        "lungs_ml": round(lungs.volume_ml, 1),
        "flags": sorted({flag.code for flag in (*volume.flags, *lungs.flags)}),
    }


def file_stem(series_uid: str) -> str:
    """Give a file name for a series that cannot leave its folder on any system.

    Parameters
    ----------
    series_uid : str
        Series identifier; it may come from an untrusted file.

    Returns
    -------
    str
        Letters, digits, dots, hyphens and underscores, not beginning with a dot.

    Examples
    --------
    >>> file_stem("1.3.6.1"), file_stem("../../etc/passwd")
    ('1.3.6.1', '_.._etc_passwd')
    """
    return re.sub(r"[^A-Za-z0-9._-]+", "_", series_uid).lstrip(".")[:90].rstrip(".") or "scan"


def _uses_own(task: PrepareTask) -> bool:
    return task.has_own_lungs or task.entry.mask_path is None


def _lungs(task: PrepareTask) -> LungMask | None:
    """Give the supplied lungs, or None to find our own."""
    if _uses_own(task) or task.entry.mask_path is None:
        return None
    return lungs_from_labels(*read_mask(task.entry.mask_path, task.options))


def _forget_lost(out_root: Path, manifest: Manifest) -> None:
    """Take back what is called done but whose files are gone."""
    for key in manifest.in_state("done"):
        name = str(manifest.items[key].result.get("file"))
        if not all((out_root / folder / name).is_file() for folder in (VOLUMES, LUNGS)):
            manifest.forget(key)


def _fingerprint(entry: ScanEntry) -> str:
    """Give size and time of the files that a prepared scan is made from."""
    paths = [entry.path, *(entry.path.with_suffix(end) for end in (".raw", ".zraw") if entry.path.suffix == ".mhd")]
    paths += [entry.mask_path] if entry.mask_path else []
    stats = [path.stat() for path in paths if path.exists()]
    return " ".join(f"{stat.st_size}:{stat.st_mtime_ns}" for stat in stats)


def _sweep(out_root: Path) -> None:
    """Remove what a killed worker had begun to write."""
    for folder in (VOLUMES, LUNGS):
        for leftover in (out_root / folder).glob(".*.mha.*.tmp"):
            leftover.unlink(missing_ok=True)


def _forget_renamed(manifest: Manifest, entries: dict[str, ScanEntry]) -> None:
    """Drop what is gone from its fold, such as a renamed folder, where a scan of this run has taken its file."""
    taken = {manifest.items[key].result["file"] for key in manifest.in_state("done", entries)}
    folds = {entry.subset for entry in entries.values()}
    for key in manifest.in_state("done"):
        result = manifest.items[key].result
        if key not in entries and result["subset"] in folds and result["file"] in taken:
            del manifest.items[key]


def _refuse_doubles(manifest: Manifest) -> None:
    """Fail scans that claim the same file, such as two folders of one series."""
    files = Counter(manifest.items[key].result["file"] for key in manifest.in_state("done"))
    for key in manifest.in_state("done"):
        item = manifest.items[key]
        if files[item.result["file"]] > 1:
            sentence = f"{item.result['source']} has the same series or name as another scan; remove or rename one"
            manifest.record_failed(key, "E_DOUBLE", sentence, item.seconds)
    manifest.save()


def _report(manifest: Manifest, keys: list[str], to_do: list[str], rows: list[tuple[Cell, ...]]) -> PreparationReport:
    failed = manifest.in_state("failed", keys)
    nodules = [row for row in rows if row[-2] == "nodule"]
    return PreparationReport(
        n_prepared=len(manifest.in_state("done", to_do)),
        n_kept=len(keys) - len(to_do),
        n_failed=len(failed),
        failures={key: manifest.items[key].message for key in failed},
        n_nodules=len(nodules),
        n_excluded=len(rows) - len(nodules),
        n_outside=sum(1 for row in nodules if not row[-1]),
    )
