"""LUNA16's candidates: class 0 of the wanted scans, row by row."""

from __future__ import annotations

import gzip
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from napari_alnct.core.errors import TableError
from napari_alnct.io.candidate_table import read_false_candidates

TABLE = """seriesuid,coordX,coordY,coordZ,class
1.2.10,68.42,-74.48,-288.7,0
1.2.1,1,2,3,0
1.2.1,4,5,6,1
1.2.2,broken,,,0
1.2.1,-7.5,8.25,1e1,0
"""


@pytest.mark.parametrize("name", ["candidates.csv", "candidates.csv.gz"])
def test_class_0_of_the_wanted_scans_is_given(tmp_path: Path, name: str) -> None:
    """In the order of the file; ids are text, so 1.2.10 is not 1.2.1; rows of other scans are passed over."""
    path = tmp_path / name
    path.write_bytes(gzip.compress(TABLE.encode()) if name.endswith("gz") else TABLE.encode())
    found = read_false_candidates(path, ["1.2.1", "1.2.3"])
    assert list(found) == ["1.2.1"]
    np.testing.assert_array_equal(found["1.2.1"], [[1, 2, 3], [-7.5, 8.25, 10]])


def test_columns_may_stand_in_any_order(tmp_path: Path) -> None:
    """They are found by name."""
    path = tmp_path / "c.csv"
    path.write_text("class,coordZ,extra,coordY,coordX,seriesuid\n0,3,,2,1,a\n")
    np.testing.assert_array_equal(read_false_candidates(path, ["a"])["a"], [[1, 2, 3]])


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("seriesuid,coordX,coordY,coordZ,probability\n", r"c\.csv has no column class, found seriesuid"),
        ("", "has no column seriesuid"),
        (TABLE.replace("1,2,3", "1,nan,3"), "line 3: coordY is 'nan'"),
        (TABLE.replace("2,3,0", "2,3,2"), "line 3: class is 2; 1 is a nodule, 0 is none"),
        (TABLE.replace("1,2,3,0", "1,2"), "line 3: 3 cells for 5 columns"),
        (TABLE.replace("1.2.1,", "1.2.5,"), "lists no candidate of the 1 scans"),
    ],
    ids=["column", "empty", "number", "class", "cells", "others"],
)
def test_a_broken_table_is_refused(tmp_path: Path, text: str, sentence: str) -> None:
    """With file and line."""
    path = tmp_path / "c.csv"
    path.write_text(text)
    with pytest.raises(TableError, match=sentence):
        read_false_candidates(path, ["1.2.1"])


def test_what_cannot_be_read_is_refused(tmp_path: Path) -> None:
    """A missing file, and one that is not compressed although its name says so."""
    with pytest.raises(TableError, match=r"none\.csv does not exist"):
        read_false_candidates(tmp_path / "none.csv", ["1"])
    (tmp_path / "c.csv.gz").write_text(TABLE)
    with pytest.raises(TableError, match="cannot be read as a CSV table"):
        read_false_candidates(tmp_path / "c.csv.gz", ["1"])


def test_other_scans_take_no_memory(tmp_path: Path) -> None:
    """Of 40,000 rows 100 are wanted: the peak stays below a twentieth of the file and 60 kB."""
    path = tmp_path / "c.csv"
    rows = "".join(f"1.2.{n // 100},{n}.25,-{n}.5,123.456,0\n" for n in range(40_000))
    path.write_text("seriesuid,coordX,coordY,coordZ,class\n" + rows)
    tracemalloc.start()
    found = read_false_candidates(path, ["1.2.7"])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found["1.2.7"].shape == (100, 3)
    assert peak < path.stat().st_size / 20 + 60_000
