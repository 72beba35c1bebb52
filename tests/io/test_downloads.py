"""Transfers against a local server: complete and verified, or not at all, and resumable at any moment."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from napari_alnct.core.errors import JobCancelled
from napari_alnct.io import downloads
from napari_alnct.io.downloads import DiskFullError, RemoteFile, fetch
from napari_alnct.io.https import DownloadError, PassingFault, Patience, _retry_after_s, open_url, refuse_unsafe

from .fake_zenodo import FakeZenodo, Fault, noise, serving

BODY = noise(300_000)
QUICK = Patience(n_tries=3, first_wait_s=0.01, longest_wait_s=0.02, stall_s=2.0)


@pytest.fixture
def zenodo():
    """Serve one file."""
    with serving(FakeZenodo()) as server:
        server.records = {"1": {"a.zip": BODY}}
        yield server


def remote(zenodo: FakeZenodo, body: bytes = BODY) -> RemoteFile:
    """Describe the file with both of its addresses."""
    return RemoteFile(
        name="a.zip",
        urls=(f"{zenodo.api}/records/1/files/a.zip/content", f"{zenodo.url}/records/1/files/a.zip?download=1"),
        algorithm="md5",
        digest=hashlib.md5(body).hexdigest(),
        size=len(body),
    )


def names(folder: Path) -> list[str]:
    """List a folder."""
    return sorted(path.name for path in folder.iterdir())


def test_a_file_arrives_whole_and_is_not_fetched_twice(zenodo, tmp_path):
    """The target has the bytes, no part file stays, the progress ends at the size; a second call asks nothing."""
    seen: list[int] = []
    assert fetch(remote(zenodo), tmp_path / "a.zip", on_bytes=seen.append, patience=QUICK)
    assert (tmp_path / "a.zip").read_bytes() == BODY
    assert names(tmp_path) == ["a.zip"]
    assert seen[-1] == len(BODY)
    assert seen == sorted(seen)
    assert not fetch(remote(zenodo), tmp_path / "a.zip", patience=QUICK)
    assert len(zenodo.requests) == 1


def test_a_cut_transfer_asks_only_for_the_rest(zenodo, tmp_path):
    """After a cut the next request has a Range header and the server sends the rest, not the whole."""
    zenodo.faults["a.zip"] = [Fault(cut_after=200_000)]
    fetch(remote(zenodo), tmp_path / "a.zip", patience=QUICK)
    assert (tmp_path / "a.zip").read_bytes() == BODY
    first, second = zenodo.requests
    assert first.range is None
    begin = int(second.range.removeprefix("bytes=").removesuffix("-"))
    assert 0 < begin <= 200_000
    assert second.status == 206
    assert second.sent == len(BODY) - begin
    assert second.if_range == f'"md5:{hashlib.md5(BODY).hexdigest()}"'


def test_a_part_of_an_earlier_run_is_continued(zenodo, tmp_path):
    """What a killed process left is not fetched again."""
    file = remote(zenodo)
    file.part_path(tmp_path / "a.zip").write_bytes(BODY[:123_456])
    fetch(file, tmp_path / "a.zip", patience=QUICK)
    assert (tmp_path / "a.zip").read_bytes() == BODY
    assert [(r.range, r.sent) for r in zenodo.requests] == [("bytes=123456-", len(BODY) - 123_456)]


def test_a_complete_part_needs_no_request(zenodo, tmp_path):
    """A process killed between the last byte and the name is finished without the network."""
    file = remote(zenodo)
    file.part_path(tmp_path / "a.zip").write_bytes(BODY)
    assert fetch(file, tmp_path / "a.zip", patience=QUICK)
    assert zenodo.requests == []


def test_a_part_of_another_file_is_not_continued(zenodo, tmp_path):
    """The part file's name holds the checksum: after a new version in the record the old part is left alone."""
    old = replace(remote(zenodo), digest="0" * 32)
    old.part_path(tmp_path / "a.zip").write_bytes(b"old" * 1000)
    fetch(remote(zenodo), tmp_path / "a.zip", patience=QUICK)
    assert zenodo.requests[0].range is None
    assert (tmp_path / "a.zip").read_bytes() == BODY


def test_a_part_that_is_too_long_is_begun_anew(zenodo, tmp_path):
    """More bytes than announced cannot be a beginning of the file."""
    file = remote(zenodo)
    file.part_path(tmp_path / "a.zip").write_bytes(BODY + b"x")
    fetch(file, tmp_path / "a.zip", patience=QUICK)
    assert zenodo.requests[0].range is None
    assert (tmp_path / "a.zip").read_bytes() == BODY


def test_without_ranges_the_file_comes_again_from_the_beginning(zenodo, tmp_path):
    """A server that answers 200 to a Range request is believed: no byte is doubled."""
    zenodo.api_sends_ranges = zenodo.page_sends_ranges = False
    zenodo.faults["a.zip"] = [Fault(cut_after=100_000)]
    fetch(remote(zenodo), tmp_path / "a.zip", patience=QUICK)
    assert (tmp_path / "a.zip").read_bytes() == BODY
    assert [(r.range is None, r.status) for r in zenodo.requests] == [
        (True, 200),
        (False, 200),
        (False, 200),
        (True, 200),
    ]
    assert zenodo.requests[-1].sent == len(BODY)


def test_the_rest_comes_over_the_address_that_sends_ranges(zenodo, tmp_path):
    """Zenodo's API link sends no ranges, the link of the page does: the rest comes from there."""
    zenodo.api_sends_ranges = False
    zenodo.faults["a.zip"] = [Fault(cut_after=200_000)]
    fetch(remote(zenodo), tmp_path / "a.zip", patience=QUICK)
    assert (tmp_path / "a.zip").read_bytes() == BODY
    last = zenodo.requests[-1]
    assert last.path.startswith("/records/1/files/a.zip")
    assert last.status == 206
    assert last.sent < len(BODY)


def test_a_rest_of_a_file_of_another_size_is_not_taken(zenodo, tmp_path):
    """A Content-Range with another total means that the file changed: from the beginning."""
    file = remote(zenodo)
    file.part_path(tmp_path / "a.zip").write_bytes(BODY[:1000])
    changed = {"Content-Range": f"bytes 1000-{len(BODY)}/{len(BODY) + 1}"}
    zenodo.faults["a.zip"] = [Fault(headers=changed), Fault(headers=changed)]
    fetch(file, tmp_path / "a.zip", patience=QUICK)
    assert [r.range for r in zenodo.requests] == ["bytes=1000-", "bytes=1000-", None]
    assert (tmp_path / "a.zip").read_bytes() == BODY


def test_a_wrong_checksum_is_tried_once_more(zenodo, tmp_path):
    """One flipped bit: the bytes are dropped and the second transfer, from the beginning, is taken."""
    zenodo.faults["a.zip"] = [Fault(flip=True)]
    fetch(remote(zenodo), tmp_path / "a.zip", patience=QUICK)
    assert (tmp_path / "a.zip").read_bytes() == BODY
    assert [r.range for r in zenodo.requests] == [None, None]


def test_a_checksum_wrong_twice_leaves_no_file(zenodo, tmp_path):
    """Neither the target nor a part file stays, and the sentence names both checksums."""
    zenodo.faults["a.zip"] = [Fault(flip=True), Fault(flip=True)]
    with pytest.raises(DownloadError, match=r"a\.zip: announced is MD5 [0-9a-f]{12}\.\.\., what came has .* twice"):
        fetch(remote(zenodo), tmp_path / "a.zip", patience=QUICK)
    assert names(tmp_path) == []
    assert len(zenodo.requests) == 2


def test_a_wrong_size_is_refused(zenodo, tmp_path):
    """A server that offers another number of bytes than the record announces."""
    zenodo.faults["a.zip"] = [Fault(body=BODY[:5000])] * 2
    with pytest.raises(DownloadError, match="announced are 300000 bytes, the server offers 5000, twice"):
        fetch(remote(zenodo), tmp_path / "a.zip", patience=QUICK)
    assert names(tmp_path) == []


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_busy_server_is_asked_again(zenodo, tmp_path, status):
    """A passing status is no failure."""
    zenodo.faults["a.zip"] = [Fault(status=status, headers={"Retry-After": "0"})]
    fetch(remote(zenodo), tmp_path / "a.zip", patience=QUICK)
    assert (tmp_path / "a.zip").read_bytes() == BODY


@pytest.mark.parametrize(
    ("text", "expected"),
    [(None, None), ("7", 7.0), ("100000", 300.0), ("soon", None), ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0)],
)
def test_the_wait_that_a_server_asks_for(text, expected):
    """Seconds or a date, at most five minutes; nonsense is ignored."""
    assert _retry_after_s(text) == expected


def test_the_wait_is_kept(zenodo, tmp_path, monkeypatch):
    """Retry-After of the server comes before the own waiting time."""
    waits: list[float] = []
    monkeypatch.setattr(downloads, "pause", lambda seconds, is_cancelled: waits.append(seconds))
    zenodo.faults["a.zip"] = [Fault(status=503, headers={"Retry-After": "42"}), Fault(status=503)]
    fetch(remote(zenodo), tmp_path / "a.zip", patience=QUICK)
    assert waits == [42.0, 0.02]


def test_giving_up_keeps_what_arrived(zenodo, tmp_path):
    """After the last try the sentence tells how much is kept, and the part file holds it."""
    zenodo.faults["a.zip"] = [Fault(cut_after=150_000)] + [Fault(status=503)] * 3
    with pytest.raises(DownloadError, match=r"answered 503 .*\(3 tries, \d+\.\d kB of 300.0 kB kept"):
        fetch(remote(zenodo), tmp_path / "a.zip", patience=QUICK)
    (part,) = tmp_path.iterdir()
    assert BODY.startswith(part.read_bytes())
    assert part.stat().st_size > 0


def test_a_line_that_keeps_breaking_but_brings_bytes_is_borne(zenodo, tmp_path):
    """Ten cuts with two tries: the count begins anew whenever something came."""
    zenodo.faults["a.zip"] = [Fault(cut_after=66_000)] * 10
    body = BODY * 3
    zenodo.records["1"]["a.zip"] = body
    fetch(remote(zenodo, body), tmp_path / "a.zip", patience=replace(QUICK, n_tries=2))
    assert (tmp_path / "a.zip").read_bytes() == body


def test_a_line_that_always_breaks_at_the_same_place_ends(zenodo, tmp_path):
    """Without ranges the same bytes come again and again: that is no progress, and it ends."""
    zenodo.api_sends_ranges = zenodo.page_sends_ranges = False
    zenodo.faults["a.zip"] = [Fault(cut_after=66_000)] * 50
    with pytest.raises(DownloadError, match="was cut"):
        fetch(remote(zenodo), tmp_path / "a.zip", patience=QUICK)
    assert len(zenodo.requests) < 15


def test_silence_counts_as_a_cut(zenodo, tmp_path):
    """A server that stops sending is left after the stall time, and asked for the rest."""
    import threading

    zenodo.faults["a.zip"] = [Fault(wait=threading.Event())]
    fetch(remote(zenodo), tmp_path / "a.zip", patience=replace(QUICK, stall_s=0.2))
    assert (tmp_path / "a.zip").read_bytes() == BODY
    assert len(zenodo.requests) == 2


def test_a_refusal_is_final(zenodo, tmp_path):
    """404 from all addresses is not tried again."""
    zenodo.records["1"] = {}
    with pytest.raises(DownloadError, match="answered 404 Not Found; check the address"):
        fetch(remote(zenodo), tmp_path / "a.zip", patience=QUICK)
    assert len(zenodo.requests) == 2


def test_a_dead_link_is_replaced_by_the_other_one(zenodo, tmp_path):
    """Where the first address is refused the second serves."""
    zenodo.faults["a.zip"] = [Fault(status=404)]
    fetch(remote(zenodo), tmp_path / "a.zip", patience=QUICK)
    assert (tmp_path / "a.zip").read_bytes() == BODY


def test_no_server_at_all(tmp_path):
    """A refused connection is tried again, then named."""
    dead = RemoteFile(name="a.zip", urls=("http://127.0.0.1:9/a.zip",), algorithm="md5", digest="0" * 32, size=1)
    with pytest.raises(DownloadError, match=r"127.0.0.1:9 cannot be reached; check the network \(3 tries, nothing"):
        fetch(dead, tmp_path / "a.zip", patience=QUICK)


def test_a_full_disk_keeps_what_arrived(zenodo, tmp_path, monkeypatch):
    """ENOSPC in mid-file gives one sentence; with room again the same call fetches the rest only."""

    class FullDisk:
        """A file that takes 100,000 bytes, the last write in part."""

        def __init__(self, file):
            self.file, self.left = file, 100_000

        def __enter__(self):
            return self

        def __exit__(self, *fault):
            self.file.close()

        def write(self, data):
            if self.left == 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            n = self.file.write(data[: self.left])
            self.left -= n
            return n

        def fileno(self):
            return self.file.fileno()

    monkeypatch.setattr(downloads, "open", lambda *a, **k: FullDisk(open(*a, **k)), raising=False)  # noqa: SIM115
    with pytest.raises(DiskFullError, match=r"the disk is full: a.zip has 100.0 kB of 300.0 kB, free 200.0 kB more"):
        fetch(remote(zenodo), tmp_path / "a.zip", patience=QUICK)
    monkeypatch.undo()
    fetch(remote(zenodo), tmp_path / "a.zip", patience=QUICK)
    assert (tmp_path / "a.zip").read_bytes() == BODY
    assert zenodo.requests[-1].range == "bytes=100000-"


def test_a_disk_that_takes_little_at_a_time(zenodo, tmp_path, monkeypatch):
    """A write that takes only part of what it is given is gone on with."""

    class SlowDisk(io.FileIO):
        def write(self, data):
            return super().write(data[:50_000])

    monkeypatch.setattr(downloads, "open", lambda path, mode, buffering: SlowDisk(path, mode), raising=False)
    monkeypatch.setattr(downloads, "file_digest", lambda path, algorithm: hashlib.md5(path.read_bytes()).hexdigest())
    fetch(remote(zenodo), tmp_path / "a.zip", patience=QUICK)
    assert (tmp_path / "a.zip").read_bytes() == BODY
    assert len(zenodo.requests) == 1


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="mounting needs root")
def test_a_disk_that_is_really_full(zenodo, tmp_path):
    """On a disk of 128 KiB the transfer ends with the sentence, not with a traceback or a damaged file."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", disk], capture_output=True)
    if mounted.returncode:
        pytest.skip("tmpfs cannot be mounted here")
    try:
        with pytest.raises(DiskFullError, match=r"the disk is full: a\.zip has"):
            fetch(remote(zenodo), disk / "a.zip", patience=QUICK)
        (part,) = disk.iterdir()
        assert BODY.startswith(part.read_bytes())
    finally:
        subprocess.run(["umount", disk], check=True)


def test_a_stop_keeps_what_arrived(zenodo, tmp_path):
    """When the user stops, the part file is a beginning of the file."""
    seen: list[int] = []
    with pytest.raises(JobCancelled):
        fetch(
            remote(zenodo),
            tmp_path / "a.zip",
            on_bytes=seen.append,
            is_cancelled=lambda: len(seen) > 2,
            patience=QUICK,
        )
    (part,) = tmp_path.iterdir()
    assert part.suffix == ".part"
    assert BODY.startswith(part.read_bytes())


def test_another_file_of_the_name_is_never_overwritten(zenodo, tmp_path):
    """A table that the user changed is refused, and stays as it is."""
    (tmp_path / "a.zip").write_bytes(b"mine")
    with pytest.raises(DownloadError, match=r"a\.zip is there and is not the announced file .* move it away"):
        fetch(remote(zenodo), tmp_path / "a.zip", patience=QUICK)
    assert (tmp_path / "a.zip").read_bytes() == b"mine"
    assert zenodo.requests == []


def test_a_file_without_announced_size_is_limited(zenodo, tmp_path):
    """Where no size is known the limit holds."""
    file = replace(remote(zenodo), size=None, most_bytes=100_000)
    with pytest.raises(DownloadError, match="more than 100000 bytes came, twice"):
        fetch(file, tmp_path / "a.zip", patience=QUICK)
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    "url", ["http://example.org/a", "ftp://example.org/a", "file:///etc/passwd", "a.zip", "http://127.0.0.1.evil.org/a"]
)
def test_only_encrypted_addresses(url):
    """Plain http is for this machine alone."""
    with pytest.raises(DownloadError, match="must begin with https://"):
        refuse_unsafe(url, "a")


def test_a_redirection_is_held_to_the_same_rule(zenodo):
    """A server that sends us to plain http elsewhere is not followed."""
    zenodo.faults["a.zip"] = [Fault(status=302, headers={"Location": "http://example.org/a.zip"})]
    with pytest.raises(DownloadError, match="must begin with https://"):
        open_url(f"{zenodo.api}/records/1/files/a.zip/content", "a.zip")


def test_a_redirection_is_followed_with_its_range(zenodo, tmp_path):
    """The file may lie on another address; the part asked for stays the same."""
    file = remote(zenodo)
    file.part_path(tmp_path / "a.zip").write_bytes(BODY[:50_000])
    zenodo.faults["a.zip"] = [Fault(status=302, headers={"Location": "/records/1/files/a.zip"})]
    fetch(file, tmp_path / "a.zip", patience=QUICK)
    assert [r.range for r in zenodo.requests] == ["bytes=50000-"] * 2
    assert (tmp_path / "a.zip").read_bytes() == BODY


def test_a_circle_of_redirections_ends(zenodo):
    """At most five redirections are followed."""
    zenodo.faults["a.zip"] = [Fault(status=302, headers={"Location": "/records/1/files/a.zip"})] * 9
    with pytest.raises(DownloadError, match="redirects more than 5 times"):
        open_url(f"{zenodo.url}/records/1/files/a.zip", "a.zip")


def test_passing_faults_are_download_errors():
    """So that a caller without patience still gets one sentence."""
    assert issubclass(PassingFault, DownloadError)
