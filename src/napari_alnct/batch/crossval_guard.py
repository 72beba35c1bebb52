"""The guards of a cross-validation: against leaks, and against scans or nodules that are missing.

A *leak* is a scan, a copy of one, or, where patients are known, a patient that is on
two of the sides: training, validation, test.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from napari_alnct.batch.crossval_plan import Split
from napari_alnct.core.errors import TableError
from napari_alnct.io.identifiers import short_hash
from napari_alnct.io.luna16 import Dataset
from napari_alnct.io.prepared import PreparedDataset

OFFICIAL_FOLDS = tuple(range(10))


def refuse_leaks(split: Split, patients: Mapping[str, str] | None = None) -> str:
    """Refuse a split of which two sides (training, validation, test) share a scan or a patient.

    Parameters
    ----------
    split : Split
        One fold.
    patients : mapping of str to str, optional
        Series to patient.

    Returns
    -------
    str
        Level of the guard: ``series`` or ``patient``.

    Raises
    ------
    TableError
        Names the fold and the first scan or patient that is on both sides.
    """
    sides = {"training": split.train, "validation": split.val}
    for side, series in sides.items():
        _refuse_shared(split, side, set(split.test) & set(series), "scan")
    _refuse_shared(split, "validation", set(split.train) & set(split.val), "scan", "training")
    for side, series in {**sides, "the test": split.test}.items():
        if not series:
            raise TableError(f"fold {split.fold}: no usable scan is left for {side}; see the failed scans")
    if patients is None:
        return "series"
    unknown = [uid for uid in (*split.test, *split.train, *split.val) if uid not in patients]
    if unknown:
        raise TableError(
            f"{len(unknown)} scans have no patient in the table, the first is {unknown[0]}; add them, or leave the "
            "table out for a guard at series level"
        )
    tested = {patients[uid] for uid in split.test}
    for side, series in sides.items():
        _refuse_shared(split, side, tested & {patients[uid] for uid in series}, "patient")
    trained = {patients[uid] for uid in split.train}
    _refuse_shared(split, "validation", trained & {patients[uid] for uid in split.val}, "patient", "training")
    return "patient"


def refuse_copies(prepared: PreparedDataset) -> None:
    """Refuse one scan that is in two folds under two names.

    Parameters
    ----------
    prepared : PreparedDataset
        All scans; only those on the same grid are compared, byte by byte (by SHA-256).

    Raises
    ------
    TableError
        Names both.
    """
    groups: dict[object, list[tuple[str, int | None, Path]]] = defaultdict(list)
    for scan in prepared.scans:
        groups[scan.geometry].append((scan.series_uid, scan.subset, scan.volume_path))
    for group in groups.values():
        if len({fold for _, fold, _ in group}) < 2:
            continue
        seen: dict[str, tuple[str, int | None]] = {}
        for uid, fold, path in group:
            other, other_fold = seen.setdefault(_file_sha256(path), (uid, fold))
            if other_fold != fold:
                raise TableError(
                    f"{uid} in fold {fold} and {other} in fold {other_fold} are the same scan under two names; "
                    "remove one of them"
                )


def refuse_model_leak(split: Split, training: Mapping[str, object], name: str) -> None:
    """Refuse a model that was made from a scan of the test fold, by what the model file says of itself.

    Parameters
    ----------
    split : Split
        The fold that the model is for.
    training : mapping
        ``training`` of the model's recipe; ``train_series`` and ``val_series`` are short hashes.
    name : str
        Name of the model file.

    Raises
    ------
    TableError
        If it names a test scan, other scans than those of the fold, or does not say what it was made from.
    """
    listed = [training.get(key) for key in ("train_series", "val_series")]
    if not all(isinstance(hashes, list) and hashes for hashes in listed):
        raise TableError(f"{name} does not say which scans it was made from, so it cannot be tested; train it again")
    used = {str(uid) for hashes in listed if isinstance(hashes, list) for uid in hashes}
    leaked = sorted(uid for uid in split.test if short_hash(uid) in used)
    if leaked:
        raise TableError(
            f"{name} was made from {len(leaked)} scans of test fold {split.fold}, the first is {leaked[0]}; delete its "
            "folder and train it again"
        )
    if used != {short_hash(uid) for uid in (*split.train, *split.val)}:
        raise TableError(
            f"{name} was made from other scans than those of fold {split.fold}; delete its folder and train it again"
        )


def check_annotations(dataset: Dataset, splits: Sequence[Split], folds: Mapping[int, Sequence[str]]) -> list[str]:
    """Refuse scans whose nodules are not known, and nodules whose scans are missing.

    Parameters
    ----------
    dataset : Dataset
        Raw scans with annotations.
    splits : sequence of Split
        The folds to test.
    folds : mapping of int to sequence of str
        Series of each fold that is there.

    Returns
    -------
    list of str
        Sentences for people: annotated scans that are not here because their folds are not.

    Raises
    ------
    TableError
        If there are no annotations, a fold has no nodule to train or validate on, or all ten folds are
        here but not all annotated scans.
    """
    if not dataset.has_annotations:
        raise TableError(
            f"{dataset.root.name} has no annotations.csv, and unknown nodules are not the same as none; put it into "
            "CSVFILES"
        )
    for split in splits:
        for side, series in (("training", split.train), ("validation", split.val)):
            if not any(dataset.nodules_of(uid) for uid in series):
                raise TableError(
                    f"fold {split.fold}: annotations.csv names no scan of its {side} ({len(series)} scans); "
                    "either none of them holds a nodule: use more scans, or files and table name the series differently"
                )
    here = {uid for series in folds.values() for uid in series}
    missing = sorted({nodule.series_uid for nodule in dataset.annotations} - here)
    if missing and set(folds) >= set(OFFICIAL_FOLDS):
        raise TableError(
            f"{len(missing)} annotated scans are missing, the first is {missing[0]}; their nodules would be left out "
            "of the count, so complete the folds"
        )
    return [f"{len(missing)} annotated scans are not here and are not judged"] if missing else []


def annotations_sha256(dataset: Dataset) -> str:
    """Give a hash of all annotations, by which a resumed run knows whether they changed."""
    return hashlib.sha256(repr((dataset.annotations, dataset.excluded)).encode()).hexdigest()


def _refuse_shared(split: Split, side: str, shared: Iterable[str], what: str, tested: str = "the test") -> None:
    found = sorted(shared)
    if found:
        raise TableError(
            f"fold {split.fold}: {len(found)} {what}{'s' * (len(found) > 1)} of {tested} "
            f"{'are' if len(found) > 1 else 'is'} in {side} too, the first is {found[0]}; a {what} must lie in one fold"
        )


def _file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
