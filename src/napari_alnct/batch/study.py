"""Making a reader study from scans, and joining its readings: the work behind `study` and `study-table`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from napari_alnct.batch.study_tables import CASE_COLUMNS, DECISION_COLUMNS, find_readings, study_rows
from napari_alnct.io.csv_files import table_lines
from napari_alnct.io.images import ReadOptions, read_volume
from napari_alnct.io.review_exports import write_together
from napari_alnct.io.study import Study, name_cases, read_study

DECISIONS, CASES = "decisions.csv", "cases.csv"


@dataclass(frozen=True, kw_only=True)
class JoinedStudy:
    """What was written, and how far the study is: cases and readers by state."""

    paths: tuple[Path, ...]
    n_decisions: int
    n_by_state: dict[str, int]


def plan_study(
    scans: Sequence[Path],
    readers: Sequence[str],
    seed: int,
    options: ReadOptions,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> Study:
    """Give a study of these scans; each is read once, for the hash of its voxels.

    Parameters
    ----------
    scans : sequence of Path
        Scan files or DICOM folders.
    readers : sequence of str
        Who reads.
    seed : int
        Of the readers' orders.
    options : ReadOptions
        What may be read.
    progress : callable, optional
        Called with scans read and scans to read.

    Returns
    -------
    Study

    Raises
    ------
    ReadError
        If a scan cannot be read: a study with a gap is not begun.
    TableError
        If two scans have the same voxels, or two readers the same name.
    """
    hashes = []
    for number, path in enumerate(scans):
        if progress is not None:
            progress(number, len(scans))
        hashes.append(read_volume(path, options).voxel_sha256)
    if progress is not None:
        progress(len(scans), len(scans))
    return Study(cases=name_cases(scans, hashes), readers=tuple(readers), seed=seed)


def join_study(readings: Path, out_dir: Path, study_path: Path | None = None) -> JoinedStudy:
    """Write the readings of a folder as the tables of decisions and of cases.

    Parameters
    ----------
    readings : Path
        Folder of readings.
    out_dir : Path
        Made when missing; both tables appear, or none.
    study_path : Path, optional
        Study file: names the cases, and gives rows to those that were not begun.

    Returns
    -------
    JoinedStudy

    Raises
    ------
    TableError, SettingsError
        If the study or the readings cannot be used, or the tables not be written.
    """
    study = None if study_path is None else read_study(study_path)
    decisions, cases = study_rows(find_readings(readings), study)
    texts = {
        DECISIONS: "".join(table_lines(DECISION_COLUMNS, decisions)),
        CASES: "".join(table_lines(CASE_COLUMNS, cases)),
    }
    states = [str(row[CASE_COLUMNS.index("state")]) for row in cases]
    return JoinedStudy(
        paths=tuple(write_together(Path(out_dir), texts)),
        n_decisions=len(decisions),
        n_by_state={state: states.count(state) for state in ("done", "under way", "not begun", "damaged")},
    )
