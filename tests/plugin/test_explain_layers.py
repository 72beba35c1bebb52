"""Evidence as layer data: its place, sign, colours and words. The file's numbers are those on the screen (X6)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from napari.components import ViewerModel
from napari.layers import Layer
from scipy.ndimage import map_coordinates
from skimage.color import rgb2lab

from napari_alnct.core.evidence import NO_SUPPORT, EvidenceMap
from napari_alnct.core.volume import Volume
from napari_alnct.io.evidence import SharedScale, write_evidence
from napari_alnct.plugin._explain_layers import (
    AGAINST,
    COLOURS,
    EVIDENCE_KEY,
    MAP_KEY,
    MOST_OPAQUE,
    NO_CELL,
    RELATIVE,
    SCORES,
    SUPPORTS,
    cells_in_scan,
    colour_scale,
    evidence_layers,
    rgb,
    score_layer,
    why_no_layer,
)
from napari_alnct.plugin._explain_show import EvidenceShow
from napari_alnct.plugin._layers import ct_layer
from napari_alnct.plugin._viewport import add_quietly
from tests.core.tiny_models import write_tiny_model
from tests.plugin.evidence_maps import made_up_map, made_up_scores, without_support

pytestmark = pytest.mark.filterwarnings("ignore::pydantic.PydanticDeprecatedSince20")
CENTRE_XYZ_MM = (12.0, -31.0, 44.0)  # of the ball
FLIPPED = (-1, 0, 0, 0, -1, 0, 0, 0, 1)
TURNED = (0, 0, 1, 1, 0, 0, 0, -1, 0)
N_POINTS = 100
MOST_DIFFERENCE = 1e-3
# Machado et al. 2009, doi 10.1109/TVCG.2009.113, severity 1: how people with one kind of cone missing see linear RGB
COLOUR_BLIND = {
    "deutan": ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.01182, 0.04294, 0.968881)),
    "protan": ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998)),
    "tritan": ((1.255528, -0.076749, -0.178779), (-0.078411, 0.930809, 0.147602), (0.004733, 0.691367, 0.3039)),
    "nobody": ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)),
}
CLEARLY_APART = 25.0  # CIELAB distance; 2 is just seen side by side


def layers_by_kind(one: EvidenceMap, volume: Volume, limit: float = 1.0) -> dict[str, Layer]:
    """Give the napari layers of a map by what they show."""
    made = [Layer.create(*data) for data in evidence_layers(one, volume, limit)]
    return {layer.metadata[EVIDENCE_KEY]["kind"]: layer for layer in made}


def seen_at(layers: dict[str, Layer], world_xyz_mm: np.ndarray) -> np.ndarray:
    """Give support minus opposition at world positions, as the viewer places and smooths the layers' cells."""
    total = np.zeros(len(world_xyz_mm))
    for kind, sign in ((SUPPORTS, 1.0), (AGAINST, -1.0)):
        if kind in layers:
            index = np.array([layers[kind].world_to_data(point[::-1]) for point in world_xyz_mm])
            total += sign * map_coordinates(layers[kind].data.astype(np.float64), index.T, order=1, mode="nearest")
    return total


@pytest.fixture(scope="module")
def explained(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Volume], EvidenceMap]:
    """Give a function that explains the middle of the ball with an untrained network, on the scan's own grid."""
    from napari_alnct.core.checkpoint import read_checkpoint
    from napari_alnct.core.explain.explainer import Explainer

    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    write_tiny_model(path)
    explainer = Explainer(read_checkpoint(path), device="cpu")

    def explain(volume: Volume) -> EvidenceMap:
        return explainer.explain(volume.hu, volume.geometry, [CENTRE_XYZ_MM], names=["mark 1"])[0]

    return explain


# -- X6: the layer is the file --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "direction", [(1, 0, 0, 0, 1, 0, 0, 0, 1), FLIPPED, TURNED], ids=["plain", "flipped", "turned"]
)
def test_the_layer_has_the_numbers_of_the_file(
    direction: tuple[int, ...],
    ball: Callable[..., Volume],
    explained: Callable[[Volume], EvidenceMap],
    tmp_path: Path,
) -> None:
    """100 world points: layer, map and exported file (read by SimpleITK) agree to 1e-3 of the top, sign too."""
    volume = ball(direction, centre_xyz_mm=CENTRE_XYZ_MM, spacing_zyx_mm=(2.5, 0.7, 0.9))
    one = explained(volume)
    one = EvidenceMap(**{**vars(one), "values": one.values / np.abs(one.values).max()})
    assert len({round(mm, 3) for mm in one.geometry.spacing_zyx_mm}) == 3  # cells as anisotropic as the scan
    write_evidence(tmp_path / "map.mha", one, SharedScale(limit=1.0))
    image = sitk.ReadImage(str(tmp_path / "map.mha"))
    layers = layers_by_kind(one, volume)
    part, geometry = cells_in_scan(one.values, one.geometry, volume)
    index = np.random.default_rng(0).uniform(0, np.subtract(part.shape, 1), (N_POINTS, 3))
    world = geometry.index_to_world(index)
    seen, told = seen_at(layers, world), one.at(world)
    filed = np.array([image.EvaluateAtPhysicalPoint(point, sitk.sitkLinear) for point in world.tolist()])
    for other in (told, filed):
        assert np.abs(seen - other).max() <= MOST_DIFFERENCE
        clear = np.abs(other) > MOST_DIFFERENCE
        assert (np.sign(seen) == np.sign(other))[clear].all()
    assert (told > MOST_DIFFERENCE).any()
    assert (told < -MOST_DIFFERENCE).any()


def test_napari_reads_out_each_cell_at_its_place(ball: Callable[..., Volume]) -> None:
    """What napari tells under the cursor at a cell's centre is that cell's evidence, also where the viewer has it."""
    volume = ball(spacing_zyx_mm=(2.5, 0.7, 0.9))
    one = made_up_map(CENTRE_XYZ_MM)
    viewer = ViewerModel()
    add_quietly(viewer, ct_layer(volume))
    layers = {
        data[1]["metadata"][EVIDENCE_KEY]["kind"]: add_quietly(viewer, data)
        for data in evidence_layers(one, volume, 1.0)
    }
    for layer in layers.values():
        layer.visible = True
    index = np.argwhere(np.abs(one.values) > 0)[::7]
    for cell in index:
        world = one.geometry.index_to_world(cell)
        viewer.dims.point = world[::-1]
        support, against = (float(layers[kind].get_value(world[::-1], world=True) or 0) for kind in (SUPPORTS, AGAINST))
        assert support - against == pytest.approx(float(one.values[tuple(cell)]), abs=1e-6)


def test_the_layers_in_view_have_the_numbers_of_the_file_at_every_mark(
    ball: Callable[..., Volume], tmp_path: Path
) -> None:
    """One pair goes from mark to mark: there and back, it is the exported map of the mark that is looked at."""
    volume = ball(centre_xyz_mm=CENTRE_XYZ_MM, spacing_zyx_mm=(2.5, 0.7, 0.9))
    corner = tuple(float(v) for v in volume.geometry.index_to_world([1, 2, 3]))
    places = {"mark 1": CENTRE_XYZ_MM, "mark 2": corner, "mark 3": (18.3, -25.1, 40.7)}
    maps = {name: made_up_map(place, name, peak=1.0 / k) for k, (name, place) in enumerate(places.items(), start=1)}
    viewer = ViewerModel()
    add_quietly(viewer, ct_layer(volume))
    show = EvidenceShow(viewer)
    show.put(volume, list(maps.values()))
    show.is_on = True
    for name in ("mark 1", "mark 2", "mark 3", "mark 2", "mark 1"):
        show.go_to(name)
        one = maps[name]
        write_evidence(tmp_path / f"{name}.mha", one, SharedScale(limit=1.0))
        image = sitk.ReadImage(str(tmp_path / f"{name}.mha"))
        part, geometry = cells_in_scan(one.values, one.geometry, volume)
        index = np.random.default_rng(0).uniform(0, np.subtract(part.shape, 1), (N_POINTS, 3))
        world = geometry.index_to_world(index)
        seen = seen_at({layer.metadata[EVIDENCE_KEY]["kind"]: layer for layer in show.layers_of(name)}, world)
        filed = np.array([image.EvaluateAtPhysicalPoint(point, sitk.sitkLinear) for point in world.tolist()])
        assert np.abs(seen - filed).max() <= MOST_DIFFERENCE
        assert (np.sign(seen) == np.sign(filed))[np.abs(filed) > MOST_DIFFERENCE].all()
    show.close()


# -- place and extent -----------------------------------------------------------------------------------


def test_only_cells_inside_the_scan_are_drawn(ball: Callable[..., Volume]) -> None:
    """A map that reaches over the edge is cut at whole cells; those left are where they were."""
    volume = ball()
    corner = volume.geometry.index_to_world([0, 0, 0])
    one = made_up_map(tuple(float(v) for v in corner))
    part, geometry = cells_in_scan(one.values, one.geometry, volume)
    assert part.shape == (3, 3, 4)  # of 5, 6, 7 cells around the corner the middle one and those behind it
    assert part.flags.c_contiguous
    assert np.array_equal(part, one.values[2:, 3:, 3:])
    assert np.allclose(geometry.index_to_world([0, 0, 0]), corner)


def test_a_map_beside_the_scan_has_no_layer(ball: Callable[..., Volume]) -> None:
    """And says so."""
    volume, one = ball(), made_up_map((500.0, 500.0, 500.0))
    assert evidence_layers(one, volume, 1.0) == []
    assert why_no_layer(one, volume) == NO_CELL


def test_nothing_in_support_means_words_and_no_layer(ball: Callable[..., Volume]) -> None:
    """Not even the evidence against is drawn alone."""
    volume, one = ball(), without_support(made_up_map(CENTRE_XYZ_MM))
    assert evidence_layers(one, volume, 1.0) == []
    assert why_no_layer(one, volume) == NO_SUPPORT == "no positive evidence at this layer"


# -- look and words -------------------------------------------------------------------------------------


def test_layers_say_what_they_are(ball: Callable[..., Volume]) -> None:
    """Kind, method, layer, unit, logit and model in the metadata; candidate in the name; hidden; float32; mm."""
    volume, one = ball(), made_up_map(CENTRE_XYZ_MM, "mark 7")
    layers = layers_by_kind(one, volume, limit=0.5)
    assert list(layers) == [SUPPORTS, AGAINST]
    for kind, layer in layers.items():
        told = layer.metadata[EVIDENCE_KEY]
        wanted = {
            "kind": kind,
            "method": "hirescam",
            "layer": "encoder.stages.1",
            "unit": "logit per cell",
            "logit": 2.5,
        }
        assert wanted.items() <= told.items()
        assert (told["model_name"], told["candidate"]) == ("made-up", "mark 7")
        assert layer.metadata[MAP_KEY] is one
        assert layer.name.startswith(f"{kind.capitalize()} mark 7 ")
        assert layer.data.dtype == np.float32
        assert (layer.data >= 0).all()
        assert not layer.visible
        assert tuple(layer.contrast_limits) == (0.0, 0.5)
        assert layer.projection_mode == "max"
        assert [str(unit) for unit in layer.units] == ["millimeter"] * 3
    assert RELATIVE in evidence_layers(one, volume, 1.0, is_relative=True)[0][1]["name"]


def test_the_nodule_shines_through() -> None:
    """A layer is clear at 0 and never more than 60 % opaque."""
    for kind in COLOURS:
        colours = np.asarray(colour_scale(kind).map(np.linspace(0, 1, 11)))
        assert colours[0, 3] == 0
        assert (np.diff(colours[:, 3]) > 0).all()
        assert colours[:, 3].max() == pytest.approx(MOST_OPAQUE, abs=1e-6)
        assert MOST_OPAQUE <= 0.6


@pytest.mark.parametrize("eyes", list(COLOUR_BLIND))
def test_the_colours_are_told_apart_by_the_colour_blind(eyes: str) -> None:
    """Support and opposition from each other and from the scan, on lung and on tissue, at half of the scale's top."""
    for grey in (0.2, 0.9):  # lung and soft tissue in the lung window
        opacity = MOST_OPAQUE / 2
        tinted = [opacity * np.array(rgb(kind)) + (1 - opacity) * grey for kind in (SUPPORTS, AGAINST)]
        first, second, scan = (lab_as_seen(colour, eyes) for colour in (*tinted, np.full(3, grey)))
        assert np.linalg.norm(first - second) > CLEARLY_APART
        assert np.linalg.norm(first - scan) > CLEARLY_APART / 2
        assert np.linalg.norm(second - scan) > CLEARLY_APART / 2


def lab_as_seen(colour: np.ndarray, eyes: str) -> np.ndarray:
    """Give CIELAB of an sRGB colour as these eyes see it."""
    linear = np.where(colour <= 0.04045, colour / 12.92, ((colour + 0.055) / 1.055) ** 2.4)
    seen = np.clip(np.array(COLOUR_BLIND[eyes]) @ linear, 0, 1)
    srgb = np.where(seen <= 0.0031308, 12.92 * seen, 1.055 * seen ** (1 / 2.4) - 0.055)
    return np.asarray(rgb2lab(srgb[None, None])[0, 0])


def test_the_score_map_is_a_layer_from_0_to_1(ball: Callable[..., Volume]) -> None:
    """On its own cells, with its own colour and a name of its own."""
    volume = ball()
    scores = made_up_scores(volume)
    layer = Layer.create(*score_layer(scores, volume))
    assert tuple(layer.contrast_limits) == (0.0, 1.0)
    assert layer.metadata[EVIDENCE_KEY]["kind"] == SCORES
    assert np.allclose(layer.data_to_world((0, 0, 0))[::-1], volume.geometry.origin_xyz_mm)
    assert layer.data.shape == scores.values.shape
