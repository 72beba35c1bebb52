"""Donors put into other lungs: where, how large, and without a telltale seam."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score

from napari_alnct.core.geometry import Geometry
from napari_alnct.training.cases import TrainingCase, find_spots, make_case
from napari_alnct.training.crops import CropSettings, degrade
from napari_alnct.training.donor_drawing import draw_donor, draw_faint_donor, median_contrast_hu
from napari_alnct.training.frames import PatchFrame, cut
from napari_alnct.training.insertion import (
    WAYS,
    Donor,
    blend,
    is_visible,
    make_donor,
    transform_donor,
    vary,
)
from napari_alnct.training.placement import place_donors
from napari_alnct.training.sources import load_pack_cases, load_pack_donors, pack_case_names


def ball_donor(diameter_mm: float = 10.0, nodule_hu: int = 20) -> Donor:
    axis = np.arange(41) - 20.0
    distance = np.sqrt(sum(g**2 for g in np.meshgrid(axis, axis, axis, indexing="ij")))
    mask = distance <= diameter_mm / 2
    hu = np.where(mask, nodule_hu, -850).astype(np.int16)
    volume_diameter = float((6 / np.pi * mask.sum()) ** (1 / 3))
    return make_donor(hu, mask, volume_diameter, ceiling_hu=400.0, name="ball")


def centroid(contrast: np.ndarray) -> np.ndarray:
    grid = np.indices(contrast.shape).reshape(3, -1)
    return (grid * contrast.ravel()).sum(axis=1) / contrast.sum()


@pytest.mark.parametrize("scale", [0.5, 1.0, 1.6])
def test_a_ball_lands_where_and_as_large_as_told(scale: float) -> None:
    """Centroid within 0.5 voxel of the place, volume-equivalent diameter within 12 % of the label."""
    rng = np.random.default_rng(3)
    donor = transform_donor(ball_donor(12.0), scale, rng)
    host = np.full((60, 60, 60), -850, np.float32)
    assert blend(host, donor, np.array([30, 25, 33]))
    above = host + 850
    np.testing.assert_allclose(centroid(np.clip(above, 0, None)), [30, 25, 33], atol=0.5)
    found = (6 / np.pi * (above > above.max() / 2).sum()) ** (1 / 3)
    assert found == pytest.approx(donor.diameter_mm, rel=0.12)
    assert donor.diameter_mm == pytest.approx(ball_donor(12.0).diameter_mm * scale)


def test_a_centre_outside_changes_nothing() -> None:
    """The host stays as it was and the caller is told."""
    host = np.zeros((20, 20, 20), np.float32)
    assert not blend(host, ball_donor(), np.array([25, 10, 10]))
    assert not host.any()


def test_scales_lead_to_luna16_like_sizes() -> None:
    """From donors of 6 to 20 mm: median 6.4 mm, 42 % below 6 mm as in LUNA16, none beyond the limits."""
    rng = np.random.default_rng(0)
    donors = [ball_donor(d) for d in (6.0, 10.0, 14.0, 20.0)]
    drawn = [draw_donor(donors, rng) for _ in range(1600)]
    sizes = np.array([donor.diameter_mm * scale for donor, scale in drawn])
    assert np.median(sizes) == pytest.approx(6.4, abs=0.4)
    assert np.mean(sizes < 6) == pytest.approx(0.42, abs=0.06)
    assert sizes.min() >= 3.25 - 1e-9
    assert sizes.max() <= 32.1
    assert len({donor.diameter_mm for donor, _ in drawn}) == 4


def test_a_donor_that_no_scale_brings_to_the_wish_is_still_used() -> None:
    """With one large donor the smallest allowed scale is taken, not an error."""
    rng = np.random.default_rng(0)
    scales = [draw_donor([ball_donor(30.0)], rng)[1] for _ in range(20)]
    assert min(scales) == pytest.approx(0.35)


def test_faint_donors_are_drawn_more_often() -> None:
    """Of four equally frequent donors the faintest is 1/4 of the plain draws and 1 - (3/4)^3 of the others."""
    rng = np.random.default_rng(0)
    donors = [replace(ball_donor(8.0), contrast_hu=ball_donor(8.0).contrast_hu * k, name=str(k)) for k in (1, 2, 3, 4)]
    assert median_contrast_hu(donors[1]) == pytest.approx(2 * median_contrast_hu(donors[0]))
    names = [draw_faint_donor(donors, rng, share=0.5)[0].name for _ in range(1200)]
    assert names.count("1") / 1200 == pytest.approx(0.5 * 0.25 + 0.5 * (1 - 0.75**3), abs=0.05)
    assert names.count("4") / 1200 == pytest.approx(0.5 * 0.25 + 0.5 * 0.25**3, abs=0.04)


@pytest.mark.parametrize(("share", "expected"), [(0.0, 0.0), (0.4, 0.4), (1.0, 1.0)])
def test_the_share_beside_vessels_can_be_chosen(share: float, expected: float) -> None:
    """Of the others two thirds lie in aerated lung and one third at the pleura."""
    host = np.full((48, 48, 48), -850, np.float32)
    spots = np.array([[24, 24, 24]], np.int16)
    case = replace(_empty_case(host), spots=dict.fromkeys(("aerated", "vessel", "pleura"), spots))
    rng, nothing = np.random.default_rng(0), (np.zeros((0, 3)), np.zeros(0))
    sorts = [
        place_donors(
            host.copy(),
            case,
            PatchFrame(np.zeros(3, int), 48),
            [ball_donor(6.0)],
            nothing,
            1,
            0,
            8.0,
            rng,
            vessel_share=share,
        ).sorts[0]
        for _ in range(400)
    ]
    assert sorts.count("vessel") / 400 == pytest.approx(expected, abs=0.08)
    assert sorts.count("pleura") / 400 == pytest.approx((1 - expected) / 3, abs=0.08)


@pytest.mark.parametrize("way", WAYS)
def test_every_way_of_blending_gives_the_nodule_in_plain_lung(way: str) -> None:
    """In empty lung of the donor's own level the middle is the donor's, the far corner the host's."""
    host = np.full((50, 50, 50), -850, np.float32)
    assert blend(host, transform_donor(ball_donor(), 1.0, np.random.default_rng(0)), np.array([25, 25, 25]), way)
    assert host[25, 25, 25] == pytest.approx(20, abs=5)
    assert host[2, 2, 2] == -850


@pytest.mark.parametrize("way", WAYS)
def test_no_way_of_blending_darkens_a_vessel(way: str) -> None:
    """Dense tissue of the host stays dense inside the nodule."""
    host = np.full((50, 50, 50), -850, np.float32)
    host[25, 25, :] = 200
    blend(host, transform_donor(ball_donor(), 1.0, np.random.default_rng(0)), np.array([25, 25, 25]), way)
    assert host[25, 25, 25] >= 195


def test_variation_makes_some_nodules_faint_and_never_moves_them() -> None:
    """About a fifth lose density, a part of these keep a solid core; size and place stay."""
    rng = np.random.default_rng(0)
    donor = transform_donor(ball_donor(14.0), 1.0, rng)
    varied = [vary(donor, rng)[0] for _ in range(300)]
    z, y, x = donor.centre_zyx_vox.astype(int)
    at_middle = np.array([v.contrast_hu[z, y, x] for v in varied])
    off_middle = np.array([v.contrast_hu[z, y, x + 5] for v in varied])
    is_faint = off_middle < 500
    assert np.mean(is_faint) == pytest.approx(0.2, abs=0.06)
    assert 0.2 < np.mean(at_middle[is_faint] > 700) < 0.6
    assert {v.diameter_mm for v in varied} == {donor.diameter_mm}


@pytest.mark.data
def test_pasted_lung_cannot_be_told_from_untouched_lung(data_pack: Path) -> None:
    """The seam is no cue: gradient boosting on local statistics stays at AUC 0.5 +- 0.1 on other scans.

    Plain lung goes through the donor's code into real lungs; the counterpart is
    the same place left alone; both then get the same degradation.
    """
    names = pack_case_names(data_pack)[:3]
    cases = list(load_pack_cases(data_pack, leave_out=set(pack_case_names(data_pack)) - set(names)))
    donors = load_pack_donors(data_pack, ceiling_hu=400.0)
    settings, rng = CropSettings(), np.random.default_rng(0)
    features, labels, groups = [], [], []
    for group, case in enumerate(cases):
        spots = case.spots["aerated"][rng.choice(len(case.spots["aerated"]), 150, replace=False)].astype(int)
        for number, spot in enumerate(spots):
            patch = np.clip(cut(case.hu, spot - 24, 48, -1000.0), settings.low_hu, settings.high_hu)
            if number % 2:
                nothing = np.zeros((0, 3)), np.zeros(0)
                only_middle = _with_spots(case, spot)
                place_donors(
                    patch,
                    only_middle,
                    PatchFrame(spot - 24, 48),
                    donors,
                    nothing,
                    0,
                    1,
                    settings.round_hu,
                    rng,
                    is_varied=True,
                )
            features.append(_statistics(degrade(patch, rng)))
            labels.append(number % 2)
            groups.append(group)
    x, y, g = np.array(features), np.array(labels), np.array(groups)
    aucs = []
    for held in range(len(cases)):
        model = HistGradientBoostingClassifier(max_iter=60, random_state=0).fit(x[g != held], y[g != held])
        aucs.append(roc_auc_score(y[g == held], model.predict_proba(x[g == held])[:, 1]))
    assert np.mean(aucs) == pytest.approx(0.5, abs=0.1)


def _with_spots(case: object, spot: np.ndarray) -> object:
    """Give the case with one place to paste at, and its own lung as tissue."""
    one = spot[None].astype(np.int16)
    return replace(case, spots={**case.spots, "vessel": one, "pleura": one, "aerated": case.spots["aerated"]})  # type: ignore[attr-defined, type-var]


def _statistics(patch: np.ndarray) -> list[float]:
    """Give means, spreads, extremes and gradients in shells around the middle."""
    axis = np.arange(patch.shape[0]) - patch.shape[0] / 2
    radius = np.sqrt(sum(g**2 for g in np.meshgrid(axis, axis, axis, indexing="ij")))
    gradient = np.sqrt(sum(np.gradient(patch, axis=k) ** 2 for k in range(3)))
    out: list[float] = []
    for low, high in ((0, 4), (4, 7), (7, 10), (10, 14), (14, 20)):
        shell = (radius >= low) & (radius < high)
        out += [patch[shell].mean(), patch[shell].std(), patch[shell].max(), gradient[shell].mean()]
    return out


def test_spots_are_what_they_are_called() -> None:
    """In a ball of lung with a vessel: aerated spots are dark, vessel spots dense, pleura spots at the rim."""
    axis = np.arange(60) - 30.0
    distance = np.sqrt(sum(g**2 for g in np.meshgrid(axis, axis, axis, indexing="ij")))
    lungs = distance < 26
    hu = np.where(lungs, -850, 40).astype(np.int16)
    hu[30, 30, 10:50] = 30
    spots = find_spots(hu, lungs, seed=0)
    assert (hu[tuple(spots["vessel"].T.astype(int))] > -500).all()
    assert (distance[tuple(spots["pleura"].T.astype(int))] > 20).all()
    assert len(spots["aerated"]) > 100


def test_a_nodule_is_not_put_where_nobody_would_see_it() -> None:
    """Lung shows it, a place that is as dense already does not, the edge of one does as long as 0.4 are left."""
    donor = transform_donor(ball_donor(8.0), 1.0, np.random.default_rng(0))
    host = np.full((48, 48, 48), -850, np.float32)
    host[:, :, 24:] = 40.0  # a wall
    assert is_visible(host, donor, np.array([24, 24, 12]))
    assert not is_visible(host, donor, np.array([24, 24, 36]))
    assert is_visible(host, donor, np.array([24, 24, 23]))
    assert not is_visible(host, donor, np.array([24, 24, 27]))
    placed = [_place_in_wall(host, seed) for seed in range(5)]
    assert not any(len(found) for found in placed)


def _place_in_wall(host: np.ndarray, seed: int) -> np.ndarray:
    """Give where donors went in a case whose every spot lies inside the wall."""
    spots = np.array([[24, 24, 36]] * 4, np.int16)
    case = _empty_case(host)
    case = replace(case, spots=dict.fromkeys(case.spots, spots))
    nothing = np.zeros((0, 3)), np.zeros(0)
    frame, rng = PatchFrame(np.zeros(3, int), 48), np.random.default_rng(seed)
    return place_donors(host.copy(), case, frame, [ball_donor(6.0)], nothing, 4, 0, 8.0, rng).centres_zyx_vox


def _empty_case(host: np.ndarray) -> TrainingCase:
    """Give a case without findings that is lung all over."""
    return make_case(
        "wall",
        host.astype(np.int16),
        np.ones(host.shape, bool),
        Geometry(shape_zyx=host.shape, spacing_zyx_mm=(1.0, 1.0, 1.0)),
        nodules_xyz_mm=np.zeros((0, 3)),
        diameters_mm=np.zeros(0),
        excluded_xyz_mm=np.zeros((0, 3)),
        excluded_diameters_mm=np.zeros(0),
    )
