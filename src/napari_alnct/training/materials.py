"""What a build trains on and what it holds out: cases and donors, real and synthetic."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from napari_alnct import __version__
from napari_alnct.core.checkpoint import file_sha256
from napari_alnct.core.config import PrepareSettings
from napari_alnct.core.errors import SettingsError
from napari_alnct.data.phantom import PhantomSettings, make_phantom
from napari_alnct.io.identifiers import short_hash
from napari_alnct.training.build_run import Log
from napari_alnct.training.case_library import CaseLibrary, is_stored, write_case
from napari_alnct.training.cases import TrainingCase
from napari_alnct.training.insertion import Donor
from napari_alnct.training.settings import BuildSettings
from napari_alnct.training.sources import (
    CUBES,
    cube_names,
    load_pack_cases,
    load_pack_donors,
    pack_case_names,
    pack_series,
    phantom_case,
)

FIELD_MM = (310.0, 340.0, 340.0)  # of the phantoms, z, y, x


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


def gather(settings: BuildSettings, pack: Path | None, log: Log, folder: Path | None = None) -> Materials:
    """Give everything that a build from the data pack or from phantoms alone needs.

    Parameters
    ----------
    settings : BuildSettings
        Seeds and what is held out.
    pack : Path or None
        Folder of the data pack; None: phantoms alone.
    log : callable
        Told what was loaded.
    folder : Path, optional
        Where cases are kept, to be mapped from; without it they stay in memory.

    Returns
    -------
    Materials
    """
    held_names = settings.held_out_cases
    cases, held = CaseShelf(folder), CaseShelf(folder)
    donors, held_donors = [], []
    if pack is not None:
        log(f"reading the data pack {pack.name}")
        cases.add_all(load_pack_cases(pack, leave_out=held_names))
        held.add_all(load_pack_cases(pack, leave_out=set(pack_case_names(pack)) - set(held_names)))
        held_cubes = choose_held_cubes(cube_names(pack), settings)
        donors = load_pack_donors(pack, ceiling_hu=settings.crops.high_hu, leave_out=held_cubes)
        kept = {donor.name for donor in donors}
        held_donors = load_pack_donors(pack, ceiling_hu=settings.crops.high_hu, leave_out=kept)
    prepare = build_prepare_settings(settings)
    for number in range(settings.n_phantoms + settings.n_phantoms_held_out):
        log(f"phantom {number + 1} of {settings.n_phantoms + settings.n_phantoms_held_out}")
        (cases if number < settings.n_phantoms else held).add_phantom(settings.phantom_seed + number, prepare)
    facts: dict[str, Any] = {
        "cases": list(cases.names),
        "held_out_cases": list(held.names),
        "held_out_donors": [donor.name for donor in held_donors],
    }
    if pack is not None:
        facts |= _pack_facts(pack, held_names)
    return Materials(cases.cases(), tuple(donors), held.cases(), tuple(held_donors), prepare, facts)


def _pack_facts(pack: Path, held_names: Collection[str]) -> dict[str, Any]:
    """Give what the model file says of the pack: its scans as short hashes, its cubes by their file's hash."""
    series = pack_series(pack)
    sides = [[name for name in pack_case_names(pack) if (name in held_names) == held] for held in (False, True)]
    train, held = (sorted(short_hash(series[name]) for name in names) for names in sides)
    return {
        "train_series": train,
        "val_series": held,
        "cubes": {"file": CUBES.name, "sha256": file_sha256(pack / CUBES)},
    }


class CaseShelf:
    """Cases that are being gathered: in a folder, to be mapped from, or in memory.

    Parameters
    ----------
    folder : Path or None
        None: in memory.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder, self.names = folder, list[str]()
        self.paths: list[Path] = []
        self._cases: list[TrainingCase] = []

    def add_all(self, cases: Iterable[TrainingCase]) -> None:
        """Add cases that are in memory, one at a time.

        Parameters
        ----------
        cases : iterable of TrainingCase
            Stored when there is a folder.
        """
        for case in cases:
            if self.folder is None:
                self._cases.append(case)
                self.names.append(case.name)
            else:
                self._store(case.name, _content_hash(case), partial(_itself, case))

    def add_phantom(self, seed: int, prepare: PrepareSettings) -> None:
        """Add a phantom; one that is stored already is not made again.

        Parameters
        ----------
        seed : int
            Decides the phantom.
        prepare : PrepareSettings
            How it is prepared.
        """
        plan = training_phantom(seed)
        if self.folder is None:
            self.add_all([phantom_case(make_phantom(plan), prepare)])
            return
        fingerprint = hashlib.sha256(repr((__version__, plan, prepare)).encode()).hexdigest()
        self._store(f"phantom {seed}", fingerprint, lambda: phantom_case(make_phantom(plan), prepare))

    def cases(self) -> Sequence[TrainingCase]:
        """Give what was gathered, in the order in which it was added."""
        return tuple(self._cases) if self.folder is None else CaseLibrary(self.paths)

    def _store(self, name: str, fingerprint: str, make: Callable[[], TrainingCase]) -> None:
        assert self.folder is not None
        path = self.folder / short_hash(name)
        if not is_stored(path, fingerprint):
            write_case(path, make(), (), fingerprint)
        self.paths.append(path)
        self.names.append(CaseLibrary([path]).names[0])


def _itself(case: TrainingCase) -> TrainingCase:
    return case


def _content_hash(case: TrainingCase) -> str:
    content = hashlib.sha256(case.hu.tobytes())
    content.update(repr((case.geometry, case.centres_zyx_vox.tolist(), case.ignored_zyx_vox.tolist())).encode())
    return content.hexdigest()


def choose_held_cubes(names: list[str], settings: BuildSettings) -> set[str]:
    """Give the names of the cubes that are held out: those named, else a share chosen by the first stage's seed."""
    if settings.held_out_cubes:
        unknown = set(settings.held_out_cubes) - set(names)
        if unknown:
            raise SettingsError(f"the data pack has no cube {min(unknown)}; see the names in {CUBES.name}")
        return set(settings.held_out_cubes)
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
