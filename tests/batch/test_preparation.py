"""Data sets prepared: resumable, one bad scan reported, positions exact for every orientation."""

from __future__ import annotations

import csv
import json
import shutil

import numpy as np
import pytest

from napari_alnct.batch.preparation import PreparationReport, file_stem, prepare_dataset
from napari_alnct.core.config import PrepareSettings
from napari_alnct.io.images import ReadOptions
from napari_alnct.io.luna16 import find_dataset
from napari_alnct.io.metaimage import read_metaimage, write_metaimage

from ..core.chest import RIGHT_LUNG, chest_geometry, chest_hu, ellipsoid, world_axes

ORIENTATIONS = {
    "plain": ((5.0, 3.0, 3.0), (1, 0, 0, 0, 1, 0, 0, 0, 1)),
    "flipped": ((4.0, 2.5, 3.5), (-1, 0, 0, 0, -1, 0, 0, 0, 1)),
    "permuted": ((3.0, 4.0, 3.2), (0, 0, 1, -1, 0, 0, 0, -1, 0)),
}
BLOB_XYZ_MM = (61.25, -20.375, 33.5)
SETTINGS = PrepareSettings(spacing_mm=2.0)
HEADER = "seriesuid,coordX,coordY,coordZ,diameter_mm\n"
POINT = ",".join(map(str, BLOB_XYZ_MM))


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """Make three good scans and a broken one in LUNA16's layout, with a nodule and an excluded finding in each."""
    root = tmp_path_factory.mktemp("template") / "raw"
    (root / "subset0").mkdir(parents=True)
    (root / "CSVFILES").mkdir()
    for name, (spacing, direction) in ORIENTATIONS.items():
        grid = chest_geometry(spacing, tuple(map(float, direction)))
        distance_mm2 = sum((axis - middle) ** 2 for axis, middle in zip(world_axes(grid), BLOB_XYZ_MM, strict=True))
        hu = chest_hu(grid) + np.rint(900 * np.exp(-distance_mm2 / (2 * 6.0**2))).astype(np.int16)
        write_metaimage(root / "subset0" / f"{name}.mhd", hu, grid)
    (root / "subset0" / "broken.mhd").write_text("NDims = 3\nDimSize = 2 2\n")
    series = (*ORIENTATIONS, "broken", "elsewhere")
    nodules = "".join(f"{uid},{POINT},14.0\n" for uid in series)
    (root / "CSVFILES" / "annotations.csv").write_text(HEADER + nodules)
    (root / "CSVFILES" / "annotations_excluded.csv").write_text(HEADER + "plain,0,0,0,-1\nplain,0,500,0,5\n")
    return root


@pytest.fixture
def raw_root(template, tmp_path):
    """Give a copy of those scans that a test may change."""
    return shutil.copytree(template, tmp_path / "raw")


def prepared(raw_root, **options) -> PreparationReport:
    """Prepare all scans of the raw folder beside it."""
    settings = options.pop("settings", SETTINGS)
    return prepare_dataset(find_dataset(raw_root), raw_root.parent / "out", settings, ReadOptions(), **options)


def label_rows(out) -> list[dict[str, str]]:
    """Give the rows of the label table."""
    with open(out / "labels_vox.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_one_bad_scan_is_reported_and_the_others_are_exact(raw_root):
    """Three of four scans are prepared; every nodule is where its table says, in mm and in voxels.

    Voxels: within 1e-6 mm of the world position through the written file's grid, by SimpleITK as
    oracle. Image: the centre of mass of the blob lies at the labelled voxel within 0.2 mm.
    """
    sitk = pytest.importorskip("SimpleITK")
    out = raw_root.parent / "out"
    progress: list = []
    report = prepared(raw_root, n_jobs=2, on_progress=progress.append)
    assert (report.n_prepared, report.n_kept, report.n_failed) == (3, 0, 1)
    assert "broken.mhd" in report.failures["broken"]
    assert (report.n_nodules, report.n_excluded, report.n_outside) == (3, 2, 0)
    assert (progress[-1].n_done, progress[-1].n_failed) == (3, 1)
    for row in label_rows(out):
        if row["kind"] == "excluded":
            continue
        index_zyx = np.array([float(row[f"{axis}_vox"]) for axis in "zyx"])
        path = out / "volumes" / f"{row['seriesuid']}.mha"
        image = sitk.ReadImage(str(path))
        oracle = image.TransformContinuousIndexToPhysicalPoint(index_zyx[::-1].tolist())
        np.testing.assert_allclose(oracle, BLOB_XYZ_MM, rtol=0, atol=1e-6)
        assert [float(row[f"coord{axis}"]) for axis in "XYZ"] == list(BLOB_XYZ_MM)
        assert (row["diameter_mm"], row["diameter_vox"], row["is_inside"]) == ("14", "7", "1")
        low = np.rint(index_zyx).astype(int) - 10
        box = tuple(slice(v, v + 21) for v in low)
        weight = np.maximum(read_metaimage(path).array[box].astype(float) + 860, 0)
        centre = [(weight * axis).sum() / weight.sum() for axis in np.indices(weight.shape)] + low
        np.testing.assert_allclose(centre * 2.0, index_zyx * 2.0, atol=0.2)


def test_volumes_and_lungs_share_a_true_grid(raw_root):
    """Volume: int16 in the window at exactly 2 mm. Lungs: 0 and 1 on the same grid. No other files."""
    out = raw_root.parent / "out"
    prepared(raw_root)
    for name in ORIENTATIONS:
        volume, lungs = (read_metaimage(out / folder / f"{name}.mha") for folder in ("volumes", "lungs"))
        assert volume.array.dtype == np.int16
        assert volume.geometry == lungs.geometry
        assert volume.geometry.spacing_zyx_mm == (2.0, 2.0, 2.0)
        assert volume.geometry.is_lps
        assert set(np.unique(lungs.array)) == {0, 1}
        assert volume.array.min() >= -1200
    files = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    expected = {f"{folder}/{name}.mha" for folder in ("volumes", "lungs") for name in ORIENTATIONS}
    assert files == expected | {"labels_vox.csv", "manifest.json"}


def test_excluded_findings_keep_their_meaning(raw_root):
    """A diameter that was not given stays -1; a finding outside the box is marked so."""
    prepared(raw_root)
    rows = [row for row in label_rows(raw_root.parent / "out") if row["kind"] == "excluded"]
    assert [(row["diameter_mm"], row["diameter_vox"], row["is_inside"]) for row in rows] == [
        ("-1", "-1", "1"),
        ("5", "2.5", "0"),
    ]


def test_a_second_run_does_only_what_is_missing(raw_root):
    """Done scans stay; a mended scan, a lost output and a changed input are done; new settings redo all."""
    out = raw_root.parent / "out"
    prepared(raw_root)
    again = prepared(raw_root)
    assert (again.n_prepared, again.n_kept, again.n_failed) == (0, 3, 1)

    grid = chest_geometry((5.0, 4.0, 4.0))
    write_metaimage(raw_root / "subset0" / "broken.mhd", chest_hu(grid), grid)
    (out / "volumes" / "plain.mha").unlink()
    mended = prepared(raw_root)
    assert (mended.n_prepared, mended.n_kept, mended.n_failed) == (2, 2, 0)
    assert mended.n_nodules == 4
    assert (out / "volumes" / "plain.mha").is_file()

    write_metaimage(raw_root / "subset0" / "broken.mhd", chest_hu(grid, [((60.0, 0.0, 0.0), 9.0, 0)]), grid)
    assert prepared(raw_root).n_prepared == 1
    assert prepared(raw_root, settings=PrepareSettings(spacing_mm=4.0)).n_prepared == 4


def test_supplied_masks_are_used_unless_own_lungs_are_wanted(raw_root):
    """A mask that marks only the right lung makes the box half as wide; with own lungs it does not."""
    out = raw_root.parent / "out"
    (raw_root / "subset0" / "broken.mhd").unlink()
    grid = chest_geometry((3.0, 3.0, 3.0), (-1.0, 0, 0, 0, -1.0, 0, 0, 0, 1.0))
    (raw_root / "seg-lungs-LUNA16").mkdir()
    labels = np.where(ellipsoid(world_axes(grid), *RIGHT_LUNG), 4, 0).astype(np.uint8)
    write_metaimage(raw_root / "seg-lungs-LUNA16" / "plain.mhd", labels, grid)
    report = prepared(raw_root)
    right = read_metaimage(out / "volumes" / "plain.mha").geometry
    assert right.extent_zyx_mm[2] == pytest.approx(90 + 2 * 16, abs=8)
    assert right.contains([[-65.0, 0.0, 0.0]]).all()
    assert not right.contains([[65.0, 0.0, 0.0]]).any()
    assert report.n_outside == 1
    items = json.loads((out / "manifest.json").read_text())["items"]
    assert items["plain"]["result"]["lungs_from"] == "supplied mask"
    assert items["flipped"]["result"]["lungs_from"] == "own"
    prepared(raw_root, has_own_lungs=True)
    both = read_metaimage(out / "volumes" / "plain.mha").geometry
    assert both.extent_zyx_mm[2] == pytest.approx(220 + 2 * 16, abs=8)


def test_scans_that_would_share_a_file_both_fail(raw_root):
    """Two names that differ only in characters that files cannot have are told apart or refused."""
    grid = chest_geometry((5.0, 4.0, 4.0))
    for path in (raw_root / "subset0").iterdir():
        path.unlink()
    for name in ("a b", "a_b"):
        write_metaimage(raw_root / "subset0" / f"{name}.mha", chest_hu(grid), grid)
    report = prepared(raw_root)
    assert report.n_failed == 2
    assert "same series or name" in report.failures["a b"]


def test_a_renamed_scan_is_prepared_again_and_not_refused(raw_root):
    """A scan that moved, here to a name that becomes the same file, replaces its old entry."""
    grid = chest_geometry((5.0, 4.0, 4.0))
    for path in (raw_root / "subset0").iterdir():
        path.unlink()
    write_metaimage(raw_root / "subset0" / "a b.mha", chest_hu(grid), grid)
    prepared(raw_root)
    (raw_root / "subset0" / "a b.mha").rename(raw_root / "subset0" / "a_b.mha")
    assert (prepared(raw_root).n_prepared, prepared(raw_root).n_kept) == (1, 1)
    assert list(json.loads((raw_root.parent / "out" / "manifest.json").read_text())["items"]) == ["a_b"]


def test_another_series_of_a_folder_is_prepared_anew(raw_root):
    """What was prepared from one series is not kept when another one is asked for."""
    for name in ("flipped", "permuted", "broken"):
        (raw_root / "subset0" / f"{name}.mhd").unlink()
    out, dataset = raw_root.parent / "out", find_dataset(raw_root)
    runs = [prepare_dataset(dataset, out, SETTINGS, ReadOptions(series_uid=uid)) for uid in ("1.2", "1.2", "1.3")]
    assert [report.n_prepared for report in runs] == [1, 0, 1]


@pytest.mark.parametrize(
    ("uid", "name"),
    [
        ("1.3.6.1.4", "1.3.6.1.4"),
        ("../../etc/passwd", "_.._etc_passwd"),
        ("C:\\x\\y", "C_x_y"),
        ("...", "scan"),
        ("", "scan"),
        ("x" * 300, "x" * 90),
    ],
    ids=range(6),
)
def test_file_names_cannot_leave_the_folder(uid, name):
    """Series identifiers come from untrusted files; their file names are plain."""
    assert file_stem(uid) == name
