"""Targets of the detector and its loss."""

from __future__ import annotations

import numpy as np
import torch

from napari_alnct.core.targets import IGNORED, N_POSITIVE_CELLS, POSITIVE, assign_cells, detection_loss

NONE = np.zeros((0, 3)), np.zeros(0)


def test_the_nearest_cells_are_positive_and_point_at_the_centre() -> None:
    """Cell centre plus offset is the nodule centre, for each of the five positive cells."""
    centre, diameter = np.array([[17.0, 30.0, 21.3]]), np.array([8.0])
    targets = assign_cells((12, 12, 12), centre, diameter, *NONE)
    cells = np.argwhere(targets.state == POSITIVE)
    assert len(cells) == N_POSITIVE_CELLS
    for z, y, x in cells:
        pointed = np.array([z, y, x]) * 4 + 1.5 + targets.regression[:3, z, y, x] * 4
        np.testing.assert_allclose(pointed, centre[0], atol=1e-5)
        np.testing.assert_allclose(np.exp(targets.regression[3, z, y, x]) * 6.4, 8.0, rtol=1e-6)


def test_a_shell_around_a_nodule_is_ignored_and_far_cells_are_negative() -> None:
    """Cells within the radius are never negative; most of the grid is."""
    targets = assign_cells((12, 12, 12), np.array([[24.0, 24.0, 24.0]]), np.array([20.0]), *NONE)
    axis = np.arange(12) * 4 + 1.5
    distance = np.sqrt(sum((g - 24.0) ** 2 for g in np.meshgrid(axis, axis, axis, indexing="ij")))
    assert (targets.state[distance < 10] != 0).all()
    assert (targets.state[distance > 16] == 0).all()


def test_excluded_findings_are_ignored() -> None:
    """No cell inside an excluded finding is negative, and none is positive."""
    targets = assign_cells((8, 8, 8), *NONE, np.array([[16.0, 16.0, 16.0]]), np.array([9.0]))
    assert (targets.state == IGNORED).sum() > 20
    assert not (targets.state == POSITIVE).any()


def test_two_close_nodules_both_keep_positive_cells() -> None:
    """The ignored shell of one does not swallow the centre of the other."""
    centres = np.array([[20.0, 20.0, 18.0], [20.0, 20.0, 27.0]])
    targets = assign_cells((12, 12, 12), centres, np.array([6.0, 6.0]), *NONE)
    assert (targets.state == POSITIVE).sum() >= 2 * N_POSITIVE_CELLS - 2
    for centre in centres:
        cell = tuple(np.rint((centre - 1.5) / 4).astype(int))
        assert targets.state[cell] == POSITIVE


def test_the_loss_falls_towards_the_right_answer_and_ignores_the_ignored() -> None:
    """A perfect output has a tiny loss; changing ignored cells changes nothing."""
    targets = assign_cells((8, 8, 8), np.array([[15.0, 15.0, 15.0]]), np.array([7.0]), *NONE)
    state, regression = torch.from_numpy(targets.state)[None], torch.from_numpy(targets.regression)[None]
    right = torch.cat([(state[:, None] == POSITIVE) * 24.0 - 12.0, regression], dim=1)
    wrong = torch.cat([-right[:, :1], regression + 1], dim=1)
    assert detection_loss(right, state, regression)["total"] < 1e-3
    assert detection_loss(wrong, state, regression)["total"] > 10
    moved = right.clone()
    moved[:, 0][state == IGNORED] = 9.0
    torch.testing.assert_close(
        detection_loss(moved, state, regression)["total"], detection_loss(right, state, regression)["total"]
    )
