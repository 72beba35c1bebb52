"""A model ready to run: from a scan to candidates in world mm.

Lungs, crop and resampling; the dense first stage; merging of marks that mean
the same nodule; the second look by the patch classifier; at most 100 candidates
with score and diameter. Every stage can be cancelled and tells its progress.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from napari_alnct.core.boxes import merge_close
from napari_alnct.core.checkpoint import Checkpoint, read_checkpoint
from napari_alnct.core.config import DetectionSettings, Device, Precision
from napari_alnct.core.dense import Peaks, find_peaks, score_map
from napari_alnct.core.errors import JobCancelled, ModelError
from napari_alnct.core.findings import Candidate, CaseResult
from napari_alnct.core.inference import Runner, choose_device, choose_precision
from napari_alnct.core.lung_mask import LungMask
from napari_alnct.core.lungs import segment_lungs
from napari_alnct.core.preprocess import PreparedScan, prepare
from napari_alnct.core.second_look import second_look_logits
from napari_alnct.core.volume import Volume

Progress = Callable[[str, float], None]
STAGE_STARTS = {"lungs": 0.0, "resample": 0.08, "network": 0.2, "second look": 0.7, "done": 1.0}
FloatArray = NDArray[np.float64]
Result = TypeVar("Result")


class Detector:
    """A verified model on a device.

    Parameters
    ----------
    checkpoint : Checkpoint
        Must hold a detector.
    name : str
        Name to report; the recipe's when empty.
    device : {"auto", "cpu", "cuda", "mps"}
        Where to run.
    precision : {"auto", "float32", "bfloat16"}
        Of the feature maps.

    Raises
    ------
    ModelError
        If the file holds no detector.
    """

    def __init__(
        self, checkpoint: Checkpoint, *, name: str = "", device: Device = "auto", precision: Precision = "auto"
    ) -> None:
        if checkpoint.detector is None:
            raise ModelError(f"{checkpoint.recipe.name}: the file holds no detector; choose a model with one")
        self.checkpoint = checkpoint
        self.recipe = checkpoint.recipe
        self.name = name or checkpoint.recipe.name
        self._precision: Precision = precision
        self._place(choose_device(device))

    @classmethod
    def load(
        cls,
        path: Path,
        *,
        name: str = "",
        sha256: str | None = None,
        device: Device = "auto",
        precision: Precision = "auto",
    ) -> Detector:
        """Give the detector of a model file, verified.

        Parameters
        ----------
        path : Path
            ``.safetensors`` file of this project.
        name : str, optional
            Name to report.
        sha256 : str, optional
            Expected hash.
        device, precision
            As in the class.

        Returns
        -------
        Detector

        Raises
        ------
        ModelError
            If the file is damaged or fails its self-test.
        """
        return cls(read_checkpoint(path, sha256=sha256), name=name, device=device, precision=precision)

    @property
    def operating_points(self) -> dict[float, float]:
        """Give false marks per scan -> threshold, as stored with the model."""
        return {float(rate): threshold for rate, threshold in self.recipe.operating_points.items()}

    def threshold_for(self, settings: DetectionSettings, *, first_stage: bool = False) -> float:
        """Give the lowest score shown.

        Parameters
        ----------
        settings : DetectionSettings
            Its own threshold wins.
        first_stage : bool
            For the first stage's candidates, before the second look.

        Returns
        -------
        float
            Else the model's point of about one false mark per scan, of the stage that scores.
        """
        if settings.threshold is not None:
            return settings.threshold
        second_look = settings.second_look and self._second is not None and not first_stage
        return self.recipe.default_threshold(second_look=second_look)

    def _place(self, device: torch.device) -> None:
        """Put the networks on a device."""
        self.device = device
        dtype = choose_precision(device, self._precision)
        self.dtype = dtype
        assert self.checkpoint.detector is not None
        self._first = Runner(self.checkpoint.detector, device, dtype)
        classifier = self.checkpoint.classifier
        self._second = Runner(classifier, device, dtype) if classifier else None

    def detect(
        self,
        volume: Volume,
        settings: DetectionSettings | None = None,
        *,
        progress: Progress | None = None,
        is_cancelled: Callable[[], bool] | None = None,
        on_candidates: Callable[[tuple[Candidate, ...]], None] | None = None,
        on_lungs: Callable[[LungMask], None] | None = None,
    ) -> CaseResult:
        """Find candidates in a scan.

        Parameters
        ----------
        volume : Volume
            Chest CT.
        settings : DetectionSettings, optional
            How candidates are kept; device and precision are those of the class.
        progress : callable, optional
            Called with (stage, share of the whole done).
        is_cancelled : callable, optional
            Asked between stages and before every convolution.
        on_candidates : callable, optional
            Gets the first stage's candidates as soon as they are known.
        on_lungs : callable, optional
            Gets the lungs as soon as they are known.

        Returns
        -------
        CaseResult
            All candidates (at most ``settings.max_candidates``), strongest first.

        Raises
        ------
        JobCancelled
            If `is_cancelled` said so.
        LungsNotFoundError
            If the scan shows no lungs.
        """
        settings = settings or DetectionSettings()
        clock = _Clock(progress, is_cancelled)
        clock.start("lungs")
        lungs = segment_lungs(volume)
        if on_lungs:
            on_lungs(lungs)
        clock.start("resample")
        scan = prepare(volume, self.recipe.prepare, lungs)
        clock.start("network")
        notes = [flag.text for flag in (*volume.flags, *lungs.flags)]
        peaks = self._with_fallback(lambda: self._first_stage(scan, settings, clock), notes)
        peaks = _keep(peaks, lungs.distance_mm(peaks.positions_xyz_mm) <= settings.lung_margin_mm, settings)
        if on_candidates:
            on_candidates(self._candidates(peaks, self._final_logits(peaks.logits, None)))
        clock.start("second look")
        second = None
        if settings.second_look and self._second:
            second = self._with_fallback(lambda: self._second_look(scan, peaks, clock), notes)
        candidates = self._candidates(peaks, self._final_logits(peaks.logits, second))
        clock.start("done")
        return CaseResult(
            series_uid=volume.series_uid,
            candidates=candidates,
            threshold=self.threshold_for(settings),
            model_name=self.name,
            model_sha256=self.checkpoint.sha256,
            voxel_sha256=volume.voxel_sha256,
            device=f"{self.device} {str(self.dtype).removeprefix('torch.')}",
            seconds=clock.seconds,
            notes=tuple(notes),
        )

    def _first_stage(self, scan: PreparedScan, settings: DetectionSettings, clock: _Clock) -> Peaks:
        """Give the peaks of the score map."""
        most_voxels = int(settings.max_block_mvox * 1e6)
        cells = score_map(
            self._first,
            scan.hu,
            self.recipe.prepare,
            most_voxels=most_voxels,
            mirrored_passes=settings.mirrored_passes,
            step=clock.step,
        )
        return find_peaks(cells, scan.geometry)

    def _with_fallback(self, job: Callable[[], Result], notes: list[str]) -> Result:
        """Give the result of a job; when the GPU fails or is too small, run it on the CPU and say so."""
        try:
            return job()
        except (MemoryError, RuntimeError) as fault:
            if self.device.type == "cpu":
                raise
            notes.append(f"The {self.device.type.upper()} device failed ({type(fault).__name__}); the CPU was used.")
            self._place(torch.device("cpu"))
            return job()

    def _second_look(self, scan: PreparedScan, peaks: Peaks, clock: _Clock) -> FloatArray:
        """Give the classifier's logit of each peak."""
        assert self._second is not None
        assert self.recipe.classifier is not None
        edge = self.recipe.classifier.patch_vox
        centres = np.rint(scan.geometry.world_to_index(peaks.positions_xyz_mm)).astype(int)
        return second_look_logits(
            self._second,
            scan.hu,
            centres,
            edge,
            self.recipe.prepare,
            n_mirrored=self.recipe.mirrored_looks,
            step=clock.step,
            pulse=clock.check,
        )

    def _final_logits(self, first: FloatArray, second: FloatArray | None) -> FloatArray:
        """Give the combined logits; without second look the first stage stands alone."""
        a, b, c = self.recipe.combine
        if second is None:
            a1, c1 = self.recipe.first_stage_scale
            return a1 * first + c1
        return a * first + b * second + c

    def _candidates(self, peaks: Peaks, logits: FloatArray) -> tuple[Candidate, ...]:
        scores = 1 / (1 + np.exp(-logits))
        order = np.argsort(-scores, kind="stable")
        return tuple(
            Candidate(
                position_xyz_mm=(float(p[0]), float(p[1]), float(p[2])),
                score=float(scores[i]),
                diameter_mm=float(peaks.diameters_mm[i]),
            )
            for i, p in zip(order, peaks.positions_xyz_mm[order], strict=True)
        )


def _keep(peaks: Peaks, is_near: NDArray[np.bool_], settings: DetectionSettings) -> Peaks:
    """Drop peaks far from the lungs, merge close ones, keep the strongest."""
    p = Peaks(peaks.positions_xyz_mm[is_near], peaks.logits[is_near], peaks.diameters_mm[is_near])
    kept = merge_close(p.positions_xyz_mm, p.logits, p.diameters_mm)[: settings.max_candidates]
    return replace(
        p, positions_xyz_mm=p.positions_xyz_mm[kept], logits=p.logits[kept], diameters_mm=p.diameters_mm[kept]
    )


class _Clock:
    """Times the stages, reports progress and raises when the job is cancelled."""

    def __init__(self, progress: Progress | None, is_cancelled: Callable[[], bool] | None) -> None:
        self.progress, self.is_cancelled = progress, is_cancelled
        self.seconds: dict[str, float] = {}
        self.stage, self.began = "", perf_counter()

    def start(self, stage: str) -> None:
        """End the stage that runs and begin the next."""
        now = perf_counter()
        if self.stage:
            self.seconds[self.stage] = now - self.began
        self.stage, self.began = stage, now
        self.step(0.0)

    def step(self, share: float) -> None:
        """Report the share of the current stage that is done."""
        self.check()
        if self.progress:
            names = list(STAGE_STARTS)
            low = STAGE_STARTS[self.stage]
            high = STAGE_STARTS[names[min(names.index(self.stage) + 1, len(names) - 1)]]
            self.progress(self.stage, low + share * (high - low))

    def check(self) -> None:
        """Raise when the job is cancelled."""
        if self.is_cancelled and self.is_cancelled():
            raise JobCancelled("cancelled; nothing was written")
