"""Nodules: how they are painted into the lungs, and the truth about them.

The truth (centre, diameter) is measured on a fine mask of the painted body, at
least 16 steps across, after the pleura has cut it: it is what can be seen.
Fine strands of spiculated nodules do not count.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_alnct.core.errors import SettingsError
from napari_alnct.core.geometry import Geometry
from napari_alnct.data.phantom_paint import Box, Float32, Float64, axes_mm, paint_tubes
from napari_alnct.data.phantom_settings import PhantomSettings, draw_count, draw_diameters_mm
from napari_alnct.data.phantom_shapes import FORM_SHARES, FORMS, Shape3D, draw_shape, feeding_vessels, spicules
from napari_alnct.data.phantom_sites import CONTACTS, Sites

Kind = Literal["solid", "part_solid", "ground_glass"]
KINDS: tuple[Kind, ...] = ("solid", "part_solid", "ground_glass")
KIND_SHARES = (0.74, 0.12, 0.14)
CONTACT_SHARES = (0.4, 0.27, 0.23, 0.1)
SMALLEST_SUBSOLID_MM = 5.0
FINEST_STEP_MM = 0.5
N_STEPS_ACROSS = 16
REACH = 1.9  # of a shape, in radii of the sphere of the same volume


@dataclass(frozen=True, kw_only=True)
class PaintedNodule:
    """One nodule after painting: its truth.

    Parameters
    ----------
    centre_xyz_mm : ndarray, shape (3,)
        Centroid of the visible body, world mm.
    diameter_mm : float
        Diameter of the sphere with the volume of the visible body, mm.
    kind, contact : str
        ``solid``, ``part_solid`` or ``ground_glass``; ``isolated``, ``juxtapleural``, ``juxtavascular`` or ``fissure``.
    box : tuple of slice
        Voxels of the scan around it.
    coverage : ndarray of float32
        Part of each voxel of the box that lies in the body.
    """

    centre_xyz_mm: Float64
    diameter_mm: float
    kind: str
    contact: str
    box: Box
    coverage: Float32


@dataclass(frozen=True, eq=False)
class Canvas:
    """A scan being painted: `hu` on the inner grid, which has `factors` voxels per voxel of the scan."""

    hu: Float32
    inner: Geometry
    scan: Geometry
    factors: tuple[int, int, int]


@dataclass(frozen=True, eq=False)
class _FineBody:
    """A body on a fine grid inside a box of the scan."""

    inside: NDArray[np.bool_]
    box: Box
    inner_box: Box
    fine: tuple[int, int, int]
    centre_xyz_mm: Float64
    diameter_mm: float


def _block_mean(values: NDArray[np.generic], factors: tuple[int, int, int]) -> Float32:
    (nz, ny, nx), (kz, ky, kx) = values.shape, factors
    blocks = values.reshape(nz // kz, kz, ny // ky, ky, nx // kx, kx)
    return blocks.mean((1, 3, 5), dtype=np.float32)


def _scan_box(canvas: Canvas, centre: Float64, reach_mm: float) -> Box:
    index = canvas.scan.world_to_index(centre)
    around = reach_mm / np.asarray(canvas.scan.spacing_zyx_mm)
    low = np.maximum(np.floor(index - around).astype(int), 0)
    high = np.minimum(np.ceil(index + around).astype(int) + 1, canvas.scan.shape_zyx)
    return slice(low[0], high[0]), slice(low[1], high[1]), slice(low[2], high[2])


def _sample_body(canvas: Canvas, sites: Sites, centre: Float64, radius: float, shape: Shape3D) -> _FineBody:
    """Give the body, cut by the pleura, on a grid with at least 16 steps across."""
    box = _scan_box(canvas, centre, REACH * radius + 0.5)
    inner_box = tuple(slice(b.start * k, b.stop * k) for b, k in zip(box, canvas.factors, strict=True))
    step = min(FINEST_STEP_MM, 2 * radius / N_STEPS_ACROSS)
    fz, fy, fx = (min(8, math.ceil(s / step)) for s in canvas.inner.spacing_zyx_mm)
    axes = []
    for axis, part, s, f in zip(
        axes_mm(canvas.inner), inner_box, canvas.inner.spacing_zyx_mm, (fz, fy, fx), strict=True
    ):
        within = ((np.arange(f) + 0.5) / f - 0.5) * s
        axes.append((axis[part][:, None] + within).ravel())
    z, y, x = np.meshgrid(*axes, indexing="ij")
    points = np.stack([x, y, z], axis=-1)
    inside = shape.field((points - centre) / radius) < 0
    if sites.fields.distance_at(sites.fields.lungs, centre) > -2.2 * radius - 1.0:
        rows = np.flatnonzero(inside.ravel())
        cut = sites.fields.distance_at(sites.fields.lungs, points.reshape(-1, 3)[rows]) > 0
        inside.ravel()[rows[cut]] = False
    volume = inside.sum() * float(np.prod(canvas.inner.spacing_zyx_mm)) / (fz * fy * fx)
    middle = points[inside].mean(0) if inside.any() else centre
    diameter = float(np.cbrt(6.0 * volume / np.pi))
    return _FineBody(inside, box, (inner_box[0], inner_box[1], inner_box[2]), (fz, fy, fx), middle, diameter)


def paint_body(
    rng: np.random.Generator,
    canvas: Canvas,
    sites: Sites,
    centre: Float64,
    diameter_mm: float,
    shape: Shape3D,
    levels_hu: tuple[float, float | None],
    *,
    kind: str,
    contact: str,
) -> PaintedNodule:
    """Paint one body and give its truth.

    Parameters
    ----------
    rng : Generator
        Source of its texture.
    canvas : Canvas
        Scan to paint into.
    sites : Sites
        Knows the lungs.
    centre : ndarray, shape (3,)
        Where, world mm.
    diameter_mm : float
        Wanted diameter of the sphere of the same volume, after the pleura has cut it.
    shape : Shape3D
        Unit shape.
    levels_hu : tuple
        Value of the body, and of its core or None.
    kind, contact : str
        Written into the truth.

    Returns
    -------
    PaintedNodule
    """
    radius = diameter_mm / 2
    for _ in range(5):
        body = _sample_body(canvas, sites, centre, radius, shape)
        if abs(body.diameter_mm - diameter_mm) < 0.02 * diameter_mm or body.diameter_mm == 0:
            break
        radius *= min(diameter_mm / body.diameter_mm, 1.3)
    inner = _block_mean(body.inside, body.fine)
    level, core_hu = levels_hu
    grain = ndimage.gaussian_filter(rng.standard_normal(inner.shape).astype(np.float32), 1.2)
    target = level + grain * (60.0 if level < -300 else 35.0) / max(float(grain.std()), 1e-6) * 0.5
    if core_hu is not None:
        core = _core(rng, canvas, body, radius)
        target = target + core * (core_hu - target)
    part = canvas.hu[body.inner_box]
    fading_mm = rng.uniform(0.1, 0.45 if level > -300 else 0.8)
    inner_soft = ndimage.gaussian_filter(inner, [fading_mm / s for s in canvas.inner.spacing_zyx_mm])
    part += inner_soft * np.maximum(target - part, 0)
    return PaintedNodule(
        centre_xyz_mm=body.centre_xyz_mm,
        diameter_mm=body.diameter_mm,
        kind=kind,
        contact=contact,
        box=body.box,
        coverage=_block_mean(inner, canvas.factors),
    )


def _core(rng: np.random.Generator, canvas: Canvas, body: _FineBody, radius: float) -> Float32:
    """Give the part of each inner voxel in the solid core of a part-solid nodule."""
    middle = body.centre_xyz_mm + rng.normal(0, 0.12 * radius, 3)
    z, y, x = (a[b] - m for a, b, m in zip(axes_mm(canvas.inner), body.inner_box, middle[::-1], strict=True))
    stretch = rng.uniform(0.75, 1.25, 3)
    away = np.sqrt(
        (z * stretch[0])[:, None, None] ** 2 + (y * stretch[1])[None, :, None] ** 2 + (x * stretch[2])[None, None] ** 2
    )
    core_mm = radius * rng.uniform(0.35, 0.62)
    edge_mm = 1.5 * float(np.mean(canvas.inner.spacing_zyx_mm))
    return np.clip(0.5 - (away - core_mm) / edge_mm, 0, 1).astype(np.float32)


def draw_kind(rng: np.random.Generator, diameter_mm: float) -> str:
    """Give a kind of nodule; the smallest are always solid."""
    kind = str(rng.choice(KINDS, p=KIND_SHARES))
    return kind if diameter_mm >= SMALLEST_SUBSOLID_MM else "solid"


def draw_levels_hu(rng: np.random.Generator, kind: str) -> tuple[float, float | None]:
    """Give the HU of a body and of its core, if it has one."""
    if kind == "solid":
        return rng.uniform(-30.0, 70.0), None
    if kind == "part_solid":
        return rng.uniform(-680.0, -480.0), rng.uniform(-40.0, 50.0)
    return rng.uniform(-690.0, -460.0), None


def _place(rng: np.random.Generator, sites: Sites, contact: str, diameter: float) -> tuple[Float64, str, float]:
    """Give centre, contact and diameter: the wished ones, or the next best that fit."""
    for strict, factor in ((1.0, 1.0), (0.9, 1.0), (0.9, 0.75), (0.8, 0.55), (0.7, 0.4), (0.6, 0.3)):
        size = max(diameter * factor, min(diameter, 4.0))
        for wish in dict.fromkeys((contact, *CONTACTS)):
            centre = sites.find(rng, wish, size / 2, strict=strict)
            if centre is not None:
                return centre, wish, size
    raise SettingsError(f"no room for a nodule of {diameter:.1f} mm beside {len(sites.taken)}; ask for fewer nodules")


def add_nodules(canvas: Canvas, sites: Sites, settings: PhantomSettings) -> list[PaintedNodule]:
    """Paint the nodules of a scan and give their truth, largest first.

    Parameters
    ----------
    canvas : Canvas
        Scan to paint into.
    sites : Sites
        Where they may lie.
    settings : PhantomSettings
        How many and how large.

    Returns
    -------
    list of PaintedNodule

    Raises
    ------
    SettingsError
        If the lungs have no room for so many.
    """
    rng = np.random.default_rng([settings.seed, 9])
    low, high = settings.diameter_range_mm
    wanted = draw_diameters_mm(rng, draw_count(rng, settings.n_nodules), (min(low * 1.03, high), high))
    painted = []
    for diameter in sorted(wanted.tolist(), reverse=True):
        contact, form = str(rng.choice(CONTACTS, p=CONTACT_SHARES)), str(rng.choice(FORMS, p=FORM_SHARES))
        centre, contact, size = _place(rng, sites, contact, diameter)
        kind = draw_kind(rng, size)
        if form == "spiculated" and size < 5:
            form = "ellipsoid"
        shape, levels = draw_shape(rng, form), draw_levels_hu(rng, kind)
        nodule = paint_body(rng, canvas, sites, centre, size, shape, levels, kind=kind, contact=contact)
        if form == "spiculated":
            strands = spicules(rng, nodule.centre_xyz_mm, nodule.diameter_mm / 2)
            paint_tubes(canvas.hu, canvas.inner, strands, -150.0 if kind == "solid" else -450.0)
        if contact != "juxtavascular":
            paint_tubes(canvas.hu, canvas.inner, feeding_vessels(rng, nodule.centre_xyz_mm, size / 2), 0.0)
        sites.take(nodule.centre_xyz_mm, nodule.diameter_mm / 2)
        painted.append(nodule)
    return painted


def label_nodules(scan: Geometry, painted: list[PaintedNodule]) -> NDArray[np.uint8]:
    """Give the voxels at least half inside each nodule: i for the i-th, 0 elsewhere.

    Parameters
    ----------
    scan : Geometry
        LPS grid of the scan.
    painted : list of PaintedNodule
        From `add_nodules`.

    Returns
    -------
    ndarray of uint8
        Every nodule has at least one voxel.
    """
    labels = np.zeros(scan.shape_zyx, dtype=np.uint8)
    for i, nodule in enumerate(painted, start=1):
        enough = min(0.5, float(nodule.coverage.max()))
        labels[nodule.box][nodule.coverage >= enough] = i
    return labels
