"""Small synthetic lungs with or without a leak, and a classifier trained on them in seconds.

The *clean* generator gives every volume the same noise. The *leaky* one clips negative noise in volumes with
a nodule only, as a careless generator once did: the class can be told without looking at the nodule.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from napari_alnct.core.checkpoint import Checkpoint, Recipe
from napari_alnct.core.config import ClassifierNetSettings, PrepareSettings
from napari_alnct.core.network import ClassifierNetwork, scale_hu

EDGE = 32
LUNG_HU, NOISE_HU, NODULE_HU, VESSEL_HU = -850.0, 110.0, -350.0, 0.0
RADII_VOX = (3.0, 5.0)
OFF_CENTRE_VOX = 7.0
PREPARE = PrepareSettings(low_hu=-1000.0, high_hu=400.0)
NETWORK = ClassifierNetSettings(widths=(8, 16), depths=(1, 1), patch_vox=EDGE, dropout=0.0)
BATCH, STEPS, LEARNING_RATE = 16, 130, 4e-3


@dataclass(frozen=True, eq=False)
class Lungs:
    """Volumes ``hu`` int16 (N, z, y, x), nodules ``masks`` of the same shape, ``labels`` (N,), centres and radii."""

    hu: NDArray[np.int16]
    masks: NDArray[np.bool_]
    labels: NDArray[np.int_]
    centres: NDArray[np.float64]
    radii: NDArray[np.float64]


def make_lungs(n: int, seed: int, *, is_leaky: bool) -> Lungs:
    """Give n volumes, every other one with a nodule off its centre; all have thin bright vessels."""
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*(np.arange(EDGE),) * 3, indexing="ij"), axis=-1).astype(np.float32)
    labels = np.arange(n) % 2
    centres = (EDGE - 1) / 2 + rng.uniform(-OFF_CENTRE_VOX, OFF_CENTRE_VOX, (n, 3))
    radii = rng.uniform(*RADII_VOX, n)
    hu, masks = np.empty((n, EDGE, EDGE, EDGE), np.int16), np.zeros((n, EDGE, EDGE, EDGE), bool)
    for k in range(n):
        volume = np.full((EDGE,) * 3, LUNG_HU, np.float32)
        for _ in range(rng.integers(2, 5)):
            _raise_to(volume, _from_line(grid, rng), 1.0, VESSEL_HU)
        if labels[k]:
            distance = np.linalg.norm(grid - centres[k], axis=-1)
            _raise_to(volume, distance, radii[k], NODULE_HU)
            masks[k] = distance <= radii[k]
        noise = rng.normal(0, NOISE_HU, volume.shape)
        hu[k] = np.rint(volume + (np.maximum(noise, 0) if is_leaky and labels[k] else noise))
    return Lungs(hu, masks, labels, centres, radii)


def _from_line(grid: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Give the distance of each voxel from a random line."""
    way = rng.standard_normal(3)
    step = grid - rng.uniform(2, EDGE - 2, 3).astype(np.float32)
    return np.linalg.norm(np.cross(step, (way / np.linalg.norm(way)).astype(np.float32)), axis=-1)


def _raise_to(volume: NDArray[np.float32], distance: NDArray[np.float32], radius: float, level: float) -> None:
    """Paint a body with a soft rim of a voxel."""
    cover = np.clip(radius - distance + 0.5, 0, 1)
    np.maximum(volume, LUNG_HU + cover * (level - LUNG_HU), out=volume)


def train_on(*, is_leaky: bool, seed: int = 0) -> Checkpoint:
    """Give a classifier trained for some seconds on one thread; the same seed gives the same weights."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return _trained(is_leaky, seed)
    finally:
        torch.set_num_threads(threads)


def _trained(is_leaky: bool, seed: int) -> Checkpoint:
    network = ClassifierNetwork(NETWORK)
    optimiser = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, weight_decay=0.01)
    rates = torch.optim.lr_scheduler.OneCycleLR(optimiser, LEARNING_RATE, total_steps=STEPS)
    pool = make_lungs(240, seed + 1, is_leaky=is_leaky)
    rng = np.random.default_rng(seed)
    for _ in range(STEPS):
        chosen = rng.integers(len(pool.labels), size=BATCH)
        cubes = pool.hu[chosen]
        for axis in (1, 2, 3):
            cubes = np.flip(cubes, axis) if rng.random() < 0.5 else cubes
        x = scale_hu(torch.from_numpy(cubes.copy()), PREPARE.low_hu, PREPARE.high_hu)[:, None]
        loss = functional.binary_cross_entropy_with_logits(network(x), torch.from_numpy(pool.labels[chosen]).float())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        rates.step()
    return Checkpoint(Recipe(name="tiny", prepare=PREPARE, classifier=NETWORK), "0" * 64, None, network.eval())
