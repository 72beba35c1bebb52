"""The number type in which a network is trained: mixed precision where the hardware gains by it.

Weights, their average and the optimiser stay in float32; feature maps are computed in the
type given here. float16 has a narrow range, so gradients are scaled up and steps that
overflow are left out and counted (`torch.amp.GradScaler`); bfloat16 needs none of this.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from napari_alnct.core.inference import choose_precision

TrainingPrecision = Literal["auto", "float32", "bfloat16", "float16"]
TYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
THIN_VOX = 2  # maps with this many planes


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


def guard_thin_maps(network: nn.Module) -> None:
    """Let convolutions over maps of two planes run in float32, whatever the precision around them.

    Parameters
    ----------
    network : Module
        Changed in place; its weights stay as they are.

    Notes
    -----
    Measured with torch 2.13.0 on a CPU with AVX-512 bfloat16: the weight gradient of a bfloat16 convolution with
    kernel 3 over a map of shape (2, y, x) holds memory that was never written, now and then infinite. Outputs, input
    gradients, other kernels and other shapes are right, and so is float32.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv3d) and max(module.kernel_size) > 1:
            module.forward = _careful(module.forward)  # type: ignore[assignment, method-assign]


def _careful(forward: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    def careful(x: Tensor) -> Tensor:
        if x.shape[2] > THIN_VOX:
            return forward(x)
        with torch.autocast(x.device.type, enabled=False):
            return forward(x.float())

    return careful
