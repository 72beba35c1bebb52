"""A report on patches as plain JSON values and as the rows of tables; what is not known is null or empty."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from napari_alnct.evaluation.bootstrap import GENERATOR
from napari_alnct.evaluation.calibration import Reliability
from napari_alnct.evaluation.curve_intervals import GRID, Interval, sample_interval
from napari_alnct.evaluation.patch_report import Estimate, PatchGroup, PatchReport, ScoredPatches

Value = float | str
ROC_COLUMNS = ("false_positive_rate", "sensitivity", "threshold")
PR_COLUMNS = ("recall", "precision", "threshold")
BAND_COLUMNS = ("x", "sensitivity_lower", "sensitivity_upper", "precision_lower", "precision_upper")
CALIBRATION_COLUMNS = ("mean_score", "nodule_share", "lower", "upper", "n_patches", "n_nodule_patches")
GROUP_COLUMNS = (
    *("group", "n_patches", "n_nodules", "n_scans", "measure", "value", "lower", "upper"),
    *("auc", "auc_lower", "auc_upper"),
)


def as_json(report: PatchReport) -> dict[str, Any]:
    """Give a report as plain JSON values.

    Parameters
    ----------
    report : PatchReport
        Report.

    Returns
    -------
    dict
        Each figure stands beside its interval, ``..._ci95``.
    """
    confusion = report.confusion
    return {
        **_estimate("auc", report.auc),
        "auc_ci95_method": _method(report),
        "auc_delong_ci95": _pair(report.auc_delong_ci95),
        **_estimate("average_precision", report.average_precision),
        "counts": _counts(report.patches),
        "operating_point": {
            "threshold": _finite(report.point.threshold),
            "rule": report.point.rule,
            "how": report.point.how,
            "is_optimistic": report.point.is_optimistic,
            "true_positives": confusion.true_positives,
            "false_positives": confusion.false_positives,
            "true_negatives": confusion.true_negatives,
            "false_negatives": confusion.false_negatives,
            **{key: value for name, share in report.shares.items() for key, value in _estimate(name, share).items()},
            "f1": _finite(confusion.f1),
        },
        "calibration": _calibration(report),
        "by_size": [_group(group, "sensitivity") for group in report.by_size],
        "by_kind": [_group(group, "specificity") for group in report.by_kind],
        "bootstrap": _bootstrap(report),
        "notes": list(report.notes),
    }


def roc_rows(report: PatchReport) -> Iterator[tuple[Value, ...]]:
    """Give the corners of the ROC curve, `ROC_COLUMNS`; the first threshold is inf.

    Parameters
    ----------
    report : PatchReport
        With both classes.

    Yields
    ------
    tuple
    """
    curve = report.patches.curve
    for k in curve.corners():
        yield float(curve.false_positive_rate[k]), float(curve.sensitivity[k]), float(curve.thresholds[k])


def pr_rows(report: PatchReport) -> Iterator[tuple[Value, ...]]:
    """Give the precision-recall curve, `PR_COLUMNS`, at each score that a nodule has.

    Parameters
    ----------
    report : PatchReport
        With both classes.

    Yields
    ------
    tuple
    """
    curve = report.patches.curve
    for k in np.flatnonzero(np.diff(curve.hits)) + 1:
        yield float(curve.sensitivity[k]), float(curve.precision[k]), float(curve.thresholds[k])


def band_rows(report: PatchReport) -> Iterator[tuple[Value, ...]]:
    """Give the 95 % bands, `BAND_COLUMNS`: of the sensitivity at false-positive rate x, of the precision at recall x.

    Parameters
    ----------
    report : PatchReport
        With bootstrap samples; else nothing is given.

    Yields
    ------
    tuple
    """
    if report.samples is None:
        return
    for k, x in enumerate(GRID):
        ends = (sample_interval(samples[:, k]) for samples in (report.samples.sensitivity, report.samples.precision))
        yield float(x), *(value for end in ends for value in (end or ("", "")))


def calibration_rows(report: PatchReport) -> Iterator[tuple[Value, ...]]:
    """Give the reliability curve, `CALIBRATION_COLUMNS`, bins of equal mass.

    Parameters
    ----------
    report : PatchReport
        Report.

    Yields
    ------
    tuple
    """
    curve = report.reliability
    for k, ci95 in enumerate(report.bin_ci95):
        yield float(curve.mean_score[k]), float(curve.share[k]), *_ends(ci95), int(curve.n[k]), int(curve.n_positive[k])


def group_rows(report: PatchReport) -> Iterator[tuple[Value, ...]]:
    """Give sizes and kinds, `GROUP_COLUMNS`.

    Parameters
    ----------
    report : PatchReport
        Report.

    Yields
    ------
    tuple
    """
    for measure, groups in (("sensitivity", report.by_size), ("specificity", report.by_kind)):
        for group in groups:
            shown = ["" if math.isnan(e.value) else e.value for e in (group.rate, group.auc)]
            rate, area = ((value, *_ends(e.ci95)) for value, e in zip(shown, (group.rate, group.auc), strict=True))
            yield group.label, group.n_patches, group.n_nodules, group.n_scans, measure, *rate, *area


def _method(report: PatchReport) -> str:
    if report.draws is None:
        return "none"
    return f"percentile interval of a bootstrap over {report.patches.cluster_unit}s (cluster bootstrap)"


def _counts(patches: ScoredPatches) -> dict[str, int | float]:
    curve, nodules = patches.curve, patches.nodule
    return {
        "patches": len(patches.labels),
        "nodule_patches": curve.n_positive,
        "other_patches": curve.n_negative,
        "nodules": len(np.unique(nodules[nodules >= 0])),
        "scans": patches.n_scans,
        f"{patches.cluster_unit}s": patches.n_clusters,
        "nodule_share": curve.n_positive / len(patches.labels),
    }


def _calibration(report: PatchReport) -> dict[str, Any]:
    prevalence = report.patches.curve.n_positive / len(report.patches.labels)
    return {
        **_estimate("brier", report.brier),
        "brier_of_constant_score": prevalence * (1 - prevalence),
        "ece_equal_mass": report.reliability.ece,
        "ece_equal_width": report.reliability_equal_width.ece,
        "bins_equal_mass": _bins(report.reliability, report.bin_ci95),
        "bins_equal_width": _bins(report.reliability_equal_width, None),
    }


def _bins(curve: Reliability, ci95: tuple[Interval | None, ...] | None) -> list[dict[str, Any]]:
    bins: list[dict[str, Any]] = [
        {"mean_score": float(mean), "nodule_share": float(share), "n_patches": int(n)}
        for mean, share, n in zip(curve.mean_score, curve.share, curve.n, strict=True)
    ]
    if ci95 is not None:
        bins = [one | {"nodule_share_ci95": _pair(pair)} for one, pair in zip(bins, ci95, strict=True)]
    return bins


def _group(group: PatchGroup, measure: str) -> dict[str, Any]:
    return {
        "label": group.label,
        "n_patches": group.n_patches,
        "n_nodules": group.n_nodules,
        "n_scans": group.n_scans,
        **_estimate(measure, group.rate),
        **_estimate("auc", group.auc),
    }


def _bootstrap(report: PatchReport) -> dict[str, Any] | None:
    draws, unit = report.draws, report.patches.cluster_unit
    if draws is None:
        return None
    return {
        "samples": len(draws.weights),
        "seed": draws.seed,
        "unit": f"{unit}: all patches of a {unit} are drawn together, with replacement",
        "generator": GENERATOR.replace("n_scans", f"n_{unit}s"),
        "interval": "sorted per-sample values number floor(0.025 n) and floor(0.975 n), counted from 0; for a share "
        f"of 0 or 1, where all samples agree, Wilson's interval with the {unit}s that count as trials",
        "n_redrawn": draws.n_redrawn,
    }


def _estimate(name: str, estimate: Estimate) -> dict[str, Any]:
    return {name: _finite(estimate.value), f"{name}_ci95": _pair(estimate.ci95)}


def _pair(ci95: Interval | None) -> list[float] | None:
    return list(ci95) if ci95 else None


def _ends(ci95: Interval | None) -> tuple[Value, Value]:
    return ci95 if ci95 else ("", "")


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
