"""The FROC curve: by hand, and against the official result."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

from napari_alnct.evaluation.froc import froc_curve
from napari_alnct.evaluation.matching import ScanMatch, cap_marks, match_scan
from napari_alnct.io.tables import read_annotations, read_candidates, read_series_list


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


@pytest.mark.data
def test_the_official_result_is_reproduced(data_pack: Path) -> None:
    """Counts exact, sensitivities and CPM to 6 decimals, on 55,677 real detections."""
    folder, tables = data_pack / "froc_reference", data_pack / "luna16" / "CSVFILES"
    recorded = json.loads((folder / "expected.json").read_text())["counts"]
    marks, nodules, excluded = defaultdict(list), defaultdict(list), defaultdict(list)
    for series, mark in read_candidates(folder / "deeplung_dpn26bs32_luna_format.csv.gz"):
        marks[series].append((*mark.position_xyz_mm, mark.score))
    for name, rows in (("annotations.csv", nodules), ("annotations_excluded.csv", excluded)):
        for row in read_annotations(tables / name):
            rows[row.series_uid].append((*row.position_xyz_mm, row.diameter_mm))
    series_list = read_series_list(tables / "seriesuids.csv")
    matches = []
    for series in series_list:
        m, n, e = (np.array(rows[series], float).reshape(-1, 4) for rows in (marks, nodules, excluded))
        m = m[cap_marks(m[:, 3])]
        matches.append(match_scan(m[:, :3], m[:, 3], n[:, :3], n[:, 3], e[:, :3], e[:, 3]))
    curve = froc_curve(matches)
    found = sum(int(np.isfinite(m.nodule_scores).sum()) for m in matches)
    counts = (found, sum(len(m.false_positives) for m in matches), curve.n_nodules - found)
    ignored = (sum(m.n_on_excluded for m in matches), sum(m.n_double for m in matches))
    assert (counts, ignored) == ((1136, 46078, 50), (5308, 186))
    assert counts[:2] == (recorded["true_positives"], recorded["false_positives"])
    assert curve.cpm == pytest.approx(0.841966, abs=5e-7)
    official = [0.692243, 0.768971, 0.823777, 0.865093, 0.892917, 0.917369, 0.933390]
    np.testing.assert_allclose(curve.sensitivity_at(), official, atol=5e-7)
