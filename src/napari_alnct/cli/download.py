"""The subcommand ``download``: the LUNA16 data set from its public records."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter, validators

from napari_alnct.cli.outputs import refuse_unwritable_folder
from napari_alnct.core.errors import SettingsError

if TYPE_CHECKING:
    from napari_alnct.batch.download import Report
    from napari_alnct.batch.download_plan import Plan
    from napari_alnct.io.luna16_files import Choice
    from napari_alnct.io.zenodo import ZenodoRecord

CITATION = """Cite LUNA16 and the collection of its scans:
  Setio et al., Validation, comparison, and combination of algorithms for automatic detection of pulmonary nodules
  in computed tomography images: the LUNA16 challenge, Med Image Anal 42:1-13, 2017, doi:10.1016/j.media.2017.06.015
  Armato et al., The Lung Image Database Consortium (LIDC) and Image Database Resource Initiative (IDRI),
  Med Phys 38(2):915-931, 2011, doi:10.1118/1.3528204"""


def execute(
    *,
    out: Path,
    subsets: Annotated[tuple[str, ...], Parameter(consume_multiple=True, negative=())] = ("0-9",),
    masks: bool = True,
    jobs: Annotated[int, Parameter(validator=validators.Number(gte=1, lte=8))] = 3,
    keep_archives: Annotated[bool, Parameter(negative="")] = False,
    dry_run: Annotated[bool, Parameter(negative="")] = False,
) -> int:
    """Fetch the LUNA16 data set from Zenodo (records 3723295 and 4121926).

    Names, sizes, MD5 and addresses come from the records at run time and are kept in
    zenodo_records.json. Every file is verified, unpacked into the layout that preprocess
    reads, and its archive removed. A stopped or broken run goes on where it ended when
    the same command is given again; what is in place is not fetched again. The whole
    set is about 66 GB to fetch and 120 GB on the disk; --dry-run tells exactly.

    Parameters
    ----------
    out
        Folder of the data set; made when missing. Archives that you have already go into its folder archives.
    subsets
        Subsets of scans, such as 0-9, 0 1 5 or 0,3; none for tables and masks only.
    masks
        Fetch the lung masks too.
    jobs
        Files on the way at a time.
    keep_archives
        Keep the zip archives after unpacking.
    dry_run
        List files, sizes, what is there and the room on the disk; fetch and write nothing.

    Examples
    --------
    napari-alnct-train download --out luna16_data --dry-run
    napari-alnct-train download --out luna16_data --subsets 0-9
    napari-alnct-train download --out luna16_data --subsets 0 8 9 --jobs 2 --keep-archives
    """
    from napari_alnct.batch.download_plan import plan_download
    from napari_alnct.io.luna16_files import RECORDS, choose_files
    from napari_alnct.io.zenodo import read_record

    chosen = parse_subsets(subsets)
    refuse_unwritable_folder(out)
    records = [read_record(record) for record in RECORDS]
    choice = choose_files((file for record in records for file in record.files), chosen, with_masks=masks)
    plan = plan_download(out, choice.files, n_jobs=jobs, keep_archives=keep_archives)
    for what in choice.missing:
        print(f"the records hold no file with {what}", file=sys.stderr)
    if dry_run:
        print(_listing(plan, choice, records))
        return 0
    plan.refuse_full_disk()
    report = _run(plan, records, jobs, keep_archives)
    if not report.failed:
        print(_summary(plan, out, records))
        return 0
    for sentence in report.failed:
        print(sentence, file=sys.stderr)
    print(f"{len(report.done)} files in place, {len(report.failed)} failed; give the same command again to go on")
    return 4


def parse_subsets(texts: Sequence[str]) -> tuple[int, ...]:
    """Give the subsets that a user names.

    Parameters
    ----------
    texts : sequence of str
        Words such as ``0-3``, ``5`` or ``0,3``; ``none`` for no subset.

    Returns
    -------
    tuple of int
        In order, each once.

    Raises
    ------
    SettingsError
        If a word is no number or range from 0 to 9.

    Examples
    --------
    >>> parse_subsets(["0-2", "5,7"])
    (0, 1, 2, 5, 7)
    """
    words = [word for text in texts for word in text.split(",") if word]
    if words == ["none"]:
        return ()
    found: set[int] = set()
    for word in words:
        match = re.fullmatch(r"(\d)(?:-(\d))?", word)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if first > last:
            raise SettingsError(f"--subsets takes numbers from 0 to 9 such as 0-9, 0 1 5 or 0,3, found {word!r}")
        found.update(range(first, last + 1))
    if not found:
        raise SettingsError("--subsets needs at least one number, such as 0-9, or none")
    return tuple(sorted(found))


def _run(plan: Plan, records: Sequence[ZenodoRecord], jobs: int, keep_archives: bool) -> Report:
    from napari_alnct.batch.download import Watch, run_download
    from napari_alnct.cli.download_bar import DownloadBar

    try:
        with DownloadBar() as bar:
            watch = Watch(on_bytes=bar.show, on_done=bar.finish)
            return run_download(plan, records, n_jobs=jobs, keep_archives=keep_archives, watch=watch)
    except KeyboardInterrupt:
        print("stopped; what has arrived is kept, the same command goes on from there", file=sys.stderr)
        raise


def _listing(plan: Plan, choice: Choice, records: Sequence[ZenodoRecord]) -> str:
    """Give the text of a dry run."""
    from rich.filesize import decimal

    lines = [f"{record.doi or record.record_id}: {record.title} (read from {record.url})" for record in records]
    for file in choice.files:
        name, n_arrived = file.remote.name, plan.arrived.get(file.remote.name)
        state = "in place" if n_arrived is None else f"{decimal(n_arrived)} there" if n_arrived else "to fetch"
        lines.append(f"  {name:<24} {decimal(file.size):>10}  -> {file.folder:<18} {state}")
    if choice.left_out:
        lines.append(f"  left out: {', '.join(choice.left_out)}")
    total = sum(file.size for file in choice.files)
    lines.append(
        f"{len(choice.files)} files, {decimal(total)}, {decimal(plan.fetch_bytes)} to fetch; needs about "
        f"{decimal(plan.needed_bytes)} on the disk with the unpacked files, {decimal(plan.free_bytes)} are free"
    )
    if plan.needed_bytes > plan.free_bytes:
        lines.append("The disk is too small for this.")
    lines.append(_licence(records))
    return "\n".join(lines)


def _summary(plan: Plan, out: Path, records: Sequence[ZenodoRecord]) -> str:
    """Give the last lines of a run: what is there, under which licence, and what comes next."""
    from napari_alnct.io.luna16 import find_dataset

    n_kept, n_new = len(plan.there), len(plan.left)
    lines = [f"{n_new} files fetched and verified, {n_kept} were in place: {out.resolve()}"]
    if any(file.kind == "scans" for file in (*plan.there, *plan.left)):
        dataset = find_dataset(out)
        folds = sorted({scan.subset for scan in dataset.scans if scan.subset is not None})
        n_masks = sum(scan.mask_path is not None for scan in dataset.scans)
        lines.append(
            f"{len(dataset.scans)} scans in subset {', '.join(map(str, folds))}, {n_masks} with a lung mask, "
            f"{len(dataset.annotations)} annotated nodules in the tables"
        )
        lines.append(f"next: napari-alnct-train preprocess --raw-root {out} --out-root data_preproc")
    return "\n".join([*lines, _licence(records), CITATION])


def _licence(records: Sequence[ZenodoRecord]) -> str:
    stated = ", ".join(sorted({record.license_id or "none stated" for record in records}))
    return f"Licence of LUNA16: CC BY 4.0 (the records say: {stated}); its scans come from LIDC-IDRI, CC BY 3.0."
