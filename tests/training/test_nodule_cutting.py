"""Cutting annotated nodules: right size and place where the outline is plausible, nothing elsewhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from napari_alnct.training.cases import TrainingCase
from napari_alnct.training.nodule_cutting import cut_donors, cut_nodule

LUNG = -850


def scene(diameter_mm: float, nodule_hu: int = 20, *, blur: float = 0.7) -> np.ndarray:
    """Give noisy lung with a ball in the middle, as a scanner blurs it."""
    rng, axis = np.random.default_rng(0), np.arange(81) - 40.0
    distance = np.sqrt(sum(g**2 for g in np.meshgrid(axis, axis, axis, indexing="ij")))
    hu = ndimage.gaussian_filter(np.where(distance <= diameter_mm / 2, nodule_hu, LUNG).astype(float), blur)
    return (hu + rng.normal(0, 20, hu.shape)).astype(np.int16)


MIDDLE = np.full(3, 40.0)


@pytest.mark.parametrize("diameter_mm", [5.0, 8.0, 14.0, 25.0])
@pytest.mark.parametrize("nodule_hu", [20, -500], ids=["solid", "ground glass"])
def test_a_ball_is_cut_as_large_as_it_is(diameter_mm: float, nodule_hu: int) -> None:
    """Diameter within 10 %, overlap with the true ball at least .85 (Dice)."""
    cut = cut_nodule(scene(diameter_mm, nodule_hu), MIDDLE, diameter_mm)
    assert cut is not None
    assert cut.diameter_mm == pytest.approx(diameter_mm, rel=0.1)
    axis = np.arange(cut.mask.shape[0]) - (cut.mask.shape[0] - 1) / 2
    ball = np.sqrt(sum(g**2 for g in np.meshgrid(axis, axis, axis, indexing="ij"))) <= diameter_mm / 2
    assert 2 * (cut.mask & ball).sum() / (cut.mask.sum() + ball.sum()) > 0.85


def test_an_annotation_beside_the_nodule_still_gives_the_nodule() -> None:
    """Two millimetres off, 20 % too large: the outline follows the voxels."""
    cut = cut_nodule(scene(10.0), MIDDLE + np.array([2.0, 0.0, 0.0]), 12.0)
    assert cut is not None
    assert cut.diameter_mm == pytest.approx(10.0, rel=0.1)


def test_a_vessel_through_the_nodule_ends_at_its_reach() -> None:
    """A thin vessel adds little: diameter within 20 %."""
    hu = scene(12.0)
    hu[:, 39:42, 39:42] = 20
    cut = cut_nodule(hu, MIDDLE, 12.0)
    assert cut is not None
    assert cut.diameter_mm == pytest.approx(12.0, rel=0.2)


def wall() -> np.ndarray:
    """Give a nodule that sits on the chest wall."""
    hu = scene(12.0)
    hu[:, 42:, :] = 40
    return hu


@pytest.mark.parametrize(
    ("hu", "centre", "diameter_mm"),
    [
        (wall(), MIDDLE, 12.0),
        (scene(12.0, LUNG + 60), MIDDLE, 12.0),
        (scene(12.0), MIDDLE + 15.0, 12.0),
        (scene(12.0), MIDDLE, 26.0),
        (scene(12.0), np.full(3, 8.0), 12.0),
        (scene(2.5), MIDDLE, 2.5),
        (scene(34.0), MIDDLE, 34.0),
    ],
    ids=["chest wall", "too faint", "nothing there", "much smaller", "edge of the scan", "too small", "too large"],
)
def test_what_is_not_plausible_is_left_alone(hu: np.ndarray, centre: np.ndarray, diameter_mm: float) -> None:
    """No outline is given, so no donor with a wrong outline is ever inserted."""
    assert cut_nodule(hu, centre, diameter_mm) is None


def test_donors_of_a_case_are_its_nodules(case: TrainingCase) -> None:
    """The two balls of 10 mm, named by number; contrast is over the lung around them."""
    donors = cut_donors(case, ceiling_hu=400.0)
    assert [donor.name for donor in donors] == ["balls nodule 0", "balls nodule 1"]
    assert [donor.diameter_mm for donor in donors] == pytest.approx([10.0, 10.0], rel=0.1)
    assert [donor.level_hu for donor in donors] == [LUNG, LUNG]


@pytest.mark.data
def test_real_nodules_are_cut_inside_their_outlines(data_pack: Path) -> None:
    """Of 100 LIDC nodules with an outline: at least 40 are cut, 90 % of their voxels lie inside it (median).

    The readers' outlines are generous, so ours are smaller; diameters stay within 0.6 to 1.2 of theirs.
    """
    with np.load(data_pack / "nodules" / "lidc_nodules.npz") as cubes:
        hu, masks, diameters = cubes["hu"], cubes["mask"] > 0, cubes["diameter_mm"]
    inside, ratios = [], []
    for cube, mask, diameter in zip(hu, masks, diameters, strict=True):
        padded, centre = np.pad(cube, 12, mode="edge"), np.array(ndimage.center_of_mass(mask)) + 12
        cut = cut_nodule(padded, centre, float(diameter))
        if cut is None:
            continue
        start = np.floor(centre - (max(1.3 * diameter / 2, diameter / 2 + 1.5) + 11)).astype(int)
        box = tuple(slice(a, a + n) for a, n in zip(start, cut.mask.shape, strict=True))
        np.testing.assert_array_equal(padded[box], cut.hu)
        inside.append(np.pad(mask, 12)[box][cut.mask].mean())
        ratios.append(cut.diameter_mm / diameter)
    assert len(inside) >= 40
    assert np.median(inside) > 0.9
    assert 0.6 < np.percentile(ratios, 5) < np.percentile(ratios, 95) < 1.2
