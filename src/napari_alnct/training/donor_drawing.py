"""Which donor goes next, and how large: sizes like LUNA16's, and more of the faint ones where wished."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from napari_alnct.training.insertion import Donor

DIAMETERS_MM = (3.25, 32.0)
SCALES, MILD_SCALES = (0.35, 1.6), (0.6, 1.6)
SIZE_EDGES_MM = (3.25, 4.0, 6.0, 6.43, 8.0, 10.0, 20.0, 32.0)
SIZE_COUNTS = (49, 453, 91, 185, 127, 231, 50)  # of LUNA16's 1,186 nodules between these edges
N_FAINT_DRAWS = 3
DrawDonor = Callable[[Sequence[Donor], np.random.Generator], tuple[Donor, float]]


def draw_diameter_mm(rng: np.random.Generator) -> float:
    """Give a diameter distributed like LUNA16's: median 6.4 mm, 42 % below 6 mm, 3.25 to 32 mm.

    Parameters
    ----------
    rng : Generator
        Source of chance.

    Returns
    -------
    float
        mm.

    References
    ----------
    Counts: ``annotations.csv`` of LUNA16 (Zenodo 3723295).
    """
    passed = np.concatenate([[0], np.cumsum(SIZE_COUNTS)]) / sum(SIZE_COUNTS)
    return float(np.interp(rng.random(), passed, SIZE_EDGES_MM))


def draw_donor(donors: Sequence[Donor], rng: np.random.Generator) -> tuple[Donor, float]:
    """Give a donor and a scale that lead to LUNA16-like diameters.

    The diameter is drawn first, then one of the donors that reach it, so that small
    nodules are as frequent as in LUNA16 however large the donors are.

    Parameters
    ----------
    donors : sequence of Donor
        At least one.
    rng : Generator
        Source of chance.

    Returns
    -------
    tuple of (Donor, float)
        The donor as it is, and new size over old size, 0.35 to 1.6.
    """
    wish_mm = draw_diameter_mm(rng)
    scales = wish_mm / diameters_of(donors)
    fits = np.flatnonzero((scales >= SCALES[0]) & (scales <= SCALES[1]))
    number = int(rng.choice(fits)) if len(fits) else int(rng.integers(len(donors)))
    donor, scale = donors[number], float(np.clip(scales[number], *SCALES))
    return donor, float(np.clip(donor.diameter_mm * scale, *DIAMETERS_MM)) / donor.diameter_mm


def drawing(faint_share: float) -> DrawDonor:
    """Give the function that draws donors of LUNA16's sizes, with this share of `draw_faint_donor`.

    Parameters
    ----------
    faint_share : float
        0 to 1.

    Returns
    -------
    callable
    """
    return partial(draw_faint_donor, share=faint_share) if faint_share else draw_donor


def draw_faint_donor(donors: Sequence[Donor], rng: np.random.Generator, *, share: float) -> tuple[Donor, float]:
    """Give a donor as `draw_donor` does; in a share of the draws the faintest of three.

    Parameters
    ----------
    donors : sequence of Donor
        At least one.
    rng : Generator
        Source of chance.
    share : float
        Of the draws, 0 to 1.

    Returns
    -------
    tuple of (Donor, float)
        The donor as it is, and new size over old size.
    """
    if rng.random() >= share:
        return draw_donor(donors, rng)
    return min((draw_donor(donors, rng) for _ in range(N_FAINT_DRAWS)), key=lambda drawn: median_contrast_hu(drawn[0]))


def median_contrast_hu(donor: Donor) -> float:
    """Give the median over the donor's outline of its HU above the lung around it; low: faint, or a small core.

    Parameters
    ----------
    donor : Donor
        Any donor.

    Returns
    -------
    float
        HU.
    """
    return float(np.median(donor.contrast_hu[donor.outline > 0.5]))


def draw_donor_as_cut(donors: Sequence[Donor], rng: np.random.Generator) -> tuple[Donor, float]:
    """Give a donor and a scale of 0.6 to 1.6, so that sizes are about those of the donors.

    Parameters
    ----------
    donors : sequence of Donor
        At least one.
    rng : Generator
        Source of chance.

    Returns
    -------
    tuple of (Donor, float)
        The donor as it is, and new size over old size, kept to 3.25 to 32 mm.
    """
    donor, scale = donors[int(rng.integers(len(donors)))], float(rng.uniform(*MILD_SCALES))
    return donor, float(np.clip(donor.diameter_mm * scale, *DIAMETERS_MM)) / donor.diameter_mm


def diameters_of(donors: Sequence[Donor]) -> NDArray[np.float64]:
    """Give the diameters of donors; those on disk are not read for it.

    Parameters
    ----------
    donors : sequence of Donor
        In memory, or with an attribute ``diameters_mm`` of their own.

    Returns
    -------
    ndarray, shape (N,)
        mm.
    """
    known: NDArray[np.float64] | None = getattr(donors, "diameters_mm", None)
    return np.array([donor.diameter_mm for donor in donors]) if known is None else known
