"""What the second look learns from: cubes around the first stage's own marks, on disk.

Positive cubes are marks inside nodules (and jittered nodule centres, so that a missed
nodule teaches too); negative ones are the first stage's errors. One pair of files per
scan and round, the labels last, so a stopped collection goes on; cubes are mapped into
memory when a patch needs one, and a pool crosses a process border as a path.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from napari_alnct.core.config import PrepareSettings
from napari_alnct.core.errors import JobCancelled, ModelError
from napari_alnct.core.inference import Runner
from napari_alnct.core.second_look import cut_cube
from napari_alnct.training.build_run import BuildRun
from napari_alnct.training.case_library import overview_of
from napari_alnct.training.cases import TrainingCase
from napari_alnct.training.crops import degrade
from napari_alnct.training.loop import Batch
from napari_alnct.training.marks import CaseMarks, find_marks, with_donors
from napari_alnct.training.materials import Materials
from napari_alnct.training.saving import saving
from napari_alnct.training.settings import BuildSettings

PAD_VOX = 4  # cubes are stored this much larger on each side, for shifts
JITTER_MM = 1.5
CUBES, LABELS = "_cubes.npy", "_labels.npy"


class PatchPool:
    """Cubes of the second look with labels of 0 and 1.

    Parameters
    ----------
    folder : Path
        Filled by `collect_pool`.

    Raises
    ------
    ModelError
        If there is no nodule or no error among them.
    """

    def __init__(self, folder: Path) -> None:
        self.parts = tuple(sorted(path.name.removesuffix(LABELS) for path in folder.glob(f"*{LABELS}")))
        self.folder = folder
        labels = [np.load(folder / f"{part}{LABELS}") for part in self.parts]
        self.labels: NDArray[np.int8] = np.concatenate([np.zeros(0, np.int8), *labels])
        self._ends = np.cumsum([len(part) for part in labels], dtype=np.intp)
        counts = np.bincount(self.labels, minlength=2)
        if not counts.all():
            raise ModelError(
                f"the marks on the training scans are {counts[1]} nodules and {counts[0]} errors, the second look "
                "needs both; train the first stage longer, or on more scans"
            )

    def cube(self, number: int) -> NDArray[np.int16]:
        """Give one cube with its margin, HU (e, e, e), mapped from disk.

        Parameters
        ----------
        number : int
            From 0, in the order of `labels`.

        Returns
        -------
        ndarray of int16
        """
        part = int(np.searchsorted(self._ends, number, side="right"))
        first = int(self._ends[part - 1]) if part else 0
        cubes: NDArray[np.int16] = np.load(self.folder / f"{self.parts[part]}{CUBES}", mmap_mode="r")
        return cubes[number - first]


class PoolPatches(Dataset[Batch]):
    """Balanced, augmented patches of a run by number: (hu, label) tensors.

    Parameters
    ----------
    pool : PatchPool
        Cubes.
    edge : int
        Of a patch, voxels.
    seed, first, count : int
        Patch numbers ``first`` to ``first + count - 1`` of the run with this seed.
    """

    def __init__(self, pool: PatchPool, edge: int, *, seed: int, first: int, count: int) -> None:
        self.pool, self.edge, self.seed, self.first, self.count = pool, edge, seed, first, count
        self.members = [np.flatnonzero(pool.labels == label) for label in (0, 1)]

    def __len__(self) -> int:
        """Give the number of patches left in the run."""
        return self.count

    def __getitem__(self, index: int) -> Batch:
        """Give patch ``first + index``: errors and nodules in turn, shifted, mirrored, degraded."""
        number = self.first + index
        rng = np.random.default_rng((self.seed, number, 5))
        label = number % 2
        stored = self.pool.cube(int(self.members[label][rng.integers(len(self.members[label]))]))
        z, y, x = rng.integers(0, 2 * PAD_VOX + 1, 3)
        hu = stored[z : z + self.edge, y : y + self.edge, x : x + self.edge].astype(np.float32)
        flips = tuple(axis for axis in range(3) if rng.random() < 0.5)
        hu = np.flip(hu, flips)
        if rng.random() < 0.5:
            hu = hu.swapaxes(1, 2)
        hu = np.ascontiguousarray(degrade(np.ascontiguousarray(hu), rng))
        return torch.from_numpy(hu.astype(np.float16)), torch.tensor(float(label))


def collect_pool(runner: Runner, materials: Materials, settings: BuildSettings, run: BuildRun) -> PatchPool:
    """Give the patches of the second look, from several rounds of new donors in every training case.

    Parameters
    ----------
    runner : Runner
        Of the first stage.
    materials : Materials
        Training cases and donors.
    settings : BuildSettings
        Rounds, donors and errors per scan, patch size.
    run : BuildRun
        Its folder gets ``pool``.

    Returns
    -------
    PatchPool

    Raises
    ------
    JobCancelled
        If the run says so; scans that are done are kept.
    ModelError
        If there is no nodule or no error among the marks.
    """
    folder = run.folder / "pool"
    with saving(folder):
        folder.mkdir(parents=True, exist_ok=True)
    for turn in range(settings.n_mining_rounds):
        left = [(number, path) for number, path in _parts(folder, materials, turn) if not path.is_file()]
        if left:
            run.log(f"second look, round {turn + 1}: searching {len(left)} training scans")
        for number, path in left:
            if run.is_cancelled and run.is_cancelled():
                raise JobCancelled(
                    f"stopped in the search for the second look, round {turn + 1}, before scan {number + 1}"
                )
            host = _host(materials, settings, number, 1000 * turn + number)
            marks = find_marks(runner, host, materials.prepare)
            _write_part(path, marks, settings, 1000 * turn + number, materials.prepare)
    pool = PatchPool(folder)
    n_nodules = int(pool.labels.sum())
    run.log(f"second look: {n_nodules} nodule patches, {len(pool.labels) - n_nodules} errors")
    return pool


def _parts(folder: Path, materials: Materials, turn: int) -> Iterator[tuple[int, Path]]:
    """Give number and labels file of the cases of a round; phantoms, which get no donors, are in the first alone."""
    for number, is_synthetic in enumerate(overview_of(materials.cases).is_synthetic):
        if turn == 0 or not is_synthetic:
            yield number, folder / f"{turn:02d}_{number:05d}{LABELS}"


def _host(materials: Materials, settings: BuildSettings, number: int, seed: int) -> TrainingCase:
    case = materials.cases[number]
    donors = () if case.is_synthetic else materials.donors
    return with_donors(case, donors, settings.pool_donors_per_scan, settings.crops.round_hu, seed)


def _write_part(path: Path, marks: CaseMarks, settings: BuildSettings, seed: int, prepare: PrepareSettings) -> None:
    """Write the cubes of one case, then their labels."""
    centres, labels = _choose(marks, settings.pool_errors_per_scan, np.random.default_rng(seed))
    edge = settings.classifier.patch_vox + 2 * PAD_VOX
    cubes = [cut_cube(marks.case.hu, centre, edge, prepare.low_hu) for centre in centres]
    stem = path.name.removesuffix(LABELS)
    temporary = path.with_name(f"new-{stem}.npy")
    with saving(path):
        np.save(path.with_name(f"{stem}{CUBES}"), np.array(cubes, np.int16).reshape(-1, edge, edge, edge))
        np.save(temporary, np.array(labels, np.int8))
        temporary.replace(path)


def _choose(marks: CaseMarks, most_errors: int, rng: np.random.Generator) -> tuple[list[NDArray[np.int_]], list[int]]:
    """Give patch centres and labels: marks on nodules, jittered nodule centres, the strongest errors."""
    labels, index = marks.labels, marks.index_zyx
    centres = marks.case.centres_zyx_vox
    jittered = np.rint(centres + rng.uniform(-JITTER_MM, JITTER_MM, centres.shape)).astype(int)
    errors = np.flatnonzero(labels == 0)[:most_errors]
    positives = [*index[labels == 1], *jittered]
    return [*positives, *index[errors]], [1] * len(positives) + [0] * len(errors)


def pool_facts(pool: PatchPool) -> dict[str, Any]:
    """Give what the model file says of a pool: how many cubes of each kind.

    Parameters
    ----------
    pool : PatchPool
        Any pool.

    Returns
    -------
    dict
    """
    counts = np.bincount(pool.labels, minlength=2)
    return {"pool_patches": {"nodules": int(counts[1]), "errors": int(counts[0])}}
