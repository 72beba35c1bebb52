"""The best settings of a search, trained in full: once, whoever of the processes comes first.

Another best setting is trained in ``best_full.new``, which takes the name ``best_full`` at its
end: the model that is there stays until then. ``run.json`` alone tells what a folder was begun with.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
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
from napari_alnct.training.classifier_settings import NOT_OF_THE_RESULT
from napari_alnct.training.patch_split import check_split
from napari_alnct.training.run_folder import BEST, IDENTITY, RUN
from napari_alnct.training.saving import saving

FULL, NEW, OLD, CONFIG = "best_full", "best_full.new", "best_full.previous", "config.json"


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
        _undo_half_swap(folder)
        if _is_trained(found.study.full, best, settings, folder):
            tell(f"the best setting (trial {best.number}) has been trained in full already")
            return None
        identity = _identity(train, val, settings)
        place = folder if _is_begun_with(folder, identity) else folder.with_name(NEW)
        is_same = _is_begun_with(place, identity)
        result = train_classifier(
            train,
            val,
            settings,
            place,
            device=device,
            resume=is_same,
            overwrite=not is_same,
            on_epoch=on_epoch,
            on_step=on_step,
            on_note=on_note,
            is_cancelled=is_cancelled,
        )
        write_settings(place / CONFIG, settings)
        if place != folder:
            _swap(place, folder)
        found.study.set_full(
            {"trial": best.number, "auc": result.best_auc, "epochs": settings.epochs, "place": _place(folder)}
        )
        return replace(result, checkpoint=folder / BEST)
    finally:
        lock.release()


def _identity(train: PatchStore, val: PatchStore, settings: ClassifierSettings) -> dict[str, Any]:
    """Give what ``run.json`` says of a run with these settings and patches."""
    values = {k: v for k, v in to_json(settings).items() if k not in NOT_OF_THE_RESULT}
    identity: dict[str, Any] = json.loads(json.dumps(values | check_split(train, val).facts()))
    return identity


def _is_begun_with(folder: Path, identity: dict[str, Any]) -> bool:
    """Tell whether the run in the folder is this one."""
    try:
        begun = json.loads((folder / RUN).read_text(encoding="utf-8"))
        return bool(begun[IDENTITY] == identity)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _swap(new: Path, folder: Path) -> None:
    """Let a finished run take the place of the one before it."""
    old = folder.with_name(OLD)
    with saving(folder):
        if folder.exists():
            shutil.rmtree(old, ignore_errors=True)
            os.replace(folder, old)
        os.replace(new, folder)
    shutil.rmtree(old, ignore_errors=True)


def _undo_half_swap(folder: Path) -> None:
    """Give the run before its name back when the process ended between the two renamings."""
    old = folder.with_name(OLD)
    if old.exists() and not folder.exists():
        with saving(folder):
            os.replace(old, folder)


def _is_trained(done: dict[str, Any] | None, best: FrozenTrial, settings: ClassifierSettings, folder: Path) -> bool:
    if done is None or (done.get("trial"), done.get("epochs")) != (best.number, settings.epochs):
        return False
    return done.get("place") != _place(folder) or (folder / BEST).is_file()


def _place(folder: Path) -> str:
    """Give a hash of where a folder is."""
    return short_hash(str(folder.resolve()))
