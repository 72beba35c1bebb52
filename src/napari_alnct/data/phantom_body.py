"""What one chest looks like in numbers, and where it lies in the field of view.

All shapes are written in the *body frame*: millimetres of a reference adult,
x to the left, y to the back, z to the head, origin in the middle of the chest.
`Frame` brings the body frame into the world of a scan.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from napari_alnct.core.geometry import Geometry
from napari_alnct.data.phantom_paint import Float64

CAVITY_LOW_MM, CAVITY_HIGH_MM = -130.0, 122.0
_LEVELS = (0.0, 0.1, 0.35, 0.55, 0.72, 0.85, 0.94, 1.0)
_HALF_WIDTHS_MM = (126.0, 130.0, 131.0, 126.0, 113.0, 92.0, 72.0, 58.0)
_HALF_DEPTHS_MM = (86.0, 88.0, 88.0, 82.0, 72.0, 58.0, 45.0, 38.0)
_CENTRES_Y_MM = (2.0, 2.0, 0.0, 3.0, 9.0, 16.0, 21.0, 24.0)


@dataclass(frozen=True, kw_only=True)
class Body:
    """What differs between two chests; lengths in mm of the body frame."""

    width: float  # factors on the cavity's half axes
    depth: float
    height: float
    wall_mm: float  # muscle and ribs around the cavity
    fat_mm: float  # under the skin
    heart: float  # factor on the heart
    domes_mm: tuple[float, float]  # top of the left and right dome of the diaphragm
    spine_y_mm: float
    blood_hu: float
    lung_hu: float
    gradient_hu: float  # denser towards the back, over the whole depth
    emphysema: float  # 0 none .. 1 much
    shear: tuple[float, float]  # the body lies a little askew
    fissures_mm: tuple[float, float, float]  # heights of left oblique, right oblique, horizontal


def draw_body(seed: int) -> Body:
    """Give the chest that belongs to a seed."""
    rng = np.random.default_rng([seed, 2])
    near = rng.uniform
    return Body(
        width=near(0.93, 1.05),
        depth=near(0.92, 1.06),
        height=near(0.94, 1.04),
        wall_mm=near(12.0, 16.0),
        fat_mm=float(np.clip(rng.lognormal(2.4, 0.5), 4.0, 26.0)),
        heart=near(0.88, 1.08),
        domes_mm=(near(-74.0, -58.0), near(-64.0, -46.0)),
        spine_y_mm=near(60.0, 66.0),
        blood_hu=near(110.0, 210.0) if rng.random() < 0.4 else near(32.0, 50.0),
        lung_hu=near(-890.0, -830.0),
        gradient_hu=near(20.0, 70.0),
        emphysema=near(0.3, 1.0) if rng.random() < 0.2 else 0.0,
        shear=(near(-0.04, 0.04), near(-0.04, 0.04)),
        fissures_mm=(near(-8.0, 8.0), near(-8.0, 8.0), near(-2.0, 12.0)),
    )


@dataclass(frozen=True)
class Frame:
    """Placement of the body frame in the world: ``world = centre + scale * body``."""

    centre_xyz_mm: Float64
    scale_xyz: Float64

    def to_world(self, body_xyz_mm: Float64) -> Float64:
        """Give world points of body points."""
        return self.centre_xyz_mm + self.scale_xyz * np.asarray(body_xyz_mm, dtype=np.float64)

    @property
    def size(self) -> float:
        """Give the mean linear size relative to the reference adult."""
        return float(np.prod(self.scale_xyz) ** (1 / 3))


def fit_frame(grid: Geometry, body: Body, seed: int) -> Frame:
    """Give the placement at which the whole chest lies in the field of view.

    Parameters
    ----------
    grid : Geometry
        LPS grid of the scan.
    body : Body
        The chest.
    seed : int
        Source of the small shifts.

    Returns
    -------
    Frame
    """
    rng = np.random.default_rng([seed, 3])
    height_mm, depth_mm, width_mm = grid.extent_zyx_mm
    own = rng.uniform(0.97, 1.07)
    outer_x, outer_y = outer_half_axes(body)
    plane = min(own, 0.97 * width_mm / (2 * outer_x), 0.88 * depth_mm / (2 * outer_y))
    up = min(own, 0.94 * height_mm / (CAVITY_HIGH_MM - CAVITY_LOW_MM))
    middle = grid.index_to_world((np.asarray(grid.shape_zyx) - 1) / 2)
    shift = np.array([rng.uniform(-4, 4) * plane, -0.025 * depth_mm, 4.0 * up])
    return Frame(middle + shift, np.array([plane, plane, up]))


def outer_half_axes(body: Body) -> tuple[float, float]:
    """Give half the width and half the depth of the body at its skin, mm of the body frame."""
    around = body.wall_mm + body.fat_mm
    return 131.0 * body.width + around + 8.0, max(88.0 * body.depth + around * 0.8 + 10.0, body.spine_y_mm + 60.0)


def cavity_half_axes(body: Body, z: Float64) -> tuple[Float64, Float64, Float64]:
    """Give half width, half depth and centre (y) of the thoracic cavity at heights of the body frame, mm."""
    level = (z / body.height - CAVITY_LOW_MM) / (CAVITY_HIGH_MM - CAVITY_LOW_MM)
    width = np.interp(level, _LEVELS, _HALF_WIDTHS_MM) * body.width
    depth = np.interp(level, _LEVELS, _HALF_DEPTHS_MM) * body.depth
    return width, depth, np.interp(level, _LEVELS, _CENTRES_Y_MM)
