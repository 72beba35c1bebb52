"""Evidence maps on disk: the numbers as `.mha` in world space, what they are as `.json` of the same name beside it.

The `.mha` holds the layer's own cells, signed float32, on their own grid: other programs lay it over the scan without
any resampling. Both files together read back as the same `EvidenceMap`; two that do not belong together are refused.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from napari_alnct.core.errors import GeometryError, TableError
from napari_alnct.core.evidence import CAPTION, NO_SUPPORT, EvidenceMap, badge
from napari_alnct.core.notice import NOTICE
from napari_alnct.io.atomic_file import replacing_text
from napari_alnct.io.metaimage import read_metaimage, write_metaimage

FORMAT_VERSION = 1
TEXTS = ("method", "layer", "score_name", "candidate", "model_name", "model_sha256", "unit")


@dataclass(frozen=True, kw_only=True)
class EvidenceChecks:
    """What was checked of a map; None where a check does not apply or was not asked for.

    Parameters
    ----------
    completeness_error : float or None
        What the sum of the map lacks of what it explains, as a share of it.
    agreement_with_occlusion : float or None
        Pearson's r with the occlusion map of the same candidate; the badge judges by it.
    rank_agreement_with_occlusion : float or None
        Spearman's rho with the same, which is told beside it.
    notes : tuple of str
        Sentences on the input: a patch of another size, voxels outside the scan.
    """

    completeness_error: float | None = None
    agreement_with_occlusion: float | None = None
    rank_agreement_with_occlusion: float | None = None
    notes: tuple[str, ...] = ()

    @property
    def badge(self) -> str:
        """Give what to tell about the agreement with occlusion; empty when they agree or it was not computed."""
        return "" if self.agreement_with_occlusion is None else badge(self.agreement_with_occlusion)


@dataclass(frozen=True, kw_only=True)
class SharedScale:
    """The colour scale that all candidates of a run are drawn with: its top, in the maps' unit, and their number."""

    limit: float
    n_maps: int = 1


def evidence_document(evidence: EvidenceMap, scale: SharedScale, checks: EvidenceChecks) -> dict[str, Any]:
    """Give what is known of a map as JSON values.

    Parameters
    ----------
    evidence : EvidenceMap
        The map.
    scale : SharedScale
        How it is drawn.
    checks : EvidenceChecks
        What was checked.

    Returns
    -------
    dict
    """
    return {
        "format": FORMAT_VERSION,
        "notice": NOTICE,
        "caption": CAPTION,
        **{name: getattr(evidence, name) for name in TEXTS},
        "logit": evidence.logit,
        "position_xyz_mm": list(evidence.position_xyz_mm),
        "cell_zyx_mm": list(evidence.geometry.spacing_zyx_mm),
        "strongest_support": float(evidence.supports.max()),
        "strongest_against": float(evidence.argues_against.max()),
        "peak_xyz_mm": list(evidence.peak_xyz_mm) if evidence.has_support else None,
        "remark": "" if evidence.has_support else NO_SUPPORT,
        "scale": asdict(scale),
        "checks": {**asdict(checks), "badge": checks.badge},
        "values_sha256": _digest(evidence),
    }


def write_evidence(
    path: Path, evidence: EvidenceMap, scale: SharedScale, checks: EvidenceChecks | None = None
) -> tuple[Path, Path]:
    """Write a map and what it is.

    Parameters
    ----------
    path : Path
        ``.mha`` file; the ``.json`` gets the same name. Each appears complete or not at all.
    evidence : EvidenceMap
        The map.
    scale : SharedScale
        How all maps of the run are drawn.
    checks : EvidenceChecks, optional
        What was checked.

    Returns
    -------
    tuple of Path
        The two files.

    Raises
    ------
    OSError
        If the folder cannot be written.
    """
    document = evidence_document(evidence, scale, checks or EvidenceChecks())
    beside = path.with_suffix(".json")
    write_metaimage(path, evidence.values, evidence.geometry)
    with replacing_text(beside) as file:
        json.dump(document, file, indent=1)
        file.write("\n")
    return path, beside


def read_evidence(path: Path) -> EvidenceMap:
    """Give a map as it was written.

    Parameters
    ----------
    path : Path
        The ``.mha`` or the ``.json`` of a pair.

    Returns
    -------
    EvidenceMap

    Raises
    ------
    ReadError
        If the ``.mha`` is missing or damaged.
    TableError
        If the ``.json`` is missing or damaged, or belongs to another map.
    """
    image = read_metaimage(path.with_suffix(".mha"))
    beside = path.with_suffix(".json")
    try:
        document = json.loads(beside.read_text(encoding="utf-8"))
        if document["format"] != FORMAT_VERSION:
            raise ValueError(f"format {document['format']}, this version reads {FORMAT_VERSION}")
        x, y, z = (float(value) for value in document["position_xyz_mm"])
        evidence = EvidenceMap(
            values=np.ascontiguousarray(image.array),
            geometry=image.geometry,
            position_xyz_mm=(x, y, z),
            logit=float(document["logit"]),
            **{name: str(document[name]) for name in TEXTS},
        )
    except (OSError, ValueError, KeyError, TypeError, GeometryError) as fault:
        raise TableError(f"{beside.name} cannot be read as an explanation ({fault}); run gradcam again") from fault
    if document.get("values_sha256") != _digest(evidence):
        raise TableError(f"{beside.name} belongs to another map than {path.stem}.mha; run gradcam again")
    return evidence


def _digest(evidence: EvidenceMap) -> str:
    return hashlib.sha256(np.ascontiguousarray(evidence.values, dtype="<f4").tobytes()).hexdigest()
