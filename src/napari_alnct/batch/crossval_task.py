"""What a cross-validation is asked to do: data, recipe, folds; its plan; what its work folder is bound to."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

from napari_alnct.batch.crossval_folder import PLAN, FoldFolder, hold_plan
from napari_alnct.batch.crossval_guard import annotations_sha256, check_annotations, refuse_leaks
from napari_alnct.batch.crossval_plan import Split, folds_of_scans, make_splits
from napari_alnct.batch.detection import DetectedScan
from napari_alnct.batch.input_identity import input_fingerprint
from napari_alnct.batch.runner import BatchProgress
from napari_alnct.core.config import DetectionSettings, to_json
from napari_alnct.io.identifiers import short_hash
from napari_alnct.io.images import ReadOptions
from napari_alnct.io.luna16 import Dataset
from napari_alnct.training.settings import BuildSettings, settings_to_json

Log = Callable[[str], None]


class Trainer(Protocol):
    """Trains one fold's model on some prepared scans, going on where it was stopped."""

    def __call__(
        self,
        prepared_root: Path,
        train_series: Sequence[str],
        val_series: Sequence[str],
        settings: BuildSettings,
        folder: Path,
        log: Log,
        device: str,
    ) -> Path:
        """Give the path of the model file, in `folder`; its recipe names the scans (short hashes)."""
        ...


@dataclass(frozen=True, kw_only=True)
class CrossvalTask:
    """What a cross-validation is made of.

    Parameters
    ----------
    dataset : Dataset
        Raw scans with folds and annotations.
    work_dir : Path
        Folder for everything that is made.
    build : BuildSettings
        The detector's recipe, the same for all folds.
    train : Trainer
        Trains one fold.
    detection : DetectionSettings
        Of the tested folds; its device is the one to train on, too.
    options : ReadOptions
        What may be read.
    tested : tuple of int
        Folds to test; empty: all.
    patients : mapping of str to str, optional
        Series to patient, for a guard at patient level.
    has_own_lungs : bool
        Find the lungs of training scans even where a mask is supplied.
    n_jobs : int
        Scans prepared at a time.
    """

    dataset: Dataset
    work_dir: Path
    build: BuildSettings
    train: Trainer
    detection: DetectionSettings = field(default_factory=DetectionSettings)
    options: ReadOptions = field(default_factory=ReadOptions)
    tested: tuple[int, ...] = ()
    patients: Mapping[str, str] | None = None
    has_own_lungs: bool = False
    n_jobs: int = 1

    @property
    def prepared_root(self) -> Path:
        """Give the folder of the prepared scans."""
        return self.work_dir / "prepared"

    def fold(self, number: int) -> FoldFolder:
        """Give the folder of a fold."""
        return FoldFolder(self.work_dir, number)


@dataclass(frozen=True, kw_only=True)
class CrossvalPlan:
    """The folds that are there, the splits of the tested ones, and what must be said about them."""

    folds: Mapping[int, tuple[str, ...]]
    splits: tuple[Split, ...]
    guard: str
    notes: tuple[str, ...]


@dataclass(frozen=True)
class CrossvalWatch:
    """Who is told what happens: lines, prepared scans, tested scans (fold, done, of, row)."""

    say: Log = print
    on_start: Callable[[int, int], None] = lambda _n_to_do, _n_ready: None
    on_prepared: Callable[[BatchProgress], None] = lambda _progress: None
    on_scan: Callable[[int, int, int, DetectedScan], None] = lambda _fold, _done, _total, _row: None


def plan_crossval(task: CrossvalTask, names: Mapping[str, str | None] | None = None) -> CrossvalPlan:
    """Give the plan, after the guards against leaks and missing scans; nothing is written.

    Parameters
    ----------
    task : CrossvalTask
        What is asked for.
    names : mapping of str to (str or None), optional
        The scans' own series, known once they are prepared; None for those that could not be prepared.

    Returns
    -------
    CrossvalPlan

    Raises
    ------
    TableError
        If a guard refuses it.
    """
    folds = folds_of_scans(task.dataset)
    splits = make_splits(folds, task.tested, names)
    levels = {refuse_leaks(split, task.patients) for split in splits}
    notes: list[str] = []
    if names is not None or not any(scan.path.is_dir() for scan in task.dataset.scans):
        own = {fold: tuple((names or {}).get(uid) or uid for uid in series) for fold, series in folds.items()}
        notes = check_annotations(task.dataset, splits, own)
    return CrossvalPlan(folds=folds, splits=splits, guard=levels.pop(), notes=tuple(notes))


def begin(task: CrossvalTask, *, is_dry: bool = False) -> None:
    """Bind the work folder to data and settings, or refuse it when it is bound to others.

    Parameters
    ----------
    task : CrossvalTask
        What is asked for.
    is_dry : bool
        Compare only; write nothing.

    Raises
    ------
    SettingsError
        If settings or data have changed.
    """
    if is_dry and not (task.work_dir / PLAN).is_file():
        return
    task.work_dir.mkdir(parents=True, exist_ok=True)
    hold_plan(task.work_dir / PLAN, _identity(task))


def _identity(task: CrossvalTask) -> dict[str, Any]:
    """Give what all results depend on; the device and the folds chosen are not among it."""
    detection = {name: value for name, value in to_json(task.detection).items() if name != "device"}
    scans = {
        scan.series_uid: {"fold": scan.subset, "input": input_fingerprint([scan.path, *_mask(scan.mask_path)])}
        for scan in task.dataset.scans
    }
    return {
        "recipe": settings_to_json(task.build),
        "detection": detection,
        "reading": asdict(task.options),
        "lungs": "own" if task.has_own_lungs else "supplied where there are some",
        "patients": None if task.patients is None else short_hash(json.dumps(sorted(task.patients.items()))),
        "annotations": annotations_sha256(task.dataset),
        "scans": scans,
    }


def _mask(path: Path | None) -> list[Path]:
    return [] if path is None else [path]
