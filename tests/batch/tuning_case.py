"""A tiny search: patches of 16 voxels, three-stage networks, a listener that remembers."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

from napari_alnct.batch.tuning_study import StudyState
from napari_alnct.core.config import ClassifierNetSettings
from napari_alnct.io.patch_store import PatchStore
from napari_alnct.training.classifier import ClassifierSettings, EpochReport
from napari_alnct.training.tuning import TrialOutcome
from tests.training.patches import EDGE, TINY, write_patches

SETTINGS = replace(
    TINY, network=ClassifierNetSettings(widths=(8, 16, 32), depths=(1, 1, 1), patch_vox=EDGE, norm="group"), epochs=2
)
CONFIG = {
    **{"epochs": 2, "batch": 4, "workers": 0, "precision": "float32", "save_every": 1},
    "network": {"widths": [8, 16, 32], "depths": [1, 1, 1], "norm": "group"},
}
COMMAND = "import sys; from napari_alnct.cli.app import dispatch; sys.exit(dispatch(sys.argv[1:]))"


def write_stores(folder: Path) -> tuple[PatchStore, PatchStore]:
    """Write training and validation patches of different scans."""
    train = write_patches(folder / "train", series=["1.2.3", "1.2.4"], seed=1, n=12, hu=150)
    return train, write_patches(folder / "val", series=["1.2.5"], seed=2, n=8, hu=150)


def command(folder: Path, save_dir: Path, *arguments: object, epochs: int = 2) -> list[str]:
    """Give the command line of a search over the patches of a folder, for a process of its own."""
    config = folder / f"config{epochs}.json"
    config.write_text(json.dumps(CONFIG | {"epochs": epochs}))
    patches = ["--train-csv", folder / "train", "--val-csv", folder / "val", "--augment-strength", 0]
    run = ["--save-dir", save_dir, "--config", config, "--threads", 1, "--device", "cpu"]
    return [sys.executable, "-c", COMMAND, "train", *map(str, [*patches, *run, *arguments])]


class Memory:
    """Remembers what a search says."""

    def __init__(self) -> None:
        self.begun: list[int] = []
        self.ended: list[tuple[int, TrialOutcome]] = []
        self.epochs: list[int] = []
        self.notes: list[str] = []

    def trial_begins(self, number: int, settings: ClassifierSettings, state: StudyState) -> None:
        self.begun.append(number)

    def epoch(self, report: EpochReport) -> None:
        self.epochs.append(report.epoch)

    def trial_ends(self, number: int, outcome: TrialOutcome, state: StudyState) -> None:
        self.ended.append((number, outcome))

    def note(self, text: str) -> None:
        self.notes.append(text)
