"""The scans that a user means: paths, narrowed by a list of series or by folds; no voxel is read."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from napari_alnct.core.errors import ReadError, TableError


def choose_scans(
    paths: Sequence[Path], *, series_list: Path | None = None, folds: Collection[int] = ()
) -> dict[Path, str]:
    """Give the scans to work on.

    Parameters
    ----------
    paths : sequence of Path
        Scan files, DICOM folders, folders of scans; each must exist.
    series_list : Path, optional
        Table or list of series; only these, and each must be there.
    folds : collection of int, optional
        Only these, by folders such as ``subset3`` or by ``luna16_subsets.csv``.

    Returns
    -------
    dict of Path to str
        Scan to the series that the tables name; an empty name where none was looked up.

    Raises
    ------
    ReadError
        If a path does not exist, or holds no scan.
    TableError
        If a series of the list is not there, or no scan lies in the folds.
    """
    from napari_alnct.io.luna16 import find_dataset
    from napari_alnct.io.scan_paths import expand_scans

    missing = [path for path in paths if not path.exists()]
    if missing:
        more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
        raise ReadError("E_DATA_MISSING", missing[0].name, "a scan or folder", f"nothing{more}", hint="check the path")
    if series_list is None and not folds:
        return dict.fromkeys(expand_scans(paths), "")
    entries = [entry for path in paths for entry in find_dataset(path).in_subsets(folds).scans]
    chosen = {entry.path: entry.series_uid for entry in entries}
    return chosen if series_list is None else _listed(chosen, series_list)


def _listed(scans: dict[Path, str], series_list: Path) -> dict[Path, str]:
    from napari_alnct.io.tables import read_series_list

    wanted = read_series_list(series_list)
    absent = sorted(set(wanted) - set(scans.values()))
    if absent:
        raise TableError(
            f"{series_list.name}: {len(absent)} of its {len(wanted)} series are not among the {len(scans)} scans, the "
            f"first is {absent[0]}; check the list and the folders"
        )
    return {path: uid for path, uid in scans.items() if uid in set(wanted)}
