"""Cross-validation, fold by fold: train on the other folds, then search the raw scans of the test fold.

Every step leaves what it has done in the work folder, so a run that was killed goes on where it
was, and several machines that share the folder work on different folds. All test scans are
searched, those without nodules too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from time import perf_counter

from napari_alnct import __version__
from napari_alnct.batch.crossval_folder import (
    MODEL,
    RECORD,
    FoldFolder,
    FoldRecord,
    TrainedModel,
    sha256_of,
    write_record,
)
from napari_alnct.batch.crossval_guard import refuse_model_leak
from napari_alnct.batch.crossval_plan import Split
from napari_alnct.batch.crossval_tables import hold_split, write_tested
from napari_alnct.batch.crossval_task import CrossvalPlan, CrossvalTask, CrossvalWatch, Log
from napari_alnct.batch.detection import DetectedScan, detect_scans, write_run
from napari_alnct.batch.detection_journal import DetectionJournal, journal_path, run_identity
from napari_alnct.core.checkpoint import read_recipe
from napari_alnct.core.detector import Detector
from napari_alnct.core.errors import AlnctError, JobCancelled, SettingsError
from napari_alnct.core.inference import choose_device

LOG = "training.log"


def run_folds(
    task: CrossvalTask, plan: CrossvalPlan, only: Sequence[int] = (), watch: CrossvalWatch | None = None
) -> dict[int, AlnctError]:
    """Train and test the folds that are not done, but for those that another process is at.

    Parameters
    ----------
    task : CrossvalTask
        What is asked for; all scans are prepared.
    plan : CrossvalPlan
        With the scans' own series.
    only : sequence of int
        Of the tested folds, work on these alone; empty: all.
    watch : CrossvalWatch, optional
        Told what happens.

    Returns
    -------
    dict of int to AlnctError
        Folds that could not be trained or whose model must not be tested, and why; the others went on.

    Raises
    ------
    JobCancelled
        If a step was cancelled.
    """
    watch = watch or CrossvalWatch()
    failures: dict[int, AlnctError] = {}
    for split in plan.splits:
        if only and split.fold not in only:
            continue
        folder = task.fold(split.fold)
        if _is_complete(folder):
            continue
        if not folder.lock.take():
            watch.say(f"fold {split.fold} is left to another process: {folder.state.text}")
            continue
        try:
            if not _is_complete(folder):
                _run_fold(task, split, plan.guard, folder, watch)
        except JobCancelled:
            raise
        except AlnctError as fault:
            failures[split.fold] = fault
            watch.say(f"fold {split.fold} failed: {fault}")
        finally:
            folder.lock.release()
    return failures


def _is_complete(folder: FoldFolder) -> bool:
    """Tell whether nothing is left to do; scans that could not be searched are tried again."""
    record = folder.record
    return record is not None and record.n_failed == 0


def _run_fold(task: CrossvalTask, split: Split, guard: str, folder: FoldFolder, watch: CrossvalWatch) -> None:
    folder.path.mkdir(exist_ok=True)
    split = hold_split(folder.path, split)
    device = str(choose_device(task.detection.device))
    model = folder.model or _train(task, split, folder, device, watch.say)
    path = folder.training / model.file
    refuse_model_leak(split, read_recipe(path).training, path.name)
    if not folder.lock.is_held:
        raise SettingsError(f"fold {split.fold} was taken over by another process; leave it to that one")
    _test(task, split, guard, folder, model, watch)


def _train(task: CrossvalTask, split: Split, folder: FoldFolder, device: str, say: Log) -> TrainedModel:
    """Train a fold's model, and enter it once it has shown that it has not seen the test fold."""
    is_whole, began = not folder.training.exists(), perf_counter()
    settings = replace(task.build, name=f"{task.build.name}-fold{split.fold}")
    say(f"fold {split.fold}: training on {len(split.train)} scans, validation on {len(split.val)}")
    with open(folder.path / LOG, "a", encoding="utf-8", buffering=1) as log_file:

        def log(text: str) -> None:
            log_file.write(f"{text}\n")
            if "\n" not in text:  # results of many lines stand in the log alone
                say(f"fold {split.fold}: {text}")

        path = task.train(task.prepared_root, split.train, split.val, settings, folder.training, log, device)
    refuse_model_leak(split, read_recipe(path).training, path.name)
    seconds = round(perf_counter() - began, 1)
    model = TrainedModel(file=path.name, sha256=sha256_of(path), seconds=seconds, is_whole=is_whole)
    write_record(folder.path / MODEL, model)
    return model


def _test(
    task: CrossvalTask, split: Split, guard: str, folder: FoldFolder, model: TrainedModel, watch: CrossvalWatch
) -> None:
    """Search the raw scans of the test fold and write its tables, the record last."""
    path, settings = folder.training / model.file, task.detection
    detector = Detector.load(path, sha256=model.sha256, device=settings.device, precision=settings.precision)
    scans = [scan for scan in task.dataset.scans if scan.subset == split.fold]
    names = {scan.path: scan.series_uid for scan in scans}
    tested = dict(zip(names, split.test, strict=True))
    identity = run_identity(model.sha256, settings, task.options)
    watch.say(f"fold {split.fold}: testing on {len(scans)} scans")
    rows: list[DetectedScan] = []
    with DetectionJournal(journal_path(folder.table), identity) as journal:
        found = detect_scans(list(names), detector, settings, task.options, names=names, journal=journal)
        for row in found:
            rows.append(row)
            watch.on_scan(split.fold, len(rows), len(scans), row)
        write_tested(folder.tested, rows, tested)
        write_run(folder.table, rows, detector, settings, keep_all=True)
        if not any(row.error for row in rows):
            journal.remove()
    write_record(folder.path / RECORD, _record(split, guard, model, folder, rows))


def _record(
    split: Split, guard: str, model: TrainedModel, folder: FoldFolder, rows: Sequence[DetectedScan]
) -> FoldRecord:
    return FoldRecord(
        fold=split.fold,
        val_fold=split.val_fold,
        n_train=len(split.train),
        n_val=len(split.val),
        n_test=len(rows),
        n_failed=sum(row.error is not None for row in rows),
        guard=guard,
        model_sha256=model.sha256,
        table_sha256=sha256_of(folder.table),
        detect_seconds=round(sum(row.read_seconds + sum(row.result.seconds.values()) for row in rows if row.result), 2),
        version=__version__,
    )
