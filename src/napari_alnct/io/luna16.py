"""Data sets on disk: scans with their folds, lung masks and annotations.

Three layouts are understood: LUNA16 (``subset0`` ... ``subset9``, ``CSVFILES``,
``seg-lungs-LUNA16``), the one of the original ALNDetection-CT project (``subsets``,
``masks``, ``annotations``), and any folder of scans, with or without tables beside
them; a table ``scans.csv`` with the columns file and seriesuid names the scans. Nothing
but names and tables is read here; scans are opened later, one by one.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from napari_alnct.core.errors import ReadError, TableError
from napari_alnct.core.findings import ReferenceNodule
from napari_alnct.io.csv_files import read_table
from napari_alnct.io.images import expand_scans
from napari_alnct.io.scan_paths import MASK_ENDINGS, MASK_FOLDERS, SUFFIXES, named, suffix_of
from napari_alnct.io.tables import SERIES, read_annotations

TABLE_FOLDERS = (".", "CSVFILES", "annotations", "csv", "evaluationScript/annotations")
ANNOTATIONS, EXCLUDED = "annotations.csv", "annotations_excluded.csv"
SUBSETS, NAMES = "luna16_subsets.csv", "scans.csv"
SUBSET_FOLDER = re.compile(r"subset[_-]?(\d+)$", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class ScanEntry:
    """One scan of a data set.

    Parameters
    ----------
    series_uid : str
        Series as the tables name it: from ``scans.csv``, else the file name without suffix. The
        name of the folder for DICOM, whose own identifier is known only after reading.
    path : Path
        Scan file or DICOM folder.
    subset : int or None
        Fold of cross-validation, from a folder such as ``subset3`` or from ``luna16_subsets.csv``.
    mask_path : Path or None
        Supplied lung mask.
    """

    series_uid: str
    path: Path
    subset: int | None = None
    mask_path: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Scans and what is known about them.

    Parameters
    ----------
    root : Path
        Folder that was searched.
    scans : tuple of ScanEntry
        In order of path; each series once.
    annotations : tuple of ReferenceNodule
        Nodules that count, of the listed scans and possibly of others.
    excluded : tuple of ReferenceNodule
        Findings that count neither as hit nor as false positive.
    has_annotations : bool
        Whether there is an annotation table; without one, no nodule is known, which is not "no nodule".
    """

    root: Path
    scans: tuple[ScanEntry, ...]
    annotations: tuple[ReferenceNodule, ...] = ()
    excluded: tuple[ReferenceNodule, ...] = ()
    has_annotations: bool = False

    def in_subsets(self, subsets: Collection[int]) -> Dataset:
        """Give the part of the data set in these folds.

        Parameters
        ----------
        subsets : collection of int
            Folds; none means all scans.

        Returns
        -------
        Dataset
            Annotations are kept as they are.

        Raises
        ------
        TableError
            If no scan lies in these folds.
        """
        if not subsets:
            return self
        kept = tuple(scan for scan in self.scans if scan.subset in subsets)
        if not kept:
            known = sorted({scan.subset for scan in self.scans if scan.subset is not None})
            raise TableError(
                f"{self.root.name} has no scan in subset {', '.join(map(str, sorted(subsets)))}; "
                f"it has {', '.join(map(str, known)) or 'no subsets'}"
            )
        return replace(self, scans=kept)

    def nodules_of(self, series_uid: str) -> list[ReferenceNodule]:
        """Give the annotated nodules of one series."""
        return self._by_series[0].get(series_uid, [])

    def excluded_of(self, series_uid: str) -> list[ReferenceNodule]:
        """Give the excluded findings of one series."""
        return self._by_series[1].get(series_uid, [])

    @property
    def unmatched(self) -> list[str]:
        """Give the series that have annotations but no scan here, in order of name."""
        known = {scan.series_uid for scan in self.scans}
        return sorted({nodule.series_uid for nodule in self.annotations} - known)

    @cached_property
    def _by_series(self) -> tuple[dict[str, list[ReferenceNodule]], dict[str, list[ReferenceNodule]]]:
        return _grouped(self.annotations), _grouped(self.excluded)


def find_dataset(root: Path, *, leave_out: Path | None = None) -> Dataset:
    """Give the scans of a folder with their folds, masks and annotations.

    Parameters
    ----------
    root : Path
        LUNA16 folder, folder of the original project, any folder of scans, or one scan.
    leave_out : Path, optional
        Folder inside `root` that is not searched, such as the output folder.

    Returns
    -------
    Dataset

    Raises
    ------
    ReadError
        If there is no scan.
    TableError
        If a table is broken, or one series is there twice.
    """
    root = named(root)
    if not root.exists():
        raise ReadError("E_DATA_MISSING", root.name, "a folder of scans", "nothing", hint="check the path")
    hidden = leave_out.resolve() if leave_out else None
    paths = [path for path in expand_scans([root]) if hidden is None or hidden not in path.resolve().parents]
    if not paths:
        hint = "choose an output folder that does not hold them"
        raise ReadError("E_DATA_MISSING", root.name, "scans outside the output folder", "none", hint=hint)
    folder = root if root.is_dir() else root.parent
    names, folds, masks = _names(folder), _folds(folder), _masks(folder)
    listed = [path for path in paths if path.name in names]
    scans = []
    for path in listed or paths:
        uid = names.get(path.name, _stem(path))
        subset = _subset_of(path, root)
        mask_path = masks.get(_stem(path), masks.get(uid))
        scans.append(
            ScanEntry(
                series_uid=uid, path=path, subset=folds.get(uid) if subset is None else subset, mask_path=mask_path
            )
        )
    _refuse_doubles(scans)
    annotations, excluded = _table(folder, ANNOTATIONS), _table(folder, EXCLUDED)
    return Dataset(
        root=root,
        scans=tuple(scans),
        annotations=tuple(read_annotations(annotations)) if annotations else (),
        excluded=tuple(read_annotations(excluded)) if excluded else (),
        has_annotations=annotations is not None,
    )


def _table(folder: Path, name: str) -> Path | None:
    candidates = (folder / sub / name for sub in TABLE_FOLDERS)
    return next((path for path in candidates if path.is_file()), None)


def _names(folder: Path) -> dict[str, str]:
    """Give the series of each file from ``scans.csv``, when it has the columns file and seriesuid."""
    path = _table(folder, NAMES)
    if path is None:
        return {}
    try:
        return {row.text("file"): row.text(SERIES) for row in read_table(path, ("file", SERIES))}
    except TableError:
        return {}  # some other table of that name


def _folds(folder: Path) -> dict[str, int]:
    """Give the fold of each series from ``luna16_subsets.csv``."""
    path = _table(folder, SUBSETS)
    if path is None:
        return {}
    return {row.text(SERIES): int(row.number("subset")) for row in read_table(path, (SERIES, "subset"))}


def _masks(folder: Path) -> dict[str, Path]:
    """Give the lung mask of each scan, by the scan's file name without suffix."""
    masks: dict[str, Path] = {}
    if not folder.is_dir():
        return masks
    for place in sorted(folder.iterdir()):
        if place.is_dir() and (place.name.lower().startswith(MASK_FOLDERS[0]) or place.name.lower() in MASK_FOLDERS):
            files = (path for path in sorted(place.rglob("*")) if suffix_of(path) in SUFFIXES)
            masks.update({_mask_stem(path): path for path in files})
    beside = (path for path in sorted(folder.rglob("*_lung.*")) if suffix_of(path) in SUFFIXES)
    for path in beside:
        masks.setdefault(_mask_stem(path), path)
    return masks


def _stem(path: Path) -> str:
    suffix = suffix_of(path)
    return path.name[: -len(suffix)] if suffix in SUFFIXES and not path.is_dir() else path.name


def _mask_stem(path: Path) -> str:
    stem = _stem(path)
    return next((stem[: -len(end)] for end in MASK_ENDINGS if stem.lower().endswith(end)), stem)


def _subset_of(path: Path, root: Path) -> int | None:
    """Give the number of the innermost folder called ``subsetN``."""
    for parent in path.parents:
        match = SUBSET_FOLDER.match(parent.name)
        if match:
            return int(match[1])
        if parent == root:
            break
    return None


def _refuse_doubles(scans: Iterable[ScanEntry]) -> None:
    seen: dict[str, ScanEntry] = {}
    for scan in scans:
        other = seen.setdefault(scan.series_uid, scan)
        if other is not scan:
            raise TableError(
                f"series {scan.series_uid} is there twice, as {other.path.parent.name}/{other.path.name} and "
                f"{scan.path.parent.name}/{scan.path.name}; keep one of them"
            )


def _grouped(nodules: Iterable[ReferenceNodule]) -> dict[str, list[ReferenceNodule]]:
    groups: dict[str, list[ReferenceNodule]] = defaultdict(list)
    for nodule in nodules:
        groups[nodule.series_uid].append(nodule)
    return groups
