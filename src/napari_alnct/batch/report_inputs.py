"""What a report is made from: given one by one, or found in the folder of a run.

Nothing is judged here. What the user names wins over what is found. The *record* of a
table of candidates is the ``.run.json`` that ``detect`` writes beside it: it says which
scans were searched and which could not be read.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from napari_alnct.batch.froc import REPORT as FROC_FILE
from napari_alnct.core.errors import SettingsError, TableError
from napari_alnct.io.csv_files import read_lines, read_table
from napari_alnct.io.identifiers import short_hash
from napari_alnct.io.luna16 import Dataset, find_dataset
from napari_alnct.io.scan_paths import SUFFIXES
from napari_alnct.io.tables import SERIES

BEST, LOG, METRICS = "best.safetensors", "log.csv", "metrics.json"
JOINED = "joined.json"  # a cross-validation has a model per fold, and none of its own
FIRST_STAGE = "first_stage"  # of a detector's training
TABLES = {  # what a table may be called in a run folder, when froc.json does not name it
    "candidates": ("submission.csv", "submission.csv.gz", "candidates.csv"),
    "annotations": ("annotations.csv",),
    "excluded": ("annotations_excluded.csv",),
    "seriesuids": ("seriesuids.csv",),
}
DEEPEST = 3  # folders below the run's that are looked into
MOST_LOOKED_AT = 20_000  # files, so that a report of "/" ends


@dataclass(frozen=True, kw_only=True)
class ReportInputs:
    """Where the parts of a report come from; whatever is None is left out of it.

    Parameters
    ----------
    candidates, annotations, excluded, seriesuids : Path or None
        Tables, as ``froc`` takes them.
    scans : Path or None
        Data set, for the pictures.
    model : str or None
        Bundled model or ``.safetensors`` file.
    froc_dir, eval_dir, train_dir : Path or None
        What ``froc``, ``eval`` and ``train`` wrote.
    """

    candidates: Path | None = None
    annotations: Path | None = None
    excluded: Path | None = None
    seriesuids: Path | None = None
    scans: Path | None = None
    model: str | None = None
    froc_dir: Path | None = None
    eval_dir: Path | None = None
    train_dir: Path | None = None


@dataclass(frozen=True)
class RunRecord:
    """Which scans a detection run searched, from the record beside its table.

    ``done``: hashes of series; ``failed``: hash of the file name to code.
    """

    document: dict[str, Any] = field(default_factory=dict)

    @property
    def is_known(self) -> bool:
        """Tell whether there is a record."""
        return bool(self.document)

    @property
    def done(self) -> set[str]:
        """Give the hashes of the series that were searched."""
        return {str(s.get("series_sha256")) for s in self._scans if s.get("status") == "done"}

    @property
    def failed(self) -> dict[str, str]:
        """Give hash (of the file name, or of the series) and code of each scan that could not be searched."""
        bad = [scan for scan in self._scans if scan.get("status") == "failed"]
        return {str(scan.get("file_sha256") or scan.get("series_sha256")): str(scan.get("code")) for scan in bad}

    @property
    def _scans(self) -> list[dict[str, Any]]:
        scans = self.document.get("scans", [])
        return [scan for scan in scans if isinstance(scan, dict)] if isinstance(scans, list) else []

    def why_not_searched(self, series_uid: str, file_names: Sequence[str] = ()) -> str | None:
        """Give the reason why there is nothing about a series.

        Parameters
        ----------
        series_uid : str
            Series of the list.
        file_names : sequence of str
            What its file is called, where known; else names made from the series are tried.

        Returns
        -------
        str or None
            A code, or ``no record``; None when it was searched, or when there is no record at all.
        """
        if not self.is_known or short_hash(series_uid) in self.done:
            return None
        names = [series_uid, *(file_names or (f"{series_uid}{suffix}" for suffix in SUFFIXES))]
        return next((self.failed[h] for h in map(short_hash, names) if h in self.failed), "no record")


def find_run(folder: Path) -> ReportInputs:
    """Give what a run folder holds: model, log, metrics, FROC and tables.

    Parameters
    ----------
    folder : Path
        Folder of a training, an evaluation, a detection run or a cross-validation.

    Returns
    -------
    ReportInputs
        Where a name is there twice, the one nearest to the top counts.

    Raises
    ------
    SettingsError
        If there is no such folder, or nothing in it is known.
    """
    if not folder.is_dir():
        raise SettingsError(f"{folder.name} is no folder; name the folder of a run")
    files = sorted(_files(folder), key=lambda path: (len(path.parts), path))
    first: dict[str, Path] = {}
    for path in files:
        first.setdefault(path.name, path)
    froc = first.get(FROC_FILE)
    tables = _tables(files, first, read_json(froc) if froc else {})
    found = ReportInputs(
        candidates=tables["candidates"],
        annotations=tables["annotations"],
        excluded=tables["excluded"],
        seriesuids=tables["seriesuids"],
        froc_dir=froc.parent if froc else None,
        eval_dir=first[METRICS].parent if METRICS in first else None,
        train_dir=None if JOINED in first else _train_dir(files, first),
    )
    if found == ReportInputs():
        raise SettingsError(f"{folder.name}: found neither {BEST}, {FROC_FILE}, {METRICS} nor tables; name them")
    return found


def merged(named: ReportInputs, found: ReportInputs) -> ReportInputs:
    """Give what the user named, completed by what was found.

    Parameters
    ----------
    named, found : ReportInputs
        The first wins. Found tables are left out when other candidates were named: they belong to another result.

    Returns
    -------
    ReportInputs
    """
    if named.candidates is not None and found.candidates != named.candidates:
        found = replace(found, froc_dir=None, seriesuids=None)
    return replace(found, **{key: value for key, value in vars(named).items() if value is not None})


def read_record(candidates: Path | None, seriesuids: Path | None) -> RunRecord:
    """Give the record of the detection run: beside the table, else the outcomes in the list of series.

    Parameters
    ----------
    candidates : Path or None
        The table; its record is ``<name>.run.json``.
    seriesuids : Path or None
        List of series; that of a cross-validation says for each whether it was searched (``status``).

    Returns
    -------
    RunRecord
        Empty when there is none.

    Raises
    ------
    TableError
        If it is there but cannot be read.
    """
    if candidates is None:
        return RunRecord()
    stem = candidates.name.removesuffix(".gz").removesuffix(".csv")
    path = candidates.with_name(f"{stem}.run.json")
    if path.is_file():
        return RunRecord(read_json(path))
    return RunRecord({"scans": scans} if (scans := _outcomes(seriesuids)) else {})


def _outcomes(seriesuids: Path | None) -> list[dict[str, str]]:
    """Give what a list of series with the column ``status`` says of each."""
    lines = read_lines(seriesuids) if seriesuids is not None else []
    if not lines or not {SERIES, "status"} <= {cell.strip() for cell in lines[0][1]}:
        return []
    return [
        {
            "series_sha256": short_hash(row.text(SERIES)),
            "status": row.text("status"),
            "code": row.cells.get("code", "").strip() or "failed",
        }
        for row in read_table(cast(Path, seriesuids), (SERIES, "status"))
    ]


def read_json(path: Path) -> dict[str, Any]:
    """Give the content of a JSON file that holds names and values.

    Parameters
    ----------
    path : Path
        UTF-8.

    Returns
    -------
    dict

    Raises
    ------
    TableError
        If it cannot be read or is something else.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as fault:
        reason = fault.strerror if isinstance(fault, OSError) else "it is no JSON"
        raise TableError(f"{path.name} cannot be read ({reason}); write it again, or leave it out") from fault
    if not isinstance(document, dict):
        raise TableError(f"{path.name} holds no names and values; it is not a file of this project")
    return document


def open_scans(folder: Path | None) -> Dataset | None:
    """Give the data set of the pictures; None without one.

    Parameters
    ----------
    folder : Path or None
        As `find_dataset` takes it.

    Returns
    -------
    Dataset or None

    Raises
    ------
    ReadError
        If it holds no scan.
    """
    return None if folder is None else find_dataset(folder)


def _train_dir(files: Sequence[Path], first: dict[str, Path]) -> Path | None:
    """Give the folder of a training: of a classifier, else of a detector."""
    if BEST in first:
        return first[BEST].parent
    logs = [path for path in files if path.name == LOG]
    detectors = [path.parent.parent for path in logs if path.parent.name == FIRST_STAGE]
    return next(iter([*detectors, *(path.parent for path in logs)]), None)


def _files(folder: Path, depth: int = 0) -> Iterator[Path]:
    """Give the files of a folder and those a few levels below, without following links out of it."""
    n = 0
    folders = [(folder, depth)]
    while folders and n < MOST_LOOKED_AT:
        place, level = folders.pop(0)
        for path in sorted(place.iterdir()):
            n += 1
            if path.is_file():
                yield path
            elif path.is_dir() and not path.is_symlink() and level < DEEPEST:
                folders.append((path, level + 1))


def _tables(files: Sequence[Path], first: dict[str, Path], froc: dict[str, Any]) -> dict[str, Path | None]:
    """Give the tables that froc.json names by hash; without it, those with a usual name."""
    judged = froc.get("inputs")
    if not isinstance(judged, dict):
        return {role: next((first[n] for n in names if n in first), None) for role, names in TABLES.items()}
    tables: dict[str, Path | None] = {}
    for role in TABLES:
        entry = judged.get(role) or {}
        same_name = (path for path in files if path.name == entry.get("file"))
        tables[role] = next((path for path in same_name if _sha256(path) == entry.get("sha256")), None)
    return tables


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
