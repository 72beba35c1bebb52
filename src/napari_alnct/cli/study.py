"""The subcommand ``study``: scans and readers into a study file with an order for each reader."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter, validators

from napari_alnct.cli.options import DEFAULT_READ_FLAGS, ReadFlags
from napari_alnct.cli.outputs import refuse_unwritable_table
from napari_alnct.cli.scan_choice import choose_scans
from napari_alnct.core.notice import NOTICE
from napari_alnct.core.wording import counted

Seed = Annotated[int, Parameter(validator=validators.Number(gte=0, lte=2**32 - 1))]


def execute(
    scans: Annotated[list[Path], Parameter(help="Scan files, DICOM folders, or folders of scans.")],
    /,
    *,
    readers: Annotated[list[str], Parameter(consume_multiple=True, negative="")],
    out: Path,
    seed: Seed = 0,
    reading: ReadFlags = DEFAULT_READ_FLAGS,
) -> int:
    r"""Make a reader study: name the cases, and give each reader an order of their own.

    Every scan is read once, for the hash of its voxels. The study file is opened in the tab Data of the
    dock Nodule review; it names the files of the scans, the tables of study-table do not.

    Parameters
    ----------
    readers
        Who reads, as they write their names in the Preferences.
    out
        Study file (JSON) to write.
    seed
        Of the readers' orders.

    Examples
    --------
    napari-alnct-train study scans/ --readers "A. Weiss" "B. Braun" --seed 7 --out study.json
    napari-alnct-train study-table readings/ --study study.json --out-dir results/study
    """
    from napari_alnct.batch.study import plan_study
    from napari_alnct.io.study import write_study

    refuse_unwritable_table(out)
    chosen = list(choose_scans(scans))

    def show(n_read: int, n_all: int) -> None:
        """Tell on a terminal how many scans are read."""
        if sys.stderr.isatty():
            print(f"\r{n_read} of {n_all} scans read", end="\n" if n_read == n_all else "", file=sys.stderr)

    study = plan_study(chosen, readers, seed, reading.options(), progress=show)
    write_study(out, study)
    print(f"{counted(len(study.cases), 'case')} for {counted(len(study.readers), 'reader')}: {out}")
    print(NOTICE)
    return 0
