"""The keys of a reading as shortcuts of a window: they fire wherever the focus is, whatever layer is active.

A layer's own key binding beats a viewer's in napari, and the side planes have viewers of their own. A
shortcut of the window comes before both; in a text field plain letters are still typed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from qtpy.QtCore import Qt
from qtpy.QtGui import QKeySequence
from qtpy.QtWidgets import QShortcut, QWidget

from napari_alnct.plugin._keys import KEY_TABLE


class Shortcuts:
    """The keys of a reading in one window.

    Parameters
    ----------
    window : QWidget
        Top-level window; docks that float belong to it too.
    run : callable
        Gets the name of an action.
    """

    def __init__(self, window: QWidget, run: Callable[[str], None]) -> None:
        self._window, self._run = window, run
        self.bound: dict[str, QShortcut] = {}

    def bind(self, keys: Mapping[str, str]) -> None:
        """Take these keys instead of those before.

        Parameters
        ----------
        keys : mapping of str to str
            Name of the action to key; an empty one is left out.
        """
        self.close()
        for action in KEY_TABLE:
            if not keys[action.name]:
                continue
            shortcut = QShortcut(QKeySequence(keys[action.name]), self._window)
            shortcut.setContext(Qt.ShortcutContext.WindowShortcut)
            shortcut.setAutoRepeat(action.repeats)
            fire = partial(self._run, action.name)
            shortcut.activated.connect(fire)
            shortcut.activatedAmbiguously.connect(fire)  # a menu has the key too
            self.bound[action.name] = shortcut

    def close(self) -> None:
        """Give all keys back."""
        for shortcut in self.bound.values():
            shortcut.setEnabled(False)
            shortcut.setParent(None)
            shortcut.deleteLater()
        self.bound = {}
