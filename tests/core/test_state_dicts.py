"""PyTorch files: weights in any of the usual wrappings are read, code is refused, misfits are named."""

from __future__ import annotations

import os
import pickle
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from napari_alnct.core.errors import ModelError
from napari_alnct.core.state_dicts import fill_network, read_state_dict

NETWORK = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
WEIGHTS = NETWORK.state_dict()


class Trap:
    """Unpickled, it makes a file: the sign that code of a model file ran."""

    def __init__(self, sign: Path) -> None:
        self.sign = sign

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(self.sign),)


def same(tensors: dict[str, torch.Tensor]) -> bool:
    return list(tensors) == list(WEIGHTS) and all(torch.equal(tensors[key], WEIGHTS[key]) for key in WEIGHTS)


@pytest.mark.parametrize(
    ("content", "place"),
    [
        (WEIGHTS, ""),
        ({"state_dict": WEIGHTS, "epoch": 3}, "state_dict"),
        ({"model": WEIGHTS, "optimizer": {"state": {}, "lr": 0.1}}, "model"),
        ({"model_state_dict": WEIGHTS}, "model_state_dict"),
        ({"network": {k: torch.zeros_like(v) for k, v in WEIGHTS.items()}, "average": WEIGHTS, "step": 7}, "average"),
        ({f"module.{k}": v for k, v in WEIGHTS.items()}, ""),
        ({"model": {f"_orig_mod.module.{k}": v for k, v in WEIGHTS.items()}}, "model"),
        ({"n_averaged": torch.tensor(5), **{f"module.{k}": v for k, v in WEIGHTS.items()}}, ""),
        ({k: v.double() if v.is_floating_point() else v for k, v in WEIGHTS.items()}, ""),
    ],
    ids=["bare", "state_dict", "model", "model_state_dict", "resume", "ddp", "compiled", "averaged", "double"],
)
@pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "legacy"])
def test_usual_wrappings_are_read(tmp_path: Path, content: object, place: str, is_zip: bool) -> None:
    """Bare or under a key, with the prefixes of wrappers; a resume point gives its running average."""
    torch.save(content, tmp_path / "w.pth", _use_new_zipfile_serialization=is_zip)
    found = read_state_dict(tmp_path / "w.pth")
    assert same(found.tensors)
    assert found.place == place


@pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "legacy"])
def test_code_is_refused_and_does_not_run(tmp_path: Path, is_zip: bool) -> None:
    """A pickle that makes a folder when it is read: one sentence, and no folder."""
    path, sign = tmp_path / "trap.pth", tmp_path / "ran"
    torch.save({"state_dict": WEIGHTS, "extra": Trap(sign)}, path, _use_new_zipfile_serialization=is_zip)
    with pytest.raises(ModelError, match=r"trap\.pth holds pickled objects, which can run code .* was not opened"):
        read_state_dict(path)
    assert not sign.exists()
    torch.load(path, weights_only=False)
    assert sign.exists()  # the trap works: the test can fail


def test_a_bare_pickle_does_not_run(tmp_path: Path) -> None:
    """Not a torch file at all, but a pickle with code."""
    (tmp_path / "raw.pth").write_bytes(pickle.dumps(Trap(tmp_path / "ran")))
    with pytest.raises(ModelError, match=r"raw\.pth"):
        read_state_dict(tmp_path / "raw.pth")
    assert not (tmp_path / "ran").exists()


def test_a_whole_module_is_refused(tmp_path: Path) -> None:
    """``torch.save(network)`` stores classes: the sentence says what to save instead."""
    torch.save(NETWORK, tmp_path / "whole.pth")
    with pytest.raises(ModelError, match=r"save its network\.state_dict\(\) alone"):
        read_state_dict(tmp_path / "whole.pth")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    raw = WEIGHTS["0.weight"].numpy().tobytes()
    content[content.index(raw) + 3] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (cut, "cannot be read as PyTorch weights"),
        (flip, "cannot be read as PyTorch weights"),
        (lambda path: path.write_bytes(b""), "cannot be read as PyTorch weights"),
        (lambda path: path.write_bytes(b"<html></html>"), "cannot be read as PyTorch weights"),
        (lambda path: path.unlink(), "no such model file; check the path"),
        (lambda path: (path.unlink(), path.mkdir()), "cannot be read .*; check the path"),
        (lambda path: torch.save({"epoch": 3, "loss": 0.1}, path), "no weights in it, found epoch, loss"),
        (lambda path: torch.save([1, 2], path), "no weights in it, found list"),
        (lambda path: torch.save({}, path), "no weights in it, found nothing"),
        (lambda path: torch.save({"a": torch.tensor([1.0, float("nan")])}, path), "1 tensors hold NaN .* first a"),
    ],
    ids=["cut", "flipped", "empty", "page", "missing", "folder", "numbers", "list", "nothing", "nan"],
)
def test_what_cannot_be_used_is_refused(tmp_path: Path, spoil: Any, sentence: str) -> None:
    """Damaged files, other content, weights that are no numbers: one sentence that names the file, not its folder."""
    path = tmp_path / "w.pth"
    torch.save(WEIGHTS, path)
    spoil(path)
    with pytest.raises(ModelError, match=sentence) as caught:
        read_state_dict(path)
    assert str(caught.value).startswith("w.pth")
    assert str(tmp_path) not in str(caught.value)


def test_weights_fill_a_network() -> None:
    """The network computes the same afterwards, in evaluation mode; counters of the normalisation may be absent."""
    fresh = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    given = {key: value for key, value in WEIGHTS.items() if "num_batches" not in key}
    fill_network(fresh, given, "w.pth", advice="x")
    x = torch.randn(4, 3)
    assert not fresh.training
    assert torch.equal(fresh(x), NETWORK.eval()(x))


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        (WEIGHTS | {"0.weight": torch.zeros(5, 3)}, "0.weight has shape (5, 3) where (2, 3) is expected; try this"),
        ({k: v for k, v in WEIGHTS.items() if k != "1.bias"}, "1.bias is not in the file; try this"),
        (WEIGHTS | {"2.weight": torch.zeros(1)}, "the network has no 2.weight; try this"),
    ],
    ids=["shape", "missing", "unknown"],
)
def test_the_first_tensor_that_does_not_fit_is_named(changed: dict[str, torch.Tensor], sentence: str) -> None:
    """Another shape, a missing and an unknown tensor; the network stays as it was."""
    fresh = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    before = {key: value.clone() for key, value in fresh.state_dict().items()}
    with pytest.raises(ModelError, match=re.escape(f"w.pth: the weights do not fit, {sentence}")):
        fill_network(fresh, changed, "w.pth", advice="try this")
    assert all(torch.equal(value, before[key]) for key, value in fresh.state_dict().items())
