"""The keys of a reading: one table of actions, their default keys and what they do; no Qt.

Keys are written as Qt writes them: ``J``, ``Alt+Z``. They can be changed in napari's Preferences;
a key that cannot be understood, or that another action has, falls back to the default. Why these
keys: they are free in napari with every kind of layer active.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

MODIFIERS = ("Ctrl", "Alt", "Shift", "Meta")  # in the order in which Qt writes them
NAMED_KEYS = ("Up", "Down", "Left", "Right", "Home", "End", "PgUp", "PgDown", "Return", "Space", "Backspace", "Ins")
FUNCTION_KEYS = tuple(f"F{number}" for number in range(1, 13))
REASON_KEYS = {
    "reject_vessel": "vessel",
    "reject_scar": "scar",
    "reject_airway": "airway",
    "reject_lymph_node": "lymph node",
}
WINDOW_KEYS = {
    "lung_window": "lung",
    "mediastinum_window": "mediastinum",
    "bone_window": "bone",
    "ground_glass_window": "ground glass",
}
SLAB_KEYS_MM = {"slab_5_mm": 5.0, "slab_10_mm": 10.0, "slab_15_mm": 15.0}


@dataclass(frozen=True)
class KeyAction:
    """Something that a key does.

    Parameters
    ----------
    name : str
        Identifier, also in the Preferences.
    key : str
        Default key.
    text : str
        What it does, for people.
    group : str
        Heading on the card of keys.
    repeats : bool
        Whether it goes on while the key is held down: only where that can do no harm.
    """

    name: str
    key: str
    text: str
    group: str
    repeats: bool = False


KEY_TABLE = (
    KeyAction("next_mark", "J", "Next mark", "Marks", repeats=True),
    KeyAction("previous_mark", "K", "Previous mark", "Marks", repeats=True),
    KeyAction("accept", "G", "Accept, go on", "Decide"),
    KeyAction("reject", "Q", "Reject, go on", "Decide"),
    KeyAction("uncertain", "U", "Uncertain, go on", "Decide"),
    KeyAction("reject_vessel", "Alt+1", "Reject: vessel", "Decide"),
    KeyAction("reject_scar", "Alt+2", "Reject: scar", "Decide"),
    KeyAction("reject_airway", "Alt+3", "Reject: airway", "Decide"),
    KeyAction("reject_lymph_node", "Alt+4", "Reject: lymph node", "Decide"),
    KeyAction("take_back", "Alt+U", "Take this decision back", "Decide"),
    KeyAction("undo", "Alt+Z", "Undo", "Decide", repeats=True),
    KeyAction("redo", "Alt+Y", "Redo", "Decide", repeats=True),
    KeyAction("add_mark", "N", "New mark at the cursor", "Own marks"),
    KeyAction("move_mark", "Alt+N", "Move own mark to the cursor", "Own marks"),
    KeyAction("larger_mark", "Alt+Right", "Own mark larger by 0.5 mm", "Own marks", repeats=True),
    KeyAction("smaller_mark", "Alt+Left", "Own mark smaller by 0.5 mm", "Own marks", repeats=True),
    KeyAction("delete_mark", "Alt+D", "Delete own mark", "Own marks"),
    KeyAction("next_window", "W", "Next of lung, mediastinum, bone", "Window"),
    KeyAction("lung_window", "8", "Lung window", "Window"),
    KeyAction("mediastinum_window", "9", "Mediastinum window", "Window"),
    KeyAction("bone_window", "0", "Bone window", "Window"),
    KeyAction("ground_glass_window", "Alt+7", "Ground-glass window", "Window"),
    KeyAction("slab", "Alt+M", "Slab (MIP) on or off", "Slab and layout"),
    KeyAction("slab_5_mm", "Alt+8", "Slab of 5 mm", "Slab and layout"),
    KeyAction("slab_10_mm", "Alt+9", "Slab of 10 mm", "Slab and layout"),
    KeyAction("slab_15_mm", "Alt+0", "Slab of 15 mm", "Slab and layout"),
    KeyAction("next_layout", "Alt+5", "Next layout", "Slab and layout"),
    KeyAction("close_up", "Alt+G", "View of 60 mm, and back", "Slab and layout"),
    KeyAction("reading_scroll", "Alt+6", "Wheel moves slices, or zooms", "Slab and layout"),
    KeyAction("more_marks", "Alt+PgDown", "More marks (lower threshold)", "Marks", repeats=True),
    KeyAction("fewer_marks", "Alt+PgUp", "Fewer marks (higher threshold)", "Marks", repeats=True),
    KeyAction("explain", "Alt+X", "Explain this mark", "Evidence"),
    KeyAction("hold_heat_map", "H", "Hold: show the heat map", "Evidence"),
    KeyAction("heat_map", "Alt+B", "Heat map on or off", "Evidence"),
    KeyAction("end_read", "Alt+E", "End the first read, or declare the lungs searched", "Reading"),
    KeyAction("next_case", "Alt+J", "Next case of the folder", "Reading"),
    KeyAction("card", "Alt+K", "This card", "Reading"),
)


def default_keys() -> dict[str, str]:
    """Give the default key of every action, by the name of the action."""
    return {action.name: action.key for action in KEY_TABLE}


def canonical_key(text: str) -> str | None:
    """Give a key as Qt writes it, or None when it is none.

    Parameters
    ----------
    text : str
        As typed, such as ``alt + z``.

    Returns
    -------
    str or None
        Empty for an empty text: the action has no key.

    Examples
    --------
    >>> canonical_key("shift+alt + z"), canonical_key("pgdown"), canonical_key("Hyper+X"), canonical_key(" ")
    ('Alt+Shift+Z', 'PgDown', None, '')
    """
    if not text.strip():
        return ""
    *before, last = (part.strip() for part in text.split("+"))
    known = {name.lower(): name for name in (*MODIFIERS, *NAMED_KEYS, *FUNCTION_KEYS)}
    modifiers = {known.get(part.lower(), "") for part in before}
    key = last.upper() if len(last) == 1 else known.get(last.lower(), "")
    if not key or key in MODIFIERS or not modifiers <= set(MODIFIERS) or len(modifiers) != len(before):
        return None
    return "+".join([*(name for name in MODIFIERS if name in modifiers), key])


def resolve_keys(wishes: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """Give the key of every action, each key once, and a sentence for each wish that could not be met.

    Parameters
    ----------
    wishes : mapping of str to str
        Name of the action to key; a missing one has its default, an empty one no key.

    Returns
    -------
    tuple of (dict of str to str, list of str)
        Keys by the name of the action, empty where it has none; complaints.
    """
    keys, complaints = {}, []
    taken: dict[str, str] = {}
    for action in sorted(KEY_TABLE, key=lambda a: wishes.get(a.name, a.key) == a.key):  # wishes before defaults
        wish = wishes.get(action.name, action.key)
        key = canonical_key(wish)
        if key is None:
            complaints.append(f"{wish!r:.30} is no key for '{action.text}'; its default {action.key} is used.")
            key = action.key
        if key in taken:
            complaints.append(f"{key} is the key of '{taken[key]}' already, so '{action.text}' has none now.")
            key = ""
        if key:
            taken[key] = action.text
        keys[action.name] = key
    return {action.name: keys[action.name] for action in KEY_TABLE}, complaints


def card_rows(keys: Mapping[str, str]) -> list[tuple[str, list[tuple[str, str]]]]:
    """Give what the card of keys shows.

    Parameters
    ----------
    keys : mapping of str to str
        From `resolve_keys`.

    Returns
    -------
    list of (str, list of (str, str))
        Heading, and pairs of key and what it does; an action without a key has a dash.
    """
    groups = dict.fromkeys(action.group for action in KEY_TABLE)
    return [
        (group, [(keys[action.name] or "–", action.text) for action in KEY_TABLE if action.group == group])
        for group in groups
    ]


def hint_line(keys: Mapping[str, str]) -> str:
    """Give one line with the keys that a first reading needs.

    Parameters
    ----------
    keys : mapping of str to str
        From `resolve_keys`.

    Returns
    -------
    str
    """
    parts = (
        ("next_mark", "next"),
        ("accept", "accept"),
        ("reject", "reject"),
        ("uncertain", "uncertain"),
        ("add_mark", "add at the cursor"),
        ("undo", "undo"),
        ("card", "all keys"),
    )
    return " · ".join(f"{keys[name]} {text}" for name, text in parts if keys[name])
