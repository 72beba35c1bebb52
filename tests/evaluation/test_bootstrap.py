"""The bootstrap: pinned draws, samples worked by hand, and a slow second implementation."""

from __future__ import annotations

import numpy as np
import pytest

from napari_alnct.evaluation.bootstrap import (
    bootstrap_sensitivity,
    draw_scans,
    interval,
    nodules_per_scan,
    paired_difference,
)
from napari_alnct.evaluation.froc import FP_RATES, froc_curve
from napari_alnct.evaluation.scoring import ScoredScans
from tests.evaluation.reference import Row, scored


def random_case(seed: int) -> ScoredScans:
    """Give twelve scans with hits, errors and many equal scores."""
    generator = np.random.default_rng(seed)
    series = [f"s{k}" for k in range(12)]
    nodules: list[Row] = [(s, 100.0 * k, 6.0) for s in series for k in range(generator.integers(0, 3))]
    hits = [(s, x, float(np.round(generator.random(), 1))) for s, x, _ in nodules if generator.random() < 0.8]
    errors = [(s, -50.0 - k, float(np.round(generator.random(), 1))) for s in series for k in range(20)]
    return scored(hits + errors, nodules, series)


def test_the_draws_never_change() -> None:
    """Seed 0 on 888 scans: the first draws of NumPy's frozen legacy stream, on every system."""
    weights = draw_scans(np.ones(888, int), 3, seed=0).weights
    generator = np.random.RandomState(0)
    assert generator.randint(888, size=5).tolist() == [684, 559, 629, 192, 835]
    assert weights[0][[684, 559, 629, 192, 835]].min() >= 1
    assert weights.sum(axis=1).tolist() == [888, 888, 888]
    assert np.flatnonzero(weights[2])[:8].tolist() == [0, 2, 4, 5, 6, 7, 11, 12]
    assert (draw_scans(np.ones(888, int), 3, seed=1).weights != weights).any()


def test_a_sample_worked_by_hand() -> None:
    """Scans a (hit .9, error .5) and b (missed, error .8).

    a twice: 2 of 2 nodules found before any error. b twice: nothing found. One each: 1 of 2 found.
    """
    result = scored(
        [("a", 0.0, 0.9), ("a", 50.0, 0.5), ("b", 50.0, 0.8)], [("a", 0.0, 6.0), ("b", 0.0, 6.0)], ["a", "b"]
    )
    weights = np.array([[2, 0], [0, 2], [1, 1]], np.int32)
    np.testing.assert_array_equal(
        bootstrap_sensitivity(result, weights, [0.125, 8.0]), [[1.0, 1.0], [0.0, 0.0], [0.5, 0.5]]
    )


def test_a_scan_drawn_twice_counts_twice_in_the_rate() -> None:
    """The hit comes after one error of its scan: drawn twice, two errors in two scans come first: 1 per scan."""
    result = scored([("a", 50.0, 0.9), ("a", 0.0, 0.5)], [("a", 0.0, 6.0)], ["a", "b"])
    weights = np.array([[1, 1], [2, 0]], np.int32)
    values = bootstrap_sensitivity(result, weights, [0.499, 0.5, 0.999, 1.0])
    np.testing.assert_array_equal(values, [[0, 1, 1, 1], [0, 0, 0, 1]])


@pytest.mark.parametrize("seed", range(8))
def test_samples_agree_with_the_curve_of_repeated_scans(seed: int) -> None:
    """The slow way: put the drawn scans together and take their FROC curve; ties included."""
    result = random_case(seed)
    weights = draw_scans(nodules_per_scan(result), 6, seed=seed).weights
    slow = [
        froc_curve([m for m, n in zip(result.matches, row, strict=True) for _ in range(n)]).sensitivity_at()
        for row in weights
    ]
    np.testing.assert_allclose(bootstrap_sensitivity(result, weights), slow, atol=1e-12)


def test_every_scan_once_is_the_point_estimate() -> None:
    """Weights of one give the curve itself."""
    result = random_case(3)
    values = bootstrap_sensitivity(result, np.ones((1, 12), np.int32), FP_RATES)
    np.testing.assert_allclose(values[0], result.curve.sensitivity_at(), atol=1e-12)


def test_a_sample_without_nodules_is_drawn_again() -> None:
    """One nodule in ten scans: about a third of the draws miss it; none is kept, and they are counted."""
    nodules = np.array([1, *[0] * 9])
    draws = draw_scans(nodules, 200, seed=5)
    assert (draws.weights @ nodules).min() >= 1
    assert 60 < draws.n_redrawn < 160
    with pytest.raises(ValueError, match="no nodule"):
        draw_scans(np.zeros(4, int), 1)


def test_the_interval_is_the_25th_and_the_975th_of_a_thousand() -> None:
    """Counted from 0, as in the official script; of 200 the 5th and the 195th."""
    shuffled = np.random.default_rng(0).permutation(1000).astype(float)
    assert interval(shuffled).tolist() == [25.0, 975.0]
    assert interval(np.arange(200.0)).tolist() == [5.0, 195.0]
    assert interval(np.array([0.4])).tolist() == [0.4, 0.4]


def test_a_paired_difference_worked_by_hand() -> None:
    """First finds a's nodule, second b's: drawn a a the difference is 1, a b 0, b b -1; it is 0 in all."""
    nodules = [("a", 0.0, 6.0), ("b", 0.0, 6.0)]
    first, second = (scored([(s, 0.0, 0.9)], nodules, ["a", "b"]) for s in "ab")
    paired = paired_difference(first, second, draw_scans(np.array([1, 1]), 400, seed=0))
    assert paired.difference == 0.0
    assert paired.ci95 == (-1.0, 1.0)
    assert 0.15 < paired.share_above_zero < 0.35


def test_no_marks_give_samples_of_zero() -> None:
    """A detector that finds nothing."""
    result = scored([], [("a", 0.0, 6.0)], ["a", "b"])
    assert bootstrap_sensitivity(result, np.array([[1, 1]], np.int32)).tolist() == [[0.0] * 7]
