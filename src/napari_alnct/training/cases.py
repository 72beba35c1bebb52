"""Training cases: prepared scans with what is known about them.

A case is a scan at 1 mm with its lung mask, the nodules that count, the places
that must not be judged, and *spots*: voxels where a nodule could plausibly sit
(in aerated lung, beside a vessel, at the pleura).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_alnct.core.geometry import Geometry

N_SPOTS = 20_000  # of each sort kept per case
AERATED_HU = (-960.0, -550.0)  # local mean that counts as aerated lung
VESSEL_HU = (-500, 300)
LOCAL_MEAN_VOX = 9
PLEURA_VOX = 3
EXCLUDED_MARGIN_MM = 4.0
NO_DIAMETER_RADIUS_MM = 5.0  # LUNA16: excluded findings without diameter count as 10 mm
SPOT_SORTS = ("aerated", "vessel", "pleura")


@dataclass(frozen=True, eq=False)
class TrainingCase:
    """One prepared scan and what is known about it; positions are voxels of `hu` (z, y, x).

    `hu` may be mapped from disk; `lung_bits` is the lung mask, eight voxels to the byte.
    """

    name: str
    hu: NDArray[np.int16]
    lung_bits: NDArray[np.uint8]
    centres_zyx_vox: NDArray[np.float64]
    diameters_mm: NDArray[np.float64]
    ignored_zyx_vox: NDArray[np.float64]
    ignored_radii_mm: NDArray[np.float64]
    geometry: Geometry
    is_synthetic: bool = False
    spots: dict[str, NDArray[np.int16]] = field(default_factory=dict)

    @property
    def lungs(self) -> NDArray[np.bool_]:
        """Give the lung mask, shape (z, y, x), unpacked anew at each call."""
        return np.unpackbits(self.lung_bits, count=self.hu.size).view(np.bool_).reshape(self.hu.shape)

    def lungs_in(self, start_zyx: NDArray[np.int_], edge_vox: int) -> NDArray[np.bool_]:
        """Give the lung mask of a cube; no lung outside the scan.

        Parameters
        ----------
        start_zyx : ndarray of int, shape (3,)
            First voxel of the cube; may lie outside.
        edge_vox : int
            Voxels along each axis.

        Returns
        -------
        ndarray of bool, shape (edge, edge, edge)
        """
        shape, out = self.hu.shape, np.zeros((edge_vox,) * 3, bool)
        ends = zip(start_zyx, shape, strict=True)
        low, high = np.array([(max(0, int(a)), max(0, min(n, int(a) + edge_vox))) for a, n in ends]).T
        first, last = low[0] * shape[1] * shape[2], max(low[0], high[0]) * shape[1] * shape[2]
        bits = np.unpackbits(self.lung_bits[first // 8 : -(-last // 8)])[first % 8 : first % 8 + last - first]
        slab = bits.view(np.bool_).reshape(-1, *shape[1:])[:, low[1] : high[1], low[2] : high[2]]
        to = low - start_zyx
        out[to[0] : to[0] + slab.shape[0], to[1] : to[1] + slab.shape[1], to[2] : to[2] + slab.shape[2]] = slab
        return out


def make_case(
    name: str,
    hu: NDArray[np.int16],
    lungs: NDArray[np.bool_],
    geometry: Geometry,
    *,
    nodules_xyz_mm: NDArray[np.float64],
    diameters_mm: NDArray[np.float64],
    excluded_xyz_mm: NDArray[np.float64],
    excluded_diameters_mm: NDArray[np.float64],
    is_synthetic: bool = False,
    seed: int = 0,
) -> TrainingCase:
    """Give a training case from a prepared scan and annotations in world mm.

    Parameters
    ----------
    name : str
        Series or case name.
    hu, lungs : ndarray, shape (z, y, x)
        Prepared scan at 1 mm and its lung mask.
    geometry : Geometry
        Grid of both.
    nodules_xyz_mm, excluded_xyz_mm : ndarray, shape (N, 3)
        World centres, LPS mm.
    diameters_mm, excluded_diameters_mm : ndarray, shape (N,)
        Diameters; a negative one counts as 10 mm (LUNA16).
    is_synthetic : bool
        A phantom.
    seed : int
        For the choice of spots.

    Returns
    -------
    TrainingCase
    """
    radii = np.where(excluded_diameters_mm < 0, NO_DIAMETER_RADIUS_MM, excluded_diameters_mm / 2)
    return TrainingCase(
        name=name,
        hu=hu,
        lung_bits=np.packbits(lungs),
        centres_zyx_vox=geometry.world_to_index(nodules_xyz_mm.reshape(-1, 3)),
        diameters_mm=diameters_mm,
        ignored_zyx_vox=geometry.world_to_index(excluded_xyz_mm.reshape(-1, 3)),
        ignored_radii_mm=radii + EXCLUDED_MARGIN_MM,
        geometry=geometry,
        is_synthetic=is_synthetic,
        spots=find_spots(hu, lungs, seed=seed),
    )


def find_spots(hu: NDArray[np.int16], lungs: NDArray[np.bool_], *, seed: int) -> dict[str, NDArray[np.int16]]:
    """Give voxels where a nodule could plausibly sit, by sort of place.

    Parameters
    ----------
    hu, lungs : ndarray, shape (z, y, x)
        Scan at 1 mm and lung mask.
    seed : int
        For the choice among too many.

    Returns
    -------
    dict of str to ndarray of int16, shape (K, 3)
        ``aerated``, ``vessel``, ``pleura``; K is at most 20,000.
    """
    mean = ndimage.uniform_filter(hu.astype(np.float32), LOCAL_MEAN_VOX)
    deep = ndimage.binary_erosion(lungs, iterations=PLEURA_VOX)
    places = {
        "aerated": deep & (mean > AERATED_HU[0]) & (mean < AERATED_HU[1]),
        "vessel": deep & (hu > VESSEL_HU[0]) & (hu < VESSEL_HU[1]) & (mean < AERATED_HU[1] + 150),
        "pleura": lungs & ~deep,
    }
    rng = np.random.default_rng(seed)
    spots = {}
    for sort, place in places.items():
        voxels = np.argwhere(place).astype(np.int16)
        keep = rng.choice(len(voxels), min(N_SPOTS, len(voxels)), replace=False)
        spots[sort] = voxels[keep]
    return spots
