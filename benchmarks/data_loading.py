"""Patches per second of the whole augmented pipeline, from the stored patches to tensors in the training process.

    python benchmarks/data_loading.py [--rounds 3] [--device auto] [--out benchmarks/results/data_loading.json]
    PYTHONPATH=FOLDER python benchmarks/data_loading.py     # with MONAI to compare, after
    python -m pip install --no-deps --target FOLDER monai   # which is no dependency of this project

Patches of 64 voxels with their margin are cut from a phantom. Every row reads the same patches
from memory (the page cache), changes them with the same probabilities and ranges and gives
float16 HU of 64 voxels; workers are processes of one thread. Rows take turns, each starts
with a warm-up, the median of the rounds counts. As other work may run beside, the CPU time per
patch is given too, workers and their start included.

``torchio`` and ``batched`` are the two backends (`docs/augmentation.md`), ``torchio as in its manual``
the same transforms as random ones with `SubjectsDataset`. MONAI's row is its manual's way: a
`CacheDataset` that keeps the patches scaled to [0, 1] in memory, random transforms, its own
`DataLoader`, metadata off (its advice for speed). Bar: torchio faster than MONAI in each figure.
"""

from __future__ import annotations

import argparse
import gc
import importlib.util
import itertools
import json
import math
import os
import platform
import resource
import tempfile
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import median
from time import perf_counter, process_time
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from napari_alnct.core.config import PrepareSettings
from napari_alnct.core.preprocess import prepare
from napari_alnct.data.phantom import make_phantom, small_settings
from napari_alnct.io.patch_store import PatchRow, PatchStore, PatchWriter, cube_around
from napari_alnct.training.augmentation import AugmentSettings, PatchFrame
from napari_alnct.training.batch_augmentation import device_batches
from napari_alnct.training.patch_dataset import BatchPlan, PatchDataset, open_loader

N_PATCHES, BATCH, WARM_UP, EPOCHS, MANUAL_EPOCHS = 96, 16, 8, 5, 2
INSTALL_MONAI = "not measured: no monai; python -m pip install --no-deps --target FOLDER monai, PYTHONPATH=FOLDER"
AS_IN_MANUAL = "torchio as in its manual"
Batches = Iterable[Any]
Row = dict[str, list[float]]


def make_store(folder: Path) -> PatchStore:
    """Cut patches at random places of a phantom's lungs."""
    scan = make_phantom(small_settings(seed=3))
    settings = PrepareSettings()
    prepared = prepare(scan.volume, settings)
    spots = np.argwhere(prepared.lungs.on_grid(prepared.geometry))
    chosen = np.random.default_rng(0).choice(spots, N_PATCHES)
    with PatchWriter(folder, settings, patch_vox=64, margin_vox=8, notes={}) as writer:
        for number, centre in enumerate(chosen.tolist()):
            label = number % 2  # the figures do not depend on what is in the patches
            row = PatchRow(
                series_uid="phantom",
                label=label,
                kind="nodule" if label else "lung",
                centre_zyx_vox=tuple(centre),
                position_xyz_mm=tuple(prepared.to_world([centre])[0].tolist()),
            )
            writer.add(row, cube_around(prepared.hu, centre, 80, settings.low_hu))
    return PatchStore.open(folder)


def our_batches(store: PatchStore, augment: AugmentSettings | None, workers: int, device: str) -> Batches:
    """Open a loader of this project."""
    plan = BatchPlan(store.labels, epochs=EPOCHS, batch=BATCH, neg_ratio=None, seed=0)
    loader = open_loader(PatchDataset(store, augment, seed=0), plan, workers=workers, device=device)
    return device_batches(loader, device)


def to_hu(unit: torch.Tensor, frame: PatchFrame) -> torch.Tensor:
    """Give [0, 1] as clipped HU in float16, what every row hands over."""
    return unit.clamp(0, 1).mul(frame.width_hu).add(frame.low_hu).half()


class ManualTorchio(Dataset[torch.Tensor]):
    """torchio as its manual shows it: subjects in, random transforms, a crop at the end."""

    def __init__(self, store: PatchStore, augment: AugmentSettings) -> None:
        import torchio

        s, self.frame = augment.scaled(), PatchFrame.of(store)
        unit = (torch.from_numpy(np.array(store.hu)).float() - self.frame.low_hu) / self.frame.width_hu
        subjects = [torchio.Subject(patch=torchio.ScalarImage(tensor=cube.clone()[None])) for cube in unit]
        width, cube = self.frame.width_hu, (s.rotation_deg,) * 3
        affine = torchio.RandomAffine(
            s.scale_range, cube, (s.translation_mm,) * 3, isotropic=True, default_pad_value=0.0, p=s.affine_probability
        )
        noise = torchio.RandomNoise(std=tuple(v / width for v in s.noise_range_hu), p=s.noise_probability)
        steps = [
            torchio.RandomFlip((0, 1, 2), s.flip_probability),
            affine,
            torchio.CropOrPad(self.frame.patch_vox),
            torchio.RandomBlur(s.blur_range_mm, p=s.blur_probability),
            torchio.Lambda(self.calibrate, p=s.hu_probability),
            torchio.Clamp(0.0, 1.0),
            torchio.RandomGamma(s.log_gamma, p=s.gamma_probability),
            noise,
        ]
        self.subjects = torchio.SubjectsDataset(subjects, transform=torchio.Compose(steps))
        self.settings = s

    def calibrate(self, unit: torch.Tensor) -> torch.Tensor:
        """Scale and shift at random."""
        factor, shift = (torch.rand(2) * 2 - 1).tolist()
        return unit * (1 + self.settings.hu_scale * factor) + self.settings.hu_shift * shift / self.frame.width_hu

    def __len__(self) -> int:
        return len(self.subjects) * MANUAL_EPOCHS

    def __getitem__(self, index: int) -> torch.Tensor:
        return to_hu(self.subjects[index % len(self.subjects)]["patch"].data[0], self.frame)


def manual_torchio_batches(store: PatchStore, augment: AugmentSettings, workers: int) -> Batches:
    prefetch = 4 if workers else None
    return DataLoader(ManualTorchio(store, augment), batch_size=BATCH, num_workers=workers, prefetch_factor=prefetch)


def monai_batches(store: PatchStore, augment: AugmentSettings, workers: int) -> Batches:
    """Open MONAI's loader over the same patches with its equivalent transforms."""
    from monai import transforms as m
    from monai.data import CacheDataset, set_track_meta
    from monai.data import DataLoader as MonaiLoader

    set_track_meta(False)
    s, frame = augment.scaled(), PatchFrame.of(store)
    angle, zoom = math.radians(s.rotation_deg), tuple(v - 1 for v in s.scale_range)
    key, sigma, width = ["hu"], s.blur_range_mm, frame.width_hu
    steps = [
        m.EnsureChannelFirstd(key, channel_dim="no_channel"),
        m.ScaleIntensityRanged(key, frame.low_hu, frame.high_hu, 0.0, 1.0, clip=True),
        m.EnsureTyped(key, dtype=torch.float32),
        *(m.RandFlipd(key, prob=s.flip_probability, spatial_axis=axis) for axis in range(3)),
        m.RandAffined(
            key, spatial_size=(frame.patch_vox,) * 3, prob=s.affine_probability, rotate_range=(angle,) * 3,
            scale_range=(zoom,) * 3, translate_range=(s.translation_mm,) * 3, padding_mode="zeros", cache_grid=True,
        ),
        m.RandGaussianSmoothd(key, sigma_x=sigma, sigma_y=sigma, sigma_z=sigma, prob=s.blur_probability),
        m.RandScaleIntensityd(key, factors=s.hu_scale, prob=s.hu_probability),
        m.RandShiftIntensityd(key, offsets=s.hu_shift / width, prob=s.hu_probability),
        m.RandAdjustContrastd(key, prob=s.gamma_probability, gamma=(math.exp(-s.log_gamma), math.exp(s.log_gamma))),
        m.RandGaussianNoised(key, prob=s.noise_probability, std=s.noise_range_hu[1] / width),
        m.ScaleIntensityRanged(key, 0.0, 1.0, frame.low_hu, frame.high_hu, clip=True),
        m.CastToTyped(key, dtype=torch.float16),
    ]  # fmt: skip
    items = [{"hu": np.array(cube), "label": int(label)} for cube, label in zip(store.hu, store.labels, strict=True)]
    dataset = CacheDataset(items, m.Compose(steps), progress=False)
    ordered = [i % len(items) for i in range(len(items) * EPOCHS)]
    prefetch = 4 if workers else None
    return MonaiLoader(dataset, batch_size=BATCH, sampler=ordered, num_workers=workers, prefetch_factor=prefetch)


def rate(open_row: Callable[[int], Batches], workers: int, device: str) -> tuple[float, float]:
    """Run a loader to its end; give patches per second after the warm-up, and CPU milliseconds per patch.

    The CPU time is that of this process after the warm-up, and that of the workers from start to end.
    """
    children = children_cpu_s()
    stream = iter(open_row(workers))
    n_warm = sum(n_patches(next(stream)) for _ in range(WARM_UP))
    wall, cpu = perf_counter(), process_time()
    n = sum(n_patches(batch) for batch in stream)
    if device == "cuda":
        torch.cuda.synchronize()
    seconds, cpu_s = perf_counter() - wall, process_time() - cpu
    del stream
    gc.collect()  # ends the workers, so that their time is counted
    return n / seconds, (cpu_s / n + (children_cpu_s() - children) / (n + n_warm)) * 1000


def n_patches(batch: Any) -> int:
    """Count the patches of a batch of any of the loaders, and look at their shape."""
    first = batch[0] if isinstance(batch, (tuple, list)) else batch["hu"] if isinstance(batch, dict) else batch
    assert first.shape[-3:] == (64, 64, 64), first.shape
    return len(first)


def children_cpu_s() -> float:
    """Give the CPU seconds of the processes that this one has started and that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def rows(store: PatchStore, device: str) -> dict[str, Callable[[int], Batches]]:
    """Give the rows of the table: workers -> batches; those that are compared stand side by side."""
    plain, batched = AugmentSettings(), AugmentSettings(backend="batched")
    table: dict[str, Callable[[int], Batches]] = {
        AS_IN_MANUAL: lambda workers: manual_torchio_batches(store, plain, workers),
        "no change": lambda workers: our_batches(store, None, workers, device),
        f"batched on {device}": lambda workers: our_batches(store, batched, workers, device),
        "torchio": lambda workers: our_batches(store, plain, workers, device),
    }
    if importlib.util.find_spec("monai"):
        table["monai"] = lambda workers: monai_batches(store, plain, workers)
    return table


def measure(store: PatchStore, rounds: int, device: str) -> dict[str, Row]:
    """Measure all rows in turns; give for each row and figure what each round found."""
    torch.set_num_threads(1)  # the training process has one thread beside two workers, like each of them
    found: dict[str, Row] = {}
    for _, workers, (name, open_row) in itertools.product(range(rounds), (0, 1, 2), rows(store, device).items()):
        if workers and name == AS_IN_MANUAL:
            continue  # its CPU time says enough
        per_second, cpu_ms = rate(open_row, workers, device)
        figures = found.setdefault(name, {})
        figures.setdefault(f"patches_per_s_{workers}_workers", []).append(per_second)
        figures.setdefault(f"cpu_ms_per_patch_{workers}_workers", []).append(cpu_ms)
        print(f"{name}, {workers} workers: {per_second:.0f}/s, {cpu_ms:.1f} ms", flush=True)
    return found


def medians(row: Row) -> dict[str, float]:
    """Give the median of each figure over the rounds."""
    return {key: round(median(values), 1) for key, values in row.items()}


def compare(found: dict[str, Row]) -> dict[str, Any]:
    """Give how many times better than MONAI: median over the rounds, each a pair measured one after the other."""
    if "monai" not in found:
        return {"monai": INSTALL_MONAI, "faster_than_monai": None}
    ratios = {}
    for key, ours in found["torchio"].items():
        pairs = zip(ours, found["monai"][key], strict=True)
        ratios[key] = round(median(b / a if key.startswith("cpu") else a / b for a, b in pairs), 2)
    return {"torchio_better_than_monai_by": ratios, "faster_than_monai": all(ratio > 1 for ratio in ratios.values())}


def versions() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for name in ("torch", "torchio", "SimpleITK", "monai"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "none"
    return found


def machine(device: str) -> str:
    models = [line.split(":")[1].strip() for line in _cpu_lines() if line.startswith("model name")]
    cpu = f"{os.cpu_count()} cores, {models[0] if models else platform.processor() or platform.machine()}"
    return f"{cpu}, {platform.system()}" + (f", {torch.cuda.get_device_name()}" if device == "cuda" else "")


def _cpu_lines() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []


def run() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/data_loading.json"))
    options = parser.parse_args()
    device = options.device if options.device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    os.environ["ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"] = "1"  # rows without workers run in this process
    warnings.filterwarnings("ignore", category=FutureWarning)  # MONAI's use of torch
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    with tempfile.TemporaryDirectory() as folder:
        found = measure(make_store(Path(folder)), options.rounds, device)
    result = {
        "machine": machine(device),
        "load_1_min_before": load,
        "versions": versions(),
        "patches": f"{N_PATCHES} stored cubes of 80 voxels, batches of {BATCH}, median of {options.rounds} rounds",
        "rows": {name: medians(row) for name, row in found.items()},
        **compare(found),
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    run()
