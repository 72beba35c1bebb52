"""The curves of a report as PNG, drawn without a display: FROC with its band, and how training went."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from napari_alnct.evaluation.froc import FP_RATES, RATE_LABELS
from napari_alnct.evaluation.plots import GRID, OURS, THEIRS
from napari_alnct.io.csv_files import read_lines

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DOTS_PER_INCH = 130
STEP_COLUMNS = ("epoch", "step")
PANELS = (  # title, and the columns that belong there
    ("Loss", ("train_loss", "val_loss", "loss", "total")),
    ("AUC on validation", ("val_auc",)),
    ("CPM on validation", ("cpm", "cpm_low", "cpm_high")),
    ("Learning rate", ("learning_rate", "rate")),
)
NAMES = {
    **{"train_loss": "training", "val_loss": "validation", "loss": "training", "total": "training"},
    **{"cpm_low": "95 % CI, from", "cpm_high": "95 % CI, to"},
}
COLOURS = (OURS, THEIRS, "#4d7c0f", "#7c3aed", "#6b7280", "#b91c1c")


@dataclass(frozen=True, kw_only=True)
class Band:
    """Sensitivity against false positives per scan, with its 95 % interval where there is one."""

    fp_rates: Sequence[float]
    sensitivity: Sequence[float]
    lower: Sequence[float] | None = None
    upper: Sequence[float] | None = None


def band_png(band: Band) -> bytes:
    """Give a FROC curve over a binary-logarithmic axis.

    Parameters
    ----------
    band : Band
        From 1/8 to 8 false positives per scan.

    Returns
    -------
    bytes
        PNG.
    """
    figure = _figure(7.0, 4.4)
    axes = figure.add_subplot()
    if band.lower is not None and band.upper is not None:
        axes.fill_between(band.fp_rates, band.lower, band.upper, color=OURS, alpha=0.18, linewidth=0, label="95 % CI")
    axes.plot(band.fp_rates, band.sensitivity, color=OURS, linewidth=1.8, label="sensitivity")
    axes.set_xscale("log", base=2)
    axes.set_xticks(FP_RATES, RATE_LABELS)
    axes.minorticks_off()
    axes.set_ylim(0, 1.02)
    axes.set_yticks([k / 10 for k in range(11)])
    axes.set_xlabel("False positives per scan")
    axes.set_ylabel("Sensitivity")
    _dress(axes)
    return _png(figure)


def read_log(path: Path) -> dict[str, list[float]]:
    """Give the columns of a training log; what is no number is nan, a half-written last line is left out.

    Parameters
    ----------
    path : Path
        ``log.csv``.

    Returns
    -------
    dict of str to list of float

    Raises
    ------
    TableError
        If it cannot be read.
    """
    lines = [cells for _, cells in read_lines(path) if cells]
    if not lines:
        return {}
    header = [cell.strip() for cell in lines[0]]
    rows = [cells for cells in lines[1:] if len(cells) == len(header)]
    return {name: [_number(cells[k]) for cells in rows] for k, name in enumerate(header)}


def learning_png(log: dict[str, list[float]]) -> bytes | None:
    """Give loss, AUC (or CPM) and learning rate side by side.

    Parameters
    ----------
    log : dict
        From `read_log`.

    Returns
    -------
    bytes or None
        PNG; None when the log holds no curve.
    """
    step = next((name for name in STEP_COLUMNS if name in log), None)
    panels = [(title, _columns(log, names)) for title, names in PANELS]
    panels = [(title, columns) for title, columns in panels if columns]
    if not panels or len(next(iter(log.values()))) == 0:
        return None
    from matplotlib.ticker import MaxNLocator

    figure = _figure(3.6 * len(panels), 3.1)
    for k, (title, columns) in enumerate(panels):
        axes = figure.add_subplot(1, len(panels), k + 1)
        for name, colour in zip(columns, COLOURS, strict=False):
            values = log[name]
            along = log[step] if step else list(range(1, len(values) + 1))
            label = NAMES.get(name, name.replace("_", " "))
            marker = "." if len(values) <= 40 else ""
            axes.plot(along, values, marker=marker, color=colour, linewidth=1.5, label=label)
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("Epoch" if step == "epoch" else "Step")
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
        axes.ticklabel_format(axis="y", scilimits=(-2, 4))
        _dress(axes, has_legend=len(columns) > 1)
    return _png(figure)


def _columns(log: dict[str, list[float]], names: Sequence[str]) -> list[str]:
    """Give the columns of one panel that hold a number at all."""
    return [name for name in names if any(map(math.isfinite, log.get(name, ())))]


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _figure(width_inches: float, height_inches: float) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width_inches, height_inches), dpi=DOTS_PER_INCH, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _dress(axes: Axes, *, has_legend: bool = True) -> None:
    axes.grid(color=GRID, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8.5)
    if has_legend:
        axes.legend(loc="best", fontsize=8.5, frameon=False)


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": "napari-alnct"})
    return buffer.getvalue()
