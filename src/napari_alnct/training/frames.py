"""The frame of a training patch within its host: shifted, and now and then turned and scaled a little.

A few scans are soon known by heart. A small turn and another size give other vessels at
the same cost, since a patch is cut from its host only once. Nodules of the host, places
for donors and the lung mask go through the same frame.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation

from napari_alnct.training.cases import TrainingCase

MOST_DEGREES = 15.0
SCALES = (0.85, 1.2)
FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class PatchFrame:
    """Where a patch lies in its host; voxels of 1 mm.

    Parameters
    ----------
    start_zyx : ndarray of int, shape (3,)
        Host voxel at which the patch begins, before it is turned about its middle; may lie outside.
    edge_vox : int
        Voxels along each axis of the patch.
    turn : ndarray, shape (3, 3), optional
        Rotation from patch to host; default: none.
    scale : float
        Size in the patch over size in the host.
    """

    start_zyx: NDArray[np.int_]
    edge_vox: int
    turn: FloatArray | None = None
    scale: float = 1.0

    @property
    def middle_vox(self) -> float:
        """Give the middle of the patch, the same along each axis, in its own voxels."""
        return (self.edge_vox - 1) / 2

    def to_patch(self, zyx_vox: NDArray[np.float64] | NDArray[np.int16]) -> FloatArray:
        """Give host voxels as voxels of the patch, shape (N, 3).

        Parameters
        ----------
        zyx_vox : ndarray, shape (N, 3)
            Positions in the host.

        Returns
        -------
        ndarray
        """
        shifted: FloatArray = np.asarray(zyx_vox, float).reshape(-1, 3) - self.start_zyx
        if self.turn is None:
            return shifted
        return np.asarray((shifted - self.middle_vox) @ self.turn * self.scale + self.middle_vox)

    def cut(self, host: NDArray[np.int16] | NDArray[np.bool_], fill: float) -> NDArray[np.float32]:
        """Give the patch of a host, filled where it reaches outside; trilinear where it is turned.

        Parameters
        ----------
        host : ndarray of int16 or bool, shape (z, y, x)
            Scan, or its lung mask.
        fill : float
            Value outside.

        Returns
        -------
        ndarray of float32, shape (edge, edge, edge)
        """
        if self.turn is None:
            return cut(host, self.start_zyx, self.edge_vox, fill)
        first, edge = self._around()
        return self._resampled(cut(host, first, edge, fill), first, fill, order=1)

    def lungs(self, case: TrainingCase) -> NDArray[np.bool_]:
        """Give the lung mask of the patch.

        Parameters
        ----------
        case : TrainingCase
            The host.

        Returns
        -------
        ndarray of bool, shape (edge, edge, edge)
        """
        if self.turn is None:
            return case.lungs_in(self.start_zyx, self.edge_vox)
        first, edge = self._around()
        return self._resampled(case.lungs_in(first, edge).view(np.uint8), first, 0, order=0).astype(bool)

    def _around(self) -> tuple[NDArray[np.int_], int]:
        """Give the cube of the host, first voxel and edge, that holds all of a turned patch."""
        assert self.turn is not None
        half = int(np.ceil(np.abs(self.turn).sum(axis=1).max() * self.middle_vox / self.scale)) + 2
        return np.floor(self.start_zyx + self.middle_vox).astype(int) - half, 2 * half + 2

    def _resampled(
        self, around: NDArray[np.float32] | NDArray[np.uint8], first: NDArray[np.int_], fill: float, *, order: int
    ) -> NDArray[np.float32]:
        assert self.turn is not None
        matrix = self.turn / self.scale
        offset = self.start_zyx + self.middle_vox - first - matrix @ np.full(3, self.middle_vox)
        shape = (self.edge_vox,) * 3
        return np.asarray(
            ndimage.affine_transform(around, matrix, offset, shape, np.float32, order=order, cval=fill), np.float32
        )


def warped_frame(start_zyx: NDArray[np.int_], edge_vox: int, rng: np.random.Generator) -> PatchFrame:
    """Give a frame that is turned by up to 15 degrees about any axis and scaled by 0.85 to 1.2.

    Parameters
    ----------
    start_zyx : ndarray of int, shape (3,)
        As in `PatchFrame`.
    edge_vox : int
        Edge of the patch.
    rng : Generator
        Source of chance.

    Returns
    -------
    PatchFrame
    """
    axis = rng.standard_normal(3)
    angle = np.deg2rad(rng.uniform(0.0, MOST_DEGREES))
    turn = Rotation.from_rotvec(axis / np.linalg.norm(axis) * angle).as_matrix()
    low, high = np.log(SCALES)
    return PatchFrame(start_zyx, edge_vox, turn, float(np.exp(rng.uniform(low, high))))


def cut(
    hu: NDArray[np.int16] | NDArray[np.bool_], start: NDArray[np.int_], edge: int, fill: float
) -> NDArray[np.float32]:
    """Give a cube of a scan, padded where it reaches outside.

    Parameters
    ----------
    hu : ndarray of int16 or bool, shape (z, y, x)
        Scan, or its lung mask.
    start : ndarray of int, shape (3,)
        First voxel of the cube; may lie outside.
    edge : int
        Voxels along each axis.
    fill : float
        Value outside.

    Returns
    -------
    ndarray of float32, shape (edge, edge, edge)
    """
    out = np.full((edge,) * 3, fill, np.float32)
    source = tuple(slice(max(0, a), max(0, min(n, a + edge))) for a, n in zip(start, hu.shape, strict=True))
    target = tuple(slice(s.start - a, s.stop - a) for s, a in zip(source, start, strict=True))
    out[target] = hu[source]
    return out
