"""The evaluation of explanations as a table: every map with its checks, subgroups, and the map to prefer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from napari_alnct.evaluation.explanation_baselines import BASELINES
from napari_alnct.evaluation.explanation_checks import AREAS, Check, checks_of
from napari_alnct.evaluation.explanation_figures import FALSE_POSITIVE, NODULE, Record, ScanSample, column

SIZES_MM = ((3.0, 6.0), (6.0, 10.0), (10.0, 1000.0))
COARSEST_STRIDE = 4  # voxels per cell that a default may have
NEAR_MM = 5.0
PREFERENCES = (  # figures by which maps are ranked, and whether high is good
    ("L1", "maximum in the nodule", True),
    ("L2", "evidence inside the nodule", True),
    ("L4", "peak error, median (mm)", False),
    ("F2", "targeted deletion", True),
    ("F3", "ROAD, logits", True),
    ("F9", "rho with occlusion, median", True),
)


@dataclass(frozen=True, kw_only=True)
class MapRow:
    """One map of the table: its name, method, layer and input voxels per cell (0 for a baseline)."""

    name: str
    method: str
    layer: str = ""
    stride: int = 0

    @property
    def is_baseline(self) -> bool:
        """Tell whether it knows nothing of the network."""
        return self.name in BASELINES


def evaluation_table(
    records: Sequence[Record], rows: Sequence[MapRow], *, n_samples: int = 1000, seed: int = 0
) -> dict[str, Any]:
    """Give the whole table as plain JSON.

    Parameters
    ----------
    records : sequence of mapping
        What was measured, see `explanation_figures`.
    rows : sequence of MapRow
        Maps, baselines among them.
    n_samples : int
        Bootstrap samples over scans; 0 for no intervals.
    seed : int
        Of the draws.

    Returns
    -------
    dict
        ``n_nodules``, ``n_false_positives``, ``n_scans``; ``rows``: per map its checks, subgroups, false
        positives and number of targets met; ``preferred`` (`preferred_row`).
    """
    nodules = [record for record in records if record["sort"] == NODULE]
    others = [record for record in records if record["sort"] == FALSE_POSITIVE]
    sample, other_sample = (ScanSample.draw(part, n_samples, seed) for part in (nodules, others))
    table = []
    for row in rows:
        checks = checks_of(sample, row.name)
        table.append(
            {
                **asdict(row),
                "is_baseline": row.is_baseline,
                "checks": [asdict(check) for check in checks],
                "n_met": sum(check.is_met is True for check in checks),
                "n_with_target": sum(check.is_met is not None for check in checks),
                "subgroups": subgroups(sample, row.name),
                "false positives": false_positives(other_sample, row.name),
            }
        )
    return {
        "n_nodules": len(nodules),
        "n_false_positives": len(others),
        "n_scans": len({record["scan"] for record in nodules}),
        "rows": table,
        "preferred": preferred_row(table),
    }


def subgroups(sample: ScanSample, row: str) -> list[dict[str, Any]]:
    """Give pointing, energy and peak error by size and by type (L6); groups without a nodule are left out.

    Parameters
    ----------
    sample : ScanSample
        Records of nodules.
    row : str
        Name of the map.

    Returns
    -------
    list of dict
        ``group``, and per figure value, interval and n.
    """
    groups: dict[str, Callable[[Record], bool]] = {}
    for low, high in SIZES_MM:
        label = f"{low:g} to {high:g} mm" if high < SIZES_MM[-1][1] else f"over {low:g} mm"
        groups[label] = lambda record, low=low, high=high: low <= record["diameter_mm"] < high  # type: ignore[misc]
    for kind in sorted({str(record["kind"]) for record in sample.records}):
        groups[kind.replace("_", "-")] = lambda record, kind=kind: record["kind"] == kind  # type: ignore[misc]
    figures = {"L1": ("pointing", "mean"), "L2": ("energy", "mean"), "L4": ("peak_error_mm", "median")}
    found = []
    for group, is_in in groups.items():
        cells = {
            key: asdict(sample.figure([column(sample.records, row, name)], statistic, is_in))  # type: ignore[arg-type]
            for key, (name, statistic) in figures.items()
        }
        if cells["L1"]["n"]:
            found.append({"group": group, **cells})
    return found


def false_positives(sample: ScanSample, row: str) -> dict[str, Any]:
    """Give what a map shows for places that the network takes for nodules and that are none (L6).

    Parameters
    ----------
    sample : ScanSample
        Records of false positives.
    row : str
        Name of the map.

    Returns
    -------
    dict
        ``n``, share with any support, share whose maximum is within 5 mm, strongest evidence (median).
    """
    peaks = column(sample.records, row, "peak_distance_mm")
    near = [None if value is None else float(value <= NEAR_MM) for value in peaks]
    support = column(sample.records, row, "has_support")
    return {
        "n": sum(value is not None for value in support),
        "with support": asdict(sample.figure([support], "mean")),
        "maximum within 5 mm": asdict(sample.figure([near], "mean")),
        "strongest evidence": asdict(sample.figure([column(sample.records, row, "strongest")], "median")),
    }


def preferred_row(table: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Give the map to offer first, by a rule fixed before measuring.

    Parameters
    ----------
    table : sequence of mapping
        Rows of `evaluation_table`.

    Returns
    -------
    dict
        ``name`` (empty when there is none to choose), ``mean_rank``, ``ranks`` by map, ``rule``.

    Notes
    -----
    Class-activation maps with cells of at most 4 voxels that pass F4 (all of these cells where none passes)
    are ranked by L1, L2, L4, F1 (insertion minus deletion, both fills), F2, F3 and F9 as far as they were
    run; equal values share their mean rank; the lowest mean rank wins.
    """
    from scipy.stats import rankdata

    fine = [row for row in table if not row["is_baseline"] and 2 <= row["stride"] <= COARSEST_STRIDE]
    passing = [row for row in fine if all(check["is_met"] is not False for check in _end_of_randomisation(row))]
    chosen = passing or fine
    rule = (
        f"cells of at most {COARSEST_STRIDE} voxels{' that pass F4' if passing else ', none of which passes F4'}; "
        "lowest mean rank over L1, L2, L4, F1, F2, F3, F9"
    )
    ranks = []
    for name, label, is_high_good in (*PREFERENCES, ("F1", "", True)):
        values = [_figure(row, name, label) for row in chosen]
        if values and all(value is not None for value in values):
            ranks.append(rankdata([-v if is_high_good else v for v in values if v is not None]))
    if not ranks:
        return {"name": "", "mean_rank": None, "ranks": {}, "rule": rule}
    means = np.mean(ranks, axis=0)
    best = int(np.argmin(means))
    listed = {row["name"]: round(float(mean), 3) for row, mean in zip(chosen, means, strict=True)}
    return {"name": chosen[best]["name"], "mean_rank": round(float(means[best]), 3), "ranks": listed, "rule": rule}


def _end_of_randomisation(row: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [check for check in row["checks"] if check["id"] == "F4" and check["label"].startswith("|rho| after")]


def _figure(row: Mapping[str, Any], name: str, label: str) -> float | None:
    """Give the value of a check by name and label; for F1 insertion minus deletion over both fills."""
    values = {(check["id"], check["label"]): check["value"] for check in row["checks"]}
    if label:
        return values[name, label]
    areas = {area: values["F1", f"{area} area"] for area in AREAS}
    if any(value is None for value in areas.values()):
        return None
    return float(sum(value if area.startswith("insertion") else -value for area, value in areas.items()))


__all__ = ["Check", "MapRow", "evaluation_table", "false_positives", "preferred_row", "subgroups"]
