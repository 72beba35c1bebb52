"""What a search may change: parameters to settings and back, within what fits the patches."""

from __future__ import annotations

from dataclasses import replace

import optuna
import pytest

from napari_alnct.core.config import ClassifierNetSettings
from napari_alnct.core.errors import SettingsError
from napari_alnct.training.classifier import ClassifierSettings
from napari_alnct.training.tuning_space import NUMBERS, SEARCHABLE, TuningSpace

BASE = ClassifierSettings(batch=8, clip=2.0)


def suggested(space: TuningSpace, number: int) -> dict[str, float]:
    """Let a random sampler choose."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=number))
    return space.suggest(study.ask())


def test_every_suggestion_makes_valid_settings() -> None:
    """Fifty random trials: networks that fit the patches, numbers in their ranges, the rest as in the base."""
    space = TuningSpace(base=BASE, most_negatives=3.0)
    for number in range(50):
        params = suggested(space, number)
        settings = space.settings(params, seed=number)
        assert set(params) == set(SEARCHABLE)
        assert 64 // settings.network.stride >= 2
        assert 0.5 <= (settings.neg_ratio or 0) <= 3.0  # no more than there are
        assert NUMBERS["learning_rate"].low <= settings.learning_rate <= NUMBERS["learning_rate"].high
        assert (settings.batch, settings.clip, settings.seed) == (8, 2.0, number)


def test_the_default_settings_are_a_point_of_the_space() -> None:
    """The first trial is what one would train without a search; back and forth it is the same."""
    space = TuningSpace(base=BASE)
    params = space.params_of_base()
    assert params is not None
    assert space.settings(params, seed=BASE.seed) == BASE


@pytest.mark.parametrize(
    "base",
    [
        replace(BASE, learning_rate=0.5),
        replace(BASE, network=ClassifierNetSettings(widths=(10, 20, 40), depths=(1, 1, 2))),
        replace(BASE, network=ClassifierNetSettings(widths=(16, 32, 64, 128), depths=(2, 1, 2, 1))),
    ],
    ids=["learning rate", "widths", "depths"],
)
def test_settings_outside_of_the_space_are_no_first_trial(base: ClassifierSettings) -> None:
    """A learning rate of .5, widths or depths of another pattern cannot be said by the parameters."""
    assert TuningSpace(base=base).params_of_base() is None


def test_fixed_settings_are_not_searched() -> None:
    """A fixed width fixes the network's shape with it; others keep the value of the base."""
    space = TuningSpace(base=replace(BASE, weight_decay=0.07), fixed=("width", "weight_decay"))
    params = suggested(space, 1)
    settings = space.settings(params, seed=0)
    assert {"width", "stages", "blocks", "weight_decay"} & set(params) == set()
    assert (settings.network.widths, settings.weight_decay) == (BASE.network.widths, 0.07)


def test_without_a_ratio_none_is_searched() -> None:
    """neg_ratio none means every patch once: there is nothing to choose."""
    assert "neg_ratio" not in TuningSpace(base=replace(BASE, neg_ratio=None)).names


@pytest.mark.parametrize(("edge", "stages"), [(64, (3, 4, 5)), (48, (3, 4)), (32, (3, 4)), (16, (3,)), (20, (2,))])
def test_depth_fits_the_patches(edge: int, stages: tuple[int, ...]) -> None:
    """Every stage halves the grid evenly, and at least two cells are left along each edge."""
    network = ClassifierNetSettings(widths=(8, 16), depths=(1, 1), patch_vox=edge)
    assert TuningSpace(base=replace(BASE, network=network)).stages == stages


@pytest.mark.parametrize(("fixed", "words"), [(SEARCHABLE, "nothing to search"), (("depth",), "cannot be searched")])
def test_impossible_searches_are_refused(fixed: tuple[str, ...], words: str) -> None:
    """All fixed, or a name that is none."""
    with pytest.raises(SettingsError, match=words):
        TuningSpace(base=BASE, fixed=fixed)
