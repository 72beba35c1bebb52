"""Training patches for the detector, made on the fly from cases and donors.

Patch number i of a run depends only on (seed, i), so a run can be repeated and
resumed exactly. One intensity path: host and donors are clipped to the same
window and rounded alike before blending, then noise covers the whole patch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_alnct.core.config import check_bounds
from napari_alnct.core.network import OUTPUT_STRIDE
from napari_alnct.core.targets import CellTargets, assign_cells
from napari_alnct.training.case_library import overview_of
from napari_alnct.training.cases import SPOT_SORTS, TrainingCase
from napari_alnct.training.donor_drawing import drawing
from napari_alnct.training.frames import PatchFrame, warped_frame
from napari_alnct.training.imitations import imitate
from napari_alnct.training.insertion import Donor
from napari_alnct.training.placement import place_donors

OUTSIDE_MARGIN_MM = 4.0  # around nodules whose centre lies just outside the patch
MOST_PADDING_VOX = 12  # a patch may reach outside the scan by this much


@dataclass(frozen=True, kw_only=True)
class CropSettings:
    """How training patches are drawn and changed."""

    edge_vox: Annotated[int, {"min": 32, "max": 192}] = 96
    """Edge of the patch."""
    real_nodule_share: Annotated[float, {"min": 0.0, "max": 1.0}] = 0.25
    """Share of patches around a nodule that is in the scan."""
    insertion_share: Annotated[float, {"min": 0.0, "max": 1.0}] = 0.8
    """Share of patches of real scans that get donors."""
    most_insertions: Annotated[int, {"min": 1, "max": 10}] = 4
    """Most donors in one patch."""
    control_share: Annotated[float, {"min": 0.0, "max": 1.0}] = 0.3
    """Share of patches that get plain lung pasted the same way."""
    faint_share: Annotated[float, {"min": 0.0, "max": 1.0}] = 0.0
    """Share of donors that are the faintest of three drawn ones: those are missed most."""
    vessel_share: Annotated[float, {"min": 0.0, "max": 1.0}] = 0.25
    """Share of donors put beside a vessel; of the rest one third goes to the pleura."""
    is_varied: bool = True
    """Vary rims, densities and blending of donors; off: every donor as it was cut."""
    warp_share: Annotated[float, {"min": 0.0, "max": 1.0}] = 0.4
    """Share of patches whose host is turned by up to 15 degrees and scaled by 0.85 to 1.2."""
    sharpen_share: Annotated[float, {"min": 0.0, "max": 1.0}] = 0.0
    """Share of patches that are sharpened, as thin slices and hard kernels look; most of the data pack is soft."""
    imitation_share: Annotated[float, {"min": 0.0, "max": 1.0}] = 0.3
    """Share of patches of real scans into which a finding that is no nodule is painted."""
    synthetic_share: Annotated[float, {"min": 0.0, "max": 1.0}] = 0.3
    """Share of patches from phantoms when there are real scans too."""
    nodule_share: Annotated[float, {"min": 0.0, "max": 1.0}] = 0.0
    """Share of patches around a nodule drawn from all nodules of all real scans; for data sets with many."""
    mined_share: Annotated[float, {"min": 0.0, "max": 1.0}] = 0.0
    """Share of patches around a false mark of the detector in an earlier state, once there are some."""
    low_hu: Annotated[float, {"min": -1500.0, "max": -500.0}] = -1000.0
    """Lower end of the shared window."""
    high_hu: Annotated[float, {"min": 0.0, "max": 3000.0}] = 400.0
    """Upper end of the shared window."""
    round_hu: Annotated[float, {"min": 0.0, "max": 64.0}] = 8.0
    """Rounding step that donors share with real hosts."""

    def __post_init__(self) -> None:
        """Check the bounds."""
        check_bounds(self)


@dataclass(frozen=True, eq=False)
class Patch:
    """One training patch: HU float32 (z, y, x) and its targets."""

    hu: NDArray[np.float32]
    targets: CellTargets


@dataclass(frozen=True, eq=False)
class MinedMarks:
    """False marks of the detector on training cases.

    ``case`` (M,): number of the case; ``index_zyx`` (M, 3): voxel; ``logits`` (M,): of the first stage.
    """

    case: NDArray[np.intp]
    index_zyx: NDArray[np.int16]
    logits: NDArray[np.float64]


NO_MARKS = MinedMarks(np.zeros(0, np.intp), np.zeros((0, 3), np.int16), np.zeros(0))


def draw_patch(
    cases: Sequence[TrainingCase],
    donors: Sequence[Donor],
    settings: CropSettings,
    seed: int,
    number: int,
    mined: MinedMarks = NO_MARKS,
) -> Patch:
    """Give patch `number` of a run.

    Parameters
    ----------
    cases : sequence of TrainingCase
        Hosts, real and synthetic.
    donors : sequence of Donor
        Nodules to insert into real hosts; may be empty.
    settings : CropSettings
        Shares and sizes.
    seed, number : int
        Together decide everything.
    mined : MinedMarks
        False marks to learn from.

    Returns
    -------
    Patch
    """
    rng = np.random.default_rng((seed, number))
    case, focus = _choose_focus(cases, settings, mined, rng)
    frame = _choose_frame(case, focus, settings, seed, number, rng)
    hu = frame.cut(case.hu, settings.low_hu)
    np.clip(hu, settings.low_hu, settings.high_hu, out=hu)
    if frame.turn is not None and settings.round_hu > 0:  # as host and donors are where nothing is interpolated
        hu = np.rint(hu / settings.round_hu) * np.float32(settings.round_hu)
    centres, diameters = frame.to_patch(case.centres_zyx_vox), case.diameters_mm * frame.scale
    ignored, radii = frame.to_patch(case.ignored_zyx_vox), case.ignored_radii_mm * frame.scale
    if donors and not case.is_synthetic:
        taken = (np.vstack([centres, ignored]), np.concatenate([diameters / 2, radii]))
        n_donors = int(rng.integers(1, settings.most_insertions + 1)) if rng.random() < settings.insertion_share else 0
        n_controls = int(rng.integers(1, 4)) if rng.random() < settings.control_share else 0
        more = place_donors(
            hu,
            case,
            frame,
            donors,
            taken,
            n_donors,
            n_controls,
            settings.round_hu,
            rng,
            is_varied=settings.is_varied,
            draw=drawing(settings.faint_share),
            vessel_share=settings.vessel_share,
        )
        centres, diameters = np.vstack([centres, more.centres_zyx_vox]), np.concatenate([diameters, more.diameters_mm])
    painter = np.random.default_rng((seed, number, 3))
    if not case.is_synthetic and painter.random() < settings.imitation_share:
        hu, _ = imitate(hu, frame.lungs(case), centres, diameters / 2, painter)
    sharpener = np.random.default_rng((seed, number, 5))
    if sharpener.random() < settings.sharpen_share:
        hu = sharpen(hu, sharpener)
    inside = np.all((centres >= 0) & (centres <= settings.edge_vox - 1), axis=1)
    targets = assign_cells(
        (settings.edge_vox // OUTPUT_STRIDE,) * 3,
        centres[inside],
        diameters[inside],
        np.vstack([ignored, centres[~inside]]),
        np.concatenate([radii, diameters[~inside] / 2 + OUTSIDE_MARGIN_MM]),
    )
    return _turn(degrade(hu, rng), targets, rng)


def _choose_focus(
    cases: Sequence[TrainingCase], settings: CropSettings, mined: MinedMarks, rng: np.random.Generator
) -> tuple[TrainingCase, NDArray[np.float64]]:
    """Give a case and the place in it that the patch is about: a false mark, a nodule, or any place."""
    overview = overview_of(cases)
    draw = rng.random() if settings.mined_share + settings.nodule_share > 0 else 1.0
    if draw < settings.mined_share and len(mined.case):
        k = int(rng.integers(len(mined.case)))
        return cases[int(mined.case[k])], mined.index_zyx[k].astype(float)
    if settings.mined_share <= draw < settings.mined_share + settings.nodule_share and len(overview.real_nodules):
        number, nodule = overview.real_nodules[rng.integers(len(overview.real_nodules))]
        return cases[int(number)], cases[int(number)].centres_zyx_vox[nodule]
    real, synthetic = overview.real, overview.synthetic
    use_synthetic = len(synthetic) and (not len(real) or rng.random() < settings.synthetic_share)
    pool = synthetic if use_synthetic else real
    case = cases[int(pool[int(rng.integers(len(pool)))])]
    return case, _focus_in(case, settings, rng)


def _focus_in(case: TrainingCase, settings: CropSettings, rng: np.random.Generator) -> NDArray[np.float64]:
    """Give a nodule of the case or a random place in its lungs; the middle of a scan without lungs."""
    if len(case.centres_zyx_vox) and rng.random() < settings.real_nodule_share * (2 if case.is_synthetic else 1):
        return case.centres_zyx_vox[rng.integers(len(case.centres_zyx_vox))]
    sorts = [sort for sort in SPOT_SORTS if len(case.spots[sort])]
    if not sorts:
        return np.array(case.hu.shape) / 2
    spots = case.spots[sorts[rng.integers(len(sorts))]]
    return spots[rng.integers(len(spots))].astype(float)


def _choose_frame(
    case: TrainingCase,
    focus: NDArray[np.float64],
    settings: CropSettings,
    seed: int,
    number: int,
    rng: np.random.Generator,
) -> PatchFrame:
    """Give where the patch lies: it holds the focus, which is not always in its middle."""
    jitter = rng.uniform(-0.4, 0.4, 3) * settings.edge_vox
    start = np.rint(focus + jitter - settings.edge_vox / 2).astype(int)
    last = np.maximum(np.array(case.hu.shape) - settings.edge_vox, 0)
    start = np.clip(start, -MOST_PADDING_VOX, last + MOST_PADDING_VOX)
    turner = np.random.default_rng((seed, number, 4))
    if turner.random() < settings.warp_share:
        return warped_frame(start, settings.edge_vox, turner)
    return PatchFrame(start, settings.edge_vox)


def sharpen(hu: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Give the patch with its fine detail amplified: small nodules and vessels denser, noise grainier.

    Parameters
    ----------
    hu : ndarray of float32, shape (z, y, x)
        Patch.
    rng : Generator
        Source of chance.

    Returns
    -------
    ndarray of float32, same shape
        Unsharp masking: hu + a (hu - blurred), a 0.3 to 1.2, blur 0.7 to 1.3 voxels.
    """
    blurred = ndimage.gaussian_filter(hu, rng.uniform(0.7, 1.3))
    return np.asarray(hu + np.float32(rng.uniform(0.3, 1.2)) * (hu - blurred), np.float32)


def degrade(hu: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Give the patch with another sharpness, scale, level and noise, as scanners and kernels differ.

    Parameters
    ----------
    hu : ndarray of float32, shape (z, y, x)
        Patch.
    rng : Generator
        Source of chance.

    Returns
    -------
    ndarray of float32, same shape
    """
    if rng.random() < 0.35:
        hu = ndimage.gaussian_filter1d(hu, rng.uniform(0.4, 1.2), axis=0)
    elif rng.random() < 0.15:
        hu = _thick_slices(hu, int(rng.integers(2, 4)), int(rng.integers(3)))
    if rng.random() < 0.2:
        hu = ndimage.gaussian_filter(hu, rng.uniform(0.3, 0.7))
    noise = rng.standard_normal(hu.shape, dtype=np.float32)
    if rng.random() < 0.5:  # correlated, as a soft kernel gives
        noise = ndimage.uniform_filter1d(ndimage.uniform_filter1d(noise, 2, axis=1), 2, axis=2) * 2
    noise *= np.float32(rng.uniform(5.0, 35.0))
    return (hu + 1000.0) * np.float32(rng.normal(1.0, 0.03)) - 1000.0 + np.float32(rng.normal(0.0, 20.0)) + noise


def _thick_slices(hu: NDArray[np.float32], step: int, phase: int) -> NDArray[np.float32]:
    """Give the patch as slices of `step` mm would show it: means, interpolated in between."""
    means = ndimage.uniform_filter1d(hu, step, axis=0, mode="nearest")
    known = np.arange(phase % step, hu.shape[0], step)
    at = np.clip(np.interp(np.arange(hu.shape[0]), known, np.arange(len(known))), 0, len(known) - 1)
    below = np.minimum(at.astype(int), len(known) - 2)
    share = (at - below).astype(np.float32)[:, None, None]
    slices = means[known]
    return slices[below] * (1 - share) + slices[below + 1] * share


def _turn(hu: NDArray[np.float32], targets: CellTargets, rng: np.random.Generator) -> Patch:
    """Mirror each axis and swap y and x at random; the offsets turn with the image."""
    state, regression = targets.state, targets.regression.copy()
    for axis in range(3):
        if rng.random() < 0.5:
            hu, state, regression = np.flip(hu, axis), np.flip(state, axis), np.flip(regression, axis + 1)
            regression = regression.copy()
            regression[axis] *= -1
    if rng.random() < 0.5:
        hu, state = hu.swapaxes(1, 2), state.swapaxes(1, 2)
        regression = regression.swapaxes(2, 3)[[0, 2, 1, 3]]
    return Patch(np.ascontiguousarray(hu), CellTargets(np.ascontiguousarray(state), np.ascontiguousarray(regression)))
