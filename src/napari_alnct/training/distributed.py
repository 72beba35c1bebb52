"""Several training processes that act as one: started by ``torchrun``, joined here.

Every process holds the whole network and its share of each batch; gradients are averaged
(`torch.nn.parallel.DistributedDataParallel`). The *first* process (rank 0) alone writes
files and shows progress. Small numbers travel through gloo on the CPU, so that no GPU is
made to wait for them; gradients of GPUs travel through NCCL.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from napari_alnct.core.config import Device
from napari_alnct.core.errors import AlnctError, SettingsError
from napari_alnct.core.inference import choose_device

Value = TypeVar("Value")


@dataclass(frozen=True)
class Processes:
    """The processes of a run, seen from one of them."""

    rank: int = 0
    world: int = 1

    @property
    def is_first(self) -> bool:
        """Tell whether this process writes and shows."""
        return self.rank == 0

    def sum_numbers(self, *values: float) -> list[float]:
        """Give the sums over all processes."""
        if self.world == 1:
            return list(values)
        total = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(total)
        return [float(value) for value in total]

    def sum_tensor(self, value: Tensor) -> Tensor:
        """Give a tensor's sum over all processes, in place, on its device."""
        if self.world > 1:
            dist.all_reduce(value)
        return value

    def gather(self, value: Value) -> list[Value]:
        """Give the values of all processes, by rank."""
        if self.world == 1:
            return [value]
        found: list[Any] = [None] * self.world
        dist.all_gather_object(found, value)
        return found

    def from_first(self, make: Callable[[], Value]) -> Value:
        """Call a function in the first process alone and give what it gave, or raise what it raised, in all.

        Parameters
        ----------
        make : callable
            Without arguments; its result must be picklable.

        Returns
        -------
        object

        Raises
        ------
        AlnctError
            The same in every process.
        """
        if self.world == 1:
            return make()
        sent: list[Any] = [None, None]
        if self.is_first:
            try:
                sent[0] = make()
            except AlnctError as fault:
                sent[1] = fault
        dist.broadcast_object_list(sent)
        if sent[1] is not None:
            raise sent[1]
        result: Value = sent[0]
        return result

    def joined_network(self, network: nn.Module, device: torch.device) -> tuple[nn.Module, nn.Module]:
        """Give a network whose gradients are averaged over the processes.

        Parameters
        ----------
        network : Module
            On `device`, in training mode.
        device : torch.device
            Of this process.

        Returns
        -------
        network : Module
            The network; on several GPUs its batch normalisation sees the batches of all of them.
        forward : Module
            What to call in training.

        Raises
        ------
        SettingsError
            If several CPU processes should train batch normalisation.
        """
        if self.world == 1:
            return network, network
        has_batch_norm = any(isinstance(module, _BatchNorm) for module in network.modules())
        if has_batch_norm and device.type != "cuda":
            raise SettingsError(
                "norm is batch: several processes on the CPU cannot share batch statistics; "
                "set norm to group (--norm group), or train in one process"
            )
        if has_batch_norm:
            network = nn.SyncBatchNorm.convert_sync_batchnorm(network)  # type: ignore[no-untyped-call]
        ids = [device] if device.type == "cuda" else None
        return network, DistributedDataParallel(network, device_ids=ids)


ALONE = Processes()


def world_size() -> int:
    """Give the number of processes that torchrun started; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


@contextmanager
def joined_processes(wish: Device = "auto") -> Iterator[tuple[Processes, torch.device]]:
    """Join the processes that ``torchrun`` started, for as long as the block lasts.

    Parameters
    ----------
    wish : {"auto", "cpu", "cuda", "mps"}
        Where to train; each process takes the GPU of its local rank.

    Yields
    ------
    processes : Processes
        Alone when torchrun is not at work.
    device : torch.device
        Of this process.

    Raises
    ------
    SettingsError
        If a GPU is asked for and none works here, or there are fewer GPUs than processes.
    """
    device = choose_device(wish)
    if world_size() == 1:
        yield ALONE, device
        return
    if device.type == "cuda":
        device = _own_gpu()
    elif device.type != "cpu":
        raise SettingsError(f"device {device.type}: several processes train on CPU or CUDA alone; use --device cpu")
    dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
    try:
        yield Processes(dist.get_rank(), dist.get_world_size()), device
    finally:
        dist.destroy_process_group()


def _own_gpu() -> torch.device:
    number, n_gpus = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
    if number >= n_gpus:
        raise SettingsError(
            f"process {number + 1} of this machine finds {n_gpus} GPUs; start as many processes as there are GPUs, "
            "or use --device cpu"
        )
    device = torch.device("cuda", number)
    torch.cuda.set_device(device)
    return device
