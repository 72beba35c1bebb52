"""Locks on work in a shared folder: one owner at a time, stale ones taken over, live ones never."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from napari_alnct.batch import work_lock
from napari_alnct.batch.work_lock import STALE_S, WorkLock, holder_of, read_owner
from napari_alnct.core.errors import SettingsError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "fold3.lock"


def write_owner(path: Path, **changes: object) -> None:
    """Write a lock as another process would."""
    owner = replace(WorkLock(path).owner, **changes)  # type: ignore[arg-type]
    path.write_text(json.dumps(asdict(owner)))


def test_one_process_at_a_time_and_no_trace_afterwards(path: Path) -> None:
    """The second is refused with the owner's name until the first gives it back; no file stays."""
    with WorkLock(path):
        assert not WorkLock(path).take()
        with pytest.raises(SettingsError, match=rf"process {os.getpid()} on .* is at this work"), WorkLock(path):
            pass
    assert list(path.parent.iterdir()) == []
    with WorkLock(path) as lock:
        assert lock.is_held


def test_the_lock_of_a_killed_process_is_taken_over_at_once(path: Path) -> None:
    """SIGKILL leaves the file; the process is gone, so nobody waits for the heartbeat."""
    code = (
        "import os, signal, sys\nfrom pathlib import Path\nfrom napari_alnct.batch.work_lock import WorkLock\n"
        "WorkLock(Path(sys.argv[1])).take()\nos.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(path)], check=False).returncode == -9
    assert read_owner(path) is not None
    assert holder_of(path) is None
    lock = WorkLock(path)
    assert lock.take()
    lock.release()


def test_a_process_number_that_was_used_again_does_not_hold_the_lock(path: Path) -> None:
    """The number lives, but that process started at another time."""
    write_owner(path, started="1", token="other")
    lock = WorkLock(path)
    assert lock.take()
    lock.release()


def test_another_machine_is_judged_by_its_heartbeat(path: Path) -> None:
    """Its process numbers mean nothing here: held while touched, stale after ten minutes without."""
    write_owner(path, host="elsewhere", machine="other", pid=2**22 + 1, token="other")
    assert not WorkLock(path).take()
    assert holder_of(path) is not None
    old = time.time() - STALE_S - 60
    os.utime(path, (old, old))
    assert holder_of(path) is None
    lock = WorkLock(path)
    assert lock.take()
    assert lock.is_held
    lock.release()


def test_the_owner_keeps_its_lock_fresh(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The heartbeat renews the time of the file."""
    monkeypatch.setattr(work_lock, "HEARTBEAT_S", 0.01)
    with WorkLock(path):
        os.utime(path, (1, 1))
        deadline = time.monotonic() + 5
        while path.stat().st_mtime < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert path.stat().st_mtime > 2


def test_a_lock_that_was_taken_over_is_not_removed(path: Path) -> None:
    """A process that slept too long finds another's lock and leaves it alone."""
    lock = WorkLock(path)
    lock.take()
    write_owner(path, token="other")
    lock.release()
    owner = read_owner(path)
    assert owner is not None
    assert owner.token == "other"


def test_a_fresh_lock_is_not_taken_for_the_stale_one_that_it_replaced(path: Path) -> None:
    """Between judging and removing, another process took the lock over: its lock stays."""
    write_owner(path, started="1", token="stale")
    stale = read_owner(path)
    write_owner(path, token="fresh")
    WorkLock(path)._discard(stale)
    owner = read_owner(path)
    assert owner is not None
    assert owner.token == "fresh"
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_waiting_tells_for_whom_and_goes_on(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The owner is named once; the lock is taken as soon as it is free."""
    monkeypatch.setattr(work_lock, "POLL_S", 0.01)
    write_owner(path, token="other")
    told: list[str] = []

    def on_wait(owner: str) -> None:
        told.append(owner)
        path.unlink()

    lock = WorkLock(path)
    lock.wait(on_wait)
    assert told == [lock.owner.text]
    lock.release()


def test_an_unreadable_lock_is_in_the_way_only_for_a_moment(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty file, as a full disk leaves it, names no owner."""
    path.touch()
    os.utime(path, (1, 1))
    lock = WorkLock(path)
    assert lock.take()
    lock.release()
