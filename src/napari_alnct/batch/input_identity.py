"""How a batch knows that an input is the one that it has already worked on: size and time of its files."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from napari_alnct.io.scan_paths import DATA_SUFFIXES, suffix_of

HEADER_SUFFIXES = (".mhd", ".nhdr")  # their voxels lie in a file beside them


def input_fingerprint(paths: Iterable[Path]) -> str:
    """Give size and time of change of scans and masks, without reading them.

    Parameters
    ----------
    paths : iterable of Path
        Scan files, with the voxels beside a header, or folders of DICOM files.

    Returns
    -------
    str
        Empty when none of them exists.
    """
    return " ".join(mark for path in paths for mark in _marks(Path(path)))


def _marks(path: Path) -> list[str]:
    if path.is_dir():
        stats = [file.stat() for file in sorted(path.iterdir()) if file.is_file()]
        latest = max((stat.st_mtime_ns for stat in stats), default=0)
        return [f"{len(stats)}:{sum(stat.st_size for stat in stats)}:{latest}"]
    beside = [path.with_suffix(end) for end in DATA_SUFFIXES] if suffix_of(path) in HEADER_SUFFIXES else []
    stats = [file.stat() for file in (path, *beside) if file.exists()]
    return [f"{stat.st_size}:{stat.st_mtime_ns}" for stat in stats]
