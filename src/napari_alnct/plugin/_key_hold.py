"""Waiting for a key to be let go: shortcuts of a window tell when a key goes down, never when it comes up."""

from __future__ import annotations

from collections.abc import Callable

from qtpy.QtCore import QEvent, QObject
from qtpy.QtGui import QKeySequence
from qtpy.QtWidgets import QApplication

ENDS = (QEvent.Type.WindowDeactivate, QEvent.Type.ApplicationDeactivate)  # then the release goes elsewhere


class KeyHold(QObject):  # type: ignore[misc]  # Qt classes are untyped here
    """Calls a function when the key that is down now comes up, or the keyboard goes to another window.

    It listens to the application only while a key is held.
    """

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self._key = ""
        self._on_end: Callable[[], None] | None = None

    @property
    def is_held(self) -> bool:
        """Tell whether the key is still down."""
        return self._on_end is not None

    def begin(self, key: str, on_end: Callable[[], None]) -> None:
        """Wait for a key.

        Parameters
        ----------
        key : str
            As Qt writes it; of ``Alt+X`` the last part counts.
        on_end : callable
            Called once.
        """
        self.end()
        self._key, self._on_end = key.rpartition("+")[2] or key, on_end
        application = QApplication.instance()
        if application is not None:
            application.installEventFilter(self)

    def end(self) -> None:
        """Stop waiting, as if the key had come up."""
        on_end, self._on_end = self._on_end, None
        if on_end is None:
            return
        application = QApplication.instance()
        if application is not None:
            application.removeEventFilter(self)
        on_end()

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Look for the release, and let every event go on its way."""
        kind = event.type()
        if kind in ENDS or (kind == QEvent.Type.KeyRelease and self._is_release(event)):
            self.end()
        return False

    def _is_release(self, event: QEvent) -> bool:
        """Tell whether the key came up; while it repeats, some systems send releases between the presses."""
        return not event.isAutoRepeat() and QKeySequence(event.key()).toString() == self._key
