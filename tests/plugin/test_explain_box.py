"""Explain candidate in a real window: keys, caveat, refusals, cancel, the widget, and that nothing is left behind."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qtpy.QtCore import QEvent, Qt
from qtpy.QtGui import QKeyEvent
from qtpy.QtWidgets import QApplication, QLabel

from napari_alnct.core.errors import JobCancelled, LungsNotFoundError
from napari_alnct.core.evidence import CAPTION, NO_RELIABLE_MAP, NO_SUPPORT, EvidenceMap
from napari_alnct.core.findings import Candidate, CaseResult
from napari_alnct.core.proposals import Source
from napari_alnct.core.volume import Volume
from napari_alnct.plugin._explain_box import CANCELLED
from napari_alnct.plugin._explain_jobs import Agreement, Explaining, Explanation, Offer
from napari_alnct.plugin._explain_layers import EVIDENCE, EVIDENCE_KEY, SCORES
from napari_alnct.plugin._explain_legend import OWN_SCALE, SHARED_SCALE
from napari_alnct.plugin._explain_subject import FROM_TABLE, LOCKED
from napari_alnct.plugin._layers import ct_layer, is_kind, marks_layer
from napari_alnct.plugin._viewport import add_quietly
from tests.plugin.evidence_maps import CELL_MM, made_up_map, made_up_scores, without_support
from tests.plugin.test_lazy_torch import run

pytestmark = [pytest.mark.gui, pytest.mark.filterwarnings("ignore::pydantic.PydanticDeprecatedSince20")]
PLUGIN, DOCK, WIDGET = "napari-alnct", "Nodule review", "Explain candidates"
WAIT_MS = 120_000
CENTRE_XYZ_MM = (12.0, -31.0, 44.0)  # of the ball
PLACES = (CENTRE_XYZ_MM, (4.0, -25.0, 40.0), (20.0, -38.0, 50.0))
OFFERS = (
    Offer("second look", (("encoder.stages.0", 2.0), ("encoder.stages.1", 4.0)), "encoder.stages.1"),
    Offer("first stage", (("merges.1", 4.0),), "merges.1"),
)
OPEN_THE_WIDGET = """
import sys
import numpy as np
from qtpy.QtWidgets import QApplication
application = QApplication([])
from napari.components import ViewerModel
from napari_alnct.core.geometry import Geometry
from napari_alnct.core.volume import Volume
from napari_alnct.plugin._explain_widget import ExplainWidget
from napari_alnct.plugin._layers import ct_layer
from napari_alnct.plugin._viewport import add_quietly
viewer = ViewerModel()
grid = Geometry(shape_zyx=(8, 8, 8), spacing_zyx_mm=(1, 1, 1))
add_quietly(viewer, ct_layer(Volume.from_source(np.full((8, 8, 8), -900, np.int16), grid, series_uid="1.2")))
viewer.add_points(np.zeros((1, 3)), units=("mm",) * 3)
widget = ExplainWidget(viewer)
assert widget.current().name == "mark 1"
assert widget.subject().targets == (widget.current(),)
print("torch" in sys.modules)
"""


@pytest.fixture(autouse=True)
def readings(tmp_path: Path) -> Iterator[Path]:
    """Keep readings in a folder of the test, and give the page of the Preferences back as it was."""
    from napari.settings import get_plugin_settings

    page = get_plugin_settings(PLUGIN)
    page.reading.folder = str(tmp_path / "readings")
    yield tmp_path / "readings"
    page.reset()


@pytest.fixture
def viewer(make_napari_viewer: Any) -> Any:
    """Give a napari window on the screen; it fails the test when a widget is left alive."""
    viewer = make_napari_viewer(show=True, strict_qt="raise")
    viewer.window._qt_window.resize(1500, 900)
    return viewer


class FakeJobs:
    """Stands in for the jobs: made-up maps at the candidates' places; it can wait, and fail."""

    def __init__(self) -> None:
        self.go_on = threading.Event()
        self.go_on.set()
        self.error: Exception | None = None
        self.change: Callable[[EvidenceMap], EvidenceMap] = lambda one: one
        self.asked: list[tuple[Any, ...]] = []

    def explain(self, job: Any, subject: Any, targets: Sequence[Any], wish: Any = None) -> Explanation:
        self.asked.append((subject, tuple(targets), wish))
        job.progress("Explaining", 0.5)
        while not self.go_on.wait(0.01):
            if job.is_cancelled():
                raise JobCancelled("stopped")
        if self.error is not None:
            raise self.error
        maps = tuple(self.change(made_up_map(t.position_xyz_mm, t.name, peak=0.5 + k)) for k, t in enumerate(targets))
        return Explanation(maps, {}, OFFERS, 0.1)

    def occlude(self, job: Any, subject: Any, one: EvidenceMap) -> Agreement:
        return Agreement(one.candidate, 0.1, NO_RELIABLE_MAP, 0.03)

    def scores(self, job: Any, subject: Any) -> Any:
        return made_up_scores(subject.volume)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeJobs]:
    """Replace the jobs."""
    jobs = FakeJobs()
    monkeypatch.setattr(
        Explaining, "explain", lambda self, job, subject, targets, wish: jobs.explain(job, subject, targets, wish)
    )
    monkeypatch.setattr(Explaining, "occlude", lambda self, job, subject, one: jobs.occlude(job, subject, one))
    monkeypatch.setattr(Explaining, "scores", lambda self, job, subject: jobs.scores(job, subject))
    yield jobs
    jobs.go_on.set()


def candidates() -> tuple[Candidate, ...]:
    return tuple(
        Candidate(position_xyz_mm=place, score=score, diameter_mm=6.0)
        for place, score in zip(PLACES, (0.9, 0.8, 0.7), strict=True)
    )


def open_reading(viewer: Any, qtbot: Any, volume: Volume, *, mode: str = "concurrent") -> Any:
    """Open dock and scan, with three marks of a model of the user's own."""
    dock = viewer.window.add_plugin_dock_widget(PLUGIN, DOCK)[1]
    dock.preferences.remember(mode=mode)
    add_quietly(viewer, ct_layer(volume))
    qtbot.waitUntil(lambda: dock.planes is not None and not dock._saving.isActive(), timeout=WAIT_MS)
    dock.detect_tab.detection_form.model_box.add_file(Path("/nowhere/made-up.safetensors"))
    result = CaseResult(
        series_uid=volume.series_uid,
        candidates=candidates(),
        threshold=0.5,
        model_name="made-up",
        model_sha256="ab" * 32,
        device="cpu",
        voxel_sha256=volume.voxel_sha256,
    )
    dock.reading.session.take_candidates(result, Source())
    dock.tabs.setCurrentWidget(dock.review_tab)
    dock.commands.run("next_mark")
    return dock


def wait(qtbot: Any, box: Any) -> None:
    qtbot.waitUntil(lambda: box.job is None, timeout=WAIT_MS)


def evidence_of(viewer: Any) -> list[Any]:
    return [layer for layer in viewer.layers if is_kind(layer, EVIDENCE)]


def seen(viewer: Any) -> set[str]:
    """Give the candidates whose evidence is visible."""
    return {layer.metadata[EVIDENCE_KEY]["candidate"] for layer in evidence_of(viewer) if layer.visible}


def drawn(viewer: Any) -> list[str]:
    """Give the candidate of each layer of evidence, visible or not."""
    return [layer.metadata[EVIDENCE_KEY].get("candidate", "nobody") for layer in evidence_of(viewer)]


def give_keyboard(viewer: Any, qtbot: Any) -> Any:
    window = viewer.window._qt_window
    window.activateWindow()
    window.raise_()
    qtbot.waitUntil(lambda: QApplication.activeWindow() is window, timeout=WAIT_MS)
    canvas = viewer.window._qt_viewer.canvas.native
    canvas.setFocus()
    return canvas


def repeated_release() -> QKeyEvent:
    """Give what some systems send again and again while a key is held."""
    return QKeyEvent(QEvent.Type.KeyRelease, Qt.Key.Key_H, Qt.KeyboardModifier.NoModifier, "h", True)


# -- keys -----------------------------------------------------------------------------------------------


def test_the_keys_explain_hold_and_switch_whatever_layer_is_active(
    viewer: Any, qtbot: Any, ball: Callable[..., Volume], fake: FakeJobs
) -> None:
    """Alt+X explains, H shows while it is down, Alt+B leaves it on; no layer before; slice, window and zoom stay.

    The slices are thicker than the map's cells, so that the slider of the window gets finer steps.
    """
    dock = open_reading(viewer, qtbot, ball(spacing_zyx_mm=(5.0, 0.7, 0.9)))
    box, view = dock.review_tab.explain_box, dock.view
    canvas = give_keyboard(viewer, qtbot)
    before = view.state()
    qtbot.keyClick(canvas, Qt.Key.Key_H)
    assert "not explained" in dock.message.text()
    assert evidence_of(viewer) == []
    qtbot.keyClick(canvas, Qt.Key.Key_X, Qt.KeyboardModifier.AltModifier)
    wait(qtbot, box)
    assert len(evidence_of(viewer)) == 2
    assert seen(viewer) == set()
    assert viewer.dims.range[0].step == CELL_MM
    others = {
        "image": viewer.add_image(np.zeros((4, 4, 4))),
        "labels": viewer.add_labels(np.zeros((4, 4, 4), np.uint8)),
        "points": viewer.add_points(np.zeros((1, 3))),
        "shapes": viewer.add_shapes(ndim=3),
    }
    for layer in others.values():
        viewer.layers.selection.active = layer
        canvas.setFocus()
        qtbot.keyPress(canvas, Qt.Key.Key_H)
        assert seen(viewer) == {"mark 1"}
        QApplication.sendEvent(canvas, repeated_release())
        assert seen(viewer) == {"mark 1"}
        qtbot.keyRelease(canvas, Qt.Key.Key_H)
        assert seen(viewer) == set()
        for wanted in ({"mark 1"}, set()):
            qtbot.keyClick(canvas, Qt.Key.Key_B, Qt.KeyboardModifier.AltModifier)
            assert seen(viewer) == wanted
    for layer in others.values():
        viewer.layers.remove(layer)
    assert {**view.state(), "seen_slices": None} == {**before, "seen_slices": None}


def test_the_heat_map_goes_when_the_keyboard_goes_to_another_window(
    viewer: Any, qtbot: Any, ball: Callable[..., Volume], fake: FakeJobs
) -> None:
    """The release of the key would be heard there, not here."""
    dock = open_reading(viewer, qtbot, ball())
    box = dock.review_tab.explain_box
    canvas = give_keyboard(viewer, qtbot)
    box.explain()
    wait(qtbot, box)
    qtbot.keyPress(canvas, Qt.Key.Key_H)
    assert seen(viewer) == {"mark 1"}
    QApplication.sendEvent(viewer.window._qt_window, QEvent(QEvent.Type.WindowDeactivate))
    assert seen(viewer) == set()
    assert not box._hold.is_held


def test_the_layers_follow_when_the_reader_rests(
    viewer: Any, qtbot: Any, ball: Callable[..., Volume], fake: FakeJobs
) -> None:
    """The same two layers at every mark; a key shows the right map at once; at an unexplained mark they are empty."""
    dock = open_reading(viewer, qtbot, ball())
    box = dock.review_tab.explain_box
    box.explain_all()
    wait(qtbot, box)
    box.show_.keep_only({f"mark {k + 1}": PLACES[k] for k in (0, 1)})  # mark 3 is not explained
    canvas = give_keyboard(viewer, qtbot)
    before = evidence_of(viewer)
    for name in ("mark 2", "mark 1", "mark 2"):
        dock.commands.run("next_mark" if name == "mark 2" else "previous_mark")
        qtbot.keyPress(canvas, Qt.Key.Key_H)
        assert seen(viewer) == {name}
        qtbot.keyRelease(canvas, Qt.Key.Key_H)
        assert seen(viewer) == set()
        assert evidence_of(viewer) == before
    dock.commands.run("previous_mark")
    qtbot.waitUntil(lambda: drawn(viewer) == ["mark 1"] * 2, timeout=WAIT_MS)
    assert evidence_of(viewer) == before
    dock.reading.session.go_to(3)
    assert seen(viewer) == set()
    qtbot.waitUntil(lambda: drawn(viewer) == ["nobody"] * 2, timeout=WAIT_MS)
    assert not any(layer.data.any() for layer in evidence_of(viewer))
    dock.reading.session.go_to(2)
    qtbot.waitUntil(lambda: drawn(viewer) == ["mark 2"] * 2, timeout=WAIT_MS)
    assert seen(viewer) == set()
    assert evidence_of(viewer) == before


# -- words ----------------------------------------------------------------------------------------------


def test_the_box_tells_scale_unit_caveat_and_what_was_explained(
    viewer: Any, qtbot: Any, ball: Callable[..., Volume], fake: FakeJobs
) -> None:
    """All marks share a scale; the next mark has its own map; a relative scale says so; the caveat is always there."""
    dock = open_reading(viewer, qtbot, ball())
    box = dock.review_tab.explain_box
    assert not box.details.isVisibleTo(dock)
    box.all_button.click()
    wait(qtbot, box)
    assert [target.name for target in fake.asked[0][1]] == ["mark 1", "mark 2", "mark 3"]
    assert len(box.show_.maps) == 3
    assert drawn(viewer) == ["mark 1"] * 2
    assert any(CAPTION in label.text() for label in box.findChildren(QLabel) if label.isVisibleTo(dock))
    assert box.legend.texts[0] == "supports 0 to 2.5"
    assert box.legend.texts[-2:] == ["Unit: logit per cell.", SHARED_SCALE]
    assert "logit +2.50 of the second look" in box.text.text()
    assert "Hold H" in box.message.text()
    box.on_box.click()
    assert seen(viewer) == {"mark 1"}
    dock.commands.run("next_mark")
    assert seen(viewer) == {"mark 2"}
    assert drawn(viewer) == ["mark 2"] * 2
    assert "<b>Mark 2</b>" in box.text.text()
    box.relative_box.click()
    assert box.legend.texts[0] == "supports 0 to 1.5"
    assert OWN_SCALE in box.legend.texts[-1]
    assert [box.options.layer_box.itemText(k) for k in range(box.options.layer_box.count())] == [
        "automatic (encoder.stages.1)",
        "encoder.stages.0, cells of 2 mm",
        "encoder.stages.1, cells of 4 mm",
    ]
    box.options.method_box.setCurrentText("Occlusion")
    assert not box.options.layer_box.isEnabled()
    assert box.options.wish.method == "occlusion"


def test_agreement_scores_and_missing_support_are_told(
    viewer: Any, qtbot: Any, ball: Callable[..., Volume], fake: FakeJobs
) -> None:
    """A badge in words; the score map in three planes, on and off; without support words and no layer."""
    dock = open_reading(viewer, qtbot, ball())
    box = dock.review_tab.explain_box
    assert not box.check_button.isEnabled()
    box.explain()
    wait(qtbot, box)
    box.check_button.click()
    wait(qtbot, box)
    assert NO_RELIABLE_MAP in box.badge.text()
    assert "0.10" in box.badge.text()
    assert "Pearson's r" in box.badge.toolTip()
    assert "Spearman's rho: 0.03" in box.badge.toolTip()
    box.scores_box.click()
    wait(qtbot, box)
    planes = [plane.viewer.layers for plane in dock.view.planes]
    assert [sum(is_kind(layer, SCORES) and layer.visible for layer in layers) for layers in planes] == [1, 1, 1]
    box.scores_box.click()
    assert [sum(is_kind(layer, SCORES) and layer.visible for layer in layers) for layers in planes] == [0, 0, 0]
    fake.change = without_support
    box.explain()
    wait(qtbot, box)
    assert evidence_of(viewer) == []
    assert NO_SUPPORT.lower() in box.text.text().lower()
    assert box.badge.text() == box.badge.toolTip() == ""
    assert not box.hold_button.isEnabled()
    assert not box.legend.isVisibleTo(dock)


def test_what_cannot_be_explained_is_said_in_words(
    viewer: Any, qtbot: Any, ball: Callable[..., Volume], fake: FakeJobs
) -> None:
    """No lungs; marks of a table; a search that replaces the marks takes their maps away."""
    dock = open_reading(viewer, qtbot, ball())
    box = dock.review_tab.explain_box
    fake.error = LungsNotFoundError("the scan shows no lungs")
    dock.commands.run("explain")
    wait(qtbot, box)
    assert "the scan shows no lungs" in box.message.text()
    assert evidence_of(viewer) == []
    fake.error = None
    box.explain_all()
    wait(qtbot, box)
    box.switch(True)
    moved = [Candidate(position_xyz_mm=(5.0, -20.0, 41.0), score=0.9, diameter_mm=6.0)]
    dock.reading.session.take_candidates(moved, Source())
    assert evidence_of(viewer) == []
    dock.commands.run("next_mark")
    n_asked = len(fake.asked)
    dock.commands.run("explain")
    assert box.message.text() == FROM_TABLE == dock.message.text()
    assert len(fake.asked) == n_asked


def test_a_second_reader_gets_no_explanation_before_the_lock(
    viewer: Any, qtbot: Any, ball: Callable[..., Volume], fake: FakeJobs
) -> None:
    """Neither by a key nor by a button, not even at an own mark; afterwards it works."""
    dock = open_reading(viewer, qtbot, ball(), mode="second reader")
    box = dock.review_tab.explain_box
    dock.reading.session.add_at(CENTRE_XYZ_MM)
    for name in ("explain", "heat_map", "hold_heat_map"):
        dock.commands.run(name)
    box.all_button.click()
    box.scores_box.click()
    assert fake.asked == []
    assert box.message.text() == LOCKED
    assert [layer for layer in viewer.layers if is_kind(layer, EVIDENCE, SCORES)] == []
    dock.reading.session.end_first_read()
    box.explain_all()
    wait(qtbot, box)
    names = [target.name for target in fake.asked[0][1]]
    assert [one.candidate for one in box.show_.maps] == names != []
    assert evidence_of(viewer) == []  # no mark is looked at
    dock.commands.run("next_mark")
    qtbot.waitUntil(lambda: drawn(viewer) == [names[0]] * 2, timeout=WAIT_MS)
    assert seen(viewer) == set()


# -- jobs and end -----------------------------------------------------------------------------------------


def test_cancel_changes_nothing_and_closing_stops(
    viewer: Any, qtbot: Any, ball: Callable[..., Volume], fake: FakeJobs
) -> None:
    """Maps made before stay; with the scan's layer the job and the maps go."""
    dock = open_reading(viewer, qtbot, ball())
    box = dock.review_tab.explain_box
    box.explain()
    wait(qtbot, box)
    layers = evidence_of(viewer)
    fake.go_on.clear()
    box.explain_all()
    qtbot.waitUntil(lambda: len(fake.asked) == 2, timeout=WAIT_MS)
    assert not box.explain_button.isEnabled()
    box.cancel_button.click()
    wait(qtbot, box)
    assert box.message.text() == CANCELLED
    assert evidence_of(viewer) == layers
    box.explain_all()
    qtbot.waitUntil(lambda: len(fake.asked) == 3, timeout=WAIT_MS)
    viewer.layers.remove(viewer.layers[0])
    assert box.job is None
    assert evidence_of(viewer) == []
    assert box.current_map is None


def test_opening_explaining_and_closing_leaves_nothing(
    viewer: Any, qtbot: Any, ball: Callable[..., Volume], fake: FakeJobs
) -> None:
    """Layers, callbacks, docks, threads and filters stay as many, with the heat map on and its key down."""
    volume = ball()
    window = viewer.window._qt_window

    def once() -> tuple[int, ...]:
        dock = open_reading(viewer, qtbot, volume)
        box = dock.review_tab.explain_box
        box.explain()
        wait(qtbot, box)
        box.switch(True)
        box.hold()
        viewer.window.remove_dock_widget(dock)
        QApplication.processEvents()
        QApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
        n_layers = len(viewer.layers)
        viewer.layers.clear()
        groups = (viewer.layers.events, viewer.dims.events, viewer.scene.camera.events, viewer.events)
        callbacks = sum(len(emitter.callbacks) for group in groups for emitter in group.emitters.values())
        return n_layers, callbacks, len(viewer.window.dock_widgets), len(window.children())

    once()
    first = once()
    assert first[0] == 1  # the scan alone
    assert once() == first


# -- the widget -------------------------------------------------------------------------------------------


def test_the_widget_explains_the_marks_of_any_layer(
    viewer: Any, qtbot: Any, ball: Callable[..., Volume], fake: FakeJobs
) -> None:
    """Scan, layer and mark are chosen; the viewer goes there; napari's own hold of a key shows the map."""
    volume = ball()
    add_quietly(viewer, ct_layer(volume))
    dock_widget, widget = viewer.window.add_plugin_dock_widget(PLUGIN, WIDGET)
    box = widget.box
    box.explain()
    assert "layer of marks" in box.message.text()
    marks = add_quietly(viewer, marks_layer(candidates(), series_uid="1", volume=volume))
    assert [widget.mark_box.itemText(k) for k in range(widget.mark_box.count())] == ["mark 1", "mark 2", "mark 3"]
    widget.mark_box.setCurrentIndex(1)
    widget.mark_box.activated.emit(1)
    assert abs(viewer.dims.point[0] - PLACES[1][2]) <= volume.geometry.spacing_zyx_mm[0] / 2
    box.explain()
    wait(qtbot, box)
    subject, targets, _ = fake.asked[0]
    assert subject.volume is volume
    assert [target.name for target in targets] == ["mark 2"]
    assert seen(viewer) == set()
    canvas = give_keyboard(viewer, qtbot)
    qtbot.keyPress(canvas, Qt.Key.Key_H)
    assert seen(viewer) == {"mark 2"}
    qtbot.keyRelease(canvas, Qt.Key.Key_H)
    assert seen(viewer) == set()
    qtbot.mousePress(box.hold_button, Qt.MouseButton.LeftButton)
    assert seen(viewer) == {"mark 2"}
    qtbot.mouseRelease(box.hold_button, Qt.MouseButton.LeftButton)
    assert seen(viewer) == set()
    marks.data = marks.data[:1]
    assert evidence_of(viewer) == []
    viewer.window.remove_dock_widget(dock_widget)
    assert not any(str(key) in ("H", "Alt+X", "Alt+B") for key in viewer.keymap)


def test_opening_the_widget_loads_no_torch() -> None:
    """With a scan and a layer of points, ready to explain."""
    assert run(OPEN_THE_WIDGET) == "False"
