"""The whole recipe of the bundled model as one settings object, kept as JSON in the repository."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from napari_alnct.core.config import ClassifierNetSettings, DetectorNetSettings, check_bounds, from_json, to_json
from napari_alnct.core.errors import SettingsError
from napari_alnct.training.crops import CropSettings
from napari_alnct.training.loop import TrainSettings

_PARTS: dict[str, type] = {
    "detector": DetectorNetSettings,
    "classifier": ClassifierNetSettings,
    "crops": CropSettings,
    "first_stage": TrainSettings,
    "second_look": TrainSettings,
}


@dataclass(frozen=True, kw_only=True)
class BuildSettings:
    """Everything that decides a bundled model, apart from the data themselves."""

    name: str = "phantom-lidc-1"
    """Name of the model."""
    n_phantoms: Annotated[int, {"min": 0, "max": 1000}] = 14
    """Phantom scans to train on."""
    n_phantoms_held_out: Annotated[int, {"min": 0, "max": 1000}] = 4
    """Phantom scans for thresholds and calibration."""
    phantom_seed: Annotated[int, {"min": 0, "max": 2**31 - 1}] = 500_000
    """Seed of the first phantom; the held-out ones follow after the trained ones."""
    held_out_cases: tuple[str, ...] = ("LIDC-IDRI-0028", "LIDC-IDRI-0293")
    """Real scans never trained on: thresholds and calibration come from them."""
    held_out_cube_share: Annotated[float, {"min": 0.0, "max": 0.9}] = 0.2
    """Share of the nodule cubes never trained on."""
    n_mining_rounds: Annotated[int, {"min": 1, "max": 20}] = 3
    """Times that new donors are put into every training scan to collect marks for the second look."""
    detector: DetectorNetSettings = field(default_factory=DetectorNetSettings)
    classifier: ClassifierNetSettings = field(
        default_factory=lambda: ClassifierNetSettings(widths=(24, 48, 96), depths=(1, 1, 2))
    )
    crops: CropSettings = field(default_factory=CropSettings)
    first_stage: TrainSettings = field(default_factory=lambda: TrainSettings(n_patches=10_000))
    second_look: TrainSettings = field(
        default_factory=lambda: TrainSettings(n_patches=12_000, batch=16, learning_rate=5e-4)
    )

    def __post_init__(self) -> None:
        """Check the bounds of the numbers."""
        check_bounds(self)


def read_build_settings(path: Path) -> BuildSettings:
    """Give the recipe in a JSON file.

    Parameters
    ----------
    path : Path
        Names of settings and values; left-out settings keep their defaults.

    Returns
    -------
    BuildSettings

    Raises
    ------
    SettingsError
        If the file is not JSON or names an unknown setting.
    """
    try:
        values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as fault:
        raise SettingsError(f"{path.name}: not a readable JSON file ({fault}); see --help for an example") from fault
    for key, cls in _PARTS.items():
        if key in values:
            values[key] = from_json(cls, values[key])
    return from_json(BuildSettings, values)


def settings_to_json(settings: BuildSettings) -> dict[str, Any]:
    """Give the recipe as plain JSON values."""
    return to_json(settings)
