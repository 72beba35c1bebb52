"""The evaluation of explanations as text: numbers, intervals and verdicts for a page or a document."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

NOT_RUN = "not run"
COLUMNS = (  # heading, id, label of the check, digits
    ("L1", "L1", "maximum in the nodule", 2),
    ("L1 3-6 mm", "L1", "the same, 3 to 6 mm", 2),
    ("L2", "L2", "evidence inside the nodule", 2),
    ("x chance", "L2", "the same, times chance", 0),
    ("L3 AUPRC", "L3", "AUPRC of the voxels", 2),
    ("L3 IoU", "L3", "top-k IoU", 2),
    ("L4 mm", "L4", "peak error, median (mm)", 1),
    ("L4 p95", "L4", "peak error, 95th percentile (mm)", 1),
    ("L5", "L5", "spread, median", 2),
    ("F1 del", "F1", "deletion lung area", 2),
    ("F1 ins", "F1", "insertion lung area", 2),
    ("F2", "F2", "targeted deletion", 2),
    ("F3", "F3", "ROAD, logits", 2),
    ("F4", "F4", "|rho| after randomisation", 2),
    ("F5", "F5", "own over other nodule", 1),
    ("F6", "F6", "PSC, nodule fading", 2),
    ("F7", "F7", "rho with 10 HU of noise, median", 2),
    ("F9", "F9", "rho with occlusion, median", 2),
    ("F9 r", "F9", "Pearson's r with occlusion, median", 2),
)
VERDICTS = {True: "pass", False: "miss", None: ""}


@dataclass(frozen=True, kw_only=True)
class CheckView:
    """One check as text."""

    id: str
    label: str
    value: str
    ci95: str
    n: str
    target: str
    verdict: str
    note: str


def number(value: float | None, digits: int = 2) -> str:
    """Give a number as text; large ones without decimals, tiny ones as a power.

    Parameters
    ----------
    value : float or None
        None: not run.
    digits : int
        Decimals.

    Returns
    -------
    str

    Examples
    --------
    >>> number(0.8512), number(None), number(1234.5), number(0.00001)
    ('0.85', 'not run', '1234', '1.0e-05')
    """
    if value is None:
        return NOT_RUN
    if abs(value) >= 100:
        return f"{value:.0f}"
    if 0 < abs(value) < 10**-digits / 2 and digits > 1:
        return f"{value:.1e}"
    return f"{value:.{digits}f}"


def check_views(row: Mapping[str, Any]) -> list[CheckView]:
    """Give every check of a map as text.

    Parameters
    ----------
    row : mapping
        Of `evaluation_table`.

    Returns
    -------
    list of CheckView
    """
    return [
        CheckView(
            id=check["id"],
            label=check["label"],
            value=number(check["value"]),
            ci95=f"{number(check['ci95'][0])} to {number(check['ci95'][1])}" if check["ci95"] else "",
            n=str(check["n"]) if check["n"] else "",
            target=check["target"],
            verdict=VERDICTS[check["is_met"]],
            note=check["note"],
        )
        for check in row["checks"]
    ]


def overview(table: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Give headings and one line of numbers per map, then the number of targets met.

    Parameters
    ----------
    table : mapping
        Of `evaluation_table`.

    Returns
    -------
    tuple of (list of str, list of list of str)
    """
    lines = []
    for row in table["rows"]:
        values = {(check["id"], check["label"]): check["value"] for check in row["checks"]}
        cells = [number(values[key, label], digits) for _, key, label, digits in COLUMNS]
        met = "" if row["is_baseline"] else f"{row['n_met']} of {row['n_with_target']}"
        lines.append([row["name"], *(cell.replace(NOT_RUN, "-") for cell in cells), met])
    return ["Map", *(heading for heading, *_ in COLUMNS), "Targets met"], lines


def subgroup_lines(row: Mapping[str, Any]) -> list[list[str]]:
    """Give group, n and three figures with intervals for each subgroup of a map.

    Parameters
    ----------
    row : mapping
        Of `evaluation_table`.

    Returns
    -------
    list of list of str
    """
    lines = []
    for group in row["subgroups"]:
        cells = [_with_interval(group[key]) for key in ("L1", "L2", "L4")]
        lines.append([group["group"], str(group["L1"]["n"]), *cells])
    return lines


def false_positive_text(row: Mapping[str, Any]) -> str:
    """Give a sentence on the maps of false positives."""
    found = row["false positives"]
    if not found["n"]:
        return "No place without a nodule was taken for one."
    near = number(found["maximum within 5 mm"]["value"])
    return (
        f"{found['n']} places without a nodule were taken for one: {number(found['with support']['value'])} of their "
        f"maps have support, {near} of these have the maximum within 5 mm; the strongest evidence is "
        f"{number(found['strongest evidence']['value'])} (median). A map does not tell a false positive from a nodule."
    )


def row_named(table: Mapping[str, Any], name: str) -> Mapping[str, Any] | None:
    """Give the row of a map by its name, None when it was not judged."""
    rows: Sequence[Mapping[str, Any]] = table["rows"]
    return next((row for row in rows if row["name"] == name), None)


def shown_row(document: Mapping[str, Any]) -> Mapping[str, Any]:
    """Give the row shown in full: that of the program's default, else the preferred one, else the first."""
    table = document["table"]
    named = (row_named(table, name) for name in (document["default"], table["preferred"]["name"]))
    return next((row for row in named if row is not None), table["rows"][0])


def preferred_text(document: Mapping[str, Any]) -> str:
    """Give a sentence on the map that the figures prefer."""
    preferred = document["table"]["preferred"]
    if not preferred["name"]:
        return "There is no choice of a map from these figures."
    ranks = sorted(preferred["ranks"].items(), key=lambda item: item[1])
    listed = ", ".join(f"{name} {rank:.2f}" for name, rank in ranks)
    return f"Preferred by the figures: {preferred['name']} ({preferred['rule']}). Mean ranks: {listed}."


def _with_interval(figure: Mapping[str, Any]) -> str:
    text = number(figure["value"])
    if not figure["ci95"]:
        return text
    return f"{text} ({number(figure['ci95'][0])} to {number(figure['ci95'][1])})"
