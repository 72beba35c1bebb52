"""False marks: only errors, the strongest, each scan once, whole or not there."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from napari_alnct.core.config import PrepareSettings
from napari_alnct.core.errors import ModelError
from napari_alnct.training import mining
from napari_alnct.training.cases import TrainingCase, make_case
from napari_alnct.training.marks import CaseMarks, judge
from napari_alnct.training.mining import mine, read_mined


@pytest.fixture
def judged_case(case: TrainingCase) -> TrainingCase:
    """Give the two balls and an excluded finding of 12 mm at voxel (20, 20, 20)."""
    return make_case(
        "with an excluded finding",
        case.hu,
        case.lungs,
        case.geometry,
        nodules_xyz_mm=case.geometry.index_to_world(case.centres_zyx_vox),
        diameters_mm=case.diameters_mm,
        excluded_xyz_mm=case.geometry.index_to_world(np.array([[20.0, 20.0, 20.0]])),
        excluded_diameters_mm=np.array([12.0]),
    )


MARKS = (  # voxel, logit; strongest first, as the first stage gives them
    ((40.0, 46.0, 50.0), 3.0),  # in a nodule
    ((22.0, 21.0, 20.0), 2.5),  # in the excluded finding
    ((70.0, 70.0, 30.0), 2.0),
    ((40.0, 43.0, 50.0), 1.5),  # in a nodule again
    ((10.0, 80.0, 90.0), 1.0),
    ((50.0, 50.0, 99.0), 0.5),
    ((60.0, 10.0, 10.0), -6.0),  # hardly a mark
)


def found_marks(case: TrainingCase) -> CaseMarks:
    """Give `MARKS` as the first stage's marks on a case."""
    places = case.geometry.index_to_world(np.array([place for place, _ in MARKS]))
    logits = np.array([logit for _, logit in MARKS])
    peaks = SimpleNamespace(positions_xyz_mm=places, logits=logits, diameters_mm=np.full(len(MARKS), 6.0))
    return CaseMarks(case, peaks, judge(case, places, logits))  # type: ignore[arg-type]


def test_only_the_strongest_errors_are_mined(
    judged_case: TrainingCase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Marks in nodules and in excluded findings, and marks that say nothing, are no errors to learn from."""
    monkeypatch.setattr(mining, "find_marks", lambda _runner, case, _prepare: found_marks(case))
    found = mine(None, [judged_case] * 2, PrepareSettings(), tmp_path / "round_1", most_per_case=2)  # type: ignore[arg-type]
    assert found.case.tolist() == [0, 0, 1, 1]
    assert found.index_zyx.tolist() == [[70, 70, 30], [10, 80, 90]] * 2
    assert found.logits.tolist() == [2.0, 1.0] * 2
    again = read_mined(tmp_path / "round_1")
    np.testing.assert_array_equal(again.index_zyx, found.index_zyx)
    np.testing.assert_array_equal(again.logits, found.logits)


def test_a_search_that_broke_off_goes_on(
    judged_case: TrainingCase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fault in the third of four scans: the next call searches the third and fourth alone."""
    searched: list[int] = []

    def search(_runner: object, case: TrainingCase, _prepare: object) -> CaseMarks:
        searched.append(len(searched))
        if len(searched) == 3:
            raise InterruptedError
        return found_marks(case)

    monkeypatch.setattr(mining, "find_marks", search)
    cases, folder = [judged_case] * 4, tmp_path / "round_1"
    with pytest.raises(InterruptedError):
        mine(None, cases, PrepareSettings(), folder, most_per_case=1)  # type: ignore[arg-type]
    with pytest.raises(ModelError, match="is gone"):
        read_mined(folder)
    assert len(mine(None, cases, PrepareSettings(), folder, most_per_case=1).case) == 4  # type: ignore[arg-type]
    assert len(searched) == 5
    assert [path.name for path in folder.iterdir()] == [mining.MARKS]
