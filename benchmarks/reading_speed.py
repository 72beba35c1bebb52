"""How fast a reading is on the screen: open the dock, open a scan, jump to a place, scroll; with three planes shown.

    xvfb-run -s "-screen 0 1600x1000x24" python benchmarks/reading_speed.py [--scan PATH] [--out FILE]

Without --scan a full-size phantom (512 x 512 x 300, int16) is written as an uncompressed ``.mhd`` and read again. A
time ends when every canvas that has something new to show has drawn it. The wheel is turned by real mouse events.
CPU times are of all threads of the process, the software renderer's too: unlike wall times they hold on a busy machine.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import numpy as np

os.environ.setdefault("LIBGL_ALWAYS_SOFTWARE", "1")
os.environ.setdefault("NAPARI_CONFIG", str(Path(tempfile.mkdtemp()) / "settings.yaml"))
WINDOW = (1560, 960)
PATIENCE_S = 90.0


def write_phantom(folder: Path) -> Path:
    from napari_alnct.data.phantom import PhantomSettings, make_phantom
    from napari_alnct.io.metaimage import write_metaimage

    scan = make_phantom(PhantomSettings(seed=900_100, shape_zyx=(300, 512, 512)))
    path = folder / "full.mhd"
    write_metaimage(path, scan.volume.in_source_order(scan.volume.hu), scan.volume.source_geometry, compress_level=None)
    return path


class Stopwatch:
    """Counts how often each canvas has drawn, and waits until all have."""

    def __init__(self, canvases: list[Any]) -> None:
        self.n_drawn = [0] * len(canvases)
        for index, canvas in enumerate(canvases):
            canvas.events.draw.connect(lambda event, index=index: self.count(index))

    def count(self, index: int) -> None:
        """Note that a canvas has drawn."""
        self.n_drawn[index] += 1

    def seconds(self, act: Any) -> float:
        """Do something and give the time until every canvas has drawn once more."""
        from qtpy.QtWidgets import QApplication

        before, began = list(self.n_drawn), perf_counter()
        act()
        while any(now == then for now, then in zip(self.n_drawn, before, strict=True)):
            QApplication.processEvents()
            if perf_counter() - began > PATIENCE_S:
                raise RuntimeError(f"not all canvases drew: {before} -> {self.n_drawn}")
        return perf_counter() - began

    @staticmethod
    def settle() -> None:
        """Let everything be drawn that waits for it."""
        from qtpy.QtTest import QTest

        for _ in range(3):  # one wait can pass in a single slow picture
            QTest.qWait(200)


def measure_dock() -> dict[str, Any]:
    """Open the review dock in a fresh napari window, its imports included, until it stands there."""
    import napari
    from qtpy.QtWidgets import QApplication

    viewer = napari.Viewer(show=True)
    viewer.window._qt_window.resize(*WINDOW)
    Stopwatch.settle()
    began, cpu = perf_counter(), process_time()
    viewer.window.add_plugin_dock_widget("napari-alnct", "Nodule review")
    QApplication.processEvents()
    figures = {
        "dock_opens_s": round(perf_counter() - began, 3),
        "dock_opens_cpu_s": round(process_time() - cpu, 3),
        "dock_imports_torch": "torch" in sys.modules,
    }
    viewer.close()
    return figures


def in_a_fresh_process() -> dict[str, Any]:
    """Give the dock's figures of an interpreter that has imported nothing of ours yet."""
    command = [sys.executable, __file__, "--dock-only"]
    answer = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return dict(json.loads(answer.strip().splitlines()[-1]))


def turn_wheel(native: Any, notches: int) -> None:
    """Turn the wheel over the middle of a canvas, as Qt reports it."""
    from qtpy.QtCore import QPoint, QPointF, Qt
    from qtpy.QtGui import QWheelEvent
    from qtpy.QtWidgets import QApplication

    middle = QPointF(native.width() / 2, native.height() / 2)
    where = native.mapToGlobal(middle.toPoint())
    none, button = Qt.KeyboardModifier.NoModifier, Qt.MouseButton.NoButton
    phase, turn = Qt.ScrollPhase.NoScrollPhase, QPoint(0, 120 * notches)
    QApplication.sendEvent(native, QWheelEvent(middle, QPointF(where), QPoint(), turn, button, none, phase, False))


def measure(path: Path, n_jumps: int, n_steps: int) -> dict[str, Any]:
    import napari

    from napari_alnct.io.images import read_volume
    from napari_alnct.plugin._compat import canvas_of_window
    from napari_alnct.plugin._reading_view import ReadingView
    from napari_alnct.plugin._views import add_planes, remove_planes

    viewer = napari.Viewer(show=True)
    viewer.window._qt_window.resize(*WINDOW)
    began = perf_counter()
    view = ReadingView(viewer)
    planes = add_planes(view)
    assert planes is not None
    figures: dict[str, Any] = {"planes_added_s": round(perf_counter() - began, 3)}
    canvases = [canvas_of_window(viewer), *(widget.canvas for widget in planes.canvases)]
    watch = Stopwatch(canvases)
    watch.settle()
    began, cpu = perf_counter(), process_time()
    volume = read_volume(path)
    figures["read_s"] = round(perf_counter() - began, 3)
    figures["show_s"] = round(watch.seconds(lambda: view.open(volume)), 3)
    figures["open_to_first_picture_s"] = round(figures["read_s"] + figures["show_s"], 3)
    figures["open_to_first_picture_cpu_s"] = round(process_time() - cpu, 3)
    watch.settle()
    figures.update(measure_jumps(view, watch, n_jumps))
    figures.update(measure_scroll(view, canvases, n_steps))
    view.set_slab(10.0)
    watch.settle()
    figures.update({f"{name}, slab 10 mm": value for name, value in measure_jumps(view, watch, n_jumps).items()})
    figures.update({f"{name}, slab 10 mm": value for name, value in measure_scroll(view, canvases, n_steps).items()})
    figures["shape_zyx"] = list(volume.hu.shape)
    figures["canvas_px (height, width)"] = [list(canvas.size) for canvas in canvases]
    figures["torch_imported"] = "torch" in sys.modules
    figures["renderer"] = renderer(canvases[0])
    remove_planes(planes)
    view.close()
    viewer.close()
    return figures


def measure_jumps(view: Any, watch: Stopwatch, n_jumps: int) -> dict[str, Any]:
    random, times, cpu = np.random.default_rng(7), [], process_time()
    geometry = view.volume.geometry
    for _ in range(n_jumps):
        index = random.uniform(0.2, 0.8, size=3) * geometry.shape_zyx
        place = tuple(float(value) for value in geometry.index_to_world(index))
        times.append(watch.seconds(lambda place=place: view.go_to(place)))
    cpu = process_time() - cpu
    return {
        "jump_cpu_ms": round(1000 * cpu / n_jumps),
        "jump_median_ms": round(1000 * statistics.median(times)),
        "jump_slowest_ms": round(1000 * max(times)),
    }


def measure_scroll(view: Any, canvases: list[Any], n_steps: int) -> dict[str, Any]:
    """Scroll down through the chest from its upper part; each slice is drawn before the wheel turns again."""
    main = Stopwatch(canvases[:1])
    z_mm = view.volume.geometry.index_to_world([view.main.n_slices * 0.9, 0, 0])[2]
    view.go_to((*view.place_xyz_mm[:2], float(z_mm)))
    main.settle()
    first, began, cpu = view.main.index, perf_counter(), process_time()
    for _ in range(n_steps):
        main.seconds(lambda: turn_wheel(canvases[0].native, -1))
    elapsed = perf_counter() - began
    assert first - view.main.index == n_steps, "a wheel step was not one slice"
    step_ms = 1000 * (process_time() - cpu) / n_steps
    return {"scroll_slices_per_s": round(n_steps / elapsed, 1), "scroll_cpu_ms_per_slice": round(step_ms, 1)}


def renderer(canvas: Any) -> str:
    from vispy.gloo import gl

    canvas.native.makeCurrent()
    return str(gl.glGetParameter(gl.GL_RENDERER))


def run() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scan", type=Path, help="scan to read; default: a full-size phantom")
    parser.add_argument("--jumps", type=int, default=30)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/reading_speed.json"))
    parser.add_argument("--dock-only", action="store_true", help="print how fast the dock opens, and nothing else")
    options = parser.parse_args()
    if options.dock_only:
        print(json.dumps(measure_dock()))
        return
    dock = in_a_fresh_process()
    with tempfile.TemporaryDirectory() as name:
        figures = measure(options.scan or write_phantom(Path(name)), options.jumps, options.steps)
    load = f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"
    machine = f"{os.cpu_count()} cores, {platform.processor() or platform.machine()}, {platform.system()}, load {load}"
    figures = {"scan": options.scan.name if options.scan else "phantom", "machine": machine, **dock, **figures}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(figures, indent=1) + "\n")
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    run()
