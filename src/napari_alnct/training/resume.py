"""Resume points: everything that a stopped training run needs to go on as if it had never stopped.

``resume.pt`` is the last one, ``resume.prev.pt`` the one before it: when the last one is
damaged, the run goes on from the one before. Every byte is verified by the checksums inside
the file (torch alone would load a flipped bit in silence), and nothing in it is executed.
"""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from napari_alnct.core.errors import ModelError
from napari_alnct.training.saving import replace_file

CURRENT, PREVIOUS = "resume.pt", "resume.prev.pt"
FORMAT_VERSION = 1
DAMAGED = (zipfile.BadZipFile, pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError, OSError)


@dataclass(frozen=True)
class ResumePoint:
    """What a resume point holds, and a sentence when it is not the last one that was written."""

    state: dict[str, Any]
    note: str = ""


def write_resume_point(folder: Path, state: dict[str, Any]) -> None:
    """Write a resume point; the one before it is kept.

    Parameters
    ----------
    folder : Path
        Of the run; must exist.
    state : dict
        Tensors, numbers, texts, lists and dicts of them.

    Raises
    ------
    ModelError
        If the disk does not take it; older resume points stay whole.
    """
    content = io.BytesIO()
    torch.save({"format": FORMAT_VERSION} | state, content)
    current, previous = folder / CURRENT, folder / PREVIOUS

    def keep_previous() -> None:
        if current.is_file():
            os.replace(current, previous)

    replace_file(current, content.getvalue(), before=keep_previous)


def read_resume_point(folder: Path) -> ResumePoint | None:
    """Give the last whole resume point of a run.

    Parameters
    ----------
    folder : Path
        Of the run.

    Returns
    -------
    ResumePoint or None
        Tensors on the CPU; None when there is none.

    Raises
    ------
    ModelError
        If there are resume points but none is whole, or they are of another version.
    """
    paths = [path for path in (folder / CURRENT, folder / PREVIOUS) if path.is_file()]
    damaged: list[str] = []
    for path in paths:
        try:
            state = _load(path)
        except DAMAGED:
            damaged.append(path.name)
            continue
        note = f"{damaged[0]} is damaged; going on from {path.name}" if damaged else ""
        return ResumePoint(state, note)
    if damaged:
        raise ModelError(f"{' and '.join(damaged)} cannot be read: damaged or cut short; begin the run anew")
    return None


def _load(path: Path) -> dict[str, Any]:
    with zipfile.ZipFile(path) as archive:
        if archive.testzip() is not None:
            raise zipfile.BadZipFile("a checksum differs")
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    found = state.get("format")
    if found != FORMAT_VERSION:
        raise ModelError(f"{path.name} has format {found}, this version goes on from {FORMAT_VERSION}; begin anew")
    return state
