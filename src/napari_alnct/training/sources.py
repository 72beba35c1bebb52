"""Where training cases and donors come from: the development data pack and phantoms.

The pack (see docs/model-data.md) holds lung-cropped scans at 1 mm with lung
masks, annotations in world mm, and nodule cubes with outlines. Names of scans
and cubes can be held out; what is held out is never read.
"""

from __future__ import annotations

import csv
import zipfile
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_alnct.core.config import PrepareSettings
from napari_alnct.core.errors import TableError
from napari_alnct.core.preprocess import prepare
from napari_alnct.data.phantom import PhantomScan
from napari_alnct.io.metaimage import read_metaimage
from napari_alnct.training.cases import TrainingCase, make_case
from napari_alnct.training.insertion import Donor, make_donor

CUBES = Path("nodules") / "lidc_nodules.npz"
UNLABELLED = ("QIN-LSC-0003", "QIN-LSC-0009")  # lesions present but not marked: never used
BAD_CUBES = ("307_nod1_ann0",)  # outline implausible (README of the pack)


def pack_case_names(pack: Path) -> list[str]:
    """Give the names of the usable training volumes of the data pack.

    Parameters
    ----------
    pack : Path
        Folder of the data pack.

    Returns
    -------
    list of str
    """
    with (pack / "training" / "scans.csv").open(newline="") as stream:
        names = [row["case"] for row in csv.DictReader(stream)]
    return [name for name in names if name not in UNLABELLED]


def pack_series(pack: Path) -> dict[str, str]:
    """Give the series UID of every volume of the data pack.

    Parameters
    ----------
    pack : Path
        Folder of the data pack.

    Returns
    -------
    dict of str to str
        Case name to series UID; the case name again where the pack gives none.
    """
    with (pack / "training" / "scans.csv").open(newline="") as stream:
        return {row["case"]: row["seriesuid"] or row["case"] for row in csv.DictReader(stream)}


def load_pack_cases(pack: Path, *, leave_out: Collection[str] = ()) -> Iterator[TrainingCase]:
    """Give the annotated volumes of the data pack as training cases.

    Parameters
    ----------
    pack : Path
        Folder of the data pack.
    leave_out : collection of str
        Case names that must not be read.

    Yields
    ------
    TrainingCase
    """
    folder = pack / "training"
    with (folder / "scans.csv").open(newline="") as stream:
        scans = [row for row in csv.DictReader(stream) if row["case"] not in (*UNLABELLED, *leave_out)]
    nodules, excluded = _rows(folder / "annotations.csv"), _rows(folder / "annotations_excluded.csv")
    for scan in scans:
        keys = {scan["case"], scan["seriesuid"]}
        image, lung = (
            read_metaimage(folder / f"{scan['case']}.mha"),
            read_metaimage(folder / f"{scan['case']}_lung.mha"),
        )
        found = _select(nodules, keys)
        ignored = _select(excluded, keys)
        yield make_case(
            scan["case"],
            image.array.astype(np.int16, copy=False),
            lung.array > 0,
            image.geometry,
            nodules_xyz_mm=found[:, :3],
            diameters_mm=found[:, 3],
            excluded_xyz_mm=ignored[:, :3],
            excluded_diameters_mm=ignored[:, 3],
        )


def load_pack_donors(pack: Path, *, ceiling_hu: float, leave_out: Collection[str] = ()) -> list[Donor]:
    """Give the nodule cubes of the data pack as donors.

    Parameters
    ----------
    pack : Path
        Folder of the data pack.
    ceiling_hu : float
        Upper end of the window that donors share with hosts.
    leave_out : collection of str
        Cube names that must not be used.

    Returns
    -------
    list of Donor
        In the order of the file.
    """
    return load_cubes(pack / CUBES, ceiling_hu=ceiling_hu, leave_out=leave_out)


def load_cubes(path: Path, *, ceiling_hu: float, leave_out: Collection[str] = ()) -> list[Donor]:
    """Give the nodule cubes of a file as donors.

    Parameters
    ----------
    path : Path
        ``.npz`` with ``hu`` (N, e, e, e) int16 at 1 mm, ``mask``, ``name`` and ``diameter_mm``.
    ceiling_hu : float
        Upper end of the window that donors share with hosts.
    leave_out : collection of str
        Cube names that must not be used.

    Returns
    -------
    list of Donor
        In the order of the file.

    Raises
    ------
    TableError
        If it is no such file.
    """
    try:
        with np.load(path, allow_pickle=False) as cubes:
            hu, masks, names, diameters = (cubes[key] for key in ("hu", "mask", "name", "diameter_mm"))
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as fault:
        raise TableError(
            f"{path.name} holds no nodule cubes ({fault}); name a file such as lidc_nodules.npz of the data pack"
        ) from fault
    return [
        make_donor(hu[i], masks[i] > 0, float(diameters[i]), ceiling_hu=ceiling_hu, name=str(names[i]))
        for i in range(len(names))
        if str(names[i]) not in (*BAD_CUBES, *leave_out)
    ]


def cube_names(pack: Path) -> list[str]:
    """Give the names of the usable nodule cubes of the data pack.

    Parameters
    ----------
    pack : Path
        Folder of the data pack.

    Returns
    -------
    list of str
    """
    names = np.load(pack / CUBES)["name"]
    return [str(name) for name in names if str(name) not in BAD_CUBES]


def phantom_case(scan: PhantomScan, settings: PrepareSettings) -> TrainingCase:
    """Give a phantom as training case, prepared as any scan would be.

    Parameters
    ----------
    scan : PhantomScan
        Generated scan with its truth.
    settings : PrepareSettings
        Spacing must be 1 mm.

    Returns
    -------
    TrainingCase
    """
    prepared = prepare(scan.volume, settings)
    nodules = np.array([(*n.position_xyz_mm, n.diameter_mm) for n in scan.nodules]).reshape(-1, 4)
    excluded = np.array([(*n.position_xyz_mm, n.diameter_mm) for n in scan.excluded]).reshape(-1, 4)
    return make_case(
        scan.volume.series_uid,
        prepared.hu,
        prepared.lungs.on_grid(prepared.geometry),
        prepared.geometry,
        nodules_xyz_mm=nodules[:, :3],
        diameters_mm=nodules[:, 3],
        excluded_xyz_mm=excluded[:, :3],
        excluded_diameters_mm=excluded[:, 3],
        is_synthetic=True,
    )


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def _select(rows: Sequence[dict[str, str]], keys: set[str]) -> NDArray[np.float64]:
    """Give (x, y, z, diameter) of the rows of one scan, shape (N, 4)."""
    columns = ("coordX", "coordY", "coordZ", "diameter_mm")
    found = [[float(row[c]) for c in columns] for row in rows if row["seriesuid"] in keys]
    return np.array(found, float).reshape(-1, 4)
