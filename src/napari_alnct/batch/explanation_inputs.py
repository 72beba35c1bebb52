"""What is to be explained: a patch that `sample` wrote, or candidates of a scan, as the network sees them.

Patches hold HU (int16), as in ``patches.npy``, ``example_pos.npy`` and ``example_neg.npy``. A patch of a table knows
its place in the scan; a lone ``.npy`` file does where it is an example beside its table, and has a place of its own
otherwise: its first voxel is at 0, 0, 0 mm.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_alnct.batch.patch_checks import input_notes
from napari_alnct.core.config import PrepareSettings
from napari_alnct.core.errors import SettingsError, TableError
from napari_alnct.core.findings import Candidate
from napari_alnct.core.geometry import Geometry, Triple
from napari_alnct.core.preprocess import prepare
from napari_alnct.core.volume import Volume, to_int16
from napari_alnct.io.images import ReadOptions, read_volume
from napari_alnct.io.patch_store import EXAMPLES, PatchStore
from napari_alnct.io.tables import read_candidates

SCALED_MOST = 2.0  # numbers that all lie within -2 to 2 are no HU


@dataclass(frozen=True, kw_only=True)
class ToExplain:
    """A candidate: its name for people, that of its files, its place in world LPS mm, its diameter (0: not known)."""

    name: str
    stem: str
    position_xyz_mm: Triple
    diameter_mm: float = 0.0


@dataclass(frozen=True, kw_only=True, eq=False)
class ExplainCase:
    """Voxels and what to explain in them.

    Parameters
    ----------
    hu : ndarray of int16, shape (z, y, x)
        Patch or prepared scan, as the network sees it.
    geometry : Geometry
        Its LPS grid.
    volume : Volume
        What maps are drawn over.
    candidates : tuple of ToExplain
        In the order to explain.
    notes : tuple of str
        Sentences on the input.
    n_left_out : int
        Candidates of the table beyond the number asked for.
    """

    hu: NDArray[np.int16]
    geometry: Geometry
    volume: Volume
    candidates: tuple[ToExplain, ...]
    notes: tuple[str, ...] = ()
    n_left_out: int = 0


@dataclass(frozen=True)
class _Patch:
    """Voxels with their place: the world position of voxel ``size // 2`` along each axis, None where not known.

    ``edge_vox``: of a stored patch without its margin, 0 for a file without one.
    """

    hu: NDArray[np.int16]
    middle_xyz_mm: Triple | None
    diameter_mm: float = 0.0
    notes: tuple[str, ...] = ()
    series_uid: str = ""
    edge_vox: int = 0


def patch_case(wish: str, settings: PrepareSettings, edge_vox: int, model_file: str) -> ExplainCase:
    """Give a patch as a case of one candidate, its middle voxel.

    Parameters
    ----------
    wish : str
        A ``.npy`` file, or ``patch_map.csv:ROW`` (also the folder, ``patches/val:ROW``); rows count from 0, as the
        table's column ``patch``.
    settings : PrepareSettings
        The model's input.
    edge_vox : int
        Edge of the cube that the network sees.
    model_file : str
        Name of the model for messages.

    Returns
    -------
    ExplainCase

    Raises
    ------
    TableError
        If the file or row is missing, or holds no patch in HU.
    SettingsError
        If the patch's voxels have another size than the model's.
    """
    table, colon, row = wish.rpartition(":")
    if colon and row.isdecimal():
        patch, name = _row_of(PatchStore.open(Path(table)), int(row), settings, model_file), f"{Path(table).name}:{row}"
        stem = f"patch_{int(row):05d}"
    else:
        patch, name, stem = _patch_file(Path(wish), settings, model_file), Path(wish).name, Path(wish).stem
    size = np.array(patch.hu.shape)
    grid = Geometry(shape_zyx=patch.hu.shape, spacing_zyx_mm=(settings.spacing_mm,) * 3)
    middle = grid.index_to_world(size // 2)
    notes = [*patch.notes, *_size_notes(name, patch, edge_vox, settings.low_hu)]
    if patch.middle_xyz_mm is None:
        notes.append(f"{name} does not say where it lies: its first voxel is taken as x, y, z = 0 mm.")
    else:
        x, y, z = np.subtract(patch.middle_xyz_mm, middle)
        grid = replace(grid, origin_xyz_mm=(float(x), float(y), float(z)))
    x, y, z = grid.index_to_world(size // 2)
    one = ToExplain(name=name, stem=stem, position_xyz_mm=(float(x), float(y), float(z)), diameter_mm=patch.diameter_mm)
    volume = Volume(patch.hu, grid, grid, patch.series_uid)
    return ExplainCase(hu=patch.hu, geometry=grid, volume=volume, candidates=(one,), notes=tuple(notes))


def scan_case(
    scan: Path, candidates: Path, settings: PrepareSettings, *, most: int, options: ReadOptions
) -> ExplainCase:
    """Give the candidates of a scan.

    Parameters
    ----------
    scan : Path
        Scan file or DICOM folder.
    candidates : Path
        Table in LUNA16's columns, such as `detect` writes; the rows of this scan count.
    settings : PrepareSettings
        The model's input.
    most : int
        The strongest ones are taken.
    options : ReadOptions
        What may be read.

    Returns
    -------
    ExplainCase

    Raises
    ------
    ReadError, LungsNotFoundError
        If the scan is refused.
    TableError
        If the table cannot be read, or has no row of this scan.
    """
    rows = read_candidates(candidates)
    volume = read_volume(scan, options)
    own = [(number, one) for number, (uid, one) in enumerate(rows, start=1) if uid == volume.series_uid]
    if not own:
        n_series = len({uid for uid, _ in rows})
        raise TableError(
            f"{candidates.name} lists {len(rows)} candidates of {n_series} scans and none of {volume.series_uid}; give "
            "the table that detect wrote for this scan"
        )
    own.sort(key=lambda pair: -pair[1].score)
    chosen = tuple(_marked(rank, number, one, candidates) for rank, (number, one) in enumerate(own[:most], start=1))
    prepared = prepare(volume, settings)
    return ExplainCase(
        hu=prepared.hu,
        geometry=prepared.geometry,
        volume=volume,
        candidates=chosen,
        notes=tuple(flag.text for flag in (*volume.flags, *prepared.lungs.flags)),
        n_left_out=len(own) - len(chosen),
    )


def _marked(rank: int, number: int, one: Candidate, table: Path) -> ToExplain:
    name = f"{table.name} row {number} (score {one.score:.3f})"
    return ToExplain(
        name=name,
        stem=f"candidate_{rank:03d}",
        position_xyz_mm=one.position_xyz_mm,
        diameter_mm=max(0.0, one.diameter_mm),
    )


def _row_of(store: PatchStore, row: int, settings: PrepareSettings, model_file: str) -> _Patch:
    """Give a stored patch with its margin: what lies around it is known."""
    if row >= len(store):
        raise TableError(f"{store.table.name} lists patches 0 to {len(store) - 1}, not {row}; choose one of them")
    notes = input_notes(store.prepare, settings, model_file)
    about = store.rows[row]
    return _Patch(
        np.array(store.hu[row]),
        about.position_xyz_mm,
        about.diameter_mm or 0.0,
        tuple(notes),
        about.series_uid,
        store.patch_vox,
    )


def _patch_file(path: Path, settings: PrepareSettings, model_file: str) -> _Patch:
    if path.suffix.lower() != ".npy":
        raise TableError(f"{path.name} is no patch; give a .npy file, or a row of a table such as patch_map.csv:0")
    hu = _read_hu(path)
    if path.name in EXAMPLES.values():
        found = _example(path, hu, settings, model_file)
        if found is not None:
            return found
    return _Patch(hu, None)


def _example(path: Path, hu: NDArray[np.int16], settings: PrepareSettings, model_file: str) -> _Patch | None:
    """Give an example file as the row of the table beside it that it was copied from; None where it is not."""
    try:
        store = PatchStore.open(path.parent)
    except TableError:
        return None
    label = next(label for label, name in EXAMPLES.items() if name == path.name)
    row = next((number for number, one in enumerate(store.rows) if one.label == label), None)
    if row is None or not np.array_equal(store.cube(row), hu):
        return None
    found = _row_of(store, row, settings, model_file)
    return replace(found, notes=(f"{path.name} is row {row} of {store.table.name}.", *found.notes))


def _read_hu(path: Path) -> NDArray[np.int16]:
    """Give the voxels of a file; refuse what is no patch or not in HU."""
    try:
        values = np.load(path, allow_pickle=False)
    except FileNotFoundError as fault:
        raise TableError(f"{path.name}: no such patch file; check the path") from fault
    except (OSError, ValueError, EOFError) as fault:
        raise TableError(f"{path.name} cannot be read as a NumPy array ({fault}); run sample again") from fault
    if not isinstance(values, np.ndarray) or values.ndim != 3 or 0 in values.shape or values.dtype.kind not in "iuf":
        shape = getattr(values, "shape", "unknown")
        raise TableError(
            f"{path.name} holds {getattr(values, 'dtype', 'several arrays')} of shape {shape}, not one patch; "
            "for a row of many give patch_map.csv:ROW"
        )
    if not np.isfinite(values).all():
        raise TableError(f"{path.name} holds numbers that are not finite; run sample again")
    if values.dtype.kind == "f" and float(np.abs(values).max()) <= SCALED_MOST:
        raise TableError(
            f"{path.name} holds numbers from {values.min():.3g} to {values.max():.3g}, expected Hounsfield units; cut "
            "the patch with sample, or undo its scaling"
        )
    return to_int16(values)


def _size_notes(name: str, patch: _Patch, edge_vox: int, low_hu: float) -> list[str]:
    """Say what becomes of a patch of another size than the network's."""
    shape = patch.hu.shape
    if patch.edge_vox == edge_vox:
        return []
    size = " x ".join(str(n) for n in shape)
    what = f"{name} has {size} voxels" if not patch.edge_vox else f"{name} has {size} voxels with its margin"
    if min(shape) < edge_vox:
        return [f"{what}, the network looks at {edge_vox}: the rest is filled with {low_hu:g} HU."]
    return [f"{what}, the network looks at {edge_vox} around their middle."] if max(shape) > edge_vox else []


def refuse_both(patch: str | None, scan: Path | None, candidates: Path | None) -> None:
    """Refuse wishes that name no input, two of them, or a scan without candidates.

    Parameters
    ----------
    patch : str or None
        A patch.
    scan, candidates : Path or None
        A scan and its table.

    Raises
    ------
    SettingsError
        With what to give.
    """
    if (patch is None) == (scan is None):
        raise SettingsError("give either --patch FILE.npy (or patch_map.csv:ROW), or --scan SCAN with --candidates CSV")
    if (scan is None) != (candidates is None):
        raise SettingsError("--scan and --candidates belong together; detect writes such a table")
