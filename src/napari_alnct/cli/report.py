"""The subcommand ``report``: one HTML page of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter, validators

from napari_alnct.cli.options import DEFAULT_READ_FLAGS, ReadFlags
from napari_alnct.cli.outputs import refuse_unwritable_table
from napari_alnct.core.errors import SettingsError
from napari_alnct.core.notice import NOTICE

Examples = Annotated[int, Parameter(validator=validators.Number(gte=0, lte=60))]
Seed = Annotated[int, Parameter(validator=validators.Number(gte=0, lte=2**32 - 1))]


def execute(
    *,
    run: Path | None = None,
    candidates: Path | None = None,
    annotations: Path | None = None,
    excluded: Path | None = None,
    seriesuids: Path | None = None,
    scans: Path | None = None,
    model: str | None = None,
    froc_dir: Path | None = None,
    eval_dir: Path | None = None,
    train_dir: Path | None = None,
    out: Path = Path("report.html"),
    title: str = "Nodule detection: report of a run",
    examples: Examples = 12,
    seed: Seed = 0,
    show_ids: Annotated[bool, Parameter(negative="")] = False,
    restrict: Annotated[bool, Parameter(negative="")] = False,
    reading: ReadFlags = DEFAULT_READ_FLAGS,
) -> int:
    r"""Write one self-contained HTML page of a run: data, recipe, curves, hits, misses, false positives.

    The page holds all its pictures, has no scripts and asks no other computer for anything. Whatever is not given
    is left out of it. Series are shown as short hashes unless --show-ids is given.

    Parameters
    ----------
    run
        Folder of a run: model, log, metrics, froc.json and tables are looked for in it; what is named wins.
    candidates
        Table with seriesuid, coordX, coordY, coordZ, probability, as detect --all writes it.
    annotations
        Reference nodules; default: annotations.csv of --scans.
    excluded
        Findings that count neither as hit nor as error; default: annotations_excluded.csv of --scans.
    seriesuids
        The scans that were searched; default: those of --scans.
    scans
        Folder of the scans, for the pictures; scans may be missing from it.
    model
        Bundled model or .safetensors file; default: best.safetensors of --train-dir, or the bundled model
        that made the candidates.
    froc_dir
        What froc wrote: its settings are used, and its counts must be those of the tables.
    eval_dir
        What eval wrote: metrics.json and plots.
    train_dir
        What train wrote: best.safetensors and log.csv.
    out
        HTML file to write; appears complete or not at all.
    title
        Heading of the page.
    examples
        Most hits, misses and false positives shown, of each; 0 for none.
    seed
        Of the examples that are drawn at random.
    show_ids
        Name series and tables as they are: for public data sets only.
    restrict
        Leave out candidates of scans that are not listed, instead of refusing them.

    Examples
    --------
    napari-alnct-train report --candidates submission.csv --scans luna16_data --out report.html
    napari-alnct-train report --candidates submission.csv --annotations annotations.csv \
        --excluded annotations_excluded.csv --seriesuids seriesuids.csv --froc-dir results/froc \
        --eval-dir plots/val --train-dir models --out report.html
    napari-alnct-train report --run runs/fold0 --scans luna16_data --show-ids --out fold0.html
    """
    from napari_alnct.batch.report import ReportOptions, write_report
    from napari_alnct.batch.report_inputs import ReportInputs, find_run, merged
    from napari_alnct.cli.count_bar import CountBar

    refuse_unwritable_table(out)
    _refuse_empty("--eval-dir", eval_dir, "metrics.json", "the --plot-dir of eval")
    _refuse_empty("--froc-dir", froc_dir, "froc.json", "the --out-dir of froc")
    _refuse_empty("--train-dir", train_dir, "log.csv", "the --save-dir of train, or the --out of train-detector")
    inputs = ReportInputs(
        candidates=candidates,
        annotations=annotations,
        excluded=excluded,
        seriesuids=seriesuids,
        scans=scans,
        model=model,
        froc_dir=froc_dir,
        eval_dir=eval_dir,
        train_dir=train_dir,
    )
    if run is not None:
        inputs = merged(inputs, find_run(run))
    options = ReportOptions(
        title=title,
        show_ids=show_ids,
        n_examples=examples,
        seed=seed,
        is_restricted=restrict,
        reading=reading.options(),
    )
    with CountBar("reading scans") as bar:
        summary = write_report(out, inputs, options, progress=bar.show)
    shown = f"{summary.n_examples} examples, {summary.n_pictures} with pictures"
    print(f"Written to {out} ({out.stat().st_size / 1e6:.1f} MB): {shown}")
    if summary.unread:
        print(f"Note: scans that could not be read for pictures: {', '.join(summary.unread)}; the page says which.")
    print(NOTICE)
    return 0


def _refuse_empty(flag: str, folder: Path | None, file: str, source: str) -> None:
    """Refuse a folder that does not hold what it is named for."""
    if folder is not None and not any(folder.glob(file)) and not any(folder.glob(f"*/{file}")):
        found = f"holds no {file}" if folder.is_dir() else "is no folder"
        raise SettingsError(f"{flag}: {folder.name} {found}; name {source}")
