"""The report as JSON and as a picture: keys, settings, by-size groups, notes."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from matplotlib.image import imread

from napari_alnct.evaluation.by_size import by_size
from napari_alnct.evaluation.froc_notes import table_notes
from napari_alnct.evaluation.froc_report import BAND_RATES, OFFICIAL, as_json, judge
from napari_alnct.evaluation.plots import froc_png
from napari_alnct.evaluation.scoring import ScoredScans
from tests.evaluation.reference import scored


def small(second: float = 0.8) -> ScoredScans:
    """Two scans, three nodules of 5, 12 and 25 mm: .9 and `second` hit, the last is missed; one error .85."""
    nodules = [("a", 0.0, 5.0), ("a", 50.0, 12.0), ("b", 0.0, 25.0)]
    return scored([("a", 0.0, 0.9), ("a", 50.0, second), ("b", 80.0, 0.85)], nodules, ["a", "b"])


def test_the_json_holds_every_figure() -> None:
    """Worked by hand: .9 before any error, .8 after one error in two scans."""
    document = json.loads(json.dumps(as_json(judge(small(), n_samples=100, seed=3)), allow_nan=False))
    assert document["sensitivity"] == pytest.approx([1 / 3, 1 / 3, 2 / 3, 2 / 3, 2 / 3, 2 / 3, 2 / 3])
    assert document["cpm"] == pytest.approx((2 + 10) / 21)
    counts = ("true_positives", "false_positives", "false_negatives", "candidates", "candidates_in_file")
    assert [document[name] for name in counts] == [2, 1, 1, 3, 3]
    assert [document[name] for name in ("ignored_excluded", "ignored_double", "n_scans", "n_nodules")] == [0, 0, 2, 3]
    assert document["thresholds"] == [0.9, 0.9, 0.8, 0.8, 0.8, 0.8, 0.8]
    assert (document["bootstrap"]["samples"], document["bootstrap"]["seed"]) == (100, 3)
    low, high = document["cpm_ci95"]
    assert 0 <= low <= document["cpm"] <= high <= 1
    assert len(document["sensitivity_ci95"]) == 7
    assert document["compare"] is None


def test_no_samples_no_intervals() -> None:
    """Bootstrap 0: the figures, and null where intervals would be."""
    document = as_json(judge(small(), n_samples=0, other=small(0.95), other_name="x"))
    assert (document["cpm_ci95"], document["sensitivity_ci95"], document["bootstrap"]) == (None, None, None)
    assert document["compare"]["cpm_difference_ci95"] is None
    assert document["compare"]["cpm_difference"] == pytest.approx(-2 / 21)


def test_the_same_seed_gives_the_same_report() -> None:
    """And another seed another interval, at most."""
    first, again, other = (as_json(judge(small(), n_samples=50, seed=seed)) for seed in (1, 1, 2))
    assert first == again
    assert first["bootstrap"] != other["bootstrap"]


def test_the_band_holds_the_official_rates() -> None:
    """Every twentieth of its rates is one of the seven, exactly."""
    assert BAND_RATES[OFFICIAL] == (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)


def test_size_groups_share_the_thresholds_of_the_whole() -> None:
    """5 mm found before, 12 mm after the one error; 25 mm missed; no nodule of 6-10 mm."""
    groups = {group.label: group for group in by_size(small())}
    assert list(groups) == ["3-6 mm", "6-10 mm", "10-20 mm", ">= 20 mm"]
    assert groups["3-6 mm"].sensitivity.tolist() == [1.0] * 7
    assert groups["10-20 mm"].sensitivity.tolist() == [0, 0, 1, 1, 1, 1, 1]
    assert groups[">= 20 mm"].sensitivity.tolist() == [0.0] * 7
    assert np.isnan(groups["6-10 mm"].sensitivity).all()


def test_sizes_are_half_open_and_an_unknown_diameter_is_ten() -> None:
    """6.0 mm belongs to 6-10; -1 counts as 10 mm; below 3 mm is a group of its own."""
    nodules = [("a", 0.0, 6.0), ("a", 50.0, -1.0), ("a", 90.0, 2.9)]
    groups = {group.label: group.n_nodules for group in by_size(scored([], nodules, ["a"]))}
    assert groups == {"< 3 mm": 1, "3-6 mm": 0, "6-10 mm": 1, "10-20 mm": 1, ">= 20 mm": 0}


def test_a_curve_that_ends_early_is_noticed() -> None:
    """One error in two scans: nothing is known beyond 0.5 per scan."""
    (note,) = table_notes(small(), has_excluded=True)
    assert "ends at 0.5 false positives per scan" in note


@pytest.mark.parametrize("name", ["a$b$c.csv", "_hidden.csv", "肺.csv", "x" * 200, "50 % \\alpha^{2.csv"])
def test_any_file_name_may_stand_in_the_legend(name: str) -> None:
    """Formula signs, a leading underscore, other scripts, great length: no fault and no warning."""
    assert froc_png(judge(small(), n_samples=0), name).startswith(b"\x89PNG")


def test_the_picture_shows_band_and_both_curves() -> None:
    """1080 x 810 pixels; our blue, the other's brown and the pale band are there."""
    report = judge(small(), n_samples=50, other=small(0.95), other_name="other.csv")
    picture = (imread(io.BytesIO(froc_png(report, "ours.csv")))[..., :3] * 255).round().astype(int)
    assert picture.shape == (810, 1080, 3)
    for colour in ((0, 89, 156), (179, 89, 0), (209, 226, 239)):
        assert (np.abs(picture - colour).max(axis=2) <= 3).sum() > 100
