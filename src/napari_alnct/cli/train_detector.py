"""The subcommand ``train-detector``: build a detector with its second look."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from napari_alnct.cli.outputs import refuse_unwritable_folder
from napari_alnct.core.errors import SettingsError


def execute(
    *,
    out: Path,
    config: Path | None = None,
    data: Path | None = None,
    device: Literal["cpu", "cuda"] = "cpu",
    threads: Annotated[int, Parameter(help="CPU threads; 0: all cores.")] = 0,
) -> None:
    """Train a detector and its second look, calibrate them, and write one model file.

    A run that was stopped continues when the same command is given again.
    Without --data it trains on phantoms alone, and the model says so.

    Parameters
    ----------
    out
        Work folder: logs, resume points and the finished model.
    config
        JSON file with the recipe; left-out settings keep their defaults.
    data
        Development data pack (docs/model-data.md): real scans and nodule cubes.
    device
        Where to train.

    Examples
    --------
    napari-alnct-train train-detector --out runs/mine --data data_pack
    napari-alnct-train train-detector --out runs/tiny --config examples/tiny_model.json
    napari-alnct-train detect scan.mhd --model runs/mine/phantom-lidc-1.safetensors --out candidates.csv
    """
    import torch

    from napari_alnct.training.build import build_model
    from napari_alnct.training.settings import BuildSettings, read_build_settings

    refuse_unwritable_folder(out)
    torch.set_num_threads(threads or torch.get_num_threads())
    settings = read_build_settings(config) if config else BuildSettings()
    if data is not None and not (data / "training" / "scans.csv").is_file():
        raise SettingsError(f"{data.name}: no training/scans.csv there; name the folder of the data pack")
    if data is None:
        print("no --data: training on phantoms alone; the model will not know real lungs")
    path = build_model(settings, data, out, lambda line: print(line, flush=True), device)
    print(f"the model is {path}")
