"""What the keys and buttons of a reading do, by the names of the table of keys; no Qt."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from napari_alnct.core.errors import AlnctError, ReviewError
from napari_alnct.core.operating_points import OperatingScale
from napari_alnct.plugin._keys import REASON_KEYS, SLAB_KEYS_MM, WINDOW_KEYS
from napari_alnct.plugin._linked_planes import LAYOUTS
from napari_alnct.plugin._open_reading import OpenReading
from napari_alnct.plugin._review_state import ReviewSession
from napari_alnct.plugin._windows import PRESETS

NO_READING = "Open a scan first, in the tab Data."
PRESS_AGAIN = "Press again to lock the first read. It cannot be changed back: the detector's marks are shown then."
RESIZE_STEP_MM = 0.5
SCALE_STEP = 0.5  # of a row of the operating points
SCORE_STEP = 0.05  # where there are none
OF_THE_BOX = ("explain", "heat_map", "hold_heat_map")  # of an owner that can explain marks; else they do nothing
CYCLED = ("lung", "mediastinum", "bone")

Command = Callable[[], object]


class ReadingCommands:
    """Runs a command by its name; what goes wrong is told, never raised.

    Parameters
    ----------
    reading : OpenReading
        What the commands are about.

    Attributes
    ----------
    others : dict of str to callable
        Commands of the owner: the card of keys, the next case, the heat map.
    """

    def __init__(self, reading: OpenReading) -> None:
        self.reading = reading
        self.others: dict[str, Command] = {}
        self._is_armed = False  # the first read is ended by a second press
        self._of_view: dict[str, Command] = self._view_commands()

    def run(self, name: str) -> None:
        """Run a command.

        Parameters
        ----------
        name : str
            Of `plugin._keys.KEY_TABLE`.
        """
        was_armed, self._is_armed = self._is_armed, False
        try:
            command = self.others.get(name) or self._of_view.get(name) or self._session_command(name, was_armed)
            if name not in self.others:
                self.reading.told.emit("")
            command()
        except (AlnctError, OSError) as error:
            self.reading.told.emit(str(error))

    # -- the session --------------------------------------------------------------------------------

    def _session_command(self, name: str, was_armed: bool) -> Command:
        session = self.reading.session
        if session is None:
            raise ReviewError(NO_READING)
        if name in REASON_KEYS:
            return partial(session.decide, "rejected", REASON_KEYS[name])
        place = self.reading.view.cursor_xyz_mm
        commands: dict[str, Command] = {
            "next_mark": session.next,
            "previous_mark": session.previous,
            "accept": partial(session.decide, "accepted"),
            "reject": partial(session.decide, "rejected"),
            "uncertain": partial(session.decide, "uncertain"),
            "take_back": partial(session.decide, "unreviewed"),
            "undo": session.undo,
            "redo": session.redo,
            "add_mark": lambda: session.add_at(place()),
            "move_mark": lambda: session.move_to(place()),
            "larger_mark": partial(session.resize_by, RESIZE_STEP_MM),
            "smaller_mark": partial(session.resize_by, -RESIZE_STEP_MM),
            "delete_mark": session.delete,
            "more_marks": partial(step_threshold, session, 1),
            "fewer_marks": partial(step_threshold, session, -1),
            "end_read": partial(self._end_read, session, was_armed),
            **{name: lambda: None for name in OF_THE_BOX},
        }
        return commands[name]

    def _end_read(self, session: ReviewSession, was_armed: bool) -> None:
        """Declare the lungs searched; a first read is locked, on the second press in a row."""
        if session.review.is_unlocked:
            view = self.reading.view
            session.declare_searched(view.seen_share(), is_of_lungs=view.lung_slices is not None)
        elif was_armed or session.is_read_only:
            session.end_first_read()
        else:
            self._is_armed = True
            self.reading.told.emit(PRESS_AGAIN)

    # -- the view -------------------------------------------------------------------------------------

    def _view_commands(self) -> dict[str, Command]:
        view = self.reading.view
        return {
            "next_window": self._next_window,
            **{name: partial(view.use_preset, preset) for name, preset in WINDOW_KEYS.items()},
            "slab": self._toggle_slab,
            **{name: partial(view.set_slab, slab_mm) for name, slab_mm in SLAB_KEYS_MM.items()},
            "next_layout": self._next_layout,
            "close_up": view.toggle_close_up,
            "reading_scroll": self._toggle_scroll,
        }

    def _next_window(self) -> None:
        view = self.reading.view
        now = next((name for name in CYCLED if PRESETS[name] == tuple(view.window_hu)), CYCLED[-1])
        view.use_preset(CYCLED[(CYCLED.index(now) + 1) % len(CYCLED)])

    def _toggle_slab(self) -> None:
        view = self.reading.view
        view.set_slab(0.0 if view.slab_mm else self.reading.preferences.reading.slab_mm)

    def _next_layout(self) -> None:
        view = self.reading.view
        view.set_layout(LAYOUTS[(LAYOUTS.index(view.layout) + 1) % len(LAYOUTS)])

    def _toggle_scroll(self) -> None:
        view = self.reading.view
        view.is_reading_scroll = not view.is_reading_scroll
        what = "moves slices" if view.is_reading_scroll else "zooms, as in napari"
        self.reading.told.emit(f"The wheel {what}.")


def step_threshold(session: ReviewSession, step: int) -> None:
    """Show more or fewer marks: half a row of the operating points on, or 0.05 of the score.

    Parameters
    ----------
    session : ReviewSession
        The reading.
    step : int
        1 for more marks, -1 for fewer.
    """
    review = session.review
    scale = OperatingScale.of(review.operating_points)
    if scale is None:
        session.set_threshold(round(review.threshold - step * SCORE_STEP, 6))
        return
    place = scale.place_of(review.threshold)
    session.set_threshold(scale.threshold_at(round(place / SCALE_STEP + step) * SCALE_STEP))
