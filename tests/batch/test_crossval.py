"""Cross-validation as a whole: the joined result, kills and resumes, shared folders, changes, failed scans."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from napari_alnct.batch import detection
from napari_alnct.batch.crossval import run_folds
from napari_alnct.batch.crossval_estimate import estimate
from napari_alnct.batch.crossval_folder import FoldFolder
from napari_alnct.batch.crossval_preparation import own_series, prepare_scans
from napari_alnct.batch.crossval_report import JudgedFolds, finished_folds, judge_folds
from napari_alnct.batch.crossval_tables import hold_split, read_tested
from napari_alnct.batch.crossval_task import CrossvalTask, CrossvalWatch, begin, plan_crossval
from napari_alnct.batch.froc import FrocPaths, judge_tables
from napari_alnct.batch.work_lock import WorkLock
from napari_alnct.core.errors import AlnctError, SettingsError, TableError
from napari_alnct.core.volume import Volume
from napari_alnct.evaluation.froc_report import as_json
from napari_alnct.io.images import ReadOptions
from napari_alnct.io.tables import read_candidates
from napari_alnct.training.settings import BuildSettings
from tests.batch.crossval_parts import NODULE_FREE, TinyTrainer, make_raw, make_task

QUIET = CrossvalWatch(say=lambda _: None)


def prepare(task: CrossvalTask) -> None:
    begin(task)
    prepare_scans(task, QUIET)


def run(task: CrossvalTask, only: tuple[int, ...] = ()) -> dict[int, AlnctError]:
    """Train and test the folds that are left."""
    return run_folds(task, plan_crossval(task, own_series(task)), only, QUIET)


def judged(task: CrossvalTask, n_samples: int = 50) -> JudgedFolds:
    """Judge the finished folds."""
    plan = plan_crossval(task)
    tested = finished_folds(task.fold(split.fold) for split in plan.splits)
    return judge_folds(task.work_dir, task.dataset, tested, len(plan.folds), n_samples=n_samples)


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the raw scans."""
    return make_raw(tmp_path_factory.mktemp("crossval") / "raw")


@pytest.fixture(scope="module")
def whole(raw: Path) -> CrossvalTask:
    """Give a cross-validation that ran from beginning to end without a stop."""
    task = make_task(raw, raw.parent / "whole")
    prepare(task)
    assert run(task) == {}
    judged(task)
    return task


@pytest.fixture
def task(whole: CrossvalTask, tmp_path: Path) -> CrossvalTask:
    """Give a new work folder whose scans are prepared."""
    begun = replace(whole, work_dir=tmp_path / "work", train=TinyTrainer())
    begin(begun)
    shutil.copytree(whole.prepared_root, begun.prepared_root)
    return begun


def test_the_joined_result_is_that_of_the_folds_tables_put_together(whole: CrossvalTask, raw: Path) -> None:
    """The three tables joined by hand, all six scans listed, the whole annotations: the same figures."""
    result = judged(whole)
    tables = [(whole.work_dir / f"fold{k}" / "candidates.csv").read_text().splitlines() for k in range(3)]
    by_hand = raw.parent / "by_hand.csv"
    by_hand.write_text("\n".join([tables[0][0], *(line for table in tables for line in table[1:])]) + "\n")
    listed = raw.parent / "all_scans.csv"
    listed.write_text("".join(f"scan{n}\n" for n in (0, 3, 1, 4, 2, 5)))
    csv_files = raw / "CSVFILES"
    paths = FrocPaths(
        candidates=by_hand,
        annotations=csv_files / "annotations.csv",
        excluded=csv_files / "annotations_excluded.csv",
        seriesuids=listed,
    )
    expected, found = as_json(judge_tables(paths, n_samples=50)), as_json(result.report)
    del expected["notes"], found["notes"]
    assert found == expected
    assert (found["n_scans"], found["n_nodules"], found["true_positives"] > 0) == (6, 10, True)


def test_every_test_scan_is_searched_by_the_model_that_has_not_seen_it(whole: CrossvalTask) -> None:
    """Those without nodules too; each fold's record names its own model."""
    hashes = set()
    for fold in range(3):
        folder = whole.fold(fold)
        assert read_tested(folder.tested) == {f"scan{fold}": True, f"scan{fold + 3}": True}
        assert {uid for uid, _ in read_candidates(folder.table)} == set(read_tested(folder.tested))
        record = json.loads(folder.table.with_name("candidates.run.json").read_text())
        assert record["holds_all_candidates"]
        hashes.add(record["model"]["sha256"])
    assert len(hashes) == 3
    assert NODULE_FREE in read_tested(whole.fold(0).tested)


def test_the_result_says_what_it_is(whole: CrossvalTask) -> None:
    """Folds tested of folds there, joined scores, the noise of one fold; a row for each fold."""
    result = judged(whole)
    assert result.report.notes[0] == "3 of 3 folds were tested, 6 scans"
    assert "joined as they are" in result.report.notes[1]
    assert "about 0.08 either way" in result.report.notes[2]
    joined = whole.work_dir / "joined"
    rows = [line.split(",") for line in (joined / "folds.csv").read_text().splitlines()]
    assert rows[0][:4] == ["fold", "val_fold", "n_train", "n_val"]
    assert [row[:6] for row in rows[1:]] == [
        ["0", "1", "2", "2", "2", "0"],
        ["1", "2", "2", "2", "2", "0"],
        ["2", "0", "2", "2", "2", "0"],
    ]
    document = json.loads((joined / "joined.json").read_text())
    assert (document["n_folds_tested"], document["n_folds"], document["guard"]) == (3, 3, ["series"])
    assert document["folds"][1]["cpm"] == result.folds[1][1].scored.curve.cpm  # type: ignore[union-attr]
    assert all((joined / name).is_file() for name in result.files)


KILLED = """
import os, signal, sys
from pathlib import Path
from napari_alnct.batch import crossval_report
from napari_alnct.batch.crossval_task import CrossvalWatch
from tests.batch.crossval_parts import TinyTrainer, make_task
from tests.batch.test_crossval import judged, prepare_scans, begin, run_folds, plan_crossval

def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

raw, work, when = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
task = make_task(raw, work, train=TinyTrainer(deadly_fold=1 if when == "train" else None))
on_prepared = die if when == "prepare" else lambda _: None
on_scan = (lambda fold, *_: die() if fold == 1 else None) if when == "detect" else lambda *_: None
watch = CrossvalWatch(say=lambda _: None, on_prepared=on_prepared, on_scan=on_scan)
begin(task)
names = prepare_scans(task, watch)
run_folds(task, plan_crossval(task, names), (), watch)
if when == "judge":
    crossval_report.write_froc = die
judged(task)
"""


def test_killed_in_every_step_it_ends_with_the_same_result(whole: CrossvalTask, raw: Path, tmp_path: Path) -> None:
    """SIGKILL while preparing, training, searching, judging; the last run does what is left, and nothing twice."""
    work = tmp_path / "work"
    for when in ("prepare", "train", "detect", "judge"):
        command = [sys.executable, "-c", KILLED, str(raw), str(work), when]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
        assert ended.returncode == -9, ended.stderr
        states = [FoldFolder(work, fold).state.text for fold in range(3)]
        assert (
            states
            == {
                "prepare": ["to do"] * 3,
                "train": ["done (2 scans tested)", "going on (training begun)", "to do"],
                "detect": ["done (2 scans tested)", "going on (trained, 1 scans searched)", "to do"],
                "judge": ["done (2 scans tested)"] * 3,
            }[when]
        )
    assert not (work / "joined" / "froc.json").exists()
    last = make_task(raw, work)
    prepare(last)
    assert run(last) == {}
    assert last.train.calls == []  # type: ignore[attr-defined]
    judged(last)
    for name in ("candidates.csv", "seriesuids.csv", "folds.csv", "froc_curve.csv", "froc_band.csv"):
        assert (work / "joined" / name).read_bytes() == (whole.work_dir / "joined" / name).read_bytes(), name


def test_finished_folds_are_not_done_again_and_lost_ones_are(task: CrossvalTask) -> None:
    """A second run trains nothing; a table that was changed is made again from the model that is there."""
    run(task, only=(2,))
    run(task, only=(2,))
    assert task.train.calls == ["tiny-fold2"]  # type: ignore[attr-defined]
    folder = task.fold(2)
    before = folder.table.read_bytes()
    folder.table.write_bytes(before[:-30])
    assert not folder.state.is_done
    run(task, only=(2,))
    assert folder.table.read_bytes() == before
    (folder.training / "tiny-fold2.safetensors").unlink()
    folder.table.unlink()
    run(task, only=(2,))
    assert task.train.calls == ["tiny-fold2"] * 2  # type: ignore[attr-defined]
    assert folder.table.read_bytes() == before


def test_some_folds_are_judged_by_their_own_scans(task: CrossvalTask) -> None:
    """One fold of three: its two scans and their nodules alone, and it is said."""
    run(task, only=(1,))
    result = judged(task)
    figures = as_json(result.report)
    assert (figures["n_scans"], figures["n_nodules"], figures["candidates_unlisted"]) == (2, 4, 0)
    assert result.report.notes[0] == (
        "1 of 3 folds were tested, 2 scans; the result speaks of these alone, not of the whole data set"
    )


def test_two_processes_do_not_work_on_one_fold(task: CrossvalTask) -> None:
    """A fold that is being worked on is left alone and named; the others go on."""
    said: list[str] = []
    with WorkLock(task.work_dir / "fold0.lock"):
        run_folds(task, plan_crossval(task, own_series(task)), (0, 2), replace(QUIET, say=said.append))
    assert task.train.calls == ["tiny-fold2"]  # type: ignore[attr-defined]
    assert f"fold 0 is left to another process: to do, process {os.getpid()}" in said[0]
    assert not (task.work_dir / "fold2.lock").exists()


def test_a_scan_that_cannot_be_searched_counts_as_one_without_marks(
    task: CrossvalTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stays in the divisor, its nodules are missed, it is said; the next run tries that scan alone again."""
    read = detection.read_volume
    searched: list[str] = []

    def failing(path: Path, options: ReadOptions) -> Volume:
        if path.name == "scan4.mhd":
            raise MemoryError
        return read(path, options)

    def noting(path: Path, options: ReadOptions) -> Volume:
        searched.append(path.name)
        return read(path, options)

    monkeypatch.setattr(detection, "read_volume", failing)
    run(task, only=(1,))
    assert read_tested(task.fold(1).tested) == {"scan1": True, "scan4": False}
    assert task.fold(1).state.text == "done (2 scans tested, 1 failed)"
    result = judged(task)
    figures = as_json(result.report)
    assert (figures["n_scans"], figures["n_nodules"], figures["n_scans_without_marks"]) == (2, 4, 1)
    assert result.failed == ("scan4",)
    assert "1 of the scans could not be searched: they count as scans without marks" in result.report.notes[3]
    monkeypatch.setattr(detection, "read_volume", noting)
    run(task, only=(1,))
    assert searched == ["scan4.mhd"]
    assert task.train.calls == ["tiny-fold1"]  # type: ignore[attr-defined]
    assert task.fold(1).state.text == "done (2 scans tested)"


def test_other_settings_or_data_are_refused(raw: Path, tmp_path: Path) -> None:
    """Recipe, reading, lungs, patients, annotations, scans: each by name; folds and device may differ."""
    task = make_task(raw, tmp_path / "work")
    begin(task)
    begin(replace(task, tested=(1,), detection=replace(task.detection, device="auto"), n_jobs=2))
    data = task.dataset
    nodule = replace(data.annotations[0], diameter_mm=4.0)
    changes = {
        "recipe": {"build": BuildSettings(name="tiny", n_mining_rounds=1)},
        "reading": {"options": ReadOptions(allow_non_hu=True)},
        "lungs": {"has_own_lungs": True},
        "patients": {"patients": {"scan0": "P"}},
        "detection": {"detection": replace(task.detection, second_look=False)},
        "annotations": {"dataset": replace(data, annotations=(nodule, *data.annotations[1:]))},
        r"scans \(1 fewer: scan5\)": {"dataset": replace(data, scans=data.scans[:-1])},
        r"scans \(1 changed: scan0\)": {
            "dataset": replace(data, scans=(replace(data.scans[0], subset=1), *data.scans[1:]))
        },
    }
    for words, change in changes.items():
        with pytest.raises(SettingsError, match=f"work holds a cross-validation with other {words}; give the same"):
            begin(replace(task, **change))  # type: ignore[arg-type]


def test_a_dry_run_writes_nothing_but_still_refuses(raw: Path, tmp_path: Path) -> None:
    """A new folder stays absent; a folder of another run is refused all the same."""
    task = make_task(raw, tmp_path / "work")
    begin(task, is_dry=True)
    assert not task.work_dir.exists()
    begin(task)
    with pytest.raises(SettingsError, match="other lungs"):
        begin(replace(task, has_own_lungs=True), is_dry=True)


def test_a_begun_fold_keeps_the_scans_that_it_was_begun_with(whole: CrossvalTask, tmp_path: Path) -> None:
    """A scan that can be prepared only later is not mixed into it; one that is lost stops it."""
    split = plan_crossval(whole).splits[0]
    fewer = replace(split, train=split.train[:1])
    assert hold_split(tmp_path, fewer) == fewer
    assert hold_split(tmp_path, split) == fewer
    with pytest.raises(TableError, match="begun with 1 scans that cannot be used for train now, the first is scan2"):
        hold_split(tmp_path, replace(split, train=split.train[1:]))


class Liar(TinyTrainer):
    """Trains on what it should not: the first scan of the test fold."""

    def __call__(self, prepared_root: Path, train_series: object, *args: object) -> Path:
        """Give a model whose recipe names a test scan."""
        return super().__call__(prepared_root, ["scan0", *train_series], *args)  # type: ignore[misc, arg-type]


def test_a_model_that_saw_the_test_fold_is_not_tested(task: CrossvalTask) -> None:
    """Its fold fails with the scan's name; nothing is searched; the other folds go on."""
    failures = run(replace(task, train=Liar()), only=(0,))
    assert "tiny-fold0.safetensors was made from 1 scans of test fold 0, the first is scan0" in str(failures[0])
    assert not task.fold(0).table.exists()
    assert task.fold(0).model is None


def test_one_model_for_two_folds_is_refused(whole: CrossvalTask) -> None:
    """As when weights were not reset between folds; and so is a scan that was tested twice."""
    tested = finished_folds(whole.fold(fold) for fold in range(3))
    same = replace(tested[1], record=replace(tested[1].record, model_sha256=tested[0].record.model_sha256))
    with pytest.raises(TableError, match="folds 0 and 1 were tested with one and the same model"):
        judge_folds(whole.work_dir, whole.dataset, [tested[0], same], 3)
    twice = replace(tested[1], scans={**tested[1].scans, "scan0": True})
    with pytest.raises(TableError, match="1 scans were tested in two folds, the first is scan0"):
        judge_folds(whole.work_dir, whole.dataset, [tested[0], twice], 3)


def test_a_fold_that_lacks_a_scan_is_not_judged(whole: CrossvalTask) -> None:
    """A scan dropped from the list would leave its nodules out of the count."""
    tested = finished_folds([whole.fold(0)])
    fewer = replace(tested[0], scans={"scan0": True})
    with pytest.raises(TableError, match="fold 0 lists 1 tested scans, but the data set has 2"):
        judge_folds(whole.work_dir, whole.dataset, [fewer], 3)


def test_the_time_left_is_measured_or_not_known(whole: CrossvalTask, raw: Path, tmp_path: Path) -> None:
    """Nothing measured: None, never a guess. Two folds done: the third by their mean; training resumed: not counted."""
    new = make_task(raw, tmp_path / "new")
    plan = plan_crossval(new)
    assert [step.seconds_left for step in estimate(new, plan.splits)] == [None, None, None]
    assert [step.seconds_left for step in estimate(whole, plan.splits)] == [0.0, 0.0, 0.0]
    shutil.copytree(whole.work_dir, tmp_path / "part")
    part = replace(whole, work_dir=tmp_path / "part")
    shutil.rmtree(part.work_dir / "fold2")
    for fold, seconds, is_whole in ((0, 100.0, True), (1, 7.0, False)):
        path = part.work_dir / f"fold{fold}" / "model.json"
        values = {**json.loads(path.read_text()), "seconds": seconds, "is_whole": is_whole}
        path.write_text(json.dumps(values))
    _, training, testing = estimate(part, plan.splits)
    assert (training.n_done, training.n_left, training.seconds_left) == (2, 1, 100.0)
    records = [part.fold(fold).record for fold in (0, 1)]
    assert testing.seconds_left == pytest.approx(2 * sum(r.detect_seconds for r in records if r) / 4)
