"""The files of the LUNA16 records: what each one is and where it goes.

The records hold ten archives of scans, the lung masks, tables and the evaluation script.
Files are known by the pattern of their names, because the names themselves are read from
the records at run time. The folders are those that `napari_alnct.io.luna16` looks into.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Literal

from napari_alnct.core.errors import SettingsError
from napari_alnct.io.downloads import RemoteFile

RECORDS = ("3723295", "4121926")  # doi:10.5281/zenodo.3723295 and 10.5281/zenodo.4121926: parts 1 and 2 of LUNA16
SUBSETS = tuple(range(10))
Kind = Literal["scans", "masks", "tables", "evaluation"]
SCANS = re.compile(r"subset[_-]?(\d)\.zip", re.IGNORECASE)
OTHERS: dict[Kind, tuple[re.Pattern[str], str]] = {  # kind -> names, folder
    "masks": (re.compile(r"seg-lungs.*\.zip", re.IGNORECASE), "seg-lungs-LUNA16"),
    "evaluation": (re.compile(r"evaluation.*\.zip", re.IGNORECASE), "evaluationScript"),
    "tables": (re.compile(r".*\.csv|candidates.*\.zip", re.IGNORECASE), "CSVFILES"),
}
EXPECTED = {  # what the commands use -> names that bring it
    "the annotations": re.compile(r"annotations\.(csv|zip)", re.IGNORECASE),
    "candidates_V2": re.compile(r"candidates_V2\.(csv|zip)", re.IGNORECASE),
    "the lung masks (seg-lungs-LUNA16)": OTHERS["masks"][0],
    "the evaluation script with the excluded findings": OTHERS["evaluation"][0],
}
EXPANSION: dict[Kind, float] = {"scans": 2.0, "masks": 2.0, "tables": 6.0, "evaluation": 6.0}


@dataclass(frozen=True, kw_only=True)
class DataFile:
    """A file of the records with its place in the data set.

    Parameters
    ----------
    remote : RemoteFile
        Name, size, checksum, addresses.
    kind : {"scans", "masks", "tables", "evaluation"}
        What it holds.
    folder : str
        Folder of the data set that it or its content goes to.
    """

    remote: RemoteFile
    kind: Kind
    folder: str

    @property
    def size(self) -> int:
        """Give the bytes to fetch."""
        return self.remote.size or 0

    @property
    def is_archive(self) -> bool:
        """Tell whether it has to be unpacked."""
        return self.remote.name.lower().endswith(".zip")

    @property
    def unpacked_size(self) -> int:
        """Give the bytes on disk at the end; an estimate for archives, known only when they are there."""
        return round(self.size * EXPANSION[self.kind]) if self.is_archive else self.size


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What is fetched, and what is not.

    Parameters
    ----------
    files : tuple of DataFile
        Small ones first, then masks, then subsets in order.
    missing : tuple of str
        What the records should hold and do not.
    left_out : tuple of str
        Names that were not asked for, or are of no known kind.
    """

    files: tuple[DataFile, ...]
    missing: tuple[str, ...]
    left_out: tuple[str, ...]


def choose_files(
    remotes: Iterable[RemoteFile], subsets: Collection[int] = SUBSETS, *, with_masks: bool = True
) -> Choice:
    """Give the files of these subsets, and those that belong to all.

    Parameters
    ----------
    remotes : iterable of RemoteFile
        Files of the records; of two of the same name the first counts.
    subsets : collection of int
        Subsets, 0 to 9.
    with_masks : bool
        Whether to take the lung masks.

    Returns
    -------
    Choice

    Raises
    ------
    SettingsError
        If the records hold no scans of a subset.
    """
    by_name: dict[str, RemoteFile] = {}
    for remote in remotes:
        by_name.setdefault(remote.name, remote)
    files = [file for file in map(_placed, by_name.values()) if file is not None]
    absent = sorted(set(subsets) - {_subset_of(file) for file in files})
    if absent:
        held = ", ".join(by_name) or "nothing"
        raise SettingsError(f"the records hold no scans of subset {', '.join(map(str, absent))}; they hold {held}")
    chosen = [f for f in files if (f.kind != "scans" or _subset_of(f) in subsets) and (with_masks or f.kind != "masks")]
    order = ("tables", "evaluation", "masks", "scans")
    chosen.sort(key=lambda file: (order.index(file.kind), file.remote.name))
    names = {file.remote.name for file in chosen}
    return Choice(
        files=tuple(chosen),
        missing=tuple(what for what, names in EXPECTED.items() if not any(map(names.fullmatch, by_name))),
        left_out=tuple(sorted(set(by_name) - names)),
    )


def _placed(remote: RemoteFile) -> DataFile | None:
    """Give a file its kind and folder; None when it is of no known kind."""
    match = SCANS.fullmatch(remote.name)
    if match:
        return DataFile(remote=remote, kind="scans", folder=f"subset{match[1]}")
    for kind, (names, folder) in OTHERS.items():
        if names.fullmatch(remote.name):
            return DataFile(remote=remote, kind=kind, folder=folder)
    return None


def _subset_of(file: DataFile) -> int | None:
    match = SCANS.fullmatch(file.remote.name)
    return int(match[1]) if match else None
