"""Prepared scans: true grids, HU window, positions there and back."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from napari_alnct.core.config import PrepareSettings
from napari_alnct.core.errors import GeometryError, LungsNotFoundError
from napari_alnct.core.geometry import Geometry
from napari_alnct.core.lungs import LungMask, segment_lungs
from napari_alnct.core.preprocess import PreparedScan, lung_box_geometry, prepare, resample
from napari_alnct.core.volume import Volume

from .chest import chest, chest_geometry, chest_hu, world_axes, world_grid

PERMUTATIONS = [
    tuple(float(v) for v in (np.eye(3)[list(order)] * np.array(signs)[:, None]).ravel())
    for order in itertools.permutations(range(3))
    for signs in itertools.product((1, -1), repeat=3)
]
BLOBS_XYZ_MM = [(-60.0, 20.0, 33.0), (70.0, -31.0, -40.0), (58.3, 44.1, 12.2)]


def block_lungs(geometry: Geometry) -> LungMask:
    """Give a mask of the middle half of a grid, as lungs."""
    mask = np.zeros(geometry.shape_zyx, dtype=bool)
    mask[tuple(slice(n // 4, n - n // 4) for n in geometry.shape_zyx)] = True
    return LungMask(mask, geometry)


@pytest.mark.parametrize("direction", PERMUTATIONS, ids=lambda d: "".join(f"{int(v):+d}"[0] if v else "0" for v in d))
def test_positions_are_the_same_millimetres_in_all_48_orientations(direction):
    """A linear image stored in any signed axis order is the same function of world mm after preparing.

    This fails for a grid that is off by any part of a voxel along any axis.
    """
    shape, spacing = (14, 16, 18), (2.5, 1.3, 0.8)
    source = Geometry(shape_zyx=shape, spacing_zyx_mm=spacing, origin_xyz_mm=(12.3, -45.6, 78.9), direction=direction)
    slope = np.array([4.0, -3.0, 2.0])
    centre = source.index_to_world((np.array(shape) - 1) / 2)
    hu = np.rint((world_grid(source) - centre) @ slope).astype(np.int16)
    volume = Volume.from_source(hu, source)
    prepared = prepare(volume, PrepareSettings(margin_mm=0.0), block_lungs(volume.geometry))
    expected = (world_grid(prepared.geometry) - centre) @ slope
    assert prepared.geometry.spacing_zyx_mm == (1.0, 1.0, 1.0)
    np.testing.assert_allclose(prepared.hu, expected, atol=1.01)  # two roundings to whole HU
    points = source.index_to_world(np.random.default_rng(1).uniform(0, 13, (20, 3)))
    np.testing.assert_allclose(prepared.to_world(prepared.to_index(points)), points, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("spacing", "direction"),
    [((3.0, 1.4, 1.4), (1, 0, 0, 0, 1, 0, 0, 0, 1)), ((2.0, 2.0, 1.5), (0, -1, 0, -1, 0, 0, 0, 0, 1))],
    ids=["anisotropic", "swapped_and_flipped"],
)
def test_blobs_lie_where_their_world_position_says(spacing, direction):
    """The centre of mass of a blurred ball in the prepared scan is its world centre within 0.1 mm."""
    grid = chest_geometry(spacing, direction)
    world, hu = world_axes(grid), chest_hu(grid).astype(float)
    for centre in BLOBS_XYZ_MM:
        distance_mm2 = sum((axis - middle) ** 2 for axis, middle in zip(world, centre, strict=True))
        hu += 900 * np.exp(-distance_mm2 / (2 * 4.0**2))
    prepared = prepare(Volume.from_source(hu, grid), PrepareSettings())
    for centre in BLOBS_XYZ_MM:
        z, y, x = np.rint(prepared.to_index(centre)).astype(int)
        box = tuple(slice(v - 12, v + 13) for v in (z, y, x))
        weight = prepared.hu[box] + 860.0
        offset = [(weight * axis).sum() / weight.sum() for axis in np.indices(weight.shape)]
        found = prepared.to_world(np.add(offset, [s.start for s in box]))
        np.testing.assert_allclose(found, centre, atol=0.1)


def test_window_margin_and_spacing_are_those_asked_for():
    """HU are clipped, spacing is exact, and the box is the lungs plus the margin."""
    volume = chest(balls=[((-60.0, 0.0, 0.0), 8.0, 3000)])
    settings = PrepareSettings(spacing_mm=1.3, low_hu=-900.0, high_hu=100.0, margin_mm=10.0)
    prepared = prepare(volume, settings)
    assert (prepared.hu.min(), prepared.hu.max()) == (-900, 100)
    assert prepared.geometry.spacing_zyx_mm == (1.3, 1.3, 1.3)
    low, high = prepared.geometry.corner_xyz_mm, prepared.to_world(np.array(prepared.geometry.shape_zyx) - 0.5)
    expected = np.array([45 + 65, 70, 90]) + 10.0
    np.testing.assert_allclose(low, -expected, atol=4.0)  # coarse lungs and whole voxels of the scan
    np.testing.assert_allclose(high, expected, atol=4.0)


def test_given_lungs_are_used_and_kept():
    """With a mask given, no other is computed, and the prepared scan carries it."""
    volume = chest()
    lungs = segment_lungs(volume)
    assert prepare(volume, lungs=lungs).lungs is lungs
    start, stop = lungs.box_zyx(volume.geometry, 16.0)
    expected = volume.geometry.crop(start, stop).resampled((1.0, 1.0, 1.0))
    assert lung_box_geometry(volume.geometry, lungs, PrepareSettings()) == expected


def test_resample_fills_any_grid():
    """On its own grid a scan inside the window is unchanged; float32 is given when asked for."""
    volume = chest()
    np.testing.assert_array_equal(resample(volume, volume.geometry, -1200, 600), volume.hu)
    assert resample(volume, volume.geometry, -1200, 600, dtype=np.float32).dtype == np.float32


def test_lungs_of_another_patient_are_refused():
    """A mask that does not overlap the scan is an error, not an empty crop."""
    volume = chest()
    elsewhere = Geometry(shape_zyx=(3, 3, 3), spacing_zyx_mm=(2.0, 2.0, 2.0), origin_xyz_mm=(900.0, 0.0, 0.0))
    with pytest.raises(LungsNotFoundError, match="same patient"):
        prepare(volume, lungs=LungMask(np.ones((3, 3, 3), dtype=bool), elsewhere))


def test_a_prepared_scan_holds_its_invariants():
    """Array and grid must fit."""
    volume = chest()
    with pytest.raises(GeometryError, match="does not fit"):
        PreparedScan(volume.hu[:2], volume.geometry, segment_lungs(volume))
