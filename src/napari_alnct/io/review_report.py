"""A reading as one self-contained HTML page: key images in three planes, marks, model, threshold, caveats.

The page needs nothing but itself: pictures are data inside it, there are no scripts, and its
own policy forbids every request. All text is escaped by the template.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from napari_alnct import __version__
from napari_alnct.core.errors import ReviewError
from napari_alnct.core.geometry import Geometry
from napari_alnct.core.key_images import (
    EDGE_MM,
    LUNG_WINDOW_HU,
    RING_GAP_MM,
    Colour,
    KeyImage,
    Ring,
    key_images,
)
from napari_alnct.core.notice import NOTICE
from napari_alnct.core.review_actions import LockFirstRead, Mark
from napari_alnct.core.review_summary import STATUS_TEXT, expectation, model_text, told_marks
from napari_alnct.core.volume import Volume
from napari_alnct.io.png_files import data_address, png_bytes
from napari_alnct.io.review_record import CAVEATS, Reading

TEMPLATES, TEMPLATE = Path(__file__).with_name("templates"), "reading.html.j2"
MOST_PICTURES = 60  # findings with key images; more would make a page of tens of megabytes
STATUS_COLOURS: dict[str, Colour] = {  # told apart by the colour-blind (Okabe and Ito)
    "accepted": (0, 158, 115),
    "uncertain": (240, 228, 66),
    "reader_added": (86, 180, 233),
}
NEIGHBOUR_COLOUR: Colour = (200, 200, 200)

Facts = list[tuple[str, str]]


@dataclass(frozen=True, kw_only=True)
class ReportOptions:
    """How a report shows the scan.

    Parameters
    ----------
    title : str
        Heading of the page.
    window_hu : tuple of float
        Black and white of the key images, HU.
    slab_mm : float
        Wanted thickness of their maximum projections, mm; 0: one slice.
    """

    title: str = "Reading of a chest CT"
    window_hu: tuple[float, float] = LUNG_WINDOW_HU
    slab_mm: float = 0.0


def report_html(reading: Reading, volume: Volume | None, options: ReportOptions) -> str:
    """Give the page of a reading.

    Parameters
    ----------
    reading : Reading
        What was read.
    volume : Volume or None
        The scan; None: no pictures.
    options : ReportOptions
        How to show it.

    Returns
    -------
    str

    Raises
    ------
    ReviewError
        If the volume is another scan than the one that was read.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    if volume is not None and volume.voxel_sha256 != reading.scan.voxel_sha256:
        raise ReviewError("the open scan is another one than that of the reading; open the scan that was read")
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(TEMPLATE).render(page_of(reading, volume, options))


def page_of(reading: Reading, volume: Volume | None, options: ReportOptions) -> dict[str, Any]:
    """Give what the template asks for.

    Parameters
    ----------
    reading : Reading
        What was read.
    volume : Volume or None
        The scan.
    options : ReportOptions
        How to show it.

    Returns
    -------
    dict
    """
    review, summary = reading.review, reading.summary
    findings = review.findings
    others = [mark for mark in told_marks(review) if mark not in findings]
    return {
        "title": options.title,
        "notice": NOTICE,
        "made": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "version": __version__,
        "is_clear": reading.scan.is_clear,
        "state": summary.state,
        "results": summary.results,
        "cautions": summary.cautions,
        "fault": reading.fault,
        "flags": [flag.text for flag in reading.scan.flags],
        "tables": [("The scan", scan_facts(reading)), ("The reading", reading_facts(reading))],
        "candidate_facts": candidate_facts(reading),
        "rows": [_row(reading, mark) for mark in findings],
        "other_rows": [_row(reading, mark) for mark in others],
        "cards": [_card(reading, mark, volume, options) for mark in findings[:MOST_PICTURES]],
        "n_without_card": max(0, len(findings) - MOST_PICTURES),
        "window": options.window_hu,
        "edge_mm": EDGE_MM,
        "gap_mm": RING_GAP_MM,
        "legend": [(STATUS_TEXT[status], _css(colour)) for status, colour in STATUS_COLOURS.items()],
        "caveats": CAVEATS,
    }


def scan_facts(reading: Reading) -> Facts:
    """Give what is known of the scan, as rows for people."""
    scan = reading.scan
    nz, ny, nx = scan.shape_zyx
    z, y, x = scan.spacing_zyx_mm
    return [
        ("Series" if scan.is_clear else "Series, as a hash", scan.series or "not known"),
        ("SHA-256 of the voxels", scan.voxel_sha256),
        ("Size", f"{nx} x {ny} x {nz} voxels of {x:.4g} x {y:.4g} x {z:.4g} mm (x, y, z)"),
    ]


def reading_facts(reading: Reading) -> Facts:
    """Give how the scan was read, as rows for people."""
    entries, review = reading.entries, reading.review
    locked = next((entry.utc for entry in entries if isinstance(entry.action, LockFirstRead)), "")
    rows = [("Reader", reading.reader or "nobody yet"), ("Mode", review.mode)]
    if review.mode != "concurrent":
        rows.append(("First read, without marks", f"ended {_time(locked)}" if locked else "not ended"))
    if entries:
        rows.append(("Actions in the log", f"{len(entries)}, {_time(entries[0].utc)} to {_time(entries[-1].utc)}"))
    else:
        rows.append(("Actions in the log", "none"))
    return [*rows, ("Lungs searched beyond the marks", _coverage(reading))]


def candidate_facts(reading: Reading) -> Facts:
    """Give model, threshold and what to expect of them, as rows for people; empty where no machine searched."""
    review = reading.review
    if reading.summary.state in ("not run", "failed"):
        return []
    proposed = [mark for mark in review.marks if not mark.is_own]
    shown = "hidden" if not review.is_unlocked else f"{sum(map(review.is_shown, proposed))} of {len(proposed)}"
    return [
        ("Model", model_text(review)),
        ("SHA-256 of the model", review.model_sha256 or "none"),
        ("Threshold", f"{review.threshold:.4g}"),
        ("Expected at this threshold", expectation(review)),
        ("Marks shown", shown),
    ]


def mark_picture(volume: Volume, mark: Mark, others: Sequence[Mark], options: ReportOptions) -> tuple[KeyImage, ...]:
    """Give the key images of a mark, with its ring and those of others nearby.

    Parameters
    ----------
    volume : Volume
        The scan.
    mark : Mark
        Comes to lie in the middle.
    others : sequence of Mark
        Drawn in grey where a picture cuts them.
    options : ReportOptions
        Window and slab.

    Returns
    -------
    tuple of KeyImage
        Axial, coronal, sagittal; empty when the mark lies outside the scan.
    """
    if not volume.geometry.contains(mark.position_xyz_mm):
        return ()
    rings = [_ring(other, NEIGHBOUR_COLOUR) for other in others if other is not mark]
    rings.append(_ring(mark, STATUS_COLOURS.get(mark.status, NEIGHBOUR_COLOUR)))
    images = key_images(volume, mark.position_xyz_mm, window_hu=options.window_hu, slab_mm=options.slab_mm)
    return tuple(image.drawn(rings) for image in images)


def _card(reading: Reading, mark: Mark, volume: Volume | None, options: ReportOptions) -> dict[str, Any]:
    images = () if volume is None else mark_picture(volume, mark, reading.review.findings, options)
    return {
        **_row(reading, mark),
        "colour": _css(STATUS_COLOURS[mark.status]),
        "why_no_pictures": "" if images else "the scan was not open" if volume is None else "it lies outside the scan",
        "pictures": [
            {
                "address": data_address(png_bytes(image.pixels), "image/png"),
                "plane": image.plane.name,
                "caption": f"{image.plane.name}, slice {image.slice_index}, {image.thickness_mm:.3g} mm",
            }
            for image in images
        ],
    }


def _row(reading: Reading, mark: Mark) -> dict[str, Any]:
    scan = reading.scan
    grid = Geometry(shape_zyx=scan.shape_zyx, spacing_zyx_mm=scan.spacing_zyx_mm, origin_xyz_mm=scan.origin_xyz_mm)
    linked = "" if mark.linked_to is None else f"same place as mark {mark.linked_to}"
    return {
        "number": mark.mark_id,
        "status": STATUS_TEXT[mark.status],
        "score": "the reader's" if mark.is_own else "none" if mark.score is None else f"{mark.score:.3f}",
        "diameter": f"{mark.diameter_mm:.1f} mm" if mark.diameter_mm > 0 else "not known",
        "place": ", ".join(f"{value:.1f}" for value in mark.position_xyz_mm),
        "slice": f"{round(float(grid.world_to_index(mark.position_xyz_mm)[0]))}",
        "remarks": "; ".join(text for text in (mark.reason, mark.note, linked) if text),
    }


def _ring(mark: Mark, colour: Colour) -> Ring:
    return Ring(position_xyz_mm=mark.position_xyz_mm, diameter_mm=mark.diameter_mm, colour=colour)


def _coverage(reading: Reading) -> str:
    declared, seen = reading.review.searched_share, reading.seen_share
    if declared is not None:
        lung = " with lung" if reading.review.searched_of_lungs else ""
        return f"declared by the reader, with {declared:.0%} of the slices{lung} seen"
    lung = " with lung" if reading.seen_of_lungs else ""
    return "not declared" if seen is None else f"not declared; {seen:.0%} of the slices{lung} seen so far"


def _time(utc: str) -> str:
    return f"{datetime.fromisoformat(utc):%Y-%m-%d %H:%M:%S} UTC"


def _css(colour: Colour) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)
