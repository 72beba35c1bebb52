"""What a search over the classifier's settings may change, and how a trial's numbers become settings.

A *trial* is one training with settings of its own. Its *parameters* are a few plain numbers;
all other settings are those of the base, the settings that the search was begun with.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from napari_alnct.core.errors import SettingsError
from napari_alnct.training.augmentation import AugmentSettings, PatchFrame, check_elastic
from napari_alnct.training.classifier_settings import ClassifierSettings

if TYPE_CHECKING:
    import optuna

WIDTHS = (8, 16, 24, 32)
STAGES = (3, 4, 5)
MOST_BLOCKS = 4
FEWEST_CELLS = 2  # along each edge of the deepest stage
PLAIN_STAGES = 2  # the first ones have one block: there the maps are large
SEARCHABLE = ("width", "stages", "blocks", "learning_rate", "weight_decay", "dropout", "strength", "neg_ratio")
LARGEST_SEED = 2**31 - 1

Value = int | float


@dataclass(frozen=True, kw_only=True)
class Range:
    """Numbers from `low` to `high`; `is_log`: evenly over their logarithm."""

    low: float
    high: float
    is_log: bool = False


NUMBERS = {
    "learning_rate": Range(low=1e-4, high=1e-2, is_log=True),
    "weight_decay": Range(low=1e-4, high=0.3, is_log=True),
    "dropout": Range(low=0.0, high=0.6),
    "strength": Range(low=0.0, high=1.5),
    "neg_ratio": Range(low=0.5, high=4.0, is_log=True),
}


@dataclass(frozen=True, kw_only=True)
class TuningSpace:
    """The settings that are searched; the others stay as in the base.

    Parameters
    ----------
    base : ClassifierSettings
        Made for the patches.
    fixed : tuple of str
        Names among `SEARCHABLE` that are not searched.
    most_negatives : float
        Negatives per positive that there are: more cannot be drawn.
    most_strength : float
        Strength of augmentation that the patches bear (`bearable_strength`).

    Raises
    ------
    SettingsError
        If nothing is left to search, or a name is unknown.
    """

    base: ClassifierSettings
    fixed: tuple[str, ...] = ()
    most_negatives: float = field(default=NUMBERS["neg_ratio"].high)
    most_strength: float = field(default=NUMBERS["strength"].high)

    def __post_init__(self) -> None:
        """Check the names."""
        unknown = sorted(set(self.fixed) - set(SEARCHABLE))
        if unknown:
            raise SettingsError(f"{', '.join(unknown)} cannot be searched; known are {', '.join(SEARCHABLE)}")
        if not self.names:
            raise SettingsError("every setting is fixed, so there is nothing to search; leave some flags out")

    @property
    def names(self) -> tuple[str, ...]:
        """Give the names of the parameters that are searched."""
        fixed = set(self.fixed) | (set() if self.base.neg_ratio else {"neg_ratio"})
        if {"width", "stages", "blocks"} & fixed:  # widths and depths belong together
            fixed |= {"width", "stages", "blocks"}
        return tuple(name for name in SEARCHABLE if name not in fixed)

    @property
    def stages(self) -> tuple[int, ...]:
        """Give the numbers of stages that fit the patches."""
        edge = self.base.network.patch_vox
        fit = tuple(n for n in STAGES if edge % 2**n == 0 and edge // 2**n >= FEWEST_CELLS)
        return fit or (2,)

    def range_of(self, name: str) -> Range:
        """Give the range of a number.

        Parameters
        ----------
        name : str
            A key of `NUMBERS`.

        Returns
        -------
        Range
        """
        given = NUMBERS[name]
        most = {"neg_ratio": self.most_negatives, "strength": self.most_strength}.get(name, given.high)
        return replace(given, high=max(given.low, min(given.high, most)))

    def suggest(self, trial: optuna.Trial) -> dict[str, Value]:
        """Let the sampler choose the parameters of a trial.

        Parameters
        ----------
        trial : optuna.Trial
            A fresh one.

        Returns
        -------
        dict of str to number
        """
        params: dict[str, Value] = {}
        for name in self.names:
            if name == "width":
                params[name] = trial.suggest_categorical(name, WIDTHS)
            elif name == "stages":
                params[name] = trial.suggest_categorical(name, self.stages)
            elif name == "blocks":
                params[name] = trial.suggest_int(name, 1, MOST_BLOCKS)
            else:
                r = self.range_of(name)
                params[name] = trial.suggest_float(name, r.low, r.high, log=r.is_log)
        return params

    def settings(self, params: Mapping[str, Value], *, seed: int) -> ClassifierSettings:
        """Give the settings of a trial.

        Parameters
        ----------
        params : mapping
            From `suggest`.
        seed : int
            Of the trial.

        Returns
        -------
        ClassifierSettings

        Examples
        --------
        >>> space = TuningSpace(base=ClassifierSettings())
        >>> found = space.settings({"width": 8, "stages": 3, "blocks": 2, "learning_rate": 0.01}, seed=1)
        >>> found.network.widths, found.network.depths, found.learning_rate, found.weight_decay
        ((8, 16, 32), (1, 1, 2), 0.01, 0.02)
        """
        network: dict[str, Any] = {}
        if "width" in params:
            stages = int(params["stages"])
            network["widths"] = tuple(int(params["width"]) * 2**k for k in range(stages))
            network["depths"] = depths_of(stages, int(params["blocks"]))
        if "dropout" in params:
            network["dropout"] = float(params["dropout"])
        augment: dict[str, Any] = {"strength": float(params["strength"])} if "strength" in params else {}
        rest: dict[str, Any] = {
            n: float(params[n]) for n in ("learning_rate", "weight_decay", "neg_ratio") if n in params
        }
        return replace(
            self.base,
            network=replace(self.base.network, **network),
            augment=replace(self.base.augment, **augment),
            seed=seed,
            **rest,
        )

    def params_of_base(self) -> dict[str, Value] | None:
        """Give the parameters that describe the base itself: the first trial.

        Returns
        -------
        dict of str to number, or None
            None when the base lies outside the space.
        """
        base = self.base
        values: dict[str, Value] = {
            "width": base.network.widths[0],
            "stages": len(base.network.widths),
            "blocks": base.network.depths[PLAIN_STAGES] if len(base.network.depths) > PLAIN_STAGES else 1,
            "learning_rate": base.learning_rate,
            "weight_decay": base.weight_decay,
            "dropout": base.network.dropout,
            "strength": base.augment.strength,
            "neg_ratio": base.neg_ratio or 0.0,
        }
        params = {name: values[name] for name in self.names}
        is_inside = all(self._holds(name, value) for name, value in params.items())
        return params if is_inside and self.settings(params, seed=base.seed) == base else None

    def _holds(self, name: str, value: Value) -> bool:
        if name in NUMBERS:
            r = self.range_of(name)
            return r.low <= value <= r.high
        choices = {"width": WIDTHS, "stages": self.stages, "blocks": range(1, MOST_BLOCKS + 1)}
        return value in choices[name]


def bearable_strength(augment: AugmentSettings, frame: PatchFrame) -> float:
    """Give the largest strength in its range whose elastic deformation does not fold the patches.

    Parameters
    ----------
    augment : AugmentSettings
        Of the base; its own strength does not matter.
    frame : PatchFrame
        Of the patches.

    Returns
    -------
    float
        Rounded down to a thousandth.
    """

    def is_bearable(thousandths: int) -> bool:
        try:
            check_elastic(replace(augment, strength=thousandths / 1000), frame)
        except SettingsError:
            return False
        return True

    high = math.floor(NUMBERS["strength"].high * 1000)
    if is_bearable(high):
        return NUMBERS["strength"].high
    low = 0  # no change at all
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if is_bearable(middle) else (low, middle)
    return low / 1000


def depths_of(stages: int, blocks: int) -> tuple[int, ...]:
    """Give the blocks per stage: one in the first two and the last of four or more, `blocks` between.

    Parameters
    ----------
    stages : int
        At least 2.
    blocks : int
        Of the middle stages.

    Returns
    -------
    tuple of int

    Examples
    --------
    >>> depths_of(4, 2), depths_of(3, 3), depths_of(5, 2), depths_of(2, 4)
    ((1, 1, 2, 1), (1, 1, 3), (1, 1, 2, 2, 1), (1, 1))
    """
    last = (1,) if stages > PLAIN_STAGES + 1 else ()
    return (1,) * PLAIN_STAGES + (blocks,) * (stages - PLAIN_STAGES - len(last)) + last


def trial_seed(seed: int, number: int) -> int:
    """Give the seed of a trial: another one for each, the same whenever it is run.

    Parameters
    ----------
    seed : int
        Of the base.
    number : int
        Of the trial, from 0.

    Returns
    -------
    int

    Examples
    --------
    >>> trial_seed(0, 7), trial_seed(2**31 - 1, 1)
    (7, 0)
    """
    return (seed + number) % (LARGEST_SEED + 1)
