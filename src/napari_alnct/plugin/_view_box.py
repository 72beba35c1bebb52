"""How the scan is seen: window, slab, layout and the wheel, as boxes that follow the keys."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from qtpy.QtCore import QSignalBlocker
from qtpy.QtWidgets import QCheckBox, QComboBox, QGridLayout, QPushButton, QWidget

from napari_alnct.plugin._linked_planes import LAYOUTS
from napari_alnct.plugin._reading_view import ReadingView
from napari_alnct.plugin._windows import PRESETS, SLABS_MM, width_and_level

Attempt = Callable[[Callable[[], object]], None]


class ViewBox(QWidget):  # type: ignore[misc]  # Qt classes are untyped here
    """Boxes for window, slab and layout, the close-up, and the switch of the wheel.

    Parameters
    ----------
    view : ReadingView
        What they change and follow.
    attempt : callable
        Calls a function and tells what goes wrong.
    """

    def __init__(self, view: ReadingView, attempt: Attempt) -> None:
        super().__init__()
        self.view, self._attempt = view, attempt
        self.window_box = QComboBox(toolTip="Window of Hounsfield units; drag with the right button to change it.")
        self.slab_box = QComboBox(toolTip="Maximum projection over a slab; the canvas shows its true thickness.")
        self.layout_box = QComboBox(toolTip="Which planes are shown.")
        self.scroll_box = QCheckBox("Wheel moves slices", toolTip="Else the wheel zooms, as in napari.")
        self.layout_box.addItems(LAYOUTS)
        self.slab_box.addItem("no slab", 0.0)
        for slab_mm in SLABS_MM:
            self.slab_box.addItem(f"slab {slab_mm:g} mm", slab_mm)
        self.close_button = QPushButton("60 mm", toolTip="Zoom to 60 mm around the crosshair; once more: back.")
        grid = QGridLayout(self)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setSpacing(4)
        grid.addWidget(self.window_box, 0, 0)
        grid.addWidget(self.slab_box, 0, 1)
        grid.addWidget(self.close_button, 0, 2)
        grid.addWidget(self.layout_box, 1, 0)
        grid.addWidget(self.scroll_box, 1, 1, 1, 2)
        grid.setColumnStretch(0, 1)
        grid.setColumnStretch(1, 1)
        self.window_box.activated.connect(self._on_window)
        self.slab_box.activated.connect(self._on_slab)
        self.layout_box.activated.connect(self._on_layout)
        self.close_button.clicked.connect(lambda: self._attempt(view.toggle_close_up))
        self.scroll_box.toggled.connect(partial(setattr, view, "is_reading_scroll"))
        for name in ("window_changed", "slab_changed", "layout_changed"):
            getattr(view, name).connect(self.follow)
        self.follow()

    def follow(self) -> None:
        """Show what the view is now; a window that is no preset by its width and level."""
        view = self.view
        presets = list(PRESETS)
        name = next((name for name, window in PRESETS.items() if window == tuple(view.window_hu)), None)
        blockers = [QSignalBlocker(box) for box in (self.window_box, self.scroll_box)]
        self.window_box.clear()
        self.window_box.addItems(presets)
        if name is None:
            width, level = width_and_level(view.window_hu)
            self.window_box.addItem(f"W {width:.0f} L {level:.0f}")
            name = self.window_box.itemText(len(presets))
        self.window_box.setCurrentText(name)
        self.slab_box.setCurrentIndex(self._slab_index())
        self.layout_box.setCurrentText(view.layout)
        self.scroll_box.setChecked(view.is_reading_scroll)
        del blockers

    def _slab_index(self) -> int:
        """Give the entry nearest to the true thickness; the first one without a slab."""
        if not self.view.slab_mm:
            return 0
        offers = list(enumerate(SLABS_MM, start=1))
        return min(offers, key=lambda pair: abs(pair[1] - self.view.slab_mm))[0]

    def _on_window(self, index: int) -> None:
        name = self.window_box.itemText(index)
        if name in PRESETS:
            self._attempt(partial(self.view.use_preset, name))

    def _on_slab(self, index: int) -> None:
        self._attempt(partial(self.view.set_slab, self.slab_box.itemData(index)))

    def _on_layout(self, index: int) -> None:
        self._attempt(partial(self.view.set_layout, self.layout_box.itemText(index)))

    def dispose(self, event: Any = None) -> None:
        """Hear no more of the view."""
        for name in ("window_changed", "slab_changed", "layout_changed"):
            getattr(self.view, name).disconnect(self.follow)
