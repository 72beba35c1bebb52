"""Data sets in three layouts, found by names and tables alone (the scan files here are empty)."""

from __future__ import annotations

from pathlib import Path

import pytest

from napari_alnct.core.errors import AlnctError, ReadError, TableError
from napari_alnct.io.luna16 import find_dataset

HEADER = "seriesuid,coordX,coordY,coordZ,diameter_mm\n"


def build(root: Path, *names: str, **texts: str) -> Path:
    """Make empty files, and files with text (``__`` stands for ``/`` in their names)."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    for name, text in texts.items():
        path = root / (name.replace("__", "/") + ".csv")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_luna16_layout(tmp_path):
    """Subset folders give the fold, CSVFILES the tables, seg-lungs-LUNA16 the masks and no scans."""
    root = build(
        tmp_path,
        *("subset0/1.1.mhd", "subset0/1.1.raw", "subset9/1.2.mhd", "subset9/1.2.raw"),
        *("seg-lungs-LUNA16/1.1.mhd", "seg-lungs-LUNA16/1.1.zraw", "seg-lungs-LUNA16/1.3.mhd"),
        CSVFILES__annotations=HEADER + "1.1,1,2,3,4\n9.9,0,0,0,5\n",
        CSVFILES__annotations_excluded=HEADER + "1.2,1,2,3,-1\n",
    )
    found = find_dataset(root)
    assert [(s.series_uid, s.subset, s.path.name) for s in found.scans] == [
        ("1.1", 0, "1.1.mhd"),
        ("1.2", 9, "1.2.mhd"),
    ]
    assert [s.mask_path and s.mask_path.relative_to(root).as_posix() for s in found.scans] == [
        "seg-lungs-LUNA16/1.1.mhd",
        None,
    ]
    assert [n.diameter_mm for n in found.nodules_of("1.1")] == [4.0]
    assert found.nodules_of("1.2") == []
    assert [n.diameter_mm for n in found.excluded_of("1.2")] == [-1.0]
    assert found.unmatched == ["9.9"]
    assert found.has_annotations


def test_layout_of_the_original_project(tmp_path):
    """Folders subsets, masks and annotations."""
    root = build(
        tmp_path,
        *("subsets/subset3/a.mhd", "masks/subset3/a.mhd", "subsets/subset4/b.mhd", "masks/b_mask.nii.gz"),
        annotations__annotations=HEADER + "a,1,2,3,4\n",
    )
    found = find_dataset(root)
    assert [(s.series_uid, s.subset) for s in found.scans] == [("a", 3), ("b", 4)]
    assert [s.mask_path.name for s in found.scans] == ["a.mhd", "b_mask.nii.gz"]
    assert len(found.nodules_of("a")) == 1


def test_any_folder_of_scans(tmp_path):
    """Mixed formats in nested folders, no tables: scans without fold, mask or annotation."""
    root = build(tmp_path, "x/one.mha", "x/deep/two.nii.gz", "three.nrrd", "notes.txt", "x/one_lung.mha")
    found = find_dataset(root)
    assert {s.series_uid for s in found.scans} == {"one", "two", "three"}
    assert {s.series_uid: s.mask_path and s.mask_path.name for s in found.scans}["one"] == "one_lung.mha"
    assert {s.subset for s in found.scans} == {None}
    assert not found.has_annotations


def test_one_scan_file_is_a_data_set(tmp_path):
    """A path to one scan gives that scan, with the tables beside it."""
    build(tmp_path, "a.mha", "b.mha", annotations=HEADER + "a,1,2,3,4\n")
    found = find_dataset(tmp_path / "a.mha")
    assert [s.series_uid for s in found.scans] == ["a"]
    assert len(found.nodules_of("a")) == 1


def test_folds_come_from_the_table_where_folders_do_not_say(tmp_path):
    """``luna16_subsets.csv`` gives the fold of scans that lie in one folder."""
    root = build(tmp_path, "1.1.mhd", "1.2.mhd", luna16_subsets="seriesuid,subset\n1.1,7\n")
    assert [s.subset for s in find_dataset(root).scans] == [7, None]


def test_names_come_from_scans_csv(tmp_path):
    """A table scans.csv says which files are scans and which series they are."""
    root = build(tmp_path, "case1.mha", "case1_nodule.mha", scans="file,seriesuid\ncase1.mha,1.2.3\n")
    assert [(s.series_uid, s.path.name) for s in find_dataset(root).scans] == [("1.2.3", "case1.mha")]


def test_subsets_choose_scans(tmp_path):
    """Only the scans of the wanted folds remain; none wanted means all; unknown folds are an error."""
    found = find_dataset(build(tmp_path, "subset0/a.mhd", "subset1/b.mhd", "subset2/c.mhd"))
    assert [s.series_uid for s in found.in_subsets([0, 2]).scans] == ["a", "c"]
    assert found.in_subsets([]) is found
    with pytest.raises(TableError, match="it has 0, 1, 2"):
        found.in_subsets([5])


def test_the_output_folder_is_not_searched(tmp_path):
    """Prepared volumes inside the data folder are not taken for scans."""
    root = build(tmp_path, "a.mhd", "prepared/volumes/b.mha")
    assert [s.series_uid for s in find_dataset(root, leave_out=root / "prepared").scans] == ["a"]


def test_an_output_folder_around_the_scans_is_an_error(tmp_path):
    """When the output folder hides every scan, that is said, instead of preparing none with success."""
    with pytest.raises(ReadError, match="choose an output folder that does not hold them"):
        find_dataset(build(tmp_path, "a.mhd"), leave_out=tmp_path)


def test_a_dicom_series_in_the_present_folder_has_a_name(tmp_path, monkeypatch):
    """``--raw-root .`` inside a series: the folder's own name, never an empty one."""
    (tmp_path / "patient").mkdir()
    (tmp_path / "patient" / "1").write_bytes(bytes(128) + b"DICM")
    monkeypatch.chdir(tmp_path / "patient")
    assert [s.series_uid for s in find_dataset(Path(".")).scans] == ["patient"]


def test_a_series_that_is_there_twice_is_refused(tmp_path):
    """Two files of one series would leak between folds."""
    with pytest.raises(TableError, match=r"series a is there twice, as subset0/a\.mhd and subset1/a\.mhd"):
        find_dataset(build(tmp_path, "subset0/a.mhd", "subset1/a.mhd"))


@pytest.mark.parametrize("name", ["empty", "missing"])
def test_no_scan_is_an_error(tmp_path, name):
    """An empty or missing folder is a user error, not an empty data set."""
    (tmp_path / "empty").mkdir()
    with pytest.raises(AlnctError) as caught:
        find_dataset(tmp_path / name)
    assert isinstance(caught.value, ReadError)


def test_a_broken_table_is_an_error(tmp_path):
    """Annotations that cannot be read are never silently no annotations."""
    with pytest.raises(TableError, match="line 2"):
        find_dataset(build(tmp_path, "a.mhd", annotations=HEADER + "a,1,2,?,4\n"))


@pytest.mark.data
def test_the_data_pack_is_found(data_pack):
    """Two LUNA16 scans with their folds and three nodules; eleven training scans with masks."""
    luna = find_dataset(data_pack / "luna16")
    assert [(s.subset, len(luna.nodules_of(s.series_uid))) for s in luna.scans] == [(1, 1), (3, 2)]
    training = find_dataset(data_pack / "training")
    assert len(training.scans) == 11
    assert all(s.mask_path for s in training.scans)
    assert training.unmatched == []
