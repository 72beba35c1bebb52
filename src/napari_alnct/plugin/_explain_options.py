"""Choice of what to explain and how: method, score, layer of the network."""

from __future__ import annotations

from collections.abc import Sequence

from qtpy.QtCore import QSignalBlocker
from qtpy.QtWidgets import QComboBox, QGridLayout, QLabel, QWidget

from napari_alnct.plugin._explain_jobs import METHODS, OCCLUSION, Offer, Wish

AUTOMATIC = "automatic"
METHOD_TIP = (
    "How the map is made. Automatic: the method measured best. Occlusion covers small boxes one by one: slow, "
    "and independent of the network's inside."
)
LAYER_TIP = "Layer of the network that is explained; fewer mm per cell is sharper. Known once a mark was explained."
SCORE_TIP = "Which network's score is explained. Known once a mark was explained."


class ExplainOptions(QWidget):  # type: ignore[misc]  # Qt classes are untyped here
    """Three boxes; what a model offers is known once it was loaded."""

    def __init__(self) -> None:
        super().__init__()
        self._offers: tuple[Offer, ...] = ()
        self.method_box, self.score_box, self.layer_box = QComboBox(), QComboBox(), QComboBox()
        boxes = {"Method": self.method_box, "Score": self.score_box, "Layer": self.layer_box}
        grid = QGridLayout(self)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setSpacing(4)
        for row, ((name, box), tip) in enumerate(zip(boxes.items(), (METHOD_TIP, SCORE_TIP, LAYER_TIP), strict=True)):
            label = QLabel(name)
            label.setBuddy(box)
            box.setToolTip(tip)
            box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
            grid.addWidget(label, row, 0)
            grid.addWidget(box, row, 1)
        grid.setColumnStretch(1, 1)
        for name in ("", *METHODS):
            self.method_box.addItem(METHODS.get(name, AUTOMATIC), name)
        self.score_box.currentIndexChanged.connect(self._fill_layers)
        self.method_box.currentIndexChanged.connect(self._follow_method)
        self.show_offers(())

    @property
    def wish(self) -> Wish:
        """Give what is chosen."""
        return Wish(*(str(box.currentData() or "") for box in (self.method_box, self.layer_box, self.score_box)))

    def show_offers(self, offers: Sequence[Offer]) -> None:
        """Offer what a model has; a choice that it has too is kept.

        Parameters
        ----------
        offers : sequence of Offer
            Its scores, the default first; empty when it is not known.
        """
        if offers and tuple(offers) == self._offers:
            return
        chosen, self._offers = self.wish, tuple(offers)
        with QSignalBlocker(self.score_box):
            self.score_box.clear()
            self.score_box.addItem(f"{AUTOMATIC} ({offers[0].score_name})" if offers else AUTOMATIC, "")
            for offer in offers[1:]:
                self.score_box.addItem(offer.score_name, offer.score_name)
            self.score_box.setCurrentIndex(max(0, self.score_box.findData(chosen.score_name)))
        self._fill_layers()
        self.layer_box.setCurrentIndex(max(0, self.layer_box.findData(chosen.layer)))
        self.score_box.setEnabled(len(offers) > 1)

    def _fill_layers(self, index: int = 0) -> None:
        score = str(self.score_box.currentData() or "")
        offer = next((offer for offer in self._offers if score in ("", offer.score_name)), None)
        self.layer_box.clear()
        self.layer_box.addItem(AUTOMATIC if offer is None else f"{AUTOMATIC} ({offer.default_layer})", "")
        for name, mm in offer.layers if offer else ():
            self.layer_box.addItem(f"{name}, cells of {mm:g} mm", name)
        self._follow_method()

    def _follow_method(self, index: int = 0) -> None:
        """Occlusion works on voxels and has no layer."""
        self.layer_box.setEnabled(bool(self._offers) and self.method_box.currentData() != OCCLUSION)
