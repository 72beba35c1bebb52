"""The work folder of a cross-validation: what it belongs to, and how far each fold is.

``crossval.json`` says which data and settings the folder is for; ``prepared/`` and ``cases/`` are
shared by all folds. ``fold3/`` holds ``training/``, ``model.json`` (when trained), ``candidates.csv``,
``seriesuids.csv`` (tested scans) and, last, ``fold.json``. What is there is done: that is how a
killed run knows where it was.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

from napari_alnct.batch.detection_journal import journal_path
from napari_alnct.batch.work_lock import WorkLock, holder_of
from napari_alnct.core.errors import SettingsError
from napari_alnct.io.atomic_file import replacing_text

PLAN, MODEL, RECORD = "crossval.json", "model.json", "fold.json"
TABLE, TESTED = "candidates.csv", "seriesuids.csv"
MOST_TOLD = 3
RecordT = TypeVar("RecordT")


@dataclass(frozen=True, kw_only=True)
class TrainedModel:
    """A fold's model file; ``is_whole``: ``seconds`` are those of the whole training, not of its last part."""

    file: str
    sha256: str
    seconds: float
    is_whole: bool


@dataclass(frozen=True, kw_only=True)
class FoldRecord:
    """A fold that was trained and tested.

    Parameters
    ----------
    fold, val_fold : int
        Fold tested, fold for validation.
    n_train, n_val, n_test, n_failed : int
        Scans of each side, and tested scans that could not be searched.
    guard : str
        Level of the leak guard: ``series`` or ``patient``.
    model_sha256, table_sha256 : str
        Of the model file and of ``candidates.csv``.
    detect_seconds : float
        Wall time of reading and searching all test scans.
    version : str
        Of this program.
    """

    fold: int
    val_fold: int
    n_train: int
    n_val: int
    n_test: int
    n_failed: int
    guard: str
    model_sha256: str
    table_sha256: str
    detect_seconds: float
    version: str


@dataclass(frozen=True, kw_only=True)
class FoldState:
    """How far a fold is: in words, and whether it is done."""

    fold: int
    is_done: bool
    text: str


class FoldFolder:
    """The folder of one fold.

    Parameters
    ----------
    work_dir : Path
        Work folder of the cross-validation.
    fold : int
        Test fold.
    """

    def __init__(self, work_dir: Path, fold: int) -> None:
        self.fold = fold
        self.path = work_dir / f"fold{fold}"
        self.training, self.table, self.tested = self.path / "training", self.path / TABLE, self.path / TESTED
        self.lock = WorkLock(work_dir / f"fold{fold}.lock")

    @property
    def model(self) -> TrainedModel | None:
        """Give the finished model; None while there is none, or its file is gone or changed."""
        model = read_record(self.path / MODEL, TrainedModel)
        if model is None or sha256_of(self.training / model.file) != model.sha256:
            return None
        return model

    @property
    def record(self) -> FoldRecord | None:
        """Give the record of the finished fold; None while it is not done, or its table is gone or changed."""
        record = read_record(self.path / RECORD, FoldRecord)
        if record is None or sha256_of(self.table) != record.table_sha256 or not self.tested.is_file():
            return None
        return record

    @property
    def state(self) -> FoldState:
        """Give how far the fold is."""
        record = self.record
        if record is not None:
            failed = f", {record.n_failed} failed" if record.n_failed else ""
            return FoldState(fold=self.fold, is_done=True, text=f"done ({record.n_test} scans tested{failed})")
        holder = holder_of(self.lock.path)
        return FoldState(fold=self.fold, is_done=False, text=self._begun() + (f", {holder.text}" if holder else ""))

    def _begun(self) -> str:
        if self.model is not None:
            journal = journal_path(self.table)
            n_searched = max(0, len(journal.read_bytes().splitlines()) - 1) if journal.is_file() else 0
            return f"going on (trained, {n_searched} scans searched)"
        return "going on (training begun)" if self.training.is_dir() else "to do"


def hold_plan(path: Path, identity: Mapping[str, Any]) -> None:
    """Write what a new work folder is for; refuse a folder that is for something else.

    Parameters
    ----------
    path : Path
        ``crossval.json``; its folder must exist.
    identity : mapping
        JSON values that all results depend on; ``scans`` is itself a mapping, by series.

    Raises
    ------
    SettingsError
        If settings or data have changed since the folder was begun.
    """
    new = json.loads(json.dumps(dict(identity)))
    if not path.is_file():
        write_json(path, new)
        return
    try:
        old = json.loads(path.read_text(encoding="utf-8"))
        changes = [key for key in new if key != "scans" and old.get(key) != new[key]]
        changes += _changed_scans(old["scans"], new["scans"])
    except (ValueError, KeyError, TypeError, AttributeError) as fault:
        raise SettingsError(f"{path.name} cannot be read; choose another --work-dir") from fault
    if changes:
        raise SettingsError(
            f"{path.parent.name} holds a cross-validation with other {' and '.join(changes)}; give the same to go on, "
            "or another --work-dir"
        )


def _changed_scans(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    gone, added = sorted(set(old) - set(new)), sorted(set(new) - set(old))
    changed = sorted(uid for uid in set(old) & set(new) if old[uid] != new[uid])
    words = {"more": added, "fewer": gone, "changed": changed}
    told = [f"{len(series)} {word}: {series[0]}" for word, series in words.items() if series]
    return [f"scans ({'; '.join(told)})"] if told else []


def write_record(path: Path, record: TrainedModel | FoldRecord) -> None:
    """Write a record as JSON; it appears whole or not at all."""
    write_json(path, asdict(record))


def read_record(path: Path, cls: type[RecordT]) -> RecordT | None:
    """Give a record from its file; None when there is none, or it cannot be used.

    Parameters
    ----------
    path : Path
        JSON file.
    cls : type
        A record class of this module.

    Returns
    -------
    cls or None
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        return cls(**{field.name: values[field.name] for field in fields(cls)})  # type: ignore[arg-type]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write JSON values; the file appears whole or not at all."""
    with replacing_text(path) as stream:
        json.dump(dict(values), stream, indent=1, allow_nan=False)
        stream.write("\n")


def sha256_of(path: Path) -> str:
    """Give the SHA-256 of a file; empty when it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""
