"""Merging of candidates that mean the same nodule."""

from __future__ import annotations

import numpy as np

from napari_alnct.core.boxes import merge_close


def test_a_weaker_candidate_inside_a_stronger_one_goes() -> None:
    """Radius 10 clears what is 12 mm away, its rim, not what is 13 mm away; the small one clears 4 mm at least."""
    positions = np.array([[0.0, 0, 0], [12, 0, 0], [13, 0, 0], [40, 0, 0], [43.9, 0, 0], [44.1, 0, 0]])
    scores = np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4])
    diameters = np.array([20.0, 2, 2, 2, 2, 2])
    assert merge_close(positions, scores, diameters).tolist() == [0, 2, 3, 5]


def test_the_result_is_sorted_and_no_two_are_close() -> None:
    """For random candidates: falling scores, no kept one inside a stronger kept one or on its rim."""
    rng = np.random.default_rng(1)
    positions, scores, diameters = rng.uniform(0, 60, (300, 3)), rng.random(300), rng.uniform(3, 30, 300)
    kept = merge_close(positions, scores, diameters)
    assert (np.diff(scores[kept]) <= 0).all()
    for rank, i in enumerate(kept):
        stronger = kept[:rank]
        gap = np.linalg.norm(positions[stronger] - positions[i], axis=1)
        assert (gap >= np.maximum(1.25 * diameters[stronger] / 2, 4.0)).all()


def test_nothing_in_nothing_out() -> None:
    """An empty scan is not an error."""
    assert len(merge_close(np.zeros((0, 3)), np.zeros(0), np.zeros(0))) == 0
