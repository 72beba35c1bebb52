"""Which axial slices of a scan a reader has had on the screen."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray


class SeenSlices:
    """The slices seen so far.

    Parameters
    ----------
    n_slices : int
        Of the scan.

    Attributes
    ----------
    lungs : range or None
        Slices that hold lung: these count. None while that is not known: all count.

    Examples
    --------
    >>> seen = SeenSlices(10)
    >>> seen.add(-2, 3), seen.add(1, 2), seen.share(), seen.share(range(2, 6)), seen.ranges()
    (True, False, 0.3, 0.25, [[0, 3]])
    """

    def __init__(self, n_slices: int) -> None:
        self.mask: NDArray[np.bool_] = np.zeros(n_slices, dtype=bool)
        self.lungs: range | None = None

    def add(self, start: int, stop: int) -> bool:
        """Count the slices from start up to stop, not including it; tell whether one of them is new."""
        part = self.mask[max(0, start) : max(0, stop)]
        is_new = not bool(part.all())
        part[:] = True
        return is_new

    def share(self, slices: range | None = None) -> float:
        """Give the share of these slices, by default of those that count, that were seen; 0 where there are none."""
        slices = self.lungs if slices is None else slices
        part = self.mask if slices is None else self.mask[max(0, slices.start) : max(0, slices.stop)]
        return float(part.mean()) if part.size else 0.0

    def count_lungs(self, start: int, stop: int) -> None:
        """Count the slices from start up to stop alone; where none of them is in the scan, all."""
        start, stop = max(0, int(start)), min(len(self.mask), int(stop))
        self.lungs = range(start, stop) if start < stop else None

    def ranges(self) -> list[list[int]]:
        """Give the seen slices as half-open ranges, for JSON."""
        edges = np.flatnonzero(np.diff(np.concatenate(([0], self.mask.astype(np.int8), [0]))))
        return [[int(start), int(stop)] for start, stop in edges.reshape(-1, 2)]

    def add_ranges(self, ranges: Iterable[Sequence[int]]) -> None:
        """Count what `ranges` gave."""
        for start, stop in [(int(start), int(stop)) for start, stop in ranges]:
            self.add(start, stop)


def lung_slices(mask: ArrayLike) -> range:
    """Give the slices of a mask from the first to the last one that is not empty.

    Parameters
    ----------
    mask : array_like, shape (z, y, x)
        Not 0 in the lungs.

    Returns
    -------
    range
        Empty where the mask is.

    Examples
    --------
    >>> lung_slices([[[0]], [[1]], [[0]], [[2]], [[0]]])
    range(1, 4)
    """
    found = np.flatnonzero(np.asarray(mask).any(axis=(1, 2)))
    return range(int(found[0]), int(found[-1]) + 1) if found.size else range(0)
