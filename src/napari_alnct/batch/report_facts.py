"""What is known about data, recipe, training and evaluation, as short rows for people.

Identifiers do not get through: lists of names become their number, DICOM identifiers
hashes, and texts that look like paths are left out, unless the user asks for them.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from napari_alnct.batch.froc import FrocTables
from napari_alnct.batch.report_model import ModelFacts
from napari_alnct.core.config import EncoderSettings
from napari_alnct.evaluation.by_size import EDGES_MM
from napari_alnct.evaluation.matching import radius_mm
from napari_alnct.io.identifiers import short_hash, without_uids
from napari_alnct.io.luna16 import Dataset

Facts = list[tuple[str, str]]
MOST_NUMBERS = 12


@dataclass(frozen=True, kw_only=True)
class FoldRow:
    """One fold of the judged scans; ``fold`` None: not known."""

    fold: int | None
    n_scans: int
    n_with_nodules: int
    n_nodules: int


def data_facts(tables: FrocTables, dataset: Dataset | None) -> tuple[list[FoldRow], list[tuple[str, int]]]:
    """Give the judged scans by fold, and their nodules by size.

    Parameters
    ----------
    tables : FrocTables
        What was judged.
    dataset : Dataset or None
        Where folds are known from.

    Returns
    -------
    folds : list of FoldRow
        Empty when no fold is known.
    sizes : list of (str, int)
        Range in words and number of nodules; no diameter counts as 10 mm, as it is judged.
    """
    listed = set(tables.series_list)
    nodules = [nodule for nodule in tables.annotations if nodule.series_uid in listed]
    fold_of = {scan.series_uid: scan.subset for scan in dataset.scans} if dataset else {}
    per_series = Counter(nodule.series_uid for nodule in nodules)
    folds: dict[int | None, list[str]] = {}
    for series in tables.series_list:
        folds.setdefault(fold_of.get(series), []).append(series)
    rows = [
        FoldRow(
            fold=fold,
            n_scans=len(members),
            n_with_nodules=sum(per_series[series] > 0 for series in members),
            n_nodules=sum(per_series[series] for series in members),
        )
        for fold, members in sorted(folds.items(), key=lambda item: (item[0] is None, item[0] or 0))
    ]
    diameters = [2 * radius_mm(nodule.diameter_mm) for nodule in nodules]
    sizes = [(_range(low, high), sum(low <= d < high for d in diameters)) for low, high in _pairs(EDGES_MM)]
    return ([] if set(folds) == {None} else rows), [s for s in sizes if s[1] or not s[0].startswith("<")]


def recipe_facts(model: ModelFacts, *, show_ids: bool) -> Facts:
    """Give what a model is: input, networks, origin.

    Parameters
    ----------
    model : ModelFacts
        The model.
    show_ids : bool
        Let identifiers through.

    Returns
    -------
    list of (str, str)
    """
    recipe, prepare = model.recipe, model.recipe.prepare
    rows: Facts = [
        ("Name", recipe.name),
        ("Made", f"{recipe.created or 'no date'}, version {recipe.version}"),
        ("SHA-256", model.sha256),
        ("Input", f"{prepare.spacing_mm:g} mm, window {prepare.low_hu:g} to {prepare.high_hu:g} HU"),
    ]
    if recipe.detector is not None:
        rows.append(("Detector", _shape(recipe.detector)))
    if recipe.classifier is not None:
        edge = recipe.classifier.patch_vox
        rows.append(("Classifier", f"cubes of {edge} voxels; {_shape(recipe.classifier)}"))
    if recipe.operating_points:
        points = (f"{float(rate):g}: {score:.4f}" for rate, score in recipe.operating_points.items())
        rows.append(("Thresholds by false marks per scan", "; ".join(points)))
    return [(name, shown_text(text, show_ids=show_ids)) for name, text in rows]


def training_facts(training: Mapping[str, Any], *, show_ids: bool) -> Facts:
    """Give the training facts of a recipe, one row for each part.

    Parameters
    ----------
    training : mapping
        Plain JSON of any depth.
    show_ids : bool
        Let identifiers and paths through.

    Returns
    -------
    list of (str, str)
        ``settings, epochs`` and value; what lies deeper stands in one line. Lists of texts become their
        number, and so do long lists.
    """
    rows: Facts = []
    for key, value in training.items():
        name = _name(key, show_ids)
        if isinstance(value, Mapping) and any(isinstance(part, Mapping) for part in value.values()):
            rows += [(f"{name}, {_name(part, show_ids)}", _value(inner, show_ids)) for part, inner in value.items()]
        else:
            rows.append((name, _value(value, show_ids)))
    return rows


def training_overlap(training: Mapping[str, Any], series_list: Sequence[str]) -> tuple[int, int] | None:
    """Give how many of the judged scans the model was trained on, and how many it was chosen on.

    Parameters
    ----------
    training : mapping
        Training facts of a recipe: ``train_series`` and ``val_series`` hold the hashes of the scans.
    series_list : sequence of str
        The judged scans.

    Returns
    -------
    tuple of int or None
        None when the recipe does not list them.

    Examples
    --------
    >>> training_overlap({"train_series": ["f9a13599155b7052"]}, ["1.2.840.1", "1.2.840.2"])
    (1, 0)
    """
    if not isinstance(training.get("train_series"), (list, tuple)):
        return None
    judged = {short_hash(series) for series in series_list}
    trained_on, chosen_on = (set(map(str, training.get(key) or ())) for key in ("train_series", "val_series"))
    return len(judged & trained_on), len(judged & chosen_on)


def shown_text(text: str, *, show_ids: bool) -> str:
    """Give text that may stand in a report: valid Unicode, and without identifiers by default.

    Parameters
    ----------
    text : str
        From a file of somebody else.
    show_ids : bool
        Keep DICOM identifiers and paths.

    Returns
    -------
    str
        Without control characters; DICOM identifiers as hashes; a text with path separators as a remark.

    Examples
    --------
    >>> shown_text("1.2.840.1", show_ids=False), shown_text("/home/a", show_ids=False)
    ('f9a13599155b7052', '(a path)')
    """
    text = text.encode("utf-8", "backslashreplace").decode()
    text = "".join(c if c.isprintable() else " " for c in text)
    if show_ids:
        return text
    return "(a path)" if re.search(r"(^|\s)[/~]|[A-Za-z]:[\\/]|\w[\\/]\w+[\\/]", text) else without_uids(text)


def _name(key: object, show_ids: bool) -> str:
    return shown_text(str(key), show_ids=show_ids).replace("_", " ")


def _value(value: object, show_ids: bool) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None:
        return "-"
    if isinstance(value, (int, float)):
        return number(value)
    if isinstance(value, (list, tuple)) and not value:
        return "none"
    if isinstance(value, (list, tuple)):
        is_short = len(value) <= MOST_NUMBERS and all(isinstance(v, (int, float)) for v in value)
        return ", ".join(number(v) for v in value) if is_short else f"{len(value)} entries"
    if isinstance(value, Mapping):
        return "; ".join(f"{_name(key, show_ids)} {_value(part, show_ids)}" for key, part in value.items())
    return shown_text(str(value), show_ids=show_ids)


def number(value: float) -> str:
    """Give a number for people: up to five significant digits, whole numbers whole.

    Parameters
    ----------
    value : float
        Any number.

    Returns
    -------
    str

    Examples
    --------
    >>> number(3), number(0.123456789), number(123456)
    ('3', '0.12346', '123456')
    """
    if not math.isfinite(value):
        return "not a number" if math.isnan(value) else ("infinite" if value > 0 else "-infinite")
    return str(int(value)) if float(value).is_integer() and abs(value) < 1e15 else f"{value:.5g}"


def _shape(net: EncoderSettings) -> str:
    channels, depths = (", ".join(map(str, values)) for values in (net.channels, net.depths))
    return f"channels {channels}; blocks {depths}; {net.norm} norm, dropout {net.dropout:g}"


def _range(low: float, high: float) -> str:
    if math.isinf(high):
        return f">= {low:g} mm"
    return f"{low:g}-{high:g} mm" if low else f"< {high:g} mm"


def _pairs(edges: Sequence[float]) -> list[tuple[float, float]]:
    return list(pairwise(edges))
