"""The steps that the folds of a cross-validation share: prepared scans, unpacked once for training."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from napari_alnct.batch.crossval_guard import refuse_copies
from napari_alnct.batch.crossval_task import CrossvalTask, CrossvalWatch, Log
from napari_alnct.batch.preparation import MANIFEST, prepare_dataset
from napari_alnct.batch.work_lock import WorkLock
from napari_alnct.io.prepared import PreparedDataset
from napari_alnct.training.detector_build import build_detector_from_prepared, shared_window
from napari_alnct.training.materials import build_prepare_settings
from napari_alnct.training.prepared_cases import store_cases
from napari_alnct.training.settings import BuildSettings


def prepare_scans(task: CrossvalTask, watch: CrossvalWatch) -> dict[str, str | None]:
    """Prepare all scans that are not prepared, one process at a time.

    Parameters
    ----------
    task : CrossvalTask
        What is asked for.
    watch : CrossvalWatch
        Told what happens.

    Returns
    -------
    dict of str to (str or None)
        Series as the tables name it to the scan's own series; None for scans that could not be prepared.

    Raises
    ------
    TableError
        If one scan lies in two folds under two names.
    """
    lock = WorkLock(task.work_dir / "prepared.lock")
    lock.wait(lambda owner: watch.say(f"waiting: the scans are being prepared by {owner}"))
    try:
        prepare_dataset(
            task.dataset,
            task.prepared_root,
            build_prepare_settings(task.build),
            task.options,
            has_own_lungs=task.has_own_lungs,
            n_jobs=task.n_jobs,
            on_start=watch.on_start,
            on_progress=watch.on_prepared,
        )
    finally:
        lock.release()
    refuse_copies(PreparedDataset.open(task.prepared_root))
    return own_series(task)


def own_series(task: CrossvalTask) -> dict[str, str | None]:
    """Give the scans' own series from the manifest of the prepared scans.

    Parameters
    ----------
    task : CrossvalTask
        What is asked for.

    Returns
    -------
    dict of str to (str or None)
        As `prepare_scans`.
    """
    items = json.loads((task.prepared_root / MANIFEST).read_text(encoding="utf-8"))["items"]
    found: dict[str, str | None] = {}
    for scan in task.dataset.scans:
        item = items.get(scan.series_uid, {})
        found[scan.series_uid] = str(item["result"]["series_uid"]) if item.get("state") == "done" else None
    return found


class PreparedTrainer:
    """Trains the detector with its second look; the scans are unpacked once for all folds.

    Parameters
    ----------
    cases : Path
        Folder for unpacked scans, shared by all folds; one process at a time unpacks.
    patients : mapping of str to str, optional
        Series to patient.
    """

    def __init__(self, cases: Path, patients: Mapping[str, str] | None = None) -> None:
        self.cases, self.patients = cases, patients

    def __call__(
        self,
        prepared_root: Path,
        train_series: Sequence[str],
        val_series: Sequence[str],
        settings: BuildSettings,
        folder: Path,
        log: Log,
        device: str,
    ) -> Path:
        """Give the model of one fold, as `build_detector_from_prepared` does."""
        self._unpack(prepared_root, [*train_series, *val_series], settings, log)
        patients = self.patients
        return build_detector_from_prepared(
            prepared_root, train_series, val_series, settings, folder, log, device, cases=self.cases, patients=patients
        )

    def _unpack(self, prepared_root: Path, series: Sequence[str], settings: BuildSettings, log: Log) -> None:
        """Store the cases under a lock: two processes must not write one case while a third maps it."""
        dataset = PreparedDataset.open(prepared_root)
        ceiling_hu = shared_window(settings, dataset.prepare).high_hu
        lock = WorkLock(self.cases.with_name(f"{self.cases.name}.lock"))
        lock.wait(lambda owner: log(f"waiting: the scans are being unpacked by {owner}"))
        try:
            n_jobs = settings.first_stage.workers
            store_cases(dataset, sorted(series), self.cases, ceiling_hu=ceiling_hu, n_jobs=n_jobs, log=log)
        finally:
            lock.release()
