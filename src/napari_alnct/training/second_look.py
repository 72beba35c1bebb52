"""Training the patch classifier on the first stage's own marks.

Positive patches are marks inside nodules (and jittered nodule centres, so that
a missed nodule teaches too); negative ones are the first stage's errors.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.utils.data import Dataset

from napari_alnct.core.detector import cut_cube
from napari_alnct.core.inference import Runner
from napari_alnct.core.network import ClassifierNetwork, DetectorNetwork
from napari_alnct.training.crops import degrade
from napari_alnct.training.loop import Batch, Trainer, fit, make_loader
from napari_alnct.training.losses import classifier_loss
from napari_alnct.training.marks import CaseMarks, find_marks, with_donors
from napari_alnct.training.materials import Log, Materials, build_prepare_settings
from napari_alnct.training.settings import BuildSettings

PAD_VOX = 4  # patches are stored this much larger on each side, for shifts
JITTER_MM = 1.5
N_DONORS = 24  # put into each real scan per round
MOST_ERRORS = 60  # kept per scan and round, strongest first


@dataclass(frozen=True, eq=False)
class PatchPool:
    """Patches of the second look: int16 HU (N, e, e, e), labels (N,) of 0 and 1."""

    hu: NDArray[np.int16]
    labels: NDArray[np.int8]


class PoolPatches(Dataset[Batch]):
    """Balanced, augmented patches of a run by number: (hu, label) tensors."""

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
        stored = self.pool.hu[self.members[label][rng.integers(len(self.members[label]))]]
        z, y, x = rng.integers(0, 2 * PAD_VOX + 1, 3)
        hu = stored[z : z + self.edge, y : y + self.edge, x : x + self.edge].astype(np.float32)
        flips = tuple(axis for axis in range(3) if rng.random() < 0.5)
        hu = np.flip(hu, flips)
        if rng.random() < 0.5:
            hu = hu.swapaxes(1, 2)
        hu = np.ascontiguousarray(degrade(np.ascontiguousarray(hu), rng))
        return torch.from_numpy(hu.astype(np.float16)), torch.tensor(float(label))


def collect_pool(runner: Runner, materials: Materials, settings: BuildSettings, log: Log) -> PatchPool:
    """Give the patches of the second look, from several rounds of new donors in every training case.

    Parameters
    ----------
    runner : Runner
        Of the first stage.
    materials : Materials
        Training cases and donors.
    settings : BuildSettings
        Rounds, window, patch size.
    log : callable
        Told the counts.

    Returns
    -------
    PatchPool
    """
    prepare = build_prepare_settings(settings)
    cubes: list[NDArray[np.int16]] = []
    labels: list[int] = []
    for turn in range(settings.n_mining_rounds):
        for number, case in enumerate(materials.cases):
            if case.is_synthetic and turn > 0:
                continue
            donors = () if case.is_synthetic else materials.donors
            seed = 1000 * turn + number
            host = with_donors(case, donors, N_DONORS, settings.crops.round_hu, seed)
            marks = find_marks(runner, host, prepare)
            chosen, chosen_labels = _choose(marks, np.random.default_rng(seed))
            edge = settings.classifier.patch_vox + 2 * PAD_VOX
            cubes += [cut_cube(host.hu, centre, edge, prepare.low_hu) for centre in chosen]
            labels += chosen_labels
        log(f"marks, round {turn + 1}: {sum(labels)} nodule patches, {len(labels) - sum(labels)} errors")
    return PatchPool(np.stack(cubes), np.array(labels, np.int8))


def _choose(marks: CaseMarks, rng: np.random.Generator) -> tuple[list[NDArray[np.int_]], list[int]]:
    """Give patch centres and labels: marks on nodules, jittered nodule centres, the strongest errors."""
    labels, index = marks.labels, marks.index_zyx
    centres = marks.case.centres_zyx_vox
    jittered = np.rint(centres + rng.uniform(-JITTER_MM, JITTER_MM, centres.shape)).astype(int)
    errors = np.flatnonzero(labels == 0)[:MOST_ERRORS]
    positives = [*index[labels == 1], *jittered]
    return [*positives, *index[errors]], [1] * len(positives) + [0] * len(errors)


def start_from_detector(classifier: ClassifierNetwork, detector: DetectorNetwork) -> bool:
    """Give the classifier the first stages of the detector's encoder to start from.

    Parameters
    ----------
    classifier : ClassifierNetwork
        Changed in place.
    detector : DetectorNetwork
        Trained first stage.

    Returns
    -------
    bool
        False, and nothing changed, when their stages differ in shape.
    """
    ours, theirs = classifier.encoder.state_dict(), detector.encoder.state_dict()
    if any(name not in theirs or theirs[name].shape != value.shape for name, value in ours.items()):
        return False
    classifier.encoder.load_state_dict({name: theirs[name] for name in ours})
    nn.init.zeros_(classifier.head.weight)
    return True


def train_second_look(
    pool: PatchPool,
    detector: DetectorNetwork,
    settings: BuildSettings,
    folder: Path,
    log: Log,
    device: str = "cpu",
) -> ClassifierNetwork:
    """Give the trained classifier, continuing where an earlier run stopped.

    Parameters
    ----------
    pool : PatchPool
        Training patches.
    detector : DetectorNetwork
        First stage; its encoder is the start where the shapes agree.
    settings : BuildSettings
        The recipe.
    folder : Path
        Gets ``log.csv`` and ``resume.pt``.
    log : callable
        Gets a line of progress now and then.
    device : str
        Where to train.

    Returns
    -------
    ClassifierNetwork
        Averaged weights, evaluation mode, CPU.
    """
    schedule = settings.second_look
    torch.manual_seed(schedule.seed)
    loss = classifier_loss(settings.crops.low_hu, settings.crops.high_hu)
    fresh = ClassifierNetwork(settings.classifier)
    if start_from_detector(fresh, detector):
        log("second look: starts from the encoder of the first stage")
    trainer = Trainer(fresh, schedule, loss, folder, device)
    if trainer.resume():
        log(f"second look: resumed at step {trainer.step} of {schedule.n_steps}")
    first = trainer.step * schedule.batch
    patches = PoolPatches(
        pool,
        settings.classifier.patch_vox,
        seed=schedule.seed,
        first=first,
        count=schedule.n_steps * schedule.batch - first,
    )
    if trainer.step < schedule.n_steps:
        fit(
            trainer,
            make_loader(patches, schedule),
            on_log=lambda step, means: log(f"second look {step}/{schedule.n_steps}: loss {means['total']:.3g}"),
        )
    network = trainer.averaged(ClassifierNetwork(settings.classifier))
    assert isinstance(network, ClassifierNetwork)
    return network
