"""Everything that is said about one FROC result: figures, intervals, sizes, comparison, notes.

The *band* is the 95 % interval of the sensitivity at false-positive rates from 1/8
to 8 in steps of a twentieth of a doubling; the seven official rates are among them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_alnct.evaluation.bootstrap import (
    GENERATOR,
    PairedDifference,
    ScanDraws,
    bootstrap_sensitivity,
    draw_scans,
    interval,
    nodules_per_scan,
    paired_difference,
)
from napari_alnct.evaluation.by_size import SizeGroup, by_size
from napari_alnct.evaluation.froc import FP_RATES
from napari_alnct.evaluation.scoring import ScoredScans

STEPS_PER_DOUBLING = 20
BAND_RATES = tuple(2.0 ** (k / STEPS_PER_DOUBLING) for k in range(-3 * STEPS_PER_DOUBLING, 3 * STEPS_PER_DOUBLING + 1))
OFFICIAL = slice(None, None, STEPS_PER_DOUBLING)  # the seven official rates among them

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Uncertainty:
    """What the bootstrap over scans says.

    ``cpm_ci95`` (2,); ``cpms`` (B,): CPM of each sample; ``mean``, ``lower``, ``upper``: at `BAND_RATES`.
    """

    draws: ScanDraws
    cpms: FloatArray
    cpm_ci95: tuple[float, float]
    mean: FloatArray
    lower: FloatArray
    upper: FloatArray


@dataclass(frozen=True, eq=False)
class Comparison:
    """Another result on the same scans; ``paired`` is None without bootstrap. Differences are ours minus theirs."""

    name: str
    scored: ScoredScans
    difference: float
    paired: PairedDifference | None


@dataclass(frozen=True, eq=False)
class FrocReport:
    """One judged result; `uncertainty` is None without bootstrap."""

    scored: ScoredScans
    groups: tuple[SizeGroup, ...]
    uncertainty: Uncertainty | None
    comparison: Comparison | None
    notes: tuple[str, ...]


def judge(
    scored: ScoredScans,
    *,
    n_samples: int = 1000,
    seed: int = 0,
    other: ScoredScans | None = None,
    other_name: str = "",
    notes: Sequence[str] = (),
) -> FrocReport:
    """Give the report of a result.

    Parameters
    ----------
    scored : ScoredScans
        Outcomes of all listed scans.
    n_samples : int
        Bootstrap samples; 0 for none.
    seed : int
        Of the bootstrap.
    other : ScoredScans, optional
        Another result on the same list of scans, to compare with.
    other_name : str
        What to call it.
    notes : sequence of str
        Sentences to hand on.

    Returns
    -------
    FrocReport
    """
    uncertainty = _uncertainty(scored, n_samples, seed) if n_samples else None
    comparison = None
    if other is not None:
        paired = paired_difference(scored, other, uncertainty.draws, uncertainty.cpms) if uncertainty else None
        comparison = Comparison(other_name, other, scored.curve.cpm - other.curve.cpm, paired)
    return FrocReport(scored, by_size(scored), uncertainty, comparison, tuple(notes))


def as_json(report: FrocReport) -> dict[str, Any]:
    """Give a report as plain JSON values; what is not known is null.

    Parameters
    ----------
    report : FrocReport
        Report.

    Returns
    -------
    dict
        Rates are false positives per scan; lists follow ``fp_rates``.
    """
    scored, curve, sure = report.scored, report.scored.curve, report.uncertainty
    ci95 = np.stack([sure.lower[OFFICIAL], sure.upper[OFFICIAL]], axis=1).tolist() if sure else None
    return {
        "fp_rates": list(FP_RATES),
        "sensitivity": curve.sensitivity_at().tolist(),
        "sensitivity_ci95": ci95,
        "cpm": curve.cpm,
        "cpm_ci95": list(sure.cpm_ci95) if sure else None,
        "thresholds": [_finite(curve.threshold_at(rate)) for rate in FP_RATES],
        **_counts(scored),
        "by_size": [_group(group) for group in report.groups],
        "hit_offset_median_xyz_mm": _median(scored.hit_offsets_xyz_mm),
        "bootstrap": _bootstrap(sure) if sure else None,
        "compare": _comparison(report.comparison) if report.comparison else None,
        "notes": list(report.notes),
    }


def _uncertainty(scored: ScoredScans, n_samples: int, seed: int) -> Uncertainty:
    draws = draw_scans(nodules_per_scan(scored), n_samples, seed)
    samples = bootstrap_sensitivity(scored, draws.weights, BAND_RATES)
    cpms = samples[:, OFFICIAL].mean(axis=1)
    low, high = interval(cpms)
    lower, upper = interval(samples)
    return Uncertainty(draws, cpms, (float(low), float(high)), samples.mean(axis=0), lower, upper)


def _counts(scored: ScoredScans) -> dict[str, int]:
    n_nodules = len(scored.nodule_scores)
    return {
        "true_positives": scored.n_found,
        "false_positives": len(scored.false_positive_scores),
        "false_negatives": n_nodules - scored.n_found,
        "candidates": int(scored.marks_per_scan.sum()),
        "candidates_in_file": scored.n_in_file,
        "candidates_unlisted": scored.n_unlisted_marks,
        "ignored_excluded": sum(m.n_on_excluded for m in scored.matches),
        "ignored_double": sum(m.n_double for m in scored.matches),
        "n_scans": scored.n_scans,
        "n_scans_with_nodules": len(np.unique(scored.nodules.scan)),
        "n_scans_without_marks": int((scored.marks_per_scan == 0).sum()),
        "n_scans_over_the_cap": scored.n_capped_scans,
        "n_nodules": n_nodules,
        "n_annotations_unlisted": len(scored.nodules.unlisted),
    }


def _group(group: SizeGroup) -> dict[str, Any]:
    return {
        "label": group.label,
        "from_mm": group.from_mm,
        "to_mm": _finite(group.to_mm),
        "n_nodules": group.n_nodules,
        "n_found": group.n_found,
        "sensitivity": [_finite(value) for value in group.sensitivity.tolist()],
    }


def _bootstrap(sure: Uncertainty) -> dict[str, Any]:
    return {
        "samples": len(sure.cpms),
        "seed": sure.draws.seed,
        "unit": "scan, drawn with replacement; the divisor stays n_scans",
        "generator": GENERATOR,
        "interval": "sorted per-sample values number floor(0.025 n) and floor(0.975 n), counted from 0",
        "n_redrawn": sure.draws.n_redrawn,
        "cpm_mean": float(sure.cpms.mean()),
        "sensitivity_mean": sure.mean[OFFICIAL].tolist(),
    }


def _comparison(comparison: Comparison) -> dict[str, Any]:
    curve, paired = comparison.scored.curve, comparison.paired
    return {
        "other": comparison.name,
        "other_cpm": curve.cpm,
        "other_sensitivity": curve.sensitivity_at().tolist(),
        "cpm_difference": comparison.difference,
        "cpm_difference_ci95": list(paired.ci95) if paired else None,
        "share_of_samples_above_zero": paired.share_above_zero if paired else None,
    }


def _median(offsets_xyz_mm: FloatArray) -> list[float] | None:
    return np.median(offsets_xyz_mm, axis=0).tolist() if len(offsets_xyz_mm) else None


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
