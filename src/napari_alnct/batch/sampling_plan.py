"""What each scan supplies of a set of patches, known before a voxel is read."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_alnct.core.errors import SettingsError, TableError
from napari_alnct.io.prepared import PreparedDataset, PreparedEntry, PreparedFinding
from napari_alnct.training.sample_settings import SampleSettings
from napari_alnct.training.sampler import nodule_centres, scan_rng, share_out, split_kinds


@dataclass(frozen=True, kw_only=True)
class ScanPlan:
    """What one scan supplies: its nodules with the voxels of their patches, and negatives by kind."""

    entry: PreparedEntry
    positives: tuple[tuple[PreparedFinding, NDArray[np.intp]], ...]
    wanted: dict[str, int]


def plan_scans(dataset: PreparedDataset, settings: SampleSettings, shares: Mapping[str, float]) -> list[ScanPlan]:
    """Give what each scan supplies, in the order of the series.

    Parameters
    ----------
    dataset : PreparedDataset
        Scans and labels.
    settings : SampleSettings
        Which and how many.
    shares : mapping of str to float
        Of the kinds of negatives, from `kind_shares`.

    Returns
    -------
    list of ScanPlan

    Raises
    ------
    TableError
        If no scan shows a nodule.
    """
    positives = {scan.series_uid: _positives(scan, dataset, settings) for scan in dataset.scans}
    n_positives = sum(len(centres) for found in positives.values() for _, centres in found)
    if not n_positives:
        raise TableError(
            f"{dataset.labels_path.name} lists no nodule inside the {len(dataset.scans)} scans of the selection; "
            "choose more scans, or prepare the data set with its annotations.csv"
        )
    quotas = share_out(round(settings.neg_ratio * n_positives), dataset.series, settings.seed)
    wanted = split_kinds(quotas, shares)
    return [
        ScanPlan(entry=scan, positives=positives[scan.series_uid], wanted=wanted[scan.series_uid])
        for scan in dataset.scans
    ]


def _positives(
    scan: PreparedEntry, dataset: PreparedDataset, settings: SampleSettings
) -> tuple[tuple[PreparedFinding, NDArray[np.intp]], ...]:
    rng = scan_rng(settings.seed, scan.series_uid, "nodules")
    return tuple(
        (nodule, nodule_centres(nodule, scan.geometry, settings, rng))
        for nodule in dataset.nodules_of(scan.series_uid)
        if nodule.is_inside
    )


def refuse_full_disk(out_dir: Path, plans: Sequence[ScanPlan], settings: SampleSettings) -> None:
    """Refuse what the disk cannot hold, before the work.

    Parameters
    ----------
    out_dir : Path
        Where the patches will lie.
    plans : sequence of ScanPlan
        What the scans supply.
    settings : SampleSettings
        Size of a patch.

    Raises
    ------
    SettingsError
        With the space needed and the space left.
    """
    n_positives = sum(len(centres) for plan in plans for _, centres in plan.positives)
    n_patches = n_positives + sum(sum(plan.wanted.values()) for plan in plans)
    needed = n_patches * settings.stored_vox**3 * 2
    place = out_dir.absolute()
    while not place.exists() and place.parent != place:
        place = place.parent
    free = shutil.disk_usage(place).free
    if needed > free:
        raise SettingsError(
            f"{n_patches} patches need {needed / 1e9:.1f} GB, the disk has {free / 1e9:.1f} GB free; choose fewer "
            "patches per nodule, a lower neg_ratio or another disk"
        )
