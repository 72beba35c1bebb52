"""The subcommand ``detect``: candidates of scans as a LUNA16 table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from napari_alnct.cli.fold_ranges import FoldRanges, folds_of
from napari_alnct.cli.options import DEFAULT_READ_FLAGS, ReadFlags, with_flag
from napari_alnct.cli.outputs import refuse_unwritable_table
from napari_alnct.cli.progress import ScanBar
from napari_alnct.cli.scan_choice import choose_scans
from napari_alnct.core.config import DetectionSettings
from napari_alnct.core.notice import NOTICE

if TYPE_CHECKING:
    from napari_alnct.batch.detection import DetectedScan
    from napari_alnct.batch.detection_journal import DetectionJournal
    from napari_alnct.core.detector import Detector
    from napari_alnct.io.images import ReadOptions

Settings = Annotated[DetectionSettings, Parameter(name="*")]
DEFAULTS = DetectionSettings()


def execute(
    scans: list[Path],
    /,
    *,
    out: Path = Path("candidates.csv"),
    model: str = "default",
    all: Annotated[bool, Parameter(negative="")] = False,  # the flag's name
    series: Path | None = None,
    folds: FoldRanges = (),
    overwrite: Annotated[bool, Parameter(negative="")] = False,
    settings: Settings = DEFAULTS,
    reading: ReadFlags = DEFAULT_READ_FLAGS,
) -> int:
    """Find nodule candidates in scans and write them as a LUNA16 table.

    The table has LUNA16's submission columns (world mm, LPS) and diameter_mm.
    Beside it, OUT.run.json (named after the table) records model, settings, versions and seconds.
    A run that was stopped goes on when the same command is given again: finished scans are kept
    in OUT.csv.partial.jsonl until the table is written.

    Parameters
    ----------
    scans
        Scan files, DICOM folders, or folders of scans.
    out
        Table to write; appears complete or not at all.
    model
        Name of a bundled model, or the path of a .safetensors file.
    all
        Write all candidates (at most 100 a scan), as FROC needs, not only those at or above the threshold.
    series
        Only the scans of this list of series, one a line, or of this table's column seriesuid.
    folds
        Only these folds (subset folders), such as 0 1 or 0-3.
    overwrite
        Search again what a stopped run had finished.

    Examples
    --------
    napari-alnct-train detect scan.mhd --out candidates.csv
    napari-alnct-train detect luna16_data/subset0 --all --out submission.csv
    napari-alnct-train detect luna16_data --folds 0-2 --all --out three_folds.csv
    napari-alnct-train detect dicom_folder --threshold 0.3 --device cpu --model runs/mine/model.safetensors
    """
    from napari_alnct.models.catalogue import find_model

    refuse_unwritable_table(out)
    chosen = choose_scans(scans, series_list=series, folds=folds_of(folds))
    entry = find_model(model)

    from napari_alnct.batch.detection import write_run
    from napari_alnct.batch.detection_journal import DetectionJournal, journal_path, run_identity
    from napari_alnct.core.detector import Detector

    detector = Detector.load(
        entry.path, name=entry.name, sha256=entry.sha256, device=settings.device, precision=settings.precision
    )
    options = reading.options()
    identity = run_identity(detector.checkpoint.sha256, settings, options)
    with DetectionJournal(journal_path(out), identity, overwrite=overwrite) as journal:
        rows = _rows(chosen, detector, settings, options, journal)
        record = write_run(out, rows, detector, settings, keep_all=all)
        journal.remove()
    n_failed = sum(row.error is not None for row in rows)
    print(f"{len(rows) - n_failed} of {len(rows)} scans done: {out} (settings, versions, seconds: {record.name})")
    print(NOTICE)
    return 4 if n_failed else 0


def _rows(
    chosen: dict[Path, str],
    detector: Detector,
    settings: DetectionSettings,
    options: ReadOptions,
    journal: DetectionJournal,
) -> list[DetectedScan]:
    """Search the scans, with a bar; the only scan's refusal is raised."""
    from napari_alnct.batch.detection import detect_scans

    rows: list[DetectedScan] = []
    named = {path: uid for path, uid in chosen.items() if uid}
    _tell_notes(journal)
    if len(journal):
        print(f"going on: {len(journal)} scans were finished before ({journal.path.name})")
    with ScanBar(len(chosen)) as bar:
        for row in detect_scans(
            list(chosen), detector, settings, options, names=named, journal=journal, progress=bar.show
        ):
            if row.error is not None and len(chosen) == 1:
                raise row.error
            rows.append(row)
            if row.is_resumed:
                bar.n_done += 1
            else:
                bar.finish(_line(row))
    _tell_notes(journal)
    return rows


def _tell_notes(journal: DetectionJournal) -> None:
    """Print what the journal has to say, once."""
    while journal.notes:
        print(f"note: {journal.notes.pop(0)}")


def _line(row: DetectedScan) -> str:
    """Give one line for people: file, what was found, seconds."""
    if row.result is None:
        return f"failed: {with_flag(row.fault[1])}"
    seconds = row.read_seconds + sum(row.result.seconds.values())
    notes = "".join(f"\n  note: {note}" for note in row.result.notes)
    return f"{row.path.name}: {row.result.summary} {seconds:.1f} s on {row.result.device}.{notes}"
