"""The rows of a report's tables, as text and pictures ready for the template."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from napari_alnct.batch.froc import FrocTables
from napari_alnct.batch.report_facts import Facts, number, shown_text
from napari_alnct.batch.report_inputs import FIRST_STAGE, JOINED, LOG, METRICS, ReportInputs, RunRecord, read_json
from napari_alnct.batch.report_judging import Judged
from napari_alnct.batch.report_plots import band_png, learning_png, read_log
from napari_alnct.evaluation.froc import RATE_LABELS
from napari_alnct.io.identifiers import short_hash
from napari_alnct.io.luna16 import Dataset
from napari_alnct.io.png_files import data_address

PNG_START = b"\x89PNG\r\n\x1a\n"
MOST_PNG_BYTES, MOST_PNGS, MOST_ROWS = 1_500_000, 8, 60
FIRST_PNGS = ("roc", "pr", "precision", "calibration", "reliability", "confusion")
LOGS = (
    ("Learning curves", LOG),
    ("Learning curves, first stage", f"{FIRST_STAGE}/{LOG}"),
    ("First stage on validation scans", f"{FIRST_STAGE}/validation.csv"),
    ("Learning curves, second look", f"second_look/{LOG}"),
)
HIDDEN_METRICS = ("notice", "versions", "inputs", "model", "rule", "notes")


def froc_view(judged: Judged) -> dict[str, Any]:
    """Give the FROC part: headline, curve, rates, sizes, notes.

    Parameters
    ----------
    judged : Judged
        Result.

    Returns
    -------
    dict
        Text and numbers for the template.
    """
    figures = judged.document
    sure = figures.get("cpm_ci95")
    return {
        "figures": figures,
        "cpm": f"{figures['cpm']:.3f}",
        "cpm_ci95": _interval(sure),
        "at_one": f"{figures['sensitivity'][3]:.3f}",
        "at_one_ci95": _interval((figures.get("sensitivity_ci95") or [None] * 7)[3]),
        "curve": data_address(band_png(judged.band), "image/png") if judged.band else "",
        "samples": (figures.get("bootstrap") or {}).get("samples", 0),
        "rate_labels": RATE_LABELS,
        "rates": _rate_rows(figures),
        "sizes": [_size_row(group) for group in figures["by_size"]],
        "compare": _comparison(figures.get("compare")),
        "notes": [str(note) for note in figures.get("notes", [])],
    }


def unsearched_rows(
    tables: FrocTables, record: RunRecord, dataset: Dataset | None, *, show_ids: bool
) -> list[dict[str, Any]]:
    """Give the listed scans of which the record of the run says no result, with what they cost.

    Parameters
    ----------
    tables : FrocTables
        What was judged.
    record : RunRecord
        Beside the candidates.
    dataset : Dataset or None
        Where the names of files are known from.
    show_ids : bool
        Name series as they are.

    Returns
    -------
    list of dict
        ``series``, ``reason``, ``n_nodules``: all of them count as missed; scans with most nodules first.
    """
    files = {scan.series_uid: [scan.path.name] for scan in dataset.scans} if dataset else {}
    nodules = Counter(nodule.series_uid for nodule in tables.annotations)
    with_marks = {series for series, _ in tables.candidates}
    rows = []
    for series in tables.series_list:
        reason = record.why_not_searched(series, files.get(series, ()))
        if reason is not None and series not in with_marks:
            rows.append({"series": series_name(series, show_ids), "reason": reason, "n_nodules": nodules[series]})
    return sorted(rows, key=lambda row: (-row["n_nodules"], row["series"]))


def series_name(series_uid: str, show_ids: bool) -> str:
    """Give what a series is called in the report.

    Parameters
    ----------
    series_uid : str
        As the tables name it.
    show_ids : bool
        As it is; else a hash, the same as in the records of runs.

    Returns
    -------
    str
    """
    return shown_text(series_uid, show_ids=True) if show_ids else short_hash(series_uid)


def evaluation_view(folder: Path | None, *, show_ids: bool) -> dict[str, Any] | None:
    """Give what ``eval`` found on patches: its figures and its plots.

    Parameters
    ----------
    folder : Path or None
        Holds ``metrics.json`` and PNG files.
    show_ids : bool
        Let identifiers through.

    Returns
    -------
    dict or None
        None without a folder.
    """
    if folder is None:
        return None
    path = folder / METRICS
    document = read_json(path) if path.is_file() else {}
    notes = document.get("notes", [])
    return {
        "rows": _metric_rows(document, "", show_ids)[:MOST_ROWS],
        "plots": [
            {"title": plot.stem.replace("_", " "), "picture": data_address(plot.read_bytes(), "image/png")}
            for plot in _plots(folder)
        ],
        "notes": [shown_text(str(note), show_ids=show_ids) for note in notes] if isinstance(notes, list) else [],
    }


def learning_views(train_dir: Path | None) -> list[dict[str, str]]:
    """Give the learning curves of a training as pictures, each with its title.

    Parameters
    ----------
    train_dir : Path or None
        Holds ``log.csv``, or the logs of a detector's stages.

    Returns
    -------
    list of dict
        ``title``, ``picture``; empty without a log.
    """
    views = []
    for title, place in LOGS if train_dir else ():
        path = train_dir / place if train_dir else Path()
        picture = learning_png(read_log(path)) if path.is_file() else None
        if picture:
            views.append({"title": title, "picture": data_address(picture, "image/png")})
    return views


def fold_rows(froc_dir: Path | None) -> list[dict[str, str]]:
    """Give the folds of a cross-validation: who was trained on how much, tested on how much, with what CPM.

    Parameters
    ----------
    froc_dir : Path or None
        Holds ``joined.json`` when it is a cross-validation.

    Returns
    -------
    list of dict
        Empty for anything else.
    """
    path = froc_dir / JOINED if froc_dir else None
    if path is None or not path.is_file():
        return []
    folds = read_json(path).get("folds", [])
    rows = []
    for fold in folds if isinstance(folds, list) else ():
        counts = {name: str(fold.get(name, "-")) for name in ("fold", "val_fold", "n_train", "n_test", "n_failed")}
        cpm, ci95 = fold.get("cpm"), _interval(fold.get("cpm_ci95"))
        rows.append({**counts, "cpm": "-" if cpm is None else f"{cpm:.3f}", "ci95": ci95})
    return rows


def input_rows(inputs: ReportInputs, *, show_ids: bool) -> Facts:
    """Give the files that the report was made from, by what they are and their SHA-256.

    Parameters
    ----------
    inputs : ReportInputs
        Their places.
    show_ids : bool
        Also name them.

    Returns
    -------
    list of (str, str)
    """
    rows: Facts = []
    for role in ("candidates", "annotations", "excluded", "seriesuids"):
        path: Path | None = getattr(inputs, role)
        if path is not None:
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            rows.append((role, f"{shown_text(path.name, show_ids=True)}, {digest}" if show_ids else digest))
    return rows


def _interval(ci95: Sequence[float] | None) -> str:
    return f"{ci95[0]:.3f} to {ci95[1]:.3f}" if ci95 else ""


def _rate_rows(figures: Mapping[str, Any]) -> list[tuple[str, list[str]]]:
    rows = [("Sensitivity", [f"{value:.3f}" for value in figures["sensitivity"]])]
    ci95 = figures.get("sensitivity_ci95")
    if ci95:
        rows += [("95 % CI, from", [f"{low:.3f}" for low, _ in ci95]), ("95 % CI, to", [f"{up:.3f}" for _, up in ci95])]
    rows.append(("Lowest score shown", ["-" if value is None else f"{value:.4g}" for value in figures["thresholds"]]))
    return rows


def _size_row(group: Mapping[str, Any]) -> dict[str, Any]:
    shown = ["-" if value is None else f"{value:.3f}" for value in group["sensitivity"]]
    return {"label": group["label"], "n": group["n_nodules"], "found": group["n_found"], "values": shown}


def _comparison(compare: Mapping[str, Any] | None) -> str:
    if not compare:
        return ""
    ci95 = compare.get("cpm_difference_ci95")
    paired = f", paired 95 % CI {ci95[0]:+.3f} to {ci95[1]:+.3f}" if ci95 else ""
    return f"Against another result (CPM {compare['other_cpm']:.3f}): {compare['cpm_difference']:+.3f}{paired}."


def _plots(folder: Path) -> list[Path]:
    """Give the PNG files of a folder that are what they say and not too large, the usual ones first."""

    def order(path: Path) -> tuple[int, str]:
        known = [k for k, word in enumerate(FIRST_PNGS) if path.stem.lower().startswith(word)]
        return (known[0] if known else len(FIRST_PNGS), path.name)

    fit = [path for path in folder.glob("*.png") if path.is_file() and path.stat().st_size <= MOST_PNG_BYTES]
    return [path for path in sorted(fit, key=order) if _is_png(path)][:MOST_PNGS]


def _is_png(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(len(PNG_START)) == PNG_START


def _metric_rows(document: Mapping[str, Any], prefix: str, show_ids: bool) -> Facts:
    """Give the single figures of a document, each with its interval when that stands beside it."""
    rows: Facts = []
    for key, value in document.items():
        name = f"{prefix}{shown_text(str(key), show_ids=show_ids).replace('_', ' ')}"
        if key.endswith("ci95") or (not prefix and key in HIDDEN_METRICS):
            continue
        if isinstance(value, Mapping):
            is_estimate = isinstance(value.get("value"), (int, float))
            rows += [(name, _figure(value["value"], value.get("ci95")))] if is_estimate else []
            rows += [] if is_estimate or prefix else _metric_rows(value, f"{name}, ", show_ids)
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            rows.append((name, _figure(value, document.get(f"{key}_ci95"))))
        elif isinstance(value, str) and len(value) <= 80:
            rows.append((name, shown_text(value, show_ids=show_ids)))
    return rows


def _figure(value: float, ci95: object) -> str:
    is_pair = isinstance(ci95, (list, tuple)) and len(ci95) == 2 and all(isinstance(v, (int, float)) for v in ci95)
    return f"{number(value)} (95 % CI {number(ci95[0])} to {number(ci95[1])})" if is_pair else number(value)  # type: ignore[index]
