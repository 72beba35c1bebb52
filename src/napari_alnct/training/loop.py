"""The training loop of the detector: step, log, keep an average, save, resume.

One plain loop. The learning rate warms up and falls as a cosine over the whole
run; an exponential moving average (EMA) of the weights is what gets used. Patch
numbers are counted, so a resumed run sees the patches that the interrupted one
would have seen.
"""

from __future__ import annotations

import csv
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from napari_alnct.core.config import check_bounds
from napari_alnct.core.errors import ModelError
from napari_alnct.core.network import DetectorNetwork, scale_hu
from napari_alnct.core.targets import detection_loss
from napari_alnct.training.cases import TrainingCase
from napari_alnct.training.crops import CropSettings, draw_patch
from napari_alnct.training.insertion import Donor

Batch = tuple[Tensor, ...]
LossFunction = Callable[[nn.Module, Batch], dict[str, Tensor]]


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """Schedule and optimiser."""

    n_patches: Annotated[int, {"min": 8, "max": 100_000_000}] = 16_000
    """Patches in the whole run; together with the batch size it decides the number of steps."""
    batch: Annotated[int, {"min": 1, "max": 1024}] = 4
    """Patches per step."""
    learning_rate: Annotated[float, {"min": 1e-6, "max": 1.0}] = 2e-3
    """Highest learning rate of AdamW."""
    weight_decay: Annotated[float, {"min": 0.0, "max": 1.0}] = 0.02
    """Decoupled weight decay."""
    warmup: Annotated[float, {"min": 0.0, "max": 0.9}] = 0.08
    """Share of the steps with rising learning rate."""
    ema: Annotated[float, {"min": 0.0, "max": 0.99999}] = 0.995
    """Decay of the weight average per step."""
    clip: Annotated[float, {"min": 0.0, "max": 1000.0}] = 5.0
    """Largest gradient norm."""
    seed: Annotated[int, {"min": 0, "max": 2**31 - 1}] = 0
    """Decides start weights and every patch."""
    workers: Annotated[int, {"min": 0, "max": 64}] = 1
    """Processes that prepare patches; 0: the training process itself."""
    save_every: Annotated[int, {"min": 1, "max": 1_000_000}] = 200
    """Steps between resume points."""

    def __post_init__(self) -> None:
        """Check the bounds."""
        check_bounds(self)

    @property
    def n_steps(self) -> int:
        """Give the number of optimiser steps."""
        return math.ceil(self.n_patches / self.batch)


class DetectorPatches(Dataset[Batch]):
    """Patches of a run by number: (hu, state, regression) tensors.

    Parameters
    ----------
    cases : sequence of TrainingCase
        Hosts.
    donors : sequence of Donor
        Nodules to insert.
    settings : CropSettings
        How patches are drawn.
    seed, first, count : int
        Patch numbers ``first`` to ``first + count - 1`` of the run with this seed.
    """

    def __init__(
        self,
        cases: Sequence[TrainingCase],
        donors: Sequence[Donor],
        settings: CropSettings,
        *,
        seed: int,
        first: int,
        count: int,
    ) -> None:
        self.cases, self.donors, self.settings = cases, donors, settings
        self.seed, self.first, self.count = seed, first, count

    def __len__(self) -> int:
        """Give the number of patches left in the run."""
        return self.count

    def __getitem__(self, index: int) -> Batch:
        """Give patch ``first + index``."""
        patch = draw_patch(self.cases, self.donors, self.settings, self.seed, self.first + index)
        hu = torch.from_numpy(patch.hu.astype(np.float16))
        return hu, torch.from_numpy(patch.targets.state), torch.from_numpy(patch.targets.regression)


def detector_loss(low_hu: float, high_hu: float) -> LossFunction:
    """Give the function from (network, batch) to the detector's loss parts.

    Parameters
    ----------
    low_hu, high_hu : float
        Window of the network's input.

    Returns
    -------
    callable
    """

    def loss(network: nn.Module, batch: Batch) -> dict[str, Tensor]:
        hu, state, regression = batch
        x = scale_hu(hu, low_hu, high_hu).unsqueeze(1).contiguous(memory_format=torch.channels_last_3d)
        with torch.autocast(x.device.type, torch.bfloat16):
            output = network(x)
        return detection_loss(output, state, regression)

    return loss


class Trainer:
    """A network in training, with everything that a resume needs.

    Parameters
    ----------
    network : Module
        Fresh network; moved to the device.
    settings : TrainSettings
        Schedule.
    loss : callable
        From (network, batch) to loss parts with key ``total``.
    folder : Path
        Gets ``log.csv`` and ``resume.pt``.
    device : str
        Where to train.
    """

    def __init__(
        self, network: nn.Module, settings: TrainSettings, loss: LossFunction, folder: Path, device: str = "cpu"
    ) -> None:
        self.settings, self.loss, self.folder, self.device = settings, loss, folder, device
        self.network = network.to(device, memory_format=torch.channels_last_3d).train()  # type: ignore[call-overload]
        self.average = {k: v.detach().clone() for k, v in self.network.state_dict().items()}
        self.optimiser = torch.optim.AdamW(
            self.network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
        )
        self.step = 0
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def resume_path(self) -> Path:
        """Give the file that a resume reads."""
        return self.folder / "resume.pt"

    def learning_rate(self, step: int) -> float:
        """Give the learning rate of a step: linear warm-up, then half a cosine to zero.

        Parameters
        ----------
        step : int
            0-based.

        Returns
        -------
        float
        """
        total, warm = self.settings.n_steps, max(1, round(self.settings.warmup * self.settings.n_steps))
        if step < warm:
            return self.settings.learning_rate * (step + 1) / warm
        progress = (step - warm) / max(1, total - warm)
        return self.settings.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))

    def train_step(self, batch: Batch) -> dict[str, float]:
        """Take one optimiser step and give the loss parts.

        Parameters
        ----------
        batch : tuple of Tensor
            As the loss expects it.

        Returns
        -------
        dict of str to float

        Raises
        ------
        ModelError
            If the loss is not finite; the resume point before it is kept.
        """
        for group in self.optimiser.param_groups:
            group["lr"] = self.learning_rate(self.step)
        parts = self.loss(self.network, tuple(t.to(self.device, non_blocking=True) for t in batch))
        if not torch.isfinite(parts["total"]):
            raise ModelError(
                f"the loss is {float(parts['total'].detach())} at step {self.step}; lower the learning rate and resume"
            )
        self.optimiser.zero_grad(set_to_none=True)
        parts["total"].backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.network.parameters(), self.settings.clip)
        self.optimiser.step()
        self._update_average()
        self.step += 1
        return {name: float(value.detach()) for name, value in parts.items()}

    def _update_average(self) -> None:
        decay = min(self.settings.ema, (1 + self.step) / (10 + self.step))
        for name, value in self.network.state_dict().items():
            if value.is_floating_point():
                self.average[name].lerp_(value.detach(), 1 - decay)
            else:
                self.average[name].copy_(value)

    def averaged(self, fresh: nn.Module) -> nn.Module:
        """Give the averaged weights in a fresh network, on the CPU, in evaluation mode.

        Parameters
        ----------
        fresh : Module
            Same settings as the trained one.

        Returns
        -------
        Module
        """
        fresh.load_state_dict({k: v.cpu() for k, v in self.average.items()})
        return fresh.eval()

    def save(self) -> None:
        """Write the resume point: complete or not at all."""
        state = {
            "network": self.network.state_dict(),
            "average": self.average,
            "optimiser": self.optimiser.state_dict(),
            "step": self.step,
        }
        temporary = self.resume_path.with_suffix(".tmp")
        torch.save(state, temporary)
        temporary.replace(self.resume_path)

    def resume(self) -> bool:
        """Continue from the resume point when there is one.

        Returns
        -------
        bool
            False when there is none.
        """
        if not self.resume_path.is_file():
            return False
        state: dict[str, Any] = torch.load(self.resume_path, map_location=self.device, weights_only=True)
        self.network.load_state_dict(state["network"])
        self.average = state["average"]
        self.optimiser.load_state_dict(state["optimiser"])
        self.step = int(state["step"])
        return True


def fit(
    trainer: Trainer,
    batches: Iterator[Batch],
    *,
    on_log: Callable[[int, dict[str, float]], None] | None = None,
    log_every: int = 20,
) -> None:
    """Run the trainer to the end of its schedule, logging means to ``log.csv``.

    Parameters
    ----------
    trainer : Trainer
        Fresh or resumed.
    batches : iterator of tuple of Tensor
        At least as many as steps are left.
    on_log : callable, optional
        Called with (step, means) at each log line.
    log_every : int
        Steps per log line.
    """
    sums: dict[str, float] = {}
    started = time.monotonic()
    while trainer.step < trainer.settings.n_steps:
        for name, value in trainer.train_step(next(batches)).items():
            sums[name] = sums.get(name, 0.0) + value
        if trainer.step % log_every == 0:
            row = {name: value / log_every for name, value in sums.items()}
            row |= {"rate": trainer.learning_rate(trainer.step), "seconds": time.monotonic() - started}
            _append(trainer.folder / "log.csv", {"step": trainer.step} | row)
            sums = {}
            if on_log:
                on_log(trainer.step, row)
        if trainer.step % trainer.settings.save_every == 0:
            trainer.save()
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
    iterator of tuple of Tensor
    """
    loader = DataLoader(
        patches,
        batch_size=settings.batch,
        shuffle=False,
        num_workers=settings.workers,
        prefetch_factor=4 if settings.workers else None,
        persistent_workers=False,
        worker_init_fn=_one_thread,
    )
    return iter(loader)


def build_detector_run(
    network: DetectorNetwork, settings: TrainSettings, crops: CropSettings, folder: Path, device: str = "cpu"
) -> Trainer:
    """Give a trainer for a detector.

    Parameters
    ----------
    network : DetectorNetwork
        Fresh network.
    settings : TrainSettings
        Schedule.
    crops : CropSettings
        For the window.
    folder : Path
        Where logs and resume points go.
    device : str
        Where to train.

    Returns
    -------
    Trainer
    """
    return Trainer(network, settings, detector_loss(crops.low_hu, crops.high_hu), folder, device)


def _one_thread(_: int) -> None:
    torch.set_num_threads(1)


def _append(path: Path, row: dict[str, float]) -> None:
    is_new = not path.exists()
    with path.open("a", newline="") as stream:
        writer = csv.DictWriter(stream, list(row))
        if is_new:
            writer.writeheader()
        writer.writerow({k: f"{v:.6g}" for k, v in row.items()})
