"""The whole recipe of a detector with its second look as one settings object.

The defaults of `BuildSettings` are the recipe of the bundled model, which is made from few
scans and many inserted nodules; `PREPARED` is the recipe for a prepared data set with many
nodules of its own, such as LUNA16.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any

import yaml

from napari_alnct.core.config import ClassifierNetSettings, DetectorNetSettings, check_bounds, from_json, to_json
from napari_alnct.core.errors import SettingsError
from napari_alnct.training.crops import CropSettings
from napari_alnct.training.loop import TrainSettings

RECIPES = Path(__file__).resolve().parent / "recipes"
BASED_ON = "based_on"


@dataclass(frozen=True, kw_only=True)
class FinishSettings:
    """The last part of the first stage's training: a second cycle of the learning rate on other patches."""

    n_patches: Annotated[int, {"min": 0, "max": 1_000_000_000}] = 0
    """Patches of this part; 0: there is none."""
    learning_rate: Annotated[float, {"min": 1e-6, "max": 1.0}] = 1e-3
    """Its highest learning rate."""
    mining_at: Annotated[tuple[float, ...], {"min": 0.0, "max": 1.0}] = (0.0, 0.5)
    """Shares of this part after which the false marks on the training scans are collected anew."""
    most_insertions: Annotated[int, {"min": 1, "max": 10}] = 10
    """As in `CropSettings`, for this part."""
    faint_share: Annotated[float, {"min": 0.0, "max": 1.0}] = 0.5
    """As in `CropSettings`, for this part."""
    vessel_share: Annotated[float, {"min": 0.0, "max": 1.0}] = 0.4
    """As in `CropSettings`, for this part."""
    imitation_share: Annotated[float, {"min": 0.0, "max": 1.0}] = 0.1
    """As in `CropSettings`, for this part."""

    def __post_init__(self) -> None:
        """Check the bounds."""
        check_bounds(self)


@dataclass(frozen=True, kw_only=True)
class BuildSettings:
    """Everything that decides a bundled model, apart from the data themselves."""

    name: str = "phantom-lidc-2"
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
    """Share of the nodule cubes never trained on, where they are not named."""
    held_out_cubes: tuple[str, ...] = ()
    """Names of the nodule cubes never trained on; none: a share, chosen by the seed."""
    n_mining_rounds: Annotated[int, {"min": 1, "max": 20}] = 3
    """Times that new donors are put into every training scan to collect marks for the second look."""
    pool_donors_per_scan: Annotated[int, {"min": 0, "max": 200}] = 24
    """Donors put into each real scan per round."""
    pool_errors_per_scan: Annotated[int, {"min": 1, "max": 100}] = 60
    """Errors of the first stage kept per scan and round for the second look, strongest first."""
    mining_at: Annotated[tuple[float, ...], {"min": 0.0, "max": 1.0}] = ()
    """Shares of the first stage's run after which its false marks on the training scans are collected anew."""
    mined_per_scan: Annotated[int, {"min": 1, "max": 100}] = 10
    """False marks kept per scan, strongest first, for the first stage to learn from."""
    validate_every: Annotated[int, {"min": 0, "max": 10_000_000}] = 0
    """Steps of the first stage between validations, after which the best state is used; 0: its end is used."""
    patience: Annotated[int, {"min": 0, "max": 1000}] = 0
    """Validations without a better CPM after which the first stage ends early; 0: never."""
    detector: DetectorNetSettings = field(default_factory=DetectorNetSettings)
    classifier: ClassifierNetSettings = field(
        default_factory=lambda: ClassifierNetSettings(widths=(24, 48, 96), depths=(1, 1, 2))
    )
    crops: CropSettings = field(default_factory=CropSettings)
    first_stage: TrainSettings = field(default_factory=lambda: TrainSettings(n_patches=10_000))
    finish: FinishSettings = field(default_factory=FinishSettings)
    second_look: TrainSettings = field(
        default_factory=lambda: TrainSettings(n_patches=12_000, batch=16, learning_rate=5e-4)
    )

    def __post_init__(self) -> None:
        """Check the bounds of the numbers."""
        check_bounds(self)


PREPARED = BuildSettings(
    name="detector",
    n_phantoms=0,
    n_phantoms_held_out=0,
    held_out_cases=(),
    n_mining_rounds=1,
    pool_donors_per_scan=4,
    pool_errors_per_scan=12,
    mining_at=(0.3, 0.6),
    validate_every=2500,
    crops=CropSettings(
        nodule_share=0.5, mined_share=0.2, insertion_share=0.4, low_hu=-1200.0, high_hu=600.0, round_hu=1.0
    ),
    first_stage=TrainSettings(n_patches=400_000, batch=16, workers=4, save_every=250),
    second_look=TrainSettings(n_patches=100_000, batch=32, learning_rate=5e-4, workers=4, save_every=250),
)
"""The recipe for a prepared data set with many nodules, such as LUNA16."""


def read_build_settings(path: Path, base: BuildSettings | None = None) -> BuildSettings:
    """Give the recipe in a file.

    Parameters
    ----------
    path : Path
        JSON or YAML: names of settings and values; ``based_on`` names another recipe, a file beside this one
        or one of the package. Where there is no such file, a recipe of the package: `recipe_names`.
    base : BuildSettings, optional
        Where left-out settings come from, also those inside a part; default: the bundled model's recipe.

    Returns
    -------
    BuildSettings

    Raises
    ------
    SettingsError
        If the file cannot be read, names an unknown setting, or is based on itself.
    """
    settings: BuildSettings = base or BuildSettings()
    for name, values in reversed(_chain(path)):
        settings = _with_values(settings, values, name)
    return settings


def recipe_names() -> list[str]:
    """Give the names of the recipes in the package, for ``--config``."""
    return sorted(path.stem for path in RECIPES.glob("*.yaml"))


def _chain(path: Path) -> list[tuple[str, dict[str, Any]]]:
    """Give name and values of a recipe file and of those it is based on, the nearest first."""
    chain: list[tuple[str, dict[str, Any]]] = []
    folder, seen = Path(), set[Path]()
    while True:
        found = _find_recipe(path, folder)
        if found in seen:
            raise SettingsError(f"{found.name} is based on itself; name another recipe in based_on")
        seen.add(found)
        values = _read_values(found)
        chain.append((found.name, {k: v for k, v in values.items() if k != BASED_ON}))
        if BASED_ON not in values:
            return chain
        path, folder = Path(str(values[BASED_ON])), found.parent


def _find_recipe(path: Path, folder: Path) -> Path:
    for candidate in (folder / path, RECIPES / f"{path}.yaml"):
        if candidate.is_file():
            return candidate.resolve()
    raise SettingsError(f"{path}: no such file; the recipes of the package are {', '.join(recipe_names())}")


def _read_values(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
        values = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except (OSError, ValueError, yaml.YAMLError) as fault:
        reason = " ".join(str(fault).split())
        raise SettingsError(f"{path.name}: not a readable recipe ({reason}); see --help for an example") from fault
    if not isinstance(values, dict):
        raise SettingsError(f"{path.name}: found {values!r:.40} for BuildSettings; write names and values")
    return values


def _with_values(settings: Any, values: Any, file: str) -> Any:
    """Give settings with some values replaced, part by part."""
    if not isinstance(values, dict):
        raise SettingsError(f"{file}: found {values!r:.40} for {type(settings).__name__}; write names and values")
    merged = {part.name: getattr(settings, part.name) for part in fields(settings)}
    for name, value in values.items():
        is_part = is_dataclass(merged.get(name))
        merged[name] = _with_values(merged[name], value, file) if is_part else value
    return from_json(type(settings), merged)


def settings_to_json(settings: BuildSettings) -> dict[str, Any]:
    """Give the recipe as plain JSON values."""
    return to_json(settings)
