"""The losses of the two networks, as the training loop calls them."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from napari_alnct.core.network import scale_hu
from napari_alnct.core.targets import detection_loss
from napari_alnct.training.trainer import Batch, Forward, LossFunction


def classifier_loss(low_hu: float, high_hu: float) -> LossFunction:
    """Give the function from (forward, batch) to binary cross entropy, the mean over the batch.

    Parameters
    ----------
    low_hu, high_hu : float
        Window of the network's input.

    Returns
    -------
    callable
        Its batch: HU (B, P, P, P) and labels (B,) of 0 and 1.
    """

    def loss(forward: Forward, batch: Batch) -> dict[str, Tensor]:
        hu, label = batch
        x = scale_hu(hu, low_hu, high_hu).unsqueeze(1).contiguous(memory_format=torch.channels_last_3d)
        return {"total": functional.binary_cross_entropy_with_logits(forward(x), label)}

    return loss


def detector_loss(low_hu: float, high_hu: float) -> LossFunction:
    """Give the function from (forward, batch) to the detector's loss parts.

    Parameters
    ----------
    low_hu, high_hu : float
        Window of the network's input.

    Returns
    -------
    callable
        Its batch: HU (B, P, P, P), states and regression targets of the cells (`detection_loss`).
    """

    def loss(forward: Forward, batch: Batch) -> dict[str, Tensor]:
        hu, state, regression = batch
        x = scale_hu(hu, low_hu, high_hu).unsqueeze(1).contiguous(memory_format=torch.channels_last_3d)
        return detection_loss(forward(x), state, regression)

    return loss
