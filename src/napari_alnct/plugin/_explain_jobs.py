"""The jobs behind explanations; torch is imported inside the functions, when a job runs.

Each job takes a `JobReporter` first, runs in a worker thread and touches no viewer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_alnct.core.errors import JobCancelled, ModelError
from napari_alnct.core.evidence import EvidenceMap, agreement, badge, rank_agreement
from napari_alnct.core.geometry import Geometry, Triple
from napari_alnct.core.volume import Volume
from napari_alnct.plugin._explain_layers import ScoreMap
from napari_alnct.plugin._explain_subject import NO_MARKS, Subject, Target
from napari_alnct.plugin._jobs import JobReporter

if TYPE_CHECKING:
    from napari_alnct.core.checkpoint import Checkpoint
    from napari_alnct.core.explain.explainer import Explainer
    from napari_alnct.core.preprocess import PreparedScan

METHODS = {
    "hirescam": "HiResCAM",
    "gradcam": "Grad-CAM",
    "gradcam++": "Grad-CAM++",
    "layercam": "LayerCAM",
    "occlusion": "Occlusion",
}
OCCLUSION = "occlusion"
OUTSIDE = "it lies outside the lungs and their margin, which is all that the model sees"
MODEL_SHARE, LUNGS_SHARE, SCAN_SHARE = 0.05, 0.15, 0.4  # of a job, when each of these begins to be done
MOST_VOXELS = 25_000_000  # of the scan at once, for the score map


@dataclass(frozen=True)
class Wish:
    """How to explain: empty parts mean the model's own choice."""

    method: str = ""
    layer: str = ""
    score_name: str = ""


@dataclass(frozen=True)
class Offer:
    """A score that a model can explain, its layers as (name, mm per cell), and the layer taken unless told."""

    score_name: str
    layers: tuple[tuple[str, float], ...]
    default_layer: str


@dataclass(frozen=True, eq=False)
class Explanation:
    """What `Explaining.explain` made.

    Parameters
    ----------
    maps : tuple of EvidenceMap
        One for each candidate that could be explained.
    reasons : dict of str to str
        Why the others could not, by candidate.
    offers : tuple of Offer
        What else the model can explain.
    seconds : float
        Wall time.
    """

    maps: tuple[EvidenceMap, ...]
    reasons: dict[str, str]
    offers: tuple[Offer, ...]
    seconds: float


@dataclass(frozen=True)
class Agreement:
    """How far a map agrees with occlusion.

    Parameters
    ----------
    candidate : str
        Whose map.
    r : float
        Pearson's.
    warning : str
        What is to be said of it, empty when they agree.
    rho : float
        Spearman's, told beside it.
    """

    candidate: str
    r: float
    warning: str
    rho: float


@dataclass(eq=False)
class Explaining:
    """What explanations of a scan need again and again: the model and the prepared scan, kept from job to job."""

    _model: tuple[Any, Checkpoint, Explainer] | None = field(default=None, repr=False)
    _scan: tuple[Volume, Any, PreparedScan] | None = field(default=None, repr=False)

    def forget(self) -> None:
        """Let go of model and scan."""
        self._model = self._scan = None

    # -- jobs -------------------------------------------------------------------------------------

    def explain(
        self, reporter: JobReporter, subject: Subject, targets: Sequence[Target], wish: Wish | None = None
    ) -> Explanation:
        """Give the evidence maps of candidates.

        Parameters
        ----------
        reporter : JobReporter
            Told about progress; may cancel.
        subject : Subject
            Scan and model.
        targets : sequence of Target
            What to explain.
        wish : Wish, optional
            Method, layer, score.

        Returns
        -------
        Explanation

        Raises
        ------
        JobCancelled
            If the reporter says so.
        LungsNotFoundError
            If the scan shows no lungs.
        ModelError
            If the model is not there, damaged, or not the one that found the marks.
        SettingsError
            If there is no candidate, or the model has no such layer.
        """
        started, wish = perf_counter(), wish or Wish()
        _, explainer = self._load(reporter, subject)
        scan = self._prepare(reporter, subject.volume, explainer)
        inside = [target for target in targets if _is_inside(scan.geometry, target.position_xyz_mm)]
        reasons = {target.name: OUTSIDE for target in targets if target not in inside}
        if not targets:
            reasons[""] = NO_MARKS
        maps = self._maps(reporter, explainer, scan, inside, wish) if inside else []
        _tell(reporter, "Done", 1.0)
        return Explanation(tuple(maps), reasons, _offers(explainer), perf_counter() - started)

    def _maps(
        self, reporter: JobReporter, explainer: Explainer, scan: PreparedScan, targets: Sequence[Target], wish: Wish
    ) -> list[EvidenceMap]:
        from napari_alnct.core.explain.explainer import DEFAULT_METHOD

        return explainer.explain(
            scan.hu,
            scan.geometry,
            [target.position_xyz_mm for target in targets],
            method=wish.method or DEFAULT_METHOD,
            layer=wish.layer if wish.method != OCCLUSION else "",
            score_name=wish.score_name,
            names=[target.name for target in targets],
            step=_step_of(reporter, "Explaining", SCAN_SHARE, 1.0),
        )

    def occlude(self, reporter: JobReporter, subject: Subject, one: EvidenceMap) -> Agreement:
        """Compare a map with occlusion: what the same logit loses when small boxes become plain lung.

        Parameters
        ----------
        reporter : JobReporter
            Told about progress; may cancel.
        subject : Subject
            Scan and model.
        one : EvidenceMap
            Of the same model.

        Returns
        -------
        Agreement

        Raises
        ------
        JobCancelled, LungsNotFoundError, ModelError
            As in `explain`.
        """
        _, explainer = self._load(reporter, subject)
        scan = self._prepare(reporter, subject.volume, explainer)
        (occluded,) = explainer.explain(
            scan.hu,
            scan.geometry,
            [one.position_xyz_mm],
            method=OCCLUSION,
            score_name=one.score_name,
            names=[one.candidate],
            step=_step_of(reporter, "Covering small boxes, one by one", SCAN_SHARE, 1.0),
        )
        r = agreement(one, occluded)
        return Agreement(one.candidate, r, badge(r), rank_agreement(one, occluded))

    def scores(self, reporter: JobReporter, subject: Subject) -> ScoreMap:
        """Give the first stage's score of every cell of the scan.

        Parameters
        ----------
        reporter : JobReporter
            Told about progress; may cancel.
        subject : Subject
            Scan and model.

        Returns
        -------
        ScoreMap

        Raises
        ------
        JobCancelled, LungsNotFoundError, ModelError
            As in `explain`; also when the model has no first stage.
        """
        checkpoint, explainer = self._load(reporter, subject)
        if checkpoint.detector is None:
            raise ModelError(f"{explainer.model_name} has no first stage; choose a model that searches whole scans")
        scan = self._prepare(reporter, subject.volume, explainer)
        return score_map_of(checkpoint, explainer, scan, _step_of(reporter, "Searching", SCAN_SHARE, 1.0))

    # -- model and scan -------------------------------------------------------------------------------

    def _load(self, reporter: JobReporter, subject: Subject) -> tuple[Checkpoint, Explainer]:
        """Give the model; the last one is kept, unless its file has changed."""
        _tell(reporter, "Loading the model", 0.0)
        from napari_alnct.core.checkpoint import read_checkpoint
        from napari_alnct.core.explain.explainer import Explainer
        from napari_alnct.models.catalogue import find_model

        file = find_model(subject.model)
        key = (file.path, file.path.stat().st_mtime_ns)
        if self._model is None or self._model[0] != key:
            checkpoint = read_checkpoint(file.path, sha256=file.sha256)
            self._model = (key, checkpoint, Explainer(checkpoint, name=file.name))
        _, checkpoint, explainer = self._model
        if subject.model_sha256 and checkpoint.sha256 != subject.model_sha256:
            raise ModelError(f"the marks were found by another version of {file.name}; search the scan again")
        return checkpoint, explainer

    def _prepare(self, reporter: JobReporter, volume: Volume, explainer: Explainer) -> PreparedScan:
        """Give the scan as the network sees it; the last one is kept."""
        from napari_alnct.core.lungs import segment_lungs
        from napari_alnct.core.preprocess import prepare

        settings = explainer.prepare
        if self._scan is None or self._scan[0] is not volume or self._scan[1] != settings:
            self._scan = None
            _tell(reporter, "Finding the lungs", MODEL_SHARE)
            lungs = segment_lungs(volume)
            _tell(reporter, "Resampling", LUNGS_SHARE)
            self._scan = (volume, settings, prepare(volume, settings, lungs))
        _tell(reporter, "Explaining", SCAN_SHARE)
        return self._scan[2]


def score_map_of(
    checkpoint: Checkpoint, explainer: Explainer, scan: PreparedScan, step: Callable[[float], None] | None = None
) -> ScoreMap:
    """Give the first stage's score of every cell of a prepared scan.

    Parameters
    ----------
    checkpoint : Checkpoint
        With a detector.
    explainer : Explainer
        Of the same model: its device and name are taken.
    scan : PreparedScan
        The scan as the network sees it.
    step : callable, optional
        Called with the share done; may raise to stop.

    Returns
    -------
    ScoreMap
        Of the cells whose centres lie in the prepared scan.
    """
    from torch import sigmoid

    from napari_alnct.core.dense import score_map
    from napari_alnct.core.inference import Runner, choose_precision
    from napari_alnct.core.network import OUTPUT_STRIDE

    assert checkpoint.detector is not None
    runner = Runner(checkpoint.detector, explainer.device, choose_precision(explainer.device))
    logits = score_map(runner, scan.hu, explainer.prepare, most_voxels=MOST_VOXELS, step=step)[0]
    middle = (OUTPUT_STRIDE - 1) / 2  # of cell 0, in voxels
    values = sigmoid(logits.float()).numpy().astype(np.float32)
    depth, height, width = (int(np.floor((n - 1 - middle) / OUTPUT_STRIDE)) + 1 for n in scan.hu.shape)
    x, y, z = scan.geometry.index_to_world([middle] * 3)
    spacing = scan.geometry.spacing_zyx_mm
    values = np.ascontiguousarray(values[:depth, :height, :width])
    geometry = Geometry(
        shape_zyx=(values.shape[0], values.shape[1], values.shape[2]),
        spacing_zyx_mm=(OUTPUT_STRIDE * spacing[0], OUTPUT_STRIDE * spacing[1], OUTPUT_STRIDE * spacing[2]),
        origin_xyz_mm=(float(x), float(y), float(z)),
        direction=scan.geometry.direction,
    )
    return ScoreMap(
        values=values, geometry=geometry, model_name=explainer.model_name, model_sha256=explainer.model_sha256
    )


def _offers(explainer: Explainer) -> tuple[Offer, ...]:
    spacing_mm = explainer.prepare.spacing_mm
    return tuple(
        Offer(
            score,
            tuple((layer.name, layer.stride * spacing_mm) for layer in explainer.layers(score)),
            explainer.default_layer(score),
        )
        for score in explainer.score_names
    )


def _is_inside(geometry: Geometry, position_xyz_mm: Triple) -> bool:
    index = geometry.world_to_index(position_xyz_mm)
    return bool(np.all((index >= -0.5) & (index <= np.asarray(geometry.shape_zyx) - 0.5)))


def _tell(reporter: JobReporter, stage: str, fraction: float) -> None:
    if reporter.is_cancelled():
        raise JobCancelled("the job was cancelled; nothing was changed")
    reporter.progress(stage, fraction)


def _step_of(reporter: JobReporter, stage: str, low: float, high: float) -> Callable[[float], None]:
    """Give a function that tells the progress of one part of a job, and stops it when asked."""
    return lambda share: _tell(reporter, stage, low + (high - low) * min(1.0, share))
