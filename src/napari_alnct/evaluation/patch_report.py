"""Everything that is said about the scores of labelled patches: figures, intervals, sizes, kinds, notes.

A *group* is a part of the patches judged at the operating point of the whole: nodules by
diameter (against all patches without nodule), and those without nodule by where they come from.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from napari_alnct.evaluation.by_size import ALWAYS_SHOWN_FROM_MM, EDGES_MM, SizeGroup
from napari_alnct.evaluation.calibration import Reliability, brier_score, reliability
from napari_alnct.evaluation.curve_intervals import (
    FEWEST_CLUSTERS,
    ClusterDraws,
    CurveSamples,
    Interval,
    bootstrap_curves,
    delong_interval,
    draw_clusters,
    sample_interval,
    share_interval,
)
from napari_alnct.evaluation.curves import Confusion, ThresholdCurve, auc, confusion_at, share, threshold_curve
from napari_alnct.evaluation.operating_point import OperatingPoint

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
FEW_CLUSTERS = 20  # below this a percentile interval is too narrow


@dataclass(frozen=True, eq=False, kw_only=True)
class ScoredPatches:
    """Scores of patches and what the patches are; all arrays have shape (N,).

    ``labels`` 0 or 1; ``scores`` 0 to 1; ``scan``, ``nodule``: numbers of scans and nodules (-1: none);
    ``cluster``, ``cluster_unit``: what the bootstrap draws and what it is called (scan or patient);
    ``diameter_mm``: nan where not given; ``kind``: where a patch comes from.
    """

    labels: NDArray[np.int8]
    scores: FloatArray
    scan: NDArray[np.intp]
    nodule: NDArray[np.intp]
    cluster: NDArray[np.intp]
    cluster_unit: str
    diameter_mm: FloatArray
    kind: tuple[str, ...]

    @cached_property
    def is_positive(self) -> BoolArray:
        """Tell which patches hold a nodule."""
        return self.labels == 1

    @property
    def n_scans(self) -> int:
        """Give the number of scans with patches."""
        return len(np.unique(self.scan))

    @property
    def n_clusters(self) -> int:
        """Give the number of clusters."""
        return len(np.unique(self.cluster))

    @cached_property
    def curve(self) -> ThresholdCurve:
        """Give what is called a nodule at every threshold."""
        return threshold_curve(self.labels, self.scores)


@dataclass(frozen=True)
class Estimate:
    """A figure with its 95 % interval; nan and None where undefined."""

    value: float
    ci95: Interval | None


@dataclass(frozen=True)
class PatchGroup:
    """A part of the patches: ``rate`` is sensitivity (nodules) or specificity (others) at the operating point.

    ``auc``: nodules of this size against all others; for the others, all nodules against those of this kind.
    """

    label: str
    n_patches: int
    n_nodules: int
    n_scans: int
    rate: Estimate
    auc: Estimate


@dataclass(frozen=True, eq=False, kw_only=True)
class PatchReport:
    """One judged set of patches; what needs both classes is nan or None when one is absent.

    ``shares``: sensitivity, specificity, ppv, npv, accuracy at the operating point; ``samples``, ``draws``:
    None without bootstrap; ``bin_ci95``: of the share of nodules in each bin of ``reliability``.
    """

    patches: ScoredPatches
    point: OperatingPoint
    confusion: Confusion
    auc: Estimate
    auc_delong_ci95: Interval | None
    average_precision: Estimate
    shares: dict[str, Estimate]
    brier: Estimate
    reliability: Reliability
    reliability_equal_width: Reliability
    bin_ci95: tuple[Interval | None, ...]
    by_size: tuple[PatchGroup, ...]
    by_kind: tuple[PatchGroup, ...]
    draws: ClusterDraws | None
    samples: CurveSamples | None
    notes: tuple[str, ...]

    @property
    def has_both_classes(self) -> bool:
        """Tell whether there are nodules and others."""
        return bool(self.patches.curve.n_positive and self.patches.curve.n_negative)


def judge_patches(
    patches: ScoredPatches, point: OperatingPoint, *, n_samples: int = 1000, seed: int = 0, notes: Sequence[str] = ()
) -> PatchReport:
    """Give the report of scored patches.

    Parameters
    ----------
    patches : ScoredPatches
        At least one.
    point : OperatingPoint
        Threshold to judge at.
    n_samples, seed : int
        Of the bootstrap over clusters; no samples, no intervals.
    notes : sequence of str
        Sentences to hand on.

    Returns
    -------
    PatchReport
    """
    labels, scores = patches.labels, patches.scores
    draws = draw_clusters(patches.cluster, labels, n_samples, seed)
    has_both = bool(patches.curve.n_positive and patches.curve.n_negative)
    samples = bootstrap_curves(labels, scores, patches.cluster, draws) if draws and has_both else None
    curve = reliability(labels, scores)
    report = PatchReport(
        patches=patches,
        point=point,
        confusion=confusion_at(labels, scores, point.threshold),
        auc=_area(auc(labels, scores), samples.auc if samples else None),
        auc_delong_ci95=delong_interval(labels, scores),
        average_precision=_area(
            patches.curve.average_precision if has_both else math.nan, samples.average_precision if samples else None
        ),
        shares=_shares(patches, point.threshold, draws),
        brier=Estimate(brier_score(labels, scores), _brier_interval(patches, draws)),
        reliability=curve,
        reliability_equal_width=reliability(labels, scores, binning="equal width"),
        bin_ci95=tuple(
            share_interval(patches.is_positive, curve.bins == k, patches.cluster, draws) for k in range(len(curve.n))
        ),
        by_size=_size_groups(patches, point.threshold, draws),
        by_kind=_kind_groups(patches, point.threshold, draws),
        draws=draws,
        samples=samples,
        notes=(*notes, *_notes(patches, point, n_samples)),
    )
    return report


def _area(value: float, samples: FloatArray | None) -> Estimate:
    """Give an area with its interval; none where the area is 0 or 1, for there all samples agree and say nothing."""
    return Estimate(value, sample_interval(samples) if samples is not None and 0 < value < 1 else None)


def _shares(patches: ScoredPatches, threshold: float, draws: ClusterDraws | None) -> dict[str, Estimate]:
    """Give the five shares of the confusion matrix."""
    is_called, is_nodule = patches.scores >= threshold, patches.is_positive
    parts = {
        "sensitivity": (is_called, is_nodule),
        "specificity": (~is_called, ~is_nodule),
        "ppv": (is_nodule, is_called),
        "npv": (~is_nodule, ~is_called),
        "accuracy": (is_called == is_nodule, np.ones_like(is_nodule)),
    }
    return {name: _share(patches, part, whole, draws) for name, (part, whole) in parts.items()}


def _share(patches: ScoredPatches, part: BoolArray, whole: BoolArray, draws: ClusterDraws | None) -> Estimate:
    value = share(int((part & whole).sum()), int(whole.sum()))
    return Estimate(value, share_interval(part, whole, patches.cluster, draws))


def _brier_interval(patches: ScoredPatches, draws: ClusterDraws | None) -> Interval | None:
    if draws is None:
        return None
    n_clusters = draws.weights.shape[1]
    squared = np.bincount(patches.cluster, (patches.scores - patches.labels) ** 2, n_clusters)
    return sample_interval((draws.weights @ squared) / (draws.weights @ np.bincount(patches.cluster)))


def _size_groups(patches: ScoredPatches, threshold: float, draws: ClusterDraws | None) -> tuple[PatchGroup, ...]:
    """Give the nodules of 3-6, 6-10, 10-20, >= 20 mm; those below 3 mm, or without diameter, where there are some."""
    groups = []
    is_called = patches.scores >= threshold
    for low, high in pairwise(EDGES_MM):
        inside = patches.is_positive & (patches.diameter_mm >= low) & (patches.diameter_mm < high)
        if low >= ALWAYS_SHOWN_FROM_MM or inside.any():
            label = SizeGroup(low, high, 0, 0, np.zeros(0)).label
            groups.append(_group(patches, label, is_called, inside, ~patches.is_positive, draws))
    unknown = patches.is_positive & np.isnan(patches.diameter_mm)
    if unknown.any():
        groups.append(_group(patches, "no diameter", is_called, unknown, ~patches.is_positive, draws))
    return tuple(groups)


def _kind_groups(patches: ScoredPatches, threshold: float, draws: ClusterDraws | None) -> tuple[PatchGroup, ...]:
    """Give the patches without nodule by where they come from."""
    is_quiet, kinds = patches.scores < threshold, np.array(patches.kind)
    names = sorted({kind for kind, is_nodule in zip(patches.kind, patches.is_positive, strict=True) if not is_nodule})
    return tuple(
        _group(patches, name, is_quiet, (kinds == name) & ~patches.is_positive, patches.is_positive, draws)
        for name in names
    )


def _group(
    patches: ScoredPatches,
    label: str,
    is_right: BoolArray,
    inside: BoolArray,
    against: BoolArray,
    draws: ClusterDraws | None,
) -> PatchGroup:
    """Give the figures of one group; its AUC is against the whole other class."""
    both = inside | against
    labels, scores, cluster = patches.labels[both], patches.scores[both], patches.cluster[both]
    samples = None
    n_clusters = min(len(np.unique(patches.cluster[kind])) for kind in (inside, against))
    if draws is not None and n_clusters >= FEWEST_CLUSTERS:
        samples = bootstrap_curves(labels, scores, cluster, draws, with_bands=False).auc
    nodules = patches.nodule[inside]
    return PatchGroup(
        label,
        int(inside.sum()),
        len(np.unique(nodules[nodules >= 0])),
        len(np.unique(patches.scan[inside])),
        _share(patches, is_right, inside, draws),
        _area(auc(labels, scores), samples),
    )


def _notes(patches: ScoredPatches, point: OperatingPoint, n_samples: int) -> list[str]:
    """Give what a reader of the figures must know."""
    notes, curve, unit = [], patches.curve, patches.cluster_unit
    if not curve.n_positive or not curve.n_negative:
        only = "nodules" if curve.n_positive else "patches without nodule"
        notes.append(f"The table holds only {only}: ROC curve, AUC and average precision are undefined.")
    if point.is_optimistic and point.rule == "stored":
        notes.append(
            "The stored threshold was chosen during training on scans of this table: sensitivity, specificity and PPV "
            "are optimistic; judge other scans."
        )
    elif point.is_optimistic:
        notes.append(
            "The operating point was chosen on these same patches: its sensitivity, specificity and PPV are "
            "optimistic; choose it on other scans, or take the one stored with the model."
        )
    if n_samples and patches.n_clusters == 1:
        notes.append(f"All patches come from one {unit}: nothing can be said about others, so there are no intervals.")
    elif n_samples and patches.n_clusters < FEW_CLUSTERS:
        notes.append(f"There are only {patches.n_clusters} {unit}s: the intervals are rough, and rather too narrow.")
    if auc(patches.labels, patches.scores) == 1.0:
        notes.append("The scores separate the classes without an error: how far the AUC may fall cannot be estimated.")
    return notes
