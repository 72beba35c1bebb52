"""Training of the patch classifier: epochs of steps, validation after each, the best one kept.

A run lives in a folder: ``best.safetensors`` (averaged weights of the best epoch by
validation AUC), ``log.csv`` (a line per epoch), ``steps.csv`` (a line per few steps),
``tensorboard/``, ``run.json`` (what it was begun with) and two resume points. Killed at
any moment it goes on to the same weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import torch

from napari_alnct.core.config import Device
from napari_alnct.io.patch_store import PatchStore
from napari_alnct.training.classifier_run import ClassifierRun, EpochReport, TrainingResult
from napari_alnct.training.classifier_settings import (
    ClassifierSettings,
    classifier_settings_from_json,
    read_classifier_settings,
)
from napari_alnct.training.distributed import joined_processes
from napari_alnct.training.loop import StepReport, fit
from napari_alnct.training.patch_split import check_split
from napari_alnct.training.trainer import Trainer

__all__ = [
    "ClassifierSettings",
    "EpochReport",
    "StepReport",
    "TrainingResult",
    "classifier_settings_from_json",
    "read_classifier_settings",
    "train_classifier",
]


def train_classifier(
    train: PatchStore,
    val: PatchStore,
    settings: ClassifierSettings,
    folder: Path,
    *,
    device: Device = "auto",
    resume: bool = False,
    overwrite: bool = False,
    shuffle_labels: bool = False,
    on_epoch: Callable[[EpochReport], None] | None = None,
    on_step: Callable[[StepReport], None] | None = None,
    on_note: Callable[[str], None] | None = None,
    is_cancelled: Callable[[], bool] | None = None,
) -> TrainingResult:
    """Train a classifier on patches, and leave the best one by validation AUC in ``folder/best.safetensors``.

    Under ``torchrun`` the processes share each batch and give the result of one; only the first writes.

    Parameters
    ----------
    train, val : PatchStore
        Patches of different scans.
    settings : ClassifierSettings
        Network, augmentation, schedule; the network's patch edge is taken from the patches.
    folder : Path
        Of the run; made when missing.
    device : {"auto", "cpu", "cuda", "mps"}
        Where to train.
    resume, overwrite : bool
        What to do with a run that is in the folder: go on with it, or remove it; neither: refuse.
    shuffle_labels : bool
        A control: training labels that say nothing; the validation AUC must stay near 0.5.
    on_epoch : callable, optional
        Called in the first process after each epoch, when all of it is saved; what it raises ends the run.
    on_step, on_note : callable, optional
        Called in the first process with steps, and with sentences worth knowing.
    is_cancelled : callable, optional
        Asked before every step.

    Returns
    -------
    TrainingResult

    Raises
    ------
    SettingsError
        If the sides share scans or patients, the folder holds another run, or a setting does not fit.
    TableError
        If patches are missing, damaged, or differ between the sides.
    ModelError
        If a loss is not finite, memory is short, the disk is full, or no resume point is whole.
    JobCancelled
        If `is_cancelled` said so; a resume point was saved.
    """
    settings = settings.for_patches(train.patch_vox)
    split = check_split(train, val, shuffle_seed=settings.seed if shuffle_labels else None)
    with ExitStack() as stack:
        processes, place = stack.enter_context(joined_processes(device))
        stack.enter_context(_fixed_shapes())
        run = ClassifierRun(split, settings, folder, processes, place)
        processes.from_first(lambda: run.open_folder(resume=resume, overwrite=overwrite))
        if run.trainer.resume() and on_note and processes.is_first:
            on_note(_resume_sentence(run.trainer))
        if processes.is_first:
            run.open_logs(stack)
        hears = on_epoch if processes.is_first else None
        fit(
            run.trainer,
            run.batches(stack),
            on_log=run.draw_steps,
            log_every=settings.log_every,
            round_steps=run.plan.steps_per_epoch,
            on_round=lambda means: run.finish_epoch(means, hears),
            on_step=on_step if processes.is_first else None,
            is_cancelled=is_cancelled,
        )
    return run.result()


def _resume_sentence(trainer: Trainer) -> str:
    place = f"going on after step {trainer.step} of {trainer.settings.n_steps}"
    return f"{trainer.resume_note}; {place}" if trainer.resume_note else place


@contextmanager
def _fixed_shapes() -> Iterator[None]:
    """Let cuDNN try its algorithms out: all batches have the same shape."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = True
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before
