"""A reading as files: findings as CSV, the whole as JSON, LUNA16's table, the report as HTML.

Every file reads back as it was written. All files of one export appear together and whole, or
none does and older ones stay. Numbers are world LPS mm and carry all their digits.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Literal

from napari_alnct.core.errors import ReviewError, SettingsError
from napari_alnct.core.notice import NOTICE
from napari_alnct.core.volume import Volume
from napari_alnct.io.atomic_file import replacing_text
from napari_alnct.io.review_record import CAVEATS, Reading, reading_text
from napari_alnct.io.review_report import ReportOptions, report_html
from napari_alnct.io.review_tables import findings_text, luna16_text
from napari_alnct.io.reviews import reader_folder

Format = Literal["html", "csv", "json", "luna16"]
ENDINGS: dict[Format, str] = {"html": ".html", "csv": "_findings.csv", "json": ".json", "luna16": "_luna16.csv"}
REMARKS = "_remarks.txt"  # beside tables, which have no place for sentences
NAME_DIGITS = 8


def file_names(reading: Reading, formats: Sequence[Format]) -> dict[Format | Literal["remarks"], str]:
    """Give the names of the files of an export; nothing in them names the patient.

    Parameters
    ----------
    reading : Reading
        What was read.
    formats : sequence of str
        Some of ``html``, ``csv``, ``json``, ``luna16``.

    Returns
    -------
    dict of str to str
        Tables come with ``remarks``.
    """
    stem = f"reading_{reading.scan.voxel_sha256[:NAME_DIGITS]}_{reader_folder(reading.reader)}"
    names: dict[Format | Literal["remarks"], str] = {kind: stem + ENDINGS[kind] for kind in ENDINGS if kind in formats}
    return names | {"remarks": stem + REMARKS} if {"csv", "luna16"} & set(formats) else names


def remarks_text(reading: Reading) -> str:
    """Give what a table cannot say of itself: what was found, what is open, and every caveat.

    Parameters
    ----------
    reading : Reading
        What was read.

    Returns
    -------
    str
    """
    summary = reading.summary
    return "\n".join(
        (
            *(NOTICE, "", *summary.results, *summary.cautions, ""),
            *(flag.text for flag in reading.scan.flags),
            "coordX, coordY, coordZ and diameter_mm are mm, world LPS: +x to the patient's left, +y to the back, +z to "
            "the head. probability is the detector's score, and 1 for marks of the reader's own.",
            *("", *CAVEATS[1:], ""),
        )
    )


def export_reading(
    folder: Path,
    reading: Reading,
    volume: Volume | None,
    formats: Sequence[Format],
    *,
    with_all: bool = False,
    options: ReportOptions | None = None,
) -> list[Path]:
    """Write the files of an export: all of them, or none.

    Parameters
    ----------
    folder : Path
        Made when missing.
    reading : Reading
        What was read.
    volume : Volume or None
        The scan, for key images.
    formats : sequence of str
        Some of ``html``, ``csv``, ``json``, ``luna16``.
    with_all : bool, optional
        Write all marks into the tables, not only findings.
    options : ReportOptions, optional
        How the report shows the scan.

    Returns
    -------
    list of Path
        Files written.

    Raises
    ------
    ReviewError
        If the reading cannot be exported so.
    SettingsError
        If the folder cannot be written, or the disk is full; older files stay.
    """
    makers = {
        "html": lambda: report_html(reading, volume, options or ReportOptions()),
        "csv": lambda: findings_text(reading, with_all=with_all),
        "json": lambda: reading_text(reading),
        "luna16": lambda: luna16_text(reading, with_all=with_all),
        "remarks": lambda: remarks_text(reading),
    }
    texts = {name: makers[kind]() for kind, name in file_names(reading, formats).items()}
    if not texts:
        raise SettingsError("no format is chosen; choose at least one of report, findings, whole reading, LUNA16 table")
    return write_together(Path(folder), texts)


def write_together(folder: Path, texts: Mapping[str, str]) -> list[Path]:
    """Write files that take their names together, when all of them are whole on the disk.

    Parameters
    ----------
    folder : Path
        Made when missing.
    texts : mapping of str to str
        File name to content.

    Returns
    -------
    list of Path

    Raises
    ------
    ReviewError
        If a text is no valid Unicode.
    SettingsError
        If they cannot be written; older files of these names stay as they were.
    """
    paths = [folder / name for name in texts]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _refuse_folders(paths)
        with ExitStack() as open_files:
            for path, text in zip(paths, texts.values(), strict=True):
                stream = open_files.enter_context(replacing_text(path))
                stream.write(text)
                stream.flush()
                os.fsync(stream.fileno())
    except UnicodeEncodeError as error:
        raise ReviewError("a note holds a character that no file can hold; type the note again, then export") from error
    except OSError as error:
        raise SettingsError(
            f"{paths[0].name} and its companions: the folder {folder.name or folder} cannot be written "
            f"({error.strerror or error}); choose another folder or free some space, then export again"
        ) from error
    return paths


def _refuse_folders(paths: Sequence[Path]) -> None:
    """Refuse names that are folders: nothing can take their place, and some files would be new and some old."""
    for path in paths:
        if path.is_dir():
            raise SettingsError(f"{path.name} is a folder there; choose another folder")
