"""Bones of the chest as tubes: ribs with cartilage, vertebrae, sternum, collar bones, shoulder blades.

Every bone is a set of tubes with a dense shell and spongy inside; points are
made in the body frame and returned in the world.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from napari_alnct.core.geometry import Geometry
from napari_alnct.data.phantom_anatomy import spine_y_mm
from napari_alnct.data.phantom_body import Body, Frame, cavity_half_axes
from napari_alnct.data.phantom_paint import (
    AIR_HU,
    Float32,
    Float64,
    Tubes,
    axes_mm,
    box_around,
    chain,
    join,
    paint_tubes,
)

N_RIBS = 12
VERTEBRA_STEP_MM = 23.0
SHELL_HU, MARROW_HU, CARTILAGE_HU, CANAL_HU = 650.0, 260.0, 105.0, 18.0


@dataclass(frozen=True, eq=False)
class Skeleton:
    """Bones, world mm."""

    bones: Tubes
    cartilage: Tubes
    canal: Tubes
    vertebrae_xyz_mm: Float64  # centres of the vertebral bodies, shape (N, 3)


def _rib(body: Body, k: int, side: float, phase: Float64) -> Float64:
    """Give points along the middle of a rib, from spine (phase 0) to sternum (phase 1), body frame."""
    start_z = 118.0 - (k - 1) * VERTEBRA_STEP_MM * 0.98
    drop = np.interp(k, [1, 3, 7, 12], [24.0, 48.0, 82.0, 70.0])
    z = start_z + 6.0 - drop * phase**1.15
    a, b, centre_y = cavity_half_axes(body, np.minimum(z, 112.0))
    angle = np.pi * (0.10 + 0.86 * phase)
    power = 2 / 2.35
    x = (a + 5.2) * np.abs(np.sin(angle)) ** power
    y = centre_y + (b + 5.2) * np.sign(np.cos(angle)) * np.abs(np.cos(angle)) ** power
    return np.stack([side * x, y, z], axis=1)


def build_skeleton(body: Body, frame: Frame, seed: int) -> Skeleton:
    """Give the bones of a chest.

    Parameters
    ----------
    body : Body
        The chest.
    frame : Frame
        Its placement.
    seed : int
        Source of the outgrowths of the ribs.

    Returns
    -------
    Skeleton
    """
    rng = np.random.default_rng([seed, 13])
    bones, cartilage = [], []
    size = frame.size
    for k in range(1, N_RIBS + 1):
        last = float(np.interp(k, [1, 7, 8, 10, 11, 12], [0.92, 0.86, 0.82, 0.74, 0.58, 0.42]))
        for side in (1.0, -1.0):
            for lift in (-3.2, 3.2):  # two strands make a rib higher than thick
                points = _rib(body, k, side, np.linspace(0.0, last, 30)) + np.array([0.0, 0.0, lift])
                bones.append(chain(frame.to_world(points), 4.4 * size))
            if k <= 10:
                points = _rib(body, k, side, np.linspace(last, min(1.0, last + 0.16), 8))
                cartilage.append(chain(frame.to_world(points), 5.0 * size))
    bones.append(_knobs(rng, bones, frame))
    bones += [chain(frame.to_world(p), r * size) for p, r in _plates(body)]
    z = np.arange(-161.0, 162.0, VERTEBRA_STEP_MM)
    bones += _processes(body, frame, z)
    y = spine_y_mm(body, z)
    canal = chain(frame.to_world(np.stack([0.0 * z, y + 27.0, z], axis=1)), 7.5 * size)
    return Skeleton(join(*bones), join(*cartilage), canal, frame.to_world(np.stack([0.0 * z, y + 2.0, z], axis=1)))


def _knobs(rng: np.random.Generator, ribs: list[Tubes], frame: Frame) -> Tubes:
    """Give bony outgrowths that bulge from ribs into the lung: what a pleural nodule can be mistaken for."""
    n = int(rng.integers(2, 7))
    chosen = [ribs[int(i)] for i in rng.integers(0, len(ribs), n)]
    points = np.stack([tube.start_xyz_mm[int(rng.integers(len(tube)))] for tube in chosen])
    inward = frame.centre_xyz_mm - points
    inward[:, 2] *= 0.3
    inward /= np.linalg.norm(inward, axis=1, keepdims=True)
    radius = rng.uniform(2.0, 4.5, n)
    points = points + inward * (5.0 * frame.size)
    return Tubes(points, points + 0.5 * inward, radius, 0.9 * radius)


def _plates(body: Body) -> list[tuple[Float64, float]]:
    _, b, centre_y = (float(v) for v in cavity_half_axes(body, np.array(10.0)))
    front = centre_y - b - 7.0
    parts: list[tuple[Float64, float]] = []
    for x in (-12.0, -6.0, 0.0, 6.0, 12.0):
        parts.append((np.array([(x, front + 22.0, 78.0), (x, front + 4.0, 40.0), (x, front - 1.0, -55.0)]), 4.5))
    for side in (1.0, -1.0):
        collar = [(side * 16, front + 18, 84.0), (side * 60, front + 16, 104.0), (side * 125, front + 46, 118.0)]
        parts.append((np.array(collar), 5.5))
        for step in np.linspace(0.0, 1.0, 28):
            inner = np.array([side * 62.0, 88.0 * body.depth, 112.0 - 110.0 * step])
            outer = np.array([side * (126.0 - 50.0 * step), 66.0 * body.depth + 14.0 * step, 112.0 - 110.0 * step])
            parts.append((np.stack([inner, outer]), 2.6))
    return parts


def _processes(body: Body, frame: Frame, z: Float64) -> list[Tubes]:
    """Give arches, transverse and spinous processes of the vertebrae at heights z."""
    parts = []
    for height in z:
        y = float(spine_y_mm(body, np.array(height))) + 3.0
        for side in (1.0, -1.0):
            pedicle = [
                (side * 11, y + 10, height + 3),
                (side * 12, y + 20, height + 2),
                (side * 30, y + 27, height + 4),
            ]
            lamina = [(side * 12, y + 20, height + 2), (side * 6, y + 32, height - 2), (0.0, y + 37, height - 4)]
            parts += [chain(frame.to_world(np.array(p)), 4.0 * frame.size) for p in (pedicle, lamina)]
        spinous = np.array([(0.0, y + 37, height - 4), (0.0, y + 44, height - 14)])
        parts.append(chain(frame.to_world(spinous), 3.4 * frame.size))
    return parts


def paint_skeleton(hu: Float32, grid: Geometry, skeleton: Skeleton, frame: Frame) -> None:
    """Paint the bones into a scan in place.

    Parameters
    ----------
    hu : ndarray of float32
        Scan on `grid`.
    grid : Geometry
        LPS grid.
    skeleton : Skeleton
        From `build_skeleton`.
    frame : Frame
        Placement of the chest.
    """
    paint_tubes(hu, grid, skeleton.cartilage, CARTILAGE_HU)
    paint_tubes(hu, grid, skeleton.bones, SHELL_HU)
    for middle in skeleton.vertebrae_xyz_mm:
        _paint_vertebra(hu, grid, middle, frame)
    paint_tubes(hu, grid, skeleton.bones.grown(1.0, -1.5 * frame.size), MARROW_HU, bright=False, around_hu=SHELL_HU)
    paint_tubes(hu, grid, skeleton.canal, CANAL_HU, bright=False, around_hu=SHELL_HU)


def _paint_vertebra(hu: Float32, grid: Geometry, middle_xyz_mm: Float64, frame: Frame) -> None:
    half = np.array([20.0, 16.0, 0.5 * VERTEBRA_STEP_MM]) * frame.scale_xyz
    box = box_around(grid, middle_xyz_mm - half, middle_xyz_mm + half)
    if box is None:
        return
    z, y, x = (axis[part] - c for axis, part, c in zip(axes_mm(grid), box, middle_xyz_mm[::-1], strict=True))
    radial = np.sqrt((x[None, None, :] / half[0]) ** 2 + (y[None, :, None] / half[1]) ** 2) * half[1] * 1.1
    waist = 1.0 - 0.1 * np.cos(np.pi * z / half[2])
    from_edge = radial - (half[1] * waist)[:, None, None]
    from_plate = np.abs(z)[:, None, None] - (half[2] - 2.0 * frame.scale_xyz[2])
    distance = np.maximum(from_edge, from_plate)
    edge_mm = float(np.mean(grid.spacing_zyx_mm))
    shell = AIR_HU + np.clip(0.5 - distance / edge_mm, 0, 1) * (SHELL_HU - 120.0 - AIR_HU)
    inner = np.clip(0.5 - (distance + 1.6) / edge_mm, 0, 1)
    disc = AIR_HU + np.clip(0.5 - from_edge / edge_mm, 0, 1) * (80.0 - AIR_HU)
    np.maximum(hu[box], np.maximum(disc, shell - inner * (SHELL_HU - 120.0 - MARROW_HU + 20.0)), out=hu[box])
