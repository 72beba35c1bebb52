"""Marks and known nodules on a sheet of axial slices, and how they compare."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle

from napari_alnct.core.findings import Candidate, ReferenceNodule, positions_xyz_mm
from napari_alnct.core.volume import Volume
from napari_alnct.evaluation.matching import match_scan

MOST_PANELS, COLUMNS = 12, 4
MARK_GAP_MM, NODULE_GAP_MM = 1.5, 4.0  # from a finding's edge to its ring: it stays visible, and so do both rings
LUNG_WINDOW_HU = (-1350, 150)
MARK_COLOUR, NODULE_COLOUR = "#e69f00", "#56b4e9"  # told apart by the colour-blind (Okabe and Ito)


@dataclass(frozen=True)
class Comparison:
    """Marks against known nodules by LUNA16's rule: a hit lies within the nodule's radius."""

    nodule_marks: list[int]
    """For each nodule the index of its best mark, -1 when missed."""
    false_marks: list[int]
    """Indices of the marks that hit nothing."""

    @property
    def missed(self) -> list[int]:
        """Give the indices of the nodules that no mark hits."""
        return [number for number, mark in enumerate(self.nodule_marks) if mark < 0]


def compare(marks: Sequence[Candidate], nodules: Sequence[ReferenceNodule]) -> Comparison:
    """Compare the marks of one scan with its known nodules."""
    none = np.zeros((0, 3)), np.zeros(0)
    diameters_mm = np.array([nodule.diameter_mm for nodule in nodules], dtype=float)
    scores = np.array([mark.score for mark in marks], dtype=float)
    match = match_scan(positions_xyz_mm(marks), scores, positions_xyz_mm(nodules), diameters_mm, *none)
    return Comparison([int(mark) for mark in match.nodule_marks], [int(mark) for mark in match.false_positives])


def draw_sheet(volume: Volume, marks: Sequence[Candidate], nodules: Sequence[ReferenceNodule], path: Path) -> None:
    """Draw slices through the known nodules and the strongest other marks, each with a ring around it."""
    match = compare(marks, nodules)
    titled = [(n.position_xyz_mm[2], f"nodule {n.diameter_mm:.1f} mm") for n in nodules]
    kind = "other mark" if nodules else "mark"
    titled += [(marks[i].position_xyz_mm[2], f"{kind}, score {marks[i].score:.2f}") for i in match.false_marks]
    titled = titled[:MOST_PANELS] or [(float(volume.geometry.index_to_world(middle_zyx(volume))[2]), "no mark")]
    rows = -(-len(titled) // COLUMNS)
    figure = Figure(figsize=(3.4 * COLUMNS, 3.6 * rows + 0.4), facecolor="black", layout="constrained")
    for number, (z_mm, title) in enumerate(titled):
        panel = figure.add_subplot(rows, COLUMNS, number + 1)
        draw_slice(panel, volume, z_mm, marks, nodules)
        panel.set_title(title, color="white", fontsize=10)
    figure.suptitle("Marks orange, known nodules blue" if nodules else "Marks", color="white")
    figure.savefig(path, dpi=90)


def middle_zyx(volume: Volume) -> tuple[int, int, int]:
    """Give the index of the middle voxel."""
    z, y, x = volume.geometry.shape_zyx
    return z // 2, y // 2, x // 2


def draw_slice(
    panel: Axes, volume: Volume, z_mm: float, marks: Sequence[Candidate], nodules: Sequence[ReferenceNodule]
) -> None:
    """Draw the axial slice nearest to a height, with every ring that crosses it."""
    grid = volume.geometry
    _, step_y, step_x = grid.spacing_zyx_mm
    x0, y0, z0 = grid.origin_xyz_mm
    k = int(np.clip(round((z_mm - z0) / grid.spacing_zyx_mm[0]), 0, grid.shape_zyx[0] - 1))
    _, n_y, n_x = grid.shape_zyx
    edges = (x0 - step_x / 2, x0 + (n_x - 0.5) * step_x, y0 + (n_y - 0.5) * step_y, y0 - step_y / 2)
    low, high = LUNG_WINDOW_HU
    panel.imshow(volume.hu[k], cmap="gray", vmin=low, vmax=high, extent=edges, interpolation="bilinear")
    panel.axis("off")
    slice_mm = z0 + k * grid.spacing_zyx_mm[0]
    for findings, colour, gap_mm in ((nodules, NODULE_COLOUR, NODULE_GAP_MM), (marks, MARK_COLOUR, MARK_GAP_MM)):
        for finding in findings:
            x, y, z = finding.position_xyz_mm
            radius_mm = max(finding.diameter_mm / 2, grid.spacing_zyx_mm[0] / 2)
            if abs(z - slice_mm) <= radius_mm:
                panel.add_patch(Circle((x, y), radius_mm + gap_mm, fill=False, edgecolor=colour, linewidth=1.2))
