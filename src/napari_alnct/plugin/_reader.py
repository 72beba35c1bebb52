"""Opening scans and LUNA16 tables from napari's File menu."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from napari_alnct.core.errors import TableError
from napari_alnct.core.volume import Volume
from napari_alnct.io.identifiers import without_uids
from napari_alnct.io.images import ReadOptions, is_scan, read_volume
from napari_alnct.io.tables import POSITION, SCORE, SERIES, read_annotations, read_candidates
from napari_alnct.plugin._compat import current_viewer, warn
from napari_alnct.plugin._layers import LayerData, ct_layer, ct_volumes, marks_layer, reference_layer, short_id
from napari_alnct.plugin._viewport import keep_upright

SCAN_SUFFIXES = (".mhd", ".mha", ".zraw", ".nii", ".nii.gz", ".nrrd", ".nhdr", ".dcm")
QUIET_FLAGS = frozenset({"padding", "localizers"})  # facts about the file that need no decision

Reader = Callable[[object], list[LayerData]]
FindingT = TypeVar("FindingT")


def get_reader(path: str | Sequence[str]) -> Reader | None:
    """Give the function that reads a path, None when it is not a scan or a table of ours.

    Parameters
    ----------
    path : str or sequence of str
        A file or a folder; of several files ("open as stack") only DICOM files of one folder are a scan.

    Returns
    -------
    callable or None
    """
    file = _one_path(path)
    if file is None:
        return None
    if file.suffix.lower() == ".csv":
        return (lambda _: read_table(file)) if _columns(file) >= {SERIES, *POSITION} else None
    if file.name.lower().endswith(SCAN_SUFFIXES) or is_scan(file):
        return lambda _: read_scan(file)
    return None


def read_scan(path: Path) -> list[LayerData]:
    """Give a scan as an image layer.

    Parameters
    ----------
    path : Path
        File or DICOM folder.

    Returns
    -------
    list of LayerData
        One image layer.

    Raises
    ------
    ReadError
        If the scan must not be used; the message says why and what to do.
    """
    volume = read_volume(path, ReadOptions(ask=True))
    for flag in volume.flags:
        if flag.code not in QUIET_FLAGS:
            warn(without_uids(flag.text))
    if viewer := current_viewer():
        keep_upright(viewer)
    return [ct_layer(volume)]


def read_table(path: Path) -> list[LayerData]:
    """Give the rows of a LUNA16 table that belong to the open scans as points layers.

    Parameters
    ----------
    path : Path
        CSV of candidates (with ``probability``) or of annotations, LUNA16's column names.

    Returns
    -------
    list of LayerData
        One layer for each open scan with rows in the file. When no scan is open the file
        must be about one series.

    Raises
    ------
    TableError
        If no row belongs to an open scan, or the file is about several series and no scan is open.
    """
    viewer = current_viewer()
    open_scans = [] if viewer is None else [volume for _, volume in ct_volumes(viewer.layers)]
    if SCORE in _columns(path):
        candidates = _chosen(path, read_candidates(path), open_scans)
        return [marks_layer(rows, series_uid=uid, volume=volume) for uid, volume, rows in candidates]
    nodules = _chosen(path, [(nodule.series_uid, nodule) for nodule in read_annotations(path)], open_scans)
    title = "Excluded findings" if "excluded" in path.stem.lower() else "Reference nodules"  # LUNA16's file names
    return [reference_layer(rows, series_uid=uid, volume=volume, title=title) for uid, volume, rows in nodules]


def _chosen(
    path: Path, found: Sequence[tuple[str, FindingT]], open_scans: Sequence[Volume]
) -> list[tuple[str, Volume | None, list[FindingT]]]:
    """Give (series, scan, rows) for each open scan with rows, or the only series when no scan is open."""
    rows: dict[str, list[FindingT]] = {}
    for uid, finding in found:
        rows.setdefault(uid, []).append(finding)
    if open_scans:
        matches = [(v.series_uid, v, rows[v.series_uid]) for v in open_scans if v.series_uid in rows]
        if not matches:
            names = ", ".join(f"CT {short_id(volume.series_uid)}" for volume in open_scans)
            raise TableError(
                f"{path.name}: no row is about an open scan ({names}), its {len(rows)} series are others; "
                "open the scan that the table belongs to"
            )
        return list(matches)
    if len(rows) != 1:
        raise TableError(f"{path.name}: the table is about {len(rows)} series; open one of their scans first")
    ((uid, only),) = rows.items()
    return [(uid, None, only)]


def _one_path(path: str | Sequence[str]) -> Path | None:
    if isinstance(path, str):
        return Path(path)
    paths = [Path(part) for part in path]
    if len(paths) == 1:
        return paths[0]
    folders = {part.parent for part in paths}
    is_dicom = all(part.suffix.lower() == ".dcm" for part in paths)
    return folders.pop() if is_dicom and len(folders) == 1 else None


def _columns(path: Path) -> frozenset[str]:
    """Give the column names of a CSV; none when it cannot be read as text."""
    try:
        with open(path, newline="", encoding="utf-8-sig") as stream:
            header = next(csv.reader(stream), [])
    except (OSError, UnicodeDecodeError, csv.Error):
        return frozenset()
    return frozenset(name.strip() for name in header)
