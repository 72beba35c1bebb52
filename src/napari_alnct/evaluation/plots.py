"""Figures of results as PNG, drawn without a display and without pyplot's global state."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from napari_alnct.evaluation.froc import FP_RATES, RATE_LABELS
from napari_alnct.evaluation.froc_report import BAND_RATES, FrocReport

if TYPE_CHECKING:
    from matplotlib.axes import Axes

OURS, THEIRS, GRID = "#00599c", "#b35900", "#d9d9d9"
LONGEST_NAME, FIRST_UNSURE_GLYPH = 40, 0x250  # the font has all Latin letters
SIZE_INCHES, DOTS_PER_INCH = (7.2, 5.4), 150


def froc_png(report: FrocReport, name: str) -> bytes:
    """Give the FROC curve with its 95 % band over a binary-logarithmic axis of false positives.

    Parameters
    ----------
    report : FrocReport
        Result; with a comparison, its curve is drawn too.
    name : str
        What to call the result.

    Returns
    -------
    bytes
        PNG, 1080 x 810 pixels.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=SIZE_INCHES, dpi=DOTS_PER_INCH, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    _draw_ours(axes, report, name)
    if report.comparison is not None:
        other = report.comparison.scored.curve
        label = f"{shown_name(report.comparison.name)}: CPM {other.cpm:.3f}"
        axes.plot(BAND_RATES, other.sensitivity_at(BAND_RATES), color=THEIRS, linestyle="--", label=label)
        axes.plot(FP_RATES, other.sensitivity_at(), "s", color=THEIRS, markersize=4)
    _dress(axes, report)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": "napari-alnct"})
    return buffer.getvalue()


def _draw_ours(axes: Axes, report: FrocReport, name: str) -> None:
    curve, sure = report.scored.curve, report.uncertainty
    ci95 = f" (95 % CI {sure.cpm_ci95[0]:.3f} to {sure.cpm_ci95[1]:.3f})" if sure else ""
    if sure is not None:
        label = f"95 % CI, {len(sure.cpms)} bootstraps over scans"
        axes.fill_between(BAND_RATES, sure.lower, sure.upper, color=OURS, alpha=0.18, linewidth=0, label=label)
    label = f"{shown_name(name)}: CPM {curve.cpm:.3f}{ci95}"
    axes.plot(BAND_RATES, curve.sensitivity_at(BAND_RATES), color=OURS, linewidth=1.8, label=label)
    values = curve.sensitivity_at()
    axes.plot(FP_RATES, values, "o", color=OURS, markersize=5)
    for rate, value in zip(FP_RATES, values, strict=True):
        below = value > 0.12
        axes.annotate(
            f"{value:.3f}",
            (rate, value),
            xytext=(4, -20 if below else 12),
            textcoords="offset points",
            ha="left" if rate < FP_RATES[-1] else "right",
            fontsize=8.5,
            color=OURS,
        )


def _dress(axes: Axes, report: FrocReport) -> None:
    scored = report.scored
    axes.set_xscale("log", base=2)
    axes.set_xlim(FP_RATES[0] / 2**0.15, FP_RATES[-1] * 2**0.15)
    axes.set_xticks(FP_RATES, RATE_LABELS)
    axes.minorticks_off()
    axes.set_ylim(0, 1.02)
    axes.set_yticks([k / 10 for k in range(11)])
    axes.grid(color=GRID, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.set_xlabel("False positives per scan")
    axes.set_ylabel("Sensitivity")
    nodules = f"{len(scored.nodule_scores)} nodules in {scored.n_scans} scans"
    axes.set_title(f"FROC by LUNA16's rule: {nodules}", fontsize=11)
    axes.legend(loc="best", fontsize=9)


def shown_name(name: str) -> str:
    """Give a name that a legend shows as it is: no formula, no hidden label, no missing glyph.

    Parameters
    ----------
    name : str
        Any text.

    Returns
    -------
    str
        At most 40 characters of the font.
    """
    shown = "".join(c if c.isprintable() and ord(c) < FIRST_UNSURE_GLYPH else "?" for c in name)
    shown = shown if len(shown) <= LONGEST_NAME else f"{shown[: LONGEST_NAME - 3]}..."
    return (" " if shown.startswith("_") else "") + shown.replace("$", r"\$")
