"""Training cases on disk, mapped into memory when a patch needs them.

A *library* is a list of case folders. A folder holds the voxels (``hu.npy``, as they
are, so that a patch is one read of the disk), the lung mask (``lungs.npy``, bits), the
spots (``spots.npy``), nodules cut out as donors (``donor_0.npy`` ...) and ``case.json``,
which is written last. Each process maps at most 32 cases at a time; what it has read
is page cache that the system takes back when memory is short. A library crosses a
process border as a list of paths.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from napari_alnct.core.errors import TableError
from napari_alnct.core.geometry import Geometry
from napari_alnct.io.atomic_file import replacing_text
from napari_alnct.training.cases import SPOT_SORTS, TrainingCase
from napari_alnct.training.insertion import Donor

LIBRARY_VERSION = 1
MOST_OPEN_CASES = 32  # per process; each holds one file open
VOXELS, LUNGS, SPOTS, DESCRIPTION = "hu.npy", "lungs.npy", "spots.npy", "case.json"
POINTS = ("centres_zyx_vox", "diameters_mm", "ignored_zyx_vox", "ignored_radii_mm")


@dataclass(frozen=True, eq=False)
class CaseOverview:
    """What must be known of all cases to choose among them, without opening any.

    ``is_synthetic`` (N,): which are phantoms; ``n_nodules`` (N,): nodules in each.
    """

    is_synthetic: NDArray[np.bool_]
    n_nodules: NDArray[np.int_]

    @cached_property
    def real(self) -> NDArray[np.intp]:
        """Give the numbers of the real cases."""
        return np.flatnonzero(~self.is_synthetic)

    @cached_property
    def synthetic(self) -> NDArray[np.intp]:
        """Give the numbers of the phantoms."""
        return np.flatnonzero(self.is_synthetic)

    @cached_property
    def real_nodules(self) -> NDArray[np.intp]:
        """Give (case, nodule within it) of every nodule of a real case, shape (M, 2)."""
        pairs = [(case, k) for case in self.real for k in range(self.n_nodules[case])]
        return np.array(pairs, np.intp).reshape(-1, 2)


class CaseLibrary(Sequence[TrainingCase]):
    """Cases on disk as a sequence; the same folders always give the same cases.

    Parameters
    ----------
    folders : sequence of Path
        Case folders, in the order in which the cases are numbered.
    """

    def __init__(self, folders: Sequence[Path]) -> None:
        self.folders = tuple(folders)
        self._facts = tuple(_read_facts(folder) for folder in self.folders)
        self._open: OrderedDict[int, TrainingCase] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        """Leave mapped voxels behind: each process maps them for itself."""
        return {**self.__dict__, "_open": OrderedDict()}

    def __len__(self) -> int:
        """Give the number of cases."""
        return len(self.folders)

    @overload
    def __getitem__(self, index: int) -> TrainingCase: ...
    @overload
    def __getitem__(self, index: slice) -> CaseLibrary: ...
    def __getitem__(self, index: int | slice) -> TrainingCase | CaseLibrary:
        """Give a case, mapped; or the library of some of them."""
        if isinstance(index, slice):
            return CaseLibrary(self.folders[index])
        number = range(len(self))[index]
        if number not in self._open:
            self._open[number] = _map_case(self.folders[number], self._facts[number])
            while len(self._open) > MOST_OPEN_CASES:
                self._open.popitem(last=False)
        self._open.move_to_end(number)
        return self._open[number]

    @cached_property
    def overview(self) -> CaseOverview:
        """Give what is known of all cases without opening them."""
        return CaseOverview(
            np.array([bool(facts["is_synthetic"]) for facts in self._facts], bool),
            np.array([len(facts["diameters_mm"]) for facts in self._facts], int),
        )

    @property
    def names(self) -> tuple[str, ...]:
        """Give the names of the cases, in order."""
        return tuple(str(facts["name"]) for facts in self._facts)

    @property
    def fingerprints(self) -> tuple[str, ...]:
        """Give what each case was made from, in order."""
        return tuple(str(facts["fingerprint"]) for facts in self._facts)

    def donors(self) -> StoredDonors:
        """Give the donors cut from these cases, in order of case."""
        pairs = zip(self.folders, self._facts, strict=True)
        return StoredDonors([(folder, k, d) for folder, facts in pairs for k, d in enumerate(facts["donors"])])


class StoredDonors(Sequence[Donor]):
    """Donors on disk as a sequence, read when needed.

    Parameters
    ----------
    entries : sequence of (Path, int, dict)
        Case folder, number within it, what ``case.json`` says of it.
    more : sequence of Donor, optional
        Donors in memory that follow.
    """

    def __init__(self, entries: Sequence[tuple[Path, int, dict[str, Any]]], more: Sequence[Donor] = ()) -> None:
        self.entries, self.more = tuple(entries), tuple(more)

    @cached_property
    def diameters_mm(self) -> NDArray[np.float64]:
        """Give the diameters of all donors without reading them."""
        stored = [facts["diameter_mm"] for _, _, facts in self.entries]
        return np.array([*stored, *(donor.diameter_mm for donor in self.more)], float)

    def __len__(self) -> int:
        """Give the number of donors."""
        return len(self.entries) + len(self.more)

    def without(self, numbers: Collection[int]) -> StoredDonors:
        """Give the donors but some.

        Parameters
        ----------
        numbers : collection of int
            Those to leave out.

        Returns
        -------
        StoredDonors
        """
        left_out, n_stored = set(numbers), len(self.entries)
        entries = [entry for k, entry in enumerate(self.entries) if k not in left_out]
        return StoredDonors(entries, [d for k, d in enumerate(self.more, start=n_stored) if k not in left_out])

    @overload
    def __getitem__(self, index: int) -> Donor: ...
    @overload
    def __getitem__(self, index: slice) -> list[Donor]: ...
    def __getitem__(self, index: int | slice) -> Donor | list[Donor]:
        """Give a donor, read from disk; or a list of some."""
        if isinstance(index, slice):
            return [self[i] for i in range(len(self))[index]]
        number = range(len(self))[index]
        if number >= len(self.entries):
            return self.more[number - len(self.entries)]
        folder, k, facts = self.entries[number]
        contrast, outline = np.load(folder / _donor_file(k), allow_pickle=False)
        centre = np.array(facts["centre_zyx_vox"], float)
        return Donor(contrast, outline, centre, facts["level_hu"], facts["diameter_mm"], facts["name"])


def overview_of(cases: Sequence[TrainingCase]) -> CaseOverview:
    """Give the overview of any cases; a library's needs no opening.

    Parameters
    ----------
    cases : sequence of TrainingCase
        A library, or cases in memory.

    Returns
    -------
    CaseOverview
    """
    if isinstance(cases, CaseLibrary):
        return cases.overview
    return CaseOverview(
        np.array([case.is_synthetic for case in cases], bool),
        np.array([len(case.diameters_mm) for case in cases], int),
    )


def is_stored(folder: Path, fingerprint: str) -> bool:
    """Tell whether a folder holds the whole case that was made from this.

    Parameters
    ----------
    folder : Path
        Case folder; it may be missing.
    fingerprint : str
        What the case is made from.

    Returns
    -------
    bool
    """
    try:
        facts = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
        return bool((facts["version"], facts["fingerprint"]) == (LIBRARY_VERSION, fingerprint))
    except (OSError, ValueError, KeyError, TypeError):
        return False


def write_case(folder: Path, case: TrainingCase, donors: Sequence[Donor], fingerprint: str) -> None:
    """Write a case folder; ``case.json`` appears last, so a folder that has it is whole.

    Parameters
    ----------
    folder : Path
        Made when missing; an older case in it is replaced.
    case : TrainingCase
        What to store.
    donors : sequence of Donor
        Nodules cut from it.
    fingerprint : str
        What the case was made from.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / DESCRIPTION).unlink(missing_ok=True)
    np.save(folder / VOXELS, case.hu)
    np.save(folder / LUNGS, case.lung_bits)
    np.save(folder / SPOTS, np.concatenate([case.spots[sort] for sort in SPOT_SORTS]))
    for number, donor in enumerate(donors):
        np.save(folder / _donor_file(number), np.stack([donor.contrast_hu, donor.outline]))
    facts = {
        "version": LIBRARY_VERSION,
        "fingerprint": fingerprint,
        "name": case.name,
        "is_synthetic": case.is_synthetic,
        "geometry": asdict(case.geometry),
        "n_spots": [len(case.spots[sort]) for sort in SPOT_SORTS],
        **{name: getattr(case, name).tolist() for name in POINTS},
        "donors": [_donor_facts(donor) for donor in donors],
    }
    with replacing_text(folder / DESCRIPTION) as stream:
        json.dump(facts, stream)


def _donor_file(number: int) -> str:
    return f"donor_{number}.npy"


def _donor_facts(donor: Donor) -> dict[str, Any]:
    centre = donor.centre_zyx_vox.tolist()
    numbers = {"level_hu": donor.level_hu, "diameter_mm": donor.diameter_mm}
    return {"name": donor.name, "centre_zyx_vox": centre, **numbers}


def _read_facts(folder: Path) -> dict[str, Any]:
    try:
        facts: dict[str, Any] = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
    except (OSError, ValueError) as fault:
        raise TableError(
            f"{folder.name}/{DESCRIPTION} cannot be read ({fault}); give the same command again"
        ) from fault
    return facts


def _map_case(folder: Path, facts: dict[str, Any]) -> TrainingCase:
    """Give a case with its voxels mapped; what is small is read."""
    spots = np.split(np.load(folder / SPOTS), np.cumsum(facts["n_spots"])[:-1])
    points = {name: np.array(facts[name], float) for name in POINTS}
    return TrainingCase(
        name=facts["name"],
        hu=np.load(folder / VOXELS, mmap_mode="r"),
        lung_bits=np.load(folder / LUNGS),
        centres_zyx_vox=points["centres_zyx_vox"].reshape(-1, 3),
        diameters_mm=points["diameters_mm"],
        ignored_zyx_vox=points["ignored_zyx_vox"].reshape(-1, 3),
        ignored_radii_mm=points["ignored_radii_mm"],
        geometry=Geometry(**{key: tuple(value) for key, value in facts["geometry"].items()}),
        is_synthetic=facts["is_synthetic"],
        spots=dict(zip(SPOT_SORTS, spots, strict=True)),
    )
