"""The training loop: take steps, log means, save resume points, heed a wish to stop.

The same loop trains the detector and the classifier; what differs is the loss, the
batches, and what happens at the end of a round (an epoch: validation).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from torch.utils.data import DataLoader, Dataset

from napari_alnct.core.errors import JobCancelled, ModelError
from napari_alnct.training.readings import Reading
from napari_alnct.training.schedule import TrainSettings
from napari_alnct.training.trainer import Batch, Forward, LossFunction, Trainer
from napari_alnct.training.training_log import CsvLog
from napari_alnct.training.workers import settle_worker

__all__ = [
    "Batch",
    "Forward",
    "LossFunction",
    "StepReport",
    "TrainSettings",
    "Trainer",
    "fit",
    "make_loader",
]


@dataclass(frozen=True)
class StepReport:
    """A step that was taken: ``step`` of ``n_steps``, its loss, its learning rate."""

    step: int
    n_steps: int
    loss: float
    learning_rate: float


def fit(
    trainer: Trainer,
    batches: Iterator[Batch],
    *,
    on_log: Callable[[int, Reading], None] | None = None,
    log_every: int = 20,
    round_steps: int | None = None,
    on_round: Callable[[Reading], None] | None = None,
    on_step: Callable[[StepReport], None] | None = None,
    is_cancelled: Callable[[], bool] | None = None,
) -> None:
    """Run the trainer to the end of its schedule, logging means to its log file.

    Parameters
    ----------
    trainer : Trainer
        Fresh or resumed.
    batches : iterator of sequence of Tensor
        At least as many as steps are left.
    on_log : callable, optional
        Called with (step, means) at each log line.
    log_every : int
        Steps per log line.
    round_steps : int, optional
        Steps per round.
    on_round : callable, optional
        Called at the end of each round with the means over it; it may stop the run (``trainer.is_stopped``),
        and save it.
    on_step : callable, optional
        Called after steps: after each on the CPU, now and then on other devices.
    is_cancelled : callable, optional
        Asked before every step.

    Raises
    ------
    JobCancelled
        If it said so; a resume point was saved first.
    ModelError
        If a loss is not finite, memory is short, or the disk does not take a file.
    """
    log = CsvLog(trainer.folder / trainer.log_name)
    if trainer.processes.is_first:
        log.cut_after(trainer.step)
    begun = time.monotonic() - trainer.seconds
    while trainer.step < trainer.settings.n_steps and not trainer.is_stopped:
        trainer.train_step(_next_batch(trainer, batches, is_cancelled))
        trainer.seconds = time.monotonic() - begun
        is_line, is_end = trainer.step % log_every == 0, bool(round_steps) and trainer.step % (round_steps or 1) == 0
        if is_line or is_end or trainer.readings.is_immediate:
            _report(trainer, on_step)
        if is_line:
            means = _log_line(trainer, log)
            if on_log:
                on_log(trainer.step, means)
        if is_end and on_round:
            on_round(trainer.readings.round.take())
        if trainer.step % trainer.settings.save_every == 0:
            _save_once(trainer)
    _save_once(trainer)


def _next_batch(trainer: Trainer, batches: Iterator[Batch], is_cancelled: Callable[[], bool] | None) -> Batch:
    """Give the next batch; save and stop where the user wants it, in all processes at the same step."""
    wishes = is_cancelled or (lambda: False)
    batch, fault, is_wish = None, None, wishes()
    if not is_wish:
        try:
            with trainer.memory_guarded():
                batch = next(batches)
        except RuntimeError as error:  # Ctrl-C reaches the processes that prepare patches, too
            fault, is_wish = error, wishes()
            if not is_wish:
                raise _spoken(error) from error
    (n_wishes,) = trainer.processes.sum_numbers(float(is_wish))
    if n_wishes or batch is None:
        _save_once(trainer)
        raise JobCancelled(f"stopped after step {trainer.step} of {trainer.settings.n_steps}") from fault
    return batch


def _spoken(error: RuntimeError) -> Exception:
    """Give a sentence for the end of a process that prepares patches; torch begins such messages alike."""
    if not str(error).startswith("DataLoader worker"):
        return error
    return ModelError(f"a process that prepares patches ended ({error}); for lack of memory use fewer workers")


def _report(trainer: Trainer, on_step: Callable[[StepReport], None] | None) -> None:
    readings = trainer.read()
    if on_step and readings:
        rate = trainer.settings.learning_rate_at(trainer.step - 1)
        on_step(StepReport(trainer.step, trainer.settings.n_steps, readings[-1]["total"], rate))


def _log_line(trainer: Trainer, log: CsvLog) -> Reading:
    rate = trainer.settings.learning_rate_at(trainer.step - 1)
    means = trainer.readings.recent.take() | {"rate": rate, "seconds": trainer.seconds}
    if trainer.processes.is_first:
        log.add({"step": trainer.step} | means)
    return means


def _save_once(trainer: Trainer) -> None:
    if trainer.saved_step != trainer.step:
        trainer.save()


def make_loader(patches: Dataset[Batch], settings: TrainSettings) -> Iterator[Batch]:
    """Give batches of a run in order.

    Parameters
    ----------
    patches : Dataset
        Patches by number.
    settings : TrainSettings
        Batch size and workers.

    Returns
    -------
    iterator of sequence of Tensor
    """
    loader = DataLoader(
        patches,
        batch_size=settings.batch,
        shuffle=False,
        num_workers=settings.workers,
        prefetch_factor=4 if settings.workers else None,
        persistent_workers=False,
        worker_init_fn=settle_worker,
    )
    return iter(loader)
