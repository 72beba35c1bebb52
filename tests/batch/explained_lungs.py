"""A source of small scans and an untrained model that says nodule everywhere, for tests of explain-eval."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from napari_alnct.batch.explain_eval_cases import EvalNodule, EvalScan
from napari_alnct.core.checkpoint import Checkpoint, Recipe
from napari_alnct.core.geometry import Geometry
from napari_alnct.core.network import ClassifierNetwork
from tests.batch.leaky_lungs import EDGE, NETWORK, PREPARE, make_lungs


def tiny_checkpoint(seed: int = 0) -> Checkpoint:
    """Give an untrained classifier of 32-voxel patches whose logits are all well above 0."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = ClassifierNetwork(NETWORK)
    torch.nn.init.constant_(network.head.bias, 8.0)
    recipe = Recipe(name="tiny", prepare=PREPARE, classifier=NETWORK)
    return Checkpoint(recipe, f"{seed}" * 64, None, network.eval())


@dataclass
class SmallSource:
    """Scans of 40 x 44 x 48 voxels with two nodules each; remembers which were loaded."""

    n_scans: int = 2
    loaded: list[str] = field(default_factory=list)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(f"scan {k}" for k in range(self.n_scans))

    @property
    def description(self) -> str:
        return f"{self.n_scans} small scans."

    @property
    def identity(self) -> dict[str, Any]:
        return {"source": "small scans"}

    def load(self, name: str) -> EvalScan:
        self.loaded.append(name)
        return small_scan(int(name.split()[-1]), name)


def small_scan(seed: int, name: str = "scan") -> EvalScan:
    """Give a scan with nodules number 1 and 2, and one decoy."""
    lungs = make_lungs(4, seed, is_leaky=False)
    hu = np.full((40, 44, 48), -850, np.int16)
    hu[4 : 4 + EDGE, 4 : 4 + EDGE, 4 : 4 + EDGE] = lungs.hu[1]
    labels = np.zeros(hu.shape, np.int16)
    labels[4 : 4 + EDGE, 4 : 4 + EDGE, 4 : 4 + EDGE][lungs.masks[1]] = 1
    labels[30:35, 36:41, 38:43] = 2
    hu[labels == 2] = -100
    geometry = Geometry(shape_zyx=hu.shape, spacing_zyx_mm=(1.0, 1.0, 1.0), origin_xyz_mm=(-10.0, 5.0, 100.0))
    nodules = []
    for number in (1, 2):
        x, y, z = geometry.index_to_world(np.argwhere(labels == number).mean(axis=0))
        size = float((6 / np.pi * (labels == number).sum()) ** (1 / 3))
        nodules.append(EvalNodule(number=number, position_xyz_mm=(x, y, z), diameter_mm=size, kind="solid"))
    x, y, z = geometry.index_to_world([10, 10, 40])
    return EvalScan(
        name=name, hu=hu, geometry=geometry, labels=labels, nodules=tuple(nodules), decoys_xyz_mm=((x, y, z),)
    )
