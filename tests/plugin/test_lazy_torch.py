"""torch is imported when a detection runs, not before."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

READ_AND_OPEN = """
import sys, tempfile, pathlib
import numpy as np
from napari_alnct.core.geometry import Geometry
from napari_alnct.io.metaimage_writer import write_metaimage
path = pathlib.Path(tempfile.mkdtemp()) / "a.mha"
write_metaimage(path, np.full((4, 4, 4), -900, np.int16), Geometry(shape_zyx=(4, 4, 4), spacing_zyx_mm=(1, 1, 1)))
from qtpy.QtWidgets import QApplication
application = QApplication([])
from napari.components import ViewerModel
from napari.layers import Layer
from napari_alnct.plugin._reader import get_reader
from napari_alnct.plugin._writer import write_mask
from napari_alnct.plugin._detect_widget import DetectWidget
from napari_alnct.plugin._prepare_widget import PrepareWidget
viewer = ViewerModel()
for layer_data in get_reader(str(path))(str(path)):
    viewer.add_layer(Layer.create(*layer_data))
widgets = [DetectWidget(viewer), PrepareWidget(viewer)]
assert widgets[0].run_button.isEnabled()
print("torch" in sys.modules)
"""
READ_A_TABLE = """
import pathlib, sys, tempfile, time
import numpy as np
from napari_alnct.core.geometry import Geometry
from napari_alnct.core.volume import Volume
folder = pathlib.Path(tempfile.mkdtemp())
table = folder / "a.csv"
table.write_text("seriesuid,coordX,coordY,coordZ,probability\\n1.2,3,3,3,0.5\\n")
from qtpy.QtWidgets import QApplication
application = QApplication([])
from napari.components import ViewerModel
import napari.qt  # as a running napari has
viewer = ViewerModel()
started = time.process_time()
from napari_alnct.plugin._widget import ReviewWidget
widget = ReviewWidget(viewer)
seconds = time.process_time() - started
widget.preferences.remember(folder=str(folder))
from napari_alnct.plugin._layers import ct_layer
from napari_alnct.plugin._viewport import add_quietly
grid = Geometry(shape_zyx=(8, 8, 8), spacing_zyx_mm=(1, 1, 1))
add_quietly(viewer, ct_layer(Volume.from_source(np.full((8, 8, 8), -900, np.int16), grid, series_uid="1.2")))
widget.data_tab.load_table(table)
for command in ("accept", "undo", "redo", "add_mark", "slab", "end_read"):
    widget.commands.run(command)
widget.tabs.setCurrentIndex(3)
statuses = [mark.status for mark in widget.reading.session.review.marks]
assert statuses == ["accepted", "reader_added"], statuses
widget.dispose()
print("torch" in sys.modules, round(seconds, 3))
"""
MOST_SECONDS = 0.5  # of processor time, to open the dock
STATE_MODULES = (
    "_compat _layers _reader _writer _sample _viewport _jobs "
    "_keys _settings _session_record _review_state _review_marks"
)
VIEW_MODULES = "_reading_view _open_reading _commands"  # these load napari's models, and with them magicgui
NO_QT = """
import sys
for name in "{names}".split():
    __import__("napari_alnct.plugin." + name)
print(sorted(m for m in ("qtpy", "magicgui", "superqt", "PyQt6", "PySide6", "torch", "SimpleITK") if m in sys.modules))
"""


def run(code: str, **environment: str) -> str:
    """Run code in a fresh interpreter and give the last line that it printed."""
    env = {**os.environ, **environment}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, timeout=120)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip().splitlines()[-1]


@pytest.mark.gui
def test_reading_and_opening_the_widgets_loads_no_torch() -> None:
    """A scan is opened and both widgets exist, with torch still not loaded."""
    assert run(READ_AND_OPEN) == "False"


@pytest.mark.gui
def test_a_reading_from_a_table_loads_no_torch_and_its_dock_opens_at_once(tmp_path: Path) -> None:
    """From a CSV to the report without a model; the dock costs less than half a second of the processor."""
    has_torch, seconds = run(READ_A_TABLE, NAPARI_CONFIG=str(tmp_path / "settings.yaml")).split()
    assert has_torch == "False"
    assert float(seconds) < MOST_SECONDS


def test_the_layer_code_loads_no_qt_and_no_torch() -> None:
    """Reader, writer, samples, layers, the state of a reading and the job module load neither Qt nor torch nor ITK."""
    assert run(NO_QT.format(names=STATE_MODULES)) == "[]"


def test_the_views_load_no_qt_and_no_torch() -> None:
    """Linked planes, the open reading and its commands work on napari's models alone."""
    assert run(NO_QT.format(names=VIEW_MODULES)) in ("[]", "['magicgui']")
