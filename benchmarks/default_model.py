"""What the bundled model finds: unseen phantoms, and the real scans of the data pack.

    python benchmarks/default_model.py [--scans 10] [--seed 900000] [--out benchmarks/results/default_model.json]

Phantoms: full LUNA16 variety (spacings, flips, padding, nodule-free scans) from a
seed that no model was trained on. Figures: share of the nodules of 3 mm and more
that are hit by LUNA16's rule, false marks per scan, centre and diameter errors,
by kind, size and slice spacing, all at the default threshold, then the FROC curve over
all candidates with its bootstrap interval over scans.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from napari_alnct.core.detector import Detector
from napari_alnct.core.findings import CaseResult, ReferenceNodule, positions_xyz_mm
from napari_alnct.data.phantom import make_phantom, plan_dataset
from napari_alnct.evaluation.bootstrap import interval
from napari_alnct.evaluation.froc import froc_curve
from napari_alnct.evaluation.matching import match_scan
from napari_alnct.io.images import read_volume
from napari_alnct.io.tables import read_annotations
from napari_alnct.models.catalogue import find_model

LEAST_DIAMETER_MM = 3.0  # LUNA16's smallest
KINDS = ("solid", "part_solid", "ground_glass")


def judge(
    result: CaseResult, nodules: list[ReferenceNodule], excluded: list[ReferenceNodule], *, shown_only: bool
) -> tuple[Any, Any]:
    marks = result.shown if shown_only else result.candidates
    match = match_scan(
        positions_xyz_mm(marks),
        np.array([c.score for c in marks]),
        positions_xyz_mm(nodules),
        np.array([n.diameter_mm for n in nodules]),
        positions_xyz_mm(excluded),
        np.array([n.diameter_mm for n in excluded]),
    )
    return match, marks


def phantom_figures(detector: Detector, n_scans: int, seed: int) -> dict[str, Any]:
    rows, matches, n_errors = [], [], 0
    for number, settings in enumerate(plan_dataset(n_scans, seed)):
        scan = make_phantom(settings)
        result = detector.detect(scan.volume)
        large = [n for n in scan.nodules if n.diameter_mm >= LEAST_DIAMETER_MM]
        excluded = [*scan.excluded, *(n for n in scan.nodules if n.diameter_mm < LEAST_DIAMETER_MM)]
        match, marks = judge(result, large, excluded, shown_only=True)
        n_errors += len(match.false_positives)
        for nodule, mark in zip(large, match.nodule_marks, strict=True):
            row: dict[str, Any] = {
                "diameter_mm": nodule.diameter_mm,
                "kind": nodule.kind,
                "slice_mm": settings.spacing_zyx_mm[0],
                "is_found": bool(mark >= 0),
            }
            if mark >= 0:
                step = np.subtract(marks[mark].position_xyz_mm, nodule.position_xyz_mm)
                row["centre_error_mm"] = float(np.linalg.norm(step))
                row["diameter_error"] = abs(marks[mark].diameter_mm / nodule.diameter_mm - 1)
            rows.append(row)
        matches.append(judge(result, large, excluded, shown_only=False)[0])
        print(
            f"phantom {number + 1}: {sum(m >= 0 for m in match.nodule_marks)} of {len(large)} nodules, "
            f"{len(match.false_positives)} false marks, spacing {settings.spacing_zyx_mm}, "
            f"{'flipped' if settings.direction[0] < 0 else 'not flipped'}",
            flush=True,
        )
    curve, bands = froc_curve(matches), intervals(matches)
    hits = [r for r in rows if r["is_found"]]
    return {
        "n_scans": n_scans,
        "seed": seed,
        "n_nodules": len(rows),
        "sensitivity": len(hits) / len(rows),
        "false_marks_per_scan": n_errors / n_scans,
        "median_centre_error_mm": float(np.median([r["centre_error_mm"] for r in hits])),
        "median_diameter_error": float(np.median([r["diameter_error"] for r in hits])),
        "by_kind": {k: _share([r for r in rows if r["kind"] == k]) for k in KINDS},
        "by_size_mm": {
            f"{a}-{b}": _share([r for r in rows if a <= r["diameter_mm"] < b])
            for a, b in ((3, 4), (4, 5), (5, 8), (8, 12), (12, 40))
        },
        "by_slice_spacing_mm": {
            f"{a}-{b}": _share([r for r in rows if a <= r["slice_mm"] < b])
            for a, b in ((0.4, 1.0), (1.0, 1.5), (1.5, 2.0), (2.0, 3.0))
        },
        "froc_sensitivity": [round(float(v), 4) for v in curve.sensitivity_at()],
        "froc_sensitivity_ci95": bands[:-1],
        "cpm": round(curve.cpm, 4),
        "cpm_ci95": bands[-1],
    }


def intervals(matches: list[Any], n_samples: int = 1000) -> list[list[float]]:
    """Give 95 % intervals of the seven sensitivities, then of CPM, from a bootstrap over scans."""
    generator, samples = np.random.RandomState(0), []
    while len(samples) < n_samples:
        drawn = [matches[k] for k in generator.randint(len(matches), size=len(matches))]
        if sum(len(match.nodule_scores) for match in drawn):
            curve = froc_curve(drawn)
            samples.append([*curve.sensitivity_at(), curve.cpm])
    bands = interval(np.array(samples)).T
    return [[round(float(value), 3) for value in pair] for pair in bands]


def _share(rows: list[dict[str, Any]]) -> str:
    return f"{sum(r['is_found'] for r in rows)} of {len(rows)}"


def real_figures(detector: Detector, pack: Path) -> list[dict[str, Any]]:
    tables = pack / "luna16" / "CSVFILES"
    annotations, others = (
        read_annotations(tables / "annotations.csv"),
        read_annotations(tables / "annotations_excluded.csv"),
    )
    rows = []
    for path in sorted((pack / "luna16").glob("subset*/*.mhd")):
        result = detector.detect(read_volume(path))
        nodules = [n for n in annotations if n.series_uid == result.series_uid]
        excluded = [n for n in others if n.series_uid == result.series_uid]
        match, marks = judge(result, nodules, [], shown_only=True)
        strict, _ = judge(result, nodules, excluded, shown_only=True)
        rows.append(
            {
                "series": result.series_uid[-12:],
                "n_nodules": len(nodules),
                "n_found": int((match.nodule_marks >= 0).sum()),
                "other_marks": len(match.false_positives),
                "of_these_on_excluded_findings": len(match.false_positives) - len(strict.false_positives),
                "centre_error_mm": [
                    float(np.linalg.norm(np.subtract(marks[m].position_xyz_mm, n.position_xyz_mm)))
                    for n, m in zip(nodules, match.nodule_marks, strict=True)
                    if m >= 0
                ],
                "seconds": {k: round(v, 2) for k, v in result.seconds.items()},
            }
        )
    return rows


def run() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scans", type=int, default=10)
    parser.add_argument("--seed", type=int, default=900_000)
    parser.add_argument("--model", default="default")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/default_model.json"))
    options = parser.parse_args()
    model = find_model(options.model)
    detector = Detector.load(model.path, name=model.name, sha256=model.sha256)
    figures: dict[str, Any] = {
        "model": model.name,
        "sha256": detector.checkpoint.sha256,
        "threshold": detector.recipe.default_threshold(),
        "phantoms": phantom_figures(detector, options.scans, options.seed),
    }
    pack = Path(os.environ.get("ALNCT_DATA", "../shared/data"))
    if (pack / "luna16").is_dir():
        figures["real scans (both were in the training data)"] = real_figures(detector, pack)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(figures, indent=1) + "\n")
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    run()
