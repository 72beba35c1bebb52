"""Training patches for the detector, made on the fly from cases and donors.

Patch number i of a run depends only on (seed, i), so a run can be repeated and
resumed exactly. One intensity path: host and donors are clipped to the same
window and rounded alike before blending, then noise covers the whole patch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_alnct.core.config import check_bounds
from napari_alnct.core.network import OUTPUT_STRIDE
from napari_alnct.core.targets import CellTargets, assign_cells
from napari_alnct.training.cases import SPOT_SORTS, TrainingCase
from napari_alnct.training.insertion import Donor, blend, draw_scale, transform_donor

CLEARANCE_MM = 4.0  # between the rims of an inserted and any other finding
OUTSIDE_MARGIN_MM = 4.0  # around nodules whose centre lies just outside the patch
N_TRIES = 6
MOST_PADDING_VOX = 12  # a patch may reach outside the scan by this much


@dataclass(frozen=True, kw_only=True)
class CropSettings:
    """How training patches are drawn and changed."""

    edge_vox: Annotated[int, {"min": 32, "max": 192}] = 96
    """Edge of the patch."""
    real_nodule_share: Annotated[float, {"min": 0.0, "max": 1.0}] = 0.25
    """Share of patches around a nodule that is in the scan."""
    insertion_share: Annotated[float, {"min": 0.0, "max": 1.0}] = 0.8
    """Share of patches of real scans that get donors."""
    most_insertions: Annotated[int, {"min": 1, "max": 10}] = 4
    """Most donors in one patch."""
    control_share: Annotated[float, {"min": 0.0, "max": 1.0}] = 0.3
    """Share of patches that get plain lung pasted the same way."""
    synthetic_share: Annotated[float, {"min": 0.0, "max": 1.0}] = 0.3
    """Share of patches from phantoms when there are real scans too."""
    low_hu: Annotated[float, {"min": -1500.0, "max": -500.0}] = -1000.0
    """Lower end of the shared window."""
    high_hu: Annotated[float, {"min": 0.0, "max": 3000.0}] = 400.0
    """Upper end of the shared window."""
    round_hu: Annotated[float, {"min": 0.0, "max": 64.0}] = 8.0
    """Rounding step that donors share with real hosts."""

    def __post_init__(self) -> None:
        """Check the bounds."""
        check_bounds(self)


@dataclass(frozen=True, eq=False)
class Patch:
    """One training patch: HU float32 (z, y, x) and its targets."""

    hu: NDArray[np.float32]
    targets: CellTargets


def draw_patch(
    cases: Sequence[TrainingCase], donors: Sequence[Donor], settings: CropSettings, seed: int, number: int
) -> Patch:
    """Give patch `number` of a run.

    Parameters
    ----------
    cases : sequence of TrainingCase
        Hosts, real and synthetic.
    donors : sequence of Donor
        Nodules to insert into real hosts; may be empty.
    settings : CropSettings
        Shares and sizes.
    seed, number : int
        Together decide everything.

    Returns
    -------
    Patch
    """
    rng = np.random.default_rng((seed, number))
    case = _choose_case(cases, settings, rng)
    start = _choose_start(case, settings, rng)
    hu = _cut(case.hu, start, settings.edge_vox, settings.low_hu)
    np.clip(hu, settings.low_hu, settings.high_hu, out=hu)
    centres, diameters = case.centres_zyx_vox - start, case.diameters_mm
    ignored, radii = case.ignored_zyx_vox - start, case.ignored_radii_mm
    if donors and not case.is_synthetic:
        taken = (np.vstack([centres, ignored]), np.concatenate([diameters / 2, radii]))
        more = _insert(hu, case, start, donors, taken, settings, rng)
        centres, diameters = np.vstack([centres, more[0]]), np.concatenate([diameters, more[1]])
    inside = np.all((centres >= 0) & (centres <= settings.edge_vox - 1), axis=1)
    targets = assign_cells(
        (settings.edge_vox // OUTPUT_STRIDE,) * 3,
        centres[inside],
        diameters[inside],
        np.vstack([ignored, centres[~inside]]),
        np.concatenate([radii, diameters[~inside] / 2 + OUTSIDE_MARGIN_MM]),
    )
    return _turn(_degrade(hu, rng), targets, rng)


def _choose_case(cases: Sequence[TrainingCase], settings: CropSettings, rng: np.random.Generator) -> TrainingCase:
    synthetic = [case for case in cases if case.is_synthetic]
    real = [case for case in cases if not case.is_synthetic]
    use_synthetic = synthetic and (not real or rng.random() < settings.synthetic_share)
    pool = synthetic if use_synthetic else real
    return pool[int(rng.integers(len(pool)))]


def _choose_start(case: TrainingCase, settings: CropSettings, rng: np.random.Generator) -> NDArray[np.int_]:
    """Give the first voxel of a patch around a nodule or around a random place in the lungs."""
    if len(case.centres_zyx_vox) and rng.random() < settings.real_nodule_share * (2 if case.is_synthetic else 1):
        focus = case.centres_zyx_vox[rng.integers(len(case.centres_zyx_vox))]
    else:
        spots = case.spots[SPOT_SORTS[rng.integers(len(SPOT_SORTS))]]
        focus = spots[rng.integers(len(spots))].astype(float)
    jitter = rng.uniform(-0.4, 0.4, 3) * settings.edge_vox
    start = np.rint(focus + jitter - settings.edge_vox / 2).astype(int)
    last = np.maximum(np.array(case.hu.shape) - settings.edge_vox, 0)
    return np.clip(start, -MOST_PADDING_VOX, last + MOST_PADDING_VOX)


def _cut(hu: NDArray[np.int16], start: NDArray[np.int_], edge: int, fill: float) -> NDArray[np.float32]:
    """Give a cube of the scan, padded where it reaches outside."""
    out = np.full((edge,) * 3, fill, np.float32)
    source = tuple(slice(max(0, a), max(0, min(n, a + edge))) for a, n in zip(start, hu.shape, strict=True))
    target = tuple(slice(s.start - a, s.stop - a) for s, a in zip(source, start, strict=True))
    out[target] = hu[source]
    return out


def _insert(
    hu: NDArray[np.float32],
    case: TrainingCase,
    start: NDArray[np.int_],
    donors: Sequence[Donor],
    taken: tuple[NDArray[np.float64], NDArray[np.float64]],
    settings: CropSettings,
    rng: np.random.Generator,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Blend donors and plain-lung controls into the patch; give the centres and diameters of the donors."""
    places, radii = [tuple(p) for p in taken[0]], list(taken[1])
    centres: list[NDArray[np.int_]] = []
    diameters: list[float] = []
    n_donors = int(rng.integers(1, settings.most_insertions + 1)) if rng.random() < settings.insertion_share else 0
    n_controls = int(rng.integers(1, 4)) if rng.random() < settings.control_share else 0
    for k in range(n_donors + n_controls):
        donor = donors[int(rng.integers(len(donors)))]
        donor = transform_donor(donor, draw_scale(donor, rng), rng)
        is_control = k >= n_donors
        if is_control:
            donor = _as_control(donor, case, rng)
        centre = _free_spot(case, start, donor.diameter_mm / 2, places, radii, settings, rng)
        if centre is None or donor.outline.max() < 0.5:
            continue
        donor = _rounded(donor, settings.round_hu)
        blend(hu, donor, centre)
        if not is_control:
            centres.append(centre)
            diameters.append(donor.diameter_mm)
            places.append(tuple(centre.astype(float)))
            radii.append(donor.diameter_mm / 2)
    return np.array(centres, float).reshape(-1, 3), np.array(diameters, float)


def _as_control(donor: Donor, case: TrainingCase, rng: np.random.Generator) -> Donor:
    """Give plain lung of the same host in the donor's outline: its seam without its nodule."""
    spots = case.spots["aerated"]
    middle = spots[rng.integers(len(spots))].astype(int)
    tissue = _cut(case.hu, middle - donor.outline.shape[0] // 2, donor.outline.shape[0], donor.level_hu)
    level = float(np.median(tissue[donor.outline > 0.5])) if (donor.outline > 0.5).any() else donor.level_hu
    return Donor(tissue - level, donor.outline, donor.centre_zyx_vox, level, donor.diameter_mm, "control")


def _rounded(donor: Donor, step_hu: float) -> Donor:
    if step_hu <= 0:
        return donor
    contrast = np.rint(donor.contrast_hu / step_hu) * np.float32(step_hu)
    return Donor(contrast, donor.outline, donor.centre_zyx_vox, donor.level_hu, donor.diameter_mm, donor.name)


def _free_spot(
    case: TrainingCase,
    start: NDArray[np.int_],
    radius_mm: float,
    places: list[tuple[float, ...]],
    radii: list[float],
    settings: CropSettings,
    rng: np.random.Generator,
) -> NDArray[np.int_] | None:
    """Give a plausible voxel of the patch that is clear of every other finding, or None."""
    sort = rng.choice(SPOT_SORTS, p=(0.5, 0.25, 0.25))
    spots = case.spots[sort] - start
    spots = spots[np.all((spots >= 3) & (spots < settings.edge_vox - 3), axis=1)]
    taken, reach = np.array(places, float).reshape(-1, 3), np.array(radii, float)
    for _ in range(N_TRIES if len(spots) else 0):
        spot = spots[rng.integers(len(spots))].astype(int)
        if sort == "vessel":
            spot = spot + np.rint(_direction(rng) * radius_mm * 0.8).astype(int)
        gap = np.linalg.norm(taken - spot, axis=1) - reach - radius_mm
        if (gap > CLEARANCE_MM).all() and np.all((spot >= 0) & (spot < settings.edge_vox)):
            return spot
    return None


def _direction(rng: np.random.Generator) -> NDArray[np.float64]:
    step = rng.standard_normal(3)
    return step / np.linalg.norm(step)


def _degrade(hu: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Change sharpness, scale and level of the whole patch and add noise, as scanners and kernels do."""
    if rng.random() < 0.35:
        hu = ndimage.gaussian_filter1d(hu, rng.uniform(0.4, 1.2), axis=0)
    if rng.random() < 0.2:
        hu = ndimage.gaussian_filter(hu, rng.uniform(0.3, 0.7))
    noise = rng.standard_normal(hu.shape, dtype=np.float32)
    if rng.random() < 0.5:  # correlated, as a soft kernel gives
        noise = ndimage.uniform_filter1d(ndimage.uniform_filter1d(noise, 2, axis=1), 2, axis=2) * 2
    noise *= np.float32(rng.uniform(5.0, 35.0))
    return (hu + 1000.0) * np.float32(rng.normal(1.0, 0.03)) - 1000.0 + np.float32(rng.normal(0.0, 20.0)) + noise


def _turn(hu: NDArray[np.float32], targets: CellTargets, rng: np.random.Generator) -> Patch:
    """Mirror each axis and swap y and x at random; the offsets turn with the image."""
    state, regression = targets.state, targets.regression.copy()
    for axis in range(3):
        if rng.random() < 0.5:
            hu, state, regression = np.flip(hu, axis), np.flip(state, axis), np.flip(regression, axis + 1)
            regression = regression.copy()
            regression[axis] *= -1
    if rng.random() < 0.5:
        hu, state = hu.swapaxes(1, 2), state.swapaxes(1, 2)
        regression = regression.swapaxes(2, 3)[[0, 2, 1, 3]]
    return Patch(np.ascontiguousarray(hu), CellTargets(np.ascontiguousarray(state), np.ascontiguousarray(regression)))
