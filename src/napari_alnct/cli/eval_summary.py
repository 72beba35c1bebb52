"""A result on patches as tables for people."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

    from napari_alnct.evaluation.patch_report import Estimate, PatchReport

NAMES = {"ppv": "PPV", "npv": "NPV"}


def print_summary(report: PatchReport, name: str) -> None:
    """Print counts, figures with intervals, groups and notes.

    Parameters
    ----------
    report : PatchReport
        Result.
    name : str
        What to call the model.
    """
    from rich.console import Console
    from rich.markup import escape

    console = Console(highlight=False, emoji=False)
    console.print(f"[bold]{escape(name)}: AUC {_shown(report.auc)}[/bold]", soft_wrap=True)
    for line in _lines(report):
        console.print(escape(line), soft_wrap=True)
    console.print(_groups(report))
    for note in report.notes:
        console.print(f"[yellow]Note:[/yellow] {escape(note)}", soft_wrap=True)


def _lines(report: PatchReport) -> list[str]:
    patches, confusion, point = report.patches, report.confusion, report.point
    threshold = f"{point.threshold:.4f}" if math.isfinite(point.threshold) else "above all scores"
    unit = f"; the intervals draw {patches.cluster_unit}s" if report.draws is not None else ""
    return [
        f"{patches.curve.n_positive} patches with a nodule and {patches.curve.n_negative} without, of "
        f"{patches.n_scans} {'scan' if patches.n_scans == 1 else 'scans'}{unit}",
        f"average precision {_shown(report.average_precision)}",
        f"Brier score {_shown(report.brier)}, expected calibration error {report.reliability.ece:.3f}",
        f"threshold {threshold}: {point.how}{'; optimistic' if point.is_optimistic else ''}",
        f"  {confusion.true_positives} nodules called and {confusion.false_negatives} missed; "
        f"{confusion.false_positives} others called and {confusion.true_negatives} not",
        *(f"  {NAMES.get(share, share)} {_shown(estimate)}" for share, estimate in report.shares.items()),
    ]


def _groups(report: PatchReport) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(
        title="By size and by kind (n patches; shares called rightly at this threshold)",
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    table.add_column("", no_wrap=True)
    for label in ("n", "nodules", "scans", "called rightly", "AUC"):
        table.add_column(label, justify="right", no_wrap=True)
    for group in (*report.by_size, *report.by_kind):
        counts = (group.n_patches, group.n_nodules or "-", group.n_scans)
        table.add_row(group.label, *map(str, counts), _short(group.rate), _short(group.auc))
    return table


def _shown(estimate: Estimate) -> str:
    if math.isnan(estimate.value):
        return "undefined"
    ci95 = f" (95 % CI {estimate.ci95[0]:.3f} to {estimate.ci95[1]:.3f})" if estimate.ci95 else ""
    return f"{estimate.value:.3f}{ci95}"


def _short(estimate: Estimate) -> str:
    if math.isnan(estimate.value):
        return "-"
    ci95 = f" ({estimate.ci95[0]:.3f}-{estimate.ci95[1]:.3f})" if estimate.ci95 else ""
    return f"{estimate.value:.3f}{ci95}"
