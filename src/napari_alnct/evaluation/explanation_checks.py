"""The rows of the evaluation of explanations: what each figure is, and its target, fixed before measuring.

L rows say whether maps are plausible to a reader, F rows whether they are true to the network; they are
published side by side and never merged. Exact checks of the code (X rows) are tests of the package.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from napari_alnct.core.evidence import LEAST_AGREEMENT
from napari_alnct.evaluation.explanation_baselines import BASELINES, CENTRE
from napari_alnct.evaluation.explanation_faithfulness import FILLS
from napari_alnct.evaluation.explanation_figures import Figure, Record, ScanSample, Statistic, column

SMALL_MM = 6.0
MOST_P = 0.01
MOST_NAMED = 4  # missed tests that a note lists
MONOTONE_SLACK = 0.05
AREAS = tuple(f"{kind} {fill}" for fill in FILLS for kind in ("deletion", "insertion"))


@dataclass(frozen=True, kw_only=True)
class Check:
    """One figure of one map with its target; ``is_met`` None: no target, or not run."""

    id: str
    label: str
    value: float | None
    ci95: tuple[float, float] | None
    n: int
    target: str = ""
    is_met: bool | None = None
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Rule:
    """How one figure comes from the records.

    Parameters
    ----------
    id, label : str
        Row of the evaluation and what it is.
    names : tuple of str
        Measured numbers; one that begins with ``/`` does not depend on the map.
    statistic : str
        Of `ScanSample.figure`.
    at_least, at_most : float or None
        The target.
    above_zero : bool
        The interval must lie above zero instead.
    is_strict : bool
        Below, not at most.
    share_below : float or None
        The figure is of how many numbers lie below this, or have no answer (NaN), instead of the numbers.
    is_in : callable, optional
        Which records count.
    """

    id: str
    label: str
    names: tuple[str, ...]
    statistic: Statistic = "mean"
    at_least: float | None = None
    at_most: float | None = None
    above_zero: bool = False
    is_strict: bool = False
    share_below: float | None = None
    is_in: Callable[[Record], bool] | None = field(default=None, compare=False)

    @property
    def target(self) -> str:
        """Give the target as text."""
        if self.above_zero:
            return "> 0, with its interval"
        if self.at_least is not None:
            return f">= {self.at_least:g}"
        return f"{'<' if self.is_strict else '<='} {self.at_most:g}" if self.at_most is not None else ""

    def is_met_by(self, figure: Figure) -> bool | None:
        """Tell whether a figure meets the target; None without a target or a figure."""
        if figure.value is None or not self.target:
            return None
        if self.above_zero:
            return figure.value > 0 and (figure.ci95 is None or figure.ci95[0] > 0)
        if self.at_least is not None:
            return figure.value >= self.at_least
        assert self.at_most is not None
        return figure.value < self.at_most if self.is_strict else figure.value <= self.at_most


def is_small(record: Record) -> bool:
    """Tell whether a candidate is 3 to 6 mm."""
    return float(record["diameter_mm"]) < SMALL_MM


RULES = (
    Rule(id="L1", label="maximum in the nodule", names=("pointing",), at_least=0.85),
    Rule(id="L1", label="the same, 3 to 6 mm", names=("pointing",), at_least=0.70, is_in=is_small),
    Rule(id="L2", label="evidence inside the nodule", names=("energy",), at_least=0.35),
    Rule(id="L2", label="the same, times chance", names=("energy", "chance"), statistic="ratio", at_least=10),
    Rule(id="L3", label="AUPRC of the voxels", names=("auprc",)),
    Rule(id="L3", label="top-k IoU", names=("top_k_iou",)),
    Rule(id="L3", label="IoU of a threshold segmentation, no model", names=("/threshold_iou",)),
    Rule(id="L4", label="peak error, median (mm)", names=("peak_error_mm",), statistic="median", at_most=3),
    Rule(id="L4", label="peak error, 95th percentile (mm)", names=("peak_error_mm",), statistic="p95", at_most=8),
    Rule(id="L5", label="spread, median", names=("spread",), statistic="median", at_most=4),
    *(Rule(id="F1", label=f"{name} area", names=(name,)) for name in AREAS),
    Rule(
        id="F2", label="targeted deletion", names=("top_k_drop", "/mask_drop"), statistic="ratio", at_least=0.6
    ),
    Rule(
        id="F2", label="the same, random lung", names=("/lung_drop", "/mask_drop_beside"), statistic="ratio",
        at_most=0.1,
    ),
    Rule(id="F3", label="ROAD, logits", names=("road",), above_zero=True),
    Rule(id="F4", label="|rho| after randomisation", names=("rho_end",), at_most=0.2, is_strict=True),
    Rule(id="F4", label="SSIM after randomisation", names=("ssim_end",)),
    Rule(id="F4", label="|rho|, label-shuffled model", names=("rho_shuffled",), at_most=0.2, is_strict=True),
    Rule(id="F5", label="own over other nodule", names=("own", "other"), statistic="ratio", at_least=3),
    Rule(
        id="F6", label="PSC, nodule fading", names=("fading_map", "/fading_score"), statistic="correlation",
        at_least=0.5,
    ),
    Rule(id="F6", label="PSC, noise", names=("noise_map", "/noise_score"), statistic="correlation", at_least=0.5),
    Rule(id="F7", label="rho with 10 HU of noise, median", names=("rho_noise",), statistic="median", at_least=0.9),
    Rule(id="F7", label="peak follows a 1-voxel shift within 1", names=("follows_shift",), at_least=0.9),
    Rule(id="F8", label="top-k IoU between seeds", names=("seeds_iou",), at_least=0.5),
    Rule(id="F9", label="rho with occlusion, median", names=("rho_occlusion",), statistic="median", at_least=0.5),
    Rule(
        id="F9", label=f"share without a reliable map, Pearson's r below {LEAST_AGREEMENT:g}", names=("r_occlusion",),
        share_below=LEAST_AGREEMENT,
    ),
    Rule(id="F9", label="Pearson's r with occlusion, median", names=("r_occlusion",), statistic="median"),
    Rule(id="F9", label="maximum within 8 mm of occlusion's", names=("near_occlusion",)),
)  # fmt: skip


def checks_of(sample: ScanSample, row: str) -> list[Check]:
    """Give every check of one map.

    Parameters
    ----------
    sample : ScanSample
        Records of nodules.
    row : str
        Name of the map.

    Returns
    -------
    list of Check
        In the order of the design; what was not run has no value.
    """
    found = [_check(sample, row, rule) for rule in RULES]
    by_id = [check.id for check in found]
    found.insert(2, _margin(sample, row))
    found.insert(by_id.index("F2") + 1, _paired(sample, row))
    ends = [k for k, check in enumerate(found) if check.id == "F4"]
    found.insert(ends[0] + 1, _monotone(sample, row))
    return found


def _check(sample: ScanSample, row: str, rule: Rule) -> Check:
    columns = [column(sample.records, "" if name[0] == "/" else row, name.lstrip("/")) for name in rule.names]
    if rule.share_below is not None:
        columns = [[None if x is None else float(not x >= rule.share_below) for x in numbers] for numbers in columns]
    figure = sample.figure(columns, rule.statistic, rule.is_in)
    return Check(
        id=rule.id,
        label=rule.label,
        value=figure.value,
        ci95=figure.ci95,
        n=figure.n,
        target=rule.target,
        is_met=rule.is_met_by(figure),
    )


def _margin(sample: ScanSample, row: str) -> Check:
    """Give the pointing game's margin over the centre prior, on the same patches."""
    rule = Rule(id="L1", label="margin over the centre prior", names=(), at_least=0.3)
    own, prior = (column(sample.records, name, "pointing") for name in (row, CENTRE))
    step = [None if a is None or b is None else a - b for a, b in zip(own, prior, strict=True)]
    figure = sample.figure([step], "mean")
    met = rule.is_met_by(figure) if row != CENTRE else None
    return Check(
        id="L1", label=rule.label, value=figure.value, ci95=figure.ci95, n=figure.n, target=rule.target, is_met=met
    )


def _paired(sample: ScanSample, row: str) -> Check:
    """Give the largest p of the 12 paired tests against the baselines: both fills, deletion and insertion."""
    label, target = "largest p against the baselines", f"< {MOST_P:g}"
    if row in BASELINES:
        return Check(id="F1", label=label, value=None, ci95=None, n=0, target=target)
    tests = {
        (area, base): _p_better(column(sample.records, row, area), column(sample.records, base, area), area)
        for area in AREAS
        for base in BASELINES
    }
    measured = {name: test for name, test in tests.items() if test is not None}
    if not measured:
        return Check(id="F1", label=label, value=None, ci95=None, n=0, target=target)
    missed = [f"{area} against {base}" for (area, base), (p, _) in measured.items() if p >= MOST_P]
    worst, n_pairs = max(p for p, _ in measured.values()), min(n for _, n in measured.values())
    note = _paired_note(missed, len(measured), n_pairs)
    return Check(
        id="F1",
        label=label,
        value=worst,
        ci95=None,
        n=n_pairs,
        target=target,
        is_met=worst < MOST_P,
        note=note,
    )


def _paired_note(missed: Sequence[str], n_tests: int, n_pairs: int) -> str:
    """Tell how many tests passed, which did not, and whether so few pairs could pass at all."""
    note = f"{n_tests - len(missed)} of {n_tests} tests passed"
    if 2.0**-n_pairs >= MOST_P:
        return f"{note}; {n_pairs} pairs cannot reach it: the smallest possible p is {2.0**-n_pairs:.2g}"
    more = f" and {len(missed) - MOST_NAMED} more" if len(missed) > MOST_NAMED else ""
    return f"{note}; missed: {', '.join(missed[:MOST_NAMED])}{more}" if missed else note


def _p_better(own: Sequence[Any], base: Sequence[Any], area: str) -> tuple[float, int] | None:
    """Give the one-sided p of Wilcoxon's signed-rank test and the number of pairs; None without pairs."""
    from scipy.stats import wilcoxon

    pairs = np.array([(a, b) for a, b in zip(own, base, strict=True) if a is not None and b is not None], float)
    pairs = pairs.reshape(-1, 2)[np.isfinite(pairs.reshape(-1, 2)).all(axis=1)]
    if not len(pairs):
        return None
    gain = (pairs[:, 0] - pairs[:, 1]) * (-1 if area.startswith("deletion") else 1)
    moved = gain[gain != 0]
    if not len(moved):
        return 1.0, len(pairs)
    return float(wilcoxon(moved, alternative="greater").pvalue), len(pairs)


def _monotone(sample: ScanSample, row: str) -> Check:
    """Tell whether the likeness falls from step to step of the randomisation."""
    steps = [values for values in column(sample.records, row, "rho_steps") if values]
    label, target = "|rho| falls from step to step", "each step at most 0.05 above the one before"
    if not steps:
        return Check(id="F4", label=label, value=None, ci95=None, n=0, target=target)
    means = np.abs(np.array(steps, float)).mean(axis=0)
    rise = float(max(np.diff(means, prepend=1.0)))
    note = "mean after each step: " + ", ".join(f"{value:.2f}" for value in means)
    return Check(
        id="F4", label=label, value=rise, ci95=None, n=len(steps), target=target, is_met=rise <= MONOTONE_SLACK,
        note=note,
    )  # fmt: skip
