"""Which places of a prepared scan become patches: nodules, jittered, and four kinds of negatives.

A *negative* is random ``lung``, a ``vessel``, or *hard*: a ``candidate`` of a table, or
``mined``, a false mark of a model. Every negative keeps clear of all nodules and excluded
findings. Chance depends on seed and series alone, so the order of scans changes nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from napari_alnct.core.geometry import Geometry
from napari_alnct.io.prepared import PreparedFinding
from napari_alnct.training.cases import EXCLUDED_MARGIN_MM, find_spots
from napari_alnct.training.sample_settings import SampleSettings

LUNG, VESSEL, CANDIDATE, MINED = "lung", "vessel", "candidate", "mined"
KINDS = (MINED, CANDIDATE, VESSEL, LUNG)  # in the order in which they are chosen; what lacks goes to the later ones
APART_MM = 4.0  # between the centres of two negatives of one scan
MOST_TRIED = 3000  # places of each kind looked at per scan
GOLDEN = 0.6180339887498949

FloatArray = NDArray[np.float64]
IndexArray = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class KeepOut:
    """Spheres in which no negative may be centred: ``centres_xyz_mm`` (N, 3) and ``radii_mm`` (N,)."""

    centres_xyz_mm: FloatArray
    radii_mm: FloatArray

    def leaves(self, points_xyz_mm: FloatArray) -> NDArray[np.bool_]:
        """Tell which points (N, 3) lie outside all spheres."""
        if not len(self.radii_mm):
            return np.ones(len(points_xyz_mm), bool)
        is_clear: NDArray[np.bool_] = (cdist(points_xyz_mm, self.centres_xyz_mm) > self.radii_mm).all(axis=1)
        return is_clear


def keep_out(nodules: Sequence[PreparedFinding], excluded: Sequence[PreparedFinding], clearance_mm: float) -> KeepOut:
    """Give the spheres around all findings of a scan.

    Parameters
    ----------
    nodules, excluded : sequence of PreparedFinding
        Also those outside the prepared box; without a diameter they count as 10 mm.
    clearance_mm : float
        Around nodules; 4 mm around excluded findings.

    Returns
    -------
    KeepOut
    """
    centres = [finding.position_xyz_mm for finding in (*nodules, *excluded)]
    radii = [n.radius_mm + clearance_mm for n in nodules] + [e.radius_mm + EXCLUDED_MARGIN_MM for e in excluded]
    return KeepOut(np.array(centres, float).reshape(-1, 3), np.array(radii, float))


def scan_rng(seed: int, series_uid: str, purpose: str) -> np.random.Generator:
    """Give the source of chance of one scan, which no other scan touches.

    Parameters
    ----------
    seed : int
        Of the whole run.
    series_uid : str
        The scan.
    purpose : str
        What is drawn: other draws do not move these.

    Returns
    -------
    Generator
    """
    return np.random.default_rng([seed, int.from_bytes(_digest(seed, f"{series_uid} {purpose}")[:16], "big")])


def share_out(n_total: int, series: Sequence[str], seed: int) -> dict[str, int]:
    """Give how many of the negatives each scan supplies: the same number, or one more.

    Parameters
    ----------
    n_total : int
        Negatives in all.
    series : sequence of str
        Scans, in any order.
    seed : int
        Decides which scans supply one more.

    Returns
    -------
    dict of str to int
        In an order that depends on the seed and the series alone.

    Examples
    --------
    >>> sorted(share_out(7, ["a", "b", "c"], seed=0).values())
    [2, 2, 3]
    """
    ordered = sorted(series, key=lambda uid: _digest(seed, uid))
    base, extra = divmod(n_total, len(ordered))
    return {uid: base + (place < extra) for place, uid in enumerate(ordered)}


def kind_shares(settings: SampleSettings, *, has_candidates: bool, has_model: bool) -> dict[str, float]:
    """Give the share of each kind among the negatives.

    Parameters
    ----------
    settings : SampleSettings
        ``hard_share`` and ``vessel_share``.
    has_candidates, has_model : bool
        Which sources of hard negatives are given; both share equally.

    Returns
    -------
    dict of str to float
        For every kind, together 1.

    Examples
    --------
    >>> kind_shares(SampleSettings(), has_candidates=True, has_model=False)
    {'mined': 0.0, 'candidate': 0.5, 'vessel': 0.25, 'lung': 0.25}
    """
    n_sources = has_candidates + has_model
    hard = settings.hard_share if n_sources else 0.0
    each = hard / n_sources if n_sources else 0.0
    vessel = (1 - hard) * settings.vessel_share
    return {
        MINED: each if has_model else 0.0,
        CANDIDATE: each if has_candidates else 0.0,
        VESSEL: vessel,
        LUNG: 1 - hard - vessel,
    }


def split_kinds(quotas: Mapping[str, int], shares: Mapping[str, float]) -> dict[str, dict[str, int]]:
    """Give how many negatives of each kind each scan supplies.

    Parameters
    ----------
    quotas : mapping of str to int
        Negatives by scan, from `share_out`.
    shares : mapping of str to float
        From `kind_shares`.

    Returns
    -------
    dict of str to dict of str to int
        By scan and kind. The shares hold over all scans together to within a few patches, though one scan
        may supply a single patch: the golden-ratio sequence spreads the kinds over the patches.
    """
    edges = np.cumsum(list(shares.values()))
    counts, first = {}, 0
    for uid, quota in quotas.items():
        place = (GOLDEN * np.arange(first, first + quota)) % 1
        chosen = np.minimum(np.searchsorted(edges, place, side="right"), len(edges) - 1)
        counts[uid] = {kind: int(np.count_nonzero(chosen == k)) for k, kind in enumerate(shares)}
        first += quota
    return counts


def nodule_centres(
    nodule: PreparedFinding, geometry: Geometry, settings: SampleSettings, rng: np.random.Generator
) -> IndexArray:
    """Give the voxels that the patches of one nodule are centred on.

    Parameters
    ----------
    nodule : PreparedFinding
        Its centre lies inside the scan.
    geometry : Geometry
        Grid of the scan.
    settings : SampleSettings
        How many and how far.
    rng : Generator
        Source of chance.

    Returns
    -------
    ndarray of int, shape (K, 3)
        The nearest voxel first, then others within `jitter_mm` of the nodule's centre, all different;
        fewer than asked for when there are not so many.
    """
    centre = np.array(nodule.centre_zyx_vox)
    nearest = np.clip(np.rint(centre).astype(int), 0, np.array(geometry.shape_zyx) - 1)
    spacing = np.array(geometry.spacing_zyx_mm)
    reach = np.ceil(settings.jitter_mm / spacing).astype(int) + 1
    steps = np.stack(np.meshgrid(*(np.arange(-r, r + 1) for r in reach), indexing="ij"), axis=-1).reshape(-1, 3)
    voxels = nearest + steps
    is_near = np.linalg.norm((voxels - centre) * spacing, axis=1) <= settings.jitter_mm
    is_other = steps.any(axis=1) & np.all((voxels >= 0) & (voxels < geometry.shape_zyx), axis=1)
    others = voxels[is_near & is_other]
    chosen = rng.choice(len(others), min(settings.per_nodule - 1, len(others)), replace=False)
    return np.vstack([nearest, others[chosen]]).astype(np.intp)


def negative_centres(
    hu: NDArray[np.int16],
    lungs: NDArray[np.bool_],
    geometry: Geometry,
    barrier: KeepOut,
    wanted: Mapping[str, int],
    hard_xyz_mm: Mapping[str, FloatArray],
    rng: np.random.Generator,
) -> list[tuple[str, tuple[int, int, int]]]:
    """Give the voxels that the negatives of one scan are centred on.

    Parameters
    ----------
    hu, lungs : ndarray, shape (z, y, x)
        Prepared scan.
    geometry : Geometry
        Its grid.
    barrier : KeepOut
        Where none may be.
    wanted : mapping of str to int
        Number of each kind.
    hard_xyz_mm : mapping of str to ndarray, shape (N, 3)
        World positions of hard negatives, those to prefer first.
    rng : Generator
        Source of chance.

    Returns
    -------
    list of (str, (int, int, int))
        Kind and voxel, at least 4 mm apart. Hard ones that lack are replaced by vessels and lung in equal
        parts, vessels that lack by lung; lung that lacks is missing.
    """
    taken: list[tuple[str, tuple[int, int, int]]] = []
    need = {kind: wanted.get(kind, 0) for kind in KINDS}
    for kind, following in pairwise((*KINDS, None)):
        assert kind is not None
        if not need[kind]:
            continue
        pool = _pool(kind, hu, lungs, geometry, hard_xyz_mm, rng)
        chosen = _take(pool, need[kind], geometry, barrier, [voxel for _, voxel in taken])
        taken += [(kind, voxel) for voxel in chosen]
        lacking = need[kind] - len(chosen)
        if kind == CANDIDATE or (kind == MINED and CANDIDATE not in hard_xyz_mm):
            need[VESSEL], need[LUNG] = need[VESSEL] + (lacking + 1) // 2, need[LUNG] + lacking // 2
        elif following is not None:
            need[following] += lacking
    return taken


def _pool(
    kind: str,
    hu: NDArray[np.int16],
    lungs: NDArray[np.bool_],
    geometry: Geometry,
    hard_xyz_mm: Mapping[str, FloatArray],
    rng: np.random.Generator,
) -> IndexArray:
    """Give voxels of one kind, those to prefer first, shape (N, 3)."""
    if kind in (MINED, CANDIDATE):
        points = hard_xyz_mm.get(kind, np.zeros((0, 3)))
        return np.rint(geometry.world_to_index(points)).astype(np.intp)
    if kind == VESSEL:
        voxels = find_spots(hu, lungs, seed=int(rng.integers(2**31)))[VESSEL].astype(np.intp)
        return voxels[:MOST_TRIED]
    places = np.flatnonzero(lungs)
    drawn = rng.choice(places, min(MOST_TRIED, len(places)), replace=False)
    return np.stack(np.unravel_index(drawn, lungs.shape), axis=1).astype(np.intp)


def _take(
    pool: IndexArray, n: int, geometry: Geometry, barrier: KeepOut, taken: Sequence[tuple[int, int, int]]
) -> list[tuple[int, int, int]]:
    """Give the first `n` voxels of the pool that are inside, clear of findings and apart from all taken."""
    inside = np.all((pool >= 0) & (pool < geometry.shape_zyx), axis=1)
    pool = pool[inside]
    world = geometry.index_to_world(pool).reshape(-1, 3)
    is_clear = barrier.leaves(world)
    pool, world = pool[is_clear], world[is_clear]
    others = list(geometry.index_to_world(np.array(taken).reshape(-1, 3)))
    chosen: list[tuple[int, int, int]] = []
    for voxel, point in zip(pool, world, strict=True):
        if len(chosen) == n:
            break
        if others and np.linalg.norm(np.array(others) - point, axis=1).min() < APART_MM:
            continue
        others.append(point)
        chosen.append((int(voxel[0]), int(voxel[1]), int(voxel[2])))
    return chosen


def _digest(seed: int, series_uid: str) -> bytes:
    return hashlib.sha256(f"{seed} {series_uid}".encode()).digest()
