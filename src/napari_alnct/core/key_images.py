"""Key images: upright squares through one place of a scan, with rings, letters and a bar of 10 mm.

A *key image* is cut along the axial, coronal or sagittal plane and seen as radiologists do:
the patient's right side on the left, the front or the head on top. It shows the slice nearest
to the place, or the maximum over the slices of a *slab* around it, as the viewer does. Rings
and letters are painted into the pixels: a copied picture keeps them, and no side is lost.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from napari_alnct.core.geometry import Triple
from napari_alnct.core.picture_planes import (
    LUNG_WINDOW_HU,
    OUTSIDE_GREY,
    PLANES,
    Pixels,
    Plane,
    picture_grid,
    upright_grey,
)
from napari_alnct.core.volume import Volume

__all__ = ["LUNG_WINDOW_HU", "OUTSIDE_GREY", "PLANES", "KeyImage", "Plane", "Ring", "key_images", "slices_beside"]

Colour = tuple[int, int, int]

EDGE_MM, PIXEL_MM = 60.0, 0.25
RING_GAP_MM = 1.0  # from a nodule's edge to its ring: the edge stays visible
RING_WIDTH_PX = 2.0
DASH_PX = 9.0
BLACK: Colour = (0, 0, 0)
UNKNOWN_DIAMETER_MM = 8.0  # ring of a mark whose size is not known
BAR_MM = 10.0
MARGIN_PX = 5
LETTER_SCALE = 2
FONT = {  # 5 x 7, row by row from the top
    "R": "11110 10001 10001 11110 10100 10010 10001",
    "L": "10000 10000 10000 10000 10000 10000 11111",
    "A": "01110 10001 10001 11111 10001 10001 10001",
    "P": "11110 10001 10001 11110 10000 10000 10000",
    "H": "10001 10001 10001 11111 10001 10001 10001",
    "F": "11111 10000 10000 11110 10000 10000 10000",
}


@dataclass(frozen=True, kw_only=True)
class Ring:
    """A sphere to draw where a picture cuts it; diameter mm, 0 or less where not known (then dashed)."""

    position_xyz_mm: Triple
    diameter_mm: float
    colour: Colour
    is_dashed: bool = False


@dataclass(frozen=True, kw_only=True, eq=False)
class KeyImage:
    """One picture.

    Parameters
    ----------
    plane : Plane
        How it is cut.
    pixels : ndarray of uint8, shape (n, n) or (n, n, 3)
        Grey as cut, or colour after `drawn`; rows from the top, columns from the left.
    centre_xyz_mm : tuple of float
        World LPS mm of the picture's middle.
    pixel_mm : float
        Edge of a pixel, mm.
    slice_index : int
        Voxel index of the slice, or of the middle one of the slab, along the plane's normal.
    slice_xyz_mm : float
        World position of that slice along the normal, mm.
    thickness_mm : float
        What the picture shows: one slice, or the whole slab.
    """

    plane: Plane
    pixels: Pixels
    centre_xyz_mm: Triple
    pixel_mm: float
    slice_index: int
    slice_xyz_mm: float
    thickness_mm: float

    @property
    def in_colour(self) -> NDArray[np.float32]:
        """Give the pixels as red, green, blue, shape (n, n, 3), 0 to 255."""
        grey = self.pixels if self.pixels.ndim == 3 else np.repeat(self.pixels[..., None], 3, axis=2)
        return grey.astype(np.float32)

    @property
    def world_xyz_mm(self) -> NDArray[np.float64]:
        """Give where each pixel's centre lies, shape (n, n, 3), LPS mm; across the plane that of its slice."""
        n = len(self.pixels)
        steps = (np.arange(n) - (n - 1) / 2) * self.pixel_mm
        world = np.empty((n, n, 3))
        world[..., self.plane.normal] = self.slice_xyz_mm
        world[..., self.plane.column] = self.centre_xyz_mm[self.plane.column] + steps
        down = -steps if self.plane.is_head_up else steps
        world[..., self.plane.row] = self.centre_xyz_mm[self.plane.row] + down[:, None]
        return world

    def place_px(self, position_xyz_mm: Triple) -> tuple[float, float]:
        """Give where a point lies in the picture.

        Parameters
        ----------
        position_xyz_mm : tuple of float
            World LPS mm.

        Returns
        -------
        tuple of float
            Row and column, pixels; whole numbers are pixel centres.
        """
        middle = (len(self.pixels) - 1) / 2
        right, down = (
            (position_xyz_mm[axis] - self.centre_xyz_mm[axis]) / self.pixel_mm
            for axis in (self.plane.column, self.plane.row)
        )
        return middle + (-down if self.plane.is_head_up else down), middle + right

    def radius_px(self, ring: Ring) -> float | None:
        """Give the radius with which a ring is drawn, None where the picture does not cut its sphere.

        Parameters
        ----------
        ring : Ring
            Any.

        Returns
        -------
        float or None
            Pixels; the cut through the sphere, and `RING_GAP_MM` more.
        """
        radius_mm = (ring.diameter_mm if ring.diameter_mm > 0 else UNKNOWN_DIAMETER_MM) / 2
        away_mm = abs(ring.position_xyz_mm[self.plane.normal] - self.slice_xyz_mm)
        squared = radius_mm**2 - max(0.0, away_mm - self.thickness_mm / 2) ** 2
        return (math.sqrt(squared) + RING_GAP_MM) / self.pixel_mm if squared > 0 else None

    def drawn(self, rings: Iterable[Ring]) -> KeyImage:
        """Give the picture in colour with rings, letters and the bar of 10 mm.

        Parameters
        ----------
        rings : iterable of Ring
            From below; those that the picture does not cut are left out.

        Returns
        -------
        KeyImage
        """
        colours = self.in_colour
        for ring in rings:
            radius = self.radius_px(ring)
            if radius is not None:
                _blend_ring(colours, self.place_px(ring.position_xyz_mm), radius, ring)
        pixels = np.rint(colours).astype(np.uint8)
        _stamp(pixels, _labels(len(pixels), self.plane.letters, self.pixel_mm))
        return replace(self, pixels=pixels)


def key_images(
    volume: Volume,
    centre_xyz_mm: Triple,
    *,
    window_hu: tuple[float, float] = LUNG_WINDOW_HU,
    slab_mm: float = 0.0,
    edge_mm: float = EDGE_MM,
    pixel_mm: float = PIXEL_MM,
) -> tuple[KeyImage, KeyImage, KeyImage]:
    """Give three grey pictures around a place.

    Parameters
    ----------
    volume : Volume
        The scan.
    centre_xyz_mm : tuple of float
        World LPS mm; it comes to lie in the middle of each picture.
    window_hu : tuple of float, optional
        Black and white, HU.
    slab_mm : float, optional
        Wanted thickness of a maximum projection, mm; 0: one slice.
    edge_mm, pixel_mm : float, optional
        Edge of the picture and of a pixel, mm.

    Returns
    -------
    tuple of KeyImage
        Axial, coronal, sagittal. What lies outside the scan has one grey.
    """
    axial, coronal, sagittal = (
        _cut(volume, centre_xyz_mm, plane, window_hu, slab_mm, max(1, round(edge_mm / pixel_mm)), pixel_mm)
        for plane in PLANES
    )
    return axial, coronal, sagittal


def slices_beside(slab_mm: float, spacing_mm: float) -> int:
    """Give how many slices on either side of the middle one make up a slab.

    Parameters
    ----------
    slab_mm : float
        Wanted thickness, mm.
    spacing_mm : float
        Distance of the slices, mm.

    Returns
    -------
    int
        k; the true thickness is (2 k + 1) spacings.

    Examples
    --------
    >>> slices_beside(10.0, 2.5), slices_beside(0.0, 2.5), slices_beside(5.0, 7.0)
    (2, 0, 0)
    """
    return max(0, round(slab_mm / 2 / spacing_mm))


def _cut(
    volume: Volume,
    centre_xyz_mm: Triple,
    plane: Plane,
    window_hu: tuple[float, float],
    slab_mm: float,
    n_pixels: int,
    pixel_mm: float,
) -> KeyImage:
    axis, scan = 2 - plane.normal, volume.geometry
    n, spacing_mm = scan.shape_zyx[axis], scan.spacing_zyx_mm[axis]
    middle = int(np.clip(np.rint(scan.world_to_index(centre_xyz_mm)[axis]), 0, n - 1))
    beside = slices_beside(slab_mm, spacing_mm)
    first, last = max(0, middle - beside), min(n - 1, middle + beside)
    slab = volume.hu[tuple(slice(first, last + 1) if k == axis else slice(None) for k in range(3))]
    flat = slab.max(axis=axis, keepdims=True)
    start = tuple(middle if k == axis else 0 for k in range(3))
    stop = tuple(middle + 1 if k == axis else size for k, size in enumerate(scan.shape_zyx))
    source = scan.crop((start[0], start[1], start[2]), (stop[0], stop[1], stop[2]))
    target = picture_grid(centre_xyz_mm, plane, source.origin_xyz_mm[plane.normal], n_pixels, pixel_mm)
    return KeyImage(
        plane=plane,
        pixels=upright_grey(flat, source, target, plane, window_hu),
        centre_xyz_mm=centre_xyz_mm,
        pixel_mm=pixel_mm,
        slice_index=middle,
        slice_xyz_mm=source.origin_xyz_mm[plane.normal],
        thickness_mm=(last - first + 1) * spacing_mm,
    )


def _blend_ring(colours: NDArray[np.float32], place_px: tuple[float, float], radius_px: float, ring: Ring) -> None:
    """Paint a ring with smooth edges and a thin shade; every other dash is left out of a dashed one."""
    rows, columns = np.indices(colours.shape[:2], dtype=np.float32)
    down, right = rows - place_px[0], columns - place_px[1]
    off_px = np.abs(np.hypot(down, right) - radius_px)
    has_ink = np.ones(off_px.shape, dtype=bool)
    if ring.is_dashed or ring.diameter_mm <= 0:
        n_dashes = max(4, round(math.pi * radius_px / DASH_PX))
        has_ink = np.cos(np.arctan2(down, right) * n_dashes) > 0
    for colour, width_px, weight in ((BLACK, RING_WIDTH_PX + 2, 0.5), (ring.colour, RING_WIDTH_PX, 1.0)):
        cover = weight * np.clip(width_px / 2 + 0.5 - off_px, 0, 1) * has_ink
        colours += cover[..., None] * (np.asarray(colour, dtype=np.float32) - colours)


def _labels(n_pixels: int, letters: Sequence[str], pixel_mm: float) -> NDArray[np.bool_]:
    """Give the pixels of the letters at the four edges and of the bar."""
    ink = np.zeros((n_pixels, n_pixels), dtype=bool)
    glyphs = [_glyph(letter) for letter in letters]
    height, width = glyphs[0].shape
    near, middle_row, middle_column = MARGIN_PX, (n_pixels - height) // 2, (n_pixels - width) // 2
    far_row, far_column = n_pixels - MARGIN_PX - height, n_pixels - MARGIN_PX - width
    corners = ((middle_row, near), (middle_row, far_column), (near, middle_column), (far_row, middle_column))
    bar = round(BAR_MM / pixel_mm)
    if far_row <= middle_row or bar > n_pixels // 2 - width:
        return ink  # no room in so small a picture
    for glyph, (row, column) in zip(glyphs, corners, strict=True):
        ink[row : row + height, column : column + width] |= glyph
    bottom, right = n_pixels - 2 * MARGIN_PX, n_pixels - MARGIN_PX
    ink[bottom : bottom + 2, right - bar : right] = True
    return ink


def _glyph(letter: str) -> NDArray[np.bool_]:
    rows = np.array([[digit == "1" for digit in row] for row in FONT[letter].split()])
    return np.kron(rows, np.ones((LETTER_SCALE, LETTER_SCALE))).astype(bool)


def _stamp(pixels: Pixels, ink: NDArray[np.bool_]) -> None:
    """Paint white with a black border of one pixel."""
    wide = np.pad(ink, 1)
    n = len(ink)
    border = np.any([wide[row : row + n, column : column + n] for row in range(3) for column in range(3)], axis=0)
    pixels[border] = 0
    pixels[ink] = 255
