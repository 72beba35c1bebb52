"""The files of an evaluation: figures, curves, pictures, and the scored patches as LUNA16 candidates.

``metrics.json`` is written last, so it is there only when all others are complete. What is
undefined for a table, such as the ROC curve of a single class, is not written, and an older
file of its name is removed.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from napari_alnct import __version__
from napari_alnct.batch.classifier_files import PatchClassifier
from napari_alnct.batch.evaluation import Evaluation
from napari_alnct.core.config import to_json
from napari_alnct.core.errors import SettingsError
from napari_alnct.core.notice import NOTICE
from napari_alnct.evaluation import curve_plots
from napari_alnct.evaluation.patch_figures import (
    BAND_COLUMNS,
    CALIBRATION_COLUMNS,
    GROUP_COLUMNS,
    PR_COLUMNS,
    ROC_COLUMNS,
    Value,
    as_json,
    band_rows,
    calibration_rows,
    group_rows,
    pr_rows,
    roc_rows,
)
from napari_alnct.evaluation.patch_report import PatchReport
from napari_alnct.io.atomic_file import replace_bytes, replacing_text
from napari_alnct.io.csv_files import Cell, Number, write_table
from napari_alnct.io.patch_store import PatchStore

METRICS = "metrics.json"
ALWAYS = ("confusion.png", "calibration.png", "by_size.png", "calibration.csv", "groups.csv")
OF_TWO_CLASSES = ("roc.png", "pr.png", "roc.csv", "pr.csv")
OF_SAMPLES = ("bands.csv",)
CANDIDATE_COLUMNS = ("seriesuid", "coordX", "coordY", "coordZ", "probability", "label", "diameter_mm", "kind")


def write_evaluation(
    folder: Path, evaluation: Evaluation, store: PatchStore, classifier: PatchClassifier
) -> tuple[str, ...]:
    """Write figures, curves and pictures.

    Parameters
    ----------
    folder : Path
        Made when missing; files of these names are replaced.
    evaluation : Evaluation
        Result.
    store : PatchStore
        The patches that were judged.
    classifier : PatchClassifier
        The model.

    Returns
    -------
    tuple of str
        Names of the files.

    Raises
    ------
    SettingsError
        If the folder cannot be made.
    """
    report = evaluation.report
    make_folder(folder)
    names = _wanted(report)
    for name in (METRICS, *OF_TWO_CLASSES, *OF_SAMPLES):
        if name not in names:
            (folder / name).unlink(missing_ok=True)
    _write_tables(folder, report)
    for name, content in _pictures(report, classifier.name).items():
        replace_bytes(folder / name, content)
    with replacing_text(folder / METRICS) as stream:
        json.dump(_document(evaluation, store, classifier), stream, indent=1, allow_nan=False)
        stream.write("\n")
    return METRICS, *names


def write_scores(path: Path, store: PatchStore, scores: Sequence[float]) -> None:
    """Write every patch as a candidate: `CANDIDATE_COLUMNS`, world mm (LPS), with its label.

    Parameters
    ----------
    path : Path
        CSV file; appears complete or not at all. Its folder is made when missing.
    store : PatchStore
        Patches; jittered patches of one nodule are all listed.
    scores : sequence of float
        Of each patch, 0 to 1.

    Raises
    ------
    SettingsError
        If the folder cannot be made.
    """
    make_folder(path.parent)
    write_table(
        path,
        CANDIDATE_COLUMNS,
        (
            (
                row.series_uid,
                *(Number.fixed(v, 4) for v in row.position_xyz_mm),
                Number.exact(float(score)),
                row.label,
                "" if row.diameter_mm is None else Number.exact(row.diameter_mm),
                row.kind,
            )
            for row, score in zip(store.rows, scores, strict=True)
        ),
    )


def make_folder(folder: Path) -> None:
    """Make a folder to write into.

    Parameters
    ----------
    folder : Path
        With its parents.

    Raises
    ------
    SettingsError
        If something else has its name.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise SettingsError(f"{folder.name} is a file; name a folder to write into") from None


def _wanted(report: PatchReport) -> tuple[str, ...]:
    """Give the names of the files besides `METRICS`."""
    both = OF_TWO_CLASSES if report.has_both_classes else ()
    return *both, *ALWAYS, *(OF_SAMPLES if report.samples is not None else ())


def _write_tables(folder: Path, report: PatchReport) -> None:
    tables: dict[str, tuple[Sequence[str], Iterator[tuple[Value, ...]]]] = {
        "roc.csv": (ROC_COLUMNS, roc_rows(report)),
        "pr.csv": (PR_COLUMNS, pr_rows(report)),
        "calibration.csv": (CALIBRATION_COLUMNS, calibration_rows(report)),
        "groups.csv": (GROUP_COLUMNS, group_rows(report)),
        "bands.csv": (BAND_COLUMNS, band_rows(report)),
    }
    for name in _wanted(report):
        if name in tables:
            columns, rows = tables[name]
            write_table(folder / name, columns, map(_cells, rows))


def _pictures(report: PatchReport, name: str) -> dict[str, bytes]:
    pictures = {
        "confusion.png": curve_plots.confusion_png(report, name),
        "calibration.png": curve_plots.calibration_png(report, name),
        "by_size.png": curve_plots.by_size_png(report, name),
    }
    if report.has_both_classes:
        pictures |= {"roc.png": curve_plots.roc_png(report, name), "pr.png": curve_plots.pr_png(report, name)}
    return pictures


def _document(evaluation: Evaluation, store: PatchStore, classifier: PatchClassifier) -> dict[str, Any]:
    return {
        "notice": NOTICE,
        **as_json(evaluation.report),
        "model": {
            "name": classifier.name,
            "file": classifier.file,
            "sha256": classifier.sha256,
            "weights_key": classifier.place or None,
            "network": to_json(classifier.network.settings),
            "prepare": to_json(classifier.prepare or store.prepare),
            "has_recipe": bool(classifier.training),
        },
        "inputs": {
            "folder": store.folder.absolute().name,
            "fingerprint": store.fingerprint,  # of table and description
            "prepare": to_json(store.prepare),
        },
        "device": evaluation.device,
        "precision": evaluation.precision,
        "versions": {
            "napari-alnct": __version__,
            "python": platform.python_version(),
            "numpy": np.__version__,
            "torch": torch.__version__,
        },
    }


def _cells(values: Iterable[Value]) -> tuple[Cell, ...]:
    """Give exact numbers; the threshold above all scores is inf."""
    return tuple(
        Number("inf") if value == np.inf else Number.exact(value) if isinstance(value, float) else value
        for value in values
    )
