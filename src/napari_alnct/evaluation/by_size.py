"""Sensitivity by the size of the nodule.

Every group is judged at the same thresholds as the whole: the false-positive rate
is that of all scans, the sensitivity that of the group's nodules.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from napari_alnct.evaluation.froc import FP_RATES, curve_of_scores
from napari_alnct.evaluation.scoring import ScoredScans

EDGES_MM = (0.0, 3.0, 6.0, 10.0, 20.0, np.inf)
ALWAYS_SHOWN_FROM_MM = 3.0  # LUNA16 has no nodule below 3 mm; the group is shown where there are some


@dataclass(frozen=True, eq=False)
class SizeGroup:
    """The nodules of ``from_mm`` <= diameter < ``to_mm``.

    ``sensitivity`` (7,): at the official rates; nan when the group is empty.
    """

    from_mm: float
    to_mm: float
    n_nodules: int
    n_found: int
    sensitivity: NDArray[np.float64]

    @property
    def label(self) -> str:
        """Give the range in words, mm."""
        if np.isinf(self.to_mm):
            return f">= {self.from_mm:g} mm"
        return f"{self.from_mm:g}-{self.to_mm:g} mm" if self.from_mm else f"< {self.to_mm:g} mm"


def by_size(scored: ScoredScans) -> tuple[SizeGroup, ...]:
    """Give the sensitivity of 3-6, 6-10, 10-20 and >= 20 mm at the official rates.

    Parameters
    ----------
    scored : ScoredScans
        Outcomes; a nodule without a diameter counts as 10 mm, as it does for hits.

    Returns
    -------
    tuple of SizeGroup
        Nodules below 3 mm come first where there are some.
    """
    groups = []
    for low, high in pairwise(EDGES_MM):
        inside = (scored.nodules.values >= low) & (scored.nodules.values < high)
        if low < ALWAYS_SHOWN_FROM_MM and not inside.any():
            continue
        scores = scored.nodule_scores[inside]
        curve = curve_of_scores(scores, scored.false_positive_scores, scored.n_scans)
        sensitivity = curve.sensitivity_at() if inside.any() else np.full(len(FP_RATES), np.nan)
        groups.append(SizeGroup(low, high, len(scores), int(np.isfinite(scores).sum()), sensitivity))
    return tuple(groups)
