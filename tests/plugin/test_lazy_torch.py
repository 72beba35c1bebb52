"""torch is imported when a detection runs, not before."""

from __future__ import annotations

import os
import subprocess
import sys

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
STATE_MODULES = "_compat _layers _reader _writer _sample _viewport _jobs"
NO_QT = """
import sys
for name in "{names}".split():
    __import__("napari_alnct.plugin." + name)
print(sorted(m for m in ("qtpy", "magicgui", "superqt", "PyQt6", "PySide6", "torch", "SimpleITK") if m in sys.modules))
"""


def run(code: str) -> str:
    """Run code in a fresh interpreter and give the last line that it printed."""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ, timeout=120)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip().splitlines()[-1]


@pytest.mark.gui
def test_reading_and_opening_the_widgets_loads_no_torch() -> None:
    """A scan is opened and both widgets exist, with torch still not loaded."""
    assert run(READ_AND_OPEN) == "False"


def test_the_layer_code_loads_no_qt_and_no_torch() -> None:
    """Reader, writer, samples, layers and the job module load neither Qt nor torch nor SimpleITK."""
    assert run(NO_QT.format(names=STATE_MODULES)) == "[]"
