"""Training patches: repeatable, and targets that move with the image."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from napari_alnct.core.targets import POSITIVE
from napari_alnct.training.cases import TrainingCase
from napari_alnct.training.crops import NO_MARKS, CropSettings, MinedMarks, _thick_slices, draw_patch, sharpen
from napari_alnct.training.nodule_cutting import cut_donors

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


def test_a_scan_without_places_gives_its_middle(case: TrainingCase) -> None:
    """No aerated lung, no vessel, no pleura, no nodule: a patch is drawn all the same, and controls are left out."""
    empty = {sort: spots[:0] for sort, spots in case.spots.items()}
    bare = replace(case, spots=empty, centres_zyx_vox=np.zeros((0, 3)), diameters_mm=np.zeros(0))
    donor = cut_donors(case, ceiling_hu=400.0)[0]
    settings = CropSettings(edge_vox=32, control_share=1.0, insertion_share=1.0)
    patch = draw_patch([bare], [donor], settings, seed=1, number=0)
    assert patch.hu.shape == (32, 32, 32)
    assert not (patch.targets.state == POSITIVE).any()


def test_a_sort_of_place_that_is_missing_is_not_drawn(case: TrainingCase) -> None:
    """With pleura alone every patch lies at the pleura."""
    only = replace(case, spots={sort: s if sort == "pleura" else s[:0] for sort, s in case.spots.items()})
    for number in range(8):
        assert draw_patch([only], [], CropSettings(edge_vox=32, real_nodule_share=0.0), 1, number).hu.shape[0] == 32


def test_nodules_of_all_scans_are_drawn_alike(case: TrainingCase) -> None:
    """One scan with two nodules among nine without: with share 1 every patch shows one of the two."""
    bare = replace(case, centres_zyx_vox=np.zeros((0, 3)), diameters_mm=np.zeros(0), hu=np.full_like(case.hu, -850))
    settings = CropSettings(edge_vox=32, nodule_share=1.0, imitation_share=0.0)
    cases = [*[bare] * 9, case]
    for number in range(12):
        assert (draw_patch(cases, [], settings, 4, number).targets.state == POSITIVE).any()


def test_mined_marks_get_their_share(case: TrainingCase) -> None:
    """Share .4 of patches holds the one false mark, which lies where no other patch can reach; none without marks."""
    hu = np.full_like(case.hu, -850)
    hu[86:89, 96:99, 106:109] = 3000
    nowhere = {sort: np.array([[20, 20, 20]], np.int16) for sort in case.spots}
    host = replace(case, hu=hu, spots=nowhere, centres_zyx_vox=np.zeros((0, 3)), diameters_mm=np.zeros(0))
    marks = MinedMarks(np.array([0]), np.array([[87, 97, 107]], np.int16), np.zeros(1))
    settings = CropSettings(edge_vox=32, mined_share=0.4, high_hu=3000.0, imitation_share=0.0)

    def share(mined: MinedMarks) -> float:
        drawn = (draw_patch([host], [], settings, 5, number, mined) for number in range(150))
        return float(np.mean([patch.hu.max() > 700 for patch in drawn]))

    assert share(marks) == pytest.approx(0.4, abs=0.1)
    assert share(NO_MARKS) == 0.0


def test_sharpening_raises_small_things_and_leaves_means_and_targets(case: TrainingCase) -> None:
    """A blurred ball gains contrast, plain tissue keeps its level, and no target moves."""
    z, y, x = np.ogrid[:32, :32, :32]
    ball = (-850 + 800 * np.exp(-((z - 16) ** 2 + (y - 16) ** 2 + (x - 16) ** 2) / 8)).astype(np.float32)
    sharper = sharpen(ball, np.random.default_rng(0))
    assert sharper[16, 16, 16] > ball[16, 16, 16] + 50
    assert sharper[:4].mean() == pytest.approx(-850, abs=1)
    plain = draw_patch([case], [], SETTINGS, seed=1, number=3)
    changed = draw_patch([case], [], replace(SETTINGS, sharpen_share=1.0), seed=1, number=3)
    assert np.array_equal(plain.targets.state, changed.targets.state)
    assert not np.array_equal(plain.hu, changed.hu)
