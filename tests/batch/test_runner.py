"""Batches in child processes: outcomes, faults, killed workers, cancel."""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
from pathlib import Path

import pytest

from napari_alnct.batch.manifest import Manifest
from napari_alnct.batch.runner import BatchProgress, run_batch
from napari_alnct.core.errors import JobCancelled

HERE = str(Path(__file__).parent)


@pytest.fixture(scope="module", autouse=True)
def _jobs_are_importable():
    """Let this process and its children import `batch_jobs`."""
    sys.path.insert(0, HERE)
    yield
    sys.path.remove(HERE)


@pytest.fixture
def manifest(tmp_path) -> Manifest:
    """Give an empty manifest."""
    return Manifest(tmp_path / "manifest.json", "test", {})


def run(job_name, tasks, manifest, **options) -> list[BatchProgress]:
    """Plan and run all tasks; give the progress reports."""
    import batch_jobs

    reports: list[BatchProgress] = []
    manifest.plan(dict.fromkeys(tasks, "same"))
    options.setdefault("on_progress", reports.append)
    run_batch(getattr(batch_jobs, job_name), tasks, manifest, **options)
    return reports


def workers_left() -> list[str]:
    """Give the workers that still live."""
    return [child.name for child in multiprocessing.active_children() if child.name == "alnct-batch"]


def test_every_item_is_done_in_other_processes(manifest):
    """Five items in two workers: each result is kept, progress counts up to five."""
    reports = run("double", {str(k): k for k in range(5)}, manifest, n_jobs=2)
    assert [manifest.items[str(k)].result["value"] for k in range(5)] == [0, 2, 4, 6, 8]
    pids = {item.result["pid"] for item in manifest.items.values()}
    assert os.getpid() not in pids
    assert 1 <= len(pids) <= 2
    assert [report.n_done for report in reports] == [1, 2, 3, 4, 5]
    assert (reports[-1].n_failed, reports[-1].n_total) == (0, 5)
    assert workers_left() == []


def test_faults_become_failed_rows_with_code_and_sentence(manifest):
    """Each kind of exception gives its code; the other items are done; no path leaks from system errors."""
    tasks = ("refuse", "setting", "bug", "memory", "disk", "fine")
    reports = run("misbehave", {task: task for task in tasks}, manifest)
    assert {key: item.code for key, item in manifest.items.items()} == {
        "refuse": "E_DATA_SIZE",
        "setting": "SettingsError",
        "bug": "E_UNEXPECTED",
        "memory": "E_MEMORY",
        "disk": "E_SYSTEM",
        "fine": "",
    }
    assert manifest.items["refuse"].message == "a.raw: expected 2 bytes, found 1 byte [E_DATA_SIZE]"
    assert manifest.items["bug"].message.startswith("unexpected ZeroDivisionError (batch_jobs.py, line")
    assert manifest.items["disk"].message == "No space left on device"
    assert (reports[-1].n_done, reports[-1].n_failed) == (1, 5)


def test_a_killed_worker_costs_one_item(manifest):
    """The item that killed its process is failed; those before and after it are done."""
    run("misbehave", {"a": "a", "x": "die", "b": "b"}, manifest)
    assert [manifest.items[key].state for key in "axb"] == ["done", "failed", "done"]
    assert manifest.items["x"].code == "E_WORKER_DIED"
    assert "exit code" in manifest.items["x"].message


def test_cancel_stops_workers_and_lets_them_clean_up(manifest, tmp_path):
    """A worker in the middle of an item removes its unfinished file; the item counts as left."""
    held = tmp_path / "unfinished"

    with pytest.raises(JobCancelled):
        run("hold_a_file", {"a": str(held)}, manifest, is_cancelled=held.exists)
    assert not held.exists()
    assert workers_left() == []
    assert Manifest(manifest.path, "test", {}).in_state("left") == ["a"]


def test_ctrl_c_keeps_what_is_done(manifest):
    """An interrupt after the first item passes on; the manifest holds that item and no worker lives."""

    def interrupt(_: BatchProgress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run("double", {"a": 1, "b": 2}, manifest, on_progress=interrupt)
    saved = Manifest(manifest.path, "test", {})
    assert (saved.in_state("done"), saved.in_state("left")) == (["a"], ["b"])
    assert workers_left() == []


def test_a_batch_runs_in_a_thread(manifest):
    """A front end may run a batch beside its event loop, where signals cannot be set."""
    thread = threading.Thread(target=run, args=("double", {"a": 21}, manifest))
    thread.start()
    thread.join(60)
    assert manifest.items["a"].result["value"] == 42


def test_nothing_to_do_starts_no_process(manifest):
    """Without tasks the manifest is written and that is all."""
    assert run("double", {}, manifest) == []
    assert manifest.path.is_file()
