"""Every setting, once: frozen dataclasses with bounds, to and from JSON.

The command makes its flags from the fields, the plugin its form, and a
checkpoint stores the same object. Bounds are a plain dict in ``Annotated``
(keys of magicgui: ``min``, ``max``, ``label``, ``choices``).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from napari_alnct.core.errors import SettingsError

Device = Literal["auto", "cpu", "cuda", "mps"]
Precision = Literal["auto", "float32", "bfloat16"]
Norm = Literal["batch", "group", "instance"]
ReadingMode = Literal["concurrent", "second reader", "study"]
WindowName = Literal["lung", "mediastinum", "bone", "ground glass"]
ReadingLayout = Literal["axial", "axial + planes", "planes"]
SettingsT = TypeVar("SettingsT")


def bounds(cls: type, name: str) -> dict[str, Any]:
    """Give the bounds and label of one field.

    Parameters
    ----------
    cls : type
        A settings dataclass.
    name : str
        Field name.

    Returns
    -------
    dict
        Keys such as ``min``, ``max``, ``label``; empty when the field has none.
    """
    hint = get_type_hints(cls, include_extras=True)[name]
    return dict(get_args(hint)[1]) if get_origin(hint) is Annotated else {}


def check_bounds(settings: object) -> None:
    """Refuse values outside the bounds of their fields.

    Parameters
    ----------
    settings : dataclass instance
        Called from ``__post_init__``.

    Raises
    ------
    SettingsError
        Names the field, the value and the allowed range.
    """
    cls = type(settings)
    for field in fields(settings):  # type: ignore[arg-type]
        limits, value = bounds(cls, field.name), getattr(settings, field.name)
        if isinstance(value, str) and ("min" in limits or "max" in limits):  # YAML reads 5e-4 as text
            raise SettingsError(f"{field.name} is the text {value!r:.40}; write a number, such as 0.0005")
        if not limits or value is None or isinstance(value, (str, bool)):
            continue
        for number in value if isinstance(value, tuple) else (value,):
            low, high = limits.get("min", float("-inf")), limits.get("max", float("inf"))
            if not low <= number <= high:
                raise SettingsError(
                    f"{field.name} is {value}, allowed is {low} to {high}; choose a value in this range"
                )


def to_json(settings: object) -> dict[str, Any]:
    """Give a settings dataclass as plain JSON values."""
    return asdict(settings)  # type: ignore[call-overload]


def from_json(cls: type[SettingsT], values: dict[str, Any]) -> SettingsT:
    """Give the settings stored by `to_json`; lists become tuples, unknown keys are refused.

    Parameters
    ----------
    cls : type
        The settings dataclass.
    values : dict
        Field names to values.

    Returns
    -------
    cls

    Raises
    ------
    SettingsError
        If a key is not a field of the class.
    """
    names = {field.name for field in fields(cls)}  # type: ignore[arg-type]
    unknown = sorted(set(values) - names)
    if unknown:
        raise SettingsError(f"{cls.__name__} has no setting {', '.join(unknown)}; known are {', '.join(sorted(names))}")
    return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})


@dataclass(frozen=True, kw_only=True)
class PrepareSettings:
    """How a scan is brought to the form that the network was trained on."""

    spacing_mm: Annotated[float, {"min": 0.3, "max": 5.0, "label": "Spacing (mm)"}] = 1.0
    """Isotropic spacing of the prepared scan."""
    low_hu: Annotated[float, {"min": -3000.0, "max": 0.0, "label": "Lowest HU"}] = -1200.0
    """Values below are set to this before any interpolation."""
    high_hu: Annotated[float, {"min": 0.0, "max": 4000.0, "label": "Highest HU"}] = 600.0
    """Values above are set to this before any interpolation."""
    margin_mm: Annotated[float, {"min": 0.0, "max": 60.0, "label": "Margin around the lungs (mm)"}] = 16.0
    """What is kept around the lungs: nodules on the pleura and the hilum must stay inside."""

    def __post_init__(self) -> None:
        """Check the bounds."""
        check_bounds(self)


@dataclass(frozen=True, kw_only=True)
class DetectionSettings:
    """How candidates are found and kept."""

    device: Annotated[Device, {"label": "Device"}] = "auto"
    """Where the network runs; auto takes a CUDA GPU when there is one."""
    precision: Annotated[Precision, {"label": "Precision"}] = "auto"
    """auto: bfloat16 where the processor has it, else float32."""
    threshold: Annotated[float | None, {"min": 0.0, "max": 1.0, "label": "Lowest score shown"}] = None
    """Lowest score shown; none: the model's point of about one false mark per scan."""
    second_look: Annotated[bool, {"label": "Second look"}] = True
    """Let the 64-voxel classifier score each candidate again."""
    mirrored_passes: Annotated[int, {"min": 0, "max": 3, "label": "Mirrored passes"}] = 0
    """Search the scan again, mirrored along x, then y, then z, and take the mean; each pass costs as much again."""
    lung_margin_mm: Annotated[float, {"min": 0.0, "max": 60.0, "label": "Lung margin (mm)"}] = 15.0
    """Candidates farther than this from the lungs are dropped."""
    max_candidates: Annotated[int, {"min": 1, "max": 100, "label": "Most candidates"}] = 100
    """LUNA16 counts at most 100 marks per scan."""
    max_block_mvox: Annotated[float, {"min": 0.5, "max": 2000.0, "label": "Largest block (million voxels)"}] = 40.0
    """Larger scans run in overlapping blocks of at most this size."""

    def __post_init__(self) -> None:
        """Check the bounds."""
        check_bounds(self)


@dataclass(frozen=True, kw_only=True)
class ReadingSettings:
    """How a person reads a scan; napari's Preferences show the same fields."""

    reader: Annotated[str, {"label": "Reader"}] = ""
    """Who reads; readers have readings of their own."""
    folder: Annotated[str, {"label": "Folder of readings"}] = ""
    """Where readings are kept; empty: napari-alnct/readings in the home folder."""
    mode: Annotated[ReadingMode, {"label": "Mode of a new reading"}] = "concurrent"
    """Second reader and study hide the marks until the first read is ended."""
    auto_advance: Annotated[bool, {"label": "Advance after a decision"}] = True
    """Go to the next undecided mark after each decision."""
    window: Annotated[WindowName, {"label": "Window of a new reading"}] = "lung"
    """Grey-scale window that a new reading begins in."""
    slab_mm: Annotated[float, {"min": 1.0, "max": 50.0, "label": "Slab (mm)"}] = 10.0
    """Thickness of the slab that one key switches on and off."""
    layout: Annotated[ReadingLayout, {"label": "Layout"}] = "axial + planes"
    """Which planes a new reading shows."""
    reading_scroll: Annotated[bool, {"label": "Reading scroll"}] = True
    """The wheel moves slices and a drag with the right button changes the window."""
    show_hint: Annotated[bool, {"label": "Show the hint line"}] = True
    """A line with the most used keys above the list."""

    def __post_init__(self) -> None:
        """Check the bounds."""
        check_bounds(self)


@dataclass(frozen=True, kw_only=True)
class EncoderSettings:
    """Shape of the encoder that detector and classifier are built from."""

    widths: Annotated[tuple[int, ...], {"min": 1, "max": 1024, "label": "Channels per stage"}] = (24, 48, 96, 160)
    """Channels at strides 2, 4, 8, 16, ..., before `feat_mult`."""
    depths: Annotated[tuple[int, ...], {"min": 1, "max": 12, "label": "Blocks per stage"}] = (1, 1, 2, 1)
    """Residual blocks per stage."""
    feat_mult: Annotated[float, {"min": 0.125, "max": 8.0, "label": "Channel multiplier"}] = 1.0
    """Multiplies all widths."""
    norm: Annotated[Norm, {"label": "Normalisation"}] = "batch"
    """batch keeps block seams invisible; group and instance suit small batches."""
    dropout: Annotated[float, {"min": 0.0, "max": 0.9, "label": "Dropout"}] = 0.0
    """Share of features dropped before the head, in training only."""

    def __post_init__(self) -> None:
        """Check the bounds and that every stage has a depth."""
        check_bounds(self)
        if len(self.widths) != len(self.depths) or len(self.widths) < 2:
            raise SettingsError(
                f"widths {self.widths} and depths {self.depths} need the same number of stages, at least 2"
            )

    @property
    def channels(self) -> tuple[int, ...]:
        """Give the channels per stage after `feat_mult`, multiples of 8, at least 8."""
        return tuple(max(8, 8 * round(width * self.feat_mult / 8)) for width in self.widths)

    @property
    def stride(self) -> int:
        """Give the input voxels per cell of the deepest stage."""
        return 2 ** len(self.widths)


@dataclass(frozen=True, kw_only=True)
class DetectorNetSettings(EncoderSettings):
    """Shape of the fully convolutional detector; its output has one cell per 4 voxels."""

    head_width: Annotated[int, {"min": 8, "max": 512, "label": "Channels of the head"}] = 64
    """Channels of the last feature map, before the 1x1x1 heads; multiplied by `feat_mult`."""


@dataclass(frozen=True, kw_only=True)
class ClassifierNetSettings(EncoderSettings):
    """Shape of the patch classifier: a cube of voxels to one nodule logit."""

    widths: Annotated[tuple[int, ...], {"min": 1, "max": 1024, "label": "Channels per stage"}] = (16, 32, 64, 128)
    """Channels at strides 2, 4, 8, 16, before `feat_mult`."""
    depths: Annotated[tuple[int, ...], {"min": 1, "max": 12, "label": "Blocks per stage"}] = (1, 1, 2, 1)
    """Residual blocks per stage."""
    patch_vox: Annotated[int, {"min": 16, "max": 160, "label": "Patch edge (voxels)"}] = 64
    """Edge of the cube, voxels of 1 mm."""
    dropout: Annotated[float, {"min": 0.0, "max": 0.9, "label": "Dropout"}] = 0.1
    """Share of features dropped before the head, in training only."""

    def __post_init__(self) -> None:
        """Check the bounds and that the patch is whole cells of the deepest stage."""
        super().__post_init__()
        if self.patch_vox % self.stride:
            raise SettingsError(
                f"patch_vox is {self.patch_vox}, allowed are multiples of {self.stride} with {len(self.widths)} stages"
            )
