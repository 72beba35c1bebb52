"""What keys and buttons do to a reading in a viewer without a window: scan, session, marks and planes together."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from napari.components import ViewerModel

from napari_alnct.core.findings import Candidate
from napari_alnct.core.proposals import Source
from napari_alnct.core.volume import Volume
from napari_alnct.plugin._commands import NO_READING, PRESS_AGAIN, ReadingCommands
from napari_alnct.plugin._keys import KEY_TABLE
from napari_alnct.plugin._layers import MARKS, is_kind, marks_layer
from napari_alnct.plugin._open_reading import READ_ONLY, OpenReading
from napari_alnct.plugin._reading_view import PRESETS, ReadingView
from napari_alnct.plugin._review_marks import REVIEW
from napari_alnct.plugin._review_state import ReviewSession
from napari_alnct.plugin._settings import Preferences
from napari_alnct.plugin._viewport import add_quietly

pytestmark = pytest.mark.filterwarnings("ignore::pydantic.PydanticDeprecatedSince20")
SCORES = (0.9, 0.7, 0.5, 0.3)
POINTS = {0.5: 0.8, 1.0: 0.4, 4.0: 0.2}
PLACE_MM = 1e-3


@dataclass
class Desk:
    """A viewer with a reading, as the dock has it."""

    folder: Path
    viewer: ViewerModel = field(default_factory=ViewerModel)
    told: list[str] = field(default_factory=list)
    is_closed: bool = False

    def __post_init__(self) -> None:
        self.preferences = Preferences()
        self.preferences._model = None
        self.preferences.remember(folder=str(self.folder))
        self.view = ReadingView(self.viewer)
        self.reading = OpenReading(self.view, self.preferences)
        self.commands = ReadingCommands(self.reading)
        self.reading.told.connect(self.hear)

    def hear(self, text: str) -> None:
        self.told.append(text)

    @property
    def session(self) -> ReviewSession:
        assert self.reading.session is not None
        return self.reading.session

    @property
    def marks(self) -> list[Any]:
        return [layer for layer in self.viewer.layers if is_kind(layer, REVIEW)]

    def run(self, *names: str) -> None:
        for name in names:
            self.commands.run(name)

    def take(self, volume: Volume, points: dict[float, float] | None = None) -> None:
        """Take four candidates along z, inside the scan."""
        x, y, z = (float(v) for v in volume.geometry.index_to_world([2, 30, 30]))
        found = [
            Candidate(position_xyz_mm=(x, y, z + 9.0 * k), score=score, diameter_mm=6.0)
            for k, score in enumerate(SCORES)
        ]
        self.session.take_candidates(found, Source(operating_points=points))

    def close(self) -> None:
        if not self.is_closed:
            self.is_closed = True
            self.reading.close()
            self.view.close()


@pytest.fixture
def volume(ball: Callable[..., Volume]) -> Volume:
    return ball()


@pytest.fixture
def desk(tmp_path: Path, volume: Volume) -> Iterator[Desk]:
    """Give a reading of one scan with four marks."""
    desk = Desk(tmp_path)
    desk.reading.begin(volume)
    desk.take(volume)
    yield desk
    desk.close()


def statuses(desk: Desk) -> list[str]:
    return [mark.status for mark in desk.session.review.marks]


# -- every key -------------------------------------------------------------------------------------------


def test_every_key_of_the_table_is_a_command(desk: Desk) -> None:
    """Each name is known, with and without a reading; none raises."""
    desk.commands.others = {"card": lambda: None, "next_case": lambda: None}
    for action in KEY_TABLE:
        desk.run(action.name)
    desk.reading.end()
    for action in KEY_TABLE:
        desk.run(action.name)
    assert desk.told[-1] == NO_READING or not desk.told[-1]


def test_going_to_a_mark_shows_its_slice_and_keeps_window_and_slab(desk: Desk, volume: Volume) -> None:
    """The place of the view is the mark's."""
    desk.run("bone_window", "slab_5_mm")
    before = (desk.view.window_hu, desk.view.slab_mm)
    for number in (1, 2, 3, 4):
        desk.run("next_mark")
        assert desk.session.current == desk.session.review.mark(number)
        assert desk.view.place_xyz_mm == pytest.approx(desk.session.current.position_xyz_mm, abs=PLACE_MM)
    assert (desk.view.window_hu, desk.view.slab_mm) == before


def test_a_whole_case_by_keys(desk: Desk) -> None:
    """Accept, reject with a reason, uncertain, reject; the view follows to each next one."""
    desk.run("next_mark", "accept", "reject_scar", "uncertain", "reject")
    assert statuses(desk) == ["accepted", "rejected", "uncertain", "rejected"]
    assert desk.session.review.mark(2).reason == "scar"
    desk.run("undo", "undo", "redo", "previous_mark", "take_back")
    assert statuses(desk) == ["accepted", "unreviewed", "uncertain", "unreviewed"]


def test_a_new_mark_is_at_the_cursor(desk: Desk) -> None:
    """Without a mouse that is the crosshair; the view stays where it is."""
    desk.view.go_to((11.0, -30.0, 40.0))
    desk.run("add_mark", "larger_mark")
    own = desk.session.current
    assert own is not None
    assert own.is_own
    assert own.position_xyz_mm == pytest.approx((11.0, -30.0, 40.0))
    assert own.diameter_mm == 8.5
    desk.view.go_to((12.0, -31.0, 42.5))
    desk.run("move_mark")
    assert desk.session.current is not None
    assert desk.session.current.position_xyz_mm == pytest.approx((12.0, -31.0, 42.5))
    desk.run("delete_mark")
    assert not any(mark.is_own for mark in desk.session.review.marks)


def test_what_is_not_allowed_is_told(desk: Desk) -> None:
    """Deleting one of the detector's marks, deciding without a mark: a sentence, and the next key works."""
    desk.run("next_mark", "delete_mark")
    assert "reject it" in desk.told[-1]
    desk.session.go_to(None)
    desk.run("accept")
    assert "no mark is chosen" in desk.told[-1]
    desk.run("next_mark")
    assert desk.told[-1] == ""


def test_windows_and_slab_by_key(desk: Desk) -> None:
    """W goes round lung, mediastinum, bone; the slab key switches the wished thickness on and off."""
    for name in ("mediastinum", "bone", "lung"):
        desk.run("next_window")
        assert tuple(desk.view.window_hu) == PRESETS[name]
    desk.run("ground_glass_window", "next_window")
    assert tuple(desk.view.window_hu) == PRESETS["lung"]
    desk.run("slab")
    assert desk.view.slab_mm == 12.5  # 10 mm wished, slices of 2.5 mm: five of them
    desk.run("slab")
    assert desk.view.slab_mm == 0


def test_threshold_decisions_and_new_marks_leave_window_slab_and_zoom(desk: Desk, volume: Volume) -> None:
    """Nothing but the reader changes how the scan is seen: not the slider, a decision, an undo, or a new detection."""
    desk.run("bone_window", "slab_15_mm")
    desk.view.set_field(47.0)

    def seen() -> tuple[object, ...]:
        limits = [plane.viewer.layers[0].contrast_limits for plane in desk.view.planes]
        fields = [round(plane.field_mm, 6) for plane in desk.view.planes]
        return desk.view.window_hu, desk.view.slab_mm, limits, fields, desk.view.layout

    before = seen()
    for name in ("next_mark", "more_marks", "fewer_marks", "accept", "undo", "redo", "add_mark", "delete_mark"):
        desk.run(name)
        assert seen() == before, name
    desk.session.show_threshold(0.99)
    desk.take(volume, {1.0: 0.5})
    assert seen() == before


def test_layouts_go_round_and_leave_window_and_slab(desk: Desk) -> None:
    """Three presets, then the first again."""
    desk.run("bone_window", "slab")
    before, found = (desk.view.window_hu, desk.view.slab_mm), []
    for _ in range(3):
        desk.run("next_layout")
        found.append(desk.view.layout)
    assert sorted(found) == ["axial", "axial + planes", "planes"]
    assert (desk.view.window_hu, desk.view.slab_mm) == before


def test_keys_for_more_and_fewer_marks(desk: Desk, volume: Volume) -> None:
    """By half rows of the operating points where there are some, else by 0.05; the ends hold."""
    desk.run("fewer_marks")
    assert desk.session.review.threshold == pytest.approx(0.05)
    for _ in range(30):
        desk.run("fewer_marks")
    assert desk.session.review.threshold == 1.0
    desk.take(volume, POINTS)
    desk.session.set_threshold(0.4)
    desk.run("more_marks", "more_marks")
    assert desk.session.review.threshold == 0.2
    for _ in range(9):
        desk.run("more_marks")
    assert len(desk.session.review.shown) == 4


# -- the end of a read ---------------------------------------------------------------------------------------


def second_reader(folder: Path, volume: Volume) -> Desk:
    desk = Desk(folder)
    desk.preferences.remember(mode="second reader")
    desk.reading.begin(volume)
    desk.take(volume)
    return desk


def test_the_first_read_is_ended_by_two_presses_in_a_row(tmp_path: Path, volume: Volume) -> None:
    """One press asks; any other key in between takes it back."""
    desk = second_reader(tmp_path, volume)
    desk.run("end_read")
    assert desk.told[-1] == PRESS_AGAIN
    desk.run("next_mark", "end_read")
    assert not desk.session.review.is_unlocked
    desk.run("end_read")
    assert desk.session.review.is_unlocked
    desk.close()


def test_no_key_reaches_hidden_marks(tmp_path: Path, volume: Volume) -> None:
    """Every key of the table but the lock, twice: nothing is shown, drawn or decided."""
    desk = second_reader(tmp_path, volume)
    for action in (*KEY_TABLE, *KEY_TABLE):
        if action.name not in ("end_read", "card", "next_case"):
            desk.run(action.name)
            assert all(mark.is_own for mark in desk.session.review.shown)
            assert set(desk.marks[0].features["status"]) <= {"reader_added"}
    assert all(mark.status == "unreviewed" for mark in desk.session.review.marks if not mark.is_own)
    desk.close()


def test_marks_from_elsewhere_are_hidden_in_a_second_read(tmp_path: Path, volume: Volume) -> None:
    """A layer of marks of this scan that was there before does not give them away."""
    desk = Desk(tmp_path)
    desk.preferences.remember(mode="second reader")
    desk.view.open(volume)
    add_quietly(desk.viewer, marks_layer([], series_uid=volume.series_uid, volume=volume))
    desk.reading.begin(volume)
    (other,) = [layer for layer in desk.viewer.layers if is_kind(layer, MARKS)]
    assert not other.visible
    desk.close()


def test_declaring_the_search_notes_the_share_of_slices_seen(desk: Desk) -> None:
    """Slices that the main view has shown."""
    desk.run("end_read")
    assert desk.session.review.searched_share == pytest.approx(desk.view.seen_share())
    assert desk.session.review.searched_share > 0
    assert not desk.session.review.searched_of_lungs
    desk.view.count_lungs(range(2))
    desk.run("end_read")
    assert (desk.session.review.searched_share, desk.session.review.searched_of_lungs) == (0.0, True)


# -- beginning and ending ---------------------------------------------------------------------------------------


def test_a_reading_goes_on_where_it_was(desk: Desk, tmp_path: Path, volume: Volume) -> None:
    """Place, window, slab, layout, seen slices, current mark, statuses, and what can be undone."""
    desk.run("next_mark", "accept", "mediastinum_window", "slab_15_mm", "next_layout", "next_mark", "add_mark", "undo")
    review, current, state = desk.session.review, desk.session.current, desk.view.state()
    desk.close()
    again = Desk(tmp_path)
    again.reading.begin(volume)
    assert again.session.review == review
    assert again.session.current == current
    assert again.view.state() == state
    again.close()


def test_a_second_window_looks_only(desk: Desk, tmp_path: Path, volume: Volume) -> None:
    """It says so, goes through the marks, and decides nothing; nothing of the first is overwritten."""
    second = Desk(tmp_path)
    second.reading.begin(volume)
    assert READ_ONLY in second.told[-1]
    second.run("next_mark", "accept")
    assert "another window" in second.told[-1]
    second.close()
    desk.run("next_mark", "reject")
    assert statuses(desk)[0] == "rejected"


def test_a_record_that_cannot_be_used_is_told_and_the_scan_is_shown(desk: Desk, tmp_path: Path, volume: Volume) -> None:
    """One sentence; no marks, no decisions, no crash."""
    log = desk.session.folder / "audit.jsonl"
    desk.close()
    log.write_bytes(log.read_bytes().replace(b"0.9", b"0.8"))
    again = Desk(tmp_path)
    again.reading.begin(volume)
    assert again.reading.session is None
    assert "was changed or is damaged" in again.told[-1]
    assert again.view.volume is volume
    again.close()


def test_another_scan_is_another_reading(desk: Desk, ball: Callable[..., Volume]) -> None:
    """Marks of the first are gone from the viewer, its record is closed."""
    desk.run("next_mark", "accept")
    folder = desk.session.folder
    desk.reading.begin(ball(diameter_mm=9.0, series_uid="1.2.4"))
    assert desk.session.folder != folder
    assert desk.session.review.marks == ()
    assert len(desk.marks) == 1


def test_the_view_of_a_case_stays_for_the_next_new_one(desk: Desk, ball: Callable[..., Volume]) -> None:
    """The window that the reader chose, not that of the settings."""
    desk.run("bone_window")
    desk.reading.begin(ball(diameter_mm=9.0, series_uid="1.2.4"))
    assert tuple(desk.view.window_hu) == PRESETS["bone"]


def test_closing_the_scan_ends_the_reading(desk: Desk, volume: Volume) -> None:
    """Its record is free for another window."""
    folder = desk.folder
    desk.viewer.layers.clear()
    assert desk.reading.session is None
    free = ReviewSession.open(volume, folder)
    assert not free.is_read_only
    free.close()


def test_a_removed_layer_of_marks_is_put_back(desk: Desk) -> None:
    """Not within the removal: the owner calls later."""
    desk.run("next_mark", "accept")
    lost = []
    desk.reading.marks_lost.connect(lambda: lost.append(1))
    desk.viewer.layers.remove(desk.marks[0])
    assert (desk.marks, lost) == ([], [1])
    desk.reading.put_back_marks()
    assert desk.marks[0].features["status"][0] == "accepted"


def test_closing_leaves_the_viewer_as_it_was(tmp_path: Path, volume: Volume) -> None:
    """Twenty readings on one viewer: the scan stays, callbacks and layers do not grow."""
    viewer = ViewerModel()

    def once() -> tuple[int, int]:
        desk = Desk(tmp_path, viewer)
        desk.reading.begin(volume)
        if not desk.session.review.marks:
            desk.take(volume)
        desk.run("next_mark", "slab")
        desk.close()
        events = (viewer.layers.events, viewer.dims.events, viewer.scene.camera.events, viewer.events)
        return len(viewer.layers), sum(len(e.callbacks) for group in events for e in group.emitters.values())

    first = once()
    assert {once() for _ in range(19)} == {first}
    assert first[0] == 1
