"""Shapes of nodules: spheres, ellipsoids, lobulated and spiculated bodies with a known volume.

A shape lives in its own *unit frame*, where the sphere of the same volume has
radius 1; it is then turned, scaled and placed in the world.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from napari_alnct.data.phantom_paint import Float64, Tubes

FORMS = ("sphere", "ellipsoid", "lobulated", "spiculated")
FORM_SHARES = (0.2, 0.32, 0.3, 0.18)
_ROUND = 0.35  # how softly the balls of a lobulated body melt together


@dataclass(frozen=True, eq=False)
class Shape3D:
    """A body as balls that melt together, stretched along three axes.

    Parameters
    ----------
    balls : ndarray, shape (N, 4)
        Centre (x, y, z) and radius of each ball.
    axes : ndarray, shape (3, 3)
        From world offsets (mm, divided by the radius) to the frame of the balls.
    waves : ndarray, shape (M, 5)
        Small ripples of the surface: direction (3), phase, height.
    """

    balls: Float64
    axes: Float64
    waves: Float64

    def field(self, offset_xyz: Float64) -> Float64:
        """Give a smooth field, negative inside, at offsets (..., 3) in units of the radius."""
        p = offset_xyz @ self.axes.T
        total = np.zeros(p.shape[:-1])
        for x, y, z, radius in self.balls:
            distance = np.sqrt((p[..., 0] - x) ** 2 + (p[..., 1] - y) ** 2 + (p[..., 2] - z) ** 2) - radius
            total += np.exp(np.clip(-distance / (_ROUND / 2), -60.0, 60.0))
        field = -(_ROUND / 2) * np.log(total)
        for wx, wy, wz, phase, height in self.waves:
            field = field + height * np.sin(p[..., 0] * wx + p[..., 1] * wy + p[..., 2] * wz + phase)
        return field


def draw_shape(rng: np.random.Generator, form: str) -> Shape3D:
    """Give a shape of unit volume radius.

    Parameters
    ----------
    rng : Generator
        Source of chance.
    form : str
        One of `FORMS`.

    Returns
    -------
    Shape3D
    """
    turn = Rotation.from_quat(rng.normal(size=4)).as_matrix()
    stretch = np.ones(3)
    if form == "ellipsoid":
        stretch = np.array([1.0, rng.uniform(0.7, 1.0), rng.uniform(0.55, 0.9)])
    balls = np.array([[0.0, 0.0, 0.0, 1.0]])
    if form == "lobulated":
        n = int(rng.integers(2, 5))
        away = rng.normal(size=(n, 3))
        away *= (rng.uniform(0.35, 0.75, n) / np.linalg.norm(away, axis=1))[:, None]
        balls = np.concatenate([balls * 0.85, np.column_stack([away, rng.uniform(0.45, 0.75, n)])])
    height = {"sphere": 0.015, "ellipsoid": 0.04, "lobulated": 0.05, "spiculated": 0.09}[form]
    waves = np.column_stack([rng.normal(0, 3.0, (5, 3)), rng.uniform(0, 2 * np.pi, 5), np.full(5, height)])
    shape = Shape3D(balls, (turn / stretch[:, None]) if form == "ellipsoid" else turn, waves)
    return _with_unit_volume(shape)


def _with_unit_volume(shape: Shape3D) -> Shape3D:
    """Scale and centre a shape so that its volume is that of the unit sphere."""
    line = np.linspace(-2.2, 2.2, 56)
    points = np.stack(np.meshgrid(line, line, line, indexing="ij"), axis=-1)
    inside = np.clip(0.5 - shape.field(points) / (line[1] - line[0]), 0, 1)
    radius = float(np.cbrt(inside.sum() * (line[1] - line[0]) ** 3 * 3 / (4 * np.pi)))
    centre = (inside[..., None] * points).sum((0, 1, 2)) / inside.sum()
    moved = shape.balls.copy()
    moved[:, :3] -= centre @ shape.axes.T
    shift = shape.waves[:, :3] @ (shape.axes @ centre)
    waves = shape.waves.copy()
    waves[:, 3] += shift
    return Shape3D(moved, shape.axes * radius, waves)


def spicules(rng: np.random.Generator, centre_xyz_mm: Float64, radius_mm: float) -> Tubes:
    """Give fine strands that leave a spiculated nodule; they do not count to its size.

    Parameters
    ----------
    rng : Generator
        Source of chance.
    centre_xyz_mm : ndarray, shape (3,)
        Centre of the nodule.
    radius_mm : float
        Its radius.

    Returns
    -------
    Tubes
    """
    n = int(rng.integers(10, 22))
    way = rng.normal(size=(n, 3))
    way /= np.linalg.norm(way, axis=1, keepdims=True)
    start = centre_xyz_mm + way * radius_mm * 0.85
    bent = way + rng.normal(0, 0.25, way.shape)
    end = start + bent * radius_mm * rng.uniform(0.35, 1.0, n)[:, None]
    return Tubes(start, end, np.full(n, min(0.7, 0.14 * radius_mm)), np.full(n, 0.15))


def feeding_vessels(rng: np.random.Generator, centre_xyz_mm: Float64, radius_mm: float) -> Tubes:
    """Give up to three small vessels that run into a nodule; they do not count to its size.

    Parameters
    ----------
    rng : Generator
        Source of chance.
    centre_xyz_mm : ndarray, shape (3,)
        Centre of the nodule.
    radius_mm : float
        Its radius.

    Returns
    -------
    Tubes
    """
    n = int(rng.integers(0, 4))
    way = rng.normal(size=(n, 3))
    way /= np.linalg.norm(way, axis=1, keepdims=True)
    start = centre_xyz_mm + way * radius_mm * 0.6
    end = start + (way + rng.normal(0, 0.2, way.shape)) * (radius_mm + rng.uniform(4.0, 10.0, n)[:, None])
    thick = np.minimum(rng.uniform(0.35, 0.9, n), 0.35 * radius_mm)
    return Tubes(start, end, thick, 0.5 * thick)
