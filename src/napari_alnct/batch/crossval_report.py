"""The finished folds of a cross-validation joined and judged by LUNA16's rule.

The candidates of all tested folds are put into one table as they are: each comes from a model
that has not seen its scan. The divisor is the number of tested scans, those that could not be
searched included; annotations are those of the tested scans alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from napari_alnct import __version__
from napari_alnct.batch.crossval_folder import TABLE, TESTED, FoldFolder, FoldRecord, write_json
from napari_alnct.batch.crossval_tables import TESTED_COLUMNS, read_tested
from napari_alnct.batch.froc import REPORT, FrocPaths, judge_tables, write_froc
from napari_alnct.core.errors import TableError
from napari_alnct.core.findings import Candidate, ReferenceNodule
from napari_alnct.core.notice import NOTICE
from napari_alnct.evaluation.froc import FP_RATES
from napari_alnct.evaluation.froc_report import FrocReport, judge
from napari_alnct.evaluation.scoring import score_scans
from napari_alnct.io.csv_files import Cell, Number, write_table
from napari_alnct.io.luna16 import Dataset
from napari_alnct.io.tables import read_candidates, write_annotations, write_candidates

JOINED, FOLDS, RESULT = "joined", "folds.csv", "joined.json"
FOLD_COLUMNS = (
    *("fold", "val_fold", "n_train", "n_val", "n_scans", "n_failed", "n_nodules", "found", "false_positives"),
    *("cpm", "cpm_from", "cpm_to", *(f"sensitivity_{rate:g}" for rate in FP_RATES), "model_sha256"),
)
JOINED_AS_THEY_ARE = (
    "scores come from one model per fold, each calibrated on its own validation fold, and are joined as they are"
)
NOISE = (
    "a fold's own CPM is mostly chance: about 0.08 either way at the 89 scans of a LUNA16 fold; compare methods by the "
    "joined result"
)


@dataclass(frozen=True, eq=False, kw_only=True)
class TestedFold:
    """A finished fold: its record, the scans that were tested (series to whether searched), its candidates."""

    __test__ = False  # no class of tests

    record: FoldRecord
    scans: dict[str, bool]
    candidates: list[tuple[str, Candidate]]


@dataclass(frozen=True, eq=False, kw_only=True)
class JudgedFolds:
    """What the finished folds came to.

    Parameters
    ----------
    report : FrocReport
        Of all tested folds, joined.
    folds : tuple of (FoldRecord, FrocReport or None)
        Each fold alone; no report where it has no annotated nodule.
    failed : tuple of str
        Series of the tested scans that could not be searched.
    n_folds : int
        Folds of the data set.
    files : tuple of str
        What was written.
    """

    report: FrocReport
    folds: tuple[tuple[FoldRecord, FrocReport | None], ...]
    failed: tuple[str, ...]
    n_folds: int
    files: tuple[str, ...]


def finished_folds(folders: Iterable[FoldFolder]) -> list[TestedFold]:
    """Give the folds that are done.

    Parameters
    ----------
    folders : iterable of FoldFolder
        All folds that are asked for.

    Returns
    -------
    list of TestedFold
        In their order.
    """
    records = [(folder, folder.record) for folder in folders]
    return [
        TestedFold(record=record, scans=read_tested(folder.tested), candidates=read_candidates(folder.table))
        for folder, record in records
        if record is not None
    ]


def judge_folds(
    work_dir: Path,
    dataset: Dataset,
    tested: Sequence[TestedFold],
    n_folds: int,
    *,
    n_samples: int = 1000,
    seed: int = 0,
) -> JudgedFolds:
    """Join the finished folds, judge them and write all of it into ``joined``.

    Parameters
    ----------
    work_dir : Path
        Work folder.
    dataset : Dataset
        With the annotations.
    tested : sequence of TestedFold
        At least one.
    n_folds : int
        Folds of the data set.
    n_samples, seed : int
        Of the bootstrap.

    Returns
    -------
    JudgedFolds

    Raises
    ------
    TableError
        If a scan was tested in two folds or not at all, two folds have one model, or no tested scan has
        a nodule.
    """
    _refuse_mixed(tested)
    _refuse_dropped(tested, dataset)
    folder = work_dir / JOINED
    paths = _write_tables(folder, dataset, tested)
    report = judge_tables(paths, n_samples=n_samples, seed=seed)
    failed = tuple(uid for fold in tested for uid, is_searched in fold.scans.items() if not is_searched)
    report = replace(report, notes=(*_notes(tested, n_folds, failed), *report.notes))
    folds = tuple((fold.record, _judge_alone(fold, dataset, n_samples, seed)) for fold in tested)
    write_table(folder / FOLDS, FOLD_COLUMNS, [_fold_row(*fold) for fold in folds])
    files = write_froc(folder, report, paths)
    write_json(folder / RESULT, _document(report, folds, n_folds, len(failed)))
    return JudgedFolds(
        report=report, folds=folds, failed=failed, n_folds=n_folds, files=(TABLE, TESTED, FOLDS, RESULT, *files)
    )


def _refuse_mixed(tested: Sequence[TestedFold]) -> None:
    counts = Counter(uid for fold in tested for uid in fold.scans)
    double = sorted(uid for uid, count in counts.items() if count > 1)
    if double:
        raise TableError(f"{len(double)} scans were tested in two folds, the first is {double[0]}; keep each in one")
    models: dict[str, int] = {}
    for fold in tested:
        other = models.setdefault(fold.record.model_sha256, fold.record.fold)
        if other != fold.record.fold:
            raise TableError(
                f"folds {other} and {fold.record.fold} were tested with one and the same model; delete both folders"
            )


def _refuse_dropped(tested: Sequence[TestedFold], dataset: Dataset) -> None:
    """Refuse a fold whose list lacks a scan: its nodules would be left out of the count in silence."""
    there = Counter(scan.subset for scan in dataset.scans)
    for fold in tested:
        number = fold.record.fold
        if len(fold.scans) != there[number]:
            raise TableError(
                f"fold {number} lists {len(fold.scans)} tested scans, but the data set has {there[number]} there; "
                f"delete fold{number}/{TESTED} and run again"
            )


def _write_tables(folder: Path, dataset: Dataset, tested: Sequence[TestedFold]) -> FrocPaths:
    """Write what is judged, so that ``froc`` gives the same figures from these files."""
    folder.mkdir(exist_ok=True)
    (folder / REPORT).unlink(missing_ok=True)
    (folder / RESULT).unlink(missing_ok=True)
    scans = {uid: is_searched for fold in tested for uid, is_searched in fold.scans.items()}
    paths = FrocPaths(
        candidates=folder / TABLE,
        annotations=folder / "annotations.csv",
        seriesuids=folder / TESTED,
        excluded=folder / "annotations_excluded.csv" if dataset.excluded else None,
    )
    write_candidates(paths.candidates, [row for fold in tested for row in fold.candidates])
    cells = [(uid, "done" if is_searched else "failed", "") for uid, is_searched in scans.items()]
    write_table(paths.seriesuids, TESTED_COLUMNS, cells)
    write_annotations(paths.annotations, _of(dataset.annotations, scans))
    if paths.excluded is not None:
        write_annotations(paths.excluded, _of(dataset.excluded, scans))
    return paths


def _of(findings: Iterable[ReferenceNodule], scans: dict[str, bool]) -> list[ReferenceNodule]:
    return [finding for finding in findings if finding.series_uid in scans]


def _judge_alone(fold: TestedFold, dataset: Dataset, n_samples: int, seed: int) -> FrocReport | None:
    """Judge one fold; None where it has no nodule, so that there is no sensitivity."""
    nodules, excluded = _of(dataset.annotations, fold.scans), _of(dataset.excluded, fold.scans)
    if not nodules:
        return None
    return judge(score_scans(fold.candidates, nodules, excluded, list(fold.scans)), n_samples=n_samples, seed=seed)


def _fold_row(record: FoldRecord, report: FrocReport | None) -> tuple[Cell, ...]:
    counts = (record.fold, record.val_fold, record.n_train, record.n_val, record.n_test, record.n_failed)
    if report is None:
        return (*counts, 0, *[""] * (5 + len(FP_RATES)), record.model_sha256)
    scored, sure = report.scored, report.uncertainty
    interval: tuple[Cell, ...] = tuple(Number.fixed(value, 6) for value in sure.cpm_ci95) if sure else ("", "")
    sensitivity = (Number.fixed(float(value), 6) for value in scored.curve.sensitivity_at())
    found = (len(scored.nodule_scores), scored.n_found, len(scored.false_positive_scores))
    return (*counts, *found, Number.fixed(scored.curve.cpm, 6), *interval, *sensitivity, record.model_sha256)


def _notes(tested: Sequence[TestedFold], n_folds: int, failed: Sequence[str]) -> list[str]:
    n_scans = sum(len(fold.scans) for fold in tested)
    partly = "" if len(tested) == n_folds else "; the result speaks of these alone, not of the whole data set"
    notes = [f"{len(tested)} of {n_folds} folds were tested, {n_scans} scans{partly}", JOINED_AS_THEY_ARE, NOISE]
    if failed:
        notes.append(
            f"{len(failed)} of the scans could not be searched: they count as scans without marks, and their nodules "
            "as missed"
        )
    versions = sorted({fold.record.version for fold in tested})
    if len(versions) > 1:
        notes.append(f"the folds were made by different versions: {', '.join(versions)}")
    return notes


def _document(
    report: FrocReport, folds: Sequence[tuple[FoldRecord, FrocReport | None]], n_folds: int, n_failed: int
) -> dict[str, Any]:
    return {
        "notice": NOTICE,
        "n_folds_tested": len(folds),
        "n_folds": n_folds,
        "n_scans": report.scored.n_scans,
        "n_scans_failed": n_failed,
        "cpm": report.scored.curve.cpm,
        "cpm_ci95": list(report.uncertainty.cpm_ci95) if report.uncertainty else None,
        "guard": sorted({record.guard for record, _ in folds}),
        "folds": [
            {
                **asdict(record),
                "cpm": alone.scored.curve.cpm if alone else None,
                "cpm_ci95": list(alone.uncertainty.cpm_ci95) if alone and alone.uncertainty else None,
            }
            for record, alone in folds
        ],
        "notes": list(report.notes),
        "version": __version__,
    }
