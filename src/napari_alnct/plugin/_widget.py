"""The dock `Nodule review`: the whole reading, from opening a scan to the report, in four tabs."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QEvent, QObject, QSignalBlocker, QSize, QTimer
from qtpy.QtWidgets import QLabel, QSizePolicy, QTabWidget, QVBoxLayout, QWidget

from napari_alnct.core.notice import NOTICE
from napari_alnct.core.review_actions import NoteExport
from napari_alnct.core.volume import Volume
from napari_alnct.plugin._commands import ReadingCommands
from napari_alnct.plugin._compat import main_window_of
from napari_alnct.plugin._data_tab import DataTab
from napari_alnct.plugin._detect_tab import DetectTab
from napari_alnct.plugin._key_card import KeyCard
from napari_alnct.plugin._keys import resolve_keys
from napari_alnct.plugin._open_reading import OpenReading
from napari_alnct.plugin._reading_view import ReadingView
from napari_alnct.plugin._report_tab import ReportTab
from napari_alnct.plugin._review_tab import ReviewTab
from napari_alnct.plugin._settings import Preferences
from napari_alnct.plugin._shortcuts import Shortcuts
from napari_alnct.plugin._views import PlanesWidget, add_planes, remove_planes

if TYPE_CHECKING:
    from napari.components import ViewerModel

TABS = ("Data", "Detect", "Review", "Report")
SAVE_MS = 400  # after a change; all is on disk within a second
REPORT_MS = 200  # the report is shown anew when the reading rests
MINIMUM_WIDTH = 365  # pixels; more where the letters are large


class ReviewWidget(QWidget):  # type: ignore[misc]  # Qt classes are untyped here
    """Read a chest CT: scan, marks, decisions, report.

    Parameters
    ----------
    napari_viewer : napari.components.ViewerModel
        Filled in by napari.
    """

    def __init__(self, napari_viewer: ViewerModel) -> None:
        super().__init__()
        self.preferences = Preferences()
        self.view = ReadingView(getattr(napari_viewer, "__wrapped__", napari_viewer))  # plugins get a proxy of it
        self.reading = OpenReading(self.view, self.preferences)
        self.destroyed.connect(partial(_let_go, self.preferences, self.reading))
        self.commands = ReadingCommands(self.reading)
        self._window = main_window_of(self.view.viewer)
        self.message = QLabel(wordWrap=True)
        self.message.setAccessibleName("Message")
        self.planes: PlanesWidget | None = None
        self.shortcuts: Shortcuts | None = None
        self.card: KeyCard | None = None
        self._is_open = True
        self._kept = (self.preferences.reading.reader, self.preferences.folder)
        self._saving = QTimer(self, singleShot=True, interval=SAVE_MS)
        self._reporting = QTimer(self, singleShot=True, interval=REPORT_MS)
        self._adding_planes = QTimer(self, singleShot=True, interval=0)
        self._putting_back = QTimer(self, singleShot=True, interval=0)
        self._make_tabs()
        self._lay_out()
        self._connect()
        self._on_preferences()
        self._follow_scan_box()
        self._on_scan(self.detect_tab.volume)

    def _make_tabs(self) -> None:
        self.tabs = QTabWidget()
        self.data_tab = DataTab(self.reading)
        self.detect_tab = DetectTab(self.reading)
        self.review_tab = ReviewTab(self.reading, self.commands)
        self.report_tab = ReportTab()
        tabs: list[Any] = [self.data_tab, self.detect_tab, self.review_tab, self.report_tab]
        for name, tab in zip(TABS, tabs, strict=True):
            self.tabs.addTab(tab, name)
            if (label := tab.findChild(QLabel, "notice")) is not None:
                label.hide()  # it stands once, below the tabs
        self.data_tab.scan_box.setModel(self.detect_tab.scan_box.model())

    def _lay_out(self) -> None:
        notice = QLabel(NOTICE, wordWrap=True)
        notice.setObjectName("notice")
        for label in (self.message, notice):
            label.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Maximum)
        column = QVBoxLayout(self)
        column.setContentsMargins(4, 4, 4, 4)
        column.addWidget(self.tabs, 1)
        column.addWidget(self.message)
        column.addWidget(notice)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Expanding)  # else napari adds room below

    def _connect(self) -> None:
        self._saving.timeout.connect(self.reading.save)
        self._reporting.timeout.connect(self._show_report)
        self._adding_planes.timeout.connect(self._add_planes)
        self._putting_back.timeout.connect(self.reading.put_back_marks)
        self.reading.marks_lost.connect(self._on_marks_lost)
        self.reading.told.connect(self._on_told)
        self.reading.unsaved.connect(self._on_unsaved)
        self.reading.began.connect(self._on_began)
        self.reading.ended.connect(self._on_ended)
        self.preferences.changed.connect(self._on_preferences)
        self.detect_tab.listed.connect(self._follow_scan_box)
        self.detect_tab.scan_chosen.connect(self._on_scan)
        self.data_tab.scan_box.activated.connect(self._on_scan_box)
        for signal in (self.detect_tab.searched, self.data_tab.taken):
            signal.connect(self._on_marks)
        self.report_tab.exported.connect(self._on_exported)
        self.tabs.currentChanged.connect(self._on_tab)
        self.commands.others = {
            "card": self._toggle_card,
            "next_case": self.data_tab.next_case,
            **self.review_tab.explain_box.commands,
        }
        self.review_tab.explain_box.know_models(self.detect_tab.detection_form.model_box.files)

    def _on_told(self, text: str) -> None:
        self.message.setText(text)

    # -- the scan -----------------------------------------------------------------------------------

    def _on_scan(self, volume: Volume | None) -> None:
        """Read the scan that was opened or chosen."""
        if volume is None:
            self.reading.end()
        else:
            self.reading.begin(volume)

    def _follow_scan_box(self) -> None:
        """Show in the tab Data which scan is chosen; both boxes have one list."""
        with QSignalBlocker(self.data_tab.scan_box):
            self.data_tab.scan_box.setCurrentIndex(self.detect_tab.scan_box.currentIndex())
        self.data_tab.scan_box.setEnabled(self.detect_tab.job is None)

    def _on_scan_box(self, index: int) -> None:
        if self.detect_tab.job is None:
            self.detect_tab.scan_box.setCurrentIndex(index)

    def _on_began(self) -> None:
        self._on_unsaved()
        if self.planes is None:
            self._adding_planes.start()

    def _add_planes(self) -> None:
        """Show the side planes when there is a scan to see in them."""
        if self.planes is None and self._is_open and self.reading.session is not None:
            self.planes = add_planes(self.view)

    def _on_marks_lost(self) -> None:
        self._putting_back.start()

    def _on_ended(self) -> None:
        self._saving.stop()
        self.report_tab.clear()

    def _on_marks(self) -> None:
        """Go to the first mark when marks have come that may be seen."""
        session = self.reading.session
        if session is not None and session.review.is_unlocked:
            self.tabs.setCurrentWidget(self.review_tab)
            session.next()

    # -- saving, report --------------------------------------------------------------------------------

    def _on_unsaved(self) -> None:
        if not self._saving.isActive():
            self._saving.start()
        if self.tabs.currentWidget() is self.report_tab:
            self._reporting.start()

    def _on_tab(self, index: int) -> None:
        if self.tabs.currentWidget() is self.report_tab:
            self._show_report()

    def _show_report(self) -> None:
        session, volume = self.reading.session, self.reading.volume
        if session is None or volume is None:
            self.report_tab.clear()
            return
        self.review_tab.mark_box.keep_note()
        self.review_tab.attempt(session.settle_threshold)
        self.report_tab.show_reading(
            session.stored_review,
            volume,
            session.entries,
            fault=self.detect_tab.fault,
            seen_share=self.view.seen_share(),
            seen_of_lungs=self.view.lung_slices is not None,
        )

    def _on_exported(self, paths: list[Path]) -> None:
        session = self.reading.session
        if session is not None and not session.is_read_only:
            formats = ", ".join(sorted({path.suffix.lstrip(".") for path in paths}))
            self.review_tab.attempt(lambda: session.act(NoteExport(formats=formats)))

    # -- settings, keys ------------------------------------------------------------------------------------

    def _on_preferences(self) -> None:
        """Follow the Preferences: keys, hint line, advance; another reader or folder opens another reading."""
        settings = self.preferences.reading
        keys, complaints = resolve_keys(self.preferences.wished_keys)
        self.review_tab.show_keys(keys)
        self.data_tab.reader_edit.setText(settings.reader)
        self._bind_keys()
        if self.card is not None:
            self.card.show_keys(keys)
        if self.reading.session is not None:
            self.reading.session.settings = settings
        kept = (settings.reader, self.preferences.folder)
        if kept != self._kept:
            self._kept, volume = kept, self.reading.volume
            self.reading.end()
            if volume is not None:
                self.reading.begin(volume)
        if complaints:
            self.message.setText(" ".join(complaints))

    def _bind_keys(self) -> None:
        """Bind the keys in the window, so that they fire wherever the focus is."""
        if self._window is not None and self._is_open:
            if self.shortcuts is None:
                self.shortcuts = Shortcuts(self._window, self.commands.run)
                self._window.installEventFilter(self)
            self.shortcuts.bind(self.preferences.keys)

    def _toggle_card(self) -> None:
        if self.card is None:
            self.card = KeyCard(self._window or self.window())
        self.card.show_keys(self.preferences.keys)
        self.card.setVisible(not self.card.isVisible())

    # -- beginning and end --------------------------------------------------------------------------------------

    def minimumSizeHint(self) -> QSize:
        """Give the room in which no button is cut off: a fixed minimum would cut them where the letters are large."""
        return super().minimumSizeHint().expandedTo(QSize(MINIMUM_WIDTH, 0))

    def event(self, event: QEvent) -> bool:
        """Save when hidden, and let go when the dock is closed for good."""
        kind = event.type()
        if kind == QEvent.Type.ParentChange and self.parent() is None:
            self.dispose()
        elif kind == QEvent.Type.Hide and self._is_open:
            self.reading.save()
        return bool(super().event(event))

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Let go before the window is gone; the user's own closing may still be called off."""
        kind = event.type()
        is_closing = kind == QEvent.Type.Close and not event.spontaneous()
        if self._is_open and (is_closing or kind == QEvent.Type.DeferredDelete):
            self.dispose(with_window=True)
        return False

    def dispose(self, *, with_window: bool = False) -> None:
        """Save, close the reading, and let go of the viewer; the scan stays open.

        Parameters
        ----------
        with_window : bool
            Whether the whole window is closed, so that no dock has to be taken out of it.
        """
        if not self._is_open:
            return
        self._is_open = False
        self.commands.others = {}  # buttons hold the commands: without this the dock would hold itself
        for timer in (self._saving, self._reporting, self._adding_planes, self._putting_back):
            timer.stop()
        if self.shortcuts is not None:
            self.shortcuts.close()
            self.shortcuts = None
        if self._window is not None:
            self._window.removeEventFilter(self)
            self._window = None
        if self.card is not None:
            self.card.close()
            self.card.deleteLater()
            self.card = None
        self.preferences.changed.disconnect(self._on_preferences)
        self.preferences.close()
        self.reading.told.disconnect(self._on_told)
        for tab in (self.detect_tab, self.data_tab, self.report_tab, self.review_tab):
            tab.dispose()
        self.reading.close()
        self.view.close()  # before the canvases: half closed ones fail when their layers go
        if self.planes is not None:
            if with_window:
                self.planes.dispose()
            else:
                remove_planes(self.planes)
            self.planes = None
        if not with_window:
            self.deleteLater()


def _let_go(preferences: Preferences, reading: OpenReading, *_: Any) -> None:
    """Release what is not Qt's when the dock was destroyed without being closed."""
    preferences.close()
    reading.abandon()
