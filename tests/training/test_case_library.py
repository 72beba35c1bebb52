"""Cases on disk: the same as in memory, small on the way to a worker, whole or not there."""

from __future__ import annotations

import dataclasses
import pickle
from pathlib import Path

import numpy as np
import pytest

from napari_alnct.core.errors import TableError
from napari_alnct.training import case_library
from napari_alnct.training.case_library import CaseLibrary, StoredDonors, is_stored, overview_of, write_case
from napari_alnct.training.cases import TrainingCase
from napari_alnct.training.crops import CropSettings, draw_patch
from napari_alnct.training.insertion import Donor, make_donor


def ball_donor(name: str, diameter_mm: float) -> Donor:
    axis = np.arange(25) - 12.0
    distance = np.sqrt(sum(g**2 for g in np.meshgrid(axis, axis, axis, indexing="ij")))
    mask = distance <= diameter_mm / 2
    return make_donor(np.where(mask, 20, -850).astype(np.int16), mask, diameter_mm, ceiling_hu=400.0, name=name)


@pytest.fixture
def folders(tmp_path: Path, case: TrainingCase) -> list[Path]:
    """Store a real case with two donors and a phantom without."""
    write_case(tmp_path / "a", case, [ball_donor("one", 8.0), ball_donor("two", 5.0)], "first")
    write_case(tmp_path / "b", dataclasses.replace(case, name="phantom", is_synthetic=True), [], "second")
    return [tmp_path / "a", tmp_path / "b"]


def test_a_stored_case_is_the_case(folders: list[Path], case: TrainingCase) -> None:
    """Voxels, lungs, spots, findings and grid are the same to the last bit."""
    stored = CaseLibrary(folders)[0]
    for name in ("hu", "lungs", "centres_zyx_vox", "diameters_mm", "ignored_zyx_vox", "ignored_radii_mm"):
        np.testing.assert_array_equal(getattr(stored, name), getattr(case, name))
    for sort, spots in case.spots.items():
        np.testing.assert_array_equal(stored.spots[sort], spots)
    assert (stored.name, stored.geometry, stored.is_synthetic) == (case.name, case.geometry, False)


def test_patches_of_a_library_are_those_of_cases_in_memory(folders: list[Path], case: TrainingCase) -> None:
    """The same numbers give the same patches, with donors and around nodules of all scans."""
    library, settings = CaseLibrary(folders), CropSettings(edge_vox=32, nodule_share=0.4)
    in_memory = [case, dataclasses.replace(case, is_synthetic=True)]
    donors = list(library.donors())
    for number in range(12):
        ours = draw_patch(library, library.donors(), settings, 1, number)
        theirs = draw_patch(in_memory, donors, settings, 1, number)
        np.testing.assert_array_equal(ours.hu, theirs.hu)
        np.testing.assert_array_equal(ours.targets.state, theirs.targets.state)


def test_the_overview_needs_no_voxels(folders: list[Path], case: TrainingCase) -> None:
    """Counts and kinds are known when the voxels are gone, and are those of cases in memory."""
    for folder in folders:
        (folder / case_library.VOXELS).unlink()
    ours = overview_of(CaseLibrary(folders))
    theirs = overview_of([case, dataclasses.replace(case, is_synthetic=True)])
    for name in ("is_synthetic", "n_nodules", "real", "synthetic", "real_nodules"):
        np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name))
    assert ours.real_nodules.tolist() == [[0, 0], [0, 1]]


def test_a_library_travels_as_paths(folders: list[Path], case: TrainingCase) -> None:
    """Opened cases are left behind: some kB instead of 2 MB of voxels, and it opens them again."""
    library = CaseLibrary(folders)
    assert library[0].hu.nbytes > 1_000_000
    content = pickle.dumps(library)
    assert len(content) < 20_000
    np.testing.assert_array_equal(pickle.loads(content)[1].hu, case.hu)  # noqa: S301 - our own bytes


def test_few_cases_are_open_at_a_time(folders: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """With room for two of five, the ones used last stay open."""
    monkeypatch.setattr(case_library, "MOST_OPEN_CASES", 2)
    library = CaseLibrary([folders[0]] * 5)
    for number in (0, 1, 2, 1, 4):
        assert library[number].name == "balls"
    assert list(library._open) == [1, 4]


def test_donors_are_read_when_needed(folders: list[Path]) -> None:
    """Diameters are known without reading; a donor is the one that was stored; some can be left out."""
    donors = StoredDonors(CaseLibrary(folders).donors().entries, [ball_donor("three", 11.0)])
    np.testing.assert_array_equal(donors.diameters_mm, [8.0, 5.0, 11.0])
    first, expected = donors[0], ball_donor("one", 8.0)
    np.testing.assert_array_equal(first.contrast_hu, expected.contrast_hu)
    np.testing.assert_array_equal(first.outline, expected.outline)
    assert (first.level_hu, first.name) == (expected.level_hu, "one")
    assert [donor.name for donor in donors.without([1])] == ["one", "three"]
    assert [donor.name for donor in donors.without([2, 0])] == ["two"]


@pytest.mark.parametrize("spoil", ["cut short", "another version", "missing"])
def test_a_case_that_is_not_whole_is_not_used(folders: list[Path], spoil: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its description is written last: without it, or with another version, the case is made again."""
    path = folders[0] / case_library.DESCRIPTION
    assert is_stored(folders[0], "first")
    assert not is_stored(folders[0], "of other annotations")
    if spoil == "another version":
        monkeypatch.setattr(case_library, "LIBRARY_VERSION", 99)
    elif spoil == "missing":
        path.unlink()
    else:
        path.write_text(path.read_text()[:40])
    assert not is_stored(folders[0], "first")
    if spoil == "cut short":
        with pytest.raises(TableError, match="give the same command again"):
            CaseLibrary(folders)


@pytest.mark.parametrize("start", [(-9, -5, 70), (30, 40, 50), (80, 90, 100), (-40, 0, 0), (200, 0, 0)])
def test_lungs_of_a_cube_are_those_of_the_scan(case: TrainingCase, start: tuple[int, int, int]) -> None:
    """Unpacking a part gives what padding and cutting the whole mask gives."""
    edge = 33
    padded = np.pad(case.lungs, 250)
    z, y, x = (slice(s + 250, s + 250 + edge) for s in start)
    np.testing.assert_array_equal(case.lungs_in(np.array(start), edge), padded[z, y, x])
