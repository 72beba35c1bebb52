"""The numbers that training steps give: read, checked, averaged.

On the CPU they are read in the step itself. On other devices they stay there until they
are asked for, so that the device never waits; they are always read before anything is
saved.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from napari_alnct.core.errors import ModelError

GRADIENT = "gradient"  # name of the gradient norm among the numbers
MOST_OVERFLOWS = 25  # steps in a row; float16's scale, at first 2**16, has then halved to 2**-9

Reading = dict[str, float]


@dataclass
class Meter:
    """Sums of readings since a mark."""

    sums: Reading = field(default_factory=dict)
    count: int = 0

    def add(self, reading: Reading) -> None:
        """Count the reading of one step."""
        for name, value in reading.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
        self.count += 1

    def take(self) -> Reading:
        """Give the means and begin anew."""
        means = {name: value / max(1, self.count) for name, value in self.sums.items()}
        self.sums, self.count = {}, 0
        return means


class Readings:
    """Loss parts and gradient norm of the steps of a run.

    Parameters
    ----------
    is_immediate : bool
        Read and refuse in the step itself.
    may_overflow : bool
        float16: a step whose gradients overflow is left out by the scaler, and counted here.

    Attributes
    ----------
    recent, round : Meter
        Means since the last line of the log, and since the last round (epoch).
    n_overflows : int
        Steps that were left out.
    """

    def __init__(self, *, is_immediate: bool, may_overflow: bool) -> None:
        self.is_immediate, self.may_overflow = is_immediate, may_overflow
        self.recent, self.round = Meter(), Meter()
        self.n_overflows = self.overflows_in_a_row = 0
        self._unread: list[tuple[int, Tensor]] = []
        self._names: list[str] = []

    def note(self, step: int, names: list[str], values: Tensor) -> None:
        """Keep the numbers of a step.

        Parameters
        ----------
        step : int
            From 0.
        names : list of str
            The loss parts; the last number is the gradient norm.
        values : Tensor, shape (len(names) + 1,)
            On the device of the run.

        Raises
        ------
        ModelError
            If they are read at once and one is not finite.
        """
        self._names = [*names, GRADIENT]
        if self.is_immediate:
            self._check(step, dict(zip(self._names, values.tolist(), strict=True)))
        self._unread.append((step, values))

    def read(self) -> list[Reading]:
        """Give the numbers of the steps since the last call, and count them in the means.

        Returns
        -------
        list of dict of str to float

        Raises
        ------
        ModelError
            If one is not finite; nothing may be saved then.
        """
        if not self._unread:
            return []
        steps, rows = zip(*self._unread, strict=True)
        self._unread = []
        readings = [dict(zip(self._names, row, strict=True)) for row in torch.stack(rows).tolist()]
        for step, reading in zip(steps, readings, strict=True):
            self._check(step, reading)
            self._count_overflow(step, reading)
            self.recent.add(reading)
            self.round.add(reading)
        return readings

    def _check(self, step: int, reading: Reading) -> None:
        bad = [name for name, value in reading.items() if not math.isfinite(value)]
        if not bad or (self.may_overflow and bad == [GRADIENT]):
            return
        what = "gradient" if bad == [GRADIENT] else "loss"
        raise ModelError(
            f"the {what} is {reading[bad[0]]} at step {step + 1}; what was saved before it is whole: "
            "begin anew with a lower learning rate"
        )

    def _count_overflow(self, step: int, reading: Reading) -> None:
        if math.isfinite(reading[GRADIENT]):
            self.overflows_in_a_row = 0
            return
        reading[GRADIENT] = 0.0  # the step was left out
        self.n_overflows += 1
        self.overflows_in_a_row += 1
        if self.overflows_in_a_row >= MOST_OVERFLOWS:
            raise ModelError(
                f"float16 overflowed in {MOST_OVERFLOWS} steps in a row, up to {step + 1}; set precision to float32"
            )

    def state(self) -> list[object]:
        """Give everything as plain values for a resume point."""
        meters = [[meter.sums, meter.count] for meter in (self.recent, self.round)]
        return [*meters, self.n_overflows, self.overflows_in_a_row]

    def restore(self, state: list[object]) -> None:
        """Take what `state` gave."""
        recent, whole, self.n_overflows, self.overflows_in_a_row = state  # type: ignore[assignment]
        self.recent, self.round = (Meter(dict(sums), count) for sums, count in (recent, whole))  # type: ignore[misc, has-type]
