"""Shape of the chest as smooth fields: skin, chest wall, lungs, heart, diaphragm, fissures.

A *field* is a signed distance in mm on a coarse grid, negative inside; it is
brought to the scan's grid by linear interpolation, so edges stay sharp. All
shapes are written in the body frame (see `phantom_body`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_alnct.core.geometry import Geometry
from napari_alnct.data.phantom_body import Body, Frame, cavity_half_axes, outer_half_axes
from napari_alnct.data.phantom_paint import AIR_HU, Float32, Float64, Tubes, axes_mm, tube_distances

Floats = NDArray[np.floating[Any]]
COARSE_MM = 2.5  # of the reference adult
FAT_HU, MUSCLE_HU, LIVER_HU = -100.0, 52.0, 60.0


@dataclass(frozen=True, eq=False)
class Fields:
    """The chest on a coarse LPS grid; distances in mm, negative inside."""

    grid: Geometry
    skin: Float32
    soft_hu: Float32
    left_lung: Float32
    right_lung: Float32
    oblique: Float32
    horizontal: Float32
    lung_hu: Float32

    @property
    def lungs(self) -> Float32:
        """Give the distance to the surface of both lungs."""
        return np.minimum(self.left_lung, self.right_lung)

    def distance_at(self, field: Float32, world_xyz_mm: Float64) -> Float64:
        """Give a field at world points (..., 3), linear between coarse voxels."""
        index = self.grid.world_to_index(np.reshape(world_xyz_mm, (-1, 3)))
        values = ndimage.map_coordinates(field, index.T, order=1, mode="nearest", output=np.float64)
        return values.reshape(np.shape(world_xyz_mm)[:-1])


def coarse_grid(grid: Geometry, frame: Frame) -> Geometry:
    """Give the coarse grid that covers a scan with a margin."""
    spacing = np.minimum(COARSE_MM * frame.scale_xyz, COARSE_MM)[::-1]
    low = np.asarray(grid.corner_xyz_mm) - 2 * spacing[::-1]
    shape = np.ceil(np.asarray(grid.extent_zyx_mm) / spacing).astype(int) + 5
    return Geometry(
        shape_zyx=(int(shape[0]), int(shape[1]), int(shape[2])),
        spacing_zyx_mm=(float(spacing[0]), float(spacing[1]), float(spacing[2])),
        origin_xyz_mm=(float(low[0]), float(low[1]), float(low[2])),
    )


def smooth_max(a: Floats, b: Floats, radius_mm: float) -> Float64:
    """Give the larger of two fields with a rounded edge: the cut of two shapes."""
    result = np.asarray((a - b) ** 2)
    result += radius_mm**2
    np.sqrt(result, out=result)
    result += a + b
    result *= 0.5
    return result.astype(np.float64, copy=False)


def smooth_step(distance: Float64, width_mm: float) -> Float64:
    """Give 1 inside and 0 outside a field, linear over a width."""
    return np.clip(0.5 - distance / width_mm, 0.0, 1.0)


def bumps(rng: np.random.Generator, grid: Geometry, length_mm: float) -> Float32:
    """Give a smooth random field with mean 0 and standard deviation 1 and a correlation length."""
    sigma = [length_mm / s for s in grid.spacing_zyx_mm]
    step = [max(1, int(v)) for v in sigma]
    shape = [n // k + 4 for n, k in zip(grid.shape_zyx, step, strict=True)]
    small = ndimage.gaussian_filter(rng.standard_normal(shape), 1.0)
    small = (small - small.mean()) / max(float(small.std()), 1e-9)
    zoom = [(n - 1) / (m - 1) for n, m in zip(grid.shape_zyx, shape, strict=True)]
    index = [np.arange(n) / z for n, z in zip(grid.shape_zyx, zoom, strict=True)]
    result = small
    for axis, positions in enumerate(index):
        below = np.clip(positions.astype(int), 0, result.shape[axis] - 2)
        weight = (positions - below).reshape([-1 if k == axis else 1 for k in range(3)])
        weight = weight * weight * (3 - 2 * weight)
        result = np.take(result, below, axis) * (1 - weight) + np.take(result, below + 1, axis) * weight
    return result.astype(np.float32)


def _superellipse(x: Float64, y: Float64, a: Float64, b: Float64, power: float) -> Float64:
    return ((np.abs(x / a) ** power + np.abs(y / b) ** power) ** (1 / power) - 1) * np.minimum(a, b)


def _ellipsoid(x: Float64, y: Float64, z: Float64, centre: tuple[float, ...], axes: tuple[float, ...]) -> Float64:
    square = ((x - centre[0]) / axes[0]) ** 2 + ((y - centre[1]) / axes[1]) ** 2 + ((z - centre[2]) / axes[2]) ** 2
    return (np.sqrt(square) - 1) * min(axes)


def true_distance(field: Float64, grid: Geometry, limit_mm: float = 30.0) -> Float32:
    """Give a field divided by its slope: a distance in world mm near the surface, to first order."""
    slopes = np.gradient(field.astype(np.float32), *grid.spacing_zyx_mm)
    slope = np.sqrt(sum(g * g for g in slopes))
    return np.clip(field / np.maximum(slope, 0.25), -limit_mm, limit_mm).astype(np.float32)


class ChestBuilder:
    """Evaluates the fields of one chest step by step.

    Parameters
    ----------
    body : Body
        The chest.
    frame : Frame
        Its placement.
    grid : Geometry
        LPS grid of the scan.
    firm : Tubes
        What pushes the lungs aside: great vessels, large airways, bones; world mm.
    seed : int
        Source of the small irregularities.
    """

    def __init__(self, body: Body, frame: Frame, grid: Geometry, firm: Tubes, seed: int) -> None:
        self.body, self.frame, self.grid = body, frame, coarse_grid(grid, frame)
        self.rng = np.random.default_rng([seed, 4])
        z, y, x = axes_mm(self.grid)
        self.z = ((z - frame.centre_xyz_mm[2]) / frame.scale_xyz[2])[:, None, None]
        y_body = ((y - frame.centre_xyz_mm[1]) / frame.scale_xyz[1])[None, :, None]
        x_body = ((x - frame.centre_xyz_mm[0]) / frame.scale_xyz[0])[None, None, :]
        self.x = x_body + body.shear[0] * self.z * 0.5
        self.y = y_body + body.shear[1] * self.z
        self.firm = self._firm_distance(firm)

    def build(self) -> Fields:
        """Give all fields."""
        cavity = self._cavity()
        heart = self._heart()
        spine = self._spine()
        left, right = (self._lung(side, cavity, heart, spine) for side in (1.0, -1.0))
        return Fields(
            grid=self.grid,
            skin=true_distance(self._skin(), self.grid),
            soft_hu=self._soft_hu(cavity, heart),
            left_lung=true_distance(left, self.grid),
            right_lung=true_distance(right, self.grid),
            oblique=true_distance(self._oblique_fissure(), self.grid, 200.0),
            horizontal=true_distance(self._horizontal_fissure(), self.grid, 200.0),
            lung_hu=self._lung_hu(cavity),
        )

    def _firm_distance(self, firm: Tubes) -> Float32:
        result = np.full(self.grid.shape_zyx, 60.0, dtype=np.float32)
        for _, box, distance in tube_distances(self.grid, firm, 12.0):
            np.minimum(result[box], distance, out=result[box])
        return result

    def _cavity(self) -> Float64:
        a, b, centre_y = cavity_half_axes(self.body, self.z)
        return _superellipse(self.x, self.y - centre_y, a, b, 2.35) + 1.2 * bumps(self.rng, self.grid, 30.0)

    def _heart(self) -> Float64:
        k = self.body.heart
        ventricles = _ellipsoid(self.x, self.y, self.z, (30.0, -30.0, -64.0), (50.0 * k, 42.0 * k, 44.0 * k))
        atria = _ellipsoid(self.x, self.y, self.z, (-6.0, -22.0, -48.0), (40.0 * k, 40.0 * k, 46.0 * k))
        return -smooth_max(-ventricles, -atria, 12.0)

    def _spine(self) -> Float64:
        centre_y = spine_y_mm(self.body, self.z)
        return (np.sqrt((self.x / 25.0) ** 2 + ((self.y - centre_y) / 27.0) ** 2) - 1) * 25.0

    def _dome(self, side: float) -> Float64:
        top = self.body.domes_mm[0 if side > 0 else 1]
        square = ((self.x - side * 60.0) / 74.0) ** 2 + ((self.y + 16.0) / 90.0) ** 2
        return top - 66.0 * square**1.1

    def _lung(self, side: float, cavity: Float64, heart: Float64, spine: Float64) -> Float64:
        wide = 5.0 + 20.0 * np.exp(-(((self.y - 8.0) / 30.0) ** 2)) + 9.0 * np.clip((self.z - 30.0) / 60.0, 0.0, 1.0)
        lung = smooth_max(cavity, wide - side * self.x, 6.0)
        lung = smooth_max(lung, 3.0 - heart, 6.0)
        lung = smooth_max(lung, 1.5 - spine, 6.0)
        lung = smooth_max(lung, 1.5 - self.firm, 3.0)
        lung = smooth_max(lung, self._dome(side) - self.z, 4.0)
        crown = 122.0 * self.body.height - 4.0
        apex = _ellipsoid(self.x, self.y, self.z, (side * 44.0, 14.0, 30.0), (80.0, 80.0, crown - 30.0))
        lung = smooth_max(lung, np.where(self.z > 30.0, apex, -60.0), 4.0)
        return lung + 0.7 * bumps(self.rng, self.grid, 12.0)

    def _skin(self) -> Float64:
        a, b = outer_half_axes(self.body)
        shoulders = np.clip((self.z - 30.0) / 70.0, 0.0, 1.0)
        waist = np.clip((-60.0 - self.z) / 80.0, 0.0, 1.0)
        outline = _superellipse(self.x, self.y - 3.0, a - 8.0 + 8.0 * shoulders - 5.0 * waist, b - 4.0 * shoulders, 2.6)
        return outline + 1.5 * bumps(self.rng, self.grid, 45.0)

    def _soft_hu(self, cavity: Float64, heart: Float64) -> Float32:
        high = np.clip(self.z / 80.0, 0.0, 1.0)
        flank = np.clip(np.abs(self.x) / 80.0 - 0.5, 0.0, 1.0) * np.clip(self.y / 60.0 + 0.6, 0.0, 1.0)
        breast = np.clip(-self.y / 60.0 - 0.4, 0.0, 1.0) * np.clip(np.abs(self.x) / 40.0 - 0.3, 0.0, 1.0)
        wall = self.body.wall_mm * (1.0 + high * (0.9 * flank + 0.7 * breast))
        back = spine_y_mm(self.body, self.z) + 38.0
        beside = ((np.abs(self.x) - 27.0) / 27.0) ** 2 + ((self.y - back) / 17.0) ** 2
        streaks = bumps(self.rng, self.grid, 9.0)
        muscle = np.minimum(cavity - wall + 2.0 * streaks, (np.sqrt(beside) - 1.0) * 17.0)
        hu = FAT_HU + (MUSCLE_HU - FAT_HU) * smooth_step(muscle, 2.5)
        inside = smooth_step(cavity + 4.0, 3.0)
        hu += inside * (FAT_HU + 15.0 + 10.0 * streaks - hu)
        hu += inside * smooth_step(heart, 3.0) * (max(self.body.blood_hu, 35.0) * 0.8 + 8.0 - hu)
        dome = np.maximum(self._dome(1.0), self._dome(-1.0))
        hu += inside * smooth_step(self.z - dome + 1.0, 3.0) * (self._abdomen_hu(streaks) - hu)
        return (hu + 4.0 * streaks).astype(np.float32)

    def _abdomen_hu(self, streaks: Float32) -> Float64:
        liver = smooth_step(self.x - 25.0 - 0.4 * (self.z + 90.0), 4.0)
        blob = bumps(self.rng, self.grid, 22.0)
        left = np.where(blob > 1.2, AIR_HU, np.where(blob > -0.2, 45.0, FAT_HU))
        return liver * LIVER_HU + (1.0 - liver) * left + 2.0 * streaks

    def _oblique_fissure(self) -> Float64:
        height = np.where(self.x > 0, self.body.fissures_mm[0], self.body.fissures_mm[1])
        wave = 4.0 * bumps(self.rng, self.grid, 30.0)
        return (self.z - (height - 16.0 + 1.05 * self.y) + wave) / 1.45

    def _horizontal_fissure(self) -> Float64:
        wave = 4.0 * bumps(self.rng, self.grid, 30.0)
        height = self.z - self.body.fissures_mm[2] - 0.1 * self.y + wave
        return np.where(self.x > 0, 200.0, height)

    def _lung_hu(self, cavity: Float64) -> Float32:
        body, fine = self.body, bumps(self.rng, self.grid, 3.0)
        hu = body.lung_hu + body.gradient_hu * self.y / 176.0 + 9.0 * fine + 10.0 * bumps(self.rng, self.grid, 22.0)
        if body.emphysema > 0:
            upper = np.clip((self.z + 40.0) / 120.0, 0.0, 1.0)
            holes = np.clip(bumps(self.rng, self.grid, 7.0) * 0.8 + upper - 1.2, 0.0, 1.0)
            hu = hu + body.emphysema * holes * (-975.0 - hu)
        if self.rng.random() < 0.3:  # dependent atelectasis
            behind = np.clip((self.y - 45.0) / 15.0, 0.0, 1.0) * np.clip((cavity + 9.0) / 6.0, 0.0, 1.0)
            hu = hu + self.rng.uniform(60.0, 220.0) * behind * np.clip(1.0 + 0.5 * fine, 0.2, 2.0)
        return np.clip(hu, -985.0, -450.0).astype(np.float32)


def spine_y_mm(body: Body, z: Float64) -> Float64:
    """Give where the vertebral bodies lie (y of the body frame) at heights z, mm."""
    return body.spine_y_mm - 7.0 * (z / 120.0) ** 2
