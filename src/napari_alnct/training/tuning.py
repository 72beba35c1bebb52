"""One trial of a search: train with its settings, tell the search each epoch, end early when it is hopeless.

A trial that cannot be trained (not enough memory, a loss that is no number) is a failed
trial, not the end of the search. A trial that was stopped keeps its resume point.
"""

from __future__ import annotations

import csv
import gc
import math
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch

from napari_alnct.core.config import Device
from napari_alnct.core.errors import ModelError
from napari_alnct.core.inference import is_out_of_memory
from napari_alnct.io.patch_store import PatchStore
from napari_alnct.training.classifier import ClassifierSettings, EpochReport, train_classifier
from napari_alnct.training.resume import CURRENT, PREVIOUS
from napari_alnct.training.run_folder import BEST, CURVES, EPOCHS
from napari_alnct.training.saving import DiskError

if TYPE_CHECKING:
    import optuna

End = Literal["complete", "pruned", "failed"]


@dataclass(frozen=True)
class TrialOutcome:
    """How a trial ended: its best validation AUC (nan when it has none), epochs done, and why it failed."""

    end: End
    auc: float
    n_epochs: int
    reason: str = ""


def run_trial(
    train: PatchStore,
    val: PatchStore,
    settings: ClassifierSettings,
    folder: Path,
    trial: optuna.Trial,
    *,
    device: Device = "auto",
    on_epoch: Callable[[EpochReport], None] | None = None,
    is_cancelled: Callable[[], bool] | None = None,
) -> TrialOutcome:
    """Train one trial, or go on with one that was stopped.

    Parameters
    ----------
    train, val : PatchStore
        Patches of different scans.
    settings : ClassifierSettings
        Of this trial.
    folder : Path
        Of this trial; a run that is in it, begun with the same settings, goes on.
    trial : optuna.Trial
        Gets the validation AUC of each epoch, and decides when to give up.
    device : {"auto", "cpu", "cuda", "mps"}
        Where to train.
    on_epoch, is_cancelled : callable, optional
        As in `train_classifier`.

    Returns
    -------
    TrialOutcome

    Raises
    ------
    JobCancelled
        If `is_cancelled` said so; a resume point was saved.
    SettingsError, TableError
        If the patches cannot be used: no trial could be trained.
    DiskError
        If the disk does not take a file: no fault of the trial.
    """
    import optuna

    watch = _Watch(trial, on_epoch)
    watch.catch_up(folder / EPOCHS)
    try:
        result = train_classifier(
            train, val, settings, folder, device=device, resume=True, on_epoch=watch.hear, is_cancelled=is_cancelled
        )
    except optuna.TrialPruned:
        return TrialOutcome("pruned", watch.best_auc, watch.n_epochs)
    except DiskError:
        raise
    except (ModelError, MemoryError, RuntimeError) as fault:
        return TrialOutcome("failed", watch.best_auc, watch.n_epochs, _reason(fault))
    finally:
        _free_memory()
    return TrialOutcome("complete", result.best_auc, result.n_epochs)


def remove_weights(folder: Path, *, keep_best: bool) -> None:
    """Remove what a finished trial no longer needs: resume points, curves, and its model unless it is the best.

    Parameters
    ----------
    folder : Path
        Of the trial; the log and the settings stay.
    keep_best : bool
        Leave ``best.safetensors``.
    """
    for name in (CURRENT, PREVIOUS, *(() if keep_best else (BEST,))):
        (folder / name).unlink(missing_ok=True)
    shutil.rmtree(folder / CURVES, ignore_errors=True)


class _Watch:
    """Tells the search of each epoch."""

    def __init__(self, trial: optuna.Trial, on_epoch: Callable[[EpochReport], None] | None) -> None:
        self.trial, self.on_epoch = trial, on_epoch
        self.best_auc, self.n_epochs = math.nan, 0
        self._told: set[int] = set()

    def catch_up(self, log: Path) -> None:
        """Tell of the epochs that the trial did before it was stopped."""
        if not log.is_file():
            return
        with log.open(newline="", encoding="utf-8", errors="replace") as file:
            rows = [row for row in csv.DictReader(file) if None not in row.values() and row.get("overflows")]
        for row in rows:
            self._note(int(row["epoch"]), float(row["val_auc"]))

    def hear(self, report: EpochReport) -> None:
        """Tell of an epoch, and give up when the search says so."""
        import optuna

        if not math.isfinite(report.val_auc):
            raise ModelError(f"epoch {report.epoch}: the validation AUC is no number; choose a lower learning rate")
        self._note(report.epoch, report.val_auc)
        if self.on_epoch:
            self.on_epoch(report)
        if report.epoch < report.n_epochs and self.trial.should_prune():
            raise optuna.TrialPruned

    def _note(self, epoch: int, auc: float) -> None:
        self.n_epochs = max(self.n_epochs, epoch)
        self.best_auc = auc if math.isnan(self.best_auc) else max(self.best_auc, auc)
        if epoch not in self._told:  # an epoch that was logged but not saved is done again
            self.trial.report(auc, epoch)
            self._told.add(epoch)


def _reason(fault: BaseException) -> str:
    """Give the fault in one sentence, without paths."""
    if isinstance(fault, ModelError):
        return str(fault)
    if isinstance(fault, MemoryError) or is_out_of_memory(fault):
        return "not enough memory"
    return f"unexpected {type(fault).__name__}"


def _free_memory() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
