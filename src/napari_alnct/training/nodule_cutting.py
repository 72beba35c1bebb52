"""Cut annotated nodules out of their scans, to be put into other lungs.

An annotation gives a centre and a diameter, no outline. The outline is found by a
threshold half-way between the lung around the nodule and its core, inside 1.3 times
the radius (at least 1.5 mm beyond it), as the connected piece at the centre. A nodule that cannot be told from
what it touches is left alone: it stays in its own scan and is learnt from there.

References
----------
Half-maximum threshold for nodule outlines: Kostis et al. 2003, IEEE Trans Med Imaging
22(10):1259-1274, section III (solid nodules, isotropic resampled CT).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_alnct.training.cases import TrainingCase
from napari_alnct.training.donor_drawing import DIAMETERS_MM
from napari_alnct.training.insertion import LUNG_HU, RIM_VOX, Donor, make_donor

REACH, LEAST_REACH_MM = 1.3, 1.5  # of the annotated radius, and beyond it: voxels farther out are never nodule
LEAST_CONTRAST_HU = 120.0  # of the core over the lung around it
LEAST_LUNG_SHARE = 0.35  # of the shell around the nodule: less, and it sits in something else
SIZE_RATIOS = (0.55, 1.3)  # outline's diameter over the annotated one
MOST_BORDER_SHARE = 0.12  # of the reach's rim that the outline may touch: more, and it runs on beyond
CORE_RADIUS = 0.4  # of the annotated radius
LEAST_CORE_MM = 1.5
SHELL_VOX = 5


@dataclass(frozen=True, eq=False)
class CutNodule:
    """A nodule with its outline: cube of HU, mask, diameter of the sphere with the mask's volume."""

    hu: NDArray[np.int16]
    mask: NDArray[np.bool_]
    diameter_mm: float


def cut_donors(case: TrainingCase, *, ceiling_hu: float) -> list[Donor]:
    """Give donors from the annotated nodules of a case, as far as their outlines are plausible.

    Parameters
    ----------
    case : TrainingCase
        Prepared scan at 1 mm with its nodules.
    ceiling_hu : float
        Upper end of the window that donors and hosts share.

    Returns
    -------
    list of Donor
        Named after the nodule's number in the case.
    """
    donors = []
    for number, (centre, diameter) in enumerate(zip(case.centres_zyx_vox, case.diameters_mm, strict=True)):
        cut = cut_nodule(case.hu, centre, float(diameter))
        if cut is not None:
            name = f"{case.name} nodule {number}"
            donors.append(make_donor(cut.hu, cut.mask, cut.diameter_mm, ceiling_hu=ceiling_hu, name=name))
    return donors


def cut_nodule(hu: NDArray[np.int16], centre_zyx_vox: NDArray[np.float64], diameter_mm: float) -> CutNodule | None:
    """Give the outline of an annotated nodule, or None where none is plausible.

    Parameters
    ----------
    hu : ndarray of int16, shape (z, y, x)
        Scan at 1 mm.
    centre_zyx_vox : ndarray, shape (3,)
        Annotated centre.
    diameter_mm : float
        Annotated diameter.

    Returns
    -------
    CutNodule or None
        None if the nodule is smaller than 3.5 or larger than 32 mm, too near the edge of the
        scan, hardly denser than the lung around it, not surrounded by lung, or of another size
        than annotated.

    Notes
    -----
    With lung level l (median of the aerated voxels in a shell of 5 voxels outside that reach) and core
    c (median within max(0.4 r, 1.5 mm) of the centre), the threshold is (l + c) / 2.
    """
    if not DIAMETERS_MM[0] <= diameter_mm <= DIAMETERS_MM[1]:
        return None
    radius = diameter_mm / 2
    reach = max(REACH * radius, radius + LEAST_REACH_MM)
    box = _box(hu.shape, centre_zyx_vox, reach + SHELL_VOX + RIM_VOX)
    if box is None:
        return None
    cube = np.array(hu[box])
    distance = _distance(cube.shape, centre_zyx_vox - [s.start for s in box])
    shell = cube[(distance > reach) & (distance <= reach + SHELL_VOX)]
    lung = shell[(shell > LUNG_HU[0]) & (shell < LUNG_HU[1])]
    core = float(np.median(cube[distance <= max(CORE_RADIUS * radius, LEAST_CORE_MM)]))
    if lung.size < LEAST_LUNG_SHARE * shell.size or core - np.median(lung) < LEAST_CONTRAST_HU:
        return None
    mask = _piece_at_centre((cube > (np.median(lung) + core) / 2) & (distance <= reach), distance)
    found_mm = float((6 / np.pi * mask.sum()) ** (1 / 3))
    rim = (distance > reach - 1) & (distance <= reach)
    runs_on = mask[rim].mean() > MOST_BORDER_SHARE
    if runs_on or not SIZE_RATIOS[0] <= found_mm / diameter_mm <= SIZE_RATIOS[1]:
        return None
    return CutNodule(cube, mask, found_mm)


def _box(shape: tuple[int, ...], centre: NDArray[np.float64], half_edge: float) -> tuple[slice, slice, slice] | None:
    """Give the cube around a centre, or None where it leaves the scan."""
    start = np.floor(centre - half_edge).astype(int)
    stop = np.ceil(centre + half_edge).astype(int) + 1
    if (start < 0).any() or (stop > shape).any():
        return None
    z, y, x = (slice(int(a), int(b)) for a, b in zip(start, stop, strict=True))
    return z, y, x


def _distance(shape: tuple[int, ...], centre: NDArray[np.float64]) -> NDArray[np.float64]:
    grid = np.ogrid[tuple(slice(n) for n in shape)]
    return np.sqrt(sum((axis - c) ** 2 for axis, c in zip(grid, centre, strict=True)))


def _piece_at_centre(mask: NDArray[np.bool_], distance: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Give the connected piece that holds the set voxel nearest to the centre, its holes filled."""
    if not mask.any():
        return mask
    pieces, _ = ndimage.label(mask)
    nearest = np.where(mask, distance, np.inf).argmin()
    filled: NDArray[np.bool_] = ndimage.binary_fill_holes(pieces == pieces.flat[nearest])
    return filled
