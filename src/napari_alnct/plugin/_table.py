"""The list of marks: by falling score, with an icon for each status, a filter, and the current mark chosen."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from qtpy.QtCore import QAbstractTableModel, QItemSelectionModel, QModelIndex, QPointF, Qt
from qtpy.QtGui import QColor, QIcon, QPainter, QPen, QPixmap, QPolygonF
from qtpy.QtWidgets import (
    QAbstractItemView,
    QComboBox,
    QHBoxLayout,
    QHeaderView,
    QLabel,
    QTableView,
    QVBoxLayout,
    QWidget,
)

from napari_alnct.core.review import KEPT_IN_VIEW, Review
from napari_alnct.core.review_actions import Mark
from napari_alnct.core.volume import Volume
from napari_alnct.plugin._review_marks import LOOKS
from napari_alnct.plugin._review_state import ReviewSession

COLUMNS = ("#", "Score", "Ø mm", "Slice", "Status")
TIPS = (
    "Number of the mark; own marks come last.",
    "Score of the detector: higher is more likely a nodule. It is no probability.",
    "Diameter of the ring, mm; a dash where none is known.",
    "Slice of the scan; the lowest is 0.",
    "What was decided, and the reason or note.",
)
FILTERS: dict[str, Callable[[Mark], bool]] = {
    "All shown marks": lambda mark: True,
    "To decide": lambda mark: mark.status == "unreviewed",
    "Findings": lambda mark: mark.status in KEPT_IN_VIEW,
    "Rejected": lambda mark: mark.status == "rejected",
}
DASH = "–"
ICON_PX = 16
EDGE_COLOUR = "#303030"
ICON_SHAPES = {
    "disc": None,
    "square": ((2, 2), (14, 2), (14, 14), (2, 14)),
    "diamond": ((8, 1), (15, 8), (8, 15), (1, 8)),
    "triangle_down": ((1, 2), (15, 2), (8, 15)),
    "ring": None,
}


@cache
def status_icon(status: str) -> QIcon:
    """Give the picture of a status: the same colour and shape as its ring in the scan.

    Parameters
    ----------
    status : str
        Of a mark.

    Returns
    -------
    QIcon
    """
    look = LOOKS[status]
    pixmap = QPixmap(2 * ICON_PX, 2 * ICON_PX)
    pixmap.fill(QColor(0, 0, 0, 0))
    painter = QPainter(pixmap)
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    painter.scale(2, 2)
    corners = ICON_SHAPES[look.symbol]
    for colour, width in ((EDGE_COLOUR, 3.4), (look.colour, 2.0)):  # a dark edge: light colours on a light theme
        painter.setPen(QPen(QColor(colour), width))
        if corners is not None:
            painter.drawPolygon(QPolygonF([QPointF(x, y) for x, y in corners]))
        else:
            painter.drawEllipse(QPointF(8, 8), 6, 6)
        if look.symbol == "ring":
            painter.drawEllipse(QPointF(8, 8), 2.5, 2.5)
    painter.end()
    return QIcon(pixmap)


def row_texts(mark: Mark, volume: Volume | None) -> tuple[str, ...]:
    """Give what the list says about a mark.

    Parameters
    ----------
    mark : Mark
        Any.
    volume : Volume or None
        The scan, for the slice.

    Returns
    -------
    tuple of str
        One for each of `COLUMNS`.
    """
    remark = " · ".join(text for text in (LOOKS[mark.status].text, mark.reason, mark.note) if text)
    return (
        str(mark.mark_id),
        DASH if mark.score is None else f"{mark.score:.2f}",
        f"{mark.diameter_mm:.1f}" if mark.diameter_mm > 0 else DASH,
        DASH if volume is None else str(slice_of(mark, volume)),
        remark,
    )


def slice_of(mark: Mark, volume: Volume) -> int:
    """Give the number of the axial slice nearest to a mark, from 0."""
    return round(float(volume.geometry.world_to_index(mark.position_xyz_mm)[0]))


class MarksModel(QAbstractTableModel):  # type: ignore[misc]  # Qt classes are untyped here
    """The marks of a list, as Qt asks for them."""

    def __init__(self) -> None:
        super().__init__()
        self.marks: list[Mark] = []
        self._texts: list[tuple[str, ...]] = []

    def set_marks(self, marks: list[Mark], volume: Volume | None) -> None:
        """Show these marks."""
        self.beginResetModel()
        self.marks = marks
        self._texts = [row_texts(mark, volume) for mark in marks]
        self.endResetModel()

    def rowCount(self, parent: QModelIndex | None = None) -> int:
        """Give the number of marks."""
        return len(self.marks)

    def columnCount(self, parent: QModelIndex | None = None) -> int:
        """Give the number of columns."""
        return len(COLUMNS)

    def headerData(self, section: int, orientation: Any, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """Give the titles of the columns, and what they mean."""
        if orientation == Qt.Orientation.Horizontal and role == Qt.ItemDataRole.DisplayRole:
            return COLUMNS[section]
        if orientation == Qt.Orientation.Horizontal and role == Qt.ItemDataRole.ToolTipRole:
            return TIPS[section]
        return None

    def data(self, index: QModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """Give what a cell shows."""
        row, column = index.row(), index.column()
        is_status = column == len(COLUMNS) - 1
        if role in (Qt.ItemDataRole.DisplayRole, Qt.ItemDataRole.ToolTipRole):
            return self._texts[row][column]
        if role == Qt.ItemDataRole.DecorationRole and is_status:
            return status_icon(self.marks[row].status)
        if role == Qt.ItemDataRole.TextAlignmentRole and not is_status:
            return Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
        return None


class MarksTable(QWidget):  # type: ignore[misc]  # Qt classes are untyped here
    """List of the marks that may be seen, a filter above it."""

    def __init__(self) -> None:
        super().__init__()
        self.session: ReviewSession | None = None
        self._volume: Volume | None = None
        self._is_filling = False
        self.filter_box = QComboBox(toolTip="What the list shows. The keys go through all shown marks.")
        self.filter_box.addItems(list(FILTERS))
        self.decided = QLabel()
        self.model = MarksModel()
        self.view = _make_view(self.model)
        top = QHBoxLayout()
        top.addWidget(self.filter_box)
        top.addWidget(self.decided, 1, Qt.AlignmentFlag.AlignRight)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addLayout(top)
        column.addWidget(self.view, 1)
        self.filter_box.currentIndexChanged.connect(self._on_filter)
        self.view.selectionModel().currentRowChanged.connect(self._on_row)
        self.view.clicked.connect(self._on_clicked)

    def show_session(self, session: ReviewSession | None, volume: Volume | None) -> None:
        """Show the marks of a reading, None: none."""
        self.close_session()
        self.session, self._volume = session, volume
        if session is not None:
            session.changed.connect(self._fill)
            session.current_changed.connect(self._choose)
            self._fill(session.review)
        else:
            self.model.set_marks([], None)
            self.decided.setText("")

    def close_session(self) -> None:
        """Hear no more of the reading."""
        if self.session is not None:
            self.session.changed.disconnect(self._fill)
            self.session.current_changed.disconnect(self._choose)
            self.session = None

    def _on_filter(self, index: int) -> None:
        if self.session is not None:
            self._fill(self.session.review)

    def _fill(self, review: Review) -> None:
        wanted = FILTERS[self.filter_box.currentText()]
        self._is_filling = True
        try:
            self.model.set_marks([mark for mark in review.shown if wanted(mark)], self._volume)
        finally:
            self._is_filling = False
        own = sum(mark.is_own for mark in review.shown)
        n_decided, n_shown = review.n_decided - own, len(review.shown) - own
        added = f", {own} own" if own else ""
        self.decided.setText(f"{n_decided} of {n_shown} decided{added}")
        self._choose(self.session.current if self.session else None)

    def _choose(self, mark: Mark | None) -> None:
        """Show which mark is current."""
        row = next((k for k, other in enumerate(self.model.marks) if mark and other.mark_id == mark.mark_id), None)
        self._is_filling = True
        try:
            selection = self.view.selectionModel()
            if row is None:
                selection.clear()
                return
            index = self.model.index(row, 0)
            flags = QItemSelectionModel.SelectionFlag
            selection.setCurrentIndex(index, flags.ClearAndSelect | flags.Rows)
            self.view.scrollTo(index)
        finally:
            self._is_filling = False

    def _on_row(self, index: QModelIndex, before: QModelIndex) -> None:
        if not self._is_filling:
            self._go_to(index.row())

    def _on_clicked(self, index: QModelIndex) -> None:
        """Go there again, also when it is the current one."""
        self._go_to(index.row())

    def _go_to(self, row: int) -> None:
        if self.session is not None and 0 <= row < len(self.model.marks):
            self.session.go_to(self.model.marks[row].mark_id)


def _make_view(model: MarksModel) -> QTableView:
    view = QTableView()
    view.setModel(model)
    view.setAccessibleName("List of marks")
    view.verticalHeader().setVisible(False)
    view.verticalHeader().setDefaultSectionSize(24)
    view.setShowGrid(False)
    view.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
    view.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
    view.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
    view.setTabKeyNavigation(False)
    header = view.horizontalHeader()
    header.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
    header.setStretchLastSection(True)
    view.setMinimumHeight(80)
    return view
