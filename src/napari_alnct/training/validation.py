"""Validation of a classifier in training: its scores on patches of scans that it never sees."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from napari_alnct.core.errors import ModelError
from napari_alnct.core.inference import Runner, is_out_of_memory
from napari_alnct.core.network import ClassifierNetwork, scale_hu
from napari_alnct.evaluation.curves import auc, threshold_curve
from napari_alnct.io.patch_store import PatchStore
from napari_alnct.training.distributed import ALONE, Processes


@dataclass(frozen=True)
class Validation:
    """How good a network is on the validation patches: AUC, mean cross entropy, and the threshold it suggests.

    ``threshold`` is a probability: the largest Youden index, half way (in logits) to the next lower score.
    """

    auc: float
    loss: float
    threshold: float


def score_plain_patches(
    network: ClassifierNetwork,
    store: PatchStore,
    device: torch.device,
    dtype: torch.dtype,
    *,
    batch: int,
    processes: Processes = ALONE,
) -> NDArray[np.float64]:
    """Give the logits of all patches, unshifted and unchanged; several processes share the work.

    Parameters
    ----------
    network : ClassifierNetwork
        Not changed.
    store : PatchStore
        Patches.
    device : torch.device
        Where to run.
    dtype : torch.dtype
        Of the feature maps.
    batch : int
        Patches at once.
    processes : Processes
        Each scores every n-th patch; all get all scores.

    Returns
    -------
    ndarray of float64, shape (N,)

    Raises
    ------
    ModelError
        If memory is short.
    """
    runner, window = Runner(network, device, dtype), store.prepare
    rows = range(processes.rank, len(store), processes.world)
    found: list[NDArray[np.float64]] = []
    for first in range(0, len(rows), batch):
        hu = torch.from_numpy(np.stack([store.cube(row) for row in rows[first : first + batch]]))
        try:
            logits = runner.run(scale_hu(hu.to(device), window.low_hu, window.high_hu).unsqueeze(1))
        except Exception as fault:
            if not is_out_of_memory(fault):
                raise
            raise ModelError(
                f"memory is short on {device.type} with {batch} validation patches at once; use a smaller batch"
            ) from fault
        found.append(logits.double().numpy())
    parts = processes.gather(np.concatenate(found) if found else np.zeros(0))
    scores = np.zeros(len(store))
    for rank, part in enumerate(parts):
        scores[rank :: processes.world] = part
    return scores


def judge_scores(labels: NDArray[np.int8], logits: NDArray[np.float64]) -> Validation:
    """Give the figures of scored validation patches.

    Parameters
    ----------
    labels : ndarray of int, shape (N,)
        0 or 1, both there.
    logits : ndarray of float64, shape (N,)
        Scores.

    Returns
    -------
    Validation

    Raises
    ------
    ModelError
        If a score is not finite.

    Examples
    --------
    >>> found = judge_scores(np.array([0, 0, 1, 1], np.int8), np.array([-3.0, -1.0, 1.0, 2.0]))
    >>> found.auc, found.threshold
    (1.0, 0.5)
    """
    if not np.isfinite(logits).all():
        raise ModelError(
            f"{int((~np.isfinite(logits)).sum())} of {len(logits)} validation scores are not finite; "
            "begin anew with a lower learning rate or precision float32"
        )
    loss = functional.binary_cross_entropy_with_logits(torch.from_numpy(logits), torch.from_numpy(labels).double())
    return Validation(auc(labels, logits), float(loss), _youden_threshold(labels, logits))


def _youden_threshold(labels: NDArray[np.int8], logits: NDArray[np.float64]) -> float:
    curve = threshold_curve(labels, logits)
    index = curve.hits * curve.n_negative - curve.errors * curve.n_positive  # Youden's J, in integers
    best = 1 + int(np.argmax(index[1:]))
    level = float(np.mean(curve.thresholds[best : best + 2]))
    return 1.0 / (1.0 + math.exp(-max(-700.0, min(700.0, level))))
