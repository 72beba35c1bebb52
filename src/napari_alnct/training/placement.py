"""Where donors go: plausible, free places in a host, and plain lung pasted the same way.

Nodules sit in aerated lung, beside vessels and at the pleura, clear of every
other finding. The control pastes plain lung through the same code, so that the
seam carries no information.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_alnct.training.cases import SPOT_SORTS, TrainingCase
from napari_alnct.training.donor_drawing import DrawDonor, draw_donor
from napari_alnct.training.frames import PatchFrame, cut
from napari_alnct.training.insertion import (
    Donor,
    blend,
    is_visible,
    transform_donor,
    vary,
)

CLEARANCE_MM = 4.0  # between the rims of an inserted and any other finding
VESSEL_SHARE, PLEURA_SHARE = 0.25, 1 / 3  # of all donors; of those that are not put beside a vessel
N_TRIES = 12
EDGE_VOX = 3  # centres stay this far inside the array
FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Placed:
    """Donors that found a place, one entry each.

    ``centres_zyx_vox`` (K, 3), voxels of the host; ``diameters_mm`` (K,); ``sorts``: where they sit
    (`SPOT_SORTS`); ``names`` of the donors; ``scales``: new size over old size;
    ``controls_zyx_vox`` (L, 3), ``control_diameters_mm`` (L,): where plain lung went.
    """

    centres_zyx_vox: FloatArray
    diameters_mm: FloatArray
    sorts: tuple[str, ...]
    names: tuple[str, ...]
    scales: tuple[float, ...]
    controls_zyx_vox: FloatArray
    control_diameters_mm: FloatArray


def place_donors(
    hu: NDArray[np.float32],
    case: TrainingCase,
    frame: PatchFrame,
    donors: Sequence[Donor],
    taken: tuple[FloatArray, FloatArray],
    n_donors: int,
    n_controls: int,
    round_hu: float,
    rng: np.random.Generator,
    *,
    is_varied: bool = False,
    draw: DrawDonor = draw_donor,
    vessel_share: float = VESSEL_SHARE,
) -> Placed:
    """Blend donors and plain-lung controls into a host.

    Parameters
    ----------
    hu : ndarray of float32, shape (z, y, x)
        The host, or a patch of it; changed in place.
    case : TrainingCase
        Where the host comes from; lends its spots and its plain lung.
    frame : PatchFrame
        Where `hu` lies in the case.
    donors : sequence of Donor
        Nodules to choose from.
    taken : tuple of ndarray, shapes (N, 3) and (N,)
        Centres (voxels of `hu`) and radii of findings that must stay free.
    n_donors, n_controls : int
        How many to try; a donor without a free place is left out.
    round_hu : float
        Rounding step that donors share with the host.
    rng : Generator
        Source of chance.
    is_varied : bool
        Vary rims, densities and the way of blending, as for training; else every donor as it is.
    draw : callable
        From donors and source of chance to a donor and its scale; default: LUNA16's sizes.
    vessel_share : float
        Share of places beside a vessel; of the others one third is at the pleura.

    Returns
    -------
    Placed
        The donors; controls are no nodules.
    """
    places, radii = [tuple(p) for p in taken[0]], list(taken[1])
    placed: list[tuple[NDArray[np.int_], float, str, str, float]] = []
    controls: list[tuple[NDArray[np.int_], float]] = []
    for k in range(n_donors + n_controls):
        original, scale = draw(donors, rng)
        donor = transform_donor(original, scale, rng)
        is_control = k >= n_donors
        if is_control:
            if not len(case.spots["aerated"]):
                continue
            donor = _as_control(donor, case, rng)
        donor, way = vary(donor, rng) if is_varied else (donor, "mixed")
        seen_in = None if is_control else hu
        sort = str(rng.choice(SPOT_SORTS, p=_spot_shares(vessel_share)))
        centre = _free_spot(case.spots[sort], sort, frame, donor, (places, radii), hu.shape, seen_in, rng)
        if centre is None or donor.outline.max() < 0.5:
            continue
        donor = _rounded(donor, round_hu)
        blend(hu, donor, centre, way)
        if is_control:
            controls.append((centre, donor.diameter_mm))
        else:
            placed.append((centre, donor.diameter_mm, sort, original.name, scale))
            places.append(tuple(centre.astype(float)))
            radii.append(donor.diameter_mm / 2)
    centres, diameters, sorts, names, scales = zip(*placed, strict=True) if placed else ((), (), (), (), ())
    where, widths = zip(*controls, strict=True) if controls else ((), ())
    return Placed(*_arrays(centres, diameters), sorts, names, scales, *_arrays(where, widths))


def _arrays(centres: Sequence[NDArray[np.int_]], diameters: Sequence[float]) -> tuple[FloatArray, FloatArray]:
    return np.array(centres, float).reshape(-1, 3), np.array(diameters, float)


def _as_control(donor: Donor, case: TrainingCase, rng: np.random.Generator) -> Donor:
    """Give plain lung of the same host in the donor's outline: its seam without its nodule."""
    spots = case.spots["aerated"]
    middle = spots[rng.integers(len(spots))].astype(int)
    tissue = cut(case.hu, middle - donor.outline.shape[0] // 2, donor.outline.shape[0], donor.level_hu)
    level = float(np.median(tissue[donor.outline > 0.5])) if (donor.outline > 0.5).any() else donor.level_hu
    return Donor(tissue - level, donor.outline, donor.centre_zyx_vox, level, donor.diameter_mm, "control")


def _rounded(donor: Donor, step_hu: float) -> Donor:
    if step_hu <= 0:
        return donor
    contrast = np.rint(donor.contrast_hu / step_hu) * np.float32(step_hu)
    return Donor(contrast, donor.outline, donor.centre_zyx_vox, donor.level_hu, donor.diameter_mm, donor.name)


def _free_spot(
    spots_zyx_vox: NDArray[np.int16],
    sort: str,
    frame: PatchFrame,
    donor: Donor,
    taken: tuple[list[tuple[float, ...]], list[float]],
    shape: tuple[int, ...],
    seen_in: NDArray[np.float32] | None,
    rng: np.random.Generator,
) -> NDArray[np.int_] | None:
    """Give a voxel of the patch that is clear of every other finding and where the donor would show."""
    radius_mm = donor.diameter_mm / 2
    spots = np.rint(frame.to_patch(spots_zyx_vox)).astype(int)
    spots = spots[np.all((spots >= EDGE_VOX) & (spots < np.array(shape) - EDGE_VOX), axis=1)]
    places, reach = np.array(taken[0], float).reshape(-1, 3), np.array(taken[1], float)
    for _ in range(N_TRIES if len(spots) else 0):
        spot = spots[rng.integers(len(spots))].astype(int)
        if sort == "vessel":
            spot = spot + np.rint(_direction(rng) * radius_mm * 0.8).astype(int)
        gap = np.linalg.norm(places - spot, axis=1) - reach - radius_mm
        is_free = (gap > CLEARANCE_MM).all() and np.all((spot >= 0) & (spot < shape))
        if is_free and (seen_in is None or is_visible(seen_in, donor, spot)):
            return spot
    return None


def _spot_shares(vessel_share: float) -> tuple[float, float, float]:
    """Give the shares of `SPOT_SORTS`: in aerated lung, beside a vessel, at the pleura."""
    rest = 1.0 - vessel_share
    return rest * (1.0 - PLEURA_SHARE), vessel_share, rest * PLEURA_SHARE


def _direction(rng: np.random.Generator) -> FloatArray:
    step = rng.standard_normal(3)
    return step / np.linalg.norm(step)
