"""How good the first stage is on scans that it never learns from, by LUNA16's rule.

CPM on few scans moves a lot with the choice of scans, so every figure comes with its
95 % interval from a bootstrap over scans.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_alnct.core.errors import JobCancelled
from napari_alnct.core.inference import Runner
from napari_alnct.evaluation.bootstrap import bootstrap_sensitivity, draw_scans, interval, nodules_per_scan
from napari_alnct.evaluation.froc import FP_RATES
from napari_alnct.evaluation.matching import ScanMatch
from napari_alnct.evaluation.scoring import PointTable, ScoredScans
from napari_alnct.training.cases import TrainingCase
from napari_alnct.training.marks import find_marks, with_donors
from napari_alnct.training.materials import Materials

N_SAMPLES = 1000
N_DONORS = 10  # held-out donors per scan, where the scans have no nodules of their own
FEW_SCANS = 100  # below this the interval is wider than the steps between good detectors


@dataclass(frozen=True, kw_only=True)
class DetectorValidation:
    """FROC on the validation scans.

    ``cpm`` with its 95 % interval over scans; ``sensitivity`` at the seven official rates.
    """

    n_scans: int
    n_nodules: int
    cpm: float
    cpm_ci95: tuple[float, float]
    sensitivity: tuple[float, ...]

    def row(self) -> dict[str, float | int]:
        """Give the figures as columns of a table."""
        columns: dict[str, float | int] = {"cpm": self.cpm, "cpm_low": self.cpm_ci95[0], "cpm_high": self.cpm_ci95[1]}
        columns |= {f"sensitivity_{rate:g}": value for rate, value in zip(FP_RATES, self.sensitivity, strict=True)}
        return columns | {"n_scans": self.n_scans, "n_nodules": self.n_nodules}

    def sentence(self) -> str:
        """Give the figures for a line of progress."""
        scans = f"{self.n_scans} scan{'s' if self.n_scans > 1 else ''} with {self.n_nodules} nodules"
        if self.n_scans == 1:
            return f"CPM {self.cpm:.3f} ({scans}: too few for an interval)"
        few = ", few scans" if self.n_scans < FEW_SCANS else ""
        low, high = self.cpm_ci95
        return f"CPM {self.cpm:.3f} (95 % interval {low:.3f}-{high:.3f} over {scans}{few})"


def validate_detector(
    runner: Runner, materials: Materials, round_hu: float, *, is_cancelled: Callable[[], bool] | None = None
) -> DetectorValidation:
    """Give the first stage's FROC on the held-out cases.

    Parameters
    ----------
    runner : Runner
        Of the first stage.
    materials : Materials
        With held-out cases; held-out donors, where there are any, are put into the real ones.
    round_hu : float
        Rounding step that donors share with their hosts.
    is_cancelled : callable, optional
        Asked before every scan.

    Returns
    -------
    DetectorValidation

    Raises
    ------
    JobCancelled
        If it said so.
    """
    hosts: list[tuple[NDArray[np.float64], NDArray[np.float64]]] = []
    matches: list[ScanMatch] = []
    for host in _hosts(materials, round_hu):
        if is_cancelled and is_cancelled():
            raise JobCancelled(f"stopped in a validation after {len(matches)} scans")
        matches.append(find_marks(runner, host, materials.prepare).match)
        hosts.append((host.geometry.index_to_world(host.centres_zyx_vox), host.diameters_mm))
    return judge_matches(matches, hosts)


def judge_matches(
    matches: Sequence[ScanMatch], nodules: Sequence[tuple[NDArray[np.float64], NDArray[np.float64]]]
) -> DetectorValidation:
    """Give CPM and interval of the outcomes of all scans.

    Parameters
    ----------
    matches : sequence of ScanMatch
        One per scan.
    nodules : sequence of (ndarray (N, 3), ndarray (N,))
        World centres and diameters, mm, of each scan.

    Returns
    -------
    DetectorValidation
        CPM and interval are 0 where there is no nodule.
    """
    counts = [len(diameters) for _, diameters in nodules]
    table = PointTable(
        np.repeat(np.arange(len(matches)), counts),
        np.concatenate([xyz for xyz, _ in nodules]).reshape(-1, 3),
        np.concatenate([diameters for _, diameters in nodules]),
        (),
    )
    n_marks = np.array([len(m.false_positives) + int((m.nodule_marks >= 0).sum()) for m in matches], np.intp)
    scored = ScoredScans(tuple(matches), table, n_marks, int(n_marks.sum()), 0, 0, np.zeros((0, 3)))
    low, high = 0.0, 0.0
    if sum(counts):
        draws = draw_scans(nodules_per_scan(scored), N_SAMPLES)
        low, high = (float(v) for v in interval(bootstrap_sensitivity(scored, draws.weights).mean(axis=1)))
    return DetectorValidation(
        n_scans=len(matches),
        n_nodules=sum(counts),
        cpm=scored.curve.cpm,
        cpm_ci95=(low, high),
        sensitivity=tuple(float(v) for v in scored.curve.sensitivity_at()),
    )


def _hosts(materials: Materials, round_hu: float) -> Iterator[TrainingCase]:
    """Give the scans to judge on, one by one: the held-out ones, with held-out donors in the real ones."""
    for number, case in enumerate(materials.held_cases):
        donors = () if case.is_synthetic else materials.held_donors
        yield with_donors(case, donors, N_DONORS, round_hu, 9000 + number)
