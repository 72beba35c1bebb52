"""Explain candidates: make the maps, check them, write them with pictures and a summary.

All maps of a run share one colour scale, so files are written when the last map is known. A candidate that cannot be
explained does not end the run: its reason stands in the summary.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from napari_alnct import __version__
from napari_alnct.batch.classifier_files import load_classifier
from napari_alnct.batch.explanation_inputs import ExplainCase, ToExplain
from napari_alnct.core.checkpoint import Checkpoint, Recipe, read_checkpoint
from napari_alnct.core.config import Device, PrepareSettings
from napari_alnct.core.errors import GeometryError
from napari_alnct.core.evidence import CAPTION, NO_SUPPORT, EvidenceMap, agreement, rank_agreement, shared_limit
from napari_alnct.core.explain.activation import ACTIVATION_METHODS
from napari_alnct.core.explain.checks import completeness_error
from napari_alnct.core.explain.explainer import Explainer
from napari_alnct.core.notice import NOTICE
from napari_alnct.core.state_dicts import SUFFIXES
from napari_alnct.io.atomic_file import replace_bytes, replacing_text
from napari_alnct.io.evidence import EvidenceChecks, SharedScale, write_evidence
from napari_alnct.io.evidence_pictures import evidence_png
from napari_alnct.models.catalogue import find_model

SUMMARY = "summary.json"
OCCLUSION = "occlusion"
Progress = Callable[[str, float], None]


@dataclass(frozen=True, kw_only=True)
class ExplainWish:
    """How to explain: method, layer (empty: the default), score (empty: the first there is), a check by occlusion."""

    method: str
    layer: str = ""
    score_name: str = ""
    has_occlusion_check: bool = False


@dataclass(frozen=True, kw_only=True)
class Explained:
    """One candidate: its map and checks, or the reason why there is none."""

    wanted: ToExplain
    evidence: EvidenceMap | None = None
    checks: EvidenceChecks = field(default_factory=EvidenceChecks)
    reason: str = ""

    @property
    def remark(self) -> str:
        """Give what to tell beside the map: why there is none, that nothing supports the score, or a badge."""
        if self.evidence is None:
            return self.reason
        return self.checks.badge if self.evidence.has_support else NO_SUPPORT


def load_explainer(wish: str, device: Device = "auto", prepare: PrepareSettings | None = None) -> Explainer:
    """Give the explainer of a model.

    Parameters
    ----------
    wish : str
        Name of a bundled model, or path of a ``.safetensors`` file; of a ``.pth`` or ``.pt`` file as `eval` takes it.
    device : {"auto", "cpu", "cuda", "mps"}
        Where to run.
    prepare : PrepareSettings, optional
        Input of a ``.pth`` model that does not say it.

    Returns
    -------
    Explainer

    Raises
    ------
    ModelError
        If the file is missing, damaged or holds no network.
    """
    if Path(wish).suffix.lower() in SUFFIXES:
        found = load_classifier(wish)
        recipe = Recipe(name=found.name, prepare=found.prepare or prepare or PrepareSettings())
        return Explainer(Checkpoint(recipe, found.sha256, None, found.network.eval()), device=device)
    model = find_model(wish)
    return Explainer(read_checkpoint(model.path, sha256=model.sha256), name=model.name, device=device)


def explain_case(
    case: ExplainCase, explainer: Explainer, wish: ExplainWish, progress: Progress | None = None
) -> list[Explained]:
    """Give the maps of a case, checked.

    Parameters
    ----------
    case : ExplainCase
        Voxels and candidates.
    explainer : Explainer
        Of the model.
    wish : ExplainWish
        How.
    progress : callable, optional
        Called with what is being done and the share done; may raise to stop.

    Returns
    -------
    list of Explained
        In the order of the candidates.

    Raises
    ------
    SettingsError
        If the model has no such score, layer or method.
    """
    score = wish.score_name or explainer.score_names[0]
    explainer.network(score)
    if wish.method in ACTIVATION_METHODS:
        explainer.check_layer(score, wish.layer)
    reasons: dict[ToExplain, str] = {}
    for one in case.candidates:
        try:
            explainer.input_of(case.hu, case.geometry, one.position_xyz_mm, score)
        except GeometryError as fault:
            reasons[one] = str(fault)
    able = [one for one in case.candidates if one not in reasons]
    maps = dict(zip(able, _maps(case, explainer, able, wish.method, wish, "maps", progress), strict=True))
    boxes: dict[ToExplain, EvidenceMap | str] = {}
    if wish.has_occlusion_check and wish.method != OCCLUSION:
        boxes = dict(zip(able, _maps(case, explainer, able, OCCLUSION, wish, OCCLUSION, progress), strict=True))
    found = []
    for one in case.candidates:
        made = maps.get(one, reasons.get(one, ""))
        if isinstance(made, str):
            found.append(Explained(wanted=one, reason=made))
        else:
            found.append(Explained(wanted=one, evidence=made, checks=_checked(case, explainer, made, boxes.get(one))))
    return found


def write_explanations(
    out_dir: Path,
    case: ExplainCase,
    explained: list[Explained],
    wish: ExplainWish,
    explainer: Explainer,
    progress: Progress | None = None,
) -> Path:
    """Write map, picture and facts of each candidate, then the summary.

    Parameters
    ----------
    out_dir : Path
        Made when missing; files of the same names are replaced.
    case, explained, wish, explainer
        The run.
    progress : callable, optional
        As in `explain_case`.

    Returns
    -------
    Path
        ``summary.json``.
    """
    out_dir.mkdir(parents=True, exist_ok=True)
    maps = [one.evidence for one in explained if one.evidence is not None]
    scale = SharedScale(limit=shared_limit(maps), n_maps=max(1, len(maps)))
    for number, one in enumerate(explained):
        if progress:
            progress("pictures", number / len(explained))
        if one.evidence is None:
            continue
        path = out_dir / f"{one.wanted.stem}.mha"
        diameter = one.wanted.diameter_mm
        replace_bytes(
            path.with_suffix(".png"),
            evidence_png(one.evidence, case.volume, scale, one.checks, diameter_mm=diameter),
        )
        write_evidence(path, one.evidence, scale, one.checks)
    document = _summary(case, explained, wish, explainer, scale)
    with replacing_text(out_dir / SUMMARY) as file:
        json.dump(document, file, indent=1)
        file.write("\n")
    return out_dir / SUMMARY


def _maps(
    case: ExplainCase,
    explainer: Explainer,
    wanted: list[ToExplain],
    method: str,
    wish: ExplainWish,
    stage: str,
    progress: Progress | None,
) -> list[EvidenceMap | str]:
    """Give the map of each candidate, or the reason why it has none."""

    def made(some: list[ToExplain], done: int) -> list[EvidenceMap]:
        def step(share: float) -> None:
            if progress:
                progress(stage, (done + share * len(some)) / len(wanted))

        return explainer.explain(
            case.hu,
            case.geometry,
            [one.position_xyz_mm for one in some],
            method=method,
            layer=wish.layer,
            score_name=wish.score_name,
            names=[one.name for one in some],
            step=step,
        )

    try:
        return list(made(wanted, 0))
    except GeometryError:  # one map is not finite: find out which
        return [_made_or_reason(lambda one=one, k=k: made([one], k)[0]) for k, one in enumerate(wanted)]  # type: ignore[misc]


def _made_or_reason(make: Callable[[], EvidenceMap]) -> EvidenceMap | str:
    try:
        return make()
    except GeometryError as fault:
        return str(fault)


def _checked(
    case: ExplainCase, explainer: Explainer, evidence: EvidenceMap, boxes: EvidenceMap | str | None
) -> EvidenceChecks:
    seen = explainer.input_of(case.hu, case.geometry, evidence.position_xyz_mm, evidence.score_name)
    return EvidenceChecks(
        completeness_error=completeness_error(explainer, evidence, seen),
        agreement_with_occlusion=agreement(evidence, boxes) if isinstance(boxes, EvidenceMap) else None,
        rank_agreement_with_occlusion=rank_agreement(evidence, boxes) if isinstance(boxes, EvidenceMap) else None,
        notes=case.notes,
    )


def _summary(
    case: ExplainCase, explained: list[Explained], wish: ExplainWish, explainer: Explainer, scale: SharedScale
) -> dict[str, Any]:
    first = next((one.evidence for one in explained if one.evidence is not None), None)
    return {
        "program": f"napari-alnct {__version__}",
        "notice": NOTICE,
        "caption": CAPTION,
        "model": {"name": explainer.model_name, "sha256": explainer.model_sha256},
        "series_uid": case.volume.series_uid,
        "method": wish.method,
        "layer": first.layer if first else wish.layer,
        "score_name": first.score_name if first else wish.score_name,
        "unit": first.unit if first else "",
        "scale_limit": scale.limit,
        "notes": list(case.notes),
        "n_left_out": case.n_left_out,
        "candidates": [_entry(one) for one in explained],
    }


def _entry(one: Explained) -> dict[str, Any]:
    entry: dict[str, Any] = {"candidate": one.wanted.name, "position_xyz_mm": list(one.wanted.position_xyz_mm)}
    if one.evidence is None:
        return entry | {"files": [], "reason": one.reason}
    peak = list(one.evidence.peak_xyz_mm) if one.evidence.has_support else None
    return entry | {
        "files": [f"{one.wanted.stem}{suffix}" for suffix in (".mha", ".json", ".png")],
        "logit": one.evidence.logit,
        "peak_xyz_mm": peak,
        "completeness_error": one.checks.completeness_error,
        "agreement_with_occlusion": one.checks.agreement_with_occlusion,
        "rank_agreement_with_occlusion": one.checks.rank_agreement_with_occlusion,
        "remark": one.remark,
    }
