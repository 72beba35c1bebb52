"""The training loop: schedule, resume, and that it learns."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.utils.data import Dataset

from napari_alnct.core.errors import ModelError
from napari_alnct.training.loop import Batch, Trainer, TrainSettings, fit, make_loader

SETTINGS = TrainSettings(n_patches=400, batch=4, learning_rate=0.1, workers=0, save_every=7, ema=0.9)


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


def loss(network: torch.nn.Module, batch: Batch) -> dict[str, torch.Tensor]:
    return {"total": torch.nn.functional.mse_loss(network(batch[0]), batch[1])}


def make(folder: Path) -> Trainer:
    torch.manual_seed(0)
    return Trainer(torch.nn.Sequential(torch.nn.Linear(3, 1)), SETTINGS, loss, folder)


def run(trainer: Trainer, until: int | None = None) -> None:
    first = trainer.step * SETTINGS.batch
    batches = make_loader(Points(first, SETTINGS.n_patches - first), SETTINGS)
    if until is None:
        fit(trainer, batches, log_every=5)
        return
    while trainer.step < until:
        trainer.train_step(next(batches))
        if trainer.step % SETTINGS.save_every == 0:
            trainer.save()


def test_it_learns_and_logs(tmp_path: Path) -> None:
    """The averaged weights come near the rule, and log.csv has a header and one line per five of its 100 steps."""
    trainer = make(tmp_path)
    run(trainer)
    learned = trainer.averaged(torch.nn.Sequential(torch.nn.Linear(3, 1)))
    weight = next(iter(learned.parameters())).detach().flatten()
    torch.testing.assert_close(weight, torch.tensor([2.0, -1.0, 0.0]), atol=0.35, rtol=0)
    assert len((tmp_path / "log.csv").read_text().splitlines()) == 1 + 100 // 5


def test_a_run_that_was_cut_ends_with_the_same_weights(tmp_path: Path) -> None:
    """Killed at step 10 (resume point 7), resumed: bit-identical to an uninterrupted run."""
    whole = make(tmp_path / "whole")
    run(whole)
    run(make(tmp_path / "cut"), until=10)
    resumed = make(tmp_path / "cut")
    assert resumed.resume()
    assert resumed.step == 7
    run(resumed)
    for name, value in whole.average.items():
        assert torch.equal(value, resumed.average[name])


def test_the_learning_rate_rises_then_falls_to_zero(tmp_path: Path) -> None:
    """Linear warm-up to the top, then half a cosine."""
    trainer = make(tmp_path)
    rates = [trainer.learning_rate(step) for step in range(SETTINGS.n_steps + 1)]
    top = rates.index(max(rates))
    assert max(rates) == pytest.approx(SETTINGS.learning_rate)
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert rates[-1] == pytest.approx(0.0, abs=1e-9)


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path: Path) -> None:
    """NaN does not reach the weights."""
    trainer = make(tmp_path)
    before = [p.clone() for p in trainer.network.parameters()]
    with pytest.raises(ModelError, match="lower the learning rate"):
        trainer.train_step((torch.full((2, 3), float("nan")), torch.zeros(2, 1)))
    assert all(torch.equal(a, b) for a, b in zip(before, trainer.network.parameters(), strict=True))
