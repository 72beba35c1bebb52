"""Who is trained on and who is tested in each fold of a cross-validation.

Test fold k: validation is the next fold that is there (after the last comes the first),
training is all others.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from napari_alnct.core.errors import TableError
from napari_alnct.io.luna16 import Dataset

FEWEST_FOLDS = 3


@dataclass(frozen=True, kw_only=True)
class Split:
    """The scans of one fold's run, by series.

    Parameters
    ----------
    fold, val_fold : int
        Fold that is tested, and fold for validation, thresholds and calibration.
    train, val, test : tuple of str
        Series.
    """

    fold: int
    val_fold: int
    train: tuple[str, ...]
    val: tuple[str, ...]
    test: tuple[str, ...]


def folds_of_scans(dataset: Dataset) -> dict[int, tuple[str, ...]]:
    """Give the series of each fold, as the tables name them.

    Parameters
    ----------
    dataset : Dataset
        Raw scans with folds.

    Returns
    -------
    dict of int to tuple of str
        Rising folds.

    Raises
    ------
    TableError
        If a scan has no fold, or fewer than three folds have scans.
    """
    folds: dict[int, list[str]] = defaultdict(list)
    for scan in dataset.scans:
        if scan.subset is None:
            raise TableError(
                f"{scan.path.name} lies in no fold; put scans into folders subset0, subset1, ... or list all of them "
                "in luna16_subsets.csv"
            )
        folds[scan.subset].append(scan.series_uid)
    if len(folds) < FEWEST_FOLDS:
        found = ", ".join(map(str, sorted(folds)))
        raise TableError(
            f"{dataset.root.name} has scans in fold {found} alone; {FEWEST_FOLDS} are needed: to train, to validate "
            "and to test"
        )
    return {fold: tuple(folds[fold]) for fold in sorted(folds)}


def make_splits(
    folds: Mapping[int, Sequence[str]], tested: Sequence[int], names: Mapping[str, str | None] | None = None
) -> tuple[Split, ...]:
    """Give the split of each tested fold.

    Parameters
    ----------
    folds : mapping of int to sequence of str
        Series of each fold that is there.
    tested : sequence of int
        Folds to test; empty: all.
    names : mapping of str to (str or None), optional
        The scans' own series identifiers, None for scans that could not be prepared: these are tested but
        not trained on.

    Returns
    -------
    tuple of Split
        In order of fold.

    Raises
    ------
    TableError
        If a fold to test is not there.
    """
    absent = sorted(set(tested) - set(folds))
    if absent:
        known = ", ".join(map(str, folds))
        raise TableError(f"there are no scans in fold {', '.join(map(str, absent))}; the folds are {known}")
    order = sorted(folds)
    own = {uid: uid for series in folds.values() for uid in series} if names is None else names
    splits = []
    for fold in sorted(tested) or order:
        val_fold = order[(order.index(fold) + 1) % len(order)]
        rest = [k for k in order if k not in (fold, val_fold)]
        train, val = (
            tuple(own[uid] or "" for k in side for uid in folds[k] if own[uid]) for side in (rest, [val_fold])
        )
        test = tuple(own[uid] or uid for uid in folds[fold])
        splits.append(Split(fold=fold, val_fold=val_fold, train=train, val=val, test=test))
    return tuple(splits)
