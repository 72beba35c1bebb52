"""The dock `Nodule review` in a real window: a whole reading by keys, modes, cases, and that nothing is left behind."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qtpy.QtCore import QEvent
from qtpy.QtGui import QKeySequence
from qtpy.QtWidgets import QApplication, QLabel

from napari_alnct.core.errors import JobCancelled, ModelError
from napari_alnct.core.findings import Candidate, CaseResult
from napari_alnct.core.notice import NOTICE
from napari_alnct.core.review_actions import NoteExport
from napari_alnct.core.volume import Volume
from napari_alnct.data.phantom import PhantomScan
from napari_alnct.io.metaimage_writer import write_metaimage
from napari_alnct.io.study import Study, name_cases, write_study
from napari_alnct.io.tables import write_annotations
from napari_alnct.plugin import _jobs
from napari_alnct.plugin._detect_tab import HIDDEN
from napari_alnct.plugin._keys import KEY_TABLE, default_keys
from napari_alnct.plugin._layers import ct_layer, is_kind, points_xyz_mm
from napari_alnct.plugin._review_marks import REVIEW
from napari_alnct.plugin._viewport import add_quietly
from napari_alnct.plugin._widget import MINIMUM_WIDTH, SAVE_MS

pytestmark = [pytest.mark.gui, pytest.mark.filterwarnings("ignore::pydantic.PydanticDeprecatedSince20")]
PLUGIN, NAME = "napari-alnct", "Nodule review"
WAIT_MS = 60_000
POINTS = {0.5: 0.8, 1.0: 0.4, 4.0: 0.1}
LUNGS = range(10, 80)
SHARES = {0.5: 0.7, 1.0: 0.8, 4.0: 0.9}
SCORES = (0.95, 0.7, 0.5, 0.3, 0.2, 0.15, 0.12, 0.11)


@pytest.fixture(autouse=True)
def readings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Keep readings in a folder of the test, and give the page of the Preferences back as it was."""
    from napari.settings import get_plugin_settings

    folder = tmp_path / "readings"
    page = get_plugin_settings(PLUGIN)
    page.reading.folder = str(folder)
    yield folder
    page.reset()


@pytest.fixture
def viewer(make_napari_viewer: Any) -> Any:
    """Give a napari window on the screen; it fails the test when a widget is left alive."""
    viewer = make_napari_viewer(show=True, strict_qt="raise")
    viewer.window._qt_window.resize(1500, 900)
    return viewer


def open_dock(viewer: Any) -> Any:
    return viewer.window.add_plugin_dock_widget(PLUGIN, NAME)[1]


def close_dock(viewer: Any, dock: Any) -> None:
    viewer.window.remove_dock_widget(dock)


def open_scan(viewer: Any, volume: Volume) -> Any:
    return add_quietly(viewer, ct_layer(volume))


def settle(qtbot: Any, widget: Any) -> None:
    """Wait until the side planes are there and the place is saved."""
    qtbot.waitUntil(lambda: widget.planes is not None and not widget._saving.isActive(), timeout=WAIT_MS)


def activate(viewer: Any, qtbot: Any) -> Any:
    """Give the window the keyboard."""
    window = viewer.window._qt_window
    window.activateWindow()
    window.raise_()
    qtbot.waitUntil(lambda: QApplication.activeWindow() is window, timeout=WAIT_MS)
    return window


def press(qtbot: Any, target: Any, key: str) -> None:
    """Press a key as it is written in the table."""
    combination = QKeySequence(key)[0]
    qtbot.keyClick(target, combination.key(), combination.keyboardModifiers())


def result_for(phantom: PhantomScan, threshold: float = 0.25) -> CaseResult:
    """Give the phantom's own nodules as what a detector found."""
    candidates = tuple(
        Candidate(position_xyz_mm=nodule.position_xyz_mm, score=score, diameter_mm=nodule.diameter_mm)
        for nodule, score in zip(phantom.nodules, SCORES, strict=False)
    )
    return CaseResult(
        series_uid=phantom.volume.series_uid,
        candidates=candidates,
        threshold=threshold,
        model_name="made-up",
        model_sha256="ab" * 32,
        device="cpu float32",
        voxel_sha256=phantom.volume.voxel_sha256,
    )


@pytest.fixture
def detected(monkeypatch: pytest.MonkeyPatch, phantom: PhantomScan) -> CaseResult:
    """Replace the search by one that finds the nodules of the phantom at once."""
    result = result_for(phantom)

    def find(job: Any, volume: Volume, model: str, settings: Any) -> _jobs.Detection:
        job.progress("Searching", 0.5)
        job.partial(_jobs.FoundLungs(LUNGS))
        job.partial(_jobs.FirstMarks(result.candidates[:1], 0.5))
        return _jobs.Detection(result, 0.5, POINTS, SHARES)

    monkeypatch.setattr(_jobs, "detect_nodules", find)
    return result


def detect(widget: Any, qtbot: Any) -> None:
    widget.detect_tab.run_button.click()
    qtbot.waitUntil(lambda: widget.detect_tab.job is None, timeout=WAIT_MS)


def open_searched(viewer: Any, qtbot: Any, volume: Volume) -> Any:
    """Open the dock and a scan, and search it."""
    widget = open_dock(viewer)
    open_scan(viewer, volume)
    detect(widget, qtbot)
    return widget


def marks_of(viewer: Any) -> Any:
    (layer,) = [layer for layer in viewer.layers if is_kind(layer, REVIEW)]
    return layer


# -- a whole reading ---------------------------------------------------------------------------


def test_a_reading_by_keys_goes_on_exactly_after_closing(
    viewer: Any, qtbot: Any, phantom: PhantomScan, detected: CaseResult
) -> None:
    """Detect, visit all marks, decide, undo, redo, add one, change window and slab, close, open: all is as it was."""
    widget = open_dock(viewer)
    open_scan(viewer, phantom.volume)
    settle(qtbot, widget)
    window = activate(viewer, qtbot)
    detect(widget, qtbot)
    session = widget.reading.session
    shown = [mark.mark_id for mark in session.review.shown]
    visited = [session.current.mark_id]
    for _ in shown:
        press(qtbot, window, "J")
        visited.append(session.current.mark_id)
    assert visited == [*shown, shown[-1]]
    for _ in shown:
        press(qtbot, window, "K")
    for key in ("G", "Q", "U", "Alt+Z", "Alt+Y", "9", "Alt+M", "N"):
        press(qtbot, window, key)
    statuses = [mark.status for mark in session.review.marks]
    assert statuses[:3] == ["accepted", "rejected", "uncertain"]
    assert statuses[-1] == "reader_added"
    assert widget.view.window_hu == (-160.0, 240.0)
    assert widget.view.slab_mm > 0
    qtbot.waitUntil(lambda: widget.view.seen_slices[widget.view.main.index], timeout=WAIT_MS)  # it is drawn
    before = (session.review, session.current, widget.view.state())
    close_dock(viewer, widget)
    again = open_dock(viewer)
    settle(qtbot, again)
    assert (again.reading.session.review, again.reading.session.current, again.view.state()) == before
    assert marks_of(viewer).features["status"].tolist() == statuses


def test_marks_lie_on_the_nodules_in_all_planes(viewer: Any, qtbot: Any, phantom: PhantomScan, tmp_path: Path) -> None:
    """Loaded from the truth as a table, no model: place within half a voxel, with its diameter, in three viewers."""
    table = tmp_path / "annotations.csv"
    write_annotations(table, phantom.nodules)
    widget = open_dock(viewer)
    open_scan(viewer, phantom.volume)
    settle(qtbot, widget)
    widget.data_tab.load_table(table)
    truth = {nodule.position_xyz_mm: nodule.diameter_mm for nodule in phantom.nodules}
    half_voxel = np.min(phantom.volume.geometry.spacing_zyx_mm) / 2
    for plane in widget.view.planes:
        (layer,) = [layer for layer in plane.viewer.layers if layer._type_string == "points"]
        places = points_xyz_mm(layer.data, {"scale": layer.scale, "translate": layer.translate})
        for place, size in zip(places, layer.size * layer.scale[0], strict=True):
            nearest = min(truth, key=lambda centre: float(np.linalg.norm(np.subtract(centre, place))))
            assert np.linalg.norm(np.subtract(nearest, place)) < half_voxel
            assert size == pytest.approx(truth[nearest], abs=0.05)
    assert widget.tabs.currentWidget() is widget.review_tab
    assert widget.reading.session.current is not None


def test_what_is_typed_and_shown_is_saved_within_a_second(
    viewer: Any, qtbot: Any, phantom: PhantomScan, detected: CaseResult
) -> None:
    """A jump starts the timer, further ones do not put it off."""
    widget = open_searched(viewer, qtbot, phantom.volume)
    settle(qtbot, widget)
    saved = []
    widget.reading.session.saved.connect(lambda: saved.append(1))
    widget.commands.run("next_mark")
    left = widget._saving.remainingTime()
    widget.commands.run("next_mark")
    assert SAVE_MS < 1000
    assert 0 <= widget._saving.remainingTime() <= left
    qtbot.waitUntil(lambda: bool(saved), timeout=WAIT_MS)


# -- keys --------------------------------------------------------------------------------------


def recorded(widget: Any) -> list[str]:
    """Give a list of the actions that keys fire from now on; they do nothing else."""
    fired: list[str] = []
    widget.shortcuts._run = fired.append
    widget.shortcuts.bind(default_keys())
    return fired


@pytest.mark.parametrize("kind", ["image", "labels", "points", "shapes"])
def test_each_key_fires_with_each_kind_of_layer_active(viewer: Any, qtbot: Any, kind: str) -> None:
    """Whatever the layer binds itself, and with the focus in the canvas."""
    widget = open_dock(viewer)
    layers = {
        "image": lambda: viewer.add_image(np.zeros((4, 4, 4))),
        "labels": lambda: viewer.add_labels(np.zeros((4, 4, 4), np.uint8)),
        "points": lambda: viewer.add_points(np.zeros((1, 3))),
        "shapes": lambda: viewer.add_shapes(ndim=3),
    }
    viewer.layers.selection.active = layers[kind]()
    activate(viewer, qtbot)
    fired, canvas = recorded(widget), viewer.window._qt_viewer.canvas.native
    canvas.setFocus()
    for action in KEY_TABLE:
        press(qtbot, canvas, action.key)
    assert fired == [action.name for action in KEY_TABLE]


def test_keys_fire_wherever_the_focus_is(viewer: Any, qtbot: Any, phantom: PhantomScan, detected: CaseResult) -> None:
    """In the list, on a button, in a side plane; in a text field letters are typed, and only Alt keys fire."""
    widget = open_searched(viewer, qtbot, phantom.volume)
    settle(qtbot, widget)
    activate(viewer, qtbot)
    fired = recorded(widget)
    tab = widget.review_tab
    places = (tab.table.view, tab.mark_box.buttons["accept"], tab.view_box.window_box, widget.planes.canvases[0])
    for place in places:
        place.setFocus()
        press(qtbot, QApplication.focusWidget(), "G")
    assert fired == ["accept"] * len(places)
    tab.mark_box.note_edit.setFocus()
    qtbot.keyClicks(tab.mark_box.note_edit, "gq8")
    press(qtbot, tab.mark_box.note_edit, "Alt+Z")
    assert tab.mark_box.note_edit.text() == "gq8"
    assert fired[len(places) :] == ["undo"]


def test_no_key_is_one_of_a_menu(viewer: Any, qtbot: Any) -> None:
    """Neither a menu's own key nor the letter that opens it."""
    from napari._app_model import get_app_model

    open_dock(viewer)
    window = viewer.window._qt_window
    taken = {str(rule.keybinding) for rule in get_app_model().keybindings}
    titles = [action.text() for action in window.menuBar().actions()]
    taken |= {f"Alt+{title[title.index('&') + 1].upper()}" for title in titles if "&" in title}
    assert len(taken) > 10
    assert not taken & set(default_keys().values())


def test_a_decision_is_not_repeated_while_its_key_is_held(viewer: Any) -> None:
    """Going through the marks is."""
    widget = open_dock(viewer)
    repeats = {name for name, shortcut in widget.shortcuts.bound.items() if shortcut.autoRepeat()}
    assert {"next_mark", "previous_mark"} <= repeats
    assert not repeats & {"accept", "reject", "uncertain", "add_mark", "delete_mark", "end_read"}


def test_another_key_in_the_preferences_holds_at_once(viewer: Any, qtbot: Any) -> None:
    """On the button and in the window; two actions of one key are complained about."""
    from napari.settings import get_plugin_settings

    widget = open_dock(viewer)
    get_plugin_settings(PLUGIN).keys.accept = "y"
    assert widget.shortcuts.bound["accept"].key().toString() == "Y"
    assert widget.review_tab.mark_box.buttons["accept"].text() == "Accept (Y)"
    get_plugin_settings(PLUGIN).keys.accept = "q"
    assert "already" in widget.message.text()


def test_the_card_shows_all_keys(viewer: Any, qtbot: Any) -> None:
    """It opens and closes by its key, and does not take the keyboard from the window for good."""
    widget = open_dock(viewer)
    widget.commands.run("card")
    assert widget.card.isVisible()
    assert all(action.text in widget.card.text.text() for action in KEY_TABLE)
    widget.commands.run("card")
    assert not widget.card.isVisible()


# -- modes -------------------------------------------------------------------------------------


def texts_of(widget: Any) -> str:
    return " ".join(label.text() for label in widget.findChildren(QLabel))


def test_a_second_reader_sees_nothing_before_the_lock(
    viewer: Any, qtbot: Any, phantom: PhantomScan, detected: CaseResult
) -> None:
    """Not a mark, not a number of marks; after two presses they are there."""
    from napari.settings import get_plugin_settings

    get_plugin_settings(PLUGIN).reading.mode = "second reader"
    widget = open_dock(viewer)
    open_scan(viewer, phantom.volume)
    settle(qtbot, widget)
    window = activate(viewer, qtbot)
    detect(widget, qtbot)
    assert widget.detect_tab.message.text() == HIDDEN
    for key in ("J", "G", "Alt+PgDown", "K", "Q"):
        press(qtbot, window, key)
    assert len(marks_of(viewer).data) == 0
    assert widget.review_tab.table.model.rowCount() == 0
    assert not widget.review_tab.threshold.slider.isVisible()
    assert f"of {len(detected.candidates)}" not in texts_of(widget)
    press(qtbot, window, "Alt+E")
    press(qtbot, window, "Alt+E")
    assert len(marks_of(viewer).data) == len(detected.candidates)


def test_the_mode_can_be_chosen_before_detection_and_is_remembered(
    viewer: Any, qtbot: Any, phantom: PhantomScan, detected: CaseResult
) -> None:
    """Once marks were seen it cannot be changed."""
    from napari.settings import get_plugin_settings

    widget = open_dock(viewer)
    open_scan(viewer, phantom.volume)
    box = widget.review_tab.mode_box.mode_box
    box.setCurrentText("second reader")
    box.activated.emit(box.currentIndex())
    assert widget.reading.session.review.mode == "second reader"
    assert get_plugin_settings(PLUGIN).reading.mode == "second reader"
    box.setCurrentText("concurrent")
    box.activated.emit(box.currentIndex())
    detect(widget, qtbot)
    assert not box.isEnabled()


# -- threshold, fields -------------------------------------------------------------------------


def test_the_slider_speaks_of_false_marks_and_brings_all_back(
    viewer: Any, qtbot: Any, phantom: PhantomScan, detected: CaseResult
) -> None:
    """At a row of the operating points its own number; all to the right every mark; one entry in the log."""
    widget = open_searched(viewer, qtbot, phantom.volume)
    session, box = widget.reading.session, widget.review_tab.threshold
    n_before, n = len(session.entries), len(detected.candidates)
    box.slider.setValue(0)
    assert session.review.threshold == 0.8
    assert f"1 of {n} marks shown" in box.text.text()
    assert "1/2 false mark per scan, 70% of nodules found" in box.text.text()
    box.slider.setValue(100)
    assert "1 false mark per scan, 80% of nodules found" in box.text.text()
    box.slider.setValue(box.slider.maximum())
    assert f"{n} of {n} marks shown" in box.text.text()
    qtbot.waitUntil(lambda: not box._settle.isActive(), timeout=WAIT_MS)
    assert len(session.entries) == n_before + 1


def test_coverage_counts_the_slices_with_lung_as_soon_as_the_search_knows_them(
    viewer: Any, qtbot: Any, phantom: PhantomScan, detected: CaseResult
) -> None:
    """The label says which slices count; the record too; it stays so when the dock is opened again."""
    widget = open_dock(viewer)
    open_scan(viewer, phantom.volume)
    label = widget.review_tab.mode_box.seen
    assert label.text().endswith("of all slices seen")
    detect(widget, qtbot)
    assert label.text().endswith("of lung slices seen")
    widget.commands.run("end_read")
    review = widget.reading.session.review
    assert (review.searched_of_lungs, review.searched_share) == (True, widget.view.seen_share(LUNGS))
    close_dock(viewer, widget)
    again = open_dock(viewer)
    assert again.view.lung_slices == LUNGS
    assert "of lung slices seen" in again.review_tab.mode_box.seen.text()


def test_a_cancelled_or_failed_search_leaves_the_reading_as_it_was(
    viewer: Any, qtbot: Any, phantom: PhantomScan, detected: CaseResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Marks, decisions and log of the search before stay; what went wrong is told."""
    widget = open_searched(viewer, qtbot, phantom.volume)
    widget.commands.run("accept")
    session, has_begun = widget.reading.session, threading.Event()
    before = (session.review, len(session.entries))

    def wait(job: Any, volume: Volume, model: str, settings: Any) -> _jobs.Detection:
        job.partial(_jobs.FirstMarks(detected.candidates[:1], 0.9))
        has_begun.set()
        while not job.is_cancelled():
            time.sleep(0.01)
        raise JobCancelled("stopped")

    monkeypatch.setattr(_jobs, "detect_nodules", wait)
    widget.detect_tab.run_button.click()
    qtbot.waitUntil(has_begun.is_set, timeout=WAIT_MS)
    widget.detect_tab.cancel_button.click()
    qtbot.waitUntil(lambda: widget.detect_tab.job is None, timeout=WAIT_MS)
    assert (session.review, len(session.entries)) == before

    def fail(job: Any, volume: Volume, model: str, settings: Any) -> _jobs.Detection:
        raise ModelError("m: the model is damaged; download it again")

    monkeypatch.setattr(_jobs, "detect_nodules", fail)
    detect(widget, qtbot)
    assert (session.review, len(session.entries)) == before
    assert "the model is damaged" in widget.detect_tab.message.text()
    assert marks_of(viewer).features["status"].tolist()[0] == "accepted"


def test_reason_note_and_diameter_are_kept(viewer: Any, qtbot: Any, phantom: PhantomScan, detected: CaseResult) -> None:
    """Each is an action; a note is kept when its mark is left."""
    widget = open_searched(viewer, qtbot, phantom.volume)
    session, box = widget.reading.session, widget.review_tab.mark_box
    session.settings = type(session.settings)(auto_advance=False)
    widget.commands.run("reject")
    box.reason_box.setCurrentText("scar")
    box.reason_box.activated.emit(box.reason_box.currentIndex())
    box.note_edit.setText("old tuberculosis")
    box.note_edit.editingFinished.emit()
    widget.commands.run("add_mark")
    box.diameter_box.setValue(7.5)
    first, own = session.review.marks[0], session.review.marks[-1]
    assert (first.reason, first.note, own.diameter_mm) == ("scar", "old tuberculosis", 7.5)


def test_the_list_can_be_filtered_and_jumps(
    viewer: Any, qtbot: Any, phantom: PhantomScan, detected: CaseResult
) -> None:
    """Rows by falling score; what is decided leaves the list of what is to decide."""
    widget = open_searched(viewer, qtbot, phantom.volume)
    table, session = widget.review_tab.table, widget.reading.session
    scores = [mark.score for mark in table.model.marks]
    assert scores == sorted(scores, reverse=True)
    table.view.selectRow(1)
    assert session.current.mark_id == 2
    table.filter_box.setCurrentText("To decide")
    widget.commands.run("accept")
    assert 2 not in [mark.mark_id for mark in table.model.marks]
    assert "1 of" in table.decided.text()


def test_the_hint_line_is_put_away_for_good(viewer: Any, phantom: PhantomScan) -> None:
    """It is there for the first reading, and not after its button was pressed."""
    first = open_dock(viewer)
    first.tabs.setCurrentWidget(first.review_tab)
    assert not first.review_tab.hint.isHidden()
    first.review_tab._hide_hint()
    close_dock(viewer, first)
    second = open_dock(viewer)
    second.tabs.setCurrentWidget(second.review_tab)
    assert second.review_tab.hint.isHidden()


def test_no_button_is_cut_off_in_large_letters(viewer: Any, qtbot: Any, phantom: PhantomScan) -> None:
    """The dock grows with the letters of napari: its buttons are as wide as they ask to be."""
    from napari.settings import get_settings

    widget, appearance = open_dock(viewer), get_settings().appearance
    open_scan(viewer, phantom.volume)
    widget.tabs.setCurrentWidget(widget.review_tab)
    buttons = [widget.review_tab.mark_box.buttons[name] for name in ("accept", "reject", "uncertain", "undo", "redo")]
    usual = appearance.font_size
    try:
        for size in (usual, 13):
            appearance.font_size = size
            qtbot.waitUntil(
                lambda: all(b.isVisible() and b.width() >= b.sizeHint().width() for b in buttons), timeout=WAIT_MS
            )
        assert widget.width() > MINIMUM_WIDTH
    finally:
        appearance.font_size = usual


def test_every_control_has_a_tooltip_and_the_notice_stands_once(viewer: Any, phantom: PhantomScan) -> None:
    """Buttons and boxes of the tabs Data and Review explain themselves; the notice is seen in every tab."""
    from qtpy.QtWidgets import QAbstractButton, QComboBox

    widget = open_dock(viewer)
    for tab in (widget.data_tab, widget.review_tab):
        controls = [*tab.findChildren(QAbstractButton), *tab.findChildren(QComboBox)]
        lacking = [c for c in controls if not c.toolTip() and c.objectName() == "" and getattr(c, "text", str)()]
        assert lacking == []
    for index in range(widget.tabs.count()):
        widget.tabs.setCurrentIndex(index)
        seen = [label for label in widget.findChildren(QLabel) if label.text() == NOTICE and label.isVisibleTo(widget)]
        assert len(seen) == 1


# -- report, windows, cases, end ---------------------------------------------------------------


def test_an_export_is_in_the_log(
    viewer: Any, qtbot: Any, phantom: PhantomScan, detected: CaseResult, tmp_path: Path
) -> None:
    """And the report shows the reading as it is on disk."""
    widget = open_searched(viewer, qtbot, phantom.volume)
    widget.commands.run("accept")
    widget.tabs.setCurrentWidget(widget.report_tab)
    assert "1 accepted" in widget.report_tab.preview.toPlainText()
    for kind, box in widget.report_tab.boxes.items():
        box.setChecked(kind == "csv")
    widget.report_tab.folder_edit.setText(str(tmp_path / "out"))
    widget.report_tab.export()
    qtbot.waitUntil(lambda: widget.report_tab.job is None, timeout=WAIT_MS)
    last = widget.reading.session.entries[-1].action
    assert isinstance(last, NoteExport)
    assert "csv" in last.formats


def test_a_second_window_on_the_same_case_is_read_only(
    viewer: Any, make_napari_viewer: Any, qtbot: Any, ball: Callable[..., Volume]
) -> None:
    """It says so, its buttons are off; closed and opened after the first one it may write."""
    first = open_dock(viewer)
    open_scan(viewer, ball())
    other = make_napari_viewer(strict_qt="raise")
    second = open_dock(other)
    open_scan(other, ball())
    assert "another window" in second.message.text()
    assert not second.review_tab.mark_box.buttons["add_mark"].isEnabled()
    close_dock(viewer, first)
    close_dock(other, second)
    third = open_dock(other)
    assert not third.reading.session.is_read_only


def test_a_folder_of_cases_is_gone_through(
    viewer: Any, qtbot: Any, ball: Callable[..., Volume], tmp_path: Path
) -> None:
    """Each case opens in turn, the one before is closed, its decisions are kept, and all are done at the end."""
    folder = tmp_path / "scans"
    folder.mkdir()
    for k in range(3):
        volume = ball(diameter_mm=8.0 + 2 * k)
        write_metaimage(folder / f"DOE_{k}.mha", volume.hu, volume.geometry)
    widget = open_dock(viewer)

    def wait() -> None:
        qtbot.waitUntil(lambda: widget.data_tab.job is None and widget.reading.session is not None, timeout=WAIT_MS)

    widget.data_tab.open_folder(folder)
    for k in range(3):
        wait()
        assert len([layer for layer in viewer.layers if is_kind(layer, "ct")]) == 1
        assert all("DOE" not in layer.name for layer in viewer.layers)
        widget.reading.session.add_at((float(k), 0.0, 0.0))
        widget.commands.run("next_case")
    assert widget.data_tab.progress.text() == "3 of 3 cases done"
    widget.data_tab.open_case(widget.data_tab.queue.cases[0])
    wait()
    assert widget.reading.session.review.marks[0].position_xyz_mm == (0.0, 0.0, 0.0)


def test_a_study_is_read_in_the_order_of_the_reader_with_marks_hidden(
    viewer: Any, qtbot: Any, ball: Callable[..., Volume], tmp_path: Path
) -> None:
    """The queue is the study's, the mode too; who does not read in it is told so."""
    volumes = [ball(diameter_mm=8.0 + 2 * k) for k in range(3)]
    paths = [tmp_path / f"{k}.mha" for k in range(3)]
    for path, volume in zip(paths, volumes, strict=True):
        write_metaimage(path, volume.hu, volume.geometry)
    study = Study(cases=name_cases(paths, [v.voxel_sha256 for v in volumes]), readers=("A. Reader",), seed=3)
    write_study(tmp_path / "study.json", study)
    widget = open_dock(viewer)
    widget.data_tab.open_study(tmp_path / "study.json")
    assert "does not read in this study" in widget.data_tab.message.text()
    widget.preferences.remember(reader="A. Reader")
    widget.data_tab.open_study(tmp_path / "study.json")
    assert [case.path for case in widget.data_tab.queue.cases] == [case.path for case in study.order_for("A. Reader")]
    qtbot.waitUntil(lambda: widget.reading.session is not None, timeout=WAIT_MS)
    assert widget.reading.session.review.mode == "study"
    assert not widget.reading.session.review.is_unlocked


def test_another_reader_has_another_reading(viewer: Any, ball: Callable[..., Volume]) -> None:
    """As soon as the name is typed."""
    widget = open_dock(viewer)
    open_scan(viewer, ball())
    widget.reading.session.add_at((0.0, 0.0, 0.0))
    widget.data_tab.reader_edit.setText("Dr. Other")
    widget.data_tab.reader_edit.editingFinished.emit()
    assert widget.reading.session.reader == "Dr. Other"
    assert widget.reading.session.review.marks == ()


def test_opening_and_closing_leaves_nothing(viewer: Any, qtbot: Any, ball: Callable[..., Volume]) -> None:
    """Twenty times: layers, callbacks, docks, threads, shortcuts and timers of the window stay as many."""
    open_scan(viewer, ball())
    window = viewer.window._qt_window

    def once() -> tuple[int, ...]:
        widget = open_dock(viewer)
        qtbot.waitUntil(lambda: widget.planes is not None, timeout=WAIT_MS)
        widget.commands.run("card")
        close_dock(viewer, widget)
        QApplication.processEvents()
        QApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
        groups = (viewer.layers.events, viewer.dims.events, viewer.scene.camera.events, viewer.events)
        callbacks = sum(len(emitter.callbacks) for group in groups for emitter in group.emitters.values())
        return (
            len(viewer.layers),
            callbacks,
            len(viewer.window.dock_widgets),
            len(window.children()),
            threading.active_count(),
        )

    once()
    first = once()
    assert {once() for _ in range(18)} == {first}


def test_closing_the_window_keeps_the_place(
    viewer: Any, qtbot: Any, phantom: PhantomScan, detected: CaseResult, readings: Path
) -> None:
    """Without waiting for the timer."""
    widget = open_searched(viewer, qtbot, phantom.volume)
    widget.commands.run("next_mark")
    viewer.close()
    (state,) = readings.rglob("review.json")
    assert '"current_mark": 2' in state.read_text()
