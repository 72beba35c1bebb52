"""Running a network fast and stoppably: device, precision, folded normalisation, blocks.

A `Runner` owns one network. It folds batch normalisation into the convolutions,
keeps weights channels-last, runs features in bfloat16 where the processor has
it (heads always in float32), and calls a *pulse* before every convolution:
that is where progress is counted and where a cancelled job stops.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from napari_alnct.core.config import Device, Precision
from napari_alnct.core.errors import SettingsError
from napari_alnct.core.network import ClassifierNetwork, ConvNorm, DetectorNetwork

Network = DetectorNetwork | ClassifierNetwork
Pulse = Callable[[], None]
OUT_OF_MEMORY = (torch.OutOfMemoryError, MemoryError)
MEMORY_PHRASES = ("allocate memory", "not enough memory", "out of memory", "bad_alloc", "bad allocation")


def is_out_of_memory(fault: BaseException) -> bool:
    """Tell whether a fault means that memory is short; on the CPU torch says so in a plain RuntimeError.

    Parameters
    ----------
    fault : BaseException
        What a network run raised.

    Returns
    -------
    bool

    Examples
    --------
    >>> is_out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"))
    True
    """
    if isinstance(fault, OUT_OF_MEMORY):
        return True
    return isinstance(fault, RuntimeError) and any(phrase in str(fault).lower() for phrase in MEMORY_PHRASES)


def choose_device(wish: Device = "auto") -> torch.device:
    """Give the device to run on.

    Parameters
    ----------
    wish : {"auto", "cpu", "cuda", "mps"}
        auto takes a CUDA GPU when one works, else the CPU.

    Returns
    -------
    torch.device

    Raises
    ------
    SettingsError
        If a GPU is asked for and none works here.
    """
    if wish == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if wish == "cuda" and not torch.cuda.is_available():
        raise SettingsError("device cuda: no working CUDA GPU here; use --device auto or cpu")
    if wish == "mps" and not torch.backends.mps.is_available():
        raise SettingsError("device mps: no Apple GPU here; use --device auto or cpu")
    return torch.device(wish)


def choose_precision(device: torch.device, wish: Precision = "auto") -> torch.dtype:
    """Give the number type of the feature maps.

    Parameters
    ----------
    device : torch.device
        Where the network runs.
    wish : {"auto", "float32", "bfloat16"}
        auto: bfloat16 where the hardware computes in it, else float32.

    Returns
    -------
    torch.dtype
    """
    if wish != "auto":
        return torch.bfloat16 if wish == "bfloat16" else torch.float32
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    has_native = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    return torch.bfloat16 if device.type == "cpu" and has_native() else torch.float32


def folded(network: Network) -> Network:
    """Give a copy in evaluation mode whose batch normalisations are part of the convolutions.

    Parameters
    ----------
    network : DetectorNetwork or ClassifierNetwork
        Not changed; other normalisations are left as they are.

    Returns
    -------
    same type
        Same output up to rounding.
    """
    result = copy.deepcopy(network).eval()
    for module in result.modules():
        if isinstance(module, ConvNorm) and isinstance(module[1], nn.BatchNorm3d):
            module[0] = fuse_conv_bn_eval(module[0], module[1])  # type: ignore[type-var]
            module[1] = nn.Identity()
    return result


class Runner:
    """A network ready to run on one device.

    Parameters
    ----------
    network : DetectorNetwork or ClassifierNetwork
        Any state; not changed.
    device : torch.device
        Where to run.
    dtype : torch.dtype
        Of the feature maps; the heads run in float32.
    """

    def __init__(self, network: Network, device: torch.device, dtype: torch.dtype) -> None:
        self.device, self.dtype = device, dtype
        self.network = folded(network).to(device, memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        body: list[nn.Module] = [self.network.encoder]
        if isinstance(self.network, DetectorNetwork):
            body.append(self.network.merges)
        for module in body:
            module.to(dtype)
        self.n_pulses = sum(isinstance(m, ConvNorm) for m in self.network.modules())

    def run(self, x: Tensor, pulse: Pulse | None = None) -> Tensor:
        """Give the network's output as float32 on the CPU.

        Parameters
        ----------
        x : Tensor, shape (B, 1, D, H, W)
            Scaled HU, float32.
        pulse : callable, optional
            Called before every convolution; what it raises stops the run.

        Returns
        -------
        Tensor of float32
        """
        with torch.inference_mode(), pulsing(self.network, pulse):
            x = x.to(self.device, self.dtype).contiguous(memory_format=torch.channels_last_3d)
            return self.network.heads(self.network.features(x).float()).cpu()


@contextmanager
def pulsing(network: nn.Module, pulse: Pulse | None) -> Iterator[None]:
    """Call a function before every convolution while the context lasts.

    Parameters
    ----------
    network : Module
        Gets hooks; they are gone afterwards, also after an exception.
    pulse : callable or None
        None: no hooks.

    Yields
    ------
    None
    """
    layers = [m for m in network.modules() if isinstance(m, ConvNorm)] if pulse else []
    handles = [layer.register_forward_pre_hook(lambda *_: pulse()) for layer in layers if pulse]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
