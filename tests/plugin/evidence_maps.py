"""Made-up evidence maps and models, for tests of everything that shows them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from napari_alnct.core.evidence import EvidenceMap
from napari_alnct.core.geometry import Geometry, Triple
from napari_alnct.core.volume import Volume
from napari_alnct.plugin._explain_layers import ScoreMap

CELL_MM = 4.0


def made_up_map(
    centre_xyz_mm: Triple,
    candidate: str = "mark 1",
    *,
    peak: float = 1.0,
    against: float = 0.25,
    method: str = "hirescam",
    shape_zyx: tuple[int, int, int] = (5, 6, 7),
) -> EvidenceMap:
    """Give a map whose middle cell holds the peak and whose first cell argues against, with a little noise of no sign.

    The middle cell's centre is the candidate's place.
    """
    values = np.random.default_rng(3).uniform(-0.05, 0.05, shape_zyx).astype(np.float32) * np.float32(abs(peak))
    middle = tuple(n // 2 for n in shape_zyx)
    values[middle], values[0, 0, 0] = peak, -against
    origin = np.subtract(centre_xyz_mm, np.multiply(middle[::-1], CELL_MM))
    return EvidenceMap(
        values=values,
        geometry=grid_at(tuple(origin), shape_zyx),
        position_xyz_mm=centre_xyz_mm,
        method=method,
        layer="encoder.stages.1",
        score_name="second look",
        logit=2.5,
        candidate=candidate,
        model_name="made-up",
        model_sha256="ab" * 32,
    )


def grid_at(origin_xyz_mm: Sequence[float], shape_zyx: tuple[int, int, int]) -> Geometry:
    """Give a grid of cells whose first centre is here."""
    x, y, z = (float(value) for value in origin_xyz_mm)
    return Geometry(shape_zyx=shape_zyx, spacing_zyx_mm=(CELL_MM,) * 3, origin_xyz_mm=(x, y, z))


def without_support(one: EvidenceMap) -> EvidenceMap:
    """Give the same map with no positive cell."""
    values = -np.abs(one.values)
    return made_up_like(one, values)


def made_up_like(one: EvidenceMap, values: np.ndarray) -> EvidenceMap:
    """Give a map with other values."""
    from dataclasses import replace

    return replace(one, values=values.astype(np.float32))


def made_up_scores(volume: Volume) -> ScoreMap:
    """Give scores that rise along z, on cells that begin at the scan's first voxel."""
    shape = tuple(
        int(extent // CELL_MM) + 1
        for extent in np.multiply(np.subtract(volume.geometry.shape_zyx, 1), volume.geometry.spacing_zyx_mm)
    )
    depth, height, width = shape
    values = np.broadcast_to(np.linspace(0, 1, depth, dtype=np.float32)[:, None, None], (depth, height, width))
    return ScoreMap(
        values=values.copy(),
        geometry=grid_at(volume.geometry.origin_xyz_mm, (depth, height, width)),
        model_name="made-up",
        model_sha256="ab" * 32,
    )
