"""The synthetic chest: right way up, right densities, exact truth, the same every time."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from napari_alnct.core.errors import SettingsError
from napari_alnct.core.geometry import IDENTITY
from napari_alnct.data.phantom import PhantomScan, PhantomSettings, make_phantom, small_settings
from napari_alnct.data.phantom_settings import draw_diameters_mm

LEFT, RIGHT, TRACHEA = 3, 4, 5
FLIPPED = (-1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 1.0)
SAGITTAL = (0.0, 0.0, 1.0, -1.0, 0.0, 0.0, 0.0, -1.0, 0.0)  # slices run from right to left


@pytest.fixture(scope="module")
def scans() -> list[PhantomScan]:
    """Three small chests with five nodules each."""
    return [make_phantom(small_settings(seed, n_nodules=5)) for seed in (11, 12, 13)]


def _diameter_mm(voxels: float, scan: PhantomScan) -> float:
    return float(np.cbrt(6 / np.pi * voxels * np.prod(scan.volume.geometry.spacing_zyx_mm)))


def test_same_settings_give_the_same_bytes(scans: list[PhantomScan]) -> None:
    """Voxels, masks and truth of a scan follow from its settings alone."""
    again = make_phantom(small_settings(11, n_nodules=5))
    assert again.volume.voxel_sha256 == scans[0].volume.voxel_sha256
    assert again.nodules == scans[0].nodules
    assert again.excluded == scans[0].excluded
    assert np.array_equal(again.organs, scans[0].organs)
    assert np.array_equal(again.nodule_labels, scans[0].nodule_labels)


def test_another_seed_gives_another_scan(scans: list[PhantomScan]) -> None:
    """No two seeds share voxels or nodules."""
    assert len({scan.volume.voxel_sha256 for scan in scans}) == 3
    assert not set(scans[0].nodules) & set(scans[1].nodules)


@pytest.mark.parametrize("direction", [FLIPPED, SAGITTAL], ids=["x and y reversed", "axes exchanged"])
def test_the_direction_of_the_file_does_not_change_the_scan(
    scans: list[PhantomScan], direction: tuple[float, ...]
) -> None:
    """World positions and LPS voxels are those of the unflipped scan; only the stored array differs."""
    plain, turned = scans[0], make_phantom(replace(small_settings(11, n_nodules=5), direction=direction))
    assert plain.volume.source_geometry.direction == IDENTITY
    assert turned.volume.voxel_sha256 == plain.volume.voxel_sha256
    assert turned.nodules == plain.nodules
    source = turned.volume.source_geometry
    stored = turned.volume.in_source_order(turned.nodule_labels)
    assert stored.shape == source.shape_zyx
    centre = source.index_to_world(np.argwhere(stored == 1).mean(0))
    assert np.linalg.norm(centre - plain.nodules[0].position_xyz_mm) < 0.6


def test_centres_are_those_of_the_painted_nodules(scans: list[PhantomScan]) -> None:
    """The centroid of the labelled voxels lies within a third of a voxel of the stated centre."""
    for scan in scans:
        grid = scan.volume.geometry
        for i, nodule in enumerate(scan.nodules, start=1):
            centroid = np.argwhere(scan.nodule_labels == i).mean(0)
            error_vox = np.abs(centroid - grid.world_to_index(nodule.position_xyz_mm))
            assert error_vox.max() < 0.34, nodule


def test_centres_and_diameters_are_exact_on_a_fine_grid() -> None:
    """On 0.7 mm voxels, where labels are nearly exact, centre and diameter agree to 0.2 mm."""
    settings = PhantomSettings(
        shape_zyx=(172, 260, 260), spacing_zyx_mm=(0.7, 0.7, 0.7), n_nodules=6, diameter_range_mm=(4.0, 16.0), seed=4
    )
    scan = make_phantom(settings)
    for i, nodule in enumerate(scan.nodules, start=1):
        voxels = np.argwhere(scan.nodule_labels == i)
        centre = scan.volume.geometry.index_to_world(voxels.mean(0))
        assert np.linalg.norm(centre - nodule.position_xyz_mm) < 0.2, nodule
        assert abs(_diameter_mm(len(voxels), scan) - nodule.diameter_mm) < 0.2, nodule


def test_nodules_are_as_many_and_as_large_as_asked(scans: list[PhantomScan]) -> None:
    """Five nodules of 4 to 20 mm (2 % play where the pleura cuts them), largest first."""
    for scan in scans:
        diameters = [n.diameter_mm for n in scan.nodules]
        assert len(diameters) == len(scan.contact) == int(scan.nodule_labels.max()) == 5
        assert diameters == sorted(diameters, reverse=True)
        assert min(diameters) >= 4.0
        assert max(diameters) <= 20.0 * 1.02


def test_nodules_can_be_seen(scans: list[PhantomScan]) -> None:
    """Each nodule is at least 100 HU denser than the lung around it; solid ones at least 300 HU."""
    for scan in scans:
        for i, nodule in enumerate(scan.nodules, start=1):
            body = scan.nodule_labels == i
            around = ndimage.binary_dilation(body, iterations=4) & ~ndimage.binary_dilation(body, iterations=2)
            around &= scan.lungs & (scan.nodule_labels == 0)
            contrast = np.median(scan.volume.hu[body]) - np.median(scan.volume.hu[around])
            assert contrast > (300 if nodule.kind == "solid" else 100), (nodule, contrast)


def test_nodules_lie_in_the_lungs_and_apart(scans: list[PhantomScan]) -> None:
    """Every labelled voxel belongs to a lung, and two nodules never touch."""
    for scan in scans:
        assert scan.lungs[scan.nodule_labels > 0].all()
        _, n_parts = ndimage.label(ndimage.binary_dilation(scan.nodule_labels > 0, np.ones((3, 3, 3))))
        assert n_parts == len(scan.nodules)


def test_contact_is_what_it_says(scans: list[PhantomScan]) -> None:
    """A juxtapleural nodule touches the edge of the lung mask, an isolated one does not."""
    seen = set()
    for scan in scans:
        core = ndimage.binary_erosion(scan.lungs)
        for i, contact in enumerate(scan.contact, start=1):
            body = scan.nodule_labels == i
            touches = bool((body & ~core).any())
            if contact in ("juxtapleural", "isolated"):
                seen.add(contact)
                assert touches == (contact == "juxtapleural"), contact
    assert seen == {"juxtapleural", "isolated"}


@pytest.mark.parametrize(
    ("organ", "low_hu", "high_hu"), [(LEFT, -910, -760), (RIGHT, -910, -760), (TRACHEA, -1024, -900)]
)
def test_organs_have_their_density(scans: list[PhantomScan], organ: int, low_hu: int, high_hu: int) -> None:
    """The median HU inside lungs and trachea is that of real scans."""
    for scan in scans:
        inside = ndimage.binary_erosion(scan.organs == organ, iterations=2)
        assert low_hu < np.median(scan.volume.hu[inside]) < high_hu


def test_the_patient_lies_the_right_way(scans: list[PhantomScan]) -> None:
    """Array z grows to the head, y to the back, x to the left."""
    for scan in scans:
        hu = scan.volume.hu
        _, n_y, n_x = hu.shape
        left, right = (ndimage.center_of_mass(scan.organs == organ) for organ in (LEFT, RIGHT))
        assert left[2] > n_x / 2 > right[2]
        width = [np.ptp(np.flatnonzero(s.any(0))) if s.any() else 0 for s in scan.lungs]
        present = np.flatnonzero(width)
        quarter = len(present) // 4
        assert np.mean([width[z] for z in present[:quarter]]) > np.mean([width[z] for z in present[-quarter:]])
        middle = hu[:, :, n_x // 2 - 12 : n_x // 2 + 12] > 350
        assert np.argwhere(middle)[:, 1].mean() > 0.55 * n_y  # the spine is at the back
        heart_level = slice(present[int(0.38 * len(present))], present[int(0.46 * len(present))])
        body_x = ndimage.center_of_mass(hu[heart_level] > -300)[2]
        front = slice(int(left[1]) - n_y // 6, int(left[1]))
        between = (hu[heart_level, front] > -50) & ~scan.lungs[heart_level, front]
        between[:, :, : n_x // 4] = between[:, :, -n_x // 4 :] = False  # not the chest wall
        assert np.argwhere(between)[:, 2].mean() > body_x + 1  # the heart is more on the left


def test_chest_has_bone_fat_muscle_and_air(scans: list[PhantomScan]) -> None:
    """Air around the body, fat under the skin, muscle and bone in the wall, in plausible shares."""
    for scan in scans:
        hu, body = scan.volume.hu, ndimage.binary_fill_holes(scan.volume.hu > -300)
        assert abs(np.median(hu[:, :8, :8]) + 1000) < 15
        wall = body & ~ndimage.binary_dilation(scan.lungs, iterations=2)
        assert 0.02 < (hu[wall] > 300).mean() < 0.3
        assert (np.abs(hu[wall] + 100) < 60).mean() > 0.1
        assert (np.abs(hu[wall] - 50) < 60).mean() > 0.2


def test_vessels_reach_the_outer_lung(scans: list[PhantomScan]) -> None:
    """Cross-sections that could be taken for nodules lie even within 10 to 25 mm of the pleura."""
    for scan in scans:
        depth = ndimage.distance_transform_edt(scan.lungs, scan.volume.geometry.spacing_zyx_mm)
        zone = (depth > 10) & (depth < 25) & (scan.nodule_labels == 0)
        _, n_blobs = ndimage.label((scan.volume.hu > -550) & zone)
        assert n_blobs > 100


def test_noise_is_as_asked() -> None:
    """In the air before the patient, away from clipping, the noise has the stated size."""
    quiet, loud = (make_phantom(replace(small_settings(5, n_nodules=0), noise_hu=hu)) for hu in (0.0, 25.0))
    difference = loud.volume.hu.astype(float) - quiet.volume.hu
    _, n_y, n_x = difference.shape
    middle = difference[:, n_y // 3 : 2 * n_y // 3, n_x // 3 : 2 * n_x // 3]
    middle = middle[np.abs(quiet.volume.hu[:, n_y // 3 : 2 * n_y // 3, n_x // 3 : 2 * n_x // 3]) < 900]
    assert abs(middle.std() - 25.0) < 2.5
    assert abs(middle.mean()) < 0.5


def test_padding_lies_outside_the_circle() -> None:
    """With a sentinel every corner holds it, the middle never."""
    scan = make_phantom(replace(small_settings(6, n_nodules=0), padding_hu=-3024))
    hu = scan.volume.hu
    assert (hu[:, 0, 0] == -3024).all()
    assert (hu[:, 0, -1] == -3024).all()
    assert hu[:, 20:-20, 40:-40].min() >= -1024


def test_a_scan_can_have_no_nodule() -> None:
    """Zero nodules and zero excluded findings are possible."""
    scan = make_phantom(replace(small_settings(7), n_nodules=0, n_excluded=0))
    assert scan.nodules == scan.excluded == ()
    assert not scan.nodule_labels.any()


def test_excluded_findings_do_not_count(scans: list[PhantomScan]) -> None:
    """They have a diameter below 3 mm or none (-1), and lie away from the nodules."""
    found = [f for scan in scans for f in scan.excluded]
    assert found
    assert all(f.diameter_mm == -1 or 1.0 < f.diameter_mm < 3.0 for f in found)
    for scan in scans:
        for f in scan.excluded:
            for n in scan.nodules:
                assert np.linalg.norm(np.subtract(f.position_xyz_mm, n.position_xyz_mm)) > n.diameter_mm / 2


def test_diameters_are_distributed_as_in_luna16() -> None:
    """Of 20,000 draws 42 % are below 6 mm, the median is 6.4 to 6.8 mm, 4 % are above 20 mm."""
    drawn = draw_diameters_mm(np.random.default_rng(0), 20000)
    assert abs((drawn < 6).mean() - 0.423) < 0.015
    assert 6.4 < np.median(drawn) < 6.8
    assert abs((drawn > 20).mean() - 0.042) < 0.01
    assert drawn.min() >= 3.0
    assert drawn.max() <= 30.0


def test_thick_slices_keep_the_truth() -> None:
    """On 2.5 mm slices the centroid of a nodule's excess density is its centre to 0.6 mm."""
    settings = PhantomSettings(
        shape_zyx=(70, 200, 200), spacing_zyx_mm=(2.5, 1.2, 1.2), n_nodules=3, diameter_range_mm=(8.0, 14.0),
        n_excluded=0, noise_hu=0.0, seed=9,
    )  # fmt: skip
    scan = make_phantom(settings)
    grid = scan.volume.geometry
    for nodule, contact in zip(scan.nodules, scan.contact, strict=True):
        if contact != "isolated":
            continue
        z, y, x = np.meshgrid(*(np.arange(n) for n in grid.shape_zyx), indexing="ij")
        world = grid.index_to_world(np.stack([z.ravel(), y.ravel(), x.ravel()], 1))
        near = np.linalg.norm(world - nodule.position_xyz_mm, axis=1) < 0.62 * nodule.diameter_mm
        weight = np.clip(scan.volume.hu.ravel()[near] + 750.0, 0, None)
        centre = (weight[:, None] * world[near]).sum(0) / weight.sum()
        assert np.linalg.norm(centre - nodule.position_xyz_mm) < 0.6


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"shape_zyx": (40, 160, 160)}, "120 mm or more"),
        ({"n_nodules": 61}, "n_nodules is 61"),
        ({"noise_hu": -1.0}, "noise_hu is -1.0"),
        ({"padding_hu": 0}, "padding_hu is 0"),
    ],
)
def test_bad_settings_are_refused(change: dict[str, object], words: str) -> None:
    """A value out of bounds is named with what is allowed."""
    with pytest.raises(SettingsError, match=words):
        replace(small_settings(0), **change)


def test_an_oblique_direction_is_refused() -> None:
    """Only signed permutations can be stored without resampling."""
    c, s = float(np.cos(0.1)), float(np.sin(0.1))
    with pytest.raises(SettingsError, match="signed permutations"):
        make_phantom(replace(small_settings(0), direction=(c, -s, 0.0, s, c, 0.0, 0.0, 0.0, 1.0)))


def test_a_small_chest_is_made_in_seconds() -> None:
    """The preset for tests takes under 20 s of processor time (about 2 s on a free core)."""
    start = time.process_time()
    make_phantom(small_settings(30))
    assert time.process_time() - start < 20
