"""The subcommand ``study-table``: all readers' decisions as tables for analysis."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from napari_alnct.cli.outputs import refuse_unwritable_folder
from napari_alnct.core.notice import NOTICE
from napari_alnct.core.wording import counted


def execute(
    readings: Annotated[Path, Parameter(help="Folder of readings, as in the Preferences.")],
    /,
    *,
    out_dir: Path,
    study: Path | None = None,
) -> int:
    """Join all readers' decisions into two tables for analysis.

    Writes decisions.csv (one row a mark and reader: status, place, times, found unaided or not) and cases.csv
    (one row a case and reader: state, times, counts). Cases and readers are told by name, never by file. With
    --study, cases that were not begun have a row too. A record that was changed is a row with its fault.

    Parameters
    ----------
    out_dir
        Folder to write; made when missing.
    study
        Study file: names the cases, and keeps other readings out.

    Examples
    --------
    napari-alnct-train study-table readings/ --study study.json --out-dir results/study
    napari-alnct-train study-table readings/ --out-dir results/all
    """
    from napari_alnct.batch.study import join_study

    refuse_unwritable_folder(out_dir)
    joined = join_study(readings, out_dir, study)
    states = ", ".join(f"{n} {state}" for state, n in joined.n_by_state.items() if n)
    print(f"{counted(joined.n_decisions, 'mark')}; cases by reader: {states}")
    print(f"Written to {out_dir}: {', '.join(path.name for path in joined.paths)}")
    print(NOTICE)
    return 4 if joined.n_by_state["damaged"] else 0
