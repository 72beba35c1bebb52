"""Cut patches from prepared scans: plan all, then read scan by scan and write one store.

What each scan supplies is known before a voxel is read: the nodules from the labels, its
share of the negatives from their number. Scans are then read several at a time and written
in the order of their series, so that the result depends on seed and settings alone.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_alnct.batch.leak_guard import LeakGuard
from napari_alnct.batch.runner import BatchProgress
from napari_alnct.batch.sampling_plan import ScanPlan, plan_scans, refuse_full_disk
from napari_alnct.batch.sampling_record import SamplingReport, describe, report_of
from napari_alnct.core.errors import JobCancelled
from napari_alnct.io.patch_store import POSITIVE_KIND, PatchRow, PatchWriter, cube_around
from napari_alnct.io.prepared import PreparedDataset, PreparedFinding
from napari_alnct.training.sample_settings import SampleSettings
from napari_alnct.training.sampler import CANDIDATE, MINED, keep_out, kind_shares, negative_centres, scan_rng

if TYPE_CHECKING:
    from napari_alnct.batch.mining import Miner

POLL_S = 0.2
Positions = NDArray[np.float64]
Patch = tuple[PatchRow, NDArray[np.int16]]


@dataclass(frozen=True, kw_only=True)
class HardSources:
    """Where hard negatives come from.

    Parameters
    ----------
    candidates : dict of str to ndarray, optional
        World positions by series, from `read_false_candidates`; None: no table.
    candidates_name : str
        Name of the table, for the record.
    miner : Miner, optional
        A model whose false marks are taken.
    """

    candidates: Mapping[str, Positions] | None = None
    candidates_name: str = ""
    miner: Miner | None = None

    def to_json(self) -> dict[str, Any]:
        """Give the sources as JSON values, for ``patches.json``."""
        model = None if self.miner is None else {"name": self.miner.name, "sha256": self.miner.sha256}
        return {"candidates": self.candidates_name or None, "model": model}


def sample_patches(
    dataset: PreparedDataset,
    out_dir: Path,
    settings: SampleSettings,
    guard: LeakGuard,
    *,
    hard: HardSources | None = None,
    patients: Mapping[str, str] | None = None,
    n_jobs: int = 1,
    on_start: Callable[[int], None] | None = None,
    on_progress: Callable[[BatchProgress], None] | None = None,
    is_cancelled: Callable[[], bool] | None = None,
) -> SamplingReport:
    """Write the patches of the scans of a prepared data set.

    Parameters
    ----------
    dataset : PreparedDataset
        Only the scans to sample.
    out_dir : Path
        Folder of the patches; those of an earlier run are replaced, and kept when this run fails.
    settings : SampleSettings
        Which and how many.
    guard : LeakGuard
        What was checked before, for the record.
    hard : HardSources, optional
        Where hard negatives come from.
    patients : mapping of str to str, optional
        Patient of each series.
    n_jobs : int, optional
        Scans read at a time.
    on_start : callable, optional
        Called once with the number of scans.
    on_progress, is_cancelled : callable, optional
        As in `napari_alnct.batch.runner.run_batch`.

    Returns
    -------
    SamplingReport

    Raises
    ------
    TableError
        If the scans show no nodule, or files are missing.
    SettingsError
        If the disk is too small, or the jitter leads out of the patches.
    ReadError
        If a scan cannot be read.
    JobCancelled
        If `is_cancelled` said so; nothing was written.
    """
    hard = hard or HardSources()
    settings.check_spacing(dataset.prepare.spacing_mm)
    shares = kind_shares(settings, has_candidates=hard.candidates is not None, has_model=hard.miner is not None)
    plans = plan_scans(dataset, settings, shares)
    dataset.require_files()
    refuse_full_disk(out_dir, plans, settings)
    if on_start is not None:
        on_start(len(plans))
    stop = threading.Event()

    def job(plan: ScanPlan) -> list[Patch]:
        """Give the patches of one scan."""
        return _sample_scan(plan, dataset, settings, hard, patients or {}, stop.is_set)

    notes = describe(dataset, settings, guard, hard.to_json(), patients)
    writer = PatchWriter(
        out_dir, dataset.prepare, patch_vox=settings.patch_vox, margin_vox=settings.margin_vox, notes=notes
    )
    was_there = out_dir.exists()
    try:
        with writer, closing(_in_order(job, plans, n_jobs, stop, is_cancelled)) as scans:
            for n_done, (plan, patches) in enumerate(scans, start=1):
                for row, cube in patches:
                    writer.add(row, cube)
                if on_progress is not None:
                    on_progress(BatchProgress(n_done, 0, len(plans), plan.entry.series_uid, ""))
            report = report_of(dataset, plans, writer.rows)
            writer.description["counts"] = asdict(report)
    except BaseException:
        if not was_there and out_dir.is_dir() and not any(out_dir.iterdir()):
            out_dir.rmdir()
        raise
    return report


def _sample_scan(
    plan: ScanPlan,
    dataset: PreparedDataset,
    settings: SampleSettings,
    hard: HardSources,
    patients: Mapping[str, str],
    is_cancelled: Callable[[], bool],
) -> list[Patch]:
    """Give the patches of one scan: its nodules, then its negatives."""
    scan, uid = plan.entry, plan.entry.series_uid
    hu, lungs, geometry = dataset.read(scan)
    points: dict[str, Positions] = {}
    if hard.candidates is not None:
        found = hard.candidates.get(uid, np.zeros((0, 3)))
        points[CANDIDATE] = scan_rng(settings.seed, uid, CANDIDATE).permutation(found)
    if hard.miner is not None and plan.wanted[MINED]:
        points[MINED] = hard.miner.false_marks(dataset, uid, hu, lungs, geometry, is_cancelled)
    barrier = keep_out(dataset.nodules_of(uid), dataset.excluded_of(uid), settings.clearance_mm)
    rng = scan_rng(settings.seed, uid, "negatives")
    negatives = negative_centres(hu, lungs, geometry, barrier, plan.wanted, points, rng)

    def patch(centre: Sequence[int], label: int, kind: str, nodule: PreparedFinding | None = None) -> Patch:
        z, y, x = (int(v) for v in centre)
        x_mm, y_mm, z_mm = (float(v) for v in geometry.index_to_world((z, y, x)))
        row = PatchRow(
            series_uid=uid,
            label=label,
            kind=kind,
            centre_zyx_vox=(z, y, x),
            position_xyz_mm=(x_mm, y_mm, z_mm),
            diameter_mm=nodule.diameter_mm if nodule else None,
            nodule=nodule.number if nodule else None,
            patient=patients.get(uid, ""),
            fold=scan.subset,
        )
        return row, cube_around(hu, (z, y, x), settings.stored_vox, dataset.prepare.low_hu)

    shown = [patch(centre, 1, POSITIVE_KIND, nodule) for nodule, centres in plan.positives for centre in centres]
    return shown + [patch(centre, 0, kind) for kind, centre in negatives]


def _in_order(
    job: Callable[[ScanPlan], list[Patch]],
    plans: Sequence[ScanPlan],
    n_jobs: int,
    stop: threading.Event,
    is_cancelled: Callable[[], bool] | None,
) -> Generator[tuple[ScanPlan, list[Patch]], None, None]:
    """Give the patches of each scan in the order of the plans; few scans are ahead, so memory is bounded."""
    pending: deque[tuple[ScanPlan, Future[list[Patch]]]] = deque()
    left = deque(plans)
    with ThreadPoolExecutor(max(1, n_jobs), thread_name_prefix="sample") as pool:
        try:
            while left or pending:
                while left and len(pending) <= n_jobs:
                    plan = left.popleft()
                    pending.append((plan, pool.submit(job, plan)))
                plan, future = pending.popleft()
                is_ready = False
                while not is_ready:
                    if is_cancelled is not None and is_cancelled():
                        raise JobCancelled("cancelled; nothing was written")
                    is_ready = bool(wait([future], timeout=POLL_S).done)
                yield plan, future.result()
        except BaseException:
            stop.set()
            for _, future in pending:
                future.cancel()
            raise
