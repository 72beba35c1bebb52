"""Buttons, boxes and texts of an explanation, without what they do."""

from __future__ import annotations

from qtpy.QtCore import QEvent, QSize, Qt
from qtpy.QtWidgets import (
    QCheckBox,
    QFrame,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QProgressBar,
    QPushButton,
    QScrollArea,
    QSizePolicy,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from napari_alnct.core.evidence import CAPTION
from napari_alnct.plugin._explain_jobs import Agreement
from napari_alnct.plugin._explain_legend import Legend
from napari_alnct.plugin._explain_options import ExplainOptions

PROGRESS_STEPS = 1000
LEAST_HEIGHT = 90  # pixels of the details in a low window
EXPLAIN, HOLD, SWITCH = "Explain candidate", "Hold to see", "Heat map on"
WARNING_SIGN = "\N{WARNING SIGN}"
AGREEMENT_TIP = (
    "Pearson's r of map and occlusion over all boxes: {0.r:.2f}; the verdict follows it. Spearman's rho: {0.rho:.2f}; "
    "most boxes hold next to nothing, and ranks count their noise."
)
TIPS = {
    "open": "What the score of a mark comes from.",
    "explain": "Compute where the network's score for the current mark came from. Nothing is shown yet.",
    "all": "The same for all marks that are shown. One colour scale then fits them all.",
    "hold": "See the heat map of the current mark as long as this, or its key, is held.",
    "on": "Show the heat map of the current mark until this is switched off again.",
    "cells": "Show the cells of the network's layer as they are, not smoothed.",
    "relative": "Give each mark a scale of its own. Weak maps then look as strong as strong ones.",
    "check": "Cover small boxes one by one and see whether the map says the same. Up to a minute.",
    "scores": "The first stage's score of every place in the scan, 0 to 1. It takes as long as a search.",
    "cancel": "Stop; what was explained before stays.",
}


class Details(QScrollArea):  # type: ignore[misc]  # Qt classes are untyped here
    """A column of parts that is as high as they are, where there is room, and scrolls where there is not."""

    def __init__(self) -> None:
        super().__init__()
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setWidgetResizable(True)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Maximum)
        inner = QWidget()
        self.column = QVBoxLayout(inner)
        self.column.setContentsMargins(0, 0, 4, 0)
        self.column.setSpacing(4)
        self.setWidget(inner)

    def sizeHint(self) -> QSize:
        """Give the size at which nothing has to be scrolled."""
        inner = self.widget()
        return QSize(inner.sizeHint().width(), inner.heightForWidth(self.viewport().width()))

    def minimumSizeHint(self) -> QSize:
        """Give room for a few lines, and for the widest part."""
        bar = self.verticalScrollBar().sizeHint().width()
        return QSize(self.widget().minimumSizeHint().width() + bar, LEAST_HEIGHT)

    def event(self, event: QEvent) -> bool:
        """Ask for other room when the parts, or the width, are others."""
        if event.type() in (QEvent.Type.LayoutRequest, QEvent.Type.Resize):
            self.updateGeometry()
        return bool(super().event(event))


class ExplainControls(QWidget):  # type: ignore[misc]  # Qt classes are untyped here
    """One row that is always seen, and the rest behind a button.

    Parameters
    ----------
    parent : QWidget, optional
        As in Qt.
    """

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.open_button = QToolButton(text="Why?", checkable=True, arrowType=Qt.ArrowType.RightArrow, autoRaise=True)
        self.open_button.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        self.explain_button, self.all_button = QPushButton(EXPLAIN), QPushButton("All shown")
        self.hold_button, self.on_box = QPushButton(HOLD), QCheckBox(SWITCH)
        self.cells_box, self.relative_box = QCheckBox("Show cells"), QCheckBox("Relative scale")
        self.check_button, self.badge = QPushButton("Check by occlusion"), QLabel(wordWrap=True)
        self.scores_box = QCheckBox("Score map of the whole scan")
        self.cancel_button, self.progress_bar = QPushButton("Cancel"), QProgressBar(maximum=PROGRESS_STEPS)
        self.progress_bar.setTextVisible(False)
        self.text, self.message, self.caption = _label(), _label(), _label(f"<i>{CAPTION}</i>")
        self.legend, self.options = Legend(), ExplainOptions()
        for name, control in self._controls().items():
            control.setToolTip(TIPS[name])
        self.details = Details()
        self._lay_out()
        self.open_button.toggled.connect(self._open)
        self.show_progress(None)
        self._open(False)

    def _controls(self) -> dict[str, QWidget]:
        return {
            "open": self.open_button,
            "explain": self.explain_button,
            "all": self.all_button,
            "hold": self.hold_button,
            "on": self.on_box,
            "cells": self.cells_box,
            "relative": self.relative_box,
            "check": self.check_button,
            "scores": self.scores_box,
            "cancel": self.cancel_button,
        }

    def _lay_out(self) -> None:
        head = QHBoxLayout()
        for part, stretch in ((self.open_button, 0), (self.explain_button, 2), (self.all_button, 1)):
            head.addWidget(part, stretch)
        running = QHBoxLayout()
        running.addWidget(self.progress_bar, 1)
        running.addWidget(self.cancel_button)
        self._fill_details()
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        column.addLayout(head)
        column.addLayout(running)
        column.addWidget(self.message)
        column.addWidget(self.details)

    def _fill_details(self) -> None:
        pairs = QGridLayout()
        pairs.setSpacing(4)
        rows = (
            (self.hold_button, self.on_box),
            (self.cells_box, self.relative_box),
            (self.check_button, self.badge),
        )
        for row, pair in enumerate(rows):
            for column, part in enumerate(pair):
                pairs.addWidget(part, row, column)
        pairs.setColumnStretch(0, 1)
        pairs.setColumnStretch(1, 1)
        inner = self.details.column
        for part in (self.text, self.legend, self.caption):
            inner.addWidget(part)
        inner.addLayout(pairs)
        for part in (self.scores_box, self.options):
            inner.addWidget(part)
        inner.addStretch(1)

    def _open(self, is_open: bool) -> None:
        self.open_button.setArrowType(Qt.ArrowType.DownArrow if is_open else Qt.ArrowType.RightArrow)
        self.details.setVisible(is_open)
        self.message.setVisible(is_open)

    def show_progress(self, share: float | None) -> None:
        """Show how much of a job is done, 0 to 1; None when none runs."""
        for part in (self.progress_bar, self.cancel_button):
            part.setVisible(share is not None)
        self.progress_bar.setValue(round((share or 0.0) * PROGRESS_STEPS))

    def show_agreement(self, agreed: Agreement | None) -> None:
        """Show whether map and occlusion agree; None: not checked."""
        if agreed is None:
            self.badge.setText("")
            self.badge.setToolTip("")
            return
        warning = f"<b>{WARNING_SIGN} {agreed.warning}</b>" if agreed.warning else "agrees with occlusion"
        self.badge.setText(f"{warning} (correlation {agreed.r:.2f})")
        self.badge.setToolTip(AGREEMENT_TIP.format(agreed))

    def write_keys(self, explain: str, hold: str, switch: str) -> None:
        """Write keys on the buttons, as Qt writes them; empty for none."""
        labels = (
            (self.explain_button, EXPLAIN, explain),
            (self.hold_button, HOLD, hold),
            (self.on_box, SWITCH, switch),
        )
        for control, label, key in labels:
            control.setText(f"{label} ({key})" if key else label)


def _label(text: str = "") -> QLabel:
    label = QLabel(text, wordWrap=True)
    label.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Maximum)
    label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
    return label
