"""Display, settings and scans for the tests of the napari plugin.

On Linux without a display a private Xvfb is started; when there is none either, tests marked ``gui`` are skipped.
napari's settings go to a folder of the test run, never to the user's.
"""

from __future__ import annotations

import atexit
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from napari_alnct.core.geometry import Geometry, Triple
from napari_alnct.core.volume import Volume
from napari_alnct.data.phantom import PhantomScan, make_phantom, small_settings

SETTINGS_FOLDER = Path(tempfile.mkdtemp(prefix="napari-alnct-tests-"))
atexit.register(shutil.rmtree, SETTINGS_FOLDER, ignore_errors=True)
os.environ["NAPARI_CONFIG"] = str(SETTINGS_FOLDER / "settings.yaml")  # before napari.settings is imported
NO_DISPLAY = "no display: install Xvfb or set DISPLAY to run the tests that open a window"


def has_display() -> bool:
    """Tell whether a window can be opened."""
    return sys.platform != "linux" or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def start_xvfb() -> subprocess.Popen[bytes]:
    """Start a virtual display, wait until it is ready, and point Qt and OpenGL to it."""
    read_end, write_end = os.pipe()
    command = ["Xvfb", "-displayfd", str(write_end), "-screen", "0", "1600x1000x24", "-nolisten", "tcp"]
    server = subprocess.Popen(command, pass_fds=(write_end,), stderr=subprocess.DEVNULL)
    os.close(write_end)
    with os.fdopen(read_end) as ready:
        number = ready.readline().strip()
    if number:
        os.environ.update(DISPLAY=f":{number}", LIBGL_ALWAYS_SOFTWARE="1", QT_QPA_PLATFORM="xcb")
    return server


@pytest.fixture(scope="session", autouse=True)
def _display() -> Iterator[None]:
    """Give the session a display where one can be had, before any QApplication."""
    server = start_xvfb() if not has_display() and shutil.which("Xvfb") else None
    yield
    if server is not None:
        from qtpy.QtWidgets import QApplication

        if application := QApplication.instance():
            application.processEvents()
        server.terminate()
        server.wait(10)


@pytest.fixture(scope="session")
def qapp_args(_display: None) -> list[str]:
    """Give pytest-qt the arguments of its QApplication; skip here, for Qt itself aborts without a display."""
    if not has_display():
        pytest.skip(NO_DISPLAY)
    return ["napari-alnct-tests"]


@pytest.fixture(scope="session", autouse=True)
def settings_folder() -> Path:
    """Keep napari's settings in a folder of this run."""
    import napari.settings

    napari.settings._CFG_PATH = os.environ["NAPARI_CONFIG"]
    return SETTINGS_FOLDER


@pytest.fixture(autouse=True)
def _skip_without_display(request: pytest.FixtureRequest, _display: None) -> None:
    """Skip a test marked ``gui`` when no window can be opened."""
    if request.node.get_closest_marker("gui") and not has_display():
        pytest.skip(NO_DISPLAY)


@pytest.fixture(scope="session")
def phantom() -> PhantomScan:
    """Give one small synthetic chest CT."""
    return make_phantom(small_settings(5))


@pytest.fixture(scope="session")
def ball() -> Callable[..., Volume]:
    """Give a function that makes a scan of air with one bright ball at a known place."""
    return ball_scan


def ball_scan(
    direction: tuple[float, ...] = (1, 0, 0, 0, 1, 0, 0, 0, 1),
    centre_xyz_mm: Triple = (12.0, -31.0, 44.0),
    diameter_mm: float = 16.0,
    spacing_zyx_mm: Triple = (2.5, 0.7, 0.9),
    series_uid: str = "1.2.3",
) -> Volume:
    """Give a scan whose file has this direction: air, and a ball of soft tissue.

    The array is filled voxel by voxel from the world position of each voxel in the orientation of the
    *file*, so it does not use the reorientation that it helps to test.
    """
    matrix = np.reshape(np.asarray(direction, dtype=float), (3, 3))
    shape_zyx = (20, 70, 60)
    half = np.multiply(np.subtract(shape_zyx, 1), spacing_zyx_mm)[::-1] / 2
    origin = np.asarray(centre_xyz_mm) + 4.3 - matrix @ half
    x, y, z = (float(v) for v in origin)
    grid = Geometry(
        shape_zyx=shape_zyx, spacing_zyx_mm=spacing_zyx_mm, origin_xyz_mm=(x, y, z), direction=tuple(matrix.ravel())
    )
    index = np.stack(np.meshgrid(*(np.arange(n) for n in shape_zyx), indexing="ij"), axis=-1)
    distance = np.linalg.norm(grid.index_to_world(index.reshape(-1, 3)) - centre_xyz_mm, axis=1).reshape(shape_zyx)
    hu = np.where(distance <= diameter_mm / 2, 40, -900).astype(np.int16)
    return Volume.from_source(hu, grid, series_uid=series_uid)
