"""The judge against the official script on 55,677 real detections, and what each known mistake costs.

The figures of the mistakes were measured independently of this code; a judge that
hid one of them (a wrong divisor, a wrong radius) would not give them.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from napari_alnct.evaluation.bootstrap import (
    bootstrap_sensitivity,
    draw_scans,
    interval,
    nodules_per_scan,
    paired_difference,
)
from napari_alnct.evaluation.by_size import by_size
from napari_alnct.evaluation.froc_notes import mirror_notes, table_notes
from napari_alnct.evaluation.froc_report import as_json, judge
from napari_alnct.evaluation.scoring import score_scans
from tests.evaluation.reference import cpm, expected, moved, reference_scored, reference_tables

pytestmark = pytest.mark.data


def test_all_counts_are_those_of_the_official_script(data_pack: Path) -> None:
    """Hits, errors, misses, ignored marks, marks after the cap: exact."""
    counts = as_json(judge(reference_scored(data_pack), n_samples=0))
    official = expected(data_pack)["counts"]
    names = {
        "true_positives": "true_positives",
        "false_positives": "false_positives",
        "false_negatives": "false_negatives",
        "candidates": "candidates_kept",
        "candidates_in_file": "detections_in_file",
        "n_nodules": "nodules",
        "ignored_excluded": "ignored_on_excluded",
        "ignored_double": "ignored_double_detections",
    }
    assert {ours: counts[ours] for ours in names} == {ours: official[theirs] for ours, theirs in names.items()}
    assert (counts["n_scans"], counts["n_scans_over_the_cap"], counts["n_scans_without_marks"]) == (888, 96, 1)
    parts = ("true_positives", "false_positives", "ignored_excluded", "ignored_double")
    assert sum(counts[name] for name in parts) == counts["candidates"] == 52708


def test_sensitivities_and_cpm_to_six_decimals(data_pack: Path) -> None:
    """The seven sensitivities and their mean."""
    curve, official = reference_scored(data_pack).curve, expected(data_pack)
    np.testing.assert_allclose(curve.sensitivity_at(), official["sensitivity"], rtol=0, atol=5e-7)
    assert curve.cpm == pytest.approx(official["cpm"], abs=5e-7)


def test_the_whole_curve_is_the_official_one(data_pack: Path) -> None:
    """The corners are the rows of the official file, but for one on the first vertical line that is no corner."""
    curve = reference_scored(data_pack).curve
    official = np.genfromtxt(data_pack / "froc_reference" / "froc_curve.csv", delimiter=",", skip_header=1)
    corners = curve.corners()
    ours = np.stack([curve.fp_per_scan, curve.sensitivity, curve.thresholds], axis=1)[corners]
    np.testing.assert_allclose(ours, np.delete(official, 1, axis=0), rtol=0, atol=1e-9)


def test_the_bootstrap_is_that_of_the_official_script(data_pack: Path) -> None:
    """Same generator, same samples: mean and interval per rate agree to its grid of 10,000 rates; CPM 0.812-0.868."""
    scored, official = reference_scored(data_pack), expected(data_pack)
    draws = draw_scans(nodules_per_scan(scored), 1000, seed=0)
    samples = bootstrap_sensitivity(scored, draws.weights)
    lower, upper = interval(samples)
    np.testing.assert_allclose(samples.mean(axis=0), official["bootstrap_mean"], atol=2e-4)
    np.testing.assert_allclose(lower, official["bootstrap_lower"], atol=5e-4)
    np.testing.assert_allclose(upper, official["bootstrap_upper"], atol=1e-6)
    assert samples.mean() == pytest.approx(official["cpm_bootstrap_mean"], abs=1e-4)
    np.testing.assert_allclose(interval(samples.mean(axis=1)), [0.812, 0.868], atol=0.003)


def test_small_nodules_are_harder(data_pack: Path) -> None:
    """At 1 false positive per scan .793 of 3-6 mm, .921 of 6-10, .909 of 10-20 and .940 of >= 20 mm."""
    groups = by_size(reference_scored(data_pack))
    assert [(group.label, group.n_nodules) for group in groups] == [
        ("3-6 mm", 502),
        ("6-10 mm", 403),
        ("10-20 mm", 231),
        (">= 20 mm", 50),
    ]
    np.testing.assert_allclose([group.sensitivity[3] for group in groups], [0.793, 0.921, 0.909, 0.940], atol=6e-4)


def test_ignoring_the_excluded_findings_costs_a_tenth(data_pack: Path) -> None:
    """CPM .742, and a note says so."""
    tables = reference_tables(data_pack)
    assert cpm(tables, excluded=[]) == pytest.approx(0.742, abs=5e-4)
    assert "excluded" in table_notes(reference_scored(data_pack), has_excluded=False)[0]
    assert table_notes(reference_scored(data_pack), has_excluded=True) == []


def test_leaving_out_the_scans_without_nodules_is_noticed(data_pack: Path) -> None:
    """601 scans divided by 888 give .858, by 601 .833; the first is told."""
    tables = reference_tables(data_pack)
    with_nodules = {nodule.series_uid for nodule in tables.annotations}
    some = [(series, mark) for series, mark in tables.candidates if series in with_nodules]
    listed = [series for series in tables.series_list if series in with_nodules]
    assert cpm(tables, candidates=some, series_list=listed) == pytest.approx(0.833, abs=5e-4)
    result = score_scans(some, tables.annotations, tables.excluded, tables.series_list)
    assert result.curve.cpm == pytest.approx(0.858, abs=5e-4)
    (note,) = table_notes(result, has_excluded=True)
    assert "None of the 287 listed scans without a nodule has a mark" in note


@pytest.mark.parametrize(
    ("shift_xyz_mm", "value"),
    [((0.5, 0.5, 0.5), 0.823), ((1.0, 1.0, 1.0), 0.697), ((0.0, 0.0, 1.25), 0.823), ((0.0, 0.0, 2.5), 0.592)],
    ids=str,
)
def test_a_constant_shift_costs_what_was_measured(
    data_pack: Path, shift_xyz_mm: tuple[float, float, float], value: float
) -> None:
    """Half a millimetre costs .02, a voxel .15."""
    tables = reference_tables(data_pack)
    shifted = moved(tables.candidates, lambda xyz: xyz + shift_xyz_mm)
    assert cpm(tables, candidates=shifted) == pytest.approx(value, abs=6e-4)


def test_a_systematic_shift_is_noticed(data_pack: Path) -> None:
    """One millimetre along each axis shows as the median offset of the hits; the original has no such note."""
    tables = reference_tables(data_pack)
    shifted = moved(tables.candidates, lambda xyz: xyz + 1.0)
    result = score_scans(shifted, tables.annotations, tables.excluded, tables.series_list)
    (note,) = table_notes(result, has_excluded=True)
    assert "(+1.4, +1.3, +0.9) mm" in note


@pytest.mark.parametrize(("grid_mm", "value"), [(2, 0.830), (4, 0.716), (8, 0.329)])
def test_centres_on_a_coarse_grid_cost_what_was_measured(data_pack: Path, grid_mm: int, value: float) -> None:
    """Rounding to a grid, its origin at the world's: to .01, as the origin of the grid is free."""
    tables = reference_tables(data_pack)
    rounded = moved(tables.candidates, lambda xyz: np.round(xyz / grid_mm) * grid_mm)
    assert cpm(tables, candidates=rounded) == pytest.approx(value, abs=0.01)


def test_random_jitter_costs_what_was_measured(data_pack: Path) -> None:
    """An error of 1 mm RMS in space gives .827."""
    tables, generator = reference_tables(data_pack), np.random.default_rng(0)
    jittered = moved(tables.candidates, lambda xyz: xyz + generator.normal(0, 1 / np.sqrt(3), xyz.shape))
    assert cpm(tables, candidates=jittered) == pytest.approx(0.827, abs=0.004)


@pytest.mark.parametrize(("most", "value"), [(5, 0.788), (10, 0.838), (20, 0.842)])
def test_fewer_marks_per_scan_cost_what_was_measured(data_pack: Path, most: int, value: float) -> None:
    """The best 20 of a scan are enough for this detector, the best 5 are not."""
    tables, per_scan = reference_tables(data_pack), defaultdict(list)
    for series, mark in tables.candidates:
        per_scan[series].append(mark)
    best = [(s, m) for s, found in per_scan.items() for m in sorted(found, key=lambda m: -m.score)[:most]]
    assert cpm(tables, candidates=best) == pytest.approx(value, abs=6e-4)


def test_ras_positions_are_noticed(data_pack: Path) -> None:
    """With x and y negated nothing is found, and a note names the cause; the original has no such note."""
    tables = reference_tables(data_pack)
    reference = tables.annotations, tables.excluded, tables.series_list
    mirrored = moved(tables.candidates, lambda xyz: xyz * (-1, -1, 1))
    result = score_scans(mirrored, *reference)
    assert result.curve.cpm < 0.01
    (note,) = mirror_notes(mirrored, *reference, result)
    assert "1136 nodules would be found" in note
    assert "RAS" in note
    assert mirror_notes(tables.candidates, *reference, reference_scored(data_pack)) == []


def test_one_fold_is_judged_against_its_own_nodules(data_pack: Path) -> None:
    """Fold 0: its nodules only are the divisor; against all 1,186 the CPM would be a tenth."""
    tables = reference_tables(data_pack)
    with (data_pack / "luna16" / "luna16_subsets.csv").open(newline="") as stream:
        header, *rows = csv.reader(stream)
    fold = [row[0] for row in rows if row[header.index("subset")] == "0"]
    own = {nodule.series_uid for nodule in tables.annotations} & set(fold)
    n_own = sum(nodule.series_uid in own for nodule in tables.annotations)
    marks = [(series, mark) for series, mark in tables.candidates if series in set(fold)]
    result = score_scans(marks, tables.annotations, tables.excluded, fold)
    assert (result.n_scans, len(result.nodule_scores)) == (89, n_own)
    assert 0.75 < result.curve.cpm < 0.90
    assert len(result.nodules.unlisted) == 1186 - n_own
    wrong = score_scans(marks, tables.annotations, tables.excluded, tables.series_list)
    assert wrong.curve.cpm < 0.12


def test_a_result_against_itself_and_against_a_worse_one(data_pack: Path) -> None:
    """Paired: exactly zero against itself; .145 against the same marks shifted by 1 mm, and the interval is narrow."""
    tables, ours = reference_tables(data_pack), reference_scored(data_pack)
    shifted = moved(tables.candidates, lambda xyz: xyz + 1.0)
    worse = score_scans(shifted, tables.annotations, tables.excluded, tables.series_list)
    draws = draw_scans(nodules_per_scan(ours), 200, seed=0)
    same = paired_difference(ours, ours, draws)
    assert (same.difference, same.ci95, same.share_above_zero) == (0.0, (0.0, 0.0), 0.0)
    paired = paired_difference(ours, worse, draws)
    assert paired.difference == pytest.approx(0.841966 - 0.697302, abs=1e-6)
    assert paired.ci95[0] < paired.difference < paired.ci95[1]
    assert paired.share_above_zero == 1.0
    alone = interval(bootstrap_sensitivity(ours, draws.weights).mean(axis=1))
    assert paired.ci95[1] - paired.ci95[0] < alone[1] - alone[0]


def test_scores_only_matter_by_their_order(data_pack: Path) -> None:
    """Any rising function of the scores leaves the curve as it is."""
    tables = reference_tables(data_pack)
    logits = [(series, replace(mark, score=mark.score**3)) for series, mark in tables.candidates]
    assert cpm(tables, candidates=logits) == pytest.approx(0.841966, abs=5e-7)
