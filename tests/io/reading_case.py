"""A scan and a reading of it, for the tests of exports."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np

from napari_alnct.core.geometry import Geometry
from napari_alnct.core.review import replay
from napari_alnct.core.review_actions import (
    AddMark,
    Annotate,
    Decide,
    LinkMark,
    Mark,
    MarkSearched,
    MoveMark,
    ReviewAction,
    SetCandidates,
    Undo,
)
from napari_alnct.core.volume import QualityFlag, Volume
from napari_alnct.io.review_record import Reading, reading_of
from napari_alnct.io.reviews import AuditEntry

CANARY = "ZZCANARYZZ"
NASTY = ('=HYPERLINK("http://x")', "+1", "-1+2", "@SUM(A1)", "\t=1", "'=x", 'a,"b"\n;c', "  blank  ", "ü <b>&amp;</b>")
SCORES = (0.91234567890123, 0.6, 0.35, 0.2)


@cache
def scan(series_uid: str = f"{CANARY}.1.2", flags: tuple[QualityFlag, ...] = ()) -> Volume:
    """Give a block of lung with a nodule of 8 mm at (3.1, -20.7, 31.9) mm."""
    grid = Geometry(shape_zyx=(30, 80, 80), spacing_zyx_mm=(2.5, 0.8, 0.8), origin_xyz_mm=(-30.3, -50.1, 2.2))
    index = np.stack(np.meshgrid(*(np.arange(n) for n in grid.shape_zyx), indexing="ij"), axis=-1)
    world = grid.index_to_world(index.reshape(-1, 3)).reshape(*grid.shape_zyx, 3)
    hu = np.where(np.linalg.norm(world - (3.1, -20.7, 31.9), axis=-1) <= 4, 40, -850).astype(np.int16)
    return Volume(hu, grid, replace(grid), series_uid, flags)


def candidates(model_name: str = "m", model_sha256: str = "c0ffee") -> SetCandidates:
    """Give four marks, the first on the nodule."""
    marks = tuple(
        Mark(mark_id=k + 1, position_xyz_mm=(3.1 + 9 * k, -20.7, 31.9 + 0.1 * k), diameter_mm=8.0 - k, score=score)
        for k, score in enumerate(SCORES)
    )
    return SetCandidates(
        marks=marks,
        threshold=0.3,
        model_name=model_name,
        model_sha256=model_sha256,
        operating_points={0.125: 0.8, 1.0: 0.3, 8.0: 0.05},
    )


def actions(notes: tuple[str, ...] = NASTY) -> tuple[ReviewAction, ...]:
    """Give a reading in which everything happens; each note is written to an own mark."""
    own = [
        action
        for k, note in enumerate(notes)
        for action in (AddMark(position_xyz_mm=(-10.0 - k / 3, -30.0, 20.0)), Annotate(mark_id=5 + k, note=note))
    ]
    return (
        candidates(),
        Decide(mark_id=1, status="accepted"),
        Decide(mark_id=2, status="rejected", reason="vessel"),
        Decide(mark_id=3, status="accepted"),
        Undo(),
        Decide(mark_id=3, status="uncertain"),
        MoveMark(mark_id=1, position_xyz_mm=(3.1, -20.7, 1 / 3 + 31.5)),
        *own,
        *([LinkMark(mark_id=5, linked_to=2)] if notes else []),
        MarkSearched(share_of_slices=0.875),
    )


def reading(done: tuple[ReviewAction, ...] | None = None, volume: Volume | None = None, **options: object) -> Reading:
    """Give a reading as it is exported."""
    done = actions() if done is None else done
    entries = tuple(
        AuditEntry(
            number=k + 1, utc=f"2026-11-22T20:{k:02d}:00.000+00:00", reader="A. Reader", action=a, software="0.1"
        )
        for k, a in enumerate(done)
    )
    return reading_of(replay(done), volume or scan(), entries, **options)  # type: ignore[arg-type]
