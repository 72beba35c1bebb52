"""What augmentation does to training patches, as a sheet of axial slices.

Run: ``python examples/augmented_patches.py [OUT.png] [PATCHES]`` (about fifteen seconds)

PATCHES is a folder of patches made by ``napari-alnct-train sample``; without it patches are cut
from a phantom. Each row is one patch: as stored, then with one transform alone at (nearly)
its largest default value, then as training would see it in three epochs.
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray

from napari_alnct.core.config import PrepareSettings
from napari_alnct.core.preprocess import prepare
from napari_alnct.data.phantom import make_phantom, small_settings
from napari_alnct.io.patch_store import PatchRow, PatchStore, PatchWriter, cube_around
from napari_alnct.training.augmentation import AugmentSettings, PatchChange, PatchFrame, draw_change
from napari_alnct.training.patch_dataset import PatchDataset
from napari_alnct.training.torchio_augmentation import change_patch

LUNG_WINDOW_HU = (-1350, 150)
PATCH_VOX, MARGIN_VOX, N_ROWS, N_EPOCHS = 64, 8, 4, 3
SETTINGS = AugmentSettings()


def cut_patches(folder: Path) -> PatchStore:
    """Cut patches around the largest and the smallest nodule of a phantom, and as many at random in its lungs."""
    scan, settings = make_phantom(small_settings(seed=7)), PrepareSettings()
    prepared = prepare(scan.volume, settings)
    spots = np.argwhere(prepared.lungs.on_grid(prepared.geometry))
    chosen = (scan.nodules[0], scan.nodules[-1])
    nodules = prepared.to_index([nodule.position_xyz_mm for nodule in chosen])
    lung = np.random.default_rng(7).choice(spots, len(chosen)).astype(float)
    with PatchWriter(folder, settings, patch_vox=PATCH_VOX, margin_vox=MARGIN_VOX, notes={}) as writer:
        for number, centre in enumerate(np.rint(np.vstack([nodules, lung])).astype(int).tolist()):
            is_nodule = number < len(nodules)
            row = PatchRow(
                series_uid=scan.volume.series_uid,
                label=int(is_nodule),
                kind="nodule" if is_nodule else "lung",
                centre_zyx_vox=(centre[0], centre[1], centre[2]),
                position_xyz_mm=tuple(prepared.to_world([centre])[0].tolist()),
                diameter_mm=chosen[number].diameter_mm if is_nodule else None,
            )
            writer.add(row, cube_around(prepared.hu, centre, PATCH_VOX + 2 * MARGIN_VOX, settings.low_hu))
    return PatchStore.open(folder)


def single_changes() -> dict[str, PatchChange]:
    """Give each transform alone, with a value near the end of its range."""
    s = SETTINGS
    bent = draw_change(replace(s, elastic_probability=1.0, affine_probability=0.0), 0, 0, 0).control_xyz_mm
    angle, factor, shift = s.rotation_deg, s.scale_range[1], s.translation_mm
    return {
        "flip x": PatchChange(flips_zyx=(False, False, True)),
        f"turn {angle:g}°": PatchChange(angles_zyx_deg=(angle, 0.0, 0.0)),
        f"scale {factor:g}": PatchChange(scale=factor),
        f"shift {shift:g} mm": PatchChange(translation_zyx_mm=(0.0, shift, shift)),
        f"elastic {s.elastic_mm:g} mm\n(off by default)": PatchChange(control_xyz_mm=bent),
        f"blur {s.blur_range_mm[1]:g} mm": PatchChange(blur_mm=s.blur_range_mm[1]),
        f"HU × {1 + s.hu_scale:g}\n+ {s.hu_shift:g} HU": PatchChange(hu_factor=1 + s.hu_scale, hu_shift=s.hu_shift),
        f"gamma {np.exp(-s.log_gamma):.2f}": PatchChange(gamma=float(np.exp(-s.log_gamma))),
        f"noise {s.noise_range_hu[1]:g} HU": PatchChange(noise_hu=s.noise_range_hu[1]),
    }


def panels_of(store: PatchStore, row: int) -> dict[str, NDArray[np.float32]]:
    """Give the titled slices of one row of the sheet, HU: through what was the middle of the stored patch."""
    plain, dataset = PatchDataset(store, None, seed=0), PatchDataset(store, SETTINGS, seed=0)
    panels = {"stored": middle_slice(plain[0, row][0], PatchChange(), plain.frame)}
    for name, change in single_changes().items():
        panels[name] = middle_slice(change_patch(store.hu[row], change, plain.frame), change, plain.frame)
    for epoch in range(N_EPOCHS):
        change = draw_change(SETTINGS, dataset.seed, epoch, row)
        panels[f"training,\nepoch {epoch + 1}"] = middle_slice(dataset[epoch, row][0], change, plain.frame)
    return panels


def middle_slice(hu: torch.Tensor, change: PatchChange, frame: PatchFrame) -> NDArray[np.float32]:
    """Give the axial slice that the middle of the patch was moved to."""
    half = -0.5 if change.flips_zyx[0] else 0.5  # the voxel it was cut around lies behind its middle
    moved_vox = change.scale * half + change.translation_zyx_mm[0] / frame.spacing_mm
    return hu[round((frame.patch_vox - 1) / 2 + moved_vox)].float().numpy()


def chosen_rows(store: PatchStore) -> list[int]:
    """Give a few rows, nodules first."""
    positives, negatives = (np.flatnonzero(store.labels == label).tolist() for label in (1, 0))
    return [*positives[: N_ROWS - min(len(negatives), N_ROWS // 2)], *negatives[: N_ROWS // 2]][:N_ROWS]


def draw_sheet(store: PatchStore, out: Path) -> None:
    """Draw the sheet."""
    rows = chosen_rows(store)
    n_columns = len(panels_of(store, rows[0]))
    figure = Figure(figsize=(1.3 * n_columns, 1.32 * len(rows) + 0.45), facecolor="black")
    spaces = {"left": 0.025, "right": 0.995, "bottom": 0.01, "top": 1 - 0.45 / figure.get_figheight()}
    grid = figure.subplots(len(rows), n_columns, squeeze=False, gridspec_kw=spaces | {"wspace": 0.05, "hspace": 0.05})
    for panels, row in zip(grid, rows, strict=True):
        for panel, (title, hu) in zip(panels, panels_of(store, row).items(), strict=True):
            panel.imshow(hu, cmap="gray", vmin=LUNG_WINDOW_HU[0], vmax=LUNG_WINDOW_HU[1])
            panel.set(xticks=[], yticks=[])
            if row == rows[0]:
                panel.set_title(title, color="white", fontsize=8)
        diameter_mm = store.rows[row].diameter_mm
        name = store.rows[row].kind + (f"\n{diameter_mm:.1f} mm" if diameter_mm else "")
        panels[0].set_ylabel(name, color="white", fontsize=8)
    figure.savefig(out, dpi=120)


def run(out: Path, patches: Path | None) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = PatchStore.open(patches) if patches else cut_patches(Path(folder))
        draw_sheet(store, out)
    print(f"{len(store)} patches of {store.patch_vox} voxels, stored with {store.margin_vox} more on each side")
    print(f"Sheet of augmented patches: {out}")


if __name__ == "__main__":
    places = [Path(argument) for argument in sys.argv[1:3]]
    run(places[0] if places else Path("augmented_patches.png"), places[1] if len(places) > 1 else None)
