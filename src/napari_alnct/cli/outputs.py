"""Outputs that could not be written are refused before the work, not after it."""

from __future__ import annotations

import os
from pathlib import Path

from napari_alnct.core.errors import SettingsError


def refuse_unwritable_table(out: Path) -> None:
    """Refuse a table that could not be written after all the work.

    Parameters
    ----------
    out : Path
        File to write; its folder must exist.

    Raises
    ------
    SettingsError
        If it is a folder, or its folder is missing or cannot be written.
    """
    if out.is_dir():
        raise SettingsError(f"{out.name} is a folder; name a file in it, such as candidates.csv")
    if not out.parent.is_dir():
        raise SettingsError(f"{out.name}: the folder {out.parent.name} does not exist; make it first")
    if not os.access(out.parent, os.W_OK):
        raise SettingsError(f"{out.name}: {_folder_name(out.parent)} cannot be written; choose another folder")


def refuse_unwritable_folder(out: Path) -> None:
    """Refuse an output folder that could neither be made nor written after all the work.

    Parameters
    ----------
    out : Path
        Folder to write; made later when missing, with its parents.

    Raises
    ------
    SettingsError
        If it or one of its parents is a file, or the nearest folder that is there cannot be written.
    """
    place = out.absolute()
    while not place.exists() and place.parent != place:
        place = place.parent
    if not place.is_dir():
        raise SettingsError(f"{place.name} is a file; choose a folder")
    if not os.access(place, os.W_OK):
        raise SettingsError(f"{out.name or out}: {_folder_name(place)} cannot be written; choose another folder")


def _folder_name(folder: Path) -> str:
    """Give a folder for a sentence; never a full path."""
    name = folder.absolute().name
    return f"the folder {name}" if name else "this folder"
