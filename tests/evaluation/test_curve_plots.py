"""Pictures: whole PNGs on a light ground for ordinary and for odd results, and what they show."""

from __future__ import annotations

import io
import math
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.image import imread

from napari_alnct.evaluation import curve_plots
from napari_alnct.evaluation.operating_point import OperatingPoint, choose_point, parse_rule
from napari_alnct.evaluation.patch_report import PatchReport, judge_patches
from tests.evaluation.scored import HAND, from_rows, many

PICTURES = ("roc", "pr", "confusion", "calibration", "by_size")
OF_ONE_CLASS = PICTURES[2:]
HALF = OperatingPoint(0.5, "fixed", "given")


def draw(picture: str, report: PatchReport, name: str = "model") -> np.ndarray:
    png = getattr(curve_plots, f"{picture}_png")(report, name)
    return imread(io.BytesIO(png))


def has_colour(pixels: np.ndarray, code: str) -> bool:
    rgb = np.array([int(code[k : k + 2], 16) for k in (1, 3, 5)])
    return bool((np.abs(np.rint(pixels[..., :3] * 255) - rgb).max(axis=-1) <= 2).any())


@pytest.mark.parametrize("picture", PICTURES)
def test_pictures_are_large_and_light(picture: str) -> None:
    """1080 x 810 pixels, white corners, mostly light, with the main colour and without a warning."""
    patches = many()
    report = judge_patches(patches, choose_point(patches.curve, parse_rule("youden")), n_samples=50)
    pixels = draw(picture, report, name=r"a $\name_ with 漢字 and a very long text that goes on and on")
    assert pixels.shape[:2] == (810, 1080)
    assert pixels[[0, 0, -1, -1], [0, -1, 0, -1], :3].min() == 1
    assert pixels[..., :3].mean() > 0.6
    assert has_colour(pixels, curve_plots.OURS) or picture == "confusion"


@pytest.mark.parametrize("picture", ["roc", "pr"])
def test_the_operating_point_is_marked(picture: str) -> None:
    """The second colour shows it; a point without precision (nothing is called a nodule) is left out."""
    report = judge_patches(from_rows(HAND), HALF, n_samples=0)
    assert has_colour(draw(picture, report), curve_plots.THEIRS)
    above = judge_patches(from_rows(HAND), OperatingPoint(math.inf, "spec", "x"), n_samples=0)
    assert has_colour(draw(picture, above), curve_plots.THEIRS) == (picture == "roc")


@pytest.mark.parametrize("picture", OF_ONE_CLASS)
@pytest.mark.parametrize("label", [0, 1])
def test_a_single_class_is_drawn(picture: str, label: int) -> None:
    """Whatever a single class, without bootstrap, leaves undefined: the picture is drawn without a warning."""
    report = judge_patches(from_rows([row for row in HAND if row[1] == label]), HALF, n_samples=0)
    assert draw(picture, report).shape[:2] == (810, 1080)


@pytest.mark.parametrize("picture", PICTURES)
def test_two_patches_are_drawn(picture: str) -> None:
    """The smallest table with both classes, where the highest score is an error."""
    rows = [(0, 1, 0, 5.0, "nodule", 0.2), (0, 0, -1, np.nan, "lung", 0.9)]
    assert draw(picture, judge_patches(from_rows(rows), HALF)).shape[:2] == (810, 1080)


def test_scores_of_zero_and_one_are_drawn() -> None:
    """The ends of the scale lie within the axes."""
    patches = replace(from_rows(HAND), scores=np.array([1.0, 0, 0, 1, 1, 0, 0, 0]))
    assert draw("calibration", judge_patches(patches, HALF, n_samples=20)).shape[:2] == (810, 1080)
