"""A job in a thread: exactly one outcome, progress on the way, Cancel within a step."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from napari_alnct.core.errors import JobCancelled, ModelError
from napari_alnct.plugin._worker import Job, start_job

pytestmark = pytest.mark.gui
WAIT_MS = 30_000  # on a busy machine


class Log:
    """Writes down every signal of a job, and in which thread it arrived."""

    def __init__(self) -> None:
        self.events: list[tuple[Any, ...]] = []
        self.threads: set[int] = set()

    def connect(self, job: Job) -> None:
        job.progressed.connect(lambda *values: self._note("progressed", *values))
        job.found.connect(lambda value: self._note("found", value))
        job.done.connect(lambda value: self._note("done", value))
        job.failed.connect(lambda error: self._note("failed", error))
        job.cancelled.connect(lambda: self._note("cancelled"))

    def _note(self, *event: Any) -> None:
        self.threads.add(threading.get_ident())
        self.events.append(event)

    @property
    def outcomes(self) -> list[str]:
        return [event[0] for event in self.events if event[0] in ("done", "failed", "cancelled")]


def spin_until_cancelled(job: Job) -> None:
    """Work in steps of 5 ms until cancelled, for at most 5 s."""
    for k in range(1000):
        if job.is_cancelled():
            raise JobCancelled("stopped")
        job.progress("working", k / 1000)
        time.sleep(0.005)


def test_result_arrives_after_progress_and_parts(qtbot: Any) -> None:
    """Progress and intermediate results come in order, then the result, all in the window's thread."""
    log = Log()

    def work(job: Job) -> int:
        job.progress("half", 0.5)
        job.partial("first")
        return 42

    start_job(work, log.connect)
    qtbot.waitUntil(lambda: bool(log.outcomes), timeout=WAIT_MS)
    assert log.events == [("progressed", "half", 0.5), ("found", "first"), ("done", 42)]
    assert log.threads == {threading.get_ident()}


def test_error_for_people_arrives_as_itself(qtbot: Any) -> None:
    """An error that we raise on purpose reaches the owner; napari shows no traceback."""
    log, error = Log(), ModelError("the file is damaged; get it again")

    def work(job: Job) -> None:
        raise error

    start_job(work, log.connect)
    qtbot.waitUntil(lambda: bool(log.outcomes), timeout=WAIT_MS)
    assert log.events == [("failed", error)]


def test_unexpected_error_arrives_too_and_is_raised_for_napari(qtbot: Any) -> None:
    """A fault in the code ends the job as failed, and is raised in the window's thread, where napari shows it."""
    log = Log()

    def work(job: Job) -> None:
        raise ZeroDivisionError

    with qtbot.capture_exceptions() as raised:
        start_job(work, log.connect)
        qtbot.waitUntil(lambda: bool(log.outcomes) and bool(raised), timeout=WAIT_MS)
    assert log.outcomes == ["failed"]
    assert [kind for kind, _, _ in raised] == [ZeroDivisionError]


def test_cancel_stops_within_a_step(qtbot: Any) -> None:
    """A cancelled job does at most one more step, sends `cancelled` and no other outcome."""
    log, steps = Log(), []

    def work(job: Job) -> None:
        while not job.is_cancelled():
            steps.append(job._is_cancelled)
            job.progress("working", 0.5)
            time.sleep(0.005)
        raise JobCancelled("stopped")

    job = start_job(work, log.connect)
    qtbot.waitUntil(lambda: len(log.events) > 3, timeout=WAIT_MS)
    job.cancel()
    qtbot.waitUntil(lambda: bool(log.outcomes), timeout=WAIT_MS)
    assert sum(steps) <= 1
    assert log.outcomes == ["cancelled"]


def test_cancel_wins_over_a_result_that_came_too_late(qtbot: Any) -> None:
    """When the work ends on its own after Cancel, the result is not delivered."""
    log, may_end = Log(), threading.Event()

    def work(job: Job) -> int:
        may_end.wait(5)
        return 42

    job = start_job(work, log.connect)
    job.cancel()
    may_end.set()
    qtbot.waitUntil(lambda: bool(log.outcomes), timeout=WAIT_MS)
    qtbot.wait(50)
    assert log.events == [("cancelled",)]


def test_dropped_job_stops_and_is_silent(qtbot: Any) -> None:
    """After `drop` nothing is heard of the job any more, and its thread ends."""
    from qtpy.QtCore import QThreadPool

    log = Log()
    job = start_job(spin_until_cancelled, log.connect)
    qtbot.waitUntil(lambda: bool(log.events), timeout=WAIT_MS)
    job.drop()
    n_events = len(log.events)
    assert QThreadPool.globalInstance().waitForDone(WAIT_MS)
    qtbot.wait(50)
    assert log.outcomes == []
    assert len(log.events) <= n_events + 1  # one that was already on its way
