"""The smallest build of a detector that passes through every stage and event, for tests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from napari_alnct.core.config import ClassifierNetSettings, DetectorNetSettings
from napari_alnct.training.detector_build import build_detector_from_prepared
from napari_alnct.training.loop import TrainSettings
from napari_alnct.training.settings import PREPARED, BuildSettings

from ..io.prepared_folder import ToyScan

TRAIN, VAL = ("1.2.1", "1.2.2", "1.2.3"), ("1.2.4",)
SCANS = (
    ToyScan("1.2.1", 0, nodules=(((26.0, 30.0, 40.5), 8.0), ((44.0, 20.0, 20.0), 5.0))),
    ToyScan("1.2.2", 1),
    ToyScan("1.2.3", 2, nodules=(((28.0, 32.0, 36.0), 10.0),), excluded=(((40.0, 50.0, 60.0), -1.0),)),
    ToyScan("1.2.4", 3, nodules=(((28.0, 30.0, 52.0), 28.0), ((28.0, 44.0, 20.0), 24.0), ((28.0, 16.0, 20.0), 20.0))),
)
SETTINGS: BuildSettings = replace(
    PREPARED,
    name="tiny",
    detector=DetectorNetSettings(widths=(8, 8, 8), depths=(1, 1, 1), head_width=8),
    classifier=ClassifierNetSettings(widths=(8, 8), depths=(1, 1), patch_vox=16),
    crops=replace(PREPARED.crops, edge_vox=32, mined_share=0.5, imitation_share=0.0),
    first_stage=TrainSettings(n_patches=24, batch=2, learning_rate=0.01, workers=0, save_every=4, ema=0.5),
    second_look=TrainSettings(n_patches=12, batch=2, workers=0, save_every=2),
    mining_at=(0.25, 0.6),
    mined_per_scan=5,
    validate_every=5,
)
"""12 steps: mining after steps 3 and 7, validation after steps 5, 10 and 12."""


def build_tiny(prepared: Path, folder: Path, log: Callable[[str], None], settings: BuildSettings = SETTINGS) -> Path:
    """Build it from the scans of `SCANS`."""
    return build_detector_from_prepared(prepared, TRAIN, VAL, settings, folder, log, cases=folder.parent / "cases")
