"""Operating points: what the slider says is what the model's table says."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_alnct.core.errors import SettingsError
from napari_alnct.core.operating_points import OperatingScale, rate_text

POINTS = {0.125: 0.94, 0.25: 0.93, 0.5: 0.84, 1.0: 0.19, 2.0: 0.09, 4.0: 0.06, 8.0: 0.03}


@pytest.fixture
def scale() -> OperatingScale:
    found = OperatingScale.of(POINTS)
    assert found is not None
    return found


def test_rows_of_the_table_are_given_exactly(scale: OperatingScale) -> None:
    """At each whole place stands the stored threshold, and at it the stored rate: no rounding in between."""
    for row, (rate, threshold) in enumerate(POINTS.items()):
        assert scale.threshold_at(row) == threshold
        assert scale.place_of(threshold) == row
        assert scale.expected_rate(threshold) == rate


def test_the_last_place_shows_all(scale: OperatingScale) -> None:
    """Behind the last row comes the lowest score there is, so every mark can be brought back."""
    assert scale.last_place == 7
    assert scale.threshold_at(7) == 0.0
    assert scale.threshold_at(99) == 0.0
    assert scale.threshold_at(-3) == 0.94


@given(st.floats(0, 7))
def test_place_and_threshold_are_inverse(place: float) -> None:
    """A place gives a threshold which lies at that place."""
    scale = OperatingScale.of(POINTS)
    assert scale is not None
    assert scale.place_of(scale.threshold_at(place)) == pytest.approx(place, abs=1e-9)


def test_between_two_rows_the_rate_lies_between_theirs(scale: OperatingScale) -> None:
    """Half way between 1 and 2 false marks per scan: their geometric mean, 1.4."""
    rate = scale.expected_rate((0.19 + 0.09) / 2)
    assert rate == pytest.approx(2**0.5)
    assert scale.text((0.19 + 0.09) / 2) == "1.4 false marks per scan"


def test_outside_the_table_no_number_is_made_up(scale: OperatingScale) -> None:
    """Above the first row and below the last the text gives a bound."""
    assert scale.expected_rate(0.99) is None
    assert scale.text(0.99) == "fewer than 1/8 false mark per scan"
    assert scale.text(0.0) == "more than 8 false marks per scan"


def test_two_rows_of_one_threshold_can_be_read() -> None:
    """Small data sets give such tables; both places give the threshold, which gives the first place."""
    scale = OperatingScale.of({1.0: 0.5, 2.0: 0.5, 4.0: 0.1})
    assert scale is not None
    assert scale.threshold_at(0.5) == 0.5
    assert scale.place_of(0.5) == 0.0
    assert scale.expected_rate(0.5) == 1.0


@pytest.mark.parametrize("points", [{}, {1.0: 0.1, 2.0: 0.5}])
def test_a_table_that_cannot_be_read_both_ways_is_none(points: dict[float, float]) -> None:
    """No table, and one whose thresholds rise: the slider then speaks of scores."""
    assert OperatingScale.of(points) is None


def test_a_broken_scale_says_what_to_do() -> None:
    """The error names what was found and the next step."""
    with pytest.raises(SettingsError, match="calibrate the model again"):
        OperatingScale(rates=(1.0,), thresholds=())


def test_rates_are_written_as_people_write_them() -> None:
    """Halves, quarters and eighths as fractions, others with two digits."""
    assert [rate_text(rate) for rate in (0.125, 0.5, 0.3333, 1.0, 12.0)] == ["1/8", "1/2", "0.33", "1", "12"]


def test_sensitivities_are_those_of_the_table() -> None:
    """Exact at each row, between two rows in proportion, none outside, none where one is missing."""
    shares = dict(zip(POINTS, (0.6, 0.6, 0.66, 0.82, 0.85, 0.85, 0.86), strict=True))
    scale = OperatingScale.of(POINTS, shares)
    assert scale is not None
    assert [scale.expected_sensitivity(threshold) for threshold in POINTS.values()] == list(shares.values())
    assert scale.expected_sensitivity((0.19 + 0.09) / 2) == pytest.approx((0.82 + 0.85) / 2)
    assert (scale.expected_sensitivity(0.99), scale.expected_sensitivity(0.0)) == (None, None)
    assert scale.text(0.19) == "1 false mark per scan, 82% of nodules found"
    assert scale.text(0.0) == "more than 8 false marks per scan"
    partial = OperatingScale.of(POINTS, {1.0: 0.82})
    assert partial is not None
    assert partial.text(0.19) == "1 false mark per scan"
    with pytest.raises(SettingsError, match="2 sensitivities for 1 operating points"):
        OperatingScale(rates=(1.0,), thresholds=(0.5,), sensitivities=(0.8, 0.9))
