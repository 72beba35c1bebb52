"""What each main ingredient of the bundled recipe buys: trained again without it, at a small stated budget.

    make model-ablation DATA=../shared/data
    python benchmarks/model_ablation.py --data ../shared/data [--rows "no insertion"] [--judge-only]

One fold is held out (0/3), one seed; every row has the same budget (recipes/ablation.yaml). A row
that was stopped goes on where it was; rows that were never run stand as "not run".
"""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from napari_alnct.training.build import run_build
from napari_alnct.training.build_run import BuildRun
from napari_alnct.training.fold_groups import groups
from napari_alnct.training.fold_judging import cross_fitted, froc_summary, of_kind
from napari_alnct.training.fold_scores import LUNA16_SIZES, score_fold
from napari_alnct.training.folds import fold_settings, pack_folds
from napari_alnct.training.settings import BuildSettings, read_build_settings

FOLD, N_FOLDS = 0, 3
WITHOUT: dict[str, dict[str, Any]] = {
    "whole recipe": {},
    "no insertion": {"crops": {"insertion_share": 0.0, "control_share": 0.0}},
    "no phantoms": {"n_phantoms": 0},
    "no made hard negatives": {"crops": {"imitation_share": 0.0}},
    "no mining": {"mining_at": ()},
    "no turned and scaled hosts": {"crops": {"warp_share": 0.0}},
    "sharpened patches added": {"crops": {"sharpen_share": 0.25}},
    "fewer nodules a patch (1 to 4)": {"crops": {"most_insertions": 4}},
    "more nodules a patch (1 to 10)": {"crops": {"most_insertions": 10}},
    "no varied donors": {"crops": {"is_varied": False}},
    "no pasted plain lung": {"crops": {"control_share": 0.0}},
}


def row_name(row: str) -> str:
    return "-".join("".join(c if c.isalnum() else " " for c in row).split())


def settings_of(row: str, base: BuildSettings) -> BuildSettings:
    changes = dict(WITHOUT[row])
    crops = replace(base.crops, **changes.pop("crops", {}))
    return replace(base, name=row_name(row), crops=crops, **changes)


def figures_of(model: Path, data: Path, fold: Any, folder: Path) -> dict[str, Any]:
    rows: dict[str, Any] = {}
    searches = score_fold(model, data, fold, folder / "scores.json", print)
    for name, second_look in (("both stages", True), ("first stage alone", False)):
        scored = of_kind(cross_fitted([searches], second_look=second_look)[0], LUNA16_SIZES)
        rows[name] = froc_summary(scored) | {"by group at 1 false mark per scan": groups(scored, 1.0)}
    return rows


def run() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("ALNCT_DATA", "../shared/data")))
    parser.add_argument("--runs", type=Path, default=Path("runs/ablation"))
    parser.add_argument("--rows", nargs="*", choices=list(WITHOUT), default=list(WITHOUT))
    parser.add_argument("--judge-only", action="store_true", help="train nothing")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/model_ablation.json"))
    options = parser.parse_args()
    base, folds = read_build_settings(Path("ablation")), pack_folds(options.data, N_FOLDS)
    table: dict[str, Any] = {"budget": {"first stage": base.first_stage.n_patches, "fold": f"{FOLD}/{N_FOLDS}"}}
    for row in WITHOUT:
        folder = options.runs / row_name(row)
        settings = fold_settings(settings_of(row, base), folds, FOLD)
        model = folder / f"{settings.name}.safetensors"
        if row in options.rows and not model.is_file() and not options.judge_only:
            print(f"== {row}", flush=True)
            work = BuildRun(folder=folder, log=lambda line: print(line, flush=True), device=options.device)
            run_build(settings, options.data, work, options.runs / "cases")
        table[row] = figures_of(model, options.data, folds[FOLD], folder) if model.is_file() else "not run"
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(table, indent=1) + "\n")
    for row in WITHOUT:
        found = table[row]
        print(f"{row:28}", found if found == "not run" else found["first stage alone"]["cpm"], flush=True)


if __name__ == "__main__":
    run()
