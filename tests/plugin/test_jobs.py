"""The long jobs without a window: progress, first marks, cancel, results in the world of the scan."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from napari_alnct.core.checkpoint import read_recipe
from napari_alnct.core.config import DetectionSettings, PrepareSettings
from napari_alnct.core.errors import JobCancelled, ModelError
from napari_alnct.core.lungs import segment_lungs
from napari_alnct.data.phantom import PhantomScan
from napari_alnct.models.catalogue import find_model
from napari_alnct.plugin import _jobs


@dataclass
class Recorder:
    """A reporter that writes everything down and cancels after a number of steps."""

    cancel_after: int | None = None
    stages: list[tuple[str, float]] = field(default_factory=list)
    partials: list[object] = field(default_factory=list)

    def progress(self, stage: str, fraction: float) -> None:
        self.stages.append((stage, fraction))

    def partial(self, value: object) -> None:
        self.partials.append(value)

    def is_cancelled(self) -> bool:
        return self.cancel_after is not None and len(self.stages) >= self.cancel_after


def test_preparation_gives_the_lungs_on_the_grid_of_the_scan(phantom: PhantomScan) -> None:
    """The mask fits the scan and covers 90 % of the true lungs; the resampled scan has the spacing asked for."""
    recorder = Recorder()
    done = _jobs.prepare_scan(recorder, phantom.volume, PrepareSettings(spacing_mm=2.0))
    assert done.lungs.shape == phantom.volume.hu.shape
    assert (done.lungs & phantom.lungs).sum() > 0.9 * phantom.lungs.sum()
    assert done.geometry.spacing_zyx_mm == (2.0, 2.0, 2.0)
    assert done.hu.shape == done.geometry.shape_zyx
    assert recorder.stages[-1][1] == 1.0


def test_preparation_stops_when_cancelled(phantom: PhantomScan) -> None:
    """Cancelled between two stages, no result comes back."""
    with pytest.raises(JobCancelled):
        _jobs.prepare_scan(Recorder(cancel_after=1), phantom.volume, PrepareSettings(spacing_mm=2.0))


def test_a_search_that_waits_for_another_can_be_cancelled(phantom: PhantomScan) -> None:
    """Two widgets search one after the other; Cancel ends the waiting one at once, before a model is loaded."""
    recorder = Recorder(cancel_after=3)
    with ThreadPoolExecutor(1) as pool, _jobs._ONE_AT_A_TIME:
        waiting = pool.submit(_jobs.detect_nodules, recorder, phantom.volume, "default", DetectionSettings())
        try:
            with pytest.raises(JobCancelled):
                waiting.result(timeout=5)
        finally:
            recorder.cancel_after = 0  # so that a failing test ends
    assert recorder.stages[-1] == ("Waiting for another search", 0.0)


def test_detection_finds_nodules_of_the_phantom(phantom: PhantomScan) -> None:
    """With the bundled model the largest nodule is among the marks; lungs and first marks come before the result."""
    recorder = Recorder()
    done = _jobs.detect_nodules(recorder, phantom.volume, "default", DetectionSettings(device="cpu"))
    nodule = max(phantom.nodules, key=lambda n: n.diameter_mm)
    centres = np.array([c.position_xyz_mm for c in done.result.candidates])
    assert np.linalg.norm(centres - nodule.position_xyz_mm, axis=1).min() < nodule.diameter_mm / 2
    lungs, first = recorder.partials
    in_lungs = segment_lungs(phantom.volume).on_grid(phantom.volume.geometry).any(axis=(1, 2))
    assert isinstance(lungs, _jobs.FoundLungs)
    assert abs(lungs.slices.start - np.flatnonzero(in_lungs)[0]) <= 1
    assert abs(lungs.slices.stop - 1 - np.flatnonzero(in_lungs)[-1]) <= 1
    assert isinstance(first, _jobs.FirstMarks)
    recipe = read_recipe(find_model().path)
    assert first.threshold == recipe.default_threshold(second_look=False)
    assert done.result.threshold == recipe.default_threshold()
    assert (done.operating_points, done.sensitivities) == _jobs.expectations(recipe, True)
    fractions = [fraction for _, fraction in recorder.stages]
    assert fractions == sorted(fractions)
    assert done.result.device.startswith("cpu")


@pytest.mark.parametrize(("has_second_look", "name"), [(True, "all"), (False, "first stage alone")])
def test_expectations_are_those_of_the_stage_that_scores(has_second_look: bool, name: str) -> None:
    """Thresholds and sensitivities of the bundled model, number by number; each stage has its own scale."""
    recipe = read_recipe(find_model().path)
    points, shares = _jobs.expectations(recipe, has_second_look)
    stored = recipe.operating_points if has_second_look else recipe.first_stage_points
    assert points == {float(rate): threshold for rate, threshold in stored.items()}
    results = recipe.training["held_out_results"]
    wanted = results.get(name, results.get("leave-scans-out folds"))["sensitivity"]
    assert list(shares.values()) == wanted
    assert list(shares) == [0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0]


@pytest.mark.parametrize(
    "training", [{}, {"held_out_results": {"folds": {"cpm": 0.5}}}, {"held_out_results": {"all": {"sensitivity": [1]}}}]
)
def test_a_sensitivity_that_is_not_stored_is_not_invented(training: dict[str, object]) -> None:
    """A model without a record of its results, or with one that does not fit its table, promises nothing."""
    recipe = replace(read_recipe(find_model().path), training=training)
    points, shares = _jobs.expectations(recipe, True)
    assert len(points) == 7
    assert shares == {}


@pytest.mark.parametrize("steps", [1, 3, 6])
def test_detection_stops_within_a_step(phantom: PhantomScan, steps: int) -> None:
    """Cancelled after a number of steps, at most one more is reported, and no result comes back."""
    recorder = Recorder(cancel_after=steps)
    with pytest.raises(JobCancelled):
        _jobs.detect_nodules(recorder, phantom.volume, "default", DetectionSettings(device="cpu"))
    assert len(recorder.stages) <= steps + 1


def test_unknown_model_is_an_error_for_people(phantom: PhantomScan) -> None:
    """A model that does not exist is named, with what there is."""
    with pytest.raises(ModelError, match="no-such-model"):
        _jobs.detect_nodules(Recorder(), phantom.volume, "no-such-model", DetectionSettings())
