"""Training the dense detector: patches, rounds of mining, validation, the best state.

The training has one part or two: where the recipe has a *finish*, a second cycle of the
learning rate follows on patches that hold more of what is missed most. Each part is a row
of *segments*. Before a segment that follows a round of mining, the
detector as it then is (averaged weights) searches the training scans, and the segment's
patches are drawn with its false marks. Every so many steps the same detector is judged
on the validation scans; the best state is what the second look is built on. Each of
these events is finished, or begun anew from the resume point in front of it, so a run
that is killed anywhere ends with the same weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from torch.utils.data import Dataset

from napari_alnct import __version__
from napari_alnct.core.checkpoint import Recipe, read_checkpoint, write_checkpoint
from napari_alnct.core.network import DetectorNetwork
from napari_alnct.training.build_run import BuildRun, curves_of
from napari_alnct.training.crops import NO_MARKS, CropSettings, MinedMarks, draw_patch
from napari_alnct.training.detector_validation import DetectorValidation, validate_detector
from napari_alnct.training.loop import Batch, Trainer, make_loader
from napari_alnct.training.losses import detector_loss
from napari_alnct.training.materials import Materials
from napari_alnct.training.mining import MARKS, mine, read_mined
from napari_alnct.training.settings import BuildSettings
from napari_alnct.training.training_log import CsvLog, TensorBoardLog

TITLE, FINISH_TITLE = "first stage", "first stage, finish"
FINISH_WARMUP = 0.05
BEST, VALIDATIONS = "best_first_stage.safetensors", "validation.csv"
JUDGED_STEP, BEST_STEP, BEST_CPM, N_WITHOUT = "judged_step", "best_step", "best_cpm", "n_without_gain"


class DetectorPatches(Dataset[Batch]):
    """Patches of a run by number: (hu, state, regression) tensors; cheap to hand to another process.

    Parameters
    ----------
    materials : Materials
        Hosts and donors.
    settings : CropSettings
        How patches are drawn.
    mined : MinedMarks
        False marks to draw around.
    seed, first, count : int
        Patch numbers ``first`` to ``first + count - 1`` of the run with this seed.
    """

    def __init__(
        self, materials: Materials, settings: CropSettings, mined: MinedMarks, *, seed: int, first: int, count: int
    ) -> None:
        self.draw = partial(draw_patch, materials.cases, materials.donors, settings, seed, mined=mined)
        self.first, self.count = first, count

    def __len__(self) -> int:
        """Give the number of patches in this part of the run."""
        return self.count

    def __getitem__(self, index: int) -> Batch:
        """Give patch ``first + index``."""
        patch = self.draw(self.first + index)
        hu = torch.from_numpy(patch.hu.astype(np.float16))
        return hu, torch.from_numpy(patch.targets.state), torch.from_numpy(patch.targets.regression)


def train_first_stage(materials: Materials, settings: BuildSettings, run: BuildRun) -> DetectorNetwork:
    """Give the trained dense detector, continuing where an earlier run stopped.

    Parameters
    ----------
    materials : Materials
        Cases and donors.
    settings : BuildSettings
        The recipe.
    run : BuildRun
        Its folder gets ``first_stage``: logs, resume points, false marks, validations and the best state.

    Returns
    -------
    DetectorNetwork
        Averaged weights, evaluation mode, CPU: of the best validation, or of the end where there was none.

    Raises
    ------
    JobCancelled
        If the run says so; a resume point is saved first.
    ModelError
        If a loss is not finite, or a file of an earlier part of the run is gone.
    """
    stage = FirstStage(materials, settings, run)
    stage.train()
    return stage.best()


def finish_first_stage(
    start: DetectorNetwork, materials: Materials, settings: BuildSettings, run: BuildRun
) -> DetectorNetwork:
    """Give the detector after its finish, continuing where an earlier run stopped.

    Parameters
    ----------
    start : DetectorNetwork
        What `train_first_stage` gave; not changed.
    materials : Materials
        Cases and donors.
    settings : BuildSettings
        The recipe.
    run : BuildRun
        Its folder gets ``finish``, as ``first_stage``.

    Returns
    -------
    DetectorNetwork
        As from `train_first_stage`; where the recipe has no finish, `start` itself.

    Raises
    ------
    JobCancelled, ModelError
        As `train_first_stage`.
    """
    if not settings.finish.n_patches:
        return start
    stage = FirstStage(materials, finish_settings(settings), run, start=start)
    stage.train()
    return stage.best()


def finish_settings(settings: BuildSettings) -> BuildSettings:
    """Give the recipe of the finish as if it were a whole first stage.

    Parameters
    ----------
    settings : BuildSettings
        The recipe, with a finish.

    Returns
    -------
    BuildSettings
        Its seed is the next one, so that no patch is drawn twice.
    """
    part, schedule = settings.finish, settings.first_stage
    return replace(
        settings,
        mining_at=part.mining_at,
        crops=replace(
            settings.crops,
            most_insertions=part.most_insertions,
            faint_share=part.faint_share,
            vessel_share=part.vessel_share,
            imitation_share=part.imitation_share,
        ),
        first_stage=replace(
            schedule,
            n_patches=part.n_patches,
            learning_rate=part.learning_rate,
            warmup=FINISH_WARMUP,
            seed=schedule.seed + 1,
        ),
    )


class FirstStage:
    """The first stage at work, or its finish.

    Parameters
    ----------
    materials : Materials
        Cases and donors.
    settings : BuildSettings
        The recipe.
    run : BuildRun
        Where to write and whom to tell.
    start : DetectorNetwork, optional
        What the finish begins with, on the CPU; default: a fresh network. Not changed.
    """

    def __init__(
        self, materials: Materials, settings: BuildSettings, run: BuildRun, *, start: DetectorNetwork | None = None
    ) -> None:
        self.materials, self.settings, self.run = materials, settings, run
        self.title, folder = (TITLE, "first_stage") if start is None else (FINISH_TITLE, "finish")
        self.schedule, self.folder = settings.first_stage, run.folder / folder
        torch.manual_seed(self.schedule.seed)
        network = DetectorNetwork(settings.detector)
        if start is not None:
            network.load_state_dict(start.state_dict())
        loss = detector_loss(settings.crops.low_hu, settings.crops.high_hu)
        self.trainer = Trainer(network, self.schedule, loss, self.folder, run.device)
        run.begin(self.title, self.trainer)

    @property
    def mining_steps(self) -> list[int]:
        """Give the steps after which the training scans are searched, rising."""
        steps = {round(share * self.schedule.n_steps) for share in self.settings.mining_at}
        return sorted(step for step in steps if step < self.schedule.n_steps)

    def train(self) -> None:
        """Take the steps that are left, with mining and validation in between and a validation at the end."""
        every = self.settings.validate_every
        CsvLog(self.folder / VALIDATIONS).cut_after(int(self.trainer.notes.get(JUDGED_STEP, -1)))
        with curves_of(self.trainer) as curves:
            judge = partial(self._validate, curves)
            if every and self.trainer.step and self.trainer.step % every == 0:
                judge()  # where a run was killed in the middle of it
            self.run.finish(
                self.title, self.trainer, self._batches(), curves, round_steps=every or None, on_round=lambda _: judge()
            )
            if every:
                judge()

    def best(self) -> DetectorNetwork:
        """Give the network of the best validation, or of the end of the run where there was none."""
        if BEST_STEP not in self.trainer.notes:
            return self._averaged()
        self.run.log(f"{self.title}: the state after step {self.trainer.notes[BEST_STEP]} is the best")
        network = read_checkpoint(self.folder / BEST).detector
        assert network is not None
        return network

    def _averaged(self) -> DetectorNetwork:
        network = self.trainer.averaged(DetectorNetwork(self.settings.detector))
        assert isinstance(network, DetectorNetwork)
        return network

    def _batches(self) -> Iterator[Batch]:
        """Give the batches that are left; what was mined up to a segment is known when its first one is asked for."""
        for stop in (*self.mining_steps, self.schedule.n_steps):
            step = self.trainer.step
            if step >= stop:
                continue
            patches = DetectorPatches(
                self.materials,
                self.settings.crops,
                self._marks(),
                seed=self.schedule.seed,
                first=step * self.schedule.batch,
                count=(stop - step) * self.schedule.batch,
            )
            yield from make_loader(patches, self.schedule)

    def _marks(self) -> MinedMarks:
        """Give the false marks that the present segment is drawn with; search for them where it is their turn."""
        step, passed = self.trainer.step, [s for s in self.mining_steps if s <= self.trainer.step]
        if not passed:
            return NO_MARKS
        folder = self.folder / "mining" / f"round_{len(passed)}"
        if passed[-1] < step or (folder / MARKS).is_file():
            return read_mined(folder)
        self.trainer.save()
        self.run.log(
            f"{self.title} {step}/{self.schedule.n_steps}: searching {len(self.materials.cases)} training scans"
        )
        runner = self.run.runner(self._averaged())
        most, asked = self.settings.mined_per_scan, self.run.is_cancelled
        mined = mine(
            runner, self.materials.cases, self.materials.prepare, folder, most_per_case=most, is_cancelled=asked
        )
        self.run.log(f"{self.title} {step}/{self.schedule.n_steps}: {len(mined.case)} false marks to learn from")
        return mined

    def _validate(self, curves: TensorBoardLog) -> None:
        """Judge the present state, unless that is done; keep it when it is the best so far; end early when told."""
        step, notes = self.trainer.step, self.trainer.notes
        if notes.get(JUDGED_STEP) == step:
            return
        self.trainer.save()
        network = self._averaged()
        found = validate_detector(
            self.run.runner(network), self.materials, self.settings.crops.round_hu, is_cancelled=self.run.is_cancelled
        )
        is_gain = found.cpm > notes.get(BEST_CPM, -1.0)
        if is_gain or found.cpm == notes[BEST_CPM]:  # of equals the later one, which has seen more
            self._keep(network, found)
            notes |= {BEST_STEP: step, BEST_CPM: found.cpm}
        notes |= {JUDGED_STEP: step, N_WITHOUT: 0 if is_gain else int(notes[N_WITHOUT]) + 1}
        if self.settings.patience and notes[N_WITHOUT] >= self.settings.patience:
            self.trainer.is_stopped = True
        self._tell(found, curves)
        self.trainer.save()

    def _keep(self, network: DetectorNetwork, found: DetectorValidation) -> None:
        """Write the present state as a model of its own."""
        facts = {"step": self.trainer.step, "validation": found.row(), **self.materials.facts}
        recipe = Recipe(
            name=f"{self.settings.name} first stage",
            version=__version__,
            prepare=self.materials.prepare,
            training=facts,
        )
        write_checkpoint(self.folder / BEST, recipe, network, None, half=False)

    def _tell(self, found: DetectorValidation, curves: TensorBoardLog) -> None:
        step, n_steps = self.trainer.step, self.schedule.n_steps
        CsvLog(self.folder / VALIDATIONS).add({"step": step} | found.row())
        curves.add(step, {"validation/CPM": found.cpm})
        is_best = self.trainer.notes[BEST_STEP] == step
        best = ", the best so far" if is_best else f", best {self.trainer.notes[BEST_CPM]:.3f}"
        end = "; ending early" if self.trainer.is_stopped else ""
        self.run.log(f"{self.title} {step}/{n_steps}: validation {found.sentence()}{best}{end}")
