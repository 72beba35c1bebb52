"""From records to figures, intervals, targets and a choice of map: records made by hand. CPU: about 3 s."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from napari_alnct.evaluation.explanation_baselines import BASELINES, CENTRE
from napari_alnct.evaluation.explanation_checks import AREAS, RULES, checks_of
from napari_alnct.evaluation.explanation_figures import FALSE_POSITIVE, NODULE, ScanSample, column
from napari_alnct.evaluation.explanation_table import MapRow, evaluation_table, preferred_row

GOOD, POOR = "hirescam @ fine", "gradcam @ fine"
ROWS = (
    MapRow(name=GOOD, method="hirescam", layer="fine", stride=4),
    MapRow(name=POOR, method="gradcam", layer="fine", stride=4),
    *(MapRow(name=name, method=name) for name in BASELINES),
)


def map_numbers(quality: float, jog: float) -> dict[str, Any]:
    """Give what is measured for a map: 1 is perfect, 0 knows nothing."""
    return {
        "pointing": float(quality > 0.5),
        "energy": 0.6 * quality,
        "chance": 0.01,
        "auprc": quality,
        "top_k_iou": quality,
        "peak_error_mm": 20 * (1 - quality) + jog,
        "spread": 10 * (1 - quality) + 1,
        **{area: (1 - quality if area.startswith("deletion") else quality) + jog for area in AREAS},
        "top_k_drop": 4 * quality,
        "road": quality - 0.1 + jog,
        "rho_steps": [0.8, 0.4, 0.1],
        "rho_end": 0.1,
        "ssim_end": 0.3,
        "own": 9.0,
        "other": 2.0,
        "fading_map": [0.2, 0.5, 1.0],
        "noise_map": [0.3, 0.1, 0.2],
        "rho_noise": 0.95,
        "follows_shift": 1.0,
        "rho_occlusion": quality,
        "r_occlusion": quality,
    }


def nodule(k: int, diameter_mm: float = 8.0, kind: str = "solid") -> dict[str, Any]:
    jog = 0.001 * k  # no two alike, so that the signed-rank test is exact
    rows = {GOOD: map_numbers(0.9, jog), POOR: map_numbers(0.45, jog)}
    rows |= {name: map_numbers(0.1, 0.0) for name in BASELINES}
    values = {
        "threshold_iou": 0.7, "mask_drop": 5.0, "lung_drop": 0.2, "mask_drop_beside": 5.0,
        "fading_score": [1.0, 2.0, 4.0], "noise_score": [0.6, 0.2, 0.4],
    }  # fmt: skip
    return {
        "scan": f"scan {k % 5}", "sort": NODULE, "candidate": str(k), "diameter_mm": diameter_mm, "kind": kind,
        "values": values, "rows": rows,
    }  # fmt: skip


RECORDS = [nodule(k, 4.0 if k % 3 == 0 else 8.0) for k in range(15)]


def found(checks: list[Any], label: str) -> Any:
    return next(check for check in checks if check.label == label)


def test_figures_by_hand() -> None:
    """Mean 2, median 1 and sum over sum 6/3 of three numbers; what is missing or NaN is not counted."""
    records = [{"scan": "a"}, {"scan": "b"}, {"scan": "b"}, {"scan": "c"}]
    sample = ScanSample.draw(records, 0)
    values: list[Any] = [1.0, 1.0, 4.0, None]
    assert sample.figure([values], "mean").value == 2
    assert sample.figure([values], "median").value == 1
    assert sample.figure([values, [1.0, 1.0, 1.0, 1.0]], "ratio").value == 2
    assert sample.figure([[1.0, float("nan"), 3.0, None]], "mean").n == 2
    assert sample.figure([[None] * 4], "mean").value is None


def test_intervals_draw_whole_scans() -> None:
    """Two scans whose candidates agree within: the mean is 0, 1 or 1/2; one scan alone: the interval is a point."""
    records = [{"scan": scan} for scan in "aaaabbbb"]
    values = [0.0] * 4 + [1.0] * 4
    assert ScanSample.draw(records, 400).figure([values], "mean").ci95 == (0, 1)
    alone = ScanSample.draw([{"scan": "a"}] * 8, 400).figure([values], "mean")
    assert alone.ci95 == (0.5, 0.5)


def test_a_missing_row_is_not_a_number() -> None:
    """A map that was not made for a record gives None there."""
    records = [{"rows": {"x": {"energy": 1.0}}, "values": {"a": 2.0}}, {"rows": {}, "values": {}}]
    assert column(records, "x", "energy") == [1.0, None]
    assert column(records, "", "a") == [2.0, None]


def test_targets_are_those_of_the_design() -> None:
    """Fixed before measuring: a change of a target must be a change of this test."""
    targets = [(rule.id, rule.target) for rule in RULES if rule.target]
    assert targets == [
        ("L1", ">= 0.85"), ("L1", ">= 0.7"), ("L2", ">= 0.35"), ("L2", ">= 10"), ("L4", "<= 3"), ("L4", "<= 8"),
        ("L5", "<= 4"), ("F2", ">= 0.6"), ("F2", "<= 0.1"), ("F3", "> 0, with its interval"), ("F4", "< 0.2"),
        ("F4", "< 0.2"), ("F5", ">= 3"), ("F6", ">= 0.5"), ("F6", ">= 0.5"), ("F7", ">= 0.9"), ("F7", ">= 0.9"),
        ("F8", ">= 0.5"), ("F9", ">= 0.5"),
    ]  # fmt: skip


def test_a_good_map_meets_its_targets() -> None:
    """Every check that was run passes; F8 and the label-shuffled model, which were not, say nothing."""
    checks = checks_of(ScanSample.draw(RECORDS, 200), GOOD)
    missed = [check.label for check in checks if check.is_met is False]
    assert missed == []
    assert found(checks, "margin over the centre prior").value == 1
    assert found(checks, "the same, times chance").value == pytest.approx(54)
    assert found(checks, "own over other nodule").value == 4.5
    assert found(checks, "PSC, nodule fading").value == pytest.approx(np.corrcoef([0.2, 0.5, 1], [1, 2, 4])[0, 1])
    for label in ("top-k IoU between seeds", "|rho|, label-shuffled model"):
        assert (found(checks, label).value, found(checks, label).is_met) == (None, None)


def test_the_share_without_a_reliable_map_follows_the_badge() -> None:
    """Pearson's r below 0.2, not rho; a constant map (NaN) is unreliable; what was not run is not counted."""
    numbers = [(0.19, 0.9), (0.2, 0.0), (0.7, -0.3), (float("nan"), 0.0), (None, None)]
    records = [
        {**nodule(k), "rows": {GOOD: {"r_occlusion": r, "rho_occlusion": rho}}} for k, (r, rho) in enumerate(numbers)
    ]
    share = found(checks_of(ScanSample.draw(records, 0), GOOD), "share without a reliable map, Pearson's r below 0.2")
    assert (share.value, share.n, share.target) == (0.5, 4, "")


def test_small_nodules_have_a_row_of_their_own() -> None:
    """Of 15 nodules 5 are below 6 mm."""
    checks = checks_of(ScanSample.draw(RECORDS, 0), GOOD)
    assert found(checks, "the same, 3 to 6 mm").n == 5


def test_a_poor_map_misses() -> None:
    """Its maximum is elsewhere, and its peak 11 mm off."""
    checks = checks_of(ScanSample.draw(RECORDS, 0), POOR)
    assert found(checks, "maximum in the nodule").is_met is False
    assert found(checks, "peak error, median (mm)").is_met is False


def test_a_map_must_beat_every_baseline_in_every_test() -> None:
    """12 paired tests of 15 nodules; equal to one baseline in one area, the row is missed and says where."""
    checks = checks_of(ScanSample.draw(RECORDS, 0), GOOD)
    best = found(checks, "largest p against the baselines")
    assert best.is_met is True
    assert best.value == pytest.approx(2**-15)
    records = [nodule(k) for k in range(15)]
    for record in records:
        record["rows"][CENTRE]["insertion lung"] = record["rows"][GOOD]["insertion lung"]
    tied = found(checks_of(ScanSample.draw(records, 0), GOOD), "largest p against the baselines")
    assert tied.is_met is False
    assert tied.note == "11 of 12 tests passed; missed: insertion lung against centre prior"


def test_few_nodules_cannot_pass_the_paired_test() -> None:
    """With 6 nodules the smallest possible p is 1/64: missed, whatever the map."""
    best = found(checks_of(ScanSample.draw(RECORDS[:6], 0), GOOD), "largest p against the baselines")
    assert best.value == pytest.approx(1 / 64)
    assert best.is_met is False
    assert best.note == "0 of 12 tests passed; 6 pairs cannot reach it: the smallest possible p is 0.016"


def test_randomisation_must_bring_likeness_down_step_by_step() -> None:
    """0.8, 0.4, 0.1 falls; 0.2, 0.6, 0.1 rises by 0.4 on the way."""
    assert found(checks_of(ScanSample.draw(RECORDS, 0), GOOD), "|rho| falls from step to step").is_met is True
    records = [nodule(k) for k in range(4)]
    for record in records:
        record["rows"][GOOD]["rho_steps"] = [0.2, -0.6, 0.1]
    risen = found(checks_of(ScanSample.draw(records, 0), GOOD), "|rho| falls from step to step")
    assert risen.is_met is False
    assert risen.value == pytest.approx(0.4)


def test_the_table_counts_and_groups() -> None:
    """15 nodules of 5 scans, one false positive; groups by size and type with their n; the fine good map preferred."""
    decoy = {
        "scan": "scan 0", "sort": FALSE_POSITIVE, "candidate": "decoy 1", "diameter_mm": 0.0, "kind": "no nodule",
        "values": {}, "rows": {GOOD: {"has_support": 1.0, "strongest": 3.0, "peak_distance_mm": 2.0}},
    }  # fmt: skip
    table = evaluation_table([*RECORDS, decoy], ROWS, n_samples=100)
    assert (table["n_nodules"], table["n_false_positives"], table["n_scans"]) == (15, 1, 5)
    good = table["rows"][0]
    assert {group["group"]: group["L1"]["n"] for group in good["subgroups"]} == {
        "3 to 6 mm": 5,
        "6 to 10 mm": 10,
        "solid": 15,
    }
    assert good["false positives"]["maximum within 5 mm"]["value"] == 1
    assert table["preferred"]["name"] == GOOD
    assert [row["is_baseline"] for row in table["rows"]] == [False, False, True, True, True]
    assert good["n_met"] == good["n_with_target"] > 15


def test_a_map_that_fails_randomisation_is_not_preferred() -> None:
    """The better map keeps its likeness when all weights are gone, so the other one is chosen."""
    records = [nodule(k) for k in range(15)]
    for record in records:
        record["rows"][GOOD]["rho_end"] = 0.6
    assert evaluation_table(records, ROWS, n_samples=0)["preferred"]["name"] == POOR


def test_coarse_maps_and_baselines_are_never_preferred() -> None:
    """Cells of 8 voxels are too coarse for a default; with nothing else there is no choice."""
    coarse = [MapRow(name=GOOD, method="hirescam", layer="deep", stride=8), *ROWS[2:]]
    assert evaluation_table(RECORDS, coarse, n_samples=0)["preferred"]["name"] == ""
    assert preferred_row([])["name"] == ""
