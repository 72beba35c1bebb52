"""One run of the classifier's training in one process: its network, patches, files and epochs."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch

from napari_alnct import __version__
from napari_alnct.core.checkpoint import Recipe, write_checkpoint
from napari_alnct.core.config import to_json
from napari_alnct.core.network import ClassifierNetwork
from napari_alnct.training.batch_augmentation import device_batches
from napari_alnct.training.classifier_settings import NOT_OF_THE_RESULT, ClassifierSettings
from napari_alnct.training.distributed import Processes
from napari_alnct.training.losses import classifier_loss
from napari_alnct.training.patch_dataset import BatchPlan, PatchDataset, open_loader
from napari_alnct.training.patch_split import PatchSplit
from napari_alnct.training.readings import Reading
from napari_alnct.training.run_folder import BEST, CURVES, EPOCHS, STEPS, open_run_folder
from napari_alnct.training.saving import saving
from napari_alnct.training.schedule import TrainSettings
from napari_alnct.training.trainer import Batch, Trainer
from napari_alnct.training.training_log import CsvLog, TensorBoardLog
from napari_alnct.training.validation import Validation, judge_scores, score_plain_patches

NAME, CONTROL_NAME = "classifier", "classifier (control: shuffled labels)"
MOST_GPU_WORKERS, CPU_WORKERS = 8, 1
HOW = "largest Youden index on the validation patches, at the epoch that was kept"


@dataclass(frozen=True)
class EpochReport:
    """An epoch that is done and saved: numbers from 1, losses as mean cross entropy, time of the run so far."""

    epoch: int
    n_epochs: int
    train_loss: float
    val_loss: float
    val_auc: float
    learning_rate: float
    seconds: float
    is_best: bool
    n_overflows: int = 0


@dataclass(frozen=True)
class TrainingResult:
    """A run at its end: the best epoch by validation AUC (a control: the last), and its model file."""

    best_auc: float
    best_epoch: int
    last_auc: float
    n_epochs: int
    checkpoint: Path
    seconds: float
    guard: str
    is_early: bool = False


class ClassifierRun:
    """One run in one process: its network, its patches, its files.

    Parameters
    ----------
    split : PatchSplit
        Patches.
    settings : ClassifierSettings
        The recipe, made for these patches.
    folder : Path
        Of the run.
    processes : Processes
        Those that train together.
    device : torch.device
        Of this process.
    """

    curves: TensorBoardLog | None = None

    def __init__(
        self, split: PatchSplit, settings: ClassifierSettings, folder: Path, processes: Processes, device: torch.device
    ) -> None:
        self.split, self.settings, self.folder = split, settings, folder
        self.processes, self.device = processes, device
        self.plan = self._plan_from(0)
        schedule = _schedule(settings, self.plan.n_steps)
        torch.manual_seed(settings.seed)
        window = split.train.prepare
        loss = classifier_loss(window.low_hu, window.high_hu)
        network = ClassifierNetwork(settings.network)
        self.trainer = Trainer(network, schedule, loss, folder, device, processes=processes, log_name=STEPS)
        self.epochs = CsvLog(folder / EPOCHS)

    def _plan_from(self, step: int) -> BatchPlan:
        s, p = self.settings, self.processes
        return BatchPlan(
            self.split.train.labels,
            epochs=s.epochs,
            batch=s.batch,
            neg_ratio=s.neg_ratio,
            seed=s.seed,
            first_step=step,
            rank=p.rank,
            world=p.world,
        )

    def open_folder(self, *, resume: bool, overwrite: bool) -> None:
        """Refuse, go on with or begin the run in the folder (`open_run_folder`)."""
        values = {k: v for k, v in to_json(self.settings).items() if k not in NOT_OF_THE_RESULT}
        identity = values | self.split.facts()
        facts = {"format": 1, "begun": datetime.now(UTC).isoformat(timespec="seconds"), "versions": _versions()}
        open_run_folder(self.folder, identity, facts, resume=resume, overwrite=overwrite)

    def open_logs(self, stack: ExitStack) -> None:
        """Cut what the logs say beyond the resume point, and open the curves until the stack closes."""
        step = self.trainer.step
        self.epochs.cut_after(step)
        self.curves = stack.enter_context(TensorBoardLog(self.folder / CURVES, from_step=step + 1 if step else 0))

    def batches(self, stack: ExitStack) -> Iterator[Batch]:
        """Give the batches that are left, on the device; the stack ends their processes."""
        dataset = PatchDataset(self.split.train, self.settings.augment, seed=self.settings.seed)
        plan = self._plan_from(self.trainer.step)
        loader = open_loader(dataset, plan, workers=_workers(self.settings.workers, self.device), device=self.device)
        found = device_batches(loader, self.device)
        stack.callback(found.close)  # type: ignore[attr-defined]
        return found

    def draw_steps(self, step: int, means: Reading) -> None:
        """Draw the means over the last steps."""
        if self.curves:
            names = {"total": "loss/train_steps", "rate": "learning_rate", "gradient": "gradient_norm"}
            self.curves.add(step, {names[name]: value for name, value in means.items() if name in names})

    def finish_epoch(self, means: Reading, on_epoch: Callable[[EpochReport], None] | None) -> None:
        """Validate, keep the network when it is the best so far, log, save, and tell."""
        trainer, notes = self.trainer, self.trainer.notes
        network = trainer.averaged(ClassifierNetwork(self.settings.network))
        assert isinstance(network, ClassifierNetwork)
        found = self._validate(network)
        report = self._report(means, found)
        if report.is_best:
            notes["best"] = {"epoch": report.epoch, "auc": found.auc, "loss": found.loss}
            if self.processes.is_first:
                self._write_best(network, report, found)
        notes["last"] = {"epoch": report.epoch, "auc": found.auc}
        patience = self.settings.patience
        trainer.is_stopped = bool(patience) and report.epoch - notes["best"]["epoch"] >= patience
        self._log(report)
        trainer.save()
        if on_epoch:
            on_epoch(report)

    def _validate(self, network: ClassifierNetwork) -> Validation:
        val, dtype = self.split.val, self.trainer.dtype
        batch = max(1, self.settings.batch // self.processes.world)
        logits = score_plain_patches(network, val, self.device, dtype, batch=batch, processes=self.processes)
        return judge_scores(val.labels, logits)

    def _report(self, means: Reading, found: Validation) -> EpochReport:
        trainer, best = self.trainer, self.trainer.notes.get("best")
        is_best = best is None or (found.auc, -found.loss) > (best["auc"], -best["loss"])
        return EpochReport(
            epoch=trainer.step // self.plan.steps_per_epoch,
            n_epochs=self.settings.epochs,
            train_loss=means["total"],
            val_loss=found.loss,
            val_auc=found.auc,
            learning_rate=trainer.settings.learning_rate_at(trainer.step - 1),
            seconds=trainer.seconds,
            is_best=is_best or self.split.is_shuffled,  # a control keeps the last: the true labels choose nothing
            n_overflows=trainer.readings.n_overflows,
        )

    def _write_best(self, network: ClassifierNetwork, report: EpochReport, found: Validation) -> None:
        training = {
            "settings": to_json(self.settings),
            **self.split.facts(),
            "patch_threshold": {"threshold": found.threshold, "how": HOW},
            "results": {name: getattr(report, name) for name in _RESULTS},
            "n_processes": self.processes.world,
            "device": self.device.type,
            "precision": str(self.trainer.dtype).removeprefix("torch."),
            "versions": _versions(),
        }
        recipe = Recipe(
            name=CONTROL_NAME if self.split.is_shuffled else NAME,
            version=__version__,
            created=datetime.now(UTC).date().isoformat(),
            prepare=self.split.train.prepare,
            training=training,
        )
        path = self.folder / BEST
        try:
            with saving(path):
                write_checkpoint(path, recipe, None, network, half=False)
        finally:
            path.with_suffix(".tmp").unlink(missing_ok=True)  # left behind when the disk is full

    def _log(self, report: EpochReport) -> None:
        if not self.processes.is_first:
            return
        row = {"epoch": report.epoch, "step": self.trainer.step}
        row |= {name: getattr(report, name) for name in _RESULTS[1:]}
        self.epochs.add(row | {"is_best": int(report.is_best), "overflows": report.n_overflows})
        if self.curves:
            drawn = {"loss/train": report.train_loss, "loss/val": report.val_loss, "auc/val": report.val_auc}
            self.curves.add(self.trainer.step, drawn)

    def result(self) -> TrainingResult:
        """Give the run at its end."""
        best, last = self.trainer.notes["best"], self.trainer.notes["last"]
        return TrainingResult(
            best_auc=best["auc"],
            best_epoch=best["epoch"],
            last_auc=last["auc"],
            n_epochs=last["epoch"],
            checkpoint=self.folder / BEST,
            seconds=self.trainer.seconds,
            guard=self.split.guard,
            is_early=self.trainer.is_stopped,
        )


_RESULTS = ("epoch", "train_loss", "val_loss", "val_auc", "learning_rate", "seconds")


def _schedule(settings: ClassifierSettings, n_steps: int) -> TrainSettings:
    shared = ("batch", "learning_rate", "weight_decay", "warmup", "ema", "clip", "seed", "save_every", "precision")
    return TrainSettings(n_patches=n_steps * settings.batch, **{name: getattr(settings, name) for name in shared})


def _workers(wish: int | None, device: torch.device) -> int:
    """Give the number of processes that prepare patches."""
    if wish is not None:
        return wish
    if device.type != "cuda":
        return CPU_WORKERS  # the network takes the other cores
    n_here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return max(1, min(MOST_GPU_WORKERS, (os.cpu_count() or 1) // n_here))


def _versions() -> dict[str, str]:
    return {"napari-alnct": __version__, "torch": torch.__version__, "numpy": np.__version__}
