"""The legend of a heat map: its two colours, their scale and unit."""

from __future__ import annotations

from collections.abc import Sequence

from qtpy.QtCore import QPointF, Qt
from qtpy.QtGui import QColor, QLinearGradient, QPainter, QPaintEvent
from qtpy.QtWidgets import QGridLayout, QLabel, QVBoxLayout, QWidget

from napari_alnct.plugin._explain_layers import AGAINST, MOST_OPAQUE, SUPPORTS, rgb

BAR_HEIGHT = 12  # pixels
TISSUE = QColor(70, 70, 70)  # behind the colours, as a grey of the scan
SHARED_SCALE = "One scale for all marks of this scan; the few stronger cells have the colour of its top."
OWN_SCALE = "RELATIVE: own scale of this mark, not to be compared."


class ColourBar(QWidget):  # type: ignore[misc]  # Qt classes are untyped here
    """One colour from nothing to the top of the scale, over grey as in the scan.

    Parameters
    ----------
    kind : {"supports", "argues against"}
        Of a layer.
    """

    def __init__(self, kind: str) -> None:
        super().__init__()
        self._colour = QColor.fromRgbF(*rgb(kind))
        self.setFixedHeight(BAR_HEIGHT)
        self.setMinimumWidth(60)
        self.setToolTip("From no evidence, left, to the top of the scale and more, right. The scan shines through.")

    def paintEvent(self, event: QPaintEvent) -> None:
        """Paint the bar."""
        painter = QPainter(self)
        painter.fillRect(self.rect(), TISSUE)
        gradient = QLinearGradient(QPointF(0, 0), QPointF(self.width(), 0))
        for place, opacity in ((0.0, 0.0), (1.0, MOST_OPAQUE)):
            colour = QColor(self._colour)
            colour.setAlphaF(opacity)
            gradient.setColorAt(place, colour)
        painter.fillRect(self.rect(), gradient)
        painter.end()


class Legend(QWidget):  # type: ignore[misc]  # Qt classes are untyped here
    """Both colours with the numbers at their ends, and the unit in words."""

    def __init__(self) -> None:
        super().__init__()
        self._tops = {SUPPORTS: QLabel(), AGAINST: QLabel()}
        self.unit = QLabel(wordWrap=True)
        self.scale = QLabel(wordWrap=True)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(2)
        grid = QGridLayout()
        grid.setHorizontalSpacing(6)
        grid.setVerticalSpacing(2)
        for row, (kind, top) in enumerate(self._tops.items()):
            for place, part in enumerate((QLabel(kind), QLabel("0"), ColourBar(kind), top)):
                grid.addWidget(part, row, place, Qt.AlignmentFlag.AlignVCenter)
        grid.setColumnStretch(2, 1)
        column.addLayout(grid)
        column.addWidget(self.unit)
        column.addWidget(self.scale)

    def show_scale(self, limit: float, unit: str, *, is_relative: bool) -> None:
        """Write the numbers.

        Parameters
        ----------
        limit : float
            Top of the scale.
        unit : str
            Of the map.
        is_relative : bool
            Whether the scale is the map's own.
        """
        for top in self._tops.values():
            top.setText(f"{limit:.2g}")
        self.unit.setText(f"Unit: {unit}.")
        self.scale.setText(f"<b>{OWN_SCALE}</b>" if is_relative else SHARED_SCALE)

    @property
    def texts(self) -> Sequence[str]:
        """Give what is written, for those who read it with other means."""
        return [*(f"{kind} 0 to {top.text()}" for kind, top in self._tops.items()), self.unit.text(), self.scale.text()]
