"""Which marks a slice or slab shows, and how large: sections of spheres.

A symbol can be drawn wider than the sphere that it stands for, so that its lines lie
around the nodule; how many times as wide is in the layer's metadata.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_alnct.core.geometry import FloatArray
from napari_alnct.plugin._layers import WIDENING_KEY


def sections(
    offsets: ArrayLike, diameters: ArrayLike, below: ArrayLike = 0.0, above: ArrayLike = 0.0
) -> tuple[NDArray[np.bool_], FloatArray]:
    """Tell which spheres reach into a slab, and the diameter of the largest circle that it cuts from each.

    Parameters
    ----------
    offsets : array_like, shape (N, D)
        Centre minus the middle of the slab along each axis that is not displayed, any unit of length.
    diameters : array_like, shape (N,)
        Of the spheres, same unit.
    below, above : array_like, shape (D,) or scalar, optional
        How far the slab reaches from its middle; 0 for a single slice.

    Returns
    -------
    tuple of ndarray, shape (N,)
        Whether it reaches in, and the diameter of the circle, 0 where it does not.

    Examples
    --------
    >>> inside, circles = sections([[0.0], [3.0], [6.0]], [10.0, 10.0, 10.0])
    >>> inside.tolist(), circles.tolist()
    ([True, True, False], [10.0, 8.0, 0.0])
    >>> sections([[6.0]], [10.0], below=3.0, above=3.0)[1].tolist()
    [8.0]
    """
    offset = np.asarray(offsets, dtype=np.float64)
    radius = np.asarray(diameters, dtype=np.float64) / 2
    low, high = np.asarray(below, dtype=np.float64), np.asarray(above, dtype=np.float64)
    beyond = np.maximum(0.0, np.maximum(offset - high, -offset - low))  # from the slab's face to the centre
    squared = radius**2 - np.sum(beyond**2, axis=-1)
    inside = squared > 0
    return inside, 2 * np.sqrt(np.where(inside, squared, 0.0))


def _request_sections(layer: Any) -> Callable[..., Any]:
    """Give a function that makes napari's slice requests for a layer of marks, answered by `sections`."""
    from napari.layers.points._slice import _PointSliceRequest

    class SectionRequest(_PointSliceRequest):  # type: ignore[misc]  # napari is untyped here
        """A slice of points as sections of spheres."""

        def _get_slice_data(self, not_displayed: list[int]) -> tuple[NDArray[np.intp], FloatArray]:
            middle, below, above = self.data_slice[not_displayed].as_array()
            offsets, widening = self.data[:, not_displayed] - middle, _widening(marks())
            inside, circles = sections(offsets, self.size / widening, below, above)
            visible = np.flatnonzero(inside & self.shown)
            return visible, (circles * widening)[visible]

    marks = weakref.ref(layer)

    def make(slice_input: Any, data_slice: Any) -> Any:
        points: Any = marks()
        return SectionRequest(
            slice_input=slice_input,
            data=points.data,
            data_slice=data_slice,
            projection_mode=points.projection_mode,
            size=points.size,
            shown=points.shown,
        )

    return make


def cut_spheres_by_slabs(layer: Any, is_on: bool) -> None:
    """Make a points layer show the largest section of each sphere within the slab in view, or leave that to napari.

    napari (0.9) drops a point as soon as its centre leaves a slab, though its sphere still reaches into it.

    Parameters
    ----------
    layer : napari.layers.Points
        Marks, with sizes as diameters.
    is_on : bool
        False gives the layer back as it was.
    """
    slicing: Any = getattr(layer, "_slicing_state", None)
    if not hasattr(slicing, "make_slice_request_internal"):
        return
    if is_on:
        slicing.make_slice_request_internal = _request_sections(layer)
    else:
        slicing.__dict__.pop("make_slice_request_internal", None)
    layer.refresh(extent=False)


def _widening(layer: Any) -> Any:
    """Give the widening of each mark; 1 where none fits."""
    found = np.asarray(layer.metadata.get(WIDENING_KEY, 1.0), dtype=np.float64)
    return found if found.shape in ((), (len(layer.data),)) else 1.0
