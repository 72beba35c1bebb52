"""From a scan to marks: `python examples/demo.py [SCAN] [--out FOLDER]`; `make demo` sets up and runs it.

Without SCAN a phantom chest CT is made first, and the marks are compared with
its known nodules. What runs are the commands that you would type; they are
printed. Then the marks are drawn on a sheet of slices, and napari opens; where
there is no display its window is photographed on a virtual one.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from demo_sheet import compare, draw_sheet

from napari_alnct.core.findings import Candidate, ReferenceNodule
from napari_alnct.core.notice import NOTICE
from napari_alnct.core.volume import Volume
from napari_alnct.io.images import expand_scans, read_volume
from napari_alnct.io.tables import read_annotations, read_candidates

HERE = Path(__file__).resolve().parent
WITH_DISPLAY = HERE.parent / "scripts" / "with_display.py"
PHANTOM_SEED = 910_000  # of no phantom that a bundled model was trained on


def command(*arguments: str | Path) -> None:
    """Run napari-alnct-train as a user would; leave with its exit code when it fails."""
    words = [str(argument) for argument in arguments]
    print(f"\n$ napari-alnct-train {shlex.join(words)}", flush=True)
    status = subprocess.run([sys.executable, "-m", "napari_alnct.cli.app", *words], stdin=subprocess.DEVNULL).returncode
    if status:
        sys.exit(status)


def is_watched() -> bool:
    """Tell whether a person can see and close a window."""
    has_display = sys.platform != "linux" or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    return bool(has_display) and not os.environ.get("CI")


def make_scan(folder: Path) -> Path:
    """Give a phantom scan, with the table of its true nodules in CSVFILES."""
    shutil.rmtree(folder, ignore_errors=True)
    command("phantom", "--out", folder, "--scans", "1", "--seed", str(PHANTOM_SEED))
    (scan,) = expand_scans([folder])
    return scan


def run_main_job(scan: Path, folder: Path, out: Path) -> Path:
    """Look at the scan, prepare it (with the annotations of its folder, if any), detect; give the candidates' table."""
    table = out / "candidates.csv"
    command("info", scan)
    command("preprocess", "--raw-root", folder, "--out-root", out / "prepared", "--overwrite")
    command("detect", scan, "--out", table)
    return table


def show_in_napari(scan: Path, tables: list[Path], picture: Path) -> str:
    """Open the window, or photograph it where nobody watches; give one line on what happened."""
    script = [sys.executable, HERE / "demo_window.py", scan, *tables]
    picture.unlink(missing_ok=True)
    if is_watched():
        print("\nOpening napari; close its window to end.", flush=True)
        status = subprocess.run(script).returncode
        return "was open in napari" if status == 0 else "none: napari could not open it, its message is above"
    photograph = [sys.executable, WITH_DISPLAY, *script, "--screenshot", picture]
    result = subprocess.run(photograph, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if picture.exists():
        return str(picture)
    reasons = result.stderr.strip().splitlines() or ["napari gave no reason"]
    return f"skipped: {reasons[0] if reasons[0].startswith('with_display') else reasons[-1]}"


def summary(volume: Volume, marks: list[Candidate], nodules: list[ReferenceNodule]) -> str:
    """Say how the marks compare with the known nodules."""
    match = compare(marks, nodules)
    lines = [
        f"{len(match.nodule_marks) - len(match.missed)} of {len(nodules)} nodules found, "
        f"{len(match.missed)} missed; marks on none of them: {len(match.false_marks)}"
    ]
    for nodule, mark in zip(nodules, match.nodule_marks, strict=True):
        place = "({:.1f}, {:.1f}, {:.1f}) mm".format(*nodule.position_xyz_mm)
        outcome = "missed" if mark < 0 else f"found, score {marks[mark].score:.2f}"
        lines.append(f"  {nodule.diameter_mm:5.1f} mm at {place}: {outcome}")
    return "\n".join(lines)


def main() -> None:
    """Run the demo."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("scan", nargs="?", type=Path, help="your scan: .mhd, .mha, .nii.gz, .nrrd or a DICOM folder")
    parser.add_argument("--out", type=Path, default=Path("demo_output"), help="folder for everything (%(default)s)")
    options = parser.parse_args()
    out: Path = options.out
    out.mkdir(parents=True, exist_ok=True)

    phantom = out / "phantom"
    scan = options.scan or make_scan(phantom)
    truth = None if options.scan else phantom / "CSVFILES" / "annotations.csv"
    table = run_main_job(scan, options.scan or phantom, out)
    volume = read_volume(scan)
    marks = [candidate for _, candidate in read_candidates(table)]
    nodules = read_annotations(truth) if truth else []
    draw_sheet(volume, marks, nodules, out / "marks.png")
    window = show_in_napari(scan, [table, *([truth] if truth else [])], out / "napari.png")

    run = json.loads((out / "candidates.run.json").read_text(encoding="utf-8"))
    print(f"\nModel {run['model']['name']}, threshold {run['threshold']:.2f}: {len(marks)} marks.")
    if truth:
        print(summary(volume, marks, nodules))
    print("\nWhere everything is:")
    for name, place in {
        "scan": scan,
        "candidates": table,
        "record of the run": out / "candidates.run.json",
        "prepared scan": out / "prepared",
        "sheet of slices": out / "marks.png",
        "window": window,
    }.items():
        print(f"  {name:18s} {place}")
    print(NOTICE)


if __name__ == "__main__":
    main()
