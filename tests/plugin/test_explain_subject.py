"""What may be explained of a reading, and with which model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from napari.layers import Points

from napari_alnct.core.errors import ModelError, ReviewError
from napari_alnct.core.findings import Candidate, CaseResult
from napari_alnct.core.proposals import Source
from napari_alnct.core.review import Review
from napari_alnct.core.volume import Volume
from napari_alnct.models.catalogue import list_models
from napari_alnct.plugin._explain_subject import (
    FROM_TABLE,
    LOCKED,
    NO_FINDER,
    NO_READING,
    finder_of,
    subject_of_reading,
    targets_of_points,
)
from napari_alnct.plugin._layers import marks_layer
from tests.plugin.test_commands import Desk

pytestmark = pytest.mark.filterwarnings("ignore::pydantic.PydanticDeprecatedSince20")
CENTRE_XYZ_MM = (12.0, -31.0, 44.0)


@pytest.fixture
def desk(tmp_path: Path, ball: Callable[..., Volume]) -> Iterator[Desk]:
    """Give a reading without marks."""
    desk = Desk(tmp_path)
    desk.reading.begin(ball())
    yield desk
    desk.close()


def take_result(desk: Desk, name: str, sha256: str) -> None:
    """Give the reading two marks of a model, one of them below the threshold."""
    assert desk.reading.volume is not None
    candidates = tuple(Candidate(position_xyz_mm=CENTRE_XYZ_MM, score=score, diameter_mm=6.0) for score in (0.9, 0.1))
    result = CaseResult(
        series_uid="1",
        candidates=candidates,
        threshold=0.5,
        model_name=name,
        model_sha256=sha256,
        device="cpu",
        voxel_sha256=desk.reading.volume.voxel_sha256,
    )
    desk.session.take_candidates(result, Source())


def test_marks_are_explained_by_the_model_that_found_them(desk: Desk) -> None:
    """Those that are shown, with its name and hash; the current one is told."""
    model = list_models()[0]
    take_result(desk, model.name, str(model.sha256))
    desk.session.next()
    subject = subject_of_reading(desk.reading)
    assert (subject.model, subject.model_sha256) == (model.name, model.sha256)
    assert [target.name for target in subject.targets] == ["mark 1"]
    assert subject.current == subject.targets[0]
    assert subject.current is not None
    assert subject.current.position_xyz_mm == CENTRE_XYZ_MM


def test_without_a_reading_there_is_nothing(desk: Desk) -> None:
    """It says what to do."""
    desk.reading.end()
    with pytest.raises(ReviewError, match=NO_READING):
        subject_of_reading(desk.reading)


def test_before_the_first_read_is_ended_nothing_of_the_model_is_told(
    tmp_path: Path, ball: Callable[..., Volume]
) -> None:
    """Not even at the reader's own mark."""
    desk = Desk(tmp_path)
    desk.preferences.remember(mode="second reader")
    desk.reading.begin(ball())
    model = list_models()[0]
    take_result(desk, model.name, str(model.sha256))
    desk.session.add_at(CENTRE_XYZ_MM)
    with pytest.raises(ReviewError, match=LOCKED):
        subject_of_reading(desk.reading)
    desk.session.end_first_read()
    assert len(subject_of_reading(desk.reading).targets) == 2
    desk.close()


def test_marks_of_a_table_have_no_score_to_explain(desk: Desk) -> None:
    """No network gave it; the reader is told where a model can be asked."""
    desk.session.take_candidates([Candidate(position_xyz_mm=CENTRE_XYZ_MM, score=0.9, diameter_mm=6.0)], Source())
    with pytest.raises(ReviewError) as refusal:
        subject_of_reading(desk.reading)
    assert str(refusal.value) == FROM_TABLE
    assert "Explain candidates" in FROM_TABLE


def test_a_reading_without_marks_waits_for_a_search() -> None:
    """Nothing has a score yet."""
    with pytest.raises(ReviewError, match=NO_FINDER):
        finder_of(Review())


def test_the_model_must_be_at_hand() -> None:
    """A user's own file is found by its name; another version of a bundled one is not taken for it."""
    own = Review(model_name="mine", model_sha256="ab" * 32)
    assert finder_of(own, ["/models/other.safetensors", "/models/mine.safetensors"]) == "/models/mine.safetensors"
    with pytest.raises(ModelError, match="mine"):
        finder_of(own)
    with pytest.raises(ModelError, match="another version"):
        finder_of(Review(model_name=list_models()[0].name, model_sha256="ab" * 32))


def test_points_of_any_layer_become_candidates() -> None:
    """Ours by their numbers, those that are hidden left out; plain points in their order; all in world mm."""
    found = [Candidate(position_xyz_mm=(float(k), 2.0, 3.0), score=0.9 - k / 10, diameter_mm=5.0) for k in range(3)]
    data, attributes, _ = marks_layer(found, series_uid="1", threshold=0.75)
    marks = targets_of_points(Points(data, **attributes))
    assert [(target.name, target.position_xyz_mm[0]) for target in marks] == [("mark 1", 0.0), ("mark 2", 1.0)]
    plain = Points(np.array([[1.0, 2.0, 3.0]]), scale=(2, 1, 1), translate=(0, 0, 5))
    (target,) = targets_of_points(plain)
    assert (target.name, target.position_xyz_mm) == ("mark 1", (8.0, 2.0, 2.0))
