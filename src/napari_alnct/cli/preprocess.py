"""The subcommand ``preprocess``: scans at isotropic spacing with lung masks and labels in voxels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter, validators

from napari_alnct.cli.options import DEFAULT_READ_FLAGS, ReadFlags
from napari_alnct.cli.outputs import refuse_unwritable_folder
from napari_alnct.core.config import PrepareSettings

if TYPE_CHECKING:
    from napari_alnct.batch.preparation import PreparationReport
    from napari_alnct.io.luna16 import Dataset

Settings = Annotated[PrepareSettings, Parameter(name="*")]
DEFAULTS = PrepareSettings()
BYTES_PER_JOB = 1 << 30
MOST_JOBS = 8


def execute(
    *,
    raw_root: Path,
    out_root: Path,
    settings: Settings = DEFAULTS,
    jobs: Annotated[int | None, Parameter(validator=validators.Number(gte=1))] = None,
    subsets: Annotated[tuple[int, ...], Parameter(consume_multiple=True, negative=())] = (),
    own_lungs: Annotated[bool, Parameter(negative="")] = False,
    overwrite: Annotated[bool, Parameter(negative="")] = False,
    reading: ReadFlags = DEFAULT_READ_FLAGS,
) -> int:
    """Prepare scans: lung masks, resampled volumes, annotations in voxels.

    Takes LUNA16's folders (subset0 ... subset9, CSVFILES, seg-lungs-LUNA16), those of
    the original project (subsets, masks, annotations) or any folder of scans. Writes
    volumes/, lungs/, labels_vox.csv and manifest.json. A stopped run goes on where it
    ended; a scan that cannot be used is reported and skipped (exit code 4).

    Parameters
    ----------
    raw_root
        Folder with the scans, or one scan.
    out_root
        Folder to write; made when missing.
    jobs
        Scans prepared at a time; by default as many as processors and memory allow.
    subsets
        Only these folds.
    own_lungs
        Find the lungs even where a mask is supplied.
    overwrite
        Prepare again what is ready.

    Examples
    --------
    napari-alnct-train preprocess --raw-root luna16_data --out-root data_preproc
    napari-alnct-train preprocess --raw-root luna16_data --out-root data_preproc --subsets 0 1 --jobs 4
    napari-alnct-train preprocess --raw-root scans --out-root prepared --spacing-mm 0.8 --margin-mm 20
    """
    from napari_alnct.batch.preparation import prepare_dataset
    from napari_alnct.cli.progress import BatchBar
    from napari_alnct.io.luna16 import find_dataset

    refuse_unwritable_folder(out_root)
    dataset = find_dataset(raw_root, leave_out=out_root).in_subsets(subsets)
    with BatchBar("preparing") as bar:
        report = prepare_dataset(
            dataset,
            out_root,
            settings,
            reading.options(),
            has_own_lungs=own_lungs,
            n_jobs=jobs or _default_jobs(),
            overwrite=overwrite,
            on_start=lambda n_to_do, _n_ready: bar.start(n_to_do),
            on_progress=bar.update,
        )
    print(_summary(report, dataset, out_root))
    if report.n_failed and len(dataset.scans) == 1:
        return 3
    return 4 if report.n_failed else 0


def _default_jobs() -> int:
    """Give a number of jobs that this machine can bear."""
    import os

    from napari_alnct.io.physical_memory import physical_memory_bytes

    by_memory = physical_memory_bytes() // (2 * BYTES_PER_JOB)
    return max(1, min(os.cpu_count() or 1, by_memory, MOST_JOBS))


def _summary(report: PreparationReport, dataset: Dataset, out_root: Path) -> str:
    scans = f"{report.n_prepared} scans prepared, {report.n_kept} were ready, {report.n_failed} failed"
    labels = f"{report.n_nodules} nodules and {report.n_excluded} excluded findings in labels_vox.csv"
    if not dataset.has_annotations:
        labels = "no annotations.csv found, so labels_vox.csv lists no nodule"
    elif not report.n_nodules + report.n_excluded and dataset.unmatched:
        labels += f": none of the {len(dataset.unmatched)} annotated series has the name of a scan here"
    elif report.n_outside:
        labels += f" ({report.n_outside} nodules outside the prepared box: is_inside = 0)"
    return f"{scans}; {labels}: {out_root.resolve()}"
