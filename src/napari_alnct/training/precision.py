"""The number type in which a network is trained: mixed precision where the hardware gains by it.

Weights, their average and the optimiser stay in float32; feature maps are computed in the
type given here. float16 has a narrow range, so gradients are scaled up and steps that
overflow are left out and counted (`torch.amp.GradScaler`); bfloat16 needs none of this.
"""

from __future__ import annotations

from typing import Literal

import torch

from napari_alnct.core.inference import choose_precision

TrainingPrecision = Literal["auto", "float32", "bfloat16", "float16"]
TYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def choose_training_precision(device: torch.device, wish: TrainingPrecision = "auto") -> torch.dtype:
    """Give the number type of the feature maps in training.

    Parameters
    ----------
    device : torch.device
        Where the network is trained.
    wish : {"auto", "float32", "bfloat16", "float16"}
        auto: bfloat16 where the hardware computes in it; float16 on older CUDA GPUs; else float32.

    Returns
    -------
    torch.dtype

    Examples
    --------
    >>> choose_training_precision(torch.device("cpu"), "float16")
    torch.float16
    """
    if wish != "auto":
        return TYPES[wish]
    best = choose_precision(device)
    return torch.float16 if device.type == "cuda" and best == torch.float32 else best
