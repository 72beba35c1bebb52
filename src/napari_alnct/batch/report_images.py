"""Slices through a finding for a report: upright, in millimetres, with what lies where as rings.

A *panel* is a square of 50 mm cut through one point along the axial, coronal or sagittal
plane, seen as radiologists do: the patient's right side on the left, the head or the front
on top. Positions inside a panel are mm from its upper left corner, so a drawing of
50 x 50 units lays rings over the picture without any scaling.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from napari_alnct.core.findings import Candidate, ReferenceNodule
from napari_alnct.core.geometry import Triple
from napari_alnct.core.picture_planes import LUNG_WINDOW_HU, OUTSIDE_GREY, PLANES, Plane, picture_grid, upright_grey
from napari_alnct.core.volume import Volume
from napari_alnct.evaluation.matching import radius_mm
from napari_alnct.io.png_files import data_address, png_bytes

__all__ = ["LUNG_WINDOW_HU", "OUTSIDE_GREY", "Overlay", "Panel", "Ring", "cut_panels", "overlay_of", "slice_grey"]

EDGE_MM, PIXEL_MM = 50.0, 0.4
N_PIXELS = round(EDGE_MM / PIXEL_MM)
GAPS_MM = {"reference": 1.0, "excluded": 1.0, "mark": 2.5}  # from a finding's edge to its ring: both stay visible
LAYERS = ("excluded", "reference", "mark")  # from below: a reference nodule hides what was marked inside it

Role = Literal["reference", "excluded", "mark"]


@dataclass(frozen=True, kw_only=True)
class Overlay:
    """A finding to draw: its place and size in world mm, and what it is; diameter None when not known."""

    position_xyz_mm: Triple
    diameter_mm: float | None
    role: Role


@dataclass(frozen=True, kw_only=True)
class Ring:
    """A circle in a panel, mm from its upper left corner."""

    x_mm: float
    y_mm: float
    radius_mm: float
    role: Role


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One picture: PNG as a data address, letters at its edges, rings, and crosses at the centres of marks."""

    plane: Plane
    picture: str
    rings: tuple[Ring, ...]
    crosses: tuple[tuple[float, float], ...]


def overlay_of(finding: Candidate | ReferenceNodule, role: Role) -> Overlay:
    """Give a mark or an annotated finding as something to draw.

    Parameters
    ----------
    finding : Candidate or ReferenceNodule
        A finding without a diameter has the size with which it is judged; a mark without one has none.
    role : {"reference", "excluded", "mark"}
        What it is.

    Returns
    -------
    Overlay
    """
    if role == "mark":
        diameter = finding.diameter_mm if finding.diameter_mm > 0 else None
    else:
        diameter = 2 * radius_mm(finding.diameter_mm)
    return Overlay(position_xyz_mm=finding.position_xyz_mm, diameter_mm=diameter, role=role)


def cut_panels(volume: Volume, centre_xyz_mm: Triple, overlays: Sequence[Overlay]) -> tuple[Panel, ...]:
    """Give the three panels around a point.

    Parameters
    ----------
    volume : Volume
        The scan.
    centre_xyz_mm : tuple of float
        World LPS mm; it comes to lie in the middle of each panel.
    overlays : sequence of Overlay
        What to draw where a panel cuts it; the first mark also gets a cross, seen through.

    Returns
    -------
    tuple of Panel
        Axial, coronal, sagittal.
    """
    marks = [overlay for overlay in overlays if overlay.role == "mark"][:1]
    panels, layers = [], sorted(overlays, key=lambda overlay: LAYERS.index(overlay.role))
    for plane in PLANES:
        rings = (_ring(plane, centre_xyz_mm, overlay) for overlay in layers)
        panels.append(
            Panel(
                plane=plane,
                picture=data_address(png_bytes(slice_grey(volume, centre_xyz_mm, plane)), "image/png"),
                rings=tuple(ring for ring in rings if ring is not None),
                crosses=tuple(_place(plane, centre_xyz_mm, mark.position_xyz_mm) for mark in marks),
            )
        )
    return tuple(panels)


def slice_grey(volume: Volume, centre_xyz_mm: Triple, plane: Plane) -> NDArray[np.uint8]:
    """Give one slice in the lung window, upright.

    Parameters
    ----------
    volume : Volume
        The scan.
    centre_xyz_mm : tuple of float
        Its middle, world LPS mm.
    plane : Plane
        How to cut.

    Returns
    -------
    ndarray of uint8, shape (125, 125)
        0 to 255 over -1350 to 150 HU; rows from top, columns from left, 0.4 mm a pixel; one grey
        outside the scan.
    """
    picture = picture_grid(centre_xyz_mm, plane, centre_xyz_mm[plane.normal], N_PIXELS, PIXEL_MM)
    return upright_grey(volume.hu, volume.geometry, picture, plane, LUNG_WINDOW_HU)


def _place(plane: Plane, centre_xyz_mm: Triple, position_xyz_mm: Triple) -> tuple[float, float]:
    """Give where a point comes to lie in a panel, mm from its upper left corner."""
    right = position_xyz_mm[plane.column] - centre_xyz_mm[plane.column]
    down = position_xyz_mm[plane.row] - centre_xyz_mm[plane.row]
    return EDGE_MM / 2 + right, EDGE_MM / 2 + (-down if plane.is_head_up else down)


def _ring(plane: Plane, centre_xyz_mm: Triple, overlay: Overlay) -> Ring | None:
    """Give the circle in which the panel cuts the sphere of a finding, a little larger; None when it does not."""
    if overlay.diameter_mm is None:
        return None
    off = overlay.position_xyz_mm[plane.normal] - centre_xyz_mm[plane.normal]
    squared = (overlay.diameter_mm / 2) ** 2 - off**2
    if squared <= 0:
        return None
    x, y = _place(plane, centre_xyz_mm, overlay.position_xyz_mm)
    radius = math.sqrt(squared) + GAPS_MM[overlay.role]
    if max(abs(x - EDGE_MM / 2), abs(y - EDGE_MM / 2)) > EDGE_MM / 2 + radius:
        return None  # nothing of it would be seen
    return Ring(x_mm=x, y_mm=y, radius_mm=radius, role=overlay.role)
