"""Voxel index to world and back, for every orientation a scan can have."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pytest
import SimpleITK as sitk

from napari_alnct.core.errors import GeometryError
from napari_alnct.core.geometry import Geometry, plan_lps, reorient, restore

SIGNED_PERMUTATIONS = [
    tuple(float(s) if column == place else 0.0 for place, s in zip(order, signs, strict=True) for column in range(3))
    for order in permutations(range(3))
    for signs in product((1, -1), repeat=3)
]


def oblique(angle: float) -> tuple[float, ...]:
    c, s = np.cos(angle), np.sin(angle)
    return (c, -s, 0.0, s, c, 0.0, 0.0, 0.0, 1.0)


def make(direction: tuple[float, ...]) -> Geometry:
    return Geometry(
        shape_zyx=(4, 5, 6), spacing_zyx_mm=(2.5, 0.7, 0.9), origin_xyz_mm=(-120.5, 33.25, -800.0), direction=direction
    )


def as_itk(geometry: Geometry) -> sitk.Image:
    image = sitk.GetImageFromArray(np.arange(np.prod(geometry.shape_zyx), dtype=np.int16).reshape(geometry.shape_zyx))
    image.SetSpacing(geometry.spacing_zyx_mm[::-1])
    image.SetOrigin(geometry.origin_xyz_mm)
    image.SetDirection(geometry.direction)
    return image


def test_there_are_48_signed_permutations() -> None:
    """The table of orientations is complete."""
    assert len(set(SIGNED_PERMUTATIONS)) == 48


@pytest.mark.parametrize("direction", [*SIGNED_PERMUTATIONS, oblique(0.3)], ids=str)
def test_world_positions_are_those_of_itk(direction: tuple[float, ...]) -> None:
    """Index to world equals SimpleITK, and world to index undoes it, to 1e-6 mm."""
    geometry, rng = make(direction), np.random.default_rng(0)
    image, index = as_itk(geometry), rng.uniform(-2, 8, (20, 3))
    world = geometry.index_to_world(index)
    oracle = [image.TransformContinuousIndexToPhysicalPoint([float(v) for v in i[::-1]]) for i in index]
    np.testing.assert_allclose(world, oracle, atol=1e-6)
    np.testing.assert_allclose(geometry.index_to_world(geometry.world_to_index(world)), world, atol=1e-6)


@pytest.mark.parametrize("direction", SIGNED_PERMUTATIONS, ids=str)
def test_reorientation_moves_no_voxel_in_space(direction: tuple[float, ...]) -> None:
    """After reorientation each value is at the same world position, as with SimpleITK's own reorientation."""
    geometry = make(direction)
    array = np.arange(120, dtype=np.int16).reshape(geometry.shape_zyx)
    plan = plan_lps(geometry)
    turned = reorient(array, plan)
    index = np.argwhere(np.ones(plan.geometry.shape_zyx, bool))
    source = np.rint(geometry.world_to_index(plan.geometry.index_to_world(index))).astype(int)
    np.testing.assert_array_equal(turned[tuple(index.T)], array[tuple(source.T)])
    oracle = sitk.DICOMOrient(as_itk(geometry), "LPS")
    np.testing.assert_array_equal(turned, sitk.GetArrayFromImage(oracle))
    np.testing.assert_allclose(plan.geometry.origin_xyz_mm, oracle.GetOrigin(), atol=1e-6)
    np.testing.assert_array_equal(restore(turned, plan), array)
    assert plan.geometry.is_lps


def test_nothing_is_copied_when_already_lps() -> None:
    """An LPS array comes back as the same object."""
    array = np.zeros((4, 5, 6), np.int16)
    assert reorient(array, plan_lps(make((1, 0, 0, 0, 1, 0, 0, 0, 1)))) is array


def test_oblique_is_refused_with_what_to_do() -> None:
    """The message names the remedy."""
    with pytest.raises(GeometryError, match="resample it to an axis-aligned grid"):
        plan_lps(make(oblique(0.1)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shape_zyx": (0, 2, 2)}, "at least 1"),
        ({"spacing_zyx_mm": (1.0, -1.0, 1.0)}, "positive"),
        ({"spacing_zyx_mm": (1.0, float("nan"), 1.0)}, "finite"),
        ({"direction": (1.0, 0.1, 0, 0, 1, 0, 0, 0, 1)}, "orthonormal"),
        ({"direction": (2.0, 0, 0, 0, 1, 0, 0, 0, 1)}, "orthonormal"),
    ],
    ids=["empty", "negative", "nan", "shear", "scale"],
)
def test_meaningless_grids_are_refused(change: dict[str, object], message: str) -> None:
    """Sizes, spacings and matrices that have no meaning raise."""
    values = {"shape_zyx": (2, 2, 2), "spacing_zyx_mm": (1.0, 1.0, 1.0)} | change
    with pytest.raises(GeometryError, match=message):
        Geometry(**values)  # type: ignore[arg-type]


def test_crop_keeps_world_positions() -> None:
    """Voxel 0 of a crop is the voxel at its start, also when the crop reaches outside."""
    geometry = make(SIGNED_PERMUTATIONS[7])
    crop = geometry.crop((1, -2, 3), (4, 5, 6))
    assert crop.shape_zyx == (3, 7, 3)
    np.testing.assert_allclose(crop.index_to_world([0, 0, 0]), geometry.index_to_world([1, -2, 3]))


def test_resampled_grid_keeps_the_corner_and_the_spacing() -> None:
    """The outer corner stays, the spacing is exactly the requested one, the extent is right to half a voxel."""
    geometry = make((-1, 0, 0, 0, -1, 0, 0, 0, 1))
    new = geometry.resampled((1.0, 1.0, 1.0))
    np.testing.assert_allclose(new.corner_xyz_mm, geometry.corner_xyz_mm)
    assert new.spacing_zyx_mm == (1.0, 1.0, 1.0)
    assert np.abs(np.subtract(new.extent_zyx_mm, geometry.extent_zyx_mm)).max() <= 0.5 + 1e-9


def test_contains_ends_at_the_outer_edges() -> None:
    """A point half a voxel outside the last centre is outside, one just inside is inside."""
    geometry = Geometry(shape_zyx=(2, 2, 2), spacing_zyx_mm=(1.0, 1.0, 1.0))
    inside = geometry.contains([[-0.5, 0, 0], [1.49, 0, 0], [1.5, 0, 0], [0, 0, -0.51]])
    assert inside.tolist() == [True, True, False, False]
