"""Vessels and airways: great vessels, and trees that fill a lung from its hilum to the pleura.

A tree grows by volume filling (Tawhai et al. 2000): the points to be supplied
are split by a plane through their centre, a branch runs part of the way to the
centre of each half, and so on until each branch supplies one point. Radii
follow Murray's law from the number of points supplied.

References
----------
Tawhai MH, Pullan AJ, Hunter PJ (2000). Generation of an anatomically based
three-dimensional model of the conducting airways. Ann Biomed Eng 28:793-802.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_alnct.data.phantom_anatomy import Fields
from napari_alnct.data.phantom_body import Frame
from napari_alnct.data.phantom_paint import Float64, Tubes, chain, join

MURRAY = 3.2  # a little above Murray's 3: fewer thick vessels, as on real scans
N_PIECES = 3  # straight pieces per curved branch
BEND = 0.35  # how long a branch keeps the direction it starts with, in parts of its length


@dataclass(frozen=True, eq=False)
class Branches:
    """The branches of a tree.

    Parameters
    ----------
    start_xyz_mm, end_xyz_mm, heading_xyz : ndarray, shape (N, 3)
        World points, and the unit vector with which the branch leaves its start.
    parent : ndarray of int, shape (N,)
        Number of the branch that it comes from, -1 at the root.
    supplied : ndarray of int, shape (N,)
        Number of points that it supplies.
    radius_mm : ndarray, shape (N,)
        Radius at its end.
    """

    start_xyz_mm: Float64
    end_xyz_mm: Float64
    heading_xyz: Float64
    parent: NDArray[np.intp]
    supplied: NDArray[np.intp]
    radius_mm: Float64

    def tubes(self) -> Tubes:
        """Give the curved branches as short straight tubes."""
        length = np.linalg.norm(self.end_xyz_mm - self.start_xyz_mm, axis=1, keepdims=True)
        bend = self.start_xyz_mm + BEND * length * self.heading_xyz
        first = np.where(self.parent >= 0, self.radius_mm[self.parent], self.radius_mm)
        first = np.minimum(first, 1.25 * self.radius_mm)
        parts = []
        for k in range(N_PIECES):
            t0, t1 = k / N_PIECES, (k + 1) / N_PIECES
            ends = [
                (1 - t) ** 2 * self.start_xyz_mm + 2 * t * (1 - t) * bend + t * t * self.end_xyz_mm for t in (t0, t1)
            ]
            radii = [first + t * (self.radius_mm - first) for t in (t0, t1)]
            parts.append(Tubes(ends[0], ends[1], radii[0], radii[1]))
        return join(*parts)


def _unit(vectors: Float64) -> Float64:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-9)


def _group_means(values: Float64, group: NDArray[np.intp], n: int) -> Float64:
    count = np.maximum(np.bincount(group, minlength=n), 1)
    return np.stack([np.bincount(group, values[:, k], minlength=n) for k in range(values.shape[1])], 1) / count[:, None]


def _split(points: Float64, group: NDArray[np.intp], node: Float64, centre: Float64) -> NDArray[np.bool_]:
    """Give the side of each point: the plane holds node and centre and cuts across the widest direction."""
    n = len(node)
    offset = points - centre[group]
    along = _unit(centre - node)
    across = offset - np.sum(offset * along[group], axis=1, keepdims=True) * along[group]
    products = (across[:, :, None] * across[:, None, :]).reshape(-1, 9)
    _, vectors = np.linalg.eigh(_group_means(products, group, n).reshape(n, 3, 3))
    side: NDArray[np.bool_] = np.sum(across * vectors[:, :, 2][group], axis=1) > 0
    return side


def grow_tree(
    rng: np.random.Generator,
    root_xyz_mm: Float64,
    points_xyz_mm: Float64,
    lobe: NDArray[np.intp],
    root_radius_mm: float,
) -> Branches:
    """Give the tree that supplies all points from a root.

    Parameters
    ----------
    rng : Generator
        Source of the branch lengths.
    root_xyz_mm : ndarray, shape (3,)
        Where it starts.
    points_xyz_mm : ndarray, shape (N, 3)
        What it supplies.
    lobe : ndarray of int, shape (N,)
        Lobe of each point; the first branches lead to the lobes.
    root_radius_mm : float
        Radius of a branch that would supply everything.

    Returns
    -------
    Branches
    """
    names, group = np.unique(lobe, return_inverse=True)
    node, parent = np.tile(root_xyz_mm, (len(names), 1)), np.full(len(names), -1)
    points, heading = points_xyz_mm, np.tile(_unit(points_xyz_mm.mean(0) - root_xyz_mm), (len(names), 1))
    parts: list[tuple[NDArray[Any], ...]] = []
    n_branches = 0
    while len(points):
        n = len(node)
        centre, count = _group_means(points, group, n), np.bincount(group, minlength=n)
        reach = np.where(count == 1, 1.0, rng.uniform(0.36, 0.52, n))[:, None]
        length = np.linalg.norm(centre - node, axis=1, keepdims=True)
        way = _unit(_unit(centre - node) + np.where(count == 1, 0.0, 0.25)[:, None] * heading)
        end = node + reach * length * way
        parts.append((node, end, heading, parent, count))
        number = n_branches + np.arange(n)
        n_branches += n
        going = count[group] > 1
        points, group = points[going], group[going]
        side = _split(points, group, end, centre)
        kept, child = np.unique(2 * group + side, return_inverse=True)
        leaving = _unit(end - node - BEND * np.linalg.norm(end - node, axis=1, keepdims=True) * heading)
        node, parent, heading = end[kept // 2], number[kept // 2], leaving[kept // 2]
        group = child
    start, end, heading, parent, count = (np.concatenate(p) for p in zip(*parts, strict=True))
    radius = root_radius_mm * (count / len(points_xyz_mm)) ** (1 / MURRAY)
    return Branches(start, end, heading, parent.astype(np.intp), count.astype(np.intp), radius)


@dataclass(frozen=True, eq=False)
class Trees:
    """All vessels and airways of a chest, world mm."""

    vessels: Tubes
    airways: Tubes  # lumen
    great_vessels: Tubes
    soft_tubes: Tubes  # oesophagus, lymph nodes


def great_vessels(frame: Frame) -> Tubes:
    """Give the aorta, its branches, the large veins and the pulmonary trunk.

    Parameters
    ----------
    frame : Frame
        Placement of the chest.

    Returns
    -------
    Tubes
    """
    size = frame.size
    rows = (
        ([(-2, -22, -30), (-9, -25, 8), (-10, -22, 30), (-5, -12, 46), (6, 6, 54), (17, 26, 48)], 14.0),
        ([(17, 26, 48), (22, 37, 30), (23, 40, -10), (20, 41, -50), (10, 38, -100), (6, 36, -160)], 12.0),
        ([(-5, -8, 50), (-14, -4, 80), (-20, 6, 140)], 6.0),
        ([(4, 4, 56), (12, 4, 90), (16, 10, 140)], 4.5),
        ([(10, 14, 56), (26, 14, 90), (38, 18, 118), (80, 10, 134)], 5.0),
        ([(-22, -14, 72), (-25, -12, 30), (-22, -12, -20)], 9.0),
        ([(-22, -14, 72), (-30, -8, 110), (-60, 0, 132)], 6.5),
        ([(-22, -14, 72), (10, -18, 84), (40, -8, 116)], 6.0),
        ([(14, -38, -30), (17, -30, 2), (22, -14, 18), (36, 6, 14)], 12.0),
        ([(17, -30, 2), (4, -10, 12), (-18, -2, 10), (-36, 4, 6)], 10.0),
        ([(0, 12, -22), (-24, 6, -16), (-38, 0, -10)], 7.0),
        ([(0, 12, -22), (24, 12, -14), (40, 8, -8)], 7.0),
        ([(-14, -4, -60), (-12, -2, -140)], 12.0),
    )
    return join(*(chain(frame.to_world(np.array(points, float)), radius * size) for points, radius in rows))


def central_airways(frame: Frame) -> Tubes:
    """Give the lumen of the trachea and the two main bronchi."""
    size = frame.size
    trachea = chain(frame.to_world(np.array([(1, 10, 150), (0, 13, 90), (-1, 19, 30)], float)), 8.5 * size)
    right = chain(frame.to_world(np.array([(-1, 19, 30), (-18, 17, 16), (-34, 13, 4)], float)), 6.3 * size)
    left = chain(frame.to_world(np.array([(-1, 19, 30), (20, 20, 14), (42, 17, 2)], float)), 5.8 * size)
    return join(trachea, right, left)


def _supplied_points(rng: np.random.Generator, fields: Fields, side: int, n: int) -> Float64:
    lung = fields.left_lung if side > 0 else fields.right_lung
    inside = np.argwhere(lung < -4.0)
    chosen = inside[rng.integers(0, len(inside), n)] + rng.uniform(-0.5, 0.5, (n, 3))
    return fields.grid.index_to_world(chosen)


def _lobes(fields: Fields, points: Float64) -> NDArray[np.intp]:
    upper = fields.distance_at(fields.oblique, points) > 0
    top = fields.distance_at(fields.horizontal, points) > 0
    return (upper.astype(np.intp) + (upper & top)).astype(np.intp)


def _beside(branches: Branches, bronchus_xyz_mm: Float64, smallest_mm: float) -> Tubes:
    """Give the airway lumen that accompanies the larger branches of an artery."""
    keep = branches.radius_mm > smallest_mm
    radius = 0.85 * branches.radius_mm
    direction = _unit(branches.end_xyz_mm - branches.start_xyz_mm)
    reference = np.array([0.25, 0.6, 0.75])
    offset = _unit(reference - np.sum(direction * reference, axis=1, keepdims=True) * direction)
    end = branches.end_xyz_mm + offset * (branches.radius_mm + radius + 0.9)[:, None]
    root = branches.parent < 0
    start = np.where(root[:, None], bronchus_xyz_mm, end[branches.parent])
    first = np.where(root, radius, np.minimum(radius[branches.parent], 1.2 * radius))
    return Tubes(start, end, first, radius).select(keep)


def grow_lungs(frame: Frame, fields: Fields, seed: int) -> tuple[Tubes, Tubes]:
    """Give the vessels and the airway lumens inside the lungs.

    Parameters
    ----------
    frame, fields
        The chest.
    seed : int
        Source of chance.

    Returns
    -------
    vessels, airways : Tubes
    """
    rng = np.random.default_rng([seed, 5])
    vessels, airways = [], []
    voxel_mm3 = float(np.prod(fields.grid.spacing_zyx_mm))
    hila = {1: ((36, 6, 14), (40, 8, -8), (42, 17, 2)), -1: ((-36, 4, 6), (-38, 0, -10), (-34, 13, 4))}
    for side, (artery, vein, bronchus) in hila.items():
        lung = fields.left_lung if side > 0 else fields.right_lung
        volume_mm3 = float((lung < 0).sum()) * voxel_mm3
        for root, spacing_mm, radius in ((artery, 9.0, 5.4), (vein, 9.5, 5.0)):
            points = _supplied_points(rng, fields, side, max(40, int(volume_mm3 / spacing_mm**3)))
            scaled = radius * frame.size
            tree = grow_tree(rng, frame.to_world(np.array(root, float)), points, _lobes(fields, points), scaled)
            vessels.append(tree.tubes())
            if root is artery:
                lumen = _beside(tree, frame.to_world(np.array(bronchus, float)), 1.35 * frame.size)
                airways.append(lumen.select(fields.distance_at(lung, lumen.end_xyz_mm) < 0))
    return join(*vessels), join(*airways)


def grow_trees(frame: Frame, fields: Fields, great: Tubes, seed: int) -> Trees:
    """Give every vessel and airway of the chest.

    Parameters
    ----------
    frame, fields
        The chest.
    great : Tubes
        From `great_vessels`.
    seed : int
        Source of chance.

    Returns
    -------
    Trees
    """
    vessels, airways = grow_lungs(frame, fields, seed)
    rng = np.random.default_rng([seed, 6])
    gullet = chain(frame.to_world(np.array([(3, 30, 150), (5, 34, 40), (6, 36, -150)], float)), 6.5 * frame.size)
    nodes = frame.to_world(rng.uniform((-20, -10, -20), (20, 25, 70), (int(rng.integers(4, 12)), 3)))
    radii = rng.uniform(2.0, 5.0, len(nodes)) * frame.size
    soft = join(gullet, Tubes(nodes, nodes + rng.normal(0, 3, nodes.shape), radii, radii))
    return Trees(vessels, join(central_airways(frame), airways), great, soft)
