"""The subcommand ``explain-eval``: how far a model's explanations can be trusted."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter, validators

from napari_alnct.cli.options import DEFAULT_READ_FLAGS, ReadFlags
from napari_alnct.cli.outputs import refuse_unwritable_folder
from napari_alnct.cli.stop_signals import stop_signals
from napari_alnct.core.config import Device
from napari_alnct.core.errors import SettingsError
from napari_alnct.core.notice import NOTICE

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_alnct.batch.explain_eval_cases import ScanSource
    from napari_alnct.batch.explain_eval_plan import ExplainEvalWish, Models
    from napari_alnct.core.checkpoint import Checkpoint

Cases = Annotated[int, Parameter(validator=validators.Number(gte=1, lte=1000))]
Count = Annotated[int, Parameter(validator=validators.Number(gte=0, lte=100))]
Nodules = Annotated[int, Parameter(validator=validators.Number(gte=1, lte=100))]
Samples = Annotated[int, Parameter(validator=validators.Number(gte=0, lte=10_000))]
Seed = Annotated[int, Parameter(validator=validators.Number(gte=0, lte=2**31 - 1))]
Many = Annotated[tuple[str, ...], Parameter(consume_multiple=True, negative="")]
Files = Annotated[tuple[Path, ...], Parameter(consume_multiple=True, negative="")]
Yes = Annotated[bool, Parameter(negative="")]
Millimetres = Annotated[float, Parameter(validator=validators.Number(gte=0, lte=20))]
DEFAULT_CASES = 10
QUICK_CASES, QUICK_NODULES = 2, 2


def execute(
    *,
    out_dir: Path,
    model: str = "default",
    score: str = "",
    methods: Many = (),
    layers: Many = (),
    measures: Many = (),
    cases: Cases | None = None,
    nodules: Nodules = 4,
    occlusion: Count = 1,
    quick: Yes = False,
    scans: Files = (),
    masks: Files = (),
    data: Path | None = None,
    shuffled_model: str | None = None,
    seed_models: Many = (),
    jitter_mm: Millimetres = 12.0,
    bootstrap: Samples = 1000,
    seed: Seed = 0,
    device: Device = "auto",
    overwrite: Yes = False,
    reading: ReadFlags = DEFAULT_READ_FLAGS,
) -> int:
    """Judge a model's explanations on nodules with masks: whether maps are plausible, true to the network, stable.

    Writes explain_eval.json (all figures) and explain_eval.html (one page with examples). Every method at every
    layer stands beside three maps that know nothing of the network: random, centre prior, input intensity.
    By default on synthetic chests that no model was trained on. Finished scans are kept: a run that was stopped
    goes on when the same command is given again.

    Parameters
    ----------
    out_dir
        Folder to write; made when missing.
    model
        Name of a bundled model, or the path of a .safetensors file.
    score
        Whose logit is explained: second-look or first-stage; by default the model's second look.
    methods
        Of gradcam, gradcam++, hirescam, layercam, "integrated gradients", occlusion; by default all.
    layers
        Layers of the network; by default all that are offered.
    measures
        Of localisation, removal (F1-F3), randomisation (F4), stability (F6, F7), occlusion (F9); by default all.
    cases
        Number of synthetic chests (10), or with --data how often nodules are put into each scan (3).
    nodules
        Most true positives of each scan.
    occlusion
        Of these with occlusion, which takes 1,000 passes each.
    quick
        A look that says little: 2 chests, 2 nodules of each, no occlusion.
    scans
        Scans to judge on instead, with --masks.
    masks
        One mask per scan, in the same order; connected pieces are the nodules.
    data
        Folder of the data pack: nodules and scans that the model held out, the nodules put into the scans.
    shuffled_model
        A model trained on shuffled labels; its maps must differ (F4).
    seed_models
        The same model trained with other seeds (F8).
    jitter_mm
        How far patches are moved off the nodule along each axis.
    bootstrap
        Samples over scans for the 95 % intervals; 0 for none.
    seed
        Of the moves, the destroyed weights and the bootstrap.
    device
        Where the network runs; auto takes a CUDA GPU when there is one.
    overwrite
        Measure again what a stopped run had finished.

    Examples
    --------
    napari-alnct-train explain-eval --out-dir explanations
    napari-alnct-train explain-eval --out-dir quick_look --quick --methods hirescam gradcam
    napari-alnct-train explain-eval --out-dir real --scans scan.mhd --masks nodules.mha
    napari-alnct-train explain-eval --out-dir fold_0 --model runs/folds/fold_0/model.safetensors --data ../shared/data
    """
    from napari_alnct.models.catalogue import find_model

    refuse_unwritable_folder(out_dir)
    if bool(scans or masks) + bool(data) > 1:
        raise SettingsError("--scans and --data exclude each other; choose one source")
    entry = find_model(model)

    from napari_alnct.batch.explain_eval_measuring import MEASURES
    from napari_alnct.batch.explain_eval_plan import ExplainEvalWish, Models

    with stop_signals() as is_cancelled:
        checkpoint = _read(entry.name if entry.sha256 else str(entry.path))
        models = Models(
            checkpoint=checkpoint,
            name=entry.name,
            shuffled=_read(shuffled_model) if shuffled_model else None,
            seeds=tuple(_read(one) for one in seed_models),
        )
        wish = ExplainEvalWish(
            score_name=score.replace("-", " "),
            methods=methods,
            layers=layers,
            measures=measures or MEASURES,
            nodules_per_scan=QUICK_NODULES if quick else nodules,
            occlusion_per_scan=0 if quick else occlusion,
            jitter_mm=jitter_mm,
            n_samples=bootstrap,
            seed=seed,
            device=device,
        )
        source = _source(checkpoint, QUICK_CASES if quick else cases, scans, masks, data, reading)
        return _run(out_dir, models, source, wish, overwrite, is_cancelled)


def _read(name: str) -> Checkpoint:
    from napari_alnct.core.checkpoint import read_checkpoint
    from napari_alnct.models.catalogue import find_model

    entry = find_model(name)
    return read_checkpoint(entry.path, sha256=entry.sha256)


def _source(
    checkpoint: Checkpoint,
    cases: int | None,
    scans: tuple[Path, ...],
    masks: tuple[Path, ...],
    data: Path | None,
    reading: ReadFlags,
) -> ScanSource:
    """Give where scans come from."""
    from napari_alnct.batch.explain_eval_cases import MaskSource, PhantomSource
    from napari_alnct.batch.explain_eval_pack import PackSource

    prepare = checkpoint.recipe.prepare
    if scans or masks:
        return MaskSource.of(scans, masks, prepare, reading.options())
    if data is not None:
        if not (data / "training" / "scans.csv").is_file():
            raise SettingsError(f"{data.name}: no training/scans.csv in it; name the folder of the data pack")
        return PackSource.of(data, checkpoint.recipe, n_turns=cases or 3)
    return PhantomSource(n_scans=cases or DEFAULT_CASES, prepare=prepare)


def _run(
    out_dir: Path,
    models: Models,
    source: ScanSource,
    wish: ExplainEvalWish,
    overwrite: bool,
    is_cancelled: Callable[[], bool],
) -> int:
    """Measure, write, and tell."""
    from napari_alnct.batch.explain_eval import evaluate_to_folder
    from napari_alnct.cli.explain_eval_summary import StepBar, print_summary

    with StepBar() as bar:
        document, written, notes = evaluate_to_folder(
            out_dir, models, source, wish, overwrite=overwrite, on_progress=bar.show, is_cancelled=is_cancelled
        )
    for note in notes:
        print(f"note: {note}")
    print_summary(document)
    print(f"Written to {out_dir}: {', '.join(path.name for path in written)}")
    print(NOTICE)
    return 0
