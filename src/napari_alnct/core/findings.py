"""Candidates, reference nodules and the result of one case, all in world mm.

A *candidate* is a location with a score from a detector, before threshold or
review. A *reference nodule* is an expert-annotated nodule that counts; an
*excluded finding* was annotated but counts neither as hit nor as false
positive. Positions are ``(x, y, z)`` in LPS mm.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from napari_alnct.core.geometry import Triple

NO_DIAMETER_MM = -1.0  # LUNA16's annotations_excluded.csv: "no diameter given"


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A location that a detector proposes.

    Parameters
    ----------
    position_xyz_mm : tuple of float
        Centre, LPS mm.
    score : float
        Higher is more likely a nodule; in [0, 1].
    diameter_mm : float
        Estimated diameter, mm.
    """

    position_xyz_mm: Triple
    score: float
    diameter_mm: float


@dataclass(frozen=True, kw_only=True)
class ReferenceNodule:
    """An annotated nodule (or excluded finding) of one series.

    Parameters
    ----------
    series_uid : str
        Series that it lies in.
    position_xyz_mm : tuple of float
        Centre, LPS mm.
    diameter_mm : float
        Diameter, mm; -1 when none was given (excluded findings).
    kind : str, optional
        ``solid``, ``part_solid``, ``ground_glass`` or empty when unknown.
    """

    series_uid: str
    position_xyz_mm: Triple
    diameter_mm: float
    kind: str = ""


@dataclass(frozen=True, kw_only=True)
class CaseResult:
    """What a detector found in one scan, strongest first.

    Parameters
    ----------
    series_uid : str
        Series that was searched.
    voxel_sha256 : str
        Identity of the scan (`Volume.voxel_sha256`), empty when not computed.
    candidates : tuple of Candidate
        At most 100, sorted by falling score; the threshold is not applied.
    threshold : float
        Score at or above which a candidate is shown.
    model_name, model_sha256 : str
        The model that produced the scores.
    device : str
        Where the network really ran, such as ``cpu`` or ``cuda:0``.
    seconds : dict of str to float
        Wall time per stage.
    notes : tuple of str
        Sentences for people: fallbacks taken, warnings on validity.
    """

    series_uid: str
    candidates: tuple[Candidate, ...]
    threshold: float
    model_name: str
    model_sha256: str
    device: str
    voxel_sha256: str = ""
    seconds: dict[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def shown(self) -> tuple[Candidate, ...]:
        """Give the candidates at or above the threshold."""
        return tuple(c for c in self.candidates if c.score >= self.threshold)

    @property
    def summary(self) -> str:
        """Give one sentence for people; an empty result is not "no nodule"."""
        model = f"model {self.model_name}"
        if not self.shown:
            return f"No candidate above {self.threshold:.2f} ({model}). This does not mean that there is no nodule."
        shown, found = len(self.shown), len(self.candidates)
        return f"{shown} of {found} candidates at or above {self.threshold:.2f} ({model})."


def positions_xyz_mm(findings: Iterable[Candidate | ReferenceNodule]) -> NDArray[np.float64]:
    """Give the centres as an array of shape (N, 3), world (x, y, z) mm.

    Parameters
    ----------
    findings : iterable of Candidate or ReferenceNodule
        May be empty.

    Returns
    -------
    ndarray of float64, shape (N, 3)
    """
    return np.array([f.position_xyz_mm for f in findings], dtype=np.float64).reshape(-1, 3)
