"""Taking voxels away, asked of a network whose answer is known by hand. CPU: about 3 s."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from napari_alnct.evaluation.explanation_faithfulness import (
    BLURRED,
    FILLS,
    LUNG,
    SHARES,
    drop_without,
    mean_over_shares,
    random_lung,
    removal_areas,
    surround,
)
from napari_alnct.evaluation.explanation_localisation import first_voxels, strongest_first
from napari_alnct.evaluation.explanation_road import impute, road_difference

EDGE = 24
FloatArray = NDArray[np.float64]


@pytest.fixture
def mask() -> NDArray[np.bool_]:
    """Give a ball of radius 3 off the middle: 0.9 % of the voxels."""
    z, y, x = np.ogrid[:EDGE, :EDGE, :EDGE]
    return (z - 8) ** 2 + (y - 15) ** 2 + (x - 12) ** 2 <= 9


@pytest.fixture
def cube(mask: NDArray[np.bool_]) -> NDArray[np.int16]:
    """Give lung with noise and a nodule of 0 HU."""
    noise = np.random.default_rng(5).normal(-850, 20, mask.shape)
    return np.rint(np.where(mask, 0, noise)).astype(np.int16)


class NoduleMeter:
    """A network that sees the nodule's mean HU alone: 0 HU gives logit 8.5, lung 0."""

    def __init__(self, mask: NDArray[np.bool_]) -> None:
        self.mask, self.n_cubes = mask, 0

    def __call__(self, cubes: NDArray[np.int16]) -> FloatArray:
        self.n_cubes += len(cubes)
        return (cubes[:, self.mask].mean(axis=1) + 850) / 100


def test_fills_know_nothing_of_the_nodule_and_keep_the_form(mask: NDArray[np.bool_], cube: NDArray[np.int16]) -> None:
    """Plain lung scores about 0; the blurred patch keeps some of the nodule; both are int16 patches."""
    around = surround(NoduleMeter(mask), cube)
    assert tuple(around.fills) == FILLS
    assert around.logit == pytest.approx(8.5)
    assert abs(around.fill_logits[LUNG]) < 0.1
    assert 0 < around.fill_logits[BLURRED] < 4
    assert all(fill.dtype == np.int16 and fill.shape == cube.shape for fill in around.fills.values())


def test_the_true_mask_beats_chance_by_far(mask: NDArray[np.bool_], cube: NDArray[np.int16]) -> None:
    """With 1 % of the voxels the whole nodule is gone or there; random voxels change the score by their share."""
    score = NoduleMeter(mask)
    around = surround(score, cube)
    true = removal_areas(score, around, strongest_first(mask.astype(np.float32)))
    noise = np.random.default_rng(2).random(mask.shape, dtype=np.float32)
    random = removal_areas(score, around, strongest_first(noise))
    for fill in FILLS:
        assert true[f"deletion {fill}"] < 0.35
        assert true[f"insertion {fill}"] > 0.65
        assert random[f"deletion {fill}"] > 0.9
        assert random[f"insertion {fill}"] < 0.1


def test_deletion_by_hand(mask: NDArray[np.bool_], cube: NDArray[np.int16]) -> None:
    """Each share deletes its part of the nodule, so the curve is 1 minus share over 0.9 %, down to 0."""
    score = NoduleMeter(mask)
    around = surround(score, cube)
    areas = removal_areas(score, around, strongest_first(mask.astype(np.float32)))
    left = np.array([1 - min(1, round(share * mask.size) / mask.sum()) for share in SHARES])
    assert areas["deletion lung"] == pytest.approx(mean_over_shares(left), abs=0.01)
    assert areas["insertion lung"] == pytest.approx(mean_over_shares(1 - left), abs=0.01)


def test_one_call_scores_all_cubes(mask: NDArray[np.bool_], cube: NDArray[np.int16]) -> None:
    """Two fills, two ways, six shares: 24 cubes, no more."""
    score = NoduleMeter(mask)
    around = surround(score, cube)
    score.n_cubes = 0
    removal_areas(score, around, strongest_first(mask.astype(np.float32)))
    assert score.n_cubes == 24


def test_a_patch_like_its_fill_has_no_answer(mask: NDArray[np.bool_]) -> None:
    """Where less than a logit lies between patch and fill, the areas are NaN instead of noise divided by noise."""
    lung = np.full(mask.shape, -850, np.int16)
    score = NoduleMeter(mask)
    areas = removal_areas(score, surround(score, lung), strongest_first(mask.astype(np.float32)))
    assert all(np.isnan(value) for value in areas.values())


def test_mean_over_shares_of_a_constant_is_the_constant() -> None:
    """Trapezia over the logarithm, divided by its length."""
    assert mean_over_shares(np.full(len(SHARES), 0.4)) == pytest.approx(0.4)


def test_targeted_deletion_of_the_mask_costs_the_whole_score(mask: NDArray[np.bool_], cube: NDArray[np.int16]) -> None:
    """The mask costs 8.5 logits, half of it half, lung elsewhere nothing."""
    score = NoduleMeter(mask)
    around = surround(score, cube)
    half = first_voxels(strongest_first(mask.astype(np.float32)), int(mask.sum()) // 2, mask.shape)
    elsewhere = random_lung(cube, mask, seed=1)
    drops = drop_without(score, around, [mask, half, *elsewhere])
    assert drops[0] == pytest.approx(8.5, abs=0.1)
    assert drops[1] == pytest.approx(4.25, abs=0.2)
    assert np.abs(drops[2:]).max() < 0.01
    assert len(elsewhere) == 4


def test_random_lung_is_lung_of_the_same_shape_clear_of_the_nodule(
    mask: NDArray[np.bool_], cube: NDArray[np.int16]
) -> None:
    """Each place has the nodule's volume, no voxel of it, and lung in 70 % or more of its voxels."""
    cube[:, :10] = 40  # the chest wall
    for place in random_lung(cube, mask, seed=2):
        assert place.sum() == mask.sum()
        assert not (place & mask).any()
        assert (cube[place] < -600).mean() >= 0.7


def test_no_room_for_random_lung_gives_none(mask: NDArray[np.bool_]) -> None:
    """A patch without lung has no such place."""
    assert random_lung(np.zeros(mask.shape, np.int16), mask) == []


def test_imputed_voxels_follow_a_ramp(mask: NDArray[np.bool_]) -> None:
    """A linear ramp is in balance with its 26 neighbours, so a hole in it is filled to within 2 HU."""
    z, y, x = np.ogrid[:EDGE, :EDGE, :EDGE]
    ramp = (-900 + 10 * z + 4 * y - 3 * x).astype(np.int16)
    filled = impute(np.where(mask, 3000, ramp).astype(np.int16), mask, noise_hu=0)
    assert np.abs(filled.astype(int) - ramp)[mask].max() <= 2
    assert np.array_equal(filled[~mask], ramp[~mask])


def test_scattered_holes_are_filled_from_their_neighbours() -> None:
    """80 % of the voxels of a flat patch missing: all come back, with the noise that was asked for."""
    flat = np.full((EDGE,) * 3, -700, np.int16)
    missing = np.random.default_rng(0).random(flat.shape) < 0.8
    assert np.array_equal(impute(np.where(missing, 0, flat).astype(np.int16), missing, noise_hu=0), flat)
    assert impute(flat, missing, noise_hu=10)[missing].std() == pytest.approx(10, rel=0.1)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_nothing_missing_or_nothing_known_changes_nothing(share: float, cube: NDArray[np.int16]) -> None:
    """Without a hole, or without a voxel to fill it from, the patch comes back as it was."""
    assert np.array_equal(impute(cube, np.full(cube.shape, share > 0)), cube)


def test_road_tells_the_right_order_from_the_wrong_one(mask: NDArray[np.bool_], cube: NDArray[np.int16]) -> None:
    """The true map loses the score with its first 20 %; its negative loses it last, with the opposite sign."""
    score = NoduleMeter(mask)
    right = road_difference(score, cube, strongest_first(mask.astype(np.float32)))
    wrong = road_difference(score, cube, strongest_first(-mask.astype(np.float32)))
    assert right > 4
    assert wrong == pytest.approx(-right, rel=0.2)
