"""The widget `Explain candidates`: why a model gives the marks of a layer their scores, with any model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QSignalBlocker
from qtpy.QtWidgets import QComboBox

from napari_alnct.core.errors import ReviewError
from napari_alnct.core.volume import Volume
from napari_alnct.plugin._explain_box import ExplainBox
from napari_alnct.plugin._explain_show import EvidenceShow
from napari_alnct.plugin._explain_subject import NO_MARKS, Subject, Target, targets_of_points
from napari_alnct.plugin._layers import volume_of
from napari_alnct.plugin._model_box import ModelBox
from napari_alnct.plugin._panel import NO_SCAN, ScanPanel
from napari_alnct.plugin._settings import Preferences
from napari_alnct.plugin._viewport import jump_to

if TYPE_CHECKING:
    from napari.components import ViewerModel

NO_LAYER = "Open a layer of marks first: run Detect nodules, open a CSV, or add points."
MARKS_EVENTS = ("data", "features", "set_data")
KEYS = ("explain", "heat_map", "hold_heat_map")


class ExplainWidget(ScanPanel):
    """Explain the marks of a layer with a model.

    Parameters
    ----------
    napari_viewer : napari.components.ViewerModel
        Filled in by napari.
    """

    def __init__(self, napari_viewer: ViewerModel) -> None:
        self.marks_box = QComboBox(toolTip="The layer of marks to explain.")
        self.mark_box = QComboBox(toolTip="The mark to explain; the viewer goes there.")
        self.model_box = ModelBox()
        self.model_box.setToolTip("The model that is explained. It need not be the one that found the marks.")
        self.marks: Any = None
        self._targets: tuple[Target, ...] = ()
        self._shown_volume: Volume | None = None
        self.box: ExplainBox | None = None
        super().__init__(napari_viewer, "")
        for part in (self.run_button, self.cancel_button):
            part.hide()  # the box has its own
        for label, part in (("Marks", self.marks_box), ("Mark", self.mark_box), ("Model", self.model_box)):
            self.form.addRow(label, part)
        self.box = ExplainBox(EvidenceShow(napari_viewer), self)
        self.box.open_button.setChecked(True)
        self.results.addWidget(self.box)
        self.results.addStretch(1)
        self.marks_box.currentIndexChanged.connect(self._on_layer)
        self.mark_box.activated.connect(self._on_mark)
        self.model_box.currentIndexChanged.connect(self._on_model)
        self._bound = self._bind_keys()
        self.show_scan(self.volume)

    # -- what there is to explain ---------------------------------------------------------------

    def current(self) -> Target | None:
        """Give the chosen mark."""
        index = self.mark_box.currentIndex()
        return self._targets[index] if 0 <= index < len(self._targets) else None

    def subject(self) -> Subject:
        """Give scan, marks and model.

        Raises
        ------
        ReviewError
            If there is no scan, or no layer of marks.
        """
        if self.volume is None:
            raise ReviewError(NO_SCAN)
        if self.marks is None:
            raise ReviewError(NO_LAYER)
        self._follow_marks()
        if not self._targets:
            raise ReviewError(NO_MARKS)
        return Subject(volume=self.volume, targets=self._targets, current=self.current(), model=self.model_box.model)

    def show_scan(self, volume: Volume | None) -> None:
        """Offer the layers of marks of the chosen scan; explanations of another scan are removed."""
        if self.box is None:
            return
        if volume is not self._shown_volume:
            self._shown_volume = volume
            self.box.reset()
        layers = [] if volume is None else list(_layers_of_points(self.viewer, volume))
        with QSignalBlocker(self.marks_box):
            self.marks_box.clear()
            for layer in layers:
                self.marks_box.addItem(layer.name, layer)
            wanted = next((k for k, layer in enumerate(layers) if layer is self.marks), len(layers) - 1)
            self.marks_box.setCurrentIndex(wanted)
        self._take_layer(layers[wanted] if layers else None)

    def _on_layer(self, index: int) -> None:
        self._take_layer(self.marks_box.itemData(index))

    def _take_layer(self, layer: Any) -> None:
        """Follow this layer of marks from now on."""
        if layer is not self.marks:
            self._leave_layer()
            self.marks = layer
            if layer is not None:
                for name in MARKS_EVENTS:
                    getattr(layer.events, name).connect(self._follow_marks)
            if self.box is not None:
                self.box.show_.forget_maps()
        self._follow_marks()

    def _leave_layer(self) -> None:
        if self.marks is not None:
            for name in MARKS_EVENTS:
                getattr(self.marks.events, name).disconnect(self._follow_marks)
        self.marks = None

    def _follow_marks(self, event: Any = None) -> None:
        """List the marks that are shown now; the chosen one stays chosen."""
        targets = () if self.marks is None else targets_of_points(self.marks)
        if targets == self._targets or self.box is None:
            return
        chosen = self.mark_box.currentText()
        self._targets = targets
        with QSignalBlocker(self.mark_box):
            self.mark_box.clear()
            self.mark_box.addItems([target.name for target in targets])
            self.mark_box.setCurrentIndex(max(0, self.mark_box.findText(chosen)) if targets else -1)
        self.box.keep_only(targets)

    def _on_mark(self, index: int) -> None:
        target = self.current()
        if target is not None and self.box is not None:
            jump_to(self.viewer, target.position_xyz_mm)
            self.box.follow()

    def _on_model(self, index: int) -> None:
        if self.box is not None:
            self.box.options.show_offers(())

    # -- keys, end --------------------------------------------------------------------------------

    def _bind_keys(self) -> dict[str, Any]:
        """Bind the keys of a reading in the viewer, where they are free; the dock of a reading comes before."""
        preferences = Preferences()
        keys = preferences.keys
        preferences.close()
        assert self.box is not None
        self.box.show_keys(keys)
        bound: dict[str, Any] = {}
        for name, function in zip(KEYS, (self._explain_key, self._switch_key, self._hold_key), strict=True):
            key = keys[name].replace("+", "-")
            if key and not _has_key(self.viewer, key):
                self.viewer.bind_key(key, function)
                bound[key] = function
        return bound

    def _explain_key(self, viewer: Any) -> None:
        if self.box is not None:
            self.box.explain()

    def _switch_key(self, viewer: Any) -> None:
        if self.box is not None:
            self.box.switch()

    def _hold_key(self, viewer: Any) -> Iterator[None]:
        """Show the map from here until napari goes on when the key comes up."""
        if self.box is not None:
            self.box.hold_by_hand(True)
        yield
        if self.box is not None:
            self.box.hold_by_hand(False)

    def dispose(self) -> None:
        """Let go of the viewer: layers, keys, marks."""
        bound, self._bound = getattr(self, "_bound", {}), {}
        for key in bound:
            self.viewer.bind_key(key, None)
        self._leave_layer()
        box, self.box = self.box, None
        if box is not None:
            box.dispose()
        super().dispose()


def _layers_of_points(viewer: ViewerModel, volume: Volume) -> Iterator[Any]:
    """Give the layers of points that belong to a scan or to none: other scans share its world, not its patient."""
    for layer in viewer.layers:
        if (
            layer._type_string == "points"
            and layer.ndim == 3
            and (volume_of(layer) is None or volume_of(layer) is volume)
        ):
            yield layer


def _has_key(viewer: ViewerModel, key: str) -> bool:
    from napari.utils.key_bindings import coerce_keybinding

    return coerce_keybinding(key) in viewer.keymap
