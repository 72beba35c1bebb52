"""How the scan is read: mode, how much of it was seen, and the end of the read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from qtpy.QtCore import QSignalBlocker
from qtpy.QtWidgets import QComboBox, QGridLayout, QLabel, QPushButton, QWidget

from napari_alnct.core.review import Review
from napari_alnct.core.review_actions import MODES
from napari_alnct.plugin._open_reading import OpenReading
from napari_alnct.plugin._review_state import ReviewSession

MODE_TIPS = (
    "Marks are shown at once; you decide on them, then search the lungs on your own.",
    "Marks are hidden until you end your own read; what you added before stays as it is.",
    "As second reader, for comparing readers: each has a record of their own.",
)
END_TEXTS = {True: "I have searched the lungs", False: "End the first read, show marks"}
END_TIPS = {
    True: "Declares the search of the whole lungs; the share of slices seen goes into the record.",
    False: "Locks what you added and shows the detector's marks. Press twice: it cannot be changed back.",
}
SEEN_TIP = (
    "Axial slices that the main view has shown, alone or in a slab. Slices with lung count as soon as the lungs are "
    "found (by detection, or by the widget Preprocess CT), all slices until then."
)

Attempt = Callable[[Callable[[], object]], None]


class ModeBox(QWidget):  # type: ignore[misc]  # Qt classes are untyped here
    """Mode, coverage, and the button that ends a read.

    Parameters
    ----------
    reading : OpenReading
        What it is about.
    run : callable
        Runs the command of this name.
    attempt : callable
        Calls a function and tells what goes wrong.
    """

    def __init__(self, reading: OpenReading, run: Callable[[str], None], attempt: Attempt) -> None:
        super().__init__()
        self.reading, self._attempt = reading, attempt
        self.session: ReviewSession | None = None
        self.mode_box = QComboBox()
        for mode, tip in zip(MODES, MODE_TIPS, strict=True):
            self.mode_box.addItem(mode)
            self.mode_box.setItemData(self.mode_box.count() - 1, tip, 3)  # Qt.ToolTipRole
        self.mode_box.setToolTip("How to read; chosen before detection, and remembered.")
        self.end_button = QPushButton()
        self.seen = QLabel()
        self.seen.setToolTip(SEEN_TIP)
        self._key = ""
        grid = QGridLayout(self)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setSpacing(4)
        grid.addWidget(self.mode_box, 0, 0)
        grid.addWidget(self.seen, 0, 1)
        grid.addWidget(self.end_button, 1, 0, 1, 2)
        self.mode_box.activated.connect(self._on_mode)
        self.end_button.clicked.connect(partial(run, "end_read"))
        reading.view.seen_changed.connect(self._show_seen)
        self.show_session(None)

    def show_keys(self, keys: Mapping[str, str]) -> None:
        """Write the key on the button."""
        self._key = keys["end_read"]
        self._follow(self.session.review if self.session else Review())

    def show_session(self, session: ReviewSession | None) -> None:
        """Show the mode of a reading, None: of none."""
        if self.session is not None:
            self.session.changed.disconnect(self._follow)
        self.session = session
        if session is not None:
            session.changed.connect(self._follow)
        self._follow(session.review if session else Review())
        self._show_seen()

    def _follow(self, review: Review) -> None:
        can_write = self.session is not None and not self.session.is_read_only
        has_seen_marks = review.is_unlocked and any(not mark.is_own for mark in review.marks)
        with QSignalBlocker(self.mode_box):
            self.mode_box.setCurrentText(review.mode)
        is_chosen = has_seen_marks or (review.mode != "concurrent" and review.is_unlocked)
        self.mode_box.setEnabled(can_write and not is_chosen)
        key = f" ({self._key})" if self._key else ""
        self.end_button.setText(END_TEXTS[review.is_unlocked] + key)
        self.end_button.setToolTip(END_TIPS[review.is_unlocked])
        self.end_button.setEnabled(can_write)
        self._show_seen()

    def _show_seen(self) -> None:
        session = self.session
        if session is None:
            self.seen.setText("")
            return
        share, declared = self.reading.view.seen_share(), session.review.searched_share
        searched = "" if declared is None else f", searched at {declared:.0%}"
        which = "all" if self.reading.view.lung_slices is None else "lung"
        self.seen.setText(f"{share:.0%} of {which} slices seen{searched}")

    def _on_mode(self, index: int) -> None:
        mode, session = self.mode_box.itemText(index), self.session
        if session is None or mode == session.review.mode:
            return
        self._attempt(partial(session.set_mode, mode))
        self.reading.preferences.remember(mode=session.review.mode)
        self._follow(session.review)

    def dispose(self, event: Any = None) -> None:
        """Hear no more of the view."""
        self.reading.view.seen_changed.disconnect(self._show_seen)
