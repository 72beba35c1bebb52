"""Scored patches made by hand, for tests of reports and pictures."""

from __future__ import annotations

import numpy as np

from napari_alnct.evaluation.patch_report import ScoredPatches

# scan, label, nodule, diameter, kind, score; two jittered patches of nodule 0, one of nodule 1, scan 2 without nodules
HAND = (
    (0, 1, 0, 4.0, "nodule", 0.9),
    (0, 1, 0, 4.0, "nodule", 0.4),
    (0, 0, -1, np.nan, "lung", 0.1),
    (0, 0, -1, np.nan, "vessel", 0.6),
    (1, 1, 1, 12.0, "nodule", 0.8),
    (1, 0, -1, np.nan, "lung", 0.2),
    (2, 0, -1, np.nan, "vessel", 0.3),
    (2, 0, -1, np.nan, "vessel", 0.5),
)


def from_rows(rows: object) -> ScoredPatches:
    """Give scored patches of (scan, label, nodule, diameter, kind, score) rows; clusters are scans."""
    scan, label, nodule, diameter, kind, score = zip(*rows, strict=True)  # type: ignore[call-overload]
    cluster = np.unique(scan, return_inverse=True)[1]
    return ScoredPatches(
        labels=np.array(label, np.int8),
        scores=np.array(score, float),
        scan=np.array(scan, np.intp),
        nodule=np.array(nodule, np.intp),
        cluster=cluster,
        cluster_unit="scan",
        diameter_mm=np.array(diameter, float),
        kind=tuple(kind),
    )


def many(seed: int = 0, n_scans: int = 40) -> ScoredPatches:
    """Give several hundred patches of all sizes and kinds."""
    rng, rows = np.random.default_rng(seed), []
    for scan in range(n_scans):
        offset = rng.normal(0, 0.7)
        for nodule in range(scan % 3):
            diameter = float(np.clip(np.exp(rng.normal(1.9, 0.6)), 2.5, 30))
            for _ in range(3):
                rows.append((scan, 1, 10 * scan + nodule, diameter, "nodule", 1.2 + offset + rng.normal()))
        for kind, level in (("lung", -4.0), ("vessel", -2.0), ("candidate", -1.5), ("mined", -1.0)):
            rows.append((scan, 0, -1, np.nan, kind, level + offset + rng.normal()))
    return from_rows([(*row[:5], 1 / (1 + np.exp(-row[5]))) for row in rows])
