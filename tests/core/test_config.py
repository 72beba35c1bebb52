"""Settings: bounds and JSON."""

from __future__ import annotations

import json

import pytest

from napari_alnct.core.config import (
    ClassifierNetSettings,
    DetectionSettings,
    DetectorNetSettings,
    PrepareSettings,
    bounds,
    from_json,
    to_json,
)
from napari_alnct.core.errors import SettingsError


def test_a_value_outside_its_bounds_is_refused_with_the_range() -> None:
    """The message names field, value and range."""
    with pytest.raises(SettingsError, match=r"threshold is 1\.5, allowed is 0\.0 to 1\.0"):
        DetectionSettings(threshold=1.5)


@pytest.mark.parametrize(
    "settings",
    [PrepareSettings(), DetectionSettings(threshold=0.25), DetectorNetSettings(), ClassifierNetSettings(feat_mult=2.0)],
    ids=lambda s: type(s).__name__,
)
def test_json_round_trip(settings: object) -> None:
    """What is stored comes back equal, through real JSON text."""
    assert from_json(type(settings), json.loads(json.dumps(to_json(settings)))) == settings


def test_unknown_settings_are_refused() -> None:
    """A misspelt key does not pass silently."""
    with pytest.raises(SettingsError, match="treshold"):
        from_json(DetectionSettings, {"treshold": 0.5})


def test_bounds_are_readable() -> None:
    """Front ends get bounds and label."""
    assert bounds(PrepareSettings, "spacing_mm")["label"] == "Spacing (mm)"


def test_feat_mult_scales_all_widths_in_steps_of_eight() -> None:
    """16, 32 times 1.5 gives 24, 48; nothing falls below 8."""
    assert ClassifierNetSettings(widths=(16, 32), depths=(1, 1), feat_mult=1.5).channels == (24, 48)
    assert ClassifierNetSettings(widths=(16, 32), depths=(1, 1), feat_mult=0.125).channels == (8, 8)


def test_every_stage_needs_a_depth() -> None:
    """Widths and depths of different length are refused."""
    with pytest.raises(SettingsError, match="same number of stages"):
        DetectorNetSettings(widths=(8, 16, 24), depths=(1, 1))
