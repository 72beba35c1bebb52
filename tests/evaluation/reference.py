"""The published result that the judge must reproduce, read once, and small cases to score by hand."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from napari_alnct.batch.froc import FrocPaths, FrocTables, read_froc_tables
from napari_alnct.core.findings import Candidate, ReferenceNodule
from napari_alnct.evaluation.scoring import ScoredScans, score_scans

Marks = list[tuple[str, Candidate]]
Row = tuple[str, float, float]  # series, x (mm), score or diameter (mm)


def reference_paths(data_pack: Path) -> FrocPaths:
    """Give DeepLung's detections and LUNA16's tables."""
    tables = data_pack / "luna16" / "CSVFILES"
    return FrocPaths(
        candidates=data_pack / "froc_reference" / "deeplung_dpn26bs32_luna_format.csv.gz",
        annotations=tables / "annotations.csv",
        excluded=tables / "annotations_excluded.csv",
        seriesuids=tables / "seriesuids.csv",
    )


@cache
def reference_tables(data_pack: Path) -> FrocTables:
    """Give their content."""
    return read_froc_tables(reference_paths(data_pack))


@cache
def reference_scored(data_pack: Path) -> ScoredScans:
    """Give the outcomes of the unchanged tables."""
    tables = reference_tables(data_pack)
    return score_scans(tables.candidates, tables.annotations, tables.excluded, tables.series_list)


def expected(data_pack: Path) -> dict[str, Any]:
    """Give the official script's result."""
    document: dict[str, Any] = json.loads((data_pack / "froc_reference" / "expected.json").read_text())
    return document


def cpm(tables: FrocTables, **changes: Any) -> float:
    """Give the CPM of changed tables."""
    t = replace(tables, **changes)
    return score_scans(t.candidates, t.annotations, t.excluded, t.series_list).curve.cpm


def moved(marks: Marks, change: Callable[[np.ndarray], np.ndarray]) -> Marks:
    """Give the marks at changed positions, world xyz mm."""
    positions = change(np.array([mark.position_xyz_mm for _, mark in marks])).tolist()
    return [(s, replace(m, position_xyz_mm=tuple(p))) for (s, m), p in zip(marks, positions, strict=True)]


def marks(*rows: Row) -> Marks:
    """Give marks on the x axis."""
    return [(s, Candidate(position_xyz_mm=(x, 0.0, 0.0), score=score, diameter_mm=-1.0)) for s, x, score in rows]


def findings(*rows: Row) -> list[ReferenceNodule]:
    """Give findings on the x axis."""
    return [ReferenceNodule(series_uid=s, position_xyz_mm=(x, 0.0, 0.0), diameter_mm=d) for s, x, d in rows]


def scored(marked: Sequence[Row], nodules: Sequence[Row], series: Sequence[str], **options: Any) -> ScoredScans:
    """Score a small case without excluded findings."""
    return score_scans(marks(*marked), findings(*nodules), [], series, **options)
