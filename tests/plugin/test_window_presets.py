"""Windows and slabs as numbers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_alnct.core.errors import SettingsError
from napari_alnct.plugin._windows import (
    PRESETS,
    dragged,
    preset_window,
    slices_beside,
    true_slab_mm,
    width_and_level,
    window_of,
)

WIDTHS_AND_LEVELS = {"lung": (1500, -600), "mediastinum": (400, 40), "bone": (1800, 400), "ground glass": (700, -650)}


def test_presets_are_those_of_the_reading_station() -> None:
    """Limits are level minus and plus half the width, exactly."""
    assert {name: width_and_level(window) for name, window in PRESETS.items()} == WIDTHS_AND_LEVELS
    assert {name: window_of(*values) for name, values in WIDTHS_AND_LEVELS.items()} == PRESETS


def test_an_unknown_preset_is_refused_with_the_known_ones() -> None:
    """The message names what was asked for and what there is."""
    with pytest.raises(SettingsError, match="'brain' is none of lung, mediastinum, bone, ground glass"):
        preset_window("brain")


def test_a_drag_never_turns_a_window_over() -> None:
    """However far to the left, a width of 1 HU is left."""
    assert dragged((-160, 240), right_px=-9999, down_px=0) == (39.5, 40.5)


@given(wanted=st.floats(0.1, 60), spacing=st.floats(0.3, 10))
def test_a_slab_is_the_nearest_odd_number_of_slices(wanted: float, spacing: float) -> None:
    """The thickness is an odd number of slices, and its reach to each side nearest to half of what was asked."""
    k = slices_beside(wanted, spacing)
    assert true_slab_mm(wanted, spacing) == pytest.approx((2 * k + 1) * spacing)
    assert abs(k * spacing - wanted / 2) <= spacing / 2 + 1e-9
