"""The FROC curve, worked by hand."""

from __future__ import annotations

import numpy as np
import pytest

from napari_alnct.evaluation.froc import froc_curve
from napari_alnct.evaluation.matching import ScanMatch


def outcome(nodules: list[float], errors: list[float]) -> ScanMatch:
    return ScanMatch(np.array(nodules), np.zeros(len(nodules), int), np.arange(len(errors)), np.array(errors), 0, 0)


def test_a_curve_worked_by_hand() -> None:
    """Two scans, three nodules (.9, .5, missed), errors .7 and .3.

    Thresholds .9 .7 .5 .3 give FP/scan 0 .5 .5 1 and sensitivity 1/3 1/3 2/3 2/3.
    """
    curve = froc_curve([outcome([0.9, 0.5], [0.7]), outcome([-np.inf], [0.3])])
    np.testing.assert_allclose(curve.fp_per_scan, [0, 0, 0.5, 0.5, 1.0])
    np.testing.assert_allclose(curve.sensitivity, [0, 1 / 3, 1 / 3, 2 / 3, 2 / 3])
    assert curve.sensitivity_at([0.25])[0] == pytest.approx(1 / 3)
    assert curve.threshold_at(0.5) == 0.5


def test_equal_scores_enter_together() -> None:
    """A hit and an error with one score are one point of the curve."""
    curve = froc_curve([outcome([0.5], [0.5])])
    np.testing.assert_allclose(curve.fp_per_scan, [0, 1])
    np.testing.assert_allclose(curve.sensitivity, [0, 1])


def test_scans_without_marks_count_in_the_divisor() -> None:
    """One error in one of ten listed scans is 0.1 per scan."""
    assert froc_curve([outcome([0.9], [0.3])], n_scans=10).fp_per_scan[-1] == pytest.approx(0.1)


def test_the_corners_carry_the_whole_curve() -> None:
    """Errors .9 .8 .7, hit .6, errors .5 .4: the points at .8 and .5 lie on straight lines."""
    curve = froc_curve([outcome([0.6], [0.9, 0.8, 0.7, 0.5, 0.4])])
    corners = curve.corners()
    assert curve.thresholds[corners].tolist() == [np.inf, 0.7, 0.6, 0.4]
    rates = np.linspace(0, 5, 51)
    kept = np.interp(rates, curve.fp_per_scan[corners], curve.sensitivity[corners])
    np.testing.assert_array_equal(kept, curve.sensitivity_at(rates.tolist()))


def test_a_threshold_keeps_its_promise() -> None:
    """Two scans, errors .9 and .5: at 0.5 per scan .6 may be shown; at 1/8 nothing, so the threshold is infinite."""
    curve = froc_curve([outcome([0.6], [0.9]), outcome([], [0.5])])
    assert curve.threshold_at(0.5) == 0.6
    assert curve.threshold_at(1.0) == 0.5
    assert curve.threshold_at(0.125) == np.inf


def test_rates_beyond_the_end_take_the_last_sensitivity() -> None:
    """A detector without errors: its sensitivity holds at every rate."""
    assert froc_curve([outcome([0.9, -np.inf], [])]).sensitivity_at().tolist() == [0.5] * 7
