"""What the bundled recipe finds on scans and nodules that it never saw: the leave-scans-out folds.

    make model-folds DATA=../shared/data
    python benchmarks/model_folds.py --data ../shared/data --runs runs/folds [--first-stage-alone]

Every fold's model (train-detector --config folds --hold-out K/3) searches the scans of its
fold, as they are, six times with ten unseen nodules of LUNA16's sizes put in, and six times with
ten of about the cubes' own sizes, which are larger. Scores of a fold are
weighted on the other folds. False marks are counted on the LIDC-IDRI scans, whose findings
are all marked or excluded; the QIN scans give hits only. Intervals: bootstrap over scans.
Writes the figures, and the calibration that the shipped model takes over.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from napari_alnct.core.checkpoint import read_checkpoint
from napari_alnct.core.detector import Detector
from napari_alnct.core.findings import positions_xyz_mm
from napari_alnct.evaluation.matching import match_scan
from napari_alnct.io.images import read_volume
from napari_alnct.io.tables import read_annotations
from napari_alnct.training.calibration import Calibration, points, write_calibration
from napari_alnct.training.donor_drawing import median_contrast_hu
from napari_alnct.training.fold_groups import groups
from napari_alnct.training.fold_judging import (
    cross_fitted,
    fit_searches,
    froc_of,
    froc_summary,
    of_kind,
    pasted_lung,
    placing,
    untouched,
)
from napari_alnct.training.fold_scores import AS_IT_IS, LUNA16_SIZES, OWN_SIZES, Search, score_fold
from napari_alnct.training.folds import PackFold, pack_folds
from napari_alnct.training.settings import BuildSettings
from napari_alnct.training.sources import load_pack_donors, pack_series

N_FOLDS = 3
Scored = Any


def figures_of(folds: list[list[Search]], contrasts_hu: dict[str, float]) -> dict[str, Any]:
    everything = [s for part in cross_fitted(folds) for s in part]
    scored = of_kind(everything, AS_IT_IS, LUNA16_SIZES)
    own_sizes = of_kind(everything, OWN_SIZES)
    first = [s for part in cross_fitted(folds, second_look=False) for s in of_kind(part, LUNA16_SIZES)]
    threshold = froc_of(scored).threshold_at(1.0)
    return {
        "both stages": froc_summary(scored),
        "first stage alone": froc_summary(first),
        "both stages, cubes at 0.6 to 1.6 of their own size": froc_summary(own_sizes),
        "per fold": [froc_summary(of_kind(part, LUNA16_SIZES)) for part in cross_fitted(folds)],
        "threshold": threshold,
        "by group at 1 false mark per scan": groups(scored, 1.0, contrasts_hu),
        "by group at 4 false marks per scan": groups(scored, 4.0, contrasts_hu),
        "placing of what is shown": placing(scored, threshold),
        "pasted plain lung, at the threshold": pasted_lung(everything, threshold),
        "scans as they are, at the threshold": untouched(scored, threshold),
    }


def donor_contrasts_hu(pack: Path) -> dict[str, float]:
    donors = load_pack_donors(pack, ceiling_hu=BuildSettings().crops.high_hu)
    return {donor.name: median_contrast_hu(donor) for donor in donors}


def whole_scans(pack: Path, models: list[tuple[Path, PackFold]]) -> list[dict[str, Any]]:
    """Give what each fold's model shows on LUNA16 scans at full resolution that it never saw, from file to marks."""
    series, rows = pack_series(pack), []
    annotations = read_annotations(pack / "luna16" / "CSVFILES" / "annotations.csv")
    others = read_annotations(pack / "luna16" / "CSVFILES" / "annotations_excluded.csv")
    for path in sorted((pack / "luna16").glob("subset*/*.mhd")):
        volume = read_volume(path)
        case = next(name for name, uid in series.items() if uid == volume.series_uid)
        for model in (model for model, fold in models if case in fold.cases):
            result = Detector.load(model).detect(volume)
            nodules, excluded = (
                [n for n in table if n.series_uid == volume.series_uid] for table in (annotations, others)
            )
            match = match_scan(
                positions_xyz_mm(result.candidates),
                np.array([c.score for c in result.candidates]),
                positions_xyz_mm(nodules),
                np.array([n.diameter_mm for n in nodules]),
                positions_xyz_mm(excluded),
                np.array([n.diameter_mm for n in excluded]),
            )
            errors = match.false_positive_scores
            rows.append(
                {
                    "case": case,
                    "model": result.model_name,
                    "threshold": result.threshold,
                    "scores of its nodules": [round(float(v), 3) for v in match.nodule_scores],
                    "false marks above each": [int((errors >= v).sum()) for v in match.nodule_scores],
                    "false marks shown": int((errors >= result.threshold).sum()),
                }
            )
    return rows


def calibration_of(folds: list[list[Search]], results: dict[str, Any]) -> Calibration:
    searches = [search for part in folds for search in part]
    joint, alone = fit_searches(searches), fit_searches(searches, second_look=False)
    kept = [s for s in searches if s.kind == LUNA16_SIZES]
    curve = froc_of([(s, joint.scores(s.first, s.second)) for s in kept])
    first_curve = froc_of([(s, alone.scores(s.first, s.second)) for s in kept])
    return Calibration(
        combine=(joint.detector, joint.classifier, joint.constant),
        first_stage_scale=(alone.detector, alone.constant),
        operating_points=points(curve),
        first_stage_points=points(first_curve),
        results={"leave-scans-out folds": results["both stages"], "first stage alone": results["first stage alone"]},
    )


def own_fold(model: Path) -> PackFold:
    """Give what a model file says it held out, for a model that belongs to no fold."""
    facts = read_checkpoint(model).recipe.training
    cases = tuple(name for name in facts["held_out_cases"] if name.startswith(("LIDC", "QIN")))
    return PackFold(cases=cases, cubes=tuple(facts["held_out_donors"]))


def budget_of(model: Path) -> dict[str, Any]:
    recipe = read_checkpoint(model).recipe
    settings = recipe.training["settings"]
    return {
        "model": recipe.name,
        "patches of the first stage": settings["first_stage"]["n_patches"],
        "cubes of the second look": settings["second_look"]["n_patches"],
        "phantoms": settings["n_phantoms"],
    }


def tables(figures: dict[str, Any]) -> str:
    """Give the figures as Markdown for the model card."""
    heads = ["1/8", "1/4", "1/2", "1", "2", "4", "8"]
    lines = ["| | " + " | ".join(heads) + " | CPM |", "|---|" + "---|" * 8]
    for name in ("both stages", "first stage alone", "both stages, cubes at 0.6 to 1.6 of their own size"):
        row = figures[name]
        values = [f"{v:.3f}" for v in row["sensitivity"]]
        lines.append(f"| {name}, {row['n_nodules']} nodules | {' | '.join(values)} | {row['cpm']:.3f} |")
        bands = [f"{a:.2f}-{b:.2f}" for a, b in (*row["sensitivity_ci95"], row["cpm_ci95"])]
        lines.append(f"| 95 % interval over {row['n_scans']} scans | {' | '.join(bands)} |")
    one, four = (figures[f"by group at {n}"] for n in ("1 false mark per scan", "4 false marks per scan"))
    lines += ["", "| inserted nodules | found at 1 false mark per scan | at 4 |", "|---|---|---|"]
    for group, row in one.items():
        found = [f"{r['found']} of {r['n']} ({100 * (r['sensitivity'] or 0):.0f} %)" for r in (row, four[group])]
        lines.append(f"| {group} | {found[0]} | {found[1]} |")
    lines += [
        "",
        "| scan as it is | its nodules: errors per scan at which each appears | other marks shown |",
        "|---|---|---|",
    ]
    for row in figures["scans as they are, at the threshold"]:
        rates = [
            f"{n['diameter_mm']:.1f} mm: {'missed' if n['fp_per_scan'] is None else n['fp_per_scan']}"
            for n in row["nodules"]
        ]
        kind = "false" if row["are_errors"] else "unknown, more lesions are possible"
        lines.append(f"| {row['case']} | {', '.join(rates) or 'none'} | {row['marks_on_nothing']} ({kind}) |")
    return "\n".join(lines)


def run() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("ALNCT_DATA", "../shared/data")))
    parser.add_argument("--runs", type=Path, default=Path("runs/folds"))
    parser.add_argument("--model", type=Path, help="judge one model on what it held out, instead of the folds")
    parser.add_argument("--mirrored-passes", type=int, default=0, help="further searches of the mirrored scans, 0 to 3")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/model_folds.json"))
    parser.add_argument("--calibration", type=Path, default=Path("benchmarks/results/model_calibration.json"))
    options = parser.parse_args()
    if options.model:
        todo = [(options.model, own_fold(options.model), options.out.with_suffix(".scores.json"))]
    else:
        folds = pack_folds(options.data, N_FOLDS)
        places = [options.runs / f"fold_{number}" for number in range(N_FOLDS)]
        models = [next(iter(sorted(place.glob("*.safetensors"))), None) for place in places]
        todo = [
            (model, fold, place / f"scores{options.mirrored_passes or ''}.json")
            for model, fold, place in zip(models, folds, places, strict=True)
            if model is not None
        ]
        for place, model in zip(places, models, strict=True):
            print(f"{place}: {model.name if model else 'not run'}")
    searched = [
        score_fold(model, options.data, fold, out, print, mirrored_passes=options.mirrored_passes)
        for model, fold, out in todo
    ]
    figures = {
        "folds": [budget_of(model) for model, _, _ in todo],
        **figures_of(searched, donor_contrasts_hu(options.data)),
    }
    if not options.model and not options.mirrored_passes:
        figures["LUNA16 scans at full resolution"] = whole_scans(options.data, [(m, fold) for m, fold, _ in todo])
        figures["folds"] += ["not run"] * (N_FOLDS - len(todo))
        write_calibration(options.calibration, calibration_of(searched, figures))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(figures, indent=1) + "\n")
    print(json.dumps(figures, indent=1))
    print(tables(figures))


if __name__ == "__main__":
    run()
