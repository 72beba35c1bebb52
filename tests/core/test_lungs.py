"""Lungs of an analytic chest, of damaged versions of it, and of real scans."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from napari_alnct.core.errors import GeometryError, LungsNotFoundError
from napari_alnct.core.geometry import Geometry
from napari_alnct.core.lungs import LungMask, lungs_from_labels, segment_lungs
from napari_alnct.core.volume import Volume

from .chest import LEFT_LUNG, RIGHT_LUNG, chest, chest_geometry, chest_hu, ellipsoid, world_axes, world_grid

PLEURAL = ((-104.0, 0.0, 0.0), 7.0, 40)  # sits on the outer wall of the right lung
HILAR = ((25.0, 0.0, 10.0), 7.0, 40)  # sits on the inner wall of the left lung
VESSEL = ((65.0, 10.0, -20.0), 9.0, 40)
TWO_LUNGS_ML = 2 * 4 / 3 * np.pi * 45 * 70 * 90 / 1000


def dice(a: np.ndarray, b: np.ndarray) -> float:
    """Give twice the overlap divided by the sum of both."""
    return 2 * np.count_nonzero(a & b) / (np.count_nonzero(a) + np.count_nonzero(b))


def true_lungs(geometry: Geometry) -> np.ndarray:
    """Give the two ellipsoids on a grid."""
    world = world_axes(geometry)
    return ellipsoid(world, *RIGHT_LUNG) | ellipsoid(world, *LEFT_LUNG)


def changed(volume: Volume, hu: np.ndarray) -> Volume:
    """Give the scan with other voxels."""
    return Volume(hu, volume.geometry, volume.source_geometry, volume.series_uid)


@pytest.fixture(scope="module")
def plain() -> LungMask:
    """Give the lungs of the chest with three balls."""
    return segment_lungs(chest(balls=[PLEURAL, HILAR, VESSEL]))


def test_both_lungs_are_found_with_their_volume(plain):
    """Table, foam and outside air are left out: Dice at least 0.97 and volume within 4 %."""
    grid = chest_geometry()
    assert dice(plain.on_grid(grid), true_lungs(grid)) >= 0.97
    assert plain.volume_ml == pytest.approx(TWO_LUNGS_ML, rel=0.04)


@pytest.mark.parametrize("ball", [PLEURAL, HILAR, VESSEL], ids=["pleural", "hilar", "inside"])
def test_the_centre_of_a_nodule_at_the_wall_lies_inside(plain, ball):
    """Closing brings nodules on the pleura, at the hilum and in the middle into the mask."""
    assert plain.holds([ball[0]]).all()
    assert plain.distance_mm([ball[0]]) == pytest.approx([0.0])


@pytest.mark.parametrize(
    ("spacing", "direction"),
    [
        ((1.5, 2.0, 2.0), (1, 0, 0, 0, 1, 0, 0, 0, 1)),
        ((5.0, 1.5, 1.5), (-1, 0, 0, 0, -1, 0, 0, 0, 1)),
        ((2.0, 3.0, 2.0), (0, 0, 1, -1, 0, 0, 0, -1, 0)),
    ],
    ids=["thin", "thick_flipped", "permuted"],
)
def test_any_spacing_and_orientation_gives_the_same_world_positions(spacing, direction):
    """The mask of a flipped, permuted or anisotropic scan covers the same millimetres."""
    lungs = segment_lungs(chest(chest_geometry(spacing, direction)))
    grid = chest_geometry()
    assert dice(lungs.on_grid(grid), true_lungs(grid)) >= 0.965


def test_padding_and_a_round_field_of_view_are_outside():
    """Padding at -3024 HU that comes close to the body is not lung."""
    volume = chest()
    hu = volume.hu.copy()
    world = world_grid(volume.geometry)
    hu[np.hypot(world[..., 0], world[..., 1]) > 125] = -3024
    lungs = segment_lungs(changed(volume, hu))
    assert dice(lungs.on_grid(volume.geometry), true_lungs(volume.geometry)) >= 0.96


def test_a_lung_cut_by_the_field_of_view_is_kept():
    """Where the field of view cuts through the chest wall into the lungs, they still count."""
    whole = chest()
    cut = whole.geometry.crop((0, 20, 35), (80, 110, 170))  # leaves x from -100 mm: inside the right lung
    volume = Volume(np.ascontiguousarray(whole.hu[:80, 20:110, 35:170]), cut, cut)
    assert dice(segment_lungs(volume).on_grid(cut), true_lungs(cut)) >= 0.96


def test_lungs_cut_by_the_last_slice_say_so():
    """A scan that ends inside the lungs gives their part and the flag cut_lungs."""
    whole = chest()
    cut = whole.geometry.crop((0, 0, 0), (40, 130, 170))
    lungs = segment_lungs(Volume(np.ascontiguousarray(whole.hu[:40]), cut, cut))
    assert dice(lungs.on_grid(cut), true_lungs(cut)) >= 0.96
    assert [flag.code for flag in lungs.flags] == ["cut_lungs"]
    assert lungs.is_plausible


def test_one_collapsed_lung_is_flagged():
    """A chest with air on one side only gives that lung and the flag one_lung."""
    lungs = segment_lungs(chest(has_left_lung=False))
    assert "one_lung" in [flag.code for flag in lungs.flags]
    assert not lungs.is_plausible
    assert lungs.volume_ml == pytest.approx(TWO_LUNGS_ML / 2, rel=0.05)


def test_lungs_that_touch_in_front_are_both_kept():
    """A bridge of air between the lungs, as at the anterior junction, changes nothing."""
    volume = chest()
    hu = volume.hu.copy()
    world = world_grid(volume.geometry)
    bridge = (np.abs(world[..., 0]) < 30) & (np.abs(world[..., 1] + 30) < 4) & (np.abs(world[..., 2]) < 30)
    hu[bridge] = -860
    lungs = segment_lungs(changed(volume, hu))
    assert dice(lungs.on_grid(volume.geometry), true_lungs(volume.geometry)) >= 0.96


def test_the_windpipe_is_left_out_and_its_lungs_are_not():
    """A tube of air in the middle, joined to both lungs by bronchi, is removed."""
    volume = chest()
    hu = volume.hu.copy()
    world = world_grid(volume.geometry)
    tube = (np.hypot(world[..., 0], world[..., 1] - 10) < 9) & (world[..., 2] > 0)
    bronchi = (np.hypot(world[..., 1] - 10, world[..., 2] - 5) < 6) & (np.abs(world[..., 0]) < 30)
    hu[tube | bronchi] = -1000
    lungs = segment_lungs(changed(volume, hu))
    assert not lungs.holds([[0.0, 10.0, 60.0], [0.0, 10.0, 100.0]]).any()
    assert dice(lungs.on_grid(volume.geometry), true_lungs(volume.geometry)) >= 0.96


def test_stomach_gas_below_the_lungs_is_left_out():
    """A ball of pure air under the left lung is gas, not lung."""
    volume = chest(balls=[((50.0, -20.0, -102.0), 17.0, -1000)])
    assert not segment_lungs(volume).holds([[50.0, -20.0, -104.0]]).any()


def test_gas_that_touches_a_lung_is_left_out_too():
    """Stomach gas whose wall the grid does not show: not lung, while the lung beside it stays."""
    volume = chest(balls=[((65.0, 0.0, -88.0), 18.0, -1000)])
    lungs = segment_lungs(volume)
    assert not lungs.holds([[65.0, 0.0, -95.0]]).any()
    assert lungs.holds([[65.0, 0.0, -50.0], [65.0, 0.0, 0.0], [-65.0, 0.0, -70.0]]).all()


@pytest.mark.parametrize("value", [-1000, -3024, 0, 40])
def test_a_scan_without_lungs_is_refused_in_one_sentence(value):
    """Air, padding or water alone has no lungs; the error says what to check."""
    volume = chest()
    with pytest.raises(LungsNotFoundError, match="shows the chest"):
        segment_lungs(changed(volume, np.full_like(volume.hu, value)))


def test_a_body_with_a_little_gas_is_refused():
    """An abdomen with 20 ml of gas is not taken for lungs."""
    grid = chest_geometry()
    hu = np.where(chest_hu(grid) == -860, 40, chest_hu(grid)).astype(np.int16)
    hu[ellipsoid(world_grid(grid), (0.0, 0.0, 0.0), (17.0,) * 3)] = -900
    with pytest.raises(LungsNotFoundError):
        segment_lungs(Volume(hu, grid, grid))


def test_noise_does_not_change_the_lungs():
    """150 HU of noise, as in low-dose scans, moves the outline little."""
    volume = chest(chest_geometry((2.5, 1.5, 1.5)))
    noise = np.random.default_rng(0).normal(0, 150, volume.hu.shape)
    noisy = np.clip(volume.hu + noise, -1024, 3000).astype(np.int16)
    grid = chest_geometry()
    assert dice(segment_lungs(changed(volume, noisy)).on_grid(grid), true_lungs(grid)) >= 0.97


def test_luna16_labels_are_the_lungs_and_not_the_windpipe():
    """Of labels 3, 4 and 5 the first two count, in the mask's own flipped directions."""
    grid = chest_geometry((2.5, 1.5, 1.5), (-1, 0, 0, 0, -1, 0, 0, 0, 1))
    world = world_grid(grid)
    labels = np.zeros(grid.shape_zyx, dtype=np.uint8)
    labels[ellipsoid(world, *RIGHT_LUNG)] = 4
    labels[ellipsoid(world, *LEFT_LUNG)] = 3
    labels[np.hypot(world[..., 0], world[..., 1]) < 9] = 5
    lungs = lungs_from_labels(labels, grid)
    on = chest_geometry()
    assert dice(lungs.on_grid(on), true_lungs(on)) >= 0.98
    assert not lungs.holds([[0.0, 0.0, 50.0]]).any()


def test_a_binary_mask_is_taken_as_it_is():
    """Without labels 3 and 4 everything that is not 0 is lung."""
    grid = chest_geometry()
    lungs = lungs_from_labels(true_lungs(grid).astype(np.uint8), grid)
    assert dice(lungs.on_grid(grid), true_lungs(grid)) >= 0.97


def test_an_empty_or_oblique_mask_is_refused():
    """A mask that marks nothing, or lies oblique, is an error."""
    grid = chest_geometry()
    with pytest.raises(LungsNotFoundError, match="marks nothing"):
        lungs_from_labels(np.zeros(grid.shape_zyx, dtype=np.uint8), grid)
    c, s = np.cos(0.2), np.sin(0.2)
    oblique = Geometry(shape_zyx=(2, 2, 2), spacing_zyx_mm=(1.0, 1.0, 1.0), direction=(c, -s, 0, s, c, 0, 0, 0, 1))
    with pytest.raises(GeometryError, match="oblique"):
        lungs_from_labels(np.ones((2, 2, 2), dtype=np.uint8), oblique)


def pack_volume(path: Path) -> tuple[np.ndarray, Geometry]:
    """Give array and grid of a file of the data pack, through SimpleITK."""
    sitk = pytest.importorskip("SimpleITK")
    image = sitk.ReadImage(str(path))
    array = sitk.GetArrayFromImage(image)
    grid = Geometry(
        shape_zyx=array.shape,
        spacing_zyx_mm=image.GetSpacing()[::-1],
        origin_xyz_mm=image.GetOrigin(),
        direction=image.GetDirection(),
    )
    return array, grid


def pack_rows(path: Path) -> list[dict[str, str]]:
    """Give the rows of a CSV file."""
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


CASES = [f"LIDC-IDRI-{n}" for n in ("0001", "0002", "0028", "0063", "0293")]
CASES += [f"QIN-LSC-{n}" for n in ("0003", "0009", "0014", "0028", "0064")] + ["QIN-LUNG-01-0007"]


@pytest.mark.data
@pytest.mark.parametrize("case", CASES)
def test_real_lungs_agree_with_the_supplied_mask(data_pack, case):
    """Dice at least 0.95 with the supplied mask, and every annotated lesion within 15 mm of the lungs."""
    folder = data_pack / "training"
    lungs = segment_lungs(Volume.from_source(*pack_volume(folder / f"{case}.mha")))
    mask, grid = pack_volume(folder / f"{case}_lung.mha")
    assert dice(lungs.on_grid(grid), mask > 0) >= 0.95
    series = {row["case"]: row["seriesuid"] for row in pack_rows(folder / "scans.csv")}[case]
    centres = [
        [float(row[f"coord{axis}"]) for axis in "XYZ"]
        for row in pack_rows(folder / "annotations.csv")
        if row["seriesuid"] == series
    ]
    assert (lungs.distance_mm(np.reshape(centres, (-1, 3))) <= 15.0).all()


@pytest.mark.data
def test_a_whole_scan_has_plausible_lungs_and_no_table(data_pack):
    """On a full LUNA16 scan the mask is plausible, and the crop leaves the table out."""
    path = next((data_pack / "luna16" / "subset3").glob("*.mhd"))
    volume = Volume.from_source(*pack_volume(path))
    lungs = segment_lungs(volume)
    assert lungs.is_plausible
    assert 3000 < lungs.volume_ml < 3900
    start, stop = lungs.box_zyx(volume.geometry, 16.0)
    assert stop[1] < 400  # the table begins at row 420
    assert stop[0] - start[0] < 115
