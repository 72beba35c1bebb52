"""The subcommand ``detect``: candidates of scans as a LUNA16 table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from napari_alnct.cli.options import DEFAULT_READ_FLAGS, ReadFlags, with_flag
from napari_alnct.cli.outputs import refuse_unwritable_table
from napari_alnct.cli.progress import ScanBar
from napari_alnct.core.config import DetectionSettings

if TYPE_CHECKING:
    from napari_alnct.batch.detection import DetectedScan

Settings = Annotated[DetectionSettings, Parameter(name="*")]
DEFAULTS = DetectionSettings()


def execute(
    scans: list[Path],
    /,
    *,
    out: Path = Path("candidates.csv"),
    model: str = "default",
    all: Annotated[bool, Parameter(negative="")] = False,  # the flag's name
    settings: Settings = DEFAULTS,
    reading: ReadFlags = DEFAULT_READ_FLAGS,
) -> int:
    """Find nodule candidates in scans and write them as a LUNA16 table.

    The table has LUNA16's submission columns (world mm, LPS) and diameter_mm.
    Beside it, OUT.run.json (named after the table) records model, settings, versions and seconds.

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

    Examples
    --------
    napari-alnct-train detect scan.mhd --out candidates.csv
    napari-alnct-train detect luna16_data/subset0 --all --out submission.csv
    napari-alnct-train detect dicom_folder --threshold 0.3 --device cpu --model runs/mine/model.safetensors
    """
    from napari_alnct.batch.detection import NOTICE, detect_scans, write_run
    from napari_alnct.core.detector import Detector
    from napari_alnct.io.images import expand_scans
    from napari_alnct.models.catalogue import find_model

    refuse_unwritable_table(out)
    paths = expand_scans(scans)
    entry = find_model(model)
    detector = Detector.load(
        entry.path, name=entry.name, sha256=entry.sha256, device=settings.device, precision=settings.precision
    )
    rows = []
    with ScanBar(len(paths)) as bar:
        for row in detect_scans(paths, detector, settings, reading.options(), progress=bar.show):
            if row.error is not None and len(paths) == 1:
                raise row.error
            rows.append(row)
            bar.finish(_line(row))
    record = write_run(out, rows, detector, settings, keep_all=all)
    n_failed = sum(row.error is not None for row in rows)
    print(f"{len(rows) - n_failed} of {len(rows)} scans done: {out} (settings, versions, seconds: {record.name})")
    print(NOTICE)
    return 4 if n_failed else 0


def _line(row: DetectedScan) -> str:
    """Give one line for people: file, what was found, seconds."""
    if row.result is None:
        return f"failed: {with_flag(row.fault[1])}"
    seconds = row.read_seconds + sum(row.result.seconds.values())
    notes = "".join(f"\n  note: {note}" for note in row.result.notes)
    return f"{row.path.name}: {row.result.summary} {seconds:.1f} s on {row.result.device}.{notes}"
