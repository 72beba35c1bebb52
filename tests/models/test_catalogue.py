"""Bundled models: found by name, intact, self-tested."""

from __future__ import annotations

from pathlib import Path

import pytest

from napari_alnct.core.checkpoint import file_sha256, read_checkpoint
from napari_alnct.core.errors import ModelError
from napari_alnct.models.catalogue import find_model, list_models


def test_every_bundled_model_is_intact_and_passes_its_self_test() -> None:
    """Hash as listed; both networks answer as recorded; thresholds for the seven rates are stored, falling."""
    for model in list_models():
        assert file_sha256(model.path) == model.sha256
        recipe = read_checkpoint(model.path, sha256=model.sha256).recipe
        points = [recipe.operating_points[rate] for rate in ("0.125", "0.25", "0.5", "1", "2", "4", "8")]
        assert points == sorted(points, reverse=True)
        assert recipe.detector is not None
        assert recipe.classifier is not None


def test_the_bundled_models_fit_into_twelve_megabytes() -> None:
    """What every install downloads stays small."""
    assert sum(model.path.stat().st_size for model in list_models()) < 12e6


def test_the_default_is_the_first_and_names_are_found() -> None:
    """``default`` and its own name give the same file."""
    assert find_model().path == find_model(list_models()[0].name).path


def test_an_unknown_name_lists_the_known_ones() -> None:
    """The message helps."""
    with pytest.raises(ModelError, match=list_models()[0].name):
        find_model("no-such-model")


def test_a_users_own_file_is_taken_without_hash(tmp_path: Path) -> None:
    """A path is a model of its stem's name; a missing one is refused."""
    path = tmp_path / "mine.safetensors"
    path.write_bytes(b"x")
    assert find_model(path).sha256 is None
    assert find_model(str(path)).name == "mine"
    with pytest.raises(ModelError, match=r"gone\.safetensors: no such model file"):
        find_model(tmp_path / "gone.safetensors")
