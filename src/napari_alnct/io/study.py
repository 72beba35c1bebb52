"""A reader study as a file: which cases, which readers, and the seed of each reader's order.

A case has a name of its own, ``case-01``, that tables use; the file that it is read from stands in the
study file alone. Each reader sees the cases in an order of their own, which follows from the seed, so
that fatigue and learning do not fall on the same cases.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_alnct import __version__
from napari_alnct.core.errors import TableError
from napari_alnct.core.notice import NOTICE
from napari_alnct.io.atomic_file import replacing_text
from napari_alnct.io.reviews import reader_folder

FORM, SCHEMA = "napari-alnct study", 1


@dataclass(frozen=True, kw_only=True)
class StudyCase:
    """A scan of a study: its name in tables, where it lies, and the hash of its voxels."""

    name: str
    path: Path
    voxel_sha256: str


@dataclass(frozen=True, kw_only=True)
class Study:
    """Cases and readers.

    Parameters
    ----------
    cases : tuple of StudyCase
        In the order of their names.
    readers : tuple of str
        Who reads; each reads all cases.
    seed : int
        Of the orders.

    Raises
    ------
    TableError
        If there is no case or no reader, or two that cannot be told apart.
    """

    cases: tuple[StudyCase, ...]
    readers: tuple[str, ...]
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse studies that would mix up readings."""
        if not self.cases or not self.readers:
            raise TableError(
                f"a study needs cases and readers, found {len(self.cases)} and {len(self.readers)}; name at least one"
            )
        for what, values in (
            ("case names", [case.name for case in self.cases]),
            ("scans with the same voxels", [case.voxel_sha256 for case in self.cases]),
            ("readers of the same folder name", [reader_folder(reader) for reader in self.readers]),
        ):
            twice = [value for value, n in Counter(values).items() if n > 1]
            if twice:
                raise TableError(f"the study has {what} twice: {twice[0][:16]}; keep one of each")

    def order_for(self, reader: str) -> tuple[StudyCase, ...]:
        """Give the cases in the order in which a reader is to read them.

        Parameters
        ----------
        reader : str
            One of the readers, as typed in the Preferences; case and blanks do not matter.

        Returns
        -------
        tuple of StudyCase
            The same seed, readers and cases always give the same order, on every machine.

        Raises
        ------
        TableError
            If nobody of this name reads.
        """
        folder = reader_folder(reader)
        if folder not in map(reader_folder, self.readers):
            raise TableError(
                f"{reader or 'a nameless reader'} does not read in this study; {', '.join(self.readers)} do"
            )

        def place(case: StudyCase) -> str:
            """Give what orders a case: a hash of seed, reader and voxels."""
            return hashlib.sha256(f"{self.seed}:{folder}:{case.voxel_sha256}".encode()).hexdigest()

        return tuple(sorted(self.cases, key=place))


def name_cases(paths: Sequence[Path], hashes: Sequence[str]) -> tuple[StudyCase, ...]:
    """Give cases with names that say nothing.

    Parameters
    ----------
    paths : sequence of Path
        Scans.
    hashes : sequence of str
        SHA-256 of their voxels, which decide on the numbers: names do not follow the order of the files.

    Returns
    -------
    tuple of StudyCase
    """
    ranked = sorted(zip(hashes, paths, strict=True))
    digits = max(2, len(str(len(ranked))))
    return tuple(
        StudyCase(name=f"case-{number:0{digits}d}", path=path, voxel_sha256=sha256)
        for number, (sha256, path) in enumerate(ranked, start=1)
    )


def write_study(path: Path, study: Study) -> None:
    """Write a study file; scans below its folder are named relative to it.

    Parameters
    ----------
    path : Path
        JSON file; appears complete or not at all.
    study : Study
        What to write.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    path = Path(path)
    folder = path.absolute().parent
    content = {
        "notice": NOTICE,
        "form": FORM,
        "schema": SCHEMA,
        "software": __version__,
        "seed": study.seed,
        "readers": list(study.readers),
        "cases": [
            {"name": case.name, "file": _relative(case.path, folder), "voxel_sha256": case.voxel_sha256}
            for case in study.cases
        ],
    }
    with replacing_text(path) as stream:
        json.dump(content, stream, indent=1)
        stream.write("\n")


def read_study(path: Path) -> Study:
    """Give the study of a file.

    Parameters
    ----------
    path : Path
        JSON file of `write_study`, or written by hand in the same form.

    Returns
    -------
    Study
        With absolute paths.

    Raises
    ------
    TableError
        If it is no study file, or a part is missing or of the wrong kind.
    """
    path = Path(path)
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise TableError(f"{path.name} cannot be read ({error.strerror}); check the path") from error
    except ValueError:
        values = None
    if not isinstance(values, dict) or values.get("form") != FORM:
        raise TableError(f"{path.name} is no study file; make one with `napari-alnct-train study`")
    if values.get("schema") != SCHEMA:
        raise TableError(f"{path.name} has form {values.get('schema')}, this version reads {SCHEMA}; make it anew")
    try:
        cases = tuple(_case(case, path.absolute().parent) for case in values["cases"])
        readers = tuple(_text(reader) for reader in values["readers"])
        seed = int(values["seed"])
    except (KeyError, TypeError, ValueError) as fault:
        raise TableError(f"{path.name}: a part of the study is missing or of the wrong kind ({fault})") from fault
    return Study(cases=cases, readers=readers, seed=seed)


def _case(values: Any, folder: Path) -> StudyCase:
    return StudyCase(
        name=_text(values["name"]),
        path=folder / _text(values["file"]),
        voxel_sha256=_text(values["voxel_sha256"]),
    )


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise TypeError(f"{value!r:.40} is no text")
    return value


def _relative(path: Path, folder: Path) -> str:
    path = path.absolute()
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else path.as_posix()
