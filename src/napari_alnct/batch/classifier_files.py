"""The patch classifier of any file that can hold one.

``.safetensors`` files of this project (by name or path; with a detector in them too) say all
about themselves and are verified. ``.pth`` and ``.pt`` files hold weights alone: the shape of
the network comes from a JSON file, given or beside them (under the same name, or the ``run.json``
of a training), or is the default.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from napari_alnct.core.checkpoint import file_sha256, read_checkpoint
from napari_alnct.core.config import ClassifierNetSettings, PrepareSettings, from_json
from napari_alnct.core.errors import ModelError, SettingsError
from napari_alnct.core.network import ClassifierNetwork
from napari_alnct.core.state_dicts import SUFFIXES, fill_network, read_state_dict
from napari_alnct.models.catalogue import find_model

RUN = "run.json"  # of a training run, beside its resume points; its settings stand under the key below
RUN_KEY = "identity"
NETWORK_KEYS = ("network", "classifier")  # where a settings file may hold the shape; else it is the shape itself
PREPARE_KEY, EDGE_KEY = "prepare", "patch_vox"
DEFAULT_EDGE_VOX = ClassifierNetSettings().patch_vox
SAME_FEAT_MULT = 1e-9
ADVICE = "give the --feat-mult and --config that it was trained with"


@dataclass(frozen=True, eq=False, kw_only=True)
class PatchClassifier:
    """A classifier ready to use, and what its file says.

    ``prepare``: the input it was trained on, None when the file does not say; ``training``: the recipe's training
    facts, empty when there is no recipe; ``place``: key of the weights in a PyTorch file.
    """

    name: str
    file: str
    sha256: str
    network: ClassifierNetwork
    prepare: PrepareSettings | None = None
    training: dict[str, Any] = field(default_factory=dict)
    place: str = ""


def load_classifier(
    wish: str | Path, *, feat_mult: float | None = None, config: Path | None = None, patch_vox: int = DEFAULT_EDGE_VOX
) -> PatchClassifier:
    """Give the classifier of a file.

    Parameters
    ----------
    wish : str or Path
        Name of a bundled model, or path of a ``.safetensors``, ``.pth`` or ``.pt`` file.
    feat_mult : float, optional
        Channel multiplier: checked against a recipe; of a PyTorch file it is part of the shape.
    config : Path, optional
        JSON with the shape of a PyTorch file's network (`ClassifierNetSettings`, at the top or under ``network``
        or ``classifier``) and optionally its input (``prepare``).
    patch_vox : int
        Edge of the patches that a PyTorch file's network looks at, where nothing else says it.

    Returns
    -------
    PatchClassifier

    Raises
    ------
    ModelError
        If the file is missing, damaged, holds no classifier, or its weights do not fit.
    SettingsError
        If the settings file cannot be used.
    """
    if Path(wish).suffix.lower() in SUFFIXES:
        return _from_state_dict(Path(wish), feat_mult, config, patch_vox)
    model = find_model(wish)
    if config is not None:
        raise SettingsError(f"{model.path.name} holds its own settings; leave --config {config.name} out")
    checkpoint = read_checkpoint(model.path, sha256=model.sha256)
    network, recipe = checkpoint.classifier, checkpoint.recipe
    if network is None:
        raise ModelError(f"{model.path.name} holds no classifier, only a detector; choose a model with a second look")
    stored = network.settings.feat_mult
    if feat_mult is not None and abs(feat_mult - stored) > SAME_FEAT_MULT:
        raise ModelError(
            f"{model.path.name} was made with feat_mult {stored:g}, not {feat_mult:g}; leave --feat-mult out, or "
            "choose the other model"
        )
    return PatchClassifier(
        name=recipe.name,
        file=model.path.name,
        sha256=checkpoint.sha256,
        network=network,
        prepare=recipe.prepare,
        training=recipe.training,
    )


@dataclass(frozen=True)
class _Facts:
    """What stands beside the weights of a PyTorch file."""

    settings: ClassifierNetSettings
    prepare: PrepareSettings | None = None
    training: dict[str, Any] = field(default_factory=dict)


def _from_state_dict(path: Path, feat_mult: float | None, config: Path | None, patch_vox: int) -> PatchClassifier:
    beside = (path.with_suffix(".json"), path.with_name(RUN))
    source = config or next((candidate for candidate in beside if candidate.is_file()), None)
    facts = _facts_in(source, patch_vox) if source else _Facts(ClassifierNetSettings(patch_vox=patch_vox))
    settings = facts.settings if feat_mult is None else replace(facts.settings, feat_mult=feat_mult)
    weights = read_state_dict(path)
    network = ClassifierNetwork(settings)
    fill_network(network, weights.tensors, path.name, advice=ADVICE)
    return PatchClassifier(
        name=path.stem,
        file=path.name,
        sha256=file_sha256(path),
        network=network,
        prepare=facts.prepare,
        training=facts.training,
        place=weights.place,
    )


def _facts_in(path: Path, patch_vox: int) -> _Facts:
    """Give what a JSON file tells: shape, input, and, in the ``run.json`` of a training, its scans."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(document, dict):
            raise ValueError("it is no object with settings")
        document = document.get(RUN_KEY, document)
        prepare = document.pop(PREPARE_KEY, None)
        own = document if document.keys() & {f.name for f in fields(ClassifierNetSettings)} else {}
        shape = next((document[key] for key in NETWORK_KEYS if key in document), own)
        settings = from_json(ClassifierNetSettings, {EDGE_KEY: patch_vox} | shape)
        assert settings.channels  # a value of a wrong kind shows here
        is_run = path.name == RUN
        return _Facts(settings, from_json(PrepareSettings, prepare) if prepare else None, document if is_run else {})
    except OSError as fault:
        raise SettingsError(f"{path.name} cannot be read ({fault.strerror}); check the path") from fault
    except (ValueError, TypeError, AttributeError) as fault:
        raise SettingsError(
            f"{path.name}: no settings of a classifier can be read from it ({fault}); write a JSON object such as "
            '{"network": {"feat_mult": 2.0}}'
        ) from fault
    except SettingsError as fault:
        raise SettingsError(f"{path.name}: {fault}") from fault
