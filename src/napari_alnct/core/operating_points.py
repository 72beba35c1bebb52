"""A model's operating points: how many false marks per scan to expect at a threshold, and back.

*Operating points* are a table of false marks per scan to threshold, as stored with the model; a model may
also store which share of the nodules it found at each of them, its *sensitivities*.
A *place on the scale* is a number from 0, the fewest marks, to `last_place`, where all are shown:
the whole numbers before it are the rows of the table, between two rows the threshold is a straight line.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

from napari_alnct.core.errors import SettingsError

SHOW_ALL = 0.0  # the lowest score there is


@dataclass(frozen=True, kw_only=True)
class OperatingScale:
    """A scale from few marks to all of them, in false marks per scan.

    Parameters
    ----------
    rates : tuple of float
        False marks per scan, rising.
    thresholds : tuple of float
        Lowest score shown at each of them, falling.
    sensitivities : tuple of float, optional
        Share of the nodules found at each of them, 0 to 1; empty where it is not known.

    Raises
    ------
    SettingsError
        If the table is empty or not in this order.
    """

    rates: tuple[float, ...]
    thresholds: tuple[float, ...]
    sensitivities: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        """Refuse a table that cannot be read both ways."""
        is_rising = all(low < high for low, high in pairwise(self.rates))
        is_falling = all(high >= low for high, low in pairwise(self.thresholds))
        if not self.rates or len(self.rates) != len(self.thresholds) or not (is_rising and is_falling):
            raise SettingsError(
                f"operating points need rising rates and falling thresholds, found {self.rates} and {self.thresholds}; "
                "calibrate the model again"
            )
        if self.sensitivities and len(self.sensitivities) != len(self.rates):
            raise SettingsError(f"{len(self.sensitivities)} sensitivities for {len(self.rates)} operating points")

    @classmethod
    def of(
        cls, points: Mapping[float, float], sensitivities: Mapping[float, float] | None = None
    ) -> OperatingScale | None:
        """Give the scale of a model's table, or None where it has none that can be used.

        Parameters
        ----------
        points : mapping of float to float
            False marks per scan to threshold.
        sensitivities : mapping of float to float, optional
            False marks per scan to share of nodules found; left out unless it has every rate.

        Returns
        -------
        OperatingScale or None
        """
        rates, found = sorted(points), sensitivities or {}
        shares = tuple(found[rate] for rate in rates) if set(rates) <= set(found) else ()
        try:
            return cls(rates=tuple(rates), thresholds=tuple(points[rate] for rate in rates), sensitivities=shares)
        except SettingsError:
            return None

    @property
    def last_place(self) -> int:
        """Give the place where all marks are shown."""
        return len(self.rates)

    def threshold_at(self, place: float) -> float:
        """Give the threshold at a place on the scale.

        Parameters
        ----------
        place : float
            0 to `last_place`; beyond them the ends are taken.

        Returns
        -------
        float

        Examples
        --------
        >>> scale = OperatingScale(rates=(0.5, 1.0, 2.0), thresholds=(0.9, 0.5, 0.1))
        >>> [round(scale.threshold_at(place), 2) for place in (0, 1, 1.5, 3)]
        [0.9, 0.5, 0.3, 0.0]
        """
        steps = (*self.thresholds, SHOW_ALL)
        low = min(max(int(place), 0), self.last_place)
        if low == place or low == self.last_place or place < 0:
            return steps[low]
        return steps[low] + (place - low) * (steps[low + 1] - steps[low])

    def place_of(self, threshold: float) -> float:
        """Give the place on the scale of a threshold: where it lies between the rows around it.

        Parameters
        ----------
        threshold : float
            Lowest score shown.

        Returns
        -------
        float
            0 for thresholds above the first row.

        Examples
        --------
        >>> OperatingScale(rates=(0.5, 1.0), thresholds=(0.75, 0.25)).place_of(0.5)
        0.5
        """
        steps = (*self.thresholds, SHOW_ALL)
        if threshold >= steps[0]:
            return 0.0
        for row, (high, low) in enumerate(pairwise(steps)):
            if threshold > low:
                return row + (high - threshold) / (high - low)
        return float(self.last_place)

    def expected_rate(self, threshold: float) -> float | None:
        """Give the false marks per scan to expect, None outside the table.

        Parameters
        ----------
        threshold : float
            Lowest score shown.

        Returns
        -------
        float or None
            The table's own number at its rows, a geometric mean in proportion between two of them.

        Examples
        --------
        >>> OperatingScale(rates=(0.5, 2.0), thresholds=(0.75, 0.25)).expected_rate(0.5)
        1.0
        """
        if not self.thresholds[-1] <= threshold <= self.thresholds[0]:
            return None
        if threshold in self.thresholds:
            return self.rates[self.thresholds.index(threshold)]
        place = self.place_of(threshold)
        row = int(place)
        return float(self.rates[row] * (self.rates[row + 1] / self.rates[row]) ** (place - row))

    def expected_sensitivity(self, threshold: float) -> float | None:
        """Give the share of nodules to expect among the marks, None outside the table and where it is not known.

        Parameters
        ----------
        threshold : float
            Lowest score shown.

        Returns
        -------
        float or None
            0 to 1: the table's own number at its rows, in proportion between two of them.

        Examples
        --------
        >>> scale = OperatingScale(rates=(0.5, 2.0), thresholds=(0.75, 0.25), sensitivities=(0.5, 0.75))
        >>> scale.expected_sensitivity(0.25), scale.expected_sensitivity(0.5), scale.expected_sensitivity(0.2)
        (0.75, 0.625, None)
        """
        if not self.sensitivities or not self.thresholds[-1] <= threshold <= self.thresholds[0]:
            return None
        if threshold in self.thresholds:
            return self.sensitivities[self.thresholds.index(threshold)]
        place = self.place_of(threshold)
        row = int(place)
        low, high = self.sensitivities[row : row + 2]
        return low + (place - row) * (high - low)

    def text(self, threshold: float) -> str:
        """Give the expectation at a threshold in words.

        Parameters
        ----------
        threshold : float
            Lowest score shown.

        Returns
        -------
        str

        Examples
        --------
        >>> scale = OperatingScale(rates=(0.125, 1.0), thresholds=(0.9, 0.5))
        >>> scale.text(0.5), scale.text(0.95), scale.text(0.2)
        ('1 false mark per scan', 'fewer than 1/8 false mark per scan', 'more than 1 false mark per scan')
        >>> OperatingScale(rates=(1.0,), thresholds=(0.5,), sensitivities=(0.8176,)).text(0.5)
        '1 false mark per scan, 82% of nodules found'
        """
        rate, share = self.expected_rate(threshold), self.expected_sensitivity(threshold)
        if rate is not None:
            found = "" if share is None else f", {share:.0%} of nodules found"
            return f"{rate_text(rate)} {_marks(rate)} per scan{found}"
        if threshold > self.thresholds[0]:
            return f"fewer than {rate_text(self.rates[0])} {_marks(self.rates[0])} per scan"
        return f"more than {rate_text(self.rates[-1])} {_marks(self.rates[-1])} per scan"


def rate_text(rate: float) -> str:
    """Give false marks per scan as people write them: 1/8, 1/4, 1/2, 1, 1.4.

    Parameters
    ----------
    rate : float
        False marks per scan.

    Returns
    -------
    str

    Examples
    --------
    >>> [rate_text(rate) for rate in (0.125, 0.7, 4.0)]
    ['1/8', '0.7', '4']
    """
    exact = Fraction(rate)
    if exact.numerator == 1 and 1 < exact.denominator <= 8:
        return str(exact)
    return f"{rate:.2g}"


def _marks(rate: float) -> str:
    return "false mark" if rate == 1 or rate_text(rate).startswith("1/") else "false marks"
