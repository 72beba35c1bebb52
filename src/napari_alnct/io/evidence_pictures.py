"""An evidence map as one PNG: three planes through the candidate, plain and under the map, and a montage of slices.

Pictures are upright as radiologists see them (`napari_alnct.core.key_images`), in the lung window. Colours are the
signed map on one fixed scale for all candidates of a run, transparent around zero: weak evidence looks weak. Where a
map has no positive evidence, a sentence takes the place of colours.
"""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_alnct.core.evidence import CAPTION, NO_SUPPORT, EvidenceMap
from napari_alnct.core.key_images import Colour, KeyImage, Ring, key_images
from napari_alnct.core.notice import NOTICE
from napari_alnct.core.volume import Volume
from napari_alnct.io.evidence import EvidenceChecks, SharedScale

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SUPPORT: Colour = (255, 128, 0)
AGAINST: Colour = (64, 160, 255)
RING: Colour = (150, 255, 150)
CLEAR_SHARE, MOST_OPAQUE = 0.05, 0.8  # of the scale's top below which nothing is painted; cover at the top
EDGE_MM, PIXEL_MM = 60.0, 0.2
SMALL_EDGE_MM, SMALL_PIXEL_MM = 37.5, 0.3
SLICE_STEPS_MM = (-12.0, -8.0, -4.0, 0.0, 4.0, 8.0, 12.0)
GAP_PX, HEAD_PX, FOOT_PX, LABEL_PX, SIDE_PX = 10, 74, 88, 22, 130
BAR_GREY = 70  # lung in the lung window
INK, PAPER, DOTS_PER_INCH = "#222222", "white", 100
FIRST_UNSURE_GLYPH, LONGEST_NAME = 0x250, 60


def evidence_colours(grey: NDArray[np.float32], values: NDArray[np.floating], limit: float) -> NDArray[np.float32]:
    """Give a picture under the colours of a map.

    Parameters
    ----------
    grey : ndarray of float32, shape (..., 3)
        The picture, 0 to 255.
    values : ndarray, shape (...)
        The map at its pixels.
    limit : float
        Where colours are at their strongest.

    Returns
    -------
    ndarray of float32, shape (..., 3)
        Orange where values support the score, blue where they argue against it, unchanged around zero.
    """
    size = np.clip(np.abs(values) / limit, 0, 1)
    cover = np.clip((size - CLEAR_SHARE) / (1 - CLEAR_SHARE), 0, 1) ** 0.75 * MOST_OPAQUE
    ink = np.where(values[..., None] > 0, np.array(SUPPORT, np.float32), np.array(AGAINST, np.float32))
    return (grey + cover[..., None].astype(np.float32) * (ink - grey)).astype(np.float32)


def evidence_png(
    evidence: EvidenceMap,
    volume: Volume,
    scale: SharedScale,
    checks: EvidenceChecks | None = None,
    *,
    diameter_mm: float = 0.0,
) -> bytes:
    """Give the picture of a map.

    Parameters
    ----------
    evidence : EvidenceMap
        The map.
    volume : Volume
        The scan or patch to lay it over.
    scale : SharedScale
        Top of the colour scale.
    checks : EvidenceChecks, optional
        Their badge is written into the picture.
    diameter_mm : float, optional
        Of the candidate, for its ring; dashed where not known.

    Returns
    -------
    bytes
        PNG.
    """
    ring = Ring(position_xyz_mm=evidence.position_xyz_mm, diameter_mm=diameter_mm, colour=RING)
    planes = key_images(volume, evidence.position_xyz_mm, edge_mm=EDGE_MM, pixel_mm=PIXEL_MM)
    sheet = _Sheet(width=3 * len(planes[0].pixels) + 4 * GAP_PX + SIDE_PX)
    sheet.add_row([one.drawn([ring]) for one in planes], [one.plane.name for one in planes])
    sheet.add_row([_under_map(one, evidence, scale).drawn([]) for one in planes], ["", "", ""])
    slices = _slices(evidence, volume)
    labels = [f"{step:+g} mm".replace("+0 mm", "0 mm") for step, _ in slices]
    sheet.add_row([_under_map(one, evidence, scale).drawn([]) for _, one in slices], labels)
    return sheet.finished(evidence, scale, checks or EvidenceChecks())


def _under_map(image: KeyImage, evidence: EvidenceMap, scale: SharedScale) -> KeyImage:
    """Give a picture with the map on it; as it was where nothing supports the score."""
    if not evidence.has_support:
        return image
    n = len(image.pixels)
    values = evidence.at(image.world_xyz_mm.reshape(-1, 3)).reshape(n, n)
    colours = evidence_colours(image.in_colour, values, scale.limit)
    return replace(image, pixels=np.rint(colours).astype(np.uint8))


def _slices(evidence: EvidenceMap, volume: Volume) -> list[tuple[float, KeyImage]]:
    """Give axial pictures below and above the candidate, from the feet up, with their distance."""
    x, y, z = evidence.position_xyz_mm
    return [
        (step, key_images(volume, (x, y, z + step), edge_mm=SMALL_EDGE_MM, pixel_mm=SMALL_PIXEL_MM)[0])
        for step in SLICE_STEPS_MM
    ]


@dataclass(frozen=True)
class _Placed:
    """Pixels on the sheet, their upper left corner, and a label below."""

    pixels: NDArray[np.uint8]
    left: int
    top: int
    label: str


class _Sheet:
    """Rows of pictures, pixel by pixel, with text, scale and caption around them."""

    def __init__(self, width: int) -> None:
        self.width, self.height = width, HEAD_PX
        self._placed: list[_Placed] = []

    def add_row(self, images: Sequence[KeyImage], labels: Sequence[str]) -> None:
        """Put pictures side by side, spread over the width beside the scale."""
        size = len(images[0].pixels)
        room = self.width - SIDE_PX - len(images) * size
        for number, (image, label) in enumerate(zip(images, labels, strict=True)):
            left = round(room * (number + 1) / (len(images) + 1)) + number * size
            self._placed.append(_Placed(image.pixels, left, self.height, label))
        self.height += size + (LABEL_PX if any(labels) else GAP_PX)

    def finished(self, evidence: EvidenceMap, scale: SharedScale, checks: EvidenceChecks) -> bytes:
        """Give the sheet as PNG, drawn without a display."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        self.height += FOOT_PX
        size = (self.width / DOTS_PER_INCH, self.height / DOTS_PER_INCH)
        figure = Figure(figsize=size, dpi=DOTS_PER_INCH, facecolor=PAPER)
        FigureCanvasAgg(figure)
        for one in self._placed:
            figure.figimage(one.pixels, one.left, self.height - one.top - len(one.pixels), origin="upper")
            middle, below = one.left + len(one.pixels) / 2, one.top + len(one.pixels) + 3
            self._write(figure, one.label, middle, below, size=9, ha="center")
        self._head(figure, evidence, checks)
        if evidence.has_support:
            self._scale(figure, evidence, scale)
        else:
            self._sentence(figure)
        self._foot(figure)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", metadata={"Software": "napari-alnct"})
        return buffer.getvalue()

    def _write(
        self, figure: Figure, text: str, x: float, y: float, *, size: float, ha: str = "left", **how: str
    ) -> None:
        """Write text whose upper edge lies y pixels from the top."""
        given = {"color": INK, "va": "top"} | how
        figure.text(x / self.width, 1 - y / self.height, text, fontsize=size, ha=ha, parse_math=False, **given)  # type: ignore[arg-type]

    def _head(self, figure: Figure, evidence: EvidenceMap, checks: EvidenceChecks) -> None:
        x, y, z = evidence.position_xyz_mm
        title = f"{_shown(evidence.candidate)}: {evidence.score_name}, logit {evidence.logit:+.2f}"
        how = f"{evidence.method} at {evidence.layer}, cells of {evidence.geometry.spacing_zyx_mm[0]:g} mm"
        place = f"x {x:.1f}, y {y:.1f}, z {z:.1f} mm (LPS)"
        self._write(figure, title, GAP_PX, 10, size=13, weight="bold")
        self._write(figure, f"{how}; {place}; model {_shown(evidence.model_name)}", GAP_PX, 34, size=9.5)
        r = checks.agreement_with_occlusion
        if r is not None:
            text = f"agreement with occlusion {r:.2f}" + (f": {checks.badge}" if checks.badge else "")
            self._write(figure, text, GAP_PX, 52, size=9.5, color="#b00020" if checks.badge else INK)

    def _scale(self, figure: Figure, evidence: EvidenceMap, scale: SharedScale) -> None:
        """Draw the colour bar as the colours look on lung."""
        first = next(one for one in self._placed if not one.label)  # the row of planes under the map
        edge = len(first.pixels)
        values = np.linspace(scale.limit, -scale.limit, 256)[:, None]
        grey = np.full((256, 1, 3), BAR_GREY, np.float32)
        bar = np.rint(evidence_colours(grey, values, scale.limit)).astype(np.uint8)
        left, width = self.width - SIDE_PX + 4, 18
        bottom = self.height - first.top - edge + 14
        box = (left / self.width, bottom / self.height, width / self.width, (edge - 28) / self.height)
        axes = figure.add_axes(box)
        axes.imshow(bar, aspect="auto", extent=(0, 1, -scale.limit, scale.limit))
        axes.set_xticks([])
        axes.yaxis.tick_right()
        axes.set_yticks([scale.limit * share for share in (-1, -0.5, 0, 0.5, 1)])
        axes.set_yticklabels([f"{scale.limit * share:+.2g}" if share else "0" for share in (-1, -0.5, 0, 0.5, 1)])
        axes.tick_params(labelsize=8, length=3)
        self._write(figure, "supports the score", left - 4, first.top - 4, size=8.5)
        self._write(figure, "argues against it", left - 4, first.top + edge - 6, size=8.5)
        shared = f"one scale for all {scale.n_maps} maps" if scale.n_maps > 1 else "scale of this map"
        unit = "\n".join(textwrap.wrap(f"{evidence.unit}; {shared}; the few stronger cells as its top", 20))
        self._write(figure, unit, left - 4, first.top + edge + 14, size=8)

    def _sentence(self, figure: Figure) -> None:
        """Say in place of colours that there is nothing to paint."""
        first = next(one for one in self._placed if not one.label)
        text = "\n".join(textwrap.wrap(NO_SUPPORT.capitalize(), 14))
        self._write(figure, text, self.width - SIDE_PX, first.top + 10, size=12, weight="bold")

    def _foot(self, figure: Figure) -> None:
        lines = textwrap.wrap(f"{CAPTION} {NOTICE}", round(self.width / 6.6))
        top = self.height - FOOT_PX + 10
        axial = "Axial slices: distance from the candidate, + towards the head. Lung window. Bar: 10 mm."
        self._write(figure, "\n".join([axial, *lines]), GAP_PX, top, size=9)


def _shown(name: str) -> str:
    """Give a name that the font has, not too long."""
    shown = "".join(c if c.isprintable() and ord(c) < FIRST_UNSURE_GLYPH else "?" for c in name)
    return shown if len(shown) <= LONGEST_NAME else f"{shown[: LONGEST_NAME - 3]}..."
