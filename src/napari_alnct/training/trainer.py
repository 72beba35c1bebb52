"""A network in training: one optimiser step, the average of the weights, the resume point.

An exponential moving average (EMA) of the weights is what gets used. All random numbers
of a step (dropout) follow from the seed, the step and the process, so a resumed run draws
what the interrupted one would have drawn, and no state of a generator has to be stored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from napari_alnct.core.errors import ModelError
from napari_alnct.core.inference import is_out_of_memory
from napari_alnct.training.distributed import ALONE, Processes
from napari_alnct.training.precision import choose_training_precision, guard_thin_maps
from napari_alnct.training.readings import Reading, Readings
from napari_alnct.training.resume import CURRENT, read_resume_point, write_resume_point
from napari_alnct.training.schedule import TrainSettings

Batch = Sequence[Tensor]
Forward = Callable[[Tensor], Tensor]
LossFunction = Callable[[Forward, Batch], dict[str, Tensor]]


class Trainer:
    """A network in training, with everything that a resume needs.

    Parameters
    ----------
    network : Module
        Fresh network; moved to the device.
    settings : TrainSettings
        Schedule.
    loss : callable
        From (forward, batch) to loss parts with key ``total``, means over the batch; ``forward`` is the
        network in the precision of the run, its output is float32.
    folder : Path
        Gets the log and the resume points.
    device : str or torch.device
        Where to train.
    processes : Processes
        Those that train together; each gives an equal share of every batch.
    log_name : str
        The log file.

    Attributes
    ----------
    step : int
        Steps taken.
    seconds : float
        Time spent on them.
    notes : dict
        What the caller wants kept in the resume point: numbers, texts, lists.
    is_stopped : bool
        Whether the run ended before its last step.
    resume_note : str
        A sentence when a resume did not take the last resume point.
    """

    def __init__(
        self,
        network: nn.Module,
        settings: TrainSettings,
        loss: LossFunction,
        folder: Path,
        device: str | torch.device = "cpu",
        *,
        processes: Processes = ALONE,
        log_name: str = "log.csv",
    ) -> None:
        self.settings, self.loss, self.folder, self.log_name = settings, loss, folder, log_name
        self.device, self.processes = torch.device(device), processes
        network = network.to(self.device, memory_format=torch.channels_last_3d).train()  # type: ignore[call-overload]
        self.network, self._joined = processes.joined_network(network, self.device)
        self.dtype = choose_training_precision(self.device, settings.precision)
        if self.device.type == "cpu" and self.dtype == torch.bfloat16:
            guard_thin_maps(self.network)
        self.average = {k: v.detach().clone() for k, v in self.network.state_dict().items()}
        self.optimiser = torch.optim.AdamW(
            self.network.parameters(),
            lr=settings.learning_rate,
            weight_decay=settings.weight_decay,
            fused=self.device.type == "cuda",
        )
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.dtype == torch.float16)
        self.readings = Readings(is_immediate=self.device.type == "cpu", may_overflow=self.scaler.is_enabled())
        self.step, self.seconds, self.is_stopped = 0, 0.0, False
        self.notes: dict[str, Any] = {}
        self.resume_note, self.saved_step = "", -1
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def resume_path(self) -> Path:
        """Give the file that a resume reads."""
        return self.folder / CURRENT

    def train_step(self, batch: Batch) -> None:
        """Take one optimiser step.

        Parameters
        ----------
        batch : sequence of Tensor
            As the loss expects it: this process's share.

        Raises
        ------
        ModelError
            If the loss is not finite, or memory is short; the last resume point is kept.
        """
        for group in self.optimiser.param_groups:
            group["lr"] = self.settings.learning_rate_at(self.step)
        torch.manual_seed(_step_seed(self.settings.seed, self.step, self.processes.rank))
        with self.memory_guarded():
            parts = self.loss(self._forward, tuple(t.to(self.device, non_blocking=True) for t in batch))
            self.optimiser.zero_grad(set_to_none=True)
            self.scaler.scale(parts["total"]).backward()  # type: ignore[no-untyped-call]
            self.scaler.unscale_(self.optimiser)
            norm = nn.utils.clip_grad_norm_(self.network.parameters(), self.settings.clip)
            self._note(parts, norm)
            self.scaler.step(self.optimiser)
            self.scaler.update()
        self._update_average()
        self.step += 1

    def _forward(self, x: Tensor) -> Tensor:
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            output: Tensor = self._joined(x)
        return output.float()

    @contextmanager
    def memory_guarded(self) -> Iterator[None]:
        """Turn short memory into a sentence with a smaller batch."""
        try:
            yield
        except Exception as fault:
            if not is_out_of_memory(fault):
                raise
            batch = self.settings.batch
            advice = f"use a smaller batch, such as {batch // 2}" if batch > 1 else "use a smaller network"
            raise ModelError(f"memory is short on {self.device.type} with batch {batch}; {advice}") from fault

    def _note(self, parts: dict[str, Tensor], norm: Tensor) -> None:
        """Keep the numbers of the step, means over the processes."""
        values = torch.stack([*(part.detach() for part in parts.values()), norm.detach()])
        self.processes.sum_tensor(values).div_(self.processes.world)
        self.readings.note(self.step, list(parts), values)

    def read(self) -> list[Reading]:
        """Give the numbers of the steps since the last call.

        Returns
        -------
        list of dict of str to float

        Raises
        ------
        ModelError
            If one is not finite.
        """
        return self.readings.read()

    @torch.no_grad()
    def _update_average(self) -> None:
        decay = min(self.settings.ema, (1 + self.step) / (10 + self.step))
        current = self.network.state_dict()
        floating = [name for name, value in current.items() if value.is_floating_point()]
        blend = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
        blend([self.average[name] for name in floating], [current[name] for name in floating], 0)
        for name in current.keys() - set(floating):
            self.average[name].copy_(current[name])

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
        """Write the resume point: complete or not at all; the one before it is kept.

        Raises
        ------
        ModelError
            If a loss since the last reading is not finite, or the disk does not take the file.
        """
        self.read()
        if self.processes.is_first:
            write_resume_point(self.folder, self._state())
        self.saved_step = self.step

    def _state(self) -> dict[str, Any]:
        return {
            "network": self.network.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "scaler": self.scaler.state_dict(),
            "average": self.average,
            "readings": self.readings.state(),
            "n_steps": self.settings.n_steps,
            **{name: getattr(self, name) for name in _PLAIN},
        }

    def resume(self) -> bool:
        """Continue from the resume point when there is one.

        Returns
        -------
        bool
            False when there is none.

        Raises
        ------
        ModelError
            If no resume point is whole, or it belongs to another run.
        """
        found = self.processes.from_first(lambda: read_resume_point(self.folder))
        if found is None:
            return False
        self.resume_note = found.note
        try:
            self._fill(found.state)
        except (KeyError, RuntimeError, ValueError, TypeError) as fault:
            raise ModelError(f"{CURRENT} belongs to a run of another kind or version; begin the run anew") from fault
        return True

    def _fill(self, state: dict[str, Any]) -> None:
        if state["n_steps"] != self.settings.n_steps:
            raise ModelError(
                f"{CURRENT} belongs to a run of {state['n_steps']} steps, this one has {self.settings.n_steps}; "
                "give the same settings, or begin anew"
            )
        self.network.load_state_dict(state["network"])
        for name, value in self.average.items():
            value.copy_(state["average"][name])
        self.optimiser.load_state_dict(state["optimiser"])
        self.scaler.load_state_dict(state["scaler"])
        self.readings.restore(state["readings"])
        for name in _PLAIN:
            setattr(self, name, state[name])
        self.saved_step = self.step


_PLAIN = ("step", "seconds", "notes", "is_stopped")  # attributes that a resume point holds as they are


def _step_seed(seed: int, step: int, rank: int) -> int:
    """Give the seed of torch's generators for one step of one process."""
    return int(np.random.SeedSequence((seed, step, rank)).generate_state(1, np.uint64)[0])
