"""What is to be explained: the marks of a reading or of a layer, and the model whose score they have; no Qt.

An explanation belongs to the score that the reader sees. So the marks of a reading are explained with the very
model that found them, and not at all while they must not be seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_alnct.core.errors import ModelError, ReviewError
from napari_alnct.core.geometry import Triple
from napari_alnct.core.proposals import TABLE_NAME
from napari_alnct.core.review import Review
from napari_alnct.core.review_actions import Mark
from napari_alnct.core.volume import Volume
from napari_alnct.models.catalogue import DEFAULT, list_models
from napari_alnct.plugin._layers import points_xyz_mm
from napari_alnct.plugin._open_reading import OpenReading

NO_READING = "Open a scan first, in the tab Data."
NO_MARKS = "There is no mark to explain."
LOCKED = "Nothing of the model is shown before you end your first read."
FROM_TABLE = (
    "These marks come from a table: no model gave their scores here, so there is nothing to explain. Search the scan "
    "in the tab Detect, or open the widget Explain candidates to see what a model says of these places."
)
NO_FINDER = "The reading has no marks of a model yet: search the scan in the tab Detect first."


@dataclass(frozen=True)
class Target:
    """A candidate: what it is called, and where it is, LPS mm."""

    name: str
    position_xyz_mm: Triple


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What to explain.

    Parameters
    ----------
    volume : Volume
        The scan.
    targets : tuple of Target
        The candidates that are shown.
    current : Target or None
        The one that is looked at.
    model : str
        Name or path of a model.
    model_sha256 : str
        Hash that the model must have; empty for any.
    """

    volume: Volume
    targets: tuple[Target, ...]
    current: Target | None
    model: str = DEFAULT
    model_sha256: str = ""


def target_of(mark: Mark | None) -> Target | None:
    """Give a mark of a reading as a candidate to explain."""
    return None if mark is None else Target(f"mark {mark.mark_id}", mark.position_xyz_mm)


def subject_of_reading(reading: OpenReading, own_models: Sequence[str] = ()) -> Subject:
    """Give what can be explained of a reading now.

    Parameters
    ----------
    reading : OpenReading
        The reading.
    own_models : sequence of str
        Paths of model files that the user has opened.

    Returns
    -------
    Subject

    Raises
    ------
    ReviewError
        If no reading is open, the marks must not be seen yet, or no model gave their scores.
    ModelError
        If the model that did is not at hand.
    """
    session, volume = reading.session, reading.volume
    if session is None or volume is None:
        raise ReviewError(NO_READING)
    review = session.review
    if not review.is_unlocked:
        raise ReviewError(LOCKED)
    targets = tuple(target for mark in review.shown if (target := target_of(mark)) is not None)
    return Subject(
        volume=volume,
        targets=targets,
        current=target_of(session.current),
        model=finder_of(review, own_models),
        model_sha256=review.model_sha256,
    )


def finder_of(review: Review, own_models: Sequence[str] = ()) -> str:
    """Give name or path of the model that found the marks of a reading.

    Parameters
    ----------
    review : Review
        With the name and hash of its model.
    own_models : sequence of str
        Paths of model files that the user has opened.

    Returns
    -------
    str

    Raises
    ------
    ReviewError
        If no model found them.
    ModelError
        If it is not among the bundled ones and those opened, or is another one of that name.
    """
    name, sha256 = review.model_name, review.model_sha256
    if name == TABLE_NAME:
        raise ReviewError(FROM_TABLE)
    if not name or not sha256:
        raise ReviewError(NO_FINDER)
    bundled = {model.name: model.sha256 for model in list_models()}
    if bundled.get(name) == sha256:
        return name
    for path in own_models:
        if Path(path).stem == name:
            return path
    if name in bundled:
        raise ModelError(f"the marks were found by another version of the model {name}; search the scan again")
    raise ModelError(f"the model {name} that found these marks is not here; open its file in the tab Detect")


def targets_of_points(layer: Any) -> tuple[Target, ...]:
    """Give the points of a layer that are shown as candidates to explain.

    Parameters
    ----------
    layer : napari.layers.Points
        Three axes (z, y, x), world mm; its feature ``id`` numbers them where there is one.

    Returns
    -------
    tuple of Target
    """
    places = points_xyz_mm(layer.data, {"scale": layer.scale, "translate": layer.translate})
    numbers = layer.features["id"].tolist() if "id" in layer.features else list(range(1, len(places) + 1))
    marked = zip(numbers, places.tolist(), layer.shown.tolist(), strict=True)
    named: dict[str, Triple] = {}
    for place, (number, (x, y, z), is_shown) in enumerate(marked, start=1):
        name = f"mark {number}" if number else f"own point {place}"  # points set by hand have number 0
        if is_shown:
            named[name if name not in named else f"{name}, point {place}"] = (x, y, z)
    return tuple(Target(name, place) for name, place in named.items())
