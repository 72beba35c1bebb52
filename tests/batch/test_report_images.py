"""Slices of a report: upright, to scale, with rings where the findings are."""

from __future__ import annotations

import io
import math
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.image import imread

from napari_alnct.batch.report_images import (
    N_PIXELS,
    OUTSIDE_GREY,
    PIXEL_MM,
    PLANES,
    Overlay,
    cut_panels,
    overlay_of,
    slice_grey,
)
from napari_alnct.core.findings import Candidate, ReferenceNodule
from napari_alnct.core.geometry import IDENTITY, Geometry
from napari_alnct.core.volume import Volume
from napari_alnct.io.png_files import png_bytes
from tests.core.chest import Ball, ellipsoid, world_grid

AXIAL, CORONAL, SAGITTAL = PLANES
CENTRE = (65.0, 0.0, 0.0)  # in the left lung
FLIPPED = (-1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 1.0)  # as LUNA16 stores some scans


def chest(
    *balls: Ball, spacing: tuple[float, float, float] = (2.0, 1.0, 1.0), direction: tuple[float, ...] = IDENTITY
) -> Volume:
    """Give a block of lung of 80 mm around the point of view, with balls, as stored along `direction`."""
    z, y, x = (round(80 / s) for s in spacing)
    grid = Geometry(shape_zyx=(z, y, x), spacing_zyx_mm=spacing, direction=direction)
    first = np.subtract(CENTRE, grid.index_to_world(np.subtract(grid.shape_zyx, 1) / 2))
    grid = replace(grid, origin_xyz_mm=tuple(map(float, first)))
    hu = np.full(grid.shape_zyx, -860, np.int16)
    for centre, radius_mm, value in balls:
        hu[ellipsoid(world_grid(grid), centre, (radius_mm,) * 3)] = value
    return Volume.from_source(hu, grid)


def bright(picture: np.ndarray) -> tuple[float, float]:
    """Give the middle of what is bright, (down, right) of the picture's middle, mm."""
    rows, columns = np.nonzero(picture > 180)
    middle = (N_PIXELS - 1) / 2
    return (rows.mean() - middle) * PIXEL_MM, (columns.mean() - middle) * PIXEL_MM


@pytest.mark.parametrize("direction", [IDENTITY, FLIPPED], ids=["as is", "x and y stored backwards"])
def test_pictures_are_upright(direction: tuple[float, ...]) -> None:
    """A ball 10 mm to the left, 6 mm to the back and 8 mm to the head lies right, down or up as a reader expects.

    Each plane is cut through the ball itself; the picture's middle is the point of view.
    """
    ball = (CENTRE[0] + 10, CENTRE[1] + 6, CENTRE[2] + 8)
    volume = chest((ball, 4.0, 60), direction=direction)
    views = {
        "axial": (AXIAL, (CENTRE[0], CENTRE[1], ball[2]), (6, 10)),
        "coronal": (CORONAL, (CENTRE[0], ball[1], CENTRE[2]), (-8, 10)),
        "sagittal": (SAGITTAL, (ball[0], CENTRE[1], CENTRE[2]), (-8, 6)),
    }
    for plane, centre, place in views.values():
        np.testing.assert_allclose(bright(slice_grey(volume, centre, plane)), place, atol=0.6)


def test_letters_name_the_sides() -> None:
    """The patient's right on the left of the picture, the front or the head on top."""
    assert (AXIAL.letters, CORONAL.letters) == (("R", "L", "A", "P"), ("R", "L", "H", "F"))
    assert SAGITTAL.letters == ("A", "P", "H", "F")


def test_millimetres_are_the_same_along_both_sides() -> None:
    """With slices of 2.5 mm a ball of 16 mm is as high as wide in the coronal picture."""
    volume = chest((CENTRE, 8.0, 60), spacing=(2.5, 0.7, 0.7))
    rows, columns = np.nonzero(slice_grey(volume, CENTRE, CORONAL) > 180)
    high, wide = (np.ptp(rows) * PIXEL_MM, np.ptp(columns) * PIXEL_MM)
    assert (abs(high - 16) < 2.5, abs(wide - 16) < 1.5) == (True, True)


def test_outside_of_the_scan_is_one_grey() -> None:
    """Looking at the uppermost slice, the upper half of the coronal picture is not scan."""
    volume = chest()
    top = (65.0, 0.0, float(volume.geometry.index_to_world([volume.geometry.shape_zyx[0] - 1, 0, 0])[2]))
    picture = slice_grey(volume, top, CORONAL)
    assert set(np.unique(picture[: N_PIXELS // 2 - 5])) == {OUTSIDE_GREY}
    assert OUTSIDE_GREY not in picture[N_PIXELS // 2 + 5 :, :40]


def test_the_window_is_that_of_the_lung() -> None:
    """-1350 HU and below is black, 150 HU and above white; -600 HU the middle."""
    grid = chest(spacing=(4.0, 4.0, 4.0)).geometry
    for hu, grey in ((-2000, 0), (-600, 128), (300, 255)):
        volume = Volume(np.full(grid.shape_zyx, hu, np.int16), grid, grid)
        assert np.unique(slice_grey(volume, CENTRE, AXIAL)).tolist() == [grey]


def test_pictures_are_valid_png() -> None:
    """Another library reads back the same pixels."""
    pixels = np.random.default_rng(0).integers(0, 256, (7, 5), dtype=np.uint8)
    np.testing.assert_array_equal(np.rint(imread(io.BytesIO(png_bytes(pixels))) * 255), pixels)


def test_a_ring_is_the_cut_through_the_sphere_a_little_larger() -> None:
    """A nodule of 10 mm, 3 mm to the left and 4 mm above: the axial plane cuts a circle of 3 mm, plus 1 mm."""
    nodule = Overlay(position_xyz_mm=(68.0, 0.0, 4.0), diameter_mm=10.0, role="reference")
    axial, coronal, _ = cut_panels(chest(spacing=(4.0, 4.0, 4.0)), CENTRE, [nodule])
    (ring,) = axial.rings
    assert (ring.x_mm, ring.y_mm, ring.radius_mm) == (28.0, 25.0, 4.0)
    (ring,) = coronal.rings
    assert (ring.x_mm, ring.y_mm) == (28.0, 21.0)  # up is less
    assert ring.radius_mm == 6.0


@pytest.mark.parametrize(
    ("position", "diameter"),
    [((65.0, 0.0, 6.0), 10.0), ((200.0, 0.0, 0.0), 10.0), ((65.0, 0.0, 0.0), None)],
    ids=["beside the plane", "beyond the edge", "no diameter"],
)
def test_what_a_plane_does_not_cut_has_no_ring(position: tuple[float, float, float], diameter: float | None) -> None:
    """A sphere that ends before the plane, one outside the picture, and a mark without a size."""
    mark = Overlay(position_xyz_mm=position, diameter_mm=diameter, role="mark")
    axial, *_ = cut_panels(chest(spacing=(4.0, 4.0, 4.0)), CENTRE, [mark])
    assert axial.rings == ()


def test_the_mark_lies_on_top_and_has_a_cross() -> None:
    """Rings from below: excluded finding, nodule, mark; the cross is where the mark is, seen through."""
    at = (66.0, 2.0, 0.0)
    overlays = [Overlay(position_xyz_mm=at, diameter_mm=8.0, role=role) for role in ("mark", "reference", "excluded")]
    axial, *_ = cut_panels(chest(spacing=(4.0, 4.0, 4.0)), CENTRE, overlays)
    assert [ring.role for ring in axial.rings] == ["excluded", "reference", "mark"]
    assert axial.crosses == ((26.0, 27.0),)


def test_sizes_are_those_of_the_judge() -> None:
    """An excluded finding without diameter has 10 mm, as it is judged; a mark without one has none."""
    finding = ReferenceNodule(series_uid="a", position_xyz_mm=(0.0, 0.0, 0.0), diameter_mm=-1.0)
    mark = Candidate(position_xyz_mm=(0.0, 0.0, 0.0), score=0.5, diameter_mm=-1.0)
    assert overlay_of(finding, "excluded").diameter_mm == 10.0
    assert overlay_of(mark, "mark").diameter_mm is None
    assert math.isclose(
        overlay_of(Candidate(position_xyz_mm=(0, 0, 0), score=1, diameter_mm=7), "mark").diameter_mm or 0, 7
    )
