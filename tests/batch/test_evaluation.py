"""Evaluation of a classifier on patches: scores, leak guard, operating point, input, files."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from napari_alnct.batch.classifier_files import PatchClassifier
from napari_alnct.batch.evaluation import EvaluationWish, evaluate, scored_patches
from napari_alnct.batch.evaluation_files import write_evaluation, write_scores
from napari_alnct.batch.patch_checks import check_patches, stored_threshold
from napari_alnct.core.config import PrepareSettings
from napari_alnct.core.errors import JobCancelled, ModelError, SettingsError, TableError
from napari_alnct.core.network import scale_hu
from napari_alnct.evaluation.curves import auc
from napari_alnct.evaluation.operating_point import parse_rule
from napari_alnct.io.identifiers import short_hash
from napari_alnct.io.patch_store import PatchStore
from napari_alnct.io.tables import read_candidates
from tests.batch.tiny_patches import PREPARE, SMALL, series_uid, small_network, small_rows, write_patches

STORED, FAST = parse_rule("stored"), {"n_samples": 30, "device": "cpu"}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> PatchStore:
    """Give 24 patches of 6 scans."""
    return write_patches(tmp_path_factory.mktemp("patches"))


def model(training: dict[str, Any] | None = None, prepare: PrepareSettings | None = PREPARE) -> PatchClassifier:
    """Give an untrained classifier as if read from a file; by default it was trained on other scans."""
    known = {"train_series": [short_hash("other")]} if training is None else training
    return PatchClassifier(
        name="small", file="m.safetensors", sha256="0" * 64, network=small_network(), prepare=prepare, training=known
    )


def wish(rule: str = "stored", **changes: Any) -> EvaluationWish:
    return EvaluationWish(rule=parse_rule(rule), **(FAST | changes))


def test_scores_are_those_of_the_plain_centre_patch(store: PatchStore) -> None:
    """Batches of any size give the sigmoid of the network's answer to the unshifted patch, in the table's order."""
    classifier, steps = model(), []
    result = evaluate(store, classifier, wish(batch=5), on_progress=lambda *step: steps.append(step))
    cubes = torch.from_numpy(np.stack([store.cube(row) for row in range(len(store))]))
    with torch.inference_mode():
        logits = classifier.network(scale_hu(cubes, PREPARE.low_hu, PREPARE.high_hu).unsqueeze(1))
    np.testing.assert_allclose(result.report.patches.scores, logits.double().sigmoid(), rtol=1e-4)
    assert steps == [(5, 24), (10, 24), (15, 24), (20, 24), (24, 24)]
    assert result.report.auc.value == auc(store.labels, result.report.patches.scores)
    assert (result.device, result.precision) == ("cpu", "float32")


def test_the_window_is_that_of_the_model(store: PatchStore) -> None:
    """Other HU limits in the recipe give other scores; without a recipe the patches' own are taken, and it is said."""
    narrow = replace(PREPARE, low_hu=-900.0, high_hu=100.0)
    ours, other = (evaluate(store, model(prepare=prepare), wish()).report for prepare in (PREPARE, narrow))
    assert np.abs(ours.patches.scores - other.patches.scores).max() > 1e-3
    silent = evaluate(store, model(prepare=None), wish()).report
    np.testing.assert_array_equal(silent.patches.scores, ours.patches.scores)
    assert "does not say which input it was trained on" in silent.notes[0]


def test_a_smaller_network_looks_at_the_middle(tmp_path: Path) -> None:
    """A network with a smaller edge than the patches gets their middle; one that is too large is refused."""
    store, classifier = write_patches(tmp_path, edge=20), model()
    result = evaluate(store, classifier, wish())
    hu = torch.from_numpy(store.hu[:, 4:20, 4:20, 4:20].copy())
    with torch.inference_mode():
        logits = classifier.network(scale_hu(hu, PREPARE.low_hu, PREPARE.high_hu).unsqueeze(1))
    np.testing.assert_allclose(result.report.patches.scores, logits.double().sigmoid(), rtol=1e-4)
    large = replace(classifier, network=small_network(0, replace(SMALL, patch_vox=32)))
    with pytest.raises(TableError, match="stored with 24 voxels, the model looks at 32"):
        evaluate(store, large, wish())


def test_training_scans_are_refused(store: PatchStore) -> None:
    """One sentence with both counts; with leave given the figures carry a note."""
    known = model({"train_series": [short_hash(series_uid(1)), short_hash(series_uid(4)), "f" * 16]})
    with pytest.raises(SettingsError, match=r"m\.safetensors was trained on 2 of the 6 scans .* --allow-trained-on"):
        evaluate(store, known, wish())
    notes = evaluate(store, known, wish(allow_trained_on=True)).report.notes
    assert notes[0] == "The model was trained on 2 of the 6 scans: these are no figures of unseen scans."


@pytest.mark.parametrize(
    "training", [{"train_patients": [short_hash("P1")]}, {"cases": [series_uid(2), series_uid(3)]}]
)
def test_patients_and_plain_names_are_guarded_too(tmp_path: Path, training: dict[str, Any]) -> None:
    """A patient has two scans here; older recipes name their scans in plain text."""
    store = write_patches(tmp_path, small_rows(patients=True))
    with pytest.raises(SettingsError, match="trained on 2 of the 6 scans"):
        check_patches(store, model(training))


def test_unseen_scans_pass_and_unknown_training_is_said(store: PatchStore) -> None:
    """Nothing to say about other scans; a file that does not tell cannot be checked, and that is said."""
    assert check_patches(store, model()) == []
    for silent in ({}, {"train_series": 3}):
        (note,) = check_patches(store, model(silent))
        assert "whether these are new cannot be checked" in note


def test_validation_scans_are_said(store: PatchStore) -> None:
    """Scans that chose the epoch flatter the model: a note, and the stored threshold counts as optimistic."""
    seen = [short_hash(series_uid(scan)) for scan in range(3)]
    training = {"train_series": ["x"], "val_series": seen, "patch_threshold": {"threshold": 0.3, "how": "Youden"}}
    report = evaluate(store, model(training), wish()).report
    assert "3 of the 6 scans chose the best epoch" in report.notes[0]
    assert (report.point.threshold, report.point.rule, report.point.is_optimistic) == (0.3, "stored", True)
    assert "Youden" in report.point.how
    assert "The stored threshold was chosen during training on scans of this table" in report.notes[1]
    elsewhere = evaluate(store, model(training | {"val_series": ["y"]}), wish()).report
    assert not elsewhere.point.is_optimistic
    assert evaluate(store, model(training), wish("0.7")).report.point.is_optimistic is False


@pytest.mark.parametrize(
    ("entry", "threshold"),
    [(0.4, 0.4), ({"threshold": 1}, 1.0), (None, None), ({}, None), ("0.4", None), (True, None), (7, None)],
)
def test_stored_thresholds_are_read_with_care(entry: object, threshold: float | None) -> None:
    """A number, or a dict with one; whatever is no probability counts as absent."""
    assert stored_threshold({"patch_threshold": entry})[0] == threshold


def test_other_inputs_are_refused_or_said(tmp_path: Path) -> None:
    """Another spacing cannot be mended; patches clipped more narrowly than the model's window are said."""
    store = write_patches(tmp_path, prepare=replace(PREPARE, low_hu=-1000.0, high_hu=400.0))
    assert "clipped to -1000 to 400 HU" in check_patches(store, model())[0]
    with pytest.raises(SettingsError, match=r"have 1 mm voxels, the model wants 0\.8 mm; run preprocess"):
        check_patches(store, model(prepare=replace(PREPARE, spacing_mm=0.8)))


def test_an_empty_table_is_refused(tmp_path: Path) -> None:
    """No patches, no figures."""
    store = write_patches(tmp_path, small_rows(1))
    with pytest.raises(TableError, match="is empty; run sample"):
        check_patches(replace(store, rows=()), model())


def test_a_cancelled_run_stops(store: PatchStore) -> None:
    """It stops before the next batch."""
    steps: list[int] = []
    with pytest.raises(JobCancelled):
        evaluate(
            store,
            model(),
            wish(batch=4),
            on_progress=lambda done, _: steps.append(done),
            is_cancelled=lambda: len(steps) == 2,
        )
    assert steps == [4, 8]


def test_answers_that_are_no_numbers_are_refused(store: PatchStore) -> None:
    """The answer is checked, not the weights alone."""
    classifier = model()
    with torch.no_grad():
        classifier.network.head.bias.fill_(np.inf)
    with pytest.raises(ModelError, match=r"m\.safetensors: the network gives NaN or infinity"):
        evaluate(store, classifier, wish())


def test_lack_of_memory_names_the_batch(store: PatchStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """What torch raises becomes the next step."""

    def fail(*_: object) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr("napari_alnct.core.inference.Runner.run", fail)
    with pytest.raises(SettingsError, match="a batch of 8 patches does not fit into memory; choose a smaller --batch"):
        evaluate(store, model(), wish(batch=8))


def test_clusters_are_patients_where_all_are_known() -> None:
    """Two scans of a patient are drawn together; one unknown patient, and scans are drawn."""
    rows = small_rows(patients=True)
    by_patient = scored_patches(rows, np.zeros(len(rows)))
    assert (by_patient.cluster_unit, by_patient.n_clusters, by_patient.n_scans) == ("patient", 3, 6)
    rows[0] = replace(rows[0], patient="")
    assert (scored_patches(rows, np.zeros(len(rows))).cluster_unit) == "scan"
    assert len(np.unique(by_patient.nodule)) == 6 + 1  # nodule 0 of each scan is its own, and -1


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_files_hold_the_result(store: PatchStore, tmp_path: Path) -> None:
    """metrics.json repeats the report with model and versions; curves lie beside it; pictures are PNG."""
    result = evaluate(store, model(), wish("youden"))
    names = write_evaluation(tmp_path / "a" / "b", result, store, model())
    folder = tmp_path / "a" / "b"
    assert {path.name for path in folder.iterdir()} == set(names)
    assert names[0] == "metrics.json"
    figures = json.loads((folder / "metrics.json").read_text())
    assert figures["auc"] == result.report.auc.value
    assert figures["model"]["sha256"] == "0" * 64
    assert figures["model"]["network"]["feat_mult"] == 1
    assert "Research software" in figures["notice"]
    assert {"napari-alnct", "python", "numpy", "torch"} == set(figures["versions"])
    assert figures["operating_point"]["is_optimistic"] is True
    for name in ("roc", "pr", "confusion", "calibration", "by_size"):
        assert (folder / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert [read(folder / "roc.csv")[k]["threshold"] == "inf" for k in (0, 1)] == [True, False]
    assert sum(int(row["n_patches"]) for row in read(folder / "groups.csv")) == 24
    assert len(read(folder / "bands.csv")) == 101


def test_what_is_undefined_replaces_what_was_there(
    store: PatchStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A single class after an ordinary run into the same folder leaves no ROC curve of the earlier one."""
    monkeypatch.setattr("napari_alnct.evaluation.curve_plots._png", lambda _: b"\x89PNG")
    write_evaluation(tmp_path, evaluate(store, model(), wish()), store, model())
    single = write_patches(tmp_path / "single", [row for row in small_rows() if row.label])
    names = write_evaluation(tmp_path, evaluate(single, model(), wish()), single, model())
    assert not {"roc.png", "pr.png", "roc.csv", "pr.csv", "bands.csv"} & {path.name for path in tmp_path.iterdir()}
    assert {"confusion.png", "calibration.png", "by_size.png"} < set(names)
    figures = json.loads((tmp_path / "metrics.json").read_text())
    assert figures["auc"] is None
    assert any("only nodules" in note for note in figures["notes"])


def test_scores_are_written_as_candidates(store: PatchStore, tmp_path: Path) -> None:
    """Every patch in the table's order, with LUNA16's columns for froc and what the patch is."""
    scores = np.linspace(0, 1, len(store)) ** 3
    write_scores(tmp_path / "new" / "c.csv", store, scores.tolist())
    candidates = read_candidates(tmp_path / "new" / "c.csv")
    assert [series for series, _ in candidates] == [row.series_uid for row in store.rows]
    assert [c.score for _, c in candidates] == scores.tolist()
    assert candidates[1][1].position_xyz_mm == (40.0, 30.5, -21.25)
    rows = read(tmp_path / "new" / "c.csv")
    assert (rows[0]["label"], rows[0]["kind"], rows[0]["diameter_mm"]) == ("1", "nodule", "4")
    assert (rows[2]["label"], rows[2]["kind"], rows[2]["diameter_mm"]) == ("0", "lung", "")


def test_a_folder_that_is_a_file_is_refused(store: PatchStore, tmp_path: Path) -> None:
    """The sentence names it."""
    (tmp_path / "plots").write_text("")
    with pytest.raises(SettingsError, match="plots is a file"):
        write_evaluation(tmp_path / "plots", evaluate(store, model(), wish()), store, model())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_scores_on_a_gpu_are_those_of_the_cpu(store: PatchStore) -> None:
    """Up to rounding."""
    here, there = (evaluate(store, model(), wish(device=device)).report for device in ("cpu", "cuda"))
    np.testing.assert_allclose(here.patches.scores, there.patches.scores, atol=2e-3)
