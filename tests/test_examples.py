"""The demo: its sums by hand, and a run on a small phantom where nothing can show a window."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

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
