"""The second look: cubes around marks, and the mirrored look at the strongest."""

from __future__ import annotations

import numpy as np
import pytest
from torch import Tensor

from napari_alnct.core.config import PrepareSettings
from napari_alnct.core.second_look import BATCH, cut_cube, second_look_logits

PREPARE = PrepareSettings()
EDGE = 8


class LeftMinusRight:
    """Stands in for a runner: the answer is the mean of the cube plus how much brighter its first half along x is."""

    def __init__(self) -> None:
        self.n_cubes = 0

    def run(self, x: Tensor, pulse: object = None) -> Tensor:
        self.n_cubes += len(x)
        half = x.shape[-1] // 2
        return x.mean(dim=(1, 2, 3, 4)) + 10 * (
            x[..., :half].mean(dim=(1, 2, 3, 4)) - x[..., half:].mean(dim=(1, 2, 3, 4))
        )


@pytest.fixture
def hu() -> np.ndarray:
    return np.random.default_rng(4).integers(-1000, 400, (24, 24, 24)).astype(np.int16)


def centres(n: int) -> np.ndarray:
    return np.random.default_rng(5).integers(6, 18, (n, 3))


def logits(hu: np.ndarray, n: int, n_mirrored: int, steps: list[float] | None = None) -> tuple[np.ndarray, int]:
    runner = LeftMinusRight()
    found = second_look_logits(
        runner,  # type: ignore[arg-type]
        hu,
        centres(n),
        EDGE,
        PREPARE,
        n_mirrored=n_mirrored,
        step=None if steps is None else steps.append,
    )
    return found, runner.n_cubes


def test_cut_cube_centres_and_pads() -> None:
    """Voxel edge // 2 of the cube is the centre; outside is the fill value."""
    hu = np.arange(1000, dtype=np.int16).reshape(10, 10, 10)
    cube = cut_cube(hu, np.array([0, 5, 9]), 4, -1000.0)
    assert cube[2, 2, 2] == hu[0, 5, 9]
    assert (cube[:2] == -1000).all()
    assert (cube[:, :, 3] == -1000).all()


def test_only_the_strongest_are_looked_at_again(hu: np.ndarray) -> None:
    """With 5 of 40 mirrored, the five highest logits change, the others stay, and 45 cubes are seen."""
    plain, _ = logits(hu, 40, 0)
    found, n_cubes = logits(hu, 40, 5)
    strongest = np.argsort(-plain)[:5]
    others = np.setdiff1d(np.arange(40), strongest)
    assert n_cubes == 45
    np.testing.assert_array_equal(found[others], plain[others])
    assert (np.abs(found[strongest] - plain[strongest]) > 1e-3).all()


def test_the_mean_of_both_looks_knows_no_left_and_right(hu: np.ndarray) -> None:
    """What tells left from right cancels: the mean is the part of the answer that a mirror leaves alone."""
    found, _ = logits(hu, 7, 100)
    cubes = np.stack([cut_cube(hu, centre, EDGE, PREPARE.low_hu) for centre in centres(7)]).astype(np.float64)
    scaled = (np.clip(cubes, PREPARE.low_hu, PREPARE.high_hu) - PREPARE.low_hu) / (PREPARE.high_hu - PREPARE.low_hu)
    mean = scaled.mean(axis=(1, 2, 3))
    slope = np.polyfit(mean, found, 1)  # whatever the scale of the network's input is, it is linear
    np.testing.assert_allclose(np.polyval(slope, mean), found, atol=1e-4)


def test_progress_runs_evenly_over_both_looks(hu: np.ndarray) -> None:
    """Told before every batch: shares of all cubes, rising, from 0 to below 1."""
    steps: list[float] = []
    logits(hu, 2 * BATCH, BATCH, steps)
    assert steps == pytest.approx([0.0, 1 / 3, 2 / 3])


def test_no_marks_no_looks(hu: np.ndarray) -> None:
    """Without marks nothing is run."""
    found, n_cubes = logits(hu, 0, 40)
    assert (len(found), n_cubes) == (0, 0)
