"""Moving the viewer: to a place, upright, without touching zoom, window or the user's selection."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Layer

from napari_alnct.core.volume import Volume
from napari_alnct.plugin._compat import camera_of
from napari_alnct.plugin._layers import LUNGS, ct_layer, lungs_layer, marks_layer
from napari_alnct.plugin._viewport import add_quietly, hide_earlier, jump_to, keep_upright

PLACE_XYZ_MM = (12.0, -31.0, 44.0)


@pytest.fixture
def viewer(ball: Callable[..., Volume]) -> ViewerModel:
    """Give a viewer that shows one scan."""
    viewer = ViewerModel()
    viewer.add_layer(Layer.create(*ct_layer(ball())))
    return viewer


@pytest.mark.parametrize("order", [(0, 1, 2), (1, 0, 2), (2, 0, 1)], ids=["axial", "coronal", "sagittal"])
def test_jump_shows_the_nearest_slice_with_the_place_in_the_middle(
    viewer: ViewerModel, order: tuple[int, int, int]
) -> None:
    """The slice is the one nearest to the place; the camera looks at it; zoom and window are as before."""
    viewer.dims.order = order
    camera = camera_of(viewer)
    camera.zoom = 3.25
    viewer.layers[0].contrast_limits = (-160, 240)
    jump_to(viewer, PLACE_XYZ_MM)
    place_zyx = np.array(PLACE_XYZ_MM[::-1])
    index = np.asarray(viewer.layers[0].world_to_data(place_zyx))
    assert viewer.dims.current_step[order[0]] == round(float(index[order[0]]))
    assert np.allclose(camera.center[-2:], place_zyx[list(order[1:])])
    assert camera.zoom == 3.25
    assert tuple(viewer.layers[0].contrast_limits) == (-160, 240)


def test_jump_works_beside_a_layer_of_four_axes(viewer: ViewerModel) -> None:
    """With a time series open too, the jump moves the last three axes and leaves time alone."""
    viewer.add_image(np.zeros((5, 4, 4, 4)))
    viewer.dims.set_current_step(0, 3)
    jump_to(viewer, PLACE_XYZ_MM)
    assert viewer.dims.current_step[0] == 3
    assert abs(viewer.dims.point[1] - PLACE_XYZ_MM[2]) <= viewer.dims.range[1].step / 2


def test_jump_in_3d_looks_at_the_place(viewer: ViewerModel) -> None:
    """In the 3-D view the camera looks at the place itself."""
    viewer.dims.ndisplay = 3
    jump_to(viewer, PLACE_XYZ_MM)
    assert np.allclose(camera_of(viewer).center, PLACE_XYZ_MM[::-1])


def test_views_are_upright_whenever_the_axes_change(viewer: ViewerModel) -> None:
    """Axial: front of the body up. Coronal and sagittal: head up. The patient's left stays on the right."""
    keep_upright(viewer)
    camera = camera_of(viewer)
    seen = {}
    for name, order in {"coronal": (1, 0, 2), "sagittal": (2, 0, 1), "axial": (0, 1, 2)}.items():
        viewer.dims.order = order
        seen[name] = tuple(str(direction) for direction in camera.orientation2d)
    assert seen == {"coronal": ("up", "right"), "sagittal": ("up", "right"), "axial": ("down", "right")}


def test_keeping_upright_connects_once(viewer: ViewerModel) -> None:
    """Opening many scans and widgets leaves one callback."""
    before = len(viewer.dims.events.order.callbacks)
    for _ in range(20):
        keep_upright(viewer)
    assert len(viewer.dims.events.order.callbacks) == before + 1


def test_masks_go_below_marks_and_the_selection_stays(viewer: ViewerModel, ball: Callable[..., Volume]) -> None:
    """A mask is put just above its scan, so marks stay visible; the layer that was selected still is."""
    volume = viewer.layers[0].metadata["alnct_volume"]
    add_quietly(viewer, marks_layer([], series_uid="1", volume=volume))
    add_quietly(viewer, lungs_layer(volume.hu < -500, volume), above=volume)
    assert [layer.name.split()[0] for layer in viewer.layers] == ["CT", "Lungs", "Marks"]
    assert viewer.layers.selection.active is viewer.layers[0]


def test_earlier_results_are_hidden_not_deleted(viewer: ViewerModel, ball: Callable[..., Volume]) -> None:
    """Only the named kinds of the given scan are hidden."""
    volume, other = viewer.layers[0].metadata["alnct_volume"], ball()
    mine = add_quietly(viewer, lungs_layer(volume.hu < -500, volume))
    others = add_quietly(viewer, lungs_layer(other.hu < -500, other))
    hide_earlier(viewer, volume, LUNGS)
    assert (mine.visible, others.visible, viewer.layers[0].visible) == (False, True, True)
