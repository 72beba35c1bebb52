"""FROC of tables on disk: read them, judge, write figures, curves and the picture.

The outputs stand in one folder; ``froc.json`` is written last, so it is there
only when all others are complete.
"""

from __future__ import annotations

import gc
import hashlib
import json
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from napari_alnct import __version__
from napari_alnct.core.errors import SettingsError
from napari_alnct.core.findings import Candidate, ReferenceNodule
from napari_alnct.core.notice import NOTICE
from napari_alnct.evaluation.froc import FP_RATES
from napari_alnct.evaluation.froc_notes import mirror_notes, table_notes
from napari_alnct.evaluation.froc_report import BAND_RATES, FrocReport, as_json, judge
from napari_alnct.evaluation.plots import froc_png
from napari_alnct.evaluation.scoring import score_scans
from napari_alnct.io.atomic_file import replace_bytes, replacing_text
from napari_alnct.io.csv_files import Cell, Number, write_table
from napari_alnct.io.tables import read_annotations, read_candidates, read_series_list

CURVE_COLUMNS = ("fp_per_scan", "sensitivity", "threshold")
BAND_COLUMNS = ("fp_per_scan", "sensitivity", "mean", "lower", "upper")
REPORT, CURVE, BAND, PICTURE = "froc.json", "froc_curve.csv", "froc_band.csv", "froc.png"


@dataclass(frozen=True, kw_only=True)
class FrocPaths:
    """The tables that are judged; `excluded` and `compare` may be absent."""

    candidates: Path
    annotations: Path
    seriesuids: Path
    excluded: Path | None = None
    compare: Path | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class FrocTables:
    """Their content."""

    candidates: list[tuple[str, Candidate]]
    annotations: list[ReferenceNodule]
    excluded: list[ReferenceNodule]
    series_list: list[str]
    compare: list[tuple[str, Candidate]] | None


def read_froc_tables(paths: FrocPaths) -> FrocTables:
    """Read the tables.

    Parameters
    ----------
    paths : FrocPaths
        ``.csv`` or ``.csv.gz``.

    Returns
    -------
    FrocTables

    Raises
    ------
    TableError
        If one cannot be read.
    """
    return FrocTables(
        candidates=read_candidates(paths.candidates),
        annotations=read_annotations(paths.annotations),
        excluded=read_annotations(paths.excluded) if paths.excluded else [],
        series_list=read_series_list(paths.seriesuids),
        compare=read_candidates(paths.compare) if paths.compare else None,
    )


def judge_tables(paths: FrocPaths, *, n_samples: int = 1000, seed: int = 0, is_restricted: bool = False) -> FrocReport:
    """Judge tables on disk by LUNA16's rule.

    Parameters
    ----------
    paths : FrocPaths
        Tables.
    n_samples, seed : int
        Of the bootstrap over scans; no samples, no intervals.
    is_restricted : bool
        Leave out candidates of scans that are not listed instead of refusing them.

    Returns
    -------
    FrocReport

    Raises
    ------
    TableError
        If a table cannot be read, or their series do not belong together.
    """
    with _without_collector():
        return _judged(paths, read_froc_tables(paths), n_samples, seed, is_restricted)


def write_froc(folder: Path, report: FrocReport, paths: FrocPaths) -> tuple[str, ...]:
    """Write what is known: ``froc.json``, ``froc_curve.csv``, ``froc_band.csv`` and ``froc.png``.

    Parameters
    ----------
    folder : Path
        Made when missing; files of these names are replaced.
    report : FrocReport
        Result.
    paths : FrocPaths
        What was judged; name and SHA-256 of each table are recorded.

    Returns
    -------
    tuple of str
        Names of the files.

    Raises
    ------
    SettingsError
        If the folder cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise SettingsError(f"{folder.name} is a file; name a folder to write into") from None
    (folder / REPORT).unlink(missing_ok=True)
    write_table(folder / CURVE, CURVE_COLUMNS, _curve_rows(report))
    write_table(folder / BAND, BAND_COLUMNS, _band_rows(report))
    replace_bytes(folder / PICTURE, froc_png(report, paths.candidates.name))
    with replacing_text(folder / REPORT) as stream:
        json.dump(_document(report, paths), stream, indent=1, allow_nan=False)
        stream.write("\n")
    return REPORT, CURVE, BAND, PICTURE


def _judged(paths: FrocPaths, tables: FrocTables, n_samples: int, seed: int, is_restricted: bool) -> FrocReport:
    """Score the tables and what they are compared with."""
    reference = tables.annotations, tables.excluded, tables.series_list
    scored = score_scans(tables.candidates, *reference, marks_name=paths.candidates.name, is_restricted=is_restricted)
    other, other_name = None, ""
    if tables.compare is not None and paths.compare is not None:
        other_name = _distinct_name(paths.compare, paths.candidates)
        other = score_scans(tables.compare, *reference, marks_name=other_name, is_restricted=is_restricted)
    notes = table_notes(scored, has_excluded=paths.excluded is not None)
    notes += mirror_notes(tables.candidates, *reference, scored)
    return judge(scored, n_samples=n_samples, seed=seed, other=other, other_name=other_name, notes=notes)


def _document(report: FrocReport, paths: FrocPaths) -> dict[str, Any]:
    return {
        "notice": NOTICE,
        "rule": "LUNA16 (noduleCADEvaluationLUNA16.py)",
        **as_json(report),
        "inputs": {
            name: {"file": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
            for name, path in vars(paths).items()
            if path is not None
        },
        "versions": {"napari-alnct": __version__, "python": platform.python_version(), "numpy": np.__version__},
    }


def _curve_rows(report: FrocReport) -> Iterator[tuple[Cell, ...]]:
    """Give the corners of the curve; the first point, before any mark, has the threshold inf."""
    curve = report.scored.curve
    for k in curve.corners():
        threshold = Number.exact(float(curve.thresholds[k])) if k else Number("inf")
        yield Number.fixed(curve.fp_per_scan[k], 9), Number.fixed(curve.sensitivity[k], 9), threshold


def _band_rows(report: FrocReport) -> Iterator[tuple[Cell, ...]]:
    """Give sensitivity and band from 1/8 to 8; empty cells where there was no bootstrap."""
    sure, sensitivity = report.uncertainty, report.scored.curve.sensitivity_at(BAND_RATES)
    for k, rate in enumerate(BAND_RATES):
        band: tuple[Cell, ...] = ("", "", "")
        if sure is not None:
            band = tuple(Number.fixed(float(values[k]), 9) for values in (sure.mean, sure.lower, sure.upper))
        shown = Number.exact(rate) if rate in FP_RATES else Number.fixed(rate, 9)
        yield shown, Number.fixed(float(sensitivity[k]), 9), *band


def _distinct_name(path: Path, other: Path) -> str:
    return path.name if path.name != other.name else f"{path.parent.name}/{path.name}"


@contextmanager
def _without_collector() -> Iterator[None]:
    """Pause the cycle collector: 90,000 rows hold no cycles, and looking for some doubles the reading time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
