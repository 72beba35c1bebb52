"""Example maps of an evaluation of explanations: one that is good, one that misleads, one that is empty.

A panel is an axial slice of the patch in the lung window, the nodule's outline in cyan, support in orange
and evidence against in blue on one scale for all examples.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_alnct.batch.explain_eval_cases import EvalScan, ScanSource
from napari_alnct.batch.explain_eval_measuring import Bench
from napari_alnct.batch.explain_eval_patches import Patch, centred_patch
from napari_alnct.core.evidence import NO_SUPPORT, EvidenceMap, shared_limit
from napari_alnct.evaluation.explanation_figures import FALSE_POSITIVE, NODULE
from napari_alnct.evaluation.explanation_table import MapRow
from napari_alnct.io.png_files import png_bytes

ZOOM = 4
WINDOW_HU = (-1350.0, 150.0)
SUPPORT_RGB, AGAINST_RGB, OUTLINE_RGB = (255.0, 140.0, 0.0), (60.0, 120.0, 255.0), (0.0, 220.0, 220.0)
MOST_COVER = 0.75  # of a pixel's grey that the strongest evidence hides
GOOD, MISLEADING, EMPTY = "good", "misleading", "empty"
Record = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Example:
    """A chosen candidate: its sort, record, map and what is to be said of it."""

    sort: str
    record: Record
    row: str
    text: str


@dataclass(frozen=True, kw_only=True)
class ExamplePicture:
    """An example with its two panels as PNG: through the nodule, and through the maximum of the map."""

    example: Example
    panels: tuple[bytes, ...]
    limit: float
    unit: str


def choose_examples(records: Sequence[Record], row: str, other_rows: Sequence[str]) -> list[Example]:
    """Give a good, a misleading and an empty example, as far as there are such.

    Parameters
    ----------
    records : sequence of dict
        All records.
    row : str
        The map that is shown first.
    other_rows : sequence of str
        Where to look for an empty map when this one has none.

    Returns
    -------
    list of Example
    """
    nodules = [record for record in records if record["sort"] == NODULE and row in record["rows"]]
    hits = [record for record in nodules if record["rows"][row]["pointing"] == 1]
    found = []
    if hits:
        best = max(hits, key=lambda record: float(record["rows"][row]["energy"]))
        share = f"{100 * best['rows'][row]['energy']:.0f} %"
        found.append(_example(GOOD, best, row, f"the maximum lies in the nodule, which holds {share} of the support"))
    found += _misleading(nodules, records, row)
    for name in (row, *other_rows):
        empty = [record for record in records if _is_empty(record, name)]
        if empty:
            found.append(_example(EMPTY, empty[0], name, f"{NO_SUPPORT}: a reason is shown, no layer"))
            break
    return found


def _misleading(nodules: Sequence[Record], records: Sequence[Record], row: str) -> list[Example]:
    """Give the largest miss of the maximum; without a miss the brightest map on a place that is no nodule."""
    missed = [record for record in nodules if record["rows"][row]["pointing"] == 0]
    missed = [record for record in missed if record["rows"][row]["peak_error_mm"] is not None]
    if missed:
        worst = max(missed, key=lambda record: float(record["rows"][row]["peak_error_mm"]))
        off = worst["rows"][row]["peak_error_mm"]
        return [_example(MISLEADING, worst, row, f"the maximum lies {off:.0f} mm from the nodule's centre")]
    others = [record for record in records if record["sort"] == FALSE_POSITIVE and row in record["rows"]]
    if not others:
        return []
    brightest = max(others, key=lambda record: float(record["rows"][row]["strongest"]))
    return [_example(MISLEADING, brightest, row, "a bright map on a place that is no nodule")]


def _is_empty(record: Record, row: str) -> bool:
    numbers = record["rows"].get(row)
    if not numbers:
        return False
    return numbers.get("has_support") == 0 or ("spread" in numbers and numbers["spread"] is None)


def _example(sort: str, record: Record, row: str, text: str) -> Example:
    kind = str(record["kind"]).replace("_", "-")
    size = f"{record['diameter_mm']:.1f} mm, {kind}" if record["sort"] == NODULE else kind
    return Example(sort=sort, record=record, row=row, text=f"{size}, logit {record['logit']:.1f}: {text}")


def draw_examples(
    examples: Sequence[Example],
    bench: Bench,
    source: ScanSource,
    is_cancelled: Callable[[], bool] = lambda: False,
) -> list[ExamplePicture]:
    """Make the maps of the examples again and draw them on one scale.

    Parameters
    ----------
    examples : sequence of Example
        From `choose_examples`.
    bench : Bench
        The model.
    source : ScanSource
        The scans.
    is_cancelled : callable
        Asked before each; the rest is left out.

    Returns
    -------
    list of ExamplePicture
    """
    rows = {row.name: row for row in bench.rows}
    scans: dict[str, EvalScan] = {}
    made: list[tuple[Example, Patch, EvidenceMap]] = []
    for example in examples:
        if is_cancelled():
            break
        name = example.record["source"]
        scan = scans.setdefault(name, source.load(name)) if name not in scans else scans[name]
        patch = _patch(bench, scan, example.record)
        made.append((example, patch, _map(bench, rows[example.row], patch)))
    limit = shared_limit([one for example, _, one in made if example.sort != EMPTY])
    return [
        ExamplePicture(example=example, panels=_panels(patch, one, limit), limit=limit, unit=one.unit)
        for example, patch, one in made
    ]


def _map(bench: Bench, row: MapRow, patch: Patch) -> EvidenceMap:
    return bench.map_of(row, patch, patch.cube)


def _patch(bench: Bench, scan: EvalScan, record: Record) -> Patch:
    """Give the patch that a record was measured on."""
    x, y, z = record["middle_xyz_mm"]
    if record["sort"] == NODULE:
        number = int(record["candidate"])
        place = next(nodule.position_xyz_mm for nodule in scan.nodules if nodule.number == number)
    else:
        number, place = 0, scan.decoys_xyz_mm[int(str(record["candidate"]).split()[-1]) - 1]
    return centred_patch(bench.explainer, scan, place, number, bench.score_name, (x, y, z))


def _panels(patch: Patch, one: EvidenceMap, limit: float) -> tuple[bytes, ...]:
    values = one.on_grid(patch.geometry)
    middle = patch.geometry.world_to_index(patch.position_xyz_mm)[0]
    peak = patch.geometry.world_to_index(one.peak_xyz_mm)[0] if one.has_support else middle
    slices = [int(np.clip(round(float(z)), 0, len(values) - 1)) for z in (middle, peak)]
    outline = patch.mask if patch.number else np.zeros(values.shape, bool)
    return tuple(png_bytes(draw_slice(patch.cube[z], values[z], outline[z], limit)) for z in slices)


def draw_slice(
    hu: NDArray[np.int16], values: NDArray[np.float32], mask: NDArray[np.bool_], limit: float
) -> NDArray[np.uint8]:
    """Give one slice with its evidence and the nodule's outline.

    Parameters
    ----------
    hu : ndarray of int16, shape (y, x)
        Slice.
    values : ndarray of float32, same shape
        Signed map.
    mask : ndarray of bool, same shape
        Nodule.
    limit : float
        Evidence that is drawn strongest.

    Returns
    -------
    ndarray of uint8, shape (4 y, 4 x, 3)
    """
    low, high = WINDOW_HU
    grey = np.clip((hu.astype(np.float32) - low) * (255 / (high - low)), 0, 255)
    picture = np.repeat(ndimage.zoom(grey, ZOOM, order=1, grid_mode=True, mode="nearest")[..., None], 3, axis=2)
    strength = ndimage.zoom(values, ZOOM, order=1, grid_mode=True, mode="nearest") / limit
    for sign, colour in ((1, SUPPORT_RGB), (-1, AGAINST_RGB)):
        cover = MOST_COVER * np.clip(sign * strength, 0, 1)[..., None]
        picture = (1 - cover) * picture + cover * np.array(colour, np.float32)
    large = np.kron(mask, np.ones((ZOOM, ZOOM), bool))
    picture[large & ~ndimage.binary_erosion(large)] = OUTLINE_RGB
    return np.rint(picture).astype(np.uint8)
