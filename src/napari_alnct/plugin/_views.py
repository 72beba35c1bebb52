"""The side planes on the screen: coronal and sagittal canvases beside the main one.

The widget lives in a dock of napari's window and gives itself the size that the layout
asks for: a column beside a large axial view, or three pictures of equal size.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QEvent, Qt, QTimer
from qtpy.QtWidgets import QDockWidget, QMainWindow, QSplitter, QVBoxLayout, QWidget

from napari_alnct.plugin._compat import canvas_of_window, warm_up
from napari_alnct.plugin._overlays import make_drawable
from napari_alnct.plugin._side_canvas import close_canvas, make_canvas

if TYPE_CHECKING:
    from napari_alnct.plugin._reading_view import ReadingView

DOCK_NAME = "Planes"
COLUMN_SHARE = 0.34  # of the width, beside a large axial view
LEAST_PX = 120  # of a side of a canvas
CATCH_UP_MS = 250  # the crosshairs here follow a scroll of the main view so often
SETTLE_MS, TRIES = 60, 3  # until a dock has its place


class PlanesWidget(QWidget):  # type: ignore[misc]  # Qt classes are untyped here
    """Coronal and sagittal planes of a reading.

    Parameters
    ----------
    view : ReadingView
        What to show; it moves when somebody scrolls or clicks here.
    """

    def __init__(self, view: ReadingView) -> None:
        super().__init__()
        self.view = view
        self.setObjectName(DOCK_NAME)
        make_drawable()
        self.canvases = [make_canvas(side.viewer) for side in view.sides]
        self.splitter = QSplitter(Qt.Orientation.Vertical)
        for canvas in self.canvases:
            canvas.setMinimumSize(LEAST_PX, LEAST_PX)
            self.splitter.addWidget(canvas)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self.splitter)
        self._main_canvas: Any = None
        self._is_open = True
        self._docked = QTimer(self, singleShot=True, interval=SETTLE_MS)
        self._docked.timeout.connect(self._on_docked)
        self._n_tries = 0
        self._later = QTimer(self, singleShot=True, interval=CATCH_UP_MS)
        self._later.timeout.connect(view.catch_up)
        view.later = self._catch_up_later
        view.layout_changed.connect(self.arrange)

    # -- arranging -----------------------------------------------------------------------------

    def arrange(self) -> None:
        """Show or hide the planes, and share the room with the main view as the layout asks."""
        dock, window = self._dock(), self.window()
        is_shown = self.view.layout != "axial"
        (dock or self).setVisible(is_shown)
        if dock is None or not is_shown or not isinstance(window, QMainWindow):
            return
        width = window.centralWidget().width() + (dock.width() if not dock.isFloating() else 0)
        orientation, share = self._sharing(width, window.centralWidget().height())
        self.splitter.setOrientation(orientation)
        self.splitter.setSizes([1000, 1000])
        if not dock.isFloating():
            window.resizeDocks([dock], [round(share * width)], Qt.Orientation.Horizontal)

    def _sharing(self, width: int, height: int) -> tuple[Qt.Orientation, float]:
        """Give how the side planes lie to each other, and their share of the width."""
        if self.view.layout != "planes":
            return Qt.Orientation.Vertical, COLUMN_SHARE
        if width / 3 >= min(width / 2, height / 2):  # side by side, or one above the other: what is larger
            return Qt.Orientation.Horizontal, 2 / 3
        return Qt.Orientation.Vertical, 1 / 2

    def _catch_up_later(self) -> None:
        if not self._later.isActive():
            self._later.start()

    def _dock(self) -> QDockWidget | None:
        parent = self.parent()
        while parent is not None and not isinstance(parent, QDockWidget):
            parent = parent.parent()
        return parent

    # -- beginning and end -----------------------------------------------------------------------

    def event(self, event: QEvent) -> bool:
        """Take a place when put into a dock; let go when the dock is closed for good."""
        if event.type() == QEvent.Type.ParentChange:
            if self.parent() is None:
                self.dispose()
            else:
                self._take_place()
        elif event.type() == QEvent.Type.Show and not event.spontaneous():
            self._take_place()
        return bool(super().event(event))

    @property
    def is_settled(self) -> bool:
        """Tell whether the dock has taken its room."""
        return not self._docked.isActive()

    def _take_place(self) -> None:
        """Take the room that the layout gives, soon; a window in the making moves its docks more than once."""
        if self._is_open:
            self._n_tries = TRIES
            self._docked.start()

    def _on_docked(self) -> None:
        self.arrange()
        if self._n_tries > 0:
            self._n_tries -= 1
            self._docked.start()
        if self._main_canvas is None and self.view.volume is None:
            warm_up()
        if self._main_canvas is None:
            self._main_canvas = canvas_of_window(self.view.viewer)
        if self._main_canvas is not None:
            self.view.counts_drawn = True
            self._main_canvas.events.draw.connect(self.view.note_drawn)

    def dispose(self) -> None:
        """Close the canvases and hear no more of the view."""
        if not self._is_open:
            return
        self._is_open = False
        self._docked.stop()
        self._later.stop()
        self.view.later = None
        self.view.layout_changed.disconnect(self.arrange)
        if self._main_canvas is not None:
            self._main_canvas.events.draw.disconnect(self.view.note_drawn)
            self._main_canvas, self.view.counts_drawn = None, False
        for canvas in self.canvases:
            close_canvas(canvas)
        self.canvases = []


def add_planes(view: ReadingView) -> PlanesWidget | None:
    """Put the side planes into the window of a reading, between its main view and the docks on the right.

    Parameters
    ----------
    view : ReadingView
        Its viewer has a window, or nothing is done.

    Returns
    -------
    PlanesWidget or None
        Remove it with `remove_planes`.
    """
    window = getattr(view.viewer, "window", None)
    if window is None:
        return None
    planes = PlanesWidget(view)
    dock = window.add_dock_widget(planes, name=DOCK_NAME, area="right", add_vertical_stretch=False)
    main = dock.parent()
    right = Qt.DockWidgetArea.RightDockWidgetArea
    others = [
        other
        for other in main.findChildren(QDockWidget)
        if other is not dock and main.dockWidgetArea(other) == right and not other.isFloating()
    ]
    if others:
        main.splitDockWidget(dock, others[0], Qt.Orientation.Horizontal)
    return planes


def remove_planes(planes: PlanesWidget) -> None:
    """Take the side planes out of their window and close their canvases.

    Parameters
    ----------
    planes : PlanesWidget
        From `add_planes`.
    """
    window = getattr(planes.view.viewer, "window", None)
    planes.dispose()
    if window is not None and planes.parent() is not None:
        window.remove_dock_widget(planes)
    planes.deleteLater()
