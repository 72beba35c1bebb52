"""Training patches: repeatable, and targets that move with the image."""

from __future__ import annotations

import numpy as np
import pytest

from napari_alnct.core.targets import POSITIVE
from napari_alnct.training.cases import TrainingCase
from napari_alnct.training.crops import CropSettings, draw_patch

SETTINGS = CropSettings(edge_vox=64, real_nodule_share=1.0)


@pytest.mark.parametrize("number", range(12))
def test_every_positive_cell_points_at_a_bright_ball(case: TrainingCase, number: int) -> None:
    """After flips, swaps and padding: cell centre + offset lies in the middle of a ball of the image."""
    patch = draw_patch([case], [], SETTINGS, seed=1, number=number)
    cells = np.argwhere(patch.targets.state == POSITIVE)
    for z, y, x in cells:
        place = np.array([z, y, x]) * 4 + 1.5 + patch.targets.regression[:3, z, y, x] * 4
        near = tuple(np.clip(np.rint(place).astype(int), 1, 62))
        around = patch.hu[near[0] - 1 : near[0] + 2, near[1] - 1 : near[1] + 2, near[2] - 1 : near[2] + 2]
        assert around.mean() > -200


def test_a_patch_depends_on_seed_and_number_alone(case: TrainingCase) -> None:
    """The same number twice is bit-identical; another number is another patch."""
    first, again, other = (draw_patch([case], [], SETTINGS, seed=1, number=n) for n in (5, 5, 6))
    np.testing.assert_array_equal(first.hu, again.hu)
    np.testing.assert_array_equal(first.targets.regression, again.targets.regression)
    assert not np.array_equal(first.hu, other.hu)


def test_a_nodule_outside_the_patch_is_no_negative(case: TrainingCase) -> None:
    """Cells beside a nodule whose centre lies just outside are ignored, over many patches."""
    for number in range(30):
        patch = draw_patch([case], [], CropSettings(edge_vox=32, real_nodule_share=1.0), seed=2, number=number)
        bright = patch.hu > -300
        for z, y, x in np.argwhere(patch.targets.state == 0):
            cube = bright[z * 4 : z * 4 + 4, y * 4 : y * 4 + 4, x * 4 : x * 4 + 4]
            assert cube.mean() < 0.9
