"""Contact sheets of what the folds' models get wrong: false marks, and inserted nodules without a mark.

    python benchmarks/model_pictures.py --data ../shared/data --runs runs/folds

Reads the searches that `model_folds.py` has kept. Each tile shows 48 mm around the place in
axial, coronal and sagittal view, head and front up, lung window; a ring of the mark's or the
nodule's size lies around it.
"""

from __future__ import annotations

import argparse
import io
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from PIL import Image

from napari_alnct.core.second_look import cut_cube
from napari_alnct.training.cases import TrainingCase
from napari_alnct.training.fold_judging import cross_fitted, froc_of, of_kind, outcomes
from napari_alnct.training.fold_scores import AS_IT_IS, LUNA16_SIZES, Search, read_searches, searched_host
from napari_alnct.training.folds import pack_folds
from napari_alnct.training.settings import BuildSettings
from napari_alnct.training.sources import cube_names, load_pack_cases, load_pack_donors, pack_case_names

N_FOLDS, COLUMNS, ROWS = 3, 4, 4
EDGE_VOX, LUNG_WINDOW_HU = 49, (-1350, 150)
FALSE_COLOUR, MISSED_COLOUR = "#e69f00", "#56b4e9"
COLOURS = 96
ATTRIBUTION = "Images: LIDC-IDRI (doi:10.7937/K9/TCIA.2015.LO9QL9SX) and QIN LUNG CT, CC BY 3.0"


@dataclass(frozen=True, eq=False)
class Tile:
    """One place to show: scan, voxel, diameter, title."""

    hu: np.ndarray
    index_zyx: np.ndarray
    diameter_mm: float
    title: str


def false_marks(folds: list[list[Search]], cases: dict[str, TrainingCase]) -> tuple[list[Tile], str]:
    scored = [pair for part in cross_fitted(folds) for pair in of_kind(part, AS_IT_IS, LUNA16_SIZES)]
    threshold = froc_of(scored).threshold_at(1.0)
    found = []
    for search, scores in scored:
        if search.kind == AS_IT_IS and search.counts_errors:
            case = cases[search.case]
            for mark in np.flatnonzero(search.labels == 0):
                index = np.rint(case.geometry.world_to_index(search.positions_xyz_mm[mark])[None]).astype(int)[0]
                shown = "shown" if scores[mark] >= threshold else "not shown"
                title = f"{search.case[-4:]}, score {scores[mark]:.2f} ({shown})"
                found.append((scores[mark], Tile(case.hu, index, search.diameters_mm[mark], title)))
    found.sort(key=lambda pair: -pair[0])
    return [tile for _, tile in found], f"Strongest false marks on {N_FOLDS} folds' LIDC-IDRI scans as they are"


def missed_nodules(folds: list[list[Search]], cases: dict[str, TrainingCase], pack: Path) -> tuple[list[Tile], str]:
    scored = [pair for part in cross_fitted(folds) for pair in of_kind(part, LUNA16_SIZES)]
    threshold = froc_of(scored).threshold_at(4.0)
    missed = [o for o in outcomes(scored) if o.score < threshold]
    order = np.random.default_rng(0).permutation(len(missed))[: COLUMNS * ROWS]
    hosts = dict(_hosts(folds, cases, pack, {(missed[k].case, missed[k].turn) for k in order}))
    tiles = []
    for k in order:
        one = missed[k]
        case = cases[one.case]
        index = np.rint(case.geometry.world_to_index(np.array(one.nodule.position_xyz_mm)[None])).astype(int)[0]
        title = f"{one.nodule.diameter_mm:.1f} mm at {one.nodule.sort}"
        tiles.append(Tile(hosts[one.case, one.turn], index, one.nodule.diameter_mm, title))
    n_all = len(outcomes(scored))
    return tiles, f"Missed at 4 false marks per scan: {len(tiles)} of {len(missed)} (of {n_all} inserted), at random"


def _hosts(
    folds: list[list[Search]], cases: dict[str, TrainingCase], pack: Path, wanted: set[tuple[str, int]]
) -> Iterator[tuple[tuple[str, int], np.ndarray]]:
    """Give the searched scans with their inserted nodules again; they depend on fold, number and turn alone."""
    crops = BuildSettings().crops
    for fold in pack_folds(pack, N_FOLDS):
        others = set(cube_names(pack)) - set(fold.cubes)
        donors = load_pack_donors(pack, ceiling_hu=crops.high_hu, leave_out=others)
        for number, name in enumerate(fold.cases):
            for case, turn in sorted(wanted):
                if case == name:
                    yield (case, turn), searched_host(cases[case], donors, turn, 100 * number)[0].hu


def draw(tiles: list[Tile], title: str, colour: str, path: Path) -> None:
    """Draw the sheet as a palette PNG."""
    figure = Figure(figsize=(13.5, 1.35 * ROWS + 0.75), facecolor="black")
    FigureCanvasAgg(figure)
    parts = figure.subplots(ROWS, COLUMNS * 3, gridspec_kw={"wspace": 0.03, "hspace": 0.25})
    figure.subplots_adjust(left=0.005, right=0.995, bottom=0.035, top=0.90)
    for panel in parts.ravel():
        panel.set_axis_off()
    for number, tile in enumerate(tiles[: COLUMNS * ROWS]):
        row, column = divmod(number, COLUMNS)
        cube = cut_cube(tile.hu, tile.index_zyx, EDGE_VOX, -1000.0)
        middle = EDGE_VOX // 2
        planes = (cube[middle], cube[::-1, middle], cube[::-1, :, middle])  # z grows towards the head
        for panel, plane in zip(parts[row, column * 3 : column * 3 + 3], planes, strict=True):
            low, high = LUNG_WINDOW_HU
            panel.imshow(plane, cmap="gray", vmin=low, vmax=high, interpolation="bilinear")
            ring = Circle((middle, middle), tile.diameter_mm / 2 + 2.5, fill=False, edgecolor=colour, linewidth=1)
            panel.add_patch(ring)
        parts[row, column * 3 + 1].set_title(tile.title, color="white", fontsize=9, pad=3)
    figure.suptitle(title, color="white", fontsize=12)
    figure.text(0.995, 0.008, ATTRIBUTION, color="#bbbbbb", fontsize=7, ha="right")
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=90)
    Image.open(buffer).convert("RGB").quantize(COLOURS).save(path, optimize=True)
    print(f"{path}: {len(tiles[: COLUMNS * ROWS])} tiles, {path.stat().st_size // 1000} kB")


def run() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("ALNCT_DATA", "../shared/data")))
    parser.add_argument("--runs", type=Path, default=Path("runs/folds"))
    parser.add_argument("--out", type=Path, default=Path("docs/images"))
    options = parser.parse_args()
    paths = [options.runs / f"fold_{number}" / "scores.json" for number in range(N_FOLDS)]
    folds = [read_searches(path) for path in paths if path.is_file()]
    names = {search.case for part in folds for search in part}
    left_out = set(pack_case_names(options.data)) - names
    cases = {case.name: case for case in load_pack_cases(options.data, leave_out=left_out)}
    draw(*false_marks(folds, cases), FALSE_COLOUR, options.out / "false_marks.png")
    draw(*missed_nodules(folds, cases, options.data), MISSED_COLOUR, options.out / "missed_nodules.png")


if __name__ == "__main__":
    run()
