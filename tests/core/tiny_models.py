"""Small untrained networks and model files, for tests of everything around them."""

from __future__ import annotations

from pathlib import Path

import torch

from napari_alnct.core.checkpoint import Recipe, write_checkpoint
from napari_alnct.core.config import ClassifierNetSettings, DetectorNetSettings, PrepareSettings
from napari_alnct.core.network import ClassifierNetwork, DetectorNetwork

TINY = DetectorNetSettings(widths=(8, 8, 16, 16), depths=(1, 1, 1, 1), head_width=8)
TINY_CLASSIFIER = ClassifierNetSettings(widths=(8, 8, 16, 16), depths=(1, 1, 1, 1))
PREPARE = PrepareSettings(low_hu=-1000.0, high_hu=400.0)


def tiny_detector(seed: int = 0) -> DetectorNetwork:
    """Give an untrained detector whose scores spread over the whole range."""
    torch.manual_seed(seed)
    network = DetectorNetwork(TINY)
    torch.nn.init.normal_(network.centre.weight, 0, 1.5)
    torch.nn.init.constant_(network.centre.bias, 0.0)
    return network.eval()


def tiny_classifier(seed: int = 1) -> ClassifierNetwork:
    """Give an untrained classifier."""
    torch.manual_seed(seed)
    return ClassifierNetwork(TINY_CLASSIFIER).eval()


def write_tiny_model(path: Path, *, with_classifier: bool = True) -> str:
    """Write a model file with untrained networks; give its SHA-256."""
    recipe = Recipe(
        name="tiny",
        prepare=PREPARE,
        combine=(0.5, 0.5, 0.0),
        operating_points={"1": 0.3, "4": 0.1, "0.125": 0.9},
        first_stage_points={"1": 0.4},
    )
    return write_checkpoint(path, recipe, tiny_detector(), tiny_classifier() if with_classifier else None)
