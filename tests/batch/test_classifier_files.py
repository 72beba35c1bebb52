"""Classifiers from files: recipes are checked, weights without a recipe get their shape from elsewhere."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from napari_alnct.batch.classifier_files import load_classifier
from napari_alnct.core.config import ClassifierNetSettings, to_json
from napari_alnct.core.errors import ModelError, SettingsError
from tests.batch.tiny_patches import EDGE, SMALL, small_network, write_small_model
from tests.core.tiny_models import write_tiny_model

WIDE = replace(SMALL, feat_mult=2.0)
PROBE = torch.randn(2, 1, EDGE, EDGE, EDGE, generator=torch.Generator().manual_seed(0))


def write_pth(path: Path, settings: object = SMALL) -> torch.Tensor:
    """Write weights alone and give the network's answer to the probe."""
    network = small_network(3, settings)  # type: ignore[arg-type]
    torch.save({"state_dict": {f"module.{k}": v for k, v in network.state_dict().items()}}, path)
    return answer(network)


def answer(network: torch.nn.Module) -> torch.Tensor:
    with torch.inference_mode():
        return network(PROBE)


def test_a_model_file_gives_its_classifier(tmp_path: Path) -> None:
    """Network, name, hash, window and training facts come from the file."""
    network = write_small_model(tmp_path / "m.safetensors", training={"train_series": ["a"]})
    found = load_classifier(tmp_path / "m.safetensors", feat_mult=1.0)
    assert torch.equal(answer(found.network), answer(network))
    assert (found.name, found.file, len(found.sha256)) == ("small", "m.safetensors", 64)
    assert found.training == {"train_series": ["a"]}
    assert found.prepare is not None


def test_the_second_look_of_a_whole_model_is_taken(tmp_path: Path) -> None:
    """A file with a detector too gives its classifier; so does the bundled default by name."""
    write_tiny_model(tmp_path / "m.safetensors")
    assert load_classifier(tmp_path / "m.safetensors").network.settings.patch_vox == 64
    assert load_classifier("default").network.settings.widths == (24, 48, 96)


def test_a_model_without_classifier_is_refused(tmp_path: Path) -> None:
    """A detector alone cannot judge patches."""
    write_tiny_model(tmp_path / "m.safetensors", with_classifier=False)
    with pytest.raises(ModelError, match=r"m\.safetensors holds no classifier, only a detector"):
        load_classifier(tmp_path / "m.safetensors")


def test_feat_mult_is_checked_against_the_recipe(tmp_path: Path) -> None:
    """Another multiplier than the recipe's is refused with both numbers."""
    write_small_model(tmp_path / "m.safetensors")
    with pytest.raises(ModelError, match=r"m\.safetensors was made with feat_mult 1, not 2; leave --feat-mult out"):
        load_classifier(tmp_path / "m.safetensors", feat_mult=2.0)


def test_a_config_for_a_model_file_is_refused(tmp_path: Path) -> None:
    """A recipe needs no second source of settings."""
    write_small_model(tmp_path / "m.safetensors")
    with pytest.raises(SettingsError, match=r"holds its own settings; leave --config c\.json out"):
        load_classifier(tmp_path / "m.safetensors", config=tmp_path / "c.json")


@pytest.mark.parametrize(
    "document",
    [
        to_json(WIDE),
        {"network": to_json(WIDE)},
        {"classifier": to_json(WIDE), "prepare": {"low_hu": -1000.0}},
        {"network": {"widths": [8, 8], "depths": [1, 1], "feat_mult": 2}, "epochs": 20},
        {"identity": {"network": to_json(WIDE), "train_series": ["a"]}, "versions": {}},
    ],
    ids=["flat", "network", "classifier", "training", "run"],
)
@pytest.mark.parametrize("place", ["config", "beside", "run"])
def test_the_shape_of_weights_comes_from_json(tmp_path: Path, document: dict[str, object], place: str) -> None:
    """Given, beside the file under its name, or in the run.json of its training; the edge may be the patches' own."""
    expected = write_pth(tmp_path / "w.pth", WIDE)
    source = tmp_path / {"config": "c.json", "beside": "w.json", "run": "run.json"}[place]
    source.write_text(json.dumps(document))
    found = load_classifier(tmp_path / "w.pth", config=source if place == "config" else None, patch_vox=EDGE)
    assert torch.equal(answer(found.network), expected)
    assert found.place == "state_dict"
    assert (found.prepare.low_hu if found.prepare else None) == (-1000.0 if "prepare" in document else None)
    assert (found.training.get("train_series") == ["a"]) == (place == "run" and "identity" in document)


def test_feat_mult_is_part_of_the_shape_of_weights(tmp_path: Path) -> None:
    """With the right multiplier weights load; without, the first tensor that differs is named."""
    (tmp_path / "c.json").write_text(json.dumps(to_json(SMALL)))
    expected = write_pth(tmp_path / "w.pth", WIDE)
    found = load_classifier(tmp_path / "w.pth", feat_mult=2.0, config=tmp_path / "c.json")
    assert torch.equal(answer(found.network), expected)
    sentence = (
        "w.pth: the weights do not fit, encoder.stages.0.down.0.weight has shape (16, 1, 4, 4, 4) where "
        "(8, 1, 4, 4, 4) is expected; give the --feat-mult and --config that it was trained with"
    )
    with pytest.raises(ModelError, match=re.escape(sentence)):
        load_classifier(tmp_path / "w.pth", config=tmp_path / "c.json")


def test_weights_of_a_default_network_need_nothing_beside_them(tmp_path: Path) -> None:
    """Without any JSON the default shape is taken, with the given multiplier."""
    settings = replace(ClassifierNetSettings(), feat_mult=0.25)
    torch.save(small_network(0, settings).state_dict(), tmp_path / "w.pt")
    found = load_classifier(str(tmp_path / "w.pt"), feat_mult=0.25)
    assert found.network.settings == settings
    assert (found.prepare, found.training, found.place) == (None, {}, "")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{", "no settings of a classifier can be read"),
        ("[1]", "it is no object with settings"),
        ('{"widths": [8, 8], "colour": 3}', "has no setting colour"),
        ('{"network": {"feat_mult": "2"}}', "feat_mult is the text '2'; write a number"),
        ('{"network": {"feat_mult": 99}}', "feat_mult is 99, allowed is"),
        ('{"network": 3}', "no settings of a classifier can be read"),
    ],
)
def test_settings_that_cannot_be_used_are_refused(tmp_path: Path, text: str, sentence: str) -> None:
    """No JSON, no object, unknown names, wrong kinds, values out of bounds: the file is named."""
    write_pth(tmp_path / "w.pth")
    (tmp_path / "c.json").write_text(text)
    with pytest.raises(SettingsError, match=sentence) as caught:
        load_classifier(tmp_path / "w.pth", config=tmp_path / "c.json")
    assert str(caught.value).startswith("c.json: ")


def test_a_missing_config_is_said(tmp_path: Path) -> None:
    """The sentence names the file."""
    write_pth(tmp_path / "w.pth")
    with pytest.raises(SettingsError, match=r"c\.json cannot be read"):
        load_classifier(tmp_path / "w.pth", config=tmp_path / "c.json")
