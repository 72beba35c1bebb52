"""The first stage with mining and validation: exact after any death, best state kept, early stop. About 40 s of CPU."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from napari_alnct.core.checkpoint import read_checkpoint
from napari_alnct.core.errors import JobCancelled, ModelError
from napari_alnct.training import first_stage, mining
from napari_alnct.training.build_run import BuildRun
from napari_alnct.training.crops import MinedMarks
from napari_alnct.training.detector_validation import DetectorValidation
from napari_alnct.training.first_stage import (
    DetectorPatches,
    FirstStage,
    finish_first_stage,
    finish_settings,
    train_first_stage,
)
from napari_alnct.training.loop import make_loader
from napari_alnct.training.materials import Materials
from napari_alnct.training.settings import FinishSettings

from ..io.prepared_folder import write_prepared
from .killed_build import EVENTS
from .tiny_build import SCANS, SETTINGS, TRAIN, VAL, build_tiny

ROOT = Path(__file__).resolve().parents[2]


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


@pytest.fixture(scope="module")
def whole_and_cut(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Build without a stop, and with a SIGKILL at each event."""
    root = tmp_path_factory.mktemp("builds")
    command = [sys.executable, "-m", "tests.training.killed_build", prepared, root / "whole", root / "cut"]
    done = subprocess.run(
        [str(word) for word in command],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    ends = [line.rsplit(": ", 1)[1] for line in done.stdout.splitlines() if line.startswith("--- ")]
    assert ends == ["status 0", *["killed"] * len(EVENTS), "status 0"], done.stdout[-3000:] + done.stderr[-3000:]
    return root / "whole", root / "cut"


@pytest.fixture(scope="module")
def materials(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Materials:
    """Unpack the toy scans as the build does."""
    from napari_alnct.io.prepared import PreparedDataset
    from napari_alnct.training.prepared_cases import store_cases

    dataset, folder = PreparedDataset.open(prepared), tmp_path_factory.mktemp("cases")
    train, held = (
        store_cases(dataset, uids, folder, ceiling_hu=600.0, n_jobs=1, log=lambda _: None) for uids in (TRAIN, VAL)
    )
    return Materials(train, train.donors(), held, (), dataset.prepare)


def rows(path: Path) -> list[str]:
    """Give the rows of a log without the column of seconds, which no two runs share."""
    lines = [line.split(",") for line in path.read_text().splitlines()]
    kept = [k for k, name in enumerate(lines[0]) if name != "seconds"]
    return [",".join(cells[k] for k in kept) for cells in lines]


def test_a_build_that_was_killed_eight_times_ends_with_the_same_weights(whole_and_cut: tuple[Path, Path]) -> None:
    """SIGKILL in steps, in both rounds of mining, in validations, in the second look: bit-identical networks."""
    whole, cut = (read_checkpoint(folder / "tiny.safetensors") for folder in whole_and_cut)
    for ours, theirs in ((whole.detector, cut.detector), (whole.classifier, cut.classifier)):
        assert ours is not None
        assert theirs is not None
        for name, value in ours.state_dict().items():
            assert torch.equal(value, theirs.state_dict()[name]), name
    assert whole.recipe.combine == cut.recipe.combine
    assert whole.recipe.operating_points == cut.recipe.operating_points


@pytest.mark.parametrize(
    "name",
    [
        "first_stage/validation.csv",
        "first_stage/mining/round_1/false_marks.csv",
        "first_stage/mining/round_2/false_marks.csv",
    ],
)
def test_what_a_killed_build_leaves_is_what_a_whole_one_leaves(whole_and_cut: tuple[Path, Path], name: str) -> None:
    """Validations and false marks are the same, each there once."""
    whole, cut = (folder / name for folder in whole_and_cut)
    assert whole.read_text() == cut.read_text()
    assert len(whole.read_text().splitlines()) > 2


def test_validations_are_at_their_steps_and_the_best_is_used(whole_and_cut: tuple[Path, Path]) -> None:
    """12 steps, every 5: after 5, 10 and the last; the model's first stage is the best of them, in float16."""
    table = [line.split(",") for line in rows(whole_and_cut[0] / "first_stage" / "validation.csv")]
    assert [row[0] for row in table[1:]] == ["5", "10", "12"]
    best = read_checkpoint(whole_and_cut[0] / "first_stage" / first_stage.BEST)
    model = read_checkpoint(whole_and_cut[0] / "tiny.safetensors")
    cpms = {int(row[0]): float(row[1]) for row in table[1:]}
    assert best.recipe.training["step"] == max(cpms, key=lambda step: (cpms[step], step))
    assert best.detector is not None
    assert model.detector is not None
    for name, value in best.detector.state_dict().items():
        torch.testing.assert_close(value, model.detector.state_dict()[name], atol=1e-3, rtol=1e-3)


def patches(materials: Materials, count: int) -> DetectorPatches:
    """Give the first patches of a run with two false marks."""
    marks = MinedMarks(np.array([0, 1]), np.array([[20, 20, 20], [30, 30, 30]], np.int16), np.zeros(2))
    return DetectorPatches(materials, SETTINGS.crops, marks, seed=3, first=7, count=count)


def test_patches_cross_a_process_border_without_their_voxels(materials: Materials) -> None:
    """What a worker is sent stays below 50 kB where the scans are 1.5 MB, and it draws the same patches."""
    ours = patches(materials, 4)
    content = pickle.dumps(ours)
    assert len(content) < 50_000 < sum(case.hu.nbytes for case in materials.cases)
    theirs = pickle.loads(content)  # noqa: S301 - our own bytes
    for number in range(4):
        assert all(torch.equal(a, b) for a, b in zip(ours[number], theirs[number], strict=True))


def test_patches_do_not_depend_on_the_number_of_workers(materials: Materials) -> None:
    """Two workers give what the training process itself gives, in the same order."""
    alone, shared = (list(make_loader(patches(materials, 6), replace(SETTINGS.first_stage, workers=n))) for n in (0, 2))
    assert len(alone) == len(shared) == 3
    for ours, theirs in zip(alone, shared, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def judged(cpm: float) -> DetectorValidation:
    """Give a validation with a CPM of choice."""
    return DetectorValidation(n_scans=1, n_nodules=2, cpm=cpm, cpm_ci95=(cpm, cpm), sensitivity=(cpm,) * 7)


@pytest.mark.parametrize(
    ("cpms", "patience", "n_judged", "best_step"),
    [((0.1, 0.5, 0.3), 0, 3, 10), ((0.5, 0.1, 0.1), 1, 2, 5), ((0.2, 0.2, 0.1), 2, 3, 10), ((0, 0, 0), 0, 3, 12)],
    ids=["the second is best", "ends early", "of equals the later", "all zero: the last"],
)
def test_the_best_state_by_cpm_is_kept(
    materials: Materials,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    cpms: tuple[float, ...],
    patience: int,
    n_judged: int,
    best_step: int,
) -> None:
    """Validations after steps 5, 10 and 12 with given CPMs: which state is used, and when the run ends."""
    given = iter(cpms)
    monkeypatch.setattr(first_stage, "validate_detector", lambda *_, **__: judged(next(given)))
    lines: list[str] = []
    settings = replace(SETTINGS, patience=patience, mining_at=())
    network = train_first_stage(materials, settings, BuildRun(folder=tmp_path, log=lines.append))
    assert len(list(given)) == len(cpms) - n_judged
    assert any(f"the state after step {best_step} is the best" in line for line in lines)
    kept = read_checkpoint(tmp_path / "first_stage" / first_stage.BEST)
    assert kept.recipe.training["step"] == best_step
    assert kept.detector is not None
    for name, value in network.state_dict().items():
        assert torch.equal(value, kept.detector.state_dict()[name])
    again = train_first_stage(materials, settings, BuildRun(folder=tmp_path, log=lines.append))
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), again.parameters(), strict=True))


def test_without_validation_the_end_is_used(materials: Materials, tmp_path: Path) -> None:
    """No step is judged, no best state is written."""
    settings = replace(SETTINGS, validate_every=0, mining_at=())
    train_first_stage(materials, settings, BuildRun(folder=tmp_path, log=lambda _: None))
    assert not (tmp_path / "first_stage" / first_stage.BEST).exists()


WITH_FINISH = replace(SETTINGS, validate_every=0, finish=FinishSettings(n_patches=8, mining_at=(0.0, 0.5)))


def test_the_finish_draws_other_patches_in_its_own_way(materials: Materials) -> None:
    """Its shares, its budget and rate, the next seed; everything else is the recipe's."""
    finish = finish_settings(WITH_FINISH)
    assert (finish.crops.most_insertions, finish.crops.faint_share, finish.crops.vessel_share) == (10, 0.5, 0.4)
    assert finish.crops.imitation_share == 0.1
    assert finish.crops.mined_share == WITH_FINISH.crops.mined_share
    assert (finish.first_stage.n_steps, finish.first_stage.learning_rate) == (4, 1e-3)
    assert finish.first_stage.batch == WITH_FINISH.first_stage.batch
    draws = [
        DetectorPatches(materials, s.crops, first_stage.NO_MARKS, seed=s.first_stage.seed, first=0, count=1)[0][0]
        for s in (WITH_FINISH, finish)
    ]
    assert not torch.equal(*draws)


def test_the_finish_goes_on_from_the_first_part(materials: Materials, tmp_path: Path) -> None:
    """With a rate near zero the weights of the first part come out again; with a real one they move."""
    first = train_first_stage(materials, WITH_FINISH, BuildRun(folder=tmp_path, log=lambda _: None))
    none = replace(WITH_FINISH, finish=FinishSettings())
    assert finish_first_stage(first, materials, none, BuildRun(folder=tmp_path, log=lambda _: None)) is first
    assert not (tmp_path / "finish").exists()
    moved = []
    for name, rate in (("still", 1e-6), ("moving", 1e-2)):
        settings = replace(WITH_FINISH, finish=replace(WITH_FINISH.finish, learning_rate=rate))
        lines: list[str] = []
        network = finish_first_stage(first, materials, settings, BuildRun(folder=tmp_path / name, log=lines.append))
        pairs = zip(first.parameters(), network.parameters(), strict=True)
        moved.append(max(float((a - b).detach().abs().max()) for a, b in pairs))
        assert sum("searching 3 training scans" in line for line in lines) == 2
    assert moved[0] < 1e-4 < 1e-3 < moved[1]


def test_a_finish_that_was_stopped_ends_with_the_same_weights(materials: Materials, tmp_path: Path) -> None:
    """Stopped in the middle of the finish's steps: the same call gives what one call gives."""
    first = train_first_stage(materials, WITH_FINISH, BuildRun(folder=tmp_path, log=lambda _: None))
    quiet = BuildRun(folder=tmp_path / "whole", log=lambda _: None)
    whole = finish_first_stage(first, materials, WITH_FINISH, quiet)
    wishes = iter([False] * (1 + 3 + 1) + [True])  # before the first step, three scans, another step
    cut = BuildRun(folder=tmp_path / "cut", log=lambda _: None, is_cancelled=lambda: next(wishes))
    with pytest.raises(JobCancelled):
        finish_first_stage(first, materials, WITH_FINISH, cut)
    assert (tmp_path / "cut" / "finish" / "resume.pt").is_file()
    again = BuildRun(folder=tmp_path / "cut", log=lambda _: None)
    resumed = finish_first_stage(first, materials, WITH_FINISH, again)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True))


def test_a_wish_to_stop_is_heeded_in_the_middle_of_mining(materials: Materials, tmp_path: Path) -> None:
    """Stopped after the first of three scans: the same call goes on with the second."""
    wishes = iter([False] * 5 + [True])  # before four steps and one scan
    run = BuildRun(folder=tmp_path, log=lambda _: None, is_cancelled=lambda: next(wishes))
    with pytest.raises(JobCancelled, match="after 1 of 3 scans"):
        FirstStage(materials, SETTINGS, run).train()
    parts = tmp_path / "first_stage" / "mining" / "round_1" / mining.PARTS
    assert [path.name for path in parts.iterdir()] == ["00000.npy"]
    stage = FirstStage(materials, SETTINGS, BuildRun(folder=tmp_path, log=lambda _: None))
    assert stage.trainer.step == 3
    stage.train()
    assert stage.trainer.step == 12


def test_false_marks_that_are_gone_stop_the_run(materials: Materials, tmp_path: Path) -> None:
    """A later segment cannot be drawn without the marks that it began with."""
    wishes = iter([False] * 9 + [True])  # before four steps and three scans, then before two more steps
    run = BuildRun(folder=tmp_path, log=lambda _: None, is_cancelled=lambda: next(wishes))
    with pytest.raises(JobCancelled):
        FirstStage(materials, replace(SETTINGS, validate_every=0), run).train()
    (tmp_path / "first_stage" / "mining" / "round_1" / mining.MARKS).unlink()
    stage = FirstStage(materials, replace(SETTINGS, validate_every=0), BuildRun(folder=tmp_path, log=lambda _: None))
    with pytest.raises(ModelError, match=r"round_1/false_marks\.csv is gone"):
        stage.train()


def test_a_build_can_be_asked_for_again(prepared: Path, whole_and_cut: tuple[Path, Path]) -> None:
    """A finished build gives the same file at once."""
    before = (whole_and_cut[0] / "tiny.safetensors").read_bytes()
    path = build_tiny(prepared, whole_and_cut[0], lambda _: None)
    assert path.read_bytes() == before
