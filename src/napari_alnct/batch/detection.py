"""Detect on many scans in one process: the next scan is read while the network runs.

One bad scan is a failed row, not the end of the batch. The result is the
LUNA16 table and a JSON record of the run: settings, versions, model, devices,
seconds and what failed.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch

from napari_alnct import __version__
from napari_alnct.batch.runner import fault_of
from napari_alnct.core.config import DetectionSettings, to_json
from napari_alnct.core.detector import Detector, Progress
from napari_alnct.core.errors import JobCancelled, TableError
from napari_alnct.core.findings import Candidate, CaseResult
from napari_alnct.core.volume import Volume
from napari_alnct.io.atomic_file import replacing_text
from napari_alnct.io.identifiers import short_hash, without_uids
from napari_alnct.io.images import ReadOptions, read_volume
from napari_alnct.io.tables import write_candidates

NOTICE = "Research software. Not a medical device, not for diagnosis or treatment."


@dataclass(frozen=True, kw_only=True)
class DetectedScan:
    """The row of one scan: a result, or the sentence that says why there is none."""

    path: Path
    read_seconds: float
    result: CaseResult | None = None
    error: Exception | None = None

    @cached_property
    def fault(self) -> tuple[str, str]:
        """Give code and sentence of the error, the sentence with the name of the scan; empty without one."""
        if self.error is None:
            return "", ""
        code, text = fault_of(self.error)
        return code, text if text.startswith(self.path.name) else f"{self.path.name}: {text}"


def detect_scans(
    paths: Sequence[Path],
    detector: Detector,
    settings: DetectionSettings,
    options: ReadOptions,
    *,
    progress: Progress | None = None,
    is_cancelled: Callable[[], bool] | None = None,
) -> Iterator[DetectedScan]:
    """Give the row of each scan, in order, as soon as it is done.

    Parameters
    ----------
    paths : sequence of Path
        Scans.
    detector : Detector
        Ready to run.
    settings : DetectionSettings
        How candidates are kept.
    options : ReadOptions
        What may be read.
    progress, is_cancelled : callable, optional
        As in `Detector.detect`, for the scan at hand.

    Yields
    ------
    DetectedScan
        With an error instead of a result when the scan was refused, shows no lungs, has the series of
        an earlier one, or met a fault that nobody foresaw: the other scans go on.

    Raises
    ------
    JobCancelled
        If `is_cancelled` said so.
    """
    taken: set[str] = set()
    with ThreadPoolExecutor(1, thread_name_prefix="read-ahead") as pool:
        pending = pool.submit(_timed_read, paths[0], options) if paths else None
        for number, path in enumerate(paths):
            assert pending is not None
            read, seconds = pending.result()
            if number + 1 < len(paths):
                pending = pool.submit(_timed_read, paths[number + 1], options)
            try:
                volume = _usable(read, taken)
                result = detector.detect(volume, settings, progress=progress, is_cancelled=is_cancelled)
            except JobCancelled:
                pending.cancel()
                raise
            except Exception as fault:
                yield DetectedScan(path=path, read_seconds=seconds, error=fault)
            else:
                yield DetectedScan(path=path, read_seconds=seconds, result=result)


def _timed_read(path: Path, options: ReadOptions) -> tuple[Volume | Exception, float]:
    began = perf_counter()
    try:
        return read_volume(path, options), perf_counter() - began
    except Exception as fault:
        return fault, perf_counter() - began


def _usable(read: Volume | Exception, taken: set[str]) -> Volume:
    """Give a scan whose rows can be told from those of the scans before it."""
    if isinstance(read, Exception):
        raise read
    if read.series_uid in taken:
        raise TableError("has the series or file name of an earlier scan, and one table cannot hold both; rename it")
    try:
        read.series_uid.encode()
    except UnicodeEncodeError:
        raise TableError("the file name is not Unicode text, which a table needs; rename the file") from None
    taken.add(read.series_uid)
    return read


def kept(result: CaseResult, *, keep_all: bool) -> tuple[Candidate, ...]:
    """Give the candidates that a table holds: all (for FROC), or those at or above the threshold."""
    return result.candidates if keep_all else result.shown


def write_run(
    path: Path, rows: Sequence[DetectedScan], detector: Detector, settings: DetectionSettings, *, keep_all: bool
) -> Path:
    """Write the candidate table and, beside it, the record of the run.

    Parameters
    ----------
    path : Path
        CSV file; LUNA16's submission columns and ``diameter_mm``.
    rows : sequence of DetectedScan
        All scans of the run.
    detector : Detector
        What was run.
    settings : DetectionSettings
        With which settings.
    keep_all : bool
        Write candidates below the threshold too.

    Returns
    -------
    Path
        The record: ``<stem>.run.json``.
    """
    results = [row.result for row in rows if row.result]
    write_candidates(path, [(r.series_uid, c) for r in results for c in kept(r, keep_all=keep_all)])
    record = path.with_name(f"{path.stem}.run.json")
    document = {
        "notice": NOTICE,
        "table": path.name,
        "holds_all_candidates": keep_all,
        "model": {"name": detector.name, "sha256": detector.checkpoint.sha256},
        "threshold": detector.threshold_for(settings),
        "operating_points": detector.recipe.operating_points,
        "settings": to_json(settings),
        "versions": _versions(),
        "scans": [_scan_record(row) for row in rows],
    }
    with replacing_text(record) as stream:
        json.dump(document, stream, indent=1)
        stream.write("\n")
    return record


def _versions() -> dict[str, str]:
    return {
        "napari-alnct": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "system": platform.system(),
    }


def _scan_record(row: DetectedScan) -> dict[str, Any]:
    """Give one scan without its name: series as a hash, as everywhere outside the research tables."""
    if row.result is None:
        return {"status": "failed", "file_sha256": short_hash(row.path.name), "code": row.fault[0]}
    values = asdict(row.result)
    values["notes"] = [without_uids(note) for note in row.result.notes]
    del values["candidates"], values["series_uid"], values["model_name"], values["model_sha256"]
    return {
        "status": "done",
        "series_sha256": short_hash(row.result.series_uid),
        "n_candidates": len(row.result.candidates),
        "n_shown": len(row.result.shown),
        "read_seconds": row.read_seconds,
        **values,
    }
