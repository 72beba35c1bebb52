"""The tab Review: threshold, list of marks, the current mark, the view, and the mode of the reading."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QFrame, QHBoxLayout, QLabel, QToolButton, QVBoxLayout, QWidget

from napari_alnct.core.errors import AlnctError
from napari_alnct.io.reviews import DEFAULT_READER
from napari_alnct.plugin._commands import NO_READING, ReadingCommands
from napari_alnct.plugin._explain_reading import ReadingExplainBox
from napari_alnct.plugin._keys import hint_line
from napari_alnct.plugin._mark_box import MarkBox
from napari_alnct.plugin._mode_box import ModeBox
from napari_alnct.plugin._open_reading import OpenReading
from napari_alnct.plugin._table import MarksTable
from napari_alnct.plugin._threshold_box import ThresholdBox
from napari_alnct.plugin._view_box import ViewBox


class ReviewTab(QWidget):  # type: ignore[misc]  # Qt classes are untyped here
    """Everything that a reader needs while going through the marks.

    Parameters
    ----------
    reading : OpenReading
        What is shown and changed.
    commands : ReadingCommands
        What buttons and keys do.
    """

    def __init__(self, reading: OpenReading, commands: ReadingCommands) -> None:
        super().__init__()
        self.reading = reading
        self.hint = _hint_frame()
        self.hint_label, close_hint = self.hint.findChild(QLabel), self.hint.findChild(QToolButton)
        self.threshold = ThresholdBox(reading.told.emit)
        self.table = MarksTable()
        self.mark_box = MarkBox(commands.run, self.attempt)
        self.explain_box = ReadingExplainBox(reading)
        self.view_box = ViewBox(reading.view, self.attempt)
        self.mode_box = ModeBox(reading, commands.run, self.attempt)
        self.reader = QLabel()
        card_button = QToolButton(text="Keys", toolTip="Show all keys.")
        top = QHBoxLayout()
        top.addWidget(self.reader, 1)
        top.addWidget(card_button)
        column = QVBoxLayout(self)
        column.setSpacing(6)
        column.addWidget(self.hint)
        column.addLayout(top)
        column.addWidget(self.threshold)
        column.addWidget(self.table, 1)
        column.addWidget(self.mark_box)
        column.addWidget(_line())
        column.addWidget(self.explain_box)
        for part in (self.view_box, self.mode_box):
            for piece in (_line(), part):
                column.addWidget(piece)
                self.explain_box.open_button.toggled.connect(piece.setHidden)  # its details need their room
        close_hint.clicked.connect(self._hide_hint)
        card_button.clicked.connect(lambda: commands.run("card"))
        reading.began.connect(self.show_reading)
        reading.ended.connect(self.show_reading)
        self.show_reading()

    def attempt(self, job: Callable[[], object]) -> None:
        """Do something and tell in one sentence what goes wrong.

        Parameters
        ----------
        job : callable
            May raise an `AlnctError` or an `OSError`.
        """
        try:
            job()
        except (AlnctError, OSError) as error:
            self.reading.told.emit(str(error))

    def show_reading(self) -> None:
        """Show the reading that is open now, or that there is none."""
        session = self.reading.session
        volume = self.reading.volume if session is not None else None
        self.threshold.show_session(session)
        self.table.show_session(session, volume)
        self.mark_box.show_session(session, volume)
        self.explain_box.show_session(session)
        self.mode_box.show_session(session)
        self.view_box.follow()
        if session is None:
            self.reader.setText(NO_READING)
        else:
            self.reader.setText(
                f"Reader: {session.reader or DEFAULT_READER}{' (read only)' if session.is_read_only else ''}"
            )

    def show_keys(self, keys: Mapping[str, str]) -> None:
        """Write the keys on buttons and into the hint line.

        Parameters
        ----------
        keys : mapping of str to str
            Name of the action to key.
        """
        self.mark_box.show_keys(keys)
        self.explain_box.show_keys(keys)
        self.mode_box.show_keys(keys)
        self.hint_label.setText(hint_line(keys))
        self.hint.setVisible(self.reading.preferences.reading.show_hint)

    def _hide_hint(self) -> None:
        self.hint.setVisible(False)
        self.reading.preferences.remember(show_hint=False)

    def dispose(self) -> None:
        """Hear no more of reading and view."""
        self.mark_box.keep_note()
        self.reading.began.disconnect(self.show_reading)
        self.reading.ended.disconnect(self.show_reading)
        self.threshold.show_session(None)
        self.table.close_session()
        self.mark_box.show_session(None, None)
        self.explain_box.dispose()
        self.mode_box.show_session(None)
        self.view_box.dispose()
        self.mode_box.dispose()


def _hint_frame() -> QFrame:
    """Give the line with the most used keys, and a button that puts it away for good."""
    frame = QFrame(frameShape=QFrame.Shape.StyledPanel)
    row = QHBoxLayout(frame)
    row.setContentsMargins(6, 2, 2, 2)
    row.addWidget(QLabel(wordWrap=True), 1)
    row.addWidget(QToolButton(text="×", toolTip="Do not show this again."), 0, Qt.AlignmentFlag.AlignTop)
    return frame


def _line() -> QFrame:
    line = QFrame(frameShape=QFrame.Shape.HLine)
    line.setFrameShadow(QFrame.Shadow.Sunken)
    return line
