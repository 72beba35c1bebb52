"""Scans, masks and marks as layer data: right place, right size, no names of patients."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Layer

from napari_alnct.core.findings import Candidate, ReferenceNodule
from napari_alnct.core.volume import Volume
from napari_alnct.plugin._layers import (
    MARK_UNIT_MM,
    ct_layer,
    ct_volumes,
    lungs_layer,
    marks_layer,
    points_xyz_mm,
    reference_layer,
    resampled_layer,
    ring_diameters_mm,
    volume_of,
)

CENTRE_XYZ_MM = (12.0, -31.0, 44.0)
DIRECTIONS = {
    "identity": (1, 0, 0, 0, 1, 0, 0, 0, 1),
    "luna16-prone": (-1, 0, 0, 0, -1, 0, 0, 0, 1),
    "head-first-down": (1, 0, 0, 0, -1, 0, 0, 0, -1),
    "left-right-and-down": (-1, 0, 0, 0, 1, 0, 0, 0, -1),
    "mirrored-x": (-1, 0, 0, 0, 1, 0, 0, 0, 1),
    "coronal": (1, 0, 0, 0, 0, 1, 0, -1, 0),
    "sagittal": (0, 0, 1, 1, 0, 0, 0, 1, 0),
    "sagittal-flipped": (0, 0, -1, -1, 0, 0, 0, 1, 0),
}


def mark(score: float = 0.9, diameter_mm: float = 16.0, position_xyz_mm: tuple[float, float, float] = CENTRE_XYZ_MM):
    """Give a candidate at the centre of the ball."""
    return Candidate(position_xyz_mm=position_xyz_mm, score=score, diameter_mm=diameter_mm)


def test_ct_layer_shares_the_voxels_and_shows_the_lung_window(ball: Callable[..., Volume]) -> None:
    """The layer keeps int16 and the very array of the scan, gray, at -1350..150 HU, in mm."""
    volume = ball()
    data, attributes, kind = ct_layer(volume)
    layer = Layer.create(data, attributes, kind)
    assert kind == "image"
    assert layer.data is volume.hu
    assert layer.data.dtype == np.int16
    assert tuple(layer.contrast_limits) == (-1350, 150)
    assert layer.colormap.name == "gray"
    assert [str(unit) for unit in layer.units] == ["millimeter"] * 3
    assert layer.axis_labels == ("z", "y", "x")
    assert str(layer.projection_mode) == "max"
    assert volume_of(layer) is volume


@pytest.mark.parametrize("direction", DIRECTIONS.values(), ids=DIRECTIONS)
def test_viewer_world_is_the_scan_world_reversed(ball: Callable[..., Volume], direction: tuple[float, ...]) -> None:
    """Every voxel lies at (z, y, x) = its LPS position reversed, for any orientation of the file, to 1e-9 mm."""
    volume = ball(direction)
    layer = Layer.create(*ct_layer(volume))
    for index in ((0, 0, 0), (3, 5, 7), tuple(n - 1 for n in volume.hu.shape)):
        assert np.allclose(layer.data_to_world(index), volume.geometry.index_to_world(index)[::-1], atol=1e-9)


@pytest.mark.parametrize("direction", DIRECTIONS.values(), ids=DIRECTIONS)
def test_mark_lies_on_the_nodule(ball: Callable[..., Volume], direction: tuple[float, ...]) -> None:
    """The mark is within half a voxel of the centre of the bright voxels, for any orientation of the file."""
    volume = ball(direction)
    scan = Layer.create(*ct_layer(volume))
    marks = Layer.create(*marks_layer([mark()], series_uid="1", volume=volume))
    bright = np.argwhere(scan.data > -500).mean(axis=0)
    in_voxels = np.asarray(scan.world_to_data(marks.data_to_world(marks.data[0])))
    assert np.abs(in_voxels - bright).max() < 0.5


def test_ring_is_cut_like_a_sphere(ball: Callable[..., Volume]) -> None:
    """On each slice the ring has the diameter of the sphere's cross-section there; beyond the sphere there is none."""
    volume = ball()
    viewer = ViewerModel()
    viewer.add_layer(Layer.create(*ct_layer(volume)))
    layer = viewer.add_layer(Layer.create(*marks_layer([mark()], series_uid="1", volume=volume)))
    for step in range(volume.hu.shape[0]):
        viewer.dims.set_current_step(0, step)
        offset_mm = abs(viewer.dims.point[0] - CENTRE_XYZ_MM[2])
        drawn_mm = list(layer._view_size * MARK_UNIT_MM)
        expected = [2 * np.sqrt(64 - offset_mm**2)] if offset_mm < 8 else []
        assert drawn_mm == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_ring_is_cut_the_same_way_in_every_plane(ball: Callable[..., Volume], axis: int) -> None:
    """Across the mark's centre the ring has the full diameter in the axial, coronal and sagittal plane."""
    viewer = ViewerModel()
    volume = ball()
    viewer.add_layer(Layer.create(*ct_layer(volume)))
    layer = viewer.add_layer(Layer.create(*marks_layer([mark()], series_uid="1", volume=volume)))
    viewer.dims.order = (axis, *(k for k in range(3) if k != axis))
    viewer.dims.set_point(axis, CENTRE_XYZ_MM[::-1][axis])
    assert layer._view_size[0] * MARK_UNIT_MM == pytest.approx(16.0, abs=0.25)


@pytest.mark.parametrize(("diameter_mm", "slice_mm"), [(3.0, 2.5), (3.0, 5.0), (4.0, 8.0), (30.0, 2.5)])
def test_no_mark_hides_between_two_slices(diameter_mm: float, slice_mm: float) -> None:
    """A mark half way between two slices is still cut in a ring of at least half its diameter."""
    (drawn_mm,) = ring_diameters_mm([diameter_mm], slice_mm)
    chord_mm = np.sqrt(drawn_mm**2 - slice_mm**2)
    assert chord_mm >= diameter_mm / 2 - 1e-9
    assert drawn_mm >= diameter_mm


def test_marks_do_not_change_the_steps_of_the_slider(ball: Callable[..., Volume]) -> None:
    """Adding marks, reference nodules and a mask leaves range and step of the slider to the scan."""
    volume = ball()
    viewer = ViewerModel()
    viewer.add_layer(Layer.create(*ct_layer(volume)))
    before = viewer.dims.range
    nodule = ReferenceNodule(series_uid="1", position_xyz_mm=CENTRE_XYZ_MM, diameter_mm=16)
    viewer.add_layer(Layer.create(*marks_layer([mark()], series_uid="1", volume=volume)))
    viewer.add_layer(Layer.create(*reference_layer([nodule], series_uid="1", volume=volume)))
    viewer.add_layer(Layer.create(*lungs_layer(volume.hu < -500, volume)))
    assert viewer.dims.range == before


def test_first_slice_shown_is_in_the_middle(ball: Callable[..., Volume]) -> None:
    """A scan opens at its middle slice."""
    viewer = ViewerModel()
    viewer.add_layer(Layer.create(*ct_layer(ball())))
    assert viewer.dims.current_step[0] in (9, 10)


def test_marks_are_ranked_and_hidden_below_the_threshold() -> None:
    """Features are sorted by falling score with ids from 1; marks below the threshold are in the layer but hidden."""
    candidates = [mark(0.2, 5), mark(0.9, 7), mark(0.5, 6)]
    layer = Layer.create(*marks_layer(candidates, series_uid="1", threshold=0.5))
    assert list(layer.features["score"]) == [0.9, 0.5, 0.2]
    assert list(layer.features["id"]) == [1, 2, 3]
    assert list(layer.features["diameter_mm"]) == [7, 6, 5]
    assert list(layer.features["status"]) == ["unreviewed"] * 3
    assert list(layer.shown) == [True, True, False]


def test_marks_are_hollow_rings_in_mm() -> None:
    """Face transparent, one disc per mark, size and place in mm after the layer's scale."""
    layer = Layer.create(*marks_layer([mark(diameter_mm=9.0)], series_uid="1"))
    assert layer.face_color[0, 3] == 0
    assert layer.border_color[0, 3] == 1
    assert layer.size[0] * layer.scale[0] == pytest.approx(9.0)
    assert np.allclose(points_xyz_mm(layer.data, {"scale": layer.scale, "translate": layer.translate}), CENTRE_XYZ_MM)
    assert layer.features["z_mm"][0] == CENTRE_XYZ_MM[2]


def test_empty_marks_make_a_layer() -> None:
    """No candidate at all is a layer without points, not an error."""
    layer = Layer.create(*marks_layer([], series_uid="1", threshold=0.5))
    assert len(layer.data) == 0
    assert set(layer.features.columns) >= {"id", "score", "diameter_mm", "status"}


def test_layers_can_be_shown_together_without_warnings(ball: Callable[..., Volume]) -> None:
    """All kinds of layers together share units and axis labels: no warning about units, mm stays known."""
    volume = ball()
    viewer = ViewerModel()
    for layer_data in (
        ct_layer(volume),
        lungs_layer(volume.hu < -500, volume),
        resampled_layer(volume.hu, volume.geometry, volume),
        marks_layer([mark()], series_uid="1", volume=volume),
        reference_layer([], series_uid="1", volume=volume),
    ):
        viewer.add_layer(Layer.create(*layer_data))
    assert [str(unit) for unit in viewer.layers.units] == ["millimeter"] * 3
    assert {layer.axis_labels for layer in viewer.layers} == {("z", "y", "x")}


def test_names_do_not_carry_the_series_identifier(ball: Callable[..., Volume]) -> None:
    """Names of layers hold a hash, never the identifier or file name of the series."""
    volume = ball(series_uid="ZZCANARYZZ")
    made = [
        ct_layer(volume),
        lungs_layer(volume.hu < -500, volume),
        resampled_layer(volume.hu, volume.geometry, volume),
        marks_layer([mark()], series_uid=volume.series_uid, volume=volume),
        reference_layer([], series_uid=volume.series_uid, volume=volume),
    ]
    names = [attributes["name"] for _, attributes, _ in made]
    assert not any("CANARY" in name for name in names)
    assert len({name.split()[-1] for name in names}) == 1


def test_only_scans_are_offered_as_scans(ball: Callable[..., Volume]) -> None:
    """`ct_volumes` gives the open scans and neither masks, marks, resampled scans nor foreign layers."""
    volume = ball()
    viewer = ViewerModel()
    viewer.add_image(np.zeros((4, 4, 4)))
    for layer_data in (
        ct_layer(volume),
        lungs_layer(volume.hu < -500, volume),
        resampled_layer(volume.hu, volume.geometry, volume),
        marks_layer([mark()], series_uid="1", volume=volume),
    ):
        viewer.add_layer(Layer.create(*layer_data))
    assert [found for _, found in ct_volumes(viewer.layers)] == [volume]
