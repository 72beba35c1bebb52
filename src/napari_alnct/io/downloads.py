"""Files from the network that appear complete and verified, or not at all.

What arrives is kept beside the target in a ``.part`` file, whose name holds the
beginning of the expected checksum, so that a transfer that was cut, stopped or killed
goes on where it ended and never continues another file. The target takes its name only
when size and checksum are right.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import requests
from rich.filesize import decimal

from napari_alnct.core.errors import JobCancelled
from napari_alnct.io.https import DownloadError, PassingFault, Patience, host_of, open_url, pause

CHUNK_BYTES = 1 << 16
FULL = (errno.ENOSPC, errno.EDQUOT)
DIGITS = {"md5": 32, "sha256": 64}
CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)$")


class DiskFullError(DownloadError):
    """There is no more room; what arrived is kept."""


class _WrongContent(Exception):
    """What arrived, or is offered, is not what was announced."""


@dataclass(frozen=True, kw_only=True)
class RemoteFile:
    """A file on a server, and how to tell that it arrived whole.

    Parameters
    ----------
    name : str
        Base name.
    urls : tuple of str
        Addresses of the same bytes, the preferred first; the others serve where it fails or sends no ranges.
    algorithm : {"md5", "sha256"}
        Of the checksum.
    digest : str
        Checksum, lower-case hexadecimal.
    size : int or None
        Bytes, when announced.
    most_bytes : int or None
        A file larger than this is refused.
    """

    name: str
    urls: tuple[str, ...]
    algorithm: str
    digest: str
    size: int | None = None
    most_bytes: int | None = None

    def part_path(self, target: Path) -> Path:
        """Give the file that holds what has arrived so far."""
        return target.with_name(f"{target.name}.{self.digest[:8]}.part")

    def is_at(self, path: Path) -> bool:
        """Tell whether a file on disk is this one, by size and checksum.

        Raises
        ------
        DownloadError
            If it cannot be read.
        """
        try:
            if self.size is not None and path.stat().st_size != self.size:
                return False
            return file_digest(path, self.algorithm) == self.digest
        except OSError as error:
            raise DownloadError(f"{path.name} cannot be read ({error.strerror}); check the disk") from error


def file_digest(path: Path, algorithm: str) -> str:
    """Give the checksum of a file.

    Parameters
    ----------
    path : Path
        A regular file.
    algorithm : {"md5", "sha256"}
        MD5 finds damage, not forgery.

    Returns
    -------
    str
        Lower-case hexadecimal.
    """
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.new(algorithm, usedforsecurity=False)).hexdigest()


def fetch(
    remote: RemoteFile,
    target: Path,
    *,
    on_bytes: Callable[[int], None] = lambda n: None,
    is_cancelled: Callable[[], bool] = lambda: False,
    patience: Patience | None = None,
) -> bool:
    """Fetch a file unless it is there, and verify it.

    Parameters
    ----------
    remote : RemoteFile
        What to fetch.
    target : Path
        File to write; its folder must exist.
    on_bytes : callable
        Told how many bytes are there, now and then.
    is_cancelled : callable
        Asked often whether the user has stopped.
    patience : Patience, optional
        How long to keep trying.

    Returns
    -------
    bool
        Whether it was fetched; False when it was there.

    Raises
    ------
    DownloadError
        If it cannot be fetched, arrives wrong twice, or another file has the name of the target.
    DiskFullError
        If there is no more room; the next call goes on where this one ended.
    JobCancelled
        If the user has stopped; as above.
    """
    if target.exists():
        if target.is_file() and remote.is_at(target):
            return False
        raise DownloadError(
            f"{target.parent.name}/{target.name} is there and is not the announced file "
            f"({remote.algorithm.upper()} {remote.digest[:12]}...); move it away and run again"
        )
    part = remote.part_path(target)
    _Transfer(remote, part, on_bytes, is_cancelled, patience or Patience()).run()
    try:
        os.replace(part, target)
    except OSError as error:
        raise _write_fault(error, remote, part) from error
    return True


class _Transfer:
    """One file on its way into its ``.part`` file."""

    def __init__(
        self,
        remote: RemoteFile,
        part: Path,
        on_bytes: Callable[[int], None],
        is_cancelled: Callable[[], bool],
        patience: Patience,
    ) -> None:
        self.remote, self.part, self.patience = remote, part, patience
        self.on_bytes, self.is_cancelled = on_bytes, is_cancelled
        self.etags: dict[str, str] = {}  # of the addresses asked in this run, for If-Range

    def run(self) -> None:
        """Try until the file is there and right, or patience ends."""
        n_failed = n_wrong = 0
        most = self._offset()
        while True:
            try:
                self._receive()
                self._verify()
                return
            except _WrongContent as fault:
                self.part.unlink(missing_ok=True)
                n_wrong, most = n_wrong + 1, 0
                if n_wrong > 1:
                    raise DownloadError(f"{self.remote.name}: {fault}, twice; try again later") from fault
                pause(self.patience.wait_s(1), self.is_cancelled)
            except PassingFault as fault:
                arrived = self._offset()
                n_failed = 1 if arrived > most else n_failed + 1
                most = max(most, arrived)
                if n_failed >= self.patience.n_tries:
                    raise DownloadError(f"{fault} ({n_failed} tries, {self._so_far()})") from fault
                wait_s = self.patience.wait_s(n_failed) if fault.wait_s is None else fault.wait_s
                pause(wait_s, self.is_cancelled)

    def _offset(self) -> int:
        """Give the number of bytes that are there and may be continued."""
        try:
            n_bytes = self.part.stat().st_size
        except OSError:
            return 0
        if self.remote.size is not None and n_bytes > self.remote.size:
            self.part.unlink()
            return 0
        return n_bytes

    def _so_far(self) -> str:
        n_bytes = self._offset()
        whole = "" if self.remote.size is None else f" of {decimal(self.remote.size)}"
        return f"{decimal(n_bytes)}{whole} kept: the same command goes on from there" if n_bytes else "nothing came"

    def _receive(self) -> None:
        """Fetch what is missing."""
        offset = self._offset()
        self.on_bytes(offset)
        if offset != self.remote.size:
            response, offset = self._open(offset)
            with response:
                self._check_length(response, offset)
                self._write(response, offset)

    def _open(self, offset: int) -> tuple[requests.Response, int]:
        """Give a response and the position where it begins: that asked for, or 0 where no address sends ranges."""
        first_fault: DownloadError | None = None
        for url in self.remote.urls:
            try:
                response = open_url(url, self.remote.name, self._headers(url, offset), stall_s=self.patience.stall_s)
            except PassingFault:
                raise
            except DownloadError as fault:
                first_fault = first_fault or fault
                continue
            begin = _begin_of(response, self.remote.size) if offset else 0
            if begin == offset and response.status_code == (206 if offset else 200):
                self._remember_etag(url, response)
                return response, offset
            response.close()
        if offset:
            return self._open(0)
        host = host_of(self.remote.urls[0])
        raise first_fault or DownloadError(f"{self.remote.name}: {host} does not send the file; check the address")

    def _headers(self, url: str, offset: int) -> dict[str, str]:
        if not offset:
            return {}
        etag = self.etags.get(url)
        return {"Range": f"bytes={offset}-"} | ({"If-Range": etag} if etag else {})

    def _remember_etag(self, url: str, response: requests.Response) -> None:
        etag = response.headers.get("ETag", "")
        if etag.startswith('"'):  # a weak one is of no use for ranges
            self.etags[url] = etag

    def _check_length(self, response: requests.Response, offset: int) -> None:
        text = response.headers.get("Content-Length", "")
        if self.remote.size is not None and text.isdigit() and offset + int(text) != self.remote.size:
            raise _WrongContent(f"announced are {self.remote.size} bytes, the server offers {offset + int(text)}")

    def _write(self, response: requests.Response, offset: int) -> None:
        """Append the body to the part file; every byte that arrived is kept when it breaks off."""
        limit = self.remote.size if self.remote.size is not None else self.remote.most_bytes
        try:
            with open(self.part, "ab" if offset else "wb", buffering=0) as file:
                for chunk in self._chunks(response):
                    offset += len(chunk)
                    if limit is not None and offset > limit:
                        raise _WrongContent(f"more than {limit} bytes came")
                    left = memoryview(chunk)
                    while left:
                        left = left[file.write(left) :]
                    self.on_bytes(offset)
                os.fsync(file.fileno())
        except OSError as error:
            raise _write_fault(error, self.remote, self.part) from error

    def _chunks(self, response: requests.Response) -> Iterator[bytes]:
        """Give the body piece by piece; a broken connection is a passing fault."""
        try:
            for chunk in response.iter_content(CHUNK_BYTES):
                if self.is_cancelled():
                    raise JobCancelled("the download was stopped")
                yield chunk
        except requests.RequestException as error:
            what = "went silent" if isinstance(error, requests.ConnectionError) else "was cut"
            raise PassingFault(f"{self.remote.name}: the connection {what}; check the network") from error

    def _verify(self) -> None:
        n_bytes, remote = self._offset(), self.remote
        if remote.size is not None and n_bytes != remote.size:
            raise PassingFault(f"{remote.name}: the connection was cut; check the network")
        found = file_digest(self.part, remote.algorithm)
        if found != remote.digest:
            kind = remote.algorithm.upper()
            raise _WrongContent(f"announced is {kind} {remote.digest[:12]}..., what came has {found[:12]}...")


def _begin_of(response: requests.Response, size: int | None) -> int | None:
    """Give the position of the first byte of a partial answer; None when it is of a file of another size."""
    match = CONTENT_RANGE.match(response.headers.get("Content-Range", ""))
    if match is None or (size is not None and match[2] not in ("*", str(size))):
        return None
    return int(match[1])


def _write_fault(error: OSError, remote: RemoteFile, part: Path) -> DownloadError:
    """Give the sentence for a disk that does not take the file."""
    if error.errno not in FULL:
        reason = error.strerror or type(error).__name__
        return DownloadError(f"{remote.name} cannot be written ({reason}); check the folder {part.parent.name}")
    n_bytes = part.stat().st_size if part.exists() else 0
    whole = "" if remote.size is None else f" of {decimal(remote.size)}, free {decimal(remote.size - n_bytes)} more"
    return DiskFullError(
        f"the disk is full: {remote.name} has {decimal(n_bytes)}{whole} and run the same command again, "
        "which goes on from there"
    )
