"""Curves of runs that go on or begin again: TensorBoard shows every step once."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from napari_alnct.training.build_run import curves_of
from napari_alnct.training.run_folder import CURVES
from napari_alnct.training.training_log import TensorBoardLog


def steps_shown(folder: Path) -> list[tuple[int, float]]:
    """Give (step, value) of the curve as TensorBoard reads them."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    curves = EventAccumulator(str(folder))
    curves.Reload()
    return [(event.step, event.value) for event in curves.Scalars("x")]


def test_a_run_that_begins_again_at_step_0_shows_nothing_of_the_killed_one(tmp_path: Path) -> None:
    """The killed run came further than the new one; its points are gone all the same."""
    with TensorBoardLog(tmp_path) as log:
        for step in (0, 5, 10):
            log.add(step, {"x": 1.0})
    with TensorBoardLog(tmp_path) as log:
        log.add(5, {"x": 2.0})
    assert steps_shown(tmp_path) == [(5, 2.0)]


@pytest.mark.parametrize(("step", "shown"), [(5, [(5, 1.0), (15, 2.0)]), (0, [(15, 2.0)])])
def test_the_point_at_the_resume_point_stays(tmp_path: Path, step: int, shown: list[tuple[int, float]]) -> None:
    """A validation at the step of the resume point is not done again, so its point must not go."""
    trainer = cast("Any", SimpleNamespace(folder=tmp_path, step=0))
    with curves_of(trainer) as log:
        for before in (5, 10):
            log.add(before, {"x": 1.0})
    trainer.step = step
    with curves_of(trainer) as log:
        log.add(15, {"x": 2.0})
    assert steps_shown(tmp_path / CURVES) == shown
