"""The examples of a report as the template shows them: words, figures, panels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from napari_alnct.batch.report_examples import Example, ExampleSet, Kind
from napari_alnct.batch.report_facts import shown_text
from napari_alnct.batch.report_images import Panel
from napari_alnct.batch.report_inputs import RunRecord
from napari_alnct.batch.report_pictures import Picture
from napari_alnct.batch.report_tables import series_name
from napari_alnct.core.findings import Candidate, ReferenceNodule
from napari_alnct.core.geometry import Triple
from napari_alnct.io.luna16 import Dataset

TITLES: dict[Kind, str] = {"hit": "Hits", "miss": "Misses", "false_positive": "False positives"}
WORDS: dict[Kind, str] = {"hit": "hit", "miss": "miss", "false_positive": "false positive"}
RULES: dict[Kind, str] = {
    "hit": "A nodule with a mark inside its radius, at whatever score.",
    "miss": "A nodule without any mark inside its radius; the mark shown is the nearest one.",
    "false_positive": "A mark in no nodule and on no excluded finding.",
}
CHOICES: dict[Kind, str] = {
    "hit": "Half of those shown are the weakest, half are drawn at random.",
    "miss": "Half of those shown are the largest nodules, half are drawn at random.",
    "false_positive": "The strongest are shown.",
}


@dataclass(frozen=True, kw_only=True)
class ExampleView:
    """One example in words; ``fault``: code when its scan could not be read."""

    heading: str
    facts: tuple[tuple[str, str], ...]
    panels: tuple[Panel, ...]
    why_no_panels: str
    fault: str


def example_views(
    sets: Sequence[ExampleSet],
    pictures: Sequence[Picture],
    record: RunRecord,
    dataset: Dataset | None,
    *,
    show_ids: bool,
) -> tuple[list[dict[str, Any]], list[ExampleView]]:
    """Give the examples for the template, by kind and all in one list.

    Parameters
    ----------
    sets : sequence of ExampleSet
        From `choose_examples`.
    pictures : sequence of Picture
        Of all chosen ones, in their order.
    record : RunRecord
        Says whether a scan was searched at all.
    dataset : Dataset or None
        Names of files.
    show_ids : bool
        Name series as they are.

    Returns
    -------
    by_kind : list of dict
    all_views : list of ExampleView
    """
    files = {scan.series_uid: [scan.path.name] for scan in dataset.scans} if dataset else {}
    left, by_kind, all_views = list(pictures), [], []
    for part in sets:
        views = []
        for example in part.chosen:
            reason = record.why_not_searched(example.series_uid, files.get(example.series_uid, ()))
            views.append(_view(example, left.pop(0), reason, show_ids))
        all_views += views
        by_kind.append(
            {
                "kind": part.kind,
                "title": TITLES[part.kind],
                "rule": RULES[part.kind]
                if len(part.chosen) == part.n_at_hand
                else f"{RULES[part.kind]} {CHOICES[part.kind]}",
                "n_all": part.n_all,
                "n_at_hand": part.n_at_hand,
                "views": views,
            }
        )
    return by_kind, all_views


def _view(example: Example, picture: Picture, not_searched: str | None, show_ids: bool) -> ExampleView:
    facts = [*_finding_facts(example), ("Series", series_name(example.series_uid, show_ids))]
    if not_searched is not None and example.kind == "miss":
        facts.insert(0, ("Not searched", f"no result for this scan ({not_searched})"))
    if example.reason:
        facts.append(("Chosen", example.reason))
    why, is_fault = "", bool(picture.sentence)
    if not picture.panels:
        sentence = f": {shown_text(picture.sentence, show_ids=True)}" if show_ids and is_fault else ""
        why = f"the scan could not be read ({picture.reason}){sentence}" if is_fault else picture.reason
    return ExampleView(
        heading=_heading(example),
        facts=tuple(facts),
        panels=picture.panels,
        why_no_panels=why,
        fault=picture.reason if is_fault else "",
    )


def _heading(example: Example) -> str:
    word = WORDS[example.kind].capitalize()
    if example.kind == "miss":
        assert example.nodule is not None
        return f"{word}, {_diameter(example.nodule)}"
    assert example.mark is not None
    return f"{word}, score {_score(example.mark)}"


def _finding_facts(example: Example) -> list[tuple[str, str]]:
    nodule, mark, facts = example.nodule, example.mark, []
    distance = "" if example.distance_mm is None else f"{example.distance_mm:.1f} mm"
    if example.kind == "false_positive":
        assert mark is not None
        facts.append(("Mark", f"{_diameter(mark)}, at {_position(mark.position_xyz_mm)}"))
        nearest = f"{distance} away, {_diameter(nodule)}" if nodule is not None else "none in this scan"
        return [*facts, ("Nearest nodule", nearest)]
    assert nodule is not None
    kind = f", {shown_text(nodule.kind, show_ids=True).replace('_', ' ')}" if nodule.kind else ""
    facts.append(("Nodule", f"{_diameter(nodule)}{kind}, at {_position(nodule.position_xyz_mm)}"))
    if example.kind == "hit":
        assert mark is not None
        return [*facts, ("Mark", f"{_diameter(mark)}, {distance} from the nodule's centre")]
    nearest = f"{distance} away, score {_score(mark)}, {_diameter(mark)}" if mark is not None else "none in this scan"
    return [*facts, ("Nearest mark", nearest)]


def _score(mark: Candidate) -> str:
    return f"{mark.score:.4f}" if 0.001 <= mark.score <= 1 else f"{mark.score:.4g}"


def _diameter(finding: Candidate | ReferenceNodule) -> str:
    return f"{finding.diameter_mm:.1f} mm" if finding.diameter_mm > 0 else "no diameter given"


def _position(position_xyz_mm: Triple) -> str:
    x, y, z = position_xyz_mm
    return f"({x:.1f}, {y:.1f}, {z:.1f}) mm"
