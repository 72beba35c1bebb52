"""The subcommand ``phantom``: synthetic scans with their truth, in the layout of LUNA16."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter, validators

from napari_alnct.cli.outputs import refuse_unwritable_folder
from napari_alnct.core.errors import SettingsError

Count = Annotated[int, Parameter(validator=validators.Number(gte=1))]


def execute(
    *,
    out: Path,
    scans: Count = 10,
    seed: Annotated[int, Parameter(validator=validators.Number(gte=0))] = 0,
    shape: Annotated[tuple[int, int, int] | None, Parameter(negative=())] = None,
    nodules: Annotated[tuple[int, int] | None, Parameter(negative=())] = None,
    masks: bool = True,
    compress: bool = True,
    jobs: Count = 1,
) -> int:
    """Make synthetic chest CTs with known nodules, in the layout of LUNA16.

    Spacings, noise, padding and directions differ between the scans; one in five
    has no nodule. The same seed gives the same files.

    Ten full-size scans (about 100 MB each), then five small chests, two at a time:

        napari-alnct-train phantom --out phantoms --scans 10 --seed 1
        napari-alnct-train phantom --out small --scans 5 --shape 96 160 160 --jobs 2

    Parameters
    ----------
    out : Path
        Folder to write; made when missing.
    scans : int
        Number of scans.
    seed : int
        Which data set.
    shape : tuple of int
        Voxels along z, y and x, the same for all scans; default: 512 x 512 and as
        many slices as the spacing needs. A small grid holds a small chest.
    nodules : tuple of int
        Fewest and most nodules in a scan that has any; default: 1 to 8, with --shape 1 to 4.
    masks : bool
        Also write the lung masks.
    compress : bool
        Write .zraw, else .raw.
    jobs : int
        Scans made at a time; each needs about 1.5 GB.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from napari_alnct.data.phantom import plan_dataset, write_phantom_dataset
    from napari_alnct.io.metaimage import write_metaimage

    refuse_unwritable_folder(out)
    if nodules is not None and not 1 <= nodules[0] <= nodules[1]:
        raise SettingsError(f"--nodules is {nodules[0]} {nodules[1]}; give the fewest, 1 or more, then the most")
    console = Console(stderr=True)
    columns = (TextColumn("phantoms"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("phantoms", total=scans)
        truths = write_phantom_dataset(
            out,
            scans,
            seed,
            write_image=write_metaimage,
            settings=plan_dataset(scans, seed, shape_zyx=shape, n_nodules=nodules),
            progress=lambda done, _total, _uid: bar.update(task, completed=done),
            masks=masks,
            compress=compress,
            jobs=jobs,
        )
    n_nodules, excluded = sum(len(t.nodules) for t in truths), sum(len(t.excluded) for t in truths)
    print(f"{len(truths)} scans, {n_nodules} nodules, {excluded} excluded findings: {out.resolve()}")
    return 0
