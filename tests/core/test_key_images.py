"""Key images: upright, to scale, the viewer's slab, and rings on the nodule whatever the scan's grid."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from napari_alnct.core.geometry import IDENTITY, Geometry
from napari_alnct.core.key_images import (
    FONT,
    OUTSIDE_GREY,
    PLANES,
    RING_GAP_MM,
    KeyImage,
    Ring,
    key_images,
    slices_beside,
)
from napari_alnct.core.volume import Volume
from tests.core.chest import Ball, ellipsoid, world_grid

AXIAL, CORONAL, SAGITTAL = PLANES
CENTRE = (65.0, -12.0, 31.0)
RED = (255, 0, 0)
DIRECTIONS = [  # every way to store an axis backwards
    tuple(np.diag(signs).ravel().astype(float)) for signs in itertools.product((1, -1), repeat=3)
]
TURNED = (0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0)  # sagittal slices
SPACINGS = {"even": (1.0, 1.0, 1.0), "thick": (2.5, 0.7, 0.9), "thicker": (5.0, 0.6, 0.6)}


def block(
    *balls: Ball, spacing: tuple[float, float, float] = (2.0, 1.0, 1.0), direction: tuple[float, ...] = IDENTITY
) -> Volume:
    """Give a block of lung of 90 mm around the centre, with balls, as stored along `direction`."""
    z, y, x = (round(90 / s) for s in spacing)
    grid = Geometry(shape_zyx=(z, y, x), spacing_zyx_mm=spacing, direction=direction)
    first = np.subtract(CENTRE, grid.index_to_world(np.subtract(grid.shape_zyx, 1) / 2)) + 0.31
    grid = replace(grid, origin_xyz_mm=tuple(map(float, first)))
    hu = np.full(grid.shape_zyx, -860, np.int16)
    for centre, radius_mm, value in balls:
        hu[ellipsoid(world_grid(grid), centre, (radius_mm,) * 3)] = value
    return Volume.from_source(hu, grid)


def bright_px(image: KeyImage) -> tuple[float, float]:
    """Give row and column of the middle of what is bright."""
    rows, columns = np.nonzero(image.pixels > 180)
    return float(rows.mean()), float(columns.mean())


def ring_px(image: KeyImage, ring: Ring) -> tuple[float, float, float]:
    """Give middle row, middle column and radius of the red pixels of a drawn picture."""
    pixels = image.drawn([ring]).pixels.astype(int)
    rows, columns = np.nonzero((pixels[..., 0] > 200) & (pixels[..., 1] < 90) & (pixels[..., 2] < 90))
    row, column = (rows.min() + rows.max()) / 2, (columns.min() + columns.max()) / 2
    return row, column, float(np.hypot(rows - row, columns - column).mean())


@pytest.mark.parametrize("spacing", SPACINGS.values(), ids=SPACINGS)
@pytest.mark.parametrize("direction", [*DIRECTIONS, TURNED], ids=lambda d: "".join(f"{int(v):d}" for v in d))
def test_the_ring_lies_on_the_nodule(direction: tuple[float, ...], spacing: tuple[float, float, float]) -> None:
    """Within half a voxel, and as wide as the nodule and its gap, for flipped, turned and anisotropic scans.

    The middle of the bright pixels is compared with that of the ring's own pixels, in all three planes, where
    the ball lies 7 mm to the left, 5 mm to the back and 4 mm to the head of the picture's middle.
    """
    ball = (CENTRE[0] + 7, CENTRE[1] + 5, CENTRE[2] + 4)
    volume = block((ball, 8.0, 60), spacing=spacing, direction=direction)
    ring = Ring(position_xyz_mm=ball, diameter_mm=16.0, colour=RED)
    for plane, at in enumerate(((0, 0, 4), (0, 5, 0), (7, 0, 0))):
        place = tuple(float(c + step) for c, step in zip(CENTRE, at, strict=True))
        image = key_images(volume, place)[plane]
        row, column, radius = ring_px(image, ring)
        down_mm, right_mm = np.subtract(bright_px(image), (row, column)) * image.pixel_mm
        x, y, z = volume.geometry.spacing_zyx_mm[::-1]
        voxel_mm = (x, y, z)
        assert abs(down_mm) <= voxel_mm[image.plane.row] / 2
        assert abs(right_mm) <= voxel_mm[image.plane.column] / 2
        assert radius * image.pixel_mm == pytest.approx(8 + RING_GAP_MM, abs=0.6)


@pytest.mark.parametrize("direction", DIRECTIONS, ids=lambda d: "".join(f"{int(v):d}" for v in d))
def test_pictures_are_upright(direction: tuple[float, ...]) -> None:
    """Left is right, the back is down in axial pictures, the head is up in the others."""
    ball = (CENTRE[0] + 10, CENTRE[1] + 6, CENTRE[2] + 8)
    volume = block((ball, 5.0, 60), direction=direction)
    wanted = {AXIAL: (6, 10), CORONAL: (-8, 10), SAGITTAL: (-8, 6)}  # mm down and right of the middle
    for plane in PLANES:
        place = tuple(ball[axis] if axis == plane.normal else CENTRE[axis] for axis in range(3))
        image = key_images(volume, place)[PLANES.index(plane)]
        found = np.subtract(bright_px(image), (len(image.pixels) - 1) / 2) * image.pixel_mm
        np.testing.assert_allclose(found, wanted[plane], atol=0.8)


def test_letters_stand_where_the_sides_are() -> None:
    """Each letter's own pixels are found at its edge; the picture's middle row or column carries it."""
    assert [plane.letters for plane in PLANES] == [
        ("R", "L", "A", "P"),
        ("R", "L", "H", "F"),
        ("A", "P", "H", "F"),
    ]
    for image in key_images(block(), CENTRE):
        pixels = image.drawn([]).pixels[..., 0]
        n, (left, right, top, bottom) = len(pixels), image.plane.letters
        places = {left: (113, 5), right: (113, n - 15), top: (5, 115), bottom: (n - 19, 115)}
        for letter, (row, column) in places.items():
            glyph = np.array([[int(bit) for bit in line] for line in FONT[letter].split()])
            found = pixels[row : row + 14 : 2, column : column + 10 : 2]
            np.testing.assert_array_equal(found == 255, glyph == 1)


def test_a_copied_picture_carries_its_scale() -> None:
    """The bar at the lower right is 10 mm long."""
    image = key_images(block(), CENTRE)[0]
    row = image.drawn([]).pixels[-10, :, 0]
    assert np.count_nonzero(row[-50:] == 255) * image.pixel_mm == 10.0


@pytest.mark.parametrize(
    ("slab_mm", "n_slices"), [(0.0, 1), (5.0, 3), (10.0, 5), (15.0, 9)], ids=["off", "5 mm", "10 mm", "15 mm"]
)
def test_a_slab_is_the_maximum_of_whole_slices(slab_mm: float, n_slices: int) -> None:
    """2 k + 1 slices around the nearest one; the true thickness is told. Checked against a plain maximum."""
    rng = np.random.default_rng(0)
    grid = Geometry(shape_zyx=(21, 40, 40), spacing_zyx_mm=(2.0, 1.0, 1.0))
    volume = Volume(rng.integers(-1300, 100, grid.shape_zyx).astype(np.int16), grid, grid)
    image = key_images(volume, (20.0, 20.0, 20.4), slab_mm=slab_mm, edge_mm=31.0, pixel_mm=1.0)[0]
    beside = n_slices // 2
    hu = volume.hu[10 - beside : 11 + beside, 5:36, 5:36].max(axis=0)
    np.testing.assert_array_equal(image.pixels, np.rint((hu + 1350.0) * 255 / 1500).astype(np.uint8))
    assert (image.thickness_mm, image.slice_index) == (2.0 * n_slices, 10)


def test_a_slab_never_goes_beyond_the_scan() -> None:
    """At the first slice half of it is left, and that is the thickness told."""
    image = key_images(block(), (65.0, -12.0, -14.0), slab_mm=10.0)[0]
    assert (image.slice_index, image.thickness_mm) == (0, 2.0 * (slices_beside(10.0, 2.0) + 1))


def test_what_is_no_scan_has_one_grey() -> None:
    """Around the uppermost slice the upper half of the coronal picture lies outside."""
    volume = block()
    top = float(volume.geometry.index_to_world([volume.geometry.shape_zyx[0] - 1, 0, 0])[2])
    pixels = key_images(volume, (65.0, -12.0, top))[1].pixels
    half = len(pixels) // 2
    assert set(np.unique(pixels[: half - 8])) == {OUTSIDE_GREY}
    assert OUTSIDE_GREY not in pixels[half + 8 :, 40:-40]


def test_the_window_is_kept() -> None:
    """Black and white are the window's ends; values beyond are cut before interpolation."""
    grid = block(spacing=(4.0, 4.0, 4.0)).geometry
    for hu, window, grey in ((-600, (-1350, 150), 128), (-3024, (-1350, 150), 0), (40, (-160, 240), 128)):
        volume = Volume(np.full(grid.shape_zyx, hu, np.int16), grid, grid)
        assert np.unique(key_images(volume, CENTRE, window_hu=window)[0].pixels).tolist() == [grey]


def test_a_ring_is_the_cut_through_the_sphere() -> None:
    """10 mm wide and 3 mm beside a thin slice: a circle of 4 mm radius, and the gap; 6 mm beside: none."""
    image = key_images(block(spacing=(0.2, 2.0, 2.0)), CENTRE, edge_mm=30.0)[0]
    x, y, z = CENTRE[0], CENTRE[1], image.slice_xyz_mm
    off = [Ring(position_xyz_mm=(x, y, z + away), diameter_mm=10.0, colour=RED) for away in (3.1, 6.0)]
    assert image.radius_px(off[0]) == pytest.approx((4 + RING_GAP_MM) / image.pixel_mm)
    assert image.radius_px(off[1]) is None
    np.testing.assert_array_equal(image.drawn([off[1]]).pixels, image.drawn([]).pixels)


def test_the_middle_of_a_nodule_is_never_painted() -> None:
    """Within the nodule's radius every pixel is as it was cut, also where the size is not known."""
    for diameter_mm in (3.0, 12.0, -1.0):
        image = key_images(block((CENTRE, max(diameter_mm, 4.0) / 2, 60)), CENTRE)[0]
        drawn = image.drawn([Ring(position_xyz_mm=CENTRE, diameter_mm=diameter_mm, colour=RED)]).pixels
        rows, columns = np.indices(image.pixels.shape) - (len(image.pixels) - 1) / 2
        inside = np.hypot(rows, columns) * image.pixel_mm <= (diameter_mm if diameter_mm > 0 else 8.0) / 2
        assert (drawn[inside] == image.pixels[inside][:, None]).all()
        assert (drawn[..., 0] != drawn[..., 1]).any()
