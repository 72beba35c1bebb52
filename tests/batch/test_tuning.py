"""The search: counts of trials over restarts and processes, what is kept, what ends it, what it refuses."""

from __future__ import annotations

import csv
import errno
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from napari_alnct.batch.tuning import Search, TuningWish, search
from napari_alnct.batch.tuning_full import train_best
from napari_alnct.batch.tuning_results import best_settings, write_settings
from napari_alnct.core.checkpoint import read_recipe
from napari_alnct.core.errors import JobCancelled, ModelError, SettingsError
from napari_alnct.io.patch_store import PatchStore
from napari_alnct.training import tuning
from napari_alnct.training.augmentation import AugmentSettings, PatchFrame
from napari_alnct.training.classifier import read_classifier_settings
from napari_alnct.training.saving import DiskError, saving
from tests.batch.tuning_case import SETTINGS, Memory, command, write_stores
from tests.training.patches import write_patches

Stores = tuple[PatchStore, PatchStore]
WISH = TuningWish(n_trials=2, fixed=("strength", "width"), device="cpu")  # one tiny network


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Compute with one thread: more only wait for each other on networks this small."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Stores:
    """Give training and validation patches."""
    return write_stores(tmp_path_factory.mktemp("patches"))


def search_of(stores: Stores, folder: Path, n: int = 2, **changes: Any) -> Search:
    """Search until n trials are done."""
    memory = changes.pop("memory", Memory())
    stop = changes.pop("is_cancelled", None)
    settings = changes.pop("settings", SETTINGS)
    return search(*stores, settings, folder, replace(WISH, n_trials=n, **changes), listener=memory, is_cancelled=stop)


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / "trials.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def models(folder: Path) -> list[str]:
    return sorted(path.parent.name for path in (folder / "trials").glob("*/best.safetensors"))


def test_the_best_settings_are_trained_in_full(stores: Stores, tmp_path: Path) -> None:
    """best_full has the settings of the trial with the highest AUC, but the epochs of the full training.

    They stand in the model file, in best_config.json, and read back by --config are the same.
    """
    found = search_of(stores, tmp_path, 3, settings=replace(SETTINGS, epochs=4))
    result = train_best(*stores, found, device="cpu")
    assert result is not None
    rows = table(tmp_path)
    best = max(rows, key=lambda row: (float(row["auc"]), -int(row["trial"])))
    begun = json.loads((tmp_path / "trials" / f"{int(best['trial']):04d}" / "run.json").read_text())["identity"]
    full = read_recipe(result.checkpoint).training["settings"]
    same = [name for name in full if name not in ("epochs", "workers")]
    assert {name: full[name] for name in same} == {name: begun[name] for name in same}
    assert (begun["epochs"], full["epochs"]) == (3, 4)
    config = read_classifier_settings(tmp_path / "best_config.json")
    assert json.loads(json.dumps(full)) == json.loads((tmp_path / "best_config.json").read_text())
    assert (config.seed, config.learning_rate) == (int(best["seed"]), full["learning_rate"])
    assert (tmp_path / "tuning_history.png").read_bytes().startswith(b"\x89PNG")


def test_only_the_best_trial_keeps_its_model(stores: Stores, tmp_path: Path) -> None:
    """Of all trials the log stays, of the best one also the model; no resume points."""
    found = search_of(stores, tmp_path, 3)
    assert found.state.best is not None
    assert models(tmp_path) == [f"{found.state.best.number:04d}"]
    assert len(list((tmp_path / "trials").glob("*/log.csv"))) == 3
    assert list((tmp_path / "trials").rglob("resume*.pt")) == []
    assert list((tmp_path / "study.journal.locks").iterdir()) == []


def test_the_first_trial_is_what_one_would_train_without_a_search(stores: Stores, tmp_path: Path) -> None:
    """Its settings are those of the base."""
    search_of(stores, tmp_path, 1)
    begun = json.loads((tmp_path / "trials" / "0000" / "run.json").read_text())["identity"]
    assert (begun["network"]["widths"], begun["learning_rate"]) == ([8, 16, 32], SETTINGS.learning_rate)


def test_a_search_goes_on_until_enough_are_done(stores: Stores, tmp_path: Path) -> None:
    """Two trials, then "4": two more; the first two stay; then "4" again: none. The same seeds give the same search."""
    search_of(stores, tmp_path / "a", 2)
    before = table(tmp_path / "a")
    memory = Memory()
    found = search_of(stores, tmp_path / "a", 4, memory=memory)
    assert (memory.begun, found.state.n_done) == ([2, 3], 4)
    assert table(tmp_path / "a")[:2] == before
    again = Memory()
    search_of(stores, tmp_path / "a", 4, memory=again)
    assert again.begun == []
    search_of(stores, tmp_path / "b", 4)
    ours, theirs = table(tmp_path / "a"), table(tmp_path / "b")
    assert [{**row, "seconds": ""} for row in ours] == [{**row, "seconds": ""} for row in theirs]


def test_other_patches_or_settings_are_refused(stores: Stores, tmp_path: Path) -> None:
    """The study is bound to its patches and to all that is not searched; the sentence says what differs."""
    search_of(stores, tmp_path / "run", 1)
    other = write_patches(tmp_path / "other", series=["1.2.9"], seed=9, n=8)
    with pytest.raises(SettingsError, match="other training patches"):
        search_of((other, stores[1]), tmp_path / "run", 2)
    with pytest.raises(SettingsError, match="another batch"):
        search_of(stores, tmp_path / "run", 2, settings=replace(SETTINGS, batch=6))
    with pytest.raises(SettingsError, match="another set of searched settings"):
        search_of(stores, tmp_path / "run", 2, fixed=("strength", "width", "dropout"))
    (tmp_path / "no.journal").write_text("hello\nthis is none\n")
    with pytest.raises(SettingsError, match="no search that can be read"):
        search_of(stores, tmp_path / "run", 2, study=tmp_path / "no.journal")


def test_a_failed_trial_is_not_the_end(stores: Stores, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second trial runs out of memory: it is a failed one that counts, with its reason in the table."""
    train, calls = tuning.train_classifier, []

    def faulty(*arguments: Any, **options: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise ModelError("memory is short on cpu with batch 4; use a smaller batch")
        return train(*arguments, **options)

    monkeypatch.setattr(tuning, "train_classifier", faulty)
    found = search_of(stores, tmp_path, 3)
    states = [(row["state"], row["reason"][:15]) for row in table(tmp_path)]
    assert states == [("complete", ""), ("fail", "memory is short"), ("complete", "")]
    assert found.state.n_done == 3


def test_three_failures_in_a_row_end_it(stores: Stores, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When nothing can be trained, a search of 30 trials says why instead of failing 30 times."""

    def broken(*arguments: Any, **options: Any) -> Any:
        raise RuntimeError("secret /path")

    monkeypatch.setattr(tuning, "train_classifier", broken)
    with pytest.raises(ModelError, match=r"3 trials in a row failed.*unexpected RuntimeError$"):
        search_of(stores, tmp_path, 30)


def test_hopeless_trials_are_given_up(stores: Stores, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A trial whose AUC is below the median of five others after the same epochs ends there, and counts."""
    aucs = iter([0.9, 0.91, 0.92, 0.93, 0.94, 0.3])

    def quick(*arguments: Any, on_epoch: Any, **options: Any) -> Any:
        auc = next(aucs)
        for epoch in range(1, 9):
            on_epoch(tuning.EpochReport(epoch, 8, 0.1, 0.1, auc, 1e-3, 1.0, epoch == 1))
        return tuning.TrialOutcome("complete", auc, 8)

    def outcome(*arguments: Any, **options: Any) -> Any:
        found = quick(*arguments, **options)
        return type("Result", (), {"best_auc": found.auc, "n_epochs": found.n_epochs})

    monkeypatch.setattr(tuning, "train_classifier", outcome)
    memory = Memory()
    search_of(stores, tmp_path, 6, epochs=8, memory=memory)
    last = memory.ended[-1][1]
    assert (last.end, last.n_epochs, last.auc) == ("pruned", 2, 0.3)  # not before a quarter of the epochs
    assert [row["state"] for row in table(tmp_path)] == ["complete"] * 5 + ["pruned"]


def test_a_stopped_trial_goes_on_where_it_was(stores: Stores, tmp_path: Path) -> None:
    """Stopped by the user after its first epoch: the next run trains the rest, with the same settings and seed.

    The stopped one does not count; its folder now belongs to the trial that goes on with it.
    """
    memory = Memory()
    with pytest.raises(JobCancelled):
        search_of(stores, tmp_path, 2, epochs=3, memory=memory, is_cancelled=lambda: len(memory.epochs) == 4)
    assert memory.epochs == [1, 2, 3, 1]
    again = Memory()
    found = search_of(stores, tmp_path, 2, epochs=3, memory=again)
    assert (again.begun, again.epochs, found.state.n_done) == ([2], [2, 3], 2)
    stopped, going_on = table(tmp_path)[1:]
    same = ("seed", "learning_rate", "weight_decay", "dropout", "neg_ratio")
    assert (stopped["state"], stopped["reason"], going_on["continues"]) == ("fail", "stopped", "1")
    assert [stopped[name] for name in same] == [going_on[name] for name in same]
    assert not (tmp_path / "trials" / "0001").exists()
    whole = search_of(stores, tmp_path.with_name("whole"), 2, epochs=3)
    assert [t.value for t in whole.study.trials()][1] == float(going_on["auc"])  # as if it had never been stopped


def test_the_time_ends_a_search(stores: Stores, tmp_path: Path) -> None:
    """No time at all: no trial, and the training in full says so; the limit is one of this run, not of the study."""
    found = search_of(stores, tmp_path, 2, timeout_s=1e-6)
    assert (found.is_timed_out, found.state.n_done) == (True, 0)
    with pytest.raises(ModelError, match="no trial was completed"):
        train_best(*stores, found)
    assert search_of(stores, tmp_path, 1, timeout_s=600.0).state.n_done == 1


def test_the_training_in_full_is_done_once(stores: Stores, tmp_path: Path) -> None:
    """A second time it says that it is done; with the model removed, or another best, it is done anew."""
    notes: list[str] = []
    found = search_of(stores, tmp_path, 1)
    assert train_best(*stores, found) is not None
    assert train_best(*stores, found, on_note=notes.append) is None
    assert "trained in full already" in notes[-1]
    model = tmp_path / "best_full" / "best.safetensors"
    model.unlink()
    for path in model.parent.glob("resume*"):
        path.unlink()
    assert train_best(*stores, found) is not None
    longer = replace(found, settings=replace(found.settings, epochs=3))
    again = train_best(*stores, longer)
    assert again is not None
    assert again.n_epochs == 3


def test_the_model_stays_until_another_one_is_trained(stores: Stores, tmp_path: Path) -> None:
    """Stopped in the training of another best, the finished model is there; then it is replaced.

    A process that ended between the two renamings of the end leaves the model under another name: it comes back.
    """
    found = search_of(stores, tmp_path, 1)
    assert train_best(*stores, found) is not None
    folder = tmp_path / "best_full"
    before = (folder / "best.safetensors").read_bytes()
    longer = replace(found, settings=replace(found.settings, epochs=3))
    with pytest.raises(JobCancelled):
        train_best(*stores, longer, is_cancelled=lambda: True)
    assert (folder / "best.safetensors").read_bytes() == before
    folder.rename(tmp_path / "best_full.previous")
    with pytest.raises(JobCancelled):
        train_best(*stores, longer, is_cancelled=lambda: True)
    assert (folder / "best.safetensors").read_bytes() == before
    again = train_best(*stores, longer)
    assert again is not None
    assert again.checkpoint == folder / "best.safetensors"
    assert read_recipe(again.checkpoint).training["settings"]["epochs"] == 3
    assert sorted(path.name for path in tmp_path.glob("best_full*")) == ["best_full"]


def test_the_run_alone_tells_what_it_was_begun_with(stores: Stores, tmp_path: Path) -> None:
    """config.json of the new settings beside the run of the old ones: trained anew, not refused."""
    found = search_of(stores, tmp_path, 1)
    assert train_best(*stores, found) is not None
    longer = replace(found, settings=replace(found.settings, epochs=3))
    best = found.study.state().best
    assert best is not None
    write_settings(tmp_path / "best_full" / "config.json", best_settings(found.study, best, longer.settings))
    again = train_best(*stores, longer)
    assert again is not None
    assert again.n_epochs == 3


def test_a_full_disk_is_no_fault_of_a_trial(stores: Stores, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The search ends with the sentence; the trial does not count, and is tried again."""

    def full(*arguments: Any, **options: Any) -> Any:
        with saving(tmp_path / "resume.pt"):
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(tuning, "train_classifier", full)
        with pytest.raises(DiskError, match="No space left"):
            search_of(stores, tmp_path, 1)
    found = search_of(stores, tmp_path, 1)
    assert found.state.n_done == 1
    assert [trial.user_attrs.get("retry_of") for trial in found.study.trials()] == [None, 0]


@pytest.mark.parametrize(("is_orderly", "n_tries"), [(True, 7), (False, 4)], ids=["orderly", "taken down"])
def test_orderly_stops_do_not_use_up_the_retries(
    stores: Stores, tmp_path: Path, is_orderly: bool, n_tries: int
) -> None:
    """Stopped seven times: after orderly stops always the same settings again, else three times."""
    study = search_of(stores, tmp_path, 1, timeout_s=1e-6).study
    rates = []
    for _ in range(7):
        run = study.next_trial(1)
        assert run is not None
        rates.append(run.params["learning_rate"])
        study.stop(run, is_orderly=is_orderly)
    assert rates.count(rates[0]) == n_tries


def test_no_trial_folds_its_patches(stores: Stores, tmp_path: Path) -> None:
    """With elastic deformation at its limit no strength beyond 1 is searched; a fixed one beyond is refused first."""
    most_mm = PatchFrame.of(stores[0]).stored_vox * PatchFrame.of(stores[0]).spacing_mm / 8
    augment = AugmentSettings(elastic_probability=0.5, elastic_mm=most_mm)
    settings = replace(SETTINGS, augment=augment)
    found = search_of(stores, tmp_path / "a", 1, settings=settings, fixed=("width",), timeout_s=1e-6)
    assert found.study.space.range_of("strength").high == 1.0
    beyond = replace(settings, augment=replace(augment, strength=1.2))
    with pytest.raises(SettingsError, match="before they fold"):
        search_of(stores, tmp_path / "b", 1, settings=beyond)
    assert not (tmp_path / "b").exists()


def test_another_process_at_the_training_in_full_is_left_alone(stores: Stores, tmp_path: Path) -> None:
    """Its lock is held: this process trains nothing and says who does."""
    notes: list[str] = []
    found = search_of(stores, tmp_path, 1)
    with found.study.full_lock():
        assert train_best(*stores, found, on_note=notes.append) is None
    assert "another process trains the best setting" in notes[0]
    assert not (tmp_path / "best_full").exists()


def test_a_half_written_last_line_is_cut(stores: Stores, tmp_path: Path) -> None:
    """A process killed while it appended leaves half a line, which Optuna alone would refuse for ever."""
    search_of(stores, tmp_path, 1)
    with (tmp_path / "study.journal").open("a") as file:
        file.write('{"op_code":5,"worker_id":"x","tri')
    assert search_of(stores, tmp_path, 2).state.n_done == 2


def test_a_killed_search_goes_on(stores: Stores, tmp_path: Path) -> None:
    """After kill -9 in the middle of a trial the same command finishes: 3 trials done, the killed one continued."""
    folder, save_dir = stores[0].folder.parent, tmp_path / "models"
    line = command(folder, save_dir, "--tune", 3, "--tune-epochs", 40, "--feat-mult", 1)
    killed = subprocess.Popen(line, stdout=subprocess.PIPE, text=True, env=one_thread())
    try:
        wait_for(lambda: count_lines(save_dir / "trials" / "0001" / "log.csv") > 3, killed)
    finally:
        os.kill(killed.pid, signal.SIGKILL)
        killed.communicate()
    assert killed.returncode == -signal.SIGKILL
    n_before = count_lines(save_dir / "trials" / "0001" / "log.csv") - 1
    after = subprocess.run(line, capture_output=True, text=True, env=one_thread(), timeout=200)
    assert after.returncode == 0, after.stderr
    rows = table(save_dir)
    done = [row for row in rows if row["reason"] != "stopped"]
    assert len(done) == 3
    assert [(row["trial"], row["reason"], row["continues"]) for row in rows[:3]] == [
        ("0", "", ""),
        ("1", "stopped", ""),
        ("2", "", "1"),
    ]
    assert int(rows[1]["epochs"]) <= n_before
    epochs = [int(row["epoch"]) for row in read_rows(save_dir / "trials" / "0002" / "log.csv")]
    assert epochs == list(range(1, len(epochs) + 1))  # one log, no epoch twice
    assert len(epochs) > n_before
    assert (save_dir / "best_full" / "best.safetensors").is_file()


def test_two_processes_share_a_study(stores: Stores, tmp_path: Path) -> None:
    """Both begin at once and want 6 trials: 6 in all, none twice, and the best trained in full by one of them."""
    folder, save_dir = stores[0].folder.parent, tmp_path / "models"
    line = command(folder, save_dir, "--tune", 6, "--tune-epochs", 20, "--feat-mult", 1)
    pair = [
        subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=one_thread())
        for _ in range(2)
    ]
    spoken = [process.communicate(timeout=200) for process in pair]
    assert [process.returncode for process in pair] == [0, 0], spoken
    ended = [[line.split()[1] for line in out.splitlines() if line.startswith("trial ")] for out, _ in spoken]
    assert sorted(ended[0] + ended[1]) == ["0", "1", "2", "3", "4", "5"]
    assert min(map(len, ended)) >= 1  # both worked
    assert sorted(row["trial"] for row in table(save_dir)) == ["0", "1", "2", "3", "4", "5"]
    assert len({row["learning_rate"] for row in table(save_dir)}) == 6  # nobody tried what another one tried
    assert sum("trained in full: best" in out for out, _ in spoken) == 1
    assert len(models(save_dir)) == 1


def one_thread() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1"}


def count_lines(path: Path) -> int:
    return path.read_text().count("\n") if path.is_file() else 0


def read_rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def wait_for(condition: Any, process: subprocess.Popen[str]) -> None:
    """Wait until something is so, while the process runs."""
    for _ in range(3000):
        if condition():
            return
        assert process.poll() is None, "the process ended before it could be killed"
        time.sleep(0.05)
    raise AssertionError("waited too long")
