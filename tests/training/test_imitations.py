"""Made hard negatives: they change the lung, keep clear of nodules, and are no nodules themselves."""

from __future__ import annotations

import numpy as np
import pytest

from napari_alnct.training.imitations import IMITATIONS, Site, free_lung, imitate, smooth_noise

EDGE = 64
NODULE = np.array([[30.0, 32.0, 34.0]])


def lung_patch(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    hu = np.full((EDGE,) * 3, -850, np.float32) + rng.normal(0, 10, (EDGE,) * 3).astype(np.float32)
    lungs = np.zeros(hu.shape, bool)
    lungs[:, 4:60, 4:60] = True
    hu[~lungs] = 40
    return hu, lungs


@pytest.mark.parametrize("name", list(IMITATIONS))
def test_each_imitation_changes_the_free_lung_and_nothing_else(name: str) -> None:
    """Somewhere in the lung voxels change by 50 HU and more; chest wall and nodule stay, whatever the chance."""
    hu, lungs = lung_patch()
    free = free_lung(lungs, NODULE, np.array([5.0]))
    z, y, x = np.indices(hu.shape)
    near = (z - 30.0) ** 2 + (y - 32.0) ** 2 + (x - 34.0) ** 2 < 8.0**2
    largest = 0.0
    for seed in range(5):
        painted = IMITATIONS[name][0](Site(hu, free, np.random.default_rng(seed)))
        result = hu + free * (painted - hu)
        assert np.isfinite(result).all()
        np.testing.assert_array_equal(result[~lungs | near], hu[~lungs | near])
        largest = max(largest, float(np.abs(result - hu).max()))
    assert largest > (50 if name != "motion" else 20)


def test_shares_are_a_distribution() -> None:
    """The shares of the imitations add up to one."""
    assert sum(share for _, share in IMITATIONS.values()) == pytest.approx(1.0)


def test_the_same_chance_gives_the_same_patch() -> None:
    """A patch depends on its generator alone, and the input is not changed."""
    hu, lungs = lung_patch()
    before = hu.copy()
    results = [imitate(hu, lungs, NODULE, np.array([5.0]), np.random.default_rng(9)) for _ in range(2)]
    np.testing.assert_array_equal(results[0][0], results[1][0])
    assert results[0][1] == results[1][1] != ""
    np.testing.assert_array_equal(hu, before)


def test_without_lung_nothing_is_painted() -> None:
    """A patch of chest wall comes back as it was, with an empty name."""
    hu = np.full((EDGE,) * 3, 40, np.float32)
    result, name = imitate(hu, np.zeros(hu.shape, bool), NODULE, np.array([5.0]), np.random.default_rng(0))
    assert name == ""
    np.testing.assert_array_equal(result, hu)


def test_noise_has_the_asked_spread_and_grain() -> None:
    """Standard deviation 1; neighbours agree, values a few grains apart do not."""
    noise = smooth_noise((60, 60, 60), 6.0, np.random.default_rng(0))
    assert noise.shape == (60, 60, 60)
    assert noise.std() == pytest.approx(1.0, abs=0.01)
    assert np.corrcoef(noise[:-1].ravel(), noise[1:].ravel())[0, 1] > 0.9
    assert abs(np.corrcoef(noise[:-24].ravel(), noise[24:].ravel())[0, 1]) < 0.2
