"""The threshold of a reading: a slider from few marks to all, in false marks per scan to expect."""

from __future__ import annotations

from collections.abc import Callable

from qtpy.QtCore import QSignalBlocker, Qt, QTimer
from qtpy.QtWidgets import QHBoxLayout, QLabel, QPushButton, QSlider, QVBoxLayout, QWidget

from napari_alnct.core.errors import AlnctError
from napari_alnct.core.operating_points import SHOW_ALL, OperatingScale, rate_text
from napari_alnct.core.review import Review
from napari_alnct.core.wording import counted
from napari_alnct.plugin._review_state import ReviewSession

STEPS = 100  # of the slider for each row of the operating points; of the score where there are none
SETTLE_MS = 400
NONE_SHOWN = "This does not mean that there is no nodule."
TIP = (
    "Marks below are hidden, none is deleted: move to the right to see them. How many false marks to expect, and "
    "which share of nodules, was measured on the model's own held-out scans; other scanners and patients differ."
)
NO_POINTS_TIP = "Marks with a lower score are hidden, none is deleted: move to the right to see them."


def shown_text(review: Review) -> str:
    """Give how many marks are shown, and what the threshold means.

    Parameters
    ----------
    review : Review
        As it is shown.

    Returns
    -------
    str
        Rich text of one or two lines; nothing about marks that must not be seen yet.
    """
    proposed = [mark for mark in review.marks if not mark.is_own]
    if not review.is_unlocked:
        return "<b>Marks are hidden until the first read is ended.</b>"
    if not proposed:
        return f"No marks of a detector. {NONE_SHOWN}" if review.model_name else "No marks of a detector yet."
    n_shown = sum(review.is_shown(mark) for mark in proposed)
    caution = "" if n_shown else f" {NONE_SHOWN}"
    scale = OperatingScale.of(review.operating_points, review.sensitivities)
    expected = "" if scale is None else f": expect {scale.text(review.threshold)}"
    shown = f"{n_shown} of {counted(len(proposed), 'mark')} shown."
    return f"<b>{shown}</b>{caution}<br>Score from {review.threshold:.2f}{expected}"


class ThresholdBox(QWidget):  # type: ignore[misc]  # Qt classes are untyped here
    """Slider, its meaning in words, and a button that shows all marks.

    Parameters
    ----------
    refused : callable
        Gets one sentence when the threshold cannot be written.
    """

    def __init__(self, refused: Callable[[str], None]) -> None:
        super().__init__()
        self._refused = refused
        self.session: ReviewSession | None = None
        self._scale: OperatingScale | None = None
        self.text = QLabel(wordWrap=True)
        self.slider = QSlider(Qt.Orientation.Horizontal)
        self.slider.setAccessibleName("Threshold, from few marks to all")
        self.fewest, self.all_button = QLabel(), QPushButton("All", toolTip="Show every mark.")
        row = QHBoxLayout()
        row.addWidget(self.fewest)
        row.addWidget(self.slider, 1)
        row.addWidget(self.all_button)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self.text)
        column.addLayout(row)
        self._settle = QTimer(self, singleShot=True, interval=SETTLE_MS)
        self._settle.timeout.connect(self._on_settled)
        self.slider.valueChanged.connect(self._on_moved)
        self.all_button.clicked.connect(self._show_all)
        self.show_session(None)

    def show_session(self, session: ReviewSession | None) -> None:
        """Show the threshold of a reading, None: of none."""
        if self.session is not None:
            self._settle.stop()
            self.session.changed.disconnect(self._follow)
        self.session = session
        if session is not None:
            session.changed.connect(self._follow)
            self._follow(session.review)
        else:
            self._follow(Review())

    def _follow(self, review: Review) -> None:
        has_marks = review.is_unlocked and any(not mark.is_own for mark in review.marks)
        self._scale = OperatingScale.of(review.operating_points)
        self.text.setText(shown_text(review))
        self.text.setEnabled(self.session is not None)
        for part in (self.slider, self.fewest, self.all_button):
            part.setVisible(has_marks)
        with QSignalBlocker(self.slider):
            self.slider.setRange(0, STEPS * (1 if self._scale is None else self._scale.last_place))
            self.slider.setTickInterval(STEPS if self._scale is not None else STEPS // 10)
            self.slider.setTickPosition(QSlider.TickPosition.TicksBelow)
            self.slider.setValue(self._position(review.threshold))
        self.slider.setPageStep(STEPS // 2 if self._scale else STEPS // 20)
        self.slider.setSingleStep(STEPS // 10 if self._scale else 1)
        self.fewest.setText(rate_text(self._scale.rates[0]) if self._scale else "1.00")
        self.setToolTip(TIP if self._scale else NO_POINTS_TIP)

    def _position(self, threshold: float) -> int:
        place = 1.0 - threshold if self._scale is None else self._scale.place_of(threshold)
        return round(place * STEPS)

    def _threshold(self, position: int) -> float:
        place = position / STEPS
        return round(1.0 - place, 6) if self._scale is None else self._scale.threshold_at(place)

    def _on_moved(self, position: int) -> None:
        if self.session is not None:
            self.session.show_threshold(self._threshold(position))
            self._settle.start()

    def _on_settled(self) -> None:
        try:
            if self.session is not None:
                self.session.settle_threshold()
        except (AlnctError, OSError) as error:
            self._refused(str(error))

    def _show_all(self) -> None:
        if self.session is not None:
            self.session.show_threshold(SHOW_ALL)
            self._settle.start()
