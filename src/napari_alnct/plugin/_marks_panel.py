"""The marks of one scan: threshold, how many are shown, and a table that jumps to a mark.

The points layer is the only state; the threshold hides marks and never deletes one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QSignalBlocker, Qt
from qtpy.QtWidgets import QAbstractItemView, QHeaderView, QLabel, QTableWidget, QTableWidgetItem, QVBoxLayout, QWidget
from superqt import QLabeledDoubleSlider

from napari_alnct.core.wording import counted
from napari_alnct.plugin._layers import THRESHOLD_KEY, points_xyz_mm, shown_mask, volume_of
from napari_alnct.plugin._viewport import jump_to

if TYPE_CHECKING:
    from napari.components import ViewerModel

WIDEST = "Diameter (mm)"
COLUMNS = ("Mark", "Score", WIDEST, "Slice")
SLICE_TIP = (
    "Slice of the scan, the lowest is 0. The number beside the slider is the same while nothing but this scan is open: "
    "other scans and the resampled one change its steps."
)
ROUNDING = 1e-6  # a mark exactly at the threshold stays when the slider rounds


class MarksPanel(QWidget):  # type: ignore[misc]  # Qt classes are untyped here
    """Threshold, count and table for one layer of marks.

    Parameters
    ----------
    viewer : napari.components.ViewerModel
        The viewer that jumps.
    """

    def __init__(self, viewer: ViewerModel) -> None:
        super().__init__()
        self.viewer = viewer
        self.layer: Any = None
        self.count = QLabel(wordWrap=True)
        self.slider = QLabeledDoubleSlider(Qt.Orientation.Horizontal)
        self.slider.setRange(0.0, 1.0)
        self.slider.setSingleStep(0.01)
        self.slider.setDecimals(3)
        self.slider.setToolTip("Marks with a lower score are hidden. Nothing is deleted: move it back to see them.")
        self.table = _make_table()
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self.count)
        column.addWidget(QLabel("Lowest score shown"))
        column.addWidget(self.slider)
        column.addWidget(self.table, 1)
        self.slider.valueChanged.connect(self._on_threshold)
        self.table.itemSelectionChanged.connect(self._on_row_chosen)
        self.table.cellClicked.connect(self._on_row_chosen)
        self.show_layer(None, 0.0)

    @property
    def threshold(self) -> float:
        """Give the lowest score shown."""
        return float(self.slider.value())

    def show_layer(self, layer: Any, threshold: float) -> None:
        """Show the marks of a layer.

        Parameters
        ----------
        layer : napari.layers.Points or None
            With the features of `plugin._layers.marks_layer`; None empties the panel.
        threshold : float
            Lowest score shown.
        """
        self.layer = layer
        self.setVisible(layer is not None)
        with QSignalBlocker(self.slider):
            self.slider.setValue(threshold)
        self._fill_table()
        if layer is not None:
            self._apply()

    def _fill_table(self) -> None:
        blocker = QSignalBlocker(self.table)
        self.table.clearSelection()
        features = None if self.layer is None else self.layer.features
        self.table.setRowCount(0 if features is None else len(features))
        if features is None:
            return
        for row, (mark, score, diameter_mm, z_mm) in enumerate(
            zip(features["id"], features["score"], features["diameter_mm"], features["z_mm"], strict=True)
        ):
            diameter = f"{diameter_mm:.1f}" if diameter_mm > 0 else "–"
            for column, text in enumerate((f"{mark:d}", f"{score:.2f}", diameter, self._slice_text(z_mm))):
                item = QTableWidgetItem(text)
                item.setTextAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
                self.table.setItem(row, column, item)
        del blocker

    def _slice_text(self, z_mm: float) -> str:
        volume = volume_of(self.layer)
        if volume is None:
            return "–"
        return f"{round(volume.geometry.world_to_index([0.0, 0.0, z_mm])[0]):d}"

    def _on_threshold(self, value: float) -> None:
        if self.layer is not None:
            self._apply()

    def _apply(self) -> None:
        """Hide marks and rows below the threshold, and say how many are left."""
        shown = shown_mask(self.layer.features["score"], self.threshold - ROUNDING)
        self.layer.shown = shown
        for row in range(min(len(shown), self.table.rowCount())):
            self.table.setRowHidden(row, not shown[row])
        self.layer.metadata[THRESHOLD_KEY] = self.threshold
        n_shown = int(shown.sum())
        caution = "" if n_shown else ". This does not mean that there is no nodule."
        self.count.setText(f"<b>{n_shown} of {counted(len(shown), 'mark')} shown</b>{caution}")

    def _on_row_chosen(self, *_: Any) -> None:
        row = self.table.currentRow()
        if self.layer is None or not 0 <= row < len(self.layer.data):
            return
        place = points_xyz_mm(self.layer.data[row], {"scale": self.layer.scale, "translate": self.layer.translate})
        x, y, z = np.ravel(place)
        jump_to(self.viewer, (float(x), float(y), float(z)))


def _make_table() -> QTableWidget:
    table = QTableWidget(0, len(COLUMNS))
    table.setHorizontalHeaderLabels(COLUMNS)
    table.verticalHeader().setVisible(False)
    table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
    table.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
    table.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
    header = table.horizontalHeader()
    header.setSectionResizeMode(QHeaderView.ResizeMode.Stretch)
    header.setSectionResizeMode(COLUMNS.index(WIDEST), QHeaderView.ResizeMode.ResizeToContents)
    table.horizontalHeaderItem(COLUMNS.index("Slice")).setToolTip(SLICE_TIP)
    table.setToolTip("Choose a mark to see it; the arrow keys go through the list.")
    table.setMinimumHeight(120)
    return table
