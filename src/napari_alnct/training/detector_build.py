"""Build a detector from a prepared data set: one call per fold of a cross-validation.

Hosts, donors and mined marks come from the training series; validation, thresholds and
calibration from the validation series. The two must not share a scan, nor a patient
where patients are named. What was used is written into the model file as short hashes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from napari_alnct.core.config import PrepareSettings
from napari_alnct.core.errors import SettingsError
from napari_alnct.io.identifiers import short_hash
from napari_alnct.io.prepared import PreparedDataset
from napari_alnct.training.build import build_from_materials, hold_recipe
from napari_alnct.training.materials import Log, Materials
from napari_alnct.training.prepared_cases import store_cases
from napari_alnct.training.settings import BuildSettings


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
) -> Path:
    """Build a model on some scans of a prepared data set, continuing where an earlier build stopped.

    Parameters
    ----------
    prepared_root : Path
        Output folder of ``preprocess``, at 1 mm.
    train_series, val_series : sequence of str
        Scans to train on, and scans for validation, thresholds and calibration.
    settings : BuildSettings
        The recipe; its window is narrowed to that of the data.
    folder : Path
        Work folder of this one build: resume points, logs and the result.
    log : callable
        Gets lines of progress.
    device : str
        Where to train: ``cpu`` or ``cuda``.
    cases : Path, optional
        Where unpacked scans are kept, about 35 GB for a whole LUNA16; builds of several folds may
        share it. Default: ``<folder>/cases``.
    cubes : Path, optional
        Nodule cubes in the form of ``lidc_nodules.npz``, as further donors.
    patients : mapping of str to str, optional
        Series to patient; with it, no patient may be on both sides.

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
    """
    guard = refuse_overlap(train_series, val_series, patients)
    dataset = PreparedDataset.open(prepared_root)
    prepare = shared_window(settings, dataset.prepare)
    settings = replace(settings, crops=replace(settings.crops, low_hu=prepare.low_hu, high_hu=prepare.high_hu))
    facts = {**guard, **_series_facts(dataset, train_series, val_series)}
    hold_recipe(folder, settings, facts)
    library = cases or folder / "cases"
    train, held = (
        store_cases(dataset, uids, library, ceiling_hu=prepare.high_hu, n_jobs=settings.first_stage.workers, log=log)
        for uids in (sorted(train_series), sorted(val_series))
    )
    materials = Materials(train, train.donors(), held, (), prepare, facts)
    return build_from_materials(materials, settings, folder, log, device)


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
            f"{len(shared)} scans are in training and in validation, the first is {short_hash(min(shared))}; "
            "choose folds or lists that share none"
        )
    if patients is None:
        return {"guard": "series"}
    unknown = sorted((sides["train"] | sides["validation"]) - set(patients))
    if unknown:
        raise SettingsError(f"{len(unknown)} scans have no patient in the table; add them, or leave the table out")
    names = [{patients[uid] for uid in series} for series in sides.values()]
    if names[0] & names[1]:
        raise SettingsError(f"{len(names[0] & names[1])} patients are in training and in validation; split by patient")
    return {"guard": "patient"}


def shared_window(settings: BuildSettings, data: PrepareSettings) -> PrepareSettings:
    """Give the form of the network's input: the data's own, with the narrower window of data and recipe.

    Parameters
    ----------
    settings : BuildSettings
        The recipe.
    data : PrepareSettings
        How the scans were prepared.

    Returns
    -------
    PrepareSettings
    """
    low, high = max(settings.crops.low_hu, data.low_hu), min(settings.crops.high_hu, data.high_hu)
    return replace(data, low_hu=low, high_hu=high)


def _series_facts(dataset: PreparedDataset, train: Sequence[str], val: Sequence[str]) -> dict[str, Any]:
    """Give what the model file says of its scans: hashes and folds."""
    folds = {scan.series_uid: scan.subset for scan in dataset.scans}
    facts: dict[str, Any] = {}
    for side, series in (("train", train), ("val", val)):
        facts[f"{side}_series"] = sorted(short_hash(uid) for uid in series)
        facts[f"{side}_folds"] = sorted({fold for uid in series if (fold := folds.get(uid)) is not None})
    return facts
