"""Hard negatives mined from a model: its false marks on prepared scans.

The detector's first stage runs over the whole of each scan, marks are kept as detection
keeps them, and LUNA16's rule says which are false: hits and marks on excluded findings are not.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from napari_alnct.core.boxes import merge_close
from napari_alnct.core.config import DetectionSettings, Device, PrepareSettings
from napari_alnct.core.dense import find_peaks, score_map
from napari_alnct.core.detector import Detector
from napari_alnct.core.errors import JobCancelled, SettingsError
from napari_alnct.core.geometry import Geometry
from napari_alnct.core.inference import Runner
from napari_alnct.core.lung_mask import LungMask
from napari_alnct.evaluation.matching import match_scan
from napari_alnct.io.prepared import PreparedDataset, PreparedFinding
from napari_alnct.models.catalogue import find_model

FloatArray = NDArray[np.float64]
KEEPING = DetectionSettings()
MOST_BLOCK_VOX = int(KEEPING.max_block_mvox * 1e6)


class Miner:
    """A model that is asked for its false marks.

    Parameters
    ----------
    model : str
        Name of a bundled model, or path of a ``.safetensors`` file with a detector.
    prepare : PrepareSettings
        How the scans were prepared.
    device : {"auto", "cpu", "cuda", "mps"}, optional
        Where to run.

    Raises
    ------
    ModelError
        If there is no such model, or it holds no detector.
    SettingsError
        If the scans were not prepared as the model needs them.
    """

    def __init__(self, model: str, prepare: PrepareSettings, device: Device = "auto") -> None:
        entry = find_model(model)
        detector = Detector.load(entry.path, name=entry.name, sha256=entry.sha256, device=device)
        _refuse_other_preparation(detector.name, detector.recipe.prepare, prepare)
        self.name, self.sha256 = detector.name, detector.checkpoint.sha256
        self._window = detector.recipe.prepare
        network = detector.checkpoint.detector
        assert network is not None
        self._runner = Runner(network, detector.device, detector.dtype)
        self._turn = threading.Lock()  # one scan at a time in the network, which uses all cores by itself

    def false_marks(
        self,
        dataset: PreparedDataset,
        series_uid: str,
        hu: NDArray[np.int16],
        lungs: NDArray[np.bool_],
        geometry: Geometry,
        is_cancelled: Callable[[], bool],
    ) -> FloatArray:
        """Give the false marks on a scan, strongest first.

        Parameters
        ----------
        dataset : PreparedDataset
            With the annotations.
        series_uid : str
            The scan.
        hu, lungs : ndarray, shape (z, y, x)
            Its voxels.
        geometry : Geometry
            Its grid.
        is_cancelled : callable
            Asked before every convolution.

        Returns
        -------
        ndarray of float64, shape (N, 3)
            World positions (x, y, z), LPS mm; at most 100.

        Raises
        ------
        JobCancelled
            If `is_cancelled` said so.
        """
        marks, logits = self._marks(hu, lungs, geometry, is_cancelled)
        nodules, excluded = dataset.nodules_of(series_uid), dataset.excluded_of(series_uid)
        match = match_scan(
            marks, logits, _centres(nodules), _diameters(nodules), _centres(excluded), _diameters(excluded)
        )
        order = np.argsort(-match.false_positive_scores, kind="stable")
        return marks[match.false_positives[order]]

    def _marks(
        self, hu: NDArray[np.int16], lungs: NDArray[np.bool_], geometry: Geometry, is_cancelled: Callable[[], bool]
    ) -> tuple[FloatArray, FloatArray]:
        """Give positions (N, 3) and logits of the first stage's marks, kept as `Detector` keeps them."""

        def step(_share: float) -> None:
            if is_cancelled():
                raise JobCancelled("cancelled; nothing was written")

        with self._turn:
            cells = score_map(self._runner, hu, self._window, most_voxels=MOST_BLOCK_VOX, step=step)
        peaks = find_peaks(cells, geometry)
        is_near = LungMask(lungs, geometry).distance_mm(peaks.positions_xyz_mm) <= KEEPING.lung_margin_mm
        near = np.flatnonzero(is_near)
        kept = merge_close(peaks.positions_xyz_mm[near], peaks.logits[near], peaks.diameters_mm[near])
        index = near[kept[: KEEPING.max_candidates]]
        return peaks.positions_xyz_mm[index].reshape(-1, 3), peaks.logits[index]


def _centres(findings: tuple[PreparedFinding, ...]) -> FloatArray:
    return np.array([finding.position_xyz_mm for finding in findings], float).reshape(-1, 3)


def _diameters(findings: tuple[PreparedFinding, ...]) -> FloatArray:
    return np.array([finding.diameter_mm for finding in findings], float)


def _refuse_other_preparation(name: str, wanted: PrepareSettings, given: PrepareSettings) -> None:
    """Refuse scans at another spacing, or clipped to less than the model's window."""
    if abs(wanted.spacing_mm - given.spacing_mm) > 1e-6:
        raise SettingsError(
            f"{name} works at {wanted.spacing_mm:g} mm, these scans are prepared at {given.spacing_mm:g} mm; prepare "
            "them at its spacing or mine with another model"
        )
    if given.low_hu > wanted.low_hu or given.high_hu < wanted.high_hu:
        raise SettingsError(
            f"{name} sees {wanted.low_hu:g} to {wanted.high_hu:g} HU, these scans are clipped to {given.low_hu:g} to "
            f"{given.high_hu:g}; prepare them with its window or a wider one"
        )
