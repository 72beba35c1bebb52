"""The subcommand ``eval``: how well a classifier tells patches with nodules from others."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter, validators

from napari_alnct.cli.count_bar import CountBar
from napari_alnct.cli.outputs import refuse_unwritable_folder
from napari_alnct.core.config import Device, Precision
from napari_alnct.core.errors import SettingsError
from napari_alnct.core.notice import NOTICE

Samples = Annotated[int, Parameter(validator=validators.Number(gte=0, lte=10_000))]
Seed = Annotated[int, Parameter(validator=validators.Number(gte=0, lte=2**32 - 1))]
Batch = Annotated[int, Parameter(validator=validators.Number(gte=1, lte=4096))]
Yes = Annotated[bool, Parameter(negative="")]


def execute(
    *,
    csv: Path,
    ckpt: str,
    plot_dir: Path,
    out_csv: Path | None = None,
    feat_mult: float | None = None,
    config: Path | None = None,
    operating_point: str = "stored",
    bootstrap: Samples = 1000,
    device: Device = "auto",
    precision: Precision = "float32",
    batch: Batch = 32,
    seed: Seed = 0,
    allow_trained_on: Yes = False,
) -> int:
    r"""Judge a classifier on patches: ROC, precision-recall, confusion matrix, calibration, by size.

    Writes metrics.json (all figures), roc.png, pr.png, confusion.png, calibration.png, by_size.png, and the
    curves as CSV. 95 % intervals come from drawing whole scans, because patches of one scan are alike; DeLong's
    interval of the AUC, which ignores that, is in metrics.json for comparison.

    Parameters
    ----------
    csv
        patch_map.csv of `sample`, or the folder that holds it; scans that the model was not trained on.
    ckpt
        Model: a .safetensors file (with a detector in it, its second look is judged), the name of a bundled
        model such as default, or weights in a .pth or .pt file.
    plot_dir
        Folder to write; made when missing.
    out_csv
        Write the score of every patch: LUNA16's columns for `froc`, with label, diameter_mm and kind.
    feat_mult
        Channel multiplier; checked against a .safetensors file, needed for a .pth file that was not trained with 1.
    config
        JSON with the network's settings of a .pth file; by default the .json beside it under the same name.
    operating_point
        Threshold of the confusion matrix: stored (with the model; 0.5 where it stores none), a number, sens=0.95,
        spec=0.95 or youden. The last three are chosen on these same patches, and marked optimistic.
    bootstrap
        Samples over scans for the 95 % intervals; 0 for none.
    device
        Where the network runs; auto takes a CUDA GPU when there is one.
    precision
        float32 gives the same figures on all machines; auto takes bfloat16 where the processor has it.
    batch
        Patches at once.
    seed
        Of the bootstrap.
    allow_trained_on
        Judge scans that the model was trained on instead of refusing; says so in the results.

    Examples
    --------
    napari-alnct-train eval --csv patches/val/patch_map.csv --ckpt models/best.safetensors --plot-dir plots/val \
        --out-csv results/val_candidates.csv
    napari-alnct-train eval --csv patches/test --ckpt models/best.safetensors --plot-dir plots/test \
        --operating-point sens=0.95
    napari-alnct-train eval --csv patches/val/patch_map.csv --ckpt weights.pth --feat-mult 2.0 --plot-dir plots/pth
    """
    from napari_alnct.evaluation.operating_point import parse_rule

    refuse_unwritable_folder(plot_dir)
    if out_csv is not None:
        refuse_unwritable_folder(out_csv.parent)
        if out_csv.is_dir():
            raise SettingsError(f"{out_csv.name} is a folder; name a file in it, such as candidates.csv")
    rule = parse_rule(operating_point)

    from napari_alnct.batch.classifier_files import load_classifier
    from napari_alnct.batch.evaluation import EvaluationWish, evaluate
    from napari_alnct.batch.evaluation_files import write_evaluation, write_scores
    from napari_alnct.cli.eval_summary import print_summary
    from napari_alnct.io.patch_store import PatchStore

    store = PatchStore.open(csv)
    classifier = load_classifier(ckpt, feat_mult=feat_mult, config=config, patch_vox=store.patch_vox)
    wish = EvaluationWish(
        rule=rule,
        n_samples=bootstrap,
        seed=seed,
        device=device,
        precision=precision,
        batch=batch,
        allow_trained_on=allow_trained_on,
    )
    with CountBar("patches") as bar:
        evaluation = evaluate(store, classifier, wish, on_progress=bar.show)
    if out_csv is not None:
        write_scores(out_csv, store, evaluation.report.patches.scores.tolist())
    written = write_evaluation(plot_dir, evaluation, store, classifier)
    print_summary(evaluation.report, classifier.name)
    print(f"Written to {plot_dir}: {', '.join(written)}")
    if out_csv is not None:
        print(f"Scores of all patches: {out_csv}")
    print(NOTICE)
    return 0
