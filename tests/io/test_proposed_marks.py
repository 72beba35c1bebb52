"""Marks from tables: candidates, annotations, and only those of this scan."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from napari_alnct.core.errors import TableError
from napari_alnct.core.findings import Candidate, ReferenceNodule
from napari_alnct.io.proposed_marks import read_proposed
from napari_alnct.io.tables import write_annotations, write_candidates


def candidate(x: float, score: float) -> Candidate:
    return Candidate(position_xyz_mm=(x, 0.0, 0.0), score=score, diameter_mm=5.0)


def test_only_the_rows_of_the_scan_are_taken(tmp_path: Path) -> None:
    """With the hash of the file as their source, and all shown to begin with."""
    path = tmp_path / "a.csv"
    write_candidates(path, [("1.2", candidate(1, 0.2)), ("9.9", candidate(2, 0.9)), ("1.2", candidate(3, 0.7))])
    found, source = read_proposed(path, "1.2")
    assert [mark.position_xyz_mm[0] for mark in found] == [1, 3]
    assert source.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (source.threshold, source.operating_points) == (0.0, None)


def test_annotations_are_certain(tmp_path: Path) -> None:
    """A table without scores: each mark has score 1."""
    path = tmp_path / "annotations.csv"
    write_annotations(path, [ReferenceNodule(series_uid="1.2", position_xyz_mm=(1, 2, 3), diameter_mm=7.5)])
    ((mark,), _) = read_proposed(path, "1.2")
    assert (mark.position_xyz_mm, mark.diameter_mm, mark.score) == ((1.0, 2.0, 3.0), 7.5, 1.0)


def test_a_table_of_other_scans_is_refused(tmp_path: Path) -> None:
    """The message counts the series and names none."""
    path = tmp_path / "a.csv"
    write_candidates(path, [("9.8.7.6.5", candidate(1, 0.2))])
    with pytest.raises(TableError, match="its 1 series are others") as caught:
        read_proposed(path, "1.2")
    assert "9.8.7" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "a,b\n1,2\n"])
def test_a_strange_table_is_refused(tmp_path: Path, text: str) -> None:
    """Empty, or without the columns."""
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(TableError):
        read_proposed(tmp_path / "a.csv", "1.2")
