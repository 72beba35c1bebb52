"""Candidates, annotations and series lists as CSV: round trips, faults with their line, no formulas."""

from __future__ import annotations

import csv
import gzip

import numpy as np
import pytest

from napari_alnct.core.errors import TableError
from napari_alnct.core.findings import Candidate, ReferenceNodule
from napari_alnct.io.csv_files import Number, guarded, read_table, unguarded, write_table
from napari_alnct.io.tables import (
    SUBMISSION_COLUMNS,
    read_annotations,
    read_candidates,
    read_series_list,
    write_annotations,
    write_candidates,
)

UID = "1.3.6.1.4.1.14519.5.2.1.6279.6001.179049373636438705059720603192"
CANDIDATE = Candidate(position_xyz_mm=(-12.34567, 0.0, -600.5), score=0.98765432, diameter_mm=6.789)


def test_the_text_of_a_candidate_row(tmp_path):
    """Positions have 4 decimals, scores 7 digits, diameters 2 decimals; minus signs stay numbers."""
    write_candidates(tmp_path / "c.csv", [(UID, CANDIDATE)])
    assert (tmp_path / "c.csv").read_bytes() == (
        b"seriesuid,coordX,coordY,coordZ,probability,diameter_mm\n"
        + UID.encode()
        + b",-12.3457,0.0000,-600.5000,0.9876543,6.79\n"
    )


def test_a_submission_has_exactly_the_columns_of_luna16(tmp_path):
    """With SUBMISSION_COLUMNS there is no diameter column."""
    write_candidates(tmp_path / "c.csv", [(UID, CANDIDATE)], columns=SUBMISSION_COLUMNS)
    assert (tmp_path / "c.csv").read_text().splitlines()[0] == "seriesuid,coordX,coordY,coordZ,probability"
    (uid, candidate), *others = read_candidates(tmp_path / "c.csv")
    assert (uid, candidate.diameter_mm, others) == (UID, -1.0, [])


def test_candidates_come_back_within_a_thousandth_of_a_millimetre(tmp_path):
    """Writing and reading 200 random candidates keeps order, series, position and score."""
    rng = np.random.default_rng(0)
    rows = [
        (f"{UID}{k}", Candidate(position_xyz_mm=tuple(rng.uniform(-400, 400, 3)), score=rng.random(), diameter_mm=5.0))
        for k in range(200)
    ]
    write_candidates(tmp_path / "c.csv", rows)
    back = read_candidates(tmp_path / "c.csv")
    assert [uid for uid, _ in back] == [uid for uid, _ in rows]
    for (_, a), (_, b) in zip(rows, back, strict=True):
        np.testing.assert_allclose(a.position_xyz_mm, b.position_xyz_mm, rtol=0, atol=1e-4)
        assert a.score == pytest.approx(b.score, rel=1e-6)


def test_annotations_come_back_exactly(tmp_path):
    """Reference nodules keep every digit."""
    nodules = [ReferenceNodule(series_uid=UID, position_xyz_mm=(1 / 3, -86.34341278, 1e-7), diameter_mm=-1.0)]
    write_annotations(tmp_path / "a.csv", nodules)
    assert read_annotations(tmp_path / "a.csv") == nodules


def test_columns_may_stand_in_any_order_with_others_between(tmp_path):
    """Order, further columns, blank lines, blanks, a byte-order mark and gzip do not matter."""
    text = "\ufeffdiameter_mm, seriesuid ,note,coordZ,coordY,coordX\n\n-1,00123,hello, 3 ,2,1\n"
    (tmp_path / "a.csv").write_text(text, encoding="utf-8")
    with gzip.open(tmp_path / "a.csv.gz", "wt", encoding="utf-8") as file:
        file.write(text)
    expected = [ReferenceNodule(series_uid="00123", position_xyz_mm=(1.0, 2.0, 3.0), diameter_mm=-1.0)]
    assert read_annotations(tmp_path / "a.csv") == expected
    assert read_annotations(tmp_path / "a.csv.gz") == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no column seriesuid, coordX, coordY, coordZ, diameter_mm, found an empty file"),
        ("seriesuid,coordX,coordY,diameter_mm\n", "has no column coordZ"),
        ("seriesuid;coordX;coordY;coordZ;diameter_mm\n", "has no column"),
        ("seriesuid,coordX,coordY,coordZ,coordZ,diameter_mm\n", "coordZ twice"),
        ("seriesuid,coordX,coordY,coordZ,diameter_mm\na,1,2,3,4\nb,1,2,x,4\n", "line 3: coordZ is 'x'"),
        ("seriesuid,coordX,coordY,coordZ,diameter_mm\na,1,2,nan,4\n", "line 2: coordZ is 'nan'"),
        ("seriesuid,coordX,coordY,coordZ,diameter_mm\na,inf,2,3,4\n", "line 2: coordX is 'inf'"),
        ("seriesuid,coordX,coordY,coordZ,diameter_mm\na,1,2,3,\n", "line 2: diameter_mm is ''"),
        ("seriesuid,coordX,coordY,coordZ,diameter_mm\n,1,2,3,4\n", "line 2: seriesuid is empty"),
        ("seriesuid,coordX,coordY,coordZ,diameter_mm\na,1,2,3\n", "line 2: 4 cells for 5 columns"),
        ("seriesuid,coordX,coordY,coordZ,diameter_mm\na,1,5,2,3,4\n", "line 2: 6 cells for 5 columns"),
        ('seriesuid,coordX,coordY,coordZ,diameter_mm\n"a,1,2,3,4\n', "cannot be read as a CSV table"),
    ],
    ids=range(12),
)
def test_a_fault_is_named_with_file_and_line(tmp_path, text, message):
    """Each broken table gives a TableError that says where and what."""
    (tmp_path / "broken.csv").write_text(text)
    with pytest.raises(TableError, match=r"broken\.csv") as caught:
        read_annotations(tmp_path / "broken.csv")
    assert message in str(caught.value)


def test_unreadable_files_are_table_errors(tmp_path):
    """A missing file, a folder, bytes that are no UTF-8 and a damaged gzip are each one sentence."""
    (tmp_path / "latin.csv").write_bytes(b"seriesuid,coordX\n\xff\xfe,1\n")
    (tmp_path / "damaged.csv.gz").write_bytes(gzip.compress(b"seriesuid\n" * 999)[:-20])
    (tmp_path / "folder.csv").mkdir()
    for name in ("missing.csv", "latin.csv", "damaged.csv.gz", "folder.csv"):
        with pytest.raises(TableError, match=name):
            read_annotations(tmp_path / name)


def test_series_lists_have_a_header_or_not(tmp_path):
    """LUNA16's list has no header; a table with a column seriesuid works too; doubles are dropped."""
    (tmp_path / "plain.csv").write_text("1.2\n1.3\n\n1.2\n")
    (tmp_path / "table.csv").write_text("fold,seriesuid\n0,1.2\n1,1.3\n")
    (tmp_path / "empty.csv").write_text("seriesuid\n")
    assert read_series_list(tmp_path / "plain.csv") == ["1.2", "1.3"]
    assert read_series_list(tmp_path / "table.csv") == ["1.2", "1.3"]
    with pytest.raises(TableError, match="lists no series"):
        read_series_list(tmp_path / "empty.csv")


PAYLOADS = ["=cmd|' /C calc'!A0", "+1+1", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "\0=1", "'=1", "''-1", "'quoted'"]


@pytest.mark.parametrize("payload", PAYLOADS, ids=repr)
def test_text_is_never_a_formula_and_comes_back(tmp_path, payload):
    """No written cell begins with a formula sign, and reading gives the text that was written."""
    write_table(tmp_path / "t.csv", ["text", "number"], [[payload, -600]])
    with open(tmp_path / "t.csv", newline="", encoding="utf-8") as file:
        raw = list(csv.reader(file))[1]
    assert raw[0][:1] not in ("=", "+", "-", "@", "\t", "\r", "\0")
    assert raw[1] == "-600"
    assert unguarded(read_table(tmp_path / "t.csv", ["text"])[0].cells["text"]) == payload
    assert unguarded(guarded(payload)) == payload


def test_series_with_formula_names_keep_them(tmp_path):
    """A series called '=1' survives writing and reading."""
    write_candidates(tmp_path / "c.csv", [("=1", CANDIDATE)])
    assert "\n'=1," in (tmp_path / "c.csv").read_text()
    assert read_candidates(tmp_path / "c.csv")[0][0] == "=1"


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_fault_while_writing_leaves_the_old_file(tmp_path, value):
    """A number that is not finite is refused, the old table stays, and no temporary file is left."""
    path = tmp_path / "c.csv"
    write_candidates(path, [(UID, CANDIDATE)])
    before = path.read_bytes()
    bad = Candidate(position_xyz_mm=(0.0, value, 0.0), score=0.5, diameter_mm=4.0)
    with pytest.raises(TableError, match="cannot be written"):
        write_candidates(path, [(UID, CANDIDATE), (UID, bad)])
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_numbers_keep_their_digits():
    """Fixed, significant and exact formats, by hand."""
    assert Number.fixed(2.0, 9) == "2.000000000"
    assert Number.significant(1.23456789e-9, 7) == "1.234568e-09"
    assert Number.exact(0.1) == "0.1"
    assert Number.exact(3.0) == "3"


@pytest.mark.data
def test_the_official_tables_are_read(data_pack):
    """LUNA16: 1186 nodules in 601 scans, 35,192 excluded findings, 888 series."""
    folder = data_pack / "luna16" / "CSVFILES"
    nodules = read_annotations(folder / "annotations.csv")
    assert (len(nodules), len({n.series_uid for n in nodules})) == (1186, 601)
    assert len(read_annotations(folder / "annotations_excluded.csv")) == 35192
    assert len(read_series_list(folder / "seriesuids.csv")) == 888
