"""One build at work: where it writes, whom it tells, and how each of its stages goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from napari_alnct.core.inference import Network, Runner, choose_precision
from napari_alnct.training.loop import Batch, StepReport, Trainer, fit
from napari_alnct.training.readings import Reading
from napari_alnct.training.run_folder import CURVES
from napari_alnct.training.training_log import TensorBoardLog

Log = Callable[[str], None]
LOG_EVERY = 20  # steps per row of the log
MOST_LINES = 100  # lines of progress per stage, about


@dataclass(frozen=True, kw_only=True)
class BuildRun:
    """A build at work.

    Parameters
    ----------
    folder : Path
        Resume points, logs and the result.
    log : callable
        Gets lines of progress.
    device : str
        Where to train: ``cpu`` or ``cuda``.
    on_step : callable, optional
        Called with the name of the stage and what is known of the step.
    is_cancelled : callable, optional
        Asked before every step, and between scans.
    """

    folder: Path
    log: Log
    device: str = "cpu"
    on_step: Callable[[str, StepReport], None] | None = None
    is_cancelled: Callable[[], bool] | None = None

    def runner(self, network: Network) -> Runner:
        """Give a network ready to run over whole scans on the device of the build.

        Parameters
        ----------
        network : DetectorNetwork or ClassifierNetwork
            Not changed.

        Returns
        -------
        Runner
        """
        place = torch.device(self.device)
        return Runner(network, place, choose_precision(place))

    def begin(self, title: str, trainer: Trainer) -> None:
        """Go on from the resume point of a stage where there is one, and say so.

        Parameters
        ----------
        title : str
            Name of the stage.
        trainer : Trainer
            Fresh.
        """
        if trainer.resume():
            self.log(f"{title}: resumed at step {trainer.step} of {trainer.settings.n_steps}")
            if trainer.resume_note:
                self.log(f"{title}: {trainer.resume_note}")

    def finish(
        self,
        title: str,
        trainer: Trainer,
        batches: Iterator[Batch],
        curves: TensorBoardLog,
        *,
        round_steps: int | None = None,
        on_round: Callable[[Reading], None] | None = None,
    ) -> None:
        """Take the steps of a stage that are left; means go to its log, to TensorBoard and to the lines of progress.

        Parameters
        ----------
        title : str
            Name of the stage.
        trainer : Trainer
            Fresh or resumed.
        batches : iterator of sequence of Tensor
            Of the steps that are left.
        curves : TensorBoardLog
            Open.
        round_steps : int, optional
            Steps per round.
        on_round : callable, optional
            Called at the end of each round.
        """
        n_steps = trainer.settings.n_steps
        if trainer.step >= n_steps or trainer.is_stopped:
            return

        def report(step: int, means: Reading) -> None:
            curves.add(step, {_curve(name): value for name, value in means.items() if name != "seconds"})
            if step % max(LOG_EVERY, n_steps // MOST_LINES // LOG_EVERY * LOG_EVERY):
                return
            parts = " ".join(f"{name} {value:.3g}" for name, value in means.items() if name != "seconds")
            self.log(f"{title} {step}/{n_steps}: {parts}")

        def tell(what: StepReport) -> None:
            if self.on_step:
                self.on_step(title, what)

        fit(
            trainer,
            batches,
            on_log=report,
            log_every=LOG_EVERY,
            round_steps=round_steps,
            on_round=on_round,
            on_step=tell,
            is_cancelled=self.is_cancelled,
        )


def curves_of(trainer: Trainer) -> TensorBoardLog:
    """Open the curves of a stage for TensorBoard, behind the step at which it stands.

    Parameters
    ----------
    trainer : Trainer
        Fresh or resumed.

    Returns
    -------
    TensorBoardLog
        To be closed.
    """
    return TensorBoardLog(trainer.folder / CURVES, from_step=trainer.step + 1 if trainer.step else 0)


def _curve(name: str) -> str:
    return {"rate": "learning rate", "gradient": "gradient norm"}.get(name, f"loss/{name}")
