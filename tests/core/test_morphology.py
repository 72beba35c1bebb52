"""Growing, closing and filling, against scipy's distance transform and hand-drawn cases."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from napari_alnct.core.morphology import bounding_box, close_ball, dilate_ball, fill_cavities


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (2.5, 0.7, 0.9), (0.5, 3.0, 1.0)], ids=str)
@pytest.mark.parametrize("radius_mm", [0.0, 1.0, 3.2, 7.5])
def test_dilation_is_the_distance_transform_cut_at_the_radius(spacing, radius_mm):
    """A voxel belongs to the dilation if its distance to the mask is at most the radius."""
    mask = np.random.default_rng(3).random((9, 14, 17)) > 0.995
    mask[4, 7, 8] = True
    expected = ndimage.distance_transform_edt(~mask, sampling=spacing) <= radius_mm + 1e-9
    np.testing.assert_array_equal(dilate_ball(mask, radius_mm, spacing), expected)


def test_closing_fills_a_narrow_gap_and_leaves_a_wide_one():
    """Two blocks 4 mm apart become one with a 3 mm ball; 12 mm apart they stay two."""
    for gap, is_joined in ((4, True), (12, False)):
        mask = np.zeros((20, 20, 40), dtype=bool)
        mask[5:15, 5:15, 5:10] = True
        mask[5:15, 5:15, 10 + gap : 15 + gap] = True
        closed = close_ball(mask, 3.0, (1.0, 1.0, 1.0))
        assert closed[10, 10, 10 + gap // 2] == is_joined
        assert not (mask & ~closed).any()


def test_closing_does_not_grow_at_the_faces_of_the_array():
    """A mask that touches the faces of its array keeps its outline there."""
    mask = np.zeros((12, 12, 12), dtype=bool)
    mask[:, 4:8, :] = True
    np.testing.assert_array_equal(close_ball(mask, 3.0, (1.0, 1.0, 1.0)), mask)


def test_cavities_are_filled_and_open_bays_are_not():
    """An enclosed hole is filled; a hole with a way out, or one at the face, stays."""
    mask = np.zeros((7, 7, 7), dtype=bool)
    mask[1:6, 1:6, 1:6] = True
    mask[3, 3, 3] = False
    assert fill_cavities(mask)[3, 3, 3]
    mask[3, 3, 4:6] = False
    np.testing.assert_array_equal(fill_cavities(mask), mask)


def test_bounding_box_is_half_open():
    """The box starts at the first and stops after the last voxel."""
    mask = np.zeros((5, 6, 7), dtype=bool)
    mask[1, 2, 3] = mask[3, 2, 6] = True
    assert bounding_box(mask) == ((1, 2, 3), (4, 3, 7))
