"""The evaluation of explanations: every map of a model judged on nodules with masks, beside three baselines.

Each scan is measured once and kept in a journal; the table is made from all records. Targets were fixed
before measuring and are shown also where they are missed.
"""

from __future__ import annotations

import math
import platform
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from napari_alnct import __version__
from napari_alnct.batch.explain_eval_cases import EvalScan, ScanSource
from napari_alnct.batch.explain_eval_journal import ExplainJournal
from napari_alnct.batch.explain_eval_measuring import Bench, decoy_record, nodule_record
from napari_alnct.batch.explain_eval_page import write_results
from napari_alnct.batch.explain_eval_patches import centred_patch, jittered_patch
from napari_alnct.batch.explain_eval_pictures import choose_examples, draw_examples
from napari_alnct.batch.explain_eval_plan import SCHEMA, ExplainEvalWish, Models, make_bench, run_identity
from napari_alnct.batch.explain_eval_views import shown_row
from napari_alnct.core.errors import JobCancelled, TableError
from napari_alnct.core.evidence import CAPTION
from napari_alnct.core.explain.explainer import DEFAULT_METHOD
from napari_alnct.evaluation.explanation_baselines import BASELINES
from napari_alnct.evaluation.explanation_table import MapRow, evaluation_table

X_ROWS = (  # exact checks of the code: tests of the package, not measured here
    ("X1", "alignment within 0.5 voxel at 27 off-centre positions, every layer"),
    ("X2", "the native HiResCAM sums to the logit, relative error below 1e-5"),
    ("X3", "equal to Captum on the native grid, below 1e-5"),
    ("X4", "the model is bit-identical before and after"),
    ("X5", "the same map twice, bit-identical on the CPU"),
    ("X6", "the layer in napari equals the exported file"),
)


def measure_all(
    bench: Bench,
    source: ScanSource,
    wish: ExplainEvalWish,
    journal: ExplainJournal,
    *,
    on_progress: Callable[[str, int, int], None] = lambda text, done, total: None,
    is_cancelled: Callable[[], bool] = lambda: False,
) -> list[dict[str, Any]]:
    """Measure every scan that the journal does not hold.

    Parameters
    ----------
    bench : Bench
        What to measure with.
    source : ScanSource
        Scans with masks.
    wish : ExplainEvalWish
        How many nodules of each.
    journal : ExplainJournal
        Open.
    on_progress : callable
        Called with what is at hand, scans done and scans in all.
    is_cancelled : callable
        Asked before each map.

    Returns
    -------
    list of dict
        Records of all scans.

    Raises
    ------
    JobCancelled
        If `is_cancelled` said so; finished scans stay in the journal.
    TableError
        If no scan holds a true positive.
    """
    records: list[dict[str, Any]] = []
    for done, name in enumerate(source.names):
        found = journal.find(name)
        if found is None:
            on_progress(f"making {name}", done, len(source.names))
            scan = source.load(name)
            found = []
            for record in _records_of(bench, scan, name, wish, is_cancelled):
                found.append(without_nan(record) | {"source": name})
                on_progress(f"{name}: {len(found)} candidates", done, len(source.names))
            journal.record(name, found)
        records += found
    on_progress("done", len(source.names), len(source.names))
    if not any(record["rows"] for record in records):
        raise TableError("the model found none of the nodules, so there is no true positive to explain")
    return records


def _records_of(
    bench: Bench, scan: EvalScan, name: str, wish: ExplainEvalWish, is_cancelled: Callable[[], bool]
) -> Iterator[dict[str, Any]]:
    """Measure the true positives of a scan, then its false positives."""

    def pulse() -> None:
        if is_cancelled():
            raise JobCancelled("cancelled; give the same command again to go on")

    seed, n_found = zlib.crc32(f"{name} {wish.seed}".encode()), 0
    for nodule in scan.nodules:
        if n_found == wish.nodules_per_scan:
            break
        pulse()
        patch = jittered_patch(
            bench.explainer, scan, nodule, bench.score_name, seed=seed + nodule.number, jitter_mm=wish.jitter_mm
        )
        if patch is None or not patch.mask.any():
            continue
        n_found += 1
        yield nodule_record(bench, scan, nodule, patch, with_occlusion=n_found <= wish.occlusion_per_scan, pulse=pulse)
    for number, place in enumerate(scan.decoys_xyz_mm[: wish.decoys_per_scan], start=1):
        pulse()
        patch = centred_patch(bench.explainer, scan, place, 0, bench.score_name, place)
        if patch.logit > 0:
            yield decoy_record(bench, scan, patch, number)


def result_document(
    records: Sequence[dict[str, Any]], models: Models, source: ScanSource, bench: Bench, wish: ExplainEvalWish
) -> dict[str, Any]:
    """Give the whole result as plain JSON.

    Parameters
    ----------
    records : sequence of dict
        From `measure_all`.
    models, source, bench, wish
        What they were measured with.

    Returns
    -------
    dict
    """
    rows = (*bench.rows, *(MapRow(name=name, method=name) for name in BASELINES))
    explainer = bench.explainer
    return {
        "schema": SCHEMA,
        "model": {"name": models.name, "sha256": models.checkpoint.sha256},
        "score": bench.score_name,
        "layers": [asdict(choice) for choice in explainer.layers(bench.score_name)],
        "default": f"{DEFAULT_METHOD} @ {explainer.default_layer(bench.score_name)}",
        "data": source.description,
        "source": source.identity,
        "settings": asdict(wish),
        "statement": CAPTION,
        "versions": {
            "napari-alnct": __version__,
            "Python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
        },
        "off centre, median (mm)": _median([r["off_centre_mm"] for r in records if r["values"]]),
        "exact checks": [{"id": key, "label": label} for key, label in X_ROWS],
        "table": evaluation_table(records, rows, n_samples=wish.n_samples, seed=wish.seed),
        "records": list(records),
    }


def evaluate_to_folder(
    folder: Path,
    models: Models,
    source: ScanSource,
    wish: ExplainEvalWish,
    *,
    overwrite: bool = False,
    on_progress: Callable[[str, int, int], None] = lambda text, done, total: None,
    is_cancelled: Callable[[], bool] = lambda: False,
) -> tuple[dict[str, Any], tuple[Path, ...], list[str]]:
    """Measure, and write figures and page into a folder.

    Parameters
    ----------
    folder : Path
        Made when missing.
    models, source, wish
        What to measure.
    overwrite : bool
        Begin afresh.
    on_progress, is_cancelled : callable
        As in `measure_all`.

    Returns
    -------
    tuple of (dict, tuple of Path, list of str)
        The result, the files, and notes.

    Raises
    ------
    JobCancelled
        If `is_cancelled` said so; finished scans stay in the journal.
    """
    bench = make_bench(models, wish)
    folder.mkdir(parents=True, exist_ok=True)
    with ExplainJournal(folder, run_identity(models, source, bench, wish), overwrite=overwrite) as journal:
        notes = list(journal.notes)
        if len(journal):
            what = "scan was" if len(journal) == 1 else "scans were"
            notes.append(f"{len(journal)} {what} finished before ({journal.path.name})")
        records = measure_all(bench, source, wish, journal, on_progress=on_progress, is_cancelled=is_cancelled)
        document = result_document(records, models, source, bench, wish)
        shown, others = shown_row(document)["name"], [row.name for row in bench.activation_rows]
        pictures = draw_examples(choose_examples(records, shown, others), bench, source, is_cancelled)
        written = write_results(folder, document, pictures)
        journal.remove()
    return document, written, notes


def without_nan(value: Any) -> Any:
    """Give plain JSON values with None in place of numbers that are not finite."""
    if isinstance(value, dict):
        return {key: without_nan(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_nan(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _median(values: Sequence[float]) -> float | None:
    return float(np.median(values)) if values else None
