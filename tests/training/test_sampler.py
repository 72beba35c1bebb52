"""Which places become patches: jitter, quotas, clearance of findings. All scans here are toys; about 2 s of CPU."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_alnct.core.errors import SettingsError
from napari_alnct.core.geometry import Geometry
from napari_alnct.io.prepared import PreparedFinding
from napari_alnct.training.sample_settings import SampleSettings
from napari_alnct.training.sampler import (
    APART_MM,
    KINDS,
    KeepOut,
    keep_out,
    kind_shares,
    negative_centres,
    nodule_centres,
    scan_rng,
    share_out,
    split_kinds,
)

from ..io.prepared_folder import TRIO, ToyScan

GRID = Geometry(shape_zyx=(40, 50, 60), spacing_zyx_mm=(0.8, 0.8, 0.8), origin_xyz_mm=(5.0, -3.0, 90.0))
NO_BARRIER = KeepOut(np.zeros((0, 3)), np.zeros(0))


def finding(centre_zyx: tuple[float, float, float], diameter_mm: float = 6.0, grid: Geometry = GRID) -> PreparedFinding:
    """Give a finding of a grid."""
    x, y, z = (float(v) for v in grid.index_to_world(centre_zyx))
    return PreparedFinding(
        number=0, centre_zyx_vox=centre_zyx, position_xyz_mm=(x, y, z), diameter_mm=diameter_mm, is_inside=True
    )


def test_the_first_patch_is_centred_and_the_others_are_near_and_different() -> None:
    """30 voxels: the nearest one, then others at most 3 mm from the nodule's own centre, none twice."""
    centre = (20.3, 24.6, 30.4)
    voxels = nodule_centres(finding(centre), GRID, SampleSettings(per_nodule=30, jitter_mm=3), np.random.default_rng(0))
    np.testing.assert_array_equal(voxels[0], [20, 25, 30])
    assert len({tuple(v) for v in voxels}) == len(voxels) == 30
    distance = np.linalg.norm((voxels[1:] - centre) * 0.8, axis=1)
    assert distance.max() <= 3.0
    assert distance.max() > 2.0
    assert np.abs(voxels[1:].mean(axis=0) - centre).max() < 1.0


def test_jitter_runs_out_of_voxels() -> None:
    """Within 0.9 mm of a voxel there are its 6 neighbours and no more; without jitter there is one patch."""
    nodule, rng = finding((20.0, 20.0, 20.0)), np.random.default_rng(0)
    assert len(nodule_centres(nodule, GRID, SampleSettings(per_nodule=20, jitter_mm=0.9), rng)) == 7
    assert len(nodule_centres(nodule, GRID, SampleSettings(per_nodule=20, jitter_mm=0.0), rng)) == 1


def test_patches_stay_centred_inside_the_scan() -> None:
    """Of a nodule in the corner no patch is centred outside."""
    voxels = nodule_centres(finding((-0.4, 49.4, 0.0)), GRID, SampleSettings(per_nodule=40), np.random.default_rng(0))
    assert len(voxels) > 5
    assert (voxels >= 0).all()
    assert (voxels < GRID.shape_zyx).all()


@given(st.integers(0, 500), st.lists(st.text("0123456789.", min_size=1), min_size=1, max_size=30, unique=True))
def test_every_scan_supplies_the_same_number(n_total: int, series: list[str]) -> None:
    """Shares add up and differ by one at most; the order of the scans does not matter."""
    shares = share_out(n_total, series, seed=3)
    assert sum(shares.values()) == n_total
    assert max(shares.values()) - min(shares.values()) <= 1
    assert share_out(n_total, series[::-1], seed=3) == shares
    assert list(share_out(n_total, series[::-1], seed=3)) == list(shares)


@pytest.mark.parametrize("per_scan", [1, 3, 7])
def test_kinds_hold_their_shares_over_all_scans(per_scan: int) -> None:
    """Also where each scan supplies a single patch; 200 scans, to within 3 patches."""
    shares = kind_shares(SampleSettings(hard_share=0.6, vessel_share=0.25), has_candidates=True, has_model=True)
    assert shares == pytest.approx({"mined": 0.3, "candidate": 0.3, "vessel": 0.1, "lung": 0.3})
    counts = split_kinds({str(n): per_scan for n in range(200)}, shares)
    assert {sum(kinds.values()) for kinds in counts.values()} == {per_scan}
    for kind, share in shares.items():
        assert abs(sum(kinds[kind] for kinds in counts.values()) - share * 200 * per_scan) <= 3


def test_without_a_source_there_are_no_hard_negatives() -> None:
    """Vessels and lung share them all; a share of 0 or 1 is exact."""
    shares = kind_shares(SampleSettings(vessel_share=1.0), has_candidates=False, has_model=False)
    assert shares == {"mined": 0.0, "candidate": 0.0, "vessel": 1.0, "lung": 0.0}
    assert split_kinds({"a": 50}, shares)["a"] == {"mined": 0, "candidate": 0, "vessel": 50, "lung": 0}


def test_the_barrier_is_the_radius_and_the_clearance() -> None:
    """Nodule of 6 mm with 8 mm: 11 mm are too near, 11.1 mm not; excluded ones without diameter: 5 + 4 mm."""
    barrier = keep_out([finding((0, 0, 0))], [finding((0, 0, 50), -1.0)], 8.0)
    points = np.array([[5 + 11, -3, 90], [5 + 11.1, -3, 90], [45, -3 + 9, 90], [45, -3 + 9.1, 90]])
    assert barrier.leaves(points).tolist() == [False, True, False, True]


def negatives(toy: ToyScan, wanted: dict[str, int], hard: dict | None = None, barrier: KeepOut = NO_BARRIER) -> list:
    """Choose the negatives of a toy scan."""
    rng = scan_rng(0, toy.uid, "negatives")
    return negative_centres(toy.hu, toy.lungs, toy.geometry, barrier, wanted, hard or {}, rng)


def test_negatives_are_what_they_are_called() -> None:
    """Lung lies in the mask, vessels are dense voxels in it, all apart from each other and clear of the nodule."""
    toy = TRIO[2]
    barrier = keep_out([finding((28, 32, 36), 12.0, toy.geometry)], [], 8.0)
    chosen = negatives(toy, {"lung": 12, "vessel": 10}, barrier=barrier)
    assert Counter(kind for kind, _ in chosen) == {"lung": 12, "vessel": 10}
    voxels = np.array([voxel for _, voxel in chosen])
    assert toy.lungs[tuple(voxels.T)].all()
    assert [toy.hu[voxel] for kind, voxel in chosen if kind == "vessel"] == [0] * 10
    assert np.linalg.norm(voxels - (28, 32, 36), axis=1).min() > 14
    gaps = np.linalg.norm(voxels[:, None] - voxels[None], axis=2) + 99 * np.eye(len(voxels))
    assert gaps.min() >= APART_MM


def test_hard_negatives_are_taken_in_their_order_and_only_where_free() -> None:
    """The first is on the nodule, the second beside the first free one, the fourth outside the scan."""
    toy = TRIO[2]
    barrier = keep_out([finding((28, 32, 36), 12.0, toy.geometry)], [], 8.0)
    voxels = [(28, 32, 30), (10, 10, 10), (10, 10, 12), (-1, 10, 30), (10, 40, 60), (40, 10, 60)]
    hard = {"mined": toy.geometry.index_to_world(voxels)}
    chosen = negatives(toy, {"mined": 2}, hard, barrier)
    assert chosen == [("mined", (10, 10, 10)), ("mined", (10, 40, 60))]


def test_what_lacks_is_replaced() -> None:
    """One of 5 mined and none of 4 candidates is there: candidates are asked for 8, vessels for 4, lung for 4."""
    toy = TRIO[1]
    hard = {"mined": toy.geometry.index_to_world([(10, 10, 10)]), "candidate": np.zeros((0, 3))}
    chosen = negatives(toy, {"mined": 5, "candidate": 4, "vessel": 1, "lung": 0}, hard)
    assert Counter(kind for kind, _ in chosen) == {"mined": 1, "vessel": 5, "lung": 4}


def test_a_full_scan_gives_fewer() -> None:
    """Behind a barrier over the whole lung there is no place, and nothing hangs."""
    toy = TRIO[1]
    barrier = keep_out([finding((28, 32, 36), 500.0, toy.geometry)], [], 8.0)
    assert negatives(toy, dict.fromkeys(KINDS, 3), {}, barrier) == []


def test_chance_depends_on_seed_series_and_purpose() -> None:
    """Each of the three gives other numbers; the same three the same."""
    draws = [scan_rng(*key).integers(2**60) for key in [(0, "a", "x"), (1, "a", "x"), (0, "b", "x"), (0, "a", "y")]]
    assert len(set(draws)) == 4
    assert scan_rng(0, "a", "x").integers(2**60) == draws[0]


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"jitter_mm": 9.0}, r"jitter_mm is 9, allowed is at most clearance_mm \(8\)"),
        ({"patch_vox": 33}, "patch_vox is 33, allowed are even numbers"),
        ({"neg_ratio": -1.0}, "neg_ratio is -1.0"),
    ],
)
def test_nonsense_is_refused(values: dict, sentence: str) -> None:
    """With the value and what is allowed."""
    with pytest.raises(SettingsError, match=sentence):
        SampleSettings(**values)


def test_jitter_keeps_the_nodule_in_its_patch() -> None:
    """16 voxels of 0.5 mm: at most 3.5 mm."""
    with pytest.raises(SettingsError, match=r"jitter_mm is 4, allowed is at most 3\.5 with patches of 16 voxels"):
        SampleSettings(patch_vox=16, jitter_mm=4.0).check_spacing(0.5)
    SampleSettings(patch_vox=16, jitter_mm=3.5).check_spacing(0.5)
