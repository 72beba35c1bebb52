"""Builds from a prepared data set: nothing leaks, the model file says what was used, and validation is what it says.

Toy scans; about 10 s of CPU.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from napari_alnct.core.checkpoint import read_recipe
from napari_alnct.core.config import PrepareSettings
from napari_alnct.core.errors import SettingsError, TableError
from napari_alnct.data.phantom import small_settings
from napari_alnct.io.identifiers import short_hash
from napari_alnct.io.prepared import PreparedDataset
from napari_alnct.training import detector_build
from napari_alnct.training import materials as materials_module
from napari_alnct.training.build_run import BuildRun
from napari_alnct.training.case_library import overview_of
from napari_alnct.training.detector_build import (
    build_detector_from_prepared,
    hold_out_donors,
    refuse_overlap,
    shared_window,
)
from napari_alnct.training.detector_validation import judge_matches, validate_detector
from napari_alnct.training.materials import Materials
from napari_alnct.training.prepared_cases import prepared_case, store_cases
from napari_alnct.training.settings import PREPARED, BuildSettings

from ..core.tiny_models import tiny_detector
from ..io.prepared_folder import ToyScan, write_prepared
from .tiny_build import SCANS, SETTINGS, TRAIN, VAL, build_tiny

FAST = replace(SETTINGS, mining_at=(), validate_every=0)


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Use one thread: networks this small only wait for each other with more."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make four toy scans in four folds."""
    return write_prepared(tmp_path_factory.mktemp("prepared"), SCANS)


def gathered(
    prepared: Path,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    val: tuple[str, ...] = VAL,
    settings: BuildSettings = FAST,
    train: tuple[str, ...] = TRAIN,
    **more: object,
) -> tuple[Materials, list[str]]:
    """Give what a build would train on, without training, and what it said."""
    found: list[Materials] = []

    def stop(materials: Materials, *_: object) -> Path:
        found.append(materials)
        return folder

    monkeypatch.setattr(detector_build, "build_from_materials", stop)
    lines: list[str] = []
    chosen = [uid for uid in train if uid not in val]
    build_detector_from_prepared(prepared, chosen, val, settings, folder, lines.append, **more)  # type: ignore[arg-type]
    return found[0], lines


def test_the_model_file_says_what_was_used(prepared: Path, tmp_path: Path) -> None:
    """Scans as short hashes, folds, level of the guard, window and margin of the data; no identifier in clear."""
    path = build_tiny(prepared, tmp_path / "run", lambda _: None, FAST)
    recipe = read_recipe(path)
    facts = recipe.training
    assert facts["train_series"] == sorted(map(short_hash, TRAIN))
    assert facts["val_series"] == sorted(map(short_hash, VAL))
    assert (facts["train_folds"], facts["val_folds"]) == ([0, 1, 2], [3])
    assert (facts["guard"], facts["validation"]) == ("series", "annotated nodules")
    assert recipe.prepare == PrepareSettings()
    assert facts["held_out_results"]["all"]["n_nodules"] == 3
    assert "1.2.1" not in path.read_bytes().decode("latin-1")


def test_donors_and_hosts_come_from_training_scans_alone(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when another build has stored the validation scans, and their nodules, in the same place."""
    shared = tmp_path / "cases"
    gathered(prepared, tmp_path / "other", monkeypatch, ("1.2.1",), cases=shared)
    materials, _ = gathered(prepared, tmp_path / "run", monkeypatch, cases=shared)
    assert [case.name for case in materials.cases] == list(TRAIN)
    assert [case.name for case in materials.held_cases] == list(VAL)
    assert {donor.name.split()[0] for donor in materials.donors} == {"1.2.1", "1.2.3"}
    assert not materials.held_donors
    assert materials.cases[1].diameters_mm.size == 0  # the nodule-free scan is in


def test_phantoms_join_the_training_scans(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind the scans, known as synthetic, prepared in the same window, and made once."""
    monkeypatch.setattr(materials_module, "training_phantom", lambda seed: small_settings(seed, n_nodules=3))
    settings = replace(FAST, n_phantoms=1)
    for _ in range(2):
        materials, _ = gathered(prepared, tmp_path / "run", monkeypatch, settings=settings)
        assert overview_of(materials.cases).is_synthetic.tolist() == [False, False, False, True]
        assert materials.cases[3].hu.max() <= 600
        monkeypatch.setattr(materials_module, "make_phantom", None)


@pytest.mark.data
def test_cubes_are_further_donors_and_narrow_the_window(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data_pack: Path
) -> None:
    """99 usable cubes behind the scans' own nodules; the file says which, and that LUNA16 is no test any more."""
    cubes = data_pack / "nodules" / "lidc_nodules.npz"
    materials, lines = gathered(prepared, tmp_path / "run", monkeypatch, cubes=cubes)
    assert len(materials.donors) == 2 + 99
    assert materials.prepare.high_hu == 400.0
    assert materials.facts["cubes"]["file"] == "lidc_nodules.npz"
    assert any("must not be judged on LUNA16" in line for line in lines)


@pytest.mark.parametrize(
    ("train", "val", "patients", "sentence"),
    [
        (["a", "b"], ["b", "c"], None, "training and validation share 1 scan, the first"),
        ([], ["a"], None, "no scan to use for train"),
        (["a"], [], None, "no scan to use for validation"),
        (["a", "b"], ["c"], {"a": "p", "b": "q", "c": "p"}, "training and validation share 1 patient;"),
        (["a", "b"], ["c"], {"a": "p", "c": "q"}, "table of patients lacks 1 scan,"),
    ],
)
def test_what_is_on_both_sides_is_refused(
    train: list[str], val: list[str], patients: dict[str, str] | None, sentence: str
) -> None:
    """A scan or a patient on both sides, an empty side, a hole in the table of patients."""
    with pytest.raises(SettingsError, match=sentence):
        refuse_overlap(train, val, patients)


def test_the_level_of_the_guard_is_told() -> None:
    """Series level without a table of patients, patient level with one."""
    assert refuse_overlap(["a"], ["b"]) == {"guard": "series"}
    assert refuse_overlap(["a"], ["b"], {"a": "p", "b": "q"}) == {"guard": "patient"}


@pytest.mark.parametrize(
    ("crops", "has_cubes", "window"),
    [((-1200, 600), False, (-1024, 600)), ((-1000, 400), False, (-1000, 400)), ((-1200, 600), True, (-1024, 400))],
)
def test_the_window_is_the_narrowest_of_what_is_mixed(
    crops: tuple[float, float], has_cubes: bool, window: tuple[float, float]
) -> None:
    """Of recipe, data (here -1024 to 600 HU) and cubes; margin and spacing are the data's."""
    data = PrepareSettings(low_hu=-1024.0, margin_mm=20.0)
    settings = replace(PREPARED, crops=replace(PREPARED.crops, low_hu=crops[0], high_hu=crops[1]))
    found = shared_window(settings, data, has_cubes=has_cubes)
    assert (found.low_hu, found.high_hu) == window
    assert (found.spacing_mm, found.margin_mm) == (1.0, 20.0)


def test_validation_scans_without_nodules_get_nodules_of_scans_left_out_of_training(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole donor scan is neither host nor donor of training; the run says so, and the file calls it validation."""
    train = ("1.2.1", "1.2.3", "1.2.4")
    materials, lines = gathered(prepared, tmp_path / "run", monkeypatch, ("1.2.2",), train=train)
    held = {donor.name.split()[0] for donor in materials.held_donors}
    assert len(held) == 1
    assert {case.name for case in materials.cases} == set(train) - held
    assert not held & {donor.name.split()[0] for donor in materials.donors}
    assert materials.facts["val_series"] == sorted(map(short_hash, held | {"1.2.2"}))
    assert materials.facts["train_series"] == sorted(map(short_hash, set(train) - held))
    assert materials.facts["validation"] == "inserted nodules"
    assert any("(1 scan): 1 donor of 1 training scan, left out of training, will" in line for line in lines)
    assert not any(uid in line for line in lines for uid in (*TRAIN, *VAL))


def test_scans_of_one_patient_are_held_out_together(prepared: Path, tmp_path: Path) -> None:
    """The nodule-free scan of the donor's patient leaves training too."""
    uids = [*TRAIN, *VAL]
    train = store_cases(PreparedDataset.open(prepared), uids, tmp_path, ceiling_hu=600.0, n_jobs=1, log=lambda _: None)
    patients = {"1.2.1": "a", "1.2.2": "b", "1.2.3": "b", "1.2.4": "a"}
    left, _, held = hold_out_donors(train, [], FAST, patients)
    assert {patients[name] for name in left.names}.isdisjoint(patients[donor.name.split()[0]] for donor in held)
    assert len(left) == 2


def test_cubes_are_held_out_instead_of_scans(prepared: Path, tmp_path: Path) -> None:
    """Where there are cubes, all scans stay, and no cube is on both sides."""
    dataset = PreparedDataset.open(prepared)
    train = store_cases(dataset, TRAIN, tmp_path, ceiling_hu=600.0, n_jobs=1, log=lambda _: None)
    cubes = [replace(train.donors()[0], name=f"cube {k}") for k in range(5)]
    left, more, held = hold_out_donors(train, cubes, FAST)
    assert left.names == train.names
    assert (len(more), len(held)) == (4, 1)
    assert held[0].name not in {cube.name for cube in more}


def test_validation_without_nodules_is_refused_where_training_has_none_to_spare(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two training scans none can be left out."""
    with pytest.raises(SettingsError, match="choose validation scans with nodules"):
        gathered(prepared, tmp_path / "run", monkeypatch, ("1.2.2",))


def test_another_spacing_is_refused(tmp_path: Path) -> None:
    """Cells and donors are made for 1 mm."""
    root = write_prepared(tmp_path / "prepared", SCANS, prepare=PrepareSettings(spacing_mm=0.8))
    with pytest.raises(SettingsError, match=r"prepared at 0\.8 mm"):
        build_tiny(root, tmp_path / "run", lambda _: None, FAST)


def test_a_series_that_is_not_prepared_is_refused(prepared: Path, tmp_path: Path) -> None:
    """One sentence, before anything is unpacked."""
    with pytest.raises(TableError, match="are not prepared"):
        build_detector_from_prepared(prepared, ["1.2.1", "9.9"], VAL, FAST, tmp_path, lambda _: None)
    assert not (tmp_path / "cases").exists()


def test_a_work_folder_belongs_to_its_scans_and_recipe(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other training scans, or another recipe, are refused; other workers are not."""
    monkeypatch.setattr(detector_build, "build_from_materials", lambda *_: tmp_path)

    def build(train: tuple[str, ...], settings: object) -> None:
        build_detector_from_prepared(prepared, train, VAL, settings, tmp_path / "run", lambda _: None)  # type: ignore[arg-type]

    build(TRAIN, FAST)
    build(TRAIN, replace(FAST, first_stage=replace(FAST.first_stage, workers=1, save_every=7)))
    for train, settings in ((TRAIN[:2], FAST), (TRAIN, replace(FAST, mining_at=(0.5,)))):
        with pytest.raises(SettingsError, match="holds a build with other settings or data"):
            build(train, settings)


def test_cases_are_stored_once_and_again_when_annotations_change(prepared: Path, tmp_path: Path) -> None:
    """The second call says nothing and writes nothing; a moved nodule makes its case anew."""
    dataset, lines = PreparedDataset.open(prepared), list[str]()
    store_cases(dataset, TRAIN, tmp_path, ceiling_hu=600.0, n_jobs=1, log=lines.append)
    assert lines[0].startswith("unpacking 3 of 3 scans")
    lines.clear()
    store_cases(dataset, TRAIN, tmp_path, ceiling_hu=600.0, n_jobs=1, log=lines.append)
    assert not lines
    moved = replace(dataset.nodules["1.2.1"][0], diameter_mm=7.0)
    changed = replace(dataset, nodules={**dataset.nodules, "1.2.1": (moved,)})
    library = store_cases(changed, TRAIN, tmp_path, ceiling_hu=600.0, n_jobs=1, log=lines.append)
    assert lines[0].startswith("unpacking 1 of 3 scans")
    assert library[0].diameters_mm.tolist() == [7.0]


def test_two_processes_store_the_same_cases(prepared: Path, tmp_path: Path) -> None:
    """In another process a case is the one that `prepared_case` gives here."""
    dataset = PreparedDataset.open(prepared)
    library = store_cases(dataset, TRAIN, tmp_path, ceiling_hu=600.0, n_jobs=2, log=lambda _: None)
    for number, entry in enumerate(dataset.select(series=TRAIN).scans):
        expected = prepared_case(dataset, entry)
        np.testing.assert_array_equal(library[number].hu, expected.hu)
        np.testing.assert_array_equal(library[number].spots["vessel"], expected.spots["vessel"])
        assert library[number].name == expected.name


def test_a_nodule_outside_the_prepared_box_counts_as_missed(tmp_path: Path) -> None:
    """Validation judges against all nodules of a scan, as froc does on the whole table."""
    scan = ToyScan("1.9", 0, nodules=(((28.0, 30.0, 36.0), 12.0), ((-40.0, 20.0, 20.0), 6.0)))
    dataset = PreparedDataset.open(write_prepared(tmp_path / "prepared", [scan]))
    case = prepared_case(dataset, dataset.scans[0])
    run = BuildRun(folder=tmp_path, log=lambda _: None)
    found = validate_detector(run.runner(tiny_detector()), Materials([], [], [case], [], dataset.prepare), 1.0)
    assert (found.n_scans, found.n_nodules) == (1, 2)
    assert max(found.sensitivity) <= 0.5


def test_cpm_and_interval_of_outcomes_worked_out_by_hand() -> None:
    """Two scans: the first finds its nodule above its only error, the second misses; CPM is one half everywhere.

    A sample of the two scans finds 0, half or all of its nodules, so the interval reaches from 0 to 1.
    """
    from napari_alnct.evaluation.matching import match_scan

    nodule, nothing = (np.array([[0.0, 0.0, 0.0]]), np.array([10.0])), (np.zeros((0, 3)), np.zeros(0))
    hit = match_scan(np.array([[1.0, 0, 0], [50.0, 0, 0]]), np.array([0.9, 0.2]), *nodule, *nothing)
    miss = match_scan(np.zeros((0, 3)), np.zeros(0), *nodule, *nothing)
    found = judge_matches([hit, miss], [nodule, nodule])
    assert found.cpm == 0.5
    assert found.cpm_ci95 == (0.0, 1.0)
    assert "95 % interval 0.000-1.000 over 2 scans with 2 nodules, few scans" in found.sentence()
    assert "too few for an interval" in judge_matches([hit], [nodule]).sentence()
    assert judge_matches([miss], [nothing]).row()["cpm"] == 0.0
