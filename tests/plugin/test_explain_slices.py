"""Layers that come and go beside a scan with thick slices leave the reader at the slice, also with napari's slider."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from napari_alnct.core.volume import Volume
from napari_alnct.plugin._explain_show import EvidenceShow
from napari_alnct.plugin._reading_view import ReadingView
from tests.plugin.evidence_maps import CELL_MM, made_up_map

pytestmark = [pytest.mark.gui, pytest.mark.filterwarnings("ignore::pydantic.PydanticDeprecatedSince20")]
SLICE_MM = 5.0


@pytest.fixture
def view(make_napari_viewer: Any, ball: Callable[..., Volume]) -> Any:
    """Give a view of a scan whose slices are thicker than the cells of a map, in a window with a slider."""
    view = ReadingView(make_napari_viewer())
    view.open(ball(spacing_zyx_mm=(SLICE_MM, 0.7, 0.9)))
    yield view
    view.close()


def place_of(view: ReadingView, index: int) -> tuple[float, float, float]:
    assert view.volume is not None
    x, y, z = (float(value) for value in view.volume.geometry.index_to_world([index, 20, 30]))
    return x, y, z


def test_evidence_comes_and_goes_at_every_slice(view: Any) -> None:
    """The slider has finer steps meanwhile, and more of them; the first step of the reader afterwards is one slice."""
    n_slices = view.main.n_slices
    for index in range(0, n_slices, 3):
        view.go_to(place_of(view, index))
        show = EvidenceShow(view.viewer, [side.viewer for side in view.sides])
        show.put(view.volume, [made_up_map(place_of(view, n_slices // 2))])
        show.go_to("mark 1")
        assert (view.main.index, view.viewer.dims.range[0].step) == (index, CELL_MM)
        show.close()
        assert (view.main.index, view.viewer.dims.range[0].step) == (index, SLICE_MM)
        assert view.place_xyz_mm == place_of(view, index)
        towards = 1 if index + 1 < n_slices else -1
        view.viewer.dims.set_current_step(0, index + towards)
        assert view.main.index == index + towards


def test_a_layer_from_elsewhere_comes_and_goes(view: Any) -> None:
    """With other units and far from the scan; window and slider do not call each other without end."""
    for index in (2, 17):
        view.go_to(place_of(view, index))
        layer = view.viewer.add_image(np.zeros((4, 4, 4)))
        assert view.main.index == index
        view.viewer.layers.remove(layer)
        assert view.main.index == index
        assert view.place_xyz_mm == place_of(view, index)
