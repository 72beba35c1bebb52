"""The record of a batch: what is done stays done, what changed is done again."""

from __future__ import annotations

import json

import pytest

from napari_alnct.batch.manifest import Manifest
from napari_alnct.core.errors import TableError

INPUTS = {"a": "1", "b": "1", "c": "1"}


@pytest.fixture
def path(tmp_path):
    """Give a manifest with a done, b failed and c left, for the settings {"spacing_mm": 1.0}."""
    manifest = Manifest(tmp_path / "manifest.json", "preprocess", {"spacing_mm": 1.0})
    assert manifest.plan(INPUTS) == ["a", "b", "c"]
    manifest.record_done("a", {"file": "a.mha"}, 1.25)
    manifest.record_failed("b", "E_DIMS", "b.mhd: too large", 0.5)
    manifest.save()
    return manifest.path


def reopened(path, **settings) -> Manifest:
    """Open the manifest again."""
    return Manifest(path, "preprocess", {"spacing_mm": 1.0, **settings})


def test_only_failed_and_left_items_are_done_again(path):
    """A resumed batch skips a; it tries b again and does c; the result of a is still there."""
    manifest = reopened(path)
    assert manifest.plan(INPUTS) == ["b", "c"]
    assert (manifest.items["a"].result, manifest.items["a"].seconds) == ({"file": "a.mha"}, 1.25)


def test_failed_items_keep_code_and_message(path):
    """What failed, and why, can be read from the file."""
    item = reopened(path).items["b"]
    assert (item.state, item.code, item.message) == ("failed", "E_DIMS", "b.mhd: too large")


def test_other_settings_make_everything_left(path):
    """Results of 1.0 mm are not taken for results of 2.0 mm."""
    manifest = reopened(path, spacing_mm=2.0)
    assert manifest.in_state("left") == ["a", "b", "c"]
    assert manifest.plan(INPUTS) == ["a", "b", "c"]


def test_a_changed_input_is_done_again(path):
    """Another size or time of the file makes a left."""
    assert reopened(path).plan({**INPUTS, "a": "2"}) == ["a", "b", "c"]


def test_overwrite_does_everything_again(path):
    """On request, done items are done again."""
    assert reopened(path).plan(INPUTS, overwrite=True) == ["a", "b", "c"]


def test_items_of_other_runs_stay(path):
    """Running another fold adds to the manifest and keeps the first one's results."""
    manifest = reopened(path)
    assert manifest.plan({"d": "1"}) == ["d"]
    assert manifest.in_state("done") == ["a"]
    assert manifest.in_state("done", ["d"]) == []


def test_a_forgotten_item_is_left(path):
    """An item whose result is gone must be done again."""
    manifest = reopened(path)
    manifest.forget("a")
    assert manifest.plan(INPUTS) == ["a", "b", "c"]


def test_the_file_counts_states_and_names_the_program(path):
    """People can read the file: counts, settings and their hash, program."""
    document = json.loads(path.read_text())
    assert document["counts"] == {"done": 1, "failed": 1, "left": 1}
    assert document["settings"] == {"spacing_mm": 1.0}
    assert len(document["settings_sha256"]) == 64
    assert document["program"].startswith("napari-alnct ")


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"items": {"a": {"colour": 1}}}', '{"items": 3, "kind": "x"}'], ids=range(6)
)
def test_a_file_that_is_no_manifest_is_refused(tmp_path, text):
    """Some other or a damaged manifest.json is an error with advice, and stays as it is."""
    path = tmp_path / "manifest.json"
    path.write_text(text)
    with pytest.raises(TableError, match="not a manifest of a batch; delete it"):
        reopened(path)
    assert path.read_text() == text


def test_the_manifest_of_another_job_is_refused(path):
    """An output folder of one job is not taken for that of another."""
    with pytest.raises(TableError, match="belongs to another job"):
        Manifest(path, "detect", {})
