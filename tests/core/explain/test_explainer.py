"""Evidence maps of candidates: in the right place (X1), complete (X2), repeatable (X5), of detection's own logits."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import torch

from napari_alnct.core.dense import find_peaks, score_map
from napari_alnct.core.errors import GeometryError, JobCancelled, SettingsError
from napari_alnct.core.evidence import EvidenceMap
from napari_alnct.core.explain.activation import ACTIVATION_METHODS, activation_maps
from napari_alnct.core.explain.explainer import METHODS, Explainer
from napari_alnct.core.explain.grids import layer_grids
from napari_alnct.core.explain.inputs import NetworkInput
from napari_alnct.core.geometry import Geometry, Triple
from napari_alnct.core.inference import Runner
from napari_alnct.core.second_look import second_look_logits
from tests.core.explain import linear_networks as linear
from tests.core.explain.small_networks import (
    EDGE,
    ISOTROPIC,
    assert_same_state,
    classifier,
    detector,
    noise_scan,
    state_of,
)

PLACES: list[Triple] = [(10.2, 50.7, -210.0), (0.0, 40.0, -222.4), (22.5, 61.1, -203.3)]
ODD_GRID = Geometry(shape_zyx=(120, 128, 136), spacing_zyx_mm=(1.4, 0.8, 0.7), origin_xyz_mm=(-41.3, 17.9, -312.6))


@pytest.fixture(scope="module")
def explainer() -> Explainer:
    return Explainer(linear.checkpoint_of(classifier(), detector()), device="cpu")


@pytest.fixture(scope="module")
def hu() -> np.ndarray:
    return noise_scan()


def triples(positions: np.ndarray) -> list[Triple]:
    return [(float(x), float(y), float(z)) for x, y, z in positions]


def placed(values: np.ndarray, geometry: Geometry, layer: str) -> EvidenceMap:
    facts = {"position_xyz_mm": (0.0, 0.0, 0.0), "method": "gradcam", "score_name": "first stage", "logit": 0.0}
    return EvidenceMap(values=values, geometry=geometry, layer=layer, **facts)


def map_centroid_vox(one: EvidenceMap, scan: Geometry) -> np.ndarray:
    """Give a map's centre of mass through its own geometry, in voxels of the scan."""
    world = one.geometry.index_to_world(linear.index_of(one.values.shape))
    return scan.world_to_index(linear.centroid(one.values, world))


@pytest.mark.parametrize("method", ["gradcam", "hirescam"])
def test_maps_of_the_classifier_lie_on_the_blob(method: str) -> None:
    """X1: 27 candidates around one blob of a shifted, anisotropic scan: every layer offered, within 0.5 voxel."""
    explainer = Explainer(linear.checkpoint_of(linear.linear_classifier()), device="cpu")
    place = (np.array(ODD_GRID.shape_zyx) - 1) / 2 + (0.3, -0.2, 0.4)
    hu = (linear.ZERO_HU + linear.BLOB_HU * linear.blob(ODD_GRID.shape_zyx, place)).astype(np.int16)
    around = triples(ODD_GRID.index_to_world(place + linear.off_centre_steps(7.3)))
    layers = explainer.layers("second look")
    assert [choice.stride for choice in layers] == [2, 4, 8, 16]
    for choice in layers if method == "gradcam" else layers[1::2]:
        maps = explainer.explain(hu, ODD_GRID, around, method=method, layer=choice.name)
        assert len(maps) == 27
        errors = [np.abs(map_centroid_vox(one, ODD_GRID) - place).max() for one in maps]
        assert max(errors) <= 0.5, choice


@pytest.mark.parametrize("layer", [*(f"encoder.stages.{k}" for k in range(4)), "merges.0", "merges.1"])
def test_maps_of_the_detector_lie_on_the_blob(layer: str) -> None:
    """X1: 27 positions, three axis lengths, every layer offered on the way down and up, within 0.5 voxel."""
    network, shape = linear.linear_detector().requires_grad_(False), (64, 80, 96)
    scan = dataclasses.replace(ODD_GRID, shape_zyx=(90, 110, 130))
    grid = layer_grids(network, torch.zeros(1, 1, *shape), network.features)[layer]
    for place in (np.array(shape) - 1) / 2 + linear.off_centre_steps(5.3):
        x = torch.from_numpy(linear.blob(shape, place)).float()[None, None]
        maps, _ = activation_maps(network, x, layer, lambda output: output[:, 0, 8, 10, 12], ("gradcam",))
        cube = NetworkInput(np.zeros(shape, np.int16), (5, -7, 9), place, (0.0, 0.0, 0.0))
        values = maps["gradcam"][0].numpy()
        one = placed(values, cube.cells_in_world(grid, values.shape, scan), layer)
        there = map_centroid_vox(one, scan) - np.array(cube.start_zyx)
        assert np.abs(there - place).max() <= 0.5, place


def test_the_detectors_own_cubes_are_placed() -> None:
    """X1 through the whole of `explain` for the first stage: candidates at and beside the blob, in a shifted scan."""
    explainer = Explainer(linear.checkpoint_of(None, linear.linear_detector()), device="cpu")
    place = np.array([61.3, 70.2, 58.6])
    hu = (linear.ZERO_HU + linear.BLOB_HU * linear.blob(ODD_GRID.shape_zyx, place)).astype(np.int16)
    outside = explainer.prepare.low_hu
    assert outside < linear.ZERO_HU  # cubes reach outside the scan: their rim is cut from the centroid
    for steps in ((0.0, 0.0, 0.0), (6.0, -5.0, 7.0)):
        (one,) = explainer.explain(hu, ODD_GRID, triples(ODD_GRID.index_to_world([place + steps])), method="gradcam")
        near = np.argwhere(one.supports > 0.3 * one.supports.max()).astype(float)
        values = one.supports[tuple(near.astype(int).T)]
        there = ODD_GRID.world_to_index(linear.centroid(values, one.geometry.index_to_world(near)))
        assert np.abs(there - place).max() <= 1.0
        assert one.layer == "merges.1"


def test_the_sum_and_the_bias_are_the_logit(explainer: Explainer, hu: np.ndarray) -> None:
    """X2 through `explain`: HiResCAM of the deepest stage, float32, relative error below 1e-5."""
    bias = float(explainer.network("second look").head.bias)
    for one in explainer.explain(hu, ISOTROPIC, PLACES, method="hirescam", layer="encoder.stages.3"):
        error = abs(float(one.values.astype(np.float64).sum()) + bias - one.logit) / abs(one.logit)
        assert error < 1e-5


def test_twice_the_same(explainer: Explainer, hu: np.ndarray) -> None:
    """X5: every method, both scores, the same bits on the CPU."""
    for score, places in (("second look", PLACES), ("first stage", PLACES[:1])):
        for method in METHODS if score == "second look" else ACTIVATION_METHODS:
            one, two = (explainer.explain(hu, ISOTROPIC, places, method=method, score_name=score) for _ in "12")
            assert all(np.array_equal(a.values, b.values) and a.logit == b.logit for a, b in zip(one, two, strict=True))


def test_many_at_once_equal_one_by_one(explainer: Explainer, hu: np.ndarray) -> None:
    """Nine candidates run in batches; each gets the map that it gets alone, up to rounding."""
    places = [(x + k, y, z - k) for k in range(3) for x, y, z in PLACES]
    together = explainer.explain(hu, ISOTROPIC, places, method="gradcam", names=[f"mark {k}" for k in range(9)])
    for number, (one, place) in enumerate(zip(together, places, strict=True)):
        (alone,) = explainer.explain(hu, ISOTROPIC, [place], method="gradcam")
        assert one.position_xyz_mm == place
        assert one.candidate == f"mark {number}"
        assert one.geometry == alone.geometry
        assert one.logit == pytest.approx(alone.logit, abs=1e-5)
        assert np.abs(one.values - alone.values).max() <= 1e-5 * np.abs(alone.values).max()


def test_the_second_look_is_detections_own(explainer: Explainer, hu: np.ndarray) -> None:
    """The logit is the one that detection gives at the same place in float32, within 1e-3; near the edge too."""
    places = [*PLACES, (-31.0, 12.4, -250.0)]
    centres = np.rint(ISOTROPIC.world_to_index(places)).astype(int)
    runner = Runner(classifier(), torch.device("cpu"), torch.float32)
    expected = second_look_logits(runner, hu, centres, EDGE, linear.PREPARE)
    found = [one.logit for one in explainer.explain(hu, ISOTROPIC, places, method="hirescam")]
    assert found == pytest.approx(expected.tolist(), abs=1e-3)


def test_the_first_stage_is_near_the_candidates_own(explainer: Explainer, hu: np.ndarray) -> None:
    """Peaks of the whole scan's score map, near its edges too: their cells are found again, the logits within 1e-3."""
    runner = Runner(detector(), torch.device("cpu"), torch.float32)
    peaks = find_peaks(score_map(runner, hu, linear.PREPARE, most_voxels=10**9), ISOTROPIC)
    index = ISOTROPIC.world_to_index(peaks.positions_xyz_mm)
    is_inner = np.all((index > 20) & (index < np.array(hu.shape) - 21), axis=1)
    chosen = [*is_inner.nonzero()[0][:3], *(~is_inner).nonzero()[0][:2]]
    assert len(chosen) == 5
    maps = explainer.explain(
        hu, ISOTROPIC, triples(peaks.positions_xyz_mm[chosen]), method="hirescam", score_name="first stage"
    )
    assert [one.logit for one in maps] == pytest.approx(peaks.logits[chosen].tolist(), abs=1e-3)
    assert {one.geometry.spacing_zyx_mm for one in maps} == {(4.0, 4.0, 4.0)}


@pytest.mark.parametrize(
    "context", [torch.inference_mode, torch.no_grad, lambda: torch.autocast("cpu", torch.bfloat16)]
)
def test_the_callers_mode_does_not_matter(context: Callable[[], torch.no_grad], hu: np.ndarray) -> None:
    """Explainer and maps made inside inference mode, no_grad or autocast are the same."""
    checkpoint = linear.checkpoint_of(classifier(), detector())
    with context():
        inside = Explainer(checkpoint, device="cpu")
        found = [inside.explain(hu, ISOTROPIC, PLACES[:1], method=method)[0] for method in METHODS]
    outside = Explainer(checkpoint, device="cpu")
    expected = [outside.explain(hu, ISOTROPIC, PLACES[:1], method=method)[0] for method in METHODS]
    assert all(np.array_equal(a.values, b.values) for a, b in zip(found, expected, strict=True))


def test_the_checkpoint_and_the_networks_stay(hu: np.ndarray) -> None:
    """X4: the checkpoint's networks and the explainer's copies are the same before, after, and after a Cancel."""
    checkpoint = linear.checkpoint_of(classifier(), detector())
    explainer = Explainer(checkpoint, device="cpu")
    networks = [checkpoint.classifier, checkpoint.detector, *map(explainer.network, explainer.score_names)]
    before = [state_of(network) for network in networks]
    for method in METHODS:
        explainer.explain(hu, ISOTROPIC, PLACES[:1], method=method)

    def stop(_share: float) -> None:
        raise JobCancelled("cancelled")

    with pytest.raises(JobCancelled):
        explainer.explain(hu, ISOTROPIC, PLACES, method="gradcam", step=stop)
    for network, state in zip(networks, before, strict=True):
        assert_same_state(state, state_of(network))


def test_layers_and_defaults(explainer: Explainer) -> None:
    """Whole stages, finest first; the defaults have cells of 2 and of 4 voxels; the second look comes first."""
    offered = {choice.name for choice in explainer.layers("first stage")}
    assert offered == {*(f"encoder.stages.{k}" for k in range(4)), "merges.0", "merges.1"}
    assert explainer.score_names == ("second look", "first stage")
    assert [(c.name, c.stride) for c in explainer.layers("second look")] == [
        (f"encoder.stages.{k}", 2 ** (k + 1)) for k in range(4)
    ]
    assert explainer.default_layer("second look") == "encoder.stages.0"
    assert explainer.default_layer("first stage") == "merges.1"


def test_wishes_that_cannot_be_met(explainer: Explainer, hu: np.ndarray) -> None:
    """One sentence that lists what there is."""
    with pytest.raises(SettingsError, match=r"layer 'encoder' cannot .* choose one of encoder.stages.0, encoder.stage"):
        explainer.explain(hu, ISOTROPIC, PLACES, method="gradcam", layer="encoder")
    with pytest.raises(SettingsError, match="method 'guided' is not one of gradcam, "):
        explainer.explain(hu, ISOTROPIC, PLACES, method="guided")
    with pytest.raises(SettingsError, match="has no score 'mean'; choose one of second look, first stage"):
        explainer.explain(hu, ISOTROPIC, PLACES, score_name="mean")
    for far in ((-31.5 - 40, 50.0, -210.0), (10.0, 50.0, -250.25 + 72 + 12), (1e4, 0.0, 0.0)):
        with pytest.raises(GeometryError, match="lies outside what the network sees"):
            explainer.explain(hu, ISOTROPIC, [far], method="gradcam")


def test_no_candidates_no_maps(explainer: Explainer, hu: np.ndarray) -> None:
    """An empty list in, an empty list out."""
    assert explainer.explain(hu, ISOTROPIC, []) == []


def test_voxel_methods_and_units(explainer: Explainer, hu: np.ndarray) -> None:
    """Occlusion lies around the candidate in steps of 4 voxels, integrated gradients on the cube's own voxels."""
    (boxes,) = explainer.explain(hu, ISOTROPIC, PLACES[:1], method="occlusion")
    (voxels,) = explainer.explain(hu, ISOTROPIC, PLACES[:1], method="integrated gradients")
    assert (boxes.layer, voxels.layer) == ("input", "input")
    assert boxes.geometry.spacing_zyx_mm == (4.0, 4.0, 4.0)
    middle = boxes.geometry.index_to_world((np.array(boxes.values.shape) - 1) / 2)
    assert np.abs(middle - PLACES[0]).max() <= 2.0
    assert voxels.values.shape == (EDGE,) * 3
    assert "6 voxels" in boxes.unit
    assert voxels.unit == "logit per voxel"


def test_scores_of_changed_voxels(explainer: Explainer, hu: np.ndarray) -> None:
    """The scorer gives the map's own logit for the input as it is, and occlusion's drops for boxes of lung."""
    for score in explainer.score_names:
        one = explainer.input_of(hu, ISOTROPIC, PLACES[0], score)
        logit_of = explainer.scorer(one, score)
        (made,) = explainer.explain(hu, ISOTROPIC, PLACES[:1], method="hirescam", score_name=score)
        assert logit_of(one.hu[None])[0] == pytest.approx(made.logit, abs=1e-4)
    one = explainer.input_of(hu, ISOTROPIC, PLACES[0], "second look")
    (boxes,) = explainer.explain(hu, ISOTROPIC, PLACES[:1], method="occlusion")
    first = ISOTROPIC.world_to_index(boxes.geometry.origin_xyz_mm) - 2.5 - one.start_zyx
    z, y, x = np.rint(first).astype(int)
    changed = one.hu.copy()
    changed[z : z + 6, y : y + 6, x : x + 6] = -850
    logit_of = explainer.scorer(one, "second look")
    logits = logit_of(np.stack([one.hu, changed]))
    assert boxes.values[0, 0, 0] == pytest.approx(logits[0] - logits[1], abs=1e-5)
