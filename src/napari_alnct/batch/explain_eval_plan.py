"""What an evaluation of explanations measures: models, maps, settings, and what its figures depend on."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from napari_alnct import __version__
from napari_alnct.batch.explain_eval_cases import ScanSource
from napari_alnct.batch.explain_eval_measuring import MEASURES, OCCLUSION, Bench
from napari_alnct.batch.explain_eval_patches import JITTER_MM
from napari_alnct.batch.explain_eval_randomised import randomised_checkpoints
from napari_alnct.core.checkpoint import Checkpoint
from napari_alnct.core.config import Device
from napari_alnct.core.errors import SettingsError
from napari_alnct.core.explain.activation import ACTIVATION_METHODS
from napari_alnct.core.explain.explainer import INPUT, METHODS, Explainer
from napari_alnct.evaluation.explanation_table import MapRow

SCHEMA = 1


@dataclass(frozen=True, kw_only=True)
class ExplainEvalWish:
    """What to measure.

    Parameters
    ----------
    score_name : str
        ``second look`` or ``first stage``; empty: the model's first.
    methods, layers : tuple of str
        Empty: all.
    measures : tuple of str
        Of `MEASURES`.
    nodules_per_scan, occlusion_per_scan, decoys_per_scan : int
        Most true positives, of these with occlusion, and places that are no nodules.
    jitter_mm : float
        How far patches are moved along each axis.
    n_samples, seed : int
        Of the bootstrap; the seed is also that of the moves and of the destroyed weights.
    device : {"auto", "cpu", "cuda", "mps"}
        Where networks run.
    """

    score_name: str = ""
    methods: tuple[str, ...] = ()
    layers: tuple[str, ...] = ()
    measures: tuple[str, ...] = MEASURES
    nodules_per_scan: int = 4
    occlusion_per_scan: int = 1
    decoys_per_scan: int = 10
    jitter_mm: float = JITTER_MM
    n_samples: int = 1000
    seed: int = 0
    device: Device = "auto"


@dataclass(frozen=True, eq=False, kw_only=True)
class Models:
    """The model under test and those beside it: trained on shuffled labels, trained with other seeds."""

    checkpoint: Checkpoint
    name: str
    shuffled: Checkpoint | None = None
    seeds: tuple[Checkpoint, ...] = ()


def make_bench(models: Models, wish: ExplainEvalWish) -> Bench:
    """Give what candidates are measured with.

    Parameters
    ----------
    models : Models
        The model and those beside it.
    wish : ExplainEvalWish
        What to measure.

    Returns
    -------
    Bench

    Raises
    ------
    SettingsError
        If a score, layer, method or group of measures is not known.
    """
    unknown = [name for name in wish.measures if name not in MEASURES]
    if unknown:
        raise SettingsError(f"there are no measures called {unknown[0]!r}; choose of {', '.join(MEASURES)}")
    explainer = Explainer(models.checkpoint, name=models.name, device=wish.device)
    score_name = wish.score_name or explainer.score_names[0]
    rows = map_rows(explainer, score_name, wish)
    destroyed = randomised_checkpoints(models.checkpoint, score_name, wish.seed)
    made = [Explainer(one, device=wish.device) for _, one in destroyed] if "randomisation" in wish.measures else []
    return Bench(
        explainer=explainer,
        score_name=score_name,
        rows=rows,
        measures=wish.measures,
        randomised=tuple(made),
        shuffled=Explainer(models.shuffled, device=wish.device) if models.shuffled else None,
        seeds=tuple(Explainer(one, device=wish.device) for one in models.seeds),
    )


def map_rows(explainer: Explainer, score_name: str, wish: ExplainEvalWish) -> tuple[MapRow, ...]:
    """Give the maps to judge: each activation method at each layer, then those that work on voxels.

    Parameters
    ----------
    explainer : Explainer
        The model.
    score_name : str
        Whose logit.
    wish : ExplainEvalWish
        Its methods and layers; all when it names none.

    Returns
    -------
    tuple of MapRow

    Raises
    ------
    SettingsError
        If a method or layer is not offered.
    """
    methods = wish.methods or METHODS
    for method in methods:
        if method not in METHODS:
            raise SettingsError(f"method {method!r} is not one of {', '.join(METHODS)}")
    choices = explainer.layers(score_name)
    for layer in wish.layers:
        if layer not in {choice.name for choice in choices}:
            offered = ", ".join(choice.name for choice in choices)
            raise SettingsError(f"layer {layer!r} cannot be explained for the {score_name}; choose one of {offered}")
    rows = []
    for method in methods:
        if method in ACTIVATION_METHODS:
            chosen = [choice for choice in choices if not wish.layers or choice.name in wish.layers]
            rows += [MapRow(name=f"{method} @ {c.name}", method=method, layer=c.name, stride=c.stride) for c in chosen]
        elif method != OCCLUSION or (wish.occlusion_per_scan and "occlusion" in wish.measures):
            rows.append(MapRow(name=method, method=method, layer=INPUT, stride=1))
    return tuple(rows)


def run_identity(models: Models, source: ScanSource, bench: Bench, wish: ExplainEvalWish) -> dict[str, Any]:
    """Give what the records depend on: models, scans, maps, settings, version."""
    settings = {name: value for name, value in asdict(wish).items() if name not in ("n_samples", "device")}
    others = [one.sha256 for one in ((models.shuffled,) if models.shuffled else ()) + models.seeds]
    return {
        "journal": "explain-eval",
        "schema": SCHEMA,
        "model": models.checkpoint.sha256,
        "other models": others,
        "score": bench.score_name,
        "rows": [row.name for row in bench.rows],
        "source": source.identity,
        "settings": settings,
        "version": __version__,
    }
