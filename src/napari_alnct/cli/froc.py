"""The subcommand ``froc``: candidates against a reference, by LUNA16's rule."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter, validators

from napari_alnct.cli.outputs import refuse_unwritable_folder
from napari_alnct.core.notice import NOTICE

Samples = Annotated[int, Parameter(validator=validators.Number(gte=0, lte=10_000))]
Seed = Annotated[int, Parameter(validator=validators.Number(gte=0, lte=2**32 - 1))]


def execute(
    *,
    candidates: Path,
    annotations: Path,
    seriesuids: Path,
    out_dir: Path,
    excluded: Path | None = None,
    bootstrap: Samples = 1000,
    compare: Path | None = None,
    seed: Seed = 0,
    restrict: Annotated[bool, Parameter(negative="")] = False,
) -> int:
    r"""Judge candidates against reference nodules: FROC and CPM by LUNA16's rule, with intervals.

    Writes froc.json (all figures), froc_curve.csv (the whole curve with thresholds), froc_band.csv
    (sensitivity with its 95 % interval) and froc.png. Tables may be .csv or .csv.gz; positions are world
    mm, LPS. Annotations of scans that are not listed are left out.

    Parameters
    ----------
    candidates
        Table with seriesuid, coordX, coordY, coordZ, probability; at most 100 marks a scan count.
    annotations
        Reference nodules: seriesuid, coordX, coordY, coordZ, diameter_mm.
    seriesuids
        The scans that were searched, one a line, those without marks or nodules too.
    out_dir
        Folder to write; made when missing.
    excluded
        Findings that count neither as hit nor as error (LUNA16: annotations_excluded.csv).
    bootstrap
        Samples over scans for the 95 % intervals; 0 for none.
    compare
        Another table of candidates for the same scans: the difference in CPM (ours minus theirs), with a
        paired interval.
    seed
        Of the bootstrap.
    restrict
        Leave out candidates of scans that are not listed, instead of refusing them.

    Examples
    --------
    napari-alnct-train froc --candidates submission.csv --annotations annotations.csv \
        --excluded annotations_excluded.csv --seriesuids seriesuids.csv --out-dir results/froc
    napari-alnct-train froc --candidates new.csv --compare old.csv.gz --annotations annotations.csv \
        --excluded annotations_excluded.csv --seriesuids fold0.csv --restrict --out-dir results/fold0
    """
    from napari_alnct.batch.froc import FrocPaths, judge_tables, write_froc
    from napari_alnct.cli.froc_summary import print_summary

    refuse_unwritable_folder(out_dir)
    paths = FrocPaths(
        candidates=candidates, annotations=annotations, seriesuids=seriesuids, excluded=excluded, compare=compare
    )
    report = judge_tables(paths, n_samples=bootstrap, seed=seed, is_restricted=restrict)
    written = write_froc(out_dir, report, paths)
    print_summary(report, candidates.name)
    print(f"Written to {out_dir}: {', '.join(written)}")
    print(NOTICE)
    return 0
