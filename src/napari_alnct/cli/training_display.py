"""What a training run shows: a line per epoch, and on a terminal a live line with the step at hand."""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING

from napari_alnct.cli.live_bar import LiveBar

if TYPE_CHECKING:
    from napari_alnct.training.classifier import EpochReport, StepReport

RATE_STEPS = 50  # steps over which the speed is averaged


class TrainingDisplay(LiveBar):
    """Follows `napari_alnct.training.classifier.train_classifier`; without a terminal only the lines are printed.

    Parameters
    ----------
    n_epochs : int
        Of the run.
    batch : int
        Patches per step.
    is_shown : bool
        Whether this process shows anything: one of several processes does.
    """

    def __init__(self, n_epochs: int, batch: int, *, is_shown: bool = True) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn

        columns = (
            *(TextColumn("{task.description}"), BarColumn(bar_width=20), MofNCompleteColumn()),
            *(TextColumn("{task.fields[facts]}"), TextColumn("left"), TimeRemainingColumn()),
        )
        super().__init__(*columns, is_shown=is_shown)
        self.n_epochs, self.batch = n_epochs, batch
        self._times: deque[tuple[int, float]] = deque(maxlen=RATE_STEPS)
        self._auc = "AUC -"
        self._task = self._bar.add_task("starting", total=None, facts="")

    def step(self, report: StepReport) -> None:
        """Move the live line."""
        if not self.is_live:
            return
        self._times.append((report.step, time.monotonic()))
        epoch = min(self.n_epochs, (report.step - 1) * self.n_epochs // report.n_steps + 1)
        facts = f"loss {report.loss:.3f}  {self._auc}  lr {report.learning_rate:.1e}  {self.speed():.0f} patches/s"
        self._bar.update(
            self._task,
            completed=report.step,
            total=report.n_steps,
            description=f"epoch {epoch}/{self.n_epochs}, step",
            facts=facts,
        )

    def speed(self) -> float:
        """Give the patches per second over the last steps; 0 before there are two."""
        (first, begun), (last, now) = (self._times[0], self._times[-1]) if self._times else ((0, 0.0), (0, 0.0))
        return (last - first) * self.batch / (now - begun) if now > begun else 0.0

    def epoch(self, report: EpochReport) -> None:
        """Print the line of an epoch."""
        self._auc = f"AUC {report.val_auc:.4f}"
        self.line(epoch_line(report))


def epoch_line(report: EpochReport) -> str:
    """Give the line of an epoch.

    Parameters
    ----------
    report : EpochReport
        What happened.

    Returns
    -------
    str
        Epoch, losses, validation AUC, learning rate, time of the run.
    """
    best = "  best" if report.is_best else ""
    left_out = f"  {report.n_overflows} steps left out (float16 overflow)" if report.n_overflows else ""
    width = len(str(report.n_epochs))
    return (
        f"epoch {report.epoch:{width}}/{report.n_epochs}  loss {report.train_loss:.4f}  "
        f"val loss {report.val_loss:.4f}  "
        f"val AUC {report.val_auc:.4f}  lr {report.learning_rate:.2e}  {report.seconds:.0f} s{best}{left_out}"
    )
