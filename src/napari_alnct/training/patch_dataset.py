"""Patches as training sees them: which ones in which order, changed, in batches.

A `BatchPlan` lists (epoch, row) for every step of a run, a `PatchDataset` gives the
patch for such a pair, `open_loader` joins them with processes of their own. Everything
is a function of the seed, so a run that goes on at step n sees what an uninterrupted
one would have seen, whatever the number of processes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from napari_alnct.core.errors import SettingsError
from napari_alnct.io.patch_store import PatchStore
from napari_alnct.training.augmentation import AugmentSettings, PatchFrame, check_elastic, draw_change
from napari_alnct.training.workers import settle_worker

Key = tuple[int, int]
_ORDER_STREAM = (0, 1)  # keeps the order of an epoch apart from the changes of its patches (`draw_change`)
PREFETCH = 4  # batches that each process prepares ahead


class PatchDataset(Dataset[tuple[Tensor, Tensor]]):
    """Patches by (epoch, row): HU and label.

    Parameters
    ----------
    store : PatchStore
        Patches on disk.
    augment : AugmentSettings or None
        How patches are changed; None: the plain patch in the middle of what is stored.
    seed : int
        Of the run.

    Raises
    ------
    SettingsError
        If the elastic deformation could fold patches of this size.

    Notes
    -----
    With ``augment.backend == "batched"`` an item is the whole stored cube, unchanged: the changes follow on the
    training device (`napari_alnct.training.batch_augmentation.device_batches`).
    """

    def __init__(self, store: PatchStore, augment: AugmentSettings | None, *, seed: int) -> None:
        self.store, self.seed = store, seed
        self.augment = None if augment is None or augment.is_identity else augment
        self.frame = PatchFrame.of(store)
        if self.augment:
            check_elastic(self.augment, self.frame)

    @property
    def is_raw(self) -> bool:
        """Tell whether items are stored cubes that have yet to be changed."""
        return self.augment is not None and self.augment.backend == "batched"

    def __len__(self) -> int:
        """Give the number of patches in the table."""
        return len(self.store)

    def __getitem__(self, key: Key) -> tuple[Tensor, Tensor]:
        """Give one patch in one epoch.

        Parameters
        ----------
        key : tuple of int
            Epoch and row of the table, from 0; with the seed they decide every voxel.

        Returns
        -------
        hu : Tensor of float16, shape (P, P, P), or (S, S, S) when `is_raw`
            HU within the window, z y x.
        label : Tensor of float32, shape ()
            1 = nodule, 0 = none.
        """
        epoch, row = key
        label = torch.tensor(float(self.store.labels[row]))
        if self.augment is None:
            return torch.from_numpy(self.store.cube(row).astype(np.float16)), label
        stored = self.store.hu[row]
        if self.is_raw:
            return torch.from_numpy(stored.astype(np.float16)), label
        from napari_alnct.training.torchio_augmentation import change_patch

        change = draw_change(self.augment, self.seed, epoch, row)
        return change_patch(stored, change, self.frame).half(), label


class BatchPlan(Sampler[list[Key]]):
    """Which patches every step of a run sees: lists of (epoch, row).

    Parameters
    ----------
    labels : array-like of int, shape (N,)
        1 = nodule, 0 = none (`PatchStore.labels`).
    epochs : int
        Passes over the patches.
    batch : int
        Patches per step over all processes together.
    neg_ratio : float or None
        Negatives per positive: an epoch holds all positives and this many times as many negatives, drawn anew
        for each epoch, none twice while there are enough. None: an epoch holds every patch once.
    seed : int
        With the epoch it decides draw and order.
    first_step : int
        Steps already done.
    rank, world : int
        This process gets places ``rank, rank + world, ...`` of each batch.

    Raises
    ------
    SettingsError
        If there is nothing to draw from, or the batch cannot be shared evenly.

    Notes
    -----
    Every batch is full: the last one of an epoch goes on with the first patches of that epoch.

    Examples
    --------
    >>> plan = BatchPlan([1, 0, 0, 0], epochs=2, batch=2, neg_ratio=1, seed=0)
    >>> plan.steps_per_epoch, plan.n_steps, len(list(plan))
    (1, 2, 2)
    """

    def __init__(
        self,
        labels: ArrayLike,
        *,
        epochs: int,
        batch: int,
        neg_ratio: float | None,
        seed: int,
        first_step: int = 0,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self.labels: NDArray[np.int_] = np.asarray(labels, dtype=int)
        self.epochs, self.batch, self.neg_ratio, self.seed = epochs, batch, neg_ratio, seed
        self.first_step, self.rank, self.world = first_step, rank, world
        self._positives, self._negatives = np.flatnonzero(self.labels == 1), np.flatnonzero(self.labels == 0)
        self._check()

    def _check(self) -> None:
        if not len(self.labels):
            raise SettingsError("the table of patches is empty; sample again with other scans or folds")
        if self.neg_ratio is not None and not (len(self._positives) and len(self._negatives) and self.neg_ratio > 0):
            raise SettingsError(
                f"neg_ratio is {self.neg_ratio} with {len(self._positives)} positive and {len(self._negatives)} "
                "negative patches; a ratio above 0 and patches of both kinds are needed"
            )
        if self.batch < 1 or self.batch % self.world:
            raise SettingsError(
                f"batch is {self.batch} for {self.world} processes; choose a multiple of {self.world}, at least that"
            )

    @property
    def patches_per_epoch(self) -> int:
        """Give the number of patches of an epoch, without what fills its last batch."""
        if self.neg_ratio is None:
            return len(self.labels)
        return len(self._positives) + self._negatives_per_epoch

    @property
    def _negatives_per_epoch(self) -> int:
        assert self.neg_ratio is not None
        return max(1, round(self.neg_ratio * len(self._positives)))

    @property
    def steps_per_epoch(self) -> int:
        """Give the number of batches of an epoch."""
        return math.ceil(self.patches_per_epoch / self.batch)

    @property
    def n_steps(self) -> int:
        """Give the number of steps of the whole run, those already done included."""
        return self.epochs * self.steps_per_epoch

    def epoch_rows(self, epoch: int) -> NDArray[np.int_]:
        """Give the rows of one epoch in order, as many as its batches hold.

        Parameters
        ----------
        epoch : int
            From 0.

        Returns
        -------
        ndarray of int, shape (steps_per_epoch * batch,)
        """
        rng = np.random.default_rng((self.seed, epoch, *_ORDER_STREAM))
        rows = np.arange(len(self.labels)) if self.neg_ratio is None else self._balanced(rng)
        return np.resize(rng.permutation(rows), self.steps_per_epoch * self.batch)

    def _balanced(self, rng: np.random.Generator) -> NDArray[np.int_]:
        wanted, there = self._negatives_per_epoch, self._negatives
        whole, rest = divmod(wanted, len(there))
        drawn = rng.choice(there, rest, replace=False)
        return np.concatenate([self._positives, np.tile(there, whole), drawn])

    def __len__(self) -> int:
        """Give the number of steps that are left."""
        return max(0, self.n_steps - self.first_step)

    def __iter__(self) -> Iterator[list[Key]]:
        """Give the (epoch, row) pairs of each step that is left, for this process."""
        for epoch in range(self.first_step // self.steps_per_epoch, self.epochs):
            batches = self.epoch_rows(epoch).reshape(self.steps_per_epoch, self.batch)
            done = max(0, self.first_step - epoch * self.steps_per_epoch)
            for rows in batches[done:]:
                yield [(epoch, int(row)) for row in rows[self.rank :: self.world]]


def open_loader(
    dataset: PatchDataset, plan: Sampler[list[Key]] | Sequence[list[Key]], *, workers: int, device: str | torch.device
) -> DataLoader[tuple[Tensor, Tensor]]:
    """Give the batches of a plan, prepared by processes of their own.

    Parameters
    ----------
    dataset : PatchDataset
        Patches.
    plan : BatchPlan or sequence of lists of (epoch, row)
        Which ones, for all steps: the processes start once.
    workers : int
        Processes; 0: the calling one.
    device : str or torch.device
        Where the batches will go: memory is pinned for CUDA.

    Returns
    -------
    DataLoader
        Of (hu, label) batches in the order of the plan; `dataset` and `batch_sampler` are those given.
    """
    return DataLoader(
        dataset,
        batch_sampler=plan,
        num_workers=workers,
        prefetch_factor=PREFETCH if workers else None,
        persistent_workers=workers > 0,
        pin_memory=torch.device(device).type == "cuda",
        worker_init_fn=settle_worker if workers else None,
    )
