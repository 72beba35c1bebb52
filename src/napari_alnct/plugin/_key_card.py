"""The card of keys: a small window that can stay open beside the scan."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QDialog, QLabel, QVBoxLayout, QWidget

from napari_alnct.plugin._keys import card_rows

MOUSE_ROWS = (
    ("Wheel", "Slices (Alt+6: zoom)"),
    ("Shift+wheel", "Zoom, where the wheel moves slices"),
    ("Right drag", "Window: right wider, down darker"),
    ("Click in a plane", "Crosshair there, in all planes"),
)
FOOT = "Keys can be changed in Preferences, page ALNCT lung nodules."


class KeyCard(QDialog):  # type: ignore[misc]  # Qt classes are untyped here
    """Every key and what it does.

    Parameters
    ----------
    parent : QWidget
        Window that it belongs to.
    """

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent, Qt.WindowType.Tool)
        self.setWindowTitle("Keys of a reading")
        self.text = QLabel(textFormat=Qt.TextFormat.RichText)
        self.text.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        column = QVBoxLayout(self)
        column.addWidget(self.text)

    def show_keys(self, keys: Mapping[str, str]) -> None:
        """Show these keys.

        Parameters
        ----------
        keys : mapping of str to str
            Name of the action to key.
        """
        groups = [*card_rows(keys), ("Mouse", list(MOUSE_ROWS))]
        half = _half(groups)
        columns = "".join(
            f"<td style='padding-right:24px'>{_table(part)}</td>" for part in (groups[:half], groups[half:])
        )
        self.text.setText(f"<table><tr>{columns}</tr></table><p>{FOOT}</p>")


def _half(groups: list[tuple[str, list[tuple[str, str]]]]) -> int:
    """Give how many groups stand in the first of two columns of about the same height."""
    heights = [len(rows) + 2 for _, rows in groups]
    return min(range(1, len(groups)), key=lambda k: abs(sum(heights[:k]) - sum(heights[k:])))


def _table(groups: list[tuple[str, list[tuple[str, str]]]]) -> str:
    lines = []
    for title, rows in groups:
        lines.append(f"<tr><td colspan='2' style='padding-top:8px'><b>{escape(title)}</b></td></tr>")
        lines += [
            f"<tr><td style='padding-right:12px'><code>{escape(key)}</code></td><td>{escape(text)}</td></tr>"
            for key, text in rows
        ]
    return f"<table>{''.join(lines)}</table>"
