"""What a lung mask answers: boxes, distances, other grids, plausibility."""

from __future__ import annotations

import numpy as np
import pytest

from napari_alnct.core.errors import LungsNotFoundError
from napari_alnct.core.geometry import Geometry
from napari_alnct.core.lung_mask import LungMask

GRID = Geometry(shape_zyx=(20, 30, 40), spacing_zyx_mm=(3.0, 2.0, 2.0), origin_xyz_mm=(-10.0, 5.0, -100.0))


def block() -> LungMask:
    """Give a mask of one block: voxels 5-9, 10-14, 20-24, so x 29..39, y 24..34, z -86.5..-71.5 mm."""
    mask = np.zeros(GRID.shape_zyx, dtype=bool)
    mask[5:10, 10:15, 20:25] = True
    return LungMask(mask, GRID)


def test_box_is_the_lungs_plus_margin_in_another_grid():
    """By hand: 1 mm grid at (-10, 5, -100); x 29-6=23 mm is index 33 - 0.5, and so on."""
    fine = Geometry(shape_zyx=(60, 60, 80), spacing_zyx_mm=(1.0, 1.0, 1.0), origin_xyz_mm=(-9.5, 4.5, -99.5))
    start, stop = block().box_zyx(fine, 6.0)
    # outer edges of voxel i are origin + i - 0.5 and origin + i + 0.5
    assert start == (
        7,
        14,
        33,
    )  # z: -92.5 lies in voxel 7 (-93..-92); y: 18 = lower edge of 14; x: 23 = lower edge of 33
    assert stop == (35, 36, 55)  # z: -65.5 lies in voxel 34; y: 40 = upper edge of 35; x: 45 = upper edge of 54


def test_box_is_clipped_to_the_grid():
    """A margin larger than the scan gives the whole scan."""
    assert block().box_zyx(GRID, 500.0) == ((0, 0, 0), GRID.shape_zyx)


def test_box_outside_the_grid_is_an_error():
    """A mask of another patient's position is refused."""
    far = Geometry(shape_zyx=(5, 5, 5), spacing_zyx_mm=(1.0, 1.0, 1.0), origin_xyz_mm=(500.0, 0.0, 0.0))
    with pytest.raises(LungsNotFoundError, match="same patient"):
        block().box_zyx(far, 10.0)


@pytest.mark.parametrize(
    ("point", "expected_mm"),
    [
        ((34.0, 29.0, -79.0), 0.0),  # the middle
        ((38.9, 29.0, -79.0), 0.0),  # just inside the surface
        ((42.0, 29.0, -79.0), 3.0),  # beside, x
        ((34.0, 29.0, -61.5), 10.0),  # above, z
        ((42.0, 38.0, -79.0), 5.0),  # 3 mm and 4 mm beside
        ((1039.0, 29.0, -79.0), 1000.0),  # far outside the grid
    ],
    ids=["middle", "edge", "x", "z", "corner", "far"],
)
def test_distance_is_to_the_surface_of_the_lungs(point, expected_mm):
    """Distances to a block, by hand; 0 inside."""
    assert block().distance_mm([point]) == pytest.approx([expected_mm], abs=1e-6)


def test_distance_of_no_points_is_empty():
    """No candidates, no distances."""
    assert block().distance_mm(np.empty((0, 3))).shape == (0,)


def test_on_its_own_grid_the_mask_is_unchanged():
    """Resampling onto the same grid is the identity."""
    np.testing.assert_array_equal(block().on_grid(GRID), block().mask)


def test_on_a_finer_grid_the_volume_stays():
    """On a 1 mm grid the block has its volume within the rounding of corners and edges, and no voxel strays."""
    fine = Geometry(shape_zyx=(60, 60, 80), spacing_zyx_mm=(1.0, 1.0, 1.0), origin_xyz_mm=(-9.5, 4.5, -99.5))
    on = block().on_grid(fine)
    assert np.count_nonzero(on) == pytest.approx(block().volume_ml * 1000, rel=0.15)
    centres = fine.index_to_world(np.argwhere(on))
    assert (block().distance_mm(centres) <= 0.01).all()


def test_volume_in_ml():
    """125 voxels of 12 mm3 are 1.5 ml."""
    assert block().volume_ml == pytest.approx(1.5)


def test_an_empty_mask_is_refused():
    """There is no box around nothing."""
    with pytest.raises(LungsNotFoundError, match="empty"):
        LungMask(np.zeros((2, 2, 2), dtype=bool), Geometry(shape_zyx=(2, 2, 2), spacing_zyx_mm=(1.0, 1.0, 1.0)))


def two_blocks(voxel_mm: float) -> LungMask:
    """Give two blocks of 6 x 8 x 10 voxels (x, y, z), 2 apart."""
    mask = np.zeros((12, 10, 16), dtype=bool)
    mask[1:11, 1:9, 1:7] = mask[1:11, 1:9, 9:15] = True
    return LungMask(mask, Geometry(shape_zyx=mask.shape, spacing_zyx_mm=(voxel_mm,) * 3))


@pytest.mark.parametrize(
    ("voxel_mm", "codes"),
    [(10.0, ["small_lungs"]), (18.0, []), (25.0, ["large_lungs"])],
    ids=["0.96 l", "5.6 l", "15 l"],
)
def test_plausible_lungs_hold_1_to_12_litres(voxel_mm, codes):
    """960 voxels: 0.96, 5.6 and 15 litres."""
    lungs = two_blocks(voxel_mm)
    assert [flag.code for flag in lungs.flags] == codes
    assert lungs.is_plausible == (not codes)
