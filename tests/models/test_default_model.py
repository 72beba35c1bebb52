"""The bundled detector on scans it has never seen, and on the real scans of the data pack.

The full figures come from ``benchmarks/default_model.py``; these are its floor.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from napari_alnct.core.detector import Detector
from napari_alnct.core.findings import CaseResult, ReferenceNodule, positions_xyz_mm
from napari_alnct.data.phantom import PhantomSettings, make_phantom
from napari_alnct.evaluation.matching import ScanMatch, match_scan
from napari_alnct.io.images import read_volume
from napari_alnct.io.tables import read_annotations
from napari_alnct.models.catalogue import find_model

LEAST_DIAMETER_MM = 4.0


@pytest.fixture(scope="module")
def detector() -> Detector:
    model = find_model()
    return Detector.load(model.path, name=model.name, sha256=model.sha256, device="cpu")


def judge(result: CaseResult, nodules: list[ReferenceNodule], excluded: list[ReferenceNodule]) -> ScanMatch:
    shown = result.shown
    return match_scan(
        positions_xyz_mm(shown),
        np.array([c.score for c in shown]),
        positions_xyz_mm(nodules),
        np.array([n.diameter_mm for n in nodules]),
        positions_xyz_mm(excluded),
        np.array([n.diameter_mm for n in excluded]),
    )


def test_unseen_phantoms(detector: Detector) -> None:
    """Three unseen scans, one flipped, all anisotropic: most nodules of 4 mm and more found at the default threshold.

    At most 2 false marks per scan and a median centre error of at most 1 mm.
    """
    flipped = (-1.0, 0, 0, 0, -1.0, 0, 0, 0, 1.0)
    found, errors, distances = [], 0, []
    for number, direction in enumerate([(1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0), flipped, flipped]):
        scan = make_phantom(
            PhantomSettings(
                shape_zyx=(150, 320, 320),
                spacing_zyx_mm=(2.0, 1.0, 1.0),
                direction=direction,
                n_nodules=8,
                seed=910_000 + number,
            )
        )
        result = detector.detect(scan.volume)
        nodules = [n for n in scan.nodules if n.diameter_mm >= LEAST_DIAMETER_MM]
        small = [n for n in scan.nodules if n.diameter_mm < LEAST_DIAMETER_MM]
        match = judge(result, nodules, [*scan.excluded, *small])
        hits = np.flatnonzero(match.nodule_marks >= 0)
        found += list(match.nodule_marks >= 0)
        errors += len(match.false_positives)
        marks = positions_xyz_mm(result.shown)[match.nodule_marks[hits]]
        distances += list(np.linalg.norm(marks - positions_xyz_mm(nodules)[hits], axis=1))
    assert np.mean(found) >= 0.85
    assert errors / 3 <= 2.0
    assert np.median(distances) <= 1.0


@pytest.mark.data
def test_real_scans(detector: Detector, data_pack: Path) -> None:
    """All three LUNA16 nodules of the two real scans are hit, with at most 8 other marks in each.

    Both scans were in the training data of the model.
    """
    tables = data_pack / "luna16" / "CSVFILES"
    annotations = read_annotations(tables / "annotations.csv")
    n_found = 0
    for path in sorted((data_pack / "luna16").glob("subset*/*.mhd")):
        result = detector.detect(read_volume(path))
        nodules = [n for n in annotations if n.series_uid == result.series_uid]
        match = judge(result, nodules, [])
        assert (match.nodule_marks >= 0).all()
        assert len(match.false_positives) <= 8
        n_found += len(nodules)
    assert n_found == 3
