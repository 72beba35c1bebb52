"""Evidence maps as values: invariants, sampling, one scale for all, agreement."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.stats import pearsonr, spearmanr

from napari_alnct.core.errors import GeometryError
from napari_alnct.core.evidence import (
    DISAGREES,
    NO_RELIABLE_MAP,
    EvidenceMap,
    agreement,
    badge,
    pearson,
    rank_agreement,
    shared_limit,
    spearman,
)
from napari_alnct.core.geometry import Geometry

GRID = Geometry(shape_zyx=(2, 3, 4), spacing_zyx_mm=(4.0, 2.0, 1.0), origin_xyz_mm=(10.0, 20.0, 30.0))


def evidence(values: Any, geometry: Geometry = GRID, **changes: Any) -> EvidenceMap:
    given: dict[str, Any] = {
        "position_xyz_mm": (11.0, 22.0, 32.0),
        "method": "hirescam",
        "layer": "encoder.stages.1",
        "score_name": "second look",
        "logit": 1.5,
    }
    return EvidenceMap(values=np.asarray(values), geometry=geometry, **(given | changes))


def ramp() -> EvidenceMap:
    """Give value = world x - 11 on the grid: linear, so that sampling has one answer."""
    values = np.broadcast_to(np.arange(4, dtype=np.float32) - 1, GRID.shape_zyx)
    return evidence(np.ascontiguousarray(values))


def test_signs_are_kept_apart() -> None:
    """Support and evidence against are both positive sizes, and together the map."""
    one = ramp()
    assert np.array_equal(one.supports - one.argues_against, one.values)
    assert one.supports.min() == one.argues_against.min() == 0
    assert (one.has_support, replace(one, values=-one.supports).has_support) == (True, False)


def test_the_peak_is_the_centre_of_the_strongest_cell() -> None:
    """Cell (1, 2, 3): x = 10 + 3 * 1, y = 20 + 2 * 2, z = 30 + 1 * 4."""
    values = np.zeros(GRID.shape_zyx, np.float32)
    values[1, 2, 3], values[0, 0, 0] = 2, -5
    assert evidence(values).peak_xyz_mm == (13.0, 24.0, 34.0)


def test_between_centres_linear_beyond_the_cells_nothing() -> None:
    """Half way between centres the mean; flat on the outer half of the border cells; 0 beyond."""
    places = [
        (11.5, 20, 30),
        (10.25, 23, 33),
        (9.6, 20, 30),
        (13.4, 20, 30),
        (9.4, 20, 30),
        (13.6, 20, 30),
        (12, 99, 30),
    ]
    assert ramp().at(places).tolist() == pytest.approx([0.5, -0.75, -1.0, 2.0, 0.0, 0.0, 0.0])


@pytest.mark.parametrize(
    "grid",
    [
        Geometry(shape_zyx=(20, 21, 22), spacing_zyx_mm=(0.7, 0.6, 0.5), origin_xyz_mm=(6.1, 17.2, 26.3)),
        Geometry(shape_zyx=(3, 4, 5), spacing_zyx_mm=(0.7, 0.6, 0.5), origin_xyz_mm=(11.1, 21.2, 31.3)),
        Geometry(shape_zyx=(3, 4, 5), spacing_zyx_mm=(0.7, 0.6, 0.5), origin_xyz_mm=(-50.0, 0.0, 0.0)),
    ],
    ids=["around", "inside", "apart"],
)
def test_on_another_grid_every_voxel_is_sampled(grid: Geometry) -> None:
    """The box that is worked out is large enough: the same as sampling every voxel of the grid."""
    index = np.stack(np.indices(grid.shape_zyx), axis=-1).reshape(-1, 3)
    expected = ramp().at(grid.index_to_world(index)).reshape(grid.shape_zyx)
    found = ramp().on_grid(grid)
    assert found.dtype == np.float32
    assert np.allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize(
    ("values", "geometry", "sentence"),
    [
        (np.zeros((2, 3, 4)), GRID, "float64 map"),
        (np.zeros((2, 3, 5), np.float32), GRID, r"shape \(2, 3, 5\) does not fit"),
        (np.full((2, 3, 4), np.nan, np.float32), GRID, "not finite"),
        (
            np.zeros((2, 3, 4), np.float32),
            replace(GRID, direction=(0.0, 1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0)),
            "not those of the patient",
        ),
    ],
    ids=["type", "shape", "nan", "axes"],
)
def test_broken_maps_are_refused(values: Any, geometry: Geometry, sentence: str) -> None:
    """Nothing that could be drawn wrongly becomes a map."""
    with pytest.raises(GeometryError, match=sentence):
        evidence(values, geometry)


def test_one_scale_for_all() -> None:
    """The strongest of any sign in any map; 1 where there is nothing to show."""
    weak, strong = ramp(), replace(ramp(), values=-3 * ramp().values)
    assert shared_limit([weak, strong]) == 6.0
    assert shared_limit([]) == shared_limit([replace(weak, values=0 * weak.values)]) == 1.0


def test_one_strong_cell_does_not_hide_the_rest() -> None:
    """Of 4,000 cells the strongest may lie above the top; a map that is zero but for one cell has that cell's top."""
    values = np.linspace(0.0, 1.0, 4000, dtype=np.float32).reshape(10, 20, 20)
    grid = replace(GRID, shape_zyx=(10, 20, 20))
    second = float(np.sort(values.ravel())[-2])
    peaked = values.copy()
    peaked[-1, -1, -1] = 50.0
    assert shared_limit([evidence(values, grid)]) == pytest.approx(second, abs=1e-6)
    assert shared_limit([evidence(peaked, grid), evidence(-values, grid)]) == pytest.approx(second, abs=1e-6)
    single = np.zeros_like(values)
    single[0, 0, 0] = -3.0
    assert shared_limit([evidence(single, grid)]) == 3.0


def test_rank_correlation_is_scipys() -> None:
    """With ties; 0 where one side is constant."""
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 9, 60), rng.normal(size=60)
    assert spearman(a, b) == pytest.approx(spearmanr(a, b).statistic)
    assert spearman(a, np.ones(60)) == 0.0


def test_agreement_is_judged_at_the_second_maps_cells() -> None:
    """The ramp against itself on a shifted grid: 1; against its negative: -1."""
    shifted = Geometry(shape_zyx=(2, 2, 3), spacing_zyx_mm=(4.0, 2.0, 1.0), origin_xyz_mm=(10.5, 21.0, 30.0))
    other = evidence(ramp().on_grid(shifted), shifted, method="occlusion", layer="input")
    assert agreement(ramp(), other) == pytest.approx(1)
    assert agreement(ramp(), replace(other, values=-other.values)) == pytest.approx(-1)


def test_correlation_is_scipys() -> None:
    """Also far from zero; by hand (1, 0, 0, 0) with (1, 1, 0, 0): covariance .5, deviations sqrt(.75) and 1."""
    rng = np.random.default_rng(0)
    a, b = rng.normal(1e3, 1, 60), rng.normal(size=60)
    assert pearson(a, b) == pytest.approx(pearsonr(a, b).statistic, abs=1e-9)
    assert pearson([1, 0, 0, 0], [1, 1, 0, 0]) == pytest.approx(0.5 / 0.75**0.5)


BOXES = Geometry(shape_zyx=(10, 10, 10), spacing_zyx_mm=(4.0, 4.0, 4.0), origin_xyz_mm=(-18.0, -18.0, -18.0))
PEAK_CELLS = 0.7  # standard deviation
NOISES = st.integers(0, 2**32 - 1)
PLACES = st.tuples(*[st.integers(2, 7)] * 3)


def blob(cell: tuple[int, ...], seed: int, noise: float = 0.01) -> EvidenceMap:
    """Give a map as occlusion finds it: a peak some 6 mm wide, elsewhere next to nothing."""
    index = np.stack(np.meshgrid(*(np.arange(10),) * 3, indexing="ij"), axis=-1)
    values = np.exp(-(((index - np.array(cell)) / PEAK_CELLS) ** 2).sum(axis=-1) / 2)
    values += noise * np.random.default_rng(seed).normal(size=values.shape)
    return evidence(values.astype(np.float32), BOXES, method="occlusion", layer="input")


def test_the_badge_sees_the_peak_where_ranks_see_the_noise() -> None:
    """Two maps with the same peak and other noise agree; in ranks they hardly do, and the badge would warn."""
    one, other = blob((4, 5, 3), 1), blob((4, 5, 3), 2)
    assert agreement(one, other) > 0.9
    assert badge(agreement(one, other)) == ""
    assert rank_agreement(one, other) < 0.2
    assert badge(rank_agreement(one, other)) == NO_RELIABLE_MAP


@settings(max_examples=40, deadline=None)
@given(PLACES, PLACES, NOISES, NOISES, st.floats(1e-6, 1e6))
def test_agreement_follows_the_place_of_the_evidence(
    here: tuple[int, ...], there: tuple[int, ...], seed: int, other_seed: int, scale: float
) -> None:
    """A map with itself 1, with its negative -1, whatever the scale; with one whose peak is elsewhere unreliable."""
    one = blob(here, seed)
    scaled = replace(one, values=(one.values * np.float32(scale)))
    assert agreement(one, one) == pytest.approx(1)
    assert agreement(one, replace(one, values=-one.values)) == pytest.approx(-1)
    assert agreement(scaled, one) == pytest.approx(1, abs=1e-6)
    near = blob(here, other_seed)
    assert agreement(scaled, near) == pytest.approx(agreement(one, near), abs=1e-6)
    assert agreement(one, near) == pytest.approx(agreement(near, one))
    assume(np.linalg.norm(np.subtract(here, there)) >= 4)
    assert badge(agreement(blob(there, other_seed), one)) == NO_RELIABLE_MAP


@pytest.mark.parametrize("value", [0.0, 0.1, -3.0, 1e-30])
def test_a_constant_map_is_not_reliable(value: float) -> None:
    """Agreement 0 on either side, also where sampling between its cells rounds, so the badge says so."""
    one = blob((4, 4, 4), 0)
    finer = Geometry(shape_zyx=(31, 31, 31), spacing_zyx_mm=(1.3, 1.3, 1.3), origin_xyz_mm=(-19.9, -19.9, -19.9))
    flat = evidence(np.full(finer.shape_zyx, value, np.float32), finer)
    assert agreement(flat, one) == agreement(one, replace(one, values=np.full_like(one.values, value))) == 0
    assert rank_agreement(replace(one, values=np.full_like(one.values, value)), one) == 0
    assert badge(agreement(flat, one)) == NO_RELIABLE_MAP


def test_rank_agreement_is_judged_at_the_second_maps_cells() -> None:
    """The ramp against a map in the same order 1, against the reverse -1, however bent: only the order counts."""
    bent = replace(ramp(), values=ramp().values ** 3)
    assert rank_agreement(ramp(), bent) == pytest.approx(1)
    assert rank_agreement(ramp(), replace(bent, values=-bent.values)) == pytest.approx(-1)
    assert agreement(ramp(), bent) < 0.95


def test_badges_at_their_bounds() -> None:
    """Below 0.2 no reliable map, below 0.5 the two disagree, from 0.5 on nothing to say."""
    assert [badge(rho) for rho in (-1, 0.19999, 0.2, 0.49999, 0.5, 1)] == [
        *(NO_RELIABLE_MAP, NO_RELIABLE_MAP, DISAGREES, DISAGREES, "", "")
    ]
