"""The three planes in a real napari window: what is on the screen, the mouse, the dock, what is left after closing."""

from __future__ import annotations

import gc
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from qtpy.QtCore import QPoint, QPointF, Qt
from qtpy.QtGui import QWheelEvent
from qtpy.QtWidgets import QApplication
from scipy import ndimage

from napari_alnct.core.findings import Candidate
from napari_alnct.core.volume import Volume
from napari_alnct.plugin._compat import camera_of, canvas_of_window
from napari_alnct.plugin._layers import marks_layer
from napari_alnct.plugin._reading_view import ReadingView
from napari_alnct.plugin._viewport import add_quietly
from napari_alnct.plugin._views import DOCK_NAME, PlanesWidget, add_planes, remove_planes
from tests.plugin.leaks import Traces

pytestmark = [pytest.mark.gui, pytest.mark.filterwarnings("ignore::pydantic.PydanticDeprecatedSince20")]
CENTRE_XYZ_MM = (12.0, -31.0, 44.0)  # of the ball, which lies to the right, the front and the feet of the scan's middle
FIELD_MM = 40.0
FLIPS = list(itertools.product((1.0, -1.0), repeat=3))


def direction_of(signs: tuple[float, ...]) -> tuple[float, ...]:
    """Give the direction matrix with these signs on its diagonal."""
    return tuple(np.diag(signs).ravel())


@pytest.fixture
def viewer(make_napari_viewer: Any) -> Any:
    """Give a napari window on the screen; it fails the test when a widget is left alive."""
    viewer = make_napari_viewer(show=True, strict_qt="raise")
    viewer.window._qt_window.resize(1300, 800)
    return viewer


@pytest.fixture
def view(viewer: Any) -> Iterator[ReadingView]:
    """Give a view on that window."""
    view = ReadingView(viewer)
    yield view
    view.close()


@pytest.fixture
def planes(view: ReadingView, qtbot: Any) -> Iterator[PlanesWidget]:
    """Give the side planes in their dock, in place."""
    widget = add_planes(view)
    assert widget is not None
    qtbot.waitUntil(lambda: view.counts_drawn and widget.is_settled, timeout=20_000)
    yield widget
    remove_planes(widget)


def pictures(view: ReadingView, planes: PlanesWidget) -> list[np.ndarray]:
    """Give what is on the three canvases, RGB."""
    canvases = [canvas_of_window(view.viewer), *(widget.canvas for widget in planes.canvases)]
    found = []
    for canvas in canvases:
        QApplication.processEvents()
        image = canvas.screenshot()
        image = image.convertToFormat(image.Format.Format_RGBA8888)
        pixels = np.frombuffer(image.constBits().asstring(image.sizeInBytes()), np.uint8)
        found.append(pixels.reshape(image.height(), image.width(), 4)[..., :3].astype(int))
    return found


def middle_of(mask: np.ndarray) -> np.ndarray:
    """Give the middle (row, column) of what is true."""
    rows, columns = np.nonzero(mask)
    return np.array([(rows.min() + rows.max()) / 2, (columns.min() + columns.max()) / 2])


def show_ball(view: ReadingView, volume: Volume, diameter_mm: float = 16.0) -> Any:
    """Open a scan at its ball, large, with a red ring around it."""
    view.open(volume)
    mark = Candidate(position_xyz_mm=CENTRE_XYZ_MM, score=0.9, diameter_mm=diameter_mm)
    layer = add_quietly(view.viewer, marks_layer([mark], series_uid="1", volume=volume))
    layer.border_color = "red"
    view.show_marks(layer)
    view.is_crosshair_shown = False
    view.go_to(CENTRE_XYZ_MM)
    view.set_field(FIELD_MM)
    return layer


def test_ball_lies_where_the_letters_say(view: ReadingView, planes: PlanesWidget, ball: Callable[..., Volume]) -> None:
    """For 8 direction matrices: seen from the middle of the scan, the ball is on the side of R, A and F."""
    view.is_crosshair_shown = False
    for signs in FLIPS:
        volume = ball(direction_of(signs))
        view.open(volume)
        view.set_window(-860, -859)
        x, y, z = volume.geometry.index_to_world((np.array(volume.hu.shape) - 1) / 2)
        view.go_to((float(x), float(y), float(z)))
        view.set_field(50.0)
        for plane, picture in zip(view.planes, pictures(view, planes), strict=True):
            core = picture[80:-80, 80:-80]  # without letters and read-out
            down, right = middle_of(core.min(axis=2) > 200) - np.array(core.shape[:2]) / 2
            letters = plane.letters
            found = {letters["bottom" if down > 0 else "top"], letters["right" if right > 0 else "left"]}
            assert found == {"axial": {"A", "R"}, "coronal": {"F", "R"}, "sagittal": {"F", "A"}}[plane.name], signs


@pytest.mark.parametrize("slab_mm", [0.0, 10.0])
@pytest.mark.parametrize("signs", [FLIPS[0], FLIPS[6]], ids=["identity", "flipped"])
def test_rings_lie_on_the_ball_with_its_diameter_in_all_planes(
    view: ReadingView, planes: PlanesWidget, ball: Callable[..., Volume], signs: tuple[float, ...], slab_mm: float
) -> None:
    """On an anisotropic scan each ring measures 16 mm and lies within half a voxel of the ball, in slabs too."""
    volume = ball(direction_of(signs))
    ring = show_ball(view, volume)
    view.set_slab(slab_mm)
    spacing = np.array(volume.geometry.spacing_zyx_mm)
    with_ring = pictures(view, planes)
    ring.visible = False
    view.set_window(-860, -859)
    for plane, picture, bare in zip(view.planes, with_ring, pictures(view, planes), strict=True):
        per_mm = camera_of(plane.viewer).zoom
        red = (picture[..., 0] > 150) & (picture[..., 1] < 90)
        middle = middle_of(red)
        rows, columns = np.nonzero(red)
        diameter_mm = 2 * np.hypot(rows - middle[0], columns - middle[1]).mean() / per_mm
        offset_mm = max(
            0.0, abs(CENTRE_XYZ_MM[::-1][plane.axis] - plane.slice_mm) - plane.n_beside * spacing[plane.axis]
        )
        assert diameter_mm == pytest.approx(2 * np.sqrt(8.0**2 - offset_mm**2), abs=0.3), plane.name
        core = np.zeros_like(red)
        core[80:-80, 80:-80] = bare[80:-80, 80:-80].min(axis=2) > 200
        half_voxel_px = 0.5 * per_mm * spacing[list(plane.viewer.dims.displayed)]
        assert (np.abs(middle - middle_of(core)) <= half_voxel_px + 1).all(), plane.name


def test_letters_read_out_and_crosshair_are_drawn(
    view: ReadingView, planes: PlanesWidget, ball: Callable[..., Volume]
) -> None:
    """Each canvas has white letters at its four edges, text in its corner, and a blue crosshair with a gap."""
    view.open(ball())
    view.set_window(2000, 3000)  # all black
    for picture in pictures(view, planes):
        white, blue = picture.min(axis=2) > 200, (picture[..., 2] > 120) & (picture[..., 0] < 120)
        height, width = white.shape
        middle, span = (height // 2, width // 2), 12
        edges = [
            white[:36, middle[1] - span : middle[1] + span],
            white[-36:, middle[1] - span : middle[1] + span],
            white[middle[0] - span : middle[0] + span, :36],
            white[middle[0] - span : middle[0] + span, -36:],
        ]
        assert all(edge.sum() > 10 for edge in edges)
        assert white[-30:, :80].sum() > 30
        assert blue[:, middle[1] - 30 : middle[1] + 30].sum() > height / 4
        assert not blue[middle[0] - 15 : middle[0] + 15, middle[1] - 15 : middle[1] + 15].any()


def test_letters_are_read_on_bright_tissue(
    view: ReadingView, planes: PlanesWidget, ball: Callable[..., Volume]
) -> None:
    """White on white each letter stands within a closed dark rim, which the crosshair does not break."""
    view.open(ball())
    view.set_window(-3000, -2000)  # all white
    view.set_field(20)  # nothing but tissue on the canvas
    for picture in pictures(view, planes):
        white = picture.min(axis=2) > 200
        rows, columns = (slice(size // 2 - 18, size // 2 + 18) for size in white.shape)
        for edge in (white[2:36, columns], white[-34:-2, columns], white[rows, 2:36], white[rows, -34:-2]):
            parts, n_parts = ndimage.label(edge)
            border = {*parts[[0, -1]].ravel(), *parts[:, [0, -1]].ravel()}
            assert any((parts == part).sum() > 20 for part in set(range(1, n_parts + 1)) - border)


def wheel(native: Any, notches: int) -> None:
    """Turn the wheel over the middle of a canvas."""
    middle = QPointF(native.width() / 2, native.height() / 2)
    where = QPointF(native.mapToGlobal(middle.toPoint()))
    phase, turn = Qt.ScrollPhase.NoScrollPhase, QPoint(0, 120 * notches)
    none, button = Qt.KeyboardModifier.NoModifier, Qt.MouseButton.NoButton
    QApplication.sendEvent(native, QWheelEvent(middle, where, QPoint(), turn, button, none, phase, False))


def test_mouse_on_the_canvases(
    view: ReadingView, planes: PlanesWidget, ball: Callable[..., Volume], qtbot: Any
) -> None:
    """Real events: the wheel moves one slice in each canvas and zooms nothing; a drag changes W/L; a click jumps."""
    view.open(ball())
    natives = [canvas_of_window(view.viewer).native, *(widget.canvas.native for widget in planes.canvases)]
    fields = [plane.field_mm for plane in view.planes]
    for plane, native, step in zip(view.planes, natives, (-1, 1, 1), strict=True):
        index = plane.index
        wheel(native, -1)
        assert plane.index == index + step
    pictures(view, planes)
    assert [plane.field_mm for plane in view.planes] == pytest.approx(fields)
    for native in natives:
        before, start = view.window_hu, QPoint(native.width() // 2, native.height() // 2)
        qtbot.mousePress(native, Qt.MouseButton.RightButton, pos=start)
        qtbot.mouseMove(native, start + QPoint(20, 0))
        qtbot.waitUntil(lambda before=before: view.window_hu != before, timeout=5000)
        qtbot.mouseRelease(native, Qt.MouseButton.RightButton, pos=start + QPoint(20, 0))
    pictures(view, planes)
    assert [plane.field_mm for plane in view.planes] == pytest.approx(fields)
    before, place = view.place_xyz_mm, QPoint(natives[1].width() // 2 + 30, natives[1].height() // 2)
    camera = camera_of(view.sides[0].viewer)
    qtbot.mousePress(natives[1], Qt.MouseButton.LeftButton, pos=place)
    qtbot.mouseRelease(natives[1], Qt.MouseButton.LeftButton, pos=place)
    assert view.place_xyz_mm[0] == pytest.approx(camera.center[-1] + 30 / camera.zoom, abs=1 / camera.zoom)
    assert view.place_xyz_mm[1] == pytest.approx(before[1])


def test_only_drawn_slices_count_as_seen(
    view: ReadingView, planes: PlanesWidget, ball: Callable[..., Volume], qtbot: Any
) -> None:
    """Ten notches before the next picture are drawn once: the slices in between were never on the screen."""
    view.open(ball())
    pictures(view, planes)
    seen, index = view.seen_slices.sum(), view.main.index
    for _ in range(6):
        wheel(canvas_of_window(view.viewer).native, -1)
    assert view.seen_slices.sum() == seen
    qtbot.waitUntil(lambda: bool(view.seen_slices[index - 6]), timeout=5000)
    assert view.seen_slices.sum() == seen + 1


def test_side_planes_follow_a_scroll_soon(
    view: ReadingView, planes: PlanesWidget, ball: Callable[..., Volume], qtbot: Any
) -> None:
    """Their crosshairs wait a moment while the main view scrolls, and then are right."""
    view.open(ball())
    view.main.step(-3)
    crosshair = view.sides[0]._overlays.crosshair
    assert crosshair.place_mm[0] != pytest.approx(view.main.slice_mm)
    qtbot.waitUntil(lambda: crosshair.place_mm[0] == pytest.approx(view.main.slice_mm), timeout=5000)


def test_layouts_share_the_room(
    view: ReadingView, planes: PlanesWidget, ball: Callable[..., Volume], qtbot: Any
) -> None:
    """A large axial view with a column; three pictures of the same scale; the axial view alone; field and slab stay."""
    view.open(ball())
    view.set_slab(10)
    before = {**view.state(), "layout": None, "seen_slices": None}
    main = canvas_of_window(view.viewer).native

    def sides() -> list[int]:
        return [min(canvas.width(), canvas.height()) for canvas in planes.canvases]

    qtbot.waitUntil(lambda: main.width() > 1.4 * planes.width(), timeout=5000)
    view.set_layout("planes")
    shorter = min(main.width(), main.height())
    qtbot.waitUntil(lambda: max(sides()) < 1.3 * min(main.width(), main.height()), timeout=5000)
    qtbot.waitUntil(lambda: min(sides()) > 0.7 * min(main.width(), main.height()), timeout=5000)
    assert shorter > 0
    view.set_layout("axial")
    qtbot.waitUntil(lambda: not planes.isVisible(), timeout=5000)
    view.set_layout("axial + planes")
    qtbot.waitUntil(planes.isVisible, timeout=5000)
    assert {**view.state(), "layout": None, "seen_slices": None} == before


def test_side_planes_take_no_keys_and_no_files(view: ReadingView, planes: PlanesWidget) -> None:
    """Keys go to the main view wherever the mouse was; a file dropped there does not open in a side plane."""
    for widget in planes.canvases:
        assert widget.canvas.native.focusPolicy() == Qt.FocusPolicy.NoFocus
        assert not widget.acceptDrops()


def test_a_floating_dock_still_shows_rings_over_images(
    view: ReadingView, planes: PlanesWidget, ball: Callable[..., Volume], qtbot: Any
) -> None:
    """A dock that is taken out of the window gets a new GL context, in which marks still lie over the image."""
    show_ball(view, ball())
    dock = planes._dock()
    assert dock is not None
    dock.setFloating(True)
    qtbot.wait(300)
    for picture in pictures(view, planes)[1:]:
        assert ((picture[..., 0] > 150) & (picture[..., 1] < 90)).sum() > 50


def counts_of_window(viewer: Any, traces: Traces) -> dict[str, int]:
    """Count what could be left: callbacks, overlays, threads, and of the window widgets, canvases and docks."""
    from napari._vispy.canvas import VispyCanvas
    from napari.qt import QtViewer

    for _ in range(3):
        QApplication.sendPostedEvents(None, 52)  # deferred deletes
        QApplication.processEvents()
        gc.collect()
    counts = traces.counts()
    counts["widgets"] = len(QApplication.allWidgets())
    counts["canvases"] = len(QtViewer._instances) + len(VispyCanvas._instances)
    counts["docks"] = sum(name == DOCK_NAME for name in viewer.window.dock_widgets)
    return counts


def test_opening_and_closing_twenty_times_leaves_nothing(viewer: Any, ball: Callable[..., Volume]) -> None:
    """Planes docked, scan and marks shown, slab on, all closed: the same counts after 2 and after 22 times."""
    volume = ball()
    add_quietly(viewer, marks_layer([], series_uid="1", volume=volume))

    def cycle() -> None:
        view = ReadingView(viewer)
        widget = add_planes(view)
        assert widget is not None
        view.open(volume)
        view.show_marks(viewer.layers[0])
        view.set_slab(10)
        QApplication.processEvents()
        remove_planes(widget)
        view.close()

    for _ in range(2):
        cycle()
    traces = Traces(viewer, draw=canvas_of_window(viewer).events)
    before = counts_of_window(viewer, traces)
    for _ in range(20):
        cycle()
    after = counts_of_window(viewer, traces)
    assert {name: (before.get(name), count) for name, count in after.items() if count != before.get(name)} == {}
