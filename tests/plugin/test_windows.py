"""The plugin in a real napari window: samples, widgets, detection, cancel, rings on the screen."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.layers import Layer

from napari_alnct.core.config import DetectionSettings
from napari_alnct.core.errors import JobCancelled, ModelError
from napari_alnct.core.findings import Candidate, CaseResult
from napari_alnct.core.notice import NOTICE
from napari_alnct.core.volume import Volume
from napari_alnct.data.phantom import PhantomScan
from napari_alnct.plugin import _jobs
from napari_alnct.plugin._compat import camera_of, grid_of
from napari_alnct.plugin._layers import MARKS, ct_layer, is_kind, marks_layer, points_xyz_mm
from napari_alnct.plugin._panel import NO_SCAN
from napari_alnct.plugin._viewport import add_quietly, jump_to

pytestmark = [pytest.mark.gui, pytest.mark.filterwarnings("ignore::pydantic.PydanticDeprecatedSince20")]
PLUGIN = "napari-alnct"
WAIT_MS = 60_000
CENTRE_XYZ_MM = (12.0, -31.0, 44.0)


@pytest.fixture
def viewer(make_napari_viewer: Any) -> Any:
    """Give a napari viewer with our plugin; it fails the test when a widget is left alive."""
    return make_napari_viewer(strict_qt="raise")


def open_widget(viewer: Any, name: str) -> Any:
    """Open a widget as the Plugins menu does."""
    return viewer.window.add_plugin_dock_widget(PLUGIN, name)[1]


def open_scan(viewer: Any, volume: Volume) -> Any:
    """Put a scan into the viewer."""
    return add_quietly(viewer, ct_layer(volume))


def marks_of(viewer: Any) -> list[Any]:
    """Give the layers of marks."""
    return [layer for layer in viewer.layers if is_kind(layer, MARKS)]


def result_for(volume: Volume, scores: tuple[float, ...] = (0.9, 0.6, 0.2), threshold: float = 0.5) -> CaseResult:
    """Give a made-up result: marks in the ball, 3 mm apart."""
    x, y, z = CENTRE_XYZ_MM
    candidates = tuple(
        Candidate(position_xyz_mm=(x + 3 * k, y, z), score=score, diameter_mm=6.0) for k, score in enumerate(scores)
    )
    return CaseResult(
        series_uid=volume.series_uid,
        candidates=candidates,
        threshold=threshold,
        model_name="made-up",
        model_sha256="",
        device="cpu float32",
        notes=("A note for people.",),
    )


class FakeDetection:
    """Stands in for the detection job: waits until it is told to go on, and writes down what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, DetectionSettings]] = []
        self.go_on = threading.Event()
        self.found_first = threading.Event()
        self.error: Exception | None = None
        self.scores: tuple[float, ...] = (0.9, 0.6, 0.2)

    def __call__(self, job: Any, volume: Volume, model: str, settings: DetectionSettings) -> _jobs.Detection:
        self.asked.append((model, settings))
        result = result_for(volume, self.scores)
        job.progress("searching", 0.4)
        job.partial(_jobs.FirstMarks(result.candidates[:1], 0.5))
        self.found_first.set()
        while not self.go_on.wait(0.01):
            if job.is_cancelled():
                raise JobCancelled("stopped")
        if self.error is not None:
            raise self.error
        return _jobs.Detection(result, 1.25)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Replace the detection job."""
    job = FakeDetection()
    monkeypatch.setattr(_jobs, "detect_nodules", job)
    yield job
    job.go_on.set()


def wait_for_job(qtbot: Any, widget: Any) -> None:
    """Wait until the widget's job has ended."""
    qtbot.waitUntil(lambda: widget.job is None, timeout=WAIT_MS)


# -- samples and widgets ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "kinds"),
    [("small_phantom", ["ct"]), ("small_phantom_with_reference", ["ct", "reference"]), ("full_phantom", ["ct"])],
)
def test_every_sample_opens(viewer: Any, key: str, kinds: list[str]) -> None:
    """Each sample opens from napari's menu with its layers, at the middle slice, head up in coronal view."""
    viewer.open_sample(PLUGIN, key)
    assert [layer.metadata["alnct_kind"] for layer in viewer.layers] == kinds
    n_slices = viewer.layers[0].data.shape[0]
    assert abs(viewer.dims.current_step[0] - n_slices / 2) <= 1
    viewer.dims.order = (1, 0, 2)
    assert str(camera_of(viewer).orientation2d[0]) == "up"


@pytest.mark.parametrize("name", ["Preprocess CT", "Detect nodules"])
def test_every_widget_opens_without_a_scan(viewer: Any, name: str) -> None:
    """Without a scan the widget says what to do, offers nothing to run, and carries the notice."""
    widget = open_widget(viewer, name)
    assert widget.message.text() == NO_SCAN
    assert not widget.run_button.isEnabled()
    assert any(label.text() == NOTICE for label in widget.findChildren(type(widget.message)))


def test_widgets_are_in_menus_and_palette(viewer: Any) -> None:
    """Widgets and samples are registered as actions; commands that need a path are not offered in the palette."""
    from napari._app_model import get_app_model

    menus = get_app_model().menus
    palette = {item.command.id: item.command for item in menus.get_menu(menus.COMMAND_PALETTE_ID)}
    for action in ("preprocess", "detect", "small_phantom", "small_phantom_with_reference", "full_phantom"):
        assert palette[f"{PLUGIN}.{action}"].enablement is None
    for action in ("read", "write_marks", "write_mask"):
        assert palette[f"{PLUGIN}.{action}"].enablement.eval({}) is False
    segment = {item.command.id for item in menus.get_menu("napari/layers/segment") if hasattr(item, "command")}
    assert {f"{PLUGIN}.preprocess", f"{PLUGIN}.detect"} <= segment


def test_scan_is_offered_when_it_opens_and_forgotten_when_it_closes(viewer: Any, ball: Callable[..., Volume]) -> None:
    """The list of scans follows the layer list; masks, marks and pictures are not in it."""
    widget = open_widget(viewer, "Detect nodules")
    layer = open_scan(viewer, ball())
    viewer.add_image(np.zeros((4, 4, 4)))
    assert widget.scan_box.count() == 1
    assert widget.run_button.isEnabled()
    viewer.layers.remove(layer)
    assert widget.volume is None
    assert not widget.run_button.isEnabled()


def test_opening_and_closing_a_widget_leaves_no_callback(viewer: Any, ball: Callable[..., Volume]) -> None:
    """After the first opening, 10 more leave the number of callbacks on the layer list as it was."""
    open_scan(viewer, ball())
    events = viewer.layers.events

    def open_and_close() -> int:
        dock, _ = viewer.window.add_plugin_dock_widget(PLUGIN, "Detect nodules")
        viewer.window.remove_dock_widget(dock)
        return sum(len(emitter.callbacks) for emitter in (events.inserted, events.removed, events.reordered))

    first = open_and_close()
    assert {open_and_close() for _ in range(10)} == {first}


# -- preparing ---------------------------------------------------------------------------------


def test_preprocess_adds_mask_and_resampled_scan(viewer: Any, qtbot: Any, phantom: PhantomScan) -> None:
    """The mask covers the lungs on the scan's grid, the resampled scan is hidden, marks stay on top; both share mm."""
    open_scan(viewer, phantom.volume)
    add_quietly(viewer, marks_layer([], series_uid="1", volume=phantom.volume))
    widget = open_widget(viewer, "Preprocess CT")
    widget.settings_form["spacing_mm"].value = 2.0
    widget.run_button.click()
    wait_for_job(qtbot, widget)
    kinds = [layer.metadata["alnct_kind"] for layer in viewer.layers]
    assert kinds == ["ct", "resampled", "lungs", "marks"]
    ct, resampled, lungs, _ = viewer.layers
    assert lungs.data.shape == ct.data.shape
    assert not resampled.visible
    assert tuple(resampled.scale) == (2.0, 2.0, 2.0)
    assert "litres" in widget.message.text()
    assert [str(unit) for unit in viewer.layers.units] == ["millimeter"] * 3


def test_preprocess_of_a_scan_without_lungs_says_so(viewer: Any, qtbot: Any, ball: Callable[..., Volume]) -> None:
    """A scan in which no lungs are found gives a sentence in the widget, no layer and no traceback."""
    open_scan(viewer, ball())
    widget = open_widget(viewer, "Preprocess CT")
    widget.run_button.click()
    wait_for_job(qtbot, widget)
    assert widget.message.text().startswith("Failed:")
    assert len(viewer.layers) == 1
    assert widget.run_button.isEnabled()


# -- detecting -------------------------------------------------------------------------------------


def test_detect_with_the_bundled_model(viewer: Any, qtbot: Any, phantom: PhantomScan) -> None:
    """One click on a phantom: marks with features, the largest nodule among them, device and seconds told."""
    open_scan(viewer, phantom.volume)
    widget = open_widget(viewer, "Detect nodules")
    widget.settings_form["device"].value = "cpu"
    widget.run_button.click()
    wait_for_job(qtbot, widget)
    (layer,) = marks_of(viewer)
    nodule = max(phantom.nodules, key=lambda n: n.diameter_mm)
    places = points_xyz_mm(layer.data, {"scale": layer.scale, "translate": layer.translate})
    assert np.linalg.norm(places - nodule.position_xyz_mm, axis=1).min() < nodule.diameter_mm / 2
    assert {"id", "score", "diameter_mm", "status"} <= set(layer.features.columns)
    assert "cpu" in widget.message.text()
    assert " s." in widget.message.text()
    assert f"of {len(layer.data)} marks shown" in widget.marks.count.text()


def test_first_marks_are_seen_while_the_job_runs(
    viewer: Any, qtbot: Any, ball: Callable[..., Volume], fake: FakeDetection
) -> None:
    """Marks are in the viewer before the job ends; then the final ones replace them; device and model were asked."""
    open_scan(viewer, ball())
    widget = open_widget(viewer, "Detect nodules")
    widget.settings_form["device"].value = "cpu"
    widget.run_button.click()
    qtbot.waitUntil(lambda: len(marks_of(viewer)) == 1, timeout=WAIT_MS)
    assert widget.job is not None
    assert len(marks_of(viewer)[0].data) == 1
    assert widget.cancel_button.isEnabled()
    assert not widget.run_button.isEnabled()
    fake.go_on.set()
    wait_for_job(qtbot, widget)
    (layer,) = marks_of(viewer)
    assert len(layer.data) == 3
    assert list(layer.shown) == [True, True, False]
    assert widget.marks.count.text() == "<b>2 of 3 marks shown</b>"
    assert "made-up on cpu float32, 1.2 s." in widget.message.text()
    assert "A note for people." in widget.message.text()
    ((model, settings),) = fake.asked
    assert model == widget.model_box.model != ""
    assert settings.device == "cpu"


def test_cancel_takes_back_and_keeps_earlier_marks(
    viewer: Any, qtbot: Any, ball: Callable[..., Volume], fake: FakeDetection
) -> None:
    """After Cancel the marks of that run go, those of the earlier run stay as they were."""
    open_scan(viewer, ball())
    widget = open_widget(viewer, "Detect nodules")
    fake.go_on.set()
    widget.run_button.click()
    wait_for_job(qtbot, widget)
    (earlier,) = marks_of(viewer)
    fake.go_on.clear()
    widget.run_button.click()
    qtbot.waitUntil(lambda: len(marks_of(viewer)) == 2, timeout=WAIT_MS)
    widget.cancel_button.click()  # without it the stand-in would wait for ever
    wait_for_job(qtbot, widget)
    assert marks_of(viewer) == [earlier]
    assert earlier.visible
    assert widget.marks.layer is earlier
    assert widget.message.text().startswith("Cancelled")


def test_real_detection_is_cancelled_within_a_batch(viewer: Any, qtbot: Any, phantom: PhantomScan) -> None:
    """The real detector stops while it searches, and leaves no marks."""
    open_scan(viewer, phantom.volume)
    widget = open_widget(viewer, "Detect nodules")
    widget.settings_form["device"].value = "cpu"
    widget.run_button.click()
    qtbot.waitUntil(lambda: widget.message.text().startswith("Searching"), timeout=WAIT_MS)
    widget.cancel_button.click()
    wait_for_job(qtbot, widget)
    assert widget.message.text().startswith("Cancelled")
    assert marks_of(viewer) == []


def test_second_run_hides_the_first(viewer: Any, qtbot: Any, ball: Callable[..., Volume], fake: FakeDetection) -> None:
    """Running again adds marks and hides the earlier ones; none is deleted."""
    open_scan(viewer, ball())
    widget = open_widget(viewer, "Detect nodules")
    fake.go_on.set()
    for _ in range(2):
        widget.run_button.click()
        wait_for_job(qtbot, widget)
    assert [layer.visible for layer in marks_of(viewer)] == [False, True]


def test_failure_is_told_and_takes_back(
    viewer: Any, qtbot: Any, ball: Callable[..., Volume], fake: FakeDetection
) -> None:
    """A model that cannot be used gives its sentence in the widget and leaves no marks."""
    open_scan(viewer, ball())
    widget = open_widget(viewer, "Detect nodules")
    fake.error = ModelError("the model is damaged; download it again")
    fake.go_on.set()
    widget.run_button.click()
    wait_for_job(qtbot, widget)
    assert widget.message.text() == "Failed: the model is damaged; download it again"
    assert marks_of(viewer) == []


def test_empty_result_is_not_no_nodule(
    viewer: Any, qtbot: Any, ball: Callable[..., Volume], fake: FakeDetection
) -> None:
    """No candidate at all: the fixed sentence, a layer without points, zero of zero shown."""
    open_scan(viewer, ball())
    widget = open_widget(viewer, "Detect nodules")
    fake.scores = ()
    fake.go_on.set()
    widget.run_button.click()
    wait_for_job(qtbot, widget)
    assert "No candidate above 0.50 (model made-up). This does not mean that there is no nodule." in (
        widget.message.text()
    )
    assert "0 of 0 marks shown" in widget.marks.count.text()


def test_closing_the_scan_cancels_its_job(
    viewer: Any, qtbot: Any, ball: Callable[..., Volume], fake: FakeDetection
) -> None:
    """When the scan is closed while it is searched, the job stops and no mark appears on the other scan."""
    scan = open_scan(viewer, ball())
    widget = open_widget(viewer, "Detect nodules")
    open_scan(viewer, ball(series_uid="other"))
    widget.scan_box.setCurrentIndex(0)
    widget.run_button.click()
    qtbot.waitUntil(lambda: len(marks_of(viewer)) == 1, timeout=WAIT_MS)
    viewer.layers.remove(scan)
    wait_for_job(qtbot, widget)
    assert marks_of(viewer) == []


@pytest.mark.parametrize("closing", ["viewer", "dock"])
def test_closing_while_running_leaves_no_thread(
    viewer: Any, qtbot: Any, ball: Callable[..., Volume], fake: FakeDetection, closing: str
) -> None:
    """Closing the window, or the dock, stops the job; nothing fails."""
    from qtpy.QtCore import QThreadPool

    open_scan(viewer, ball())
    dock, widget = viewer.window.add_plugin_dock_widget(PLUGIN, "Detect nodules")
    widget.run_button.click()
    assert fake.found_first.wait(10)
    if closing == "viewer":
        viewer.close()
    else:
        viewer.window.remove_dock_widget(dock)
    assert QThreadPool.globalInstance().waitForDone(WAIT_MS)  # the stand-in never ends by itself
    qtbot.wait(50)


# -- marks: threshold, table, rings on the screen ------------------------------------------------------


@pytest.fixture
def detected(viewer: Any, qtbot: Any, ball: Callable[..., Volume], fake: FakeDetection) -> Any:
    """Give the widget after a detection with three marks."""
    open_scan(viewer, ball())
    widget = open_widget(viewer, "Detect nodules")
    fake.go_on.set()
    widget.run_button.click()
    wait_for_job(qtbot, widget)
    return widget


def test_threshold_only_hides(viewer: Any, detected: Any) -> None:
    """Moving the threshold up and down hides and brings back marks and rows; nothing is deleted."""
    (layer,) = marks_of(viewer)
    for threshold, n_shown in ((0.95, 0), (0.0, 3), (0.6, 2)):
        detected.marks.slider.setValue(threshold)
        assert int(layer.shown.sum()) == n_shown
        assert len(layer.data) == 3
        hidden_rows = [detected.marks.table.isRowHidden(row) for row in range(3)]
        assert hidden_rows == [not shown for shown in layer.shown]
        assert f"{n_shown} of 3 marks shown" in detected.marks.count.text()
    detected.marks.slider.setValue(0.95)
    assert "does not mean that there is no nodule" in detected.marks.count.text()


def test_choosing_a_row_jumps_to_its_mark(viewer: Any, detected: Any) -> None:
    """The slice and the camera go to the mark; the table names its slice."""
    viewer.dims.set_current_step(0, 0)
    detected.marks.table.selectRow(1)
    x, y, z = CENTRE_XYZ_MM
    assert np.allclose(camera_of(viewer).center[-2:], (y, x + 3))
    assert abs(viewer.dims.point[0] - z) <= 1.25
    assert detected.marks.table.item(1, 3).text() == str(viewer.dims.current_step[0])


def test_threshold_of_each_scan_is_kept(viewer: Any, detected: Any, ball: Callable[..., Volume]) -> None:
    """Going to a scan without marks and back shows the first scan's marks at the threshold they had."""
    detected.marks.slider.setValue(0.1)
    open_scan(viewer, ball(series_uid="other"))
    detected.scan_box.setCurrentIndex(1)
    assert detected.marks.layer is None
    detected.scan_box.setCurrentIndex(0)
    assert "3 of 3 marks shown" in detected.marks.count.text()
    assert detected.marks.threshold == pytest.approx(0.1)


@pytest.mark.parametrize("order", [(0, 1, 2), (1, 0, 2), (2, 0, 1)], ids=["axial", "coronal", "sagittal"])
@pytest.mark.parametrize(
    "direction", [(1, 0, 0, 0, 1, 0, 0, 0, 1), (-1, 0, 0, 0, -1, 0, 0, 0, 1)], ids=["identity", "flipped"]
)
def test_ring_on_the_screen_has_its_mm(
    make_napari_viewer: Any, ball: Callable[..., Volume], order: tuple[int, int, int], direction: tuple[float, ...]
) -> None:
    """On a screenshot of an anisotropic scan the ring measures 16 mm and lies on the ball, in all three planes."""
    viewer = make_napari_viewer(show=True)
    viewer.window._qt_window.resize(1100, 900)
    volume = ball(direction)
    scan = open_scan(viewer, volume)
    candidate = Candidate(position_xyz_mm=CENTRE_XYZ_MM, score=0.9, diameter_mm=16.0)
    add_quietly(viewer, marks_layer([candidate], series_uid="1", volume=volume)).border_color = "red"
    viewer.dims.order = order
    camera = camera_of(viewer)
    camera.zoom = 9.0
    jump_to(viewer, CENTRE_XYZ_MM)
    viewer.dims.set_point(order[0], CENTRE_XYZ_MM[::-1][order[0]])
    picture = viewer.screenshot(canvas_only=True, flash=False).astype(int)
    ring = (picture[..., 0] > 150) & (picture[..., 1] < 90)
    rows, columns = np.nonzero(ring)
    middle = np.array([(rows.min() + rows.max()) / 2, (columns.min() + columns.max()) / 2])
    radii_mm = np.hypot(rows - middle[0], columns - middle[1]) / 9.0
    assert 2 * radii_mm.mean() == pytest.approx(16.0, abs=0.3)
    assert np.ptp(rows) == pytest.approx(np.ptp(columns), abs=3)
    scan.contrast_limits, scan.interpolation2d = (-860, -859), "nearest"
    viewer.layers[1].visible = False
    rows, columns = np.nonzero(viewer.screenshot(canvas_only=True, flash=False)[..., 1] > 200)
    ball_middle = np.array([(rows.min() + rows.max()) / 2, (columns.min() + columns.max()) / 2])
    half_voxel_pixels = 0.5 * 9.0 * np.array(volume.geometry.spacing_zyx_mm)[list(order[1:])]
    assert (np.abs(middle - ball_middle) <= half_voxel_pixels + 1).all()


def test_settings_of_the_user_are_left_alone(viewer: Any, settings_folder: Path) -> None:
    """Napari's settings of these tests live in a temporary folder."""
    from napari.settings import get_settings

    assert Path(get_settings().config_path).parent == settings_folder


# -- several scans ---------------------------------------------------------------------------


def test_the_scan_opened_last_is_read_alone(viewer: Any, detected: Any, ball: Callable[..., Volume]) -> None:
    """A second scan is chosen and seen without the first one's images and marks; going back brings those again."""
    first, marks = viewer.layers[0], marks_of(viewer)[-1]
    hidden = add_quietly(viewer, marks_layer((), series_uid="x", volume=detected.volume))
    hidden.visible = False
    second = open_scan(viewer, ball(series_uid="other"))
    assert detected.scan_box.currentIndex() == 1
    assert [layer.visible for layer in (first, marks, hidden, second)] == [False, False, False, True]
    detected.scan_box.setCurrentIndex(0)
    assert [layer.visible for layer in (first, marks, hidden, second)] == [True, True, False, False]


def test_grid_mode_shows_scans_side_by_side(viewer: Any, detected: Any, ball: Callable[..., Volume]) -> None:
    """In grid mode opening another scan hides nothing."""
    grid_of(viewer).enabled = True
    open_scan(viewer, ball(series_uid="other"))
    assert all(layer.visible for layer in viewer.layers)


def test_marks_of_a_running_search_never_lie_on_another_scan(
    viewer: Any, qtbot: Any, ball: Callable[..., Volume], fake: FakeDetection
) -> None:
    """When another scan is opened while one is searched, the searched one comes back with its marks."""
    first = open_scan(viewer, ball())
    widget = open_widget(viewer, "Detect nodules")
    widget.run_button.click()
    assert fake.found_first.wait(WAIT_MS / 1000)
    second = open_scan(viewer, ball(series_uid="other"))
    assert widget.volume is first.metadata["alnct_volume"]
    fake.go_on.set()
    wait_for_job(qtbot, widget)
    assert (first.visible, second.visible, marks_of(viewer)[-1].visible) == (True, False, True)


def test_tables_of_a_hidden_scan_stay_hidden(viewer: Any, detected: Any, ball: Callable[..., Volume]) -> None:
    """Marks that are opened for a scan that is not read are hidden with it, and come with it."""
    second = open_scan(viewer, ball(series_uid="other"))
    detected.scan_box.setCurrentIndex(0)
    other = viewer.add_layer(Layer.create(*marks_layer((), series_uid="other", volume=second.metadata["alnct_volume"])))
    assert (other.visible, marks_of(viewer)[0].visible) == (False, True)
    detected.scan_box.setCurrentIndex(1)
    assert (other.visible, marks_of(viewer)[0].visible) == (True, False)


def test_a_new_widget_takes_the_scan_that_is_seen(viewer: Any, detected: Any, ball: Callable[..., Volume]) -> None:
    """A widget that is opened later starts with the scan on the screen, not with the last one."""
    open_scan(viewer, ball(series_uid="other"))
    detected.scan_box.setCurrentIndex(0)
    assert open_widget(viewer, "Preprocess CT").volume is detected.volume


@pytest.mark.parametrize("name", ["Detect nodules", "Preprocess CT"])
def test_the_notice_stands_at_the_bottom(viewer: Any, qtbot: Any, name: str) -> None:
    """No free space lies below the notice."""
    widget = open_widget(viewer, name)
    viewer.window._qt_window.resize(1200, 900)
    viewer.window._qt_window.show()
    (notice,) = [label for label in widget.findChildren(type(widget.message)) if label.text() == NOTICE]
    qtbot.waitUntil(lambda: widget.height() - notice.geometry().bottom() < 30, timeout=5000)


def test_no_dot_on_slices_without_marks(make_napari_viewer: Any) -> None:
    """A layer whose marks are elsewhere changes no pixel: napari's stand-in for no point, at (0, 0), is not drawn."""
    viewer = make_napari_viewer(show=True)
    viewer.add_image(np.ones((9, 9, 9)), contrast_limits=(0, 1), translate=(-4, -4, -4), axis_labels=("z", "y", "x"))
    before = viewer.screenshot(canvas_only=True, flash=False)
    far = Candidate(position_xyz_mm=(0.0, 0.0, 90.0), score=1.0, diameter_mm=4.0)
    layer = Layer.create(*marks_layer((far,), series_uid="x"))
    viewer.add_layer(layer)
    viewer.dims.set_point(0, 0.0)
    camera_of(viewer).center = (0.0, 0.0, 0.0)
    assert before.min(axis=2).max() == 255  # white, where a dot would be dark
    assert np.array_equal(viewer.screenshot(canvas_only=True, flash=False), before)
