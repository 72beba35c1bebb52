"""Study files: orders that differ by reader and never by machine, names that say nothing, faults told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from napari_alnct.core.errors import TableError
from napari_alnct.io.study import Study, StudyCase, name_cases, read_study, write_study

READERS = ("A. Weiss", "B. Braun", "C. Schwarz")


def study(folder: Path, n_cases: int = 12, seed: int = 7) -> Study:
    hashes = [f"{k * 7919 % 251:064x}" for k in range(n_cases)]
    return Study(
        cases=name_cases([folder / "scans" / f"s{k}.mhd" for k in range(n_cases)], hashes), readers=READERS, seed=seed
    )


def test_each_reader_has_all_cases_in_an_order_of_their_own(tmp_path: Path) -> None:
    """The same however the name is written; another one for others and for another seed."""
    made = study(tmp_path)
    orders = [made.order_for(reader) for reader in READERS]
    assert all(sorted(order, key=lambda case: case.name) == list(made.cases) for order in orders)
    assert len(set(orders) | {made.cases}) == 4
    assert made.order_for("a weiss") == orders[0]
    assert study(tmp_path, seed=8).order_for("A. Weiss") != orders[0]


def test_an_order_never_changes() -> None:
    """Written down once: other machines and versions must give the same."""
    cases = tuple(StudyCase(name=f"c{k}", path=Path(f"{k}"), voxel_sha256=f"{k:064x}") for k in range(6))
    made = Study(cases=cases, readers=("A. Weiss",), seed=7)
    assert [case.name for case in made.order_for("A. Weiss")] == [
        "c0",
        "c3",
        "c4",
        "c5",
        "c2",
        "c1",
    ]  # from sha256sum and sort


def test_places_in_the_order_are_even(tmp_path: Path) -> None:
    """Over 400 readers each of 5 cases comes first about 80 times."""
    cases = study(tmp_path, 5).cases
    made = Study(cases=cases, readers=tuple(f"reader {k}" for k in range(400)))
    first = [made.order_for(reader)[0].name for reader in made.readers]
    assert all(50 <= first.count(case.name) <= 110 for case in cases)


def test_names_do_not_follow_the_files(tmp_path: Path) -> None:
    """The hash of the voxels decides on the number; all names have the same length."""
    made = study(tmp_path)
    assert [case.name for case in made.cases] == [f"case-{k:02d}" for k in range(1, 13)]
    assert [case.path.name for case in made.cases] != [f"s{k}.mhd" for k in range(12)]


def test_a_study_reads_back_unchanged(tmp_path: Path) -> None:
    """Scans below the folder are named relative to it, so that both can be moved together."""
    made = study(tmp_path)
    write_study(tmp_path / "study.json", made)
    assert read_study(tmp_path / "study.json") == made
    assert str(tmp_path) not in (tmp_path / "study.json").read_text()
    outside = Study(
        cases=(StudyCase(name="c", path=Path("/elsewhere/a.mhd"), voxel_sha256="ab"),), readers=READERS, seed=0
    )
    write_study(tmp_path / "other.json", outside)
    assert read_study(tmp_path / "other.json") == outside


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"form": "x"}, "is no study file"),
        ({"schema": 2}, "has form 2, this version reads 1"),
        ({"readers": []}, "needs cases and readers, found 12 and 0"),
        ({"readers": ["Dr. A", "dr a"]}, "readers of the same folder name twice: dr-a"),
        ({"cases": [{"name": "a"}]}, "missing or of the wrong kind"),
        ({"readers": [3]}, "missing or of the wrong kind"),
        ({"seed": None}, "missing or of the wrong kind"),
    ],
    ids=["no study", "other form", "no readers", "same readers", "no file", "number as reader", "no seed"],
)
def test_faults_are_told(tmp_path: Path, change: dict[str, object], sentence: str) -> None:
    """In one sentence."""
    path = tmp_path / "study.json"
    write_study(path, study(tmp_path))
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(TableError, match=sentence):
        read_study(path)


def test_a_stranger_is_refused(tmp_path: Path) -> None:
    """Nobody reads in a study by a slip of the pen."""
    with pytest.raises(TableError, match=r"A\. White does not read in this study; A\. Weiss, B\. Braun"):
        study(tmp_path).order_for("A. White")
    with pytest.raises(TableError, match="cannot be read"):
        read_study(tmp_path / "absent.json")
    (tmp_path / "torn.json").write_text("{")
    with pytest.raises(TableError, match="is no study file"):
        read_study(tmp_path / "torn.json")
