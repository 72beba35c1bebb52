"""Readings on disk: restored exactly, crash-safe, one writer, bound to the scan, tamper-evident."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from napari_alnct.core.errors import ReviewError
from napari_alnct.core.review import replay
from napari_alnct.core.review_actions import (
    AddMark,
    Decide,
    Mark,
    NoteExplained,
    NoteMapShown,
    SetCandidates,
    SetThreshold,
    Undo,
)
from napari_alnct.io import reviews
from napari_alnct.io.reviews import AUDIT, BACKUP, STATE, ReviewStore, read_audit

SCAN = "ab" * 32
MARKS = tuple(
    Mark(mark_id=k + 1, position_xyz_mm=(float(k), 0.0, 0.1), diameter_mm=6.0, score=0.9 - 0.1 * k) for k in range(5)
)
SESSION = {"place_xyz_mm": [1.0, 2.0, 3.0], "window_hu": [-1350, 150], "slab_mm": 10}


def begun(root: Path, n_decisions: int = 3) -> ReviewStore:
    store = ReviewStore(root, SCAN, "A. Reader")
    store.act(SetCandidates(marks=MARKS, threshold=0.5, model_name="m", model_sha256="c0", operating_points={1.0: 0.5}))
    for number in range(n_decisions):
        store.act(Decide(mark_id=number + 1, status="accepted"))
    return store


def test_a_reading_goes_on_where_it_was(tmp_path: Path) -> None:
    """Marks, decisions, what can be undone, and the place of the reader."""
    store = begun(tmp_path)
    store.act(Undo())
    store.save(SESSION)
    store.act(SetThreshold(threshold=0.7))  # after the last save: from the log alone
    store.close()
    again = ReviewStore(tmp_path, SCAN, "A. Reader")
    assert again.review == store.review
    assert again.review.can_redo
    assert again.stored.session == SESSION
    assert again.stored.notes == ()
    assert [entry.reader for entry in again.stored.entries] == ["A. Reader"] * 6
    again.close()


def test_explanations_are_on_the_disk_and_change_nothing(tmp_path: Path) -> None:
    """Each is a line with its time when it returns, torn or changed ones are noticed as any; the state is the same."""
    store = begun(tmp_path)
    before = store.review
    facts = {"method": "hirescam", "layer": "encoder.stages.1", "score_name": "second look", "model_sha256": "c0"}
    notes = (NoteExplained(mark_id=2, **facts), NoteMapShown(mark_id=2, **facts))
    for action in notes:
        store.act(action)
    entries, _ = read_audit(store.folder / AUDIT)
    assert tuple(entry.action for entry in entries[-2:]) == notes
    assert store.review == before == replay(entry.action for entry in entries)
    store.act(Undo())  # takes back the last decision, not what was looked at
    assert store.review.marks[2].status == "unreviewed"
    store.close()
    again = ReviewStore(tmp_path, SCAN, "A. Reader")
    assert again.review == store.review
    again.close()
    log = store.folder / AUDIT
    log.write_bytes(log.read_bytes().replace(b"map shown", b"explained"))
    with pytest.raises(ReviewError, match="changed or is damaged"):
        read_audit(log)


OLD_LOG = Path(__file__).with_name("audit_of_0_1_0.jsonl")


def test_a_log_from_before_explanations_were_recorded_is_read(tmp_path: Path) -> None:
    """A file of that version, byte for byte: read, gone on with, and the new lines follow the old."""
    folder = tmp_path / SCAN[:32] / "a-reader"
    folder.mkdir(parents=True)
    (folder / AUDIT).write_bytes(OLD_LOG.read_bytes())
    store = ReviewStore(tmp_path, SCAN, "A. Reader")
    assert [mark.status for mark in store.review.marks] == ["accepted", "accepted", "rejected", *["unreviewed"] * 2]
    assert store.stored.notes == ()
    store.act(NoteMapShown(mark_id=4, method="gradcam", layer="x", score_name="first stage", model_sha256="c0"))
    store.close()
    assert (folder / AUDIT).read_bytes().startswith(OLD_LOG.read_bytes())
    assert len(read_audit(folder / AUDIT)[0]) == 6


def test_every_action_is_on_the_disk_when_it_returns(tmp_path: Path) -> None:
    """Without any save, the log alone restores all."""
    store = begun(tmp_path)
    entries, notes = read_audit(store.folder / AUDIT)
    assert (len(entries), notes) == (4, [])
    store.close()


def test_a_second_window_may_look_but_not_write(tmp_path: Path) -> None:
    """It sees the state, its actions are refused in one sentence, and later it may write."""
    first = begun(tmp_path)
    second = ReviewStore(tmp_path, SCAN, "A. Reader")
    assert second.is_read_only
    assert second.review == first.review
    for job in (lambda: second.act(Undo()), lambda: second.save({})):
        with pytest.raises(ReviewError, match="open in another window"):
            job()
    second.close()
    first.close()
    third = ReviewStore(tmp_path, SCAN, "A. Reader")
    assert not third.is_read_only
    third.close()


def test_readers_have_readings_of_their_own(tmp_path: Path) -> None:
    """Two readers of one scan do not see each other's decisions."""
    first, other = begun(tmp_path), ReviewStore(tmp_path, SCAN, "B")
    assert not other.is_read_only
    assert other.review.marks == ()
    first.close()
    other.close()


def test_a_reading_is_never_attached_to_another_scan(tmp_path: Path) -> None:
    """Voxels decide, not the file's name."""
    store = begun(tmp_path)
    store.save(SESSION)
    store.close()
    other = "cd" * 32
    store.folder.parent.rename(tmp_path / other[:32])
    with pytest.raises(ReviewError, match="belongs to another scan"):
        ReviewStore(tmp_path, other, "A. Reader")
    with pytest.raises(ReviewError, match="no identity"):
        ReviewStore(tmp_path, "", "A. Reader")


@pytest.mark.parametrize("n_bytes", [1, 40])
def test_a_torn_last_line_is_left_out_and_told(tmp_path: Path, n_bytes: int) -> None:
    """What a power cut leaves; the next action begins a line of its own."""
    store = begun(tmp_path)
    store.close()
    path = store.folder / AUDIT
    path.write_bytes(path.read_bytes()[:-n_bytes])
    again = ReviewStore(tmp_path, SCAN, "A. Reader")
    assert [mark.status for mark in again.review.marks][:3] == ["accepted", "accepted", "unreviewed"]
    assert "left out" in again.stored.notes[0]
    again.act(Decide(mark_id=5, status="rejected"))
    again.close()
    entries, notes = read_audit(path)
    assert (len(entries), notes) == (4, [])


@pytest.mark.parametrize("change", ["edited", "taken out", "swapped"])
def test_a_changed_record_is_noticed(tmp_path: Path, change: str) -> None:
    """Another decision in the middle, a line less, or another order."""
    store = begun(tmp_path)
    store.close()
    path = store.folder / AUDIT
    lines = path.read_bytes().split(b"\n")
    if change == "edited":
        lines[1] = lines[1].replace(b"accepted", b"rejected")
    elif change == "taken out":
        del lines[1]
    else:
        lines[1], lines[2] = lines[2], lines[1]
    path.write_bytes(b"\n".join(lines))
    with pytest.raises(ReviewError, match=r"audit\.jsonl, line 2: the record was changed or is damaged"):
        ReviewStore(tmp_path, SCAN, "A. Reader")


def test_a_record_that_lost_its_end_is_noticed(tmp_path: Path) -> None:
    """The saved state knows of more actions."""
    store = begun(tmp_path)
    store.save(SESSION)
    store.close()
    path = store.folder / AUDIT
    path.write_bytes(b"\n".join(path.read_bytes().split(b"\n")[:2]) + b"\n")
    with pytest.raises(ReviewError, match="holds 2 actions, the state that was saved 4"):
        ReviewStore(tmp_path, SCAN, "A. Reader")


def test_a_damaged_place_falls_back_to_the_one_before(tmp_path: Path) -> None:
    """The state follows from the log in any case."""
    store = begun(tmp_path)
    store.save({"slab_mm": 5})
    store.save({"slab_mm": 10})
    store.close()
    (store.folder / STATE).write_text('{"schema": 1, "torn')
    again = ReviewStore(tmp_path, SCAN, "A. Reader")
    assert again.stored.session == {"slab_mm": 5}
    assert "damaged" in again.stored.notes[0]
    assert again.review == store.review
    again.close()
    (store.folder / BACKUP).write_text("")
    last = ReviewStore(tmp_path, SCAN, "A. Reader")
    assert (last.stored.session, last.review) == ({}, store.review)
    last.close()


def test_a_record_of_another_form_is_refused_with_its_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is guessed."""
    monkeypatch.setattr(reviews, "SCHEMA", 2)
    begun(tmp_path).close()
    monkeypatch.undo()
    with pytest.raises(ReviewError, match="in form 2, this version reads form 1"):
        ReviewStore(tmp_path, SCAN, "A. Reader")


def test_a_disk_that_refuses_leaves_review_and_log_as_they_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The action is told to have failed, and can be given again."""
    store = begun(tmp_path)
    before, log = store.review, (store.folder / AUDIT).read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(reviews.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        store.act(AddMark(position_xyz_mm=(1.0, 1.0, 1.0)))
    assert (store.review, (store.folder / AUDIT).read_bytes()) == (before, log)
    monkeypatch.undo()
    store.act(AddMark(position_xyz_mm=(1.0, 1.0, 1.0)))
    store.close()
    assert len(read_audit(store.folder / AUDIT)[0]) == 5


def test_nothing_of_a_reading_names_the_patient(tmp_path: Path) -> None:
    """Names of folders and files, and what is in them, come from voxels and the reader alone."""
    store = begun(tmp_path)
    store.save(SESSION)
    store.close()
    state = json.loads((store.folder / STATE).read_text())
    assert set(state) == {
        *(
            "notice",
            "schema",
            "software",
            "voxel_sha256",
            "reader",
            "n_actions",
            "audit_sum",
            "review",
            "session",
            "checksum",
        )
    }
    assert store.folder.relative_to(tmp_path).parts == (SCAN[:32], "a-reader")


KILLED = """
import os, random, signal, sys, time
from pathlib import Path
from napari_alnct.core.review_actions import Decide, Mark, NoteMapShown, SetCandidates
from napari_alnct.io.reviews import ReviewStore

root, n_kills = Path(sys.argv[1]), int(sys.argv[2])
marks = tuple(Mark(mark_id=k + 1, position_xyz_mm=(k, 0.0, 0.0), diameter_mm=6.0, score=0.5) for k in range(40))
draw, lost = random.Random(0), 0
store = ReviewStore(root, "ab" * 32)
store.act(SetCandidates(marks=marks, threshold=0.1))
store.close()
for kill in range(n_kills):
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        store = ReviewStore(root, "ab" * 32)
        os.write(writing, b"%d\\n" % store._number)
        k = 0
        while True:
            k += 1
            store.act(Decide(mark_id=1 + k % 40, status=("accepted", "rejected")[(k + kill) % 2]))
            os.write(writing, b"%d\\n" % store._number)
            store.act(NoteMapShown(mark_id=1 + k % 40, method="m", layer="l", score_name="s", model_sha256="0"))
            os.write(writing, b"%d\\n" % store._number)
            if k % 7 == 0:
                store.save({"k": k})
    os.close(writing)
    first = os.read(reading, 20)
    time.sleep(draw.uniform(0.0, 0.03))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    told = first
    while part := os.read(reading, 65536):
        told += part
    os.close(reading)
    known = int(told.split(b"\\n")[:-1][-1])
    store = ReviewStore(root, "ab" * 32)
    assert known <= store._number <= known + 1, (known, store._number)
    lost += bool(store.stored.notes)
    store.close()
    if store._number > 400:  # a fresh reading, so that the test stays quick
        import shutil
        shutil.rmtree(root)
        store = ReviewStore(root, "ab" * 32)
        store.act(SetCandidates(marks=marks, threshold=0.1))
        store.close()
print("readable", n_kills, "torn", lost)
"""


@pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="needs fork")
def test_two_hundred_kills_lose_nothing_that_was_told(tmp_path: Path) -> None:
    """SIGKILL at random moments: readable each time; every action that returned is there."""
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path / "reviews"), "200"], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("readable 200")
