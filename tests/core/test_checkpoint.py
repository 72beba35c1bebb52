"""Model files: what goes in comes out, and damaged ones never reach a forward pass."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from napari_alnct.core.checkpoint import RECIPE_KEY, read_checkpoint, read_recipe
from napari_alnct.core.errors import ModelError
from tests.core.tiny_models import TINY, tiny_detector, write_tiny_model


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.safetensors"
    write_tiny_model(path)
    return path


def rewrite(path: Path, change: object) -> None:
    """Store the model again with changed tensors or recipe."""
    with safe_open(path, framework="pt") as handle:
        tensors = {key: handle.get_tensor(key) for key in handle.keys()}  # noqa: SIM118
        document = json.loads(handle.metadata()[RECIPE_KEY])
    change(tensors, document)  # type: ignore[operator]
    save_file(tensors, path, metadata={RECIPE_KEY: json.dumps(document)})


def test_a_model_comes_back_as_it_was_stored(model: Path) -> None:
    """Recipe equal; the network answers like the original up to half-precision storage."""
    checkpoint = read_checkpoint(model)
    assert checkpoint.recipe.name == "tiny"
    assert checkpoint.recipe.detector == TINY
    assert checkpoint.recipe.default_threshold() == 0.3
    assert checkpoint.recipe.default_threshold(second_look=False) == 0.4
    x = torch.randn(1, 1, 32, 32, 32)
    assert checkpoint.detector is not None
    with torch.inference_mode():
        torch.testing.assert_close(checkpoint.detector(x), tiny_detector()(x), rtol=0.02, atol=0.02)


def test_the_recipe_is_readable_without_weights(model: Path) -> None:
    """Name and operating points come from the header alone."""
    assert read_recipe(model).operating_points["4"] == 0.1


def test_one_flipped_byte_is_refused_when_the_hash_is_known(model: Path) -> None:
    """The hash is compared before anything is interpreted."""
    digest = read_checkpoint(model).sha256
    content = bytearray(model.read_bytes())
    content[-5] ^= 1
    model.write_bytes(content)
    with pytest.raises(ModelError, match="expected SHA-256"):
        read_checkpoint(model, sha256=digest)


def test_changed_weights_fail_the_self_test(model: Path) -> None:
    """Without a known hash, a changed weight is still found by the known answer."""
    rewrite(model, lambda tensors, _: tensors["detector.centre.weight"].mul_(1.2))
    with pytest.raises(ModelError, match="self-test differs"):
        read_checkpoint(model)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("self_test", {"detector": [0.5], "classifier": [0.5]}, "known answer has 1 numbers"),
        ("self_test", None, "recipe cannot be read"),
        ("operating_points", {"1": "much"}, "recipe cannot be read"),
        ("operating_points", [0.5], "recipe cannot be read"),
        ("combine", [1.0, 2.0], "combine needs 3 numbers"),
    ],
    ids=range(5),
)
def test_a_recipe_of_wrong_form_is_refused(model: Path, key: str, value: object, message: str) -> None:
    """Every damaged recipe is a ModelError, never another exception in the middle of a run."""
    rewrite(model, lambda _, document: document.update({key: value}))
    with pytest.raises(ModelError, match=message):
        read_checkpoint(model)


def test_nan_weights_are_refused(model: Path) -> None:
    """NaN loads silently in safetensors; here it does not."""
    rewrite(model, lambda tensors, _: tensors["detector.centre.bias"].fill_(float("nan")))
    with pytest.raises(ModelError, match="NaN or infinity"):
        read_checkpoint(model)


def test_weights_of_another_shape_are_refused(model: Path) -> None:
    """A recipe that does not fit the weights is one sentence, not a traceback of shapes."""

    def widen(_: object, document: dict[str, object]) -> None:
        document["detector"]["widths"] = [8, 8, 16, 24]  # type: ignore[index]

    rewrite(model, widen)
    with pytest.raises(ModelError, match="do not fit the recipe"):
        read_checkpoint(model)


class _Bomb:
    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (Path("canary-was-run"),))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "unreadable bytes"),
        (b"<!DOCTYPE html><html>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "git lfs pull"),
        (pickle.dumps(_Bomb()), "expected a safetensors model"),
        (b"\xff" * 200, "expected a safetensors model"),
    ],
    ids=["empty", "html", "lfs", "pickle", "garbage"],
)
def test_other_files_are_recognised(content: bytes, message: str, tmp_path: Path) -> None:
    """Each kind of wrong file gets its own sentence, and no pickle is run."""
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=message):
        read_checkpoint(path)
    assert not Path("canary-was-run").exists()


def test_a_truncated_file_is_refused(model: Path) -> None:
    """Half a file is not a model."""
    model.write_bytes(model.read_bytes()[:-1000])
    with pytest.raises(ModelError, match="expected a safetensors model"):
        read_checkpoint(model)


def test_a_missing_file_is_named() -> None:
    """The message names the file."""
    with pytest.raises(ModelError, match=r"nowhere\.safetensors"):
        read_checkpoint(Path("nowhere.safetensors"))
