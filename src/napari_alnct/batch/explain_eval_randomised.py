"""Models whose weights are destroyed step by step, from the output to the input: row F4.

A map that stays the same was never about the network (Adebayo et al. 2018, arXiv 1810.03292, section 3:
cascading randomisation).
"""

from __future__ import annotations

import copy
from dataclasses import replace

import torch
from torch import nn

from napari_alnct.core.checkpoint import Checkpoint
from napari_alnct.core.inference import Network
from napari_alnct.core.network import ClassifierNetwork, DetectorNetwork


def randomised_checkpoints(checkpoint: Checkpoint, score_name: str, seed: int = 0) -> list[tuple[str, Checkpoint]]:
    """Give copies of a model with more and more layers drawn anew.

    Parameters
    ----------
    checkpoint : Checkpoint
        The trained model; not changed.
    score_name : {"second look", "first stage"}
        Whose network is destroyed.
    seed : int
        Of the new weights.

    Returns
    -------
    list of (str, Checkpoint)
        What was drawn last, and the model; the last has no trained weight left.
    """
    is_second = score_name == "second look"
    network: Network | None = checkpoint.classifier if is_second else checkpoint.detector
    assert network is not None, "the explainer offers this score"
    drawn: Network = copy.deepcopy(network)
    steps = []
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        for name, parts in _from_the_output(drawn):
            for part in parts:
                _draw_again(part)
            changed = copy.deepcopy(drawn)
            part_of = {"classifier": changed} if is_second else {"detector": changed}
            steps.append((name, replace(checkpoint, **part_of)))  # type: ignore[arg-type]
    return steps


def _from_the_output(network: Network) -> list[tuple[str, list[nn.Module]]]:
    stages = [(f"encoder.stages.{k}", [stage]) for k, stage in enumerate(network.encoder.stages)]
    if isinstance(network, ClassifierNetwork):
        return [("head", [network.head]), *reversed(stages)]
    assert isinstance(network, DetectorNetwork)
    heads: list[nn.Module] = [network.centre, network.offset, network.log_diameter]
    merges = [(f"merges.{k}", [merge]) for k, merge in enumerate(network.merges)]
    return [("heads", heads), *reversed(merges), *reversed(stages)]


def _draw_again(part: nn.Module) -> None:
    """Give every layer of a part the weights of a new one."""
    for module in part.modules():
        draw = getattr(module, "reset_parameters", None)
        if callable(draw):
            draw()
