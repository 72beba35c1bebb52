"""A model that is right for the wrong reason must be exposed by the evaluation of explanations.

Trains two small classifiers with the same recipe, one on a generator that leaks the class into the noise. Both
tell nodules from none without an error; only the one that looks at nodules may pass. CPU: about 35 s.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from napari_alnct.batch.explain_eval_cases import EvalNodule, EvalScan
from napari_alnct.batch.explain_eval_measuring import Bench, nodule_record
from napari_alnct.batch.explain_eval_patches import centred_patch, middle_of
from napari_alnct.core.explain.explainer import Explainer
from napari_alnct.core.geometry import Geometry
from napari_alnct.evaluation.curves import auc
from napari_alnct.evaluation.explanation_baselines import BASELINES
from napari_alnct.evaluation.explanation_table import MapRow, evaluation_table
from tests.batch.leaky_lungs import EDGE, make_lungs, train_on

pytestmark = pytest.mark.timeout(900)  # on a busy machine training takes minutes
SECOND, LAYER = "second look", "encoder.stages.0"
ROW = MapRow(name=f"hirescam @ {LAYER}", method="hirescam", layer=LAYER, stride=2)
N_VOLUMES, SEED = 40, 999
GRID = Geometry(shape_zyx=(EDGE,) * 3, spacing_zyx_mm=(1.0, 1.0, 1.0))


@dataclass(frozen=True)
class Outcome:
    """Area under the ROC curve on unseen volumes of the same generator, and the checks of one map by label."""

    auc: float
    n: int
    checks: dict[tuple[str, str], dict[str, Any]]

    def value(self, name: str, label: str) -> float:
        return float(self.checks[name, label]["value"])

    def is_met(self, name: str, label: str) -> bool:
        return bool(self.checks[name, label]["is_met"])


def judged(*, is_leaky: bool) -> Outcome:
    explainer = Explainer(train_on(is_leaky=is_leaky), device="cpu")
    bench = Bench(explainer=explainer, score_name=SECOND, rows=(ROW,), measures=("localisation", "removal"))
    lungs = make_lungs(N_VOLUMES, SEED, is_leaky=is_leaky)
    records, logits = [], []
    for k, label in enumerate(lungs.labels):
        scan = EvalScan(
            name=f"volume {k}", hu=lungs.hu[k], geometry=GRID, labels=lungs.masks[k].astype(np.int16), nodules=()
        )
        x, y, z = GRID.index_to_world(lungs.centres[k])
        patch = centred_patch(explainer, scan, (x, y, z), 1, SECOND, middle_of(GRID))
        logits.append(patch.logit)
        if label and patch.logit > 0:
            size = 2 * float(lungs.radii[k])
            nodule = EvalNodule(number=1, position_xyz_mm=(x, y, z), diameter_mm=size, kind="solid")
            records.append(nodule_record(bench, scan, nodule, patch, with_occlusion=False))
    rows = [ROW, *(MapRow(name=name, method=name) for name in BASELINES)]
    checks = evaluation_table(records, rows, n_samples=0)["rows"][0]["checks"]
    return Outcome(auc(lungs.labels, logits), len(records), {(c["id"], c["label"]): c for c in checks})


@pytest.fixture(scope="module")
def leaky() -> Outcome:
    return judged(is_leaky=True)


@pytest.fixture(scope="module")
def clean() -> Outcome:
    return judged(is_leaky=False)


def test_the_leaky_model_fails(leaky: Outcome) -> None:
    """L1 and F1 are missed; F2 too: plain lung anywhere weighs a good part of what the nodule does."""
    assert not leaky.is_met("L1", "maximum in the nodule")
    assert not leaky.is_met("F1", "largest p against the baselines")
    assert not leaky.is_met("F2", "the same, random lung")
    assert leaky.value("L1", "maximum in the nodule") < 0.75
    assert leaky.value("F1", "largest p against the baselines") > 0.1
    assert abs(leaky.value("F2", "the same, random lung")) > 0.3


def test_the_clean_model_passes(clean: Outcome) -> None:
    """L1, F1 against all three baselines in all 12 tests, and both parts of F2."""
    assert clean.is_met("L1", "maximum in the nodule")
    assert clean.is_met("F1", "largest p against the baselines")
    assert clean.is_met("F2", "targeted deletion")
    assert clean.is_met("F2", "the same, random lung")
    assert clean.value("L1", "maximum in the nodule") > 0.9
    assert clean.value("F1", "largest p against the baselines") < 0.001
    assert clean.value("F2", "targeted deletion") > 0.75
    assert abs(clean.value("F2", "the same, random lung")) < 0.05


def test_both_models_seem_perfect(leaky: Outcome, clean: Outcome) -> None:
    """By the area under the ROC curve nobody could tell which one cheats."""
    assert leaky.auc > 0.99
    assert clean.auc > 0.95
    assert min(leaky.n, clean.n) >= 15
