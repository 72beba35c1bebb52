"""The Volume: int16 HU in LPS order, with its identity and its flags."""

from __future__ import annotations

import numpy as np
import pytest

from napari_alnct.core.errors import GeometryError, ReadError
from napari_alnct.core.findings import Candidate, CaseResult, positions_xyz_mm
from napari_alnct.core.geometry import Geometry
from napari_alnct.core.volume import Volume, to_int16

FLIPPED = (-1.0, 0, 0, 0, -1.0, 0, 0, 0, 1.0)


def grid(spacing: tuple[float, float, float] = (1.0, 0.7, 0.7), direction: tuple[float, ...] = FLIPPED) -> Geometry:
    return Geometry(shape_zyx=(10, 12, 14), spacing_zyx_mm=spacing, direction=direction)


def chest(geometry: Geometry) -> np.ndarray:
    hu = np.full(geometry.shape_zyx, -850, np.int16)
    hu[:, 4:8] = 40
    return hu


def test_source_order_comes_back() -> None:
    """An array on the LPS grid goes back to the orientation of the file, voxel for voxel."""
    source = chest(grid())
    source[1, 2, 3] = 77
    volume = Volume.from_source(source, grid())
    assert volume.geometry.is_lps
    np.testing.assert_array_equal(volume.in_source_order(volume.hu), source)
    place = volume.geometry.world_to_index(grid().index_to_world([1, 2, 3]))
    assert volume.hu[tuple(np.rint(place).astype(int))] == 77


def test_the_identity_depends_on_voxels_and_grid() -> None:
    """One voxel or one spacing more, and the hash differs; the same scan twice has one hash."""
    first, again = (Volume.from_source(chest(grid()), grid()) for _ in range(2))
    changed = chest(grid())
    changed[0, 0, 0] += 1
    assert first.voxel_sha256 == again.voxel_sha256
    assert Volume.from_source(changed, grid()).voxel_sha256 != first.voxel_sha256
    other = grid(spacing=(1.1, 0.7, 0.7))
    assert Volume.from_source(chest(other), other).voxel_sha256 != first.voxel_sha256


@pytest.mark.parametrize(("spacing_mm", "expected"), [(2.5, False), (2.6, True)])
def test_thick_slices_are_flagged_above_2_5_mm(spacing_mm: float, expected: bool) -> None:
    """LUNA16's limit itself is not flagged."""
    geometry = grid(spacing=(spacing_mm, 0.7, 0.7))
    assert Volume.from_source(chest(geometry), geometry).has_flag("thick_slices") is expected


def test_voxels_that_are_not_hu_are_flagged() -> None:
    """Stored values without rescaling (all positive) do not look like a chest."""
    assert Volume.from_source(chest(grid()) + np.int16(1024), grid()).has_flag("not_hu")
    assert not Volume.from_source(chest(grid()), grid()).has_flag("not_hu")


def test_the_invariants_hold() -> None:
    """Wrong type, wrong shape, wrong order: refused."""
    lps = grid(direction=(1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0))
    with pytest.raises(TypeError, match="int16"):
        Volume(np.zeros(lps.shape_zyx, np.float32), lps, lps)  # type: ignore[arg-type]
    with pytest.raises(GeometryError, match="differs from the grid"):
        Volume(np.zeros((2, 2, 2), np.int16), lps, lps)
    with pytest.raises(GeometryError, match="LPS order"):
        Volume(np.zeros(lps.shape_zyx, np.int16), grid(), grid())


def test_to_int16_rounds_clips_and_does_not_copy() -> None:
    """Half goes to even as in numpy; values beyond the type saturate; int16 stays the same object."""
    assert to_int16(np.array([-0.6, 0.5, 1.5, 4e4, -4e4])).tolist() == [-1, 0, 2, 32767, -32768]
    values = np.zeros(3, np.int16)
    assert to_int16(values) is values or np.shares_memory(to_int16(values), values)


def result(*scores: float, threshold: float = 0.5) -> CaseResult:
    candidates = tuple(Candidate(position_xyz_mm=(1.0, 2.0, 3.0), score=s, diameter_mm=5.0) for s in scores)
    return CaseResult(
        series_uid="1.2", candidates=candidates, threshold=threshold, model_name="m", model_sha256="", device="cpu"
    )


def test_the_threshold_hides_and_the_empty_result_is_not_no_nodule() -> None:
    """A score equal to the threshold is shown; with none shown the sentence does not promise health."""
    assert [c.score for c in result(0.9, 0.5, 0.49).shown] == [0.9, 0.5]
    assert "2 of 3 candidates" in result(0.9, 0.5, 0.49).summary
    assert "does not mean that there is no nodule" in result(0.2).summary


def test_positions_of_nothing_have_the_right_shape() -> None:
    """Arithmetic on an empty result works."""
    assert positions_xyz_mm([]).shape == (0, 3)


def test_a_read_error_survives_pickling() -> None:
    """It crosses a process border with its code."""
    import pickle

    error = ReadError("E_TYPE", "a.mhd", "MET_SHORT", "MET_X", key="ElementType", hint="convert it")
    again = pickle.loads(pickle.dumps(error))  # noqa: S301  (our own bytes)
    assert (again.code, again.key, str(again)) == (error.code, error.key, str(error))
