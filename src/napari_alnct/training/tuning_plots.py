"""How a search went, as PNG: the AUC of each trial, and which settings mattered."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

import optuna
from optuna.trial import FrozenTrial, TrialState

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SIZE_INCHES, DOTS_PER_INCH = (7.2, 4.4), 130
DONE, GIVEN_UP, GRID = "#00599c", "#b35900", "#d9d9d9"
FEWEST_FOR_IMPORTANCE, FEW = 4, 20


def history_png(trials: Sequence[FrozenTrial]) -> bytes | None:
    """Give the validation AUC of each trial, and the best so far.

    Parameters
    ----------
    trials : sequence of FrozenTrial
        All of a search, in order.

    Returns
    -------
    bytes or None
        PNG; None before a trial is completed.
    """
    complete = [(t.number, t.value) for t in trials if t.state == TrialState.COMPLETE and t.value is not None]
    if not complete:
        return None
    pruned = [
        (t.number, max(t.intermediate_values.values()))
        for t in trials
        if t.state == TrialState.PRUNED and t.intermediate_values
    ]
    from matplotlib.ticker import MaxNLocator

    figure = _figure()
    axes = figure.add_subplot()
    axes.plot(*zip(*complete, strict=True), "o", color=DONE, markersize=5, label=f"completed ({len(complete)})")
    if pruned:
        label = f"given up early ({len(pruned)}): best so far in it"
        axes.plot(*zip(*pruned, strict=True), "x", color=GIVEN_UP, markersize=5, label=label)
    numbers, best = _best_so_far(complete, trials[-1].number)
    axes.step(numbers, best, where="post", color=DONE, linewidth=1.2, alpha=0.6, label="best so far")
    axes.set_xlabel("Trial")
    axes.set_ylabel("AUC on validation")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(color=GRID, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.legend(loc="best", fontsize=9)
    return _png(figure)


def importance_png(study: optuna.Study) -> bytes | None:
    """Give how much of the difference between trials each setting explains (PED-ANOVA, or fANOVA before Optuna 5).

    Parameters
    ----------
    study : optuna.Study
        The search.

    Returns
    -------
    bytes or None
        PNG; None with too few trials, or when all have the same AUC.
    """
    shares = importances(study)
    if not shares:
        return None
    figure = _figure()
    axes = figure.add_subplot()
    names = list(shares)[::-1]
    bars = axes.barh([name.replace("_", " ") for name in names], [shares[name] for name in names], color=DONE)
    axes.bar_label(bars, fmt="%.2f", padding=3, fontsize=9)
    axes.set_xlim(0, max(shares.values()) * 1.12)
    axes.set_xlabel("Share of the difference between trials that is explained")
    n = len(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)))
    axes.set_title(f"{n} completed trials{': too few for more than a hint' if n < FEW else ''}", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    return _png(figure)


def importances(study: optuna.Study) -> dict[str, float]:
    """Give how much each setting mattered, 0 to 1, the largest first.

    Parameters
    ----------
    study : optuna.Study
        The search.

    Returns
    -------
    dict of str to float
        Empty when it cannot be told: too few trials, or all with the same AUC.
    """
    values = [t.value for t in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))]
    if len(values) < FEWEST_FOR_IMPORTANCE or len(set(values)) < 2:
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the evaluator's own remarks on few trials
        try:
            shares = optuna.importance.get_param_importances(study)
        except (RuntimeError, ValueError):
            return {}
    return {name: share for name, share in shares.items() if math.isfinite(share)}


def _best_so_far(complete: Sequence[tuple[int, float]], last: int) -> tuple[list[int], list[float]]:
    numbers: list[int] = []
    best: list[float] = []
    for number, value in complete:
        numbers.append(number)
        best.append(max(value, best[-1]) if best else value)
    return [*numbers, last], [*best, best[-1]]


def _figure() -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=SIZE_INCHES, dpi=DOTS_PER_INCH, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": "napari-alnct"})
    return buffer.getvalue()
