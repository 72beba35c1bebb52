"""The header of a MetaImage file (`.mhd`, `.mha`): its names and their meaning."""

from __future__ import annotations

from typing import Any

import numpy as np

from napari_alnct.core.geometry import Geometry

ELEMENT_TYPES: dict[str, np.dtype[Any]] = {
    "MET_SHORT": np.dtype(np.int16),
    "MET_USHORT": np.dtype(np.uint16),
    "MET_UCHAR": np.dtype(np.uint8),
    "MET_CHAR": np.dtype(np.int8),
    "MET_INT": np.dtype(np.int32),
    "MET_FLOAT": np.dtype(np.float32),
    "MET_DOUBLE": np.dtype(np.float64),
}
FORBIDDEN_IN_NAME = ("/", "\\", ":", "%")


def orientation_letters(geometry: Geometry) -> str:
    """Give ITK's three letters for an axis-aligned grid: the side at which each index axis x, y, z starts.

    Parameters
    ----------
    geometry : Geometry
        Axis-aligned grid.

    Returns
    -------
    str
        ``RAI`` for LPS order: from right, from anterior, from inferior.

    Examples
    --------
    >>> orientation_letters(Geometry(shape_zyx=(2, 2, 2), spacing_zyx_mm=(1, 1, 1)))
    'RAI'
    """
    axes = np.reshape(geometry.direction, (3, 3)).T
    rows = np.argmax(np.abs(axes), axis=1)
    return "".join(("RL", "AP", "IS")[row][int(axis[row] < 0)] for row, axis in zip(rows, axes, strict=True))
