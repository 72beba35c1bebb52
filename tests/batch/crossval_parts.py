"""A small data set in three folds and a trainer that takes no time, for the tests of cross-validation."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from napari_alnct.batch.crossval_task import CrossvalTask
from napari_alnct.core.checkpoint import Recipe, write_checkpoint
from napari_alnct.core.config import DetectionSettings, PrepareSettings
from napari_alnct.io.identifiers import short_hash
from napari_alnct.io.luna16 import find_dataset
from napari_alnct.io.metaimage import write_metaimage
from napari_alnct.training.settings import BuildSettings
from tests.core.chest import chest_geometry, chest_hu
from tests.core.tiny_models import tiny_detector

N_FOLDS = 3
NODULE_FREE = "scan3"
HEADER = "seriesuid,coordX,coordY,coordZ,diameter_mm\n"
SPACING_ZYX_MM = (5.0, 3.0, 3.0)
COARSE = PrepareSettings(spacing_mm=2.5, low_hu=-1000.0, high_hu=400.0)  # of the models: to search fast


def make_raw(root: Path, n_scans: int = 6) -> Path:
    """Write scans in three folds, with a ball or two in each lung but for one that has none."""
    (root / "CSVFILES").mkdir(parents=True)
    rows, grid = [], chest_geometry(SPACING_ZYX_MM)
    for number in range(n_scans):
        uid, rng = f"scan{number}", np.random.default_rng(number)
        places = [] if uid == NODULE_FREE else [(65.0, -20.0 + 7 * number, 10.0), (-60.0, 5.0 * number, -30.0)]
        hu = chest_hu(grid, [(place, 10.0, 20.0) for place in places])
        noisy = (hu + rng.normal(0, 20, hu.shape)).astype(np.int16)
        folder = root / f"subset{number % N_FOLDS}"
        folder.mkdir(exist_ok=True)
        write_metaimage(folder / f"{uid}.mhd", noisy, grid)
        rows += [f"{uid},{x},{y},{z},20.0\n" for x, y, z in places]
    (root / "CSVFILES" / "annotations.csv").write_text(HEADER + "".join(rows))
    (root / "CSVFILES" / "annotations_excluded.csv").write_text(HEADER + "scan0,0,0,0,-1\nscan3,60,0,0,30\n")
    return root


class TinyTrainer:
    """Writes an untrained model whose recipe tells the truth; notes which folds it was asked for.

    Parameters
    ----------
    deadly_fold : int or None
        The process is killed (SIGKILL) in the middle of this fold.
    """

    def __init__(self, deadly_fold: int | None = None) -> None:
        self.deadly_fold = deadly_fold
        self.calls: list[str] = []

    def __call__(
        self,
        prepared_root: Path,
        train_series: Sequence[str],
        val_series: Sequence[str],
        settings: BuildSettings,
        folder: Path,
        log: Callable[[str], None],
        device: str,
    ) -> Path:
        """Give the model of a fold."""
        fold = int(settings.name[-1])
        self.calls.append(settings.name)
        folder.mkdir(parents=True, exist_ok=True)
        if fold == self.deadly_fold:
            os.kill(os.getpid(), signal.SIGKILL)
        sides = {"train_series": train_series, "val_series": val_series}
        training = {side: sorted(map(short_hash, series)) for side, series in sides.items()}
        recipe = Recipe(name=settings.name, prepare=COARSE, training=training)
        path = folder / f"{settings.name}.safetensors"
        write_checkpoint(path, recipe, tiny_detector(fold), None)
        return path


def make_task(raw: Path, work_dir: Path, **changes: object) -> CrossvalTask:
    """Give the task of the tests."""
    values: dict[str, object] = {
        "dataset": find_dataset(raw, leave_out=work_dir),
        "work_dir": work_dir,
        "build": BuildSettings(name="tiny"),
        "train": TinyTrainer(),
        "detection": DetectionSettings(device="cpu", precision="float32"),
    }
    return CrossvalTask(**{**values, **changes})  # type: ignore[arg-type]
