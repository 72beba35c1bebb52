"""One self-contained HTML page of a run: data, recipe, curves, examples of hits, misses and false positives.

The page needs nothing but itself: pictures are data inside it, there are no scripts, and its own
policy forbids every request. All text from files is escaped by the template. Judging is that
of ``froc``: the same functions on the same tables, so the counts are those of ``froc.json``.
"""

from __future__ import annotations

import platform
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from napari_alnct import __version__
from napari_alnct.batch.report_cards import ExampleView, example_views
from napari_alnct.batch.report_examples import choose_examples, list_outcomes
from napari_alnct.batch.report_facts import (
    data_facts,
    recipe_facts,
    shown_text,
    training_facts,
    training_overlap,
)
from napari_alnct.batch.report_images import EDGE_MM, GAPS_MM, LUNG_WINDOW_HU
from napari_alnct.batch.report_inputs import ReportInputs, RunRecord, open_scans, read_record
from napari_alnct.batch.report_judging import Judged, judge_inputs
from napari_alnct.batch.report_model import ModelFacts, find_model_facts
from napari_alnct.batch.report_pictures import Progress, take_pictures
from napari_alnct.batch.report_tables import (
    evaluation_view,
    fold_rows,
    froc_view,
    input_rows,
    learning_views,
    unsearched_rows,
)
from napari_alnct.core.errors import SettingsError
from napari_alnct.core.notice import NOTICE
from napari_alnct.io.atomic_file import replacing_text
from napari_alnct.io.images import ReadOptions
from napari_alnct.io.luna16 import Dataset

TEMPLATES, TEMPLATE = Path(__file__).with_name("templates"), "report.html.j2"
MOST_UNSEARCHED = 50
FEW_SCANS = 20  # below this a percentile interval is too narrow


@dataclass(frozen=True, kw_only=True)
class ReportOptions:
    """How a report is made.

    Parameters
    ----------
    title : str
        Heading of the page.
    show_ids : bool
        Series and file names as they are (public data sets only); else hashes.
    n_examples : int
        Most hits, misses and false positives shown, of each.
    seed : int
        Of the examples that are drawn at random.
    is_restricted : bool
        Leave out candidates of scans that are not listed.
    reading : ReadOptions
        What may be read for pictures.
    """

    title: str = "Nodule detection: report of a run"
    show_ids: bool = False
    n_examples: int = 12
    seed: int = 0
    is_restricted: bool = False
    reading: ReadOptions = field(default_factory=ReadOptions)


@dataclass(frozen=True, kw_only=True)
class ReportSummary:
    """What was written: the judged figures (None without), examples and pictures shown, scans not read."""

    figures: dict[str, Any] | None
    n_examples: int
    n_pictures: int
    unread: tuple[str, ...]


def write_report(
    out: Path,
    inputs: ReportInputs,
    options: ReportOptions,
    *,
    progress: Progress | None = None,
    is_cancelled: Callable[[], bool] | None = None,
) -> ReportSummary:
    """Write the page.

    Parameters
    ----------
    out : Path
        HTML file; appears complete or not at all.
    inputs : ReportInputs
        What to report on.
    options : ReportOptions
        How.
    progress : callable, optional
        Called with scans read and scans to read.
    is_cancelled : callable, optional
        Asked before each scan.

    Returns
    -------
    ReportSummary

    Raises
    ------
    SettingsError
        If there is nothing to report on.
    TableError, ModelError, ReadError
        If something that was named cannot be used.
    JobCancelled
        If `is_cancelled` said so; nothing was written.
    """
    dataset = open_scans(inputs.scans)
    record = read_record(inputs.candidates, inputs.seriesuids)
    judged = judge_inputs(inputs, dataset, is_restricted=options.is_restricted)
    model = find_model_facts(inputs.model, inputs.train_dir, record.document)
    page = _page(inputs, options, dataset, record, judged, model)
    if not any(page[part] for part in ("froc", "evaluation", "recipe", "learning")):
        raise SettingsError("there is nothing to report on; name --candidates, --froc-dir, --eval-dir or --train-dir")
    examples: list[ExampleView] = []
    if judged is not None and judged.tables is not None and judged.scored is not None:
        at_hand = {scan.series_uid for scan in dataset.scans} if dataset else None
        outcomes = list_outcomes(judged.tables, judged.scored)
        sets = choose_examples(outcomes, most=options.n_examples, seed=options.seed, at_hand=at_hand)
        chosen = [example for part in sets for example in part.chosen]
        pictures = take_pictures(
            chosen, dataset, judged.tables, options.reading, progress=progress, is_cancelled=is_cancelled
        )
        page["example_sets"], examples = example_views(sets, pictures, record, dataset, show_ids=options.show_ids)
    with replacing_text(out) as stream:
        stream.write(render(page))
    return ReportSummary(
        figures=judged.document if judged else None,
        n_examples=len(examples),
        n_pictures=sum(bool(view.panels) for view in examples),
        unread=tuple(dict.fromkeys(view.fault for view in examples if view.fault)),
    )


def render(page: dict[str, Any]) -> str:
    """Give the page as HTML, every text escaped.

    Parameters
    ----------
    page : dict
        What the template asks for.

    Returns
    -------
    str
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(TEMPLATE).render(page)


def _page(
    inputs: ReportInputs,
    options: ReportOptions,
    dataset: Dataset | None,
    record: RunRecord,
    judged: Judged | None,
    model: ModelFacts | None,
) -> dict[str, Any]:
    """Give all parts but the examples."""
    show_ids, tables = options.show_ids, judged.tables if judged else None
    folds, sizes = data_facts(tables, dataset) if tables else ([], [])
    unsearched = unsearched_rows(tables, record, dataset, show_ids=show_ids) if tables else []
    return {
        "title": shown_text(options.title, show_ids=True),
        "notice": NOTICE,
        "made": datetime.now(UTC).strftime("%Y-%m-%d"),
        "versions": {"napari-alnct": __version__, "Python": platform.python_version()},
        "show_ids": show_ids,
        "notes": _notes(inputs, record, judged, model),
        "froc": froc_view(judged) if judged else None,
        "folds": folds,
        "crossval": fold_rows(inputs.froc_dir),
        "sizes": sizes,
        "n_excluded": _n_excluded(judged),
        "unsearched": unsearched[:MOST_UNSEARCHED],
        "n_unsearched": len(unsearched),
        "n_unsearched_nodules": sum(row["n_nodules"] for row in unsearched),
        "evaluation": evaluation_view(inputs.eval_dir, show_ids=show_ids),
        "recipe": recipe_facts(model, show_ids=show_ids) if model else [],
        "training": training_facts(model.recipe.training, show_ids=show_ids) if model else [],
        "card": model.card if model else (),
        "has_model": model is not None,
        "learning": learning_views(inputs.train_dir),
        "example_sets": [],
        "has_scans": dataset is not None,
        "inputs": input_rows(inputs, show_ids=show_ids),
        "edge_mm": EDGE_MM,
        "window": LUNG_WINDOW_HU,
        "gaps": GAPS_MM,
    }


def _n_excluded(judged: Judged | None) -> int:
    if judged is None or judged.tables is None:
        return 0
    listed = set(judged.tables.series_list)
    return sum(finding.series_uid in listed for finding in judged.tables.excluded)


def _notes(inputs: ReportInputs, record: RunRecord, judged: Judged | None, model: ModelFacts | None) -> list[str]:
    """Give what a reader must know before the figures."""
    notes = [str(note) for note in judged.document.get("notes", [])] if judged else []
    if judged is not None and judged.tables is None:
        notes.append("Only the figures of froc.json were at hand, not its tables: no examples can be shown.")
    if judged is not None and judged.tables is not None and not record.is_known:
        notes.append(
            "No record of the detection run lies beside the candidates: which scans were really searched is "
            "taken from the list of series."
        )
    if record.document.get("holds_all_candidates") is False:
        notes.append("The candidates are those above a threshold only (detect without --all).")
    notes += _scan_notes(judged, model)
    used = record.document.get("model")
    if model is not None and isinstance(used, dict) and used.get("sha256") not in (None, model.sha256):
        notes.append("The candidates were made by another model than the one described here (SHA-256 differ).")
    if judged is not None and inputs.scans is None and judged.tables is not None:
        notes.append("No scans were given, so the examples have no pictures.")
    return notes


def _scan_notes(judged: Judged | None, model: ModelFacts | None) -> list[str]:
    """Tell whether the judged scans are too few, or were trained on."""
    notes = []
    n_scans = judged.document["n_scans"] if judged else FEW_SCANS
    if n_scans < FEW_SCANS:
        word = "scan" if n_scans == 1 else "scans"
        notes.append(f"Only {n_scans} {word} were judged: the figures say little, and intervals are far too narrow.")
    if judged is None or judged.tables is None or model is None:
        return notes
    overlap = training_overlap(model.recipe.training, judged.tables.series_list)
    if overlap is None:
        notes.append(
            "The model file does not list the scans that it was trained on: whether scans judged here are among them "
            "cannot be told. If they are, the figures are too good."
        )
        return notes
    for n_shared, what in zip(overlap, ("trained", "chosen"), strict=True):
        if n_shared:
            notes.append(
                f"{n_shared} of the {n_scans} judged scans are among those that the model was {what} on: the figures "
                "are too good, and say nothing about new scans."
            )
    return notes
