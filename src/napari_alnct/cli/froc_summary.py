"""A FROC result as tables for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

    from napari_alnct.evaluation.froc_report import Comparison, FrocReport


def print_summary(report: FrocReport, name: str) -> None:
    """Print counts, sensitivities, sizes, comparison and notes.

    Parameters
    ----------
    report : FrocReport
        Result.
    name : str
        What to call it.
    """
    from rich.console import Console
    from rich.markup import escape

    console = Console(highlight=False, emoji=False)
    console.print(f"[bold]{escape(name)}: {_cpm(report)}[/bold]", soft_wrap=True)
    for line in _count_lines(report):
        console.print(line, soft_wrap=True)
    console.print(_rates(report))
    console.print(_sizes(report))
    if report.comparison is not None:
        console.print(escape(_compared(report.comparison)), soft_wrap=True)
    for note in report.notes:
        console.print(f"[yellow]Note:[/yellow] {escape(note)}", soft_wrap=True)


def _cpm(report: FrocReport) -> str:
    sure = report.uncertainty
    ci95 = f" (95 % CI {sure.cpm_ci95[0]:.3f} to {sure.cpm_ci95[1]:.3f})" if sure else ""
    return f"CPM {report.scored.curve.cpm:.3f}{ci95}"


def _count_lines(report: FrocReport) -> list[str]:
    from napari_alnct.evaluation.froc_report import as_json

    counts = as_json(report)
    lines = [
        "{n_nodules} nodules in {n_scans} scans: {true_positives} found, {false_negatives} missed; "
        "{false_positives} false positives",
        "{candidates} of {candidates_in_file} candidates counted (at most 100 a scan); ignored: {ignored_excluded} on "
        "excluded findings, {ignored_double} double",
    ]
    if counts["n_scans_without_marks"]:
        lines.append("scans without a mark: {n_scans_without_marks}")
    if counts["n_annotations_unlisted"] or counts["candidates_unlisted"]:
        lines.append(
            "left out, in scans that are not listed: {n_annotations_unlisted} annotations, "
            "{candidates_unlisted} candidates"
        )
    return [line.format(**counts) for line in lines]


def _table(title: str) -> Table:
    from rich import box
    from rich.table import Table

    from napari_alnct.evaluation.froc import RATE_LABELS

    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("", no_wrap=True)
    for label in RATE_LABELS:
        table.add_column(label, justify="right")
    return table


def _rates(report: FrocReport) -> Table:
    from napari_alnct.evaluation.froc import FP_RATES
    from napari_alnct.evaluation.froc_report import OFFICIAL

    table, curve, sure = _table("At false positives per scan"), report.scored.curve, report.uncertainty
    table.add_row("sensitivity", *(f"{value:.3f}" for value in curve.sensitivity_at()))
    if sure is not None:
        table.add_row("95 % from", *(f"{value:.3f}" for value in sure.lower[OFFICIAL]))
        table.add_row("95 % to", *(f"{value:.3f}" for value in sure.upper[OFFICIAL]))
    table.add_row("threshold", *(f"{curve.threshold_at(rate):.4f}" for rate in FP_RATES))
    if report.comparison is not None:
        other = report.comparison.scored.curve
        table.add_row("compared", *(f"{value:.3f}" for value in other.sensitivity_at()))
    return table


def _sizes(report: FrocReport) -> Table:
    table = _table("Sensitivity by size of the nodule")
    for group in report.groups:
        shown = [f"{value:.3f}" if group.n_nodules else "-" for value in group.sensitivity]
        table.add_row(f"{group.label} ({group.n_nodules})", *shown)
    return table


def _compared(comparison: Comparison) -> str:
    text = f"Against {comparison.name} (CPM {comparison.scored.curve.cpm:.3f}): {comparison.difference:+.3f}"
    paired = comparison.paired
    if paired is None:
        return text
    low, high = paired.ci95
    word = "differ" if low > 0 or high < 0 else "cannot be told apart on these scans"
    return f"{text}, paired 95 % CI {low:+.3f} to {high:+.3f}: the two {word}"
