"""Evaluation of a patch classifier on a folder of patches: score and judge.

Each patch is scored once, unshifted and without augmentation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from napari_alnct.batch.classifier_files import PatchClassifier
from napari_alnct.batch.patch_checks import check_patches, operating_point
from napari_alnct.core.config import Device, Precision
from napari_alnct.core.errors import JobCancelled, ModelError, SettingsError
from napari_alnct.core.inference import Runner, choose_device, choose_precision, is_out_of_memory
from napari_alnct.core.network import scale_hu
from napari_alnct.evaluation.operating_point import PointRule
from napari_alnct.evaluation.patch_report import PatchReport, ScoredPatches, judge_patches
from napari_alnct.io.patch_store import PatchRow, PatchStore


@dataclass(frozen=True, kw_only=True)
class EvaluationWish:
    """How to judge; `n_samples` 0: no intervals; `allow_trained_on`: show figures of training scans too."""

    rule: PointRule
    n_samples: int = 1000
    seed: int = 0
    device: Device = "auto"
    precision: Precision = "float32"
    batch: int = 32
    allow_trained_on: bool = False


@dataclass(frozen=True, eq=False, kw_only=True)
class Evaluation:
    """A judged classifier: the report, and what the network ran on."""

    report: PatchReport
    device: str
    precision: str


def evaluate(
    store: PatchStore,
    classifier: PatchClassifier,
    wish: EvaluationWish,
    *,
    on_progress: Callable[[int, int], None] | None = None,
    is_cancelled: Callable[[], bool] | None = None,
) -> Evaluation:
    """Score all patches of a folder and judge the scores.

    Parameters
    ----------
    store : PatchStore
        Patches.
    classifier : PatchClassifier
        Model.
    wish : EvaluationWish
        How to judge.
    on_progress : callable, optional
        Called with (patches done, all) after each batch.
    is_cancelled : callable, optional
        Asked before each batch.

    Returns
    -------
    Evaluation

    Raises
    ------
    SettingsError
        If the model was trained on scans of the table, its input has another spacing, or a batch is too large.
    TableError
        If there are no patches, or they are too small for the network.
    ModelError
        If the network gives something that is no number.
    JobCancelled
        If `is_cancelled` said so.
    """
    notes = check_patches(store, classifier, allow_trained_on=wish.allow_trained_on)
    device = choose_device(wish.device)
    dtype = choose_precision(device, wish.precision)
    runner = Runner(classifier.network, device, dtype)
    scores = score_patches(store, classifier, runner, wish.batch, on_progress=on_progress, is_cancelled=is_cancelled)
    point = operating_point(store, classifier.training, scores, wish.rule)
    patches = scored_patches(store.rows, scores)
    report = judge_patches(patches, point, n_samples=wish.n_samples, seed=wish.seed, notes=notes)
    return Evaluation(report=report, device=str(device), precision=str(dtype).removeprefix("torch."))


def score_patches(
    store: PatchStore,
    classifier: PatchClassifier,
    runner: Runner,
    batch: int,
    *,
    on_progress: Callable[[int, int], None] | None = None,
    is_cancelled: Callable[[], bool] | None = None,
) -> NDArray[np.float64]:
    """Give the score of each patch, in the order of the table.

    Parameters
    ----------
    store : PatchStore
        Patches.
    classifier : PatchClassifier
        Model.
    runner : Runner
        Its network on a device.
    batch : int
        Patches at once.
    on_progress, is_cancelled : callable, optional
        As `evaluate`.

    Returns
    -------
    ndarray, shape (N,)
        0 to 1.

    Raises
    ------
    SettingsError, ModelError, JobCancelled
        As `evaluate`.
    """
    prepare, edge = classifier.prepare or store.prepare, classifier.network.settings.patch_vox
    inner = slice(store.stored_vox // 2 - edge // 2, store.stored_vox // 2 - edge // 2 + edge)
    logits = np.empty(len(store), np.float64)
    for first in range(0, len(store), batch):
        if is_cancelled is not None and is_cancelled():
            raise JobCancelled("cancelled; nothing was written")
        hu = np.array(store.hu[first : first + batch, inner, inner, inner])  # (B, P, P, P)
        x = scale_hu(torch.from_numpy(hu), prepare.low_hu, prepare.high_hu).unsqueeze(1)
        logits[first : first + batch] = _run(runner, x, classifier.file)
        if on_progress is not None:
            on_progress(min(first + batch, len(store)), len(store))
    return torch.from_numpy(logits).sigmoid().numpy()


def scored_patches(rows: Sequence[PatchRow], scores: NDArray[np.float64]) -> ScoredPatches:
    """Give the scores together with what the patches are.

    Parameters
    ----------
    rows : sequence of PatchRow
        The table.
    scores : ndarray, shape (N,)
        0 to 1.

    Returns
    -------
    ScoredPatches
        Clusters are patients where every row names one, else scans.
    """
    series = [row.series_uid for row in rows]
    by_patient = all(row.patient for row in rows)
    nodules = [(row.series_uid, row.nodule) if row.nodule is not None else None for row in rows]
    return ScoredPatches(
        labels=np.array([row.label for row in rows], np.int8),
        scores=scores,
        scan=_numbered(series),
        nodule=_numbered(nodules),
        cluster=_numbered([row.patient for row in rows]) if by_patient else _numbered(series),
        cluster_unit="patient" if by_patient else "scan",
        diameter_mm=np.array([math.nan if row.diameter_mm is None else row.diameter_mm for row in rows]),
        kind=tuple(row.kind for row in rows),
    )


def _numbered(names: Sequence[object]) -> NDArray[np.intp]:
    """Give a number for each distinct name, from 0 in order of appearance; -1 for None."""
    index = {name: number for number, name in enumerate(dict.fromkeys(n for n in names if n is not None))}
    return np.array([-1 if name is None else index[name] for name in names], np.intp)


def _run(runner: Runner, x: torch.Tensor, file: str) -> NDArray[np.float64]:
    """Give the logits of a batch."""
    try:
        logits = runner.run(x).numpy().astype(np.float64)
    except (RuntimeError, MemoryError) as fault:
        if not is_out_of_memory(fault):
            raise
        raise SettingsError(
            f"a batch of {len(x)} patches does not fit into memory; choose a smaller --batch"
        ) from fault
    if not np.isfinite(logits).all():
        raise ModelError(f"{file}: the network gives NaN or infinity; train it again, or use --precision float32")
    return logits
