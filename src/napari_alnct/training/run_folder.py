"""The folder of a training run: what it was begun with, and which of its files belong to it.

``run.json`` holds everything that decides the result. A run goes on only with the same;
a folder that holds a run is never begun again in silence.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from napari_alnct.core.errors import SettingsError
from napari_alnct.io.atomic_file import replacing_text
from napari_alnct.training.resume import CURRENT, PREVIOUS
from napari_alnct.training.saving import saving

RUN, BEST, EPOCHS, STEPS, CURVES = "run.json", "best.safetensors", "log.csv", "steps.csv", "tensorboard"
FILES = (RUN, BEST, CURRENT, PREVIOUS, EPOCHS, STEPS)
IDENTITY = "identity"
WAY_OUT = "choose another --save-dir, or begin anew with --overwrite"


def open_run_folder(
    folder: Path, identity: Mapping[str, Any], facts: Mapping[str, Any], *, resume: bool, overwrite: bool
) -> None:
    """Make the folder of a run ready, or refuse it.

    Parameters
    ----------
    folder : Path
        Made when missing.
    identity : mapping
        What decides the result, JSON values: settings and patches.
    facts : mapping
        Further facts for ``run.json``: versions, paths.
    resume : bool
        Go on with the run that is there; where there is none, begin.
    overwrite : bool
        Remove the run that is there, and begin.

    Raises
    ------
    SettingsError
        If a run is there and nothing was said of it, or it was begun with something else.
    """
    if resume and overwrite:
        raise SettingsError("a run is either gone on with or begun anew; give --resume or --overwrite, not both")
    present = [name for name in FILES if (folder / name).exists()]
    if present and not resume and not overwrite:
        raise SettingsError(f"{folder.name} holds a training run ({present[0]}); go on with --resume, or {WAY_OUT}")
    if present and resume:
        _refuse_other_run(folder, identity)
        return
    with saving(folder / RUN):
        folder.mkdir(parents=True, exist_ok=True)
        _remove_run(folder)
        with replacing_text(folder / RUN) as file:
            json.dump({IDENTITY: identity, **facts}, file, indent=1)


def _remove_run(folder: Path) -> None:
    for name in reversed(FILES):  # the description last, so that a half-removed run is still seen as one
        (folder / name).unlink(missing_ok=True)
    shutil.rmtree(folder / CURVES, ignore_errors=True)


def _refuse_other_run(folder: Path, identity: Mapping[str, Any]) -> None:
    try:
        begun = json.loads((folder / RUN).read_text(encoding="utf-8"))[IDENTITY]
        before = dict(_leaves(begun))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as fault:
        raise SettingsError(f"{RUN} in {folder.name} cannot be read, so the run cannot go on; {WAY_OUT}") from fault
    now = dict(_leaves(json.loads(json.dumps(identity))))
    for name in sorted(before.keys() | now.keys()):
        if before.get(name) != now.get(name):
            what = f"{name} is {now.get(name)!r}, the run in {folder.name} was begun with {before.get(name)!r}"
            if name.endswith("fingerprint"):
                what = f"the {name.split('_')[0]} patches are not those that the run in {folder.name} was begun with"
            raise SettingsError(f"{what}; give the same to go on, or {WAY_OUT}")


def _leaves(values: Mapping[str, Any], place: str = "") -> Iterator[tuple[str, Any]]:
    """Give nested values under dotted names."""
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{place}{name}.")
        else:
            yield f"{place}{name}", value
