"""Which outcomes a report shows: as many as are counted, chosen by a rule that nobody can bend."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from napari_alnct.batch.froc import FrocTables
from napari_alnct.batch.report_examples import Example, choose_examples, list_outcomes
from napari_alnct.core.findings import Candidate, ReferenceNodule
from napari_alnct.evaluation.scoring import score_scans
from tests.evaluation.reference import findings, marks, reference_scored, reference_tables


def hit(number: int, score: float, series: str = "s") -> Example:
    """Give a hit whose place tells it from others."""
    place = (float(number), 0.0, 0.0)
    return Example(
        kind="hit",
        series_uid=series,
        nodule=ReferenceNodule(series_uid=series, position_xyz_mm=place, diameter_mm=5.0),
        mark=Candidate(position_xyz_mm=place, score=score, diameter_mm=5.0),
        distance_mm=0.0,
    )


def miss(number: int, diameter_mm: float) -> Example:
    place = (float(number), 0.0, 0.0)
    nodule = ReferenceNodule(series_uid="s", position_xyz_mm=place, diameter_mm=diameter_mm)
    return Example(kind="miss", series_uid="s", nodule=nodule, mark=None, distance_mm=None)


def test_outcomes_name_marks_and_nodules() -> None:
    """Scan a: the best of two marks hits; b: a miss whose nearest mark is 20 mm off, itself a false positive."""
    tables = FrocTables(
        candidates=marks(("a", 1, 0.4), ("a", 0, 0.9), ("b", 20, 0.8)),
        annotations=findings(("b", 0, 6), ("a", 0, 6)),
        excluded=[],
        series_list=["a", "b", "c"],
        compare=None,
    )
    scored = score_scans(tables.candidates, tables.annotations, [], tables.series_list)
    seen = [
        (o.kind, o.series_uid, o.mark.score if o.mark else None, o.distance_mm) for o in list_outcomes(tables, scored)
    ]
    assert seen == [("hit", "a", 0.9, 0.0), ("miss", "b", 0.8, 20.0), ("false_positive", "b", 0.8, 20.0)]


def test_marks_beyond_the_cap_are_not_shown() -> None:
    """101 marks: those that tie with the 101st are lost, so the hit among them is a miss."""
    many = [("a", 50.0 + k, 0.5) for k in range(100)]
    tables = FrocTables(
        candidates=marks(*many, ("a", 0, 0.4)),
        annotations=findings(("a", 0, 6)),
        excluded=[],
        series_list=["a"],
        compare=None,
    )
    scored = score_scans(tables.candidates, tables.annotations, [], tables.series_list)
    assert Counter(o.kind for o in list_outcomes(tables, scored)) == {"miss": 1, "false_positive": 100}


@pytest.mark.data
def test_outcomes_of_the_published_result_are_those_of_the_official_script(data_pack: Path) -> None:
    """DeepLung on LUNA16: 1136 hits, 50 misses, 46,078 false positives."""
    outcomes = list_outcomes(reference_tables(data_pack), reference_scored(data_pack))
    counts = Counter(o.kind for o in outcomes)
    assert (counts["hit"], counts["miss"], counts["false_positive"]) == (1136, 50, 46078)


def test_half_of_the_hits_are_the_weakest() -> None:
    """Of 40 hits and room for 6: the three weakest, then three others, each said why."""
    hits, *_ = choose_examples([hit(k, 0.02 * k) for k in range(40)], most=6)
    assert [e.mark.score for e in hits.chosen[:3] if e.mark] == [0.0, 0.02, 0.04]
    assert [e.reason for e in hits.chosen] == ["among the weakest"] * 3 + ["drawn at random"] * 3
    assert len({e.centre_xyz_mm for e in hits.chosen}) == 6
    assert (hits.n_all, hits.n_at_hand) == (40, 40)


def test_the_draw_does_not_depend_on_the_order_of_the_table() -> None:
    """The same hits backwards give the same choice; another seed another one."""
    outcomes = [hit(k, 0.02 * k) for k in range(40)]
    forward, backward, other = (
        choose_examples(rows, most=8, seed=seed)[0].chosen
        for rows, seed in ((outcomes, 1), (outcomes[::-1], 1), (outcomes, 2))
    )
    assert forward == backward
    assert forward[:4] == other[:4]
    assert forward[4:] != other[4:]


def test_few_misses_are_shown_all_and_many_begin_with_the_largest() -> None:
    """Three misses: all, without a reason; thirty: the largest first."""
    few = choose_examples([miss(k, 4.0 + k) for k in range(3)], most=4)[1]
    many = choose_examples([miss(k, 4.0 + k) for k in range(30)], most=4)[1]
    assert [e.reason for e in few.chosen] == ["", "", ""]
    assert [e.nodule.diameter_mm for e in many.chosen[:2] if e.nodule] == [33.0, 32.0]


def test_scans_at_hand_come_first() -> None:
    """Only hits of scans that can be shown are chosen, and both numbers are told; when none can, all are."""
    outcomes = [hit(k, 0.01 * k, "far" if k % 2 else "near") for k in range(20)]
    near = choose_examples(outcomes, most=6, at_hand={"near"})[0]
    assert ({e.series_uid for e in near.chosen}, near.n_all, near.n_at_hand) == ({"near"}, 20, 10)
    assert choose_examples(outcomes, most=6, at_hand={"else"})[0].n_at_hand == 0
    assert len(choose_examples(outcomes, most=6, at_hand={"else"})[0].chosen) == 6
