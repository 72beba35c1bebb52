"""A whole reading as one value and as one JSON file: review, audit log, scan, and what is still open.

Nothing in a record names the patient unless the user asks for it: series are hashes, and
sentences and names that could hold a file name or an identifier are left out.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from napari_alnct import __version__
from napari_alnct.core.errors import ReadError, ReviewError, TableError
from napari_alnct.core.geometry import Shape, Triple
from napari_alnct.core.notice import CATEGORY_CAVEAT, HEATMAP_CAVEAT, NOTICE, THRESHOLD_CAVEAT
from napari_alnct.core.proposals import TABLE_NAME
from napari_alnct.core.review import Review, replay
from napari_alnct.core.review_actions import TABLES, ReviewAction, SetCandidates, action_from_json, action_to_json
from napari_alnct.core.review_summary import ReviewSummary, summarise
from napari_alnct.core.volume import QualityFlag, Volume
from napari_alnct.io.identifiers import short_hash, without_uids
from napari_alnct.io.reviews import AuditEntry

FORM, SCHEMA = "napari-alnct reading", 1
CAVEATS = (
    NOTICE,
    f"Threshold: {THRESHOLD_CAVEAT}",
    "An empty list of marks does not mean that there is no nodule.",
    f"Categories, where given: {CATEGORY_CAVEAT}",
    f"Heatmaps, where shown: {HEATMAP_CAVEAT}",
)
FLAG_TEXT = {  # in place of sentences that quote a file
    "several_series": "The folder of the scan held more than one series.",
    "header": "The header of the file contradicts itself; what was used is told when the scan is opened.",
}
PATH = re.compile(r"(^|\s)[/~]|[A-Za-z]:[\\/]|\w[\\/]\w+[\\/]")


@dataclass(frozen=True, kw_only=True)
class ScanFacts:
    """What an export says of the scan.

    Parameters
    ----------
    series : str
        Hash of the series identifier, or the identifier itself.
    is_clear : bool
        Whether `series` is the identifier itself.
    voxel_sha256 : str
        Identity of the scan.
    shape_zyx : tuple of int
        Voxels.
    spacing_zyx_mm, origin_xyz_mm : tuple of float
        The LPS grid, mm.
    flags : tuple of QualityFlag
        What a reader should know about the scan.
    """

    series: str
    is_clear: bool
    voxel_sha256: str
    shape_zyx: Shape
    spacing_zyx_mm: Triple
    origin_xyz_mm: Triple
    flags: tuple[QualityFlag, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Reading:
    """A review with all that an export tells beside it.

    Parameters
    ----------
    review : Review
        Where it stands; it follows from the entries.
    entries : tuple of AuditEntry
        The log.
    scan : ScanFacts
        What was read.
    has_failed : bool
        Whether the last run of the detector failed.
    fault : str
        Why, as far as it may be told.
    seen_share : float or None
        Share of the slices that the main view has shown, 0 to 1; None when not known.
    seen_of_lungs : bool
        Whether it is the share of the slices with lung, else of all.
    """

    review: Review
    entries: tuple[AuditEntry, ...]
    scan: ScanFacts
    has_failed: bool = False
    fault: str = ""
    seen_share: float | None = None
    seen_of_lungs: bool = False

    @property
    def reader(self) -> str:
        """Give who acted last, empty before the first action."""
        return self.entries[-1].reader if self.entries else ""

    @property
    def actions(self) -> tuple[ReviewAction, ...]:
        """Give what led to the review."""
        return tuple(entry.action for entry in self.entries)

    @property
    def summary(self) -> ReviewSummary:
        """Give what the reading came to, in words."""
        return summarise(self.review, self.actions, has_failed=self.has_failed)


def reading_of(
    review: Review,
    volume: Volume,
    entries: Sequence[AuditEntry] = (),
    *,
    is_clear: bool = False,
    fault: Exception | str | None = None,
    seen_share: float | None = None,
    seen_of_lungs: bool = False,
) -> Reading:
    """Give a reading as it may be exported.

    Parameters
    ----------
    review : Review
        Where it stands.
    volume : Volume
        The scan.
    entries : sequence of AuditEntry
        The whole log.
    is_clear : bool, optional
        Keep the series identifier and all sentences as they are; only for data that are public.
    fault : Exception or str, optional
        Why the last run of the detector failed; None when it did not, or never ran.
    seen_share : float, optional
        Share of the slices seen.
    seen_of_lungs : bool, optional
        Whether of the slices with lung alone.

    Returns
    -------
    Reading
    """
    grid, uid = volume.geometry, volume.series_uid
    scan = ScanFacts(
        series=uid if is_clear else short_hash(uid),
        is_clear=is_clear,
        voxel_sha256=volume.voxel_sha256,
        shape_zyx=grid.shape_zyx,
        spacing_zyx_mm=grid.spacing_zyx_mm,
        origin_xyz_mm=grid.origin_xyz_mm,
        flags=tuple(flag if is_clear else _unnamed_flag(flag, uid) for flag in volume.flags),
    )
    reading = Reading(
        review=review,
        entries=tuple(entries),
        scan=scan,
        has_failed=fault is not None,
        fault="" if fault is None else str(fault) if is_clear else _fault_kind(fault),
        seen_share=seen_share,
        seen_of_lungs=seen_of_lungs,
    )
    return reading if is_clear else _without_table_names(reading)


def reading_text(reading: Reading) -> str:
    """Give a reading as JSON.

    Parameters
    ----------
    reading : Reading
        Its review must follow from its log, and its marks must not be hidden.

    Returns
    -------
    str

    Raises
    ------
    ReviewError
        If the log leads to another review, or the first read is not ended.
    """
    review = reading.review
    if not review.is_unlocked and any(not mark.is_own for mark in review.marks):
        raise ReviewError("the whole reading holds the detector's hidden marks; end the first read, then export again")
    if replay(reading.actions) != review:
        raise ReviewError("the log of this reading leads to another state than the one shown; open the scan again")
    summary = reading.summary
    content = {
        "notice": NOTICE,
        "caveats": list(CAVEATS),
        "form": FORM,
        "schema": SCHEMA,
        "software": __version__,
        "result": list(summary.results),
        "open": list(summary.cautions),
        "scan": asdict(reading.scan),
        "reader": reading.reader,
        "has_failed": reading.has_failed,
        "fault": reading.fault,
        "seen_share": reading.seen_share,
        "seen_of_lungs": reading.seen_of_lungs,
        "review": _state(review),
        "audit": [_entry_values(entry) for entry in reading.entries],
    }
    return json.dumps({**content, "checksum": _checksum(content)}, indent=1) + "\n"


def read_reading(path: Path) -> Reading:
    """Give the reading that `reading_text` wrote.

    Parameters
    ----------
    path : Path
        JSON file.

    Returns
    -------
    Reading

    Raises
    ------
    TableError
        If it is no such file, was changed, or comes from another version.
    """
    path = Path(path)
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        is_ours = values["form"] == FORM and isinstance(values["schema"], int)
    except OSError as error:
        raise TableError(f"{path.name} cannot be read ({error.strerror}); check the path") from error
    except (ValueError, KeyError, TypeError):
        is_ours = False
    if not is_ours:
        raise TableError(f"{path.name} is no exported reading; choose the JSON file that the Report tab has written")
    if values["schema"] != SCHEMA:
        raise TableError(f"{path.name} has form {values['schema']}, this version reads {SCHEMA}; open it with its own")
    if values.pop("checksum", None) != _checksum(values):
        raise TableError(f"{path.name} was changed or is damaged; export the reading again")
    entries = tuple(AuditEntry(**{**entry, "action": action_from_json(entry["action"])}) for entry in values["audit"])
    scan = values["scan"]
    facts = ScanFacts(
        **{
            **scan,
            **{name: tuple(scan[name]) for name in ("shape_zyx", "spacing_zyx_mm", "origin_xyz_mm")},
            "flags": tuple(QualityFlag(**flag) for flag in scan["flags"]),
        }
    )
    return Reading(
        review=replay(entry.action for entry in entries),
        entries=entries,
        scan=facts,
        has_failed=values["has_failed"],
        fault=values["fault"],
        seen_share=values["seen_share"],
        seen_of_lungs=values.get("seen_of_lungs", False),  # not in files of earlier versions
    )


def _state(review: Review) -> dict[str, Any]:
    """Give the state for other programs; this one restores it from the log."""
    values = asdict(review)
    for name in ("undone", "redone", "last_id"):
        del values[name]
    for name in TABLES:
        values[name] = {str(rate): value for rate, value in values[name].items()}
    values["findings"] = [mark.mark_id for mark in review.findings]
    return values


def _entry_values(entry: AuditEntry) -> dict[str, Any]:
    return {
        "number": entry.number,
        "utc": entry.utc,
        "reader": entry.reader,
        "software": entry.software,
        "action": action_to_json(entry.action),
    }


def _checksum(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _unnamed_flag(flag: QualityFlag, series_uid: str) -> QualityFlag:
    text = FLAG_TEXT.get(flag.code, flag.text)
    if series_uid:
        text = text.replace(series_uid, short_hash(series_uid))
    return QualityFlag(flag.code, "(a remark that names a file)" if PATH.search(text) else without_uids(text))


def _fault_kind(fault: Exception | str) -> str:
    """Give a fault without its sentence, which names the file."""
    if isinstance(fault, ReadError):
        return fault.code
    return "" if isinstance(fault, str) else type(fault).__name__


def _without_table_names(reading: Reading) -> Reading:
    """Give the reading without names that came without a model's hash: they may be those of files."""

    def unnamed(name: str, sha256: str) -> str:
        return TABLE_NAME if name and (not sha256 or PATH.search(name)) else name

    def entry_without(entry: AuditEntry) -> AuditEntry:
        action = entry.action
        if not isinstance(action, SetCandidates):
            return entry
        return replace(entry, action=replace(action, model_name=unnamed(action.model_name, action.model_sha256)))

    review = reading.review
    return replace(
        reading,
        review=replace(review, model_name=unnamed(review.model_name, review.model_sha256)),
        entries=tuple(map(entry_without, reading.entries)),
    )
