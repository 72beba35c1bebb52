"""The subcommand download, against a local server that speaks Zenodo's record API."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from napari_alnct.batch import download as batch_download
from napari_alnct.batch import download_plan
from napari_alnct.cli.app import dispatch
from napari_alnct.cli.download import parse_subsets
from napari_alnct.core.errors import JobCancelled, SettingsError
from napari_alnct.io import https
from napari_alnct.io.downloads import DiskFullError
from napari_alnct.io.folder_lock import locked_folder
from napari_alnct.io.luna16 import find_dataset
from napari_alnct.io.metaimage import read_metaimage

from ..io.fake_zenodo import Fault, luna16, noise, serving, zip_of

COMMAND = (sys.executable, "-m", "napari_alnct.cli.app", "download")


@pytest.fixture
def zenodo(monkeypatch):
    """Serve both LUNA16 records; the command asks this server."""
    with serving(luna16()) as server:
        monkeypatch.setenv("ALNCT_ZENODO_API", server.api)
        monkeypatch.setattr(https.Patience, "wait_s", lambda self, n_failed: 0.01)
        yield server


def download(out: Path, *flags: str) -> int:
    """Run the subcommand in this process and give its exit code."""
    return dispatch(["download", "--out", str(out), *flags])


def tree(folder: Path) -> dict[str, bytes]:
    """Give all files of a folder with their content."""
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def visible(folder: Path) -> set[str]:
    """Give the names in a folder that are not hidden."""
    return {path.name for path in folder.iterdir() if not path.name.startswith(".")}


def test_the_whole_set_ends_as_a_data_set(zenodo, tmp_path, capsys):
    """Ten subsets, masks, tables and excluded findings are where the readers look; no archive stays."""
    out = tmp_path / "luna16_data"
    assert download(out) == 0
    dataset = find_dataset(out)
    assert [scan.subset for scan in dataset.scans] == sorted(list(range(10)) * 2)
    assert all(scan.mask_path is not None for scan in dataset.scans)
    assert [n.diameter_mm for n in dataset.nodules_of("1.3.6.0.1")] == [4.0, 6.0]
    assert [n.diameter_mm for n in dataset.excluded_of("1.3.6.1.1")] == [-1.0]
    assert read_metaimage(dataset.scans[0].path).array.shape == (16, 16, 16)
    assert visible(out) == {
        *(f"subset{k}" for k in range(10)),
        *("CSVFILES", "evaluationScript", "seg-lungs-LUNA16", "zenodo_records.json", "download.json"),
    }
    assert (out / "CSVFILES" / "candidates_V2.csv").is_file()
    captured = capsys.readouterr()
    assert "16 files fetched and verified, 0 were in place" in captured.out
    assert "20 scans in subset 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 20 with a lung mask, 3 annotated nodules" in captured.out
    assert "CC BY 4.0 (the records say: cc-by-4.0)" in captured.out
    assert "doi:10.1016/j.media.2017.06.015" in captured.out
    assert "subset3.zip: 17.3 kB, MD5 as in the record, 4 files unpacked" in captured.err


def test_the_records_are_kept_beside_the_data(zenodo, tmp_path):
    """The API's answers as they came, with when and from where."""
    assert download(tmp_path, "--subsets", "0") == 0
    kept = json.loads((tmp_path / "zenodo_records.json").read_text())["records"]
    assert [entry["record"] for entry in kept] == ["3723295", "4121926"]
    assert [entry["from"] for entry in kept] == [f"{zenodo.api}/records/{n}" for n in ("3723295", "4121926")]
    assert kept[0]["read"][:2] == "20"
    body = zenodo.records["3723295"]["subset0.zip"]
    (entry,) = (file for file in kept[0]["answer"]["files"] if file["key"] == "subset0.zip")
    assert entry["checksum"] == f"md5:{hashlib.md5(body).hexdigest()}"


def test_a_second_run_fetches_nothing(zenodo, tmp_path, capsys):
    """What is in place is known from download.json without its archive."""
    assert download(tmp_path, "--subsets", "0,3") == 0
    zenodo.requests.clear()
    assert download(tmp_path, "--subsets", "0,3") == 0
    assert [request.key for request in zenodo.requests] == ["", ""]
    assert "0 files fetched and verified, 8 were in place" in capsys.readouterr().out


def test_a_lost_file_is_brought_back(zenodo, tmp_path):
    """A scan that was deleted is unpacked again, the others are left alone."""
    assert download(tmp_path, "--subsets", "0") == 0
    lost, kept = tmp_path / "subset0" / "1.3.6.0.1.raw", tmp_path / "subset0" / "1.3.6.0.2.raw"
    before = kept.stat().st_mtime_ns
    lost.unlink()
    zenodo.requests.clear()
    assert download(tmp_path, "--subsets", "0") == 0
    assert [r.key for r in zenodo.requests if r.key] == ["subset0.zip"]
    assert lost.stat().st_size == 2 * 16**3
    assert kept.stat().st_mtime_ns == before


def test_archives_that_are_there_are_used_and_may_be_kept(zenodo, tmp_path):
    """A zip put into the folder archives is verified, not fetched; --keep-archives leaves it."""
    (tmp_path / "archives").mkdir()
    (tmp_path / "archives" / "subset0.zip").write_bytes(zenodo.records["3723295"]["subset0.zip"])
    assert download(tmp_path, "--subsets", "0", "--keep-archives") == 0
    assert zenodo.asked("subset0.zip") == []
    assert (tmp_path / "archives" / "subset0.zip").is_file()
    assert (tmp_path / "archives" / "seg-lungs-LUNA16.zip").is_file()


def test_without_masks_and_without_scans(zenodo, tmp_path, capsys):
    """--no-masks and --subsets none leave the tables."""
    assert download(tmp_path, "--subsets", "none", "--no-masks") == 0
    assert visible(tmp_path) == {"CSVFILES", "evaluationScript", "zenodo_records.json", "download.json"}
    assert "preprocess" not in capsys.readouterr().out


def test_a_dry_run_lists_all_and_writes_nothing(zenodo, tmp_path, capsys):
    """Files, sizes, what is there, what it needs and what is free; only the records are asked."""
    out = tmp_path / "data"
    assert download(out, "--subsets", "0", "--dry-run") == 0
    assert not out.exists()
    assert [request.key for request in zenodo.requests] == ["", ""]
    text = capsys.readouterr().out
    assert "10.5281/zenodo.3723295: LUNA16, record 3723295 (read from" in text
    (line,) = (line for line in text.splitlines() if "subset0.zip" in line)
    assert line.split()[-5:] == ["kB", "->", "subset0", "to", "fetch"]
    assert "left out: subset1.zip, subset2.zip" in text
    assert "7 files, " in text
    assert "are free" in text


def test_a_dry_run_tells_what_is_there(zenodo, tmp_path, capsys):
    """Files in place and bytes of earlier runs are shown."""
    assert download(tmp_path, "--subsets", "0") == 0
    body = zenodo.records["3723295"]["subset1.zip"]
    (tmp_path / "archives").mkdir()
    part = tmp_path / "archives" / f"subset1.zip.{hashlib.md5(body).hexdigest()[:8]}.part"
    part.write_bytes(body[:5000])
    before = tree(tmp_path)
    capsys.readouterr()
    assert download(tmp_path, "--subsets", "0", "1", "--dry-run") == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line.startswith("  ")}
    assert lines["subset0.zip"].endswith("in place")
    assert lines["subset1.zip"].endswith("5.0 kB there")
    assert tree(tmp_path) == before


def test_a_disk_too_small_is_refused_before_the_first_byte(zenodo, tmp_path, capsys, monkeypatch):
    """Exit 2 with the room that is needed and the room that is there."""
    usage = type("Usage", (), {"free": 30_000})
    monkeypatch.setattr(download_plan.shutil, "disk_usage", lambda path: usage)
    assert download(tmp_path / "data") == 2
    assert "data needs about" in (message := capsys.readouterr().err)
    assert "the disk has 30.0 kB free; make room, name fewer --subsets" in message
    assert not (tmp_path / "data").exists()
    assert all(request.key == "" for request in zenodo.requests)


def test_the_room_counts_archives_and_unpacked_files(zenodo, tmp_path, capsys):
    """With --keep-archives all archives count, else only those on the way together."""
    needed = []
    for flags in (["--jobs", "1"], ["--jobs", "3"], ["--keep-archives"]):
        assert download(tmp_path, "--dry-run", *flags) == 0
        text = capsys.readouterr().out
        needed.append(float(text.partition("needs about ")[2].split()[0]))
    sizes = sorted((len(body) / 1000 for body in zenodo.records["3723295"].values()), reverse=True)
    assert needed[1] - needed[0] == pytest.approx(sum(sizes[1:3]), abs=0.2)
    assert needed[0] < needed[1] < needed[2]


def test_files_come_in_parallel(zenodo, tmp_path):
    """With --jobs 3 three files are on the way together, with --jobs 1 never two."""
    gate = threading.Event()
    for name in ("annotations.csv", "candidates.csv", "candidates_V2.zip"):
        zenodo.faults[name] = [Fault(wait=gate)]
    done: list[int] = []
    thread = threading.Thread(target=lambda: done.append(download(tmp_path / "a", "--subsets", "0", "--jobs", "3")))
    thread.start()
    deadline = time.monotonic() + 20
    while zenodo.n_now < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    gate.set()
    thread.join()
    assert done == [0]
    assert zenodo.most_at_a_time == 3
    zenodo.most_at_a_time = 0
    assert download(tmp_path / "b", "--subsets", "0", "--jobs", "1") == 0
    assert zenodo.most_at_a_time == 1


def test_a_cut_connection_is_continued(zenodo, tmp_path):
    """The rest of a subset is asked for, and the subset is whole."""
    body = zip_of({f"subset0/x{n}.raw": noise(100_000, n) for n in range(3)} | {"subset0/x0.mhd": b"x"})
    zenodo.records["3723295"]["subset0.zip"] = body
    zenodo.faults["subset0.zip"] = [Fault(cut_after=200_000)]
    assert download(tmp_path, "--subsets", "0") == 0
    _, second = zenodo.asked("subset0.zip")
    assert second.status == 206
    assert second.sent == len(body) - int(second.range[6:-1])
    assert (tmp_path / "subset0" / "x2.raw").read_bytes() == noise(100_000, 2)


def test_a_file_that_fails_does_not_stop_the_others(zenodo, tmp_path, capsys):
    """Exit 4, the file named with its reason, all others in place; the next run fetches only that one."""
    zenodo.faults["subset1.zip"] = [Fault(flip=True)] * 2
    assert download(tmp_path, "--subsets", "0-2") == 4
    captured = capsys.readouterr()
    assert "subset1.zip: announced is MD5" in captured.err
    assert "8 files in place, 1 failed; give the same command again to go on" in captured.out
    assert {"subset0", "subset2"} < visible(tmp_path)
    assert "subset1" not in visible(tmp_path)
    assert not list(tmp_path.rglob("subset1.zip*"))
    zenodo.requests.clear()
    assert download(tmp_path, "--subsets", "0-2") == 0
    assert [r.key for r in zenodo.requests if r.key] == ["subset1.zip"]


def test_an_unsafe_archive_is_not_unpacked(zenodo, tmp_path, capsys):
    """A member that leaves the folder: nothing of the archive appears, inside or outside."""
    zenodo.records["3723295"]["subset0.zip"] = zip_of({"subset0/a.mhd": b"good", "../evil.txt": b"evil"})
    out = tmp_path / "data"
    assert download(out, "--subsets", "0") == 4
    assert "'../evil.txt' is a path that leaves the folder" in capsys.readouterr().err
    assert not list(tmp_path.rglob("evil.txt"))
    assert not (out / "subset0").exists()


def test_a_table_that_the_user_changed_stays(zenodo, tmp_path, capsys):
    """Another annotations.csv is refused, never overwritten."""
    (tmp_path / "CSVFILES").mkdir()
    (tmp_path / "CSVFILES" / "annotations.csv").write_text("mine")
    assert download(tmp_path, "--subsets", "0") == 4
    assert "CSVFILES/annotations.csv is there and is not the announced file" in capsys.readouterr().err
    assert (tmp_path / "CSVFILES" / "annotations.csv").read_text() == "mine"


def test_a_scan_that_the_user_changed_stays(zenodo, tmp_path, capsys):
    """A file in subset0 that differs from the archive's is refused, never overwritten; the archive is kept."""
    (tmp_path / "subset0").mkdir()
    (tmp_path / "subset0" / "1.3.6.0.1.raw").write_bytes(b"mine")
    assert download(tmp_path, "--subsets", "0") == 4
    assert "subset0/1.3.6.0.1.raw is there and differs from the one in the archive" in capsys.readouterr().err
    assert tree(tmp_path / "subset0") == {"1.3.6.0.1.raw": b"mine"}
    assert (tmp_path / "archives" / "subset0.zip").is_file()


def test_an_archive_unpacked_by_hand_counts(zenodo, tmp_path, capsys):
    """Deflate64 is beyond Python: after the advice was followed the same command is content."""
    files = {"subset0/x.raw": noise(5000), "subset0/x.mhd": b"x"}
    content = bytearray(zip_of(files))
    for signature, offset in ((b"PK\x01\x02", 10), (b"PK\x03\x04", 8)):
        begin = content.index(signature) + offset
        content[begin : begin + 2] = (9).to_bytes(2, "little")
    zenodo.records["3723295"]["subset0.zip"] = bytes(content)
    assert download(tmp_path, "--subsets", "0") == 4
    assert "unpack it with 7-Zip into the folder subset0 and run the same command again" in capsys.readouterr().err
    (tmp_path / "subset0").mkdir()
    for name, body in files.items():
        (tmp_path / name).write_bytes(body)
    assert download(tmp_path, "--subsets", "0") == 0
    assert not (tmp_path / "archives").exists()


def test_what_the_records_lack_is_said(zenodo, tmp_path, capsys):
    """A record without candidates_V2 and masks: the rest is fetched."""
    for name in ("candidates_V2.zip", "seg-lungs-LUNA16.zip"):
        del zenodo.records["3723295"][name]
    assert download(tmp_path, "--subsets", "0") == 0
    error = capsys.readouterr().err
    assert "the records hold no file with candidates_V2" in error
    assert "the records hold no file with the lung masks (seg-lungs-LUNA16)" in error


@pytest.mark.parametrize(
    ("break_it", "sentence"),
    [
        (lambda z: z.records.pop("4121926"), "record 4121926: 127.0.0.1:"),
        (lambda z: setattr(z, "raw_record", b"<html>"), "record 3723295: 127.0.0.1:"),
        (lambda z: z.records["4121926"].pop("subset8.zip"), "the records hold no scans of subset 8"),
        (lambda z: z.faults.update({"3723295": [Fault(status=503)] * 9}), "answered 503"),
    ],
    ids=["missing record", "no JSON", "missing subset", "busy for ever"],
)
def test_records_that_cannot_be_used(zenodo, tmp_path, capsys, break_it, sentence):
    """Exit 2 with one sentence, nothing written."""
    break_it(zenodo)
    assert download(tmp_path / "data") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert sentence in line
    assert not (tmp_path / "data").exists()


def test_two_runs_do_not_meet_in_one_folder(zenodo, tmp_path, capsys):
    """The second run is refused while the first holds the folder."""
    with locked_folder(tmp_path, ".download.lock"):
        assert download(tmp_path, "--subsets", "0") == 2
    assert "another process is writing to" in capsys.readouterr().err
    assert download(tmp_path, "--subsets", "0") == 0


def start(zenodo, out: Path, *flags: str) -> subprocess.Popen[str]:
    """Start the command in a process of its own."""
    environment = {**os.environ, "ALNCT_ZENODO_API": zenodo.api}
    return subprocess.Popen(
        [*COMMAND, "--out", str(out), "--subsets", "0", *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )


def wait_for_part(folder: Path, process: subprocess.Popen[str]) -> Path:
    """Give the part file of subset0 when bytes have arrived in it."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        for part in folder.glob("archives/subset0.zip.*.part"):
            if part.stat().st_size > 100_000:
                return part
        time.sleep(0.01)
    raise AssertionError(f"no part file came: {process.communicate()}")


def large_subset(zenodo) -> bytes:
    """Make subset0 large."""
    body = zip_of({"subset0/x.raw": noise(800_000), "subset0/x.mhd": b"x"})
    zenodo.records["3723295"]["subset0.zip"] = body
    return body


@contextmanager
def stuck_subset(zenodo) -> Iterator[bytes]:
    """Let the server fall silent in the middle of subset0 while the block runs."""
    gate = threading.Event()
    zenodo.faults["subset0.zip"] = [Fault(wait=gate, wait_after=400_000)]
    try:
        yield large_subset(zenodo)
    finally:
        gate.set()


def test_kill_in_mid_download_and_again(zenodo, tmp_path):
    """After kill -9 the next run continues the part file, and the bytes are right."""
    with stuck_subset(zenodo) as body, start(zenodo, tmp_path) as process:
        part = wait_for_part(tmp_path, process)
        process.kill()
    n_there = part.stat().st_size
    assert body.startswith(part.read_bytes())
    assert download(tmp_path, "--subsets", "0") == 0
    last = zenodo.asked("subset0.zip")[-1]
    assert (last.range, last.sent) == (f"bytes={n_there}-", len(body) - n_there)
    assert (tmp_path / "subset0" / "x.raw").read_bytes() == noise(800_000)


@pytest.mark.skipif(sys.platform == "win32", reason="signals differ")
def test_ctrl_c_leaves_a_resumable_state(zenodo, tmp_path):
    """Exit 130 soon, also while the server is silent; one sentence on how to go on, the part file kept."""
    with stuck_subset(zenodo) as body, start(zenodo, tmp_path) as process:
        part = wait_for_part(tmp_path, process)
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=30)  # the silence alone would be borne for 60 s
    assert process.returncode == 130
    assert "the same command goes on from there" in error
    assert "Traceback" not in error
    assert body.startswith(part.read_bytes())
    assert download(tmp_path, "--subsets", "0") == 0


def test_a_full_disk_stops_the_other_files(zenodo, tmp_path, capsys, monkeypatch):
    """No thread goes on fetching after the one sentence."""
    asked: list[str] = []

    def fetch(remote, target, *, on_bytes, is_cancelled, patience):
        asked.append(remote.name)
        if len(asked) == 1:
            raise DiskFullError("the disk is full: so it is")
        deadline = time.monotonic() + 20
        while not is_cancelled() and time.monotonic() < deadline:
            time.sleep(0.01)
        raise JobCancelled("stopped")

    monkeypatch.setattr(batch_download, "fetch", fetch)
    assert download(tmp_path, "--jobs", "2") == 2
    assert capsys.readouterr().err.splitlines()[-1].endswith("the disk is full: so it is")
    assert len(asked) <= 3
    assert not [thread for thread in threading.enumerate() if thread.name == batch_download.THREAD]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="mounting needs root")
def test_a_disk_that_fills_up_in_mid_run(zenodo, tmp_path, capsys, monkeypatch):
    """On a disk of 400 KiB that promised more: one sentence, and with room the same command goes on."""
    out = tmp_path / "disk"
    out.mkdir()
    body = large_subset(zenodo)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", out], capture_output=True).returncode:
        pytest.skip("tmpfs cannot be mounted here")
    try:
        promised = type("Usage", (), {"free": 1 << 40})
        monkeypatch.setattr(download_plan.shutil, "disk_usage", lambda path: promised)
        assert download(out, "--subsets", "0") == 2
        last = capsys.readouterr().err.splitlines()[-1]
        assert last.startswith("napari-alnct-train: the disk is full")  # of whichever file met it first
        assert "run the same command again" in last
        subprocess.run(["mount", "-o", "remount,size=8m", out], check=True)
        n_there = sum(path.stat().st_size for path in out.glob("archives/subset0.zip.*.part"))
        assert download(out, "--subsets", "0") == 0
        assert zenodo.asked("subset0.zip")[-1].sent == len(body) - n_there
    finally:
        subprocess.run(["umount", out], check=True)


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["0-9"], tuple(range(10))),
        (["0", "1", "5"], (0, 1, 5)),
        (["0,3"], (0, 3)),
        (["7-9,0", "8"], (0, 7, 8, 9)),
        (["none"], ()),
    ],
)
def test_ways_to_name_subsets(texts, expected):
    """Ranges, words and commas, in any mixture."""
    assert parse_subsets(texts) == expected


@pytest.mark.parametrize("text", ["10", "-1", "a", "3-1", "0-12", "1.5", ",", ""])
def test_subsets_that_do_not_exist(text):
    """The sentence shows the forms."""
    with pytest.raises(SettingsError, match="--subsets"):
        parse_subsets([text])
