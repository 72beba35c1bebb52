"""All settings of the classifier's training as one object, kept as JSON in its model file."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from napari_alnct.core.config import ClassifierNetSettings, check_bounds, from_json, to_json
from napari_alnct.core.errors import SettingsError
from napari_alnct.training.augmentation import AugmentSettings
from napari_alnct.training.precision import TrainingPrecision

SettingsT = TypeVar("SettingsT")
NOT_OF_THE_RESULT = ("workers",)  # settings that a resumed run may change: they change no number
WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a text", NoneType: "null"}


@dataclass(frozen=True, kw_only=True)
class ClassifierSettings:
    """Network, augmentation, schedule and optimiser of the patch classifier."""

    network: ClassifierNetSettings = field(
        default_factory=lambda: ClassifierNetSettings(widths=(16, 32, 64), depths=(1, 1, 2))
    )
    """Shape of the network; the edge of its patches is that of the training patches. Three stages, as in the second
    look of the bundled model: the head's innermost cube is then 16 voxels wide; with four it is 32, and small nodules
    are learned far more slowly."""
    augment: AugmentSettings = field(default_factory=AugmentSettings)
    """How training patches are changed."""
    epochs: Annotated[int, {"min": 1, "max": 100_000}] = 20
    """Passes over the training patches."""
    batch: Annotated[int, {"min": 1, "max": 4096}] = 16
    """Patches per step, over all processes together."""
    learning_rate: Annotated[float, {"min": 1e-6, "max": 1.0}] = 1e-3
    """Highest learning rate of AdamW."""
    weight_decay: Annotated[float, {"min": 0.0, "max": 1.0}] = 0.02
    """Decoupled weight decay."""
    warmup: Annotated[float, {"min": 0.0, "max": 0.9}] = 0.08
    """Share of the steps with rising learning rate."""
    ema: Annotated[float, {"min": 0.0, "max": 0.99999}] = 0.99
    """Decay of the weight average per step; the average is what is validated and kept."""
    clip: Annotated[float, {"min": 0.0, "max": 1000.0}] = 5.0
    """Largest gradient norm."""
    neg_ratio: Annotated[float | None, {"min": 0.01, "max": 1000.0}] = 1.0
    """Negatives per positive in an epoch, drawn anew for each; none: every patch once."""
    patience: Annotated[int, {"min": 0, "max": 100_000}] = 10
    """Epochs without a better validation before the run stops; 0: it never stops early."""
    seed: Annotated[int, {"min": 0, "max": 2**31 - 1}] = 0
    """Decides start weights, order and changes of patches, dropout."""
    precision: Annotated[TrainingPrecision, {}] = "auto"
    """Number type of the feature maps: bfloat16, float16 (older GPUs), float32, or what the hardware gains by."""
    save_every: Annotated[int, {"min": 1, "max": 1_000_000}] = 200
    """Steps between resume points; one is saved at the end of each epoch, too."""
    log_every: Annotated[int, {"min": 1, "max": 1_000_000}] = 10
    """Steps per line of steps.csv."""
    workers: Annotated[int | None, {"min": 0, "max": 256}] = None
    """Processes that prepare patches; 0: the training process itself; none: by the processors at hand."""

    def __post_init__(self) -> None:
        """Check the bounds."""
        check_bounds(self)

    def for_patches(self, patch_vox: int) -> ClassifierSettings:
        """Give the settings with the network made for patches of this edge, voxels."""
        return replace(self, network=replace(self.network, patch_vox=patch_vox))


_PARTS = ("network", "augment")


def classifier_settings_from_json(values: Mapping[str, Any]) -> ClassifierSettings:
    """Give the settings that JSON values describe.

    Parameters
    ----------
    values : mapping
        Names of settings to values; left-out settings keep their defaults.

    Returns
    -------
    ClassifierSettings

    Raises
    ------
    SettingsError
        If a name is unknown, or a value is of the wrong kind or outside its bounds.

    Examples
    --------
    >>> classifier_settings_from_json({"epochs": 3, "network": {"feat_mult": 2}}).network.channels
    (32, 64, 128)
    """
    settings = _typed(ClassifierSettings, {name: value for name, value in values.items() if name not in _PARTS})
    parts = {name: _changed(getattr(settings, name), values[name], name) for name in _PARTS if name in values}
    return replace(settings, **parts)


def read_classifier_settings(path: Path) -> ClassifierSettings:
    """Give the settings in a JSON file.

    Parameters
    ----------
    path : Path
        As `classifier_settings_from_json`.

    Returns
    -------
    ClassifierSettings

    Raises
    ------
    SettingsError
        If the file is not JSON, or holds something else than these settings.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as fault:
        raise SettingsError(f"{path.name}: not a readable JSON file ({fault}); see --help for an example") from fault
    if not isinstance(values, dict):
        raise SettingsError(f'{path.name}: settings are written as {{"name": value}}; see --help for an example')
    try:
        return classifier_settings_from_json(values)
    except SettingsError as fault:
        raise SettingsError(f"{path.name}: {fault}") from fault


def _changed(settings: SettingsT, values: object, name: str) -> SettingsT:
    """Give settings with some of them replaced by JSON values."""
    if not isinstance(values, Mapping):
        raise SettingsError(f'{name} is {values!r}; write {{"name": value}}')
    return _typed(type(settings), to_json(settings) | dict(values), f"{name}.")


def _typed(cls: type[SettingsT], values: Mapping[str, Any], place: str = "") -> SettingsT:
    """Give settings from JSON values of the right kinds."""
    hints = get_type_hints(cls)
    for name, value in values.items():
        if name in hints and not _fits(value, hints[name]):
            raise SettingsError(f"{place}{name} is {value!r}; give {_spoken(hints[name])}")
    return from_json(cls, dict(values))


def _fits(value: object, hint: Any) -> bool:
    """Tell whether a JSON value is of the kind of a field."""
    kind, inner = get_origin(hint), get_args(hint)
    if kind in (Union, UnionType):
        return any(_fits(value, option) for option in inner)
    if kind is Literal:
        return value in inner
    if kind is tuple:
        n = len(inner) if inner[-1] is not Ellipsis else None
        return isinstance(value, list | tuple) and n in (None, len(value)) and all(_fits(v, inner[0]) for v in value)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return isinstance(value, hint) and (hint is bool or not isinstance(value, bool))


def _spoken(hint: Any) -> str:
    kind, inner = get_origin(hint), get_args(hint)
    if kind in (Union, UnionType):
        return " or ".join(_spoken(option) for option in inner)
    if kind is Literal:
        return "one of " + ", ".join(str(option) for option in inner)
    if kind is tuple:
        return f"a list, each {_spoken(inner[0])}"
    return WORDS.get(hint, str(hint))
