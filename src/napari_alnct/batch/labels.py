"""The table ``labels_vox.csv``: annotations in voxels of the prepared scans.

Voxel indices (z, y, x) point at voxel centres and come from the grid in the manifest,
so they fit the files in ``volumes/`` to far better than a millionth of a millimetre.
"""

from __future__ import annotations

from collections.abc import Iterator

from napari_alnct.batch.manifest import Item, Manifest
from napari_alnct.core.findings import ReferenceNodule
from napari_alnct.core.geometry import Geometry
from napari_alnct.io.csv_files import Cell, Number
from napari_alnct.io.luna16 import Dataset

LABEL_COLUMNS = (
    *("seriesuid", "z_vox", "y_vox", "x_vox", "coordX", "coordY", "coordZ"),
    *("diameter_mm", "diameter_vox", "kind", "is_inside"),
)
VOXEL_DIGITS = 9


def prepared_geometry(item: Item) -> Geometry:
    """Give the grid of a prepared scan from its entry in the manifest.

    Parameters
    ----------
    item : Item
        A done item of a manifest of `prepare_dataset`.

    Returns
    -------
    Geometry
    """
    stored = item.result["geometry"]
    return Geometry(**{name: tuple(values) for name, values in stored.items()})


def label_rows(dataset: Dataset, manifest: Manifest) -> Iterator[tuple[Cell, ...]]:
    """Give the annotations of all prepared scans, in voxels of their prepared grid.

    Parameters
    ----------
    dataset : Dataset
        With the annotations.
    manifest : Manifest
        Of `napari_alnct.batch.preparation.prepare_dataset`.

    Yields
    ------
    tuple
        Cells of `LABEL_COLUMNS`: voxels with 9 decimals, world mm with all digits; -1 for a
        diameter that was not given; ``is_inside`` is 0 where the centre lies outside the volume.
    """
    for key in manifest.in_state("done"):
        item = manifest.items[key]
        uid, geometry = str(item.result["series_uid"]), prepared_geometry(item)
        for nodule in dataset.nodules_of(uid):
            yield _label_row(nodule, uid, geometry, "nodule")
        for finding in dataset.excluded_of(uid):
            yield _label_row(finding, uid, geometry, "excluded")


def _label_row(nodule: ReferenceNodule, uid: str, geometry: Geometry, kind: str) -> tuple[Cell, ...]:
    index = geometry.world_to_index(nodule.position_xyz_mm)
    diameter = nodule.diameter_mm
    diameter_vox = diameter / geometry.spacing_zyx_mm[0] if diameter >= 0 else diameter
    return (
        uid,
        *(Number.fixed(float(v), VOXEL_DIGITS) for v in index),
        *(Number.exact(v) for v in nodule.position_xyz_mm),
        Number.exact(diameter),
        Number.exact(diameter_vox),
        kind,
        int(geometry.contains(nodule.position_xyz_mm)),
    )
