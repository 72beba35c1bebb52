"""From ``.mhd`` to ``candidates.csv``: seconds per stage and peak memory, as a user runs it.

    python benchmarks/scan_to_csv.py [--scan PATH] [--runs 3] [--out benchmarks/results/scan_to_csv.json]

Without --scan a full-size phantom (512 x 512 x 300) is generated. Each run is a
fresh process of ``napari-alnct-train detect``, so interpreter, imports and model
loading count. The same network in overlapping 96-voxel windows (overlap 0.25,
float32), as common tools do it, is timed for the ratio.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

WINDOW, OVERLAP = 96, 0.25


def make_scan(folder: Path) -> Path:
    from napari_alnct.data.phantom import PhantomSettings, make_phantom
    from napari_alnct.io.metaimage import write_metaimage

    scan = make_phantom(PhantomSettings(seed=900_100))
    path = folder / "full.mhd"
    write_metaimage(path, scan.volume.in_source_order(scan.volume.hu), scan.volume.source_geometry, compress_level=1)
    return path


def one_run(scan: Path, folder: Path) -> dict[str, Any]:
    """Run the command in a fresh process; give wall seconds, peak memory and the stages it recorded."""
    out = folder / "candidates.csv"
    watcher = (
        "import resource,subprocess,sys,json;"
        "code=subprocess.run(sys.argv[1:],stdout=subprocess.DEVNULL).returncode;"
        "print(json.dumps([code,resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss]))"
    )
    command = [sys.executable, "-m", "napari_alnct", "detect", str(scan), "--out", str(out), "--device", "cpu"]
    began = perf_counter()
    answer = subprocess.run([sys.executable, "-c", watcher, *command], capture_output=True, text=True, check=True)
    wall = perf_counter() - began
    code, peak_kb = json.loads(answer.stdout.strip().splitlines()[-1])
    if code:
        raise RuntimeError(answer.stderr)
    record = json.loads(out.with_name("candidates.run.json").read_text())["scans"][0]
    stages = {"read": record["read_seconds"], **record["seconds"]}
    stages["start, imports, model, table"] = wall - sum(stages.values())
    return {"wall": wall, "peak_mb": peak_kb / 1024, "stages": stages}


def windowed_seconds(scan: Path) -> tuple[float, float, list[int]]:
    """Time the first stage whole against windows, in this process; give (whole, windows, shape)."""
    import torch

    from napari_alnct.core.checkpoint import read_checkpoint
    from napari_alnct.core.dense import score_map
    from napari_alnct.core.inference import Runner, choose_precision
    from napari_alnct.core.network import scale_hu
    from napari_alnct.core.preprocess import prepare
    from napari_alnct.io.images import read_volume
    from napari_alnct.models.catalogue import find_model

    checkpoint = read_checkpoint(find_model().path)
    assert checkpoint.detector is not None
    settings = checkpoint.recipe.prepare
    hu = prepare(read_volume(scan), settings).hu
    cpu = torch.device("cpu")
    runner = Runner(checkpoint.detector, cpu, choose_precision(cpu))
    score_map(runner, hu, settings, most_voxels=10**9)
    began = perf_counter()
    score_map(runner, hu, settings, most_voxels=10**9)
    whole = perf_counter() - began
    step = round(WINDOW * (1 - OVERLAP))
    starts = [sorted({*range(0, max(1, n - WINDOW), step), max(0, n - WINDOW)}) for n in hu.shape]
    began = perf_counter()
    with torch.inference_mode():
        for z in starts[0]:
            for y in starts[1]:
                for x in starts[2]:
                    part = np.ascontiguousarray(hu[z : z + WINDOW, y : y + WINDOW, x : x + WINDOW])
                    tile = scale_hu(torch.from_numpy(part), settings.low_hu, settings.high_hu)[None, None]
                    checkpoint.detector(tile)
    return whole, perf_counter() - began, list(hu.shape)


def run() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scan", type=Path)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/scan_to_csv.json"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        scan = options.scan or make_scan(folder)
        runs = [one_run(scan, folder) for _ in range(options.runs)]
        whole, windows, shape = windowed_seconds(scan)
    best = min(runs, key=lambda r: r["wall"])
    figures = {
        "scan": scan.name,
        "machine": f"{os.cpu_count()} cores, {platform.processor() or platform.machine()}, {platform.system()}",
        "runs_wall_s": [round(r["wall"], 2) for r in runs],
        "peak_mb": round(max(r["peak_mb"] for r in runs)),
        "stages_s (fastest run)": {k: round(v, 2) for k, v in best["stages"].items()},
        "prepared_shape": shape,
        "first_stage_whole_s": round(whole, 2),
        "first_stage_windows_float32_s": round(windows, 2),
        "ratio_windows_to_whole": round(windows / whole, 1),
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(figures, indent=1) + "\n")
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    run()
