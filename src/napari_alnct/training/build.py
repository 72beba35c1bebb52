"""The build of a bundled model, stage by stage; each stage is resumable.

First stage (dense detector), marks of the first stage on the training scans,
second look (patch classifier) on these marks, calibration and thresholds on the
held-out scans, one model file.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from napari_alnct.core.network import DetectorNetwork
from napari_alnct.training.loop import DetectorPatches, build_detector_run, fit, make_loader
from napari_alnct.training.materials import Materials
from napari_alnct.training.settings import BuildSettings

Log = Callable[[str], None]


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
