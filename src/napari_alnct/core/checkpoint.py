"""Model files: safetensors weights with their whole recipe as JSON inside.

A file holds the weights of the networks under the prefixes ``detector.`` and
``classifier.``, and one JSON text, the `Recipe`: settings, training facts,
operating points and a known answer. Weights may be stored as float16; they are
used as float32. A file is used only when its SHA-256 is the expected one (where
one is known), every number is finite and the self-test reproduces.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from napari_alnct.core.config import (
    ClassifierNetSettings,
    DetectorNetSettings,
    PrepareSettings,
    from_json,
    to_json,
)
from napari_alnct.core.errors import ModelError, SettingsError
from napari_alnct.core.network import ClassifierNetwork, DetectorNetwork

FORMAT_VERSION = 1
RECIPE_KEY = "alnct_recipe"
SELF_TEST_EDGE_VOX = 32
SELF_TEST_TOLERANCE = 1e-4  # reliability contract R6, float32 on CPU


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that a model file says about itself.

    Parameters
    ----------
    name, version, created : str
        What the model is called, its version and the date it was made.
    prepare : PrepareSettings
        The form of the input: spacing and HU window.
    detector : DetectorNetSettings or None
        Shape of the detector, None when the file has none.
    classifier : ClassifierNetSettings or None
        Shape of the classifier, None when the file has none.
    combine : tuple of 3 float
        Weights (detector logit, classifier logit, constant) of the final logit.
    first_stage_scale : tuple of 2 float
        Factor and constant of the final logit when there is no second look.
    first_stage_points : dict of str to float
        As `operating_points`, for scores without second look.
    operating_points : dict of str to float
        False marks per scan, as text, to threshold of the final score.
    mirrored_looks : int
        How many of the strongest marks the classifier looks at again, mirrored; scores and thresholds hold with it.
    training : dict
        Data, seeds, schedule, versions: plain JSON.
    self_test : dict
        Known answers, made by `write_checkpoint`.
    """

    name: str
    version: str = "0"
    created: str = ""
    prepare: PrepareSettings = field(default_factory=PrepareSettings)
    detector: DetectorNetSettings | None = None
    classifier: ClassifierNetSettings | None = None
    combine: tuple[float, float, float] = (1.0, 0.0, 0.0)
    first_stage_scale: tuple[float, float] = (1.0, 0.0)
    first_stage_points: dict[str, float] = field(default_factory=dict)
    operating_points: dict[str, float] = field(default_factory=dict)
    mirrored_looks: int = 0
    training: dict[str, Any] = field(default_factory=dict)
    self_test: dict[str, list[float]] = field(default_factory=dict)

    def default_threshold(self, *, second_look: bool = True) -> float:
        """Give the threshold of about one false mark per scan; 0.5 when the file stores none.

        Parameters
        ----------
        second_look : bool
            Whether the scores come from both stages; the first stage alone has its own scale.

        Returns
        -------
        float
        """
        points = self.operating_points if second_look else self.first_stage_points
        return points.get("1", 0.5)


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A model ready to use: networks in evaluation mode on the CPU, and their recipe."""

    recipe: Recipe
    sha256: str
    detector: DetectorNetwork | None
    classifier: ClassifierNetwork | None


def write_checkpoint(
    path: Path,
    recipe: Recipe,
    detector: DetectorNetwork | None,
    classifier: ClassifierNetwork | None,
    *,
    half: bool = True,
) -> str:
    """Write a model file and give its SHA-256.

    Parameters
    ----------
    path : Path
        Target, ``.safetensors``; appears complete or not at all.
    recipe : Recipe
        Its settings are replaced by those of the networks, its self-test is made here.
    detector, classifier : Module or None
        Networks to store.
    half : bool
        Store weights as float16.

    Returns
    -------
    str
        SHA-256 of the file, hexadecimal.
    """
    tensors: dict[str, Tensor] = {}
    answers: dict[str, list[float]] = {}
    for prefix, network in (("detector", detector), ("classifier", classifier)):
        if network is None:
            continue
        stored = {k: _stored(v, half) for k, v in network.state_dict().items()}
        tensors |= {f"{prefix}.{k}": v.contiguous() for k, v in stored.items()}
        answers[prefix] = _answer(_loaded(network, stored))
    document = _recipe_to_json(recipe, detector, classifier, answers)
    content = save(tensors, metadata={RECIPE_KEY: json.dumps(document)})
    temporary = path.with_suffix(".tmp")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary.write_bytes(content)
    temporary.replace(path)
    return hashlib.sha256(content).hexdigest()


def read_recipe(path: Path) -> Recipe:
    """Give the recipe of a model file without loading its weights.

    Parameters
    ----------
    path : Path
        A ``.safetensors`` file of this project.

    Returns
    -------
    Recipe

    Raises
    ------
    ModelError
        If the file is missing, damaged or not one of ours.
    """
    try:
        with safe_open(path, framework="pt") as handle:
            text = (handle.metadata() or {}).get(RECIPE_KEY)
    except (OSError, SafetensorError) as fault:
        raise ModelError(_why_unreadable(path, fault)) from fault
    if text is None:
        raise ModelError(f"{path.name}: no {RECIPE_KEY} in the file; choose a model made by this project")
    try:
        return _recipe_from_json(json.loads(text))
    except (AttributeError, KeyError, TypeError, ValueError, SettingsError) as fault:
        raise ModelError(f"{path.name}: its recipe cannot be read ({fault}); use a model of this version") from fault


def read_checkpoint(path: Path, *, sha256: str | None = None) -> Checkpoint:
    """Give the networks of a model file, verified.

    Parameters
    ----------
    path : Path
        A ``.safetensors`` file of this project.
    sha256 : str, optional
        Expected hash; checked before a byte is interpreted.

    Returns
    -------
    Checkpoint

    Raises
    ------
    ModelError
        If the hash differs, a weight is not finite, the shapes do not fit the
        recipe, or the self-test gives another answer.
    """
    found = file_sha256(path)
    if sha256 is not None and found != sha256:
        raise ModelError(
            f"{path.name}: expected SHA-256 {sha256[:12]}..., found {found[:12]}...; "
            "the file is damaged, install it again"
        )
    recipe = read_recipe(path)
    with safe_open(path, framework="pt") as handle:
        tensors = {key: handle.get_tensor(key).float() for key in handle.keys()}  # noqa: SIM118
    bad = sorted(key for key, value in tensors.items() if not torch.isfinite(value).all())
    if bad:
        raise ModelError(
            f"{path.name}: {len(bad)} tensors hold NaN or infinity, first {bad[0]}; train or install it again"
        )
    detector = DetectorNetwork(recipe.detector) if recipe.detector else None
    classifier = ClassifierNetwork(recipe.classifier) if recipe.classifier else None
    for prefix, network in (("detector", detector), ("classifier", classifier)):
        if network is not None:
            _fill(network, prefix, tensors, path.name)
            _self_test(network, recipe.self_test.get(prefix), path.name)
    return Checkpoint(recipe, found, detector, classifier)


def file_sha256(path: Path) -> str:
    """Give the SHA-256 of a file.

    Parameters
    ----------
    path : Path
        A regular file.

    Returns
    -------
    str
        Hexadecimal digest.

    Raises
    ------
    ModelError
        If the file cannot be read.
    """
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as fault:
        raise ModelError(f"{path.name}: the model file cannot be read ({fault.strerror}); check the path") from fault


def _stored(value: Tensor, half: bool) -> Tensor:
    value = value.detach().cpu()
    return value.half() if half and value.is_floating_point() and value.ndim > 1 else value


def _loaded(network: nn.Module, stored: dict[str, Tensor]) -> nn.Module:
    """Give a copy of the network as it will be after loading."""
    copy = type(network)(network.settings)
    copy.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in stored.items()})
    return copy.eval()


def _probe(edge: int) -> Tensor:
    """Give a fixed smooth input with a ball in it, the same on every machine."""
    axis = torch.arange(edge, dtype=torch.float32)
    z, y, x = torch.meshgrid(axis, axis, axis, indexing="ij")
    middle = edge / 2
    ball = torch.sigmoid(5.0 - torch.sqrt((z - middle + 2) ** 2 + (y - middle - 1) ** 2 + (x - middle) ** 2))
    wave = 0.1 * torch.sin(z * 0.7) * torch.cos(y * 0.5 + x * 0.3)
    return (ball * 1.4 - 0.8 + wave)[None, None]


def _answer(network: nn.Module) -> list[float]:
    edge = network.settings.patch_vox if isinstance(network, ClassifierNetwork) else SELF_TEST_EDGE_VOX
    with torch.inference_mode():
        out = network(_probe(edge)).flatten()
    return [float(v) for v in out[:: max(1, out.numel() // 16)]]


def _self_test(network: nn.Module, expected: list[float] | None, name: str) -> None:
    if expected is None:
        raise ModelError(f"{name}: no known answer is stored; write the model again with this version")
    found = _answer(network)
    if len(found) != len(expected):
        raise ModelError(f"{name}: the known answer has {len(expected)} numbers, not {len(found)}; the file is damaged")
    error = max((abs(a - b) / max(1.0, abs(b)) for a, b in zip(found, expected, strict=True)), default=math.inf)
    if not error <= SELF_TEST_TOLERANCE:
        raise ModelError(
            f"{name}: the self-test differs by {error:.2g} (allowed {SELF_TEST_TOLERANCE:g}); do not use it here"
        )


def _fill(network: nn.Module, prefix: str, tensors: dict[str, Tensor], name: str) -> None:
    part = {key.removeprefix(f"{prefix}."): value for key, value in tensors.items() if key.startswith(f"{prefix}.")}
    try:
        network.load_state_dict(part)
    except RuntimeError as fault:
        first = str(fault).splitlines()[1].strip() if "\n" in str(fault) else str(fault)
        raise ModelError(f"{name}: the weights do not fit the recipe ({first}); the file is damaged") from fault
    network.eval()


def _recipe_to_json(
    recipe: Recipe,
    detector: DetectorNetwork | None,
    classifier: ClassifierNetwork | None,
    answers: dict[str, list[float]],
) -> dict[str, Any]:
    document = to_json(recipe)
    document["format"] = FORMAT_VERSION
    document["detector"] = to_json(detector.settings) if detector else None
    document["classifier"] = to_json(classifier.settings) if classifier else None
    document["self_test"] = answers
    return document


def _recipe_from_json(document: dict[str, Any]) -> Recipe:
    values = dict(document)
    if values.pop("format") != FORMAT_VERSION:
        raise ValueError(f"format {document['format']}, this version reads {FORMAT_VERSION}")
    values["prepare"] = from_json(PrepareSettings, values["prepare"])
    values["combine"] = tuple(values["combine"])
    values["first_stage_scale"] = tuple(values["first_stage_scale"])
    if (len(values["combine"]), len(values["first_stage_scale"])) != (3, 2):
        raise ValueError("combine needs 3 numbers and first_stage_scale 2")
    values["operating_points"] = {rate: float(score) for rate, score in values["operating_points"].items()}
    values["self_test"] = {part: [float(v) for v in answer] for part, answer in values["self_test"].items()}
    for key, cls in (("detector", DetectorNetSettings), ("classifier", ClassifierNetSettings)):
        values[key] = from_json(cls, values[key]) if values[key] else None
    return Recipe(**values)


def _why_unreadable(path: Path, fault: Exception) -> str:
    if not path.is_file():
        return f"{path.name}: no such model file; see 'napari-alnct-train detect --help' for the names"
    head = path.read_bytes()[:64]
    if head.startswith(b"version https://git-lfs"):
        return f"{path.name}: this is a Git LFS pointer, not the weights; run 'git lfs pull'"
    if head.lstrip()[:1] == b"<":
        return f"{path.name}: this looks like a web page, not a model; download the file again"
    return f"{path.name}: expected a safetensors model, found {path.stat().st_size} unreadable bytes ({fault})"
