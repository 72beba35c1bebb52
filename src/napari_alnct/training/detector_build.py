"""Build a detector from a prepared data set: one call per fold of a cross-validation.

Hosts, donors and mined marks come from the training series; validation, thresholds and
calibration from the validation series. The two must not share a scan, nor a patient
where patients are named. What was used is written into the model file as short hashes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Sized
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from napari_alnct.core.checkpoint import file_sha256
from napari_alnct.core.config import PrepareSettings
from napari_alnct.core.errors import SettingsError
from napari_alnct.io.identifiers import short_hash
from napari_alnct.io.prepared import PreparedDataset
from napari_alnct.training.build import build_from_materials, hold_recipe
from napari_alnct.training.build_run import BuildRun, Log
from napari_alnct.training.case_library import CaseLibrary, StoredDonors
from napari_alnct.training.insertion import Donor
from napari_alnct.training.loop import StepReport
from napari_alnct.training.materials import CaseShelf, Materials, build_prepare_settings
from napari_alnct.training.prepared_cases import store_cases
from napari_alnct.training.settings import BuildSettings
from napari_alnct.training.sources import load_cubes

CUBE_WINDOW_HU = (-1200.0, 400.0)  # at which the cubes of the data pack were clipped


def build_detector_from_prepared(
    prepared_root: Path,
    train_series: Sequence[str],
    val_series: Sequence[str],
    settings: BuildSettings,
    folder: Path,
    log: Log,
    device: str = "cpu",
    *,
    cases: Path | None = None,
    cubes: Path | None = None,
    patients: Mapping[str, str] | None = None,
    on_step: Callable[[str, StepReport], None] | None = None,
    is_cancelled: Callable[[], bool] | None = None,
) -> Path:
    """Build a model on some scans of a prepared data set, continuing where an earlier build stopped.

    Parameters
    ----------
    prepared_root : Path
        Output folder of ``preprocess``, at 1 mm.
    train_series, val_series : sequence of str
        Scans to train on, and scans for validation, thresholds and calibration.
    settings : BuildSettings
        The recipe, such as `PREPARED`; its window is narrowed to that of the data. Held-out cases and
        phantoms are not used: validation is on scans of the data set.
    folder : Path
        Work folder of this one build: resume points, logs and the result.
    log : callable
        Gets lines of progress.
    device : str
        Where to train: ``cpu`` or ``cuda``.
    cases : Path, optional
        Where unpacked scans are kept, about 35 GB for a whole LUNA16; builds of several folds may
        share it, one after the other. Default: ``<folder>/cases``.
    cubes : Path, optional
        Nodule cubes in the form of ``lidc_nodules.npz``, as further donors.
    patients : mapping of str to str, optional
        Series to patient; with it, no patient may be on both sides.
    on_step : callable, optional
        Called with the name of the stage and what is known of the step.
    is_cancelled : callable, optional
        Asked before every step, and between scans.

    Returns
    -------
    Path
        ``<folder>/<name>.safetensors``.

    Raises
    ------
    SettingsError
        If training and validation share a scan or a patient, one of them is empty, the scans are
        not at 1 mm, or the folder holds another build.
    TableError, ReadError
        If the data set or a file of it cannot be used.
    JobCancelled
        If `is_cancelled` said so; the same call goes on.
    """
    facts = refuse_overlap(train_series, val_series, patients)
    dataset = PreparedDataset.open(prepared_root)
    prepare = shared_window(settings, dataset.prepare, has_cubes=cubes is not None)
    settings = replace(settings, crops=replace(settings.crops, low_hu=prepare.low_hu, high_hu=prepare.high_hu))
    facts |= _series_facts(dataset, train_series, val_series) | _cube_facts(cubes)
    hold_recipe(folder, settings, facts)
    run = BuildRun(folder=folder, log=log, device=device, on_step=on_step, is_cancelled=is_cancelled)
    materials = _gather(dataset, (train_series, val_series), settings, cases or folder / "cases", cubes, run)
    return build_from_materials(replace(materials, prepare=prepare, facts=facts | materials.facts), settings, run)


def _gather(
    dataset: PreparedDataset,
    series: tuple[Sequence[str], Sequence[str]],
    settings: BuildSettings,
    folder: Path,
    cubes: Path | None,
    run: BuildRun,
) -> Materials:
    """Give hosts and donors of the training scans, and the validation scans."""
    high_hu, jobs = settings.crops.high_hu, settings.first_stage.workers
    train, held = (
        store_cases(dataset, sorted(uids), folder, ceiling_hu=high_hu, n_jobs=jobs, log=run.log) for uids in series
    )
    more = [] if cubes is None else load_cubes(cubes, ceiling_hu=high_hu)
    donors = StoredDonors(train.donors().entries, more)
    run.log(f"{len(train)} training scans with {train.overview.n_nodules.sum()} nodules, {len(donors)} donors")
    if cubes is not None:
        run.log("the cubes show patients of LIDC-IDRI, so this model must not be judged on LUNA16 or LIDC-IDRI scans")
    held_donors: Sequence[Donor] = ()
    if not held.overview.n_nodules.any():
        donors, held_donors = hold_out_donors(donors, settings)
        run.log(
            f"no nodule in validation ({_count(held, 'scan')}): {_count(held_donors, 'donor')} that training does not "
            "see will be put into it, so CPM and thresholds are not those of real nodules"
        )
    facts = {"validation": "inserted nodules" if len(held_donors) else "annotated nodules"}
    hosts = _with_phantoms(train, settings, folder, run)
    return Materials(hosts, donors, held, held_donors, dataset.prepare, facts)


def _with_phantoms(train: CaseLibrary, settings: BuildSettings, folder: Path, run: BuildRun) -> CaseLibrary:
    """Give the training scans and, behind them, the phantoms that the recipe asks for."""
    shelf, prepare = CaseShelf(folder), build_prepare_settings(settings)
    for number in range(settings.n_phantoms):
        run.log(f"phantom {number + 1} of {settings.n_phantoms}")
        shelf.add_phantom(settings.phantom_seed + number, prepare)
    return CaseLibrary([*train.folders, *shelf.paths])


def hold_out_donors(donors: StoredDonors, settings: BuildSettings) -> tuple[StoredDonors, list[Donor]]:
    """Give donors for training, and others for validation scans that have no nodules of their own.

    Parameters
    ----------
    donors : StoredDonors
        All of them.
    settings : BuildSettings
        Share that is held out, and the seed of the choice.

    Returns
    -------
    tuple of (StoredDonors, list of Donor)
        They share none.

    Raises
    ------
    SettingsError
        If there are fewer than two donors, so that there is nothing to validate on.
    """
    if len(donors) < 2:
        raise SettingsError(
            "the validation scans have no nodule and there are no donors to put into them; choose validation scans "
            "with nodules, or give nodule cubes"
        )
    n_held = min(len(donors) - 1, max(1, round(settings.held_out_cube_share * len(donors))))
    chosen = np.random.default_rng(settings.first_stage.seed).permutation(len(donors))[:n_held].tolist()
    return donors.without(chosen), [donors[k] for k in sorted(chosen)]


def refuse_overlap(
    train_series: Sequence[str], val_series: Sequence[str], patients: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Refuse scans or patients on both sides, and say what was checked.

    Parameters
    ----------
    train_series, val_series : sequence of str
        The two sides.
    patients : mapping of str to str, optional
        Series to patient.

    Returns
    -------
    dict
        ``guard``: ``series`` or ``patient``.

    Raises
    ------
    SettingsError
        If one side is empty or they share something.
    """
    sides = {"train": set(train_series), "validation": set(val_series)}
    for side, series in sides.items():
        if not series:
            raise SettingsError(f"no scan to use for {side}; choose other folds or another list of series")
    shared = sides["train"] & sides["validation"]
    if shared:
        raise SettingsError(
            f"training and validation share {_count(shared, 'scan')}, the first is {short_hash(min(shared))}; "
            "choose folds or lists that share none"
        )
    if patients is None:
        return {"guard": "series"}
    unknown = (sides["train"] | sides["validation"]) - set(patients)
    if unknown:
        raise SettingsError(
            f"the table of patients lacks {_count(unknown, 'scan')}, the first is {short_hash(min(unknown))}; add "
            "what is missing, or leave the table out"
        )
    names = [{patients[uid] for uid in series} for series in sides.values()]
    if names[0] & names[1]:
        raise SettingsError(
            f"training and validation share {_count(names[0] & names[1], 'patient')}; choose folds or lists by patient"
        )
    return {"guard": "patient"}


def shared_window(settings: BuildSettings, data: PrepareSettings, *, has_cubes: bool = False) -> PrepareSettings:
    """Give the form of the network's input: the data's own, with the narrowest window of all that is mixed.

    Parameters
    ----------
    settings : BuildSettings
        The recipe.
    data : PrepareSettings
        How the scans were prepared.
    has_cubes : bool
        Whether nodule cubes are put into them, which end at -1200 and 400 HU.

    Returns
    -------
    PrepareSettings
    """
    windows = [(settings.crops.low_hu, settings.crops.high_hu), (data.low_hu, data.high_hu)]
    windows += [CUBE_WINDOW_HU] if has_cubes else []
    return replace(data, low_hu=max(low for low, _ in windows), high_hu=min(high for _, high in windows))


def _series_facts(dataset: PreparedDataset, train: Sequence[str], val: Sequence[str]) -> dict[str, Any]:
    """Give what the model file says of its scans: hashes and folds."""
    folds = {scan.series_uid: scan.subset for scan in dataset.scans}
    facts: dict[str, Any] = {}
    for side, series in (("train", train), ("val", val)):
        facts[f"{side}_series"] = sorted(short_hash(uid) for uid in series)
        facts[f"{side}_folds"] = sorted({fold for uid in series if (fold := folds.get(uid)) is not None})
    return facts


def _count(things: Sized, name: str) -> str:
    return f"{len(things)} {name}{'' if len(things) == 1 else 's'}"


def _cube_facts(cubes: Path | None) -> dict[str, Any]:
    """Give what the model file says of nodule cubes."""
    return {} if cubes is None else {"cubes": {"file": cubes.name, "sha256": file_sha256(cubes)}}
