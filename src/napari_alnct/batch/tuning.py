"""The search for good settings of the classifier: trials one after the other, then the best one in full.

Several processes may run this on one study file; each takes trials from it until enough are
done. What is left in the folder of the run: ``trials/0007/`` with log and settings of each
trial (the model only of the best), ``trials.csv``, two plots, ``best_config.json`` for
``--config``, and ``best_full/`` with the model.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic, sleep
from typing import Any, Protocol

import numpy as np
from optuna.trial import FrozenTrial

from napari_alnct.batch.tuning_results import write_results
from napari_alnct.batch.tuning_study import NextTrial, Pruner, SharedStudy, StudyState
from napari_alnct.core.config import Device, to_json
from napari_alnct.core.errors import JobCancelled, ModelError
from napari_alnct.io.patch_store import PatchStore
from napari_alnct.training.augmentation import PatchFrame, check_elastic
from napari_alnct.training.classifier import ClassifierSettings, EpochReport
from napari_alnct.training.classifier_settings import NOT_OF_THE_RESULT
from napari_alnct.training.patch_split import check_split
from napari_alnct.training.saving import DiskError
from napari_alnct.training.tuning import TrialOutcome, remove_weights, run_trial
from napari_alnct.training.tuning_space import TuningSpace, bearable_strength

STUDY, TRIALS = "study.journal", "trials"
WAIT_S = 1.0
MOST_FAILURES_IN_A_ROW = 3
FEWEST_EPOCHS, EPOCH_SHARE = 3, 3


@dataclass(frozen=True, kw_only=True)
class TuningWish:
    """How to search.

    Parameters
    ----------
    n_trials : int
        Trials that shall be done in the study, those of earlier and other processes included.
    timeout_s : float or None
        Wall time of this process's search; the trial at hand is stopped and can go on later.
    epochs : int or None
        Of each trial; None: a third of those of the full training, at least 3.
    fixed : tuple of str
        Settings that are not searched (`napari_alnct.training.tuning_space.SEARCHABLE`).
    pruner : {"median", "hyperband", "none"}
        Which trials are given up early.
    study : Path or None
        Journal file; None: ``study.journal`` in the folder of the run.
    device : {"auto", "cpu", "cuda", "mps"}
        Where to train.
    """

    n_trials: int
    timeout_s: float | None = None
    epochs: int | None = None
    fixed: tuple[str, ...] = ()
    pruner: Pruner = "median"
    study: Path | None = None
    device: Device = "auto"


class TuningListener(Protocol):
    """Hears how a search goes."""

    def trial_begins(self, number: int, settings: ClassifierSettings, state: StudyState) -> None:
        """Hear that this process begins a trial."""

    def epoch(self, report: EpochReport) -> None:
        """Hear of an epoch of the trial at hand."""

    def trial_ends(self, number: int, outcome: TrialOutcome, state: StudyState) -> None:
        """Hear how the trial at hand ended, and how far the search is."""

    def note(self, text: str) -> None:
        """Hear a sentence worth knowing."""


@dataclass(frozen=True, kw_only=True)
class Search:
    """A search at its end in this process. ``is_over``: no other process is at a trial any more."""

    study: SharedStudy
    save_dir: Path
    settings: ClassifierSettings
    state: StudyState
    is_over: bool
    is_timed_out: bool


def search(
    train: PatchStore,
    val: PatchStore,
    settings: ClassifierSettings,
    save_dir: Path,
    wish: TuningWish,
    *,
    listener: TuningListener,
    is_cancelled: Callable[[], bool] | None = None,
) -> Search:
    """Run trials until enough are done in the study, or the time is over.

    Parameters
    ----------
    train, val : PatchStore
        Patches of different scans.
    settings : ClassifierSettings
        Of the full training; those that are not searched hold for the trials too.
    save_dir : Path
        Folder of the run; made when missing.
    wish : TuningWish
        How to search.
    listener : TuningListener
        Hears how it goes.
    is_cancelled : callable, optional
        Asked before every step of a training, and while waiting.

    Returns
    -------
    Search

    Raises
    ------
    JobCancelled
        If `is_cancelled` said so; the study is saved, and the trial at hand can go on.
    SettingsError, TableError
        If the patches cannot be used, or the study is of others.
    ModelError
        If three trials in a row failed in this process.
    DiskError
        If the disk does not take a file; the trial at hand can go on.
    """
    check_split(train, val)
    settings = settings.for_patches(train.patch_vox)
    base = replace(settings, epochs=wish.epochs or trial_epochs(settings.epochs))
    counts = np.bincount(train.labels, minlength=2)
    frame = PatchFrame.of(train)
    space = TuningSpace(
        base=base,
        fixed=wish.fixed,
        most_negatives=float(counts[0] / counts[1]),
        most_strength=bearable_strength(base.augment, frame),
    )
    if "strength" not in space.names:
        check_elastic(base.augment, frame)
    save_dir.mkdir(parents=True, exist_ok=True)
    study = SharedStudy(
        wish.study or save_dir / STUDY,
        space,
        _identity(train, val, space),
        n_epochs=base.epochs,
        pruner=wish.pruner,
    )
    worker = _Worker(train, val, study, save_dir, wish, listener, is_cancelled or (lambda: False))
    is_timed_out = worker.work()
    state = study.sweep(worker.clean)
    write_results(save_dir, study, full=settings)
    return Search(
        study=study,
        save_dir=save_dir,
        settings=settings,
        state=state,
        is_over=state.n_running == 0,
        is_timed_out=is_timed_out,
    )


def trial_epochs(epochs: int) -> int:
    """Give the epochs of a trial: a third of the full training, at least 3.

    Parameters
    ----------
    epochs : int
        Of the full training.

    Returns
    -------
    int

    Examples
    --------
    >>> trial_epochs(20), trial_epochs(5), trial_epochs(2)
    (6, 3, 2)
    """
    return max(min(FEWEST_EPOCHS, epochs), epochs // EPOCH_SHARE)


class _Worker:
    """One process of a search."""

    def __init__(
        self,
        train: PatchStore,
        val: PatchStore,
        study: SharedStudy,
        save_dir: Path,
        wish: TuningWish,
        listener: TuningListener,
        is_cancelled: Callable[[], bool],
    ) -> None:
        self.train, self.val, self.study, self.save_dir = train, val, study, save_dir
        self.wish, self.listener, self.is_cancelled = wish, listener, is_cancelled
        self.end_s = monotonic() + wish.timeout_s if wish.timeout_s is not None else float("inf")
        self.n_failures = 0

    def work(self) -> bool:
        """Run trials until enough are done; tell whether the time was over before."""
        has_told = False
        while not self._is_late():
            if self.is_cancelled():
                raise JobCancelled("stopped; the study is saved")
            run = self.study.next_trial(self.wish.n_trials)
            if run is not None:
                self._one(run)
                continue
            state = self.study.state()
            if state.n_done >= self.wish.n_trials:
                return False
            if not has_told:
                self.listener.note(f"waiting for {state.n_running} trials of other processes")
                has_told = True
            sleep(WAIT_S)
        return True

    def clean(self, trial: FrozenTrial, is_best: bool) -> None:
        """Remove the weights of a finished trial that are not needed any more."""
        folder = self._folder(trial.number)
        if folder.is_dir():
            remove_weights(folder, keep_best=is_best)

    def _one(self, run: NextTrial) -> None:
        settings = self.study.space.settings(run.params, seed=run.seed)
        folder = self._folder(run.number)
        if run.continues is not None and self._folder(run.continues).is_dir():
            with contextlib.suppress(OSError):
                os.replace(self._folder(run.continues), folder)
        self.listener.trial_begins(run.number, settings, self.study.state())
        with self._given_back(run):
            outcome = run_trial(
                self.train,
                self.val,
                settings,
                folder,
                run.trial,
                device=self.wish.device,
                on_epoch=self.listener.epoch,
                is_cancelled=lambda: self.is_cancelled() or self._is_late(),
            )
            if not self.study.tell(run, outcome):
                self.listener.note(f"trial {run.number} was given up by another process meanwhile")
            self.listener.trial_ends(run.number, outcome, self.study.sweep(self.clean))
            self._count_failure(outcome)

    @contextlib.contextmanager
    def _given_back(self, run: NextTrial) -> Iterator[None]:
        """Give the trial back when it is left before its end; the end of the time is not a fault."""
        try:
            yield
        except BaseException as fault:
            is_orderly = isinstance(fault, JobCancelled | KeyboardInterrupt | DiskError)
            if run.lock.is_held:
                with contextlib.suppress(OSError):  # a full disk: the fault at hand says so
                    self.study.stop(run, is_orderly=is_orderly)
                run.lock.release()
            if not (isinstance(fault, JobCancelled) and not self.is_cancelled()):
                raise
            self.listener.note(f"the time is over; trial {run.number} was stopped and can go on later")

    def _count_failure(self, outcome: TrialOutcome) -> None:
        self.n_failures = self.n_failures + 1 if outcome.end == "failed" else 0
        if self.n_failures >= MOST_FAILURES_IN_A_ROW:
            raise ModelError(f"{self.n_failures} trials in a row failed, the last one because: {outcome.reason}")

    def _folder(self, number: int) -> Path:
        return self.save_dir / TRIALS / f"{number:04d}"

    def _is_late(self) -> bool:
        return monotonic() >= self.end_s


def _identity(train: PatchStore, val: PatchStore, space: TuningSpace) -> dict[str, Any]:
    """Give what makes trials comparable: patches, what is searched, and all that is not."""
    fixed = {name: value for name, value in to_json(space.base).items() if name not in NOT_OF_THE_RESULT}
    return {
        "training_fingerprint": train.fingerprint,
        "validation_fingerprint": val.fingerprint,
        "set of searched settings": list(space.names),
        **fixed,
    }
