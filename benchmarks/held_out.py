"""What the bundled model finds and misses among held-out cubes inserted into held-out real scans, by size.

    python benchmarks/held_out.py --data ../shared/data [--out benchmarks/results/held_out.json]

Scans, cubes, seeds and thresholds are those stored with the model, so the figures
are those of the model card, split by diameter at the default threshold.
"""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from napari_alnct.core.checkpoint import read_checkpoint
from napari_alnct.core.inference import Runner, choose_precision
from napari_alnct.evaluation.froc import froc_curve
from napari_alnct.models.catalogue import find_model
from napari_alnct.training.calibration import score_held_out
from napari_alnct.training.marks import judge
from napari_alnct.training.materials import gather
from napari_alnct.training.settings import BuildSettings

SIZES_MM = ((3, 5), (5, 8), (8, 12), (12, 40))


def run() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("ALNCT_DATA", "../shared/data")))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/held_out.json"))
    options = parser.parse_args()
    checkpoint = read_checkpoint(find_model().path)
    recipe, cpu = checkpoint.recipe, torch.device("cpu")
    assert checkpoint.detector is not None
    assert checkpoint.classifier is not None
    settings = replace(BuildSettings(), n_phantoms=0, n_phantoms_held_out=0)
    materials = gather(settings, options.data, print)
    assert [donor.name for donor in materials.held_donors] == recipe.training["held_out_donors"]
    first, second = (Runner(n, cpu, choose_precision(cpu)) for n in (checkpoint.detector, checkpoint.classifier))
    a, b, c = recipe.combine
    rows, matches, n_errors = [], [], 0
    for scored in score_held_out(first, second, materials, settings, print):
        case, places = scored.marks.case, scored.marks.peaks.positions_xyz_mm
        scores = 1 / (1 + np.exp(-(a * scored.first + b * scored.second + c)))
        matches.append(judge(case, places, scores))
        is_shown = scores >= recipe.default_threshold()
        shown = judge(case, places[is_shown], scores[is_shown])
        n_errors += len(shown.false_positives)
        diameters = scored.marks.peaks.diameters_mm[is_shown]
        truth = case.geometry.index_to_world(case.centres_zyx_vox)
        for i, mark in enumerate(shown.nodule_marks):
            row: dict[str, Any] = {"diameter_mm": float(case.diameters_mm[i]), "is_found": bool(mark >= 0)}
            if mark >= 0:
                row["centre_error_mm"] = float(np.linalg.norm(places[is_shown][mark] - truth[i]))
                row["diameter_error"] = float(abs(diameters[mark] / case.diameters_mm[i] - 1))
            rows.append(row)
    hits = [row for row in rows if row["is_found"]]
    curve = froc_curve(matches)
    figures = {
        "model": recipe.name,
        "n_runs": len(matches),
        "n_nodules": len(rows),
        "froc_sensitivity": [round(float(v), 4) for v in curve.sensitivity_at()],
        "cpm": round(curve.cpm, 4),
        "default_threshold": recipe.default_threshold(),
        "found_at_default": len(hits),
        "false_marks_per_run_at_default": n_errors / len(matches),
        "median_centre_error_mm": float(np.median([r["centre_error_mm"] for r in hits])),
        "median_diameter_error": float(np.median([r["diameter_error"] for r in hits])),
        "found_by_size_mm": {
            f"{low}-{high}": f"{sum(r['is_found'] for r in part)} of {len(part)}"
            for low, high in SIZES_MM
            for part in [[r for r in rows if low <= r["diameter_mm"] < high]]
        },
    }
    options.out.write_text(json.dumps(figures, indent=1) + "\n")
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    run()
