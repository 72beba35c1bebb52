"""Explains candidates of a scan: cuts the network's own input, makes the maps in batches, places them in the world."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_alnct.core.checkpoint import Checkpoint
from napari_alnct.core.config import Device, PrepareSettings
from napari_alnct.core.errors import SettingsError
from napari_alnct.core.evidence import EvidenceMap
from napari_alnct.core.explain.activation import ACTIVATION_METHODS, Score, activation_maps, evaluating
from napari_alnct.core.explain.grids import CellGrid, layer_grids
from napari_alnct.core.explain.inputs import NetworkInput, candidate_cell, cut_input, edge_vox
from napari_alnct.core.explain.perturbation import LUNG_HU, integrated_gradients, occlusion_map
from napari_alnct.core.geometry import Geometry, Triple
from napari_alnct.core.inference import Network, choose_device, folded
from napari_alnct.core.network import (
    ClassifierNetwork,
    DetectorNetwork,
    Merge,
    Stage,
    scale_hu,
)

ScoreName = Literal["second look", "first stage"]
SCORE_NAMES: tuple[str, ...] = get_args(ScoreName)
METHODS = (*ACTIVATION_METHODS, "integrated gradients", "occlusion")
DEFAULT_METHOD = "hirescam"
# Input voxels per cell of the layer that is explained unless another is named: what `explain-eval` says of the
# bundled model on real nodules (EXPLAINABILITY.md). The first stage was not judged; 4 is its finest whole resolution.
DEFAULT_STRIDES = {"second look": 2, "first stage": 4}
INPUT = "input"  # layer's name in maps of methods that work on voxels
BATCH = 8
UNITS = {
    "gradcam": "logit per cell, gradients averaged",
    "gradcam++": "logit, gradients weighted",
    "hirescam": "logit per cell",
    "layercam": "logit per cell, rising gradients only",
    "occlusion": "logit lost when a box of 6 voxels becomes lung",
    "integrated gradients": "logit per voxel",
}
Step = Callable[[float], None]


@dataclass(frozen=True)
class LayerChoice:
    """A layer that maps are offered for: its name and the input voxels per cell."""

    name: str
    stride: int


class Explainer:
    """Makes evidence maps with the networks of a model file.

    Parameters
    ----------
    checkpoint : Checkpoint
        Its networks are copied and never changed.
    name : str
        Name of the model to report; the recipe's when empty.
    device : {"auto", "cpu", "cuda", "mps"}
        Where to run; always in float32.
    """

    def __init__(self, checkpoint: Checkpoint, *, name: str = "", device: Device = "auto") -> None:
        self.prepare: PrepareSettings = checkpoint.recipe.prepare
        self.model_name, self.model_sha256 = name or checkpoint.recipe.name, checkpoint.sha256
        self.device = choose_device(device)
        networks: dict[str, Network | None] = {
            "second look": checkpoint.classifier,
            "first stage": checkpoint.detector,
        }
        with torch.inference_mode(mode=False):  # weights made in inference mode have no gradients
            self._networks: dict[str, Network] = {
                score: _placed(network, self.device) for score, network in networks.items() if network is not None
            }
        self._grids: dict[str, dict[str, CellGrid]] = {}

    @property
    def score_names(self) -> tuple[str, ...]:
        """Give which logits can be explained, the default one first."""
        return tuple(self._networks)

    def layers(self, score_name: str) -> tuple[LayerChoice, ...]:
        """Give the layers that maps are offered for, finest first.

        Parameters
        ----------
        score_name : {"second look", "first stage"}
            Whose layers.

        Returns
        -------
        tuple of LayerChoice
            Whole stages whose place in the input is sure.
        """
        network, grids = self.network(score_name), self._layer_grids(score_name)
        modules = dict(network.named_modules())
        named = [name for name in grids if isinstance(modules[name], Stage | Merge)]
        choices = [LayerChoice(name, round(grids[name].jump_zyx[0])) for name in named]
        return tuple(sorted(choices, key=lambda choice: choice.stride))

    def default_layer(self, score_name: str) -> str:
        """Give the layer that is explained unless another is named: the last one with cells as in `DEFAULT_STRIDES`."""
        choices = self.layers(score_name)
        fitting = [choice.name for choice in choices if choice.stride == DEFAULT_STRIDES[score_name]]
        return fitting[-1] if fitting else choices[0].name

    def explain(
        self,
        hu: NDArray[np.int16],
        geometry: Geometry,
        positions_xyz_mm: Sequence[Triple],
        *,
        method: str = DEFAULT_METHOD,
        layer: str = "",
        score_name: str = "",
        names: Sequence[str] = (),
        middles_xyz_mm: Sequence[Triple] = (),
        step: Step | None = None,
    ) -> list[EvidenceMap]:
        """Give the evidence map of each candidate.

        Parameters
        ----------
        hu : ndarray of int16, shape (z, y, x)
            Prepared scan or patch, as the network saw it.
        geometry : Geometry
            Its LPS grid.
        positions_xyz_mm : sequence of tuple
            The candidates, LPS mm.
        method : str
            Of `METHODS`.
        layer : str, optional
            Of the network; the default layer unless told. Ignored by methods that work on voxels.
        score_name : {"second look", "first stage"}, optional
            Whose logit; the second look's where there is one.
        names : sequence of str, optional
            What identifies each candidate in its map.
        middles_xyz_mm : sequence of tuple, optional
            Middles of the networks' inputs when they are not the candidates, LPS mm: for tests with jitter.
        step : callable, optional
            Called with the share done; may raise to stop.

        Returns
        -------
        list of EvidenceMap
            In the order of the positions.

        Raises
        ------
        SettingsError
            If the model has no such score, layer or method.
        GeometryError
            If a candidate lies outside the scan, or a map is not finite.
        """
        if method not in METHODS:
            raise SettingsError(f"method {method!r} is not one of {', '.join(METHODS)}")
        score_name = score_name or self.score_names[0]
        layer = self.check_layer(score_name, layer) if method in ACTIVATION_METHODS else INPUT
        labels = list(names) or [str(number) for number in range(1, len(positions_xyz_mm) + 1)]
        middles = middles_xyz_mm or positions_xyz_mm
        pairs = zip(positions_xyz_mm, middles, strict=True)
        cubes = [self.input_of(hu, geometry, place, score_name, middle) for place, middle in pairs]
        size = BATCH if method in ACTIVATION_METHODS and score_name == "second look" else 1
        made: list[tuple[Tensor, CellGrid, float]] = []
        for first in range(0, len(cubes), size):
            if step:
                step(first / len(cubes))
            within = _part_of(step, first, len(cubes))
            made += self._maps(cubes[first : first + size], method, layer, score_name, within)
        return [
            EvidenceMap(
                values=np.ascontiguousarray(values.float().cpu().numpy()),
                geometry=cube.cells_in_world(grid, (values.shape[0], values.shape[1], values.shape[2]), geometry),
                position_xyz_mm=cube.position_xyz_mm,
                method=method,
                layer=layer,
                score_name=score_name,
                logit=logit,
                candidate=label,
                model_name=self.model_name,
                model_sha256=self.model_sha256,
                unit=UNITS[method],
            )
            for cube, label, (values, grid, logit) in zip(cubes, labels, made, strict=True)
        ]

    def check_layer(self, score_name: str, layer: str) -> str:
        """Give a layer's name, the default one for an empty name.

        Raises
        ------
        SettingsError
            If the network has no such layer or its place in the input is not sure; names those offered.
        """
        if not layer:
            return self.default_layer(score_name)
        if layer not in self._layer_grids(score_name):
            offered = ", ".join(choice.name for choice in self.layers(score_name))
            raise SettingsError(f"layer {layer!r} cannot be explained for the {score_name}; choose one of {offered}")
        return layer

    def scorer(self, one: NetworkInput, score_name: str) -> Callable[[NDArray[np.int16]], NDArray[np.float64]]:
        """Give a function from changed copies of a network's input to logits, for checks that change voxels.

        Parameters
        ----------
        one : NetworkInput
            From `input_of`.
        score_name : {"second look", "first stage"}
            Whose logit.

        Returns
        -------
        callable
            Takes HU of shape (B, *one.hu.shape), gives logits of shape (B,).
        """
        network, score = self.network(score_name), self._score(score_name, one)

        def run(cubes: NDArray[np.int16]) -> NDArray[np.float64]:
            with evaluating(network, self.device, with_gradient=False):
                parts = [score(network(self._scaled(cubes[k : k + BATCH]))) for k in range(0, len(cubes), BATCH)]
            return torch.cat(parts).cpu().double().numpy()

        return run

    def input_of(
        self,
        hu: NDArray[np.int16],
        geometry: Geometry,
        position_xyz_mm: Triple,
        score_name: str,
        middle_xyz_mm: Triple | None = None,
    ) -> NetworkInput:
        """Give what a network sees of a candidate; parameters as in `explain`."""
        settings = self.network(score_name).settings
        return cut_input(hu, geometry, position_xyz_mm, settings, self.prepare.low_hu, middle_xyz_mm)

    def network(self, score_name: str) -> Network:
        """Give the network of a score, on the explainer's device; not to be changed."""
        if score_name not in self._networks:
            raise SettingsError(
                f"{self.model_name} has no score {score_name!r}; choose one of {', '.join(self.score_names)}"
            )
        return self._networks[score_name]

    def _layer_grids(self, score_name: str) -> dict[str, CellGrid]:
        """Give the grids of a network's layers; worked out once."""
        if score_name not in self._grids:
            network = self.network(score_name)
            is_detector = isinstance(network, DetectorNetwork)
            edge = 2 * network.settings.stride if is_detector else edge_vox(network.settings)
            x = torch.zeros(1, 1, edge, edge, edge, device=self.device)
            self._grids[score_name] = layer_grids(network, x, network.features)
        return self._grids[score_name]

    def _scaled(self, cubes: NDArray[np.int16]) -> Tensor:
        x = scale_hu(torch.from_numpy(cubes), self.prepare.low_hu, self.prepare.high_hu).unsqueeze(1)
        return x.to(self.device).contiguous(memory_format=torch.channels_last_3d)

    def _score(self, score_name: str, cube: NetworkInput) -> Score:
        """Give how to read the candidate's logit from the network's output."""
        network = self.network(score_name)
        if isinstance(network, ClassifierNetwork):
            return lambda output: output
        with evaluating(network, self.device, with_gradient=False):
            cells = network(self._scaled(cube.hu[None]))[0].cpu()
        z, y, x = candidate_cell(cells, cube.position_zyx)
        return lambda output: output[:, 0, z, y, x]

    def _maps(
        self, cubes: list[NetworkInput], method: str, layer: str, score_name: str, step: Step | None
    ) -> list[tuple[Tensor, CellGrid, float]]:
        """Give values, grid and logit of each cube; only activation maps of the second look take several at a time."""
        network = self.network(score_name)
        x = self._scaled(np.stack([cube.hu for cube in cubes]))
        score = self._score(score_name, cubes[0])
        if method in ACTIVATION_METHODS:
            maps, logits = activation_maps(network, x, layer, score, (method,))
            grid = self._layer_grids(score_name)[layer]
            return [(values, grid, float(logit)) for values, logit in zip(maps[method], logits, strict=True)]
        fill = float(scale_hu(torch.tensor(LUNG_HU), self.prepare.low_hu, self.prepare.high_hu))
        if method == "occlusion":
            z, y, k = (round(float(value)) for value in cubes[0].position_zyx)
            drops, grid, logit = occlusion_map(network, x, score, fill=fill, middle_zyx=(z, y, k), pulse=step)
            return [(drops, grid, float(logit))]
        attribution, logit = integrated_gradients(network, x, score, fill=fill, pulse=step)
        return [(attribution, CellGrid(), float(logit))]


def _part_of(step: Step | None, done: int, total: int) -> Step | None:
    """Give the progress of one candidate as progress of all."""
    return (lambda share: step((done + share) / total)) if step else None


def _placed(network: Network, device: torch.device) -> Network:
    """Give a copy for one device, whose weights need no gradients."""
    copy: Network = folded(network).to(device, memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    return copy.requires_grad_(False)
