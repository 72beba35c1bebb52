"""Small prepared data sets written by hand, in the form that preprocess leaves them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_alnct.core.config import PrepareSettings, to_json
from napari_alnct.core.geometry import Geometry, Triple
from napari_alnct.io.csv_files import Number, write_table
from napari_alnct.io.metaimage import write_metaimage

LUNG_HU, TISSUE_HU, NODULE_HU, VESSEL_HU = -850, 40, 200, 0
COLUMNS = ("seriesuid", "z_vox", "y_vox", "x_vox", "coordX", "coordY", "coordZ", "diameter_mm", "kind", "is_inside")
Ball = tuple[Triple, float]  # centre in voxels (z, y, x), diameter in mm


@dataclass(frozen=True)
class ToyScan:
    """A box of lung with vessels along x, bright balls as nodules, and excluded findings that cannot be seen."""

    uid: str
    fold: int | None = 0
    nodules: tuple[Ball, ...] = ()
    excluded: tuple[Ball, ...] = ()
    shape_zyx: tuple[int, int, int] = (56, 64, 72)
    state: str = "done"

    @property
    def geometry(self) -> Geometry:
        """Give the grid: 1 mm, somewhere in the world, another place for each fold."""
        return Geometry(
            shape_zyx=self.shape_zyx,
            spacing_zyx_mm=(1.0, 1.0, 1.0),
            origin_xyz_mm=(-30.5, 12.25, -7.0 - (self.fold or 0)),
        )

    @property
    def lungs(self) -> NDArray[np.bool_]:
        """Give the lung mask: all but six voxels at every side."""
        mask = np.zeros(self.shape_zyx, bool)
        mask[6:-6, 6:-6, 6:-6] = True
        return mask

    @property
    def hu(self) -> NDArray[np.int16]:
        """Give the voxels."""
        hu = np.where(self.lungs, LUNG_HU, TISSUE_HU).astype(np.int16)
        hu[12:-12:12, 12:-12:12, 10:-10] = VESSEL_HU
        grid = np.stack(np.indices(self.shape_zyx), axis=-1)
        for centre, diameter in self.nodules:
            hu[np.linalg.norm(grid - centre, axis=-1) <= diameter / 2] = NODULE_HU
        return hu


TRIO = (
    ToyScan("1.2.1", 0, nodules=(((20.25, 30.0, 40.5), 8.0), ((44.0, 20.0, 20.0), 5.0))),
    ToyScan("1.2.2", 1),
    ToyScan("1.2.3", 2, nodules=(((28.0, 32.0, 36.0), 12.0),), excluded=(((40.0, 50.0, 60.0), -1.0),)),
)


def write_prepared(
    root: Path, scans: Sequence[ToyScan] = TRIO, *, prepare: PrepareSettings | None = None, n_left: int = 0
) -> Path:
    """Write volumes, lungs, labels and manifest; give the folder."""
    items, rows = {}, []
    for scan in scans:
        name = f"{scan.uid}.mha"
        for folder, array in (("volumes", scan.hu), ("lungs", scan.lungs.astype(np.uint8))):
            (root / folder).mkdir(parents=True, exist_ok=True)
            write_metaimage(root / folder / name, array, scan.geometry)
        result = {"series_uid": scan.uid, "file": name, "subset": scan.fold, "geometry": asdict(scan.geometry)}
        items[scan.uid] = {"state": scan.state, "result": result}
        for kind, balls in (("nodule", scan.nodules), ("excluded", scan.excluded)):
            rows += [_label_row(scan, kind, *ball) for ball in balls]
    items |= {f"left {n}": {"state": "left", "result": {}} for n in range(n_left)}
    settings = {**to_json(prepare or PrepareSettings()), "own_lungs": False, "series_uid": None}
    document = {"schema": 1, "kind": "preprocess", "settings": settings, "items": items}
    (root / "manifest.json").write_text(json.dumps(document))
    write_table(root / "labels_vox.csv", COLUMNS, rows)
    return root


def _label_row(scan: ToyScan, kind: str, centre: Triple, diameter: float) -> tuple[str | int, ...]:
    world = scan.geometry.index_to_world(centre)
    numbers = [Number.exact(float(v)) for v in (*centre, *world, diameter)]
    return (scan.uid, *numbers, kind, int(scan.geometry.contains(world)))
