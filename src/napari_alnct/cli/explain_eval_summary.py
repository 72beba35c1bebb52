"""What ``explain-eval`` shows on the terminal: a bar while it measures, then the figures of the first map."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self


class StepBar:
    """A bar over scans with the candidate at hand; on stderr, quiet where there is no terminal."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
        console = Console(stderr=True)
        self._bar = Progress(*columns, console=console, disable=not console.is_terminal, transient=True)
        self._task = self._bar.add_task("starting", total=None)

    def __enter__(self) -> Self:
        """Show the bar."""
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove the bar."""
        self._bar.stop()

    def show(self, text: str, done: int, total: int) -> None:
        """Show what is at hand and how many scans are done."""
        self._bar.update(self._task, completed=done, total=total, description=text)


def print_summary(document: Mapping[str, Any]) -> None:
    """Print the checks of the map that is shown first, one a line, then which map the figures prefer.

    Parameters
    ----------
    document : mapping
        Of `batch.explain_eval.result_document`.
    """
    from napari_alnct.batch.explain_eval_views import check_views, preferred_text, shown_row

    table, shown = document["table"], shown_row(document)
    print(
        f"{document['model']['name']}, {document['score']}: {table['n_nodules']} true positives in "
        f"{table['n_scans']} scans, {table['n_false_positives']} false positives"
    )
    print(f"{shown['name']}: {shown['n_met']} of {shown['n_with_target']} targets met")
    for check in check_views(shown):
        interval = f" ({check.ci95})" if check.ci95 else ""
        target = f"   target {check.target}: {check.verdict or 'not run'}" if check.target else ""
        print(f"  {check.id}  {check.label:<40} {check.value}{interval}{target}")
    print(preferred_text(document))
    print(document["statement"])
