"""What must be known before patches are judged: whether the model fits them, and whether it knows their scans.

The *leak guard* refuses patches of scans that the model was trained on. Recipes name scans
by short hashes; a threshold for patches may be stored in them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_alnct.batch.classifier_files import PatchClassifier
from napari_alnct.core.config import PrepareSettings
from napari_alnct.core.errors import SettingsError, TableError
from napari_alnct.evaluation.curves import threshold_curve
from napari_alnct.evaluation.operating_point import OperatingPoint, PointRule, choose_point
from napari_alnct.io.identifiers import short_hash
from napari_alnct.io.patch_store import PatchStore

TRAINED_KEYS, CHOSEN_KEYS = ("train_series", "train_patients"), ("val_series", "val_patients")  # short hashes
NAMED_KEYS = ("cases",)  # plain names of the training scans, in older recipes
DONOR_KEYS = ("cubes", "n_donors", "held_out_donors")  # nodules of further patients, who are not listed as scans
THRESHOLD_KEY = "patch_threshold"
SAME_SPACING_MM = 1e-6


def check_patches(store: PatchStore, classifier: PatchClassifier, *, allow_trained_on: bool = False) -> list[str]:
    """Give what must be said about a model and these patches; refuse what cannot be judged.

    Parameters
    ----------
    store : PatchStore
        Patches.
    classifier : PatchClassifier
        Model.
    allow_trained_on : bool
        Say that the model was trained on these scans instead of refusing.

    Returns
    -------
    list of str
        Sentences.

    Raises
    ------
    SettingsError, TableError
        As `evaluate`.
    """
    if not store.rows:
        raise TableError(f"the table of patches in {store.folder.name} is empty; run sample with more scans")
    edge = classifier.network.settings.patch_vox
    if edge > store.stored_vox:
        raise TableError(
            f"the patches in {store.folder.name} are stored with {store.stored_vox} voxels, the model looks at {edge}; "
            "run sample with larger patches"
        )
    return [
        *input_notes(store.prepare, classifier.prepare, classifier.file),
        *_leak_notes(store, classifier, allow_trained_on),
    ]


def operating_point(
    store: PatchStore, training: dict[str, Any], scores: NDArray[np.float64], rule: PointRule
) -> OperatingPoint:
    """Give the threshold to judge at.

    Parameters
    ----------
    store : PatchStore
        Patches.
    training : dict
        Training facts of the model's recipe.
    scores : ndarray, shape (N,)
        Of the patches.
    rule : PointRule
        The wish.

    Returns
    -------
    OperatingPoint
        Optimistic when it was chosen on these patches, or during training on scans among them.
    """
    stored, how = stored_threshold(training)
    point = choose_point(threshold_curve(store.labels, scores), rule, stored=stored, stored_how=how)
    was_chosen_here = point.rule == "stored" and _shared(store, _listed(training, CHOSEN_KEYS))
    return replace(point, is_optimistic=True) if was_chosen_here else point


def stored_threshold(training: dict[str, Any]) -> tuple[float | None, str]:
    """Give the threshold for patches that a recipe stores, and how it was chosen.

    Parameters
    ----------
    training : dict
        Training facts; ``patch_threshold`` is a number, or a dict with ``threshold`` and ``how``.

    Returns
    -------
    tuple of (float or None, str)
        None when there is none from 0 to 1.

    Examples
    --------
    >>> stored_threshold({"patch_threshold": {"threshold": 0.4, "how": "largest Youden index"}})
    (0.4, 'largest Youden index')
    """
    entry = training.get(THRESHOLD_KEY)
    value, how = (entry.get("threshold"), str(entry.get("how", ""))) if isinstance(entry, dict) else (entry, "")
    is_usable = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1
    return (float(value), how) if is_usable and value is not None else (None, "")


def input_notes(ours: PrepareSettings, wanted: PrepareSettings | None, file: str) -> list[str]:
    """Compare the input that patches hold with the one that a model was trained on.

    Parameters
    ----------
    ours : PrepareSettings
        How the scans of the patches were prepared.
    wanted : PrepareSettings or None
        The model's input, None where its file does not say.
    file : str
        Name of the model's file.

    Returns
    -------
    list of str
        Sentences.

    Raises
    ------
    SettingsError
        If the voxels have another size.
    """
    if wanted is None:
        return [f"{file} does not say which input it was trained on: the window of the patches is used."]
    if abs(ours.spacing_mm - wanted.spacing_mm) > SAME_SPACING_MM:
        raise SettingsError(
            f"the patches have {ours.spacing_mm:g} mm voxels, the model wants {wanted.spacing_mm:g} mm; run preprocess "
            f"with --spacing-mm {wanted.spacing_mm:g} and sample again"
        )
    if ours.low_hu > wanted.low_hu or ours.high_hu < wanted.high_hu:
        return [
            f"The patches were clipped to {ours.low_hu:g} to {ours.high_hu:g} HU, the model was trained with "
            f"{wanted.low_hu:g} to {wanted.high_hu:g} HU."
        ]
    return []


def _leak_notes(store: PatchStore, classifier: PatchClassifier, allow_trained_on: bool) -> list[str]:
    """Say, or refuse, that the model knows scans of the table."""
    n_scans = len({row.series_uid for row in store.rows})
    trained = _listed(classifier.training, TRAINED_KEYS)
    trained |= {short_hash(name) for name in _listed(classifier.training, NAMED_KEYS)}
    if not trained:
        return [
            f"{classifier.file} does not say which scans it was trained on: whether these are new cannot be checked."
        ]
    n_known = _shared(store, trained)
    if n_known and not allow_trained_on:
        raise SettingsError(
            f"{classifier.file} was trained on {n_known} of the {n_scans} scans in the table; take patches of scans "
            "that it never saw, or give --allow-trained-on to see the figures anyway"
        )
    notes = _gaps(classifier)
    if n_known:
        notes.append(
            f"The model was trained on {n_known} of the {n_scans} scans: these are no figures of unseen scans."
        )
    n_chosen = _shared(store, _listed(classifier.training, CHOSEN_KEYS))
    if n_chosen:
        notes.append(
            f"{n_chosen} of the {n_scans} scans chose the best epoch of this model: its figures on them are somewhat "
            "optimistic; take scans of neither training nor validation for a result."
        )
    return notes


def _gaps(classifier: PatchClassifier) -> list[str]:
    """Say what the lists of a recipe leave open: scans by other names, nodules of patients who are not listed."""
    notes = []
    if not _listed(classifier.training, TRAINED_KEYS):
        notes.append(
            f"{classifier.file} lists its training scans by names that need not be those of the table: "
            "whether these scans are new cannot be fully checked."
        )
    if any(classifier.training.get(key) for key in DONOR_KEYS):
        notes.append(
            "The model was also trained on nodules cut from scans that it does not list (LIDC-IDRI in the data pack): "
            "do not take figures on LIDC-IDRI or LUNA16 for those of unseen patients."
        )
    return notes


def _listed(training: dict[str, Any], keys: Sequence[str]) -> set[str]:
    """Give the texts that lists of the recipe hold."""
    lists = [training.get(key) for key in keys]
    return {str(value) for values in lists if isinstance(values, list | tuple) for value in values}


def _shared(store: PatchStore, hashes: set[str]) -> int:
    """Count the scans of the table that are among the hashes, by series or by patient."""
    return len(
        {
            row.series_uid
            for row in store.rows
            if short_hash(row.series_uid) in hashes or (row.patient and short_hash(row.patient) in hashes)
        }
    )
