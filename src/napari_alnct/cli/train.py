"""The subcommand ``train``: the patch classifier."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter, validators

from napari_alnct.cli.outputs import refuse_unwritable_folder
from napari_alnct.cli.stop_signals import stop_signals
from napari_alnct.core.config import Device, Norm
from napari_alnct.core.errors import AlnctError, JobCancelled, SettingsError

if TYPE_CHECKING:
    from napari_alnct.training.classifier import ClassifierSettings, TrainingResult

Yes = Annotated[bool, Parameter(negative="")]
Threads = Annotated[int, Parameter(validator=validators.Number(gte=0, lte=1024))]
Trials = Annotated[int, Parameter(validator=validators.Number(gte=1, lte=100_000))]
Seconds = Annotated[float, Parameter(validator=validators.Number(gt=0))]
CANCELLED, USAGE = 130, 2
TELLING_S = 2.0  # the first process tells what went wrong; torchrun ends it as soon as another one has ended


def execute(
    *,
    train_csv: Path,
    val_csv: Path,
    save_dir: Path,
    epochs: int | None = None,
    feat_mult: float | None = None,
    config: Path | None = None,
    resume: Yes = False,
    overwrite: Yes = False,
    device: Device = "auto",
    batch: int | None = None,
    lr: float | None = None,
    weight_decay: float | None = None,
    dropout: float | None = None,
    norm: Norm | None = None,
    neg_ratio: float | None = None,
    augment_strength: float | None = None,
    patience: int | None = None,
    precision: Literal["auto", "float32", "bfloat16", "float16"] | None = None,
    seed: int | None = None,
    workers: int | None = None,
    threads: Threads = 0,
    shuffle_labels: Yes = False,
    tune: Trials | None = None,
    timeout: Seconds | None = None,
    study: Path | None = None,
    tune_epochs: Trials | None = None,
    pruner: Literal["median", "hyperband", "none"] | None = None,
) -> int:
    r"""Train the patch classifier and keep the best epoch by validation AUC.

    Writes best.safetensors (averaged weights with their recipe and a threshold for patches), log.csv (a line per
    epoch), steps.csv, tensorboard/, run.json and resume points. Scans, and where known patients, on both sides
    are refused (leak guard; the last line says at which level). A run that was stopped or killed, also in the
    middle of an epoch, goes on with --resume to the same weights. Flags win over --config.

    Several GPUs, or CPU processes with group normalisation, share each batch:
    `torchrun --nproc-per-node N -m napari_alnct.cli.app train ...`

    With --tune the settings that no flag gives (widths, depth, learning rate, weight decay, dropout, augmentation
    strength, neg-ratio) are searched first, then the best are trained in full: best_full/best.safetensors. Several
    processes, also on several machines, may share one study; the same command goes on with a stopped one.

    Parameters
    ----------
    train_csv
        patch_map.csv of the training patches, or the folder that holds it.
    val_csv
        The same of the validation patches, from other scans.
    save_dir
        Folder of the run; made when missing.
    epochs
        Passes over the training patches (20).
    feat_mult
        Multiplies the channels of the network (1).
    config
        JSON file with settings: {"epochs": 30, "network": {"widths": [24, 48, 96]}, "augment": {"strength": 0.5}}.
    resume
        Go on with the run in the folder; where there is none, begin.
    overwrite
        Remove the run in the folder, and begin.
    device
        Where to train; auto takes a CUDA GPU when there is one.
    batch
        Patches per step, over all processes together (16).
    lr
        Highest learning rate (0.001).
    weight_decay
        Decoupled weight decay (0.02).
    dropout
        Share of features dropped before the head (0.1).
    norm
        Normalisation: batch, group (for small batches, and several CPU processes) or instance.
    neg_ratio
        Negatives per positive in an epoch, drawn anew for each (1).
    augment_strength
        Multiplies how often and how much patches are changed; 0: not at all (1).
    patience
        Epochs without a better validation before the run stops early; 0: never (10).
    precision
        Number type of the feature maps: auto takes bfloat16 where the hardware computes in it, float16 on older
        GPUs, else float32.
    seed
        Decides start weights, order and changes of patches, dropout (0).
    workers
        Processes that prepare patches; by default 1 beside a CPU, up to 8 beside a GPU.
    threads
        CPU threads of the network; 0: all cores but those of the workers, as threads that compete for a core slow
        the others down. Runs are equal to the last bit with equally many threads.
    shuffle_labels
        Control run with training labels that say nothing: the validation AUC must stay near 0.5. More would mean
        that training sees validation scans.
    tune
        Search settings until this many trials are done in the study, in all runs and processes together.
    timeout
        Seconds that this process searches at most; the training in full comes after it.
    study
        Journal file of the search (study.journal in the folder of the run); on a shared file system for several
        machines.
    tune_epochs
        Epochs of a trial; by default a third of --epochs, at least 3.
    pruner
        Which trials are given up: those below the median of the others (median), by hyperband, or none.

    Examples
    --------
    napari-alnct-train train --train-csv patches/train/patch_map.csv --val-csv patches/val/patch_map.csv \
        --epochs 20 --save-dir models
    napari-alnct-train train --train-csv patches/train --val-csv patches/val --save-dir models --resume
    napari-alnct-train train --train-csv patches/train --val-csv patches/val --save-dir models/wide \
        --feat-mult 2.0 --batch 64 --lr 2e-3 --config classifier.json
    torchrun --standalone --nproc-per-node 4 -m napari_alnct.cli.app train --train-csv patches/train \
        --val-csv patches/val --save-dir models/wide --batch 128
    napari-alnct-train train --train-csv patches/train --val-csv patches/val --save-dir models --tune 30 \
        --timeout 10800
    """
    if tune is None:
        _refuse_search_flags(timeout=timeout, study=study, tune_epochs=tune_epochs, pruner=pruner)
    refuse_unwritable_folder(save_dir)
    settings = _settings(
        config,
        {"feat_mult": feat_mult, "dropout": dropout, "norm": norm},
        {"strength": augment_strength},
        {
            **{"epochs": epochs, "batch": batch, "learning_rate": lr, "weight_decay": weight_decay, "seed": seed},
            **{"neg_ratio": neg_ratio, "patience": patience, "precision": precision, "workers": workers},
        },
    )
    with _own_threads(threads, settings.workers):
        if tune is None:
            wishes = {"device": device, "resume": resume, "overwrite": overwrite, "shuffle_labels": shuffle_labels}
            return _train_and_tell(train_csv, val_csv, save_dir, settings, wishes)
        from napari_alnct.cli.train_tuning import execute_tuning

        given = {"lr": lr, "weight_decay": weight_decay, "dropout": dropout, "neg_ratio": neg_ratio}
        given |= {"augment_strength": augment_strength, "feat_mult": feat_mult}
        refused = {"overwrite": overwrite, "shuffle_labels": shuffle_labels}
        wish: dict[str, Any] = {
            "n_trials": tune,
            "timeout_s": timeout,
            "epochs": tune_epochs,
            "study": study,
            "pruner": pruner or "median",
        }
        with stop_signals() as is_stopped:
            return execute_tuning(
                (train_csv, val_csv), save_dir, settings, wish | {"device": device}, given, refused, is_stopped
            )


def _refuse_search_flags(**flags: object) -> None:
    """Refuse flags of a search where none is wanted."""
    for name, value in flags.items():
        if value is not None:
            raise SettingsError(f"--{name.replace('_', '-')} is of a search; give --tune with it, or leave it out")


def _train_and_tell(
    train_csv: Path, val_csv: Path, save_dir: Path, settings: ClassifierSettings, wishes: dict[str, Any]
) -> int:
    """Train, and let the first process alone say how it ended."""
    try:
        with _work_lock(save_dir):
            result = _train(train_csv, val_csv, save_dir, settings, wishes)
    except (AlnctError, KeyboardInterrupt) as fault:
        if not _is_first_process():
            time.sleep(TELLING_S)
            return CANCELLED if isinstance(fault, JobCancelled | KeyboardInterrupt) else USAGE
        if isinstance(fault, JobCancelled):
            print(f"{fault}; the same command with --resume goes on there")
        raise
    if _is_first_process():
        print(_summary(result))
    return 0


def _settings(
    config: Path | None, network: dict[str, Any], augment: dict[str, Any], rest: dict[str, Any]
) -> ClassifierSettings:
    """Give the settings of the file, or the default ones, with the flags that were given."""
    from napari_alnct.training.classifier import ClassifierSettings, read_classifier_settings

    settings = read_classifier_settings(config) if config else ClassifierSettings()
    parts: dict[str, Any] = {
        "network": replace(settings.network, **_given(network)),
        "augment": replace(settings.augment, **_given(augment)),
    }
    return replace(settings, **parts, **_given(rest))


def _given(flags: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in flags.items() if value is not None}


def _train(
    train_csv: Path, val_csv: Path, save_dir: Path, settings: ClassifierSettings, wishes: dict[str, Any]
) -> TrainingResult:
    from napari_alnct.cli.training_display import TrainingDisplay
    from napari_alnct.io.patch_store import PatchStore
    from napari_alnct.training.classifier import train_classifier

    train, val = PatchStore.open(train_csv), PatchStore.open(val_csv)
    display = TrainingDisplay(settings.epochs, settings.batch, is_shown=_is_first_process())
    with display, stop_signals() as is_stopped:
        return train_classifier(
            train,
            val,
            settings,
            save_dir,
            on_epoch=display.epoch,
            on_step=display.step,
            on_note=display.line,
            is_cancelled=is_stopped,
            **wishes,
        )


def _work_lock(save_dir: Path) -> AbstractContextManager[object]:
    """Keep a second run out of the folder; of several processes of one run the first holds the lock for all."""
    if not _is_first_process():
        return nullcontext()
    from napari_alnct.batch.work_lock import WorkLock

    save_dir.mkdir(parents=True, exist_ok=True)
    return WorkLock(save_dir / "train.lock")


def _is_first_process() -> bool:
    """Tell whether this is the process that shows and writes; torchrun numbers them."""
    return os.environ.get("RANK", "0") == "0"


@contextmanager
def _own_threads(threads: int, workers: int | None) -> Iterator[None]:
    """Leave a core to each process that prepares patches: torch's threads wait busily for the slowest of them."""
    import torch

    from napari_alnct.training.classifier_run import CPU_WORKERS

    before = torch.get_num_threads()
    if threads:
        torch.set_num_threads(threads)
    elif "OMP_NUM_THREADS" not in os.environ:  # torchrun sets it
        torch.set_num_threads(max(1, before - (CPU_WORKERS if workers is None else workers)))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _summary(result: TrainingResult) -> str:
    early = ", stopped early" if result.is_early else ""
    return (
        f"best validation AUC {result.best_auc:.4f} at epoch {result.best_epoch} of {result.n_epochs}{early}; "
        f"leak guard: {result.guard} level, nothing shared\nthe model is {result.checkpoint}"
    )
