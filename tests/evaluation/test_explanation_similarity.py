"""How alike maps are: equal, opposite, shifted and faded ones. CPU: below 1 s."""

from __future__ import annotations

import numpy as np
import pytest

from napari_alnct.evaluation.explanation_similarity import (
    correlation,
    map_change,
    own_and_other,
    shift_error_vox,
    similarity,
    strongest_overlap,
    structural_similarity,
)

ONE = np.random.default_rng(0).standard_normal((10, 12, 14)).astype(np.float32)


def test_the_scale_of_a_map_does_not_matter() -> None:
    """A map and three times the map are alike in rank and structure."""
    assert similarity(ONE, 3 * ONE) == (1.0, 1.0)


def test_the_sign_of_a_map_matters() -> None:
    """The negative of a map has rho -1 and hardly any structure in common."""
    rho, ssim = similarity(ONE, -ONE)
    assert rho == pytest.approx(-1)
    assert ssim < 0.2


def test_unrelated_maps_are_not_alike() -> None:
    """Two maps of noise: rho within 0.1 of 0, structure far below 1."""
    other = np.random.default_rng(1).standard_normal(ONE.shape).astype(np.float32)
    rho, ssim = similarity(ONE, other)
    assert abs(rho) < 0.1
    assert ssim < 0.3


def test_an_empty_map_is_like_nothing() -> None:
    """No division by zero, rho 0."""
    assert similarity(ONE, np.zeros_like(ONE))[0] == 0
    assert structural_similarity(np.zeros_like(ONE), np.zeros_like(ONE)) == 1


def test_evidence_is_summed_in_each_mask() -> None:
    """Positive evidence of 6 in the own and 2 in the other nodule; what argues against is left out."""
    values = np.zeros((4, 4, 4), np.float32)
    own, other = np.zeros((2, 4, 4, 4), bool)
    own[0], other[3] = True, True
    values[0, 0, 0], values[0, 1, 1], values[0, 2, 2], values[3, 3, 3] = 4, 2, -9, 2
    assert own_and_other(values, own, other) == (6, 2)


@pytest.mark.parametrize(("factor", "expected"), [(1.0, 0.0), (0.5, 0.5), (0.0, 1.0), (-1.0, 2.0)])
def test_map_change_follows_the_scale(factor: float, expected: float) -> None:
    """A map that shrinks by half has changed by half."""
    assert map_change(ONE, np.float32(factor) * ONE) == pytest.approx(expected)


def test_the_change_of_nothing_has_no_answer() -> None:
    """A map that was empty before cannot be compared."""
    assert np.isnan(map_change(np.zeros_like(ONE), ONE))


def test_correlation_takes_finite_pairs() -> None:
    """A pair with NaN is left out; two pairs, or a constant, have no correlation."""
    assert correlation([1, 2, 3, np.nan], [2, 4, 6, 0]) == pytest.approx(1)
    assert np.isnan(correlation([1, 2], [1, 2]))
    assert np.isnan(correlation([1, 1, 1], [1, 2, 3]))


@pytest.mark.parametrize(("moved", "expected"), [((1, 0, 0), 0), ((0, 0, 0), 1), ((2, 1, 0), np.sqrt(2))])
def test_the_peak_must_follow_the_shift(moved: tuple[int, int, int], expected: float) -> None:
    """Content moved by one voxel: a peak that moved with it is 0 off, one that stayed 1."""
    before, after = np.zeros((2, 8, 8, 8), np.float32)
    before[3, 4, 4] = 1
    after[3 + moved[0], 4 + moved[1], 4 + moved[2]] = 1
    assert shift_error_vox(before, after, (1, 0, 0)) == pytest.approx(expected)


def test_a_map_without_support_cannot_follow() -> None:
    """NaN, not a distance between arbitrary corners."""
    assert np.isnan(shift_error_vox(np.zeros_like(ONE), ONE, (1, 0, 0)))


def test_overlap_of_the_strongest_voxels() -> None:
    """Two of the three strongest are shared: 2 of 4."""
    a, b = np.zeros((2, 9), np.float32)
    a[[0, 1, 2]], b[[1, 2, 3]] = 1, 1
    assert strongest_overlap(a, b, 3) == 0.5
