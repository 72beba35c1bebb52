"""Findings that are no nodules, painted into training patches as made hard negatives.

Few scans with pneumonia, fibrosis or effusion are at hand, and a detector that has
never seen them marks them. Each imitation changes the lung of a patch and keeps clear
of its nodules; the targets stay as they are, so whatever it looks like is background.
Lengths are mm, which are voxels here: patches have 1 mm.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Float32 = NDArray[np.float32]

CLEAR_MM = 3.0  # beyond a nodule's radius nothing is painted
FADE_MM = 4.0  # and over this much more it sets in
SOFT_TISSUE_HU = (-80.0, 50.0)


@dataclass(frozen=True, eq=False)
class Site:
    """Where an imitation may be painted: patch, weight of the lung that is free (0 to 1), chance.

    Parameters
    ----------
    hu : ndarray of float32, shape (z, y, x)
        The patch.
    free : ndarray of float32, same shape
        1 in lung away from nodules, 0 elsewhere, soft in between.
    rng : Generator
        Source of chance.
    """

    hu: Float32
    free: Float32
    rng: np.random.Generator

    def place(self) -> NDArray[np.float64]:
        """Give a random voxel of free lung, z y x."""
        voxels = np.flatnonzero(self.free.ravel() > 0.5)
        flat = int(voxels[self.rng.integers(len(voxels))])
        return np.array(np.unravel_index(flat, self.hu.shape), float)


def imitate(
    hu: Float32,
    lungs: NDArray[np.bool_],
    centres_zyx_vox: NDArray[np.float64],
    radii_mm: NDArray[np.float64],
    rng: np.random.Generator,
) -> tuple[Float32, str]:
    """Give the patch with one finding that is no nodule, and its name.

    Parameters
    ----------
    hu : ndarray of float32, shape (z, y, x)
        Patch at 1 mm; not changed.
    lungs : ndarray of bool, same shape
        Lung mask.
    centres_zyx_vox : ndarray, shape (N, 3)
        Nodules and other places to keep clear of, voxels of the patch.
    radii_mm : ndarray, shape (N,)
        Their radii.
    rng : Generator
        Source of chance.

    Returns
    -------
    tuple of (ndarray, str)
        A name of `IMITATIONS`, or empty where the patch holds too little free lung.
    """
    free = free_lung(lungs, centres_zyx_vox, radii_mm)
    if np.count_nonzero(free > 0.5) < 5000:
        return hu, ""
    name = str(rng.choice(list(IMITATIONS), p=[share for _, share in IMITATIONS.values()]))
    painted = IMITATIONS[name][0](Site(hu, free, rng))
    return (hu + free * (painted - hu)).astype(np.float32), name


def free_lung(lungs: NDArray[np.bool_], centres_zyx_vox: NDArray[np.float64], radii_mm: NDArray[np.float64]) -> Float32:
    """Give where something may be painted: 1 in the lung, 0 outside and around nodules.

    Parameters
    ----------
    lungs : ndarray of bool, shape (z, y, x)
        Lung mask.
    centres_zyx_vox : ndarray, shape (N, 3)
        Places to keep clear of.
    radii_mm : ndarray, shape (N,)
        Their radii.

    Returns
    -------
    ndarray of float32, same shape
    """
    free = ndimage.uniform_filter(lungs.astype(np.float32), 3) * lungs
    z, y, x = np.ogrid[tuple(slice(0, n) for n in lungs.shape)]
    for centre, radius in zip(centres_zyx_vox, radii_mm, strict=True):
        distance = np.sqrt((z - centre[0]) ** 2 + (y - centre[1]) ** 2 + (x - centre[2]) ** 2)
        free *= np.clip((distance - radius - CLEAR_MM) / FADE_MM, 0.0, 1.0).astype(np.float32)
    return free


def smooth_noise(shape_zyx: tuple[int, ...], grain_vox: float, rng: np.random.Generator, *, order: int = 1) -> Float32:
    """Give noise of standard deviation about 1 whose grains have this size.

    Parameters
    ----------
    shape_zyx : tuple of int
        Shape.
    grain_vox : float
        Distance between independent values.
    rng : Generator
        Source of chance.
    order : int
        Of the spline between the grains; 1 is fast, 3 has no kinks.

    Returns
    -------
    ndarray of float32, shape (z, y, x)
    """
    counts = [int(np.ceil(n / grain_vox)) + 2 for n in shape_zyx]
    fine = rng.standard_normal(counts, dtype=np.float32)
    for n, count in zip(shape_zyx, counts, strict=True):  # each pass replaces the first axis and moves it last
        fine = np.tensordot(fine, _spline(n, count, grain_vox, order), (0, 1))
    return fine / np.float32(max(float(fine.std()), 1e-6))


def _spline(n: int, count: int, grain_vox: float, order: int) -> Float32:
    """Give the matrix from values at grains to values at voxels, shape (n, count)."""
    at = np.arange(n) / grain_vox + 0.5
    if order == 1:
        return np.clip(1.0 - np.abs(at[:, None] - np.arange(count)), 0.0, None).astype(np.float32)
    columns = [ndimage.map_coordinates(row, at[None], order=order, mode="nearest") for row in np.eye(count)]
    return np.stack(columns, axis=1).astype(np.float32)


def consolidation(site: Site) -> Float32:
    """Give lung filled with fluid in an irregular region of 25 to 70 mm, with open airways in it."""
    inside = _region(site, (12.0, 35.0), roughness=0.25, edge=4.0)
    sheets = [np.abs(smooth_noise(site.hu.shape, 12.0, site.rng)) < 0.2 for _ in range(2)]
    airways = sheets[0] & sheets[1]  # where two sheets cross: tubes
    level = site.rng.uniform(*SOFT_TISSUE_HU) + 25.0 * smooth_noise(site.hu.shape, 3.0, site.rng)
    filled = np.where(airways, np.float32(-850.0), np.maximum(site.hu, level))
    return (site.hu + inside * (filled - site.hu)).astype(np.float32)


def ground_glass(site: Site) -> Float32:
    """Give hazy lung in which vessels stay visible, 20 to 70 mm."""
    inside = _region(site, (10.0, 35.0), roughness=0.3, edge=2.0)
    air = np.clip((-300.0 - site.hu) / 300.0, 0.0, 1.0)  # dense tissue gains nothing
    haze = site.rng.uniform(100.0, 350.0) * (1.0 + 0.2 * smooth_noise(site.hu.shape, 5.0, site.rng))
    return (site.hu + inside * air * haze).astype(np.float32)


def effusion(site: Site) -> Float32:
    """Give fluid that fills the back of the lung up to a curved level."""
    shape = site.hu.shape
    rows = np.flatnonzero((site.free > 0.5).any(axis=(0, 2)))
    level = rows[0] + (rows[-1] - rows[0]) * site.rng.uniform(0.55, 0.9)
    bulge = smooth_noise((shape[0], shape[2]), 24.0, site.rng, order=3)
    surface = level + 3.0 * bulge[:, None, :]
    inside = np.clip((np.arange(shape[1])[None, :, None] - surface) / 1.5, 0.0, 1.0)
    return (site.hu + inside * (site.rng.uniform(-5.0, 30.0) - site.hu)).astype(np.float32)


def fibrosis(site: Site) -> Float32:
    """Give a mesh of thickened septa that is densest at the pleura."""
    depth = ndimage.distance_transform_edt(site.free > 0.1)
    rim = np.exp(-depth / site.rng.uniform(6.0, 16.0))
    mesh = np.clip(1.0 - np.abs(smooth_noise(site.hu.shape, site.rng.uniform(4.0, 7.0), site.rng)) / 0.3, 0.0, 1.0)
    return (site.hu + rim * mesh * site.rng.uniform(250.0, 650.0)).astype(np.float32)


def band(site: Site) -> Float32:
    """Give a scar or plate of collapsed lung: thin, curved, 20 to 60 mm wide."""
    offset = _offsets(site)
    across, along = _frame(site.rng)
    height = np.tensordot(across.astype(np.float32), offset, 1) + 2.0 * smooth_noise(site.hu.shape, 30.0, site.rng)
    reach = np.sqrt(
        sum((np.tensordot(way.astype(np.float32), offset, 1) / site.rng.uniform(10.0, 30.0)) ** 2 for way in along)
    )
    thickness = site.rng.uniform(0.8, 2.2)
    inside = np.exp(-0.5 * (height / thickness) ** 2) * np.clip((1.0 - reach) * 4.0, 0.0, 1.0)
    return (site.hu + inside * site.rng.uniform(350.0, 800.0)).astype(np.float32)


def mucus_plug(site: Site) -> Float32:
    """Give a filled airway: a bent tube of 3 to 7 mm, five times as long as wide or longer, with a branch."""
    radius = site.rng.uniform(1.5, 3.4)
    offset = _offsets(site)
    way, sides = _frame(site.rng)
    length = radius * site.rng.uniform(10.0, 18.0)
    middle = sides[0] * length * site.rng.uniform(0.05, 0.2)
    points = [-way * length / 2, middle, way * length / 2]
    segments = [(points[0], points[1]), (points[1], points[2]), (middle, middle + (way + sides[1]) * length * 0.3)]
    distance = np.min([_to_segment(offset, a, b) for a, b in segments], axis=0)
    inside = np.clip(radius - distance + 0.5, 0.0, 1.0)
    return (site.hu + inside * (np.maximum(site.rng.uniform(*SOFT_TISSUE_HU), site.hu) - site.hu)).astype(np.float32)


def motion(site: Site) -> Float32:
    """Give the patch blended with itself moved by 1.5 to 5 mm in the slice, more in some slices than in others."""
    moved = ndimage.shift(
        site.hu, (0.0, *site.rng.uniform(1.5, 5.0, 2) * site.rng.choice((-1.0, 1.0), 2)), order=1, mode="nearest"
    )
    wave = np.sin(np.arange(site.hu.shape[0]) / site.rng.uniform(3.0, 12.0) + site.rng.uniform(0.0, 6.3))
    weight = (0.25 + 0.25 * wave)[:, None, None]
    return (site.hu + weight * (moved - site.hu)).astype(np.float32)


def streaks(site: Site) -> Float32:
    """Give bright and dark rays in the slice that fan out from dense metal beside the patch."""
    n_z, n_y, n_x = site.hu.shape
    angle = site.rng.uniform(0.0, 2.0 * np.pi)
    y0 = n_y / 2 + np.sin(angle) * site.rng.uniform(0.6, 1.2) * n_y
    x0 = n_x / 2 + np.cos(angle) * site.rng.uniform(0.6, 1.2) * n_x
    y, x = np.mgrid[0:n_y, 0:n_x]
    theta, distance = np.arctan2(y - y0, x - x0), np.hypot(y - y0, x - x0)
    waves = [np.sin(theta * k + site.rng.uniform(0.0, 6.3)) for k in site.rng.uniform(15.0, 90.0, 6)]
    rays = np.sum(waves, axis=0) / 2.0 * np.exp(-distance / site.rng.uniform(40.0, 120.0))
    slices = np.exp(-0.5 * ((np.arange(n_z) - site.rng.uniform(0, n_z)) / site.rng.uniform(4.0, 20.0)) ** 2)
    return (site.hu + site.rng.uniform(60.0, 250.0) * slices[:, None, None] * rays).astype(np.float32)


IMITATIONS: dict[str, tuple[Callable[[Site], Float32], float]] = {  # name -> painter, share
    "consolidation": (consolidation, 0.22),
    "ground_glass": (ground_glass, 0.18),
    "fibrosis": (fibrosis, 0.14),
    "band": (band, 0.14),
    "mucus_plug": (mucus_plug, 0.12),
    "effusion": (effusion, 0.08),
    "motion": (motion, 0.06),
    "streaks": (streaks, 0.06),
}


def _offsets(site: Site) -> Float32:
    """Give the vector from a random free place to every voxel, shape (3, z, y, x)."""
    axes = [np.arange(n, dtype=np.float32) - np.float32(c) for n, c in zip(site.hu.shape, site.place(), strict=True)]
    return np.stack(np.meshgrid(*axes, indexing="ij"))


def _frame(rng: np.random.Generator) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Give a random unit vector and two others at right angles to it."""
    frame, _ = np.linalg.qr(rng.standard_normal((3, 3)))
    return frame[:, 0], frame[:, 1:].T


def _region(site: Site, radii_mm: tuple[float, float], *, roughness: float, edge: float) -> Float32:
    """Give a soft irregular ellipsoid around a free place: 1 inside, 0 outside; a larger `edge` is sharper."""
    radii = site.rng.uniform(*radii_mm, 3)
    distance = np.sqrt(sum((part / radius) ** 2 for part, radius in zip(_offsets(site), radii, strict=True)))
    bumps = np.clip(smooth_noise(site.hu.shape, 14.0, site.rng, order=3), -1.0, 1.0)  # coarse and small: no islands
    distance = distance + roughness * bumps
    return np.clip((1.0 - distance) * edge, 0.0, 1.0).astype(np.float32)


def _to_segment(offset: Float32, start: NDArray[np.float64], end: NDArray[np.float64]) -> Float32:
    """Give the distance of every voxel to a segment, shape (z, y, x)."""
    way = (end - start).astype(np.float32)
    from_start = offset - start.astype(np.float32)[:, None, None, None]
    share = np.clip(np.tensordot(way, from_start, 1) / float(way @ way), 0.0, 1.0)
    distance: Float32 = np.sqrt(((from_start - way[:, None, None, None] * share) ** 2).sum(axis=0))
    return distance
