"""A search in a file that several processes, also on several machines, share.

The file is Optuna's journal; every change of it is one line, appended under a lock. Which
trial is whose is decided under a second lock (`WorkLock`), and each running trial has a
lock of its own: when its process has ended, the trial counts as *stopped* and its settings
are tried again, from where they were if the folder of the trial is at hand. A trial is
*done* when it was completed, pruned or failed by itself; stopped ones do not count.
"""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import optuna
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock, JournalStorage
from optuna.trial import FrozenTrial, TrialState

from napari_alnct.batch.work_lock import WorkLock, holder_of
from napari_alnct.core.errors import SettingsError
from napari_alnct.io.identifiers import short_hash
from napari_alnct.training.tuning import TrialOutcome
from napari_alnct.training.tuning_space import TuningSpace, Value, trial_seed

NAME = "classifier"
IDENTITY, FULL, REASON, SEED, RETRY_OF, STOPPED = "identity", "full", "reason", "seed", "retry_of", "stopped"
ORDERLY = "orderly"  # stopped by the user, the time or the disk, not by what the trial did
MOST_RETRIES = 3
POLL_S = 0.2
STARTUP_TRIALS = 10

Pruner = Literal["median", "hyperband", "none"]


@dataclass(frozen=True, kw_only=True)
class NextTrial:
    """A trial that this process may run: its lock is held. ``continues``: the stopped trial that it goes on with."""

    trial: optuna.Trial
    params: dict[str, Value]
    seed: int
    lock: WorkLock
    continues: int | None

    @property
    def number(self) -> int:
        """Give its number, from 0."""
        return self.trial.number


@dataclass(frozen=True, kw_only=True)
class StudyState:
    """How far a search is: trials done, running (in any process), and the best completed one."""

    n_done: int
    n_running: int
    best: FrozenTrial | None


class SharedStudy:
    """An opened search.

    Parameters
    ----------
    path : Path
        Journal file; made when missing. Locks lie beside it, in ``<name>.locks``.
    space : TuningSpace
        What is searched.
    identity : mapping
        What results depend on, JSON values: patches, settings, space. Another one is refused.
    n_epochs : int
        Most epochs of a trial.
    pruner : {"median", "hyperband", "none"}
        Which trials are given up.

    Raises
    ------
    SettingsError
        If the file is no journal, or holds a search of other patches or settings.
    """

    def __init__(
        self, path: Path, space: TuningSpace, identity: Mapping[str, Any], *, n_epochs: int, pruner: Pruner = "median"
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.path, self.space = path, space
        self.locks = path.with_name(f"{path.name}.locks")
        self.locks.mkdir(parents=True, exist_ok=True)
        self._pruner = _pruner(pruner, n_epochs)
        with self._held(), _journal_faults(path):
            _mend(path)
            self._storage = JournalStorage(JournalFileBackend(str(path), lock_obj=JournalFileOpenLock(str(path))))
            study = optuna.create_study(
                study_name=NAME, storage=self._storage, direction="maximize", load_if_exists=True
            )
            self._bind(study, json.loads(json.dumps(identity)))

    def next_trial(self, n_wanted: int) -> NextTrial | None:
        """Give a trial to run; its lock is held until `tell` or `stop`.

        Parameters
        ----------
        n_wanted : int
            Trials that shall be done in all.

        Returns
        -------
        NextTrial or None
            None when enough are done or running.
        """
        with self._held():
            study = self._load(0)
            self._give_up_stopped(study)
            state = _state(study)
            if state.n_done + state.n_running >= n_wanted:
                return None
            number = len(study.get_trials(deepcopy=False))
            trial = self._load(_sampler_seed(self.space.base.seed, number)).ask()
            params = self.space.suggest(trial)
            seed = int(trial.user_attrs.get(SEED, trial_seed(self.space.base.seed, trial.number)))
            trial.set_user_attr(SEED, seed)
            lock = WorkLock(self._trial_lock(trial.number))
            if not lock.take():
                raise SettingsError(f"{lock.path.name} is held by another process; use another --study file")
            return NextTrial(trial=trial, params=params, seed=seed, lock=lock, continues=trial.user_attrs.get(RETRY_OF))

    def tell(self, run: NextTrial, outcome: TrialOutcome) -> bool:
        """Enter how a trial ended.

        Parameters
        ----------
        run : NextTrial
            The trial; its lock is given back.
        outcome : TrialOutcome
            How it ended.

        Returns
        -------
        bool
            False when the trial had been taken for stopped meanwhile (its process was silent for too long).
        """
        states = {"complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "failed": TrialState.FAIL}
        values = outcome.auc if outcome.end == "complete" else None
        with self._held():
            try:
                if outcome.reason:
                    run.trial.set_user_attr(REASON, outcome.reason)
                self._load(0).tell(run.trial, values, state=states[outcome.end])
            except (RuntimeError, ValueError):
                return False
            finally:
                run.lock.release()
        return True

    def stop(self, run: NextTrial, *, is_orderly: bool = True) -> None:
        """Enter that a trial was stopped: its settings are tried again.

        Parameters
        ----------
        run : NextTrial
            The trial; its lock is given back.
        is_orderly : bool
            By the user, the time or the disk: such stops do not count towards `MOST_RETRIES`.
        """
        with self._held():
            if is_orderly:
                with suppress(RuntimeError):  # given up by another process meanwhile
                    run.trial.set_user_attr(ORDERLY, True)
            run.lock.release()
            self._give_up_stopped(self._load(0))

    def state(self) -> StudyState:
        """Give how far the search is; trials of processes that have ended are given up first."""
        with self._held():
            study = self._load(0)
            self._give_up_stopped(study)
            return _state(study)

    def sweep(self, clean: Callable[[FrozenTrial, bool], None]) -> StudyState:
        """Let every trial that is done be cleaned up, while no other process can change which one is best.

        Parameters
        ----------
        clean : callable
            Called with each trial, and whether it is the best.

        Returns
        -------
        StudyState
        """
        with self._held():
            study = self._load(0)
            state = _state(study)
            for trial in filter(is_done, study.get_trials(deepcopy=False)):
                clean(trial, state.best is not None and trial.number == state.best.number)
            return state

    def trials(self) -> list[FrozenTrial]:
        """Give all trials, in order."""
        return self._load(0).get_trials(deepcopy=False)

    def study(self) -> optuna.Study:
        """Give the study, for statistics."""
        return self._load(0)

    @property
    def full(self) -> dict[str, Any] | None:
        """Give what is known of the full training with the best settings; None before it is done."""
        return self._load(0).user_attrs.get(FULL)

    def set_full(self, facts: Mapping[str, Any]) -> None:
        """Enter that the best settings were trained in full.

        Parameters
        ----------
        facts : mapping
            JSON values.
        """
        with self._held():
            self._load(0).set_user_attr(FULL, dict(facts))

    def full_lock(self) -> WorkLock:
        """Give the lock on the full training."""
        return WorkLock(self.locks / "full.lock")

    @contextmanager
    def _held(self) -> Iterator[None]:
        """Let one process at a time decide."""
        lock = WorkLock(self.locks / "study.lock")
        while not lock.take():
            time.sleep(POLL_S)
        try:
            yield
        finally:
            lock.release()

    def _load(self, seed: int) -> optuna.Study:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # both options, before Optuna 5
            sampler = optuna.samplers.TPESampler(
                seed=seed, n_startup_trials=STARTUP_TRIALS, multivariate=True, constant_liar=True
            )
        return optuna.load_study(study_name=NAME, storage=self._storage, sampler=sampler, pruner=self._pruner)

    def _bind(self, study: optuna.Study, identity: dict[str, Any]) -> None:
        """Enter what the search is of, or refuse another one."""
        known = study.user_attrs.get(IDENTITY)
        if known is None:
            study.set_user_attr(IDENTITY, identity)
            first = self.space.params_of_base()
            if first is not None:
                study.enqueue_trial(first)
            return
        for name in sorted(known.keys() | identity.keys()):
            if known.get(name) != identity.get(name):
                raise SettingsError(_refusal(self.path, name))

    def _trial_lock(self, number: int) -> Path:
        return self.locks / f"trial-{number:04d}.lock"

    def _give_up_stopped(self, study: optuna.Study) -> None:
        """Mark running trials whose process has ended as failed, and queue their settings again."""
        for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if holder_of(self._trial_lock(trial.number)) is not None:
                continue
            study._storage.set_trial_user_attr(trial._trial_id, REASON, STOPPED)
            study.tell(trial.number, state=TrialState.FAIL)
            self._trial_lock(trial.number).unlink(missing_ok=True)
            if len(trial.params) == len(self.space.names) and _n_faults(study, trial) <= MOST_RETRIES:
                attributes = {RETRY_OF: trial.number, SEED: trial.user_attrs.get(SEED, self.space.base.seed)}
                study.enqueue_trial(trial.params, user_attrs=attributes)


def is_done(trial: FrozenTrial) -> bool:
    """Tell whether a trial counts: completed, pruned, or failed by itself; not one that was stopped.

    Parameters
    ----------
    trial : FrozenTrial
        A trial.

    Returns
    -------
    bool
    """
    return trial.state.is_finished() and trial.user_attrs.get(REASON) != STOPPED


def _state(study: optuna.Study) -> StudyState:
    trials = study.get_trials(deepcopy=False)
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE and trial.value is not None]
    return StudyState(
        n_done=sum(map(is_done, trials)),
        n_running=sum(trial.state == TrialState.RUNNING for trial in trials),
        best=max(complete, key=lambda trial: (trial.value, -trial.number), default=None),
    )


def _sampler_seed(seed: int, number: int) -> int:
    """Give a seed that differs from trial to trial in all bits: neighbouring ones draw alike."""
    return int(short_hash(f"{seed} {number}")[:8], 16)


def _n_faults(study: optuna.Study, trial: FrozenTrial) -> int:
    """Give how often the settings of a stopped trial took their process down; orderly stops do not count."""
    trials = study.get_trials(deepcopy=False)
    n = int(ORDERLY not in trial.user_attrs)
    while RETRY_OF in trial.user_attrs:
        trial = trials[trial.user_attrs[RETRY_OF]]
        n += ORDERLY not in trial.user_attrs
    return n


def _pruner(kind: Pruner, n_epochs: int) -> optuna.pruners.BasePruner:
    if kind == "median":
        return optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=max(1, n_epochs // 4))
    if kind == "hyperband":
        return optuna.pruners.HyperbandPruner(min_resource=1, max_resource=n_epochs, reduction_factor=3)
    return optuna.pruners.NopPruner()


def _mend(path: Path) -> None:
    """Cut a last line that a killed process wrote in part: Optuna would refuse the whole file."""
    if not path.is_file():
        return
    lock = JournalFileOpenLock(str(path))
    lock.acquire()
    try:
        content = path.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            with path.open("r+b") as file:
                file.truncate(whole)
    finally:
        lock.release()


@contextmanager
def _journal_faults(path: Path) -> Iterator[None]:
    try:
        yield
    except (ValueError, KeyError, TypeError) as fault:
        raise SettingsError(f"{path.name} holds no search that can be read; choose another --study file") from fault
    except OSError as fault:
        raise SettingsError(f"{path.name} cannot be written ({fault.strerror}); choose another --study file") from fault


def _refusal(path: Path, name: str) -> str:
    if name.endswith("fingerprint"):
        what = f"other {name.split('_')[0]} patches"
    else:
        what = f"another {name.replace('_', ' ')}"
    return f"{path.name} holds a search with {what}; give the same to go on, or choose another --study or --save-dir"
