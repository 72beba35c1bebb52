"""Synthetic scans as a data set in the layout of LUNA16.

``subset0`` .. ``subset9`` with ``<uid>.mhd``, ``CSVFILES`` with the three
official tables, ``seg-lungs-LUNA16`` with lung masks (3 left lung, 4 right
lung, 5 trachea). Beside it ``truth.csv`` (kind and contact of every finding)
and ``phantom_settings.json`` (how each scan was made).
"""

from __future__ import annotations

import csv
import json
import os
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from io import StringIO
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from napari_alnct.core.config import to_json
from napari_alnct.core.errors import SettingsError
from napari_alnct.core.findings import ReferenceNodule
from napari_alnct.core.geometry import IDENTITY, Geometry, Shape, Triple
from napari_alnct.data.phantom_scan import PhantomScan, make_phantom
from napari_alnct.data.phantom_settings import SMALLEST_FIELD_MM, PhantomSettings, phantom_uid

N_SUBSETS = 10
NODULE_FREE_EVERY = 5  # one scan in five has no nodule
FLIPPED: tuple[float, ...] = (-1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 1.0)  # as in some LUNA16 scans
SLICE_STEPS_MM = (0.625, 0.8, 1.0, 1.0, 1.25, 1.25, 1.5, 2.0, 2.5)
COORDINATES = ("coordX", "coordY", "coordZ", "diameter_mm")
Progress = Callable[[int, int, str], None]
"""Called with scans done, scans in all, and the series just written."""


class WriteImage(Protocol):
    """Writes an array with its grid to a file, as `io.metaimage.write_metaimage` does."""

    def __call__(self, path: Path, array_zyx: NDArray[Any], geometry: Geometry, *, compress_level: int | None) -> None:
        """Write one image."""


@dataclass(frozen=True)
class ScanTruth:
    """What is known about one written scan."""

    settings: PhantomSettings
    nodules: tuple[ReferenceNodule, ...]
    excluded: tuple[ReferenceNodule, ...]
    contact: tuple[str, ...]


def plan_dataset(
    n_scans: int, seed: int, *, shape_zyx: Shape | None = None, n_nodules: tuple[int, int] | None = None
) -> tuple[PhantomSettings, ...]:
    """Give the settings of each scan: varied grids, noise, padding, directions and numbers of nodules.

    Parameters
    ----------
    n_scans : int
        Number of scans.
    seed : int
        Same seed, same data set; the first scans do not depend on `n_scans`.
    shape_zyx : tuple of int, optional
        One shape for all; the spacing follows from the field of view, but stays
        fine enough for nodules, so a small grid holds a small chest.
    n_nodules : tuple of int, optional
        Smallest and largest number of nodules of a scan that has any; default: (1, 8), or (1, 4)
        with `shape_zyx`.

    Returns
    -------
    tuple of PhantomSettings
        One in five has no nodule; one in four is stored with x and y reversed.
    """
    count = n_nodules or ((1, 8) if shape_zyx is None else (1, 4))
    plans = []
    for i in range(n_scans):
        block = np.random.default_rng([seed, 11, i // NODULE_FREE_EVERY])
        is_free = i % NODULE_FREE_EVERY == int(block.integers(NODULE_FREE_EVERY))
        rng = np.random.default_rng([seed, 12, i])
        shape, spacing = _draw_grid(rng) if shape_zyx is None else _fit_grid(rng, shape_zyx)
        plans.append(
            PhantomSettings(
                shape_zyx=shape,
                spacing_zyx_mm=spacing,
                direction=FLIPPED if rng.random() < 0.25 else IDENTITY,
                n_nodules=0 if is_free else count,
                diameter_range_mm=(3.0, 20.0) if shape_zyx is not None else (3.0, 30.0),
                noise_hu=round(float(rng.uniform(12.0, 40.0)), 1),
                padding_hu=int(rng.choice((-2000, -3024))) if rng.random() < 0.3 else None,
                series_uid=phantom_uid(f"data set {seed}, scan {i + 1}"),
                seed=int(rng.integers(2**62)),
            )
        )
    return tuple(plans)


def _draw_grid(rng: np.random.Generator) -> tuple[Shape, Triple]:
    step = float(rng.choice(SLICE_STEPS_MM))
    plane = round(float(rng.uniform(0.58, 0.86)), 3)
    return (round(rng.uniform(285.0, 335.0) / step), 512, 512), (step, plane, plane)


def _fit_grid(rng: np.random.Generator, shape_zyx: Shape) -> tuple[Shape, Triple]:
    n_z, n_y, n_x = shape_zyx
    step = min(rng.uniform(285.0, 335.0) / n_z, rng.uniform(1.6, 2.2))
    plane = min(rng.uniform(330.0, 390.0) / max(n_y, n_x), rng.uniform(1.2, 1.5))
    step = max(step, 0.6, (SMALLEST_FIELD_MM + 1.0) / n_z)
    plane = max(plane, 0.55, (SMALLEST_FIELD_MM + 1.0) / min(n_y, n_x))
    return shape_zyx, (round(step, 3), round(plane, 3), round(plane, 3))


def write_phantom_dataset(
    out: Path,
    n_scans: int,
    seed: int,
    *,
    write_image: WriteImage,
    settings: Sequence[PhantomSettings] | None = None,
    progress: Progress | None = None,
    masks: bool = True,
    compress: bool = True,
    jobs: int = 1,
) -> tuple[ScanTruth, ...]:
    """Write synthetic scans in the layout of LUNA16.

    Parameters
    ----------
    out : Path
        Folder; made when missing. Files of the same data set are written again.
    n_scans : int
        Number of scans.
    seed : int
        Same seed, same files.
    write_image : callable
        Writes an image; `io.metaimage.write_metaimage` for MetaImage.
    settings : sequence of PhantomSettings, optional
        One per scan, with different series identifiers; default `plan_dataset`.
    progress : callable, optional
        Called after each scan.
    masks : bool, optional
        Also write the lung masks.
    compress : bool, optional
        zlib level 1 (``.zraw``), else ``.raw``.
    jobs : int, optional
        Scans made at a time, each in its own process with about 1.5 GB.

    Returns
    -------
    tuple of ScanTruth
        One per scan, in the order of `settings`; the same whatever `jobs` is.

    Raises
    ------
    SettingsError
        If the folder holds another data set or two scans have one identifier.
    """
    plans = tuple(settings) if settings is not None else plan_dataset(n_scans, seed)
    _check_target(out, plans)
    for name in ("CSVFILES", *(["seg-lungs-LUNA16"] if masks else []), *_subsets(plans)):
        (out / name).mkdir(parents=True, exist_ok=True)
    level = 1 if compress else None
    tasks = [(out, i, plan, write_image, masks, level) for i, plan in enumerate(plans)]
    truths: dict[int, ScanTruth] = {}
    for i, truth in _run(tasks, jobs):
        truths[i] = truth
        if progress is not None:
            progress(len(truths), len(plans), truth.settings.uid)
    ordered = tuple(truths[i] for i in range(len(plans)))
    write_tables(out, ordered)
    return ordered


Task = tuple[Path, int, PhantomSettings, WriteImage, bool, int | None]


def _run(tasks: list[Task], jobs: int) -> Iterator[tuple[int, ScanTruth]]:
    if jobs <= 1:
        yield from map(_write_scan, tasks)
        return
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        for future in as_completed([pool.submit(_write_scan, task) for task in tasks]):
            yield future.result()


def _write_scan(task: Task) -> tuple[int, ScanTruth]:
    out, i, plan, write_image, masks, level = task
    scan = make_phantom(plan)
    grid, name = scan.volume.source_geometry, f"{plan.uid}.mhd"
    write_image(out / f"subset{i % N_SUBSETS}" / name, _stored(scan, scan.volume.hu), grid, compress_level=level)
    if masks:
        write_image(out / "seg-lungs-LUNA16" / name, _stored(scan, scan.organs), grid, compress_level=level)
    return i, ScanTruth(plan, scan.nodules, scan.excluded, scan.contact)


def _stored(scan: PhantomScan, array: NDArray[Any]) -> NDArray[Any]:
    return scan.volume.in_source_order(array)


def _subsets(plans: Sequence[PhantomSettings]) -> list[str]:
    return [f"subset{k}" for k in range(N_SUBSETS)] if plans else []


def _check_target(out: Path, plans: Sequence[PhantomSettings]) -> None:
    uids = [plan.uid for plan in plans]
    if len(set(uids)) != len(uids):
        raise SettingsError("two scans have the same series identifier; give each its own seed or series_uid")
    if out.exists() and not out.is_dir():
        raise SettingsError(f"{out.name} is a file; choose a folder")
    listed = out / "CSVFILES" / "seriesuids.csv"
    if listed.exists() and set(listed.read_text().split()) != set(uids):
        raise SettingsError(
            f"{out.name} holds another data set (other series in CSVFILES/seriesuids.csv); choose an empty folder"
        )


def write_tables(out: Path, truths: Sequence[ScanTruth]) -> None:
    """Write the three LUNA16 tables, ``truth.csv`` and ``phantom_settings.json``.

    Parameters
    ----------
    out : Path
        Folder of the data set.
    truths : sequence of ScanTruth
        One per scan.
    """
    tables = out / "CSVFILES"
    header = ("seriesuid", *COORDINATES)
    nodules = [_row(n) for truth in truths for n in truth.nodules]
    excluded = [_row(n) for truth in truths for n in truth.excluded]
    _write_csv(tables / "annotations.csv", [header, *nodules])
    _write_csv(tables / "annotations_excluded.csv", [header, *excluded])
    rows: list[tuple[str, ...]] = [(*header, "kind", "contact", "counts")]
    for truth in truths:
        rows += [(*_row(n), n.kind, contact, "1") for n, contact in zip(truth.nodules, truth.contact, strict=True)]
        rows += [(*_row(n), n.kind, "", "0") for n in truth.excluded]
    _write_csv(out / "truth.csv", rows)
    made = {truth.settings.uid: to_json(truth.settings) for truth in truths}
    _write_text(out / "phantom_settings.json", json.dumps(made, indent=1) + "\n")
    _write_csv(tables / "seriesuids.csv", [(truth.settings.uid,) for truth in truths])


def _row(finding: ReferenceNodule) -> tuple[str, ...]:
    return (finding.series_uid, *(repr(float(v)) for v in (*finding.position_xyz_mm, finding.diameter_mm)))


def _write_csv(path: Path, rows: Iterable[Sequence[str]]) -> None:
    text = StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    _write_text(path, text.getvalue())


def _write_text(path: Path, text: str) -> None:
    """Write a file so that it is there complete or not at all."""
    part = path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")
    part.write_text(text, encoding="utf-8", newline="\n")
    os.replace(part, path)
