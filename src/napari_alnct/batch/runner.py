"""One job over many items in local processes; a bad item is a failed row, not a dead batch.

Each worker is a fresh interpreter that does one item at a time, so memory is bounded by
the number of workers. A worker that is killed, by the system for want of memory or by a
crash in a library, costs the item it was working on; another worker takes its place.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from time import monotonic, perf_counter
from typing import Any

from napari_alnct.batch.manifest import Manifest
from napari_alnct.core.errors import AlnctError, JobCancelled

Job = Callable[[Any], Mapping[str, Any]]
WORKER_DIED, UNEXPECTED, NO_MEMORY, SYSTEM = "E_WORKER_DIED", "E_UNEXPECTED", "E_MEMORY", "E_SYSTEM"
TRACEBACK_VARIABLE = "ALNCT_TRACEBACK"  # its messages may hold paths, so they are shown only on request
POLL_S = 0.2
GRACE_S = 5.0  # for a stopped worker to remove what it was writing


@dataclass(frozen=True)
class BatchProgress:
    """How far a batch is, after one more item.

    ``n_done`` and ``n_failed`` of ``n_total`` in this run; the item just finished is ``key``,
    with ``message`` when it failed, else empty.
    """

    n_done: int
    n_failed: int
    n_total: int
    key: str
    message: str


def run_batch(
    job: Job,
    tasks: Mapping[str, Any],
    manifest: Manifest,
    *,
    n_jobs: int = 1,
    on_progress: Callable[[BatchProgress], None] | None = None,
    is_cancelled: Callable[[], bool] | None = None,
) -> None:
    """Do all items and enter each outcome in the manifest.

    Parameters
    ----------
    job : callable
        A function at the top level of a module; takes one task, returns a dict of JSON values.
        An exception makes the item a failed one.
    tasks : mapping
        Item to task; tasks must pickle. The items are those that `Manifest.plan` gave.
    manifest : Manifest
        Where outcomes go; saved at the end in any case.
    n_jobs : int, optional
        Processes at a time.
    on_progress : callable, optional
        Called after each item.
    is_cancelled : callable, optional
        Asked several times a second.

    Raises
    ------
    JobCancelled
        If `is_cancelled` said so; items that were running count as left.
    KeyboardInterrupt
        On Ctrl-C, after the workers have stopped.
    """
    queue = deque(tasks)
    crew: list[_Worker] = []
    n_done = n_failed = 0
    try:
        while queue or any(worker.key for worker in crew):
            if is_cancelled is not None and is_cancelled():
                raise JobCancelled("cancelled; finished items are kept, run again to go on")
            _hand_out(job, tasks, queue, crew, n_jobs)
            for worker, outcome in _finished(crew):
                key = worker.key
                worker.key = ""
                _record(manifest, key, outcome)
                n_done, n_failed = n_done + (outcome.code == ""), n_failed + (outcome.code != "")
                if on_progress is not None:
                    on_progress(BatchProgress(n_done, n_failed, len(tasks), key, outcome.message))
            crew = [worker for worker in crew if not worker.is_dead]
    finally:
        _dismiss(crew)
        manifest.save()


@dataclass(frozen=True)
class _Outcome:
    """What became of an item; ``code`` is empty when it was done."""

    result: Mapping[str, Any]
    seconds: float = 0.0
    code: str = ""
    message: str = ""


class _Worker:
    """One child process and the item it works on; ``key`` is empty when it waits."""

    def __init__(self, job: Job) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process: SpawnProcess = context.Process(target=_work, args=(job, theirs), name="alnct-batch")
        with _ignoring_interrupts():  # the child inherits this: Ctrl-C must not hit it while it starts
            self.process.start()
        theirs.close()
        self.key = ""
        self.is_dead = False

    def receive(self) -> _Outcome:
        """Give the outcome of the item, or that the process died over it."""
        try:
            outcome = self.connection.recv()
        except (EOFError, OSError):
            self.is_dead = True
            self.process.join(GRACE_S)
            reason = f"the process working on it ended unexpectedly (exit code {self.process.exitcode})"
            advice = "with too little memory use fewer jobs"
            return _Outcome({}, code=WORKER_DIED, message=f"{reason}; run again, {advice}")
        assert isinstance(outcome, _Outcome)
        return outcome


def _hand_out(job: Job, tasks: Mapping[str, Any], queue: deque[str], crew: list[_Worker], n_jobs: int) -> None:
    """Give an item to every waiting worker, starting workers up to `n_jobs`."""
    crew[:] = [worker for worker in crew if worker.key or worker.process.is_alive()]
    while queue:
        worker = next((w for w in crew if not w.key), None)
        if worker is None:
            if len(crew) >= max(1, n_jobs):
                return
            worker = _Worker(job)
            crew.append(worker)
        worker.key = queue.popleft()
        with contextlib.suppress(OSError):  # it died just now: noticed when its answer is read
            worker.connection.send(tasks[worker.key])


@contextlib.contextmanager
def _ignoring_interrupts() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _finished(crew: list[_Worker]) -> list[tuple[_Worker, _Outcome]]:
    """Give the workers whose item is finished, after waiting a moment for the first."""
    busy = {worker.connection: worker for worker in crew if worker.key}
    ready = wait(list(busy), timeout=POLL_S)
    return [(busy[connection], busy[connection].receive()) for connection in ready]  # type: ignore[index]


def _record(manifest: Manifest, key: str, outcome: _Outcome) -> None:
    if outcome.code:
        manifest.record_failed(key, outcome.code, outcome.message, outcome.seconds)
    else:
        manifest.record_done(key, outcome.result, outcome.seconds)


def _dismiss(crew: list[_Worker]) -> None:
    """Stop all workers: waiting ones at once, busy ones after they have removed unfinished files."""
    for worker in crew:
        worker.connection.close()
        if worker.key:
            worker.process.terminate()
    deadline = monotonic() + GRACE_S
    for worker in crew:
        worker.process.join(max(0.0, deadline - monotonic()))
        if worker.process.is_alive():
            worker.process.kill()
            worker.process.join()
        worker.process.close()


def _work(job: Job, connection: Connection) -> None:
    """Do items until the parent closes the connection; the child's side."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which stops us
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that clean-up code runs
    with contextlib.suppress(EOFError, OSError):
        while True:
            task = connection.recv()
            connection.send(_outcome_of(job, task))


def _outcome_of(job: Job, task: Any) -> _Outcome:
    began = perf_counter()
    try:
        return _Outcome(job(task), perf_counter() - began)
    except Exception as error:
        code, message = fault_of(error)
    return _Outcome({}, perf_counter() - began, code, message)


def fault_of(error: Exception) -> tuple[str, str]:
    """Give what ended the work on an item, for its row.

    Parameters
    ----------
    error : Exception
        What the work raised.

    Returns
    -------
    code, message : str
        Code for programs and one sentence for people; neither holds a path.
    """
    if isinstance(error, AlnctError):
        return getattr(error, "code", type(error).__name__), str(error)
    if isinstance(error, MemoryError):
        return NO_MEMORY, "not enough memory; use fewer jobs or close other programs"
    if isinstance(error, OSError):
        return SYSTEM, error.strerror or type(error).__name__
    if os.environ.get(TRACEBACK_VARIABLE):
        traceback.print_exception(error)
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
    return UNEXPECTED, f"unexpected {type(error).__name__}{place}; for the traceback set {TRACEBACK_VARIABLE}=1"
