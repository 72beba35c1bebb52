"""Small patches that a small classifier can tell apart: bright balls in noise, or noise alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_alnct.core.config import ClassifierNetSettings, PrepareSettings
from napari_alnct.io.patch_store import PatchRow, PatchStore, PatchWriter
from napari_alnct.training.augmentation import AugmentSettings
from napari_alnct.training.classifier import ClassifierSettings

EDGE, MARGIN = 16, 2
PREPARE = PrepareSettings(low_hu=-1000.0, high_hu=400.0)
TINY = ClassifierSettings(
    network=ClassifierNetSettings(widths=(8, 16), depths=(1, 1), patch_vox=EDGE, norm="group"),
    augment=AugmentSettings(strength=0),
    epochs=3,
    batch=4,
    learning_rate=3e-3,
    workers=0,
    save_every=3,
    log_every=2,
    precision="float32",
)


def write_patches(
    folder: Path, *, series: list[str], seed: int, n: int = 16, patients: list[str] | None = None, hu: int = 700
) -> PatchStore:
    """Give a store of n patches, every second one a ball in the middle, from these series in turn."""
    rng = np.random.default_rng(seed)
    notes = {"series": series}
    with PatchWriter(folder, PREPARE, patch_vox=EDGE, margin_vox=MARGIN, notes=notes) as writer:
        for number in range(n):
            label = number % 2
            writer.add(
                PatchRow(
                    series_uid=series[number % len(series)],
                    label=label,
                    kind="nodule" if label else "lung",
                    centre_zyx_vox=(number, 9, 9),
                    position_xyz_mm=(0.0, 0.0, float(number)),
                    diameter_mm=6.0 if label else None,
                    nodule=number if label else None,
                    patient=patients[number % len(series)] if patients else "",
                ),
                _cube(rng, hu if label else 0),
            )
    return PatchStore.open(folder)


def _cube(rng: np.random.Generator, hu: int) -> NDArray[np.int16]:
    edge = EDGE + 2 * MARGIN
    cube = rng.normal(-850.0, 60.0, (edge,) * 3)
    distance2 = ((np.indices(cube.shape) - (edge - 1) / 2) ** 2).sum(axis=0)
    cube[distance2 < 3.5**2] += hu
    return np.rint(cube).astype(np.int16)
