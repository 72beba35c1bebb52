"""What a run of ``sample`` came to, and what ``patches.json`` says of it."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from napari_alnct import __version__
from napari_alnct.batch.leak_guard import LeakGuard
from napari_alnct.batch.sampling_plan import ScanPlan
from napari_alnct.core.config import to_json
from napari_alnct.evaluation.by_size import EDGES_MM
from napari_alnct.io.patch_store import PatchRow
from napari_alnct.io.prepared import PreparedDataset
from napari_alnct.training.sample_settings import SampleSettings


@dataclass(frozen=True, kw_only=True)
class SamplingReport:
    """What a run of `sample_patches` came to.

    Parameters
    ----------
    n_scans, n_nodule_free : int
        Scans read, and those among them without any nodule.
    n_scans_with_negatives : int
        Scans that gave a negative.
    n_positives, n_nodules, n_outside : int
        Positive patches, the nodules that they show, and nodules skipped because their centre lies outside
        the prepared box.
    nodules_by_size : dict of str to int
        Nodules by diameter.
    negatives : dict of str to int
        Negatives by kind.
    n_lacking : int
        Negatives that were asked for but for which the scans had no place.
    """

    n_scans: int
    n_nodule_free: int
    n_scans_with_negatives: int
    n_positives: int
    n_nodules: int
    n_outside: int
    nodules_by_size: dict[str, int]
    negatives: dict[str, int]
    n_lacking: int


def describe(
    dataset: PreparedDataset,
    settings: SampleSettings,
    guard: LeakGuard,
    hard_negatives: Mapping[str, Any],
    patients: Mapping[str, str] | None,
) -> dict[str, Any]:
    """Give what ``patches.json`` says beyond the format: everything that the patches follow from.

    Parameters
    ----------
    dataset : PreparedDataset
        The scans to sample.
    settings : SampleSettings
        Which and how many patches.
    guard : LeakGuard
        What was compared.
    hard_negatives : mapping
        Where hard negatives come from, JSON values.
    patients : mapping of str to str or None
        Patient of each series.

    Returns
    -------
    dict
        JSON values.
    """
    nodules = {
        uid: [
            {"nodule": n.number, "centre_zyx_vox": list(n.centre_zyx_vox), "diameter_mm": n.diameter_mm}
            for n in dataset.nodules_of(uid)
            if n.is_inside
        ]
        for uid in dataset.series
    }
    return {
        "program": f"napari-alnct {__version__}",
        "settings": to_json(settings),
        "leak_guard": guard.to_json(),
        "hard_negatives": dict(hard_negatives),
        "labels_sha256": hashlib.sha256(dataset.labels_path.read_bytes()).hexdigest(),
        "folds": list(dataset.folds),
        "series": list(dataset.series),
        "patients": None if patients is None else sorted({patients[uid] for uid in dataset.series}),
        "nodules": {uid: found for uid, found in nodules.items() if found},
    }


def report_of(dataset: PreparedDataset, plans: Sequence[ScanPlan], rows: Sequence[PatchRow]) -> SamplingReport:
    """Give what a run came to.

    Parameters
    ----------
    dataset : PreparedDataset
        The scans sampled.
    plans : sequence of ScanPlan
        What was asked of them.
    rows : sequence of PatchRow
        What they gave.

    Returns
    -------
    SamplingReport
    """
    diameters = [nodule.radius_mm * 2 for plan in plans for nodule, _ in plan.positives]
    annotated = [dataset.nodules_of(uid) for uid in dataset.series]
    negatives = Counter(row.kind for row in rows if not row.label)
    n_wanted = sum(sum(plan.wanted.values()) for plan in plans)
    return SamplingReport(
        n_scans=len(plans),
        n_nodule_free=sum(not found for found in annotated),
        n_scans_with_negatives=len({row.series_uid for row in rows if not row.label}),
        n_positives=sum(row.label for row in rows),
        n_nodules=len(diameters),
        n_outside=sum(not nodule.is_inside for found in annotated for nodule in found),
        nodules_by_size=_by_size(diameters),
        negatives={kind: negatives[kind] for kind in sorted(negatives)},
        n_lacking=n_wanted - negatives.total(),
    )


def _by_size(diameters_mm: Sequence[float]) -> dict[str, int]:
    """Give the number of nodules by size, in the groups of the evaluation."""
    counts = {}
    for low, high in pairwise(EDGES_MM):
        name = f">= {low:g} mm" if np.isinf(high) else f"{low:g}-{high:g} mm" if low else f"< {high:g} mm"
        n = sum(low <= diameter < high for diameter in diameters_mm)
        if n:
            counts[name] = n
    return counts
