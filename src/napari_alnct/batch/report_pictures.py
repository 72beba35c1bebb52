"""The examples of a report with their pictures: each scan is read once, a bad one costs its own pictures only."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from napari_alnct.batch.froc import FrocTables
from napari_alnct.batch.report_examples import Example
from napari_alnct.batch.report_images import Overlay, Panel, cut_panels, overlay_of
from napari_alnct.batch.runner import fault_of
from napari_alnct.core.errors import JobCancelled
from napari_alnct.core.findings import ReferenceNodule
from napari_alnct.core.volume import Volume
from napari_alnct.io.images import ReadOptions, read_volume
from napari_alnct.io.luna16 import Dataset, ScanEntry

Progress = Callable[[int, int], None]
NO_SCANS, NOT_AT_HAND = "no scans were given", "its scan is not among those given"
OUTSIDE = "the position lies outside the scan: table and scan do not belong together"


@dataclass(frozen=True, kw_only=True)
class Picture:
    """What can be seen of an example: three panels, or the reason why there are none (code and sentence)."""

    panels: tuple[Panel, ...] = ()
    reason: str = ""
    sentence: str = ""


def take_pictures(
    examples: Sequence[Example],
    dataset: Dataset | None,
    tables: FrocTables,
    options: ReadOptions,
    *,
    progress: Progress | None = None,
    is_cancelled: Callable[[], bool] | None = None,
) -> list[Picture]:
    """Give the picture of each example.

    Parameters
    ----------
    examples : sequence of Example
        In any order.
    dataset : Dataset or None
        Where the scans are.
    tables : FrocTables
        Annotated findings are drawn from it.
    options : ReadOptions
        What may be read.
    progress : callable, optional
        Called with scans read and scans to read.
    is_cancelled : callable, optional
        Asked before each scan.

    Returns
    -------
    list of Picture
        In the order of the examples.

    Raises
    ------
    JobCancelled
        If `is_cancelled` said so.
    """
    entries = {scan.series_uid: scan for scan in dataset.scans} if dataset else {}
    pictures: dict[int, Picture] = {}
    missing = Picture(reason=NOT_AT_HAND if dataset else NO_SCANS)
    wanted: dict[str, list[int]] = {}
    for number, example in enumerate(examples):
        if example.series_uid in entries:
            wanted.setdefault(example.series_uid, []).append(number)
        else:
            pictures[number] = missing
    reference, excluded = (_by_series(rows, wanted) for rows in (tables.annotations, tables.excluded))
    for done, (series, numbers) in enumerate(wanted.items()):
        if is_cancelled is not None and is_cancelled():
            raise JobCancelled("cancelled; nothing was written")
        if progress is not None:
            progress(done, len(wanted))
        findings = [overlay_of(finding, "reference") for finding in reference.get(series, ())]
        findings += [overlay_of(finding, "excluded") for finding in excluded.get(series, ())]
        shots = _shots(entries[series], [examples[n] for n in numbers], findings, options)
        pictures.update(zip(numbers, shots, strict=True))
    if progress is not None:
        progress(len(wanted), len(wanted))
    return [pictures[number] for number in range(len(examples))]


def _shots(
    entry: ScanEntry, examples: Sequence[Example], findings: Sequence[Overlay], options: ReadOptions
) -> list[Picture]:
    try:
        volume = read_volume(entry.path, options)
    except Exception as fault:
        code, sentence = fault_of(fault)
        return [Picture(reason=code, sentence=sentence)] * len(examples)
    return [_shot(volume, example, findings) for example in examples]


def _shot(volume: Volume, example: Example, findings: Sequence[Overlay]) -> Picture:
    if not volume.geometry.contains(example.centre_xyz_mm):
        return Picture(reason=OUTSIDE)
    mark = (overlay_of(example.mark, "mark"),) if example.mark is not None else ()
    return Picture(panels=cut_panels(volume, example.centre_xyz_mm, (*findings, *mark)))


def _by_series(rows: Iterable[ReferenceNodule], wanted: Mapping[str, object]) -> dict[str, list[ReferenceNodule]]:
    groups: dict[str, list[ReferenceNodule]] = {}
    for row in rows:
        if row.series_uid in wanted:
            groups.setdefault(row.series_uid, []).append(row)
    return groups
