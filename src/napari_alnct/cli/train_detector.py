"""The subcommand ``train-detector``: build a detector with its second look."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter, validators

from napari_alnct.cli.fold_ranges import FoldRanges, folds_of
from napari_alnct.cli.outputs import refuse_unwritable_folder
from napari_alnct.core.errors import JobCancelled, SettingsError

if TYPE_CHECKING:
    from napari_alnct.io.prepared import PreparedDataset
    from napari_alnct.training.build_run import BuildRun
    from napari_alnct.training.settings import BuildSettings

Count = Annotated[int | None, Parameter(validator=validators.Number(gte=0))]


def execute(
    *,
    out: Path,
    preproc: Path | None = None,
    folds: FoldRanges = (),
    val_folds: FoldRanges = (),
    series: Path | None = None,
    val_series: Path | None = None,
    patients: Path | None = None,
    cubes: Path | None = None,
    phantoms: Count = None,
    cases: Path | None = None,
    data: Path | None = None,
    hold_out: str | None = None,
    calibration: Path | None = None,
    config: Path | None = None,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    workers: Count = None,
    threads: Annotated[int, Parameter(help="CPU threads of the network; 0: all cores.")] = 0,
) -> None:
    r"""Train a detector and its second look, calibrate them, and write one model file.

    With --preproc it learns on the prepared scans of some folds (or of a list) and keeps the state that is best
    on the validation scans by CPM; nodules are cut from the training scans and put into others, and the
    detector's own false marks on them are learnt from. Scans on both sides are refused. Without --preproc it
    builds the bundled model from the data pack (--data) and phantoms, or from phantoms alone. A run that was
    stopped or killed goes on when the same command is given again, to the same weights.

    Parameters
    ----------
    out
        Work folder: logs, resume points, the best first stage and the finished model.
    preproc
        Output folder of preprocess, at 1 mm.
    folds
        Training folds, such as 1-8 or 1,2.
    val_folds
        Validation folds; thresholds and calibration come from them too.
    series
        Training scans as a file, one series a line, instead of folds or narrowing them.
    val_series
        The same for validation.
    patients
        Table with the columns seriesuid and patient: patients on both sides are refused too.
    cubes
        Further nodules to insert: lidc_nodules.npz of the data pack. They show LIDC-IDRI patients, so a model made
        with them must not be judged on LUNA16.
    phantoms
        Phantom scans to train on beside the others (0 with --preproc).
    cases
        Where unpacked scans are kept (OUT/cases): about 40 MB a scan; several runs may share it.
    data
        Development data pack (docs/model-data.md), for the bundled model: real scans and nodule cubes.
    hold_out
        Fold of the data pack that is not trained on, of how many: 0/3, 1/3 or 2/3.
    calibration
        What scores mean, for a model that holds nothing out: JSON file of benchmarks/model_folds.py.
    config
        Recipe, a JSON or YAML file or one of the package (bundled, folds, phantoms, luna16); left-out settings keep
        their defaults, based_on names another recipe.
    device
        Where to train; auto takes a CUDA GPU when there is one.
    workers
        Processes that prepare patches; the result does not depend on it.

    Examples
    --------
    napari-alnct-train train-detector --out runs/fold0 --preproc data_preproc --folds 1-8 --val-folds 9
    napari-alnct-train train-detector --out runs/own --preproc prepared --series train.txt --val-series val.txt \
        --patients patients.csv --config recipe.json --workers 8
    napari-alnct-train train-detector --out runs/fold_0 --data ../shared/data --config folds --hold-out 0/3
    napari-alnct-train train-detector --out runs/tiny --config examples/tiny_model.json
    napari-alnct-train detect luna16_data --folds 0 --model runs/fold0/detector.safetensors --out candidates.csv
    """
    import torch

    from napari_alnct.batch.work_lock import WorkLock
    from napari_alnct.cli.build_display import BuildDisplay
    from napari_alnct.cli.stop_signals import stop_signals
    from napari_alnct.core.inference import choose_device
    from napari_alnct.training.build_run import BuildRun

    refuse_unwritable_folder(out)
    _refuse_mixed(
        preproc,
        data,
        {
            "--folds": folds,
            "--val-folds": val_folds,
            "--series": series,
            "--cubes": cubes,
            "--hold-out": hold_out,
            "--calibration": calibration,
        },
    )
    settings = _settings(config, preproc is not None, phantoms, workers)
    torch.set_num_threads(threads or torch.get_num_threads())
    place = choose_device(device).type
    out.mkdir(parents=True, exist_ok=True)
    with WorkLock(out / "build.lock"), BuildDisplay() as display, stop_signals() as is_stopped:
        run = BuildRun(folder=out, log=display.line, device=place, on_step=display.step, is_cancelled=is_stopped)
        try:
            if preproc is None:
                path = _build_bundled(settings, data, run, (hold_out, calibration, cases))
            else:
                sides = _sides(preproc, (folds, val_folds), (series, val_series))
                path = _build_prepared(preproc, sides, settings, run, _further(patients, cubes, cases))
        except JobCancelled as stop:
            display.line(f"{stop}; the same command goes on there")
            raise
    print(f"the model is {path}")


def _refuse_mixed(preproc: Path | None, data: Path | None, flags: Mapping[str, object]) -> None:
    if preproc is not None and data is not None:
        raise SettingsError("--preproc and --data are two kinds of build; give one (nodule cubes: --cubes)")
    for flag in ("--hold-out", "--calibration"):
        if flags.get(flag) and data is None:
            raise SettingsError(f"{flag} belongs to --data; name the folder of the data pack")
    given = [name for name, value in flags.items() if value and name not in ("--hold-out", "--calibration")]
    if preproc is None and given:
        raise SettingsError(f"{', '.join(given)} choose scans or nodules for --preproc; name a prepared data set")
    if data is not None and not (data / "training" / "scans.csv").is_file():
        raise SettingsError(f"{data.name}: no training/scans.csv there; name the folder of the data pack")


def _settings(config: Path | None, is_prepared: bool, phantoms: int | None, workers: int | None) -> BuildSettings:
    """Give the recipe of the file on top of the defaults of this kind of build, with the flags that were given."""
    from napari_alnct.training.settings import PREPARED, BuildSettings, read_build_settings

    base = PREPARED if is_prepared else BuildSettings()
    settings = read_build_settings(config, base) if config else base
    if phantoms is not None:
        settings = replace(settings, n_phantoms=phantoms)
    if workers is not None:
        first, second = (replace(part, workers=workers) for part in (settings.first_stage, settings.second_look))
        settings = replace(settings, first_stage=first, second_look=second)
    return settings


def _sides(
    preproc: Path, folds: tuple[FoldRanges, FoldRanges], lists: tuple[Path | None, Path | None]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Give the training and the validation series."""
    from napari_alnct.io.prepared import PreparedDataset
    from napari_alnct.io.tables import read_series_list

    dataset = PreparedDataset.open(preproc)

    def chosen(ranges: FoldRanges, path: Path | None, side: str) -> PreparedDataset:
        if not ranges and path is None:
            flags = "--folds or --series" if side == "training" else "--val-folds or --val-series"
            raise SettingsError(f"no {side} scans are named; give {flags}")
        return dataset.select(folds=folds_of(ranges), series=read_series_list(path) if path else ())

    train, val = (
        chosen(ranges, path, side).series
        for ranges, path, side in zip(folds, lists, ("training", "validation"), strict=True)
    )
    return train, val


def _further(patients: Path | None, cubes: Path | None, cases: Path | None) -> dict[str, object]:
    from napari_alnct.batch.leak_guard import read_patients

    return {"patients": read_patients(patients) if patients else None, "cubes": cubes, "cases": cases}


def _build_prepared(
    preproc: Path,
    sides: tuple[tuple[str, ...], tuple[str, ...]],
    settings: BuildSettings,
    run: BuildRun,
    further: Mapping[str, object],
) -> Path:
    from napari_alnct.training.detector_build import build_detector_from_prepared

    return build_detector_from_prepared(
        preproc,
        *sides,
        settings,
        run.folder,
        run.log,
        run.device,
        on_step=run.on_step,
        is_cancelled=run.is_cancelled,
        **further,  # type: ignore[arg-type]
    )


def _build_bundled(
    settings: BuildSettings,
    data: Path | None,
    run: BuildRun,
    choices: tuple[str | None, Path | None, Path | None],
) -> Path:
    """Build from the data pack and phantoms; the choices are --hold-out, --calibration and --cases."""
    from napari_alnct.training.build import run_build
    from napari_alnct.training.calibration import read_calibration
    from napari_alnct.training.folds import fold_settings, pack_folds

    hold_out, calibration, cases = choices
    if data is None:
        run.log("no --preproc and no --data: training on phantoms alone; the model will not know real lungs")
    elif hold_out is not None:
        number, n_folds = _fold_of(hold_out)
        settings = fold_settings(settings, pack_folds(data, n_folds), number)
    known = read_calibration(calibration) if calibration else None
    return run_build(settings, data, run, cases, known)


def _fold_of(text: str) -> tuple[int, int]:
    """Give number and count of ``0/3``."""
    parts = text.split("/")
    if len(parts) != 2 or not all(part.strip().isdigit() for part in parts):
        raise SettingsError(f"--hold-out {text} is no fold; write number/count, such as 0/3")
    return int(parts[0]), int(parts[1])
