"""The settings of a reading in napari's Preferences, as frozen values; no Qt.

The manifest's ``configurations`` declare the page; its fields are those of `ReadingSettings` and of the
table of keys. Where napari does not know the plugin (a bare viewer model) the defaults hold.
"""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

from psygnal import Signal

from napari_alnct.core.config import ReadingSettings, from_json
from napari_alnct.core.errors import SettingsError
from napari_alnct.plugin._keys import default_keys, resolve_keys

PLUGIN = "napari-alnct"
READING, KEYS = "reading", "keys"  # the two parts of the page


class Preferences:
    """What the Preferences hold now, and a signal when it changes.

    Signals
    -------
    changed : ()
        A reading setting or a key was changed, by the user or by `remember`.
    """

    changed = Signal()

    def __init__(self) -> None:
        self._model = _plugin_settings()
        self._is_open = True
        self._own: dict[str, Any] = {}  # without a page: what was remembered
        for part in self._parts():
            part.events.connect(self._on_changed)

    @property
    def reading(self) -> ReadingSettings:
        """Give the settings of readings; a page that holds nonsense counts as untouched."""
        values = {field.name: field.default for field in fields(ReadingSettings)}
        if self._model is not None:
            values |= {name: getattr(getattr(self._model, READING), name) for name in values}
        try:
            return from_json(ReadingSettings, {**values, **self._own})
        except SettingsError:
            return ReadingSettings()

    @property
    def wished_keys(self) -> dict[str, str]:
        """Give the keys as they stand in the Preferences, by the name of the action."""
        defaults = default_keys()
        if self._model is None:
            return defaults
        return {name: str(getattr(getattr(self._model, KEYS), name)) for name in defaults}

    @property
    def keys(self) -> dict[str, str]:
        """Give the keys that hold, each once; empty where an action has none."""
        return resolve_keys(self.wished_keys)[0]

    @property
    def folder(self) -> Path:
        """Give the folder of all readings."""
        return readings_folder(self.reading)

    def remember(self, **values: Any) -> None:
        """Keep a choice for the next reading.

        Parameters
        ----------
        **values
            Fields of `ReadingSettings`.
        """
        for name, value in values.items():
            if getattr(self.reading, name) == value:
                continue
            if self._model is None:
                self._own[name] = value
                self.changed.emit()
            else:
                setattr(getattr(self._model, READING), name, value)

    def close(self) -> None:
        """Hear no more of the Preferences; a second time nothing happens."""
        if self._is_open:
            self._is_open = False
            for part in self._parts():
                part.events.disconnect(self._on_changed)

    def _parts(self) -> list[Any]:
        return [] if self._model is None else [getattr(self._model, name) for name in (READING, KEYS)]

    def _on_changed(self, event: Any = None) -> None:
        self.changed.emit()


def readings_folder(settings: ReadingSettings) -> Path:
    """Give the folder of all readings.

    Parameters
    ----------
    settings : ReadingSettings
        An empty ``folder`` means ``napari-alnct/readings`` in the home folder.

    Returns
    -------
    Path

    Examples
    --------
    >>> readings_folder(ReadingSettings(folder="/data/readings")).name
    'readings'
    """
    wish = settings.folder.strip()
    return Path(wish).expanduser() if wish else Path.home() / "napari-alnct" / "readings"


def _plugin_settings() -> Any:
    """Give napari's settings of this plugin, None where napari does not know it."""
    from napari.settings import get_plugin_settings

    try:
        model = get_plugin_settings(PLUGIN)
    except KeyError:
        return None
    return model if all(hasattr(model, part) for part in (READING, KEYS)) else None
