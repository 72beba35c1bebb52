"""What leave-scans-out folds show, from the searches alone.

Logits of the two stages are weighed by a logistic regression that is fitted on the other
folds, so no mark's rank depends on its own fold's scans. Sensitivity is over the nodules put into all
held-out scans; errors are counted on the fully annotated ones. Intervals come from a
bootstrap over source scans, the only independent unit there is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_alnct.evaluation.bootstrap import interval
from napari_alnct.evaluation.froc import FP_RATES, FrocCurve, curve_of_scores
from napari_alnct.training.fold_scores import (
    AS_IT_IS,
    CONTROL,
    LUNA16_SIZES,
    OWN,
    OWN_SIZES,
    Search,
    SearchedNodule,
)
from napari_alnct.training.joint_score import JointScore, fit_joint_score

N_SAMPLES = 1000
FloatArray = NDArray[np.float64]
Scored = tuple[Search, FloatArray]


@dataclass(frozen=True, eq=False)
class NoduleOutcome:
    """One inserted or own nodule: its best mark's score (-inf: missed) and how well that mark sits."""

    case: str
    turn: int
    nodule: SearchedNodule
    score: float
    centre_error_mm: float
    diameter_error: float


def cross_fitted(folds: Sequence[Sequence[Search]], *, second_look: bool = True) -> list[list[Scored]]:
    """Give every search with the scores of its marks; how a fold's marks are weighed is fitted on the other folds.

    Parameters
    ----------
    folds : sequence of sequence of Search
        Searches per fold; with a single fold its own are used, and the figures flatter a little.
    second_look : bool
        Use both stages; else the first alone.

    Returns
    -------
    list of list of (Search, ndarray (M,))

    Notes
    -----
    With weights a, b of the two logits from the other folds, marks are ranked by (a first + b second) / (a + b). Scale
    and constant, which give a score its meaning, are those of all folds together, for all folds alike, as the
    shipped model has one of each: fitted per fold they differ by chance and would shift the folds against each other.
    They change no rank and so no figure but the threshold's number.
    """
    common = fit_searches([search for part in folds for search in part], second_look=second_look)
    scored = []
    for number, searches in enumerate(folds):
        others = [s for other, part in enumerate(folds) if other != number or len(folds) == 1 for s in part]
        joint = fit_searches(others, second_look=second_look).rescaled(common)
        scored.append([(search, joint.scores(search.first, search.second)) for search in searches])
    return scored


def fit_searches(searches: Sequence[Search], *, second_look: bool = True) -> JointScore:
    """Give the joint score fitted on the marks of fully annotated scans.

    Parameters
    ----------
    searches : sequence of Search
        Of any folds.
    second_look : bool
        Use both stages; else the first alone.

    Returns
    -------
    JointScore
    """
    used = [s for s in searches if s.counts_errors and s.kind in (AS_IT_IS, LUNA16_SIZES)]
    first, second, labels = (np.concatenate([getattr(s, name) for s in used]) for name in ("first", "second", "labels"))
    n_nodules = np.mean([len(s.nodules) for s in used])
    return fit_joint_score(first, second if second_look else None, labels, nodules_per_scan=float(n_nodules))


def outcomes(scored: Sequence[Scored], *, own: bool = False) -> list[NoduleOutcome]:
    """Give what became of every inserted nodule, or of the scans' own ones in the searches as they are.

    Parameters
    ----------
    scored : sequence of (Search, ndarray)
        With scores.
    own : bool
        The scans' own nodules.

    Returns
    -------
    list of NoduleOutcome
    """
    return [
        _outcome(search, scores, nodule)
        for search, scores in scored
        for nodule in search.nodules
        if nodule.sort != CONTROL and (nodule.sort == OWN) == own and (search.kind == AS_IT_IS) == own
    ]


def _outcome(search: Search, scores: FloatArray, nodule: SearchedNodule) -> NoduleOutcome:
    if not nodule.marks:
        return NoduleOutcome(search.case, search.turn, nodule, -np.inf, np.nan, np.nan)
    best = max(nodule.marks, key=lambda mark: scores[mark])
    step = search.positions_xyz_mm[best] - np.array(nodule.position_xyz_mm)
    size_error = abs(search.diameters_mm[best] / nodule.diameter_mm - 1)
    return NoduleOutcome(
        search.case, search.turn, nodule, float(scores[best]), float(np.linalg.norm(step)), float(size_error)
    )


def froc_of(scored: Sequence[Scored]) -> FrocCurve:
    """Give the FROC curve: inserted nodules of all scans, errors per search of the fully annotated ones.

    Parameters
    ----------
    scored : sequence of (Search, ndarray)
        Of all folds.

    Returns
    -------
    FrocCurve
    """
    counted = [(search, scores) for search, scores in scored if _counts(search)]
    errors = [scores[search.labels == 0] for search, scores in counted]
    hits = np.array([o.score for o in outcomes(scored)])
    return curve_of_scores(hits, np.concatenate([np.zeros(0), *errors]), len(counted))


def _counts(search: Search) -> bool:
    """Tell whether the errors of a search are counted: nodules inserted, every other finding known."""
    return search.counts_errors and search.kind in (LUNA16_SIZES, OWN_SIZES)


def of_kind(scored: Sequence[Scored], *kinds: str) -> list[Scored]:
    """Give the searches of some kinds, `KINDS` of `fold_scores`.

    Parameters
    ----------
    scored : sequence of (Search, ndarray)
        Of all folds.
    *kinds : str
        Those to keep.

    Returns
    -------
    list of (Search, ndarray)
    """
    return [(search, scores) for search, scores in scored if search.kind in kinds]


def pasted_lung(scored: Sequence[Scored], threshold: float) -> dict[str, int]:
    """Give how many pieces of pasted plain lung are marked at a threshold: the seam must be no cue.

    Parameters
    ----------
    scored : sequence of (Search, ndarray)
        Of all folds.
    threshold : float
        Lowest score shown.

    Returns
    -------
    dict
        ``n`` pieces, ``marked``.
    """
    pieces = [_outcome(s, v, nodule) for s, v in scored for nodule in s.nodules if nodule.sort == CONTROL]
    return {"n": len(pieces), "marked": sum(piece.score >= threshold for piece in pieces)}


def froc_interval(scored: Sequence[Scored], *, seed: int = 0) -> tuple[FloatArray, tuple[float, float]]:
    """Give 95 % intervals of the seven sensitivities and of CPM, by drawing source scans with replacement.

    Parameters
    ----------
    scored : sequence of (Search, ndarray)
        Of all folds.
    seed : int
        Of the draws.

    Returns
    -------
    tuple of (ndarray (2, 7), (float, float))
    """
    cases = sorted({search.case for search, _ in scored})
    parts = {case: [(s, v) for s, v in scored if s.case == case] for case in cases}
    curves = {case: froc_of(part) for case, part in parts.items()}
    hits = {case: np.array([o.score for o in outcomes(part)]) for case, part in parts.items()}
    errors = {
        case: np.concatenate([np.zeros(0), *(v[s.labels == 0] for s, v in part if _counts(s))])
        for case, part in parts.items()
    }
    rng, samples = np.random.default_rng(seed), list[FloatArray]()
    while len(samples) < N_SAMPLES:
        drawn = [cases[k] for k in rng.integers(len(cases), size=len(cases))]
        n_searches = sum(curves[case].n_scans for case in drawn)
        if n_searches:
            joined = [np.concatenate([source[case] for case in drawn]) for source in (hits, errors)]
            samples.append(curve_of_scores(joined[0], joined[1], n_searches).sensitivity_at())
    table = np.array(samples)
    low, high = interval(table.mean(axis=1))
    return interval(table), (float(low), float(high))


def froc_summary(scored: Sequence[Scored]) -> dict[str, Any]:
    """Give the seven sensitivities and CPM with intervals as plain JSON.

    Parameters
    ----------
    scored : sequence of (Search, ndarray)
        Of all folds.

    Returns
    -------
    dict
    """
    curve, (bands, cpm_band) = froc_of(scored), froc_interval(scored)
    return {
        "n_nodules": curve.n_nodules,
        "n_searches_with_errors_counted": curve.n_scans,
        "n_scans": len({search.case for search, _ in scored}),
        "fp_per_scan": list(FP_RATES),
        "sensitivity": [round(float(v), 4) for v in curve.sensitivity_at()],
        "sensitivity_ci95": [[round(float(v), 4) for v in pair] for pair in bands.T],
        "cpm": round(curve.cpm, 4),
        "cpm_ci95": [round(v, 4) for v in cpm_band],
    }


def untouched(scored: Sequence[Scored], threshold: float) -> list[dict[str, Any]]:
    """Give what the default threshold shows on each scan as it is.

    Parameters
    ----------
    scored : sequence of (Search, ndarray)
        Of all folds.
    threshold : float
        Lowest score shown.

    Returns
    -------
    list of dict
        Per scan: marks on nothing (errors on fully annotated scans, unknown on others), and for each of its
        own nodules the score, whether it is shown and the errors per scan at which it appears.
    """
    curve, rows = froc_of(scored), []
    for search, scores in scored:
        if search.kind != AS_IT_IS:
            continue
        found = [_outcome(search, scores, nodule) for nodule in search.nodules]
        rows.append(
            {
                "case": search.case,
                "marks_on_nothing": int((scores[search.labels == 0] >= threshold).sum()),
                "are_errors": search.counts_errors,
                "nodules": [
                    {
                        "diameter_mm": round(o.nodule.diameter_mm, 2),
                        "is_found": bool(np.isfinite(o.score)),
                        "is_shown": o.score >= threshold,
                        "fp_per_scan": _rate_at(curve, o.score),
                        "centre_error_mm": round(o.centre_error_mm, 2) if np.isfinite(o.score) else None,
                    }
                    for o in found
                ],
            }
        )
    return rows


def _rate_at(curve: FrocCurve, score: float) -> float | None:
    """Give the errors per scan when everything from this score on is shown."""
    if not np.isfinite(score):
        return None
    shown = np.flatnonzero(curve.thresholds >= score)
    return round(float(curve.fp_per_scan[shown[-1]]), 3)


def placing(scored: Sequence[Scored], threshold: float) -> dict[str, float]:
    """Give the median centre and diameter error of the inserted nodules that are shown.

    Parameters
    ----------
    scored : sequence of (Search, ndarray)
        Of all folds.
    threshold : float
        Lowest score shown.

    Returns
    -------
    dict
    """
    hits = [o for o in outcomes(scored) if o.score >= threshold]
    return {
        "n": len(hits),
        "median_centre_error_mm": round(float(np.median([o.centre_error_mm for o in hits])), 3),
        "median_diameter_error": round(float(np.median([o.diameter_error for o in hits])), 4),
    }
