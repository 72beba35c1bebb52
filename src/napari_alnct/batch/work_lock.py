"""Locks that keep two processes, also on two machines, from doing the same work in a shared folder.

A lock is a small file that names its owner. The owner touches it again and again
(a *heartbeat*); a lock whose process has ended on this machine, or that was not touched
for ten minutes, is *stale* and is taken over. No network file system's own locks are needed.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from time import sleep
from types import TracebackType
from typing import Self

from napari_alnct.core.errors import SettingsError

HEARTBEAT_S = 20.0
STALE_S = 600.0
POLL_S = 2.0


@dataclass(frozen=True, kw_only=True)
class LockOwner:
    """The process that holds a lock.

    Parameters
    ----------
    host, machine : str
        Name of the computer, and what tells it from others of that name (start of the system, process space).
    pid : int
        Process.
    started : str
        When the process started, in the system's ticks: process numbers are used again.
    token : str
        Tells this lock from all others.
    """

    host: str
    machine: str
    pid: int
    started: str
    token: str

    @property
    def text(self) -> str:
        """Give the owner for a sentence."""
        return f"process {self.pid} on {self.host}"


class WorkLock:
    """A lock on a piece of work, held from `take` to `release`.

    Parameters
    ----------
    path : Path
        Lock file; its folder must exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self.owner = _this_process()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def take(self) -> bool:
        """Take the lock when it is free or stale.

        Returns
        -------
        bool
            False when another process holds it.
        """
        while not self._create():
            holder = read_owner(self.path)
            if holder is not None and not self._is_stale(holder):
                return False
            self._discard(holder)
        self._stopped.clear()
        self._thread = threading.Thread(target=self._beat, name="alnct-lock", daemon=True)
        self._thread.start()
        return True

    def wait(self, on_wait: Callable[[str], None]) -> None:
        """Take the lock, waiting until it is free.

        Parameters
        ----------
        on_wait : callable
            Called once, with the owner, when there is something to wait for.
        """
        has_told = False
        while not self.take():
            holder = read_owner(self.path)
            if holder is not None and not has_told:
                on_wait(holder.text)
                has_told = True
            sleep(POLL_S)

    def release(self) -> None:
        """Give the lock back; one that was taken over by another process is left alone."""
        self._stopped.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self.is_held:
            self.path.unlink(missing_ok=True)

    @property
    def is_held(self) -> bool:
        """Tell whether the lock is still this process's."""
        holder = read_owner(self.path)
        return holder is not None and holder.token == self.owner.token

    def __enter__(self) -> Self:
        """Take the lock, or refuse.

        Raises
        ------
        SettingsError
            When another process holds it.
        """
        if not self.take():
            holder = read_owner(self.path)
            who = holder.text if holder else "another process"
            raise SettingsError(f"{self.path.name}: {who} is at this work; wait for it, or choose another output")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the lock back."""
        self.release()

    def _create(self) -> bool:
        """Write the lock file unless it is there; it appears with its content."""
        temporary = self.path.with_name(f".{self.path.name}.{self.owner.token}.tmp")
        temporary.write_text(json.dumps(asdict(self.owner)), encoding="utf-8")
        try:
            os.link(temporary, self.path)
        except FileExistsError:
            return False
        except OSError:  # a file system without links
            return self._create_exclusively()
        finally:
            temporary.unlink(missing_ok=True)
        return True

    def _create_exclusively(self) -> bool:
        try:
            with open(self.path, "x", encoding="utf-8") as file:
                json.dump(asdict(self.owner), file)
        except FileExistsError:
            return False
        return True

    def _is_stale(self, holder: LockOwner) -> bool:
        if (holder.host, holder.machine) == (self.owner.host, self.owner.machine) and os.name == "posix":
            return not _is_running(holder.pid, holder.started)
        return self._age_s() > STALE_S

    def _age_s(self) -> float:
        """Give the seconds since the last heartbeat, by the clock of the folder's own system."""
        probe = self.path.with_name(f".{self.path.name}.{secrets.token_hex(4)}.now")
        try:
            probe.touch()
            return probe.stat().st_mtime - self.path.stat().st_mtime
        except FileNotFoundError:
            return 0.0
        finally:
            probe.unlink(missing_ok=True)

    def _discard(self, holder: LockOwner | None) -> None:
        """Remove a stale lock, unless another process has just replaced it by its own."""
        if holder is None and self._age_s() < POLL_S:  # perhaps it is being written
            sleep(0.1)
            return
        aside = self.path.with_name(f".{self.path.name}.{secrets.token_hex(4)}.stale")
        with contextlib.suppress(FileNotFoundError):
            os.replace(self.path, aside)
            if read_owner(aside) != holder:
                with contextlib.suppress(FileExistsError):
                    os.link(aside, self.path)
            aside.unlink()

    def _beat(self) -> None:
        while not self._stopped.wait(HEARTBEAT_S):
            with contextlib.suppress(OSError):
                if self.is_held:
                    os.utime(self.path)


def read_owner(path: Path) -> LockOwner | None:
    """Give the owner that a lock file names.

    Parameters
    ----------
    path : Path
        Lock file.

    Returns
    -------
    LockOwner or None
        None when there is no lock, or its content is not that of one.
    """
    try:
        return LockOwner(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def holder_of(path: Path) -> LockOwner | None:
    """Give the process that is at a piece of work now.

    Parameters
    ----------
    path : Path
        Lock file.

    Returns
    -------
    LockOwner or None
        None when the lock is free or stale.
    """
    holder = read_owner(path)
    return None if holder is None or WorkLock(path)._is_stale(holder) else holder


def _this_process() -> LockOwner:
    return LockOwner(
        host=socket.gethostname(),
        machine=_machine(),
        pid=os.getpid(),
        started=_start_of(os.getpid()),
        token=secrets.token_hex(8),
    )


def _machine() -> str:
    """Give what tells this system from others of its name; empty where the system does not say."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _start_of(pid: int) -> str:
    """Give when a process started, in ticks; empty where the system does not say."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    return stat.rpartition(")")[2].split()[19]


def _is_running(pid: int, started: str) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return not started or _start_of(pid) in ("", started)
