"""Splits of a cross-validation, and every leak or gap that it refuses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from napari_alnct.batch.crossval_guard import check_annotations, refuse_copies, refuse_leaks, refuse_model_leak
from napari_alnct.batch.crossval_plan import Split, folds_of_scans, make_splits
from napari_alnct.core.config import PrepareSettings
from napari_alnct.core.errors import TableError
from napari_alnct.core.findings import ReferenceNodule
from napari_alnct.core.geometry import Geometry
from napari_alnct.io.identifiers import short_hash
from napari_alnct.io.luna16 import Dataset, ScanEntry
from napari_alnct.io.metaimage import write_metaimage
from napari_alnct.io.prepared import PreparedDataset, PreparedEntry

FOLDS = {0: ("a", "b"), 1: ("c",), 3: ("d", "e")}
SPLIT = Split(fold=0, val_fold=1, train=("d", "e"), val=("c",), test=("a", "b"))


def dataset(folds: dict[int | None, tuple[str, ...]], annotated: str = "abcde", *, has_table: bool = True) -> Dataset:
    """Give a data set with a nodule in each annotated series."""
    scans = [
        ScanEntry(series_uid=uid, path=Path(f"raw/subset{fold}/{uid}.mhd"), subset=fold)
        for fold, series in folds.items()
        for uid in series
    ]
    nodules = [ReferenceNodule(series_uid=uid, position_xyz_mm=(0.0, 0.0, 0.0), diameter_mm=5.0) for uid in annotated]
    return Dataset(root=Path("raw"), scans=tuple(scans), annotations=tuple(nodules), has_annotations=has_table)


def test_the_next_fold_that_is_there_is_for_validation() -> None:
    """Folds 0, 1, 3: 3 is followed by 0; all others are for training; every scan has one part."""
    splits = make_splits(FOLDS, ())
    assert [(split.fold, split.val_fold) for split in splits] == [(0, 1), (1, 3), (3, 0)]
    assert splits[0] == SPLIT
    assert splits[2] == Split(fold=3, val_fold=0, train=("c",), val=("a", "b"), test=("d", "e"))
    assert make_splits(FOLDS, (3,)) == splits[2:]


def test_scans_that_could_not_be_prepared_are_tested_but_not_trained_on() -> None:
    """They stay in the divisor; a DICOM scan has its own series once it is known."""
    names = {"a": None, "b": "1.2.3", "c": "c", "d": None, "e": "e"}
    first, _, last = make_splits(FOLDS, (), names)
    assert (first.test, first.train) == (("a", "1.2.3"), ("e",))
    assert last.val == ("1.2.3",)


@pytest.mark.parametrize(
    ("folds", "message"),
    [
        ({0: ("a",), 1: ("b",)}, "scans in fold 0, 1 alone; 3 are needed"),
        ({0: ("a",), 1: ("b",), None: ("c",)}, r"c\.mhd lies in no fold"),
    ],
    ids=["two folds", "a scan without a fold"],
)
def test_data_without_three_folds_are_refused(folds: dict[int | None, tuple[str, ...]], message: str) -> None:
    """To train, to validate and to test: three; a scan outside all folds would be left out in silence."""
    with pytest.raises(TableError, match=message):
        folds_of_scans(dataset(folds))


def test_a_fold_that_is_not_there_is_refused() -> None:
    """By its number, with those that are there."""
    with pytest.raises(TableError, match="no scans in fold 2; the folds are 0, 1, 3"):
        make_splits(FOLDS, (2,))


@pytest.mark.parametrize(
    ("split", "message"),
    [
        (replace(SPLIT, train=("d", "a")), "1 scan of the test is in training too, the first is a"),
        (replace(SPLIT, val=("c", "a", "b")), "2 scans of the test are in validation too, the first is a"),
        (replace(SPLIT, train=("d", "c")), "1 scan of training is in validation too, the first is c"),
        (replace(SPLIT, train=()), "fold 0: no usable scan is left for training"),
    ],
    ids=["test in training", "test in validation", "training in validation", "nothing to train on"],
)
def test_a_scan_on_two_sides_is_refused(split: Split, message: str) -> None:
    """At series level, which is said; the proper split passes."""
    assert refuse_leaks(SPLIT) == "series"
    with pytest.raises(TableError, match=message):
        refuse_leaks(split)


def test_a_patient_on_two_sides_is_refused() -> None:
    """Another scan of a test patient in training is a leak where patients are known; so is a gap in the table."""
    patients = {"a": "P1", "b": "P2", "c": "P3", "d": "P4", "e": "P5"}
    assert refuse_leaks(SPLIT, patients) == "patient"
    with pytest.raises(TableError, match="1 patient of the test is in training too, the first is P1"):
        refuse_leaks(SPLIT, {**patients, "e": "P1"})
    with pytest.raises(TableError, match="1 patient of the test is in validation too, the first is P2"):
        refuse_leaks(SPLIT, {**patients, "c": "P2"})
    with pytest.raises(TableError, match="1 patient of training is in validation too, the first is P3"):
        refuse_leaks(SPLIT, {**patients, "d": "P3"})
    with pytest.raises(TableError, match="1 scans have no patient in the table, the first is e"):
        refuse_leaks(SPLIT, {uid: name for uid, name in patients.items() if uid != "e"})


def facts(train: str, val: str) -> dict[str, object]:
    return {"train_series": [short_hash(uid) for uid in train], "val_series": [short_hash(uid) for uid in val]}


@pytest.mark.parametrize(
    ("training", "message"),
    [
        (facts("dea", "c"), r"m was made from 1 scans of test fold 0, the first is a"),
        (facts("de", "cb"), r"m was made from 1 scans of test fold 0, the first is b"),
        (facts("dex", "c"), "m was made from other scans than those of fold 0"),
        (facts("d", "c"), "m was made from other scans than those of fold 0"),
        ({}, "m does not say which scans it was made from"),
        ({"train_series": [short_hash("d")]}, "m does not say which scans it was made from"),
    ],
    ids=["test in training", "test in validation", "a scan more", "a scan fewer", "no lists", "one list"],
)
def test_a_model_that_saw_the_test_fold_is_refused(training: dict[str, object], message: str) -> None:
    """By the hashes in its recipe, also when it says nothing; the fold's own model passes."""
    refuse_model_leak(SPLIT, facts("de", "c"), "m")
    with pytest.raises(TableError, match=message):
        refuse_model_leak(SPLIT, training, "m")


def test_one_scan_under_two_names_in_two_folds_is_refused(tmp_path: Path) -> None:
    """Same grid and same voxels; in one fold, or with other voxels, it is no leak."""
    grid = Geometry(shape_zyx=(4, 5, 6), spacing_zyx_mm=(1.0, 1.0, 1.0))
    voxels = np.arange(120, dtype=np.int16).reshape(4, 5, 6)
    entries = []
    for uid, fold, hu in (("a", 0, voxels), ("b", 1, voxels + 1), ("c", 0, voxels)):
        write_metaimage(tmp_path / f"{uid}.mha", hu, grid)
        path = tmp_path / f"{uid}.mha"
        entries.append(PreparedEntry(series_uid=uid, volume_path=path, lungs_path=path, subset=fold, geometry=grid))
    prepared = PreparedDataset(tmp_path, tuple(entries), PrepareSettings(), {}, {})
    refuse_copies(prepared)
    moved = replace(prepared, scans=(*entries[:2], replace(entries[2], subset=1)))
    with pytest.raises(TableError, match="c in fold 1 and a in fold 0 are the same scan under two names"):
        refuse_copies(moved)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (dataset(FOLDS, has_table=False), r"raw has no annotations\.csv, and unknown nodules are not the same as none"),
        (dataset(FOLDS, annotated="abde"), r"fold 0: annotations\.csv names no scan of its validation"),
        (dataset(FOLDS, annotated="abc"), r"fold 0: annotations\.csv names no scan of its training"),
        (dataset(FOLDS, annotated="xyz"), r"fold 0: annotations\.csv names no scan of its training"),
    ],
    ids=["no table", "none in validation", "none in training", "other names"],
)
def test_scans_without_annotations_are_refused(data: Dataset, message: str) -> None:
    """Nodules that are not known would count as false positives, or leave nothing to learn."""
    with pytest.raises(TableError, match=message):
        check_annotations(data, make_splits(FOLDS, ()), FOLDS)


def test_annotated_scans_that_are_missing_are_told_or_refused() -> None:
    """With some of the ten folds they may lie in the others: a note. With all ten, a scan is lost: refused."""
    folds: dict[int, tuple[str, ...]] = {fold: (f"s{fold}",) for fold in range(10)}
    nodules = dataset(FOLDS).annotations
    data = replace(
        dataset(folds),
        annotations=tuple(replace(n, series_uid=f"s{i}") for i, n in zip(range(10), nodules * 2, strict=True)),
    )
    assert check_annotations(data, make_splits(folds, ()), folds) == []
    more = replace(data, annotations=(*data.annotations, replace(nodules[0], series_uid="lost")))
    with pytest.raises(TableError, match="1 annotated scans are missing, the first is lost"):
        check_annotations(more, make_splits(folds, ()), folds)
    nine = {fold: series for fold, series in folds.items() if fold < 9}
    notes = check_annotations(more, make_splits(nine, ()), nine)
    assert notes == ["2 annotated scans are not here and are not judged"]
