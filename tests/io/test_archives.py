"""Zip archives that are not trusted: what is refused, what is unpacked, what is not redone."""

from __future__ import annotations

import stat
import zipfile
from pathlib import Path

import pytest

from napari_alnct.core.errors import JobCancelled
from napari_alnct.io.archives import ArchiveError, list_members, move_into_place, refuse_other_files, unpack

from .fake_zenodo import noise, zip_of


def write(path: Path, content: bytes) -> Path:
    """Write a file and give its path."""
    path.write_bytes(content)
    return path


def listing(folder: Path) -> dict[str, bytes]:
    """Give all files of a folder with their content."""
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.parametrize(
    "name",
    [
        *("../evil.txt", "subset0/../../evil.txt", "/etc/evil", "..", "a/..", "C:/evil", "c:evil", "a\\..\\..\\evil"),
        *("\\\\server\\share\\x", "a:stream", "what?.raw", "a|b"),
    ],
)
def test_a_path_that_leaves_the_folder_refuses_the_archive(tmp_path, name):
    """Nothing of such an archive is unpacked, also not its harmless members."""
    info = zipfile.ZipInfo("x")
    info.filename = name  # ZipInfo would mend it
    path = tmp_path / "subset0.zip"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("subset0/good.mhd", b"good")
        file.writestr(info, b"evil")
    with pytest.raises(ArchiveError, match=r"subset0\.zip: the member .* is a path that leaves the folder"):
        list_members(path, "subset0")
    assert [p.name for p in tmp_path.iterdir()] == ["subset0.zip"]


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFBLK], ids=["link", "fifo", "device"])
def test_a_link_or_device_refuses_the_archive(tmp_path, kind):
    """A member that is no plain file could redirect what is written after it."""
    info = zipfile.ZipInfo("subset0/a.raw")
    info.external_attr = (kind | 0o777) << 16
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(info, b"/etc/passwd")
    with pytest.raises(ArchiveError, match="is a link or a device"):
        list_members(path, "subset0")


def test_an_encrypted_member_refuses_the_archive(tmp_path):
    """There is no password to ask for."""
    content = bytearray(zip_of({"a.raw": b"abc"}))
    content[content.index(b"PK\x01\x02") + 8] |= 1
    with pytest.raises(ArchiveError, match="is encrypted"):
        list_members(write(tmp_path / "a.zip", bytes(content)), "a")


def test_doubled_names_refuse_the_archive(tmp_path):
    """Two members that a Windows disk would put in one place."""
    path = write(tmp_path / "a.zip", zip_of({"a/x.raw": b"1", "a/X.RAW": b"2"}))
    with pytest.raises(ArchiveError, match="doubled names"):
        list_members(path, "a")


def test_a_bomb_is_refused_before_it_goes_off(tmp_path):
    """50 MB of zeros in 50 kB: the declared sizes are enough to refuse it."""
    path = write(tmp_path / "a.zip", zip_of({"a/zeros.raw": bytes(50_000_000)}))
    with pytest.raises(ArchiveError, match="bytes unpack to 50000000; do not use it"):
        list_members(path, "a")


def test_a_member_larger_than_it_says_is_not_written(tmp_path):
    """A central directory that lies about the size: no file appears, and no more than the declared bytes are read."""
    content = bytearray(zip_of({"a/x.raw": noise(100_000)}))
    entry = content.index(b"PK\x01\x02")
    content[entry + 24 : entry + 28] = (1000).to_bytes(4, "little")
    path = write(tmp_path / "a.zip", bytes(content))
    members = list_members(path, "a")
    assert [m.size for m in members] == [1000]
    with pytest.raises(ArchiveError, match=r"the member x\.raw is damaged"):
        unpack(path, members, tmp_path / "out")
    assert listing(tmp_path / "out") == {}


def test_a_damaged_member_is_named(tmp_path):
    """A flipped byte in the data fails the CRC: no file appears."""
    content = bytearray(zip_of({"a/x.raw": noise(1000)}, zipfile.ZIP_STORED))
    content[500] ^= 1
    path = write(tmp_path / "a.zip", bytes(content))
    with pytest.raises(ArchiveError, match=r"a\.zip: the member x\.raw is damaged .* fetch it again"):
        unpack(path, list_members(path, "a"), tmp_path / "out")
    assert listing(tmp_path / "out") == {}


def test_a_packing_that_python_cannot_read_gets_advice(tmp_path):
    """Deflate64, which Windows uses for large archives: unpack it by hand."""
    content = bytearray(zip_of({"subset0/x.raw": noise(1000)}))
    for signature, offset in ((b"PK\x01\x02", 10), (b"PK\x03\x04", 8)):
        begin = content.index(signature) + offset
        content[begin : begin + 2] = (9).to_bytes(2, "little")
    path = write(tmp_path / "subset0.zip", bytes(content))
    with pytest.raises(ArchiveError, match="unpack it with 7-Zip into the folder subset0 and run the same command"):
        unpack(path, list_members(path, "subset0"), tmp_path / "out")


@pytest.mark.parametrize("content", [b"", b"<html>", zip_of({"a": b"abc"})[:-10]], ids=["empty", "page", "cut"])
def test_what_is_no_archive_is_refused(tmp_path, content):
    """One sentence, whatever it is."""
    with pytest.raises(ArchiveError, match=r"a\.zip is not a whole zip archive"):
        list_members(write(tmp_path / "a.zip", content), "a")


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["subset0/", "subset0/a.mhd", "subset0/a.raw"], ["a.mhd", "a.raw"]),
        (["a.mhd", "a.raw"], ["a.mhd", "a.raw"]),
        (["data/SUBSET0/a.mhd", "data/SUBSET0/b/c.raw"], ["a.mhd", "b/c.raw"]),
        (["x/a.mhd", "y/a.mhd"], ["x/a.mhd", "y/a.mhd"]),
        (["subset0/deep/a.mhd"], ["deep/a.mhd"]),
        (["__MACOSX/subset0/._a.mhd", "subset0/a.mhd", "subset0/.DS_Store"], ["a.mhd"]),
    ],
    ids=["usual", "flat", "nested", "two folders", "only up to the name", "system files"],
)
def test_shared_leading_folders_are_dropped(tmp_path, names, expected):
    """The target is the folder itself, however the archive was made."""
    path = write(tmp_path / "subset0.zip", zip_of(dict.fromkeys(names, b"x")))
    assert [member.path for member in list_members(path, "subset0")] == expected


def test_unpacking_gives_the_bytes(tmp_path):
    """Contents are those that were packed; the progress ends at their sum."""
    files = {"a/x.raw": noise(70_000), "a/deep/y.mhd": b"text", "a/empty": b""}
    path = write(tmp_path / "a.zip", zip_of(files))
    seen: list[int] = []
    unpack(path, list_members(path, "a"), tmp_path / "out", on_bytes=seen.append)
    assert listing(tmp_path / "out") == {name.removeprefix("a/"): body for name, body in sorted(files.items())}
    assert seen[-1] == 70_004


def test_what_is_complete_is_not_redone(tmp_path):
    """After a stop only what is missing or wrong is unpacked again."""
    path = write(tmp_path / "a.zip", zip_of({"x": b"first", "y": b"second", "z": b"third"}))
    members = list_members(path, "a")
    out = tmp_path / "out"
    with pytest.raises(JobCancelled):
        unpack(path, members, out, is_cancelled=lambda: (out / "y").exists())
    assert listing(out) == {"x": b"first", "y": b"second"}
    (out / "y").write_bytes(b"secone")  # right size, wrong bytes
    before = (out / "x").stat().st_mtime_ns
    unpack(path, members, out)
    assert listing(out) == {"x": b"first", "y": b"second", "z": b"third"}
    assert (out / "x").stat().st_mtime_ns == before


def test_a_new_folder_appears_in_one_step(tmp_path):
    """The staging folder itself becomes the target."""
    path = write(tmp_path / "a.zip", zip_of({"x": b"1", "deep/y": b"2"}))
    members = list_members(path, "a")
    unpack(path, members, tmp_path / ".staging")
    inode = (tmp_path / ".staging").stat().st_ino
    move_into_place(members, tmp_path / ".staging", tmp_path / "target")
    assert (tmp_path / "target").stat().st_ino == inode
    assert not (tmp_path / ".staging").exists()


def test_files_join_a_folder_that_is_there(tmp_path):
    """What was in the folder stays."""
    path = write(tmp_path / "a.zip", zip_of({"x": b"1", "deep/y": b"2"}))
    (tmp_path / "target").mkdir()
    (tmp_path / "target" / "mine").write_bytes(b"mine")
    members = list_members(path, "a")
    unpack(path, members, tmp_path / ".staging")
    move_into_place(members, tmp_path / ".staging", tmp_path / "target")
    assert listing(tmp_path / "target") == {"deep/y": b"2", "mine": b"mine", "x": b"1"}
    assert not (tmp_path / ".staging").exists()


def test_a_taken_name_is_refused(tmp_path):
    """Nothing is ever overwritten, not even through a dangling link."""
    path = write(tmp_path / "a.zip", zip_of({"x": b"1"}))
    (tmp_path / "target").mkdir()
    (tmp_path / "target" / "x").symlink_to(tmp_path / "nowhere")
    with pytest.raises(ArchiveError, match=r"target/x is there and differs .* move it away"):
        refuse_other_files(list_members(path, "a"), tmp_path / "target")
