"""Figures of an evaluation of explanations with 95 % intervals, by drawing whole scans with replacement.

A *record* is what was measured for one candidate, plain JSON: ``scan``, ``sort`` ("nodule" or "false
positive"), ``diameter_mm``, ``kind``, ``values`` (numbers that do not depend on the map) and ``rows``: for
each map by name the numbers that do. A number may be missing or NaN (not measured, no answer), or a list.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from napari_alnct.evaluation.bootstrap import interval
from napari_alnct.evaluation.explanation_similarity import correlation

FloatArray = NDArray[np.float64]
Record = Mapping[str, Any]
Statistic = Literal["mean", "median", "p95", "ratio", "correlation"]
NODULE, FALSE_POSITIVE = "nodule", "false positive"


@dataclass(frozen=True)
class Figure:
    """A number with its 95 % interval; ``n``: candidates that it comes from. None when nothing was measured."""

    value: float | None
    ci95: tuple[float, float] | None
    n: int


@dataclass(frozen=True, eq=False)
class ScanSample:
    """Records and how often each of their scans is in each bootstrap sample, ``weights`` (samples, records)."""

    records: Sequence[Record]
    weights: NDArray[np.int32]

    @classmethod
    def draw(cls, records: Sequence[Record], n_samples: int, seed: int = 0) -> ScanSample:
        """Draw scans with replacement.

        Parameters
        ----------
        records : sequence of mapping
            What was measured.
        n_samples : int
            0 for no intervals.
        seed : int
            Of the draws.

        Returns
        -------
        ScanSample
        """
        scans = {name: k for k, name in enumerate(sorted({str(record["scan"]) for record in records}))}
        generator = np.random.RandomState(seed)
        drawn = generator.randint(max(1, len(scans)), size=(n_samples, len(scans)))
        counts = np.array([np.bincount(row, minlength=len(scans)) for row in drawn], np.int32)
        of_record = [scans[str(record["scan"])] for record in records]
        return cls(records, counts.reshape(n_samples, len(scans))[:, of_record])

    def figure(
        self,
        columns: Sequence[Sequence[Any]],
        statistic: Statistic,
        is_in: Callable[[Record], bool] | None = None,
    ) -> Figure:
        """Give a statistic of one or two columns.

        Parameters
        ----------
        columns : sequence of sequence
            One entry per record; two columns for ``ratio`` and ``correlation``.
        statistic : {"mean", "median", "p95", "ratio", "correlation"}
            ``ratio``: sum over sum. ``correlation``: Pearson's, over the pooled lists.
        is_in : callable, optional
            Which records count.

        Returns
        -------
        Figure
        """
        kept = [
            k
            for k, record in enumerate(self.records)
            if (is_in is None or is_in(record)) and all(_is_measured(column[k]) for column in columns)
        ]
        if not kept:
            return Figure(None, None, 0)
        chosen = [[column[k] for k in kept] for column in columns]
        weights = self.weights[:, kept]
        value = _of(statistic, chosen, np.ones((1, len(kept)), np.int32))[0]
        samples = _of(statistic, chosen, weights[weights.any(axis=1)])
        samples = samples[np.isfinite(samples)]
        band = interval(samples) if len(samples) else None
        shown = float(value) if math.isfinite(value) else None
        return Figure(shown, (float(band[0]), float(band[1])) if band is not None else None, len(kept))


def column(records: Sequence[Record], row: str, name: str) -> list[Any]:
    """Give one measured number of every record.

    Parameters
    ----------
    records : sequence of mapping
        What was measured.
    row : str
        Name of the map; empty for numbers that do not depend on one.
    name : str
        Of the number.

    Returns
    -------
    list
        None where it is missing.
    """
    parts = [(record["rows"].get(row, {}) if row else record["values"]) for record in records]
    return [part.get(name) for part in parts]


def _is_measured(value: Any) -> bool:
    if isinstance(value, list):
        return bool(value)
    return value is not None and math.isfinite(value)


def _of(statistic: Statistic, columns: list[list[Any]], weights: NDArray[np.int32]) -> FloatArray:
    """Give the statistic of every weighting, shape (len(weights),)."""
    if statistic in ("mean", "ratio"):
        above = weights @ np.array(columns[0], float)
        below = weights @ np.array(columns[1], float) if statistic == "ratio" else weights.sum(axis=1)
        return np.divide(above, below, out=np.full(len(weights), np.nan), where=below != 0)
    draws = (np.repeat(np.arange(weights.shape[1]), weight) for weight in weights)
    if statistic == "correlation":
        return np.array([_pooled(columns, drawn) for drawn in draws])
    share, values = (50 if statistic == "median" else 95), np.array(columns[0], float)
    return np.array([np.percentile(values[drawn], share) for drawn in draws])


def _pooled(columns: list[list[Any]], drawn: NDArray[np.intp]) -> float:
    first, second = ([number for k in drawn for number in column[k]] for column in columns)
    return correlation(first, second)
