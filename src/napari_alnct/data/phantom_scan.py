"""One synthetic chest CT with everything that is known about it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from napari_alnct.core.findings import ReferenceNodule
from napari_alnct.core.geometry import Geometry
from napari_alnct.core.volume import Volume, geometry_flags
from napari_alnct.data.phantom_anatomy import ChestBuilder, Fields
from napari_alnct.data.phantom_body import Body, Frame, draw_body, fit_frame
from napari_alnct.data.phantom_imaging import (
    add_table,
    average_to,
    draw_scanner,
    expose,
    fill_soft_parts,
    lung_masks,
    pad_outside,
)
from napari_alnct.data.phantom_mimics import add_mimics
from napari_alnct.data.phantom_nodules import Canvas, PaintedNodule, add_nodules, label_nodules
from napari_alnct.data.phantom_paint import AIR_HU, Float32, join, paint_tubes, tube_distances
from napari_alnct.data.phantom_settings import PhantomSettings, lps_geometry, source_geometry, supersampling
from napari_alnct.data.phantom_sites import Sites
from napari_alnct.data.phantom_skeleton import Skeleton, build_skeleton, paint_skeleton
from napari_alnct.data.phantom_trees import Trees, central_airways, great_vessels, grow_trees

LEFT_LUNG, RIGHT_LUNG, TRACHEA = 3, 4, 5  # labels of LUNA16's lung masks


@dataclass(frozen=True, eq=False)
class PhantomScan:
    """A synthetic scan and its truth.

    Parameters
    ----------
    volume : Volume
        The scan, LPS, int16 HU.
    nodules : tuple of ReferenceNodule
        Centre of the visible body and diameter of the sphere of the same volume; largest first.
    excluded : tuple of ReferenceNodule
        Findings that are annotated but do not count.
    contact : tuple of str
        For each nodule ``isolated``, ``juxtapleural``, ``juxtavascular`` or ``fissure``.
    organs : ndarray of uint8, shape (z, y, x)
        3 left lung, 4 right lung, 5 trachea and main bronchi, 0 elsewhere; nodules belong to the lungs.
    nodule_labels : ndarray of uint8, shape (z, y, x)
        i inside the i-th nodule (from 1), 0 elsewhere.
    """

    volume: Volume
    nodules: tuple[ReferenceNodule, ...]
    excluded: tuple[ReferenceNodule, ...]
    contact: tuple[str, ...]
    organs: NDArray[np.uint8]
    nodule_labels: NDArray[np.uint8]

    @cached_property
    def lungs(self) -> NDArray[np.bool_]:
        """Give the voxels of both lungs, with all nodules."""
        mask: NDArray[np.bool_] = (self.organs == LEFT_LUNG) | (self.organs == RIGHT_LUNG)
        return mask


def make_phantom(settings: PhantomSettings) -> PhantomScan:
    """Give a synthetic chest CT with known nodules.

    Parameters
    ----------
    settings : PhantomSettings
        Same settings, same scan, byte for byte (same NumPy and SciPy).

    Returns
    -------
    PhantomScan

    Raises
    ------
    SettingsError
        If the lungs have no room for so many nodules.

    Examples
    --------
    >>> from napari_alnct.data.phantom import make_phantom, small_settings
    >>> scan = make_phantom(small_settings(seed=3, n_nodules=2))
    >>> scan.volume.hu.shape, len(scan.nodules)
    ((96, 160, 160), 2)
    """
    grid = lps_geometry(settings)
    source = source_geometry(grid, settings.direction)
    factors = supersampling(grid)
    z, y, x = (s / k for s, k in zip(grid.spacing_zyx_mm, factors, strict=True))
    inner = grid.resampled((z, y, x))
    body = draw_body(settings.seed)
    frame = fit_frame(grid, body, settings.seed)
    great = great_vessels(frame)
    skeleton = build_skeleton(body, frame, settings.seed)
    around = join(great, central_airways(frame), skeleton.bones)
    fields = ChestBuilder(body, frame, grid, around, settings.seed).build()
    trees = grow_trees(frame, fields, great, settings.seed)
    hu = _paint_chest(inner, body, frame, fields, trees, skeleton)
    sites = Sites(hu, inner, fields, frame, trees.vessels)
    canvas = Canvas(hu, inner, grid, factors)
    painted = add_nodules(canvas, sites, settings)
    excluded = add_mimics(canvas, sites, trees.airways, settings)
    voxels = _expose(hu, grid, inner, factors, frame, fields, settings)
    volume = Volume(voxels, grid, source, settings.uid, geometry_flags(grid))
    labels = label_nodules(grid, painted)
    organs = _organs(grid, fields, frame, labels)
    nodules = tuple(_reference(settings.uid, n) for n in painted)
    return PhantomScan(volume, nodules, tuple(excluded), tuple(n.contact for n in painted), organs, labels)


def _paint_chest(
    inner: Geometry, body: Body, frame: Frame, fields: Fields, trees: Trees, skeleton: Skeleton
) -> Float32:
    hu = fill_soft_parts(inner, fields)
    paint_skeleton(hu, inner, skeleton, frame)
    paint_tubes(hu, inner, trees.soft_tubes, 38.0)
    paint_tubes(hu, inner, trees.great_vessels, body.blood_hu)
    paint_tubes(hu, inner, trees.airways.grown(1.08, 0.4), -20.0)
    paint_tubes(hu, inner, trees.vessels, body.blood_hu)
    paint_tubes(hu, inner, trees.airways, AIR_HU + 10.0, bright=False)
    return hu


def _expose(
    hu: Float32,
    grid: Geometry,
    inner: Geometry,
    factors: tuple[int, int, int],
    frame: Frame,
    fields: Fields,
    settings: PhantomSettings,
) -> NDArray[np.int16]:
    scanner = draw_scanner(settings.seed, settings.noise_hu, settings.padding_hu)
    if scanner.has_table:
        rows = np.flatnonzero((fields.skin < 0).any((0, 2)))
        back_mm = float(fields.grid.index_to_world([0, rows[-1], 0])[1])
        add_table(hu, inner, frame, back_mm)
    voxels = expose(average_to(hu, factors), grid, scanner, settings.seed)
    if scanner.padding_hu is not None:
        pad_outside(voxels, scanner.padding_hu)
    return voxels


def _organs(grid: Geometry, fields: Fields, frame: Frame, labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    organs = lung_masks(grid, fields)
    for _, box, distance in tube_distances(grid, central_airways(frame), 0.0):
        part = organs[box]
        part[(distance < 0) & (part == 0)] = TRACHEA
    outside = (labels > 0) & (organs == 0)
    middle = grid.world_to_index(frame.centre_xyz_mm)[2]
    at = np.nonzero(outside)
    organs[at] = np.where(at[2] > middle, LEFT_LUNG, RIGHT_LUNG)
    return organs


def _reference(uid: str, nodule: PaintedNodule) -> ReferenceNodule:
    x, y, z = (float(v) for v in nodule.centre_xyz_mm)
    return ReferenceNodule(series_uid=uid, position_xyz_mm=(x, y, z), diameter_mm=nodule.diameter_mm, kind=nodule.kind)
