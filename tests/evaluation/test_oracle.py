"""The judge against a slow second implementation that follows the official script step by step."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import roc_curve

from napari_alnct.core.findings import Candidate, ReferenceNodule
from napari_alnct.evaluation.froc import FP_RATES
from napari_alnct.evaluation.scoring import score_scans

Case = tuple[list[tuple[str, Candidate]], list[ReferenceNodule], list[ReferenceNodule], list[str]]


def random_case(seed: int) -> Case:
    """Give crowded scans: overlapping nodules and findings, coarse scores and positions, one scan over the cap."""
    generator = np.random.default_rng(seed)
    series = [f"s{k}" for k in range(6)]

    def place() -> tuple[float, float, float]:
        x, y, z = generator.integers(0, 8, 3).tolist()
        return float(2 * x), float(2 * y), float(2 * z)

    def finding(uid: str) -> ReferenceNodule:
        diameter = float(generator.choice([-1.0, 4.0, 6.0, 8.0]))
        return ReferenceNodule(series_uid=uid, position_xyz_mm=place(), diameter_mm=diameter)

    def mark() -> Candidate:
        return Candidate(position_xyz_mm=place(), score=float(generator.integers(0, 12)) / 12, diameter_mm=-1.0)

    counts = dict(zip(series, (130, 40, 101, 0, 25, 100), strict=True))
    marks = [(uid, mark()) for uid in series for _ in range(counts[uid])]
    nodules = [finding(uid) for uid in series[:5] for _ in range(generator.integers(0, 4))] + [finding("s0")]
    excluded = [finding(uid) for uid in series for _ in range(4)]
    return marks, nodules, excluded, series


def official(case: Case) -> tuple[np.ndarray, dict[str, int]]:
    """Give the seven sensitivities and the counts, loop by loop."""
    marks, nodules, excluded, series_list = case
    is_true, scores, counts = [], [], dict.fromkeys(("TP", "FN", "FP", "excluded", "double", "kept"), 0)
    for series in series_list:
        own = dict(enumerate(m for s, m in marks if s == series))
        if len(own) > 100:
            limit = sorted((m.score for m in own.values()), reverse=True)[100]
            own = {key: m for key, m in own.items() if m.score > limit}
        counts["kept"] += len(own)
        left = dict(own)
        for table, is_included in ((nodules, True), (excluded, False)):
            for finding in table:
                if finding.series_uid != series:
                    continue
                radius = 5.0 if finding.diameter_mm < 0 else finding.diameter_mm / 2
                hits = [
                    key
                    for key, m in own.items()
                    if sum((a - b) ** 2 for a, b in zip(m.position_xyz_mm, finding.position_xyz_mm, strict=True))
                    < radius**2
                ]
                counts["excluded"] += 0 if is_included else sum(key in left for key in hits)
                for key in hits:
                    left.pop(key, None)
                if not is_included:
                    continue
                counts["double"] += max(0, len(hits) - 1)
                counts["TP" if hits else "FN"] += 1
                if hits:
                    is_true.append(1)
                    scores.append(max(own[key].score for key in hits))
        counts["FP"] += len(left)
        is_true += [0] * len(left)
        scores += [m.score for m in left.values()]
    false_rate, true_rate, _ = roc_curve(is_true, scores)
    errors = false_rate * counts["FP"] / len(series_list)
    found = true_rate * counts["TP"] / (counts["TP"] + counts["FN"])
    return np.interp(FP_RATES, errors, found), counts


@pytest.mark.parametrize("seed", range(25))
def test_random_crowded_scans_agree_with_the_official_procedure(seed: int) -> None:
    """Counts exact and sensitivities to rounding, with ties, overlaps, doubles and more marks than the cap."""
    case = random_case(seed)
    result = score_scans(*case)
    sensitivity, counts = official(case)
    np.testing.assert_allclose(result.curve.sensitivity_at(), sensitivity, atol=1e-12)
    assert {
        "TP": result.n_found,
        "FN": len(result.nodule_scores) - result.n_found,
        "FP": len(result.false_positive_scores),
        "excluded": sum(m.n_on_excluded for m in result.matches),
        "double": sum(m.n_double for m in result.matches),
        "kept": int(result.marks_per_scan.sum()),
    } == counts


@pytest.mark.parametrize("seed", range(5))
def test_the_order_of_rows_does_not_matter(seed: int) -> None:
    """Shuffled marks, findings and list give the same curve."""
    case = random_case(seed)
    generator = np.random.default_rng(seed + 1000)
    shuffled = [[table[k] for k in generator.permutation(len(table))] for table in case]
    first, second = score_scans(*case).curve, score_scans(*shuffled).curve  # type: ignore[arg-type]
    np.testing.assert_array_equal(first.thresholds, second.thresholds)
    np.testing.assert_allclose(first.fp_per_scan, second.fp_per_scan)
    np.testing.assert_allclose(first.sensitivity, second.sensitivity)


def test_moving_the_world_moves_nothing() -> None:
    """The same translation (a power of two, exact) of marks and findings leaves every outcome as it is."""
    marks, nodules, excluded, series = random_case(0)

    def there(xyz: tuple[float, float, float]) -> tuple[float, float, float]:
        return xyz[0] + 256.0, xyz[1] - 128.0, xyz[2] + 512.0

    moved_marks = [(s, replace(m, position_xyz_mm=there(m.position_xyz_mm))) for s, m in marks]
    moved_tables = [[replace(f, position_xyz_mm=there(f.position_xyz_mm)) for f in t] for t in (nodules, excluded)]
    first, second = score_scans(marks, nodules, excluded, series), score_scans(moved_marks, *moved_tables, series)
    np.testing.assert_array_equal(first.nodule_scores, second.nodule_scores)
    np.testing.assert_array_equal(first.false_positive_scores, second.false_positive_scores)
