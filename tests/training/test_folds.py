"""Leave-scans-out folds: nothing twice, nothing missing, no patient on both sides; and how they are judged."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from napari_alnct.core.errors import ModelError, SettingsError
from napari_alnct.training.fold_groups import groups
from napari_alnct.training.fold_judging import (
    cross_fitted,
    fit_searches,
    froc_interval,
    froc_of,
    of_kind,
    outcomes,
    pasted_lung,
    placing,
    untouched,
)
from napari_alnct.training.fold_scores import (
    AS_IT_IS,
    CONTROL,
    LUNA16_SIZES,
    OWN,
    OWN_SIZES,
    PLAIN_LUNG,
    SCORES_VERSION,
    Search,
    SearchedNodule,
    read_searches,
)
from napari_alnct.training.folds import fold_settings, pack_folds
from napari_alnct.training.joint_score import NODULES_PER_SCAN, fit_joint_score
from napari_alnct.training.settings import BuildSettings
from napari_alnct.training.sources import cube_names, pack_case_names


@pytest.fixture
def tiny_pack(tmp_path: Path) -> Path:
    """Give the tables of a pack with five scans and ten cubes, two of them of scanned patients."""
    (tmp_path / "training").mkdir()
    (tmp_path / "nodules").mkdir()
    rows = "\n".join(f"{name}.mha,{name},1.2.{k}" for k, name in enumerate("ABCDE"))
    (tmp_path / "training" / "scans.csv").write_text(f"file,case,seriesuid\n{rows}\n")
    np.savez(
        tmp_path / "nodules" / "lidc_nodules.npz",
        name=np.array([f"cube_{k}" for k in range(10)]),
        patient=np.array(["", "B", "", "", "D", "", "", "", "", ""]),
        diameter_mm=np.arange(10, dtype=np.float32) + 5,
    )
    return tmp_path


def test_every_scan_and_cube_is_held_out_once(tiny_pack: Path) -> None:
    """Folds are a partition, and the same each time."""
    folds = pack_folds(tiny_pack, 3)
    assert sorted(name for fold in folds for name in fold.cases) == list("ABCDE")
    assert sorted(name for fold in folds for name in fold.cubes) == sorted(f"cube_{k}" for k in range(10))
    assert folds == pack_folds(tiny_pack, 3)


def test_a_cube_is_held_out_with_the_scan_of_its_patient(tiny_pack: Path) -> None:
    """Whoever is seen in a held-out scan is not seen in a cube that is trained on."""
    for fold in pack_folds(tiny_pack, 2):
        assert ("B" in fold.cases) == ("cube_1" in fold.cubes)
        assert ("D" in fold.cases) == ("cube_4" in fold.cubes)


def test_a_fold_that_is_not_there_is_refused(tiny_pack: Path) -> None:
    """As are more folds than scans."""
    folds = pack_folds(tiny_pack, 3)
    assert fold_settings(BuildSettings(name="m"), folds, 2).name == "m-fold-2"
    with pytest.raises(SettingsError, match="no fold 3; choose 0 to 2"):
        fold_settings(BuildSettings(), folds, 3)
    with pytest.raises(SettingsError, match="6 folds of 5 scans"):
        pack_folds(tiny_pack, 6)


@pytest.mark.data
def test_the_pack_splits_into_three_without_shared_patients(data_pack: Path) -> None:
    """33 cubes and three scans each; the three known patients are with their scans."""
    folds = pack_folds(data_pack, 3)
    assert [len(fold.cubes) for fold in folds] == [33, 33, 33]
    assert sorted(case for fold in folds for case in fold.cases) == sorted(pack_case_names(data_pack))
    assert {cube for fold in folds for cube in fold.cubes} == set(cube_names(data_pack))
    patients = {"LIDC-IDRI-0001": "0_nod1_ann0", "LIDC-IDRI-0002": "1_nod1_ann0", "LIDC-IDRI-0063": "62_nod4_ann0"}
    for case, cube in patients.items():
        assert [case in fold.cases for fold in folds] == [cube in fold.cubes for fold in folds]


def search(case: str, kind: str, first: list[float], labels: list[int], nodules: list[SearchedNodule]) -> Search:
    n = len(first)
    return Search(
        case=case,
        turn=1,
        kind=kind,
        first=np.array(first, float),
        second=np.array(first, float) * 0.5,
        labels=np.array(labels, np.int8),
        positions_xyz_mm=np.arange(n, dtype=float)[:, None] * np.ones(3),
        diameters_mm=np.full(n, 9.0),
        nodules=tuple(nodules),
    )


def nodule(mark: int | None, *, diameter_mm: float = 10.0, sort: str = "pleura") -> SearchedNodule:
    at = float(mark or 0)
    marks = () if mark is None else (mark,)
    return SearchedNodule(
        diameter_mm=diameter_mm, sort=sort, donor="d", scale=1.0, position_xyz_mm=(at, at, at + 0.5), marks=marks
    )


LIDC = search("LIDC-IDRI-1", LUNA16_SIZES, [3.0, 2.0, 1.0, -1.0], [1, 0, 1, 0], [nodule(0), nodule(2, diameter_mm=4.0)])
LIDC_2 = search("LIDC-IDRI-2", LUNA16_SIZES, [4.0, 0.5], [1, 0], [nodule(0), nodule(None)])
QIN = search("QIN-1", LUNA16_SIZES, [5.0, 4.5], [1, 0], [nodule(0, sort="vessel")])
UNTOUCHED = search("LIDC-IDRI-1", AS_IT_IS, [2.5, 2.0, -3.0], [1, 0, 0], [nodule(0, sort=OWN)])


def scored(*searches: Search) -> list[tuple[Search, np.ndarray]]:
    return [(one, one.first) for one in searches]


def test_froc_counts_errors_on_fully_annotated_scans_alone() -> None:
    """By hand: 5 inserted nodules, 4 found; 3 errors in 2 searches; the mark on nothing of QIN does not count."""
    curve = froc_of(scored(LIDC, LIDC_2, QIN, UNTOUCHED))
    assert (curve.n_nodules, curve.n_scans) == (5, 2)
    assert curve.sensitivity_at([0.0]).tolist() == [pytest.approx(3 / 5)]
    assert curve.sensitivity_at([0.5]).tolist() == [pytest.approx(4 / 5)]
    assert curve.fp_per_scan[-1] == pytest.approx(3 / 2)


def test_own_nodules_are_judged_on_the_scan_as_it_is() -> None:
    """They are no inserted ones, and the rate at which they appear is read from the joint curve."""
    everything = scored(LIDC, LIDC_2, QIN, UNTOUCHED)
    assert [o.score for o in outcomes(everything, own=True)] == [2.5]
    (row,) = untouched(everything, threshold=1.5)
    assert row["marks_on_nothing"] == 1
    assert row["are_errors"]
    assert row["nodules"][0] == {
        "diameter_mm": 10.0,
        "is_found": True,
        "is_shown": True,
        "fp_per_scan": 0.0,
        "centre_error_mm": 0.5,
    }


def test_groups_and_placing_by_hand() -> None:
    """At one error per scan everything down to logit 0.5 is shown: all but the missed one."""
    everything = scored(LIDC, LIDC_2, QIN)
    table = groups(everything, 1.0)
    assert table["3-5 mm"] == {"n": 1, "found": 1, "sensitivity": 1.0}
    assert table["at pleura"] == {"n": 4, "found": 3, "sensitivity": 0.75}
    assert table["at vessel"]["n"] == 1
    assert table["5-8 mm"] == {"n": 0, "found": 0, "sensitivity": None}
    assert not any("HU" in name for name in table)
    by_contrast = groups(everything, 1.0, {"d": 150.0})
    assert by_contrast["faint, below 150 HU"]["n"] == by_contrast["denser"]["n"] == 0
    assert by_contrast["150 to 300 HU"] == {"n": 5, "found": 4, "sensitivity": 0.8}
    assert placing(everything, 1.5) == {
        "n": 3,
        "median_centre_error_mm": 0.5,
        "median_diameter_error": pytest.approx(0.1),
    }


def test_pasted_lung_is_counted_apart() -> None:
    """A marked piece is no nodule, no error of the curve, and stands in a figure of its own."""
    piece = [nodule(0, sort=CONTROL), nodule(None, sort=CONTROL), nodule(1, sort=OWN)]
    pasted = search("LIDC-IDRI-1", PLAIN_LUNG, [2.0, 5.0], [0, 1], piece)
    with_it, without = scored(LIDC, LIDC_2, pasted), scored(LIDC, LIDC_2)
    assert pasted_lung(with_it, 1.0) == {"n": 2, "marked": 1}
    assert pasted_lung(with_it, 3.0) == {"n": 2, "marked": 0}
    assert froc_of(with_it).fp_per_scan.tolist() == froc_of(without).fp_per_scan.tolist()
    assert len(outcomes(with_it)) == len(outcomes(without)) == 4


def test_kinds_of_searches_are_told_apart() -> None:
    """Larger nodules are judged on their own, and never weigh the scores."""
    large = search("LIDC-IDRI-1", OWN_SIZES, [4.0], [1], [nodule(0)])
    everything = scored(LIDC, UNTOUCHED, large)
    assert [one.kind for one, _ in of_kind(everything, OWN_SIZES)] == [OWN_SIZES]
    assert froc_of(of_kind(everything, LUNA16_SIZES)).n_nodules == 2
    assert fit_searches([LIDC, LIDC_2, large]) == fit_searches([LIDC, LIDC_2])


def test_the_interval_holds_the_figure_and_shrinks_to_it_for_equal_scans() -> None:
    """Scans that behave alike leave nothing to chance."""
    alike = [search(f"LIDC-IDRI-{k}", LUNA16_SIZES, [3.0, 1.0], [1, 0], [nodule(0), nodule(None)]) for k in range(4)]
    bands, cpm = froc_interval(scored(*alike))
    assert bands.tolist() == [[0.5] * 7] * 2
    assert cpm == (0.5, 0.5)


def test_the_balance_of_a_fold_comes_from_the_other_folds() -> None:
    """By a second fit: weights of the other two, brought to the scale and the constant of all three."""
    rng = np.random.default_rng(0)

    def fold() -> list[Search]:
        labels = [1, 0] * 20
        one = search("LIDC-IDRI-1", LUNA16_SIZES, [float(rng.normal(2 * v)) for v in labels], labels, [nodule(0)])
        return [replace(one, second=one.first * 0.3 + rng.normal(size=40))]

    folds = [fold(), fold(), fold()]
    found = cross_fitted(folds)
    everything = fit_searches([s for part in folds for s in part])
    for number, part in enumerate(found):
        others = fit_searches([s for k, fold in enumerate(folds) if k != number for s in fold])
        logit = np.log(part[0][1] / (1 - part[0][1]))
        mean = (others.detector * part[0][0].first + others.classifier * part[0][0].second) / (
            others.detector + others.classifier
        )
        assert np.allclose(logit, (everything.detector + everything.classifier) * mean + everything.constant)
    single = cross_fitted(folds[:1])[0][0][1]
    assert np.allclose(single, fit_searches(folds[0]).scores(folds[0][0].first, folds[0][0].second))


def test_a_mark_keeps_its_rank_when_its_own_fold_changes() -> None:
    """The balance of fold 0 does not depend on what else is in fold 0."""
    rng = np.random.default_rng(1)
    labels = [1, 0] * 20
    folds = [
        [
            replace(
                search("LIDC-IDRI-1", LUNA16_SIZES, rng.normal(labels).tolist(), labels, [nodule(0)]),
                second=rng.normal(labels),
            )
        ]
        for _ in range(3)
    ]
    more = search("LIDC-IDRI-2", LUNA16_SIZES, [9.0, 8.0], [0, 1], [nodule(1)])
    before, after = cross_fitted(folds)[0][0][1], cross_fitted([[*folds[0], more], *folds[1:]])[0][0][1]
    assert not np.allclose(before, after)
    assert np.argsort(before).tolist() == np.argsort(after).tolist()


def test_even_odds_mean_what_luna16_holds() -> None:
    """Logits that are no help give every mark LUNA16's share of nodules: 1.34 per scan against the errors."""
    n_scans, per_scan, errors = 50, 10, 4
    labels = np.array(([1] * per_scan + [0] * errors) * n_scans, np.int8)
    nothing = np.zeros(len(labels))
    joint = fit_joint_score(nothing, None, labels, nodules_per_scan=per_scan)
    share = NODULES_PER_SCAN / (NODULES_PER_SCAN + errors)
    assert joint.scores(np.zeros(1), np.zeros(1))[0] == pytest.approx(share, abs=0.01)


def test_marks_of_one_kind_cannot_be_weighed() -> None:
    """No error at all: there is nothing to learn from."""
    with pytest.raises(ModelError, match="made no error among 2 marks"):
        fit_joint_score(np.ones(2), None, np.ones(2, np.int8), nodules_per_scan=1.0)


def test_searches_survive_the_disk(tmp_path: Path) -> None:
    """What is written is read again, and only for the same model."""
    import json

    from napari_alnct.training.fold_scores import _to_json

    path = tmp_path / "scores.json"
    path.write_text(json.dumps({"version": SCORES_VERSION, "model": "m", "sha256": "a", "searches": [_to_json(LIDC)]}))
    (again,) = read_searches(path, sha256="a")
    assert again.nodules == LIDC.nodules
    assert np.array_equal(again.labels, LIDC.labels)
    assert read_searches(path, sha256="b") == []
