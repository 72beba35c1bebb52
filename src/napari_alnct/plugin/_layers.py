"""Scans, masks and marks as napari layer data, and back; no Qt, no viewer.

*Layer data* is napari's tuple ``(data, attributes, layer type)``. Layer axes are
(z, y, x) and napari's world is the scan's LPS world in mm, reversed. One function,
`grid_attributes`, puts a voxel grid into the viewer.

*Marks* are points drawn as hollow rings. napari shows a point only on slices less
than half a *data unit* away, so marks count space in units of `MARK_UNIT_MM`: with
the same large scale on all three axes a mark is found from every slice that its
sphere crosses, is cut there like a sphere, and keeps its size in mm in every plane.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_alnct.core.findings import NO_DIAMETER_MM, Candidate, CaseResult, ReferenceNodule, positions_xyz_mm
from napari_alnct.core.geometry import FloatArray, Geometry
from napari_alnct.core.volume import Volume
from napari_alnct.plugin._compat import SPHERE_PROJECTION

LayerData = tuple[Any, dict[str, Any], str]

VOLUME_KEY = "alnct_volume"  # the Volume that a layer shows or belongs to
KIND_KEY = "alnct_kind"  # one of the kinds below
RESULT_KEY = "alnct_result"  # the CaseResult behind a layer of marks
SERIES_KEY = "alnct_series_uid"  # series of a layer of points, for its CSV
THRESHOLD_KEY = "alnct_threshold"  # lowest score shown when the marks were made
AWAY_KEY = "alnct_away"  # true while a layer is hidden because another scan is read
WIDENING_KEY = "alnct_widening"  # size of each symbol over the diameter of the sphere that it stands for
POINTS_KEY = "alnct_operating_points"  # of the model: marks per scan that are not nodules -> threshold
CT, RESAMPLED, LUNGS, MARKS, REFERENCE = "ct", "resampled", "lungs", "marks", "reference"

LUNG_WINDOW_HU = (-1350.0, 150.0)  # width 1500, level -600
MARK_UNIT_MM = 100.0  # so every sphere up to this diameter is found from each slice that it crosses
MOST_PIXELS = 10_000  # napari's own limit of a ring on the screen
RING_MM = 0.8  # width of the line, half of it on either side of the sphere's surface
UNKNOWN_DIAMETER_MM = 8.0  # ring of a mark that came without a diameter
ADDED = {"id": 0, "score": 1.0, "status": "added", "kind": "", "diameter_mm": NO_DIAMETER_MM}  # of a mark set by hand
MARK_COLOUR, REFERENCE_COLOUR = "#e69f00", "#56b4e9"  # told apart by the colour-blind (Okabe and Ito)
LUNG_COLOUR = "#009e73"


def short_id(series_uid: str) -> str:
    """Give six hexadecimal digits that stand for a series in names on the screen.

    Parameters
    ----------
    series_uid : str
        Series identifier, or the file name where the format has none.

    Returns
    -------
    str

    Examples
    --------
    >>> len(short_id("1.2.840.1")), short_id("1.2.840.1") == short_id("1.2.840.2")
    (6, False)
    """
    return hashlib.sha256(f"napari-alnct:{series_uid}".encode()).hexdigest()[:6]


def grid_attributes(geometry: Geometry) -> dict[str, Any]:
    """Give the layer attributes that put a voxel grid where it is in the world.

    Parameters
    ----------
    geometry : Geometry
        LPS grid.

    Returns
    -------
    dict
        ``scale``, ``translate``, ``units``, ``axis_labels``.

    Examples
    --------
    >>> grid_attributes(Geometry(shape_zyx=(1, 1, 1), spacing_zyx_mm=(2, 1, 1), origin_xyz_mm=(7, 8, 9)))["translate"]
    (9, 8, 7)
    """
    return {"scale": geometry.spacing_zyx_mm, "translate": geometry.origin_xyz_mm[::-1], **world_attributes()}


def world_attributes() -> dict[str, Any]:
    """Give the attributes that every layer of ours has: mm, and the names of the axes."""
    return {"units": ("mm",) * 3, "axis_labels": ("z", "y", "x")}


def ct_layer(volume: Volume) -> LayerData:
    """Give a scan as an image layer in the lung window.

    Parameters
    ----------
    volume : Volume
        The scan; its array is shared with the layer, not copied.

    Returns
    -------
    LayerData
        The `Volume` itself is in the metadata under ``alnct_volume``.
    """
    attributes = {
        "name": f"CT {short_id(volume.series_uid)}",
        "metadata": {VOLUME_KEY: volume, KIND_KEY: CT},
        **grid_attributes(volume.geometry),
        **_ct_look(),
    }
    return volume.hu, attributes, "image"


def resampled_layer(hu: NDArray[Any], geometry: Geometry, volume: Volume) -> LayerData:
    """Give a prepared scan as an image layer on its own grid.

    Parameters
    ----------
    hu : ndarray, shape (z, y, x)
        Hounsfield units on `geometry`.
    geometry : Geometry
        LPS grid of `hu`.
    volume : Volume
        The scan that it was made from.

    Returns
    -------
    LayerData
    """
    attributes = {
        "name": f"CT {geometry.spacing_zyx_mm[0]:g} mm {short_id(volume.series_uid)}",
        "metadata": {VOLUME_KEY: volume, KIND_KEY: RESAMPLED},
        **grid_attributes(geometry),
        **_ct_look(),
    }
    return hu, attributes, "image"


def _ct_look() -> dict[str, Any]:
    return {
        "contrast_limits": LUNG_WINDOW_HU,
        "colormap": "gray",
        "interpolation2d": "linear",
        "projection_mode": "max",  # a slab is a maximum projection; without a slab nothing changes
        "rgb": False,
    }


def lungs_layer(mask: NDArray[np.bool_], volume: Volume) -> LayerData:
    """Give a lung mask on the grid of its scan as a labels layer.

    Parameters
    ----------
    mask : ndarray of bool, shape (z, y, x)
        On the grid of `volume`.
    volume : Volume
        The scan.

    Returns
    -------
    LayerData
        uint8, 1 in the lungs.
    """
    attributes = {
        "name": f"Lungs {short_id(volume.series_uid)}",
        "metadata": {VOLUME_KEY: volume, KIND_KEY: LUNGS},
        "opacity": 0.25,
        "colormap": {0: "transparent", 1: LUNG_COLOUR, None: LUNG_COLOUR},
        "projection_mode": "none",
        **grid_attributes(volume.geometry),
    }
    return mask.astype(np.uint8), attributes, "labels"


def marks_layer(
    candidates: Sequence[Candidate],
    *,
    series_uid: str,
    threshold: float = 0.0,
    volume: Volume | None = None,
    result: CaseResult | None = None,
    operating_points: Mapping[float, float] | None = None,
) -> LayerData:
    """Give candidates as a points layer of hollow rings, strongest first.

    Parameters
    ----------
    candidates : sequence of Candidate
        May be empty.
    series_uid : str
        Series that they lie in.
    threshold : float, optional
        Candidates with a lower score are in the layer, but hidden.
    volume : Volume, optional
        The scan, when it is open.
    result : CaseResult, optional
        What the detector said, when the candidates come from one.
    operating_points : mapping of float to float, optional
        Of its model: marks per scan that are not nodules -> threshold.

    Returns
    -------
    LayerData
        Features: ``id`` (1, 2, ...), ``score``, ``diameter_mm``, ``status``, ``x_mm``, ``y_mm``, ``z_mm``. A mark
        that a person adds has id 0, score 1, status ``added`` and no diameter (-1), never those of another mark.
    """
    ranked = sorted(candidates, key=lambda candidate: -candidate.score)
    scores = np.array([candidate.score for candidate in ranked], dtype=np.float64)
    features = {"score": scores, "status": np.full(len(ranked), "unreviewed", dtype=object)}
    data, attributes, kind = _rings(ranked, features, MARK_COLOUR, volume)
    attributes["name"] = f"Marks {short_id(series_uid)}"
    attributes["shown"] = shown_mask(scores, threshold)
    attributes["metadata"] = {
        KIND_KEY: MARKS,
        SERIES_KEY: series_uid,
        VOLUME_KEY: volume,
        RESULT_KEY: result,
        THRESHOLD_KEY: threshold,
        POINTS_KEY: dict(operating_points or {}),
    }
    return data, attributes, kind


def reference_layer(
    nodules: Sequence[ReferenceNodule],
    *,
    series_uid: str,
    volume: Volume | None = None,
    title: str = "Reference nodules",
) -> LayerData:
    """Give reference nodules as a points layer of hollow rings.

    Parameters
    ----------
    nodules : sequence of ReferenceNodule
        May be empty.
    series_uid : str
        Series that they lie in.
    volume : Volume, optional
        The scan, when it is open.
    title : str, optional
        What the layer is called, before the short id of the series.

    Returns
    -------
    LayerData
        Features: ``id``, ``diameter_mm``, ``kind``, ``x_mm``, ``y_mm``, ``z_mm``.
    """
    features = {"kind": np.array([nodule.kind for nodule in nodules], dtype=object)}
    data, attributes, layer_type = _rings(nodules, features, REFERENCE_COLOUR, volume)
    attributes["name"] = f"{title} {short_id(series_uid)}"
    attributes["metadata"] = {KIND_KEY: REFERENCE, SERIES_KEY: series_uid, VOLUME_KEY: volume}
    return data, attributes, layer_type


def _rings(
    findings: Sequence[Candidate | ReferenceNodule],
    features: dict[str, NDArray[Any]],
    colour: str,
    volume: Volume | None,
) -> LayerData:
    centres = positions_xyz_mm(findings)
    diameters = np.array([finding.diameter_mm for finding in findings], dtype=np.float64)
    slice_mm = volume.geometry.spacing_zyx_mm[0] if volume else 0.0
    x, y, z = centres.T
    columns = {"id": np.arange(1, len(findings) + 1), **features, "diameter_mm": diameters}
    attributes = {
        "features": {**columns, "x_mm": x, "y_mm": y, "z_mm": z},
        "feature_defaults": {name: ADDED.get(name, np.nan) for name in (*columns, "x_mm", "y_mm", "z_mm")},
        "size": ring_diameters_mm(diameters, slice_mm) / MARK_UNIT_MM,
        "scale": (MARK_UNIT_MM,) * 3,
        **world_attributes(),
        "symbol": "disc",
        "face_color": "transparent",
        "border_color": colour,
        "border_width": RING_MM / MARK_UNIT_MM,
        "border_width_is_relative": False,
        "canvas_size_limits": (0, MOST_PIXELS),  # from 0: else napari leaves a dot at (0, 0) on slices without marks
        "projection_mode": SPHERE_PROJECTION,
    }
    return centres[:, ::-1] / MARK_UNIT_MM, attributes, "points"


def ring_diameters_mm(diameters_mm: ArrayLike, slice_mm: float) -> FloatArray:
    """Give the diameter of the spheres that are drawn for marks.

    Parameters
    ----------
    diameters_mm : array_like, shape (N,)
        Diameters of the marks, mm; 0 or less where none is known.
    slice_mm : float
        Distance between slices, mm; 0 when no scan is open.

    Returns
    -------
    ndarray of float64, shape (N,)
        The diameter itself, except for a mark so small that it could lie unseen between
        two slices: then the nearest slice cuts its sphere in a ring of at least half its diameter.

    Examples
    --------
    >>> ring_diameters_mm([3.0, 20.0, -1.0], slice_mm=2.5)
    array([ 3., 20.,  8.])
    >>> ring_diameters_mm([3.0], slice_mm=5.0).round(2)
    array([5.22])
    """
    diameters = np.asarray(diameters_mm, dtype=np.float64)
    diameters = np.where(diameters > 0, diameters, UNKNOWN_DIAMETER_MM)
    return np.maximum(diameters, np.hypot(slice_mm, diameters / 2))  # Pythagoras on the half chord


def shown_mask(scores: ArrayLike, threshold: float) -> NDArray[np.bool_]:
    """Tell which marks are at or above the threshold.

    Parameters
    ----------
    scores : array_like, shape (N,)
        Scores.
    threshold : float
        Lowest score shown.

    Returns
    -------
    ndarray of bool, shape (N,)

    Examples
    --------
    >>> shown_mask([0.9, 0.5, 0.1], 0.5)
    array([ True,  True, False])
    """
    mask: NDArray[np.bool_] = np.asarray(scores, dtype=np.float64) >= threshold
    return mask


def points_xyz_mm(data: ArrayLike, attributes: Mapping[str, Any]) -> FloatArray:
    """Give the world positions of the points of any points layer.

    Parameters
    ----------
    data : array_like, shape (N, 3)
        Points in data units, (z, y, x).
    attributes : mapping
        The layer's ``scale`` and ``translate``; missing means 1 and 0.

    Returns
    -------
    ndarray of float64, shape (N, 3)
        (x, y, z), LPS mm.

    Examples
    --------
    >>> points_xyz_mm([[1, 2, 3]], {"scale": (2, 1, 1), "translate": (0, 0, 5)})
    array([[8., 2., 2.]])
    """
    points = np.asarray(data, dtype=np.float64).reshape(-1, 3)
    scale = np.asarray(attributes.get("scale", (1.0, 1.0, 1.0)), dtype=np.float64)
    translate = np.asarray(attributes.get("translate", (0.0, 0.0, 0.0)), dtype=np.float64)
    return (points * scale + translate)[:, ::-1]


def volume_of(layer: Any) -> Volume | None:
    """Give the scan that a layer shows or belongs to, None when it is not one of ours."""
    volume = layer.metadata.get(VOLUME_KEY)
    return volume if isinstance(volume, Volume) else None


def is_kind(layer: Any, *kinds: str) -> bool:
    """Tell whether a layer was made by us and shows one of these kinds of thing."""
    return layer.metadata.get(KIND_KEY) in kinds


def layers_of(layers: Iterable[Any], volume: Volume, *kinds: str) -> list[Any]:
    """Give the layers of these kinds that belong to a scan, in the order of the layer list."""
    return [layer for layer in layers if is_kind(layer, *kinds) and volume_of(layer) is volume]


def ct_volumes(layers: Iterable[Any]) -> list[tuple[str, Volume]]:
    """Give the open scans, in the order of the layer list.

    Parameters
    ----------
    layers : iterable of napari.layers.Layer
        ``viewer.layers``.

    Returns
    -------
    list of (str, Volume)
        Layer name and scan.
    """
    found = [(layer.name, volume_of(layer)) for layer in layers if is_kind(layer, CT)]
    return [(name, volume) for name, volume in found if volume is not None]
