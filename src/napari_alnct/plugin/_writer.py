"""Saving marks as LUNA16 CSV and masks as MetaImage, in the world of the scan.

Tables carry the series identifier as it is: they must join with annotations.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_alnct.core.errors import TableError
from napari_alnct.core.findings import Candidate, ReferenceNodule
from napari_alnct.core.geometry import Geometry, Triple
from napari_alnct.core.volume import Volume
from napari_alnct.io.metaimage_writer import write_metaimage
from napari_alnct.io.tables import write_annotations, write_candidates
from napari_alnct.plugin._compat import current_viewer
from napari_alnct.plugin._layers import SERIES_KEY, VOLUME_KEY, ct_volumes, points_xyz_mm

SPATIAL = ("rotate", "shear", "affine")  # attributes that must not move the layer


def write_marks(path: str, data: Any, attributes: Mapping[str, Any]) -> list[str]:
    """Save the points that are shown: with scores as candidates, without as annotations.

    Parameters
    ----------
    path : str
        CSV file.
    data : array_like, shape (N, 3)
        Points of the layer.
    attributes : mapping
        Attributes of the layer.

    Returns
    -------
    list of str
        The file written.

    Raises
    ------
    TableError
        If the points have no three axes, are turned, or belong to no series that is known.
    """
    points = np.asarray(data, dtype=np.float64)
    if points.ndim != 2 or points.shape[1] != 3:
        raise TableError(f"{Path(path).name}: marks need three coordinates (z, y, x); choose a layer of a 3-D scan")
    _refuse_turned(path, attributes)
    positions: list[Triple] = [(float(x), float(y), float(z)) for x, y, z in points_xyz_mm(points, attributes)]
    diameters, scores = _diameters_mm(attributes, len(positions)), _feature(attributes, "score")
    shown = np.broadcast_to(attributes.get("shown", True), len(positions))
    uid = _series_uid(path, attributes)
    rows = [k for k in range(len(positions)) if shown[k]]
    if scores is None:
        write_annotations(
            Path(path),
            [ReferenceNodule(series_uid=uid, position_xyz_mm=positions[k], diameter_mm=diameters[k]) for k in rows],
        )
    else:
        found = [Candidate(position_xyz_mm=positions[k], score=scores[k], diameter_mm=diameters[k]) for k in rows]
        write_candidates(Path(path), [(uid, candidate) for candidate in found])
    return [path]


def write_mask(path: str, data: Any, attributes: Mapping[str, Any]) -> list[str]:
    """Save labels as MetaImage, in the orientation of the scan's file where it is known.

    Parameters
    ----------
    path : str
        ``.mha`` or ``.mhd`` file.
    data : array_like of int, shape (z, y, x)
        Labels, 0 to 65535.
    attributes : mapping
        Attributes of the layer.

    Returns
    -------
    list of str
        The file written.

    Raises
    ------
    TableError
        If the layer is not three-dimensional, is turned, or has labels outside 0 to 65535.
    """
    labels = np.asarray(data)
    if labels.ndim != 3:
        raise TableError(f"{Path(path).name}: a mask needs three axes (z, y, x), found {labels.ndim}")
    _refuse_turned(path, attributes)
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high > np.iinfo(np.uint16).max:
        raise TableError(f"{Path(path).name}: labels are {low} to {high}, allowed is 0 to 65535; relabel the layer")
    labels = labels.astype(np.uint8 if high <= np.iinfo(np.uint8).max else np.uint16)
    grid = _grid(attributes, labels)
    volume = attributes.get("metadata", {}).get(VOLUME_KEY)
    if isinstance(volume, Volume) and volume.geometry == grid:
        labels, grid = volume.in_source_order(labels), volume.source_geometry
    write_metaimage(Path(path), labels, grid)
    return [path]


def _grid(attributes: Mapping[str, Any], labels: NDArray[Any]) -> Geometry:
    depth, height, width = labels.shape
    sz, sy, sx = (float(v) for v in attributes.get("scale", (1, 1, 1)))
    z, y, x = (float(v) for v in attributes.get("translate", (0, 0, 0)))
    return Geometry(shape_zyx=(depth, height, width), spacing_zyx_mm=(sz, sy, sx), origin_xyz_mm=(x, y, z))


def _refuse_turned(path: str, attributes: Mapping[str, Any]) -> None:
    for name in SPATIAL:
        matrix = np.asarray(attributes[name]) if name in attributes else np.zeros(0)
        is_still = not matrix.any() if name == "shear" else matrix.ndim != 2 or np.allclose(matrix, np.eye(len(matrix)))
        if not is_still:
            raise TableError(f"{Path(path).name}: the layer is turned or sheared ({name}); reset its transform first")


def _feature(attributes: Mapping[str, Any], name: str) -> list[float] | None:
    features = attributes.get("features")
    if features is None or name not in features:
        return None
    return [float(value) for value in features[name]]


def _diameters_mm(attributes: Mapping[str, Any], n: int) -> list[float]:
    """Give the diameters from the features; of points drawn by hand the size of the ring."""
    known = _feature(attributes, "diameter_mm")
    drawn = np.broadcast_to(attributes.get("size", 0.0), n) * float(np.ravel(attributes.get("scale", 1.0))[-1])
    return [float(drawn[k]) if known is None or np.isnan(known[k]) else known[k] for k in range(n)]


def _series_uid(path: str, attributes: Mapping[str, Any]) -> str:
    """Give the series of a layer: its own, else that of the only open scan."""
    metadata = attributes.get("metadata", {})
    if metadata.get(SERIES_KEY):
        return str(metadata[SERIES_KEY])
    viewer = current_viewer()
    volumes = [] if viewer is None else [volume for _, volume in ct_volumes(viewer.layers)]
    if len(volumes) != 1:
        raise TableError(
            f"{Path(path).name}: these points belong to no series and {len(volumes)} scans are open; "
            "open the one scan that they lie in"
        )
    return volumes[0].series_uid
