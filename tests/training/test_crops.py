"""Training patches: repeatable, and targets that move with the image."""

from __future__ import annotations

import numpy as np
import pytest

from napari_alnct.core.targets import POSITIVE
from napari_alnct.training.cases import TrainingCase
from napari_alnct.training.crops import CropSettings, _thick_slices, draw_patch

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
    settings = CropSettings(edge_vox=32, real_nodule_share=1.0, imitation_share=0.0)
    for number in range(30):
        patch = draw_patch([case], [], settings, seed=2, number=number)
        bright = patch.hu > -300
        for z, y, x in np.argwhere(patch.targets.state == 0):
            cube = bright[z * 4 : z * 4 + 4, y * 4 : y * 4 + 4, x * 4 : x * 4 + 4]
            assert cube.mean() < 0.9


def test_imitations_change_voxels_but_not_targets(case: TrainingCase) -> None:
    """The same patch with and without painted findings has the same targets and, as a rule, other voxels."""
    changed = 0
    for number in range(6):
        painted, plain = (
            draw_patch([case], [], CropSettings(edge_vox=64, imitation_share=share), seed=3, number=number)
            for share in (1.0, 0.0)
        )
        np.testing.assert_array_equal(painted.targets.state, plain.targets.state)
        np.testing.assert_array_equal(painted.targets.regression, plain.targets.regression)
        changed += float(np.abs(painted.hu - plain.hu).max()) > 50
    assert changed >= 4


@pytest.mark.parametrize(("step", "phase"), [(2, 0), (2, 1), (3, 2)])
def test_thick_slices_are_means_and_keep_their_place(step: int, phase: int) -> None:
    """A slope along z stays where it is; a thin sheet loses its height to its neighbours."""
    slope = np.broadcast_to(np.arange(40, dtype=np.float32)[:, None, None], (40, 3, 3))
    thick = _thick_slices(slope, step, phase)
    np.testing.assert_allclose(thick[4:-4], slope[4:-4], atol=0.51)
    sheet = np.zeros((40, 3, 3), np.float32)
    sheet[20] = 100
    assert _thick_slices(sheet, step, phase).max() <= 100 / step + 1e-4
