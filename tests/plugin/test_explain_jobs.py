"""The jobs behind explanations, without a window: the bundled model on a phantom, small networks for the rest."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from napari_alnct.core.errors import JobCancelled, LungsNotFoundError, ModelError
from napari_alnct.core.evidence import badge
from napari_alnct.core.volume import Volume
from napari_alnct.data.phantom import PhantomScan
from napari_alnct.plugin._explain_jobs import METHODS, OUTSIDE, Explaining, Wish
from napari_alnct.plugin._explain_subject import Subject, Target
from tests.core.tiny_models import write_tiny_model
from tests.plugin.test_jobs import Recorder

CELL_MM = 4.0  # of the layer that is explained unless another is named


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Give path and hash of a small untrained model."""
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    return str(path), write_tiny_model(path)


@pytest.fixture(scope="module")
def subject(phantom: PhantomScan, model: tuple[str, str]) -> Subject:
    """Give the nodules of the phantom, and the small model."""
    return subject_of(phantom, *model)


@pytest.fixture(scope="module")
def explaining(subject: Subject) -> Explaining:
    """Give what has prepared the phantom already."""
    explaining = Explaining()
    explaining.explain(Recorder(), subject, subject.targets[:1])
    return explaining


def subject_of(phantom: PhantomScan, model: str, sha256: str = "") -> Subject:
    targets = tuple(Target(f"mark {k}", nodule.position_xyz_mm) for k, nodule in enumerate(phantom.nodules, start=1))
    return Subject(volume=phantom.volume, targets=targets, current=targets[0], model=model, model_sha256=sha256)


def test_the_bundled_models_evidence_peaks_on_the_nodules(phantom: PhantomScan) -> None:
    """Of each nodule that it believes in the strongest cell overlaps it, in the scan's own world."""
    subject = subject_of(phantom, "default")
    done = Explaining().explain(Recorder(), subject, subject.targets)
    assert done.reasons == {}
    believed = [(one, nodule) for one, nodule in zip(done.maps, phantom.nodules, strict=True) if one.logit > 0]
    assert believed
    reach_mm = CELL_MM * 3**0.5 / 2  # from a cell's centre to its corner
    for one, nodule in believed:
        assert one.has_support
        distance_mm = np.linalg.norm(np.subtract(one.peak_xyz_mm, nodule.position_xyz_mm))
        assert distance_mm <= nodule.diameter_mm / 2 + reach_mm


def test_maps_come_with_what_else_the_model_offers(explaining: Explaining, subject: Subject) -> None:
    """One map a candidate, in their order; both scores with their layers; progress never goes back."""
    recorder = Recorder()
    done = explaining.explain(recorder, subject, subject.targets)
    assert [one.candidate for one in done.maps] == [target.name for target in subject.targets]
    assert [offer.score_name for offer in done.offers] == ["second look", "first stage"]
    for offer in done.offers:
        assert offer.default_layer in [name for name, _ in offer.layers]
    fractions = [fraction for _, fraction in recorder.stages]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0


def test_method_layer_and_score_can_be_chosen(explaining: Explaining, subject: Subject) -> None:
    """What is chosen stands in the map; its cells are those of the layer."""
    offer = explaining.explain(Recorder(), subject, subject.targets[:1]).offers[1]
    name, cell_mm = offer.layers[-1]
    wish = Wish(method="gradcam", layer=name, score_name=offer.score_name)
    (one,) = explaining.explain(Recorder(), subject, subject.targets[:1], wish).maps
    assert (one.method, one.layer, one.score_name) == ("gradcam", name, "first stage")
    assert one.geometry.spacing_zyx_mm == pytest.approx((cell_mm,) * 3)


def test_methods_on_offer_are_the_explainers(explaining: Explaining) -> None:
    """All but integrated gradients, which keep most of their map when the weights are destroyed."""
    from napari_alnct.core.explain.explainer import DEFAULT_METHOD
    from napari_alnct.core.explain.explainer import METHODS as ALL

    assert set(METHODS) == set(ALL) - {"integrated gradients"}
    assert DEFAULT_METHOD in METHODS


def test_a_candidate_outside_the_lungs_box_gets_words(explaining: Explaining, subject: Subject) -> None:
    """The others are explained."""
    far = Target("mark 99", (5000.0, 0.0, 0.0))
    done = explaining.explain(Recorder(), subject, [far, subject.targets[0]])
    assert done.reasons == {"mark 99": OUTSIDE}
    assert [one.candidate for one in done.maps] == ["mark 1"]


def test_model_and_scan_are_prepared_once(
    explaining: Explaining, subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second job neither reads the model nor looks for the lungs; a forgotten scan is prepared again."""

    def fail(*args: object, **kwargs: object) -> None:
        raise AssertionError("done again")

    monkeypatch.setattr("napari_alnct.core.lungs.segment_lungs", fail)
    monkeypatch.setattr("napari_alnct.core.checkpoint.read_checkpoint", fail)
    explaining.explain(Recorder(), subject, subject.targets[:1])
    fresh = Explaining()
    with pytest.raises(AssertionError, match="done again"):
        fresh.explain(Recorder(), subject, subject.targets[:1])


def test_another_version_of_the_model_is_refused(phantom: PhantomScan, model: tuple[str, str]) -> None:
    """Its score is not the one on the screen."""
    with pytest.raises(ModelError, match="another version"):
        Explaining().explain(Recorder(), subject_of(phantom, model[0], "cd" * 32), [Target("mark 1", (0.0, 0.0, 0.0))])


def test_a_scan_without_lungs_says_so(ball: Callable[..., Volume], model: tuple[str, str]) -> None:
    """In words for people."""
    target = Target("mark 1", (12.0, -31.0, 44.0))
    subject = Subject(volume=ball(), targets=(target,), current=target, model=model[0])
    with pytest.raises(LungsNotFoundError, match="lung"):
        Explaining().explain(Recorder(), subject, [target])


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_a_job_stops_when_cancelled(explaining: Explaining, subject: Subject, steps: int) -> None:
    """Within a step, and the next one works."""
    recorder = Recorder(cancel_after=steps)
    with pytest.raises(JobCancelled):
        explaining.explain(recorder, subject, subject.targets, Wish(score_name="first stage"))
    assert len(recorder.stages) <= steps + 1


def test_occlusion_is_stopped_in_the_middle(explaining: Explaining, subject: Subject) -> None:
    """After the first batch of boxes."""
    (one,) = explaining.explain(Recorder(), subject, subject.targets[:1]).maps
    recorder = Recorder(cancel_after=4)
    with pytest.raises(JobCancelled):
        explaining.occlude(recorder, subject, one)
    assert recorder.stages[-1][0].startswith("Covering")


def test_agreement_is_told_with_its_badge(
    explaining: Explaining, subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the same logit, at the same place; a map agrees with itself."""
    from napari_alnct.core.explain.explainer import Explainer

    (one,) = explaining.explain(Recorder(), subject, subject.targets[:1]).maps
    asked = {}

    def occlude(self: Explainer, hu: object, geometry: object, places: list[object], **wish: object) -> list[object]:
        asked.update(wish, places=places)
        return [one]

    monkeypatch.setattr(Explainer, "explain", occlude)
    found = explaining.occlude(Recorder(), subject, one)
    assert (asked["method"], asked["score_name"]) == ("occlusion", one.score_name)
    assert asked["places"] == [one.position_xyz_mm]
    assert found.rho == pytest.approx(1.0)
    assert found.r == pytest.approx(1.0)
    assert found.warning == badge(found.r) == badge(found.rho) == ""


def test_the_score_map_lies_where_the_detector_looks(explaining: Explaining, subject: Subject) -> None:
    """Each cell's value is the first stage's own at the cell's place, as its candidates are placed."""
    from napari_alnct.core.checkpoint import read_checkpoint
    from napari_alnct.core.dense import score_map
    from napari_alnct.core.inference import Runner, choose_device, choose_precision
    from napari_alnct.core.network import cell_centre
    from napari_alnct.core.preprocess import prepare

    checkpoint = read_checkpoint(Path(subject.model))
    scan = prepare(subject.volume, checkpoint.recipe.prepare)
    device = choose_device("auto")
    assert checkpoint.detector is not None
    runner = Runner(checkpoint.detector, device, choose_precision(device))
    cells = score_map(runner, scan.hu, checkpoint.recipe.prepare, most_voxels=10**9)
    import torch

    scores = explaining.scores(Recorder(), subject)
    for cell in ((0, 0, 0), (3, 5, 2), tuple(n - 1 for n in scores.values.shape)):
        place = scan.geometry.index_to_world(cell_centre(torch.tensor(cell)).double().numpy())
        assert np.allclose(scores.geometry.index_to_world(cell), place, atol=1e-6)
        assert scores.values[cell] == pytest.approx(float(torch.sigmoid(cells[0][cell])), abs=1e-3)
    assert 0 <= scores.values.min() <= scores.values.max() <= 1


def test_a_model_that_only_looks_again_has_no_score_map(phantom: PhantomScan, tmp_path: Path, subject: Subject) -> None:
    """It says so."""
    from napari_alnct.core.checkpoint import Recipe, write_checkpoint
    from tests.core.tiny_models import PREPARE, tiny_classifier

    path = tmp_path / "classifier.safetensors"
    write_checkpoint(path, Recipe(name="only a classifier", prepare=PREPARE), None, tiny_classifier())
    with pytest.raises(ModelError, match="no first stage"):
        Explaining().scores(Recorder(), subject_of(phantom, str(path)))
