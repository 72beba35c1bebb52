"""Everything that is measured for one candidate: every map, every row of the evaluation.

What a *record* holds is said in `evaluation.explanation_figures`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_alnct.batch.explain_eval_cases import EvalNodule, EvalScan
from napari_alnct.batch.explain_eval_patches import Patch, input_of, middle_of
from napari_alnct.core.evidence import LEAST_AGREEMENT, EvidenceMap, agreement, rank_agreement
from napari_alnct.core.explain.activation import ACTIVATION_METHODS
from napari_alnct.core.explain.explainer import INPUT, Explainer
from napari_alnct.core.geometry import Geometry
from napari_alnct.evaluation.explanation_baselines import BASELINES, baseline_map
from napari_alnct.evaluation.explanation_faithfulness import (
    LUNG,
    Scorer,
    Surroundings,
    drop_without,
    random_lung,
    removal_areas,
    surround,
)
from napari_alnct.evaluation.explanation_figures import FALSE_POSITIVE, NODULE
from napari_alnct.evaluation.explanation_localisation import (
    FloatMap,
    first_voxels,
    localise,
    strongest_first,
    threshold_overlap,
)
from napari_alnct.evaluation.explanation_road import road_difference
from napari_alnct.evaluation.explanation_similarity import (
    SHIFT_TOLERANCE_VOX,
    correlation,
    map_change,
    own_and_other,
    shift_error_vox,
    similarity,
    strongest_overlap,
)
from napari_alnct.evaluation.explanation_table import MapRow

Measures = Literal["localisation", "removal", "randomisation", "stability", "occlusion"]
MEASURES: tuple[str, ...] = get_args(Measures)
FADES = (0.5, 1.0)  # how much of the nodule becomes lung (F6)
NOISES_HU = (10.0, 40.0)  # the first is that of F7
SHIFT_ZYX = (1, 0, 0)
WHOLE = 0.5  # of another nodule's voxels that must be in the patch (F5)
OCCLUSION = "occlusion"
NEAR_OCCLUSION_MM = 8.0  # two steps of the boxes
Cube = NDArray[np.int16]


@dataclass(frozen=True, eq=False, kw_only=True)
class Bench:
    """What candidates are measured with.

    Parameters
    ----------
    explainer : Explainer
        The model.
    score_name : str
        Whose logit.
    rows : tuple of MapRow
        Maps, without the baselines.
    measures : tuple of str
        Of `MEASURES`.
    randomised : tuple of Explainer
        The model with more and more of its weights drawn anew (F4).
    shuffled : Explainer or None
        A model trained on shuffled labels (F4).
    seeds : tuple of Explainer
        The same model trained with other seeds (F8).
    """

    explainer: Explainer
    score_name: str
    rows: tuple[MapRow, ...]
    measures: tuple[str, ...] = MEASURES
    randomised: tuple[Explainer, ...] = ()
    shuffled: Explainer | None = None
    seeds: tuple[Explainer, ...] = ()

    @property
    def activation_rows(self) -> tuple[MapRow, ...]:
        """Give the maps that cost one pass forth and back."""
        return tuple(row for row in self.rows if row.method in ACTIVATION_METHODS)

    def map_of(
        self, row: MapRow, patch: Patch, cube: Cube, explainer: Explainer | None = None, grid: Geometry | None = None
    ) -> EvidenceMap:
        """Give the map of a patch, or of another cube in its place."""
        geometry = grid or patch.geometry
        (made,) = (explainer or self.explainer).explain(
            cube,
            geometry,
            [patch.position_xyz_mm],
            method=row.method,
            layer="" if row.layer == INPUT else row.layer,
            score_name=self.score_name,
            middles_xyz_mm=[middle_of(geometry)],
        )
        return made


def nodule_record(
    bench: Bench,
    scan: EvalScan,
    nodule: EvalNodule,
    patch: Patch,
    *,
    with_occlusion: bool,
    pulse: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Measure one true positive.

    Parameters
    ----------
    bench : Bench
        What to measure with.
    scan : EvalScan
        Where the patch comes from.
    nodule : EvalNodule
        The candidate.
    patch : Patch
        Its patch.
    with_occlusion : bool
        Also make the occlusion map, which is slow.
    pulse : callable
        Called between steps; may raise to stop.

    Returns
    -------
    dict
        A record.
    """
    rows = [row for row in bench.rows if row.method != OCCLUSION or with_occlusion]
    native = {}
    for row in rows:
        pulse()
        native[row.name] = bench.map_of(row, patch, patch.cube)
    voxels = {name: one.on_grid(patch.geometry) for name, one in native.items()}
    voxels |= {name: baseline_map(name, patch.cube, seed=nodule.number) for name in BASELINES}
    record = _frame(scan, patch, NODULE, str(nodule.number), nodule.diameter_mm, nodule.kind)
    record["values"]["threshold_iou"] = threshold_overlap(patch.cube, patch.mask)
    record["rows"] = {name: asdict(localise(one, patch.mask)) for name, one in voxels.items()}
    _add_other_nodule(record, patch, voxels)
    score = bench.explainer.scorer(input_of(bench.explainer, patch, bench.score_name), bench.score_name)
    around = surround(score, patch.cube, seed=nodule.number)
    if "removal" in bench.measures:
        _add_removal(record, patch, voxels, score, around, pulse)
    if "randomisation" in bench.measures:
        _add_randomised(record, bench, patch, native, pulse)
    if "stability" in bench.measures:
        _add_stability(record, bench, scan, patch, native, score, around, pulse)
    _add_seeds(record, bench, patch, voxels)
    if with_occlusion and "occlusion" in bench.measures:
        _add_occlusion(record, native)
    return record


def decoy_record(bench: Bench, scan: EvalScan, patch: Patch, number: int) -> dict[str, Any]:
    """Measure one false positive: what its maps show.

    Parameters
    ----------
    bench : Bench
        What to measure with.
    scan : EvalScan
        Where the patch comes from.
    patch : Patch
        Around the place.
    number : int
        Of the decoy.

    Returns
    -------
    dict
        A record.
    """
    record = _frame(scan, patch, FALSE_POSITIVE, f"decoy {number}", 0.0, "no nodule")
    for row in bench.activation_rows:
        one = bench.map_of(row, patch, patch.cube)
        step = np.subtract(one.peak_xyz_mm, patch.position_xyz_mm)
        record["rows"][row.name] = {
            "has_support": float(one.has_support),
            "strongest": float(one.supports.max()),
            "peak_distance_mm": float(np.linalg.norm(step)) if one.has_support else None,
        }
    return record


def _frame(scan: EvalScan, patch: Patch, sort: str, name: str, diameter_mm: float, kind: str) -> dict[str, Any]:
    off = np.subtract(middle_of(patch.geometry), patch.position_xyz_mm)
    return {
        "scan": scan.name,
        "sort": sort,
        "candidate": name,
        "diameter_mm": diameter_mm,
        "kind": kind,
        "logit": patch.logit,
        "off_centre_mm": float(np.linalg.norm(off)),
        "middle_xyz_mm": list(middle_of(patch.geometry)),
        "values": {},
        "rows": {},
    }


def _add_other_nodule(record: dict[str, Any], patch: Patch, voxels: dict[str, FloatMap]) -> None:
    """Compare the evidence with that inside another nodule of the patch, the largest (F5)."""
    numbers, counts = np.unique(patch.labels[(patch.labels > 0) & (patch.labels != patch.number)], return_counts=True)
    if not len(numbers):
        return
    other = patch.labels == numbers[int(np.argmax(counts))]
    for name in record["rows"]:
        own_sum, other_sum = own_and_other(voxels[name], patch.mask, other)
        record["rows"][name] |= {"own": own_sum, "other": other_sum}


def _add_removal(
    record: dict[str, Any],
    patch: Patch,
    voxels: dict[str, FloatMap],
    score: Scorer,
    around: Surroundings,
    pulse: Callable[[], None],
) -> None:
    """Take voxels away (F1, F2, F3)."""
    places = random_lung(patch.cube, patch.mask, seed=patch.number)
    mask_drop, *lung_drops = drop_without(score, around, [patch.mask, *places]).tolist()
    record["values"]["mask_drop"] = mask_drop
    if lung_drops:
        record["values"] |= {"lung_drop": float(np.mean(lung_drops)), "mask_drop_beside": mask_drop}
    count = int(patch.mask.sum())
    for name, values in voxels.items():
        pulse()
        order = strongest_first(values)
        top = first_voxels(order, count, values.shape)
        record["rows"][name] |= removal_areas(score, around, order)
        record["rows"][name]["top_k_drop"] = float(drop_without(score, around, [top])[0])
        record["rows"][name]["road"] = road_difference(score, patch.cube, order, seed=patch.number)


def _add_randomised(
    record: dict[str, Any], bench: Bench, patch: Patch, native: dict[str, EvidenceMap], pulse: Callable[[], None]
) -> None:
    """Destroy the weights (F4)."""
    for row in bench.activation_rows:
        pulse()
        steps = [_likeness(bench, row, patch, native, destroyed) for destroyed in bench.randomised]
        if steps:
            record["rows"][row.name] |= {
                "rho_steps": [rho for rho, _ in steps],
                "rho_end": abs(steps[-1][0]),
                "ssim_end": steps[-1][1],
            }
        if bench.shuffled is not None:
            rho, _ = _likeness(bench, row, patch, native, bench.shuffled)
            record["rows"][row.name]["rho_shuffled"] = abs(rho)


def _likeness(
    bench: Bench, row: MapRow, patch: Patch, native: dict[str, EvidenceMap], other: Explainer
) -> tuple[float, float]:
    changed = bench.map_of(row, patch, patch.cube, other)
    return similarity(native[row.name].values, changed.values)


def _add_stability(
    record: dict[str, Any],
    bench: Bench,
    scan: EvalScan,
    patch: Patch,
    native: dict[str, EvidenceMap],
    score: Scorer,
    around: Surroundings,
    pulse: Callable[[], None],
) -> None:
    """Change the patch a little and a lot (F6, F7)."""
    rng, fill = np.random.default_rng(patch.number), around.fills[LUNG]
    soft = ndimage.gaussian_filter(patch.mask.astype(np.float32), 0.7)
    faded = [_rounded(patch.cube + share * soft * (fill - patch.cube.astype(np.float32))) for share in FADES]
    noisy = [_rounded(patch.cube + rng.normal(0, sigma, patch.cube.shape)) for sigma in NOISES_HU]
    changes = np.abs(score(np.stack([*faded, *noisy])) - patch.logit).tolist()
    record["values"] |= {"fading_score": changes[: len(faded)], "noise_score": changes[len(faded) :]}
    moved, moved_grid = patch.moved(scan, SHIFT_ZYX, bench.explainer.prepare.low_hu)
    for row in bench.activation_rows:
        pulse()
        before = native[row.name].values
        after = [bench.map_of(row, patch, cube).values for cube in (*faded, *noisy)]
        steps = [map_change(before, one) for one in after]
        shifted = bench.map_of(row, patch, moved, grid=moved_grid).on_grid(moved_grid)
        error = shift_error_vox(native[row.name].on_grid(patch.geometry), shifted, [-step for step in SHIFT_ZYX])
        record["rows"][row.name] |= {
            "fading_map": steps[: len(faded)],
            "noise_map": steps[len(faded) :],
            "rho_noise": similarity(before, after[len(faded)])[0],
            "follows_shift": float(error <= SHIFT_TOLERANCE_VOX) if np.isfinite(error) else None,
        }


def _rounded(hu: NDArray[Any]) -> Cube:
    return np.rint(np.clip(hu, -32000, 32000)).astype(np.int16)


def _add_seeds(record: dict[str, Any], bench: Bench, patch: Patch, voxels: dict[str, FloatMap]) -> None:
    """Compare with the maps of the same model trained with other seeds (F8)."""
    count = int(patch.mask.sum())
    for row in bench.activation_rows if bench.seeds else ():
        others = [bench.map_of(row, patch, patch.cube, one).on_grid(patch.geometry) for one in bench.seeds]
        maps: Sequence[FloatMap] = [voxels[row.name], *others]
        pairs = [(a, b) for k, a in enumerate(maps) for b in maps[k + 1 :]]
        record["rows"][row.name]["seeds_iou"] = float(np.mean([strongest_overlap(a, b, count) for a, b in pairs]))


def _add_occlusion(record: dict[str, Any], native: dict[str, EvidenceMap]) -> None:
    """Compare every map with occlusion (F9)."""
    boxes = next((one for one in native.values() if one.method == OCCLUSION), None)
    for name, one in native.items():
        if boxes is not None and one.method != OCCLUSION:
            record["rows"][name] |= occlusion_numbers(one, boxes)


def occlusion_numbers(one: EvidenceMap, boxes: EvidenceMap) -> dict[str, float | None]:
    """Give how a map agrees with occlusion at the boxes' centres: in rank, in size, and in its maximum.

    Parameters
    ----------
    one, boxes : EvidenceMap
        A map and the occlusion map of the same candidate.

    Returns
    -------
    dict
        Nine tenths of the boxes lie where next to nothing counts, so the rank says much of noise: Pearson's r, by
        which the badge judges, and the distance of the maxima stand beside it.
    """
    cells = boxes.geometry.index_to_world(np.argwhere(np.ones(boxes.values.shape, bool)))
    gap_mm = float(np.linalg.norm(np.subtract(one.peak_xyz_mm, boxes.peak_xyz_mm)))
    has_both = one.has_support and boxes.has_support
    return {
        "rho_occlusion": rank_agreement(one, boxes),
        "is_unreliable": float(agreement(one, boxes) < LEAST_AGREEMENT),
        "r_occlusion": correlation(one.at(cells), boxes.values.ravel()),
        "near_occlusion": float(gap_mm <= NEAR_OCCLUSION_MM) if has_both else None,
    }
