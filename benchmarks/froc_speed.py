"""How long the FROC judge takes on 55,677 real detections in 888 scans.

    python benchmarks/froc_speed.py [--data ../shared/data] [--runs 5] [--out benchmarks/results/froc_speed.json]

Wall and CPU seconds of each step on one thread, fastest of the runs, and the whole command in
a fresh process. Bars: point estimate (tables read, matched, curve) below 1 s, 1000 bootstraps of
the seven sensitivities below 5 s; held or not by CPU time, as other work may run beside. For
comparison, the obvious way to bootstrap - put the drawn scans together and take their curve
anew - on fewer samples, scaled to 1000.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

POINT_BAR_S, BOOTSTRAP_BAR_S = 1.0, 5.0
N_SAMPLES, N_SLOW_SAMPLES = 1000, 20


def timed(runs: int, function: Callable[[], Any]) -> tuple[Any, dict[str, float]]:
    """Run a function several times; give its result, and wall and CPU seconds of the fastest run by CPU."""
    best: dict[str, float] = {}
    result = None
    for _ in range(runs):
        wall, cpu = perf_counter(), process_time()
        result = function()
        seconds = {"wall_s": round(perf_counter() - wall, 3), "cpu_s": round(process_time() - cpu, 3)}
        best = min((best or seconds), seconds, key=lambda s: s["cpu_s"])
    return result, best


def command_seconds(flags: list[str]) -> dict[str, float]:
    """Time the whole command in a fresh process: interpreter, imports, 1000 bootstraps, files, picture."""
    watcher = (
        "import resource,subprocess,sys;code=subprocess.run(sys.argv[1:],stdout=subprocess.DEVNULL).returncode;"
        "use=resource.getrusage(resource.RUSAGE_CHILDREN);print(code,use.ru_utime+use.ru_stime,use.ru_maxrss)"
    )
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "napari_alnct", "froc", *flags, "--out-dir", folder]
        began = perf_counter()
        answer = subprocess.run([sys.executable, "-c", watcher, *command], capture_output=True, text=True, check=True)
        wall = perf_counter() - began
    code, cpu, peak_kb = map(float, answer.stdout.split())
    if code:
        raise RuntimeError(answer.stderr)
    return {"wall_s": round(wall, 3), "cpu_s": round(cpu, 3), "peak_mb": round(peak_kb / 1024)}


def measure(data: Path, runs: int) -> dict[str, Any]:
    from napari_alnct.batch.froc import FrocPaths, FrocTables, judge_tables, read_froc_tables
    from napari_alnct.evaluation.bootstrap import bootstrap_sensitivity, draw_scans, interval, nodules_per_scan
    from napari_alnct.evaluation.froc import froc_curve
    from napari_alnct.evaluation.scoring import ScoredScans, score_scans

    tables = data / "luna16" / "CSVFILES"
    paths = FrocPaths(
        candidates=data / "froc_reference" / "deeplung_dpn26bs32_luna_format.csv.gz",
        annotations=tables / "annotations.csv",
        excluded=tables / "annotations_excluded.csv",
        seriesuids=tables / "seriesuids.csv",
    )

    def bootstrap() -> Any:
        draws = draw_scans(nodules_per_scan(scored), N_SAMPLES, seed=0)
        return interval(bootstrap_sensitivity(scored, draws.weights).mean(axis=1))

    def slowly() -> Any:
        weights = draw_scans(nodules_per_scan(scored), N_SLOW_SAMPLES, seed=0).weights
        return [
            froc_curve([m for m, n in zip(scored.matches, row, strict=True) for _ in range(n)]).cpm for row in weights
        ]

    def scored_of(t: FrocTables) -> ScoredScans:
        return score_scans(t.candidates, t.annotations, t.excluded, t.series_list)

    content, reading = timed(runs, lambda: read_froc_tables(paths))
    _, scoring = timed(runs, lambda: scored_of(content).curve.cpm)
    report, whole = timed(runs, lambda: judge_tables(paths, n_samples=0))
    scored = report.scored
    ci95, resampling = timed(runs, bootstrap)
    _, slow = timed(1, slowly)
    flags = [word for name, path in vars(paths).items() if path for word in (f"--{name}", str(path))]
    return {
        "detections": scored.n_in_file,
        "scans": scored.n_scans,
        "cpm": round(scored.curve.cpm, 6),
        "cpm_ci95": [round(float(v), 6) for v in ci95],
        "reading_tables": reading,
        "matching_and_curve": scoring,
        "point_estimate_with_reading": {**whole, "bar_s": POINT_BAR_S},
        "1000_bootstraps": {**resampling, "bar_s": BOOTSTRAP_BAR_S},
        "1000_bootstraps_the_obvious_way_cpu_s": round(slow["cpu_s"] * N_SAMPLES / N_SLOW_SAMPLES, 1),
        "whole_command": command_seconds(flags),
    }


def run() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("ALNCT_DATA", "../shared/data")))
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/froc_speed.json"))
    options = parser.parse_args()
    if not (options.data / "froc_reference").is_dir():
        parser.error(f"no development data pack in {options.data}; name it with --data")
    figures = {
        "machine": f"{os.cpu_count()} cores, {platform.processor() or platform.machine()}, {platform.system()}",
        "load_1_min": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,
        **measure(options.data, options.runs),
    }
    figures["bars_held_by_cpu_time"] = (
        figures["point_estimate_with_reading"]["cpu_s"] < POINT_BAR_S
        and figures["1000_bootstraps"]["cpu_s"] < BOOTSTRAP_BAR_S
    )
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(figures, indent=1) + "\n")
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    run()
