"""Blocks of a volume that is too large to run at once.

A *block* is read with a margin on each side and only its core is kept, so the
result is the one of the whole volume when the margin covers the receptive field.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product

from napari_alnct.core.geometry import Shape


@dataclass(frozen=True)
class Block:
    """One block: ``start``/``stop`` are read, ``core_start``/``core_stop`` are kept; voxels (z, y, x)."""

    start: Shape
    stop: Shape
    core_start: Shape
    core_stop: Shape


def padded_shape(shape_zyx: Shape, multiple: int) -> Shape:
    """Give the shape rounded up to a multiple along each axis.

    Parameters
    ----------
    shape_zyx : tuple of int
        Any shape.
    multiple : int
        Deepest stride of the network.

    Returns
    -------
    tuple of int

    Examples
    --------
    >>> padded_shape((100, 96, 1), 16)
    (112, 96, 16)
    """
    z, y, x = (multiple * math.ceil(n / multiple) for n in shape_zyx)
    return z, y, x


def plan_blocks(shape_zyx: Shape, *, most_voxels: int, margin: int, multiple: int) -> list[Block]:
    """Give blocks that cover a padded volume, each of at most the given size where possible.

    Parameters
    ----------
    shape_zyx : tuple of int
        Shape, multiples of `multiple`.
    most_voxels : int
        Largest number of voxels read at once; the smallest block is a core of
        one `multiple` with its margins.
    margin : int
        Voxels read around the core, rounded up to `multiple`.
    multiple : int
        Starts and stops are multiples of this, so that cells stay aligned.

    Returns
    -------
    list of Block
        A single block without margin when the volume is small enough.

    Examples
    --------
    >>> len(plan_blocks((32, 32, 32), most_voxels=10**6, margin=8, multiple=16))
    1
    """
    reach = multiple * math.ceil(margin / multiple)
    parts = [1, 1, 1]
    while _largest(shape_zyx, parts, reach, multiple) > most_voxels:
        lengths = [_core_length(n, k, multiple) for n, k in zip(shape_zyx, parts, strict=True)]
        if max(lengths) <= multiple:
            break
        parts[lengths.index(max(lengths))] += 1
    axes = [_split(n, k, reach, multiple) for n, k in zip(shape_zyx, parts, strict=True)]
    return [
        Block((z[0], y[0], x[0]), (z[1], y[1], x[1]), (z[2], y[2], x[2]), (z[3], y[3], x[3]))
        for z, y, x in product(*axes)
    ]


def _core_length(n: int, parts: int, multiple: int) -> int:
    return multiple * math.ceil(n / multiple / parts)


def _largest(shape: Shape, parts: list[int], reach: int, multiple: int) -> int:
    return math.prod(min(n, _core_length(n, k, multiple) + 2 * reach) for n, k in zip(shape, parts, strict=True))


def _split(n: int, parts: int, reach: int, multiple: int) -> list[tuple[int, int, int, int]]:
    """Give (start, stop, core start, core stop) of each part of one axis."""
    step = _core_length(n, parts, multiple)
    cores = [(a, min(n, a + step)) for a in range(0, n, step)]
    return [(max(0, a - reach), min(n, b + reach), a, b) for a, b in cores]
