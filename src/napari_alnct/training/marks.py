"""Marks of the first stage on training cases: what the second look learns from.

New donors are put into a case, the first stage runs over the whole of it, and
each mark is a hit, an error, or ignored, by LUNA16's rule. Errors are the hard
negatives of the second look.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from napari_alnct.core.boxes import merge_close
from napari_alnct.core.config import DetectionSettings, PrepareSettings
from napari_alnct.core.dense import Peaks, find_peaks, score_map
from napari_alnct.core.inference import Runner
from napari_alnct.core.lung_mask import LungMask
from napari_alnct.evaluation.matching import ScanMatch, cap_marks, match_scan
from napari_alnct.training.cases import EXCLUDED_MARGIN_MM, TrainingCase
from napari_alnct.training.donor_drawing import DrawDonor, draw_donor
from napari_alnct.training.frames import PatchFrame
from napari_alnct.training.insertion import Donor
from napari_alnct.training.placement import Placed, place_donors

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class CaseMarks:
    """The first stage's marks on one case and what they are."""

    case: TrainingCase
    peaks: Peaks
    match: ScanMatch

    @property
    def index_zyx(self) -> NDArray[np.int_]:
        """Give the nearest voxel of each mark, shape (N, 3)."""
        return np.rint(self.case.geometry.world_to_index(self.peaks.positions_xyz_mm)).astype(int)

    @property
    def labels(self) -> NDArray[np.int8]:
        """Give 1 for marks inside a nodule, 0 for errors, -1 for ignored ones, shape (N,)."""
        labels = np.full(len(self.peaks.logits), -1, np.int8)
        labels[self.match.false_positives] = 0
        labels[_inside_any(self.peaks.positions_xyz_mm, self.case)] = 1
        return labels


def with_donors(case: TrainingCase, donors: Sequence[Donor], n_donors: int, round_hu: float, seed: int) -> TrainingCase:
    """Give the case with donors and half as many plain-lung controls put into it; as `insert_donors`.

    Parameters
    ----------
    case : TrainingCase
        Host; not changed.
    donors : sequence of Donor
        Nodules to choose from; none: the case itself is given back.
    n_donors : int
        How many to try.
    round_hu : float
        Rounding step shared with the host.
    seed : int
        Decides which and where.

    Returns
    -------
    TrainingCase
        Its nodules are those of the case, then the inserted ones.
    """
    return insert_donors(case, donors, n_donors, round_hu, seed, n_controls=n_donors // 2)[0]


def insert_donors(
    case: TrainingCase,
    donors: Sequence[Donor],
    n_donors: int,
    round_hu: float,
    seed: int,
    *,
    n_controls: int = 0,
    draw: DrawDonor = draw_donor,
) -> tuple[TrainingCase, Placed]:
    """Give the case with donors and plain-lung controls put into it, and what went where.

    Parameters
    ----------
    case, donors, n_donors, round_hu, seed
        As in `with_donors`.
    n_controls : int
        How many to try. They carry pieces of vessel, which a detector may well mark: none where false marks
        are counted.
    draw : callable
        As in `place_donors`.

    Returns
    -------
    tuple of (TrainingCase, Placed)
        The nodules of the case are its own, then the inserted ones.
    """
    rng = np.random.default_rng((seed, 1234))
    hu = case.hu.astype(np.float32)
    taken = (
        np.vstack([case.centres_zyx_vox, case.ignored_zyx_vox]),
        np.concatenate([case.diameters_mm / 2, case.ignored_radii_mm]),
    )
    frame = PatchFrame(np.zeros(3, int), max(hu.shape))
    n_donors, n_controls = (n_donors, n_controls) if donors else (0, 0)
    placed = place_donors(hu, case, frame, donors, taken, n_donors, n_controls, round_hu, rng, draw=draw)
    if n_donors + n_controls < 1:
        return case, placed
    host = replace(
        case,
        hu=np.rint(hu).astype(np.int16),
        centres_zyx_vox=np.vstack([case.centres_zyx_vox, placed.centres_zyx_vox]),
        diameters_mm=np.concatenate([case.diameters_mm, placed.diameters_mm]),
    )
    return host, placed


def find_marks(
    runner: Runner, case: TrainingCase, prepare: PrepareSettings, settings: DetectionSettings | None = None
) -> CaseMarks:
    """Give the first stage's marks on a case, as the detector would keep them.

    Parameters
    ----------
    runner : Runner
        Of the first stage.
    case : TrainingCase
        Scan at 1 mm.
    prepare : PrepareSettings
        The window.
    settings : DetectionSettings, optional
        How marks are kept.

    Returns
    -------
    CaseMarks
        At most 100 marks.
    """
    settings = settings or DetectionSettings()
    hu = np.array(case.hu)  # into memory in one go: torch refuses voxels that are mapped read-only
    most_voxels = int(settings.max_block_mvox * 1e6)
    cells = score_map(runner, hu, prepare, most_voxels=most_voxels, mirrored_passes=settings.mirrored_passes)
    peaks = find_peaks(cells, case.geometry)
    lungs = LungMask(case.lungs, case.geometry)
    near = lungs.distance_mm(peaks.positions_xyz_mm) <= settings.lung_margin_mm
    peaks = _subset(peaks, np.flatnonzero(near))
    peaks = _subset(peaks, merge_close(peaks.positions_xyz_mm, peaks.logits, peaks.diameters_mm))
    peaks = _subset(peaks, np.flatnonzero(cap_marks(peaks.logits, settings.max_candidates)))
    return CaseMarks(case, peaks, judge(case, peaks.positions_xyz_mm, peaks.logits))


def judge(case: TrainingCase, positions_xyz_mm: FloatArray, scores: FloatArray) -> ScanMatch:
    """Give hits, misses and errors of marks on a case, by LUNA16's rule.

    Parameters
    ----------
    case : TrainingCase
        With its nodules and excluded findings.
    positions_xyz_mm : ndarray, shape (N, 3)
        Marks.
    scores : ndarray, shape (N,)
        Their scores.

    Returns
    -------
    ScanMatch
    """
    return match_scan(
        positions_xyz_mm,
        scores,
        case.geometry.index_to_world(case.centres_zyx_vox),
        case.diameters_mm,
        case.geometry.index_to_world(case.ignored_zyx_vox),
        2 * (case.ignored_radii_mm - EXCLUDED_MARGIN_MM),
    )


def _inside_any(positions: FloatArray, case: TrainingCase) -> NDArray[np.bool_]:
    centres = case.geometry.index_to_world(case.centres_zyx_vox)
    distance = np.linalg.norm(positions[:, None] - centres[None], axis=2)
    inside: NDArray[np.bool_] = (distance < case.diameters_mm[None] / 2).any(axis=1)
    return inside


def _subset(peaks: Peaks, index: NDArray[np.intp]) -> Peaks:
    return Peaks(peaks.positions_xyz_mm[index], peaks.logits[index], peaks.diameters_mm[index])
