"""The table of keys, the page in the Preferences, and that both are the same."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import pytest
from npe2 import PluginManifest

import napari_alnct
from napari_alnct.core.config import ReadingSettings, bounds
from napari_alnct.plugin._form import field_help
from napari_alnct.plugin._keys import (
    KEY_TABLE,
    REASON_KEYS,
    SLAB_KEYS_MM,
    WINDOW_KEYS,
    canonical_key,
    card_rows,
    default_keys,
    hint_line,
    resolve_keys,
)
from napari_alnct.plugin._settings import PLUGIN, Preferences

MANIFEST = Path(napari_alnct.__file__).with_name("napari.yaml")
DESIGN = {
    "next_mark": "J",
    "previous_mark": "K",
    "accept": "G",
    "reject": "Q",
    "uncertain": "U",
    "add_mark": "N",
    "undo": "Alt+Z",
    "redo": "Alt+Y",
    "next_window": "W",
    "lung_window": "8",
    "mediastinum_window": "9",
    "bone_window": "0",
    "ground_glass_window": "Alt+7",
    "slab": "Alt+M",
    "slab_5_mm": "Alt+8",
    "slab_10_mm": "Alt+9",
    "slab_15_mm": "Alt+0",
}


def test_the_keys_are_those_that_the_tutorial_teaches() -> None:
    """Accept, reject, next and the others are where readers learn them."""
    keys = default_keys()
    assert {name: keys[name] for name in DESIGN} == DESIGN


def test_every_default_is_written_as_qt_writes_it_and_used_once() -> None:
    """No action shadows another."""
    keys = default_keys()
    assert all(canonical_key(key) == key for key in keys.values())
    assert len(set(keys.values())) == len(keys) == len(KEY_TABLE)


def test_parts_of_the_table_name_actions() -> None:
    """Reasons, windows and slabs have their keys in the table."""
    assert {*REASON_KEYS, *WINDOW_KEYS, *SLAB_KEYS_MM} <= set(default_keys())


@pytest.mark.parametrize(
    ("typed", "key"),
    [
        ("alt+z", "Alt+Z"),
        (" Shift + Alt + x ", "Alt+Shift+X"),
        ("f5", "F5"),
        ("pgup", "PgUp"),
        ("", ""),
        ("Alt+", None),
        ("Alt", None),
        ("Alt+Alt+X", None),
        ("Accept", None),
    ],
)
def test_typed_keys_are_understood_or_refused(typed: str, key: str | None) -> None:
    """Case and blanks do not matter; what is no key is None."""
    assert canonical_key(typed) == key


def test_a_key_can_be_given_to_another_action() -> None:
    """The wish holds, the action that had it by default has none, and this is said."""
    keys, complaints = resolve_keys({**default_keys(), "accept": "q"})
    assert (keys["accept"], keys["reject"]) == ("Q", "")
    assert len(complaints) == 1
    assert "Reject" in complaints[0]


def test_nonsense_falls_back_to_the_default() -> None:
    """And the complaint names what was typed."""
    keys, (complaint,) = resolve_keys({**default_keys(), "accept": "Enter please"})
    assert keys["accept"] == "G"
    assert "Enter please" in complaint


def test_the_card_shows_every_action_and_its_key() -> None:
    """Also one that has none."""
    keys, _ = resolve_keys({**default_keys(), "accept": ""})
    rows = [row for _, group in card_rows(keys) for row in group]
    assert len(rows) == len(KEY_TABLE)
    assert ("–", "Accept, go on") in rows
    assert "accept" not in hint_line(keys)
    assert "Q reject" in hint_line(keys)


# -- the page in the Preferences ---------------------------------------------------------------------------


def page() -> Any:
    return PluginManifest.from_file(MANIFEST).contributions.configurations


def test_the_page_has_the_fields_of_the_settings() -> None:
    """Names, defaults, bounds, choices and help are those of the dataclass: one definition of each setting."""
    shown, hints, tips = page()["reading"].properties, get_type_hints(ReadingSettings), field_help(ReadingSettings)
    assert list(shown) == [field.name for field in fields(ReadingSettings)]
    for field in fields(ReadingSettings):
        entry, limits = shown[field.name], bounds(ReadingSettings, field.name)
        choices = get_args(hints[field.name]) if get_origin(hints[field.name]) else ()
        assert entry.default == field.default
        assert (entry.title, entry.description) == (limits["label"], tips[field.name])
        assert (entry.minimum, entry.maximum) == (limits.get("min"), limits.get("max"))
        assert tuple(entry.enum or ()) == choices


def test_the_page_has_every_key() -> None:
    """With the default of the table."""
    assert {name: entry.default for name, entry in page()["keys"].properties.items()} == default_keys()


@pytest.fixture
def known(plugin_settings: Any, npe2pm: Any) -> Any:
    """Give napari's settings of this plugin, in a folder of the test."""
    if PLUGIN not in npe2pm:
        npe2pm.register(PluginManifest.from_file(MANIFEST))
    from napari.settings import get_plugin_settings

    return get_plugin_settings(PLUGIN)


def test_preferences_are_read_and_followed(known: Any) -> None:
    """A change on the page is a signal, and the new value holds; after close nothing is heard."""
    preferences = Preferences()
    heard = []
    preferences.changed.connect(lambda: heard.append(1))
    known.reading.auto_advance = False
    known.keys.accept = "alt+g"
    assert len(heard) == 2
    assert not preferences.reading.auto_advance
    assert preferences.keys["accept"] == "Alt+G"
    preferences.close()
    known.reading.auto_advance = True
    assert len(heard) == 2


def test_a_choice_in_the_dock_is_remembered(known: Any) -> None:
    """It stands on the page, and the next reading has it."""
    preferences = Preferences()
    preferences.remember(mode="second reader", show_hint=False)
    assert known.reading.mode == "second reader"
    assert Preferences().reading == preferences.reading
    preferences.close()


def test_without_the_plugin_the_defaults_hold(plugin_settings: Any) -> None:
    """On a bare viewer model; a choice is remembered as long as the window is open."""
    preferences = Preferences()
    heard = []
    preferences.changed.connect(lambda: heard.append(1))
    preferences.remember(show_hint=False)
    assert preferences.reading == ReadingSettings(show_hint=False)
    assert (preferences.keys, heard) == (default_keys(), [1])
