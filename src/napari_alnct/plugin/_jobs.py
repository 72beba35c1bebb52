"""The long jobs behind the widgets; torch is imported inside the functions, when a job runs.

Each job takes a `JobReporter` first, runs in a worker thread and touches no viewer.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from time import perf_counter
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from napari_alnct.core.config import DetectionSettings, Device, Precision, PrepareSettings
from napari_alnct.core.errors import JobCancelled
from napari_alnct.core.findings import Candidate, CaseResult
from napari_alnct.core.geometry import Geometry
from napari_alnct.core.volume import QualityFlag, Volume
from napari_alnct.evaluation.froc import FP_RATES

if TYPE_CHECKING:
    from napari_alnct.core.checkpoint import Recipe
    from napari_alnct.core.detector import Detector
    from napari_alnct.core.lung_mask import LungMask
    from napari_alnct.models.catalogue import ModelFile

BOTH_STAGES = ("all", "leave-scans-out folds")  # held-out results on the scores that the operating points are about
FIRST_STAGE = ("first stage alone",)
STAGE_TEXTS = {
    "lungs": "Finding the lungs",
    "resample": "Resampling",
    "network": "Searching",
    "second look": "Looking again at each mark",
    "done": "Done",
}


class JobReporter(Protocol):
    """What a job tells its owner, and asks."""

    def progress(self, stage: str, fraction: float) -> None:
        """Tell what is being done and how much of the whole job is done, 0..1."""

    def partial(self, value: object) -> None:
        """Hand out an intermediate result."""

    def is_cancelled(self) -> bool:
        """Tell whether the job must stop."""


@dataclass(frozen=True, eq=False)
class Preparation:
    """What `prepare_scan` made of a scan.

    Parameters
    ----------
    lungs : ndarray of bool, shape (z, y, x)
        Lung mask on the grid of the scan.
    lungs_ml : float
        Volume of the lungs, millilitres.
    hu : ndarray, shape (z, y, x)
        Resampled Hounsfield units, cropped to the lungs.
    geometry : Geometry
        LPS grid of `hu`.
    flags : tuple of QualityFlag
        What is unusual about the lungs.
    seconds : float
        Wall time.
    """

    lungs: NDArray[np.bool_]
    lungs_ml: float
    hu: NDArray[Any]
    geometry: Geometry
    flags: tuple[QualityFlag, ...]
    seconds: float


@dataclass(frozen=True)
class FirstMarks:
    """Candidates found so far, before the job is done."""

    candidates: tuple[Candidate, ...]
    threshold: float


@dataclass(frozen=True)
class FoundLungs:
    """Axial slices of the scan that hold lung, from the lowest to the highest one."""

    slices: range


@dataclass(frozen=True)
class Detection:
    """What `detect_nodules` found.

    Parameters
    ----------
    result : CaseResult
        Candidates, threshold, model and device.
    seconds : float
        Wall time, loading of the model included.
    operating_points : dict of float to float
        Marks per scan that are not nodules -> threshold, as measured for the model; may be empty.
    sensitivities : dict of float to float
        Marks per scan that are not nodules -> share of nodules found, as measured for the model; may be empty.
    """

    result: CaseResult
    seconds: float
    operating_points: dict[float, float] = field(default_factory=dict)
    sensitivities: dict[float, float] = field(default_factory=dict)


def prepare_scan(reporter: JobReporter, volume: Volume, settings: PrepareSettings) -> Preparation:
    """Find the lungs of a scan and resample it.

    Parameters
    ----------
    reporter : JobReporter
        Told between the stages.
    volume : Volume
        The scan.
    settings : PrepareSettings
        Spacing, window and margin.

    Returns
    -------
    Preparation

    Raises
    ------
    JobCancelled
        If the reporter says so between two stages.
    LungsNotFoundError
        If the scan shows no lungs.
    """
    from napari_alnct.core.preprocess import prepare

    started = perf_counter()
    _step(reporter, "Finding the lungs and resampling", 0.1)
    prepared = prepare(volume, settings)
    _step(reporter, "Drawing the lung mask", 0.7)
    mask = prepared.lungs.on_grid(volume.geometry)
    _step(reporter, "Done", 1.0)
    return Preparation(
        lungs=mask,
        lungs_ml=prepared.lungs.volume_ml,
        hu=prepared.hu,
        geometry=prepared.geometry,
        flags=prepared.lungs.flags,
        seconds=perf_counter() - started,
    )


def detect_nodules(reporter: JobReporter, volume: Volume, model: str, settings: DetectionSettings) -> Detection:
    """Search a scan for nodules.

    Parameters
    ----------
    reporter : JobReporter
        Told about progress; gets `FoundLungs` and `FirstMarks` as soon as there are any.
    volume : Volume
        The scan.
    model : str
        Name or path of a model, or ``default``.
    settings : DetectionSettings
        Device, precision, threshold.

    Returns
    -------
    Detection

    Raises
    ------
    JobCancelled
        If the reporter says so.
    ModelError
        If the model is unknown, damaged or fails its self-test.
    """
    from napari_alnct.models.catalogue import find_model

    started = perf_counter()
    _step(reporter, "Loading the model", 0.0)
    file = find_model(model)
    with _alone(reporter):
        detector = _load_detector(file, file.path.stat().st_mtime_ns, settings.device, settings.precision)
        device = detector.device
        threshold = detector.threshold_for(settings, first_stage=True)
        result = detector.detect(
            volume,
            settings,
            progress=lambda stage, fraction: reporter.progress(STAGE_TEXTS.get(stage, stage), fraction),
            is_cancelled=reporter.is_cancelled,
            on_candidates=lambda found: reporter.partial(FirstMarks(found, threshold)),
            on_lungs=lambda lungs: reporter.partial(FoundLungs(_lung_slices(lungs, volume))),
        )
        if detector.device != device:  # it fell back to the CPU; try the wish again next time
            _load_detector.cache_clear()
    has_second_look = settings.second_look and detector.checkpoint.classifier is not None
    return Detection(result, perf_counter() - started, *expectations(detector.recipe, has_second_look))


def expectations(recipe: Recipe, has_second_look: bool) -> tuple[dict[float, float], dict[float, float]]:
    """Give what to expect of a model's scores: its operating points, and its sensitivities at them.

    Parameters
    ----------
    recipe : Recipe
        Of the model.
    has_second_look : bool
        Whether the scores come from both stages; those of the first alone are on another scale.

    Returns
    -------
    operating_points, sensitivities : dict of float to float
        False marks per scan to threshold, and to the share of nodules found. The second is empty unless the
        model's record of held-out results has a figure for each operating point.
    """
    points = recipe.operating_points if has_second_look else recipe.first_stage_points
    names = BOTH_STAGES if has_second_look else FIRST_STAGE
    results = recipe.training.get("held_out_results", {})
    shares = next((results[name].get("sensitivity", ()) for name in names if name in results), ())
    rates = [float(rate) for rate in points]
    known = dict(zip(FP_RATES, map(float, shares), strict=True)) if len(shares) == len(FP_RATES) else {}
    return dict(zip(rates, points.values(), strict=True)), known if set(rates) == set(known) else {}


def _lung_slices(lungs: LungMask, volume: Volume) -> range:
    (first, *_), (stop, *_) = lungs.box_zyx(volume.geometry, margin_mm=0.0)
    return range(first, stop)


_ONE_AT_A_TIME = threading.Lock()  # two runs would share one network and its cancel hooks
WAIT_S = 0.2  # between two questions whether to go on waiting


@contextmanager
def _alone(reporter: JobReporter) -> Iterator[None]:
    """Wait until no other search runs, and keep others out; a cancelled job waits no longer."""
    while not _ONE_AT_A_TIME.acquire(timeout=WAIT_S):
        _step(reporter, "Waiting for another search", 0.0)
    try:
        yield
    finally:
        _ONE_AT_A_TIME.release()


@lru_cache(maxsize=1)
def _load_detector(file: ModelFile, changed_ns: int, device: Device, precision: Precision) -> Detector:
    """Give the detector of a model file; the last one is kept, unless its file has changed."""
    from napari_alnct.core.detector import Detector

    return Detector.load(file.path, name=file.name, sha256=file.sha256, device=device, precision=precision)


def _step(reporter: JobReporter, stage: str, fraction: float) -> None:
    if reporter.is_cancelled():
        raise JobCancelled("the job was cancelled; nothing was changed")
    reporter.progress(stage, fraction)
