"""Class-activation maps: Grad-CAM, Grad-CAM++, HiResCAM and LayerCAM of one chosen logit, signed, in float32.

With A the activations of a layer (C channels, cells) and g the gradient of the logit by them:

- *Grad-CAM* (Selvaraju et al. 2017, arXiv 1610.02391): sum over channels of mean over cells of g, times A.
- *Grad-CAM++* (Chattopadhay et al. 2018, arXiv 1710.11063, eqs. 10, 19): as above, but the weight of a channel is the
  sum over cells of alpha max(g, 0) with alpha = g^2 / (2 g^2 + sum(A) g^3).
- *HiResCAM* (Draelos and Carin 2020, arXiv 2011.08891): sum over channels of g A. Where the rest of the network is
  linear its sum over the cells plus the bias is the logit.
- *LayerCAM* (Jiang et al. 2021, doi 10.1109/TIP.2021.3089943): sum over channels of max(g, 0) A.

The authors clip maps at zero; here the sign is kept, because evidence against a candidate is evidence too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from napari_alnct.core.errors import SettingsError

ActivationMethod = Literal["gradcam", "gradcam++", "hirescam", "layercam"]
ACTIVATION_METHODS: tuple[str, ...] = get_args(ActivationMethod)
Score = Callable[[Tensor], Tensor]


def activation_maps(
    network: nn.Module, x: Tensor, layer: str, score: Score, methods: tuple[str, ...]
) -> tuple[dict[str, Tensor], Tensor]:
    """Give the maps of a batch at one layer by several methods, from one pass forth and back.

    Parameters
    ----------
    network : Module
        In any mode; runs in evaluation mode and is left exactly as it was.
    x : Tensor, shape (B, C, D, H, W)
        Inputs, independent of each other in the network.
    layer : str
        Name in ``network.named_modules()`` of a layer with output (B, channels, d, h, w).
    score : callable
        Takes the network's output to the logits to explain, shape (B,).
    methods : tuple of str
        Of `ACTIVATION_METHODS`.

    Returns
    -------
    maps : dict of str to Tensor of float32, shape (B, d, h, w)
        By method, on the layer's own cells.
    logits : Tensor of float32, shape (B,)
        The logits that the maps explain.

    Raises
    ------
    SettingsError
        If the layer or a method is not known, or the logit does not depend on the layer.
    """
    for method in methods:
        if method not in ACTIVATION_METHODS:
            raise SettingsError(f"method {method!r} is not one of {', '.join(ACTIVATION_METHODS)}")
    activation, gradient, logits = activations_and_gradients(network, x, layer, score)
    return {method: weigh(method, activation, gradient) for method in methods}, logits


def activations_and_gradients(network: nn.Module, x: Tensor, layer: str, score: Score) -> tuple[Tensor, Tensor, Tensor]:
    """Give a layer's activations, the gradient of each input's logit by them, and the logits.

    Parameters
    ----------
    network, x, layer, score
        As in `activation_maps`.

    Returns
    -------
    activation, gradient : Tensor, shape (B, C, d, h, w)
        Detached.
    logits : Tensor, shape (B,)

    Raises
    ------
    SettingsError
        If there is no such layer, it has no cells or runs more than once, or the logit does not depend on it.
    """
    module = dict(network.named_modules()).get(layer)
    if module is None or not layer:
        raise SettingsError(f"the network has no layer {layer!r}")
    kept: list[Tensor] = []

    def keep(_module: nn.Module, _inputs: object, output: object) -> Tensor:
        if not isinstance(output, Tensor) or output.ndim != 5 or kept:
            raise SettingsError(f"layer {layer!r} gives no single map of cells; choose another layer")
        leaf = output.detach().requires_grad_()
        kept.append(leaf)
        return leaf.clone()  # what follows may work in place

    handle = module.register_forward_hook(keep)
    try:
        with evaluating(network, x.device, with_gradient=True):
            logits = score(network(x.clone()))
            is_tied = bool(kept) and logits.requires_grad
            (gradient,) = torch.autograd.grad(logits.sum(), kept, allow_unused=True) if is_tied else (None,)
    finally:
        handle.remove()
    if gradient is None:
        raise SettingsError(f"the score does not depend on layer {layer!r}; choose another layer")
    return kept[0].detach(), gradient, logits.detach()


def weigh(method: str, activation: Tensor, gradient: Tensor) -> Tensor:
    """Give the signed map of a method from activations and gradients.

    Parameters
    ----------
    method : {"gradcam", "gradcam++", "hirescam", "layercam"}
        The formulas are in the module's docstring.
    activation, gradient : Tensor, shape (B, C, d, h, w)
        Of one layer.

    Returns
    -------
    Tensor, shape (B, d, h, w)
    """
    if method == "hirescam":
        return (gradient * activation).sum(dim=1)
    if method == "layercam":
        return (gradient.clamp(min=0) * activation).sum(dim=1)
    cells = (2, 3, 4)
    if method == "gradcam":
        weight = gradient.mean(dim=cells, keepdim=True)
    else:
        below = 2 * gradient.square() + activation.sum(dim=cells, keepdim=True) * gradient.pow(3)
        alpha = torch.where(below != 0, gradient.square() / torch.where(below != 0, below, 1), 0)
        weight = (alpha * gradient.clamp(min=0)).sum(dim=cells, keepdim=True)
    return (weight * activation).sum(dim=1)


@contextmanager
def evaluating(network: nn.Module, device: torch.device, *, with_gradient: bool) -> Iterator[None]:
    """Let a network give exact answers while the context lasts, whatever the caller has switched on.

    Parameters
    ----------
    network : Module
        In evaluation mode inside; every module gets its own mode back, also after an exception.
    device : torch.device
        Where it runs; automatic half precision is off there.
    with_gradient : bool
        Whether gradients are wanted.

    Yields
    ------
    None
    """
    modes = [(module, module.training) for module in network.modules()]
    autograd = torch.enable_grad() if with_gradient else torch.no_grad()
    try:
        network.eval()
        with torch.inference_mode(mode=False), autograd, torch.autocast(device.type, enabled=False):
            yield
    finally:
        for module, mode in modes:
            module.training = mode
