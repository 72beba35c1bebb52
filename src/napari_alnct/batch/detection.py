"""Detect on many scans in one process: the next scan is read while the network runs.

One bad scan is a failed row, not the end of the batch. With a journal every finished
scan is on disk at once, and a stopped run goes on. The result is the LUNA16 table and a
JSON record of the run: settings, versions, model, devices, seconds and what failed.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
import torch

from napari_alnct import __version__
from napari_alnct.batch.detection_journal import DetectionJournal
from napari_alnct.batch.input_identity import input_fingerprint
from napari_alnct.batch.runner import fault_of
from napari_alnct.core.config import DetectionSettings, to_json
from napari_alnct.core.detector import Detector, Progress
from napari_alnct.core.errors import JobCancelled, TableError
from napari_alnct.core.findings import Candidate, CaseResult
from napari_alnct.core.notice import NOTICE
from napari_alnct.core.volume import Volume
from napari_alnct.io.atomic_file import replacing_text
from napari_alnct.io.identifiers import short_hash, without_uids
from napari_alnct.io.images import ReadOptions, read_volume, scan_format
from napari_alnct.io.scan_paths import DICOM
from napari_alnct.io.tables import write_candidates


@dataclass(frozen=True, kw_only=True)
class DetectedScan:
    """The row of one scan: a result, or the sentence that says why there is none.

    ``is_resumed``: the result is that of an earlier run, from the journal.
    """

    path: Path
    read_seconds: float
    result: CaseResult | None = None
    error: Exception | None = None
    is_resumed: bool = False

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
    names: Mapping[Path, str] | None = None,
    journal: DetectionJournal | None = None,
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
    names : mapping of Path to str, optional
        Series by scan, where a table names them; a DICOM series keeps its own identifier.
    journal : DetectionJournal, optional
        Open; gives the scans that an earlier run finished, and gets each one that is finished now.
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
    finished = _finished(paths, journal, detector.threshold_for(settings))
    taken: set[str] = set()
    with closing(_read_ahead([path for path in paths if path not in finished], options)) as reads:
        for path in paths:
            if path in finished:
                yield _again(finished[path], taken)
                continue
            read = next(reads)
            try:
                volume = _usable(read.volume, path, names or {}, taken)
                result = detector.detect(volume, settings, progress=progress, is_cancelled=is_cancelled)
            except JobCancelled:
                raise
            except Exception as fault:
                yield DetectedScan(path=path, read_seconds=read.seconds, error=fault)
                continue
            if journal is not None:
                journal.record(path, read.fingerprint, read.seconds, result)
            yield DetectedScan(path=path, read_seconds=read.seconds, result=result)


def _finished(paths: Sequence[Path], journal: DetectionJournal | None, threshold: float) -> dict[Path, DetectedScan]:
    """Give the rows of the scans that an earlier run finished, with the present threshold."""
    rows = {}
    for path in paths if journal is not None else ():
        found = journal.find(path) if journal is not None else None
        if found is not None:
            result = replace(found[1], threshold=threshold)
            rows[path] = DetectedScan(path=path, read_seconds=found[0], result=result, is_resumed=True)
    return rows


def _again(row: DetectedScan, taken: set[str]) -> DetectedScan:
    """Give a row of the journal, or a failed one when its series is in the table already."""
    assert row.result is not None
    try:
        _take(row.result.series_uid, taken)
    except TableError as fault:
        return DetectedScan(path=row.path, read_seconds=row.read_seconds, error=fault)
    return row


class _Read(NamedTuple):
    """A scan, or why it cannot be read; wall seconds; its files as they were before reading."""

    volume: Volume | Exception
    seconds: float
    fingerprint: str


def _read_ahead(paths: Sequence[Path], options: ReadOptions) -> Generator[_Read]:
    """Give scan after scan; the next one is read meanwhile."""
    with ThreadPoolExecutor(1, thread_name_prefix="read-ahead") as pool:
        pending = pool.submit(_read, paths[0], options) if paths else None
        try:
            for following in [*paths[1:], None]:
                if pending is not None:
                    read = pending.result()
                    pending = pool.submit(_read, following, options) if following is not None else None
                    yield read
        finally:
            if pending is not None:
                pending.cancel()


def _read(path: Path, options: ReadOptions) -> _Read:
    began = perf_counter()
    fingerprint = ""
    try:
        fingerprint = input_fingerprint([path])
        return _Read(read_volume(path, options), perf_counter() - began, fingerprint)
    except Exception as fault:
        return _Read(fault, perf_counter() - began, fingerprint)


def _usable(read: Volume | Exception, path: Path, names: Mapping[Path, str], taken: set[str]) -> Volume:
    """Give a scan whose rows can be told from those of the scans before it."""
    if isinstance(read, Exception):
        raise read
    has_identifier = scan_format(path) == DICOM and read.series_uid
    volume = read if has_identifier or path not in names else replace(read, series_uid=names[path])
    _take(volume.series_uid, taken)
    return volume


def _take(series_uid: str, taken: set[str]) -> None:
    """Refuse a series that is in the table already, or that no table can hold."""
    if series_uid in taken:
        raise TableError("has the series or file name of an earlier scan, and one table cannot hold both; rename it")
    try:
        series_uid.encode()
    except UnicodeEncodeError:
        raise TableError("the file name is not Unicode text, which a table needs; rename the file") from None
    taken.add(series_uid)


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
        "n_scans_of_earlier_runs": sum(row.is_resumed for row in rows),
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
