"""The build of a model, stage by stage; each stage is resumable.

First stage (dense detector), marks of the first stage on the training scans,
second look (patch classifier) on these marks, the finish of the first stage,
calibration and thresholds on the held-out scans, one model file.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from napari_alnct import __version__
from napari_alnct.core.checkpoint import Recipe, write_checkpoint
from napari_alnct.core.errors import SettingsError
from napari_alnct.core.network import ClassifierNetwork, DetectorNetwork
from napari_alnct.training.build_run import BuildRun, Log
from napari_alnct.training.calibration import Calibration, calibrate, score_held_out
from napari_alnct.training.first_stage import finish_first_stage, train_first_stage
from napari_alnct.training.materials import Materials, gather
from napari_alnct.training.patch_pool import collect_pool, pool_facts
from napari_alnct.training.saving import replace_file
from napari_alnct.training.second_look import train_second_look
from napari_alnct.training.settings import BuildSettings, settings_to_json

RECIPE = "recipe.json"
DETECTOR_CUBE_VOX = 64
FREE = ("workers", "save_every")  # settings of a schedule that change no result


def build_model(settings: BuildSettings, pack: Path | None, folder: Path, log: Log, device: str = "cpu") -> Path:
    """Build the bundled model from nothing to one file, continuing where an earlier build stopped.

    Parameters
    ----------
    settings : BuildSettings
        The recipe.
    pack : Path or None
        Data pack; None: phantoms alone.
    folder : Path
        Work folder; cases, resume points, logs and the result go here.
    log : callable
        Gets lines of progress.
    device : str
        Where to train.

    Returns
    -------
    Path
        ``<folder>/<name>.safetensors``.

    Raises
    ------
    SettingsError
        If the folder holds a build of another recipe, whose stages must not be mixed with this one's.
    """
    return run_build(settings, pack, BuildRun(folder=folder, log=log, device=device))


def run_build(
    settings: BuildSettings,
    pack: Path | None,
    run: BuildRun,
    cases: Path | None = None,
    calibration: Calibration | None = None,
) -> Path:
    """Build the bundled model; as `build_model`, with a build at work.

    Parameters
    ----------
    settings : BuildSettings
        The recipe.
    pack : Path or None
        Data pack; None: phantoms alone.
    run : BuildRun
        Where to write and whom to tell.
    cases : Path, optional
        Where unpacked scans are kept; builds of several folds may share it, one after the other.
        Default: ``<folder>/cases``.
    calibration : Calibration, optional
        What scores mean, from elsewhere, for a model that holds nothing out; default: from the held-out scans.

    Returns
    -------
    Path
        ``<folder>/<name>.safetensors``.

    Raises
    ------
    SettingsError
        If nothing is held out and no calibration is given, or the folder holds another build.
    """
    holds_out = settings.n_phantoms_held_out or (pack is not None and settings.held_out_cases)
    if calibration is None and not holds_out:
        raise SettingsError(
            f"{settings.name} holds nothing out, so nothing would tell what its scores mean; name the result of "
            "its folds with --calibration, or hold out scans or phantoms"
        )
    hold_recipe(run.folder, settings, {"has_data_pack": pack is not None})
    materials = gather(settings, pack, run.log, cases or run.folder / "cases")
    return build_from_materials(materials, settings, run, calibration)


def build_from_materials(
    materials: Materials, settings: BuildSettings, run: BuildRun, calibration: Calibration | None = None
) -> Path:
    """Build a model from cases and donors that are at hand, continuing where an earlier build stopped.

    Parameters
    ----------
    materials : Materials
        What to train on and what to calibrate on.
    settings : BuildSettings
        The recipe.
    run : BuildRun
        Where to write and whom to tell.
    calibration : Calibration, optional
        What scores mean; default: from the held-out scans.

    Returns
    -------
    Path
        ``<folder>/<name>.safetensors``.

    Raises
    ------
    JobCancelled
        If the run says so; the same call goes on.
    ModelError
        If the first stage finds nothing to learn a second look from, or nothing to calibrate on.
    """
    detector = train_first_stage(materials, settings, run)
    pool = collect_pool(run.runner(detector), materials, settings, run)
    classifier = train_second_look(pool, detector, settings, run)
    detector = finish_first_stage(detector, materials, settings, run)
    first = run.runner(detector)
    if calibration is None:
        calibration = calibrate(score_held_out(first, run.runner(classifier), materials, settings, run.log))
    facts = _record(settings, materials, run) | pool_facts(pool) | {"held_out_results": calibration.results}
    facts["float16_storage_error"] = max(storage_error(detector), storage_error(classifier))
    run.log(f"stored in half precision: scores move by at most {facts['float16_storage_error']:.1e}")
    path = run.folder / f"{settings.name}.safetensors"
    sha256 = write_checkpoint(path, _recipe(settings, materials, calibration, facts), detector, classifier)
    run.log(f"wrote {path.name}, SHA-256 {sha256}")
    for name, result in calibration.results.items():
        if "sensitivity" in result:
            run.log(f"{name}: {_result_line(result)}")
    return path


def storage_error(network: DetectorNetwork | ClassifierNetwork, *, seed: int = 0) -> float:
    """Give how far scores move when weights are stored as float16.

    Parameters
    ----------
    network : DetectorNetwork or ClassifierNetwork
        Evaluation mode, CPU; not changed.
    seed : int
        Of the noise cubes that are scored.

    Returns
    -------
    float
        Largest difference of a score (0 to 1).
    """
    stored = copy.deepcopy(network)
    stored.load_state_dict({name: _halved(value) for name, value in network.state_dict().items()})
    edge_vox = network.settings.patch_vox if isinstance(network, ClassifierNetwork) else DETECTOR_CUBE_VOX
    chance = torch.Generator().manual_seed(seed)
    x = functional.avg_pool3d(torch.randn(2, 1, *(edge_vox,) * 3, generator=chance), 3, 1, 1)
    with torch.inference_mode():
        outputs = [one.eval()(x) for one in (network, stored)]
    scores = [torch.sigmoid(output[:, 0] if output.ndim > 1 else output) for output in outputs]  # channel 0: the logit
    return float((scores[0] - scores[1]).abs().max())


def _halved(value: Tensor) -> Tensor:
    return value.half().float() if value.is_floating_point() else value


def _result_line(result: Mapping[str, Any]) -> str:
    """Give the figures of held-out scans in one line."""
    sensitivity = " ".join(f"{value:.3f}" for value in result["sensitivity"])
    low, high = result.get("cpm_ci95", (None, None))
    interval = "" if low is None or result["n_scans"] < 2 else f" (95 % interval {low:.3f}-{high:.3f})"
    return (
        f"CPM {result['cpm']:.3f}{interval}, sensitivity at 1/8 to 8 false marks a scan {sensitivity}; "
        f"{result['n_nodules']} nodules, {result['n_scans']} scans"
    )


def _recipe(settings: BuildSettings, materials: Materials, calibration: Calibration, facts: dict[str, Any]) -> Recipe:
    return Recipe(
        name=settings.name,
        version=__version__,
        created=datetime.now(UTC).date().isoformat(),
        prepare=materials.prepare,
        combine=calibration.combine,
        first_stage_scale=calibration.first_stage_scale,
        operating_points=calibration.operating_points,
        first_stage_points=calibration.first_stage_points,
        mirrored_looks=calibration.mirrored_looks,
        training=facts,
    )


def hold_recipe(folder: Path, settings: BuildSettings, data: Mapping[str, Any]) -> None:
    """Write the recipe into a new work folder; refuse a folder that was begun with another one.

    Parameters
    ----------
    folder : Path
        Work folder; made when missing.
    settings : BuildSettings
        The recipe; numbers of workers and of steps between resume points may change.
    data : mapping
        What it is applied to, JSON values.

    Raises
    ------
    SettingsError
        If the folder holds a build with other settings or data.
    """
    recipe = json.loads(json.dumps({"settings": settings_to_json(settings), **data}))
    path = folder / RECIPE
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        replace_file(path, json.dumps(recipe, indent=1).encode())
        return
    try:
        begun = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        begun = None
    if begun is None or _deciding(begun) != _deciding(recipe):
        raise SettingsError(
            f"{folder.name} holds a build with other settings or data; give the same ones to go on, or another --out"
        )


def _deciding(recipe: dict[str, Any]) -> dict[str, Any]:
    """Give the recipe without what changes no result."""
    settings = {
        name: {k: v for k, v in value.items() if k not in FREE} if isinstance(value, dict) else value
        for name, value in recipe.get("settings", {}).items()
    }
    return recipe | {"settings": settings}


def _record(settings: BuildSettings, materials: Materials, run: BuildRun) -> dict[str, Any]:
    """Give what a model file says about its training: recipe, data by name, versions."""
    voxels = hashlib.sha256()
    for case in materials.cases:
        voxels.update(case.hu.tobytes())
    return {
        "settings": settings_to_json(settings),
        **materials.facts,
        "n_donors": len(materials.donors),
        "voxels_sha256": voxels.hexdigest(),
        "versions": {"napari-alnct": __version__, "torch": torch.__version__, "numpy": np.__version__},
        "device": run.device,
    }
