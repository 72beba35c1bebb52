"""Training of the classifier: it learns, keeps the best, goes on exactly, and refuses what would deceive."""

from __future__ import annotations

import csv
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from napari_alnct.core.checkpoint import read_checkpoint
from napari_alnct.core.config import to_json
from napari_alnct.core.errors import JobCancelled, ModelError, SettingsError, TableError
from napari_alnct.core.network import ClassifierNetwork
from napari_alnct.io.identifiers import short_hash
from napari_alnct.io.patch_store import PatchStore
from napari_alnct.training import classifier_run
from napari_alnct.training.classifier import (
    ClassifierSettings,
    EpochReport,
    classifier_settings_from_json,
    read_classifier_settings,
    train_classifier,
)
from napari_alnct.training.distributed import Processes
from napari_alnct.training.patch_split import check_split, with_shuffled_labels
from napari_alnct.training.resume import CURRENT
from napari_alnct.training.validation import Validation, judge_scores, score_plain_patches
from tests.training.patches import PREPARE, TINY, write_patches

Stores = tuple[PatchStore, PatchStore]


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Stores:
    """Give training and validation patches of different scans."""
    folder = tmp_path_factory.mktemp("patches")
    train = write_patches(folder / "train", series=["1.2.3", "1.2.4"], seed=1)
    return train, write_patches(folder / "val", series=["1.2.5"], seed=2, n=12)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """Give the weights of the last resume point, plain and averaged."""
    state = torch.load(folder / CURRENT, weights_only=True)
    return {f"{part}.{k}": v for part in ("network", "average") for k, v in state[part].items()}


def rows(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]


def same(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> bool:
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.fixture(scope="module")
def whole(stores: Stores, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the folder of an uninterrupted run of 3 epochs of 4 steps."""
    folder = tmp_path_factory.mktemp("whole")
    reports: list[EpochReport] = []
    result = train_classifier(*stores, TINY, folder, device="cpu", on_epoch=reports.append)
    assert [report.epoch for report in reports] == [1, 2, 3]
    assert (result.best_auc, result.best_epoch) == max((r.val_auc, r.epoch) for r in reports if r.is_best)
    assert result.checkpoint == folder / "best.safetensors"
    return folder


def test_it_learns_to_tell_balls_from_noise(whole: Path, stores: Stores) -> None:
    """AUC 1 on patches of another scan; the stored threshold parts them; a fresh model gives the same scores."""
    model = read_checkpoint(whole / "best.safetensors")
    assert model.classifier is not None
    logits = score_plain_patches(model.classifier, stores[1], torch.device("cpu"), torch.float32, batch=4)
    found = judge_scores(stores[1].labels, logits)
    assert found.auc == 1.0
    point = model.recipe.training["patch_threshold"]
    assert point["threshold"] == pytest.approx(found.threshold, abs=1e-6)
    called = 1 / (1 + np.exp(-logits)) >= point["threshold"]
    assert (called == stores[1].labels).all()


def test_the_model_file_says_what_it_was_made_of(whole: Path, stores: Stores) -> None:
    """Settings, preparation, scans as hashes, the level of the guard, results; no operating points per scan."""
    recipe = read_checkpoint(whole / "best.safetensors").recipe
    assert recipe.prepare == PREPARE
    assert recipe.operating_points == {}
    training = recipe.training
    assert classifier_settings_from_json(training["settings"]) == TINY
    assert training["train_series"] == sorted(map(short_hash, ("1.2.3", "1.2.4")))
    assert training["val_series"] == [short_hash("1.2.5")]
    assert (training["guard"], training["labels"], training["precision"]) == ("series", "given", "float32")
    assert training["train_fingerprint"] == stores[0].fingerprint
    assert training["results"]["val_auc"] == 1.0
    assert training["train_patches"] == {"positive": 8, "negative": 8}


def test_losses_and_rates_are_logged(whole: Path) -> None:
    """log.csv has a line per epoch, steps.csv one per two steps, TensorBoard the same numbers at the same steps."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    epochs, steps = rows(whole / "log.csv"), rows(whole / "steps.csv")
    assert [(row["epoch"], row["step"]) for row in epochs] == [("1", "4"), ("2", "8"), ("3", "12")]
    assert [row["step"] for row in steps] == ["2", "4", "6", "8", "10", "12"]
    assert np.mean([float(row["total"]) for row in steps[:2]]) == pytest.approx(
        float(epochs[0]["train_loss"]), rel=1e-4
    )
    curves = EventAccumulator(str(whole / "tensorboard"))
    curves.Reload()
    for tag, column, table in (
        ("loss/train", "train_loss", epochs),
        ("auc/val", "val_auc", epochs),
        ("learning_rate", "rate", steps),
    ):
        drawn = [(str(event.step), event.value) for event in curves.Scalars(tag)]
        assert drawn == [(row["step"], pytest.approx(float(row[column]), rel=1e-4)) for row in table]


def test_what_on_epoch_raises_leaves_a_run_that_goes_on_exactly(whole: Path, stores: Stores, tmp_path: Path) -> None:
    """Stopped after epoch 1 by an exception, at a step of epoch 3 by a wish: best file each time, same end."""

    class PrunedError(Exception):
        pass

    def prune(report: EpochReport) -> None:
        raise PrunedError

    with pytest.raises(PrunedError):
        train_classifier(*stores, TINY, tmp_path, device="cpu", on_epoch=prune)
    assert read_checkpoint(tmp_path / "best.safetensors").recipe.training["results"]["epoch"] == 1
    seen: list[int] = []
    with pytest.raises(JobCancelled):
        train_classifier(
            *stores,
            TINY,
            tmp_path,
            device="cpu",
            resume=True,
            on_step=lambda report: seen.append(report.step),
            is_cancelled=lambda: seen[-1:] == [10],
        )
    assert seen == [5, 6, 7, 8, 9, 10]
    notes: list[str] = []
    train_classifier(*stores, TINY, tmp_path, device="cpu", resume=True, on_note=notes.append)
    assert notes == ["going on after step 10 of 12"]
    assert same(weights(tmp_path), weights(whole))
    for name in ("log.csv", "steps.csv"):
        assert rows(tmp_path / name) == rows(whole / name)


def test_the_result_does_not_depend_on_who_prepares_patches(stores: Stores, tmp_path: Path) -> None:
    """With dropout and changed patches: one process of the loader, cut in mid-epoch, against none, uninterrupted."""
    augment = replace(TINY.augment, strength=1.0, backend="batched")
    settings = replace(TINY, epochs=2, augment=augment, network=replace(TINY.network, dropout=0.3))
    train_classifier(*stores, settings, tmp_path / "none", device="cpu")
    seen: list[int] = []
    for resume in (False, True):
        done = False
        try:
            train_classifier(
                *stores,
                replace(settings, workers=1),
                tmp_path / "one",
                device="cpu",
                resume=resume,
                on_step=lambda report: seen.append(report.step),
                is_cancelled=lambda: seen == [1, 2, 3, 4, 5],
            )
            done = True
        except JobCancelled:
            seen.append(0)
        assert done == resume
    assert same(weights(tmp_path / "one"), weights(tmp_path / "none"))


def test_the_best_epoch_is_kept_and_patience_ends_the_run(
    stores: Stores, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """AUC .6 .8 .7 .8 (lower loss) .8 (higher loss) .7 with patience 2: best is epoch 4, and epoch 6 is the last."""
    course = iter([(0.6, 1.0), (0.8, 0.9), (0.7, 0.1), (0.8, 0.8), (0.8, 0.85), (0.7, 0.1), (0.9, 0.1)])
    monkeypatch.setattr(classifier_run, "judge_scores", lambda *_: Validation(*next(course), 0.5))
    bests: list[int] = []
    result = train_classifier(
        *stores,
        replace(TINY, epochs=7, patience=2),
        tmp_path,
        device="cpu",
        on_epoch=lambda report: bests.append(report.epoch) if report.is_best else None,
    )
    assert bests == [1, 2, 4]
    assert (result.best_epoch, result.n_epochs, result.is_early) == (4, 6, True)
    assert read_checkpoint(tmp_path / "best.safetensors").recipe.training["results"]["epoch"] == 4
    again = train_classifier(*stores, replace(TINY, epochs=7, patience=2), tmp_path, device="cpu", resume=True)
    assert again == result


def test_a_folder_with_a_run_is_not_begun_again_in_silence(whole: Path, stores: Stores, tmp_path: Path) -> None:
    """Neither flag: refused; both: refused; --overwrite begins anew and leaves nothing of the old run."""
    with pytest.raises(SettingsError, match=r"holds a training run .* --resume"):
        train_classifier(*stores, TINY, whole, device="cpu")
    with pytest.raises(SettingsError, match="not both"):
        train_classifier(*stores, TINY, whole, device="cpu", resume=True, overwrite=True)
    settings = replace(TINY, epochs=1)
    for overwrite in (False, True):
        train_classifier(*stores, settings, tmp_path, device="cpu", overwrite=overwrite)
    assert len(rows(tmp_path / "log.csv")) == 1
    assert len(list((tmp_path / "tensorboard").iterdir())) == 1


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"learning_rate": 1e-4}, r"learning_rate is 0\.0001, the run in .* begun with 0\.003"),
        ({"network": replace(TINY.network, feat_mult=2.0)}, r"network\.feat_mult is 2\.0, .* begun with 1\.0"),
        ({"augment": replace(TINY.augment, strength=1.0)}, r"augment\.strength is 1\.0"),
    ],
    ids=["rate", "width", "augmentation"],
)
def test_a_run_goes_on_only_with_its_settings(
    change: dict[str, object], sentence: str, whole: Path, stores: Stores
) -> None:
    """The sentence names the first setting that differs; what changes no number (workers) may change."""
    with pytest.raises(SettingsError, match=sentence):
        train_classifier(*stores, replace(TINY, **change), whole, device="cpu", resume=True)
    train_classifier(*stores, replace(TINY, workers=1), whole, device="cpu", resume=True)


def test_a_run_goes_on_only_with_its_patches(whole: Path, stores: Stores, tmp_path: Path) -> None:
    """Other patches of the same scans, or shuffled labels, are another run."""
    other = write_patches(tmp_path, series=["1.2.3", "1.2.4"], seed=1, n=20)
    with pytest.raises(SettingsError, match="the train patches are not those that the run"):
        train_classifier(other, stores[1], TINY, whole, device="cpu", resume=True)
    with pytest.raises(SettingsError, match=r"labels is 'shuffled', the run in .* begun with 'given'"):
        train_classifier(*stores, TINY, whole, device="cpu", resume=True, shuffle_labels=True)


def test_scans_on_both_sides_are_refused(stores: Stores, tmp_path: Path) -> None:
    """A shared series is named by its hash, also one that gave no patch to one side."""
    val = write_patches(tmp_path / "a", series=["1.2.9", "1.2.4"], seed=3)
    with pytest.raises(SettingsError, match=f"share 1 scan, the first is {short_hash('1.2.4')}"):
        check_split(stores[0], val)
    other = write_patches(tmp_path / "b", series=["1.2.9"], seed=3)
    listed = replace(other, description=other.description | {"series": ["1.2.9", "1.2.4"]})
    with pytest.raises(SettingsError, match="share 1 scan"):
        check_split(stores[0], listed)


def test_patients_on_both_sides_are_refused_where_both_know_them(stores: Stores, tmp_path: Path) -> None:
    """Different scans of one patient: refused; without names on one side the guard says series, else patient."""
    named = write_patches(tmp_path / "a", series=["1.3.1"], seed=3, patients=["ann"])
    same_patient = write_patches(tmp_path / "b", series=["1.3.2"], seed=4, patients=["ann"])
    other = write_patches(tmp_path / "c", series=["1.3.3"], seed=5, patients=["bob"])
    with pytest.raises(SettingsError, match=f"share 1 patient, the first is {short_hash('ann')}"):
        check_split(named, same_patient)
    assert check_split(named, other).guard == "patient"
    assert check_split(named, stores[1]).guard == "series"


def test_patches_that_cannot_train_are_refused(stores: Stores, tmp_path: Path) -> None:
    """One kind alone on a side."""
    positives = replace(stores[1], rows=stores[1].rows[1::2])
    with pytest.raises(TableError, match=r"the validation patches in val are 6 with and 0 without a nodule"):
        check_split(stores[0], positives)


def test_shuffled_labels_say_nothing_of_the_true_ones(tmp_path: Path) -> None:
    """Half of each kind gets label 1, by the seed; the patches stay; the model file calls itself a control."""
    store = write_patches(tmp_path / "train", series=["1"], seed=0, n=40)
    shuffled = with_shuffled_labels(store, seed=3)
    assert [int(shuffled.labels[store.labels == label].sum()) for label in (0, 1)] == [10, 10]
    assert (shuffled.labels == with_shuffled_labels(store, seed=3).labels).all()
    assert (shuffled.labels != with_shuffled_labels(store, seed=4).labels).any()
    assert shuffled.fingerprint == store.fingerprint
    val = write_patches(tmp_path / "val", series=["2"], seed=0)
    train_classifier(store, val, replace(TINY, epochs=1), tmp_path / "run", device="cpu", shuffle_labels=True)
    recipe = read_checkpoint(tmp_path / "run" / "best.safetensors").recipe
    assert "control" in recipe.name
    assert recipe.training["labels"] == "shuffled"


def test_a_control_run_lets_true_labels_choose_nothing(
    stores: Stores, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of AUC .7 .4 .5 by chance the last is kept, not the best: picking by true labels would be a leak."""
    course = iter([0.7, 0.4, 0.5])
    monkeypatch.setattr(classifier_run, "judge_scores", lambda *_: Validation(next(course), 1.0, 0.5))
    settings = replace(TINY, patience=1)
    result = train_classifier(*stores, settings, tmp_path, device="cpu", shuffle_labels=True)
    assert (result.best_auc, result.best_epoch, result.n_epochs) == (0.5, 3, 3)
    assert read_checkpoint(tmp_path / "best.safetensors").recipe.training["results"]["epoch"] == 3


def test_validation_is_shared_by_several_processes(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of 5 processes scores every fifth patch; together they give the scores of one, in order."""
    network = ClassifierNetwork(TINY.network).eval()
    cpu = torch.device("cpu")
    alone = score_plain_patches(network, stores[1], cpu, torch.float32, batch=3)
    parts: list[np.ndarray] = []
    empty = [np.zeros(len(range(rank, len(stores[1]), 5))) for rank in range(5)]
    monkeypatch.setattr(Processes, "gather", lambda self, part: parts.append(part) or empty)
    for rank in range(5):
        score_plain_patches(network, stores[1], cpu, torch.float32, batch=3, processes=Processes(rank, 5))
    joined = np.empty_like(alone)
    for rank, part in enumerate(parts):
        joined[rank::5] = part
    np.testing.assert_allclose(joined, alone, atol=1e-6)


def test_the_threshold_has_the_largest_youden_index() -> None:
    """Scores worked by hand: at logit 1 two of three nodules and none of the others; half way down to -1 is 0."""
    labels, logits = np.array([1, 1, 1, 0, 0], np.int8), np.array([3.0, 1.0, -2.0, -1.0, -3.0])
    found = judge_scores(labels, logits)
    assert found.threshold == pytest.approx(0.5)
    assert found.auc == pytest.approx(5 / 6)
    assert found.loss == pytest.approx(np.mean(np.log1p(np.exp(-logits * (2 * labels - 1.0)))))


def test_scores_that_are_not_finite_stop_the_run() -> None:
    """Nothing is picked by a broken network."""
    with pytest.raises(ModelError, match="1 of 2 validation scores are not finite"):
        judge_scores(np.array([0, 1], np.int8), np.array([0.0, np.nan]))


def test_batch_norm_in_several_cpu_processes_is_refused() -> None:
    """The sentence names the setting to change."""
    network = ClassifierNetwork(replace(TINY.network, norm="batch"))
    with pytest.raises(SettingsError, match=r"norm is batch: .*--norm group"):
        Processes(0, 2).joined_network(network, torch.device("cpu"))


@pytest.mark.skipif(os.name != "posix", reason="limits on file size are a POSIX feature")
def test_a_full_disk_keeps_the_best_model(stores: Stores, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No room for the second best model: one sentence, the first one and the resume point stay whole, no rubbish."""
    import resource

    course = iter([0.6, 0.8, 0.7, 0.6])
    monkeypatch.setattr(classifier_run, "judge_scores", lambda *_: Validation(next(course), 1.0, 0.5))
    settings = replace(TINY, save_every=1000)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    sizes: list[int] = []

    def fill_disk(report: EpochReport) -> None:
        sizes.append((tmp_path / "best.safetensors").stat().st_size)
        resource.setrlimit(resource.RLIMIT_FSIZE, (sizes[0] - 100, before[1]))

    try:
        with pytest.raises(ModelError, match=r"best\.safetensors cannot be written .* whole"):
            train_classifier(*stores, settings, tmp_path, device="cpu", on_epoch=fill_disk)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert read_checkpoint(tmp_path / "best.safetensors").recipe.training["results"]["epoch"] == 1
    assert not list(tmp_path.glob("*.tmp")) + list(tmp_path.glob(".*.tmp"))
    assert train_classifier(*stores, settings, tmp_path, device="cpu", resume=True).n_epochs == 3


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('{"epochs": "20"}', "epochs is '20'; give a whole number"),
        ('{"batch": 4.5}', r"batch is 4\.5; give a whole number"),
        ('{"learning_rate": 2}', r"learning_rate is 2, allowed is 1e-06 to 1\.0"),
        ('{"precision": "half"}', "precision is 'half'; give one of auto, float32, bfloat16, float16"),
        ('{"network": {"widths": [8, "x"]}}', r"network\.widths is \[8, 'x'\]; give a list, each a whole number"),
        ('{"network": {"width": 8}}', "ClassifierNetSettings has no setting width"),
        ('{"rate": 1}', "ClassifierSettings has no setting rate"),
        ('{"augment": 3}', "augment is 3"),
        ("[1]", "settings are written as"),
        ("epochs: 3", "not a readable JSON file"),
    ],
)
def test_a_settings_file_is_checked(text: str, sentence: str, tmp_path: Path) -> None:
    """Unknown names, wrong kinds and values out of bounds are one sentence with the file's name."""
    path = tmp_path / "mine.json"
    path.write_text(text)
    with pytest.raises(SettingsError, match=rf"^mine\.json: .*{sentence}"):
        read_classifier_settings(path)


def test_settings_survive_json() -> None:
    """What a model file stores gives the same settings back."""
    settings = replace(TINY, neg_ratio=None, augment=replace(TINY.augment, blur_range_mm=(0.1, 0.2)))
    assert classifier_settings_from_json(json.loads(json.dumps(to_json(settings)))) == settings
    assert classifier_settings_from_json({}) == ClassifierSettings()
    wide = classifier_settings_from_json({"network": {"feat_mult": 2}}).network
    assert wide == replace(ClassifierSettings().network, feat_mult=2)
