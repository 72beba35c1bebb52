"""Where donors go: plausible, free places in a host, and plain lung pasted the same way.

Nodules sit in aerated lung, beside vessels and at the pleura, clear of every
other finding. The control pastes plain lung through the same code, so that the
seam carries no information.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from napari_alnct.training.cases import SPOT_SORTS, TrainingCase
from napari_alnct.training.insertion import Donor, blend, draw_donor, transform_donor, vary

CLEARANCE_MM = 4.0  # between the rims of an inserted and any other finding
SPOT_SHARES = (0.5, 0.25, 0.25)  # aerated, vessel, pleura
N_TRIES = 6
EDGE_VOX = 3  # centres stay this far inside the array
FloatArray = NDArray[np.float64]


def place_donors(
    hu: NDArray[np.float32],
    case: TrainingCase,
    start: NDArray[np.int_],
    donors: Sequence[Donor],
    taken: tuple[FloatArray, FloatArray],
    n_donors: int,
    n_controls: int,
    round_hu: float,
    rng: np.random.Generator,
    *,
    is_varied: bool = False,
) -> tuple[FloatArray, FloatArray]:
    """Blend donors and plain-lung controls into a host; give the centres and diameters of the donors.

    Parameters
    ----------
    hu : ndarray of float32, shape (z, y, x)
        The host, or a patch of it; changed in place.
    case : TrainingCase
        Where the host comes from; lends its spots and its plain lung.
    start : ndarray of int, shape (3,)
        Voxel of the case at which `hu` begins.
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

    Returns
    -------
    tuple of ndarray, shapes (K, 3) and (K,)
        Centres in voxels of `hu`, diameters in mm.
    """
    places, radii = [tuple(p) for p in taken[0]], list(taken[1])
    centres: list[NDArray[np.int_]] = []
    diameters: list[float] = []
    for k in range(n_donors + n_controls):
        donor = transform_donor(*draw_donor(donors, rng), rng)
        is_control = k >= n_donors
        if is_control:
            if not len(case.spots["aerated"]):
                continue
            donor = _as_control(donor, case, rng)
        donor, way = vary(donor, rng) if is_varied else (donor, "mixed")
        centre = _free_spot(case, start, donor.diameter_mm / 2, places, radii, hu.shape, rng)
        if centre is None or donor.outline.max() < 0.5:
            continue
        donor = _rounded(donor, round_hu)
        blend(hu, donor, centre, way)
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
    tissue = cut(case.hu, middle - donor.outline.shape[0] // 2, donor.outline.shape[0], donor.level_hu)
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
    shape: tuple[int, ...],
    rng: np.random.Generator,
) -> NDArray[np.int_] | None:
    """Give a plausible voxel of the patch that is clear of every other finding, or None."""
    sort = rng.choice(SPOT_SORTS, p=SPOT_SHARES)
    spots = case.spots[sort] - start
    spots = spots[np.all((spots >= EDGE_VOX) & (spots < np.array(shape) - EDGE_VOX), axis=1)]
    taken, reach = np.array(places, float).reshape(-1, 3), np.array(radii, float)
    for _ in range(N_TRIES if len(spots) else 0):
        spot = spots[rng.integers(len(spots))].astype(int)
        if sort == "vessel":
            spot = spot + np.rint(_direction(rng) * radius_mm * 0.8).astype(int)
        gap = np.linalg.norm(taken - spot, axis=1) - reach - radius_mm
        if (gap > CLEARANCE_MM).all() and np.all((spot >= 0) & (spot < shape)):
            return spot
    return None


def _direction(rng: np.random.Generator) -> FloatArray:
    step = rng.standard_normal(3)
    return step / np.linalg.norm(step)


def cut(
    hu: NDArray[np.int16] | NDArray[np.bool_], start: NDArray[np.int_], edge: int, fill: float
) -> NDArray[np.float32]:
    """Give a cube of a scan, padded where it reaches outside.

    Parameters
    ----------
    hu : ndarray of int16 or bool, shape (z, y, x)
        Scan, or its lung mask.
    start : ndarray of int, shape (3,)
        First voxel of the cube; may lie outside.
    edge : int
        Voxels along each axis.
    fill : float
        Value outside.

    Returns
    -------
    ndarray of float32, shape (edge, edge, edge)
    """
    out = np.full((edge,) * 3, fill, np.float32)
    source = tuple(slice(max(0, a), max(0, min(n, a + edge))) for a, n in zip(start, hu.shape, strict=True))
    target = tuple(slice(s.start - a, s.stop - a) for s, a in zip(source, start, strict=True))
    out[target] = hu[source]
    return out
