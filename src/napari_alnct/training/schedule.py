"""Schedule and optimiser of a training run, and its learning rate."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

from napari_alnct.core.config import check_bounds
from napari_alnct.training.precision import TrainingPrecision


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """Schedule and optimiser."""

    n_patches: Annotated[int, {"min": 1, "max": 1_000_000_000}] = 16_000
    """Patches in the whole run; together with the batch size it decides the number of steps."""
    batch: Annotated[int, {"min": 1, "max": 4096}] = 4
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
    precision: Annotated[TrainingPrecision, {}] = "auto"
    """Number type of the feature maps; auto: what the hardware gains by."""

    def __post_init__(self) -> None:
        """Check the bounds."""
        check_bounds(self)

    @property
    def n_steps(self) -> int:
        """Give the number of optimiser steps."""
        return math.ceil(self.n_patches / self.batch)

    def learning_rate_at(self, step: int) -> float:
        """Give the learning rate of a step: linear warm-up, then half a cosine to zero.

        Parameters
        ----------
        step : int
            0-based.

        Returns
        -------
        float

        References
        ----------
        Cosine: Loshchilov and Hutter 2017, arXiv 1608.03983, equation 5, one cycle.
        """
        warm = max(1, round(self.warmup * self.n_steps))
        if step < warm:
            return self.learning_rate * (step + 1) / warm
        progress = (step - warm) / max(1, self.n_steps - warm)
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))
