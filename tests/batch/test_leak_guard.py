"""No scan and no patient on both sides."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from napari_alnct.batch.leak_guard import guard_leaks, read_patients
from napari_alnct.core.config import PrepareSettings
from napari_alnct.core.errors import TableError
from napari_alnct.io.patch_store import PatchRow, PatchWriter

PATIENTS = {"1.1": "A", "1.2": "A", "1.3": "B", "1.4": "C", "1.5": "C"}


def write_patches(folder: Path, series: list[str], without_patches: list[str]) -> Path:
    """Write a patch for each series; the others were looked at and gave none."""
    notes = {"series": [*series, *without_patches]}
    with PatchWriter(folder, PrepareSettings(), patch_vox=4, margin_vox=0, notes=notes) as writer:
        for uid in series:
            row = PatchRow(
                series_uid=uid, label=0, kind="lung", centre_zyx_vox=(1, 1, 1), position_xyz_mm=(0.0, 0.0, 0.0)
            )
            writer.add(row, np.zeros((4, 4, 4), np.int16))
    return folder


def test_without_patients_scans_are_compared(tmp_path: Path) -> None:
    """Another scan of the same patient passes, and the sentence says at which level."""
    others = [write_patches(tmp_path / "val", ["1.2"], ["1.4"]), write_patches(tmp_path / "test", ["1.3"], [])]
    guard = guard_leaks(["1.1", "1.5"], None, others)
    names = f"{tmp_path.name}/val, {tmp_path.name}/test"
    assert guard.sentence == f"leak guard: series level; no scan in common with {names} (3 scans)"
    assert guard.to_json()["level"] == "series"


@pytest.mark.parametrize("shared", ["1.2", "1.4"])
def test_a_shared_scan_is_refused(tmp_path: Path, shared: str) -> None:
    """Also one that was looked at and gave no patch; the folder may be named by its table."""
    folder = write_patches(tmp_path / "val", ["1.2"], ["1.4"])
    with pytest.raises(TableError, match=f"1 scans of the selection are in .*/val too, the first is {shared}"):
        guard_leaks(["1.1", shared], None, [folder / "patch_map.csv"])


def test_a_shared_patient_is_refused(tmp_path: Path) -> None:
    """Two scans of patient A, one on each side."""
    folder = write_patches(tmp_path / "val", ["1.2"], [])
    with pytest.raises(TableError, match=r"1 patients of the selection are in .*/val too, the first is A"):
        guard_leaks(["1.1", "1.3"], PATIENTS, [folder])
    guard = guard_leaks(["1.3", "1.4"], PATIENTS, [folder])
    assert guard.sentence.startswith("leak guard: patient level; no patient in common with ")


def test_scans_without_a_patient_are_refused_on_both_sides(tmp_path: Path) -> None:
    """A guard at patient level has no holes."""
    with pytest.raises(TableError, match="1 of 2 scans of selection have no patient in the table, the first is 9"):
        guard_leaks(["1.1", "9"], PATIENTS, [])
    folder = write_patches(tmp_path / "val", ["9"], [])
    with pytest.raises(TableError, match=r"1 of 1 scans of .*/val have no patient"):
        guard_leaks(["1.1"], PATIENTS, [folder])


def test_alone_it_says_so() -> None:
    """Nothing was compared, and nobody is to think that it was."""
    assert "no other patches were named" in guard_leaks(["1.1"], None, []).sentence


@pytest.mark.parametrize("header", ["seriesuid,patient", "Patient_ID, note,Series"])
def test_patients_are_read(tmp_path: Path, header: str) -> None:
    """Columns by either name and in any order; a guarded text is freed of its apostrophe."""
    path = tmp_path / "patients.csv"
    row = "1.1,'=P1" if header.startswith("s") else "'=P1,x,1.1"
    path.write_text(f"{header}\n{row}\n\n{row}\n")
    assert read_patients(path) == {"1.1": "=P1"}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("seriesuid,name\n1,2\n", "needs the columns seriesuid and patient, found seriesuid, name"),
        ("", "found an empty file"),
        ("seriesuid,patient\n1.1,\n", "line 2: series or patient is empty"),
        ("seriesuid,patient\n1.1\n", "line 2: series or patient is empty"),
        ("seriesuid,patient\n1.1,A\n1.1,B\n", r"line 3: 1\.1 has two patients"),
    ],
)
def test_a_broken_table_of_patients_is_refused(tmp_path: Path, text: str, sentence: str) -> None:
    """With file and line."""
    path = tmp_path / "patients.csv"
    path.write_text(text)
    with pytest.raises(TableError, match=sentence):
        read_patients(path)
