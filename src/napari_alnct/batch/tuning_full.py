"""The best settings of a search, trained in full: once, whoever of the processes comes first."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from optuna.trial import FrozenTrial

from napari_alnct.batch.tuning import Search
from napari_alnct.batch.tuning_results import best_settings, write_settings
from napari_alnct.core.config import Device, to_json
from napari_alnct.core.errors import ModelError
from napari_alnct.io.identifiers import short_hash
from napari_alnct.io.patch_store import PatchStore
from napari_alnct.training.classifier import (
    ClassifierSettings,
    EpochReport,
    StepReport,
    TrainingResult,
    train_classifier,
)
from napari_alnct.training.run_folder import BEST

FULL, BEGUN_WITH = "best_full", "config.json"


def train_best(
    train: PatchStore,
    val: PatchStore,
    found: Search,
    *,
    device: Device = "auto",
    on_epoch: Callable[[EpochReport], None] | None = None,
    on_step: Callable[[StepReport], None] | None = None,
    on_note: Callable[[str], None] | None = None,
    is_cancelled: Callable[[], bool] | None = None,
) -> TrainingResult | None:
    """Train the best settings of a search in full, once for all processes.

    Parameters
    ----------
    train, val : PatchStore
        As in the search.
    found : Search
        Its end.
    device, on_epoch, on_step, on_note, is_cancelled
        As in `train_classifier`.

    Returns
    -------
    TrainingResult or None
        None when another process is at it, or has done it (said by `on_note`).

    Raises
    ------
    ModelError
        If no trial was completed.
    JobCancelled
        If `is_cancelled` said so; the same command goes on there.
    """
    tell = on_note or (lambda text: None)
    best = found.study.state().best
    if best is None:
        raise ModelError("no trial was completed, so there is no best setting; give more time (--timeout) or trials")
    settings = best_settings(found.study, best, found.settings)
    lock = found.study.full_lock()
    if not lock.take():
        tell(f"another process trains the best setting (trial {best.number}) in full")
        return None
    try:
        folder = found.save_dir / FULL
        if _is_trained(found.study.full, best, settings, folder):
            tell(f"the best setting (trial {best.number}) has been trained in full already")
            return None
        is_same = _is_begun_with(folder, settings)
        write_settings(folder / BEGUN_WITH, settings)
        result = train_classifier(
            train,
            val,
            settings,
            folder,
            device=device,
            resume=is_same,
            overwrite=not is_same,
            on_epoch=on_epoch,
            on_step=on_step,
            on_note=on_note,
            is_cancelled=is_cancelled,
        )
        found.study.set_full(
            {"trial": best.number, "auc": result.best_auc, "epochs": settings.epochs, "place": _place(folder)}
        )
        return result
    finally:
        lock.release()


def _is_begun_with(folder: Path, settings: ClassifierSettings) -> bool:
    """Tell whether the full training in the folder is of these settings."""
    try:
        begun = json.loads((folder / BEGUN_WITH).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return bool(begun == json.loads(json.dumps(to_json(settings))))


def _is_trained(done: dict[str, Any] | None, best: FrozenTrial, settings: ClassifierSettings, folder: Path) -> bool:
    if done is None or (done.get("trial"), done.get("epochs")) != (best.number, settings.epochs):
        return False
    return done.get("place") != _place(folder) or (folder / BEST).is_file()


def _place(folder: Path) -> str:
    """Give a hash of where a folder is."""
    return short_hash(str(folder.resolve()))
