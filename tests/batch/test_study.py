"""The tables of a study: every decision with its time and how it came, every case and reader, done or not."""

from __future__ import annotations

import csv
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from napari_alnct.batch.study import join_study
from napari_alnct.batch.study_tables import find_readings, trace
from napari_alnct.cli.app import dispatch
from napari_alnct.core.errors import SettingsError
from napari_alnct.core.geometry import Geometry
from napari_alnct.core.review import replay
from napari_alnct.core.review_actions import (
    AddMark,
    Decide,
    LockFirstRead,
    MarkSearched,
    NoteExplained,
    NoteMapShown,
    ReviewAction,
    SetMode,
    Undo,
)
from napari_alnct.io.metaimage_writer import write_metaimage
from napari_alnct.io.reviews import AUDIT, AuditEntry, ReviewStore
from napari_alnct.io.study import read_study
from tests.io.reading_case import CANARY, candidates

BEGIN = datetime(2026, 11, 22, 20, tzinfo=UTC)
SHA = {"one": "1" * 64, "two": "2" * 64}
DECIDED = tuple(Decide(mark_id=k, status="rejected") for k in (2, 3))
UNAIDED = (
    SetMode(mode="study"),
    AddMark(position_xyz_mm=(1.0, 2.0, 3.0), diameter_mm=5.0),
    candidates(),
    LockFirstRead(),
    AddMark(position_xyz_mm=(9.0, 9.0, 9.0), linked_to=1),
    Decide(mark_id=1, status="accepted"),
    *DECIDED,
    MarkSearched(share_of_slices=0.9),
)


def read(root: Path, sha256: str, reader: str, actions: tuple[ReviewAction, ...]) -> Path:
    """Store a reading with one action a minute; give its folder."""
    store = ReviewStore(root, sha256, reader)
    for minute, action in enumerate(actions):
        store.act(action, utc=BEGIN + timedelta(minutes=minute))
    store.close()
    return store.folder


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def minute(utc: str) -> int:
    return round((datetime.fromisoformat(utc) - BEGIN).total_seconds() / 60)


def test_decisions_carry_their_time_and_how_they_came(tmp_path: Path) -> None:
    """Worked by hand: the mark of minute 1 was found unaided and gets another number when candidates come."""
    read(tmp_path / "readings", SHA["one"], "A. Weiss", UNAIDED)
    joined = join_study(tmp_path / "readings", tmp_path / "out")
    found = rows(tmp_path / "out" / "decisions.csv")
    assert joined.n_decisions == len(found) == 6
    table = [(row["mark"], row["source"], row["status"], row["is_unaided"], row["linked_to"]) for row in found]
    assert table == [
        ("1", "detector", "accepted", "0", ""),
        ("2", "detector", "rejected", "0", ""),
        ("3", "detector", "rejected", "0", ""),
        ("4", "detector", "unreviewed", "0", ""),
        ("5", "reader", "reader_added", "1", ""),
        ("6", "reader", "reader_added", "0", "1"),
    ]
    assert [minute(row["decided_utc"]) if row["decided_utc"] else None for row in found] == [5, 6, 7, None, 1, 4]
    assert [row["is_shown"] for row in found] == ["1", "1", "1", "0", "1", "1"]
    assert (found[4]["coordX"], found[4]["diameter_mm"], found[4]["probability"]) == ("1", "5", "")


def test_cases_are_counted(tmp_path: Path) -> None:
    """One row a case and reader, with times and counts; nothing is missing between the columns."""
    read(tmp_path / "readings", SHA["one"], "A. Weiss", UNAIDED)
    join_study(tmp_path / "readings", tmp_path / "out")
    (row,) = rows(tmp_path / "out" / "cases.csv")
    wanted = {
        **{"case": "1" * 32, "reader": "A. Weiss", "state": "done", "mode": "study", "n_actions": "9"},
        **{"n_candidates": "4", "n_shown": "3", "n_undecided": "0", "n_findings": "3", "n_own": "2"},
        **{"n_own_unaided": "1", "searched_share": "0.9", "threshold": "0.3", "model": "m", "fault": ""},
    }
    assert {name: row[name] for name in wanted} == wanted
    times = ("first_utc", "first_read_ended_utc", "last_utc", "searched_utc")
    assert [minute(row[name]) for name in times] == [0, 3, 8, 8]


def test_an_undone_decision_is_no_decision_of_its_time() -> None:
    """Accepted, undone, rejected: the last one counts; a second detection keeps times and unaided marks."""
    actions = (*UNAIDED[:6], Undo(), Decide(mark_id=1, status="rejected"), candidates("m2", "ab"))
    entries = find_entries(actions)
    traced = trace(entries)
    assert [mark.status for mark in traced.review.marks][:1] == ["rejected"]
    assert minute(traced.decided_utc[1]) == 7
    assert [mark.mark_id in traced.unaided for mark in traced.review.marks if mark.is_own] == [True, False]
    assert traced.review == replay(actions)


FACTS = {"method": "hirescam", "layer": "encoder.stages.1", "score_name": "second look", "model_sha256": "ab" * 32}


def test_decisions_tell_whether_the_heat_map_was_seen_before(tmp_path: Path) -> None:
    """Worked by hand: before, after, never, before a change of mind, explained only, of an own mark, not decided."""
    shown, explained = ({k: kind(mark_id=k, **FACTS) for k in range(1, 7)} for kind in (NoteMapShown, NoteExplained))
    actions = (
        *UNAIDED[:5],  # minutes 0 to 4: marks 1 to 4 of the detector, 5 and 6 own
        *(explained[1], shown[1], Decide(mark_id=1, status="accepted"), shown[1]),  # 5 to 8
        *(Decide(mark_id=2, status="rejected"), shown[2]),  # 9, 10
        *(explained[3], Decide(mark_id=3, status="rejected")),  # 11, 12
        *(shown[6], shown[4]),  # 13, 14
    )
    read(tmp_path / "readings", SHA["one"], "A. Weiss", actions)
    read(tmp_path / "readings", SHA["two"], "A. Weiss", (*actions, Decide(mark_id=2, status="accepted"), Undo()))
    join_study(tmp_path / "readings", tmp_path / "out")
    found = rows(tmp_path / "out" / "decisions.csv")
    table = [(row["is_after_map"], minute(row["map_shown_utc"]) if row["map_shown_utc"] else None) for row in found]
    assert table[:6] == [("1", 6), ("0", 10), ("0", None), ("", 14), ("0", None), ("0", 13)]
    assert table[6:] == [("1", 6), ("1", 10), *table[2:6]]
    assert [row["is_after_map"] for row in found[6:8]] == ["1", "1"]  # decided anew, also by undoing


def test_a_map_seen_stays_with_its_mark_through_a_new_detection() -> None:
    """By its place, decided or not; a mark elsewhere with its number has none."""
    shown = NoteMapShown(mark_id=1, **FACTS)
    actions = (candidates(), shown, Decide(mark_id=1, status="accepted"), candidates("m2", "ab"))
    traced = trace(find_entries(actions))
    assert traced.after_map == {1}
    assert list(traced.shown_utc) == [1]
    other = replace(
        actions[0], marks=tuple(replace(m, position_xyz_mm=(90.0, 90.0, 9.0 * m.mark_id)) for m in actions[0].marks)
    )
    assert trace(find_entries((*actions[:2], other, Decide(mark_id=1, status="accepted")))).after_map == set()
    assert trace(find_entries((*actions[:2], candidates("m2", "ab"), actions[2]))).after_map == {1}


def find_entries(actions: tuple[ReviewAction, ...]) -> tuple[AuditEntry, ...]:
    return tuple(
        AuditEntry(
            number=k + 1, utc=(BEGIN + timedelta(minutes=k)).isoformat(), reader="r", action=action, software="0"
        )
        for k, action in enumerate(actions)
    )


def test_marks_that_are_hidden_are_in_no_table(tmp_path: Path) -> None:
    """A reader whose first read is not ended has own marks only, all of them unaided."""
    read(tmp_path / "readings", SHA["one"], "A. Weiss", UNAIDED[:3])
    join_study(tmp_path / "readings", tmp_path / "out")
    (row,) = rows(tmp_path / "out" / "decisions.csv")
    assert (row["source"], row["is_unaided"]) == ("reader", "1")
    (case,) = rows(tmp_path / "out" / "cases.csv")
    assert (case["state"], case["n_candidates"], case["n_own_unaided"]) == ("under way", "0", "1")


def test_a_damaged_record_is_a_row_and_the_others_are_joined(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 4, the fault in the table, the other reader complete."""
    folder = read(tmp_path / "readings", SHA["one"], "A. Weiss", UNAIDED)
    read(tmp_path / "readings", SHA["one"], "B. Braun", UNAIDED)
    log = folder / AUDIT
    log.write_bytes(log.read_bytes().replace(b"accepted", b"rejected"))
    assert dispatch(["study-table", str(tmp_path / "readings"), "--out-dir", str(tmp_path / "out")]) == 4
    first, second = rows(tmp_path / "out" / "cases.csv")
    assert (first["reader"], first["state"], second["state"]) == ("a-weiss", "damaged", "done")
    assert "was changed or is damaged" in first["fault"]
    assert len(rows(tmp_path / "out" / "decisions.csv")) == 6
    assert "6 marks; cases by reader: 1 done, 1 damaged" in capsys.readouterr().out


def test_a_folder_without_readings_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 2, nothing written."""
    with pytest.raises(SettingsError, match="holds no readings"):
        find_readings(tmp_path)
    assert dispatch(["study-table", str(tmp_path), "--out-dir", str(tmp_path / "out")]) == 2
    assert not (tmp_path / "out").exists()


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """Give a folder of two tiny scans whose files name a patient."""
    folder = tmp_path / "scans"
    folder.mkdir()
    grid = Geometry(shape_zyx=(6, 10, 10), spacing_zyx_mm=(2.0, 1.0, 1.0))
    hu = np.full(grid.shape_zyx, -900, np.int16)
    hu[:, :, :3] = 60
    for k in range(2):
        write_metaimage(folder / f"{CANARY}_{k}.mhd", hu + k, replace(grid, origin_xyz_mm=(float(k), 0.0, 0.0)))
    return folder


def test_a_study_from_scans_to_tables(tmp_path: Path, scans: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two commands: plan, one reading, join; cases not begun have rows; no file name in the tables."""
    plan = tmp_path / "study.json"
    arguments = ["study", str(scans), "--readers", "A. Weiss", "B. Braun", "--seed", "7", "--out", str(plan)]
    assert dispatch(arguments) == 0
    assert "2 cases for 2 readers" in capsys.readouterr().out
    study = read_study(plan)
    assert [case.path.parent for case in study.cases] == [scans, scans]
    read(tmp_path / "readings", study.cases[1].voxel_sha256, "a. weiss", UNAIDED)
    read(tmp_path / "readings", SHA["two"], "A. Weiss", UNAIDED)  # of no case of the study
    out = tmp_path / "out"
    command = ["study-table", str(tmp_path / "readings"), "--study", str(plan), "--out-dir", str(out)]
    assert dispatch(command) == 0
    found = rows(out / "cases.csv")
    assert [(row["case"], row["state"]) for row in found] == [
        ("case-01", "not begun"),
        ("case-02", "done"),
        ("case-01", "not begun"),
        ("case-02", "not begun"),
    ]
    places = [study.order_for(reader).index(case) + 1 for reader in study.readers for case in study.cases]
    assert [int(row["place_in_order"]) for row in found] == places
    assert {row["case"] for row in rows(out / "decisions.csv")} == {"case-02"}
    assert CANARY not in (out / "cases.csv").read_text() + (out / "decisions.csv").read_text()


def test_scans_of_the_same_voxels_are_refused(tmp_path: Path, scans: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A copy would be read as a case of its own; nothing is written."""
    for path in list(scans.iterdir()):
        copy = path.read_bytes().replace(f"{CANARY}_0".encode(), b"copy")
        if f"{CANARY}_0" in path.name:
            (scans / path.name.replace(f"{CANARY}_0", "copy")).write_bytes(copy)
    assert dispatch(["study", str(scans), "--readers", "A", "--out", str(tmp_path / "s.json")]) == 2
    assert "the same voxels twice" in capsys.readouterr().err
    assert not (tmp_path / "s.json").exists()
