"""The split into training and validation patches: what they share is refused, what they are is recorded."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from napari_alnct.core.errors import SettingsError, TableError
from napari_alnct.io.identifiers import short_hash
from napari_alnct.io.patch_store import PatchStore


@dataclass(frozen=True, eq=False)
class PatchSplit:
    """Training and validation patches that share no scan.

    Parameters
    ----------
    train, val : PatchStore
        The two sides.
    guard : {"series", "patient"}
        What was compared: scans alone, or patients too.
    is_shuffled : bool
        Whether the training labels are shuffled (a control run).
    """

    train: PatchStore
    val: PatchStore
    guard: Literal["series", "patient"]
    is_shuffled: bool = False

    def facts(self) -> dict[str, Any]:
        """Give what the model file says of the patches: hashes of scans and patients, counts, fingerprints."""
        facts: dict[str, Any] = {"guard": self.guard, "labels": "shuffled" if self.is_shuffled else "given"}
        for side, store in (("train", self.train), ("val", self.val)):
            facts[f"{side}_series"] = _hashes(store.series)
            facts[f"{side}_patients"] = _hashes(store.patients)
            facts[f"{side}_folds"] = sorted({row.fold for row in store.rows if row.fold is not None})
            facts[f"{side}_fingerprint"] = store.fingerprint
            facts[f"{side}_patches"] = {"positive": int(store.labels.sum()), "negative": int((store.labels == 0).sum())}
        return facts


def check_split(train: PatchStore, val: PatchStore, *, shuffle_seed: int | None = None) -> PatchSplit:
    """Refuse patches that cannot train and judge a classifier.

    Parameters
    ----------
    train, val : PatchStore
        The two sides.
    shuffle_seed : int, optional
        Shuffle the training labels with this seed.

    Returns
    -------
    PatchSplit

    Raises
    ------
    SettingsError
        If the sides share a scan or, where both know patients, a patient.
    TableError
        If one side lacks nodules or other patches, or they differ in size or preparation.
    """
    for side, store in (("training", train), ("validation", val)):
        counts = np.bincount(store.labels, minlength=2)
        if not counts.all():
            raise TableError(
                f"the {side} patches in {store.folder.name} are {counts[1]} with and {counts[0]} without a nodule; "
                "both kinds are needed: sample again with more scans"
            )
    _refuse_shared("scan", train.series, val.series)
    _refuse_shared("patient", train.patients, val.patients)
    for what, ours, theirs in (
        ("patches of this edge in voxels", train.patch_vox, val.patch_vox),
        ("voxels of this edge in mm", train.prepare.spacing_mm, val.prepare.spacing_mm),
        ("this lowest HU", train.prepare.low_hu, val.prepare.low_hu),
        ("this highest HU", train.prepare.high_hu, val.prepare.high_hu),
    ):
        if ours != theirs:
            raise TableError(
                f"training and validation differ in {what}: {ours:g} and {theirs:g}; sample one side again"
            )
    knows_all = all(row.patient for store in (train, val) for row in store.rows)
    used = train if shuffle_seed is None else with_shuffled_labels(train, shuffle_seed)
    return PatchSplit(used, val, "patient" if knows_all else "series", shuffle_seed is not None)


def with_shuffled_labels(store: PatchStore, seed: int) -> PatchStore:
    """Give the patches with labels that say nothing about them: a control, which must not learn.

    Parameters
    ----------
    store : PatchStore
        Patches with their true labels.
    seed : int
        Decides the shuffle.

    Returns
    -------
    PatchStore
        Half of the nodules and half of the other patches (rounded by chance) have label 1, so that the new
        labels are uncorrelated with the true ones, not only on average over many shuffles.
    """
    rng = np.random.default_rng((seed, 1))
    labels = np.zeros(len(store), dtype=int)
    for label in (0, 1):
        members = rng.permutation(np.flatnonzero(store.labels == label))
        labels[members[: (len(members) + int(rng.integers(2))) // 2]] = 1
    rows = tuple(replace(row, label=int(label)) for row, label in zip(store.rows, labels, strict=True))
    return replace(store, rows=rows)


def _refuse_shared(what: str, train: frozenset[str], val: frozenset[str]) -> None:
    shared = train & val
    if shared:
        raise SettingsError(
            f"training and validation share {len(shared)} {what}{'s' if len(shared) > 1 else ''}, the first is "
            f"{short_hash(min(shared))}; sample them from different {what}s (--folds or --series, --apart-from)"
        )


def _hashes(names: Iterable[str]) -> list[str]:
    return sorted(short_hash(name) for name in names)
