"""The tables of a prepared data set: its manifest and its labels, read and checked.

A finding is a nodule that counts, or an *excluded finding*, which counts neither as nodule
nor as its absence. Voxels are (z, y, x) of the prepared scan, world is (x, y, z) LPS mm.
"""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from napari_alnct.core.config import PrepareSettings, from_json
from napari_alnct.core.errors import AlnctError, TableError
from napari_alnct.core.geometry import Geometry, Triple
from napari_alnct.io.csv_files import Row, read_table

LABELS, MANIFEST, LUNGS = "labels_vox.csv", "manifest.json", "lungs"
KIND, SCHEMA = "preprocess", 1
COLUMNS = ("seriesuid", "z_vox", "y_vox", "x_vox", "coordX", "coordY", "coordZ", "diameter_mm", "kind")
NODULE, EXCLUDED = "nodule", "excluded"
NO_DIAMETER_RADIUS_MM = 5.0  # LUNA16: a finding without diameter counts as 10 mm
GRID_TOLERANCE_VOX = 1e-3  # by which table and manifest may differ


@dataclass(frozen=True, kw_only=True)
class PreparedFinding:
    """An annotated nodule, or an excluded finding, of a prepared scan.

    Parameters
    ----------
    number : int
        Place among the findings of its kind in its scan, from 0.
    centre_zyx_vox : tuple of float
        Centre in voxels of the prepared scan, continuous.
    position_xyz_mm : tuple of float
        Centre, LPS mm.
    diameter_mm : float
        Diameter, mm; -1 where none was given.
    is_inside : bool
        Whether the centre lies in the prepared scan.
    """

    number: int
    centre_zyx_vox: Triple
    position_xyz_mm: Triple
    diameter_mm: float
    is_inside: bool

    @property
    def radius_mm(self) -> float:
        """Give the radius within which a mark hits it, by LUNA16's rule: 5 mm where no diameter was given."""
        return NO_DIAMETER_RADIUS_MM if self.diameter_mm < 0 else self.diameter_mm / 2


@dataclass(frozen=True, kw_only=True)
class PreparedEntry:
    """One prepared scan on disk.

    Parameters
    ----------
    series_uid : str
        Series.
    volume_path, lungs_path : Path
        Its files; they may be missing until `PreparedDataset.require_files` was asked.
    subset : int or None
        Fold, where known.
    geometry : Geometry
        LPS grid of both files.
    """

    series_uid: str
    volume_path: Path
    lungs_path: Path
    subset: int | None
    geometry: Geometry


Findings = dict[str, tuple[PreparedFinding, ...]]


def read_manifest(path: Path, volumes: Path) -> tuple[list[PreparedEntry], PrepareSettings]:
    """Give the scans that a manifest lists as ready, and how they were prepared.

    Parameters
    ----------
    path : Path
        ``manifest.json`` of ``preprocess``.
    volumes : Path
        Folder of the volumes; ``lungs`` lies beside it.

    Returns
    -------
    list of PreparedEntry
        In the order of the manifest.
    PrepareSettings

    Raises
    ------
    TableError
        If it is no such manifest, lists no scan, or is that of a run that did not end.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if (document["kind"], document["schema"]) != (KIND, SCHEMA):
            raise ValueError(f"kind {document['kind']}, schema {document['schema']}")
        names = {field.name for field in fields(PrepareSettings)}
        prepare = from_json(PrepareSettings, {k: v for k, v in document["settings"].items() if k in names})
        items = list(document["items"].values())
        scans = [_entry(item["result"], volumes) for item in items if item["state"] == "done"]
        n_left = sum(item["state"] == "left" for item in items)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, AlnctError) as fault:
        raise TableError(f"{path.name} is no manifest of prepared scans ({fault}); run preprocess again") from fault
    if n_left:
        raise TableError(f"{n_left} scans are left to prepare, so {LABELS} may lack nodules; run preprocess to its end")
    if not scans:
        raise TableError(f"{path.name} lists no prepared scan; run preprocess again")
    return scans, prepare


def _entry(result: dict[str, Any], volumes: Path) -> PreparedEntry:
    name = str(result["file"])
    if Path(name).name != name:
        raise ValueError(f"file name {name[:60]}")
    subset = result["subset"]
    return PreparedEntry(
        series_uid=str(result["series_uid"]),
        volume_path=volumes / name,
        lungs_path=volumes.parent / LUNGS / name,
        subset=None if subset is None else int(subset),
        geometry=Geometry(**{key: tuple(values) for key, values in result["geometry"].items()}),
    )


def read_labels(path: Path, geometries: dict[str, Geometry]) -> tuple[Findings, Findings]:
    """Give the findings of all scans, each checked against the grid of its scan.

    Parameters
    ----------
    path : Path
        ``labels_vox.csv``.
    geometries : dict of str to Geometry
        Grid of each prepared scan.

    Returns
    -------
    nodules, excluded : dict of str to tuple of PreparedFinding
        By series; a series without any is not among the keys.

    Raises
    ------
    TableError
        If a cell cannot be read, a series is not prepared, or voxel and world position do not agree.
    """
    groups: dict[str, dict[str, list[Row]]] = {NODULE: defaultdict(list), EXCLUDED: defaultdict(list)}
    for row in read_table(path, COLUMNS):
        uid, kind = row.text("seriesuid"), row.text("kind")
        if kind not in groups:
            raise TableError(f"{path.name}, line {row.line}: kind is '{kind[:40]}'; it is {NODULE} or {EXCLUDED}")
        if uid not in geometries:
            raise TableError(f"{path.name}, line {row.line}: {uid} is not in {MANIFEST}; run preprocess again")
        groups[kind][uid].append(row)
    nodules, excluded = (
        {uid: tuple(_finding(n, row, geometries[uid]) for n, row in enumerate(rows)) for uid, rows in group.items()}
        for group in groups.values()
    )
    return nodules, excluded


def _finding(number: int, row: Row, geometry: Geometry) -> PreparedFinding:
    voxel = row.number("z_vox"), row.number("y_vox"), row.number("x_vox")
    world = row.number("coordX"), row.number("coordY"), row.number("coordZ")
    if np.abs(geometry.world_to_index(world) - voxel).max() > GRID_TOLERANCE_VOX:
        raise TableError(
            f"{row.file}, line {row.line}: voxel and world position do not agree by the grid in {MANIFEST}; "
            "run preprocess again"
        )
    diameter, is_inside = row.number("diameter_mm"), bool(geometry.contains(world))
    return PreparedFinding(
        number=number, centre_zyx_vox=voxel, position_xyz_mm=world, diameter_mm=diameter, is_inside=is_inside
    )
