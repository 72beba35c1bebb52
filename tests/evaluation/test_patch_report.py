"""The report on scored patches: every figure of a table worked by hand, groups, notes, JSON and rows."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from napari_alnct.evaluation.curves import auc
from napari_alnct.evaluation.operating_point import OperatingPoint, choose_point, parse_rule
from napari_alnct.evaluation.patch_figures import as_json, band_rows, calibration_rows, group_rows, pr_rows, roc_rows
from napari_alnct.evaluation.patch_report import PatchReport, judge_patches
from tests.evaluation.scored import HAND, from_rows, many

HALF = OperatingPoint(0.5, "fixed", "given")


def hand_report(n_samples: int = 100) -> PatchReport:
    return judge_patches(from_rows(HAND), HALF, n_samples=n_samples)


def test_figures_by_hand() -> None:
    """15 pairs: .9 and .8 win all five, .4 wins three: 13 of 15. Called: .9, .8 and the vessels at .6 and .5."""
    report = hand_report()
    assert report.auc.value == pytest.approx(13 / 15)
    confusion = report.confusion
    assert (confusion.true_positives, confusion.false_positives) == (2, 2)
    assert (confusion.true_negatives, confusion.false_negatives) == (3, 1)
    assert {name: share.value for name, share in report.shares.items()} == pytest.approx(
        {"sensitivity": 2 / 3, "specificity": 3 / 5, "ppv": 2 / 4, "npv": 3 / 4, "accuracy": 5 / 8}
    )
    assert report.average_precision.value == pytest.approx((1 + 1 + 3 / 5) / 3)


def test_sizes_by_hand() -> None:
    """3-6 mm: one nodule, two patches, one called, of its ten pairs eight are won; 10-20 mm: found."""
    small, middle, large, largest = hand_report().by_size
    assert (small.label, small.n_patches, small.n_nodules, small.n_scans) == ("3-6 mm", 2, 1, 1)
    assert (small.rate.value, small.auc.value) == (0.5, pytest.approx(8 / 10))
    assert (small.rate.ci95, small.auc.ci95) == (None, None)  # its patches are of one scan
    assert (large.label, large.n_patches, large.rate.value, large.auc.value) == ("10-20 mm", 1, 1.0, 1.0)
    for empty in (middle, largest):
        assert empty.n_patches == 0
        assert math.isnan(empty.rate.value)
        assert empty.rate.ci95 is None


def test_kinds_by_hand() -> None:
    """Vessels: one of three stays below .5; lung: both; each kind's AUC is against all nodules."""
    lung, vessel = hand_report().by_kind
    assert (lung.label, lung.n_patches, lung.n_scans, lung.rate.value) == ("lung", 2, 2, 1.0)
    assert (vessel.label, vessel.n_patches, vessel.rate.value) == ("vessel", 3, pytest.approx(1 / 3))
    assert vessel.auc.value == pytest.approx(7 / 9)
    assert vessel.n_nodules == 0


def test_groups_of_odd_nodules() -> None:
    """Nodules below 3 mm and without a diameter have groups of their own, shown only where there are some."""
    rows = [(0, 1, 0, 2.0, "nodule", 0.9), (1, 1, 0, np.nan, "nodule", 0.8), *HAND]
    labels = [group.label for group in judge_patches(from_rows(rows), HALF, n_samples=0).by_size]
    assert labels == ["< 3 mm", "3-6 mm", "6-10 mm", "10-20 mm", ">= 20 mm", "no diameter"]


def test_intervals_hold_their_values() -> None:
    """Every figure lies within its own interval, and DeLong's stands beside it."""
    patches = many()
    report = judge_patches(patches, choose_point(patches.curve, parse_rule("youden")), n_samples=200)
    figures = [report.auc, report.average_precision, report.brier, *report.shares.values()]
    figures += [part for group in (*report.by_size, *report.by_kind) for part in (group.rate, group.auc)]
    known = [figure for figure in figures if figure.ci95 is not None]
    assert len(known) >= len(figures) - 4  # no nodule of 20 mm; groups without an error
    for figure in known:
        assert figure.ci95 is not None
        assert figure.ci95[0] <= figure.value <= figure.ci95[1]
    assert report.auc_delong_ci95 is not None
    assert report.auc_delong_ci95 != report.auc.ci95
    assert len(report.bin_ci95) == len(report.reliability.n) == 10


def test_an_area_of_one_has_no_interval() -> None:
    """All samples agree on it, and an interval from 1 to 1 would lie; a share of 1 still gets Wilson's."""
    report = judge_patches(replace(many(), scores=many().labels * 0.8 + 0.1), HALF, n_samples=20)
    assert (report.auc.value, report.auc.ci95, report.auc_delong_ci95) == (1.0, None, None)
    assert (report.average_precision.value, report.average_precision.ci95) == (1.0, None)
    assert all(group.auc.ci95 is None for group in (*report.by_size, *report.by_kind))
    sensitivity = report.shares["sensitivity"].ci95
    assert sensitivity is not None
    assert sensitivity[0] < 0.95


def test_the_brier_interval_draws_scans() -> None:
    """A sample's Brier score is the mean over the copies of its scans."""
    patches = many(1, 12)
    report = judge_patches(patches, HALF, n_samples=40, seed=5)
    assert report.draws is not None
    assert report.brier.ci95 is not None
    squared = (patches.scores - patches.labels) ** 2
    values = sorted(np.average(squared, weights=weights[patches.cluster]) for weights in report.draws.weights)
    assert report.brier.ci95 == pytest.approx((values[1], values[39]))


@pytest.mark.parametrize(("label", "word"), [(1, "nodules"), (0, "patches without nodule")])
def test_a_single_class_is_said_and_the_rest_is_given(label: int, word: str) -> None:
    """No AUC, no average precision, one sentence; confusion, calibration and groups are there."""
    patches = from_rows([row for row in HAND if row[1] == label])
    report = judge_patches(patches, HALF, n_samples=50)
    document = as_json(report)
    assert (document["auc"], document["auc_ci95"], document["auc_delong_ci95"]) == (None, None, None)
    assert document["average_precision"] is None
    assert sum(f"only {word}: ROC curve, AUC and average precision are undefined" in note for note in report.notes) == 1
    assert document["calibration"]["brier"] is not None
    assert document["operating_point"]["accuracy_ci95"] is not None


def test_notes_say_what_limits_the_figures() -> None:
    """Optimistic points, few scans, one scan, perfect separation; nothing when there is nothing to say."""
    chosen = choose_point(from_rows(HAND).curve, parse_rule("youden"))
    texts = " ".join(judge_patches(from_rows(HAND), chosen, notes=["Handed on."]).notes)
    assert "Handed on." in texts
    assert "chosen on these same patches" in texts
    assert "only 3 scans" in texts
    one_scan = judge_patches(from_rows([row for row in HAND if row[0] == 0]), HALF)
    assert one_scan.draws is None
    assert "one scan" in one_scan.notes[0]
    perfect = judge_patches(replace(many(), scores=many().labels * 0.8 + 0.1), HALF, n_samples=20)
    assert "without an error" in perfect.notes[0]
    assert judge_patches(many(), HALF, n_samples=20).notes == ()


def test_json_is_plain_and_complete() -> None:
    """Numbers that do not exist are null; counts, method, generator and unit are named."""
    document = json.loads(json.dumps(as_json(hand_report()), allow_nan=False))
    counts = document["counts"]
    assert (counts["patches"], counts["nodule_patches"], counts["nodules"], counts["scans"]) == (8, 3, 2, 3)
    assert "over scans" in document["auc_ci95_method"]
    assert document["bootstrap"]["samples"] == 100
    assert "RandomState" in document["bootstrap"]["generator"]
    assert document["by_size"][1]["auc"] is None
    assert as_json(hand_report(0))["bootstrap"] is None
    above = judge_patches(from_rows(HAND), OperatingPoint(math.inf, "spec", "x"), n_samples=0)
    assert as_json(above)["operating_point"]["threshold"] is None


def test_rows_hold_the_curves() -> None:
    """ROC corners span (0, 0) to (1, 1) with the right area; precision-recall has a row per score of a nodule."""
    report = hand_report()
    rates, sensitivity, thresholds = np.array(list(roc_rows(report))).T
    assert (rates[0], sensitivity[0], thresholds[0]) == (0, 0, np.inf)
    assert np.trapezoid(sensitivity, rates) == pytest.approx(auc(report.patches.labels, report.patches.scores))
    assert [row[2] for row in pr_rows(report)] == [0.9, 0.8, 0.4]
    assert [row[1] for row in pr_rows(report)] == [1, 1, pytest.approx(3 / 5)]
    bands = list(band_rows(report))
    assert len(bands) == 101
    assert all(row[1] <= row[2] and row[3] <= row[4] for row in bands)
    assert sum(row[4] for row in calibration_rows(report)) == 8  # type: ignore[misc]
    groups = {row[0]: row for row in group_rows(report)}
    assert groups["6-10 mm"][4:] == ("sensitivity", "", "", "", "", "", "")
    assert groups["vessel"][:6] == ("vessel", 3, 0, 2, "specificity", pytest.approx(1 / 3))
    assert list(band_rows(hand_report(0))) == []
