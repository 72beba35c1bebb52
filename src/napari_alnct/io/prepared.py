"""A prepared data set, opened: what ``preprocess`` has left in its output folder.

The folder holds ``volumes/<series>.mha`` (int16 HU), ``lungs/<series>.mha`` (1 = lung, same
grid), ``labels_vox.csv`` (annotations in voxels and world mm) and ``manifest.json`` (grid,
fold and file of each scan). Voxels are (z, y, x), world positions (x, y, z) LPS mm.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_alnct.core.config import PrepareSettings
from napari_alnct.core.errors import TableError
from napari_alnct.core.geometry import Geometry
from napari_alnct.io.metaimage import MetaImage, read_metaimage
from napari_alnct.io.prepared_tables import (
    LABELS,
    MANIFEST,
    Findings,
    PreparedEntry,
    PreparedFinding,
    read_labels,
    read_manifest,
)

__all__ = ["PreparedDataset", "PreparedEntry", "PreparedFinding"]

VOLUMES = "volumes"
GRID_TOLERANCE_MM = 1e-3  # by which manifest and file may differ


@dataclass(frozen=True, eq=False)
class PreparedDataset:
    """Prepared scans with what is annotated in them.

    Parameters
    ----------
    labels_path : Path
        ``labels_vox.csv``.
    scans : tuple of PreparedEntry
        In order of series, each once.
    prepare : PrepareSettings
        How they were prepared: spacing, HU window, margin.
    nodules, excluded : dict of str to tuple of PreparedFinding
        By series; a series without any is not among the keys.
    """

    labels_path: Path
    scans: tuple[PreparedEntry, ...]
    prepare: PrepareSettings
    nodules: Findings
    excluded: Findings

    @classmethod
    def open(cls, path: Path, volumes: Path | None = None) -> PreparedDataset:
        """Give the data set of a folder.

        Parameters
        ----------
        path : Path
            Output folder of ``preprocess``, or ``labels_vox.csv`` in it.
        volumes : Path, optional
            Folder of the volumes, where it is not ``volumes`` beside the labels; ``lungs`` lies beside it.

        Returns
        -------
        PreparedDataset
            All scans that are ready.

        Raises
        ------
        TableError
            If labels or manifest are missing, damaged, of an unfinished run or do not fit each other.
        """
        labels = path / LABELS if path.is_dir() else path
        if not labels.is_file():
            raise TableError(f"{path.name or path} holds no {LABELS}; run preprocess, then name its output folder")
        folder = volumes if volumes is not None else labels.parent / VOLUMES
        if volumes is not None and not volumes.is_dir():
            raise TableError(f"{volumes.name} is no folder of volumes; name the one that preprocess wrote")
        manifest = next((p for p in (labels.parent / MANIFEST, folder.parent / MANIFEST) if p.is_file()), None)
        if manifest is None:
            raise TableError(f"there is no {MANIFEST} beside {labels.name}; it belongs there, run preprocess again")
        scans, prepare = read_manifest(manifest, folder)
        geometries = {scan.series_uid: scan.geometry for scan in scans}
        nodules, excluded = read_labels(labels, geometries)
        return cls(labels, tuple(sorted(scans, key=lambda scan: scan.series_uid)), prepare, nodules, excluded)

    @property
    def series(self) -> tuple[str, ...]:
        """Give the series of the scans, in order."""
        return tuple(scan.series_uid for scan in self.scans)

    @property
    def folds(self) -> tuple[int, ...]:
        """Give the folds that the scans lie in, rising."""
        return tuple(sorted({scan.subset for scan in self.scans if scan.subset is not None}))

    def nodules_of(self, series_uid: str) -> tuple[PreparedFinding, ...]:
        """Give the nodules of one scan, also those outside its box."""
        return self.nodules.get(series_uid, ())

    def excluded_of(self, series_uid: str) -> tuple[PreparedFinding, ...]:
        """Give the excluded findings of one scan."""
        return self.excluded.get(series_uid, ())

    def select(self, *, folds: Collection[int] = (), series: Collection[str] = ()) -> PreparedDataset:
        """Give the part of the data set in these folds and among these series.

        Parameters
        ----------
        folds : collection of int, optional
            None means all.
        series : collection of str, optional
            None means all; each must be prepared.

        Returns
        -------
        PreparedDataset

        Raises
        ------
        TableError
            If a fold or a series is not there, or nothing is left.
        """
        self._refuse_unknown(folds, series)
        kept = tuple(
            scan
            for scan in self.scans
            if (not folds or scan.subset in folds) and (not series or scan.series_uid in series)
        )
        if not kept:
            raise TableError(f"none of the {len(series)} series lies in the folds asked for; check both")
        return replace(self, scans=kept)

    def require_files(self) -> None:
        """Refuse scans whose files are not there.

        Raises
        ------
        TableError
            Names the first of them.
        """
        paths = [path for scan in self.scans for path in (scan.volume_path, scan.lungs_path)]
        missing = [path for path in paths if not path.is_file()]
        if missing:
            first = f"{missing[0].parent.name}/{missing[0].name}"
            raise TableError(
                f"{len(missing)} of {len(paths)} prepared files are missing, the first is {first}; run preprocess "
                "again or name the folder that holds them"
            )

    def read(self, scan: PreparedEntry) -> tuple[NDArray[np.int16], NDArray[np.bool_], Geometry]:
        """Give the voxels of one scan.

        Parameters
        ----------
        scan : PreparedEntry
            One of `scans`.

        Returns
        -------
        hu : ndarray of int16, shape (z, y, x)
            Hounsfield units within the window.
        lungs : ndarray of bool, same shape
            True in the lungs.
        geometry : Geometry
            Grid of both.

        Raises
        ------
        ReadError
            If a file is missing or damaged.
        TableError
            If a file is not on the grid that the manifest describes.
        """
        volume, lungs = (_read_file(path, scan.geometry) for path in (scan.volume_path, scan.lungs_path))
        return volume.array.astype(np.int16, copy=False), lungs.array > 0, scan.geometry

    def _refuse_unknown(self, folds: Collection[int], series: Collection[str]) -> None:
        absent = sorted(set(folds) - set(self.folds))
        if absent:
            known = ", ".join(map(str, self.folds)) or "none"
            raise TableError(
                f"no prepared scan lies in fold {', '.join(map(str, absent))}; the folds of {self.labels_path.name} "
                f"are {known}"
            )
        strange = sorted(set(series) - set(self.series))
        if strange:
            raise TableError(
                f"{len(strange)} of {len(set(series))} series are not prepared, the first is {strange[0]}; run "
                "preprocess on them or take them off the list"
            )


def _read_file(path: Path, geometry: Geometry) -> MetaImage:
    image = read_metaimage(path)
    corners = np.array([(0, 0, 0), geometry.shape_zyx])
    is_same = image.geometry.shape_zyx == geometry.shape_zyx and np.allclose(
        image.geometry.index_to_world(corners), geometry.index_to_world(corners), rtol=0, atol=GRID_TOLERANCE_MM
    )
    if not is_same:
        raise TableError(f"{path.parent.name}/{path.name} is not on the grid in {MANIFEST}; run preprocess again")
    return image
