"""What a build trains on and what it holds out: cases and donors, real and synthetic."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from napari_alnct.core.config import PrepareSettings
from napari_alnct.data.phantom import PhantomSettings, make_phantom
from napari_alnct.training.cases import TrainingCase
from napari_alnct.training.insertion import Donor
from napari_alnct.training.settings import BuildSettings
from napari_alnct.training.sources import cube_names, load_pack_cases, load_pack_donors, pack_case_names, phantom_case

FIELD_MM = (310.0, 340.0, 340.0)  # of the phantoms, z, y, x
Log = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class Materials:
    """Cases and donors for training, and those held out; `facts` is what the model file says of them."""

    cases: Sequence[TrainingCase]
    donors: Sequence[Donor]
    held_cases: Sequence[TrainingCase]
    held_donors: Sequence[Donor]
    prepare: PrepareSettings
    facts: dict[str, Any] = field(default_factory=dict)


def build_prepare_settings(settings: BuildSettings) -> PrepareSettings:
    """Give how scans are prepared for the model that is built: 1 mm, the window of the crops."""
    return PrepareSettings(spacing_mm=1.0, low_hu=settings.crops.low_hu, high_hu=settings.crops.high_hu)


def gather(settings: BuildSettings, pack: Path | None, log: Log) -> Materials:
    """Give everything that a build needs.

    Parameters
    ----------
    settings : BuildSettings
        Seeds and what is held out.
    pack : Path or None
        Folder of the data pack; None: phantoms alone.
    log : callable
        Told what was loaded.

    Returns
    -------
    Materials
    """
    held_names = settings.held_out_cases
    cases, held, donors, held_donors = [], [], [], []
    if pack is not None:
        log(f"reading the data pack {pack.name}")
        cases = list(load_pack_cases(pack, leave_out=held_names))
        held = list(load_pack_cases(pack, leave_out=set(pack_case_names(pack)) - set(held_names)))
        held_cubes = choose_held_cubes(cube_names(pack), settings)
        donors = load_pack_donors(pack, ceiling_hu=settings.crops.high_hu, leave_out=held_cubes)
        kept = {donor.name for donor in donors}
        held_donors = load_pack_donors(pack, ceiling_hu=settings.crops.high_hu, leave_out=kept)
    prepare_settings = build_prepare_settings(settings)
    for number in range(settings.n_phantoms + settings.n_phantoms_held_out):
        case = phantom_case(make_phantom(training_phantom(settings.phantom_seed + number)), prepare_settings)
        log(f"phantom {number + 1}: {len(case.diameters_mm)} nodules")
        (cases if number < settings.n_phantoms else held).append(case)
    facts = {
        "cases": [case.name for case in cases],
        "held_out_cases": [case.name for case in held],
        "held_out_donors": [donor.name for donor in held_donors],
    }
    return Materials(tuple(cases), tuple(donors), tuple(held), tuple(held_donors), prepare_settings, facts)


def choose_held_cubes(names: list[str], settings: BuildSettings) -> set[str]:
    """Give the names of the cubes that are held out; the choice follows from the first stage's seed."""
    rng = np.random.default_rng(settings.first_stage.seed)
    count = round(settings.held_out_cube_share * len(names))
    return {names[i] for i in rng.choice(len(names), count, replace=False)}


def training_phantom(seed: int) -> PhantomSettings:
    """Give the settings of a phantom for training: many nodules, varied spacing and noise.

    Parameters
    ----------
    seed : int
        Decides spacing, noise and the scan.

    Returns
    -------
    PhantomSettings
    """
    rng = np.random.default_rng((seed, 77))
    slices_mm, pixel_mm = float(rng.choice([0.7, 1.0, 1.25, 2.0, 2.5])), float(round(rng.uniform(0.65, 0.95), 2))
    spacing = (slices_mm, pixel_mm, pixel_mm)
    z, y, x = (round(field / step) for field, step in zip(FIELD_MM, spacing, strict=True))
    return PhantomSettings(
        shape_zyx=(z, y, x),
        spacing_zyx_mm=spacing,
        n_nodules=(8, 16),
        noise_hu=float(rng.uniform(8, 30)),
        seed=seed,
    )
