"""The subcommand ``crossval``: from raw scans to a joined FROC over the folds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter, validators

from napari_alnct.cli.fold_ranges import FoldRanges, folds_of
from napari_alnct.cli.options import DEFAULT_READ_FLAGS, ReadFlags, with_flag
from napari_alnct.cli.outputs import refuse_unwritable_folder
from napari_alnct.cli.progress import BatchBar
from napari_alnct.core.config import DetectionSettings
from napari_alnct.core.errors import SettingsError
from napari_alnct.core.notice import NOTICE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_alnct.batch.crossval_task import CrossvalPlan, CrossvalTask
    from napari_alnct.batch.detection import DetectedScan
    from napari_alnct.core.errors import AlnctError

Samples = Annotated[int, Parameter(validator=validators.Number(gte=0, lte=10_000))]
Seed = Annotated[int, Parameter(validator=validators.Number(gte=0, lte=2**32 - 1))]
Jobs = Annotated[int, Parameter(validator=validators.Number(gte=1))]
PARTLY_FAILED = 4


def execute(
    *,
    raw_root: Path,
    work_dir: Path,
    folds: FoldRanges = (),
    only_fold: FoldRanges = (),
    config: Path | None = None,
    patients: Path | None = None,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    jobs: Jobs = 1,
    threads: Annotated[int, Parameter(validator=validators.Number(gte=0))] = 0,
    bootstrap: Samples = 1000,
    seed: Seed = 0,
    own_lungs: Annotated[bool, Parameter(negative="")] = False,
    dry_run: Annotated[bool, Parameter(negative="")] = False,
    reading: ReadFlags = DEFAULT_READ_FLAGS,
) -> int:
    """Cross-validate the detector: prepare, train and test fold by fold, then one joined FROC.

    For test fold k the next fold that is there is for validation, all others are for training. The
    raw scans of the test fold are searched, those without nodules too. A run that was stopped goes on
    when the same command is given again; machines that share the work folder share the folds.
    The result stands in WORK_DIR/joined: candidates.csv, folds.csv, froc.json, froc.png.

    Parameters
    ----------
    raw_root
        Data set with folds (subset0 ... subset9) and annotations; the same for all runs into one work folder.
    work_dir
        Folder for everything that is made; a whole LUNA16 needs tens of GB.
    folds
        Folds to test, such as 0-9 or 0,3; by default all that are there. Training uses all folds in any case.
    only_fold
        Of these, work on this one now; the others are left to other runs.
    config
        JSON file with the detector's recipe, as for train-detector.
    patients
        Table with the columns seriesuid and patient: refuse patients on both sides, not only scans.
    device
        Where to train and to search.
    jobs
        Scans prepared at a time.
    threads
        CPU threads of the networks; 0: all cores.
    bootstrap
        Samples over scans for the 95 % intervals; 0 for none.
    seed
        Of the bootstrap.
    own_lungs
        Find the lungs of training scans even where a mask is supplied.
    dry_run
        Show the plan, how far each fold is, and the time left where it was measured; do nothing.

    Examples
    --------
    napari-alnct-train crossval --raw-root luna16_data --work-dir runs/cv --dry-run
    napari-alnct-train crossval --raw-root luna16_data --work-dir runs/cv --device cuda --jobs 8
    napari-alnct-train crossval --raw-root luna16_data --work-dir runs/cv --only-fold 3
    """
    refuse_unwritable_folder(work_dir)
    only = folds_of(only_fold)
    task = _task(raw_root, work_dir, folds_of(folds), config, patients, reading, own_lungs=own_lungs)
    task = _with_machine(task, device, jobs, threads)

    from napari_alnct.batch.crossval_estimate import estimate
    from napari_alnct.batch.crossval_task import begin, plan_crossval
    from napari_alnct.cli.crossval_summary import print_estimate, print_plan

    plan = plan_crossval(task)
    _refuse_strange(only, plan)
    begin(task, is_dry=dry_run)
    steps = estimate(task, plan.splits)
    print_plan(task, plan, steps)
    if dry_run:
        print_estimate(steps)
        return 0
    return _run(task, only, bootstrap, seed)


def _task(
    raw_root: Path,
    work_dir: Path,
    tested: tuple[int, ...],
    config: Path | None,
    patients: Path | None,
    reading: ReadFlags,
    *,
    own_lungs: bool,
) -> CrossvalTask:
    """Read data set, recipe and patients."""
    from napari_alnct.io.luna16 import find_dataset

    dataset = find_dataset(raw_root, leave_out=work_dir)

    from napari_alnct.batch.crossval_preparation import PreparedTrainer
    from napari_alnct.batch.crossval_task import CrossvalTask
    from napari_alnct.batch.leak_guard import read_patients
    from napari_alnct.training.settings import PREPARED, read_build_settings

    known = read_patients(patients) if patients else None
    return CrossvalTask(
        dataset=dataset,
        work_dir=work_dir,
        build=read_build_settings(config, PREPARED) if config else PREPARED,
        train=PreparedTrainer(work_dir / "cases", known),
        options=reading.options(),
        tested=tested,
        patients=known,
        has_own_lungs=own_lungs,
    )


def _with_machine(task: CrossvalTask, device: Literal["auto", "cpu", "cuda"], jobs: int, threads: int) -> CrossvalTask:
    """Say where and how fast to work; none of it is part of the result's identity."""
    from dataclasses import replace

    import torch

    torch.set_num_threads(threads or torch.get_num_threads())
    return replace(task, detection=DetectionSettings(device=device), n_jobs=jobs)


def _refuse_strange(only: Sequence[int], plan: CrossvalPlan) -> None:
    tested = [split.fold for split in plan.splits]
    strange = sorted(set(only) - set(tested))
    if strange:
        raise SettingsError(
            f"--only-fold {', '.join(map(str, strange))} is not among the folds to test, which are "
            f"{', '.join(map(str, tested))}"
        )


def _run(task: CrossvalTask, only: Sequence[int], n_samples: int, seed: int) -> int:
    """Do what is left, then judge what is done."""
    from napari_alnct.batch.crossval import run_folds
    from napari_alnct.batch.crossval_preparation import prepare_scans
    from napari_alnct.batch.crossval_task import CrossvalWatch, plan_crossval

    with BatchBar("preparing") as bar:
        watch = CrossvalWatch(
            say=_say, on_start=lambda n_to_do, _: bar.start(n_to_do), on_prepared=bar.update, on_scan=_tell_scan
        )
        names = prepare_scans(task, watch)
    plan = plan_crossval(task, names)
    n_unprepared = sum(name is None for name in names.values())
    if n_unprepared:
        _say(f"{n_unprepared} scans could not be prepared: they are tested, but nothing is trained on them")
    failures = run_folds(task, plan, only, watch)
    n_failed = _judge(task, plan, failures, n_samples, seed)
    return PARTLY_FAILED if n_unprepared or n_failed or failures else 0


def _judge(task: CrossvalTask, plan: CrossvalPlan, failures: dict[int, AlnctError], n_samples: int, seed: int) -> int:
    """Judge the finished folds; give the number of test scans that could not be searched."""
    from napari_alnct.batch.crossval_report import finished_folds, judge_folds
    from napari_alnct.batch.work_lock import WorkLock
    from napari_alnct.cli.crossval_summary import print_result

    tested = finished_folds(task.fold(split.fold) for split in plan.splits)
    if not tested:
        if failures:
            raise next(iter(failures.values()))
        _say("no fold is done yet, so there is nothing to judge")
        return 0
    lock = WorkLock(task.work_dir / "joined.lock")
    lock.wait(lambda owner: _say(f"waiting: the folds are being judged by {owner}"))
    try:
        judged = judge_folds(task.work_dir, task.dataset, tested, len(plan.folds), n_samples=n_samples, seed=seed)
    finally:
        lock.release()
    print_result(judged)
    print(f"Written to {task.work_dir / 'joined'}: {', '.join(judged.files)}")
    print(NOTICE)
    return len(judged.failed)


def _say(line: str) -> None:
    print(line, flush=True)


def _tell_scan(fold: int, n_done: int, n_total: int, row: DetectedScan) -> None:
    """Print a failed scan, and now and then how far the fold is."""
    if row.error is not None:
        _say(f"fold {fold}, failed: {with_flag(row.fault[1])}")
    if n_done == n_total or n_done % 10 == 0:
        _say(f"fold {fold}: {n_done} of {n_total} scans searched")
