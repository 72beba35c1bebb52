"""LUNA16's rule, case by case, worked by hand."""

from __future__ import annotations

import numpy as np

from napari_alnct.evaluation.matching import MISSED, cap_marks, match_scan

NONE = np.zeros((0, 3)), np.zeros(0)


def at(*x_mm: float) -> np.ndarray:
    """Give points on the x axis, shape (N, 3)."""
    return np.array([[x, 0.0, 0.0] for x in x_mm]).reshape(-1, 3)


def test_a_distance_equal_to_the_radius_is_a_miss() -> None:
    """Nodule of 10 mm at 0: a mark at 4.999 hits, one at exactly 5 is a false positive."""
    match = match_scan(at(4.999, 5.0), np.array([0.3, 0.9]), at(0.0), np.array([10.0]), *NONE)
    assert match.nodule_scores.tolist() == [0.3]
    assert match.false_positives.tolist() == [1]


def test_the_best_mark_scores_and_the_others_are_double() -> None:
    """Three marks inside one nodule: the best counts, two are neither hits nor errors."""
    match = match_scan(at(0.0, 1.0, 2.0), np.array([0.2, 0.9, 0.5]), at(0.0), np.array([10.0]), *NONE)
    assert match.nodule_scores.tolist() == [0.9]
    assert match.nodule_marks.tolist() == [1]
    assert (match.n_double, len(match.false_positives)) == (2, 0)


def test_one_mark_may_hit_two_nodules() -> None:
    """Two overlapping nodules, one mark inside both: two hits."""
    match = match_scan(at(2.0), np.array([0.7]), at(0.0, 4.0), np.array([10.0, 10.0]), *NONE)
    assert match.nodule_scores.tolist() == [0.7, 0.7]


def test_included_nodules_come_before_excluded_findings() -> None:
    """A mark inside both counts as a hit, not as ignored; one inside the excluded finding alone is ignored."""
    match = match_scan(at(0.0, 6.0), np.array([0.9, 0.8]), at(0.0), np.array([10.0]), at(2.0), np.array([20.0]))
    assert match.nodule_scores.tolist() == [0.9]
    assert (match.n_on_excluded, len(match.false_positives)) == (1, 0)


def test_a_negative_diameter_means_ten_millimetres() -> None:
    """Excluded finding with diameter -1: radius 5."""
    match = match_scan(at(4.9, 5.1), np.array([0.9, 0.8]), *NONE, at(0.0), np.array([-1.0]))
    assert match.n_on_excluded == 1
    assert match.false_positives.tolist() == [1]


def test_a_missed_nodule_and_a_scan_without_marks() -> None:
    """No mark: every nodule is missed, nothing else is counted."""
    match = match_scan(np.zeros((0, 3)), np.zeros(0), at(0.0, 50.0), np.array([5.0, 5.0]), *NONE)
    assert match.nodule_scores.tolist() == [MISSED, MISSED]
    assert (match.n_double, match.n_on_excluded, len(match.false_positives)) == (0, 0, 0)


def test_the_cap_keeps_strictly_above_the_101st() -> None:
    """With 102 marks of which the 100th and 101st tie, 99 remain."""
    scores = np.concatenate([np.linspace(1.0, 0.6, 99), [0.5, 0.5, 0.1]])
    assert cap_marks(scores).sum() == 99
