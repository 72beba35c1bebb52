"""A patch's frame: what is cut and what is computed of positions agree."""

from __future__ import annotations

import numpy as np
import pytest

from napari_alnct.core.geometry import Geometry
from napari_alnct.training.cases import make_case
from napari_alnct.training.crops import CropSettings, draw_patch
from napari_alnct.training.frames import PatchFrame, warped_frame

SHAPE = (120, 110, 130)
BLOB = np.array([58.3, 51.8, 66.2])


def host() -> np.ndarray:
    """Give air with one soft ball."""
    z, y, x = np.ogrid[tuple(slice(0, n) for n in SHAPE)]
    squared = (z - BLOB[0]) ** 2 + (y - BLOB[1]) ** 2 + (x - BLOB[2]) ** 2
    return (-900 + 900 * np.exp(-squared / 30)).astype(np.int16)


def centre_of_mass(patch: np.ndarray) -> np.ndarray:
    weight = np.clip(patch + 890, 0, None)
    grid = np.array(np.meshgrid(*[np.arange(n) for n in patch.shape], indexing="ij"))
    return (grid * weight).sum(axis=(1, 2, 3)) / weight.sum()


@pytest.mark.parametrize("seed", range(8))
def test_a_turned_patch_shows_the_ball_where_its_frame_says(seed: int) -> None:
    """Centre of mass within 0.05 voxel, for any turn and scale; the scale is that of the distances."""
    rng = np.random.default_rng(seed)
    frame = warped_frame(np.array([20, 12, 30]) + rng.integers(-8, 8, 3), 80, rng)
    assert 0.85 <= frame.scale <= 1.2
    assert centre_of_mass(frame.cut(host(), -900.0)) == pytest.approx(frame.to_patch(BLOB)[0], abs=0.05)
    two = frame.to_patch(np.stack([BLOB, BLOB + np.array([0.0, 3.0, 4.0])]))
    assert np.linalg.norm(two[1] - two[0]) == pytest.approx(5 * frame.scale)


def test_an_unturned_frame_is_a_plain_cut() -> None:
    """Voxels are taken as they are, positions are shifted."""
    frame = PatchFrame(np.array([-3, 10, 40]), 32)
    patch, scan = frame.cut(host(), -1000.0), host()
    assert np.array_equal(patch[3:], scan[:29, 10:42, 40:72].astype(np.float32))
    assert (patch[:3] == -1000).all()
    assert frame.to_patch(np.array([[0.0, 10.0, 41.0]])).tolist() == [[3.0, 0.0, 1.0]]


def test_a_turn_of_nothing_is_the_plain_cut_again() -> None:
    """Resampling on the host's own grid changes no voxel, also where the patch leaves the host."""
    plain = PatchFrame(np.array([-3, 10, 70]), 64)
    turned = PatchFrame(plain.start_zyx, 64, np.eye(3), 1.0)
    assert np.allclose(turned.cut(host(), -900.0), plain.cut(host(), -900.0), atol=1e-3)


def test_lungs_go_through_the_same_frame_as_the_voxels() -> None:
    """The mask of a turned patch covers what is dense in it."""
    scan = host()
    case = make_case(
        "toy",
        scan,
        scan > -500,
        Geometry(shape_zyx=SHAPE, spacing_zyx_mm=(1.0, 1.0, 1.0)),
        nodules_xyz_mm=np.zeros((0, 3)),
        diameters_mm=np.zeros(0),
        excluded_xyz_mm=np.zeros((0, 3)),
        excluded_diameters_mm=np.zeros(0),
    )
    frame = warped_frame(np.array([20, 12, 30]), 80, np.random.default_rng(3))
    mask, patch = frame.lungs(case), frame.cut(scan, -900.0)
    assert mask[patch > -400].mean() > 0.98
    assert mask[patch < -600].mean() < 0.01


def test_targets_follow_a_warped_host() -> None:
    """With every patch warped, the positive cells of a patch lie on its dense ball."""
    scan = host()
    place = BLOB[::-1]
    case = make_case(
        "toy",
        scan,
        np.ones(SHAPE, bool),
        Geometry(shape_zyx=SHAPE, spacing_zyx_mm=(1.0, 1.0, 1.0)),
        nodules_xyz_mm=place[None],
        diameters_mm=np.array([9.0]),
        excluded_xyz_mm=np.zeros((0, 3)),
        excluded_diameters_mm=np.zeros(0),
    )
    settings = CropSettings(edge_vox=64, warp_share=1.0, real_nodule_share=1.0, imitation_share=0.0, synthetic_share=0)
    seen = 0
    for number in range(12):
        patch = draw_patch([case], [], settings, 0, number)
        cells = np.argwhere(patch.targets.state == 1)
        for cell in cells:
            at = cell * 4 + 1.5 + patch.targets.regression[:3, *cell] * 4
            z, y, x = np.rint(at).astype(int)
            around = patch.hu[max(z - 1, 0) : z + 2, max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2]
            assert around.mean() > -350
            seen += 1
    assert seen > 20
