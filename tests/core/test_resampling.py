"""The resampler: exact on linear images, equal to SimpleITK, true grids."""

from __future__ import annotations

import numpy as np
import pytest

from napari_alnct.core.errors import GeometryError
from napari_alnct.core.geometry import Geometry
from napari_alnct.core.resampling import axis_indices, coarsen, resample_linear

from .chest import world_grid

SOURCE = Geometry(shape_zyx=(13, 30, 27), spacing_zyx_mm=(2.5, 0.7, 0.8), origin_xyz_mm=(-31.7, 12.25, -203.1))
SLOPE_XYZ = np.array([3.0, -2.0, 5.0])


def linear_image(geometry: Geometry) -> np.ndarray:
    """Give 3x - 2y + 5z of the world position, as float32."""
    return (world_grid(geometry) @ SLOPE_XYZ).astype(np.float32)


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.3, 0.31, 0.29), (4.0, 1.7, 1.9)], ids=str)
def test_a_linear_image_is_reproduced_where_the_grids_overlap(spacing):
    """Linear interpolation with exact positions is exact for an image that is linear in world x, y, z."""
    target = SOURCE.resampled(spacing)
    inside = np.ones(target.shape_zyx, dtype=bool)
    for axis, (index, n) in enumerate(zip(axis_indices(SOURCE, target), SOURCE.shape_zyx, strict=True)):
        shape = [-1 if k == axis else 1 for k in range(3)]
        inside &= ((index >= 0) & (index <= n - 1)).reshape(shape)
    result = resample_linear(linear_image(SOURCE), SOURCE, target, dtype=np.float32)
    expected = linear_image(target)
    assert inside.mean() > 0.5
    assert np.abs(result - expected)[inside].max() <= 1e-6 * np.abs(expected).max() + 1e-3


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.6, 0.7, 0.7), (3.1, 1.2, 0.5)], ids=str)
def test_result_equals_simpleitk(spacing):
    """Inside the scan, values are those of SimpleITK's linear resampling of the same clipped image."""
    sitk = pytest.importorskip("SimpleITK")
    hu = np.random.default_rng(0).integers(-3024, 3000, SOURCE.shape_zyx).astype(np.int16)
    target = SOURCE.crop((2, 3, 4), (11, 25, 22)).resampled(spacing)
    image = sitk.GetImageFromArray(np.clip(hu, -1200, 600).astype(np.float32))
    image.SetSpacing(SOURCE.spacing_zyx_mm[::-1])
    image.SetOrigin(SOURCE.origin_xyz_mm)
    oracle = sitk.Resample(
        image,
        target.shape_zyx[::-1],
        sitk.Transform(),
        sitk.sitkLinear,
        target.origin_xyz_mm,
        target.spacing_zyx_mm[::-1],
        target.direction,
        -9999.0,
    )
    expected = sitk.GetArrayFromImage(oracle)
    assert expected.min() > -9999
    result = resample_linear(hu, SOURCE, target, window=(-1200, 600), dtype=np.float32)
    np.testing.assert_allclose(result, expected, atol=2e-2)
    rounded = resample_linear(hu, SOURCE, target, window=(-1200, 600))
    assert rounded.dtype == np.int16
    np.testing.assert_allclose(rounded, expected, atol=0.53)


def test_outside_the_source_the_edge_goes_on():
    """A target larger than the source repeats the edge voxels; nothing becomes 0 or air."""
    hu = np.arange(24, dtype=np.int16).reshape(2, 3, 4) - 500
    grid = Geometry(shape_zyx=(2, 3, 4), spacing_zyx_mm=(1.0, 1.0, 1.0))
    result = resample_linear(hu, grid, grid.crop((-2, -2, -2), (4, 5, 6)))
    np.testing.assert_array_equal(result, np.pad(hu, 2, mode="edge"))


def test_a_target_that_misses_the_source_takes_the_nearest_corner():
    """A grid far away gives the value of the nearest corner voxel, without error."""
    hu = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    grid = Geometry(shape_zyx=(2, 3, 4), spacing_zyx_mm=(1.0, 1.0, 1.0))
    assert set(resample_linear(hu, grid, grid.crop((50, 50, 50), (52, 52, 52))).ravel()) == {23}


def test_padding_is_clipped_before_it_can_bleed():
    """Between padding at -3024 HU and soft tissue the window's floor is interpolated, not the padding."""
    grid = Geometry(shape_zyx=(1, 1, 2), spacing_zyx_mm=(1.0, 1.0, 1.0))
    hu = np.array([[[-3024, 0]]], dtype=np.int16)
    middle = resample_linear(hu, grid, grid.resampled((1.0, 1.0, 0.5)), window=(-1000.0, 600.0), dtype=np.float32)
    np.testing.assert_allclose(middle.ravel(), [-1000, -750, -250, 0])


def test_grids_that_are_not_lps_or_do_not_fit_are_refused():
    """A flipped grid, or an array of another shape, is an error and not a shifted image."""
    flipped = Geometry(shape_zyx=(2, 2, 2), spacing_zyx_mm=(1.0, 1.0, 1.0), direction=(-1, 0, 0, 0, -1, 0, 0, 0, 1))
    straight = Geometry(shape_zyx=(2, 2, 2), spacing_zyx_mm=(1.0, 1.0, 1.0))
    hu = np.zeros((2, 2, 2), dtype=np.int16)
    with pytest.raises(GeometryError, match="LPS"):
        resample_linear(hu, flipped, straight)
    with pytest.raises(GeometryError, match="LPS"):
        resample_linear(hu, straight, flipped)
    with pytest.raises(GeometryError, match="shape"):
        resample_linear(hu[:1], straight, straight)


def test_the_coarse_grid_is_true():
    """Block means of a linear image are the image at the coarse grid's voxel centres."""
    hu = np.rint(linear_image(SOURCE)).astype(np.int16)
    coarse, grid = coarsen(hu, SOURCE, 2.0, window=(-5000, 5000))
    assert grid.spacing_zyx_mm == pytest.approx((2.5, 2.1, 1.6))
    np.testing.assert_allclose(coarse, linear_image(grid), atol=0.51)


def test_coarsening_clips_and_takes_a_grid_that_is_already_coarse():
    """Coarse grids stay as they are, and values are clipped to the window."""
    grid = Geometry(shape_zyx=(3, 4, 5), spacing_zyx_mm=(5.0, 3.0, 3.0))
    coarse, same = coarsen(np.full((3, 4, 5), -3024, dtype=np.int16), grid, 2.0, window=(-1024, 400))
    assert same == grid
    assert set(coarse.ravel()) == {-1024.0}
