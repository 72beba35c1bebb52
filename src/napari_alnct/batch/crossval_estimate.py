"""How long the rest of a cross-validation takes, from what this work folder has measured so far; never a guess."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from napari_alnct.batch.crossval_folder import MODEL, FoldFolder, TrainedModel, read_record
from napari_alnct.batch.crossval_plan import Split
from napari_alnct.batch.crossval_task import CrossvalTask
from napari_alnct.batch.preparation import MANIFEST


@dataclass(frozen=True, kw_only=True)
class StepEstimate:
    """What is left of one kind of step.

    Parameters
    ----------
    name, unit : str
        What it does, and on what.
    n_done, n_left : int
        Units done and left.
    seconds_per_unit : float or None
        Mean wall time as measured in this folder; None while nothing was measured.
    """

    name: str
    unit: str
    n_done: int
    n_left: int
    seconds_per_unit: float | None

    @property
    def seconds_left(self) -> float | None:
        """Give the seconds that are left; None when nothing was measured."""
        if not self.n_left:
            return 0.0
        return None if self.seconds_per_unit is None else self.n_left * self.seconds_per_unit


def estimate(task: CrossvalTask, splits: Sequence[Split]) -> tuple[StepEstimate, ...]:
    """Give what is left to prepare, to train and to test.

    Parameters
    ----------
    task : CrossvalTask
        What is asked for.
    splits : sequence of Split
        Folds to test.

    Returns
    -------
    tuple of StepEstimate
        A training that was begun counts as one that is left; preparing several scans at a time is
        reckoned as ``n_jobs`` times as fast.
    """
    folders = {split.fold: task.fold(split.fold) for split in splits}
    return _preparing(task), _training(list(folders.values())), _testing(splits, folders)


def _preparing(task: CrossvalTask) -> StepEstimate:
    items = _prepared_items(task)
    series = [scan.series_uid for scan in task.dataset.scans]
    seconds = [items[uid]["seconds"] for uid in series if items.get(uid, {}).get("state") == "done"]
    mean = sum(seconds) / len(seconds) / task.n_jobs if seconds else None
    return StepEstimate(
        name="prepare", unit="scans", n_done=len(seconds), n_left=len(series) - len(seconds), seconds_per_unit=mean
    )


def _training(folders: Sequence[FoldFolder]) -> StepEstimate:
    models = [read_record(folder.path / MODEL, TrainedModel) for folder in folders]
    trained = [model for model in models if model is not None]
    seconds = [model.seconds for model in trained if model.is_whole]
    mean = sum(seconds) / len(seconds) if seconds else None
    return StepEstimate(
        name="train", unit="folds", n_done=len(trained), n_left=len(folders) - len(trained), seconds_per_unit=mean
    )


def _testing(splits: Sequence[Split], folders: dict[int, FoldFolder]) -> StepEstimate:
    records = {fold: folder.record for fold, folder in folders.items()}
    done = [record for record in records.values() if record is not None]
    n_searched = sum(record.n_test - record.n_failed for record in done)
    n_left = sum(len(split.test) for split in splits if records[split.fold] is None)
    mean = sum(record.detect_seconds for record in done) / n_searched if n_searched else None
    n_done = sum(record.n_test for record in done)
    return StepEstimate(name="test", unit="scans", n_done=n_done, n_left=n_left, seconds_per_unit=mean)


def _prepared_items(task: CrossvalTask) -> dict[str, dict[str, Any]]:
    try:
        items: dict[str, dict[str, Any]] = json.loads((task.prepared_root / MANIFEST).read_text("utf-8"))["items"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return items
