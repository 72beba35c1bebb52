"""The training loop: schedule, resume, faults, and that it learns."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice, repeat
from pathlib import Path

import pytest
import torch
from torch.utils.data import Dataset

from napari_alnct.core.errors import JobCancelled, ModelError
from napari_alnct.training.loop import Batch, Forward, StepReport, Trainer, TrainSettings, fit, make_loader
from napari_alnct.training.readings import MOST_OVERFLOWS
from napari_alnct.training.resume import CURRENT, PREVIOUS

SETTINGS = TrainSettings(
    n_patches=400, batch=4, learning_rate=0.1, workers=0, save_every=7, ema=0.9, precision="float32"
)


class Points(Dataset[Batch]):
    """Numbered points of a plane with a rule to learn."""

    def __init__(self, first: int, count: int) -> None:
        self.first, self.count = first, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Batch:
        generator = torch.Generator().manual_seed(self.first + index)
        x = torch.randn(3, generator=generator)
        return x, (x[:1] * 2 - x[1:2] + 0.5)


def loss(forward: Forward, batch: Batch) -> dict[str, torch.Tensor]:
    return {"total": torch.nn.functional.mse_loss(forward(batch[0]), batch[1])}


def make(folder: Path, settings: TrainSettings = SETTINGS) -> Trainer:
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Dropout(0.2), torch.nn.Linear(3, 1))
    return Trainer(network, settings, loss, folder)


def run(trainer: Trainer, until: int = SETTINGS.n_steps) -> None:
    """Train to the end, or die before step `until` as a killed process does: nothing more is saved."""
    first = trainer.step * SETTINGS.batch
    batches = make_loader(Points(first, SETTINGS.n_patches - first), SETTINGS)

    def dying() -> Iterator[Batch]:
        yield from islice(batches, until - trainer.step)
        raise InterruptedError

    fit(trainer, dying(), log_every=5)


def log_rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "log.csv").open() as file:
        return [{name: cell for name, cell in row.items() if name != "seconds"} for row in csv.DictReader(file)]


def test_it_learns_and_logs(tmp_path: Path) -> None:
    """The averaged weights come near the rule, and log.csv has a header and one line per five of its 100 steps."""
    torch.manual_seed(0)
    trainer = Trainer(torch.nn.Sequential(torch.nn.Linear(3, 1)), SETTINGS, loss, tmp_path)
    run(trainer)
    learned = trainer.averaged(torch.nn.Sequential(torch.nn.Linear(3, 1)))
    weight = next(iter(learned.parameters())).detach().flatten()
    torch.testing.assert_close(weight, torch.tensor([2.0, -1.0, 0.0]), atol=0.35, rtol=0)
    assert len((tmp_path / "log.csv").read_text().splitlines()) == 1 + 100 // 5


def test_a_run_that_was_cut_ends_with_the_same_weights_and_log(tmp_path: Path) -> None:
    """Dead at step 13 (resume point 7, log line 10), resumed: bit-identical weights, every log line once and equal.

    The network has dropout, and log lines (every 5 steps) do not fall on resume points (every 7).
    """
    whole = make(tmp_path / "whole")
    run(whole)
    with pytest.raises(InterruptedError):
        run(make(tmp_path / "cut"), until=13)
    assert [row["step"] for row in log_rows(tmp_path / "cut")] == ["5", "10"]
    resumed = make(tmp_path / "cut")
    assert resumed.resume()
    assert resumed.step == 7
    run(resumed)
    for name, value in whole.average.items():
        assert torch.equal(value, resumed.average[name])
    assert log_rows(tmp_path / "cut") == log_rows(tmp_path / "whole")


def test_the_learning_rate_rises_then_falls_to_zero() -> None:
    """Linear warm-up to the top, then half a cosine."""
    rates = [SETTINGS.learning_rate_at(step) for step in range(SETTINGS.n_steps + 1)]
    top = rates.index(max(rates))
    assert max(rates) == pytest.approx(SETTINGS.learning_rate)
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert rates[-1] == pytest.approx(0.0, abs=1e-9)


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path: Path) -> None:
    """NaN does not reach the weights, nor the resume point that was there."""
    trainer = make(tmp_path)
    run(trainer, until=SETTINGS.n_steps)
    saved = trainer.resume_path.read_bytes()
    before = [p.clone() for p in trainer.network.parameters()]
    with pytest.raises(ModelError, match=r"the loss is nan at step 101.* lower learning rate"):
        trainer.train_step((torch.full((2, 3), float("nan")), torch.zeros(2, 1)))
    assert all(torch.equal(a, b) for a, b in zip(before, trainer.network.parameters(), strict=True))
    assert trainer.resume_path.read_bytes() == saved


def test_a_gradient_that_is_not_finite_stops_the_run(tmp_path: Path) -> None:
    """A finite loss with an infinite slope (the root at 0) is refused too."""
    trainer = make(tmp_path)
    trainer.loss = lambda forward, batch: {"total": (forward(batch[0]) * 0).abs().sqrt().mean()}
    with pytest.raises(ModelError, match="the gradient is nan at step 1"):
        trainer.train_step((torch.ones(2, 3), torch.zeros(2, 1)))


def test_numbers_read_late_still_keep_bad_weights_from_the_disk(tmp_path: Path) -> None:
    """Where losses stay on the device until they are asked for, saving asks first."""
    trainer = make(tmp_path)
    trainer.readings.is_immediate = False
    trainer.train_step((torch.full((2, 3), float("nan")), torch.zeros(2, 1)))
    with pytest.raises(ModelError, match="the loss is nan at step 1"):
        trainer.save()
    assert not trainer.resume_path.exists()


def test_float16_leaves_out_and_counts_steps_that_overflow(tmp_path: Path) -> None:
    """A gradient beyond float16 changes no weight and is counted; without end it stops the run in one sentence."""
    trainer = make(tmp_path, replace(SETTINGS, precision="float16", n_patches=4000))
    points = (torch.ones(2, 3), torch.zeros(2, 1))
    before = [p.clone() for p in trainer.network.parameters()]
    trainer.loss = _steep
    trainer.train_step(points)
    trainer.read()
    assert trainer.readings.n_overflows == 1
    assert all(torch.equal(a, b) for a, b in zip(before, trainer.network.parameters(), strict=True))
    with pytest.raises(ModelError, match="set precision to float32"):
        fit(trainer, repeat(points))
    assert trainer.step == MOST_OVERFLOWS


def _steep(forward: Forward, batch: Batch) -> dict[str, torch.Tensor]:
    """Give a loss of 0 whose slope is beyond float16 at any scale."""
    output = forward(batch[0])
    return {"total": (output - output.detach()).mean() * 1e35}


def test_float16_trains(tmp_path: Path) -> None:
    """With the gradient scaler the rule is learned as in float32, and the scale is part of the resume point."""
    settings = replace(SETTINGS, precision="float16")
    trainer = make(tmp_path, settings)
    fit(trainer, make_loader(Points(0, 400), settings))
    resumed = make(tmp_path, settings)
    assert resumed.resume()
    assert resumed.scaler.state_dict() == trainer.scaler.state_dict()
    assert trainer.network[1].weight[0, 0] > 1.0


def test_a_wish_to_stop_is_heeded_before_the_next_step(tmp_path: Path) -> None:
    """Cancelled after step 9: JobCancelled, and the resume point holds step 9, not the regular 7."""
    trainer = make(tmp_path)
    seen: list[StepReport] = []
    with pytest.raises(JobCancelled, match="stopped after step 9 of 100"):
        fit(
            trainer,
            make_loader(Points(0, 400), SETTINGS),
            on_step=seen.append,
            is_cancelled=lambda: len(seen) == 9,
        )
    resumed = make(tmp_path)
    assert resumed.resume()
    assert resumed.step == 9


def test_a_damaged_resume_point_gives_way_to_the_one_before(tmp_path: Path) -> None:
    """One flipped bit, or a file cut short: the run goes on from resume.prev.pt and says so; both bad: one sentence."""
    with pytest.raises(InterruptedError):
        run(make(tmp_path), until=15)
    current, content = tmp_path / CURRENT, (tmp_path / CURRENT).read_bytes()
    state = torch.load(current, weights_only=True)
    place = content.index(state["average"]["1.weight"].numpy().tobytes())
    for bad in (content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :], content[: len(content) // 2]):
        current.write_bytes(bad)
        trainer = make(tmp_path)
        assert trainer.resume()
        assert (trainer.step, trainer.resume_note) == (7, "resume.pt is damaged; going on from resume.prev.pt")
    (tmp_path / PREVIOUS).write_bytes(b"")
    with pytest.raises(ModelError, match=r"resume\.pt and resume\.prev\.pt cannot be read"):
        make(tmp_path).resume()


def test_a_resume_point_of_another_run_is_refused(tmp_path: Path) -> None:
    """Another length of the schedule, or another network."""
    with pytest.raises(InterruptedError):
        run(make(tmp_path), until=8)
    with pytest.raises(ModelError, match="a run of 100 steps, this one has 200"):
        make(tmp_path, replace(SETTINGS, n_patches=800)).resume()
    with pytest.raises(ModelError, match="another kind or version"):
        Trainer(torch.nn.Linear(4, 4), SETTINGS, loss, tmp_path).resume()


@pytest.mark.skipif(os.name != "posix", reason="limits on file size are a POSIX feature")
def test_a_full_disk_leaves_the_last_resume_point_whole(tmp_path: Path) -> None:
    """No room for a new resume point (a limit on file size): one sentence, and a resume from the old one works."""
    import resource

    trainer = make(tmp_path)
    with pytest.raises(InterruptedError):
        run(trainer, until=8)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, before[1]))
    try:
        with pytest.raises(ModelError, match=r"resume\.pt cannot be written .*File too large.* whole"):
            trainer.save()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    resumed = make(tmp_path)
    assert resumed.resume()
    assert resumed.step == 7
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log.csv", CURRENT]


def test_short_memory_is_one_sentence_with_a_smaller_batch(tmp_path: Path) -> None:
    """An out-of-memory fault of torch names the batch and half of it."""

    def hungry(forward: Forward, batch: Batch) -> dict[str, torch.Tensor]:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    trainer = make(tmp_path)
    trainer.loss = hungry
    with pytest.raises(ModelError, match="memory is short on cpu with batch 4; use a smaller batch, such as 2"):
        trainer.train_step((torch.zeros(4, 3), torch.zeros(4, 1)))


def test_the_end_of_a_process_that_prepares_patches_is_one_sentence(tmp_path: Path) -> None:
    """Killed by the system, for lack of memory most likely: what to do; with a wish to stop, that is heeded instead."""

    def broken() -> Iterator[Batch]:
        raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. ")
        yield ()

    with pytest.raises(ModelError, match=r"a process that prepares patches ended .* use fewer workers"):
        fit(make(tmp_path / "a"), broken())
    answers = iter([False, True])
    with pytest.raises(JobCancelled, match="stopped after step 0"):
        fit(make(tmp_path / "b"), broken(), is_cancelled=lambda: next(answers))


def test_bfloat16_gradients_of_thin_maps_are_right(tmp_path: Path) -> None:
    """A convolution over two planes, with rubbish in the memory that it gets: its gradient is that of float32.

    Without `guard_thin_maps` torch 2.13 leaves parts of this gradient unwritten on CPUs with bfloat16.
    """
    generator = torch.Generator().manual_seed(0)
    batch = (torch.randn(4, 16, 2, 2, 2, generator=generator), torch.zeros(1))
    settings = replace(SETTINGS, learning_rate=1e-6, clip=1000.0)
    gradients = {}
    for precision in ("float32", "bfloat16"):
        torch.manual_seed(1)
        network = torch.nn.Conv3d(16, 16, 3, padding=1)
        trainer = Trainer(network, replace(settings, precision=precision), _square, tmp_path / precision)
        for _ in range(4):
            rubbish = torch.full((5_000_000,), 1e30)
            del rubbish
            trainer.train_step(batch)
            gradients[precision] = network.weight.grad.clone()
            error = (gradients[precision] - gradients["float32"]).abs().max() / gradients["float32"].abs().max()
            assert error < 0.02


def _square(forward: Forward, batch: Batch) -> dict[str, torch.Tensor]:
    return {"total": forward(batch[0]).square().mean()}
