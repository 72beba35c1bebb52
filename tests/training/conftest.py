"""A case with known nodules, for all tests of training."""

from __future__ import annotations

import numpy as np
import pytest

from napari_alnct.core.geometry import Geometry
from napari_alnct.training.cases import TrainingCase, make_case


@pytest.fixture(scope="session")
def case() -> TrainingCase:
    """Give a lung-like cube with bright balls at known places."""
    shape = (90, 100, 110)
    geometry = Geometry(shape_zyx=shape, spacing_zyx_mm=(1, 1, 1), origin_xyz_mm=(-50.0, -40.0, 10.0))
    centres = np.array([[40.0, 45.0, 50.0], [60.0, 30.0, 80.0]])
    grid = np.indices(shape).astype(float)
    hu = np.full(shape, -850.0)
    for centre in centres:
        distance = np.sqrt(((grid - centre[:, None, None, None]) ** 2).sum(axis=0))
        hu[distance <= 5] = 100
    lungs = np.zeros(shape, bool)
    lungs[5:-5, 5:-5, 5:-5] = True
    return make_case(
        "balls",
        hu.astype(np.int16),
        lungs,
        geometry,
        nodules_xyz_mm=geometry.index_to_world(centres),
        diameters_mm=np.array([10.0, 10.0]),
        excluded_xyz_mm=np.zeros((0, 3)),
        excluded_diameters_mm=np.zeros(0),
    )
