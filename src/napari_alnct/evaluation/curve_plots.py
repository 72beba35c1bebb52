"""Pictures of scored patches as PNG: ROC, precision-recall, confusion matrix, calibration, groups.

Drawn without a display and without pyplot's global state, in the style of `plots`. Shaded
bands and whiskers are 95 % intervals; the diamond is the operating point.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_alnct.evaluation.curve_intervals import GRID, Interval
from napari_alnct.evaluation.patch_report import Estimate, PatchGroup, PatchReport, ScoredPatches
from napari_alnct.evaluation.plots import DOTS_PER_INCH, OURS, SIZE_INCHES, THEIRS, shown_name
from napari_alnct.evaluation.plots import GRID as LINES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FloatArray = NDArray[np.float64]
QUIET = "#6b6b6b"
BAND_ALPHA = 0.18
RULES = {"fixed": "given", "youden": "Youden", "sens": "by sensitivity", "spec": "by specificity"}
CELLS = (("true_positives", "false_negatives"), ("false_positives", "true_negatives"))  # rows: nodule, none


def roc_png(report: PatchReport, name: str) -> bytes:
    """Give the ROC curve with its band and the operating point.

    Parameters
    ----------
    report : PatchReport
        With both classes.
    name : str
        What to call the model.

    Returns
    -------
    bytes
        PNG, 1080 x 810 pixels.
    """
    figure, axes = _new()
    curve, corners = report.patches.curve, report.patches.curve.corners()
    axes.plot([0, 1], [0, 1], color=QUIET, linestyle=":", linewidth=1.2, label="chance: AUC 0.5")
    if report.samples is not None:
        low, high = _band(report.samples.sensitivity)
        axes.fill_between(GRID, low, high, color=OURS, alpha=BAND_ALPHA, linewidth=0, label=_band_label(report))
    label = f"{shown_name(name)}: AUC {_with_ci(report.auc)}"
    axes.plot(curve.false_positive_rate[corners], curve.sensitivity[corners], color=OURS, linewidth=1.8, label=label)
    sensitivity, specificity = report.shares["sensitivity"], report.shares["specificity"]
    words = f"sensitivity {sensitivity.value:.3f}, specificity {specificity.value:.3f}"
    _mark(axes, report, 1 - specificity.value, sensitivity.value, words)
    _dress(axes, "1 - specificity (false-positive rate)", "Sensitivity", "ROC", report)
    axes.legend(loc="lower right", fontsize=9)
    return _png(figure)


def pr_png(report: PatchReport, name: str) -> bytes:
    """Give the precision-recall curve with its band and the operating point.

    Parameters
    ----------
    report : PatchReport
        With both classes.
    name : str
        What to call the model.

    Returns
    -------
    bytes
        PNG, 1080 x 810 pixels.
    """
    figure, axes = _new()
    curve = report.patches.curve
    share = curve.n_positive / (curve.n_positive + curve.n_negative)
    axes.axhline(share, color=QUIET, linestyle=":", linewidth=1.2, label=f"chance: share of nodules {share:.3f}")
    if report.samples is not None:
        low, high = _band(report.samples.precision)
        axes.fill_between(GRID, low, high, color=OURS, alpha=BAND_ALPHA, linewidth=0, label=_band_label(report))
    label = f"{shown_name(name)}: average precision {_with_ci(report.average_precision)}"
    first = int(np.argmax(curve.hits > 0))  # above it nothing is recalled
    recall, precision = curve.sensitivity[first:], curve.precision[first:]
    axes.step([0, *recall], [precision[0], *precision], where="pre", color=OURS, linewidth=1.8, label=label)
    sensitivity, ppv = report.shares["sensitivity"].value, report.shares["ppv"].value
    _mark(axes, report, sensitivity, ppv, f"recall {sensitivity:.3f}, precision {ppv:.3f}")
    _dress(axes, "Recall (sensitivity)", "Precision (PPV)", "Precision-recall", report)
    axes.legend(loc="lower left", fontsize=9)
    return _png(figure)


def confusion_png(report: PatchReport, name: str) -> bytes:
    """Give the confusion matrix at the operating point, with counts, shares of the row and the derived shares.

    Parameters
    ----------
    report : PatchReport
        Report.
    name : str
        What to call the model.

    Returns
    -------
    bytes
        PNG, 1080 x 810 pixels.
    """
    from matplotlib.colors import LinearSegmentedColormap

    figure, axes = _new()
    counts = np.array([[getattr(report.confusion, cell) for cell in row] for row in CELLS])
    totals = counts.sum(axis=1, keepdims=True)
    of_row = np.divide(counts, totals, out=np.zeros(counts.shape), where=totals > 0)
    axes.imshow(of_row, cmap=LinearSegmentedColormap.from_list("white to ours", ["#ffffff", OURS]), vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(counts):
        share = f"\n{100 * of_row[row, column]:.1f} % of the row" if totals[row, 0] else "\nno such patches"
        colour = "white" if of_row[row, column] > 0.55 else "black"
        axes.text(column, row, f"{count}{share}", ha="center", va="center", color=colour, fontsize=13)
    axes.set_xticks([0, 1], ["called nodule", "not called"])
    axes.set_yticks([0, 1], [f"nodule\n(n = {totals[0, 0]})", f"no nodule\n(n = {totals[1, 0]})"])
    axes.tick_params(length=0, labelsize=11)
    axes.set_xlabel(_shares_text(report), fontsize=10, labelpad=10)
    axes.set_title(f"{shown_name(name)}: {_point_text(report)}\n{_n_text(report.patches)}", fontsize=11)
    return _png(figure)


def calibration_png(report: PatchReport, name: str) -> bytes:
    """Give the reliability curve above the histogram of the scores.

    Parameters
    ----------
    report : PatchReport
        Report.
    name : str
        What to call the model.

    Returns
    -------
    bytes
        PNG, 1080 x 810 pixels.
    """
    figure = _empty_figure()
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    curve = report.reliability
    upper.plot([0, 1], [0, 1], color=QUIET, linestyle=":", linewidth=1.2, label="perfectly calibrated")
    upper.errorbar(
        curve.mean_score,
        curve.share,
        yerr=_whiskers(curve.share.tolist(), report.bin_ci95),
        fmt="o-",
        color=OURS,
        linewidth=1.6,
        markersize=5,
        capsize=3,
        elinewidth=1.2,
        label=f"{len(curve.n)} bins of equal mass" + (", 95 % CI" if report.draws else ""),
    )
    _dress(upper, "", "Share of nodules", "Calibration", report)
    figures = f"ECE {curve.ece:.3f}, Brier score {_with_ci(report.brier)}"
    upper.set_title(f"Calibration: {_n_text(report.patches)}\n{shown_name(name)}: {figures}", fontsize=11)
    upper.legend(loc="upper left", fontsize=9)
    _histogram(lower, report.patches)
    return _png(figure)


def by_size_png(report: PatchReport, name: str) -> bytes:
    """Give sensitivity and AUC by diameter, and specificity by kind, with intervals and numbers.

    Parameters
    ----------
    report : PatchReport
        Report.
    name : str
        What to call the model.

    Returns
    -------
    bytes
        PNG, 1080 x 810 pixels.
    """
    figure = _empty_figure()
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=[len(report.by_size), max(3, len(report.by_kind))])
    _draw_groups(left, report.by_size, "Nodules by diameter (sensitivity)")
    _draw_groups(right, report.by_kind, "Others by kind (specificity)")
    left.set_ylabel("Share called rightly; AUC")
    figure.suptitle(f"{shown_name(name)}: {_point_text(report)}\n{_n_text(report.patches)}", fontsize=11)
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=9)
    return _png(figure)


def _draw_groups(axes: Axes, groups: tuple[PatchGroup, ...], title: str) -> None:
    """Draw the share called rightly (circles) and the AUC (squares) of each group."""
    places = np.arange(len(groups))
    for estimates, step, marker, colour, label in (
        ([group.rate for group in groups], -0.1, "o", OURS, "called rightly at the operating point, 95 % CI"),
        ([group.auc for group in groups], 0.1, "s", THEIRS, "AUC against all of the other class, 95 % CI"),
    ):
        values = [estimate.value for estimate in estimates]
        whiskers = _whiskers(values, [estimate.ci95 for estimate in estimates])
        axes.errorbar(places + step, values, whiskers, fmt=marker, color=colour, capsize=3, elinewidth=1.2, label=label)
    axes.set_xticks(places, [_group_label(group) for group in groups], fontsize=8.5)
    axes.set_xlim(-0.6, max(len(groups), 1) - 0.4)
    _axis(axes)
    axes.set_title(title, fontsize=10)
    if not any(group.n_patches for group in groups):
        axes.text(0.5, 0.5, "no such patches", ha="center", va="center", transform=axes.transAxes, color=QUIET)


def _histogram(axes: Axes, patches: ScoredPatches) -> None:
    """Draw how many patches have which score, by class, on a logarithmic axis of counts."""
    bins = [k / 20 for k in range(21)]
    kinds = ((patches.is_positive, OURS, "nodule", "-"), (~patches.is_positive, THEIRS, "no nodule", "--"))
    for kind, colour, label, style in kinds:
        if kind.any():
            label = f"{label} ({int(kind.sum())})"
            axes.hist(patches.scores[kind], bins, histtype="step", color=colour, label=label, linestyle=style, lw=1.5)
    axes.set_yscale("log")
    axes.set_ylim(bottom=0.7)
    axes.grid(color=LINES, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.set_xlabel("Score")
    axes.set_ylabel("Patches")
    axes.legend(loc="upper center", fontsize=8.5, ncols=2)


def _group_label(group: PatchGroup) -> str:
    nodules = f"\n{_counted(group.n_nodules, 'nodule')}" if group.n_nodules else ""
    return f"{group.label}\nn = {group.n_patches}{nodules}\n{_counted(group.n_scans, 'scan')}"


def _counted(n: int, what: str) -> str:
    return f"{n} {what}{'' if n == 1 else 's'}"


def _mark(axes: Axes, report: PatchReport, x: float, y: float, words: str) -> None:
    if math.isnan(x) or math.isnan(y):
        return
    label = f"{_point_text(report)}\n{words}"
    axes.plot([x], [y], "D", color=THEIRS, markersize=8, markeredgecolor="white", label=label, clip_on=False, zorder=5)


def _point_text(report: PatchReport) -> str:
    point = report.point
    shown = f"threshold {point.threshold:.3f}" if math.isfinite(point.threshold) else "no threshold"
    return f"{shown} ({RULES.get(point.rule, point.rule)}{', optimistic' if point.is_optimistic else ''})"


def _shares_text(report: PatchReport) -> str:
    names = (("sensitivity", "specificity"), ("ppv", "npv"), ("accuracy",))
    shown = {"ppv": "PPV", "npv": "NPV"}
    rows = ("     ".join(f"{shown.get(n, n)} {_with_ci(report.shares[n])}" for n in row) for row in names)
    return "\n".join(rows)


def _n_text(patches: ScoredPatches) -> str:
    counts = f"{patches.curve.n_positive} nodule and {patches.curve.n_negative} other patches"
    return f"{counts} of {_counted(patches.n_scans, 'scan')}"


def _with_ci(estimate: Estimate) -> str:
    if math.isnan(estimate.value):
        return "undefined"
    ci95 = f" (95 % CI {estimate.ci95[0]:.3f} to {estimate.ci95[1]:.3f})" if estimate.ci95 else ""
    return f"{estimate.value:.3f}{ci95}"


def _band_label(report: PatchReport) -> str:
    n = len(report.draws.weights) if report.draws else 0
    return f"95 % CI, {n} bootstraps over {report.patches.cluster_unit}s"


def _band(samples: FloatArray) -> FloatArray:
    """Give the two ends of the 95 % interval at each point of the grid, (2, 101)."""
    from napari_alnct.evaluation.bootstrap import interval

    return interval(samples[~np.isnan(samples).any(axis=1)])


def _whiskers(values: Sequence[float], ci95: Sequence[Interval | None]) -> FloatArray:
    """Give the lengths below and above each value, (2, K); 0 where there is no interval."""
    ends = [pair if pair is not None else (value, value) for value, pair in zip(values, ci95, strict=True)]
    return np.array([[max(0.0, v - low), max(0.0, high - v)] for v, (low, high) in zip(values, ends, strict=True)]).T


def _dress(axes: Axes, x: str, y: str, title: str, report: PatchReport) -> None:
    axes.set_xlim(-0.01, 1.01)
    axes.set_xticks([k / 10 for k in range(11)])
    _axis(axes)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.set_title(f"{title}: {_n_text(report.patches)}", fontsize=11)


def _axis(axes: Axes) -> None:
    """Set up a vertical axis of shares."""
    axes.set_ylim(-0.01, 1.03)
    axes.set_yticks([k / 10 for k in range(11)])
    axes.grid(color=LINES, linewidth=0.7)
    axes.set_axisbelow(True)


def _new() -> tuple[Figure, Axes]:
    figure = _empty_figure()
    return figure, figure.add_subplot()


def _empty_figure() -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=SIZE_INCHES, dpi=DOTS_PER_INCH, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": "napari-alnct"})
    return buffer.getvalue()
