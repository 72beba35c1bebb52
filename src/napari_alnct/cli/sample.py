"""The subcommand ``sample``: patches around nodules and negatives from prepared scans."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter, validators

from napari_alnct.cli.fold_ranges import FoldRanges, folds_of
from napari_alnct.cli.outputs import refuse_unwritable_folder
from napari_alnct.core.config import Device
from napari_alnct.core.errors import SettingsError
from napari_alnct.training.sample_settings import SampleSettings

if TYPE_CHECKING:
    from napari_alnct.batch.leak_guard import LeakGuard
    from napari_alnct.batch.sampling import HardSources
    from napari_alnct.batch.sampling_record import SamplingReport
    from napari_alnct.io.prepared import PreparedDataset

Settings = Annotated[SampleSettings, Parameter(name="*")]
Jobs = Annotated[int | None, Parameter(validator=validators.Number(gte=1))]
DEFAULTS = SampleSettings()
BYTES_PER_JOB = 1 << 30  # the largest scans at 1 mm, with the local mean that finds vessels
MOST_JOBS = 4


def execute(
    *,
    labels: Path,
    out_dir: Path,
    vol_dir: Path | None = None,
    settings: Settings = DEFAULTS,
    candidates: Path | None = None,
    mine: str | None = None,
    device: Device = "auto",
    folds: FoldRanges = (),
    series: Path | None = None,
    patients: Path | None = None,
    apart_from: Annotated[tuple[Path, ...], Parameter(consume_multiple=True, negative=())] = (),
    jobs: Jobs = None,
) -> int:
    r"""Cut patches from prepared scans: nodules, and negatives of several kinds.

    Every scan supplies equally many negatives, nodule-free ones included: random lung, vessels and, where
    a table or a model is given, hard ones. All keep clear of nodules and excluded findings. Writes
    patch_map.csv, patches.npy (int16 HU), patches.json, example_pos.npy and example_neg.npy; patches of an
    earlier run there are replaced. Sample training and validation scans in two calls; with --apart-from the
    second refuses scans of the first (leak guard: series level), and with --patients the same patients too
    (patient level; then every scan on either side must be in that table).

    Parameters
    ----------
    labels
        labels_vox.csv that preprocess wrote, or its folder.
    out_dir
        Folder of the patches; made when missing.
    vol_dir
        Folder of the prepared volumes; by default volumes beside the labels. Its neighbour lungs is read too.
    candidates
        Hard negatives from a table such as LUNA16's candidates_V2.csv (.gz too): its rows of class 0.
    mine
        Hard negatives from a model, by name or .safetensors file: its false marks on these scans, by LUNA16's rule.
    device
        Where that model runs.
    folds
        Only these folds, such as 0-8 or 1,2.
    series
        Only the series in this file, one a line; each must be prepared.
    patients
        Table with the columns seriesuid and patient.
    apart_from
        Other folders of patches, which must hold none of these scans.
    jobs
        Scans read at a time; by default as many as processors and memory allow, at most 4.

    Examples
    --------
    napari-alnct-train sample --labels data_preproc/labels_vox.csv --vol-dir data_preproc/volumes \
        --out-dir patches/train --folds 1-9 --neg-ratio 1
    napari-alnct-train sample --labels data_preproc/labels_vox.csv --vol-dir data_preproc/volumes \
        --out-dir patches/val --folds 0 --neg-ratio 1 --per-nodule 1 --apart-from patches/train
    napari-alnct-train sample --labels data_preproc --out-dir patches/hard --folds 1-9 --neg-ratio 3 \
        --candidates candidates_V2.csv --mine default --apart-from patches/val --patients patients.csv
    """
    from napari_alnct.batch.leak_guard import guard_leaks, read_patients
    from napari_alnct.batch.sampling import sample_patches
    from napari_alnct.cli.progress import BatchBar
    from napari_alnct.io.prepared import PreparedDataset
    from napari_alnct.io.tables import read_series_list

    refuse_unwritable_folder(out_dir)
    _refuse_own_folder(out_dir, apart_from)
    wanted = read_series_list(series) if series else ()
    dataset = PreparedDataset.open(labels, vol_dir).select(folds=folds_of(folds), series=wanted)
    known = read_patients(patients) if patients else None
    guard = guard_leaks(dataset.series, known, apart_from)
    hard = _hard_sources(dataset, candidates, mine, device)
    with BatchBar("sampling") as bar:
        report = sample_patches(
            dataset,
            out_dir,
            settings,
            guard,
            hard=hard,
            patients=known,
            n_jobs=jobs or _default_jobs(),
            on_start=bar.start,
            on_progress=bar.update,
        )
    print(_summary(report, guard, settings, out_dir))
    return 0


def _refuse_own_folder(out_dir: Path, others: tuple[Path, ...]) -> None:
    for other in others:
        folder = other.parent if other.suffix == ".csv" else other
        if folder.resolve() == out_dir.resolve():
            raise SettingsError(f"{out_dir.name} is the folder to write and one to stay apart from; name another")


def _hard_sources(dataset: PreparedDataset, candidates: Path | None, mine: str | None, device: Device) -> HardSources:
    """Read the table of candidates and load the model, where they are given."""
    from napari_alnct.batch.sampling import HardSources
    from napari_alnct.io.candidate_table import read_false_candidates

    found = read_false_candidates(candidates, dataset.series) if candidates else None
    miner = None
    if mine is not None:
        from napari_alnct.batch.mining import Miner

        miner = Miner(mine, dataset.prepare, device)
    return HardSources(candidates=found, candidates_name=candidates.name if candidates else "", miner=miner)


def _default_jobs() -> int:
    """Give a number of jobs that this machine can bear."""
    import os

    from napari_alnct.io.physical_memory import physical_memory_bytes

    return max(1, min(os.cpu_count() or 1, physical_memory_bytes() // (2 * BYTES_PER_JOB), MOST_JOBS))


def _summary(report: SamplingReport, guard: LeakGuard, settings: SampleSettings, out_dir: Path) -> str:
    """Give what was written, in lines for people."""

    def listed(counts: dict[str, int]) -> str:
        return ", ".join(f"{name} {n}" for name, n in counts.items()) or "none"

    n_negatives = sum(report.negatives.values())
    n_bytes = (report.n_positives + n_negatives) * settings.stored_vox**3 * 2
    outside = f"; {report.n_outside} nodules outside the prepared box were skipped" if report.n_outside else ""
    lacking = f"; {report.n_lacking} fewer than asked for, the scans have no more places" if report.n_lacking else ""
    return "\n".join(
        (
            f"{report.n_positives} positives of {report.n_nodules} nodules ({listed(report.nodules_by_size)}){outside}",
            f"{n_negatives} negatives from {report.n_scans_with_negatives} of {report.n_scans} scans, "
            f"{report.n_nodule_free} of them without nodules ({listed(report.negatives)}){lacking}",
            f"{n_bytes / 1e6:.0f} MB, {settings.patch_vox} voxels and {settings.margin_vox} around",
            guard.sentence,
            f"written to {out_dir.resolve()}",
        )
    )
