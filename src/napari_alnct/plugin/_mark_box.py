"""The current mark: what is known of it, the decisions with their keys, and what can be done with an own mark."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from qtpy.QtCore import QSignalBlocker
from qtpy.QtWidgets import (
    QComboBox,
    QDoubleSpinBox,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_alnct.core.review import REASONS, Review
from napari_alnct.core.review_actions import Mark
from napari_alnct.core.volume import Volume
from napari_alnct.plugin._keys import KEY_TABLE
from napari_alnct.plugin._review_marks import LOOKS
from napari_alnct.plugin._review_state import ReviewSession
from napari_alnct.plugin._table import slice_of, status_icon

NO_MARK = "No mark chosen."
NO_REASON = "no reason"
DECISIONS = {"accept": "accepted", "reject": "rejected", "uncertain": "uncertain"}
LABELS = {
    "previous_mark": "Previous",
    "next_mark": "Next",
    "accept": "Accept",
    "reject": "Reject",
    "uncertain": "Uncertain",
    "undo": "Undo",
    "redo": "Redo",
    "add_mark": "Add",
    "move_mark": "Move to cursor",
    "delete_mark": "Delete",
}
ROWS = (
    ("accept", "reject", "uncertain"),
    ("previous_mark", "next_mark", "add_mark"),
)
UNDO_ROW = ("undo", "redo")
OWN_ROW = ("move_mark", "delete_mark")
MOST_DIAMETER_MM = 150.0
LONGEST_NOTE = 500

Attempt = Callable[[Callable[[], object]], None]


class MarkBox(QWidget):  # type: ignore[misc]  # Qt classes are untyped here
    """Buttons and fields of the current mark.

    Parameters
    ----------
    run : callable
        Runs the command of this name.
    attempt : callable
        Calls a function and tells what goes wrong.
    """

    def __init__(self, run: Callable[[str], None], attempt: Attempt) -> None:
        super().__init__()
        self._attempt = attempt
        self.session: ReviewSession | None = None
        self._volume: Volume | None = None
        self._noted_id: int | None = None  # the mark that the note field is about
        self.title = QLabel(NO_MARK, wordWrap=True)
        self.buttons = {name: QPushButton(label) for name, label in LABELS.items()}
        for name, button in self.buttons.items():
            button.clicked.connect(partial(run, name))
            button.setMinimumHeight(button.sizeHint().height())  # in a low window the list gives way
        for name, status in DECISIONS.items():
            self.buttons[name].setIcon(status_icon(status))
        self.reason_box = QComboBox(toolTip="Why it was rejected; optional.")
        self.reason_box.addItems([NO_REASON, *REASONS])
        self.note_edit = QLineEdit(placeholderText="Note (no names)", maxLength=LONGEST_NOTE)
        self.note_edit.setToolTip("Your words on this mark; they stand in exports, so name no patient.")
        self.diameter_box = QDoubleSpinBox(decimals=1, singleStep=0.5, suffix=" mm", minimum=0.0)
        self.diameter_box.setMaximum(MOST_DIAMETER_MM)
        self.diameter_box.setSpecialValueText("Ø not known")
        self.diameter_box.setToolTip("Diameter of your own mark.")
        self.diameter_box.setKeyboardTracking(False)
        self._lay_out()
        self.reason_box.activated.connect(self._on_reason)
        self.note_edit.editingFinished.connect(self._on_note)
        self.diameter_box.valueChanged.connect(self._on_diameter)

    def _lay_out(self) -> None:
        grid = QGridLayout()
        grid.setSpacing(4)
        for row, names in enumerate(ROWS):
            for place, name in enumerate(names):
                grid.addWidget(self.buttons[name], row, place)
        details = QHBoxLayout()
        details.addWidget(self.reason_box, 1)
        for name in UNDO_ROW:
            details.addWidget(self.buttons[name])
        self.own_row = QWidget()
        own = QHBoxLayout(self.own_row)
        own.setContentsMargins(0, 0, 0, 0)
        own.addWidget(self.diameter_box, 1)
        for name in OWN_ROW:
            own.addWidget(self.buttons[name])
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self.title)
        column.addLayout(grid)
        column.addLayout(details)
        column.addWidget(self.note_edit)
        column.addWidget(self.own_row)

    def show_keys(self, keys: Mapping[str, str]) -> None:
        """Write the keys on the buttons.

        Parameters
        ----------
        keys : mapping of str to str
            Name of the action to key.
        """
        texts = {action.name: action.text for action in KEY_TABLE}
        for name, button in self.buttons.items():
            key = keys[name]
            button.setText(f"{LABELS[name]} ({key})" if len(key) == 1 else LABELS[name])
            button.setToolTip(f"{texts[name]}{f': key {key}' if key else ''}.")

    def show_session(self, session: ReviewSession | None, volume: Volume | None) -> None:
        """Show the current mark of a reading, None: of none."""
        if self.session is not None:
            self.session.changed.disconnect(self._on_changed)
            self.session.current_changed.disconnect(self._show)
        self.session, self._volume = session, volume
        if session is not None:
            session.changed.connect(self._on_changed)
            session.current_changed.connect(self._show)
        self._show(session.current if session else None)

    def keep_note(self) -> None:
        """Keep what was typed before the mark is left."""
        self._on_note()

    def _on_changed(self, review: Review) -> None:
        self._show(self.session.current if self.session else None)

    def _show(self, mark: Mark | None) -> None:
        can_write = self.session is not None and not self.session.is_read_only
        review = self.session.review if self.session else Review()
        self.title.setText(NO_MARK if mark is None else self._title(mark))
        for name in DECISIONS:
            self.buttons[name].setEnabled(can_write and mark is not None and not mark.is_own)
        self.buttons["undo"].setEnabled(can_write and review.can_undo)
        self.buttons["redo"].setEnabled(can_write and review.can_redo)
        self.buttons["add_mark"].setEnabled(can_write)
        for name in ("next_mark", "previous_mark"):
            self.buttons[name].setEnabled(bool(review.shown))
        self._show_fields(mark, can_write)

    def _title(self, mark: Mark) -> str:
        score = "" if mark.score is None else f" · score {mark.score:.2f}"
        diameter = f" · Ø {mark.diameter_mm:.1f} mm" if mark.diameter_mm > 0 else ""
        place = "" if self._volume is None else f" · slice {slice_of(mark, self._volume)}"
        link = "" if mark.linked_to is None else f" · in mark {mark.linked_to}"
        return f"<b>Mark {mark.mark_id}: {LOOKS[mark.status].text}</b>{score}{diameter}{place}{link}"

    def _show_fields(self, mark: Mark | None, can_write: bool) -> None:
        with QSignalBlocker(self.reason_box), QSignalBlocker(self.note_edit), QSignalBlocker(self.diameter_box):
            reason = "" if mark is None else mark.reason
            self.reason_box.setCurrentText(reason or NO_REASON)
            self.reason_box.setEnabled(can_write and mark is not None and mark.status == "rejected")
            if mark is None or mark.mark_id != self._noted_id or not self.note_edit.hasFocus():
                self.note_edit.setText("" if mark is None else mark.note)
            self._noted_id = None if mark is None else mark.mark_id
            self.note_edit.setEnabled(can_write and mark is not None)
            self.own_row.setVisible(mark is not None and mark.is_own)
            self.own_row.setEnabled(can_write)
            self.diameter_box.setValue(0.0 if mark is None else max(0.0, mark.diameter_mm))

    def _on_reason(self, index: int) -> None:
        session, reason = self.session, self.reason_box.currentText()
        if session is not None:
            self._attempt(partial(session.give_reason, "" if reason == NO_REASON else reason))

    def _on_note(self) -> None:
        session = self.session
        if session is not None and session.current is not None and session.current.mark_id == self._noted_id:
            self._attempt(partial(session.note, self.note_edit.text().strip()))

    def _on_diameter(self, diameter_mm: float) -> None:
        if self.session is not None and diameter_mm > 0:
            self._attempt(partial(self.session.resize, diameter_mm))
