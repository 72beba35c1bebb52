"""How a training patch is changed: the settings, and the change drawn for one patch.

A *change* is drawn from (seed, epoch, row) alone, on the CPU, by numpy. What applies it -
torchio patch by patch (`torchio_augmentation`) or torch on a whole batch, on any device
(`batch_augmentation`) - adds no chance of its own, so both make the same patch of it.
The label never changes: the middle of the patch stays in the patch.

Order: flip, rotate with scaling and translation (and bend), blur, HU scale and shift,
gamma, noise. Values are clipped to the HU window of the prepared scan; where a patch
reaches beyond the voxels that were stored around it, it holds the lowest HU of the window.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from typing import Annotated, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from napari_alnct.core.config import bounds, check_bounds
from napari_alnct.core.errors import SettingsError
from napari_alnct.io.patch_store import PatchStore

Backend = Literal["torchio", "batched"]
Triplet = tuple[float, float, float]

AIR_HU = -1000.0
N_CONTROL = 7  # control points of the elastic deformation per axis, torchio's default
N_LOCKED = 2  # of them at each border without displacement, torchio's default
SPLINE_ORDER = 3
FAIR_COIN = 0.5  # more flips than this are less variety, whatever the strength


@dataclass(frozen=True, kw_only=True)
class AugmentSettings:
    """How often and how much training patches are changed."""

    strength: Annotated[float, {"min": 0.0, "max": 3.0}] = 1.0
    """Multiplies all probabilities and magnitudes below; 0: no change at all."""
    backend: Annotated[Backend, {}] = "torchio"
    """torchio: in the loader's processes; batched: on the training device, for GPUs that torchio leaves waiting."""
    flip_probability: Annotated[float, {"min": 0.0, "max": 1.0}] = 0.5
    """Of mirroring, for each axis by itself."""
    affine_probability: Annotated[float, {"min": 0.0, "max": 1.0}] = 0.8
    """Of rotation, scaling and translation, together."""
    rotation_deg: Annotated[float, {"min": 0.0, "max": 180.0}] = 15.0
    """Largest angle about each axis, degrees."""
    scale_range: Annotated[tuple[float, float], {"min": 0.5, "max": 2.0}] = (0.9, 1.2)
    """Smallest and largest factor of size; 1.2: a nodule looks 1.2 times larger."""
    translation_mm: Annotated[float, {"min": 0.0, "max": 16.0}] = 3.0
    """Largest shift along each axis, mm."""
    elastic_probability: Annotated[float, {"min": 0.0, "max": 1.0}] = 0.0
    """Of bending by a random B-spline field; off, as it bends the outline of nodules too."""
    elastic_mm: Annotated[float, {"min": 0.0, "max": 20.0}] = 4.0
    """Largest displacement of a control point along each axis, mm."""
    blur_probability: Annotated[float, {"min": 0.0, "max": 1.0}] = 0.25
    """Of Gaussian blur."""
    blur_range_mm: Annotated[tuple[float, float], {"min": 0.0, "max": 5.0}] = (0.3, 0.9)
    """Standard deviation of the blur, mm."""
    hu_probability: Annotated[float, {"min": 0.0, "max": 1.0}] = 0.5
    """Of another calibration: HU scaled about air, then shifted."""
    hu_scale: Annotated[float, {"min": 0.0, "max": 0.5}] = 0.05
    """Largest relative change of the contrast to air (-1000 HU)."""
    hu_shift: Annotated[float, {"min": 0.0, "max": 500.0}] = 30.0
    """Largest shift, HU."""
    gamma_probability: Annotated[float, {"min": 0.0, "max": 1.0}] = 0.25
    """Of a gamma curve over the HU window."""
    log_gamma: Annotated[float, {"min": 0.0, "max": 2.0}] = 0.2
    """Largest absolute logarithm of gamma; 0.2: gamma from 0.82 to 1.22."""
    noise_probability: Annotated[float, {"min": 0.0, "max": 1.0}] = 0.5
    """Of white noise."""
    noise_range_hu: Annotated[tuple[float, float], {"min": 0.0, "max": 300.0}] = (5.0, 35.0)
    """Standard deviation of the noise, HU."""

    def __post_init__(self) -> None:
        """Check the bounds, the name of the backend, and that ranges ascend."""
        check_bounds(self)
        if self.backend not in get_args(Backend):
            raise SettingsError(f"backend is {self.backend}; choose torchio or batched")
        for name in ("scale_range", "blur_range_mm", "noise_range_hu"):
            value = getattr(self, name)
            if len(value) != 2 or value[0] > value[1]:
                raise SettingsError(f"{name} is {value}; give the smallest and the largest value, in this order")

    @property
    def is_identity(self) -> bool:
        """Tell whether no patch is ever changed."""
        return self.strength == 0 or not any(
            getattr(self, field.name) for field in fields(self) if field.name.endswith("_probability")
        )

    def scaled(self) -> AugmentSettings:
        """Give the settings that strength 1 needs for the same changes.

        Returns
        -------
        AugmentSettings
            Probabilities and magnitudes times `strength`, each within its bounds; the factors of size are
            raised to its power; flips are never likelier than 0.5, unless that was asked for.

        Examples
        --------
        >>> strong = AugmentSettings(strength=2).scaled()
        >>> strong.rotation_deg, strong.noise_probability, strong.flip_probability
        (30.0, 1.0, 0.5)
        """
        if self.strength == 1.0:
            return self
        values = {name: getattr(self, name) for name in _SCALED}
        changed = {name: _within_bounds(name, value, self.strength) for name, value in values.items()}
        coin = max(self.flip_probability, FAIR_COIN)
        changed["flip_probability"] = min(self.flip_probability * self.strength, coin)
        low, high = self.scale_range
        limits = bounds(AugmentSettings, "scale_range")
        changed["scale_range"] = (
            max(low**self.strength, limits["min"]),
            min(high**self.strength, limits["max"]),
        )
        return replace(self, strength=1.0, **changed)  # type: ignore[arg-type]


_SCALED = tuple(
    field.name
    for field in fields(AugmentSettings)
    if field.name not in ("strength", "backend", "flip_probability", "scale_range")
)


@dataclass(frozen=True)
class PatchFrame:
    """What all patches of a folder share.

    Parameters
    ----------
    patch_vox, stored_vox : int
        Edge of a patch, and of what is stored of it with its margin.
    spacing_mm : float
        Edge of a voxel.
    low_hu, high_hu : float
        Window of the prepared scan.
    """

    patch_vox: int
    stored_vox: int
    spacing_mm: float
    low_hu: float
    high_hu: float

    @classmethod
    def of(cls, store: PatchStore) -> PatchFrame:
        """Give the frame of a folder of patches."""
        prepare = store.prepare
        return cls(store.patch_vox, store.stored_vox, prepare.spacing_mm, prepare.low_hu, prepare.high_hu)

    @property
    def margin_vox(self) -> int:
        """Give the voxels stored on each side of a patch."""
        return (self.stored_vox - self.patch_vox) // 2

    @property
    def width_hu(self) -> float:
        """Give the width of the window."""
        return self.high_hu - self.low_hu


@dataclass(frozen=True, eq=False)
class PatchChange:
    """One drawn change of a patch; the default changes nothing.

    Parameters
    ----------
    flips_zyx : tuple of bool
        Axes to mirror.
    angles_zyx_deg : tuple of float
        Rotation about each axis, degrees (`rotation_xyz`).
    scale : float
        Factor of size.
    translation_zyx_mm : tuple of float
        By which the middle moves.
    control_xyz_mm : ndarray of float64, shape (7, 7, 7, 3), or None
        Displacements (x, y, z) at the control points of a cubic B-spline, grid axes x, y, z.
    blur_mm : float
        Standard deviation.
    hu_factor, hu_shift : float
        ``hu -> AIR_HU + hu_factor * (hu - AIR_HU) + hu_shift``.
    gamma : float
        Exponent over the window mapped to [0, 1].
    noise_hu : float
        Standard deviation.
    noise_seed : int
        Decides the noise.
    """

    flips_zyx: tuple[bool, bool, bool] = (False, False, False)
    angles_zyx_deg: Triplet = (0.0, 0.0, 0.0)
    scale: float = 1.0
    translation_zyx_mm: Triplet = (0.0, 0.0, 0.0)
    control_xyz_mm: NDArray[np.float64] | None = None
    blur_mm: float = 0.0
    hu_factor: float = 1.0
    hu_shift: float = 0.0
    gamma: float = 1.0
    noise_hu: float = 0.0
    noise_seed: int = 0

    @property
    def is_resampled(self) -> bool:
        """Tell whether voxels are interpolated."""
        moved = any(self.angles_zyx_deg) or any(self.translation_zyx_mm) or self.scale != 1.0
        return moved or self.control_xyz_mm is not None

    def unit_line(self, frame: PatchFrame) -> tuple[float, float]:
        """Give the HU scale and shift as (factor, offset) over the window mapped to [0, 1]."""
        air = (AIR_HU - frame.low_hu) / frame.width_hu
        return self.hu_factor, air * (1.0 - self.hu_factor) + self.hu_shift / frame.width_hu


def draw_change(settings: AugmentSettings, seed: int, epoch: int, row: int) -> PatchChange:
    """Give the change of one patch in one epoch.

    Parameters
    ----------
    settings : AugmentSettings
        How often and how much.
    seed, epoch, row : int
        Of the run, of the pass over the patches, of the patch in its table; with the settings they decide
        everything. Changing one transform's settings leaves what is drawn for the others as it was.

    Returns
    -------
    PatchChange
    """
    rng = np.random.default_rng((seed, epoch, row))
    s = settings.scaled()
    flips, chances, sizes = rng.random(3), rng.random(5), rng.random(4)
    angles, shifts, calibration = rng.uniform(-1, 1, 3), rng.uniform(-1, 1, 3), rng.uniform(-1, 1, 2)
    noise_seed = int(rng.integers(2**62))
    change: dict[str, object] = {"flips_zyx": tuple(bool(v) for v in flips < s.flip_probability)}
    if chances[0] < s.affine_probability:
        low, high = (math.log(v) for v in s.scale_range)
        change |= {
            "angles_zyx_deg": tuple((angles * s.rotation_deg).tolist()),
            "scale": math.exp(low + (high - low) * sizes[0]),
            "translation_zyx_mm": tuple((shifts * s.translation_mm).tolist()),
        }
    if chances[1] < s.blur_probability:
        change["blur_mm"] = _between(s.blur_range_mm, sizes[1])
    if chances[2] < s.hu_probability:
        change |= {"hu_factor": 1 + s.hu_scale * float(calibration[0]), "hu_shift": s.hu_shift * float(calibration[1])}
    if chances[3] < s.gamma_probability:
        change["gamma"] = math.exp(s.log_gamma * (2 * sizes[2] - 1))
    if chances[4] < s.noise_probability:
        change |= {"noise_hu": _between(s.noise_range_hu, sizes[3]), "noise_seed": noise_seed}
    if rng.random() < s.elastic_probability and s.elastic_mm > 0:
        change["control_xyz_mm"] = _draw_control_points(s.elastic_mm, rng)
    return PatchChange(**change)  # type: ignore[arg-type]


def rotation_xyz(angles_zyx_deg: Triplet) -> NDArray[np.float64]:
    """Give the rotation ``Rz Rx Ry``, ITK's order of Euler angles.

    Parameters
    ----------
    angles_zyx_deg : tuple of float
        Right-handed angles about z, y, x, degrees.

    Returns
    -------
    ndarray, shape (3, 3)
        Acts on columns (x, y, z).

    Examples
    --------
    >>> rotation_xyz((90.0, 0.0, 0.0)).round(6) @ [1, 0, 0]
    array([0., 1., 0.])
    """
    (cz, sz), (cy, sy), (cx, sx) = ((math.cos(math.radians(a)), math.sin(math.radians(a))) for a in angles_zyx_deg)
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    return about_z @ about_x @ about_y


def check_elastic(settings: AugmentSettings, frame: PatchFrame) -> None:
    """Refuse an elastic deformation that could fold the patch over itself.

    Parameters
    ----------
    settings : AugmentSettings
        With its strength.
    frame : PatchFrame
        Decides how far control points lie apart.

    Raises
    ------
    SettingsError
        If control points may move by more than half their distance.
    """
    scaled = settings.scaled()
    most_mm = frame.stored_vox * frame.spacing_mm / (N_CONTROL - SPLINE_ORDER) / 2
    if scaled.elastic_probability > 0 and scaled.elastic_mm > most_mm:
        raise SettingsError(
            f"elastic_mm is {scaled.elastic_mm:g} (with the strength), these patches bear up to {most_mm:g} before "
            "they fold; choose a smaller value"
        )


def _draw_control_points(most_mm: float, rng: np.random.Generator) -> NDArray[np.float64]:
    points = rng.uniform(-most_mm, most_mm, (N_CONTROL, N_CONTROL, N_CONTROL, 3))
    inner = slice(N_LOCKED, N_CONTROL - N_LOCKED)
    locked = np.zeros_like(points)
    locked[inner, inner, inner] = points[inner, inner, inner]
    return locked


def _between(limits: tuple[float, float], share: float) -> float:
    return limits[0] + (limits[1] - limits[0]) * float(share)


def _within_bounds(name: str, value: float | tuple[float, float], factor: float) -> float | tuple[float, ...]:
    """Multiply a setting, or both ends of a range, and keep it within the bounds of its field."""
    limits = bounds(AugmentSettings, name)
    if isinstance(value, tuple):
        return tuple(min(v * factor, limits["max"]) for v in value)
    return min(value * factor, limits["max"])
