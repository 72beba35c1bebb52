"""Which axial slices of a scan a reader has had on the screen."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray


class SeenSlices:
    """The slices seen so far.

    Parameters
    ----------
    n_slices : int
        Of the scan.

    Examples
    --------
    >>> seen = SeenSlices(10)
    >>> seen.add(-2, 3), seen.add(1, 2), seen.share(), seen.share(range(2, 6)), seen.ranges()
    (True, False, 0.3, 0.25, [[0, 3]])
    """

    def __init__(self, n_slices: int) -> None:
        self.mask: NDArray[np.bool_] = np.zeros(n_slices, dtype=bool)

    def add(self, start: int, stop: int) -> bool:
        """Count the slices from start up to stop, not including it; tell whether one of them is new."""
        part = self.mask[max(0, start) : max(0, stop)]
        is_new = not bool(part.all())
        part[:] = True
        return is_new

    def share(self, slices: range | None = None) -> float:
        """Give the share of these slices, or of all, that were seen; 0 where there are none."""
        part = self.mask if slices is None else self.mask[max(0, slices.start) : max(0, slices.stop)]
        return float(part.mean()) if part.size else 0.0

    def ranges(self) -> list[list[int]]:
        """Give the seen slices as half-open ranges, for JSON."""
        edges = np.flatnonzero(np.diff(np.concatenate(([0], self.mask.astype(np.int8), [0]))))
        return [[int(start), int(stop)] for start, stop in edges.reshape(-1, 2)]

    def add_ranges(self, ranges: Iterable[Sequence[int]]) -> None:
        """Count what `ranges` gave."""
        for start, stop in [(int(start), int(stop)) for start, stop in ranges]:
            self.add(start, stop)
