"""``napari-alnct-train info``: geometry, checks and HU statistics of scans."""

from __future__ import annotations

import json as json_format
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from napari_alnct.cli.options import DEFAULT_READ_FLAGS, ReadFlags, with_flag
from napari_alnct.core.errors import ReadError
from napari_alnct.core.notice import NOTICE

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from napari_alnct.core.volume import Volume

CHECKS = (
    "header, sizes and voxels complete",
    "grid orthonormal and along the patient's axes",
    "every voxel finite",
)
HU_CHECK = "voxels look like Hounsfield units of a chest"
PERCENTILES = (0.1, 5, 50, 95, 99.9)
PIPE_WIDTH = 120  # columns where there is no terminal: identifiers stay in one piece


def execute(
    scans: Annotated[list[Path], Parameter(help="Scan files, DICOM folders, or folders of scans.")],
    /,
    *,
    json: Annotated[bool, Parameter(negative="", help="Print JSON instead of tables.")] = False,
    reading: ReadFlags = DEFAULT_READ_FLAGS,
) -> int:
    """Show geometry, checks and HU statistics of scans.

    World positions are LPS mm (+x left, +y back, +z head), as in LUNA16's tables. With ``--json``, one scan
    gives one object and several scans a list; a scan that is refused is an object with ``error``.

    Examples
    --------
    ```
    napari-alnct-train info scan.mhd
    napari-alnct-train info dicom_folder --series-uid 1.2.840.1 --json
    napari-alnct-train info luna16_data/subset0
    ```
    """
    from napari_alnct.io.images import expand_scans

    paths = expand_scans(scans)
    if len(paths) == 1:
        _show([describe(paths[0], reading)], json, is_single=True)
        return 0
    reports, n_refused = [], 0
    for path in paths:
        try:
            reports.append(describe(path, reading))
        except ReadError as error:
            n_refused += 1
            print(with_flag(str(error)), file=sys.stderr)
            reports.append({"file": path.name, "error": {"code": error.code, "text": str(error)}})
    _show(reports, json, is_single=False)
    return 4 if n_refused else 0


def describe(path: Path, reading: ReadFlags = DEFAULT_READ_FLAGS) -> dict[str, Any]:
    """Read a scan and give what there is to say about it.

    Parameters
    ----------
    path : Path
        Scan file or DICOM folder.
    reading : ReadFlags, optional
        Permissions and choice of series.

    Returns
    -------
    dict
        JSON values; lengths in mm, positions LPS, values in HU.

    Raises
    ------
    ReadError
        If the scan is refused.
    """
    from napari_alnct.io.images import read_volume, scan_format

    volume = read_volume(path, reading.options())
    passed = [*CHECKS] if volume.has_flag("not_hu") else [*CHECKS, HU_CHECK]
    return {
        "file": path.name,
        "format": scan_format(path),
        "series_uid": volume.series_uid,
        "geometry": _geometry(volume),
        "hu": hu_statistics(volume.hu),
        "checks_passed": passed,
        "flags": [{"code": flag.code, "text": flag.text} for flag in volume.flags],
        "voxel_sha256": volume.voxel_sha256,
    }


def hu_statistics(hu: NDArray[np.int16]) -> dict[str, float]:
    """Give exact statistics of all voxels.

    Parameters
    ----------
    hu : ndarray of int16, (z, y, x)
        Hounsfield units.

    Returns
    -------
    dict
        ``min``, ``max``, ``mean``, percentiles ``p0.1`` to ``p99.9`` (lowest value with at least that
        share of voxels at or below it) and ``below_minus_500``, the share of air and lung.
    """
    import numpy as np

    counts = np.zeros(1 << 16, np.int64)
    for plane in hu:
        counts += np.bincount((plane.astype(np.int32) + (1 << 15)).ravel(), minlength=1 << 16)
    values = np.arange(1 << 16) - (1 << 15)
    reached = np.cumsum(counts)
    present = values[counts > 0]
    statistics = {
        "min": float(present[0]),
        "max": float(present[-1]),
        "mean": round(float(counts @ values / hu.size), 3),
    }
    for percent in PERCENTILES:
        wanted = round(percent / 100 * hu.size, 6)  # 0.999 x 1000 is 999, not a little more
        place = int(np.searchsorted(reached, wanted))
        statistics[f"p{percent:g}"] = float(values[place])
    statistics["below_minus_500"] = round(float(counts[values < -500].sum() / hu.size), 4)
    return statistics


def _geometry(volume: Volume) -> dict[str, Any]:
    """Give the LPS grid in (x, y, z) order, as ITK and LUNA16 write it, and the grid of the file."""
    import numpy as np

    grid, source = volume.geometry, volume.source_geometry
    low = np.array(grid.corner_xyz_mm)
    high = low + grid.extent_zyx_mm[::-1]
    return {
        "size_xyz": list(grid.shape_zyx[::-1]),
        "spacing_xyz_mm": list(grid.spacing_zyx_mm[::-1]),
        "origin_xyz_mm": list(grid.origin_xyz_mm),
        "direction": list(grid.direction),
        "extent_xyz_mm": list(grid.extent_zyx_mm[::-1]),
        "world_box_xyz_mm": {"low": low.tolist(), "high": high.tolist()},
        "in_file": {
            "size_xyz": list(source.shape_zyx[::-1]),
            "spacing_xyz_mm": list(source.spacing_zyx_mm[::-1]),
            "origin_xyz_mm": list(source.origin_xyz_mm),
            "direction": list(source.direction),
            "is_left_handed": source.is_left_handed,
            "is_reoriented": not volume.reorientation.is_identity,
        },
    }


def _show(reports: list[dict[str, Any]], as_json: bool, *, is_single: bool) -> None:

    if as_json:
        content = {"notice": NOTICE, **reports[0]} if is_single else reports
        print(json_format.dumps(content, indent=2))  # ASCII: fits every terminal and pipe
        return
    from rich.console import Console

    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = PIPE_WIDTH
    for report in reports:
        if "error" not in report:
            console.print(_table(report))
    console.print(NOTICE, style="dim")


def _table(report: dict[str, Any]) -> Any:
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=escape(report["file"]), title_justify="left", show_header=False, box=box.SIMPLE)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in _rows(report):
        table.add_row(name, escape(text))
    return table


def _rows(report: dict[str, Any]) -> list[tuple[str, str]]:
    grid, hu = report["geometry"], report["hu"]
    in_file, world = grid["in_file"], grid["world_box_xyz_mm"]
    rows = [
        ("Format", report["format"]),
        ("Series", report["series_uid"]),
        ("Size (x, y, z)", _numbers(grid["size_xyz"], " x ") + " voxels"),
        ("Spacing", _numbers(grid["spacing_xyz_mm"], " x ") + " mm"),
        ("Extent", _numbers(grid["extent_xyz_mm"], " x ") + " mm"),
        ("Origin (LPS)", _numbers(grid["origin_xyz_mm"]) + " mm"),
        ("World box (LPS)", f"{_numbers(world['low'])} to {_numbers(world['high'])} mm"),
        ("Direction in file", _numbers(in_file["direction"]) + (" (reoriented)" if in_file["is_reoriented"] else "")),
        ("HU", f"{hu['min']:g} to {hu['max']:g}, mean {hu['mean']:.1f}, median {hu['p50']:g}"),
        ("HU percentiles", ", ".join(f"{name[1:]} %: {value:g}" for name, value in hu.items() if name[0] == "p")),
        ("Air and lung", f"{100 * hu['below_minus_500']:.1f} % of voxels below -500 HU"),
    ]
    rows += [("Passed" if k == 0 else "", check) for k, check in enumerate(report["checks_passed"])]
    flags = [f"{flag['text']} [{flag['code']}]" for flag in report["flags"]] or ["none"]
    return rows + [("To know" if k == 0 else "", flag) for k, flag in enumerate(flags)]


def _numbers(values: list[float], separator: str = ", ") -> str:
    return separator.join(f"{value:.6g}" for value in values)
