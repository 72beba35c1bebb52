"""The leak guard of ``eval``: what it refuses, and what it cannot know and therefore says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from napari_alnct.batch.classifier_files import load_classifier
from napari_alnct.batch.patch_checks import check_patches
from napari_alnct.core.errors import SettingsError
from napari_alnct.io.identifiers import short_hash
from napari_alnct.io.patch_store import PatchStore
from tests.batch.tiny_patches import series_uid, write_patches, write_small_model

OTHER = short_hash("another scan")


def notes(folder: Path, training: dict[str, Any]) -> str:
    write_patches(folder / "patches")
    write_small_model(folder / "m.safetensors", training=training)
    return " ".join(check_patches(PatchStore.open(folder / "patches"), load_classifier(str(folder / "m.safetensors"))))


def test_a_model_that_lists_other_scans_passes_without_a_word(tmp_path: Path) -> None:
    """Lists by series, none shared, no donors: nothing to say about leaks."""
    assert "checked" not in notes(tmp_path, {"train_series": [OTHER]})


def test_a_shared_scan_is_refused(tmp_path: Path) -> None:
    """One scan of the table among the training scans is enough."""
    with pytest.raises(SettingsError, match="was trained on 1 of"):
        notes(tmp_path, {"train_series": [OTHER, short_hash(series_uid(0))]})


def test_scans_listed_by_other_names_cannot_be_checked_and_that_is_said(tmp_path: Path) -> None:
    """Names of cases are no series: finding none of them proves nothing."""
    assert "cannot be fully checked" in notes(tmp_path, {"cases": ["LIDC-IDRI-0001"]})


@pytest.mark.parametrize(
    "training", [{"train_series": [OTHER], "cubes": {"file": "x.npz"}}, {"cases": ["a"], "n_donors": 79}]
)
def test_donors_of_unlisted_patients_are_said(training: dict[str, Any], tmp_path: Path) -> None:
    """Inserted nodules are training data too, and their patients are not among the listed scans."""
    assert "nodules cut from scans that it does not list" in notes(tmp_path, training)
