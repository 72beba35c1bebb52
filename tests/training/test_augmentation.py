"""Drawn changes: ranges, strength, HU; both ways to apply them against hand-worked answers and each other."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from napari_alnct.core.config import from_json, to_json
from napari_alnct.core.errors import SettingsError
from napari_alnct.training.augmentation import AugmentSettings, PatchChange, PatchFrame, check_elastic, draw_change
from napari_alnct.training.batch_augmentation import augment_batch, change_batch
from napari_alnct.training.torchio_augmentation import change_patch

FRAME = PatchFrame(patch_vox=24, stored_vox=36, spacing_mm=1.0, low_hu=-1000.0, high_hu=400.0)
FINER = replace(FRAME, patch_vox=28, spacing_mm=0.8, low_hu=-1200.0, high_hu=600.0)
EVERYTHING = AugmentSettings(
    affine_probability=1.0,
    elastic_probability=1.0,
    blur_probability=1.0,
    hu_probability=1.0,
    gamma_probability=1.0,
    noise_probability=1.0,
)
Apply = Callable[[NDArray[np.int16], PatchChange, PatchFrame], Tensor]


def batched(stored_hu: NDArray[np.int16], change: PatchChange, frame: PatchFrame) -> Tensor:
    return change_batch(torch.from_numpy(stored_hu)[None], [change], frame)[0]


BOTH = pytest.mark.parametrize("apply", [change_patch, batched], ids=["torchio", "batched"])


@pytest.fixture(scope="module")
def cube() -> NDArray[np.int16]:
    """Give a smooth stored cube with another look from every side, within the window."""
    rough = np.random.default_rng(0).standard_normal((36, 36, 36))
    return np.clip(ndimage.gaussian_filter(rough, 2) * 4000 - 400, -1000, 400).astype(np.int16)


def spot_at(offset_zyx: tuple[float, float, float]) -> NDArray[np.int16]:
    """Give a stored cube of air with a soft spot at an offset from its middle, voxels."""
    distances = np.indices((36, 36, 36)) - 17.5 - np.array(offset_zyx)[:, None, None, None]
    return np.rint(-1000 + 1300 * np.exp(-(distances**2).sum(axis=0) / 6)).astype(np.int16)


def spot_in(patch: Tensor) -> NDArray[np.float64]:
    """Give the centre of mass of what is brighter than air, as an offset from the middle, voxels (z, y, x)."""
    return np.array(ndimage.center_of_mass(patch.numpy().astype(float) + 1000)) - 11.5


def level(hu: int, change: PatchChange, apply: Apply, frame: PatchFrame = FRAME) -> float:
    """Give what a patch of a single value holds in its middle after a change."""
    return float(apply(np.full((frame.stored_vox,) * 3, hu, np.int16), change, frame)[12, 12, 12])


@BOTH
def test_no_change_gives_the_stored_middle(apply: Apply, cube: NDArray[np.int16]) -> None:
    """The default change is the inner cube of the stored one, to rounding."""
    np.testing.assert_allclose(apply(cube, PatchChange(), FRAME), cube[6:30, 6:30, 6:30], atol=0.01)


@BOTH
@pytest.mark.parametrize("axis", [0, 1, 2], ids=["z", "y", "x"])
@pytest.mark.parametrize("turned", [False, True], ids=["flip", "flip and turn by nothing"])
def test_each_flip_mirrors_its_own_axis(apply: Apply, cube: NDArray[np.int16], axis: int, turned: bool) -> None:
    """Flip number i of (z, y, x) is numpy's flip of axis i, also on the way that interpolates."""
    flips = tuple(number == axis for number in range(3))
    change = PatchChange(flips_zyx=flips, scale=1.0 + 1e-9 * turned)  # type: ignore[arg-type]
    np.testing.assert_allclose(apply(cube, change, FRAME), np.flip(cube[6:30, 6:30, 6:30], axis), atol=0.05)


@BOTH
@pytest.mark.parametrize(
    ("spot", "change", "expected"),
    [
        ((0, 0, 0), PatchChange(translation_zyx_mm=(2.0, -1.0, 3.0)), (2, -1, 3)),
        ((0, 0, 3), PatchChange(scale=1.5), (0, 0, 4.5)),
        ((0, 0, 4), PatchChange(angles_zyx_deg=(90.0, 0.0, 0.0)), (0, 4, 0)),
        ((0, 0, 4), PatchChange(angles_zyx_deg=(0.0, 90.0, 0.0)), (-4, 0, 0)),
        ((0, 4, 0), PatchChange(angles_zyx_deg=(0.0, 0.0, 90.0)), (4, 0, 0)),
        ((0, 0, 4), PatchChange(flips_zyx=(False, False, True), translation_zyx_mm=(0.0, 0.0, 1.0)), (0, 0, -3)),
        ((0, 0, 4), PatchChange(angles_zyx_deg=(90.0, 0, 0), scale=0.5, translation_zyx_mm=(0.0, 1.0, 0.0)), (0, 3, 0)),
    ],
    ids=["shift", "scale", "about z", "about y", "about x", "flip then shift", "turn, scale, shift"],
)  # fmt: skip
def test_places_by_hand(
    apply: Apply,
    spot: tuple[float, float, float],
    change: PatchChange,
    expected: tuple[float, float, float],
) -> None:
    """A spot at an offset (z, y, x) from the middle goes where the hand says; angles are right-handed in x, y, z."""
    np.testing.assert_allclose(spot_in(apply(spot_at(spot), change, FRAME)), expected, atol=0.02)


@BOTH
def test_millimetres_are_not_voxels(apply: Apply) -> None:
    """With voxels of 0.5 mm a shift by 1 mm is one by 2 voxels, and a blur of 1 mm has a deviation of 2 voxels."""
    frame = replace(FRAME, spacing_mm=0.5)
    shift = PatchChange(translation_zyx_mm=(0.0, 0.0, 1.0))
    np.testing.assert_allclose(spot_in(apply(spot_at((0, 0, 0)), shift, frame)), (0, 0, 2), atol=0.02)
    expected = ndimage.gaussian_filter(spot_at((0, 0, 0))[6:30, 6:30, 6:30].astype(np.float32), 2.0)
    np.testing.assert_allclose(apply(spot_at((0, 0, 0)), PatchChange(blur_mm=1.0), frame), expected, atol=0.05)


@BOTH
def test_voxels_come_from_the_margin_and_only_beyond_it_from_nowhere(apply: Apply) -> None:
    """A cube of 100 HU shifted by its margin stays 100; one voxel more and a layer holds the window's lowest HU."""
    stored = np.full((36, 36, 36), 100, np.int16)
    within, beyond = (apply(stored, PatchChange(translation_zyx_mm=(v, 0.0, 0.0)), FRAME) for v in (6.0, 7.0))
    np.testing.assert_allclose(within, 100, atol=0.01)
    np.testing.assert_allclose(beyond[0], -1000, atol=0.01)
    np.testing.assert_allclose(beyond[1:], 100, atol=0.01)


@BOTH
@pytest.mark.parametrize(
    ("hu", "change", "expected"),
    [
        (-500, PatchChange(hu_factor=1.1), -450),
        (-1000, PatchChange(hu_factor=1.1), -1000),
        (-500, PatchChange(hu_shift=30.0), -470),
        (-500, PatchChange(hu_factor=1.1, hu_shift=-20.0), -470),
        (-300, PatchChange(gamma=2.0), -650),
        (-1000, PatchChange(gamma=0.5), -1000),
        (400, PatchChange(gamma=1.3), 400),
        (-650, PatchChange(hu_shift=350.0, gamma=2.0), -650),
        (390, PatchChange(hu_shift=200.0), 400),
        (-990, PatchChange(hu_shift=-200.0, gamma=2.0), -1000),
    ],
)
def test_hu_by_hand(apply: Apply, hu: int, change: PatchChange, expected: float) -> None:
    """HU scale keeps air, then the shift, then gamma over [-1000, 400], then the window; -300 is its middle."""
    assert level(hu, change, apply) == pytest.approx(expected, abs=0.02)


@BOTH
def test_air_is_kept_in_a_wider_window_too(apply: Apply) -> None:
    """With a window of -1200 to 600 HU the scale still turns about -1000."""
    frame = replace(FRAME, low_hu=-1200.0, high_hu=600.0)
    found = [level(hu, PatchChange(hu_factor=0.9), apply, frame) for hu in (-1000, 0)]
    assert found == pytest.approx([-1000, -100], abs=0.02)


@BOTH
def test_noise_has_its_deviation_in_hu(apply: Apply) -> None:
    """20 HU of noise on a flat patch: mean kept, deviation 20 within 1; another seed gives other noise."""
    flat = np.full((36, 36, 36), -300, np.int16)
    first, other = (apply(flat, PatchChange(noise_hu=20.0, noise_seed=seed), FRAME) for seed in (1, 2))
    assert float(first.mean()) == pytest.approx(-300, abs=1)
    assert float(first.std()) == pytest.approx(20, abs=1)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("row", range(6))
@pytest.mark.parametrize(
    "frame",
    [FRAME, replace(FRAME, patch_vox=28, spacing_mm=0.8, low_hu=-1200.0, high_hu=600.0)],
    ids=["1 mm", "0.8 mm"],
)
def test_both_ways_make_the_same_patch(cube: NDArray[np.int16], row: int, frame: PatchFrame) -> None:
    """Torchio and torch agree to 0.05 HU, all changes at once; only where the stored cube ends its rim may differ."""
    change = draw_change(replace(EVERYTHING, elastic_mm=3.0, translation_mm=1.0), 0, 0, row)
    by_torchio, by_torch = change_patch(cube, change, frame), batched(cube, change, frame)
    differs = (by_torchio - by_torch).abs() > 0.05
    assert differs.float().mean() < 0.05
    inner = slice(6, frame.patch_vox - 6)
    assert not differs[inner, inner, inner].any()


def test_bending_moves_what_it_should(cube: NDArray[np.int16]) -> None:
    """One control point pulled by 3 mm moves the middle by the spline's peak, (2/3)^3 of it, seen in both ways."""
    control = np.zeros((7, 7, 7, 3))
    control[3, 3, 3] = (3.0, 0.0, 0.0)  # (x, y, z) at the middle: voxels are looked up 3 mm further along x
    for apply in (change_patch, batched):
        z, y, x = spot_in(apply(spot_at((0, 0, 0)), PatchChange(control_xyz_mm=control), FRAME))
        assert (z, y) == pytest.approx((0, 0), abs=0.02)
        assert -1.2 < x < -0.6  # -3 * 8 / 27 = -0.89 in the very middle


@pytest.mark.parametrize("row", range(4))
def test_a_patch_does_not_depend_on_its_batch(cube: NDArray[np.int16], row: int) -> None:
    """The same patch, alone and among others, is the same to rounding."""
    keys = [(2, number) for number in range(4)]
    stored = torch.from_numpy(np.stack([np.roll(cube, number, 0) for number in range(4)]))
    together = augment_batch(stored, keys, EVERYTHING, FRAME, seed=1)[row]
    alone = augment_batch(stored[row : row + 1], keys[row : row + 1], EVERYTHING, FRAME, seed=1)[0]
    torch.testing.assert_close(alone, together, atol=0.02, rtol=0)


@BOTH
def test_chance_elsewhere_is_left_alone(apply: Apply, cube: NDArray[np.int16]) -> None:
    """The global generators of torch and numpy go on as if nothing had happened, and do not decide anything."""
    change = draw_change(EVERYTHING, 0, 0, 0)
    torch.manual_seed(1)
    first, torch_state, numpy_state = apply(cube, change, FRAME), torch.get_rng_state(), np.random.get_state()[1]  # noqa: NPY002
    torch.manual_seed(1)
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert np.array_equal(np.random.get_state()[1], numpy_state)  # noqa: NPY002
    torch.manual_seed(2)
    assert torch.equal(apply(cube, change, FRAME), first)


def test_places_are_exact_where_the_network_computes_in_bfloat16(cube: NDArray[np.int16]) -> None:
    """Called inside autocast the batched way gives what it gives outside."""
    change = draw_change(EVERYTHING, 0, 0, 1)
    expected = batched(cube, change, FRAME)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(batched(cube, change, FRAME), expected, atol=0, rtol=0)


def test_values_stay_in_the_window(cube: NDArray[np.int16]) -> None:
    """The strongest settings leave no value outside the window and none that is not a number."""
    settings = replace(EVERYTHING, strength=3.0, elastic_mm=1.0)
    for row in range(8):
        for apply in (change_patch, batched):
            patch = apply(cube, draw_change(settings, 0, 0, row), FRAME)
            assert torch.isfinite(patch).all()
            assert patch.min() >= -1000.001
            assert patch.max() <= 400.001


def drawn(settings: AugmentSettings, n: int = 400) -> list[PatchChange]:
    return [draw_change(settings, 0, 0, row) for row in range(n)]


def test_shares_and_ranges_are_those_of_the_settings() -> None:
    """Over 1000 draws: every value within its range, reaching near its ends, and drawn as often as asked for."""
    s = AugmentSettings(elastic_probability=0.3)
    changes = drawn(s, 1000)
    turned = [c for c in changes if any(c.angles_zyx_deg)]
    angles = np.array([c.angles_zyx_deg for c in turned])
    scales = np.array([c.scale for c in turned])
    noise = np.array([c.noise_hu for c in changes if c.noise_hu])
    shifts = np.array([c.hu_shift for c in changes if c.hu_shift])
    gammas = np.log([c.gamma for c in changes if c.gamma != 1.0])
    for values, low, high in (
        (angles, -15, 15),
        (scales, 0.9, 1.2),
        (noise, 5, 35),
        (shifts, -30, 30),
        (gammas, -0.2, 0.2),
    ):
        assert low <= values.min() < low + 0.05 * (high - low) < high - 0.05 * (high - low) < values.max() <= high
    shares = [
        *np.mean([c.flips_zyx for c in changes], axis=0),
        *(len(found) / 1000 for found in (turned, noise, shifts, gammas)),
        np.mean([c.blur_mm > 0 for c in changes]),
        np.mean([c.control_xyz_mm is not None for c in changes]),
    ]
    assert shares == pytest.approx([0.5, 0.5, 0.5, 0.8, 0.5, 0.5, 0.25, 0.25, 0.3], abs=0.06)


def test_one_transform_can_be_changed_by_itself() -> None:
    """Without noise, everything else is drawn as it was with it."""
    for with_noise, without in zip(
        drawn(AugmentSettings(), 50), drawn(AugmentSettings(noise_probability=0.0), 50), strict=True
    ):
        assert asdict(without) == asdict(replace(with_noise, noise_hu=0.0, noise_seed=0))


def test_seed_epoch_and_row_each_matter() -> None:
    """Another seed, epoch or row gives another change; the same three the same."""
    places = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)]
    angles = {draw_change(AugmentSettings(affine_probability=1.0), *place).angles_zyx_deg for place in places * 2}
    assert len(angles) == 4


def test_strength_scales_all() -> None:
    """Half strength: half the probabilities and magnitudes, roots of the factors of size; double: at most certain."""
    half, double = AugmentSettings(strength=0.5).scaled(), AugmentSettings(strength=2).scaled()
    assert (half.flip_probability, half.affine_probability, half.rotation_deg) == (0.25, 0.4, 7.5)
    assert (half.noise_range_hu, half.hu_shift, half.log_gamma) == ((2.5, 17.5), 15.0, 0.1)
    assert half.scale_range == pytest.approx((math.sqrt(0.9), math.sqrt(1.2)))
    assert (double.flip_probability, double.affine_probability, double.noise_probability) == (0.5, 1.0, 1.0)
    assert AugmentSettings(strength=3, rotation_deg=90).scaled().rotation_deg == 180


def test_strength_zero_changes_nothing() -> None:
    """At strength 0 every draw is the default change."""
    settings = AugmentSettings(strength=0)
    assert settings.is_identity
    assert all(asdict(change) == asdict(PatchChange()) for change in drawn(settings, 50))


def test_settings_survive_json() -> None:
    """To JSON and back gives the same settings."""
    settings = AugmentSettings(strength=0.7, scale_range=(0.8, 1.1), backend="batched")
    assert from_json(AugmentSettings, to_json(settings)) == settings


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"strength": 4.0}, "strength is 4"),
        ({"scale_range": (1.2, 0.9)}, r"scale_range is \(1.2, 0.9\); give the smallest"),
        ({"noise_probability": 1.5}, "noise_probability is 1.5"),
        ({"backend": "gpu"}, "backend is gpu; choose torchio or batched"),
    ],
)
def test_nonsense_is_refused(values: dict[str, object], message: str) -> None:
    """A value outside its bounds, a range upside down and an unknown backend are refused by name."""
    with pytest.raises(SettingsError, match=message):
        AugmentSettings(**values)  # type: ignore[arg-type]


def test_folding_is_refused() -> None:
    """36 voxels of 1 mm hold control points 9 mm apart: 4.5 mm is the most, and strength counts."""
    check_elastic(AugmentSettings(elastic_probability=0.5, elastic_mm=4.5), FRAME)
    with pytest.raises(SettingsError, match=r"elastic_mm is 5 .* up to 4\.5"):
        check_elastic(AugmentSettings(elastic_probability=0.5, elastic_mm=2.5, strength=2), FRAME)
