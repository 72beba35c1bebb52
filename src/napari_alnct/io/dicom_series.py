"""Choose one series out of a DICOM folder and stack its slices, or say why not.

Slices are ordered by their position along the image normal, never by number
or file name. What would move, mirror or shear voxels without notice is
refused; what a reader should know but can live with becomes a quality flag.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from napari_alnct.core.errors import ReadError
from napari_alnct.core.geometry import Geometry
from napari_alnct.core.volume import QualityFlag
from napari_alnct.io.dicom_headers import SliceHeader
from napari_alnct.io.source_image import check_grid, check_size

AXIAL_COSINE = 0.9  # between the image normal and the head-foot axis
SAME_DIRECTION = 1e-3  # largest difference of direction cosines within one series
SAME_SPACING_MM = 1e-3
DUPLICATE_STEP = 0.02  # of the usual step: two slices at one place
MISSING_STEP = 1.5  # of the usual step: a slice is missing
JITTER_STEP = 0.1  # of the usual step: rounding of positions
JITTER_MM = 0.25
STRAIGHT_PIXELS = 0.5  # sideways shift over the whole stack
RELOAD_HINT = "export or download the whole series again"
MAX_SERIES_NAMED = 5


def choose_series(
    headers: Sequence[SliceHeader], wanted_uid: str | None, name: str
) -> tuple[list[SliceHeader], tuple[QualityFlag, ...]]:
    """Give the slices of one series.

    Parameters
    ----------
    headers : sequence of SliceHeader
        All images of a folder.
    wanted_uid : str or None
        SeriesInstanceUID; None takes the axial CT series with most slices.
    name : str
        Base name of the folder, for messages.

    Returns
    -------
    slices : list of SliceHeader
        Without scout images, in no order.
    flags : tuple of QualityFlag
        ``several_series`` and ``localizers``.

    Raises
    ------
    ReadError
        E_DATA_MISSING when there is no such series.
    """
    groups: dict[str, list[SliceHeader]] = defaultdict(list)
    for header in headers:
        groups[header.series_uid].append(header)
    if not groups:
        hint = "give the folder with the CT slices"
        raise ReadError("E_DATA_MISSING", name, "DICOM images", "none", hint=hint)
    uid = wanted_uid or max(groups, key=lambda key: _rank(groups[key]))
    if uid not in groups:
        found = f"{_listed(groups)}"
        raise ReadError("E_DATA_MISSING", name, f"the series {uid}", found, hint="choose one of these")
    flags = []
    if len(groups) > 1:
        others = {key: group for key, group in groups.items() if key != uid}
        choice = "as asked for" if wanted_uid else "the axial CT series with most slices"
        text = f"The folder holds {len(groups)} series; this is {uid}, {choice}. Others: {_listed(others)}."
        flags.append(QualityFlag("several_series", text))
    slices = [header for header in groups[uid] if not header.is_localizer]
    if slices and len(slices) < len(groups[uid]):
        n_left = len(groups[uid]) - len(slices)
        flags.append(QualityFlag("localizers", f"{n_left} scout images of this series are left out."))
    return slices or groups[uid], tuple(flags)


def arrange(slices: Sequence[SliceHeader], name: str) -> tuple[list[SliceHeader], Geometry, tuple[QualityFlag, ...]]:
    """Give the slices in order along the image normal, and their grid.

    Parameters
    ----------
    slices : sequence of SliceHeader
        One series.
    name : str
        Base name of the folder, for messages.

    Returns
    -------
    ordered : list of SliceHeader
    geometry : Geometry
        Grid of the stack (z = slices), always right-handed.
    flags : tuple of QualityFlag
        What a reader should know about the acquisition.

    Raises
    ------
    ReadError
        E_UNSUPPORTED, E_KEY_MISSING, E_NDIMS, E_DIMS, E_SPACING or E_DIRECTION.
    """
    _refuse_unusable(slices, name)
    _refuse_mixed(slices, name)
    axes = np.reshape(slices[0].axes_xyz or (), (2, 3))
    normal = np.cross(axes[0], axes[1])
    positions = np.array([header.position_xyz_mm for header in slices])
    order = np.argsort(positions @ normal, kind="stable")
    ordered, positions = [slices[k] for k in order], positions[order]
    step_mm, uneven_mm = _step_mm(positions @ normal, name)
    rows, columns = ordered[0].shape_yx
    spacing_yx = ordered[0].spacing_yx_mm or ()
    shape = check_size(name, (len(ordered), rows, columns), 2)
    directions = np.column_stack([axes[0], axes[1], normal])
    geometry = check_grid(name, shape, (step_mm, *spacing_yx), positions[0].tolist(), directions)
    _refuse_sheared(positions, normal, min(spacing_yx), name)
    return ordered, geometry, _flags(ordered, step_mm, uneven_mm)


def is_axial(header: SliceHeader) -> bool:
    """Tell whether an image is a cross-section of the body's long axis."""
    if header.axes_xyz is None:
        return False
    row, column = header.axes_xyz[:3], header.axes_xyz[3:]
    return abs(row[0] * column[1] - row[1] * column[0]) > AXIAL_COSINE


def _rank(group: Sequence[SliceHeader]) -> tuple[bool, bool, int, float, str]:
    """Order series: axial CT first, then most slices, then the thinnest ones."""
    slices = [header for header in group if header.is_placed and not header.is_localizer]
    is_ct = group[0].modality == "CT"
    axial = bool(slices) and sum(map(is_axial, slices)) * 2 > len(slices)
    thickness = group[0].thickness_mm or 0.0
    return is_ct and axial, is_ct, len(slices), -thickness, group[0].series_uid


def _listed(groups: dict[str, list[SliceHeader]]) -> str:
    ranked = sorted(groups.values(), key=_rank, reverse=True)
    named = [f"{group[0].series_uid} ({group[0].modality or '?'}, {len(group)} images)" for group in ranked]
    rest = f", and {len(named) - MAX_SERIES_NAMED} more" if len(named) > MAX_SERIES_NAMED else ""
    return ", ".join(named[:MAX_SERIES_NAMED]) + rest


def _refuse_unusable(slices: Sequence[SliceHeader], name: str) -> None:
    for header in slices:
        if not header.is_plain:
            hint = "export it as single grey slices"
            raise ReadError("E_UNSUPPORTED", header.name, "one grey image per file", "another kind", hint=hint)
        for keyword, value in (
            ("PixelSpacing", header.spacing_yx_mm),
            ("ImageOrientationPatient", header.axes_xyz),
            ("ImagePositionPatient", header.position_xyz_mm),
        ):
            if value is None:
                raise ReadError("E_KEY_MISSING", header.name, "a value", "none", key=keyword, hint=RELOAD_HINT)
    if len(slices) < 2:
        hint = "give the folder with all slices of a CT series"
        raise ReadError("E_NDIMS", name, "at least 2 slices", str(len(slices)), hint=hint)


def _refuse_mixed(slices: Sequence[SliceHeader], name: str) -> None:
    """Refuse slices that differ in size, orientation or pixel spacing."""
    sizes = Counter(header.shape_yx for header in slices)
    hint = "export each part as a series of its own"
    if len(sizes) > 1:
        found = ", ".join(f"{n} of {columns} x {rows}" for (rows, columns), n in sizes.most_common())
        raise ReadError("E_DIMS", name, "slices of one size", found, hint=hint)
    axes = np.array([header.axes_xyz for header in slices])
    n_turned = int(np.count_nonzero(np.abs(axes - np.median(axes, axis=0)).max(axis=1) > SAME_DIRECTION))
    if n_turned:
        found = f"{n_turned} of {len(slices)} turned differently"
        raise ReadError("E_DIRECTION", name, "slices of one orientation", found, hint=hint)
    spacings = np.array([header.spacing_yx_mm for header in slices])
    if np.ptp(spacings, axis=0).max() > SAME_SPACING_MM:
        found = f"{spacings.min():g} to {spacings.max():g} mm"
        raise ReadError("E_SPACING", name, "one pixel spacing", found, key="PixelSpacing", hint=hint)


def _step_mm(places_mm: NDArray[np.float64], name: str) -> tuple[float, float]:
    """Give the distance of slices and the largest deviation from it; refuse repeats, gaps and uneven steps."""
    steps = np.diff(places_mm)
    usual = float(np.median(steps))
    expected = f"a slice every {usual:g} mm"
    repeated = np.flatnonzero(steps <= DUPLICATE_STEP * usual)
    if repeated.size:
        found = f"{repeated.size} places with two, the first at {places_mm[repeated[0]]:g} mm"
        hint = "export one reconstruction or phase as a series of its own"
        raise ReadError("E_SPACING", name, "one slice at each place", found, hint=hint)
    gaps = np.flatnonzero(steps > MISSING_STEP * usual)
    if gaps.size:
        first = int(gaps[0])
        n_missing = sum(round(float(steps[k]) / usual) - 1 for k in gaps)
        where = f"{places_mm[first]:g} and {places_mm[first + 1]:g} mm"
        found = f"about {max(1, n_missing)} missing, the first between {where}"
        raise ReadError("E_SPACING", name, expected, found, hint=RELOAD_HINT)
    mean = float((places_mm[-1] - places_mm[0]) / steps.size)
    uneven = float(np.abs(places_mm - (places_mm[0] + mean * np.arange(places_mm.size))).max())
    if uneven > min(JITTER_MM, JITTER_STEP * mean):
        found = f"steps of {steps.min():g} to {steps.max():g} mm"
        raise ReadError("E_SPACING", name, expected, found, hint="resample or export the series with even steps")
    return mean, uneven


def _refuse_sheared(positions: NDArray[np.float64], normal: NDArray[np.float64], pixel_mm: float, name: str) -> None:
    """Refuse slices that are shifted sideways against each other, as with a tilted gantry."""
    shifts = positions - positions[0]
    along = shifts @ normal
    sideways = np.linalg.norm(shifts - np.outer(along, normal), axis=1)
    if sideways.max() > STRAIGHT_PIXELS * pixel_mm:
        angle = np.degrees(np.arctan2(sideways[-1], along[-1]))
        found = f"a sideways shift of up to {sideways.max():.1f} mm (gantry tilt of {angle:.1f} degrees)"
        hint = "use an untilted reconstruction, or resample it (3D Slicer: acquisition geometry regularization)"
        raise ReadError("E_DIRECTION", name, "slices straight above one another", found, hint=hint)


def _flags(slices: Sequence[SliceHeader], step_mm: float, uneven_mm: float) -> tuple[QualityFlag, ...]:
    first = slices[0]
    flags = []
    if first.modality != "CT":
        flags.append(QualityFlag("not_hu", f"The modality is {first.modality or 'unknown'}, not CT."))
    if any(header.slope is None or header.intercept is None for header in slices):
        flags.append(QualityFlag("not_hu", "Rescale slope or intercept is missing, so the values may not be HU."))
    if uneven_mm > 0.01:
        text = f"Slice positions are up to {uneven_mm:.2f} mm off an even grid; the even grid is used."
        flags.append(QualityFlag("uneven_slices", text))
    thickness = first.thickness_mm
    if thickness and thickness > 1.05 * step_mm:
        text = f"Slices overlap: they are {thickness:g} mm thick and {step_mm:g} mm apart."
        flags.append(QualityFlag("slice_overlap", text))
    if thickness and thickness < 0.9 * step_mm:
        text = f"Slices are {thickness:g} mm thick and {step_mm:g} mm apart: what lies between was not scanned."
        flags.append(QualityFlag("slice_gaps", text))
    if any(header.has_contrast for header in slices):
        flags.append(
            QualityFlag("contrast", "A contrast agent was given; models are judged on scans with and without.")
        )
    if any(header.is_lossy for header in slices):
        flags.append(QualityFlag("lossy", "The images were compressed with loss."))
    return tuple(flags)
