"""The lines of the README that train and judge a classifier, run as they stand, on phantoms and a CPU."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from napari_alnct.cli.app import dispatch
from tests.test_documents import ROOT, command_lines

MARK = "<!-- sequence: tests/test_sequence.py runs these lines -->"
STEPS = ["phantom", "preprocess", "sample", "sample", "train", "eval", "gradcam"]

pytestmark = [pytest.mark.timeout(900), pytest.mark.filterwarnings("default")]


def readme_lines() -> list[list[str]]:
    """Give the words of the lines of the README's sequence."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    block = text[text.index(MARK) :].split("```")[1]
    return command_lines(f"```\n{block.strip()}\n```\n")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run the sequence in an empty folder; give the folder."""
    folder = tmp_path_factory.mktemp("sequence")
    before = Path.cwd()
    os.chdir(folder)
    try:
        for words in readme_lines():
            assert dispatch(words) == 0, words
    finally:
        os.chdir(before)
    return folder


def test_the_readme_shows_every_step() -> None:
    """From data to figures, in order; training and validation are sampled in two calls from other folds."""
    lines = readme_lines()
    assert [words[0] for words in lines] == STEPS
    folds = [words[words.index("--folds") + 1] for words in lines if words[0] == "sample"]
    assert len(set(folds)) == 2


def test_the_classifier_knows_nodules_of_unseen_scans(run: Path) -> None:
    """Validation AUC of 0.95 and more on patches of scans that were not trained on."""
    metrics = json.loads((run / "plots/val/metrics.json").read_text(encoding="utf-8"))
    assert metrics["auc"] >= 0.95


def test_every_step_leaves_what_it_promises(run: Path) -> None:
    """Model, tables, plots and example patches are where the README says."""
    wanted = [
        *("data_preproc/labels_vox.csv", "patches/train/patch_map.csv", "patches/val/example_pos.npy"),
        *("models/best.safetensors", "models/log.csv", "plots/val/roc.png", "results/val_candidates.csv"),
        *(f"explanations/example_pos{suffix}" for suffix in (".mha", ".png", ".json")),
        "explanations/summary.json",
    ]
    assert [name for name in wanted if not (run / name).is_file()] == []


def test_shuffled_labels_teach_nothing(run: Path) -> None:
    """With the labels of the training patches shuffled the AUC stays at 0.5 +- 0.1: no other cue leaks."""
    patches = [f"--{part}-csv={run}/patches/{part}/patch_map.csv" for part in ("train", "val")]
    model = run / "shuffled"
    assert dispatch(["train", *patches, "--epochs", "4", "--save-dir", str(model), "--shuffle-labels"]) == 0
    plots = run / "plots/shuffled"
    words = ["--csv", f"{run}/patches/val/patch_map.csv", "--ckpt", f"{model}/best.safetensors"]
    assert dispatch(["eval", *words, "--plot-dir", str(plots), "--bootstrap", "0"]) == 0
    metrics = json.loads((plots / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["auc"] == pytest.approx(0.5, abs=0.1)
