"""The leak guard: no scan, and where patients are known no patient, in two sets of patches.

The guard works at *series level* without a table of patients, at *patient level* with one.
At patient level every scan of both sides must have a patient, or the guard would have holes.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from napari_alnct.core.errors import TableError
from napari_alnct.io.csv_files import read_lines, unguarded
from napari_alnct.io.patch_store import PatchStore

SERIES_NAMES, PATIENT_NAMES = ("seriesuid", "series"), ("patient", "patient_id")


@dataclass(frozen=True, kw_only=True)
class LeakGuard:
    """What was compared, and how strictly; there is none for sets that share something.

    Parameters
    ----------
    level : {"series", "patient"}
        What the two sides do not share.
    apart_from : tuple of str
        Names of the folders of patches compared with.
    n_series : int
        Scans in them.
    """

    level: Literal["series", "patient"]
    apart_from: tuple[str, ...]
    n_series: int

    @property
    def sentence(self) -> str:
        """Give the guard in words, beginning with its level."""
        if not self.apart_from:
            return f"leak guard: {self.level} level; no other patches were named to compare with (--apart-from)"
        shared = "scan" if self.level == "series" else "patient"
        return (
            f"leak guard: {self.level} level; no {shared} in common with {', '.join(self.apart_from)} "
            f"({self.n_series} scans)"
        )

    def to_json(self) -> dict[str, Any]:
        """Give the guard as JSON values, for ``patches.json``."""
        return {"level": self.level, "apart_from": list(self.apart_from), "n_series_compared": self.n_series}


def read_patients(path: Path) -> dict[str, str]:
    """Give the patient of each series.

    Parameters
    ----------
    path : Path
        CSV file with the columns seriesuid (or series) and patient.

    Returns
    -------
    dict of str to str

    Raises
    ------
    TableError
        If a column is missing, a cell is empty, or a series has two patients.
    """
    lines = [(number, cells) for number, cells in read_lines(path) if any(cell.strip() for cell in cells)]
    header = [cell.strip().lower() for cell in lines[0][1]] if lines else []
    places = [next((header.index(n) for n in names if n in header), None) for names in (SERIES_NAMES, PATIENT_NAMES)]
    if places[0] is None or places[1] is None:
        found = ", ".join(header)[:200] or "an empty file"
        raise TableError(f"{path.name} needs the columns seriesuid and patient, found {found}; name them so")
    patients: dict[str, str] = {}
    for number, cells in lines[1:]:
        uid, patient = (unguarded(cells[k].strip()) if k is not None and k < len(cells) else "" for k in places)
        if not uid or not patient:
            raise TableError(f"{path.name}, line {number}: series or patient is empty; fill it in or delete the line")
        if patients.setdefault(uid, patient) != patient:
            raise TableError(f"{path.name}, line {number}: {uid} has two patients; keep the right one")
    return patients


def guard_leaks(series: Sequence[str], patients: Mapping[str, str] | None, others: Sequence[Path]) -> LeakGuard:
    """Give the guard of a selection of scans, or refuse it for what it shares with other patches.

    Parameters
    ----------
    series : sequence of str
        Scans to sample.
    patients : mapping of str to str or None
        Patient of each series, from `read_patients`; None: series level.
    others : sequence of Path
        Folders of patches to stay apart from.

    Returns
    -------
    LeakGuard

    Raises
    ------
    TableError
        If a scan or a patient is on both sides, a scan has no patient, or a folder holds no patches.
    """
    if patients is not None:
        _require_patients(series, patients, "selection")
    n_compared = 0
    for folder in others:
        theirs = PatchStore.open(folder).series
        name = _name(folder)
        _refuse_shared(set(series) & theirs, f"scans of the selection are in {name} too")
        if patients is not None:
            _require_patients(sorted(theirs), patients, name)
            shared = {patients[uid] for uid in series} & {patients[uid] for uid in theirs}
            _refuse_shared(shared, f"patients of the selection are in {name} too")
        n_compared += len(theirs)
    names = tuple(_name(folder) for folder in others)
    return LeakGuard(level="series" if patients is None else "patient", apart_from=names, n_series=n_compared)


def _name(folder: Path) -> str:
    """Give a folder of patches by its name and that of the one above, which often tells more."""
    place = folder if folder.suffix != ".csv" else folder.parent
    return "/".join(place.absolute().parts[-2:]).lstrip("/")


def _require_patients(series: Sequence[str], patients: Mapping[str, str], where: str) -> None:
    unknown = [uid for uid in series if uid not in patients]
    if unknown:
        raise TableError(
            f"{len(unknown)} of {len(series)} scans of {where} have no patient in the table, the first is "
            f"{unknown[0]}; add them, or leave the table out for a guard at series level"
        )


def _refuse_shared(shared: Collection[str], phrase: str) -> None:
    if shared:
        raise TableError(
            f"{len(shared)} {phrase}, the first is {min(shared)}; choose other folds or another list of series"
        )
