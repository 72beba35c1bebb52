"""Scans with nodule masks to judge explanations on: unseen phantoms, or scans with mask files.

A *decoy* is a place that is known to be no nodule; those that the network takes for one are false positives.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_alnct.batch.input_identity import input_fingerprint
from napari_alnct.core.config import PrepareSettings
from napari_alnct.core.errors import SettingsError, TableError
from napari_alnct.core.geometry import Geometry, Triple
from napari_alnct.core.preprocess import prepare
from napari_alnct.core.resampling import axis_indices
from napari_alnct.data.phantom import PhantomSettings, make_phantom
from napari_alnct.io.images import ReadOptions, read_mask, read_volume

PHANTOM_SEED = 910_000  # no recipe trains on phantoms from here on, no other benchmark uses them
PHANTOM_SHAPE = (150, 230, 230)  # 1 mm: a small chest with nodules and vessels of real size
PHANTOM_NODULES, PHANTOM_DECOYS = 12, 10
PHANTOM_DIAMETERS_MM = (3.0, 20.0)
LEAST_VOXELS = 8  # of a nodule in a mask


@dataclass(frozen=True, kw_only=True)
class EvalNodule:
    """A nodule with a mask: its number in the labels, centre (LPS mm), diameter and type."""

    number: int
    position_xyz_mm: Triple
    diameter_mm: float
    kind: str


@dataclass(frozen=True, eq=False, kw_only=True)
class EvalScan:
    """A prepared scan with its nodules.

    Parameters
    ----------
    name : str
        What intervals are drawn over.
    hu : ndarray of int16, shape (z, y, x)
        As the network sees it.
    geometry : Geometry
        LPS grid.
    labels : ndarray of int16, same shape
        i inside nodule number i, 0 elsewhere.
    nodules : tuple of EvalNodule
        In the order in which they are used.
    decoys_xyz_mm : tuple of tuple
        Places that are no nodules, LPS mm.
    """

    name: str
    hu: NDArray[np.int16]
    geometry: Geometry
    labels: NDArray[np.int16]
    nodules: tuple[EvalNodule, ...]
    decoys_xyz_mm: tuple[Triple, ...] = ()


class ScanSource(Protocol):
    """Where scans with masks come from."""

    @property
    def names(self) -> tuple[str, ...]:
        """Give the names of the scans."""

    @property
    def description(self) -> str:
        """Give one sentence on what is judged."""

    @property
    def identity(self) -> dict[str, Any]:
        """Give what the scans depend on, as JSON values."""

    def load(self, name: str) -> EvalScan:
        """Give one scan."""


@dataclass(frozen=True, kw_only=True)
class PhantomSource:
    """Synthetic chests that no model was trained on.

    Parameters
    ----------
    n_scans, seed : int
        Scan k has seed ``seed + k``.
    prepare : PrepareSettings
        Of the model.
    """

    n_scans: int
    seed: int = PHANTOM_SEED
    prepare: PrepareSettings

    @property
    def names(self) -> tuple[str, ...]:
        """Give the names of the scans."""
        return tuple(f"phantom {self.seed + k}" for k in range(self.n_scans))

    @property
    def description(self) -> str:
        """Give one sentence on what is judged."""
        return f"{self.n_scans} synthetic chests (seeds from {self.seed}), none of them trained on; masks are exact."

    @property
    def identity(self) -> dict[str, Any]:
        """Give what the scans depend on."""
        return {"source": "phantoms", "seed": self.seed}

    def load(self, name: str) -> EvalScan:
        """Give one phantom, prepared; its nodules in random order, its excluded findings as decoys."""
        seed = int(name.split()[-1])
        made = make_phantom(
            PhantomSettings(
                shape_zyx=PHANTOM_SHAPE,
                spacing_zyx_mm=(1.0, 1.0, 1.0),
                n_nodules=PHANTOM_NODULES,
                diameter_range_mm=PHANTOM_DIAMETERS_MM,
                n_excluded=PHANTOM_DECOYS,
                seed=seed,
            )
        )
        scan = prepare(made.volume, self.prepare)
        labels = on_grid(made.nodule_labels, made.volume.geometry, scan.geometry)
        order = np.random.default_rng(seed).permutation(len(made.nodules))
        found = [
            EvalNodule(
                number=int(k) + 1,
                position_xyz_mm=made.nodules[k].position_xyz_mm,
                diameter_mm=made.nodules[k].diameter_mm,
                kind=made.nodules[k].kind,
            )
            for k in order
            if (labels == k + 1).sum() >= LEAST_VOXELS
        ]
        decoys = tuple(finding.position_xyz_mm for finding in made.excluded)
        return EvalScan(
            name=name,
            hu=scan.hu,
            geometry=scan.geometry,
            labels=labels,
            nodules=tuple(found),
            decoys_xyz_mm=decoys,
        )


@dataclass(frozen=True, kw_only=True)
class MaskSource:
    """Scans with a mask file each; the connected pieces of a mask are the nodules.

    Parameters
    ----------
    pairs : tuple of (Path, Path)
        Scan and mask.
    prepare : PrepareSettings
        Of the model.
    reading : ReadOptions
        What may be read.
    """

    pairs: tuple[tuple[Path, Path], ...]
    prepare: PrepareSettings
    reading: ReadOptions

    @classmethod
    def of(
        cls, scans: Sequence[Path], masks: Sequence[Path], prepare: PrepareSettings, reading: ReadOptions
    ) -> MaskSource:
        """Give the source of scans and masks in the same order.

        Raises
        ------
        SettingsError
            If their numbers differ, or two scans have one name.
        """
        if len(scans) != len(masks):
            raise SettingsError(f"{len(scans)} scans and {len(masks)} masks; name one mask per scan, in the same order")
        if len({path.name for path in scans}) < len(scans):
            raise SettingsError("two scans have the same file name; rename one of them")
        return cls(pairs=tuple(zip(scans, masks, strict=True)), prepare=prepare, reading=reading)

    @property
    def names(self) -> tuple[str, ...]:
        """Give the names of the scans."""
        return tuple(scan.name for scan, _ in self.pairs)

    @property
    def description(self) -> str:
        """Give one sentence on what is judged."""
        count = f"{len(self.pairs)} {'scan' if len(self.pairs) == 1 else 'scans'}"
        return f"{count} with mask files; whether the model was trained on them is not checked."

    @property
    def identity(self) -> dict[str, Any]:
        """Give what the scans depend on."""
        return {"source": "mask files", "files": [input_fingerprint(list(pair)) for pair in self.pairs]}

    def load(self, name: str) -> EvalScan:
        """Give one scan, prepared.

        Raises
        ------
        TableError
            If the mask is empty inside the prepared scan.
        """
        path, mask_path = next(pair for pair in self.pairs if pair[0].name == name)
        scan = prepare(read_volume(path, self.reading), self.prepare)
        mask, mask_geometry = read_mask(mask_path, self.reading)
        labels, n = ndimage.label(on_grid((mask > 0).astype(np.uint8), mask_geometry, scan.geometry))
        nodules = nodules_of(labels.astype(np.int16), scan.geometry, dict.fromkeys(range(1, n + 1), ""))
        if not nodules:
            raise TableError(f"{mask_path.name}: no voxel of the mask lies in the scan; name the mask of {name}")
        return EvalScan(
            name=name, hu=scan.hu, geometry=scan.geometry, labels=labels.astype(np.int16), nodules=tuple(nodules)
        )


def nodules_of(labels: NDArray[np.int16], geometry: Geometry, kinds: dict[int, str]) -> list[EvalNodule]:
    """Give the labelled nodules of at least 8 voxels: centroid and diameter of the sphere of the same volume.

    Parameters
    ----------
    labels : ndarray of int16, shape (z, y, x)
        i inside nodule i.
    geometry : Geometry
        Its LPS grid.
    kinds : dict of int to str
        Type of each; those without an entry are left out.

    Returns
    -------
    list of EvalNodule
    """
    voxel_mm3, found = float(np.prod(geometry.spacing_zyx_mm)), []
    for number, kind in kinds.items():
        voxels = np.argwhere(labels == number)
        if len(voxels) >= LEAST_VOXELS:
            x, y, z = geometry.index_to_world(voxels.mean(axis=0))
            diameter = float((6 / np.pi * len(voxels) * voxel_mm3) ** (1 / 3))
            found.append(
                EvalNodule(
                    number=number,
                    position_xyz_mm=(float(x), float(y), float(z)),
                    diameter_mm=diameter,
                    kind=kind or "unknown type",
                )
            )
    return found


def on_grid(labels: NDArray[np.uint8], source: Geometry, target: Geometry) -> NDArray[np.int16]:
    """Give labels on another LPS grid, that of the nearest voxel; 0 outside.

    Parameters
    ----------
    labels : ndarray of uint8, shape (z, y, x)
        Labels.
    source, target : Geometry
        LPS grids.

    Returns
    -------
    ndarray of int16, shape of the target
    """
    near = [np.rint(index).astype(int) for index in axis_indices(source, target)]
    inside = [(index >= 0) & (index < n) for index, n in zip(near, source.shape_zyx, strict=True)]
    out = np.zeros(target.shape_zyx, np.int16)
    rows = [index[kept] for index, kept in zip(near, inside, strict=True)]
    out[np.ix_(*inside)] = labels[np.ix_(*rows)]
    return out
