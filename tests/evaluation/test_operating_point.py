"""Operating points: what the rules choose, and when they are optimistic."""

from __future__ import annotations

import math

import numpy as np
import pytest

from napari_alnct.core.errors import SettingsError
from napari_alnct.evaluation.curves import threshold_curve
from napari_alnct.evaluation.operating_point import PointRule, choose_point, parse_rule

#                    nodules at .9 .8 .6 .3; others at .85 .5 .5 .2
CURVE = threshold_curve([1, 1, 1, 1, 0, 0, 0, 0], [0.9, 0.8, 0.6, 0.3, 0.85, 0.5, 0.5, 0.2])


@pytest.mark.parametrize(
    ("wish", "threshold"),
    [
        ("youden", 0.6),  # sensitivity 3/4, specificity 3/4
        ("sens=0.75", 0.6),
        ("sens=0.76", 0.3),
        ("sens=1", 0.3),
        ("sens=0", math.inf),
        ("spec=0.75", 0.6),
        ("spec=1", 0.9),
        ("spec=0", 0.2),
        ("spec=0.25", 0.3),
    ],
)
def test_rules_by_hand(wish: str, threshold: float) -> None:
    """The highest threshold that reaches a sensitivity, the lowest that reaches a specificity."""
    point = choose_point(CURVE, parse_rule(wish))
    assert (point.threshold, point.is_optimistic) == (threshold, True)
    assert "on these patches" in point.how


def test_a_share_is_reached_in_spite_of_rounding() -> None:
    """0.95 of 20 nodules are 19, although 0.95 * 20 may come out a bit above."""
    for n, share in ((20, 0.95), (10, 0.7), (100, 0.29), (3000, 0.001)):
        curve = threshold_curve([1] * n + [0], [*np.linspace(1, 0.1, n), 0.0])
        threshold = choose_point(curve, PointRule("sens", share)).threshold
        assert curve.hits[curve.thresholds.tolist().index(threshold)] == round(n * share)


def test_youden_prefers_the_highest_of_equal_thresholds() -> None:
    """Two thresholds with the same index: fewer false marks win."""
    curve = threshold_curve([1, 0, 1, 0], [0.8, 0.6, 0.4, 0.2])
    assert choose_point(curve, parse_rule("youden")).threshold == 0.8


def test_youden_of_a_classifier_worse_than_chance_is_still_a_threshold() -> None:
    """Calling nothing a nodule is no choice: a finite threshold comes out."""
    curve = threshold_curve([0, 0, 1, 1], [0.9, 0.8, 0.2, 0.1])
    assert math.isfinite(choose_point(curve, parse_rule("youden")).threshold)


def test_given_and_stored_thresholds_are_not_optimistic() -> None:
    """They were not chosen on these patches; without a stored one 0.5 is taken and said."""
    assert choose_point(CURVE, parse_rule("0.25")).threshold == 0.25
    stored = choose_point(CURVE, parse_rule("stored"), stored=0.4, stored_how="Youden on fold 8")
    assert (stored.threshold, stored.is_optimistic) == (0.4, False)
    assert "Youden on fold 8" in stored.how
    default = choose_point(CURVE, parse_rule("stored"))
    assert (default.threshold, default.rule) == (0.5, "default")
    assert "stores no threshold" in default.how


@pytest.mark.parametrize("text", ["best", "sens", "sens=", "sens=95", "spec=-1", "1.5", "nan", "0.5=1", "youden=1", ""])
def test_unknown_rules_are_refused(text: str) -> None:
    """The sentence names what was written and what may be written."""
    with pytest.raises(SettingsError, match=r"operating point .* is unknown; write stored, youden"):
        parse_rule(text)


@pytest.mark.parametrize(("wish", "labels"), [("youden", [1, 1]), ("sens=0.9", [0, 0]), ("spec=0.9", [1, 1])])
def test_a_rule_that_needs_an_absent_class_is_refused(wish: str, labels: list[int]) -> None:
    """No nodules, no sensitivity to reach."""
    with pytest.raises(SettingsError, match="there is no"):
        choose_point(threshold_curve(labels, [0.1, 0.2]), parse_rule(wish))
