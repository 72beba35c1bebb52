"""Tables to outcomes: which scans count, and which identifiers are refused."""

from __future__ import annotations

import numpy as np
import pytest

from napari_alnct.core.errors import TableError
from napari_alnct.evaluation.scoring import score_scans
from tests.evaluation.reference import findings, marks, scored


def test_rows_may_stand_in_any_order() -> None:
    """Marks and nodules of two scans mixed: a .9 and b .8 hit, b's .7 is an error."""
    result = scored(
        [("b", 100.0, 0.7), ("a", 0.0, 0.9), ("b", 0.0, 0.8)], [("b", 0.0, 6.0), ("a", 0.0, 6.0)], ["a", "b"]
    )
    assert result.nodule_scores.tolist() == [0.9, 0.8]
    assert result.nodules.scan.tolist() == [0, 1]
    assert (result.false_positive_scores.tolist(), result.false_positive_scan.tolist()) == ([0.7], [1])


def test_scans_without_marks_and_without_nodules_are_in_the_divisor() -> None:
    """One error in four listed scans, of which two have nothing at all: 0.25 per scan."""
    result = scored([("a", 0.0, 0.9), ("a", 50.0, 0.5)], [("a", 0.0, 6.0), ("b", 0.0, 6.0)], ["a", "b", "c", "d"])
    assert result.curve.fp_per_scan[-1] == 0.25
    assert result.curve.sensitivity[-1] == 0.5
    assert result.marks_per_scan.tolist() == [2, 0, 0, 0]


def test_annotations_of_other_scans_do_not_count() -> None:
    """Two nodules of an unlisted scan are left out of the divisor and counted as left out."""
    result = scored([("a", 0.0, 0.9)], [("a", 0.0, 6.0), ("z", 0.0, 6.0), ("z", 9.0, 6.0)], ["a"])
    assert result.curve.sensitivity[-1] == 1.0
    assert len(result.nodules.unlisted) == 2


def test_marks_of_unlisted_scans_are_refused_by_name() -> None:
    """The sentence names the table, how many, and the first three series."""
    rows = [("a", 0.0, 0.9), *((f"x{k}", 0.0, 0.5) for k in range(5)), ("x0", 9.0, 0.5)]
    with pytest.raises(TableError, match=r"new\.csv: 5 series are not among the 1 listed: x0, x1, x2 and 2 more"):
        scored(rows, [("a", 0.0, 6.0)], ["a"], marks_name="new.csv")


def test_marks_of_unlisted_scans_are_left_out_on_demand() -> None:
    """Restricted: they count nowhere but in the number of rows."""
    result = scored([("a", 0.0, 0.9), ("x", 0.0, 0.5)], [("a", 0.0, 6.0)], ["a"], is_restricted=True)
    assert (result.n_in_file, result.n_unlisted_marks, len(result.false_positive_scores)) == (2, 1, 0)


@pytest.mark.parametrize("damaged", ["1.3636E+60", "1.36e60", "1,3636E+60", "2e+22"])
def test_identifiers_that_became_numbers_are_refused_with_the_cause(damaged: str) -> None:
    """A spreadsheet's rounded identifiers, in the marks or in the annotations."""
    with pytest.raises(TableError, match="lost their digits"):
        scored([(damaged, 0.0, 0.9)], [("1.3.6", 0.0, 6.0)], ["1.3.6"])
    with pytest.raises(TableError, match="lost their digits"):
        scored([("1.3.6", 0.0, 0.9)], [("1.3.6", 0.0, 6.0), (damaged, 0.0, 6.0)], ["1.3.6"])


def test_identifiers_are_text() -> None:
    """Identifiers that are equal as numbers are different series."""
    result = scored([("1.10", 0.0, 0.9), ("1.1", 0.0, 0.3)], [("1.10", 0.0, 6.0)], ["1.1", "1.10"])
    assert (result.n_found, result.false_positive_scores.tolist()) == (1, [0.3])


def test_tables_that_do_not_belong_together_are_refused() -> None:
    """No annotation in a listed scan; a series listed twice."""
    with pytest.raises(TableError, match="none of the 1 annotations lies in the 1 listed scans"):
        scored([("a", 0.0, 0.9)], [("b", 0.0, 6.0)], ["a"])
    with pytest.raises(TableError, match="twice"):
        scored([("a", 0.0, 0.9)], [("a", 0.0, 6.0)], ["a", "a"])


def test_the_cap_comes_before_the_match() -> None:
    """101 marks, the hit scores least: it is lost, its nodule missed."""
    rows = [("a", 100.0 + k, 0.9 - k / 1000) for k in range(100)]
    result = scored([*rows, ("a", 0.0, 0.1)], [("a", 0.0, 6.0)], ["a"])
    assert (result.n_found, int(result.marks_per_scan[0]), result.n_capped_scans, result.n_in_file) == (0, 100, 1, 101)
    assert scored([*rows[:99], ("a", 0.0, 0.1)], [("a", 0.0, 6.0)], ["a"]).n_found == 1


def test_excluded_findings_belong_to_their_scan() -> None:
    """A finding excluded in b does not excuse an error at the same place in a."""
    result = score_scans(
        marks(("a", 50.0, 0.5), ("b", 50.0, 0.4)), findings(("a", 0.0, 6.0)), findings(("b", 50.0, -1.0)), ["a", "b"]
    )
    assert result.false_positive_scores.tolist() == [0.5]
    assert sum(match.n_on_excluded for match in result.matches) == 1


def test_offsets_of_hits_are_mark_minus_nodule() -> None:
    """A hit 2 mm to the left (+x) of its nodule."""
    result = scored([("a", 12.0, 0.9), ("a", 90.0, 0.4)], [("a", 10.0, 6.0), ("a", 40.0, 6.0)], ["a"])
    np.testing.assert_allclose(result.hit_offsets_xyz_mm, [[2.0, 0.0, 0.0]])


def test_an_empty_table_of_marks_is_a_result() -> None:
    """A detector that finds nothing has CPM 0."""
    result = scored([], [("a", 0.0, 6.0)], ["a", "b"])
    assert (result.curve.cpm, result.n_found, result.n_in_file) == (0.0, 0, 0)
