"""Zip archives from the network, unpacked without trusting them.

An archive is looked at as a whole before a byte is written: a path that leaves the
folder, a link, an encrypted or doubled member or a size that does not fit refuses all of
it. Members appear one by one, complete and with the right CRC-32, in a hidden folder
that takes its final name at the end; what is complete there after a kill is not redone.
"""

from __future__ import annotations

import os
import shutil
import stat
import zipfile
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from napari_alnct.core.errors import AlnctError, JobCancelled

CHUNK_BYTES = 1 << 20
MOST_MEMBERS = 200_000
MOST_EXPANSION = 200  # tables reach 10, scans 2; Deflate can do 1032
IGNORED_FOLDERS, IGNORED_NAMES = ("__MACOSX",), (".DS_Store", "Thumbs.db")
ENCRYPTED = 0x1


class ArchiveError(AlnctError):
    """An archive is damaged, or holds what must not be unpacked."""


@dataclass(frozen=True, kw_only=True)
class Member:
    """A file in an archive.

    Parameters
    ----------
    name : str
        Name in the archive.
    path : str
        Where it goes inside the target folder, with ``/``.
    size : int
        Bytes when unpacked.
    crc : int
        CRC-32.
    """

    name: str
    path: str
    size: int
    crc: int

    def is_at(self, folder: Path) -> bool:
        """Tell whether the file is there, by size and CRC-32."""
        file = folder / self.path
        return file.is_file() and file.stat().st_size == self.size and _crc_of(file) == self.crc


def list_members(archive: Path, folder_name: str) -> list[Member]:
    """Give the files of an archive, refusing it when one of them is not safe.

    Parameters
    ----------
    archive : Path
        A zip file.
    folder_name : str
        Name of the target folder: leading folders that all files share are dropped, up to the one of this name.

    Returns
    -------
    list of Member
        In order of the archive; without folders and without what macOS and Windows add.

    Raises
    ------
    ArchiveError
        If it is damaged, or a member is a link, encrypted, doubled or leaves the folder.
    """
    try:
        with zipfile.ZipFile(archive) as file:
            infos = file.infolist()
    except (zipfile.BadZipFile, EOFError, ValueError, NotImplementedError) as error:
        raise ArchiveError(f"{archive.name} is not a whole zip archive ({error}); fetch it again") from error
    for info in infos:
        _refuse_unsafe(info, archive.name)
    files = [info for info in infos if not info.is_dir() and not _is_ignored(PurePosixPath(info.filename))]
    paths = _without_shared_folders([PurePosixPath(info.filename) for info in files], folder_name)
    if len({str(path).casefold() for path in paths}) != len(paths) or len(paths) > MOST_MEMBERS:
        raise ArchiveError(f"{archive.name} holds doubled names or more than {MOST_MEMBERS} files; do not use it")
    declared, packed = sum(info.file_size for info in files), archive.stat().st_size
    if declared > MOST_EXPANSION * packed:
        raise ArchiveError(f"{archive.name} says that {packed} bytes unpack to {declared}; do not use it")
    return [
        Member(name=info.filename, path=str(path), size=info.file_size, crc=info.CRC)
        for info, path in zip(files, paths, strict=True)
    ]


def unpack(
    archive: Path,
    members: Iterable[Member],
    folder: Path,
    *,
    on_bytes: Callable[[int], None] = lambda n: None,
    is_cancelled: Callable[[], bool] = lambda: False,
) -> None:
    """Unpack files that are not there yet; each appears complete or not at all.

    Parameters
    ----------
    archive : Path
        A zip file.
    members : iterable of Member
        From `list_members`.
    folder : Path
        Folder to write; made when missing.
    on_bytes : callable
        Told how many bytes are there, now and then.
    is_cancelled : callable
        Asked often whether the user has stopped.

    Raises
    ------
    ArchiveError
        If a member is damaged, or larger or smaller than it says.
    JobCancelled
        If the user has stopped.
    OSError
        If the folder cannot be written, or the disk is full; what is complete stays.
    """
    n_done = 0
    with zipfile.ZipFile(archive) as file:
        for member in members:
            target = folder / member.path
            if not member.is_at(folder):
                target.parent.mkdir(parents=True, exist_ok=True)
                partial = target.with_name(f".{target.name[-100:]}.tmp")
                try:
                    _unpack_one(file, member, partial, _after(n_done, on_bytes), is_cancelled)
                    os.replace(partial, target)
                finally:
                    partial.unlink(missing_ok=True)
            n_done += member.size
            on_bytes(n_done)


def refuse_other_files(members: Iterable[Member], target: Path) -> None:
    """Refuse to put files where others of the same names are.

    Parameters
    ----------
    members : iterable of Member
        Files that are not at the target as they should be.
    target : Path
        Their final folder.

    Raises
    ------
    ArchiveError
        If one of the names is taken; nothing is ever overwritten.
    """
    for member in members:
        if os.path.lexists(target / member.path):
            raise ArchiveError(
                f"{target.name}/{member.path} is there and differs from the one in the archive; "
                "move it away and run again"
            )


def move_into_place(members: Iterable[Member], source: Path, target: Path) -> None:
    """Give unpacked files their final folder, in one step where it does not exist yet.

    Parameters
    ----------
    members : iterable of Member
        What was unpacked; none of it is at the target.
    source : Path
        Folder that `unpack` wrote; gone afterwards.
    target : Path
        Final folder, on the same disk.
    """
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(source, target)
        return
    for member in members:
        (target / member.path).parent.mkdir(parents=True, exist_ok=True)
        os.replace(source / member.path, target / member.path)
    shutil.rmtree(source, ignore_errors=True)


def _refuse_unsafe(info: zipfile.ZipInfo, archive: str) -> None:
    """Refuse a member that could write elsewhere or cannot be read."""
    name = info.filename
    kind = stat.S_IFMT(info.external_attr >> 16)
    if name.startswith("/") or ".." in name.split("/") or any(c in name for c in '\\:\0*?"<>|') or not name.strip("/"):
        fault = "a path that leaves the folder or no system takes"
    elif kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        fault = "a link or a device"
    elif info.flag_bits & ENCRYPTED:
        fault = "encrypted"
    else:
        return
    raise ArchiveError(f"{archive}: the member {name[:80]!r} is {fault}; do not use it")


def _is_ignored(path: PurePosixPath) -> bool:
    return path.parts[0] in IGNORED_FOLDERS or path.name in IGNORED_NAMES


def _without_shared_folders(paths: list[PurePosixPath], folder_name: str) -> list[PurePosixPath]:
    """Drop the leading folders that all paths share, up to and with the one of the target's name."""
    n_shared = 0
    while paths and all(len(path.parts) > n_shared + 1 for path in paths):
        names = {path.parts[n_shared] for path in paths}
        if len(names) > 1:
            break
        n_shared += 1
        if names.pop().casefold() == folder_name.casefold():
            break
    return [PurePosixPath(*path.parts[n_shared:]) for path in paths]


def _unpack_one(
    file: zipfile.ZipFile,
    member: Member,
    target: Path,
    on_bytes: Callable[[int], None],
    is_cancelled: Callable[[], bool],
) -> None:
    n_bytes = 0
    archive = os.path.basename(file.filename or "")
    try:
        with file.open(member.name) as source, open(target, "wb") as sink:
            while chunk := source.read(CHUNK_BYTES):
                if is_cancelled():
                    raise JobCancelled("the download was stopped")
                n_bytes += len(chunk)
                if n_bytes > member.size:
                    break
                sink.write(chunk)
                on_bytes(n_bytes)
    except NotImplementedError as error:
        remedy = f"unpack it with 7-Zip into the folder {Path(archive).stem} and run the same command again"
        raise ArchiveError(f"{archive} is packed in a way that Python cannot read ({error}); {remedy}") from error
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise ArchiveError(f"{archive}: the member {member.path} is damaged ({error}); fetch it again") from error
    if n_bytes != member.size:
        raise ArchiveError(f"{archive}: the member {member.path} is not of the size it says; do not use it")


def _after(n_before: int, on_bytes: Callable[[int], None]) -> Callable[[int], None]:
    """Give a counter that goes on from a number."""
    return lambda n_bytes: on_bytes(n_before + n_bytes)


def _crc_of(path: Path) -> int:
    crc = 0
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            crc = zlib.crc32(chunk, crc)
    return crc
