"""A prepared data set opened: what preprocess left is given back, and what does not belong together is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from napari_alnct.core.config import PrepareSettings
from napari_alnct.core.errors import ReadError, TableError
from napari_alnct.io.metaimage import write_metaimage
from napari_alnct.io.prepared import PreparedDataset

from .prepared_folder import TRIO, ToyScan, write_prepared


def edit_manifest(root: Path, change: Callable[[dict], None]) -> None:
    """Change the manifest of a folder."""
    document = json.loads((root / "manifest.json").read_text())
    change(document)
    (root / "manifest.json").write_text(json.dumps(document))


@pytest.mark.parametrize("name", [".", "labels_vox.csv"])
def test_everything_is_given_back(tmp_path: Path, name: str) -> None:
    """Folder or labels: scans in order of series, folds, grids, settings and findings, exactly."""
    settings = PrepareSettings(low_hu=-1000, high_hu=400)
    write_prepared(tmp_path, TRIO[::-1], prepare=settings)
    dataset = PreparedDataset.open(tmp_path / name)
    assert dataset.series == ("1.2.1", "1.2.2", "1.2.3")
    assert [scan.subset for scan in dataset.scans] == [0, 1, 2]
    assert [scan.geometry for scan in dataset.scans] == [toy.geometry for toy in TRIO]
    assert dataset.prepare == settings
    first, second = dataset.nodules_of("1.2.1")
    assert (first.number, first.centre_zyx_vox, first.diameter_mm) == (0, (20.25, 30.0, 40.5), 8.0)
    assert first.position_xyz_mm == (10.0, 42.25, 13.25)
    assert (second.number, second.radius_mm) == (1, 2.5)
    assert dataset.nodules_of("1.2.2") == dataset.excluded_of("1.2.2") == ()


def test_an_excluded_finding_without_diameter_has_a_radius_of_5_mm(tmp_path: Path) -> None:
    """LUNA16 counts it as 10 mm."""
    (finding,) = PreparedDataset.open(write_prepared(tmp_path)).excluded_of("1.2.3")
    assert (finding.diameter_mm, finding.radius_mm) == (-1.0, 5.0)


def test_a_nodule_outside_the_box_says_so(tmp_path: Path) -> None:
    """Its centre lies beyond the last voxel."""
    toy = ToyScan("1", nodules=(((20.0, 20.0, 72.0), 6.0), ((20.0, 20.0, 71.0), 6.0)))
    dataset = PreparedDataset.open(write_prepared(tmp_path, [toy]))
    assert [nodule.is_inside for nodule in dataset.nodules_of("1")] == [False, True]


def test_voxels_lungs_and_grid_are_read(tmp_path: Path) -> None:
    """int16 HU and a mask of truth values, as written."""
    dataset = PreparedDataset.open(write_prepared(tmp_path))
    hu, lungs, geometry = dataset.read(dataset.scans[2])
    np.testing.assert_array_equal(hu, TRIO[2].hu)
    np.testing.assert_array_equal(lungs, TRIO[2].lungs)
    assert (hu.dtype, lungs.dtype, geometry) == (np.int16, np.bool_, TRIO[2].geometry)


def test_volumes_may_lie_elsewhere(tmp_path: Path) -> None:
    """Labels alone, with the folder of the volumes named: manifest and lungs are found beside that."""
    write_prepared(tmp_path / "data")
    labels = tmp_path / "mine.csv"
    (tmp_path / "data" / "labels_vox.csv").rename(labels)
    dataset = PreparedDataset.open(labels, tmp_path / "data" / "volumes")
    dataset.require_files()
    assert dataset.read(dataset.scans[0])[0].shape == TRIO[0].shape_zyx


@pytest.mark.parametrize(
    ("folds", "series", "expected"),
    [
        ((), (), ["1.2.1", "1.2.2", "1.2.3"]),
        ((0, 2), (), ["1.2.1", "1.2.3"]),
        ((), ("1.2.2",), ["1.2.2"]),
        ((1, 2), ("1.2.1", "1.2.2"), ["1.2.2"]),
    ],
)
def test_scans_are_selected(tmp_path: Path, folds: tuple, series: tuple, expected: list[str]) -> None:
    """By fold, by series, and by both."""
    dataset = PreparedDataset.open(write_prepared(tmp_path)).select(folds=folds, series=series)
    assert list(dataset.series) == expected


@pytest.mark.parametrize(
    ("folds", "series", "sentence"),
    [
        ((0, 7, 9), (), "no prepared scan lies in fold 7, 9; the folds of labels_vox.csv are 0, 1, 2"),
        ((), ("1.2.1", "1.2.9"), "1 of 2 series are not prepared, the first is 1.2.9"),
        ((0,), ("1.2.2",), "none of the 1 series lies in the folds asked for"),
    ],
)
def test_a_selection_of_what_is_not_there_is_refused(
    tmp_path: Path, folds: tuple, series: tuple, sentence: str
) -> None:
    """Unmatched folds and series are never passed over in silence."""
    dataset = PreparedDataset.open(write_prepared(tmp_path))
    with pytest.raises(TableError, match=sentence):
        dataset.select(folds=folds, series=series)


def test_missing_files_are_named(tmp_path: Path) -> None:
    """One sentence counts them; of scans that are not selected nothing is asked."""
    dataset = PreparedDataset.open(write_prepared(tmp_path))
    (tmp_path / "lungs" / "1.2.2.mha").unlink()
    with pytest.raises(TableError, match=r"1 of 6 prepared files are missing, the first is lungs/1\.2\.2\.mha"):
        dataset.require_files()
    dataset.select(folds=[0, 2]).require_files()
    with pytest.raises(ReadError):
        dataset.read(dataset.scans[1])


def test_a_volume_on_another_grid_is_refused(tmp_path: Path) -> None:
    """A file that was prepared anew elsewhere would put every label into the wrong place."""
    write_prepared(tmp_path)
    write_metaimage(tmp_path / "volumes" / "1.2.1.mha", TRIO[0].hu, TRIO[2].geometry)
    dataset = PreparedDataset.open(tmp_path)
    with pytest.raises(TableError, match=r"volumes/1\.2\.1\.mha is not on the grid"):
        dataset.read(dataset.scans[0])


def test_labels_of_another_grid_are_refused(tmp_path: Path) -> None:
    """Voxel and world position must agree; here one x index is half a voxel off."""
    labels = write_prepared(tmp_path) / "labels_vox.csv"
    labels.write_text(labels.read_text().replace("30,40.5,", "30,41,"))
    with pytest.raises(TableError, match=r"line 2: voxel and world position do not agree"):
        PreparedDataset.open(tmp_path)


def test_an_unfinished_run_is_refused(tmp_path: Path) -> None:
    """While scans are left the labels are those of the run before: nodules of new scans would be missing."""
    write_prepared(tmp_path, n_left=3)
    with pytest.raises(TableError, match="3 scans are left to prepare"):
        PreparedDataset.open(tmp_path)


def test_a_failed_scan_is_not_among_the_scans(tmp_path: Path) -> None:
    """Its item has no files; the others are used."""
    write_prepared(tmp_path, [*TRIO, ToyScan("1.2.4", state="failed")])
    assert PreparedDataset.open(tmp_path).series == ("1.2.1", "1.2.2", "1.2.3")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda d: d.update(kind="detect"), "no manifest of prepared scans"),
        (lambda d: d["settings"].update(spacing_mm=99), "no manifest of prepared scans .spacing_mm is 99"),
        (lambda d: d["items"]["1.2.1"]["result"].update(file="../1.mha"), "no manifest of prepared scans"),
        (lambda d: d["items"]["1.2.1"]["result"].pop("geometry"), "no manifest of prepared scans"),
        (lambda d: d["items"].pop("1.2.1"), r"line 2: 1\.2\.1 is not in manifest\.json"),
        (lambda d: d["items"].clear(), "lists no prepared scan"),
    ],
    ids=["kind", "settings", "path", "grid", "series", "empty"],
)
def test_a_manifest_that_does_not_fit_is_refused(tmp_path: Path, change: Callable, sentence: str) -> None:
    """One sentence, whatever is wrong with it."""
    edit_manifest(write_prepared(tmp_path), change)
    with pytest.raises(TableError, match=sentence):
        PreparedDataset.open(tmp_path)


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    """No labels, no manifest, no folder of volumes."""
    with pytest.raises(TableError, match=r"holds no labels_vox\.csv"):
        PreparedDataset.open(tmp_path)
    write_prepared(tmp_path)
    with pytest.raises(TableError, match="elsewhere is no folder of volumes"):
        PreparedDataset.open(tmp_path, tmp_path / "elsewhere")
    (tmp_path / "manifest.json").unlink()
    with pytest.raises(TableError, match=r"no manifest\.json beside"):
        PreparedDataset.open(tmp_path)
