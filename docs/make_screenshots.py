"""Make the pictures of `docs/images` in a real napari window, from synthetic scans only.

Run with a display: ``python docs/make_screenshots.py``; without one:
``xvfb-run -s "-screen 0 1600x1000x24" python docs/make_screenshots.py``.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("NAPARI_CONFIG", str(Path(tempfile.mkdtemp()) / "settings.yaml"))  # a fresh napari, as on day one
os.environ["HOME"] = tempfile.mkdtemp()  # readings of the one who runs this stay out of the pictures

import napari
import numpy as np
from PIL import Image
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest

from napari_alnct.data.phantom import make_phantom, small_settings
from napari_alnct.io.metaimage import write_metaimage
from napari_alnct.io.review_report import ReportOptions, mark_picture

IMAGES = Path(__file__).with_name("images")
PLUGIN = "napari-alnct"
WINDOW = (1280, 800)
COLOURS = 255  # of a palette PNG: below 300 kB each, and the rings keep their colour
TIMEOUT_MS = 300_000
SHEET_OF = 2  # the candidate of `explanation.png`: a small one


def save(picture: np.ndarray, path: Path) -> None:
    """Save a screenshot as a small PNG."""
    Image.fromarray(picture[..., :3]).quantize(COLOURS, method=Image.Quantize.MAXCOVERAGE).save(path, optimize=True)
    print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB")


def run_and_wait(widget: Any) -> None:
    """Press the widget's button and wait until its job has ended."""
    widget.run_button.click()
    waited = 0
    while widget.job is not None and waited < TIMEOUT_MS:
        QTest.qWait(50)
        waited += 50
    QTest.qWait(300)


def window_picture(viewer: Any) -> np.ndarray:
    """Give the whole window as it is on the screen."""
    QTest.qWait(400)
    return np.asarray(viewer.screenshot(canvas_only=False, flash=False))


def widget_picture(widget: Any) -> np.ndarray:
    """Give one widget as it is on the screen."""
    QTest.qWait(200)
    image = widget.grab().toImage()
    image = image.convertToFormat(image.Format.Format_RGBA8888)
    pixels = np.frombuffer(image.constBits().asstring(image.sizeInBytes()), np.uint8)
    return pixels.reshape(image.height(), image.bytesPerLine() // 4, 4)[:, : image.width()]


def make(folder: Path, sample: str) -> None:
    """Make all pictures.

    Parameters
    ----------
    folder : Path
        Where to put them.
    sample : str
        Key of the sample scan.
    """
    viewer = napari.Viewer(show=True)
    viewer.window._qt_window.resize(*WINDOW)
    viewer.open_sample(PLUGIN, sample)
    _, detect = viewer.window.add_plugin_dock_widget(PLUGIN, "Detect nodules")
    run_and_wait(detect)
    detect.marks.table.selectRow(0)
    viewer.scene.camera.zoom *= 2
    save(window_picture(viewer), folder / "reading_marks.png")
    detect.more_button.click()
    save(widget_picture(detect), folder / "detect_widget.png")
    _, prepare = viewer.window.add_plugin_dock_widget(PLUGIN, "Preprocess CT", tabify=True)
    run_and_wait(prepare)
    viewer.dims.order = (1, 0, 2)
    detect.marks.table.selectRow(1)
    viewer.reset_view()
    save(window_picture(viewer), folder / "coronal_lungs.png")
    viewer.close()


def make_reading(folder: Path, sample: str) -> None:
    """Make the pictures of the dock `Nodule review`.

    Parameters
    ----------
    folder : Path
        Where to put them.
    sample : str
        Key of the sample scan.
    """
    viewer = napari.Viewer(show=True)
    viewer.window._qt_window.resize(1560, 960)
    viewer.open_sample(PLUGIN, sample)
    _, dock = viewer.window.add_plugin_dock_widget(PLUGIN, "Nodule review")
    run_and_wait(dock.detect_tab)
    QTest.qWait(1500)
    dock.tabs.setCurrentWidget(dock.review_tab)
    for key in (Qt.Key.Key_J, Qt.Key.Key_G):
        QTest.keyClick(viewer.window._qt_window, key)
        QTest.qWait(700)
    save(window_picture(viewer), folder / "reading_planes.png")
    dock.tabs.setCurrentIndex(dock.tabs.count() - 1)
    QTest.qWait(1500)
    save(widget_picture(dock), folder / "reading_report_tab.png")
    review, volume = dock.reading.session.review, dock.reading.volume
    picture = mark_picture(volume, review.marks[0], review.marks[1:], ReportOptions())
    save(np.concatenate([image.pixels for image in picture], axis=1), folder / "reading_report.png")
    viewer.close()


def make_explanation(folder: Path, sample: str) -> None:
    """Make the picture of a mark with its heat map.

    Parameters
    ----------
    folder : Path
        Where to put it.
    sample : str
        Key of the sample scan.
    """
    viewer = napari.Viewer(show=True)
    viewer.window._qt_window.resize(1560, 1000)
    viewer.open_sample(PLUGIN, sample)
    _, dock = viewer.window.add_plugin_dock_widget(PLUGIN, "Nodule review")
    dock.preferences.remember(show_hint=False)
    run_and_wait(dock.detect_tab)
    QTest.qWait(1500)
    dock.tabs.setCurrentWidget(dock.review_tab)
    box = dock.review_tab.explain_box
    box.explain_all()
    while box.job is not None:
        QTest.qWait(100)
    box.switch(True)
    dock.commands.run("next_mark")
    dock.view.set_field(90)
    dock.view.is_crosshair_shown = False
    QTest.qWait(1500)
    save(window_picture(viewer), folder / "explain.png")
    viewer.close()


def make_explanation_sheet(folder: Path, sample: str) -> None:
    """Make the picture that `gradcam` draws of a candidate, of the small phantom whatever the sample is.

    Parameters
    ----------
    folder : Path
        Where to put it.
    sample : str
        Not used.
    """
    scan = make_phantom(small_settings(seed=7)).volume
    with tempfile.TemporaryDirectory() as name:
        path, table, out = Path(name) / "phantom.mhd", Path(name) / "candidates.csv", Path(name) / "maps"
        write_metaimage(path, scan.in_source_order(scan.hu), scan.source_geometry)
        command = [sys.executable, "-m", "napari_alnct.cli.app"]
        subprocess.run([*command, "detect", path, "--out", table], check=True)
        subprocess.run([*command, "gradcam", "--scan", path, "--candidates", table, "--out-dir", out], check=True)
        pictures = sorted(out.glob("*.png"))
        save(np.asarray(Image.open(pictures[SHEET_OF]).convert("RGB")), folder / "explanation.png")


PARTS = {
    "widgets": make,
    "reading": make_reading,
    "explanation": make_explanation,
    "explanation-sheet": make_explanation_sheet,
}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Make the pictures of docs/images.")
    parser.add_argument("--out", type=Path, default=IMAGES, help="folder for the pictures")
    parser.add_argument("--sample", default="full_phantom", help="sample scan to show")
    parser.add_argument("--only", choices=PARTS, help="make the pictures of one part")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name, part in PARTS.items():
        if arguments.only in (None, name):
            part(arguments.out, arguments.sample)
