"""The subcommand preprocess: exit codes, last line, Ctrl-C, start-up."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from napari_alnct.cli.app import dispatch
from napari_alnct.io.metaimage import read_metaimage, write_metaimage

from ..core.chest import chest_geometry, chest_hu

GRID = chest_geometry((5.0, 3.0, 3.0))
FLAGS = ["--spacing-mm", "3", "--jobs", "1"]


def scans(folder, n_good, n_broken=0):
    """Write scans good0, good1, ... and broken0, ... into subset0 and subset1."""
    hu = chest_hu(GRID)
    for k in range(n_good):
        (folder / f"subset{k % 2}").mkdir(parents=True, exist_ok=True)
        write_metaimage(folder / f"subset{k % 2}" / f"good{k}.mha", hu, GRID)
    for k in range(n_broken):
        (folder / "subset0").mkdir(parents=True, exist_ok=True)
        (folder / "subset0" / f"broken{k}.mha").write_text("no header\n")
    return folder


def preprocess(raw, out, *flags):
    """Run the subcommand in this process and give its exit code."""
    return dispatch(["preprocess", "--raw-root", str(raw), "--out-root", str(out), *FLAGS, *flags])


def test_a_batch_with_a_failed_scan_ends_with_4(tmp_path, capfd):
    """The bad scan is named on stderr, the last line of stdout counts, and the flags reach the volumes."""
    raw, out = scans(tmp_path / "raw", 2, 1), tmp_path / "out"
    assert preprocess(raw, out, "--margin-mm", "30") == 4
    captured = capfd.readouterr()
    assert "failed: broken0.mha: expected" in captured.err
    last = captured.out.splitlines()[-1]
    assert last.startswith("2 scans prepared, 0 were ready, 1 failed; no annotations.csv found")
    assert last.endswith(str(out.resolve()))
    geometry = read_metaimage(out / "volumes" / "good0.mha").geometry
    assert geometry.spacing_zyx_mm == (3.0, 3.0, 3.0)
    assert geometry.extent_zyx_mm[2] == pytest.approx(220 + 60, abs=8)


def test_a_failed_scan_is_named_also_where_the_fault_does_not_know_it(tmp_path, capfd):
    """A scan without lungs among others: its name stands before the sentence."""
    hu = chest_hu(GRID)
    scans(tmp_path / "raw", 1)
    write_metaimage(tmp_path / "raw" / "slab.mha", np.where(hu > -500, hu, 0).astype(np.int16), GRID)
    assert preprocess(tmp_path / "raw", tmp_path / "out", "--allow-non-hu") == 4
    assert "failed: slab: no lungs in this scan" in capfd.readouterr().err


def test_annotations_of_other_scans_are_told(tmp_path, capfd):
    """Scans that were renamed would lose their nodules in silence."""
    raw = scans(tmp_path / "raw", 1)
    (raw / "annotations.csv").write_text("seriesuid,coordX,coordY,coordZ,diameter_mm\n1.2.3,0,0,0,5\n1.2.4,0,0,0,5\n")
    assert preprocess(raw, tmp_path / "out") == 0
    assert "none of the 2 annotated series has the name of a scan here" in capfd.readouterr().out


def test_only_the_wanted_subsets_are_prepared(tmp_path):
    """--subsets 1 leaves out the scans of subset0; a later run adds them."""
    raw, out = scans(tmp_path / "raw", 2), tmp_path / "out"
    assert preprocess(raw, out, "--subsets", "1") == 0
    assert [path.name for path in (out / "volumes").iterdir()] == ["good1.mha"]
    assert preprocess(raw, out, "--subsets", "0") == 0
    counts = json.loads((out / "manifest.json").read_text())["counts"]
    assert counts == {"done": 2, "failed": 0, "left": 0}


@pytest.mark.parametrize(
    ("n_broken", "flags", "code", "message"),
    [
        (1, [], 3, "failed: broken0.mha"),
        (0, [], 3, "E_DATA_MISSING"),
        (1, ["--subsets", "7"], 2, "has no scan in subset 7; it has 0"),
        (1, ["--margin-mm", "99"], 2, "margin_mm is 99.0, allowed is 0.0 to 60.0"),
        (1, ["--spacing-m", "1"], 2, "--spacing-m"),
    ],
    ids=["only_scan_refused", "no_scans", "unknown_subset", "bad_value", "unknown_flag"],
)
def test_user_errors_are_one_sentence_with_their_exit_code(tmp_path, capfd, n_broken, flags, code, message):
    """What cannot work ends with 2 or 3 and says why, without a traceback."""
    (tmp_path / "raw").mkdir()
    assert preprocess(scans(tmp_path / "raw", 0, n_broken), tmp_path / "out", *flags) == code
    error = capfd.readouterr().err
    assert message in error
    assert "Traceback" not in error


@pytest.mark.skipif(sys.platform == "win32", reason="signals differ on Windows")
def test_ctrl_c_leaves_whole_files_and_a_resumable_manifest(tmp_path):
    """After SIGINT the exit code is 130, every file that exists is whole, and the next run finishes the rest."""
    raw, out = scans(tmp_path / "raw", 12), tmp_path / "out"
    command = [sys.executable, "-m", "napari_alnct", "preprocess", "--raw-root", str(raw), "--out-root", str(out)]
    process = subprocess.Popen([*command, *FLAGS], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not list(out.glob("volumes/*.mha")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert (process.returncode, "Traceback" in error) == (130, False)
    assert list(out.rglob("*.tmp")) == []
    prepared = [read_metaimage(path) for path in out.glob("*/*.mha")]
    assert 2 <= len(prepared) < 24
    assert json.loads((out / "manifest.json").read_text())["counts"]["left"] > 0
    assert preprocess(raw, out) == 0
    assert json.loads((out / "manifest.json").read_text())["counts"] == {"done": 12, "failed": 0, "left": 0}


def test_the_subcommand_loads_nothing_heavy_until_it_runs():
    """Importing the module, as --help does, brings neither numpy nor SimpleITK nor torch."""
    code = (
        "import sys, napari_alnct.cli.preprocess;"
        "print([m for m in ('numpy', 'scipy', 'SimpleITK', 'torch', 'rich.progress') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
