"""What scores mean: joining both stages' logits, and thresholds per false mark.

On held-out cases with held-out donors: a logistic regression turns the logits
of detector and classifier into one score, and the FROC curve gives the score at
which 1/8 to 8 false marks per scan are to be expected.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_alnct.core.errors import SettingsError
from napari_alnct.core.inference import Runner
from napari_alnct.core.second_look import MIRRORED_LOOKS, second_look_logits
from napari_alnct.evaluation.froc import FP_RATES, FrocCurve, froc_curve
from napari_alnct.evaluation.matching import ScanMatch
from napari_alnct.io.atomic_file import replacing_text
from napari_alnct.training.build_run import Log
from napari_alnct.training.cases import TrainingCase
from napari_alnct.training.detector_validation import judge_matches
from napari_alnct.training.joint_score import fit_joint_score
from napari_alnct.training.marks import CaseMarks, find_marks, judge, with_donors
from napari_alnct.training.materials import Materials
from napari_alnct.training.settings import BuildSettings

N_DONORS = 10  # held-out donors per real scan and turn: the density is a test bed's, not a patient's
N_TURNS = 6
POINT_TABLES = ("operating_points", "first_stage_points")
FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ScoredMarks:
    """Marks of one held-out case with the logits of both stages."""

    marks: CaseMarks
    first: FloatArray
    second: FloatArray


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """How logits become a score, and what thresholds mean.

    ``combine``: detector weight, classifier weight, constant; ``first_stage_scale``:
    factor and constant without second look; ``operating_points``: false marks per
    scan, as text, to threshold; ``first_stage_points``: the same without second
    look; ``results``: the figures for the model card; ``mirrored_looks``: how many of the
    strongest marks were looked at again, mirrored, when the marks were scored.
    """

    combine: tuple[float, float, float]
    first_stage_scale: tuple[float, float]
    operating_points: dict[str, float]
    first_stage_points: dict[str, float]
    results: dict[str, Any]
    mirrored_looks: int = MIRRORED_LOOKS


def score_held_out(
    first: Runner, second: Runner, materials: Materials, settings: BuildSettings, log: Log
) -> list[ScoredMarks]:
    """Give the marks of both stages on the held-out cases.

    Parameters
    ----------
    first, second : Runner
        Detector and classifier.
    materials : Materials
        Held-out cases and donors.
    settings : BuildSettings
        Window, patch size.
    log : callable
        Told what was scored.

    Returns
    -------
    list of ScoredMarks
        Real cases several times with different donors; once where there are no held-out donors; phantoms once.
    """
    prepare = materials.prepare
    scored = []
    for number, case in enumerate(materials.held_cases):
        donors = () if case.is_synthetic else materials.held_donors
        for turn in range(N_TURNS if donors else 1):
            host = with_donors(case, donors, N_DONORS, settings.crops.round_hu, 7000 + 100 * number + turn)
            marks = find_marks(first, host, prepare)
            edge = settings.classifier.patch_vox
            logits = second_look_logits(second, host.hu, marks.index_zyx, edge, prepare, n_mirrored=MIRRORED_LOOKS)
            scored.append(ScoredMarks(marks, marks.peaks.logits, logits))
        log(f"held out {case.name}: {len(scored[-1].first)} marks, {len(host.diameters_mm)} nodules in the last turn")
    return scored


def calibrate(scored: Sequence[ScoredMarks]) -> Calibration:
    """Give the joint score and its thresholds.

    Parameters
    ----------
    scored : sequence of ScoredMarks
        From `score_held_out`.

    Returns
    -------
    Calibration

    Raises
    ------
    ModelError
        If the marks are all hits or all errors, so that there is nothing to weigh.
    """
    labels = np.concatenate([s.marks.labels for s in scored])
    first, second = np.concatenate([s.first for s in scored]), np.concatenate([s.second for s in scored])
    n_nodules = float(np.mean([len(s.marks.case.diameters_mm) for s in scored]))
    joint = fit_joint_score(first, second, labels, nodules_per_scan=n_nodules)
    alone = fit_joint_score(first, None, labels, nodules_per_scan=n_nodules)
    scores = [joint.scores(s.first, s.second) for s in scored]
    curve = _curve(scored, scores)
    first_curve = _curve(scored, [alone.scores(s.first, s.second) for s in scored])
    results = {"all": summary(curve)}
    if len({s.marks.case.name for s in scored}) == len(scored):  # turns of one scan are no further scans
        judged = [_judged(s, value) for s, value in zip(scored, scores, strict=True)]
        low, high = judge_matches(judged, [_nodules(s.marks.case) for s in scored]).cpm_ci95
        results["all"]["cpm_ci95"] = [round(low, 4), round(high, 4)]
    results["first stage alone"] = summary(first_curve)
    for name, synthetic in (("real scans", False), ("phantoms", True)):
        part = [i for i, s in enumerate(scored) if s.marks.case.is_synthetic == synthetic]
        if part:
            results[name] = summary(_curve([scored[i] for i in part], [scores[i] for i in part]))
    return Calibration(
        combine=(joint.detector, joint.classifier, joint.constant),
        first_stage_scale=(alone.detector, alone.constant),
        operating_points=points(curve),
        first_stage_points=points(first_curve),
        results=results,
    )


def points(curve: FrocCurve) -> dict[str, float]:
    """Give the thresholds at the seven official rates, as a model file stores them.

    Parameters
    ----------
    curve : FrocCurve
        Of held-out scans.

    Returns
    -------
    dict of str to float
        False marks per scan, as text, to the lowest score shown.
    """
    return {f"{rate:g}": float(np.clip(curve.threshold_at(rate), 0.0, 1.0)) for rate in FP_RATES}


def summary(curve: FrocCurve) -> dict[str, Any]:
    """Give a FROC curve as plain JSON: counts, seven sensitivities, CPM."""
    return {
        "n_scans": curve.n_scans,
        "n_nodules": curve.n_nodules,
        "sensitivity": [round(float(v), 4) for v in curve.sensitivity_at()],
        "cpm": round(curve.cpm, 4),
    }


def _curve(scored: Sequence[ScoredMarks], scores: Sequence[FloatArray]) -> FrocCurve:
    return froc_curve([_judged(s, value) for s, value in zip(scored, scores, strict=True)])


def _judged(scored: ScoredMarks, scores: FloatArray) -> ScanMatch:
    return judge(scored.marks.case, scored.marks.peaks.positions_xyz_mm, scores)


def _nodules(case: TrainingCase) -> tuple[FloatArray, FloatArray]:
    return case.geometry.index_to_world(case.centres_zyx_vox), case.diameters_mm


def write_calibration(path: Path, calibration: Calibration) -> None:
    """Write a calibration for a model that holds nothing out, and the figures that it comes from.

    Parameters
    ----------
    path : Path
        JSON file.
    calibration : Calibration
        From folds.
    """
    with replacing_text(path) as stream:
        stream.write(json.dumps(asdict(calibration), indent=1) + "\n")


def read_calibration(path: Path) -> Calibration:
    """Give a calibration that was written.

    Parameters
    ----------
    path : Path
        JSON file of `write_calibration`.

    Returns
    -------
    Calibration

    Raises
    ------
    SettingsError
        If the file is none.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        a, b, c = (float(v) for v in values["combine"])
        a1, c1 = (float(v) for v in values["first_stage_scale"])
        tables = [{str(k): float(v) for k, v in values[name].items()} for name in POINT_TABLES]
        return Calibration(
            combine=(a, b, c),
            first_stage_scale=(a1, c1),
            operating_points=tables[0],
            first_stage_points=tables[1],
            results=dict(values["results"]),
            mirrored_looks=int(values.get("mirrored_looks", 0)),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as fault:
        raise SettingsError(
            f"{path.name}: no calibration ({fault}); name the JSON file that benchmarks/model_folds.py has written"
        ) from fault
