"""The patches that explanations are judged on: what the network sees, moved off centre, with the nodule's mask.

In centred patches a Gaussian in the middle wins the pointing game, so patches are moved by up to 12 mm
along each axis. A second look asks about the middle of its patch; of several moves the first is taken for
which it still says nodule.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_alnct.batch.explain_eval_cases import EvalNodule, EvalScan
from napari_alnct.core.explain.explainer import Explainer
from napari_alnct.core.explain.inputs import NetworkInput
from napari_alnct.core.geometry import Geometry, Triple

JITTER_MM = 12.0
N_MOVES = 8
Mask = NDArray[np.bool_]
Scorer = Callable[[NDArray[np.int16]], NDArray[np.float64]]


@dataclass(frozen=True, eq=False, kw_only=True)
class Patch:
    """One input of a network.

    Parameters
    ----------
    cube : ndarray of int16, shape (z, y, x)
        HU.
    geometry : Geometry
        Its LPS grid.
    start_zyx : ndarray of int, shape (3,)
        Its first voxel in the scan.
    position_xyz_mm : tuple of float
        The candidate.
    labels : ndarray of int16, shape of the cube
        Nodules in it.
    number : int
        Of the candidate in the labels; 0 for a decoy.
    logit : float
        What the network says.
    """

    cube: NDArray[np.int16]
    geometry: Geometry
    start_zyx: NDArray[np.int_]
    position_xyz_mm: Triple
    labels: NDArray[np.int16]
    number: int
    logit: float

    @property
    def mask(self) -> Mask:
        """Give the candidate's voxels."""
        inside: Mask = self.labels == self.number
        return inside

    def moved(
        self, scan: EvalScan, step_zyx: tuple[int, int, int], fill_hu: float
    ) -> tuple[NDArray[np.int16], Geometry]:
        """Give the cube that begins some voxels later in the scan, and its grid.

        Parameters
        ----------
        scan : EvalScan
            Where the patch comes from.
        step_zyx : tuple of int
            Voxels.
        fill_hu : float
            Value outside the scan.

        Returns
        -------
        tuple of (ndarray of int16, Geometry)
        """
        start, shape = self.start_zyx + step_zyx, self.cube.shape
        z, y, x = (int(value) for value in start)
        geometry = scan.geometry.crop((z, y, x), (z + shape[0], y + shape[1], x + shape[2]))
        return cut_box(scan.hu, start, shape, fill_hu), geometry


def cut_box(
    array: NDArray[np.int16], start_zyx: NDArray[np.int_], shape: tuple[int, ...], fill: float
) -> NDArray[np.int16]:
    """Give a box of voxels, filled where it reaches outside.

    Parameters
    ----------
    array : ndarray of int16, shape (z, y, x)
        Where to cut.
    start_zyx : ndarray of int, shape (3,)
        First voxel; may lie outside.
    shape : tuple of int
        Of the box.
    fill : float
        Value outside.

    Returns
    -------
    ndarray of int16
    """
    out = np.full(shape, round(fill), np.int16)
    ends = zip(start_zyx, shape, array.shape, strict=True)
    source = tuple(slice(max(0, int(a)), max(0, min(n, int(a) + edge))) for a, edge, n in ends)
    out[tuple(slice(s.start - int(a), s.stop - int(a)) for s, a in zip(source, start_zyx, strict=True))] = array[source]
    return out


def middle_of(geometry: Geometry) -> Triple:
    """Give the position of the voxel that a network's input is centred on."""
    x, y, z = geometry.index_to_world([n // 2 for n in geometry.shape_zyx])
    return float(x), float(y), float(z)


def input_of(explainer: Explainer, patch: Patch, score_name: str) -> NetworkInput:
    """Give a patch as the network's input."""
    middle = middle_of(patch.geometry)
    return explainer.input_of(patch.cube, patch.geometry, patch.position_xyz_mm, score_name, middle)


def centred_patch(
    explainer: Explainer, scan: EvalScan, position_xyz_mm: Triple, number: int, score_name: str, middle: Triple
) -> Patch:
    """Give the patch around a point, scored.

    Parameters
    ----------
    explainer : Explainer
        The model.
    scan : EvalScan
        Where to cut.
    position_xyz_mm : tuple of float
        The candidate.
    number : int
        Of the candidate in the scan's labels; 0 for a decoy.
    score_name : str
        Whose logit.
    middle : tuple of float
        Middle of the patch, LPS mm.

    Returns
    -------
    Patch
    """
    one = explainer.input_of(scan.hu, scan.geometry, position_xyz_mm, score_name, middle)
    start, shape = np.array(one.start_zyx), one.hu.shape  # a detector's input ends where the scan does
    z, y, x = one.start_zyx
    geometry = scan.geometry.crop((z, y, x), (z + shape[0], y + shape[1], x + shape[2]))
    logit = float(explainer.scorer(one, score_name)(one.hu[None])[0])
    return Patch(
        cube=one.hu,
        geometry=geometry,
        start_zyx=start,
        position_xyz_mm=position_xyz_mm,
        labels=cut_box(scan.labels, start, shape, 0),
        number=number,
        logit=logit,
    )


def jittered_patch(
    explainer: Explainer, scan: EvalScan, nodule: EvalNodule, score_name: str, *, seed: int, jitter_mm: float
) -> Patch | None:
    """Give a patch off the nodule's centre for which the network still says nodule.

    Parameters
    ----------
    explainer : Explainer
        The model.
    scan : EvalScan
        Where to cut.
    nodule : EvalNodule
        The candidate.
    score_name : str
        Whose logit.
    seed : int
        Of the moves.
    jitter_mm : float
        Largest move along each axis.

    Returns
    -------
    Patch or None
        None when the logit is not positive even at the nodule's centre: no true positive. The centred patch
        when none of 8 moves keeps it positive.
    """
    place = nodule.position_xyz_mm
    centred = centred_patch(explainer, scan, place, nodule.number, score_name, place)
    if centred.logit <= 0:
        return None
    rng = np.random.default_rng(seed)
    for _ in range(N_MOVES if jitter_mm > 0 else 0):
        x, y, z = np.array(place) + rng.uniform(-jitter_mm, jitter_mm, 3)
        patch = centred_patch(explainer, scan, place, nodule.number, score_name, (float(x), float(y), float(z)))
        if patch.logit > 0 and patch.mask.sum() == (scan.labels == nodule.number).sum():
            return patch
    return centred
