"""The whole build of a model, small: every stage runs, resumes, and leaves a file that detects."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from napari_alnct.core.checkpoint import read_checkpoint
from napari_alnct.core.config import DetectorNetSettings
from napari_alnct.core.dense import Peaks
from napari_alnct.core.detector import Detector
from napari_alnct.core.errors import ModelError, SettingsError
from napari_alnct.core.network import DetectorNetwork
from napari_alnct.data.phantom import make_phantom, small_settings
from napari_alnct.io.identifiers import short_hash
from napari_alnct.training import build, materials
from napari_alnct.training.build import build_model, run_build
from napari_alnct.training.build_run import BuildRun
from napari_alnct.training.calibration import (
    Calibration,
    ScoredMarks,
    calibrate,
    read_calibration,
    write_calibration,
)
from napari_alnct.training.cases import TrainingCase
from napari_alnct.training.marks import CaseMarks, judge
from napari_alnct.training.settings import BuildSettings, read_build_settings, recipe_names


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Use one thread: networks this small only wait for each other with more."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "tiny_model.json"


def test_a_tiny_model_is_built_resumed_and_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """First stage, marks, second look, calibration, file; a second call continues and gives the same weights."""
    monkeypatch.setattr(materials, "training_phantom", lambda seed: small_settings(seed, n_nodules=6))
    settings, lines = read_build_settings(EXAMPLE), []
    path = build_model(settings, None, tmp_path, lines.append)
    recipe = read_checkpoint(path).recipe
    assert set(recipe.operating_points) == {"0.125", "0.25", "0.5", "1", "2", "4", "8"}
    assert recipe.training["settings"]["first_stage"]["n_patches"] == 480
    assert len(recipe.training["held_out_cases"]) == 1
    assert 0 < recipe.training["float16_storage_error"] < 1e-2
    again = build_model(settings, None, tmp_path, lines.append)
    assert any("resumed at step 120 of 120" in line for line in lines)
    assert read_checkpoint(again).sha256 == read_checkpoint(path).sha256
    result = Detector.load(path, device="cpu").detect(make_phantom(small_settings(3)).volume)
    assert result.model_name == "tiny"


def test_a_work_folder_belongs_to_one_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stages of another recipe, or of other data, are not continued in silence; the same recipe goes on."""

    def stop(*_: object) -> None:
        raise InterruptedError

    monkeypatch.setattr(build, "gather", stop)
    for _ in range(2):
        with pytest.raises(InterruptedError):
            build_model(BuildSettings(), None, tmp_path / "run", print)
    for settings, pack in ((BuildSettings(n_mining_rounds=2), None), (BuildSettings(), tmp_path)):
        with pytest.raises(SettingsError, match="run holds a build with other settings or data"):
            build_model(settings, pack, tmp_path / "run", print)


def test_a_detector_that_finds_nothing_is_not_calibrated(case: TrainingCase) -> None:
    """Marks of one kind alone: one sentence, not a failure inside the regression."""
    places = case.geometry.index_to_world(case.centres_zyx_vox) + 20.0
    logits = np.zeros(2)
    marks = CaseMarks(case, Peaks(places, logits, np.full(2, 8.0)), judge(case, places, logits))
    with pytest.raises(ModelError, match="hit no held-out nodule"):
        calibrate([ScoredMarks(marks, logits, logits)])


def test_the_recipe_file_is_checked(tmp_path: Path) -> None:
    """A misspelt key, and text that is no JSON, are refused by name."""
    path = tmp_path / "recipe.json"
    path.write_text('{"n_fantoms": 3}')
    with pytest.raises(SettingsError, match="n_fantoms"):
        read_build_settings(path)
    path.write_text("n_phantoms: 3")
    with pytest.raises(SettingsError, match=r"recipe\.json: not a readable recipe"):
        read_build_settings(path)


def test_what_is_held_out_is_never_trained_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 100 cubes and 5 cases the asked share and names are held out, none is used twice, none is lost."""
    names, case_names = [f"cube{i}" for i in range(100)], ["a", "b", "c", "d", "e"]

    def stand_ins(all_names: list[str]) -> object:
        return lambda _pack, *, leave_out, **_: [SimpleNamespace(name=n) for n in all_names if n not in leave_out]

    monkeypatch.setattr(materials, "cube_names", lambda _: names)
    monkeypatch.setattr(materials, "pack_case_names", lambda _: case_names)
    monkeypatch.setattr(materials, "load_pack_donors", stand_ins(names))
    monkeypatch.setattr(materials, "pack_series", lambda _: {name: f"1.2.{name}" for name in case_names})
    monkeypatch.setattr(materials, "file_sha256", lambda _: "0" * 64)
    monkeypatch.setattr(materials, "load_pack_cases", stand_ins(case_names))
    settings = BuildSettings(held_out_cases=("b", "e"), n_phantoms=0, n_phantoms_held_out=0)
    got = materials.gather(settings, Path("pack"), lambda _: None)
    assert ([case.name for case in got.cases], [case.name for case in got.held_cases]) == (["a", "c", "d"], ["b", "e"])
    trained, held = {donor.name for donor in got.donors}, {donor.name for donor in got.held_donors}
    assert (len(trained), len(held), trained | held) == (80, 20, set(names))
    assert held == materials.choose_held_cubes(names, settings)
    assert got.facts["train_series"] == sorted(short_hash(f"1.2.{name}") for name in "acd")
    assert got.facts["val_series"] == sorted(short_hash(f"1.2.{name}") for name in "be")
    assert materials.choose_held_cubes(names, replace(settings, held_out_cubes=("cube3",))) == {"cube3"}
    with pytest.raises(SettingsError, match="no cube elsewhere"):
        materials.choose_held_cubes(names, replace(settings, held_out_cubes=("elsewhere",)))


def test_calibration_prefers_the_stage_that_knows(case: TrainingCase) -> None:
    """Detector logits are noise, the classifier knows: its weight dominates and thresholds fall with the rate."""
    rng = np.random.default_rng(0)
    scored = []
    for _ in range(6):
        nodules = case.geometry.index_to_world(case.centres_zyx_vox)
        places = np.vstack([nodules, nodules[0] + rng.uniform(15, 30, (30, 3))])
        first, second = rng.normal(size=32), np.concatenate([[4.0, 4.0], rng.normal(-3, 1, 30)])
        peaks = Peaks(places, first, np.full(32, 8.0))
        scored.append(ScoredMarks(CaseMarks(case, peaks, judge(case, places, first)), first, second))
    calibration = calibrate(scored)
    assert calibration.combine[1] > 5 * calibration.combine[0]
    assert calibration.results["all"]["cpm"] == 1.0
    points = [calibration.operating_points[r] for r in ("0.125", "1", "8")]
    assert points == sorted(points, reverse=True)


def test_a_recipe_may_be_yaml_and_based_on_another(tmp_path: Path) -> None:
    """Values of the nearest file win, inside a part too; a recipe of the package goes by its name."""
    (tmp_path / "base.json").write_text('{"name": "base", "crops": {"edge_vox": 64, "mined_share": 0.3}}')
    path = tmp_path / "mine.yaml"
    path.write_text("based_on: base.json\ncrops:\n  edge_vox: 80\nmining_at: [0.5]\n")
    settings = read_build_settings(path)
    assert (settings.name, settings.crops.edge_vox, settings.crops.mined_share) == ("base", 80, 0.3)
    assert settings.mining_at == (0.5,)
    path.write_text("based_on: folds\nname: short\n")
    assert read_build_settings(path).first_stage == read_build_settings(Path("folds")).first_stage


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("based_on: mine.yaml", "mine.yaml is based on itself"),
        ("based_on: elsewhere", "elsewhere: no such file; the recipes of the package are ablation, bundled"),
        ("first_stage:\n  learning_rate: 5e-4", "learning_rate is the text '5e-4'; write a number"),
        ("[1, 2]", "write names and values"),
        ("a: b: c", "not a readable recipe"),
    ],
)
def test_a_recipe_that_cannot_be_meant_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    """In one sentence that names the file or the setting."""
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(SettingsError, match=reason):
        read_build_settings(path)


def test_every_recipe_of_the_package_is_valid() -> None:
    """They can be read, and each has a name of its own or its base's."""
    assert {"bundled", "folds", "phantoms"} <= set(recipe_names())
    for name in recipe_names():
        assert read_build_settings(Path(name)).name


def test_a_model_that_holds_nothing_out_takes_its_calibration_from_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without one the build is refused before it begins; with one the file carries its thresholds."""
    monkeypatch.setattr(materials, "training_phantom", lambda seed: small_settings(seed, n_nodules=6))
    settings = replace(read_build_settings(EXAMPLE), n_phantoms_held_out=0, held_out_cases=())
    run = BuildRun(folder=tmp_path / "run", log=lambda _: None)
    with pytest.raises(SettingsError, match="name the result of its folds with --calibration"):
        run_build(settings, None, run)
    assert not run.folder.exists()
    points = {"1": 0.25, "0.125": 0.75}
    known = Calibration(
        combine=(0.5, 0.25, -1.0),
        first_stage_scale=(1.0, 0.0),
        operating_points=points,
        first_stage_points=points,
        results={"folds": {"cpm": 0.5}},
    )
    write_calibration(tmp_path / "known.json", known)
    recipe = read_checkpoint(run_build(settings, None, run, None, read_calibration(tmp_path / "known.json"))).recipe
    assert (recipe.combine, recipe.default_threshold()) == ((0.5, 0.25, -1.0), 0.25)
    assert recipe.training["held_out_results"] == {"folds": {"cpm": 0.5}}


def test_a_file_that_is_no_calibration_is_refused(tmp_path: Path) -> None:
    """In one sentence."""
    (tmp_path / "c.json").write_text('{"combine": [1, 2]}')
    with pytest.raises(SettingsError, match=r"c\.json: no calibration"):
        read_calibration(tmp_path / "c.json")


def test_the_storage_error_is_that_of_rounded_weights() -> None:
    """None for weights that float16 holds exactly; some for others; the network itself is left alone."""
    torch.manual_seed(0)
    network = DetectorNetwork(DetectorNetSettings(widths=(8, 8, 8), depths=(1, 1, 1), head_width=8)).eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    assert 0 < build.storage_error(network) < 1e-2
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    network.load_state_dict({name: v.half().float() if v.is_floating_point() else v for name, v in before.items()})
    assert build.storage_error(network) == 0.0
