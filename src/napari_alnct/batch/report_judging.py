"""The FROC part of a report: judged from tables by ``froc``'s own functions, or read from its ``froc.json``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_alnct.batch.froc import BAND, FrocTables
from napari_alnct.batch.froc import REPORT as FROC_FILE
from napari_alnct.batch.report_inputs import ReportInputs, read_json
from napari_alnct.batch.report_plots import Band
from napari_alnct.core.errors import SettingsError, TableError
from napari_alnct.core.findings import ReferenceNodule
from napari_alnct.evaluation.froc import FP_RATES
from napari_alnct.evaluation.froc_notes import mirror_notes, table_notes
from napari_alnct.evaluation.froc_report import BAND_RATES, FrocReport, as_json, judge
from napari_alnct.evaluation.scoring import ScoredScans, score_scans
from napari_alnct.io.csv_files import read_table
from napari_alnct.io.luna16 import Dataset
from napari_alnct.io.tables import read_annotations, read_candidates, read_series_list

COUNTS = ("true_positives", "false_positives", "false_negatives", "candidates", "n_scans", "n_nodules")
DEFAULT_SAMPLES = 1000


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A FROC result: the content of ``froc.json`` and the band; with tables also every outcome.

    ``document``: as ``froc.json``; ``tables``, ``scored``: None when only ``froc.json`` was at hand.
    """

    document: dict[str, Any]
    band: Band | None
    tables: FrocTables | None = None
    scored: ScoredScans | None = None


def judge_inputs(inputs: ReportInputs, dataset: Dataset | None, *, is_restricted: bool = False) -> Judged | None:
    """Give the FROC result of what is at hand.

    Parameters
    ----------
    inputs : ReportInputs
        Tables; with a ``froc_dir`` the counts must be those of its ``froc.json``.
    dataset : Dataset or None
        Its annotations and list of scans stand in for tables that were not named.
    is_restricted : bool
        Leave out candidates of scans that are not listed.

    Returns
    -------
    Judged or None
        None when there are neither candidates nor a ``froc.json``.

    Raises
    ------
    TableError
        If tables cannot be read, do not belong together, or disagree with ``froc.json``.
    SettingsError
        If there are candidates, but nothing to judge them with.
    """
    stored = read_json(inputs.froc_dir / FROC_FILE) if inputs.froc_dir else None
    tables = _tables(inputs, dataset, has_stored=stored is not None)
    if tables is None:
        return None if stored is None or inputs.froc_dir is None else _stored(stored, inputs.froc_dir)
    assert inputs.candidates is not None
    restricted = is_restricted or bool((stored or {}).get("candidates_unlisted"))
    reference = tables.annotations, tables.excluded, tables.series_list
    scored = score_scans(tables.candidates, *reference, marks_name=inputs.candidates.name, is_restricted=restricted)
    notes = table_notes(scored, has_excluded=bool(tables.excluded) or inputs.excluded is not None)
    notes += mirror_notes(tables.candidates, *reference, scored)
    samples = (stored or {}).get("bootstrap", {"samples": DEFAULT_SAMPLES, "seed": 0}) or {"samples": 0, "seed": 0}
    report = judge(scored, n_samples=int(samples["samples"]), seed=int(samples["seed"]), notes=notes)
    document = as_json(report)
    if stored is not None:
        _refuse_other_counts(document, stored)
        told = [str(note) for note in stored.get("notes", [])]
        document["notes"] = [*told, *(note for note in document["notes"] if note not in told)]
        document["compare"] = stored.get("compare")
    return Judged(document=document, band=_band(report), tables=tables, scored=scored)


def _tables(inputs: ReportInputs, dataset: Dataset | None, *, has_stored: bool) -> FrocTables | None:
    """Give the tables to judge; None when they are not all there and a ``froc.json`` is."""
    annotations = _findings(inputs.annotations, dataset.annotations if dataset else ())
    if inputs.candidates is None or (not annotations and has_stored):
        return None
    if not annotations:
        raise SettingsError("there are candidates but no reference nodules; name them with --annotations")
    if inputs.seriesuids is not None:
        series = read_series_list(inputs.seriesuids)
    elif dataset is not None:
        series = [scan.series_uid for scan in dataset.scans]
    else:
        raise SettingsError("which scans were searched is not known; list them with --seriesuids, or give --scans")
    return FrocTables(
        candidates=read_candidates(inputs.candidates),
        annotations=annotations,
        excluded=_findings(inputs.excluded, dataset.excluded if dataset else ()),
        series_list=series,
        compare=None,
    )


def _findings(path: Path | None, known: tuple[ReferenceNodule, ...]) -> list[ReferenceNodule]:
    return read_annotations(path) if path is not None else list(known)


def _refuse_other_counts(document: dict[str, Any], stored: dict[str, Any]) -> None:
    for name in COUNTS:
        if document[name] != stored.get(name):
            raise TableError(
                f"{FROC_FILE} counts {stored.get(name)} {name.replace('_', ' ')}, the tables {document[name]}: they "
                "are of another result; run froc again, or name the tables that it judged"
            )


def _band(report: FrocReport) -> Band:
    sure = report.uncertainty
    return Band(
        fp_rates=BAND_RATES,
        sensitivity=report.scored.curve.sensitivity_at(BAND_RATES).tolist(),
        lower=sure.lower.tolist() if sure else None,
        upper=sure.upper.tolist() if sure else None,
    )


def _stored(document: dict[str, Any], folder: Path) -> Judged:
    """Give the result that ``froc`` wrote, without tables."""
    wanted = (*COUNTS, "cpm", "sensitivity", "fp_rates", "by_size", "thresholds")
    missing = [name for name in wanted if name not in document]
    if missing or list(document["fp_rates"]) != list(FP_RATES):
        raise TableError(f"{FROC_FILE} has no {', '.join(missing) or 'official rates'}; run froc again")
    path = folder / BAND
    return Judged(document=document, band=_read_band(path) if path.is_file() else None)


def _read_band(path: Path) -> Band:
    rows = read_table(path, ("fp_per_scan", "sensitivity", "lower", "upper"))
    has_interval = all(row.cells["lower"].strip() for row in rows)
    return Band(
        fp_rates=[row.number("fp_per_scan") for row in rows],
        sensitivity=[row.number("sensitivity") for row in rows],
        lower=[row.number("lower") for row in rows] if has_interval else None,
        upper=[row.number("upper") for row in rows] if has_interval else None,
    )
