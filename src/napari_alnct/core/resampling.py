"""Linear interpolation from one LPS grid onto another: the only resampler of the package.

Both grids run along the patient axes, so interpolation is separable: per output
slice two source slices, then rows, then columns are blended. Index positions are
floating-point numbers that point at voxel centres; positions outside the source
take the value of its edge, never zero.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from napari_alnct.core.errors import GeometryError
from napari_alnct.core.geometry import FloatArray, Geometry


@dataclass(frozen=True)
class _Taps:
    """The two neighbours and the weight of the upper one, for each output index of one axis."""

    low: NDArray[np.intp]
    high: NDArray[np.intp]
    weight: NDArray[np.float32]


def resample_linear(
    array: NDArray[np.generic],
    source: Geometry,
    target: Geometry,
    *,
    window: tuple[float, float] | None = None,
    dtype: DTypeLike = np.int16,
) -> NDArray[Any]:
    """Give the values of an image at the voxel centres of another grid.

    Parameters
    ----------
    array : ndarray, shape (z, y, x)
        Values on `source`, any number type.
    source, target : Geometry
        LPS grids (identity direction); they may overlap in part or not at all.
    window : tuple of float, optional
        Lowest and highest value; source values are clipped to it **before** interpolation,
        so that padding such as -3024 HU does not bleed into its neighbours.
    dtype : data type, optional
        Of the result; integers are rounded to the nearest.

    Returns
    -------
    ndarray, shape ``target.shape_zyx``
        Trilinear interpolation; the edge value outside the source.

    Raises
    ------
    GeometryError
        If a grid is not LPS, or the array does not fit its grid.

    Examples
    --------
    >>> grid = Geometry(shape_zyx=(1, 1, 3), spacing_zyx_mm=(1.0, 1.0, 1.0))
    >>> resample_linear(np.array([[[0.0, 10.0, 20.0]]]), grid, grid.resampled((1.0, 1.0, 0.5)), dtype=np.float32)
    array([[[ 0. ,  2.5,  7.5, 12.5, 17.5, 20. ]]], dtype=float32)
    """
    if not (source.is_lps and target.is_lps):
        raise GeometryError("resampling needs LPS grids; bring the scan to LPS with Volume.from_source")
    if array.shape != source.shape_zyx:
        raise GeometryError(f"array shape {array.shape} differs from the grid's {source.shape_zyx}")
    taps = [_taps(index, n) for index, n in zip(axis_indices(source, target), source.shape_zyx, strict=True)]
    array, taps = _cropped(array, taps)
    out = np.empty(target.shape_zyx, dtype=dtype)
    z, y, x = taps
    kept: dict[int, NDArray[np.float32]] = {}  # the two source slices in use
    for k, (low, high, weight) in enumerate(zip(z.low, z.high, z.weight, strict=True)):
        kept = {int(i): kept[i] if i in kept else _plane(array[i], y, x, window) for i in (low, high)}
        plane = kept[low] + weight * (kept[high] - kept[low]) if weight else kept[low]
        out[k] = np.rint(plane) if out.dtype.kind in "iu" else plane
    return out


def axis_indices(source: Geometry, target: Geometry) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Give where the voxel centres of one LPS grid lie in another, axis by axis.

    Parameters
    ----------
    source, target : Geometry
        LPS grids.

    Returns
    -------
    tuple of ndarray of float64
        For z, y, x: the continuous source index of each target index.

    Examples
    --------
    >>> grid = Geometry(shape_zyx=(1, 1, 2), spacing_zyx_mm=(1.0, 1.0, 1.0))
    >>> axis_indices(grid, grid.resampled((1.0, 1.0, 0.5)))[2]
    array([-0.25,  0.25,  0.75,  1.25])
    """
    first = source.world_to_index(target.origin_xyz_mm)
    step = np.divide(target.spacing_zyx_mm, source.spacing_zyx_mm)
    z, y, x = (f + s * np.arange(n) for f, s, n in zip(first, step, target.shape_zyx, strict=True))
    return z, y, x


def _taps(index: FloatArray, n: int) -> _Taps:
    index = np.clip(index, 0, n - 1)
    low = np.floor(index).astype(np.intp)
    return _Taps(low, np.minimum(low + 1, n - 1), (index - low).astype(np.float32))


def _cropped(array: NDArray[np.generic], taps: list[_Taps]) -> tuple[NDArray[np.generic], list[_Taps]]:
    """Leave out rows and columns that no output voxel looks at."""
    starts = [int(tap.low[0]) for tap in taps]
    box = tuple(slice(start, int(tap.high[-1]) + 1) for start, tap in zip(starts, taps, strict=True))
    moved = [_Taps(t.low - start, t.high - start, t.weight) for start, t in zip(starts, taps, strict=True)]
    return array[box], moved


def _plane(values: NDArray[np.generic], y: _Taps, x: _Taps, window: tuple[float, float] | None) -> NDArray[np.float32]:
    plane = values.astype(np.float32)
    if window is not None:
        np.clip(plane, *window, out=plane)
    plane = _blend(plane, y, axis=0)  # (y, x) -> (y', x)
    return _blend(plane, x, axis=1)  # (y', x) -> (y', x')


def _blend(plane: NDArray[np.float32], taps: _Taps, axis: int) -> NDArray[np.float32]:
    low = plane.take(taps.low, axis=axis)
    if not taps.weight.any():
        return low
    high = plane.take(taps.high, axis=axis)
    high -= low
    high *= taps.weight[:, None] if axis == 0 else taps.weight
    low += high
    return low


def coarsen(
    array: NDArray[np.int16], grid: Geometry, spacing_mm: float, *, window: tuple[float, float]
) -> tuple[NDArray[np.float32], Geometry]:
    """Give a small version of a scan, for finding organs.

    Parameters
    ----------
    array : ndarray of int16, shape (z, y, x)
        Values on `grid`.
    grid : Geometry
        LPS grid.
    spacing_mm : float
        Wanted spacing; each axis uses the nearest whole multiple of its own.
    window : tuple of float
        Values are clipped to it before averaging.

    Returns
    -------
    values : ndarray of float32
        Means over blocks in the plane, of every n-th slice: slices are skipped, not averaged.
    grid : Geometry
        The true grid of `values`; up to one block at the far edges is left out.
    """
    nz, ny, nx = (
        min(max(1, round(spacing_mm / s)), n) for s, n in zip(grid.spacing_zyx_mm, grid.shape_zyx, strict=True)
    )
    first = (nz - 1) // 2
    picked = array[first::nz]
    shape = (picked.shape[0], grid.shape_zyx[1] // ny, grid.shape_zyx[2] // nx)
    out = np.empty(shape, dtype=np.float32)
    for k, plane in enumerate(picked):
        clipped = np.clip(plane[: shape[1] * ny, : shape[2] * nx], *np.asarray(window, dtype=np.int16))
        rows = clipped.reshape(shape[1], ny, -1).sum(axis=1, dtype=np.int32)
        out[k] = sum(rows[:, i::nx] for i in range(nx))
    out /= ny * nx
    x, y, z = (float(v) for v in grid.index_to_world([first, (ny - 1) / 2, (nx - 1) / 2]))
    sz, sy, sx = grid.spacing_zyx_mm
    spacing = (nz * sz, ny * sy, nx * sx)
    return out, Geometry(shape_zyx=shape, spacing_zyx_mm=spacing, origin_xyz_mm=(x, y, z), direction=grid.direction)
