"""Intervals: whole scans are drawn, weights mean copies, DeLong as published."""

from __future__ import annotations

import math

import numpy as np
import pytest

from napari_alnct.evaluation.curve_intervals import (
    GRID,
    bootstrap_curves,
    bootstrap_shares,
    delong_interval,
    draw_clusters,
    sample_interval,
    share_interval,
    wilson_interval,
)
from napari_alnct.evaluation.curves import auc, threshold_curve


def clustered_case(seed: int, n_clusters: int = 30, n: int = 240) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Give labels, scores with ties and clusters; the scores of a cluster share an offset."""
    rng = np.random.default_rng(seed)
    labels, cluster = rng.integers(0, 2, n), np.sort(rng.integers(0, n_clusters, n))
    cluster = np.unique(cluster, return_inverse=True)[1]
    scores = np.round(labels + rng.normal(0, 1, n_clusters)[cluster] + rng.normal(0, 1, n), 1)
    return labels, scores, cluster


def test_a_weight_is_a_number_of_copies() -> None:
    """Each sample's figures are those of the table with every drawn scan's patches copied as often."""
    labels, scores, cluster = clustered_case(0)
    draws = draw_clusters(cluster, labels, 25, seed=3)
    assert draws is not None
    samples = bootstrap_curves(labels, scores, cluster, draws)
    for k, weights in enumerate(draws.weights):
        copies = np.repeat(np.arange(len(labels)), weights[cluster].astype(int))
        curve = threshold_curve(labels[copies], scores[copies])
        assert samples.auc[k] == pytest.approx(auc(labels[copies], scores[copies]), abs=1e-12)
        assert samples.average_precision[k] == pytest.approx(curve.average_precision, abs=1e-12)
        at_grid = np.interp(GRID, curve.false_positive_rate, curve.sensitivity)
        np.testing.assert_allclose(samples.sensitivity[k], at_grid, atol=1e-12)
        half = np.flatnonzero(curve.sensitivity >= 0.5)[0]
        assert samples.precision[k, 50] == pytest.approx(curve.precision[half], abs=1e-12)


def test_precision_at_recall_zero_is_that_of_the_first_hit() -> None:
    """The highest score is an error: nothing is recalled there, so its precision of 0 is not the curve's begin."""
    labels, scores, cluster = np.array([0, 1, 0, 1]), np.array([0.9, 0.8, 0.2, 0.7]), np.array([0, 0, 1, 1])
    draws = draw_clusters(cluster, labels, 5)
    assert draws is not None
    samples = bootstrap_curves(labels, scores, cluster, draws)
    assert (samples.precision[:, 0] > 0).all()


def test_copies_within_a_scan_change_delong_but_not_the_clusters() -> None:
    """Nine copies of every patch are no new scans: same cluster interval, while DeLong's shrinks threefold."""
    labels, scores, cluster = clustered_case(1)
    nine = np.repeat(np.arange(len(labels)), 9)
    intervals = []
    for index in (np.arange(len(labels)), nine):
        draws = draw_clusters(cluster[index], labels[index], 200, seed=1)
        assert draws is not None
        curves = bootstrap_curves(labels[index], scores[index], cluster[index], draws, with_bands=False)
        intervals.append(sample_interval(curves.auc))
    np.testing.assert_allclose(intervals[0], intervals[1], atol=1e-12)
    once, often = (delong_interval(labels[index], scores[index]) for index in (np.arange(len(labels)), nine))
    assert once is not None
    assert often is not None
    assert (once[1] - once[0]) / (often[1] - often[0]) == pytest.approx(3, rel=0.05)


def test_interval_covers_the_truth_where_delong_does_not() -> None:
    """Scans with offsets of their own, true AUC known: of 60 tables the cluster interval holds it in 9 of 10."""
    # score = label + offset of the scan + noise, sd 1 each: a pair of two scans differs by N(1, 4)
    truth = 0.5 * (1 + math.erf(0.5 / math.sqrt(2)))
    rng, held, held_delong = np.random.default_rng(5), 0, 0
    for _ in range(60):
        cluster = np.repeat(np.arange(40), 12)
        labels = np.repeat(rng.permutation(np.arange(40) % 2), 12)  # a scan is of one class: strong dependence
        scores = labels + rng.normal(0, 1, 40)[cluster] + rng.normal(0, 1, 480)
        draws = draw_clusters(cluster, labels, 200, seed=1)
        assert draws is not None
        interval = sample_interval(bootstrap_curves(labels, scores, cluster, draws, with_bands=False).auc)
        delong = delong_interval(labels, scores)
        assert interval is not None
        assert delong is not None
        held += interval[0] <= truth <= interval[1]
        held_delong += delong[0] <= truth <= delong[1]
    assert held >= 53
    assert held_delong <= 45


def test_draws_hold_both_classes_and_depend_on_the_seed() -> None:
    """Samples without nodules are drawn again and counted; the same seed gives the same samples."""
    cluster, labels = np.arange(8), [1, 0, 0, 0, 0, 0, 0, 0]
    draws, again, other = (draw_clusters(cluster, labels, 50, seed) for seed in (0, 0, 1))
    assert draws is not None
    assert again is not None
    assert other is not None
    assert (draws.weights[:, 0] > 0).all()
    assert (draws.weights[:, 1:].sum(axis=1) > 0).all()
    assert draws.n_redrawn > 0
    assert (draws.weights.sum(axis=1) == 8).all()
    np.testing.assert_array_equal(draws.weights, again.weights)
    assert (draws.weights != other.weights).any()


def test_one_cluster_or_no_samples_give_no_draws() -> None:
    """A single scan says nothing about others; a class that is absent everywhere does not stop the draw."""
    assert draw_clusters(np.zeros(5, int), [0, 1, 0, 1, 0], 100) is None
    assert draw_clusters(np.arange(5), [0, 1, 0, 1, 0], 0) is None
    assert draw_clusters(np.arange(5), [1, 1, 1, 1, 1], 10) is not None


def test_shares_of_samples_are_weighted_counts() -> None:
    """Sensitivity of a sample: called nodules over nodules, each as often as its scan was drawn."""
    labels, scores, cluster = clustered_case(2)
    draws = draw_clusters(cluster, labels, 10, seed=2)
    assert draws is not None
    found = bootstrap_shares(scores > 0.5, labels == 1, cluster, draws)
    for share, weights in zip(found, draws.weights, strict=True):
        w = weights[cluster]
        assert share == pytest.approx(w[(scores > 0.5) & (labels == 1)].sum() / w[labels == 1].sum())


def test_a_share_of_one_gets_wilsons_interval_over_clusters() -> None:
    """All 40 patches of 10 scans called rightly: the bootstrap would say 1 to 1; Wilson with n = 10 says .72 to 1."""
    cluster = np.repeat(np.arange(10), 4)
    draws = draw_clusters(cluster, np.tile([0, 1], 20), 50)
    everything = np.ones(40, bool)
    assert share_interval(everything, everything, cluster, draws) == pytest.approx(wilson_interval(1.0, 10))
    assert share_interval(everything, ~everything, cluster, draws) is None
    assert share_interval(everything, everything, cluster, None) is None


def test_a_share_within_one_cluster_has_no_interval() -> None:
    """Half of the patches of a single scan: other scans may do as they like, and all samples agree on one half."""
    cluster = np.repeat(np.arange(10), 4)
    draws = draw_clusters(cluster, np.tile([0, 1], 20), 50)
    assert share_interval(np.tile([True, False], 20), cluster == 3, cluster, draws) is None
    assert share_interval(np.tile([True, False], 20), cluster < 5, cluster, draws) == (0.5, 0.5)


@pytest.mark.parametrize(("value", "n", "low", "high"), [(0.5, 10, 0.2366, 0.7634), (0.0, 20, 0.0, 0.1611)])
def test_wilson_as_published(value: float, n: int, low: float, high: float) -> None:
    """Known values: 5 of 10 and 0 of 20."""
    assert wilson_interval(value, n) == pytest.approx((low, high), abs=5e-5)


def test_delong_equals_the_definition() -> None:
    """Structural components by looking at every pair (DeLong 1988), with ties, against the fast form."""
    labels, scores, _ = clustered_case(4, n=80)
    positives, negatives = scores[labels == 1], scores[labels == 0]
    kernel = (positives[:, None] > negatives) + 0.5 * (positives[:, None] == negatives)
    variance = kernel.mean(axis=1).var(ddof=1) / len(positives) + kernel.mean(axis=0).var(ddof=1) / len(negatives)
    half = 1.959964 * math.sqrt(variance)
    assert delong_interval(labels, scores) == pytest.approx((kernel.mean() - half, kernel.mean() + half), abs=1e-6)


def test_delong_needs_two_of_each_class() -> None:
    """One nodule has no variance."""
    assert delong_interval([1, 0, 0], [0.9, 0.1, 0.2]) is None
