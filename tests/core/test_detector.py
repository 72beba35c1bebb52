"""The pipeline from a scan to candidates, with untrained networks."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
import torch

from napari_alnct.core.config import DetectionSettings
from napari_alnct.core.detector import Detector
from napari_alnct.core.errors import JobCancelled, LungsNotFoundError, SettingsError
from napari_alnct.core.findings import Candidate, positions_xyz_mm
from napari_alnct.core.geometry import Geometry
from napari_alnct.core.inference import choose_device
from napari_alnct.core.lungs import segment_lungs
from napari_alnct.core.volume import Volume
from napari_alnct.data.phantom import make_phantom, small_settings
from tests.core.tiny_models import write_tiny_model


@pytest.fixture(scope="module")
def volume() -> Volume:
    return make_phantom(small_settings(seed=5)).volume


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Detector:
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    return Detector.load(path, sha256=write_tiny_model(path), device="cpu", precision="float32")


def test_candidates_are_sorted_capped_and_near_the_lungs(detector: Detector, volume: Volume) -> None:
    """At most the asked number, falling scores in [0, 1], within the margin of the lungs."""
    result = detector.detect(volume, DetectionSettings(max_candidates=30, lung_margin_mm=10.0))
    scores = [c.score for c in result.candidates]
    assert len(scores) == 30
    assert scores == sorted(scores, reverse=True)
    assert 0 <= scores[-1] <= scores[0] <= 1
    assert (segment_lungs(volume).distance_mm(positions_xyz_mm(result.candidates)) <= 10.0).all()


def test_the_threshold_is_the_models_unless_given(detector: Detector, volume: Volume) -> None:
    """Default: the stored point of one false mark per scan; it hides, it does not drop."""
    default = detector.detect(volume)
    asked = detector.detect(volume, DetectionSettings(threshold=0.6))
    assert (default.threshold, asked.threshold) == (0.3, 0.6)
    assert default.candidates == asked.candidates
    assert detector.threshold_for(DetectionSettings(second_look=False)) == 0.4
    assert detector.threshold_for(DetectionSettings(), first_stage=True) == 0.4
    assert all(c.score >= 0.6 for c in asked.shown)


def test_the_second_look_changes_scores_not_places(detector: Detector, volume: Volume) -> None:
    """Same places with and without; both networks' logits count."""
    seen: list[tuple[Candidate, ...]] = []
    both = detector.detect(volume, on_candidates=seen.append)
    assert both.voxel_sha256 == volume.voxel_sha256
    alone = detector.detect(volume, DetectionSettings(second_look=False))
    places = [{c.position_xyz_mm for c in r} for r in (both.candidates, alone.candidates, seen[0])]
    assert places[0] == places[1] == places[2]
    assert [c.score for c in both.candidates] != [c.score for c in alone.candidates]
    assert seen[0] == alone.candidates


def test_the_same_scan_gives_the_same_result(detector: Detector, volume: Volume) -> None:
    """Twice on one machine: bit-identical candidates."""
    assert detector.detect(volume).candidates == detector.detect(volume).candidates


def test_progress_rises_from_zero_to_one(detector: Detector, volume: Volume) -> None:
    """Every stage is told, and the share never falls."""
    told: list[tuple[str, float]] = []
    detector.detect(volume, progress=lambda stage, share: told.append((stage, share)))
    assert [*dict.fromkeys(stage for stage, _ in told)] == ["lungs", "resample", "network", "second look", "done"]
    shares = [share for _, share in told]
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0.0, 1.0)


@pytest.mark.parametrize("when", [0.0, 0.1, 0.3, 0.8], ids=["start", "resample", "network", "second look"])
def test_cancel_stops_within_a_second(detector: Detector, volume: Volume, when: float) -> None:
    """Cancelled at any stage: the job raises, soon."""
    asked_at: list[float] = []

    def progress(_: str, share: float) -> None:
        if share >= when and not asked_at:
            asked_at.append(time.monotonic())

    with pytest.raises(JobCancelled):
        detector.detect(volume, progress=progress, is_cancelled=lambda: bool(asked_at))
    assert time.monotonic() - asked_at[0] < 1.0


@pytest.mark.parametrize("stage", ["_first", "_second"])
def test_a_failing_gpu_falls_back_to_the_cpu_and_says_so(
    detector: Detector, volume: Volume, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    """A driver error in either stage: same candidates from the CPU, a note in the result."""
    expected = detector.detect(volume).candidates
    other = Detector(detector.checkpoint, device="cpu", precision="float32")
    other.device = torch.device("cuda")

    def broken(*_: object) -> torch.Tensor:
        raise RuntimeError("CUDA error: unspecified launch failure")

    monkeypatch.setattr(getattr(other, stage), "run", broken)
    result = other.detect(volume)
    assert result.candidates == expected
    assert result.device.startswith("cpu")
    assert any("the CPU was used" in note for note in result.notes)


def test_a_scan_without_lungs_is_refused(detector: Detector) -> None:
    """Air alone is not "no nodule"."""
    geometry = Geometry(shape_zyx=(40, 64, 64), spacing_zyx_mm=(2.5, 2.0, 2.0))
    with pytest.raises(LungsNotFoundError):
        detector.detect(Volume(np.full(geometry.shape_zyx, -1000, np.int16), geometry, geometry))


def test_a_missing_gpu_is_one_sentence() -> None:
    """Asking for CUDA where there is none names the remedy."""
    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA GPU")
    with pytest.raises(SettingsError, match="use --device auto or cpu"):
        choose_device("cuda")


def test_a_model_without_classifier_runs(tmp_path: Path, volume: Volume) -> None:
    """The second look is skipped when the file has none."""
    path = tmp_path / "one.safetensors"
    write_tiny_model(path, with_classifier=False)
    assert Detector.load(path, device="cpu").detect(volume).candidates
