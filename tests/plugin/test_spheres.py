"""Sections of spheres: which marks a slice or slab shows, and how large."""

from __future__ import annotations

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Points

from napari_alnct.plugin._compat import SPHERE_PROJECTION
from napari_alnct.plugin._layers import WIDENING_KEY
from napari_alnct.plugin._spheres import cut_spheres_by_slabs, sections


@pytest.mark.parametrize(("below", "above"), [(0.0, 0.0), (2.0, 2.0), (0.5, 4.0)])
def test_sections_are_the_largest_circle_of_any_plane_within_the_slab(below: float, above: float) -> None:
    """Oracle: the slab as 2001 planes, the circle of each by Pythagoras, the largest one counts."""
    random = np.random.default_rng(1)
    offsets, diameters = random.uniform(-12, 12, 200), random.uniform(0.5, 20, 200)
    planes = np.linspace(-below, above, 2001)
    squared = (diameters[:, None] / 2) ** 2 - (offsets[:, None] - planes) ** 2
    wanted = 2 * np.sqrt(np.maximum(squared.max(axis=1), 0.0))
    inside, circles = sections(offsets[:, None], diameters, below, above)
    assert np.array_equal(inside, squared.max(axis=1) > 0)
    assert np.allclose(circles, wanted, atol=0.02)


@pytest.fixture
def viewer() -> ViewerModel:
    """Give a viewer with one mark of 20 mm at z = 0, in data units of 100 mm."""
    viewer = ViewerModel()
    viewer.add_image(np.zeros((41, 9, 9)), translate=(-20, -4, -4))
    viewer.add_layer(Points([[0, 0, 0]], size=0.2, scale=(100,) * 3, projection_mode=SPHERE_PROJECTION))
    return viewer


def drawn_mm(viewer: ViewerModel, z_mm: float) -> list[float]:
    """Go to a slice and give the diameters that are drawn there."""
    viewer.dims.set_point(0, z_mm)
    return [round(100 * float(size), 3) for size in viewer.layers[1]._view_size]


def test_a_mark_is_drawn_on_each_slab_that_its_sphere_reaches(viewer: ViewerModel) -> None:
    """The slab reaches 3 mm to each side: 11 mm from the centre, 8 mm remain; 13 mm from it, nothing does."""
    cut_spheres_by_slabs(viewer.layers[1], True)
    viewer.dims.margin_left = viewer.dims.margin_right = (3.0, 0.0, 0.0)
    assert drawn_mm(viewer, 2.0) == [20.0]
    assert drawn_mm(viewer, 11.0) == [12.0]
    assert drawn_mm(viewer, 13.0) == []


def test_napari_alone_would_drop_it(viewer: ViewerModel) -> None:
    """The reason for all this: without us the mark is gone 4 mm from its centre, though its radius is 10 mm."""
    viewer.dims.margin_left = viewer.dims.margin_right = (3.0, 0.0, 0.0)
    assert drawn_mm(viewer, 4.0) == []


def test_without_a_slab_nothing_changes(viewer: ViewerModel) -> None:
    """Single slices show what napari shows: 16 mm at 6 mm from the centre; and so they do after giving it back."""
    alone = [drawn_mm(viewer, z_mm) for z_mm in (0.0, 6.0, 9.0, 10.0)]
    cut_spheres_by_slabs(viewer.layers[1], True)
    assert [drawn_mm(viewer, z_mm) for z_mm in (0.0, 6.0, 9.0, 10.0)] == alone
    cut_spheres_by_slabs(viewer.layers[1], False)
    assert [drawn_mm(viewer, z_mm) for z_mm in (0.0, 6.0, 9.0, 10.0)] == alone
    assert alone[1] == [16.0]


def test_a_symbol_drawn_wider_is_cut_as_the_sphere_it_stands_for(viewer: ViewerModel) -> None:
    """A symbol of twice the diameter: the sphere of 10 mm ends 5 mm from its centre; 4 mm from it, 6 mm are cut."""
    viewer.layers[1].metadata[WIDENING_KEY] = np.array([2.0])
    cut_spheres_by_slabs(viewer.layers[1], True)
    assert drawn_mm(viewer, 4.0) == [12.0]
    assert drawn_mm(viewer, 5.0) == []


def test_a_hidden_mark_stays_hidden(viewer: ViewerModel) -> None:
    """The threshold hides in slabs too."""
    cut_spheres_by_slabs(viewer.layers[1], True)
    viewer.layers[1].shown = False
    assert drawn_mm(viewer, 0.0) == []
