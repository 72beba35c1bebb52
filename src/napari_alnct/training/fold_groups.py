"""Which nodules the folds' models find: sensitivity by size, place and contrast."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from napari_alnct.training.fold_judging import NoduleOutcome, Scored, froc_of, outcomes

SIZES_MM = ((3.0, 5.0), (5.0, 8.0), (8.0, 12.0), (12.0, 40.0))
CONTRASTS_HU = (150.0, 300.0)  # between faint, middling and dense nodules: median above the lung


def groups(
    scored: Sequence[Scored], fp_rate: float, contrasts_hu: Mapping[str, float] | None = None
) -> dict[str, dict[str, Any]]:
    """Give sensitivity at a false-positive rate by size, place and contrast of the inserted nodules.

    Parameters
    ----------
    scored : sequence of (Search, ndarray)
        Of all folds.
    fp_rate : float
        False marks per scan.
    contrasts_hu : mapping of str to float, optional
        Name of a donor to its `median_contrast_hu`; without it there are no groups by contrast.

    Returns
    -------
    dict
        Name of the group to ``n``, ``found`` and ``sensitivity``.
    """
    threshold, found = froc_of(scored).threshold_at(fp_rate), outcomes(scored)
    belongs = {f"{low:g}-{high:g} mm": [low <= o.nodule.diameter_mm < high for o in found] for low, high in SIZES_MM}
    belongs |= {f"at {sort}": [o.nodule.sort == sort for o in found] for sort in sorted({o.nodule.sort for o in found})}
    belongs |= _by_contrast(found, contrasts_hu) if contrasts_hu else {}
    scores = np.array([o.score for o in found])
    table = {}
    for name, is_in in belongs.items():
        n, n_found = int(np.sum(is_in)), int((scores[np.array(is_in, bool)] >= threshold).sum())
        table[name] = {"n": n, "found": n_found, "sensitivity": round(n_found / n, 4) if n else None}
    return table


def _by_contrast(found: Sequence[NoduleOutcome], contrasts_hu: Mapping[str, float]) -> dict[str, list[bool]]:
    """Give which nodules are faint, middling or dense, by the donor as it was cut."""
    edges = (-np.inf, *CONTRASTS_HU, np.inf)
    names = ("faint, below 150 HU", "150 to 300 HU", "denser")
    values = [contrasts_hu[o.nodule.donor] for o in found]
    return {
        name: [low <= value < high for value in values]
        for name, low, high in zip(names, edges[:-1], edges[1:], strict=True)
    }
