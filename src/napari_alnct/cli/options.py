"""Flags that several subcommands share, written once.

A flag group is a frozen dataclass, flattened into a subcommand by
``Annotated[ReadFlags, Parameter(name="*")]``. Nothing heavy is imported here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from cyclopts import Group, Parameter

if TYPE_CHECKING:
    from napari_alnct.io.images import ReadOptions

READING = Group("Reading", sort_key=10)
PERMISSIONS = {  # phrase in a hint -> the flag that grants it
    "allow voxels that are not HU": "--allow-non-hu",
    "allow left-handed scans": "--allow-left-handed",
    "allow symbolic links": "--allow-symlinks",
    "choose one of these": "--series-uid",
}


@Parameter(name="*", group=READING)
@dataclass(frozen=True, kw_only=True)
class ReadFlags:
    """What may be read although it is doubtful, and which series of a DICOM folder.

    Parameters
    ----------
    allow_non_hu : bool
        Read voxels that do not look like Hounsfield units of a chest.
    allow_left_handed : bool
        Read MetaImage and NRRD scans with mirrored axes.
    allow_symlinks : bool
        Let a header's data file be a symbolic link out of its folder.
    series_uid : str or None
        SeriesInstanceUID to take out of a DICOM folder; by default the axial CT series with most slices.
    """

    allow_non_hu: Annotated[bool, Parameter(negative="")] = False
    allow_left_handed: Annotated[bool, Parameter(negative="")] = False
    allow_symlinks: Annotated[bool, Parameter(negative="")] = False
    series_uid: str | None = None

    def options(self) -> ReadOptions:
        """Give the flags as the reader takes them."""
        from napari_alnct.io.images import ReadOptions

        return ReadOptions(
            allow_non_hu=self.allow_non_hu,
            allow_left_handed=self.allow_left_handed,
            allow_symlinks=self.allow_symlinks,
            series_uid=self.series_uid,
        )


DEFAULT_READ_FLAGS = ReadFlags()


def with_flag(sentence: str) -> str:
    """Give a sentence in which the flag stands beside the hint that speaks of what it allows.

    Parameters
    ----------
    sentence : str
        Text of an error; the readers know no flags, because the viewer shows their hints too.

    Returns
    -------
    str

    Examples
    --------
    >>> with_flag("x.mhd: ..., or allow symbolic links [E_PATH_ESCAPE]")
    'x.mhd: ..., or allow symbolic links (--allow-symlinks) [E_PATH_ESCAPE]'
    """
    for phrase, flag in PERMISSIONS.items():
        sentence = sentence.replace(phrase, f"{phrase} ({flag})")
    return sentence
