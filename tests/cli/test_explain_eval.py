"""The subcommand explain-eval. CPU: about 8 s."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from napari_alnct.cli.app import dispatch
from tests.core.tiny_models import write_tiny_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give an untrained model whose second look says nodule everywhere."""
    import torch

    from napari_alnct.core.checkpoint import Recipe, write_checkpoint
    from tests.core.tiny_models import PREPARE, tiny_classifier

    classifier = tiny_classifier()
    torch.nn.init.constant_(classifier.head.bias, 8.0)
    path = tmp_path_factory.mktemp("model") / "eager.safetensors"
    write_checkpoint(path, Recipe(name="eager", prepare=PREPARE), None, classifier)
    return path


def test_figures_and_page_of_one_chest(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both files are written, the first map's checks are printed with targets, and the statement stands at the end."""
    from napari_alnct.batch import explain_eval_cases

    monkeypatch.setattr(explain_eval_cases, "PHANTOM_SHAPE", (122, 130, 130))  # a small chest is made sooner
    monkeypatch.setattr(explain_eval_cases, "PHANTOM_NODULES", 2)
    monkeypatch.setattr(explain_eval_cases, "PHANTOM_DECOYS", 2)
    out = tmp_path / "made" / "here"
    arguments = ["--cases", "1", "--nodules", "1", "--methods", "hirescam", "--layers", "encoder.stages.1"]
    arguments += ["--measures", "localisation", "randomisation", "--bootstrap", "20", "--device", "cpu"]
    assert dispatch(["explain-eval", "--out-dir", str(out), "--model", str(model), *arguments]) == 0
    assert sorted(path.name for path in out.iterdir()) == ["explain_eval.html", "explain_eval.json"]
    document = json.loads((out / "explain_eval.json").read_text(encoding="utf-8"))
    assert document["table"]["n_nodules"] == 1
    assert document["score"] == "second look"
    assert document["table"]["n_false_positives"] == 2
    printed = capsys.readouterr().out
    assert "target >= 0.85" in printed
    assert "It does not show that a nodule is there" in printed


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--methods", "lime"], "'lime' is not one of"),
        (["--layers", "nowhere"], "cannot be explained"),
        (["--score", "third look"], "has no score"),
        (["--measures", "taste"], "no measures called 'taste'"),
        (["--scans", "a.mha", "--masks", "a.mha", "b.mha"], "one mask per scan"),
        (["--scans", "a.mha", "--masks", "b.mha", "--data", "pack"], "exclude each other"),
        (["--data", "nowhere"], "name the folder of the data pack"),
        (["--cases", "0"], "--cases"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_mistakes_are_told_before_anything_is_measured(
    arguments: list[str], told: str, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2, one sentence that names the mistake, and no folder left behind."""
    out = tmp_path / "out"
    assert dispatch(["explain-eval", "--out-dir", str(out), "--model", str(model), *arguments]) == 2
    assert told in capsys.readouterr().err
    assert not out.exists()


def test_a_missing_scan_is_refused(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 3 for the only input; a file in the way of the folder is exit code 2."""
    scan, mask = str(tmp_path / "none.mha"), str(tmp_path / "mask.mha")
    words = ["explain-eval", "--model", str(model), "--scans", scan, "--masks", mask]
    assert dispatch([*words, "--out-dir", str(tmp_path / "out")]) in (2, 3)
    assert "none.mha" in capsys.readouterr().err
    (tmp_path / "file").write_text("x")
    assert dispatch([*words, "--out-dir", str(tmp_path / "file")]) == 2


def test_a_model_without_second_look_has_its_first_stage_explained(tmp_path: Path) -> None:
    """The default score is the model's first one."""
    from napari_alnct.batch.explain_eval_plan import ExplainEvalWish, Models, make_bench
    from napari_alnct.core.checkpoint import read_checkpoint

    write_tiny_model(tmp_path / "detector.safetensors", with_classifier=False)
    models = Models(checkpoint=read_checkpoint(tmp_path / "detector.safetensors"), name="detector")
    wish = ExplainEvalWish(measures=("localisation",), device="cpu")
    assert make_bench(models, wish).score_name == "first stage"
