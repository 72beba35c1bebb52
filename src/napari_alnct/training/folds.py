"""Leave-scans-out folds of the data pack: neither a fold's scans nor its nodule cubes are trained on.

A cube that shows the patient of a scan is in that scan's fold. The other cubes are dealt
by size, so that every fold has small and large ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from napari_alnct.core.errors import SettingsError
from napari_alnct.training.settings import BuildSettings
from napari_alnct.training.sources import BAD_CUBES, CUBES, pack_case_names

FOLD_SEED = 0


@dataclass(frozen=True, kw_only=True)
class PackFold:
    """What one fold holds out.

    Parameters
    ----------
    cases : tuple of str
        Names of scans.
    cubes : tuple of str
        Names of nodule cubes.
    """

    cases: tuple[str, ...]
    cubes: tuple[str, ...]


def pack_folds(pack: Path, n_folds: int) -> list[PackFold]:
    """Give the folds of the data pack; the same pack always gives the same ones.

    Parameters
    ----------
    pack : Path
        Folder of the data pack.
    n_folds : int
        2 up to the number of its scans.

    Returns
    -------
    list of PackFold
        Together they hold every usable scan and cube once.

    Raises
    ------
    SettingsError
        If there are fewer scans than folds.
    """
    names = pack_case_names(pack)
    if not 2 <= n_folds <= len(names):
        raise SettingsError(f"{n_folds} folds of {len(names)} scans; choose 2 to {len(names)}")
    home = {name: number % n_folds for number, name in enumerate(names)}
    with np.load(pack / CUBES, allow_pickle=False) as stored:
        table = zip(stored["name"], stored["patient"], stored["diameter_mm"], strict=True)
        cubes = [(str(name), str(patient), float(size)) for name, patient, size in table if name not in BAD_CUBES]
    fold_of = {name: home[patient] for name, patient, _ in cubes if patient in home}
    fold_of |= _dealt([(size, name) for name, _, size in cubes if name not in fold_of], n_folds)
    return [
        PackFold(
            cases=tuple(name for name in names if home[name] == number),
            cubes=tuple(name for name, _, _ in cubes if fold_of[name] == number),
        )
        for number in range(n_folds)
    ]


def fold_settings(settings: BuildSettings, folds: Sequence[PackFold], number: int) -> BuildSettings:
    """Give the recipe that holds out one fold.

    Parameters
    ----------
    settings : BuildSettings
        The recipe.
    folds : sequence of PackFold
        All folds.
    number : int
        Which one, from 0.

    Returns
    -------
    BuildSettings

    Raises
    ------
    SettingsError
        If there is no such fold.
    """
    if not 0 <= number < len(folds):
        raise SettingsError(f"there is no fold {number}; choose 0 to {len(folds) - 1}")
    fold = folds[number]
    name = f"{settings.name}-fold-{number}"
    return replace(settings, name=name, held_out_cases=fold.cases, held_out_cubes=fold.cubes)


def _dealt(sized: Sequence[tuple[float, str]], n_folds: int) -> dict[str, int]:
    """Give each of these cubes a fold: of every `n_folds` neighbours by size, each goes to another."""
    rng = np.random.default_rng(FOLD_SEED)
    ordered = [name for _, name in sorted(sized)]
    order = np.concatenate([rng.permutation(n_folds) for _ in range(-(-len(ordered) // n_folds))])
    return {name: int(fold) for name, fold in zip(ordered, order, strict=False)}
