"""Class-activation maps: by hand, against Captum, complete, without side effects."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from captum.attr import LayerGradCam, LayerGradientXActivation
from torch import Tensor, nn

from napari_alnct.core.errors import SettingsError
from napari_alnct.core.explain.activation import (
    ACTIVATION_METHODS,
    activation_maps,
    activations_and_gradients,
    weigh,
)
from tests.core.explain.small_networks import assert_same_state, classifier, detector, plain, state_of

STAGES = [f"encoder.stages.{k}" for k in range(4)]


def whole(output: Tensor) -> Tensor:
    return output


def cell(output: Tensor) -> Tensor:
    return output[:, 0, 3, 4, 2]


def inputs(*shape: int, seed: int = 5) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# Two channels of two cells. A and g by channel; the sums are over the two cells of a channel.
A = torch.tensor([[1.0, 3.0], [2.0, -1.0]]).view(1, 2, 1, 1, 2)
G = torch.tensor([[2.0, -1.0], [0.0, 4.0]]).view(1, 2, 1, 1, 2)


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        # mean of g: 1/2 and 2; 1/2 * 1 + 2 * 2 = 4.5; 1/2 * 3 + 2 * -1 = -0.5
        ("gradcam", [4.5, -0.5]),
        # g A: 2 * 1 + 0 * 2 = 2; -1 * 3 + 4 * -1 = -7
        ("hirescam", [2.0, -7.0]),
        # max(g, 0) A: 2 * 1 + 0 * 2 = 2; 0 * 3 + 4 * -1 = -4
        ("layercam", [2.0, -4.0]),
        # sum(A): 4 and 1. Channel 1: alpha of g = 2: 4 / (2 * 4 + 4 * 8) = 0.1; g = -1 does not count; weight 0.2.
        # Channel 2: g = 0: alpha 0; g = 4: 16 / (2 * 16 + 1 * 64) = 1/6; weight 4/6. 0.2 * 1 + 4/6 * 2; 0.2 * 3 - 4/6
        ("gradcam++", [0.2 + 4 / 3, 0.6 - 2 / 3]),
    ],
)
def test_two_channels_of_two_cells_by_hand(method: str, expected: list[float]) -> None:
    """The formulas of the papers, with the sign kept."""
    found = weigh(method, A, G)
    assert found.shape == (1, 1, 1, 2)
    assert found.flatten().tolist() == pytest.approx(expected)


def test_every_input_of_a_batch_is_weighed_alone() -> None:
    """Means and sums never run over inputs."""
    activation, gradient = inputs(3, 4, 2, 3, 5), inputs(3, 4, 2, 3, 5, seed=6)
    for method in ACTIVATION_METHODS:
        together = weigh(method, activation, gradient)
        alone = [weigh(method, activation[k : k + 1], gradient[k : k + 1]) for k in range(3)]
        assert torch.allclose(together, torch.cat(alone), rtol=1e-12, atol=0)


@pytest.mark.parametrize("layer", STAGES)
@pytest.mark.parametrize(
    ("network", "score", "edge"), [(classifier(), whole, 32), (detector(), cell, 32)], ids=["classifier", "detector"]
)
def test_captum_gives_the_same(network: nn.Module, score: Callable[[Tensor], Tensor], edge: int, layer: str) -> None:
    """X3: Grad-CAM and gradient x activation on the native grid in float64, difference below 1e-5."""
    network = network.double()
    x = inputs(2, 1, edge, edge, edge)
    ours, logits = activation_maps(network, x, layer, score, ("gradcam", "hirescam"))
    module = dict(network.named_modules())[layer]
    cam = LayerGradCam(lambda t: score(network(t)), module).attribute(x, relu_attributions=False)
    product = LayerGradientXActivation(lambda t: score(network(t)), module).attribute(x).sum(dim=1)
    assert torch.equal(logits, score(network(x)).detach())
    for found, expected in ((ours["gradcam"], cam[:, 0]), (ours["hirescam"], product)):
        scale = float(expected.detach().abs().max())
        assert float((found - expected).detach().abs().max()) < min(1e-5, 1e-6 * scale)


def test_hirescam_at_the_deepest_stage_is_complete() -> None:
    """X2: behind it only means and a linear head: the sum and the head's bias are the logit, within 1e-5 of it."""
    network = classifier(64)
    for seed in range(3):
        x = inputs(2, 1, 64, 64, 64, seed=seed).float()
        maps, logits = activation_maps(network, x, STAGES[-1], whole, ("hirescam",))
        sums = maps["hirescam"].sum(dim=(1, 2, 3)) + network.head.bias.detach()
        assert float(((sums - logits) / logits).abs().max()) < 1e-5


def test_with_one_plain_mean_gradcam_is_hirescam() -> None:
    """X2: on a head of one global mean both maps are the same up to a factor."""
    network = classifier(48).double()  # 3 cells: one mean, no nested cubes
    maps, _ = activation_maps(network, inputs(2, 1, 48, 48, 48), STAGES[-1], whole, ("gradcam", "hirescam"))
    factor = (maps["hirescam"] * maps["gradcam"]).sum() / maps["gradcam"].square().sum()
    assert float(factor) > 0
    error = (maps["hirescam"] - factor * maps["gradcam"]).abs().max() / maps["hirescam"].abs().max()
    assert float(error) < 1e-5


def test_nested_means_tell_them_apart() -> None:
    """Where the head weighs the middle more, the two maps differ: the check above can fail."""
    maps, _ = activation_maps(
        classifier(64).double(), inputs(1, 1, 64, 64, 64), STAGES[-1], whole, ("gradcam", "hirescam")
    )
    a, b = maps["gradcam"].flatten(), maps["hirescam"].flatten()
    assert float((a @ b) / (a.norm() * b.norm())) < 0.999


@pytest.mark.parametrize("layer", ["first", "second"])
def test_what_follows_in_place_does_not_reach_the_map(layer: str) -> None:
    """A ReLU that works in place behind the layer changes neither activations nor gradients."""
    found = [activations_and_gradients(plain(in_place=flag), inputs(2, 1, 6, 8, 10), layer, whole) for flag in (0, 1)]
    assert float(found[0][0].min()) < 0  # numbers that the ReLU would have cut off
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


def test_axes_keep_their_order() -> None:
    """Three different lengths come out as (batch, z, y, x)."""
    maps, _ = activation_maps(plain(), inputs(2, 1, 6, 8, 10), "second", whole, ("gradcam",))
    assert maps["gradcam"].shape == (2, 3, 4, 5)


@pytest.mark.parametrize(
    "context", [torch.inference_mode, torch.no_grad, lambda: torch.autocast("cpu", torch.bfloat16)]
)
def test_the_callers_mode_does_not_matter(context: Callable[[], torch.inference_mode]) -> None:
    """Maps are made with gradients and in full precision, whatever the caller has switched on."""
    network = classifier()
    x = inputs(1, 1, 32, 32, 32).float()
    expected = activation_maps(network, x, STAGES[1], whole, ("gradcam", "hirescam"))
    with context():
        found = activation_maps(network, x * 1, STAGES[1], whole, ("gradcam", "hirescam"))
    assert torch.equal(found[1], expected[1])
    assert all(torch.equal(found[0][method], expected[0][method]) for method in expected[0])


def scrambled(network: nn.Module) -> nn.Module:
    """Give modules different modes, some parameters no gradients, and a hook of the owner's."""
    for number, module in enumerate(network.modules()):
        module.training = number % 3 == 0
    for number, parameter in enumerate(network.parameters()):
        parameter.requires_grad_(number % 2 == 0)
    network.encoder.stages[1].register_forward_hook(lambda *_: None)
    return network


def failing(_output: Tensor) -> Tensor:
    raise RuntimeError("in the middle")


@pytest.mark.parametrize("is_broken", [False, True], ids=["whole", "broken"])
def test_the_network_is_left_as_it_was(is_broken: bool) -> None:
    """X4: weights, statistics, modes by module, hooks, flags and the output, bit by bit; also after an exception."""
    network = scrambled(classifier())
    x = inputs(2, 1, 32, 32, 32).float()
    before, output = state_of(network), _answer(network, x)
    assert_same_state(before, state_of(network))
    if is_broken:
        with pytest.raises(RuntimeError, match="in the middle"):
            activation_maps(network, x, STAGES[1], failing, ("gradcam",))
    else:
        activation_maps(network, x, STAGES[1], whole, ACTIVATION_METHODS)
    assert_same_state(before, state_of(network))
    assert torch.equal(_answer(network, x), output)


def _answer(network: nn.Module, x: Tensor) -> Tensor:
    """Give the output in evaluation mode without touching the network's own modes."""
    import copy

    with torch.inference_mode():
        return copy.deepcopy(network).eval()(x)


def test_train_mode_and_dropout_do_not_reach_the_logit() -> None:
    """A network left in train mode gives the evaluation's logit; its statistics stay."""
    network = classifier()
    x = inputs(2, 1, 32, 32, 32).float()
    expected = network(x).detach()
    network.train()
    before = state_of(network)
    _, logits = activation_maps(network, x, STAGES[0], whole, ("gradcam",))
    assert torch.equal(logits, expected)
    assert_same_state(before, state_of(network))


@pytest.mark.parametrize(
    ("layer", "sentence"),
    [("third", "no layer 'third'"), ("", "no layer ''"), ("head", "no single map of cells"), ("dropout", "no single")],
)
def test_layers_without_cells_are_refused(layer: str, sentence: str) -> None:
    """One sentence; the network's hooks are gone."""
    network = plain()
    with pytest.raises(SettingsError, match=sentence):
        activation_maps(network, inputs(1, 1, 6, 8, 10), layer, whole, ("gradcam",))
    assert all(not module._forward_hooks for module in network.modules())


class Beside(nn.Module):
    """One layer that the logit comes from, one beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.used, self.unused = nn.Conv3d(1, 1, 1), nn.Conv3d(1, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Give one logit per input."""
        self.unused(x)
        out: Tensor = self.used(x)
        return out.mean(dim=(1, 2, 3, 4))


@pytest.mark.parametrize("has_gradients", [True, False])
def test_a_layer_that_the_score_does_not_see_is_refused(has_gradients: bool) -> None:
    """Its map would mean nothing; with and without weights that need gradients."""
    network = Beside().requires_grad_(has_gradients)
    with pytest.raises(SettingsError, match="does not depend on layer 'unused'"):
        activation_maps(network, inputs(1, 1, 4, 4, 4).float(), "unused", whole, ("gradcam",))


def test_unknown_methods_are_refused() -> None:
    """With the known ones."""
    with pytest.raises(SettingsError, match=r"'eigencam' is not one of gradcam, gradcam\+\+, hirescam, layercam"):
        activation_maps(plain(), inputs(1, 1, 6, 8, 10), "first", whole, ("eigencam",))
