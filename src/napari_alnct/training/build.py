"""The build of a bundled model, stage by stage; each stage is resumable.

First stage (dense detector), marks of the first stage on the training scans,
second look (patch classifier) on these marks, calibration and thresholds on the
held-out scans, one model file.
"""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from napari_alnct import __version__
from napari_alnct.core.checkpoint import Recipe, write_checkpoint
from napari_alnct.core.errors import SettingsError
from napari_alnct.core.inference import Runner, choose_precision
from napari_alnct.core.network import DetectorNetwork
from napari_alnct.training.calibration import calibrate, score_held_out
from napari_alnct.training.loop import DetectorPatches, build_detector_run, fit, make_loader
from napari_alnct.training.materials import Log, Materials, gather
from napari_alnct.training.second_look import PatchPool, collect_pool, train_second_look
from napari_alnct.training.settings import BuildSettings, settings_to_json


def train_first_stage(
    materials: Materials, settings: BuildSettings, folder: Path, log: Log, device: str = "cpu"
) -> DetectorNetwork:
    """Give the trained dense detector, continuing where an earlier run stopped.

    Parameters
    ----------
    materials : Materials
        Cases and donors.
    settings : BuildSettings
        The recipe.
    folder : Path
        Gets ``log.csv`` and ``resume.pt``.
    log : callable
        Gets a line of progress now and then.
    device : str
        Where to train.

    Returns
    -------
    DetectorNetwork
        Averaged weights, evaluation mode, CPU.
    """
    schedule = settings.first_stage
    torch.manual_seed(schedule.seed)
    trainer = build_detector_run(DetectorNetwork(settings.detector), schedule, settings.crops, folder, device)
    if trainer.resume():
        log(f"first stage: resumed at step {trainer.step} of {schedule.n_steps}")
    first = trainer.step * schedule.batch
    patches = DetectorPatches(
        materials.cases,
        materials.donors,
        settings.crops,
        seed=schedule.seed,
        first=first,
        count=schedule.n_steps * schedule.batch - first,
    )

    def report(step: int, means: dict[str, float]) -> None:
        parts = " ".join(f"{name} {value:.3g}" for name, value in means.items())
        log(f"first stage {step}/{schedule.n_steps}: {parts}")

    if trainer.step < schedule.n_steps:
        fit(trainer, make_loader(patches, schedule), on_log=report)
    network = trainer.averaged(DetectorNetwork(settings.detector))
    assert isinstance(network, DetectorNetwork)
    return network


def build_model(settings: BuildSettings, pack: Path | None, folder: Path, log: Log, device: str = "cpu") -> Path:
    """Build a model from nothing to one file, continuing where an earlier build stopped.

    Parameters
    ----------
    settings : BuildSettings
        The recipe.
    pack : Path or None
        Data pack; None: phantoms alone.
    folder : Path
        Work folder; resume points, logs and the result go here.
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
    hold_recipe(folder, settings, {"has_data_pack": pack is not None})
    return build_from_materials(gather(settings, pack, log), settings, folder, log, device)


def build_from_materials(
    materials: Materials, settings: BuildSettings, folder: Path, log: Log, device: str = "cpu"
) -> Path:
    """Build a model from cases and donors that are at hand, continuing where an earlier build stopped.

    Parameters
    ----------
    materials : Materials
        What to train on and what to calibrate on.
    settings : BuildSettings
        The recipe.
    folder : Path
        Work folder; resume points, logs and the result go here.
    log : callable
        Gets lines of progress.
    device : str
        Where to train.

    Returns
    -------
    Path
        ``<folder>/<name>.safetensors``.
    """
    detector = train_first_stage(materials, settings, folder / "first_stage", log, device)
    place = torch.device(device)
    first = Runner(detector, place, choose_precision(place))
    pool = _pool(first, materials, settings, folder / "pool.npz", log)
    classifier = train_second_look(pool, detector, settings, folder / "second_look", log, device)
    second = Runner(classifier, place, choose_precision(place))
    calibration = calibrate(score_held_out(first, second, materials, settings, log))
    recipe = Recipe(
        name=settings.name,
        version=__version__,
        created=datetime.now(UTC).date().isoformat(),
        prepare=materials.prepare,
        combine=calibration.combine,
        first_stage_scale=calibration.first_stage_scale,
        operating_points=calibration.operating_points,
        first_stage_points=calibration.first_stage_points,
        training=_record(settings, materials, calibration.results, device),
    )
    path = folder / f"{settings.name}.safetensors"
    sha256 = write_checkpoint(path, recipe, detector, classifier)
    log(f"wrote {path.name}, SHA-256 {sha256}")
    log(json.dumps(calibration.results, indent=1))
    return path


def _pool(first: Runner, materials: Materials, settings: BuildSettings, path: Path, log: Log) -> PatchPool:
    """Give the second look's patches, from the file of an earlier run when there is one."""
    if path.is_file():
        stored = np.load(path)
        return PatchPool(stored["hu"], stored["labels"])
    pool = collect_pool(first, materials, settings, log)
    temporary = path.with_name(f"new-{path.name}")
    np.savez(temporary, hu=pool.hu, labels=pool.labels)
    temporary.replace(path)
    return pool


def hold_recipe(folder: Path, settings: BuildSettings, data: dict[str, Any]) -> None:
    """Write the recipe into a new work folder; refuse a folder that was begun with another one.

    Parameters
    ----------
    folder : Path
        Work folder; made when missing.
    settings : BuildSettings
        The recipe.
    data : dict
        What it is applied to, JSON values.

    Raises
    ------
    SettingsError
        If the folder holds a build with other settings or data.
    """
    recipe = json.dumps({"settings": settings_to_json(settings), **data}, indent=1)
    path = folder / "recipe.json"
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(recipe, encoding="utf-8")
    elif path.read_text(encoding="utf-8") != recipe:
        raise SettingsError(
            f"{folder.name} holds a build with other settings or data; give the same ones to go on, or another --out"
        )


def _record(settings: BuildSettings, materials: Materials, results: dict[str, Any], device: str) -> dict[str, Any]:
    """Give what a model file says about its training: recipe, data by name, versions, results."""
    voxels = hashlib.sha256()
    for case in materials.cases:
        voxels.update(case.hu.tobytes())
    return {
        "settings": settings_to_json(settings),
        **materials.facts,
        "n_donors": len(materials.donors),
        "voxels_sha256": voxels.hexdigest(),
        "versions": {"napari-alnct": __version__, "torch": torch.__version__, "numpy": np.__version__},
        "device": device,
        "held_out_results": results,
    }
