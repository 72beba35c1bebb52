"""Whether bfloat16 is exact enough: candidates of the bundled model in bfloat16 against float32.

    python benchmarks/precision.py [--scans 3] [--out benchmarks/results/precision.json]

Candidates scoring 0.05 or more in float32 are looked up in the bfloat16 result
(nearest within 4 mm): share found, position and score differences, and whether
the marks at the default threshold are the same.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from napari_alnct.core.detector import Detector
from napari_alnct.core.findings import positions_xyz_mm
from napari_alnct.core.volume import Volume
from napari_alnct.data.phantom import make_phantom, plan_dataset
from napari_alnct.io.images import read_volume
from napari_alnct.models.catalogue import find_model

LEAST_SCORE, REACH_MM = 0.05, 4.0


def volumes(n_scans: int) -> list[Volume]:
    pack = Path(os.environ.get("ALNCT_DATA", "../shared/data")) / "luna16"
    real = [read_volume(path) for path in sorted(pack.glob("subset*/*.mhd"))]
    return [*(make_phantom(settings).volume for settings in plan_dataset(n_scans, 900_200)), *real]


def run() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scans", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/precision.json"))
    options = parser.parse_args()
    model = find_model()
    exact, quick = (Detector.load(model.path, device="cpu", precision=p) for p in ("float32", "bfloat16"))
    steps, differences, n_lost, n_changed = [], [], 0, 0
    seconds: dict[str, list[float]] = {"float32": [], "bfloat16": []}
    for volume in volumes(options.scans):
        results = [detector.detect(volume) for detector in (exact, quick)]
        for name, result in zip(seconds, results, strict=True):
            seconds[name].append(result.seconds["network"] + result.seconds["second look"])
        near = positions_xyz_mm(results[1].candidates)
        for candidate in results[0].candidates:
            if candidate.score < LEAST_SCORE:
                continue
            distance = np.linalg.norm(near - candidate.position_xyz_mm, axis=1)
            best = int(distance.argmin())
            if distance[best] > REACH_MM:
                n_lost += 1
                continue
            twin = results[1].candidates[best]
            steps.append(float(distance[best]))
            differences.append(abs(twin.score - candidate.score))
            n_changed += (twin.score >= results[0].threshold) != (candidate.score >= results[0].threshold)
    figures: dict[str, Any] = {
        "model": model.name,
        "n_candidates": len(steps) + n_lost,
        "lost": n_lost,
        "median_step_mm": float(np.median(steps)),
        "largest_step_mm": max(steps),
        "median_score_difference": float(np.median(differences)),
        "largest_score_difference": max(differences),
        "marks_that_change_side_of_the_threshold": n_changed,
        "seconds_networks_median": {name: round(float(np.median(values)), 2) for name, values in seconds.items()},
    }
    figures["ratio_float32_to_bfloat16"] = round(
        float(np.median(seconds["float32"]) / np.median(seconds["bfloat16"])), 2
    )
    options.out.write_text(json.dumps(figures, indent=1) + "\n")
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    run()
