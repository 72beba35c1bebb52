"""The threshold at which patches are judged, and how it was chosen.

A threshold that was chosen on the patches it is judged on flatters its figures: such
an operating point is marked as *optimistic*.

References
----------
Youden 1950, Cancer 3:32-35 (J = sensitivity + specificity - 1).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from napari_alnct.core.errors import SettingsError
from napari_alnct.evaluation.curves import ThresholdCurve

Rule = Literal["fixed", "youden", "sens", "spec", "stored"]
WITHOUT_STORED = 0.5
ROUNDING = 1e-9  # 0.95 of 20 is 19, whatever the last bit says


@dataclass(frozen=True)
class PointRule:
    """A wish for an operating point: ``value`` is the threshold (fixed) or the share to reach (sens, spec)."""

    rule: Rule
    value: float = math.nan


@dataclass(frozen=True)
class OperatingPoint:
    """A threshold and, in words, where it comes from; inf when no score is high enough."""

    threshold: float
    rule: str
    how: str
    is_optimistic: bool = False


def parse_rule(text: str) -> PointRule:
    """Give the rule that a text names.

    Parameters
    ----------
    text : str
        A threshold from 0 to 1, ``youden``, ``sens=S``, ``spec=S`` or ``stored``.

    Returns
    -------
    PointRule

    Raises
    ------
    SettingsError
        If it is none of these.

    Examples
    --------
    >>> parse_rule("sens=0.95"), parse_rule("0.5").rule
    (PointRule(rule='sens', value=0.95), 'fixed')
    """
    word, _, number = text.strip().lower().partition("=")
    if word in ("youden", "stored") and not number:
        return PointRule("youden" if word == "youden" else "stored")
    kind: Rule = "sens" if word == "sens" else "spec" if word == "spec" else "fixed"
    try:
        value = float(word if kind == "fixed" else number)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1 or (kind == "fixed" and number):
        raise SettingsError(
            f"operating point '{text[:40]}' is unknown; write stored, youden, a threshold from 0 to 1, "
            "or sens=S or spec=S with a share such as 0.95"
        )
    return PointRule(kind, value)


def choose_point(
    curve: ThresholdCurve, wish: PointRule, *, stored: float | None = None, stored_how: str = ""
) -> OperatingPoint:
    """Give the operating point of a curve.

    Parameters
    ----------
    curve : ThresholdCurve
        Of the patches to judge.
    wish : PointRule
        How to choose.
    stored : float, optional
        Threshold stored with the model.
    stored_how : str
        What the model says about it.

    Returns
    -------
    OperatingPoint
        Optimistic when it was chosen on these patches.

    Raises
    ------
    SettingsError
        If the rule needs a class that is absent.
    """
    if wish.rule == "fixed":
        return OperatingPoint(wish.value, "fixed", "given")
    if wish.rule == "stored" and stored is not None:
        return OperatingPoint(stored, "stored", f"stored with the model{f' ({stored_how})' if stored_how else ''}")
    if wish.rule == "stored":
        return OperatingPoint(WITHOUT_STORED, "default", f"{WITHOUT_STORED}: the model stores no threshold for patches")
    needs = {"sens": curve.n_positive, "spec": curve.n_negative}.get(wish.rule, curve.n_positive * curve.n_negative)
    if not needs:
        lacking = "nodule" if not curve.n_positive else "patch without nodule"
        raise SettingsError(f"operating point {wish.rule}: there is no {lacking} in the table; give a threshold")
    how = "largest Youden index" if wish.rule == "youden" else f"{NAMES[wish.rule]} of at least {wish.value:g}"
    threshold = float(curve.thresholds[_chosen(curve, wish)])
    return OperatingPoint(threshold, wish.rule, f"{how} on these patches", is_optimistic=True)


NAMES = {"sens": "sensitivity", "spec": "specificity"}


def _chosen(curve: ThresholdCurve, wish: PointRule) -> int:
    """Give the point of the curve: the highest threshold with the sensitivity, the lowest with the specificity."""
    if wish.rule == "youden":
        index = curve.hits * curve.n_negative - curve.errors * curve.n_positive  # exact, in integers
        return 1 + int(np.argmax(index[1:]))  # point 0 calls nothing a nodule
    if wish.rule == "sens":
        return int(np.flatnonzero(curve.hits >= wish.value * curve.n_positive - ROUNDING)[0])
    return int(np.flatnonzero(curve.errors <= (1 - wish.value) * curve.n_negative + ROUNDING)[-1])
