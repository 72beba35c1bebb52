"""What a network sees of a candidate: its own cube of the scan, and where that cube lies in the world."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_alnct.core.config import ClassifierNetSettings, DetectorNetSettings
from napari_alnct.core.dense import MOST_OFFSET_CELLS
from napari_alnct.core.errors import GeometryError
from napari_alnct.core.explain.grids import CellGrid
from napari_alnct.core.geometry import Geometry, Shape, Triple
from napari_alnct.core.network import OUTPUT_STRIDE, cell_centre
from napari_alnct.core.patches import padded_shape
from napari_alnct.core.second_look import cut_cube

DETECTOR_EDGE_VOX = 128  # the detector's input around a candidate
SEARCH_CELLS = 2  # as far as a cell's offset can reach
SAME_MARK_VOX = 2.0  # a cell that puts its nodule within this distance of the candidate speaks for it


@dataclass(frozen=True, eq=False)
class NetworkInput:
    """A network's input around a candidate.

    Parameters
    ----------
    hu : ndarray of int16, shape (z, y, x)
        Voxels, as the network sees them before scaling: a cube, for a detector without what lies outside the scan.
    start_zyx : tuple of int
        Voxel of the scan that is voxel (0, 0, 0) here; may lie outside the scan.
    position_zyx : ndarray of float64, shape (3,)
        The candidate in voxels of the cube.
    position_xyz_mm : tuple of float
        The candidate in the world, LPS mm.
    """

    hu: NDArray[np.int16]
    start_zyx: Shape
    position_zyx: NDArray[np.float64]
    position_xyz_mm: Triple

    def cells_in_world(self, grid: CellGrid, shape_zyx: Shape, scan: Geometry) -> Geometry:
        """Give the world grid of a layer's cells: scan, then the cube's place in it, then the cells' place in the cube.

        Parameters
        ----------
        grid : CellGrid
            Of the layer, in voxels of the cube.
        shape_zyx : tuple of int
            Number of cells.
        scan : Geometry
            LPS grid that the cube was cut from.

        Returns
        -------
        Geometry
        """
        x, y, z = scan.index_to_world(np.add(self.start_zyx, grid.start_zyx))
        spacing = [jump * step for jump, step in zip(grid.jump_zyx, scan.spacing_zyx_mm, strict=True)]
        return Geometry(
            shape_zyx=shape_zyx,
            spacing_zyx_mm=(spacing[0], spacing[1], spacing[2]),
            origin_xyz_mm=(float(x), float(y), float(z)),
            direction=scan.direction,
        )


def edge_vox(settings: ClassifierNetSettings | DetectorNetSettings) -> int:
    """Give the edge of the cube that a network sees around a candidate, voxels."""
    return settings.patch_vox if isinstance(settings, ClassifierNetSettings) else DETECTOR_EDGE_VOX


def cut_input(
    hu: NDArray[np.int16],
    geometry: Geometry,
    position_xyz_mm: Triple,
    settings: ClassifierNetSettings | DetectorNetSettings,
    fill_hu: float,
    middle_xyz_mm: Triple | None = None,
) -> NetworkInput:
    """Give a network's input around a candidate.

    Parameters
    ----------
    hu : ndarray of int16, shape (z, y, x)
        Prepared scan.
    geometry : Geometry
        Its LPS grid.
    position_xyz_mm : tuple of float
        The candidate, LPS mm.
    settings : ClassifierNetSettings or DetectorNetSettings
        Of the network. A classifier sees its patch exactly as in detection; a detector the part of the scan in a larger
        cube, whose cells are those of the whole scan.
    fill_hu : float
        Value outside the scan.
    middle_xyz_mm : tuple of float, optional
        Middle of the cube when it is not the candidate, LPS mm.

    Returns
    -------
    NetworkInput

    Raises
    ------
    GeometryError
        If the candidate lies so far outside the scan that the middle of the cube holds none of it.
    """
    position, edge = geometry.world_to_index(position_xyz_mm), edge_vox(settings)
    middle = np.rint(position if middle_xyz_mm is None else geometry.world_to_index(middle_xyz_mm)).astype(int)
    if np.any(middle + edge // 4 < 0) or np.any(middle - edge // 4 >= geometry.shape_zyx):
        place = ", ".join(f"{value:.1f}" for value in position_xyz_mm)
        raise GeometryError(f"x, y, z {place} mm lies outside what the network sees of the scan; nothing to explain")
    start = middle - edge // 2
    if isinstance(settings, DetectorNetSettings):
        multiple = settings.stride
        start = multiple * np.rint(start / multiple).astype(int)
    cube = cut_cube(hu, start + edge // 2, edge, fill_hu)
    if isinstance(settings, DetectorNetSettings):  # ends where the scan does: there the network sees its own padding
        first = np.maximum(0, -start)
        last = np.minimum(edge, padded_shape((hu.shape[0], hu.shape[1], hu.shape[2]), settings.stride) - start)
        cube = np.ascontiguousarray(cube[tuple(slice(a, b) for a, b in zip(first, last, strict=True))])
        start = start + first
    z, y, x = (int(value) for value in start)
    return NetworkInput(cube, (z, y, x), position - (z, y, x), position_xyz_mm)


def candidate_cell(cells: Tensor, position_zyx: NDArray[np.float64]) -> tuple[int, int, int]:
    """Give the detector's cell that speaks for a candidate.

    Parameters
    ----------
    cells : Tensor, shape (5, d, h, w)
        The detector's output.
    position_zyx : ndarray, shape (3,)
        The candidate in voxels of the detector's input.

    Returns
    -------
    tuple of int
        The strongest of the cells around that put their nodule's centre within 2 voxels of the candidate; the
        cell at the candidate itself where none does.
    """
    shape = np.asarray(cells.shape[1:])
    here = np.clip(np.rint((position_zyx - (OUTPUT_STRIDE - 1) / 2) / OUTPUT_STRIDE).astype(int), 0, shape - 1)
    low, high = np.maximum(here - SEARCH_CELLS, 0), np.minimum(here + SEARCH_CELLS + 1, shape)
    axes = [torch.arange(int(a), int(b)) for a, b in zip(low, high, strict=True)]
    index = torch.cartesian_prod(*axes)  # (N, 3)
    values = cells[:, index[:, 0], index[:, 1], index[:, 2]]  # (5, N)
    offset = values[1:4].T.clamp(-MOST_OFFSET_CELLS, MOST_OFFSET_CELLS)  # as `find_peaks` does
    centres = cell_centre(index) + offset * OUTPUT_STRIDE
    is_near = (centres - torch.from_numpy(position_zyx)).norm(dim=1) <= SAME_MARK_VOX
    if not bool(is_near.any()):
        return int(here[0]), int(here[1]), int(here[2])
    z, y, x = index[torch.where(is_near, values[0], -torch.inf).argmax()].tolist()
    return z, y, x
