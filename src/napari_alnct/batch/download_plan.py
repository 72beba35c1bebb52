"""What is left to do for a data set: which files are in place, which in part, what room they need.

What was unpacked is noted in ``download.json``, so that a further run knows it without
the archive.
"""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.filesize import decimal

from napari_alnct.io.archives import Member
from napari_alnct.io.atomic_file import replacing_text
from napari_alnct.io.https import DownloadError
from napari_alnct.io.luna16_files import DataFile

STATE_FILE = "download.json"
ARCHIVES = "archives"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a run would do.

    Parameters
    ----------
    out : Path
        Folder of the data set.
    there : tuple of DataFile
        In place already.
    left : tuple of DataFile
        To fetch or to unpack.
    arrived : dict of str to int
        Bytes of the left files that are on disk, by name.
    needed_bytes : int
        Room still needed on the disk, archives and unpacked files; an estimate.
    free_bytes : int
        Room on the disk.
    """

    out: Path
    there: tuple[DataFile, ...]
    left: tuple[DataFile, ...]
    arrived: dict[str, int]
    needed_bytes: int
    free_bytes: int

    @property
    def fetch_bytes(self) -> int:
        """Give the bytes still to come over the network."""
        return sum(file.size - self.arrived[file.remote.name] for file in self.left)

    def refuse_full_disk(self) -> None:
        """Refuse to begin what the disk cannot take.

        Raises
        ------
        DownloadError
            With the room that is needed and the room that is there.
        """
        if self.needed_bytes > self.free_bytes:
            raise DownloadError(
                f"{self.out.name or self.out} needs about {decimal(self.needed_bytes)} (archives and unpacked files), "
                f"the disk has {decimal(self.free_bytes)} free; make room, name fewer --subsets or another --out"
            )


def plan_download(out: Path, files: Sequence[DataFile], *, n_jobs: int = 3, keep_archives: bool = False) -> Plan:
    """Give what is there and what is left to do; writes nothing.

    Parameters
    ----------
    out : Path
        Folder of the data set; need not exist.
    files : sequence of DataFile
        What is wanted.
    n_jobs : int
        Files on the way at a time: so many archives lie on the disk together.
    keep_archives : bool
        Whether all archives stay.

    Returns
    -------
    Plan
    """
    state = UnpackedState(out)
    there = tuple(file for file in files if state.is_in_place(file))
    left = tuple(file for file in files if file not in there)
    arrived = {file.remote.name: _n_arrived(out, file) for file in left}
    archives = sorted((file.size for file in left if file.is_archive), reverse=True)
    at_a_time = sum(archives if keep_archives else archives[:n_jobs])
    on_disk = sum(arrived[file.remote.name] for file in left if file.is_archive)
    place = out.absolute()
    while not place.exists():
        place = place.parent
    return Plan(
        out=out,
        there=there,
        left=left,
        arrived=arrived,
        needed_bytes=sum(file.unpacked_size for file in left) + max(at_a_time - on_disk, 0),
        free_bytes=shutil.disk_usage(place).free,
    )


class UnpackedState:
    """What was unpacked: archive, checksum and files with their sizes, in ``download.json``.

    Parameters
    ----------
    out : Path
        Folder of the data set.

    Raises
    ------
    DownloadError
        If the file is there and cannot be read.
    """

    def __init__(self, out: Path) -> None:
        self.out = out
        self.lock = threading.Lock()
        self.unpacked: dict[str, dict[str, Any]] = {}
        try:
            document = json.loads((out / STATE_FILE).read_text(encoding="utf-8"))
            self.unpacked = dict(document["unpacked"])
        except FileNotFoundError:
            pass
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DownloadError(f"{STATE_FILE} cannot be read ({error}); remove it and run again") from error

    def is_in_place(self, file: DataFile) -> bool:
        """Tell whether a file, or all that an archive held, is there, by size."""
        if not file.is_archive:
            target = self.out / file.folder / file.remote.name
            return target.is_file() and file.remote.is_at(target)
        entry = self.unpacked.get(file.remote.name)
        if entry is None or entry.get("digest") != file.remote.digest or entry.get("folder") != file.folder:
            return False
        folder = self.out / file.folder
        return all((folder / path).is_file() and (folder / path).stat().st_size == n for path, n in entry["files"])

    def note(self, file: DataFile, members: Sequence[Member]) -> None:
        """Write down that an archive was unpacked."""
        files = [[member.path, member.size] for member in members]
        with self.lock:
            entry = {"algorithm": file.remote.algorithm, "digest": file.remote.digest, "folder": file.folder}
            self.unpacked[file.remote.name] = {**entry, "files": files}
            with replacing_text(self.out / STATE_FILE) as text:
                json.dump({"unpacked": self.unpacked}, text)


def _n_arrived(out: Path, file: DataFile) -> int:
    """Give the bytes of a file that are on disk, whole or in part."""
    target = out / (ARCHIVES if file.is_archive else file.folder) / file.remote.name
    sizes = [path.stat().st_size for path in (target, file.remote.part_path(target)) if path.is_file()]
    return min(max(sizes, default=0), file.size)
