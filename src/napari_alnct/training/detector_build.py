"""Build a detector from a prepared data set: one call per fold of a cross-validation.

Hosts, donors and mined marks come from the training series; validation, thresholds and
calibration from the validation series. The two must not share a scan, nor a patient
where patients are named. What was used is written into the model file as short hashes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence, Sized
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
        not at 1 mm, the folder holds another build, or validation has no nodule and training none to spare.
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
    materials = _gather(dataset, (train_series, val_series), settings, cases or folder / "cases", cubes, run, patients)
    return build_from_materials(replace(materials, prepare=prepare, facts=facts | materials.facts), settings, run)


def _gather(
    dataset: PreparedDataset,
    series: tuple[Sequence[str], Sequence[str]],
    settings: BuildSettings,
    folder: Path,
    cubes: Path | None,
    run: BuildRun,
    patients: Mapping[str, str] | None,
) -> Materials:
    """Give hosts and donors of the training scans, and the validation scans."""
    high_hu, jobs = settings.crops.high_hu, settings.first_stage.workers
    train, held = (
        store_cases(dataset, sorted(uids), folder, ceiling_hu=high_hu, n_jobs=jobs, log=run.log) for uids in series
    )
    more = [] if cubes is None else load_cubes(cubes, ceiling_hu=high_hu)
    if cubes is not None:
        run.log("the cubes show patients of LIDC-IDRI, so this model must not be judged on LUNA16 or LIDC-IDRI scans")
    facts: dict[str, Any] = {"validation": "annotated nodules"}
    held_donors: Sequence[Donor] = ()
    if not held.overview.n_nodules.any():
        given = train, more
        train, more, held_donors = hold_out_donors(train, more, settings, patients)
        run.log(_insertion_line(held, held_donors, given, (train, more)))
        inserted_from = set(given[0].names) - set(train.names)
        facts = {"validation": "inserted nodules"} | _series_facts(dataset, train.names, {*series[1], *inserted_from})
    donors = StoredDonors(train.donors().entries, more)
    run.log(f"{len(train)} training scans with {train.overview.n_nodules.sum()} nodules, {len(donors)} donors")
    hosts = _with_phantoms(train, settings, folder, run)
    return Materials(hosts, donors, held, held_donors, dataset.prepare, facts)


def _insertion_line(
    held: CaseLibrary,
    donors: Sequence[Donor],
    given: tuple[CaseLibrary, Sequence[Donor]],
    left: tuple[CaseLibrary, Sequence[Donor]],
) -> str:
    """Say what is put into validation scans without nodules, and where it is missing now."""
    n_scans = len(given[0]) - len(left[0])
    where = (
        f"{_count(donors, 'donor')} of {n_scans} training scan{'s' * (n_scans > 1)}, left out of training"
        if n_scans
        else f"{_count(donors, 'cube')}, not put into training scans, which may show the same patients"
    )
    return (
        f"no nodule in validation ({_count(held, 'scan')}): {where}, will be put into it, so CPM and thresholds are "
        "not those of real nodules"
    )


def _with_phantoms(train: CaseLibrary, settings: BuildSettings, folder: Path, run: BuildRun) -> CaseLibrary:
    """Give the training scans and, behind them, the phantoms that the recipe asks for."""
    shelf, prepare = CaseShelf(folder), build_prepare_settings(settings)
    for number in range(settings.n_phantoms):
        run.log(f"phantom {number + 1} of {settings.n_phantoms}")
        shelf.add_phantom(settings.phantom_seed + number, prepare)
    return CaseLibrary([*train.folders, *shelf.paths])


def hold_out_donors(
    train: CaseLibrary, cubes: Sequence[Donor], settings: BuildSettings, patients: Mapping[str, str] | None = None
) -> tuple[CaseLibrary, list[Donor], list[Donor]]:
    """Give what is left for training, and donors for validation scans that have no nodules of their own.

    Where there are cubes, some of them are held out; else whole scans with all their donors, since a
    nodule that is cut from a training scan is trained on in its place too.

    Parameters
    ----------
    train : CaseLibrary
        Training scans, named after their series.
    cubes : sequence of Donor
        Nodule cubes; may be empty.
    settings : BuildSettings
        Share that is held out, and the seed of the choice.
    patients : mapping of str to str, optional
        Series to patient; with it, all scans of a patient are held out together.

    Returns
    -------
    tuple of (CaseLibrary, list of Donor, list of Donor)
        Training scans and cubes that are left; held-out donors.

    Raises
    ------
    SettingsError
        If fewer than two training scans, or no donor, would be left.
    """
    rng = np.random.default_rng(settings.first_stage.seed)
    stored = train.donors()
    if len(cubes) > (not stored.entries):
        n_held = min(len(cubes) - (not stored.entries), max(1, round(settings.held_out_cube_share * len(cubes))))
        chosen = set(rng.permutation(len(cubes))[:n_held].tolist())
        left = [cube for k, cube in enumerate(cubes) if k not in chosen]
        return train, left, [cubes[k] for k in sorted(chosen)]
    giving = {folder for folder, _, _ in stored.entries}
    out = _scans_to_hold_out(train, giving, settings.held_out_cube_share, rng, patients or {})
    kept = CaseLibrary([folder for folder in train.folders if folder not in out])
    return kept, list(cubes), [stored[k] for k, (folder, _, _) in enumerate(stored.entries) if folder in out]


def _scans_to_hold_out(
    train: CaseLibrary, giving: set[Path], share: float, rng: np.random.Generator, patients: Mapping[str, str]
) -> set[Path]:
    """Give the folders of a share of the scans that give donors, and of all scans of their patients."""
    people = {folder: patients.get(uid, uid) for folder, uid in zip(train.folders, train.names, strict=True)}
    order = [folder for folder in train.folders if folder in giving]
    n_held = max(1, round(share * len(order)))
    out: set[Path] = set()
    for k in rng.permutation(len(order)):
        more = out | {folder for folder, person in people.items() if person == people[order[k]]}
        left = set(people) - more
        if len(out & giving) < n_held and len(left) >= 2 and left & giving:
            out = more
    if not out:
        raise SettingsError(
            "the validation scans have no nodule and too few training scans could give theirs; choose validation "
            "scans with nodules, or give nodule cubes"
        )
    return out


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


def _series_facts(dataset: PreparedDataset, train: Collection[str], val: Collection[str]) -> dict[str, Any]:
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
