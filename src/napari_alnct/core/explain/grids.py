"""Where a layer's cells lie in the input: receptive-field arithmetic, followed through a network as it runs.

Along each axis a grid is ``jump`` (input voxels between cell centres) and ``start`` (input coordinate of the centre
of cell 0). The update rules are those of Araujo et al. 2019, "Computing receptive fields of convolutional neural
networks", Distill, doi 10.23915/distill.00021. Nothing is assumed about the network: every operation that it calls
is watched, and a layer whose place cannot be told for sure is not offered.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from napari_alnct.core.geometry import Triple

SAME_PLACE = 1e-6  # voxels within which parallel branches count as agreeing
ELEMENTWISE = {
    "add", "add_", "__add__", "__radd__", "sub", "mul", "mul_", "__mul__", "__rmul__", "div", "__truediv__",
    "relu", "relu_", "leaky_relu", "elu", "gelu", "silu", "sigmoid", "tanh", "softplus", "hardtanh", "identity",
    "batch_norm", "group_norm", "instance_norm", "dropout", "dropout3d", "feature_dropout", "cat", "concat",
    "to", "float", "double", "type", "clone", "contiguous", "detach", "requires_grad_",
}  # fmt: skip


@dataclass(frozen=True)
class CellGrid:
    """The cells of a layer in input voxels: cell ``i`` has its centre at ``start + jump * i``, axes (z, y, x)."""

    jump_zyx: Triple = (1.0, 1.0, 1.0)
    start_zyx: Triple = (0.0, 0.0, 0.0)

    def is_close(self, other: CellGrid) -> bool:
        """Tell whether two grids lie on each other."""
        pairs = zip((*self.jump_zyx, *self.start_zyx), (*other.jump_zyx, *other.start_zyx), strict=True)
        return all(abs(a - b) <= SAME_PLACE for a, b in pairs)

    def strided(self, kernel: Triple, stride: Triple, padding: Triple, dilation: Triple) -> CellGrid:
        """Give the grid after a convolution or pooling.

        Parameters
        ----------
        kernel, stride, padding, dilation : tuple of 3 numbers
            As in torch.

        Returns
        -------
        CellGrid

        Examples
        --------
        >>> CellGrid().strided((4, 4, 4), (2, 2, 2), (1, 1, 1), (1, 1, 1))
        CellGrid(jump_zyx=(2.0, 2.0, 2.0), start_zyx=(0.5, 0.5, 0.5))
        """
        shift = [d * (k - 1) / 2 - p for k, p, d in zip(kernel, padding, dilation, strict=True)]
        start = [a + s * j for a, s, j in zip(self.start_zyx, shift, self.jump_zyx, strict=True)]
        jump = [j * s for j, s in zip(self.jump_zyx, stride, strict=True)]
        return CellGrid(_triple(jump), _triple(start))

    def enlarged(self, scale: Triple) -> CellGrid:
        """Give the grid after nearest or trilinear upsampling with ``align_corners=False``.

        Parameters
        ----------
        scale : tuple of 3 float
            New cells per old cell.

        Returns
        -------
        CellGrid

        Examples
        --------
        >>> CellGrid((8.0, 8.0, 8.0), (3.5, 3.5, 3.5)).enlarged((2.0, 2.0, 2.0))
        CellGrid(jump_zyx=(4.0, 4.0, 4.0), start_zyx=(1.5, 1.5, 1.5))
        """
        start = [a - j * (s - 1) / (2 * s) for a, j, s in zip(self.start_zyx, self.jump_zyx, scale, strict=True)]
        return CellGrid(_triple([j / s for j, s in zip(self.jump_zyx, scale, strict=True)]), _triple(start))


def layer_grids(network: nn.Module, x: Tensor, run: Callable[[Tensor], Any] | None = None) -> dict[str, CellGrid]:
    """Give the grid of every layer whose place in the input is sure.

    Parameters
    ----------
    network : Module
        Runs once in the mode it is in; hooks are gone afterwards.
    x : Tensor, shape (B, C, D, H, W)
        Any input that the network takes.
    run : callable, optional
        What to run; the network itself unless told.

    Returns
    -------
    dict of str to CellGrid
        Names as in ``network.named_modules()``, in the order of the first run; layers that are not on the path from
        the input, are not five-dimensional, run more than once, or join branches that lie differently or whose place
        is not known, are left out.
    """
    tracker = _Tracker(x)
    found: dict[str, CellGrid] = {}
    runs: Counter[str] = Counter()

    def note(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            runs[name] += 1
            grid = tracker.grid_of(output)
            if grid is not None:
                found[name] = grid

        return hook

    handles = [module.register_forward_hook(note(name)) for name, module in network.named_modules() if name]
    try:
        with torch.no_grad(), tracker:
            (run or network)(x)
    finally:
        for handle in handles:
            handle.remove()
    return {name: grid for name, grid in found.items() if runs[name] == 1}


@dataclass(frozen=True)
class _Source:
    """A tensor that comes from the input, and its grid, None where that is not known."""

    tensor: Tensor
    grid: CellGrid | None

    @property
    def is_factor(self) -> bool:
        """Tell whether it has one number per channel, as squeeze-and-excitation makes: it moves nothing."""
        return self.tensor.ndim == 5 and tuple(self.tensor.shape[2:]) == (1, 1, 1)


class _Tracker(TorchFunctionMode):
    """Keeps every tensor that comes from the input, with its grid where that is sure."""

    def __init__(self, x: Tensor) -> None:
        super().__init__()
        self._known: dict[int, _Source] = {id(x): _Source(x, CellGrid())}  # holding tensors keeps ids unique

    def grid_of(self, value: Any) -> CellGrid | None:
        """Give the grid of a tensor, None where it is not known."""
        known = self._known.get(id(value))
        return known.grid if known else None

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run an operation and note where its outputs lie."""
        kwargs = dict(kwargs or {})
        inputs = _tensors((*args, *kwargs.values()))
        sources = [self._known[id(tensor)] for tensor in inputs if id(tensor) in self._known]
        shapes = [tuple(source.tensor.shape[2:]) for source in sources if not source.is_factor]
        grids = [source.grid for source in sources if not source.is_factor]
        result = func(*args, **kwargs)
        outputs = list(_tensors((result,)))
        for output in outputs if sources else ():
            is_sure = output is result and output.ndim == 5
            grid = _follow(getattr(func, "__name__", ""), args, kwargs, grids, shapes, output) if is_sure else None
            self._known[id(output)] = _Source(output, grid)
        return result


def _follow(
    name: str,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    grids: list[CellGrid | None],
    shapes: list[tuple[int, ...]],
    result: Tensor,
) -> CellGrid | None:
    """Give the grid of an operation's output, None where no rule fits or a branch is not sure."""
    grid = grids[0] if grids else None
    if grid is None or not all(other and grid.is_close(other) for other in grids) or len(set(shapes)) != 1:
        return None
    if name == "conv3d":
        given = _named(("input", "weight", "bias", "stride", "padding", "dilation"), args, kwargs)
        return _strided(grid, tuple(given["weight"].shape[2:]), given)
    if name in {"max_pool3d", "avg_pool3d"}:
        names = ("input", "kernel_size", "stride", "padding")
        given = _named((*names, "dilation") if name == "max_pool3d" else names, args, kwargs)
        kernel = given["kernel_size"]
        return _strided(grid, kernel, {**given, "stride": given.get("stride") or kernel})
    if name == "interpolate":
        return _interpolated(grid, shapes[0], result, kwargs)
    same_shape = tuple(result.shape[2:]) == shapes[0]
    return grid if name in ELEMENTWISE and same_shape else None


def _strided(grid: CellGrid, kernel: Any, given: Mapping[str, Any]) -> CellGrid | None:
    padding = given.get("padding", 0)
    if isinstance(padding, str):
        return None
    return grid.strided(
        _three(kernel), _three(given.get("stride", 1)), _three(padding), _three(given.get("dilation", 1))
    )


def _interpolated(grid: CellGrid, shape: tuple[int, ...], result: Tensor, kwargs: Mapping[str, Any]) -> CellGrid | None:
    """Follow upsampling by whole numbers, and by any number where it is trilinear and exact."""
    mode = kwargs.get("mode", "nearest")
    if mode not in {"nearest", "nearest-exact", "trilinear"} or kwargs.get("align_corners") or kwargs.get("antialias"):
        return None
    scale = _triple([new / old for new, old in zip(result.shape[2:], shape, strict=True)])
    asked = kwargs.get("scale_factor")
    if asked is not None and _three(asked) != scale:  # torch samples by the factor it was given, the rest is cut off
        return None
    if mode != "trilinear" and any(factor != round(factor) for factor in scale):
        return None
    return grid.enlarged(scale)


def _named(names: tuple[str, ...], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Give positional and named arguments by name."""
    return {**dict(zip(names, args, strict=False)), **kwargs}


def _tensors(values: Any) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, (tuple, list)):
            yield from _tensors(value)


def _three(value: Any) -> Triple:
    values = (value,) * 3 if isinstance(value, (int, float)) else tuple(value)
    return _triple(values if len(values) == 3 else values * 3)


def _triple(values: Any) -> Triple:
    z, y, x = (float(value) for value in values)
    return z, y, x
