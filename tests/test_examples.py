"""The examples: the demo's sums by hand, and runs on small phantoms where nothing can show a window."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from napari_alnct.core.findings import Candidate, ReferenceNodule
from napari_alnct.data.phantom import make_phantom, small_settings
from napari_alnct.io.metaimage import write_metaimage

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def test_comparison_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nodule 0 is hit by the stronger of two marks, nodule 1 missed by a mark exactly at its radius."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    from demo_sheet import compare

    nodules = [
        ReferenceNodule(series_uid="a", position_xyz_mm=(0.0, 0.0, 0.0), diameter_mm=10.0),
        ReferenceNodule(series_uid="a", position_xyz_mm=(50.0, 0.0, 0.0), diameter_mm=6.0),
    ]
    positions = [(1.0, 0.0, 0.0), (0.0, 2.0, 0.0), (53.0, 0.0, 0.0), (-90.0, 0.0, 0.0)]
    scores = [0.6, 0.9, 0.8, 0.7]
    marks = [Candidate(position_xyz_mm=p, score=s, diameter_mm=5.0) for p, s in zip(positions, scores, strict=True)]
    result = compare(marks, nodules)
    assert (result.nodule_marks, result.missed, result.false_marks) == ([1, -1], [1], [2, 3])


def test_demo_on_an_own_scan(tmp_path: Path) -> None:
    """With a scan and no display or Xvfb the demo ends by itself: table, record, sheet, and a word on the window."""
    scan = make_phantom(small_settings(5))
    path = tmp_path / "my scan.mhd"
    write_metaimage(path, scan.volume.hu, scan.volume.geometry)
    hidden = {"DISPLAY", "WAYLAND_DISPLAY", "PATH", "QT_QPA_PLATFORM"}
    environment = {name: value for name, value in os.environ.items() if name not in hidden} | {"CI": "true"}
    demo = [sys.executable, str(EXAMPLES / "demo.py"), str(path), "--out", str(tmp_path / "out")]
    result = subprocess.run(
        demo, env=environment | {"PATH": str(tmp_path)}, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    written = {file.name for file in (tmp_path / "out").iterdir()}
    assert {"candidates.csv", "candidates.run.json", "marks.png", "prepared"} <= written
    if sys.platform == "linux":
        assert "skipped: with_display: no display and no Xvfb" in result.stdout
    assert "not for diagnosis or treatment" in result.stdout


def test_sheet_of_augmented_patches(tmp_path: Path) -> None:
    """Without patches of one's own the sheet is made from a phantom: 4 rows of 13 different, non-empty panels."""
    out = tmp_path / "sheet.png"
    script = [sys.executable, "-W", "error", str(EXAMPLES / "augmented_patches.py"), str(out)]
    result = subprocess.run(script, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "4 patches of 64 voxels, stored with 8 more on each side" in result.stdout
    grey = imread(out)[:, :, 0]
    inside = grey[int(0.1 * len(grey)) :, int(0.026 * grey.shape[1]) :]
    rows = np.array_split(inside, 4, axis=0)
    panels = [panel[20:-20, 20:-20] for row in rows for panel in np.array_split(row, 13, axis=1)]
    assert all(panel.std() > 0.05 for panel in panels)
    assert len({panel.tobytes() for panel in panels}) == 4 * 13
