"""Where findings may lie: free in the lung, on the pleura, on a vessel, on a fissure."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from napari_alnct.core.geometry import Geometry
from napari_alnct.data.phantom_anatomy import Fields
from napari_alnct.data.phantom_body import Frame
from napari_alnct.data.phantom_paint import Float32, Float64, Tubes

CONTACTS = ("isolated", "juxtapleural", "juxtavascular", "fissure")
GAP_MM = 4.0  # free tissue between two findings
AERATED_HU = -600.0
N_TRIES = 80
_BALL = np.random.default_rng(20).normal(size=(160, 3))
_BALL *= (np.random.default_rng(21).uniform(0.1, 1.0, 160) ** (1 / 3) / np.linalg.norm(_BALL, axis=1))[:, None]


@dataclass(eq=False)
class Sites:
    """Finds free places in one chest and remembers those taken.

    Parameters
    ----------
    hu : ndarray of float32
        Chest painted so far, on `grid`.
    grid : Geometry
        Inner LPS grid.
    fields, frame, vessels
        The chest.
    taken : list of tuple
        Centre (world mm) and radius (mm) of each finding placed so far.
    """

    hu: Float32
    grid: Geometry
    fields: Fields
    frame: Frame
    vessels: Tubes
    taken: list[tuple[Float64, float]] = field(default_factory=list)

    @cached_property
    def _depths(self) -> Float32:
        return self.fields.lungs

    @cached_property
    def _inside(self) -> NDArray[np.intp]:
        inside: NDArray[np.intp] = np.flatnonzero(self._depths.ravel() < -0.3)
        return inside

    def find(self, rng: np.random.Generator, contact: str, radius_mm: float, *, strict: float = 1.0) -> Float64 | None:
        """Give a centre for a finding, or None when no try fits.

        Parameters
        ----------
        rng : Generator
            Source of chance.
        contact : str
            One of `CONTACTS`.
        radius_mm : float
            Radius of the finding.
        strict : float, optional
            1: as free as can be wished; less: take more crowded places.

        Returns
        -------
        ndarray, shape (3,), or None
            World mm.
        """
        for centre in self._proposals(rng, contact, radius_mm):
            if self._is_apart(centre, radius_mm) and self._fits(centre, contact, radius_mm, strict):
                return centre
        return None

    def take(self, centre_xyz_mm: Float64, radius_mm: float) -> None:
        """Remember that a place is taken."""
        self.taken.append((centre_xyz_mm, radius_mm))

    def _proposals(self, rng: np.random.Generator, contact: str, radius: float) -> Float64:
        if contact == "juxtavascular":
            return self._beside_vessels(rng, radius)
        depth = self._depths.ravel()[self._inside]
        if contact == "juxtapleural":
            pool = self._inside[(depth < -0.15 * radius) & (depth > -0.8 * radius - 0.5)]
        else:
            pool = self._inside[depth < -(radius + 2.0)]
        if contact == "fissure":
            oblique, horizontal = (f.ravel()[pool] for f in (self.fields.oblique, self.fields.horizontal))
            near = (np.abs(oblique) < 0.3 * radius) | ((np.abs(horizontal) < 0.3 * radius) & (oblique > 0))
            pool = pool[near]
        if not len(pool):
            return np.empty((0, 3))
        index = np.stack(np.unravel_index(rng.choice(pool, N_TRIES), self._depths.shape), axis=1)
        return self.fields.grid.index_to_world(index + rng.uniform(-0.5, 0.5, index.shape))

    def _beside_vessels(self, rng: np.random.Generator, radius: float) -> Float64:
        thick = self.vessels.end_radius_mm
        low, high = (0.7, 2.2) if radius < 5 else (1.0, 3.5)
        pool = np.flatnonzero((thick > low) & (thick < high))
        if not len(pool):
            return np.empty((0, 3))
        chosen = rng.choice(pool, N_TRIES)
        start, end = self.vessels.start_xyz_mm[chosen], self.vessels.end_xyz_mm[chosen]
        along = (end - start) / np.maximum(np.linalg.norm(end - start, axis=1, keepdims=True), 1e-9)
        away = rng.normal(size=along.shape)
        away -= np.sum(away * along, axis=1, keepdims=True) * along
        away /= np.maximum(np.linalg.norm(away, axis=1, keepdims=True), 1e-9)
        return end + away * (0.85 * radius + 0.6 * thick[chosen])[:, None]

    def _is_apart(self, centre: Float64, radius: float) -> bool:
        return all(np.linalg.norm(centre - c) > 1.25 * (radius + r) + GAP_MM for c, r in self.taken)

    def _fits(self, centre: Float64, contact: str, radius: float, strict: float) -> bool:
        points = centre + _BALL * (1.15 * radius + 0.8)
        index = np.rint(self.grid.world_to_index(points)).astype(int)
        if (index < 0).any() or (index >= self.grid.shape_zyx).any():
            return False
        in_lung = self.fields.distance_at(self._depths, points) < 0
        aerated = self.hu[index[:, 0], index[:, 1], index[:, 2]] < AERATED_HU
        share, air = float(in_lung.mean()), float((in_lung & aerated).sum() / max(in_lung.sum(), 1))
        crowded = 0.12 if radius > 6 else 0.0
        if contact == "juxtapleural":
            return self._is_costal(centre) and 0.6 < share < 0.93 and air > (0.88 - crowded) * strict
        enough = {"isolated": 0.96, "juxtavascular": 0.72, "fissure": 0.85}[contact] - crowded
        return share > 0.995 and air > enough * strict

    def _is_costal(self, centre: Float64) -> bool:
        """Tell whether the nearest pleura is that of ribs or diaphragm, not of the mediastinum."""
        return bool(abs(centre[0] - self.frame.centre_xyz_mm[0]) > 48.0 * self.frame.scale_xyz[0])
