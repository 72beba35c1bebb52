"""A folder of small patches and small untrained classifiers, for tests of everything that reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from napari_alnct.core.checkpoint import Recipe, write_checkpoint
from napari_alnct.core.config import ClassifierNetSettings, PrepareSettings
from napari_alnct.core.network import ClassifierNetwork
from napari_alnct.io.patch_store import PatchRow, PatchStore, PatchWriter

EDGE, MARGIN = 16, 2
SMALL = ClassifierNetSettings(widths=(8, 8), depths=(1, 1), patch_vox=EDGE)
PREPARE = PrepareSettings()


def series_uid(scan: int) -> str:
    return f"1.2.840.{scan}"


def small_rows(n_scans: int = 6, *, patients: bool = False) -> list[PatchRow]:
    """Give four patches a scan: two jittered ones of a nodule, a lung and a vessel patch."""
    rows = []
    for scan in range(n_scans):
        for number, kind in enumerate(("nodule", "nodule", "lung", "vessel")):
            is_nodule = kind == "nodule"
            rows.append(
                PatchRow(
                    series_uid=series_uid(scan),
                    label=int(is_nodule),
                    kind=kind,
                    centre_zyx_vox=(20 + number, 30, 40),
                    position_xyz_mm=(40.0, 30.5, -20.25 - number),
                    diameter_mm=4.0 + 3 * scan if is_nodule else None,
                    nodule=0 if is_nodule else None,
                    patient=f"P{scan // 2}" if patients else "",
                    fold=8,
                )
            )
    return rows


def write_patches(
    folder: Path, rows: list[PatchRow] | None = None, *, prepare: PrepareSettings = PREPARE, edge: int = EDGE
) -> PatchStore:
    """Write patches of noise, brighter in the middle where the label is 1."""
    rng = np.random.default_rng(0)
    stored = edge + 2 * MARGIN
    middle = slice(stored // 2 - 3, stored // 2 + 3)
    with PatchWriter(folder, prepare, patch_vox=edge, margin_vox=MARGIN, notes={}) as writer:
        for row in small_rows() if rows is None else rows:
            hu = rng.normal(-800, 60, (stored,) * 3)
            hu[middle, middle, middle] += 700 * row.label + rng.normal(0, 200)
            writer.add(row, hu.astype(np.int16))
    return PatchStore.open(folder)


def small_network(seed: int = 0, settings: ClassifierNetSettings = SMALL) -> ClassifierNetwork:
    """Give an untrained classifier."""
    torch.manual_seed(seed)
    network = ClassifierNetwork(settings).eval()
    torch.nn.init.normal_(network.head.weight, 0, 3.0)
    return network


def write_small_model(path: Path, *, training: dict[str, Any] | None = None, seed: int = 0) -> ClassifierNetwork:
    """Write a model file with an untrained classifier in full precision, and give the classifier."""
    network = small_network(seed)
    recipe = Recipe(name="small", prepare=PREPARE, training=training or {})
    write_checkpoint(path, recipe, None, network, half=False)
    return network
