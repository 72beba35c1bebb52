"""Calibration: hand-worked bins, scikit-learn as the oracle."""

from __future__ import annotations

import numpy as np
import pytest

from napari_alnct.evaluation.calibration import brier_score, reliability

LABELS = [0, 0, 1, 0, 1, 1, 1, 1]
SCORES = [0.05, 0.1, 0.3, 0.4, 0.6, 0.7, 0.8, 1.0]


def random_case(seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    scores = rng.random(500)
    return (rng.random(500) < scores**2).astype(int), scores


def test_equal_mass_by_hand() -> None:
    """Four bins of two: shares 0, 1/2, 1, 1 against mean scores .075, .35, .65, .9."""
    curve = reliability(LABELS, SCORES, n_bins=4)
    np.testing.assert_allclose(curve.mean_score, [0.075, 0.35, 0.65, 0.9])
    np.testing.assert_allclose(curve.share, [0, 0.5, 1, 1])
    assert curve.n.tolist() == [2, 2, 2, 2]
    assert curve.ece == pytest.approx((0.075 + 0.15 + 0.35 + 0.1) / 4)


def test_equal_width_by_hand() -> None:
    """Two halves of 0 to 1; a score of 1 belongs to the last bin."""
    curve = reliability(LABELS, SCORES, n_bins=2, binning="equal width")
    assert (curve.n.tolist(), curve.n_positive.tolist()) == ([4, 4], [1, 4])
    assert curve.ece == pytest.approx((abs(0.2125 - 0.25) + abs(0.775 - 1)) / 2)


def test_equal_scores_stay_in_one_bin() -> None:
    """A bin border never cuts a run of equal scores; bins that stay empty are left out."""
    scores = np.repeat([0.2, 0.9], [90, 10])
    curve = reliability(np.arange(100) % 2, scores, n_bins=10)
    assert curve.n.tolist() == [90, 10]
    assert len(reliability([1, 0, 1], [0.5, 0.5, 0.5]).n) == 1


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("binning", "strategy"), [("equal width", "uniform"), ("equal mass", "quantile")])
def test_bins_equal_scikit_learn(seed: int, binning: str, strategy: str) -> None:
    """Without ties both kinds of bins are those of ``calibration_curve``."""
    from sklearn.calibration import calibration_curve

    labels, scores = random_case(seed)
    share, mean = calibration_curve(labels, scores, n_bins=10, strategy=strategy)
    curve = reliability(labels, scores, binning=binning)  # type: ignore[arg-type]
    np.testing.assert_allclose(np.stack([curve.share, curve.mean_score]), [share, mean])


def test_brier_equals_scikit_learn() -> None:
    """The mean squared distance, and p (1 - p) for a constant score of p."""
    from sklearn.metrics import brier_score_loss

    labels, scores = random_case(4)
    assert brier_score(labels, scores) == pytest.approx(brier_score_loss(labels, scores), abs=1e-12)
    assert brier_score([1, 0, 0, 0], [0.25] * 4) == pytest.approx(0.25 * 0.75)


def test_calibrated_scores_have_a_small_error_and_distorted_ones_a_large_one() -> None:
    """Labels drawn with their scores as probability: an error near 0; squared scores: far from it."""
    rng = np.random.default_rng(0)
    scores = rng.random(20_000)
    labels = rng.random(20_000) < scores
    assert reliability(labels, scores).ece < 0.02
    assert reliability(labels, scores**2).ece == pytest.approx(1 / 2 - 1 / 3, abs=0.02)
