"""Evidence maps and score maps as napari layer data in the scan's space; no Qt, no viewer.

A map stays on its own grid of cells: nothing is resampled, the layer's scale and translate put the cells where the
network saw them. Evidence *for* the score and evidence *against* it are two layers in two colours. Both are
transparent where there is nothing, and never opaque, so that the nodule stays visible.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_alnct.core.evidence import NO_SUPPORT, EvidenceMap, FloatMap
from napari_alnct.core.geometry import Geometry
from napari_alnct.core.volume import Volume
from napari_alnct.plugin._layers import KIND_KEY, VOLUME_KEY, LayerData, grid_attributes, short_id

EVIDENCE, SCORES = "evidence", "scores"  # kinds of layers
EVIDENCE_KEY = "alnct_evidence"  # of a layer: what it shows, as plain values
MAP_KEY = "alnct_map"  # of a layer: the EvidenceMap or ScoreMap itself
SUPPORTS, AGAINST = "supports", "argues against"
COLOURS = {SUPPORTS: "#d55e00", AGAINST: "#0072b2", SCORES: "#cc79a7"}  # told apart by the colour-blind (Okabe and Ito)
MOST_OPAQUE = 0.6  # of a colour at the top of the scale
RELATIVE = "relative, own scale"  # in names of layers whose scale is not shared
PROBABILITY_LIMITS = (0.0, 1.0)
SAME_CELL = 1e-6  # cells, for rounding
NO_CELL = "no cell of the map lies in the scan"


@dataclass(frozen=True, eq=False, kw_only=True)
class ScoreMap:
    """The first stage's score of every cell of a scan.

    Parameters
    ----------
    values : ndarray of float32, shape (z, y, x)
        Sigmoid of the logit, 0 to 1.
    geometry : Geometry
        LPS grid of the cells.
    model_name, model_sha256 : str
        The model.
    """

    values: FloatMap
    geometry: Geometry
    model_name: str
    model_sha256: str


def evidence_layers(one: EvidenceMap, volume: Volume, limit: float, *, is_relative: bool = False) -> list[LayerData]:
    """Give a map as two image layers, evidence for the score and evidence against it.

    Parameters
    ----------
    one : EvidenceMap
        Of a candidate in the scan.
    volume : Volume
        The scan.
    limit : float
        Top of the colour scale, in the map's unit.
    is_relative : bool
        Whether the scale is the map's own instead of the one that all candidates share; then the name says so.

    Returns
    -------
    list of LayerData
        Empty when nothing supports the score, see `why_no_layer`; else `SUPPORTS` and, when there is such evidence,
        `AGAINST`. Hidden until asked for.
    """
    if why_no_layer(one, volume):
        return []
    values, geometry = cells_in_scan(one.values, one.geometry, volume)
    signed = {SUPPORTS: np.maximum(values, np.float32(0)), AGAINST: np.maximum(-values, np.float32(0))}
    return [
        (part, _evidence_attributes(kind, one, geometry, volume, limit, is_relative), "image")
        for kind, part in signed.items()
        if part.any()
    ]


def _evidence_attributes(
    kind: str, one: EvidenceMap, geometry: Geometry, volume: Volume, limit: float, is_relative: bool
) -> dict[str, Any]:
    return {
        "name": evidence_name(kind, one, volume, is_relative=is_relative),
        "metadata": {
            KIND_KEY: EVIDENCE,
            VOLUME_KEY: volume,
            EVIDENCE_KEY: {"kind": kind, "is_relative": is_relative, **facts(one)},
            MAP_KEY: one,
        },
        **grid_attributes(geometry),
        **_look(kind, (0.0, limit)),
    }


def evidence_name(kind: str, one: EvidenceMap, volume: Volume, *, is_relative: bool) -> str:
    """Give the name of an evidence layer: what it shows of which candidate, and the short id of the scan."""
    relative = f" ({RELATIVE})" if is_relative else ""
    return f"{kind.capitalize()} {one.candidate}{relative} {short_id(volume.series_uid)}"


def facts(one: EvidenceMap) -> dict[str, Any]:
    """Give what a map is, as plain values for a layer's metadata."""
    names = ("candidate", "method", "layer", "score_name", "logit", "unit", "model_name", "model_sha256")
    return {name: getattr(one, name) for name in names} | {"position_xyz_mm": one.position_xyz_mm}


def why_no_layer(one: EvidenceMap, volume: Volume) -> str:
    """Give in words why a map is not drawn; empty when it is.

    Parameters
    ----------
    one : EvidenceMap
        Of a candidate.
    volume : Volume
        The scan.

    Returns
    -------
    str
    """
    values, _ = cells_in_scan(one.values, one.geometry, volume)
    if not values.size:
        return NO_CELL
    return "" if (values > 0).any() else NO_SUPPORT


def score_layer(scores: ScoreMap, volume: Volume) -> LayerData:
    """Give the first stage's scores as an image layer, from 0 to 1.

    Parameters
    ----------
    scores : ScoreMap
        Of the scan.
    volume : Volume
        The scan.

    Returns
    -------
    LayerData
    """
    values, geometry = cells_in_scan(scores.values, scores.geometry, volume)
    told = {"kind": SCORES, "unit": "score per cell", "score_name": "first stage"}
    attributes = {
        "name": f"Score map {short_id(volume.series_uid)}",
        "metadata": {
            KIND_KEY: SCORES,
            VOLUME_KEY: volume,
            EVIDENCE_KEY: {**told, "model_name": scores.model_name, "model_sha256": scores.model_sha256},
            MAP_KEY: scores,
        },
        **grid_attributes(geometry),
        **_look(SCORES, PROBABILITY_LIMITS),
    }
    return values, attributes, "image"


def cells_in_scan(values: FloatMap, geometry: Geometry, volume: Volume) -> tuple[FloatMap, Geometry]:
    """Give the cells whose centres lie between the scan's outermost voxel centres.

    A layer that reaches out of the scan would make the viewer's sliders longer and move their slices.

    Parameters
    ----------
    values : ndarray of float32, shape (z, y, x)
        On `geometry`.
    geometry : Geometry
        LPS grid.
    volume : Volume
        The scan.

    Returns
    -------
    values : ndarray of float32
        A contiguous copy; it may be empty.
    geometry : Geometry
        Its grid; the one given when nothing is left.
    """
    ends = volume.geometry.index_to_world(np.array([[0, 0, 0], np.subtract(volume.geometry.shape_zyx, 1)]))
    low, high = np.sort(geometry.world_to_index(ends), axis=0)
    start = np.clip(np.ceil(low - SAME_CELL), 0, geometry.shape_zyx).astype(int)
    stop = np.clip(np.floor(high + SAME_CELL) + 1, start, geometry.shape_zyx).astype(int)
    part = values[tuple(slice(a, b) for a, b in zip(start, stop, strict=True))]
    if not part.size:
        return np.zeros((0, 0, 0), np.float32), geometry
    return np.ascontiguousarray(part), geometry.crop(_three(start), _three(stop))


def _three(index: NDArray[np.int_]) -> tuple[int, int, int]:
    z, y, x = (int(value) for value in index)
    return z, y, x


def _look(kind: str, limits: tuple[float, float]) -> dict[str, Any]:
    return {
        "contrast_limits": limits,
        "colormap": colour_scale(kind),
        "blending": "translucent_no_depth",
        "interpolation2d": "linear",
        "projection_mode": "max",  # as the scan's: in a slab the strongest evidence is seen
        "rgb": False,
        "visible": False,
    }


def colour_scale(kind: str) -> Any:
    """Give the colours of a kind of layer: nothing at 0, up to its colour at 60 % opacity.

    Parameters
    ----------
    kind : {"supports", "argues against", "scores"}
        What the layer shows.

    Returns
    -------
    napari.utils.Colormap
    """
    from napari.utils import Colormap

    red, green, blue = rgb(kind)
    return Colormap(
        [[red, green, blue, 0.0], [red, green, blue, MOST_OPAQUE]], name=f"alnct {kind}", display_name=f"ALNCT {kind}"
    )


def rgb(kind: str) -> tuple[float, float, float]:
    """Give the colour of a kind of layer, three numbers from 0 to 1.

    Examples
    --------
    >>> rgb("argues against")
    (0.0, 0.447, 0.698)
    """
    colour = COLOURS[kind].lstrip("#")
    red, green, blue = (round(int(colour[k : k + 2], 16) / 255, 3) for k in (0, 2, 4))
    return red, green, blue
