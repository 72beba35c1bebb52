"""The list of models: those that come with the package, and a file of one's own."""

from __future__ import annotations

from pathlib import Path

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QComboBox, QFileDialog

from napari_alnct.models.catalogue import DEFAULT, list_models

OTHER_FILE = "Open a model file …"


class ModelBox(QComboBox):  # type: ignore[misc]  # Qt classes are untyped here
    """Choose a model by name, or a file; torch is not needed for that."""

    def __init__(self) -> None:
        super().__init__(toolTip="The model that searches. Its card in the documentation says where it was measured.")
        self.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        for model in list_models():  # the default first
            self.addItem(model.name, model.name)
            self.setItemData(self.count() - 1, model.summary, Qt.ItemDataRole.ToolTipRole)
        self.addItem(OTHER_FILE, None)
        self._last = 0
        self.activated.connect(self._on_activated)

    @property
    def model(self) -> str:
        """Give the name or the path of the chosen model."""
        return str(self.currentData() or DEFAULT)

    def files(self) -> tuple[str, ...]:
        """Give the paths of the model files that the user has added, the newest first."""
        bundled = {model.name for model in list_models()}
        items = [self.itemData(index) for index in reversed(range(self.count()))]
        return tuple(item for item in items if item is not None and item not in bundled)

    def add_file(self, path: Path) -> None:
        """Add a model file and choose it.

        Parameters
        ----------
        path : Path
            ``.safetensors`` file; it is checked when it runs.
        """
        index = self.count() - 1
        self.insertItem(index, path.name, str(path))
        self.setCurrentIndex(index)
        self._last = index

    def _on_activated(self, index: int) -> None:
        if self.itemText(index) != OTHER_FILE:
            self._last = index
            return
        self.setCurrentIndex(self._last)
        chosen, _ = QFileDialog.getOpenFileName(self, "Open a model file", "", "Models (*.safetensors)")
        if chosen:
            self.add_file(Path(chosen))
