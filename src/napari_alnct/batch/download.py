"""The LUNA16 data set, fetched from its records into the layout that the other commands read.

Each file goes its way alone: fetched, verified, unpacked, put in place, its archive
removed. Several are on the way at a time, each in a thread of its own.
"""

from __future__ import annotations

import json
import queue
import shutil
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.filesize import decimal

from napari_alnct.batch.download_plan import ARCHIVES, Plan, UnpackedState
from napari_alnct.core.errors import AlnctError, JobCancelled
from napari_alnct.io.archives import (
    ArchiveError,
    Member,
    list_members,
    move_into_place,
    refuse_other_files,
    unpack,
)
from napari_alnct.io.atomic_file import replacing_text
from napari_alnct.io.downloads import FULL, DiskFullError, fetch
from napari_alnct.io.folder_lock import locked_folder
from napari_alnct.io.https import Patience
from napari_alnct.io.luna16_files import DataFile
from napari_alnct.io.zenodo import ZenodoRecord

RECORDS_FILE, LOCK_FILE = "zenodo_records.json", ".download.lock"
UNPACKING = ".unpacking"
THREAD = "download"
LAST_WAIT_S = 3.0  # for the workers after a stop; their state is resumable at any moment


@dataclass(kw_only=True)
class Watch:
    """What is told while files are fetched, from several threads.

    Parameters
    ----------
    on_bytes : callable
        Called with name, what is done with it, bytes done and bytes in all.
    on_done : callable
        Called with the name and one line when a file is in place or has failed.
    """

    on_bytes: Callable[[str, str, int, int], None] = lambda name, stage, n, total: None
    on_done: Callable[[str, str], None] = lambda name, line: None


@dataclass(kw_only=True)
class Report:
    """What a run did: files brought into place, and one sentence for each that failed."""

    done: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)


def write_records(out: Path, records: Sequence[ZenodoRecord]) -> None:
    """Keep what the record API said beside the data, with when and from where.

    Parameters
    ----------
    out : Path
        Folder of the data set.
    records : sequence of ZenodoRecord
        As read.
    """
    answers = [
        {"record": record.record_id, "from": record.url, "read": record.read_at, "answer": record.document}
        for record in records
    ]
    with replacing_text(out / RECORDS_FILE) as file:
        json.dump({"records": answers}, file, indent=1)


def run_download(
    plan: Plan,
    records: Sequence[ZenodoRecord] = (),
    *,
    n_jobs: int = 3,
    keep_archives: bool = False,
    patience: Patience | None = None,
    watch: Watch | None = None,
) -> Report:
    """Bring the files that are left into place.

    Parameters
    ----------
    plan : Plan
        From `plan_download`.
    records : sequence of ZenodoRecord
        Kept beside the data.
    n_jobs : int
        Files on the way at a time.
    keep_archives : bool
        Keep archives after unpacking.
    patience : Patience, optional
        How long to keep trying.
    watch : Watch, optional
        Told how it goes.

    Returns
    -------
    Report

    Raises
    ------
    DiskFullError
        If the disk is full; all files keep what has arrived.
    SettingsError
        If another process is at work in the folder.
    KeyboardInterrupt
        If the user stops; as above.
    """
    plan.out.mkdir(parents=True, exist_ok=True)
    with locked_folder(plan.out, LOCK_FILE):
        if records:
            write_records(plan.out, records)
        crew = _Crew(plan, keep_archives, patience or Patience(), watch or Watch())
        report = crew.work(n_jobs)
        for name in (UNPACKING, ARCHIVES):
            _remove_if_empty(plan.out / name)
    return report


class _Crew:
    """Threads that take one file after the other."""

    def __init__(self, plan: Plan, keep_archives: bool, patience: Patience, watch: Watch) -> None:
        self.out, self.keep_archives, self.patience, self.watch = plan.out, keep_archives, patience, watch
        self.state = UnpackedState(plan.out)
        self.stopped = threading.Event()
        self.waiting: queue.SimpleQueue[DataFile] = queue.SimpleQueue()
        self.ended: queue.SimpleQueue[tuple[DataFile, BaseException | None]] = queue.SimpleQueue()
        self.n_left = len(plan.left)
        for file in plan.left:
            self.waiting.put(file)

    def work(self, n_jobs: int) -> Report:
        """Give the report when all files have ended; stop all threads on a full disk, a fault or Ctrl-C."""
        report = Report()
        threads = [
            threading.Thread(target=self._take_files, name=THREAD, daemon=True) for _ in range(min(n_jobs, self.n_left))
        ]
        for thread in threads:
            thread.start()
        try:
            while self.n_left:
                try:
                    file, error = self.ended.get(timeout=0.2)  # short, so that Ctrl-C is heard
                except queue.Empty:
                    continue
                self.n_left -= 1
                if error is not None and (isinstance(error, DiskFullError) or not isinstance(error, AlnctError)):
                    raise error
                if error is None:
                    report.done.append(file.remote.name)
                else:
                    report.failed.append(str(error))
        finally:
            self.stopped.set()
            for thread in threads:
                thread.join(LAST_WAIT_S / len(threads))
        return report

    def _take_files(self) -> None:
        while not self.stopped.is_set():
            try:
                file = self.waiting.get_nowait()
            except queue.Empty:
                return
            try:
                self._bring(file)
            except BaseException as error:
                if not isinstance(error, JobCancelled):
                    self.watch.on_done(file.remote.name, f"failed: {error}")
                self.ended.put((file, error))
            else:
                self.ended.put((file, None))

    def _bring(self, file: DataFile) -> None:
        """Fetch, verify, unpack and put one file in place."""
        name = file.remote.name
        folder = self.out / (ARCHIVES if file.is_archive else file.folder)
        folder.mkdir(parents=True, exist_ok=True)
        fetch(
            file.remote,
            folder / name,
            on_bytes=lambda n: self.watch.on_bytes(name, "fetching", n, file.size),
            is_cancelled=self.stopped.is_set,
            patience=self.patience,
        )
        line = f"{name}: {decimal(file.size)}, {file.remote.algorithm.upper()} as in the record"
        if file.is_archive:
            try:
                members = self._unpack(file, folder / name)
            except OSError as error:
                raise _unpacking_fault(error, name) from error
            line += f", {len(members)} {'file' if len(members) == 1 else 'files'} unpacked"
        self.watch.on_done(name, line)

    def _unpack(self, file: DataFile, archive: Path) -> list[Member]:
        """Put the content of an archive into its folder, and remove the archive."""
        target, staging = self.out / file.folder, self.out / UNPACKING / archive.stem
        members = list_members(archive, file.folder)
        left = [member for member in members if not member.is_at(target)]
        refuse_other_files(left, target)
        total = sum(member.size for member in left)
        free = shutil.disk_usage(self.out).free + _size_of(staging)
        if total > free:
            raise DiskFullError(
                f"the disk is full: {archive.name} unpacks to {decimal(total)}, {decimal(free)} are free; make room "
                "and run the same command again, which goes on from there"
            )
        if left:
            on_bytes = self.watch.on_bytes
            unpack(
                archive,
                left,
                staging,
                on_bytes=lambda n: on_bytes(archive.name, "unpacking", n, total),
                is_cancelled=self.stopped.is_set,
            )
            move_into_place(left, staging, target)
        self.state.note(file, members)
        if not self.keep_archives:
            archive.unlink()
        return members


def _unpacking_fault(error: OSError, name: str) -> AlnctError:
    if error.errno in FULL:
        return DiskFullError(
            f"the disk is full while {name} is unpacked; make room and run the same command again, "
            "which goes on from there"
        )
    return ArchiveError(f"{name} cannot be unpacked ({error.strerror or error}); check the folder")


def _size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _remove_if_empty(folder: Path) -> None:
    try:
        folder.rmdir()
    except OSError:
        return
