"""ROC, precision-recall and confusion: hand-worked cases with ties, and scikit-learn as the oracle."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_alnct.evaluation.curves import Confusion, auc, confusion_at, middle_ranks, threshold_curve

#                 threshold:   .9   .7   .7   .7   .4   .1
LABELS, SCORES = [1, 1, 0, 1, 0, 0], [0.9, 0.7, 0.7, 0.7, 0.4, 0.1]


def random_case(seed: int, n: int = 300, levels: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """Give labels and scores with many ties."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, n)
    return labels, np.round((rng.normal(labels * 0.8, 1)) * levels / 6) / levels


def test_auc_counts_pairs_and_ties_half() -> None:
    """Of nine pairs the .9 wins three; each .7 wins two and ties one: 3 + 2.5 + 2.5 = 8 of 9."""
    assert auc(LABELS, SCORES) == pytest.approx(8 / 9, abs=1e-15)


@pytest.mark.parametrize("seed", range(5))
def test_auc_equals_scikit_learn(seed: int) -> None:
    """Many ties, random labels: the same area as ``roc_auc_score``."""
    from sklearn.metrics import roc_auc_score

    labels, scores = random_case(seed)
    assert auc(labels, scores) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 4)), min_size=1, max_size=20))
@settings(max_examples=60, deadline=None)
def test_auc_is_the_mann_whitney_share(rows: list[tuple[bool, int]]) -> None:
    """A second implementation that looks at every pair agrees; without pairs the area is nan."""
    positives, negatives = ([s for label, s in rows if label is kind] for kind in (True, False))
    pairs = [(p > n) + (p == n) / 2 for p in positives for n in negatives]
    found = auc([label for label, _ in rows], [score for _, score in rows])
    assert math.isnan(found) if not pairs else found == pytest.approx(np.mean(pairs), abs=1e-12)


def test_auc_is_the_same_for_logits_and_probabilities() -> None:
    """Only the order counts, and swapping the classes mirrors the area."""
    labels, logits = random_case(7)
    assert auc(labels, logits) == auc(labels, 1 / (1 + np.exp(-logits)))
    assert auc(1 - labels, logits) == pytest.approx(1 - auc(labels, logits), abs=1e-12)


@pytest.mark.parametrize(
    ("labels", "scores"), [([1, 1], [0.1, 0.2]), ([0], [0.1]), ([], []), ([0, 1], [np.nan, 0.5])], ids=str
)
def test_auc_without_pairs_or_with_nan_is_nan(labels: list[int], scores: list[float]) -> None:
    """A class that is absent, or a score that is no number, gives no area."""
    assert math.isnan(auc(labels, scores))


def test_equal_values_share_their_ranks() -> None:
    """Ranks 2, 3 and 4 of three equal values are all 3."""
    assert middle_ranks(np.array([3.0, 1.0, 3.0, 3.0, 9.0])).tolist() == [3, 1, 3, 3, 5]


def test_curve_by_hand() -> None:
    """At .9 one nodule; at .7 all three nodules and one other; then one other each."""
    curve = threshold_curve(LABELS, SCORES)
    assert curve.thresholds.tolist() == [np.inf, 0.9, 0.7, 0.4, 0.1]
    assert (curve.hits.tolist(), curve.errors.tolist()) == ([0, 1, 3, 3, 3], [0, 0, 1, 2, 3])
    np.testing.assert_allclose(curve.precision, [np.nan, 1, 3 / 4, 3 / 5, 3 / 6])
    assert curve.average_precision == pytest.approx((1 + 2 * 3 / 4) / 3)
    assert np.trapezoid(curve.sensitivity, curve.false_positive_rate) == pytest.approx(auc(LABELS, SCORES))


@pytest.mark.parametrize("seed", range(5))
def test_curves_equal_scikit_learn(seed: int) -> None:
    """ROC points, precision-recall points and average precision are those of scikit-learn."""
    from sklearn.metrics import average_precision_score, precision_recall_curve, roc_curve

    labels, scores = random_case(seed)
    curve = threshold_curve(labels, scores)
    rates, sensitivity, thresholds = roc_curve(labels, scores, drop_intermediate=False)
    np.testing.assert_allclose(curve.thresholds, thresholds)
    np.testing.assert_allclose(np.stack([curve.false_positive_rate, curve.sensitivity]), [rates, sensitivity])
    precision, recall, _ = precision_recall_curve(labels, scores)
    np.testing.assert_allclose(curve.precision[1:], precision[-2::-1])
    np.testing.assert_allclose(curve.sensitivity[1:], recall[-2::-1])
    assert curve.average_precision == pytest.approx(average_precision_score(labels, scores), abs=1e-12)


def test_corners_draw_the_same_curve() -> None:
    """Interpolated between its corners the curve passes through all its points; corners are fewer."""
    labels, scores = random_case(3, n=2000, levels=4000)
    curve, corners = threshold_curve(labels, scores), threshold_curve(labels, scores).corners()
    assert corners[0] == 0
    assert corners[-1] == len(curve.thresholds) - 1
    assert len(corners) < 0.9 * len(curve.thresholds)
    steps = curve.hits + curve.errors  # rises strictly, so it can serve as the axis
    for values in (curve.hits, curve.errors):
        np.testing.assert_allclose(np.interp(steps, steps[corners], values[corners]), values, atol=1e-9)


def test_confusion_by_hand() -> None:
    """A score equal to the threshold calls its patch a nodule: at .7 three nodules and one other."""
    confusion = confusion_at(LABELS, SCORES, 0.7)
    assert confusion == Confusion(0.7, true_positives=3, false_positives=1, true_negatives=2, false_negatives=0)
    assert (confusion.sensitivity, confusion.specificity, confusion.ppv) == (1, pytest.approx(2 / 3), 0.75)
    assert (confusion.npv, confusion.accuracy, confusion.f1) == (1, pytest.approx(5 / 6), pytest.approx(6 / 7))


def test_shares_without_a_divisor_are_nan() -> None:
    """Nothing called a nodule: no PPV; no nodules: no sensitivity."""
    assert math.isnan(confusion_at(LABELS, SCORES, 0.95).ppv)
    assert math.isnan(confusion_at([0, 0], [0.1, 0.2], 0.5).sensitivity)


def test_curve_agrees_with_the_confusion_at_each_threshold() -> None:
    """Every point of the curve is the confusion matrix of its threshold."""
    labels, scores = random_case(11, n=60)
    curve = threshold_curve(labels, scores)
    for k, threshold in enumerate(curve.thresholds):
        confusion = confusion_at(labels, scores, threshold)
        assert (confusion.true_positives, confusion.false_positives) == (curve.hits[k], curve.errors[k])
