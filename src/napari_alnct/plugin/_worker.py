"""A job in a thread: progress, intermediate results, cancel, and one outcome.

`start_job` runs a function in napari's thread pool, so napari knows about it when
its window closes. Signals arrive in the thread of the window. Exactly one of
``done``, ``failed`` and ``cancelled`` is sent for each job, and none after `Job.drop`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from qtpy.QtCore import QObject, Signal

from napari_alnct.core.errors import AlnctError, JobCancelled


@dataclass(frozen=True)
class _Outcome:
    value: Any = None
    error: Exception | None = None


class Job(QObject):  # type: ignore[misc]  # Qt classes are untyped here
    """A running job, owned by a widget.

    Signals
    -------
    progressed : (str, float)
        Stage and the part of the whole job that is done, 0..1.
    found : object
        An intermediate result.
    done : object
        What the job returned.
    failed : object
        The exception that ended it.
    cancelled : ()
        It stopped because it was asked to.
    """

    progressed = Signal(str, float)
    found = Signal(object)
    done = Signal(object)
    failed = Signal(object)
    cancelled = Signal()

    def __init__(self) -> None:
        super().__init__()
        self._worker: Any = None
        self._is_cancelled = False
        self._is_settled = False

    # -- asked by the job, in its thread ------------------------------------------------

    def progress(self, stage: str, fraction: float) -> None:
        """Tell the owner what is being done and how much of the job is done, 0..1."""
        if not self._is_settled:
            self.progressed.emit(stage, float(fraction))

    def partial(self, value: object) -> None:
        """Hand an intermediate result to the owner."""
        if not self._is_cancelled and not self._is_settled:
            self.found.emit(value)

    def is_cancelled(self) -> bool:
        """Tell whether the job must stop: cancelled here, or napari's window was closed."""
        return self._is_cancelled or bool(self._worker.abort_requested)

    # -- asked by the owner, in the window's thread ---------------------------------------

    def cancel(self) -> None:
        """Ask the job to stop; ``cancelled`` follows when it has."""
        self._is_cancelled = True
        self._worker.quit()

    def drop(self) -> None:
        """Ask the job to stop and hear no more of it."""
        self._is_settled = True
        self.cancel()

    def _on_errored(self, error: Exception) -> None:
        self._settle(_Outcome(error=error))

    def _on_finished(self) -> None:
        self._settle(None)  # nothing was returned: it was asked to stop

    def _settle(self, outcome: _Outcome | None) -> None:
        if self._is_settled:
            return
        self._is_settled = True
        if outcome is None or self._is_cancelled or isinstance(outcome.error, JobCancelled):
            self.cancelled.emit()
        elif outcome.error is not None:
            self.failed.emit(outcome.error)
        else:
            self.done.emit(outcome.value)


def start_job(work: Callable[[Job], Any], connect: Callable[[Job], None]) -> Job:
    """Run a function in a thread.

    Parameters
    ----------
    work : callable
        Gets the `Job` as its reporter; its return value arrives with ``done``. An `AlnctError`
        arrives with ``failed``; any other exception does so too and is also shown by napari
        with its traceback.
    connect : callable
        Gets the `Job` and connects its signals, before anything can be sent.

    Returns
    -------
    Job
        Already started.
    """
    from napari.qt.threading import create_worker

    job = Job()
    connect(job)

    def run() -> _Outcome:
        """Give what the function returned, or the error that is meant for people."""
        try:
            return _Outcome(work(job))
        except AlnctError as error:
            return _Outcome(error=error)

    job._worker = create_worker(run, _start_thread=False)
    job._worker.returned.connect(job._settle)
    job._worker.errored.connect(job._on_errored)
    job._worker.finished.connect(job._on_finished)
    job._worker.start()
    return job
