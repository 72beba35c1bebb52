"""Where maps point: hand-worked answers on small grids. CPU: about 2 s."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from napari_alnct.evaluation.explanation_baselines import BASELINES, CENTRE, INTENSITY, RANDOM, baseline_map
from napari_alnct.evaluation.explanation_localisation import (
    average_precision,
    energy_share,
    first_voxels,
    localise,
    overlap,
    peak_error_mm,
    pointing,
    spread,
    strongest_first,
    threshold_overlap,
)

SHAPE = (12, 14, 16)


@pytest.fixture
def mask() -> NDArray[np.bool_]:
    """Give a box of 3 x 3 x 4 voxels off the middle."""
    inside = np.zeros(SHAPE, bool)
    inside[2:5, 8:11, 3:7] = True
    return inside


def test_a_map_equal_to_the_mask_is_perfect(mask: NDArray[np.bool_]) -> None:
    """Every figure takes its best value; the peak is a tie over the mask, so its error is the mean distance."""
    found = localise(mask.astype(np.float32), mask)
    assert (found.pointing, found.energy, found.auprc, found.top_k_iou, found.spread) == (1, 1, 1, 1, 1)
    assert found.chance == 36 / mask.size
    steps = np.argwhere(mask) - np.argwhere(mask).mean(axis=0)
    assert found.peak_error_mm == pytest.approx(np.linalg.norm(steps, axis=1).mean())


def test_random_maps_score_chance(mask: NDArray[np.bool_]) -> None:
    """Over 100 random maps the energy and the AUPRC are the mask's share, the pointing game its grown share."""
    maps = [np.random.default_rng(seed).random(SHAPE, dtype=np.float32) for seed in range(100)]
    found = [localise(one, mask) for one in maps]
    chance = mask.mean()
    assert np.mean([one.energy for one in found]) == pytest.approx(chance, rel=0.05)
    assert np.mean([one.auprc for one in found]) == pytest.approx(chance, rel=0.5)
    assert np.mean([one.pointing for one in found]) < 0.15
    assert np.mean([one.top_k_iou for one in found]) < 0.05


@pytest.mark.parametrize(("voxel", "expected"), [((2, 8, 3), 1), ((1, 8, 3), 1), ((0, 8, 3), 0), ((1, 7, 3), 0)])
def test_the_mask_grows_by_one_voxel_along_faces(
    mask: NDArray[np.bool_], voxel: tuple[int, int, int], expected: int
) -> None:
    """A maximum inside or one step outside the mask counts; two steps, or one along an edge, does not."""
    values = np.zeros(SHAPE, np.float32)
    values[voxel] = 1
    assert pointing(values, mask) == expected


def test_tied_maxima_count_by_their_share(mask: NDArray[np.bool_]) -> None:
    """Two maxima, one of them in the nodule, are half a hit."""
    values = np.zeros(SHAPE, np.float32)
    values[3, 9, 4] = values[11, 0, 0] = 2
    assert pointing(values, mask) == 0.5


def test_a_flat_map_scores_chance(mask: NDArray[np.bool_]) -> None:
    """Equal values enter the curve together, so the AUPRC is the mask's share."""
    flat = np.ones(SHAPE, np.float32)
    assert average_precision(flat, mask) == pytest.approx(mask.mean())
    assert energy_share(flat, mask) == pytest.approx(mask.mean())


def test_a_map_without_support_has_no_peak(mask: NDArray[np.bool_]) -> None:
    """Pointing and energy are 0, peak error and spread have no answer; the sign is not dropped."""
    found = localise(-mask.astype(np.float32), mask)
    assert (found.pointing, found.energy) == (0, 0)
    assert np.isnan(found.peak_error_mm)
    assert np.isnan(found.spread)


def test_evidence_against_is_not_energy(mask: NDArray[np.bool_]) -> None:
    """Of a support of 3 in and 1 outside the nodule, 3/4 is inside whatever argues against."""
    values = np.zeros(SHAPE, np.float32)
    values[3, 9, 4], values[0, 0, 0], values[11, 13, 15] = 3, 1, -50
    assert energy_share(values, mask) == 0.75


def test_average_precision_is_that_of_scikit_learn(mask: NDArray[np.bool_]) -> None:
    """On a map with many ties, against an independent implementation."""
    from sklearn.metrics import average_precision_score

    values = np.round(np.random.default_rng(1).random(SHAPE) + 0.5 * mask, 1).astype(np.float32)
    expected = average_precision_score(mask.ravel(), values.ravel())
    assert average_precision(values, mask) == pytest.approx(expected, abs=1e-12)


def test_peak_error_is_in_millimetres(mask: NDArray[np.bool_]) -> None:
    """The centroid is (3, 9, 4.5); a peak 2 slices of 2.5 mm up and half a voxel of 0.7 mm aside is 5.01 mm off."""
    values = np.zeros(SHAPE, np.float32)
    values[5, 9, 5] = 1
    assert peak_error_mm(values, mask, (2.5, 0.7, 0.7)) == pytest.approx(np.hypot(5.0, 0.35))


def test_spread_counts_voxels_from_half_the_maximum(mask: NDArray[np.bool_]) -> None:
    """72 voxels at half the maximum or more are twice the mask's 36."""
    values = np.full(SHAPE, 0.49, np.float32)
    values.flat[:71] = 0.5
    values.flat[-1] = 1
    assert spread(values, mask) == 2.0


def test_equal_values_are_ranked_without_regard_to_place() -> None:
    """The first voxels of a flat map are spread over it, and the order is the same each time."""
    flat = np.zeros((20, 20, 20), np.float32)
    chosen = first_voxels(strongest_first(flat), 800, flat.shape)
    assert 8.5 < np.argwhere(chosen)[:, 0].mean() < 10.5
    assert np.array_equal(strongest_first(flat), strongest_first(flat.copy()))


def test_strongest_come_first() -> None:
    """Order by signed value, falling."""
    assert strongest_first(np.float32([0.5, -3, 2, 1])).tolist() == [2, 3, 0, 1]


def test_overlap_of_nothing_is_nothing() -> None:
    """Two empty masks overlap by 0, not by a division error."""
    assert overlap(np.zeros(4, bool), np.zeros(4, bool)) == 0


def test_threshold_segmentation_takes_the_piece_at_the_nodule(mask: NDArray[np.bool_]) -> None:
    """A dense box elsewhere does not count; a rim of one voxel of lung in the outline lowers the overlap."""
    hu = np.full(SHAPE, -850, np.int16)
    hu[mask] = 0
    hu[9:, :4, :4] = 500
    assert threshold_overlap(hu, mask) == 1.0
    hu[2] = -850
    assert threshold_overlap(hu, mask) == pytest.approx(2 / 3)
    assert threshold_overlap(np.full(SHAPE, -850, np.int16), mask) == 0.0


def test_baselines_are_what_they_are_called() -> None:
    """The centre prior peaks in the middle, intensity rises with HU from lung on, random follows its seed."""
    hu = np.full((9, 9, 9), -900, np.int16)
    hu[0, 0, 0] = 100
    assert np.unravel_index(baseline_map(CENTRE, hu).argmax(), hu.shape) == (4, 4, 4)
    assert baseline_map(INTENSITY, hu)[0, 0, 0] == 950
    assert baseline_map(INTENSITY, hu)[1, 1, 1] == 0
    assert np.array_equal(baseline_map(RANDOM, hu, 3), baseline_map(RANDOM, hu, 3))
    assert not np.array_equal(baseline_map(RANDOM, hu, 3), baseline_map(RANDOM, hu, 4))
    assert all(baseline_map(name, hu).dtype == np.float32 for name in BASELINES)
    with pytest.raises(ValueError, match="no baseline"):
        baseline_map("zeros", hu)
