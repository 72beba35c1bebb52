"""What a fold's model marks on the scans and cubes that it never saw.

Every held-out scan is searched once as it is and several times with held-out nodules
put into it. What is kept of a search needs no network to be judged: both stages' logits
of every mark, what it lies on, and where each inserted nodule sits.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from napari_alnct.core.checkpoint import Checkpoint, read_checkpoint
from napari_alnct.core.config import DetectionSettings
from napari_alnct.core.errors import ModelError
from napari_alnct.core.inference import Runner, choose_precision
from napari_alnct.core.second_look import MIRRORED_LOOKS, second_look_logits
from napari_alnct.io.atomic_file import replacing_text
from napari_alnct.training.build_run import Log
from napari_alnct.training.cases import TrainingCase
from napari_alnct.training.donor_drawing import draw_donor, draw_donor_as_cut
from napari_alnct.training.folds import PackFold
from napari_alnct.training.insertion import Donor
from napari_alnct.training.marks import find_marks, insert_donors
from napari_alnct.training.placement import Placed
from napari_alnct.training.settings import BuildSettings
from napari_alnct.training.sources import cube_names, load_pack_cases, load_pack_donors, pack_case_names

N_TURNS = 6  # searches of each scan with inserted nodules, per kind of sizes
N_INSERTED = 10  # tried per search: the density of a test bed, not of a patient
N_CONTROLS = 20  # pieces of plain lung pasted in one further search, to see whether the seam is marked
OWN, CONTROL = "own", "control"  # sorts of what is no inserted nodule
AS_IT_IS, LUNA16_SIZES, OWN_SIZES, PLAIN_LUNG = "as it is", "LUNA16's sizes", "the cubes' own sizes", "plain lung"
KINDS = (AS_IT_IS, *(LUNA16_SIZES,) * N_TURNS, PLAIN_LUNG, *(OWN_SIZES,) * N_TURNS)  # of the searches of a scan
FULLY_ANNOTATED = "LIDC-IDRI"  # of these every finding is marked or excluded, so a mark on nothing is an error
SCORES_VERSION = 5
ARRAYS = {
    "first": float,
    "second": float,
    "labels": np.int8,
    "positions_xyz_mm": float,
    "diameters_mm": float,
}


@dataclass(frozen=True, kw_only=True)
class SearchedNodule:
    """A nodule of a searched scan; ``marks`` are the numbers of the marks inside it."""

    diameter_mm: float
    sort: str
    donor: str
    scale: float
    position_xyz_mm: tuple[float, float, float]
    marks: tuple[int, ...]


@dataclass(frozen=True, eq=False, kw_only=True)
class Search:
    """One search of one scan.

    ``kind``: one of `KINDS`; ``first``, ``second`` (M,): logits of the marks; ``labels`` (M,): 1 in a nodule,
    0 an error, -1 on an excluded finding; ``positions_xyz_mm`` (M, 3); ``diameters_mm`` (M,).
    """

    case: str
    turn: int
    kind: str
    first: NDArray[np.float64]
    second: NDArray[np.float64]
    labels: NDArray[np.int8]
    positions_xyz_mm: NDArray[np.float64]
    diameters_mm: NDArray[np.float64]
    nodules: tuple[SearchedNodule, ...]

    @property
    def counts_errors(self) -> bool:
        """Tell whether all findings of the scan are known, so that a mark on nothing is an error."""
        return self.case.startswith(FULLY_ANNOTATED)


def score_fold(
    model: Path, pack: Path, fold: PackFold, out: Path, log: Log, *, mirrored_passes: int = 0
) -> list[Search]:
    """Search the scans of a fold with the model that never saw them, and keep what was found.

    Parameters
    ----------
    model : Path
        Model file of this fold.
    pack : Path
        Folder of the data pack.
    fold : PackFold
        What the model held out.
    out : Path
        JSON file; searches with the same model that are in it are not repeated.
    log : callable
        Told which scan is done.
    mirrored_passes : int
        Of the first stage, 0 to 3.

    Returns
    -------
    list of Search

    Raises
    ------
    ModelError
        If the model was trained on a scan or a cube of the fold.
    """
    checkpoint = read_checkpoint(model)
    _refuse_seen(checkpoint, fold)
    if out.is_file() and (kept := read_searches(out, sha256=checkpoint.sha256)):
        return kept
    ceiling = float(checkpoint.recipe.prepare.high_hu)
    cases = load_pack_cases(pack, leave_out=set(pack_case_names(pack)) - set(fold.cases))
    donors = load_pack_donors(pack, ceiling_hu=ceiling, leave_out=set(cube_names(pack)) - set(fold.cubes))
    searches = []
    for number, case in enumerate(cases):
        searches += list(_searches(checkpoint, case, donors, 100 * number, mirrored_passes))
        log(f"{case.name}: {len(searches[-1].first)} marks in the last of {len(KINDS)} searches")
    _write(out, checkpoint, searches)
    return searches


def _refuse_seen(checkpoint: Checkpoint, fold: PackFold) -> None:
    """Refuse a model that learned from the fold, by what its file says."""
    facts = checkpoint.recipe.training
    seen = set(facts.get("cases", ())) & set(fold.cases)
    held = set(facts.get("held_out_donors", ()))
    missing = set(fold.cubes) - held
    if seen or missing or not facts.get("cases"):
        what = min(seen or missing or {"unknown scans"})
        raise ModelError(
            f"{checkpoint.recipe.name}: was trained on {what}, which the fold holds out; train the fold again"
        )


def _searches(
    checkpoint: Checkpoint, case: TrainingCase, donors: Sequence[Donor], seed: int, mirrored_passes: int
) -> Iterator[Search]:
    cpu = torch.device("cpu")
    assert checkpoint.detector is not None
    assert checkpoint.classifier is not None
    first, second = (Runner(n, cpu, choose_precision(cpu)) for n in (checkpoint.detector, checkpoint.classifier))
    prepare, edge = checkpoint.recipe.prepare, checkpoint.classifier.settings.patch_vox
    for turn in range(len(KINDS)):
        host, placed = searched_host(case, donors, turn, seed)
        marks = find_marks(first, host, prepare, DetectionSettings(mirrored_passes=mirrored_passes))
        spots = _Spots.of(case, host, placed)
        places = host.geometry.index_to_world(spots.centres_zyx_vox)
        distance = np.linalg.norm(places[:, None] - marks.peaks.positions_xyz_mm[None], axis=2)
        yield Search(
            case=case.name,
            turn=turn,
            kind=KINDS[turn],
            first=marks.peaks.logits,
            second=second_look_logits(second, host.hu, marks.index_zyx, edge, prepare, n_mirrored=MIRRORED_LOOKS),
            labels=marks.labels,
            positions_xyz_mm=marks.peaks.positions_xyz_mm,
            diameters_mm=marks.peaks.diameters_mm,
            nodules=tuple(
                SearchedNodule(
                    diameter_mm=float(spots.diameters_mm[k]),
                    sort=spots.sorts[k],
                    donor=spots.names[k],
                    scale=float(spots.scales[k]),
                    position_xyz_mm=(float(places[k, 0]), float(places[k, 1]), float(places[k, 2])),
                    marks=tuple(np.flatnonzero(distance[k] < spots.diameters_mm[k] / 2).tolist()),
                )
                for k in range(len(spots.sorts))
            ),
        )


def searched_host(case: TrainingCase, donors: Sequence[Donor], turn: int, seed: int) -> tuple[TrainingCase, Placed]:
    """Give what is searched in a turn: the scan as it is, with inserted nodules, or with pasted plain lung.

    Parameters
    ----------
    case : TrainingCase
        Held-out scan.
    donors : sequence of Donor
        Held-out nodules.
    turn : int
        Place in `KINDS`.
    seed : int
        Of the scan within its fold.

    Returns
    -------
    tuple of (TrainingCase, Placed)
    """
    kind = KINDS[turn]
    n_donors = N_INSERTED if kind in (LUNA16_SIZES, OWN_SIZES) else 0
    n_controls = N_CONTROLS if kind == PLAIN_LUNG else 0
    draw = draw_donor_as_cut if kind == OWN_SIZES else draw_donor
    round_hu = BuildSettings().crops.round_hu
    return insert_donors(case, donors, n_donors, round_hu, 8000 + seed + turn, n_controls=n_controls, draw=draw)


@dataclass(frozen=True, eq=False)
class _Spots:
    """Own nodules, inserted ones and controls of a searched scan, in this order."""

    centres_zyx_vox: NDArray[np.float64]
    diameters_mm: NDArray[np.float64]
    sorts: tuple[str, ...]
    names: tuple[str, ...]
    scales: tuple[float, ...]

    @classmethod
    def of(cls, case: TrainingCase, host: TrainingCase, placed: Placed) -> _Spots:
        """Give those of a search."""
        n_own, n_controls = len(case.diameters_mm), len(placed.control_diameters_mm)
        return cls(
            np.vstack([host.centres_zyx_vox, placed.controls_zyx_vox]),
            np.concatenate([host.diameters_mm, placed.control_diameters_mm]),
            (OWN,) * n_own + placed.sorts + (CONTROL,) * n_controls,
            ("",) * n_own + placed.names + ("",) * n_controls,
            (1.0,) * n_own + placed.scales + (1.0,) * n_controls,
        )


def _write(out: Path, checkpoint: Checkpoint, searches: Sequence[Search]) -> None:
    content = {
        "version": SCORES_VERSION,
        "model": checkpoint.recipe.name,
        "sha256": checkpoint.sha256,
        "searches": [_to_json(search) for search in searches],
    }
    with replacing_text(out) as stream:
        json.dump(content, stream)


def _to_json(search: Search) -> dict[str, Any]:
    arrays = {name: getattr(search, name).tolist() for name in ARRAYS}
    return {
        "case": search.case,
        "turn": search.turn,
        "kind": search.kind,
        **arrays,
        "nodules": [vars(n) for n in search.nodules],
    }


def read_searches(path: Path, *, sha256: str | None = None) -> list[Search]:
    """Give the searches in a file of `score_fold`.

    Parameters
    ----------
    path : Path
        JSON file.
    sha256 : str, optional
        Of the model that must have made them; of another: none are given.

    Returns
    -------
    list of Search
    """
    content = json.loads(path.read_text(encoding="utf-8"))
    if content["version"] != SCORES_VERSION or (sha256 is not None and content["sha256"] != sha256):
        return []
    return [_from_json(entry) for entry in content["searches"]]


def _from_json(entry: dict[str, Any]) -> Search:
    nodules = tuple(SearchedNodule(**_with_tuples(one)) for one in entry["nodules"])
    arrays = {name: np.array(entry[name], dtype) for name, dtype in ARRAYS.items()}
    arrays["positions_xyz_mm"] = arrays["positions_xyz_mm"].reshape(-1, 3)
    return Search(case=entry["case"], turn=entry["turn"], kind=entry["kind"], nodules=nodules, **arrays)


def _with_tuples(values: dict[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
