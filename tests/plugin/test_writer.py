"""Saving: what comes back is what was on the screen, in the world of the scan."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Labels, Layer, Points

from napari_alnct.core.errors import TableError
from napari_alnct.core.findings import Candidate, ReferenceNodule
from napari_alnct.core.volume import Volume
from napari_alnct.io.metaimage import read_metaimage
from napari_alnct.io.tables import read_annotations, read_candidates
from napari_alnct.plugin import _writer
from napari_alnct.plugin._layers import ct_layer, lungs_layer, marks_layer, reference_layer
from napari_alnct.plugin._viewport import add_quietly

CENTRE_XYZ_MM = (12.0, -31.0, 44.0)
PRONE = (-1, 0, 0, 0, -1, 0, 0, 0, 1)
TURNED = [[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]]


def save(layer: Layer, path: Path) -> list[str]:
    """Save a layer as napari does."""
    data, attributes, kind = layer.as_layer_data_tuple()
    return (_writer.write_marks if kind == "points" else _writer.write_mask)(str(path), data, attributes)


def test_shown_marks_come_back(tmp_path: Path) -> None:
    """The marks at or above the threshold are written with series, position, score, diameter; hidden ones are not."""
    candidates = [Candidate(position_xyz_mm=(1.5, -2.25, 300.125), score=s, diameter_mm=7.5) for s in (0.9, 0.4, 0.1)]
    layer = Layer.create(*marks_layer(candidates, series_uid="1.2.3", threshold=0.3))
    assert save(layer, tmp_path / "c.csv") == [str(tmp_path / "c.csv")]
    back = read_candidates(tmp_path / "c.csv")
    assert [uid for uid, _ in back] == ["1.2.3", "1.2.3"]
    assert [candidate.score for _, candidate in back] == [0.9, 0.4]
    assert np.allclose(back[0][1].position_xyz_mm, candidates[0].position_xyz_mm, atol=1e-4)
    assert back[0][1].diameter_mm == 7.5


@pytest.mark.parametrize("n_found", [0, 2])
def test_a_mark_added_by_hand_takes_nothing_from_another(tmp_path: Path, n_found: int) -> None:
    """Left to itself napari gives it score and diameter of the weakest mark, or NaN, and a ring of a metre."""
    found = [Candidate(position_xyz_mm=(1.0, 2.0, 3.0), score=0.1, diameter_mm=20.0)] * n_found
    layer = add_quietly(ViewerModel(), marks_layer(found, series_uid="s"))
    layer.add([0.6, 0.5, 0.4])
    assert layer.size[-1] * layer.scale[-1] == 8.0
    save(layer, tmp_path / "c.csv")
    _, mark = read_candidates(tmp_path / "c.csv")[-1]
    assert mark == Candidate(position_xyz_mm=(40.0, 50.0, 60.0), score=1.0, diameter_mm=-1.0)


def test_reference_nodules_come_back_as_annotations(tmp_path: Path) -> None:
    """Points without scores are written as annotations, positions exact to a micrometre."""
    nodules = [ReferenceNodule(series_uid="s", position_xyz_mm=(1 / 3, -2 / 3, 1e3 / 7), diameter_mm=4.2)]
    save(Layer.create(*reference_layer(nodules, series_uid="s")), tmp_path / "a.csv")
    (back,) = read_annotations(tmp_path / "a.csv")
    assert np.allclose(back.position_xyz_mm, nodules[0].position_xyz_mm, atol=1e-6)
    assert (back.series_uid, back.diameter_mm) == ("s", 4.2)


def test_points_drawn_by_hand_take_the_open_scan(
    ball: Callable[..., Volume], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A plain points layer with the scan's scale is written in world mm under the only open scan's series."""
    volume = ball(series_uid="s9")
    viewer = ViewerModel()
    viewer.add_layer(Layer.create(*ct_layer(volume)))
    monkeypatch.setattr(_writer, "current_viewer", lambda: viewer)
    geometry = volume.geometry
    layer = Points([[3, 4, 5]], scale=geometry.spacing_zyx_mm, translate=geometry.origin_xyz_mm[::-1], size=10)
    save(layer, tmp_path / "a.csv")
    (back,) = read_annotations(tmp_path / "a.csv")
    assert back.series_uid == "s9"
    assert np.allclose(back.position_xyz_mm, geometry.index_to_world([3, 4, 5]), atol=1e-9)


def test_points_of_no_series_are_refused(tmp_path: Path) -> None:
    """Points that belong to no scan are not written under an invented series."""
    with pytest.raises(TableError, match="belong to no series"):
        save(Points([[3, 4, 5]]), tmp_path / "a.csv")
    assert not (tmp_path / "a.csv").exists()


@pytest.mark.parametrize(
    ("points", "attributes"),
    [([[1, 2]], {}), ([[1, 2, 3]], {"rotate": TURNED}), ([[1, 2, 3]], {"affine": 2 * np.eye(4)})],
    ids=["2-d", "turned", "scaled-twice"],
)
def test_points_without_a_place_in_the_scan_are_refused(tmp_path: Path, points: list, attributes: dict) -> None:
    """Two-dimensional points and turned layers have no position in the scan that we could write."""
    with pytest.raises(TableError, match=r"three coordinates|turned"):
        _writer.write_marks(str(tmp_path / "a.csv"), points, {"metadata": {"alnct_series_uid": "s"}, **attributes})


def test_mask_comes_back_on_the_grid_of_the_file(ball: Callable[..., Volume], tmp_path: Path) -> None:
    """The mask of a flipped scan has the file's own orientation, grid and voxels."""
    volume = ball(PRONE)
    mask = volume.hu > -500
    save(Layer.create(*lungs_layer(mask, volume)), tmp_path / "m.mha")
    back = read_metaimage(tmp_path / "m.mha")
    assert back.geometry == volume.source_geometry
    assert np.array_equal(back.array, volume.in_source_order(mask))


def test_mask_of_others_keeps_its_world(tmp_path: Path) -> None:
    """A labels layer that is not ours is written as it lies in the viewer's world; more than 255 labels fit."""
    labels = np.zeros((4, 5, 6), dtype=np.int32)
    labels[1, 2, 3] = 300
    save(Labels(labels, scale=(2.0, 1.0, 0.5), translate=(7.0, 8.0, 9.0)), tmp_path / "m.mhd")
    back = read_metaimage(tmp_path / "m.mhd")
    assert back.geometry.origin_xyz_mm == (9.0, 8.0, 7.0)
    assert back.geometry.spacing_zyx_mm == (2.0, 1.0, 0.5)
    assert back.array[1, 2, 3] == 300


@pytest.mark.parametrize(
    ("labels", "attributes"),
    [
        (np.zeros((4, 5), dtype=np.uint8), {}),
        (np.full((2, 2, 2), -1), {}),
        (np.zeros((2, 2, 2), dtype=np.uint8), {"shear": [0.1, 0, 0]}),
    ],
    ids=["2-d", "negative", "sheared"],
)
def test_masks_that_fit_no_scan_are_refused(tmp_path: Path, labels: np.ndarray, attributes: dict) -> None:
    """Two-dimensional, negative and sheared labels are refused and leave no file."""
    with pytest.raises(TableError):
        _writer.write_mask(str(tmp_path / "m.mha"), labels, attributes)
    assert not (tmp_path / "m.mha").exists()
