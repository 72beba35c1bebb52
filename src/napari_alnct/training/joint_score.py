"""One score from the logits of both stages, with a meaning.

A logistic regression on marks of held-out scans. Held-out scans carry far more nodules
than patients do, so nodules are weighted down to LUNA16's share: a score of 0.5 then
means even odds in a collection like LUNA16, as far as the held-out scans are like it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from napari_alnct.core.errors import ModelError

NODULES_PER_SCAN = 1186 / 888  # LUNA16: Setio et al. 2017, Med Image Anal 42:1-13, section 3
REGULARISATION = 1.0
FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class JointScore:
    """Weights of the detector's and the classifier's logit and the constant of the joint logit."""

    detector: float
    classifier: float
    constant: float

    def scores(self, first: FloatArray, second: FloatArray) -> FloatArray:
        """Give the scores of marks, 0 to 1.

        Parameters
        ----------
        first, second : ndarray, shape (M,)
            Logits of detector and classifier.

        Returns
        -------
        ndarray, shape (M,)
        """
        return np.asarray(1 / (1 + np.exp(-(self.detector * first + self.classifier * second + self.constant))))

    def rescaled(self, other: JointScore) -> JointScore:
        """Give the same balance of the two logits with the scale and the constant of another joint score.

        Parameters
        ----------
        other : JointScore
            Lends the sum of its weights and its constant.

        Returns
        -------
        JointScore
            Marks have the same order as before; with weights of 0 there is no order, and `other` is given back.

        Examples
        --------
        >>> JointScore(3.0, 1.0, -9.0).rescaled(JointScore(1.0, 1.0, -2.0))
        JointScore(detector=1.5, classifier=0.5, constant=-2.0)
        """
        total = self.detector + self.classifier
        if total <= 0:
            return other
        factor = (other.detector + other.classifier) / total
        return JointScore(self.detector * factor, self.classifier * factor, other.constant)


def fit_joint_score(
    first: FloatArray, second: FloatArray | None, labels: NDArray[np.int8], *, nodules_per_scan: float
) -> JointScore:
    """Give the joint score of held-out marks.

    Parameters
    ----------
    first : ndarray, shape (M,)
        The detector's logits.
    second : ndarray, shape (M,), or None
        The classifier's; None: the first stage alone.
    labels : ndarray of int, shape (M,)
        1 nodule, 0 error, -1 not used.
    nodules_per_scan : float
        Of the held-out scans, brought to LUNA16's by weights.

    Returns
    -------
    JointScore
        No weight is negative: a stage must not be turned upside down.

    Raises
    ------
    ModelError
        If the marks are all hits or all errors.
    """
    known = labels >= 0
    if len(np.unique(labels[known])) < 2:
        what = "hit no held-out nodule" if not (labels == 1).any() else "made no error"
        raise ModelError(f"the first stage {what} among {known.sum()} marks; train longer or hold out more scans")
    features = np.stack([first] if second is None else [first, second], axis=1)[known]
    weights = np.where(labels[known] == 1, NODULES_PER_SCAN / max(nodules_per_scan, 1e-9), 1.0)
    model = LogisticRegression(C=REGULARISATION, max_iter=1000).fit(features, labels[known], sample_weight=weights)
    slopes = np.maximum(model.coef_[0], 0.0)
    classifier = 0.0 if second is None else float(slopes[1])
    return JointScore(float(slopes[0]), classifier, float(model.intercept_[0]))
