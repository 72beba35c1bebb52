"""Whether a map adds up to what it explains, for the methods that promise it."""

from __future__ import annotations

import numpy as np

from napari_alnct.core.evidence import EvidenceMap
from napari_alnct.core.explain.explainer import Explainer
from napari_alnct.core.explain.inputs import NetworkInput
from napari_alnct.core.explain.perturbation import LUNG_HU
from napari_alnct.core.network import ClassifierNetwork


def completeness_error(explainer: Explainer, evidence: EvidenceMap, one: NetworkInput) -> float | None:
    """Give what the sum of a map lacks of what it explains.

    Parameters
    ----------
    explainer : Explainer
        That made the map.
    evidence : EvidenceMap
        A map.
    one : NetworkInput
        What the network saw of the candidate.

    Returns
    -------
    float or None
        As a share of it. HiResCAM at the classifier's deepest stage explains the logit less the head's bias (what
        follows is linear: row X2 of the evaluation); integrated gradients the logit less that of plain lung. None for
        all others, which promise no sum.
    """
    network, score = explainer.network(evidence.score_name), evidence.score_name
    if evidence.method == "integrated gradients":
        constant = float(explainer.scorer(one, score)(np.full_like(one.hu, round(LUNG_HU))[None])[0])
    elif (
        evidence.method == "hirescam"
        and isinstance(network, ClassifierNetwork)
        and evidence.layer == explainer.layers(score)[-1].name
    ):
        constant = float(network.head.bias.detach())
    else:
        return None
    explained = evidence.logit - constant
    return abs(float(evidence.values.sum(dtype=np.float64)) - explained) / max(abs(explained), 1e-12)
