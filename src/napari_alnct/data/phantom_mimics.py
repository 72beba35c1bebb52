"""Findings that are annotated but do not count, as in LUNA16's ``annotations_excluded.csv``.

Nodules below 3 mm, calcified granulomas, scars and mucus plugs. The last two
have no diameter (-1).
"""

from __future__ import annotations

import numpy as np

from napari_alnct.core.findings import NO_DIAMETER_MM, ReferenceNodule
from napari_alnct.data.phantom_nodules import Canvas, paint_body
from napari_alnct.data.phantom_paint import Float64, Tubes, chain, paint_tubes
from napari_alnct.data.phantom_settings import PhantomSettings, draw_count
from napari_alnct.data.phantom_shapes import draw_shape
from napari_alnct.data.phantom_sites import Sites

MIMICS = ("micronodule", "granuloma", "scar", "mucus_plug")
SHARES = (0.45, 0.2, 0.2, 0.15)


def add_mimics(canvas: Canvas, sites: Sites, airways: Tubes, settings: PhantomSettings) -> list[ReferenceNodule]:
    """Paint the excluded findings of a scan and list them.

    Parameters
    ----------
    canvas : Canvas
        Scan to paint into.
    sites : Sites
        Where they may lie.
    airways : Tubes
        Lumens; some are plugged.
    settings : PhantomSettings
        How many.

    Returns
    -------
    list of ReferenceNodule
        Their `kind` is one of `MIMICS`.
    """
    rng = np.random.default_rng([settings.seed, 10])
    found = []
    for kind in rng.choice(MIMICS, draw_count(rng, settings.n_excluded), p=SHARES).tolist():
        if kind in ("micronodule", "granuloma"):
            result = _add_small(rng, canvas, sites, kind)
        elif kind == "scar":
            result = _add_scar(rng, canvas, sites)
        else:
            result = _add_plug(rng, canvas, sites, airways)
        if result is not None:
            centre, diameter = result
            position = (float(centre[0]), float(centre[1]), float(centre[2]))
            found.append(
                ReferenceNodule(series_uid=settings.uid, position_xyz_mm=position, diameter_mm=diameter, kind=kind)
            )
    return found


def _add_small(rng: np.random.Generator, canvas: Canvas, sites: Sites, kind: str) -> tuple[Float64, float] | None:
    diameter = rng.uniform(1.7, 2.85)
    centre = sites.find(rng, str(rng.choice(("isolated", "juxtapleural", "fissure"))), diameter / 2)
    if centre is None:
        return None
    level = rng.uniform(250.0, 900.0) if kind == "granuloma" else rng.uniform(-50.0, 60.0)
    body = paint_body(
        rng, canvas, sites, centre, diameter, draw_shape(rng, "ellipsoid"), (level, None), kind=kind, contact=""
    )
    sites.take(body.centre_xyz_mm, diameter / 2)
    return body.centre_xyz_mm, body.diameter_mm


def _add_scar(rng: np.random.Generator, canvas: Canvas, sites: Sites) -> tuple[Float64, float] | None:
    centre = sites.find(rng, "juxtapleural", 3.0)
    if centre is None:
        return None
    way = rng.normal(size=3)
    way /= np.linalg.norm(way)
    steps = np.linspace(-1.0, 1.0, 6)[:, None] * rng.uniform(4.0, 9.0)
    points = centre + way * steps + rng.normal(0, 0.8, (6, 3))
    paint_tubes(canvas.hu, canvas.inner, chain(points, rng.uniform(0.3, 1.0, 6)), rng.uniform(-250.0, 20.0))
    sites.take(centre, 5.0)
    return centre, NO_DIAMETER_MM


def _add_plug(rng: np.random.Generator, canvas: Canvas, sites: Sites, airways: Tubes) -> tuple[Float64, float] | None:
    pool = np.flatnonzero((airways.end_radius_mm > 0.8) & (airways.end_radius_mm < 2.5))
    if not len(pool):
        return None
    i = int(rng.choice(pool))
    centre = (airways.start_xyz_mm[i] + airways.end_xyz_mm[i]) / 2
    if any(np.linalg.norm(centre - c) < r + 8.0 for c, r in sites.taken):
        return None
    row = np.stack([airways.start_xyz_mm[i], airways.end_xyz_mm[i]])
    paint_tubes(canvas.hu, canvas.inner, chain(row, float(airways.end_radius_mm[i]) + 0.5), 15.0)
    sites.take(centre, 4.0)
    return centre, NO_DIAMETER_MM
