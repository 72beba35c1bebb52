"""What a build of a detector shows: lines of progress, and on a terminal a live line with the step at hand."""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING

from napari_alnct.cli.live_bar import LiveBar

if TYPE_CHECKING:
    from napari_alnct.training.loop import StepReport

RATE_STEPS = 50  # steps over which the speed is averaged


class BuildDisplay(LiveBar):
    """Follows `napari_alnct.training.detector_build`; without a terminal only the lines are printed."""

    def __init__(self) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn

        columns = (
            *(TextColumn("{task.description}"), BarColumn(bar_width=20), MofNCompleteColumn()),
            *(TextColumn("{task.fields[facts]}"), TextColumn("left"), TimeRemainingColumn()),
        )
        super().__init__(*columns)
        self._task = self._bar.add_task("preparing", total=None, facts="")
        self._times: deque[tuple[int, float]] = deque(maxlen=RATE_STEPS)
        self._title = ""

    def step(self, title: str, report: StepReport) -> None:
        """Move the live line.

        Parameters
        ----------
        title : str
            Name of the stage.
        report : StepReport
            The step that was taken.
        """
        if not self.is_live:
            return
        if title != self._title:
            self._title = title
            self._times.clear()
        self._times.append((report.step, time.monotonic()))
        (first, begun), (last, now) = self._times[0], self._times[-1]
        speed = (last - first) / (now - begun) if now > begun else 0.0
        self._bar.update(
            self._task,
            completed=report.step,
            total=report.n_steps,
            description=title,
            facts=f"loss {report.loss:.3f}  lr {report.learning_rate:.1e}  {speed:.1f} steps/s",
        )
