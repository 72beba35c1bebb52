"""Evidence maps: where a network's score for one candidate came from, in world space.

A map is a small grid of signed numbers in logit units with its own geometry. Positive
numbers support the score, negative ones argue against it. It does not show that a nodule
is there. Nothing here needs torch: maps are read, shown and judged without it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_alnct.core.errors import GeometryError
from napari_alnct.core.geometry import Geometry, Triple

FloatMap = NDArray[np.float32]
CAPTION = (
    "Shows where the network's score for this candidate came from. It does not show that a nodule is there, "
    "or malignant. Not validated with readers."
)
NO_SUPPORT = "no positive evidence at this layer"
DISAGREES = "the map and occlusion disagree"
NO_RELIABLE_MAP = "no reliable map"
CELLS_PER_PEAK = 2000  # one cell in so many may be stronger than the top of the colour scale
LEAST_AGREEMENT = 0.2  # Pearson's r with occlusion below which a map is called unreliable
GOOD_AGREEMENT = 0.5  # from here on map and occlusion agree
FLAT = 1e-6  # of the largest number: a smaller spread is rounding of a constant map


@dataclass(frozen=True, eq=False, kw_only=True)
class EvidenceMap:
    """The evidence for one candidate on the native grid of a layer.

    Parameters
    ----------
    values : ndarray of float32, shape (z, y, x)
        Signed; their unit is that of `unit`.
    geometry : Geometry
        LPS grid of `values`: its voxels are the layer's cells.
    position_xyz_mm : tuple of float
        The candidate, LPS mm.
    method : str
        How the map was made, such as ``hirescam``.
    layer : str
        Name of the network's layer; ``input`` for methods that work on voxels.
    score_name : {"second look", "first stage"}
        Whose logit is explained.
    logit : float
        That logit, before the sigmoid.
    candidate : str
        Identifies the candidate: a mark's id, a row of a table, a file.
    model_name, model_sha256 : str
        The model.
    unit : str
        What one unit of `values` is.

    Raises
    ------
    GeometryError
        If array and grid disagree, the grid is not LPS, or a value is not finite.
    """

    values: FloatMap
    geometry: Geometry
    position_xyz_mm: Triple
    method: str
    layer: str
    score_name: str
    logit: float
    candidate: str = ""
    model_name: str = ""
    model_sha256: str = ""
    unit: str = "logit per cell"

    def __post_init__(self) -> None:
        """Hold the invariants: finite float32 on a grid of the same shape."""
        if self.values.dtype != np.float32 or self.values.shape != self.geometry.shape_zyx:
            raise GeometryError(f"{self.values.dtype} map of shape {self.values.shape} does not fit {self.geometry}")
        if not self.geometry.is_lps:
            raise GeometryError(f"{self.method} at {self.layer}: the map's axes are not those of the patient (LPS)")
        if not np.isfinite(self.values).all():
            raise GeometryError(f"{self.method} at {self.layer}: the map holds numbers that are not finite")

    @property
    def supports(self) -> FloatMap:
        """Give the evidence for the score, 0 elsewhere."""
        return np.maximum(self.values, np.float32(0))

    @property
    def argues_against(self) -> FloatMap:
        """Give the size of the evidence against the score, 0 elsewhere."""
        return np.maximum(-self.values, np.float32(0))

    @property
    def has_support(self) -> bool:
        """Tell whether any cell supports the score."""
        return bool((self.values > 0).any())

    @property
    def peak_xyz_mm(self) -> Triple:
        """Give the centre of the cell with the strongest support, LPS mm."""
        index = np.unravel_index(int(np.argmax(self.values)), self.values.shape)
        x, y, z = self.geometry.index_to_world(index)
        return float(x), float(y), float(z)

    def at(self, world_xyz_mm: ArrayLike) -> NDArray[np.float64]:
        """Give the map at world positions, linear between cell centres, 0 outside the cells.

        Parameters
        ----------
        world_xyz_mm : array_like, shape (N, 3)
            LPS mm.

        Returns
        -------
        ndarray of float64, shape (N,)
        """
        return _linear(self.values, self.geometry.world_to_index(np.atleast_2d(world_xyz_mm)))

    def on_grid(self, geometry: Geometry) -> FloatMap:
        """Give the map on another LPS grid, linear between cell centres, 0 outside the cells.

        Parameters
        ----------
        geometry : Geometry
            Grid to fill.

        Returns
        -------
        ndarray of float32, shape of the grid
        """
        out = np.zeros(geometry.shape_zyx, np.float32)
        box = _overlap(self.geometry, geometry)
        if min(s.stop - s.start for s in box) > 0:
            index = np.stack(np.meshgrid(*(np.arange(s.start, s.stop) for s in box), indexing="ij"), axis=-1)
            world = geometry.index_to_world(index.reshape(-1, 3))
            out[box] = self.at(world).reshape(index.shape[:3])
        return out


def shared_limit(maps: Sequence[EvidenceMap]) -> float:
    """Give the top of one colour scale for all maps of a scan; what is stronger has the colour of the top.

    Parameters
    ----------
    maps : sequence of EvidenceMap
        Of one method, layer and score.

    Returns
    -------
    float
        In the maps' unit: the largest of the maps' strengths, of any sign, with the strongest cell in `CELLS_PER_PEAK`
        of each map left out. A single cell can hold most of a small nodule's evidence; on a scale up to it, evidence
        that is spread over a large nodule could not be seen. 1 when all are zero, so that a scale can be drawn.
    """
    strengths = [np.abs(one.values).ravel() for one in maps]
    share = 1 - 1 / CELLS_PER_PEAK
    top = max((float(np.quantile(values, share, method="higher")) for values in strengths), default=0.0)
    top = top or max((float(values.max()) for values in strengths), default=0.0)  # nearly empty maps
    return top or 1.0


def agreement(one: EvidenceMap, other: EvidenceMap) -> float:
    """Give Pearson's correlation of two maps of one candidate at the cells of the second; the badge judges by it.

    Parameters
    ----------
    one : EvidenceMap
        A class-activation map.
    other : EvidenceMap
        Usually the occlusion map; its cells are where both are compared.

    Returns
    -------
    float
        Pearson's r, -1 to 1; 0 when either map is constant there.

    Notes
    -----
    Nine tenths of occlusion's cells lie where next to nothing counts. Their order is noise, and ranks
    (`rank_agreement`) give it nine tenths of the say; r weighs cells by how much they count.
    """
    return pearson(*_at_common_cells(one, other))


def rank_agreement(one: EvidenceMap, other: EvidenceMap) -> float:
    """Give the rank correlation of two maps of one candidate at the cells of the second (row F9 of the evaluation).

    Parameters
    ----------
    one, other : EvidenceMap
        As for `agreement`.

    Returns
    -------
    float
        Spearman's rho, -1 to 1; 0 when either map is constant there.
    """
    return spearman(*_at_common_cells(one, other))


def _at_common_cells(one: EvidenceMap, other: EvidenceMap) -> tuple[NDArray[np.float64], FloatMap]:
    index = np.stack(np.meshgrid(*(np.arange(n) for n in other.values.shape), indexing="ij"), axis=-1).reshape(-1, 3)
    return one.at(other.geometry.index_to_world(index)), other.values.reshape(-1)


def pearson(first: ArrayLike, second: ArrayLike) -> float:
    """Give Pearson's correlation.

    Parameters
    ----------
    first, second : array_like, shape (N,)
        Paired numbers.

    Returns
    -------
    float
        0 when either is constant, but for rounding.

    Examples
    --------
    >>> round(pearson([1, 2, 3, 4], [10, 20, 20, 40]), 4), pearson([1, 2, 3], [5, 5, 5])
    (0.9234, 0.0)
    """
    pair = [np.asarray(values, dtype=np.float64).ravel() for values in (first, second)]
    if any(np.ptp(values) <= FLAT * np.abs(values).max() for values in pair):
        return 0.0
    centred = [(values - values.mean()) / np.ptp(values) for values in pair]
    r = float(centred[0] @ centred[1]) / float(np.linalg.norm(centred[0]) * np.linalg.norm(centred[1]))
    return min(1.0, max(-1.0, r))


def spearman(first: ArrayLike, second: ArrayLike) -> float:
    """Give Spearman's rank correlation, equal values sharing their mean rank.

    Parameters
    ----------
    first, second : array_like, shape (N,)
        Paired numbers.

    Returns
    -------
    float
        0 when either is constant.

    Examples
    --------
    >>> round(spearman([1, 2, 3, 4], [10, 20, 20, 40]), 4)
    0.9487
    """
    from scipy.stats import rankdata

    ranks = [rankdata(np.asarray(values, dtype=np.float64).ravel()) for values in (first, second)]
    centred = [rank - rank.mean() for rank in ranks]
    norm = float(np.linalg.norm(centred[0]) * np.linalg.norm(centred[1]))
    return float(centred[0] @ centred[1]) / norm if norm > 0 else 0.0


def badge(r: float) -> str:
    """Give what to tell about the agreement of a map with occlusion; empty when they agree.

    Parameters
    ----------
    r : float
        From `agreement`: Pearson's.

    Returns
    -------
    str

    Examples
    --------
    >>> badge(0.1), badge(0.3), badge(0.8)
    ('no reliable map', 'the map and occlusion disagree', '')
    """
    if r < LEAST_AGREEMENT:
        return NO_RELIABLE_MAP
    return DISAGREES if r < GOOD_AGREEMENT else ""


def _linear(values: FloatMap, index: NDArray[np.float64]) -> NDArray[np.float64]:
    """Give values between cell centres; the outer half of the border cells is flat, beyond them is 0."""
    from scipy.ndimage import map_coordinates

    inside = np.all((index >= -0.5) & (index <= np.asarray(values.shape) - 0.5), axis=1)
    result = np.zeros(len(index))
    result[inside] = map_coordinates(values.astype(np.float64), index[inside].T, order=1, mode="nearest")
    return result


def _overlap(cells: Geometry, grid: Geometry) -> tuple[slice, slice, slice]:
    """Give the box of a grid's voxels that a map can reach; both grids are LPS."""
    ends = np.array([[-0.5] * 3, np.asarray(cells.shape_zyx) - 0.5])
    low, high = np.sort(grid.world_to_index(cells.index_to_world(ends)), axis=0)
    start = np.clip(np.floor(low), 0, grid.shape_zyx).astype(int)  # a voxel too many: `at` decides at the edge
    stop = np.clip(np.ceil(high) + 1, 0, grid.shape_zyx).astype(int)
    z, y, x = (slice(int(a), int(b)) for a, b in zip(start, stop, strict=True))
    return z, y, x
