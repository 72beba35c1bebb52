"""A cross-validation as lines and tables for people: its plan and state, its result."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_alnct.batch.crossval_estimate import StepEstimate
    from napari_alnct.batch.crossval_report import JudgedFolds
    from napari_alnct.batch.crossval_task import CrossvalPlan, CrossvalTask

MINUTE_S, HOUR_S = 60.0, 3600.0


def print_plan(task: CrossvalTask, plan: CrossvalPlan, steps: Sequence[StepEstimate]) -> None:
    """Print which folds are trained and tested on what, and how far each is.

    Parameters
    ----------
    task : CrossvalTask
        What is asked for.
    plan : CrossvalPlan
        Its splits.
    steps : sequence of StepEstimate
        What is left.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, emoji=False)
    console.print(
        f"{len(plan.splits)} of {len(plan.folds)} folds to test, {len(task.dataset.scans)} scans; "
        f"leak guard: {plan.guard} level",
        soft_wrap=True,
    )
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("test", "scans", "validate", "scans", "train on"):
        table.add_column(name, justify="right")
    table.add_column("state")
    for split in plan.splits:
        counts = (split.fold, len(split.test), split.val_fold, len(split.val), len(split.train))
        table.add_row(*map(str, counts), task.fold(split.fold).state.text)
    console.print(table)
    for step in steps:
        state = "done" if not step.n_left else "going on" if step.n_done else "to do"
        console.print(f"{step.name}: {state}, {step.n_done} of {step.n_done + step.n_left} {step.unit}")
    for note in plan.notes:
        console.print(f"Note: {note}", soft_wrap=True, markup=False)


def print_estimate(steps: Sequence[StepEstimate]) -> None:
    """Print how long the rest takes by what was measured in this folder.

    Parameters
    ----------
    steps : sequence of StepEstimate
        What is left.
    """
    for step in steps:
        if step.seconds_left is None:
            print(f"time to {step.name} {step.n_left} {step.unit}: not known, none was measured in this folder yet")
        elif step.n_left:
            each = "" if step.seconds_per_unit is None else f" ({_time(step.seconds_per_unit)} each, as measured here)"
            print(f"time to {step.name} {step.n_left} {step.unit}: about {_time(step.seconds_left)}{each}")


def print_result(judged: JudgedFolds) -> None:
    """Print the joined result and a line for each fold.

    Parameters
    ----------
    judged : JudgedFolds
        Finished folds.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from napari_alnct.cli.froc_summary import print_summary

    n_tested, n_scans = len(judged.folds), judged.report.scored.n_scans
    print_summary(judged.report, f"{n_tested} of {judged.n_folds} folds joined, {n_scans} scans")
    table = Table(
        title="Each fold alone", title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False
    )
    for name in ("fold", "scans", "failed", "nodules", "found", "CPM", "95 % from", "to"):
        table.add_column(name, justify="right")
    for record, report in judged.folds:
        counts = [record.fold, record.n_test, record.n_failed]
        if report is None:
            table.add_row(*map(str, counts), "0", "-", "-", "-", "-")
            continue
        scored, sure = report.scored, report.uncertainty
        interval = [f"{value:.3f}" for value in sure.cpm_ci95] if sure else ["-", "-"]
        counts += [len(scored.nodule_scores), scored.n_found]
        table.add_row(*map(str, counts), f"{scored.curve.cpm:.3f}", *interval)
    Console(highlight=False, emoji=False).print(table)


def _time(seconds: float) -> str:
    """Give a duration in the unit that suits it."""
    if seconds < 2 * MINUTE_S:
        return f"{seconds:.1f} s"
    return f"{seconds / MINUTE_S:.0f} min" if seconds < 2 * HOUR_S else f"{seconds / HOUR_S:.1f} h"
