"""Patches on disk: one table, one array, one description, in one folder.

``patch_map.csv`` tells what each patch is, ``patches.npy`` holds the voxels of all of
them in the order of the table (int16 HU, mapped into memory, so a patch is one read of
the disk), ``patches.json`` how they were made. A patch is stored with a margin around
it, from which shifts, rotations and scalings take their voxels.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any, BinaryIO, Self

import numpy as np
from numpy.typing import NDArray

from napari_alnct.core.config import PrepareSettings, from_json, to_json
from napari_alnct.core.errors import SettingsError, TableError
from napari_alnct.io.csv_files import Cell, Number, Row, read_table, write_table

FORMAT_VERSION = 1
MAP, VOXELS, DESCRIPTION = "patch_map.csv", "patches.npy", "patches.json"
EXAMPLES = {1: "example_pos.npy", 0: "example_neg.npy"}
POSITIVE_KIND = "nodule"
NEGATIVE_KINDS = ("lung", "vessel", "candidate", "mined")
COLUMNS = (
    *("patch", "seriesuid", "patient", "fold", "label", "kind"),
    *("z_vox", "y_vox", "x_vox", "coordX", "coordY", "coordZ", "diameter_mm", "nodule"),
)


@dataclass(frozen=True, kw_only=True)
class PatchRow:
    """What one patch is.

    Parameters
    ----------
    series_uid : str
        The scan.
    label : int
        1 = nodule in the middle, 0 = none.
    kind : str
        ``nodule``, or one of `NEGATIVE_KINDS`: ``lung`` (random lung), ``vessel``, ``candidate`` (from a
        table of candidates) or ``mined`` (false mark of a model).
    centre_zyx_vox : tuple of int
        Voxel of the prepared scan that the patch is centred on (`cube_around`).
    position_xyz_mm : tuple of float
        The same voxel in world mm, LPS.
    diameter_mm : float or None
        Of the nodule; None for negatives.
    nodule : int or None
        Number of the nodule within its scan, from 0: its jittered patches belong together.
    patient : str
        Patient, where a table named it, else empty.
    fold : int or None
        Fold (LUNA16's subset), where known.
    """

    series_uid: str
    label: int
    kind: str
    centre_zyx_vox: tuple[int, int, int]
    position_xyz_mm: tuple[float, float, float]
    diameter_mm: float | None = None
    nodule: int | None = None
    patient: str = ""
    fold: int | None = None


@dataclass(frozen=True, eq=False)
class PatchStore:
    """An opened folder of patches.

    Parameters
    ----------
    folder : Path
        Where it lies.
    rows : tuple of PatchRow
        The table, in order.
    description : dict
        ``patches.json``.
    table : Path
        The table that was opened.
    """

    folder: Path
    rows: tuple[PatchRow, ...]
    description: dict[str, Any]
    table: Path

    @classmethod
    def open(cls, path: Path) -> PatchStore:
        """Give the patches of a folder.

        Parameters
        ----------
        path : Path
            ``patch_map.csv`` or the folder that holds it.

        Returns
        -------
        PatchStore

        Raises
        ------
        TableError
            If a file is missing, damaged or does not fit the others.
        """
        folder = path if path.is_dir() else path.parent
        table = folder / MAP if path.is_dir() else path
        rows = tuple(_row_from_cells(row) for row in read_table(table, COLUMNS))
        store = cls(folder, rows, _read_description(folder), table)
        if store.hu.shape != (len(rows), *3 * (store.stored_vox,)) or store.hu.dtype != np.int16:
            raise TableError(
                f"{VOXELS} holds {store.hu.dtype} of shape {store.hu.shape}, {table.name} lists {len(rows)} patches; "
                "run sample again"
            )
        return store

    @cached_property
    def hu(self) -> NDArray[np.int16]:
        """Give the voxels of all patches, shape (N, S, S, S), z y x, mapped from disk and read-only.

        Raises
        ------
        TableError
            If the file is missing or damaged.
        """
        try:
            return np.load(self.folder / VOXELS, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as fault:
            raise TableError(f"{VOXELS} in {self.folder.name} cannot be read ({fault}); run sample again") from fault

    def __getstate__(self) -> dict[str, Any]:
        """Leave the mapped voxels behind: each process maps them for itself."""
        return {name: value for name, value in self.__dict__.items() if name != "hu"}

    def __len__(self) -> int:
        """Give the number of patches."""
        return len(self.rows)

    @property
    def patch_vox(self) -> int:
        """Give the edge of a patch, voxels."""
        return int(self.description["patch_vox"])

    @property
    def stored_vox(self) -> int:
        """Give the edge of a stored patch with its margin on both sides, voxels."""
        return int(self.description["stored_vox"])

    @property
    def margin_vox(self) -> int:
        """Give the voxels stored on each side of a patch."""
        return (self.stored_vox - self.patch_vox) // 2

    @cached_property
    def prepare(self) -> PrepareSettings:
        """Give how the scans were prepared: spacing and HU window."""
        return from_json(PrepareSettings, self.description["prepare"])

    @cached_property
    def labels(self) -> NDArray[np.int8]:
        """Give the labels, shape (N,), 0 or 1."""
        return np.array([row.label for row in self.rows], dtype=np.int8)

    @cached_property
    def series(self) -> frozenset[str]:
        """Give the scans that patches come from, and those that were looked at and gave none."""
        return frozenset({row.series_uid for row in self.rows} | set(self.description.get("series", ())))

    @cached_property
    def patients(self) -> frozenset[str]:
        """Give the patients that are known by name."""
        return frozenset(row.patient for row in self.rows if row.patient)

    @cached_property
    def fingerprint(self) -> str:
        """Give a hash of table and description: two folders of other patches differ in it."""
        digest = hashlib.sha256()
        for path in (self.table, self.folder / DESCRIPTION):
            digest.update(path.read_bytes())
        return digest.hexdigest()

    def cube(self, index: int, shift_zyx: tuple[int, int, int] = (0, 0, 0)) -> NDArray[np.int16]:
        """Give one patch without its margin, moved by a shift within the margin.

        Parameters
        ----------
        index : int
            Row of the table, from 0.
        shift_zyx : tuple of int
            Voxels, at most `margin_vox` in size.

        Returns
        -------
        ndarray of int16, shape (P, P, P)
            HU, z y x.
        """
        starts = [self.margin_vox + shift for shift in shift_zyx]
        assert all(0 <= start <= 2 * self.margin_vox for start in starts)
        z, y, x = (slice(start, start + self.patch_vox) for start in starts)
        return np.array(self.hu[index, z, y, x])


class PatchWriter:
    """Writes a folder of patches; it is complete when the block ends well, and as before otherwise.

    Parameters
    ----------
    folder : Path
        Made when missing; patches of an earlier run are replaced.
    prepare : PrepareSettings
        How the scans were prepared.
    patch_vox, margin_vox : int
        Edge of a patch, and voxels stored around it on each side.
    notes : dict
        Further facts for ``patches.json``: settings, scans (``series``), the leak guard.
    """

    def __init__(
        self, folder: Path, prepare: PrepareSettings, *, patch_vox: int, margin_vox: int, notes: dict[str, Any]
    ) -> None:
        self.folder, self.rows = folder, list[PatchRow]()
        self.patch_vox, self.margin_vox = patch_vox, margin_vox
        self.description = {
            "format": FORMAT_VERSION,
            "patch_vox": patch_vox,
            "stored_vox": patch_vox + 2 * margin_vox,
            "prepare": to_json(prepare),
            **notes,
        }
        self._temporary = folder / f".{VOXELS}.tmp"
        self._examples: dict[int, NDArray[np.int16]] = {}
        self._file: BinaryIO

    def __enter__(self) -> Self:
        """Begin the file of voxels."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._file = open(self._temporary, "wb")
        self._write_header()
        return self

    def add(self, row: PatchRow, hu: NDArray[np.int16]) -> None:
        """Append one patch.

        Parameters
        ----------
        row : PatchRow
            What it is.
        hu : ndarray of int16, shape (S, S, S)
            HU with the margin, z y x.
        """
        edge = self.patch_vox + 2 * self.margin_vox
        assert hu.shape == (edge, edge, edge), hu.shape
        self._file.write(np.ascontiguousarray(hu, dtype="<i2").tobytes())
        self.rows.append(row)
        if row.label not in self._examples:
            inner = slice(self.margin_vox, self.margin_vox + self.patch_vox)
            self._examples[row.label] = np.array(hu[inner, inner, inner])

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Put the files in their place, or remove what was begun."""
        try:
            if kind is None:
                self._file.seek(0)
                self._write_header()
                self._file.flush()
                os.fsync(self._file.fileno())
                self._file.close()
                self._publish()
        finally:
            self._file.close()
            self._temporary.unlink(missing_ok=True)

    def _write_header(self) -> None:
        """Write the header for the patches so far; numpy leaves room for the first axis to grow in place."""
        edge = self.patch_vox + 2 * self.margin_vox
        header = {"descr": "<i2", "fortran_order": False, "shape": (len(self.rows), edge, edge, edge)}
        np.lib.format.write_array_header_1_0(self._file, header)

    def _publish(self) -> None:
        """Write everything under temporary names, then rename: a full disk leaves the earlier patches whole."""
        with TemporaryDirectory(dir=self.folder, prefix=".new-", ignore_cleanup_errors=True) as name:
            new = Path(name)
            for label, example in self._examples.items():
                np.save(new / EXAMPLES[label], example)
            with open(new / DESCRIPTION, "w", encoding="utf-8") as file:
                json.dump(self.description | {"n_patches": len(self.rows)}, file, indent=1)
            write_table(new / MAP, COLUMNS, (_cells(number, row) for number, row in enumerate(self.rows)))
            (self.folder / MAP).unlink(missing_ok=True)  # without its table a folder cannot be mistaken for whole
            for example_name in EXAMPLES.values():
                (self.folder / example_name).unlink(missing_ok=True)
            os.replace(self._temporary, self.folder / VOXELS)
            for path in sorted(new.iterdir(), key=lambda path: path.name == MAP):  # the table last
                os.replace(path, self.folder / path.name)


def cube_around(
    hu: NDArray[np.int16], centre_zyx_vox: Sequence[int], edge_vox: int, outside_hu: float
) -> NDArray[np.int16]:
    """Give the cube around a voxel; voxels ``[centre - edge // 2, centre - edge // 2 + edge)``.

    Parameters
    ----------
    hu : ndarray, shape (z, y, x)
        Prepared scan.
    centre_zyx_vox : sequence of 3 int
        The middle; it may lie outside.
    edge_vox : int
        Edge.
    outside_hu : float
        Value where the scan has none.

    Returns
    -------
    ndarray of int16, shape (edge, edge, edge)

    Examples
    --------
    >>> cube_around(np.arange(8, dtype=np.int16).reshape(2, 2, 2), (1, 1, 1), 2, -1000).tolist()
    [[[0, 1], [2, 3]], [[4, 5], [6, 7]]]
    """
    cube = np.full((edge_vox,) * 3, outside_hu, np.int16)
    starts = [int(c) - edge_vox // 2 for c in centre_zyx_vox]
    source = tuple(slice(max(0, s), max(0, s + edge_vox)) for s in starts)
    part = hu[source]
    target = tuple(slice(max(0, -s), max(0, -s) + n) for s, n in zip(starts, part.shape, strict=True))
    cube[target] = part
    return cube


def _read_description(folder: Path) -> dict[str, Any]:
    try:
        description: dict[str, Any] = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
        if description["format"] != FORMAT_VERSION:
            raise ValueError(f"format {description['format']}, this version reads {FORMAT_VERSION}")
        from_json(PrepareSettings, description["prepare"])
        int(description["patch_vox"]), int(description["stored_vox"])
    except (OSError, ValueError, KeyError, TypeError, SettingsError) as fault:
        raise TableError(f"{DESCRIPTION} in {folder.name} cannot be read ({fault}); run sample again") from fault
    return description


def _cells(number: int, row: PatchRow) -> tuple[Cell, ...]:
    return (
        *(number, row.series_uid, row.patient, "" if row.fold is None else row.fold, row.label, row.kind),
        *row.centre_zyx_vox,
        *(Number.exact(v) for v in row.position_xyz_mm),
        "" if row.diameter_mm is None else Number.exact(row.diameter_mm),
        "" if row.nodule is None else row.nodule,
    )


def _row_from_cells(row: Row) -> PatchRow:
    def optional(column: str) -> float | None:
        return row.number(column) if row.cells[column].strip() else None

    fold, nodule, label = optional("fold"), optional("nodule"), row.number("label")
    if label not in (0, 1):
        raise TableError(f"{row.file}, line {row.line}: label is {label:g}; 1 is a nodule, 0 is none")
    z, y, x = (int(row.number(f"{axis}_vox")) for axis in "zyx")
    return PatchRow(
        series_uid=row.text("seriesuid"),
        patient=row.cells["patient"].strip(),
        fold=None if fold is None else int(fold),
        label=int(label),
        kind=row.text("kind"),
        centre_zyx_vox=(z, y, x),
        position_xyz_mm=(row.number("coordX"), row.number("coordY"), row.number("coordZ")),
        diameter_mm=optional("diameter_mm"),
        nodule=None if nodule is None else int(nodule),
    )
