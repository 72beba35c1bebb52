"""What a detector or a table proposes, as the action that puts its marks into a reading."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from napari_alnct.core.errors import ReviewError
from napari_alnct.core.findings import Candidate, CaseResult
from napari_alnct.core.review_actions import Mark, SetCandidates

TABLE_NAME = "a table of candidates"


@dataclass(frozen=True, kw_only=True)
class Source:
    """What proposed candidates.

    Parameters
    ----------
    name : str
        Model, or `TABLE_NAME`; never a path or a file name.
    sha256 : str
        Hash of the model, or of the table.
    threshold : float
        Lowest score shown to begin with.
    operating_points : mapping of float to float, optional
        False marks per scan to threshold.
    sensitivities : mapping of float to float, optional
        False marks per scan to the share of nodules found.
    """

    name: str = TABLE_NAME
    sha256: str = ""
    threshold: float = 0.0
    operating_points: Mapping[float, float] | None = None
    sensitivities: Mapping[float, float] | None = None


def proposal(found: CaseResult | Sequence[Candidate], source: Source | None, voxel_sha256: str) -> SetCandidates:
    """Give the action that proposes these marks, all of them: a threshold only hides.

    Parameters
    ----------
    found : CaseResult or sequence of Candidate
        From a detector, or a table.
    source : Source, optional
        Of a table: where it is from; of a result: only its operating points are taken.
    voxel_sha256 : str
        Identity of the scan of the reading.

    Returns
    -------
    SetCandidates
        Marks numbered from 1 by falling score.

    Raises
    ------
    ReviewError
        If the result is about another scan.

    Examples
    --------
    >>> weak, strong = (Candidate(position_xyz_mm=(0, 0, z), score=z, diameter_mm=5) for z in (0.2, 0.9))
    >>> [mark.score for mark in proposal([weak, strong], None, "").marks]
    [0.9, 0.2]
    """
    points, sensitivities = (source.operating_points, source.sensitivities) if source else (None, None)
    if isinstance(found, CaseResult):
        if found.voxel_sha256 not in ("", voxel_sha256):
            raise ReviewError("the marks are of another scan with other voxels; search this one")
        source = Source(name=found.model_name, sha256=found.model_sha256, threshold=found.threshold)
        found = found.candidates
    source = source or Source()
    ranked = sorted(found, key=lambda candidate: -candidate.score)
    return SetCandidates(
        marks=tuple(_mark(number, candidate) for number, candidate in enumerate(ranked, start=1)),
        threshold=source.threshold,
        model_name=source.name,
        model_sha256=source.sha256,
        operating_points=dict(points or {}),
        sensitivities=dict(sensitivities or {}),
    )


def _mark(number: int, candidate: Candidate) -> Mark:
    return Mark(
        mark_id=number,
        position_xyz_mm=candidate.position_xyz_mm,
        diameter_mm=candidate.diameter_mm,
        score=candidate.score,
    )
