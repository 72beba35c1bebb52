"""The page: counts of ``froc``, nothing from outside, nothing that runs, no names by default."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from napari_alnct.batch.froc import FrocPaths, judge_tables, write_froc
from napari_alnct.batch.report import ReportOptions, write_report
from napari_alnct.batch.report_inputs import ReportInputs, find_run, merged
from napari_alnct.core.checkpoint import Recipe, write_checkpoint
from napari_alnct.core.config import ClassifierNetSettings
from napari_alnct.core.errors import JobCancelled, SettingsError, TableError
from napari_alnct.core.network import ClassifierNetwork
from napari_alnct.core.notice import NOTICE
from napari_alnct.io.identifiers import short_hash
from napari_alnct.models.catalogue import find_model
from tests.batch.report_case import HOSTILE, Page, write_case, write_record
from tests.evaluation.reference import reference_paths

OPTIONS = ReportOptions()


def inputs_of(folder: Path, **changes: Any) -> ReportInputs:
    """Give the tables and scans of a case."""
    inputs = ReportInputs(
        candidates=folder / "marks.csv",
        annotations=folder / "nodules.csv",
        excluded=folder / "excluded.csv",
        seriesuids=folder / "scans.csv",
        scans=folder / "scans",
    )
    return replace(inputs, **changes)


def page_of(folder: Path, inputs: ReportInputs | None = None, **options: Any) -> Page:
    """Write the report of a case and read it."""
    write_report(folder / "report.html", inputs or inputs_of(folder), replace(OPTIONS, **options))
    return Page(folder / "report.html")


def froc_of(folder: Path) -> dict[str, Any]:
    """Run ``froc`` on the tables of a case."""
    paths = FrocPaths(
        candidates=folder / "marks.csv",
        annotations=folder / "nodules.csv",
        excluded=folder / "excluded.csv",
        seriesuids=folder / "scans.csv",
    )
    write_froc(folder / "froc", judge_tables(paths, n_samples=50, seed=3), paths)
    document: dict[str, Any] = json.loads((folder / "froc" / "froc.json").read_text())
    return document


def model_file(path: Path, name: str = "tiny", **training: Any) -> str:
    """Write a tiny classifier with training facts."""
    settings = ClassifierNetSettings(widths=(8, 8), depths=(1, 1), patch_vox=16)
    recipe = Recipe(name=name, version="1", classifier=settings, training=training)
    write_checkpoint(path, recipe, None, ClassifierNetwork(settings))
    return str(path)


def test_counts_are_those_of_froc(tmp_path: Path) -> None:
    """The figures of the summary equal ``froc.json``; the page says them."""
    folder = write_case(tmp_path)
    document = froc_of(folder)
    inputs = inputs_of(folder, froc_dir=folder / "froc")
    figures = write_report(folder / "r.html", inputs, OPTIONS).figures
    assert figures is not None
    same = (
        "true_positives",
        "false_positives",
        "false_negatives",
        "ignored_excluded",
        "cpm",
        "cpm_ci95",
        "sensitivity",
    )
    assert {name: figures[name] for name in same} == {name: document[name] for name in same}
    text = Page(folder / "r.html").text
    assert "1 of 2 nodules found at any score; 1 missed" in text
    assert "1 false positives at any score, in 3 scans" in text
    assert "Hits: 1 of 1" in text
    assert "Misses: 1 of 1" in text
    assert "False positives: 1 of 1" in text


@pytest.mark.data
def test_counts_of_the_published_result(data_pack: Path, tmp_path: Path) -> None:
    """DeepLung on LUNA16, without scans: the official counts, and 12 examples of each kind without pictures."""
    paths = reference_paths(data_pack)
    inputs = ReportInputs(
        candidates=paths.candidates, annotations=paths.annotations, excluded=paths.excluded, seriesuids=paths.seriesuids
    )
    summary = write_report(tmp_path / "r.html", inputs, OPTIONS)
    figures = summary.figures
    assert figures is not None
    assert [figures[n] for n in ("true_positives", "false_positives", "false_negatives")] == [1136, 46078, 50]
    assert round(figures["cpm"], 6) == 0.841966
    assert (summary.n_examples, summary.n_pictures) == (36, 0)
    assert "No scans were given" in Page(tmp_path / "r.html").text


def test_tables_that_are_not_those_of_froc_json_are_refused(tmp_path: Path) -> None:
    """With one mark less the counts differ, and the sentence says which."""
    folder = write_case(tmp_path)
    froc_of(folder)
    marks = (folder / "marks.csv").read_text().splitlines()
    (folder / "marks.csv").write_text("\n".join(marks[:-2]) + "\n")
    with pytest.raises(TableError, match=r"froc\.json counts 1 false positives, the tables 0"):
        write_report(folder / "r.html", inputs_of(folder, froc_dir=folder / "froc"), OPTIONS)


def test_the_page_needs_nothing_but_itself(tmp_path: Path) -> None:
    """No script, no form, no address but data and places in the page; its own policy forbids the rest."""
    folder = write_case(tmp_path)
    page = page_of(folder, inputs_of(folder, model=find_model().name))
    assert {"script", "link", "iframe", "object", "form", "base"} & set(page.tags) == set()
    assert [a[:40] for a in page.addresses if not a.startswith(("data:image/png;base64,", "#"))] == []
    assert [name for name in page.attributes if name.startswith("on")] == []
    assert "default-src 'none'" in (folder / "report.html").read_text()
    assert page.tags.count("image") == 9  # three panels of a hit, a miss and a false positive


def test_the_notice_stands_first_and_last(tmp_path: Path) -> None:
    """Research software, not a medical device: on top and at the bottom."""
    text = page_of(write_case(tmp_path)).text
    assert text.count(NOTICE) == 2
    assert text.removeprefix(OPTIONS.title).strip().startswith(NOTICE)
    assert text.endswith(f"{NOTICE} No mark does not mean no nodule.")


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    """A series, a title, a model, its facts and figures of an evaluation that hold HTML are shown as they are."""
    folder = write_case(tmp_path / "case", first=HOSTILE)
    facts = {HOSTILE: HOSTILE, "deep": {"x": {HOSTILE: 1}}}
    model = model_file(tmp_path / "m.safetensors", name=HOSTILE, **facts)
    (tmp_path / "eval").mkdir()
    (tmp_path / "eval" / "metrics.json").write_text(json.dumps({HOSTILE: 0.5, "auc": HOSTILE, "notes": [HOSTILE]}))
    (tmp_path / "eval" / "roc.png").write_text(HOSTILE)
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "log.csv").write_text(f"epoch,train_loss,{HOSTILE}\n1,0.5,{HOSTILE}\n2,0.4,x\n")
    inputs = inputs_of(folder, model=model, eval_dir=tmp_path / "eval", train_dir=tmp_path / "train")
    page = page_of(folder, inputs, show_ids=True, title=HOSTILE)
    assert ("script" in page.tags, "onerror" in page.attributes) == (False, False)
    assert page.text.count("alert(1)") >= 8
    assert [a[:40] for a in page.addresses if not a.startswith(("data:image/png;base64,", "#"))] == []


def test_names_are_hashes_unless_asked_for(tmp_path: Path) -> None:
    """A canary in series, file names, folder and training facts is nowhere in the page; with --show-ids it is."""
    canary = "ZZCANARYZZ"
    folder = write_case(tmp_path / canary, first=canary)
    for name in ("marks.csv", "nodules.csv"):
        (folder / name).rename(folder / f"{canary}_{name}")
    model = model_file(folder / f"{canary}.safetensors", place=f"/home/{canary}/x", cases=[canary], uid="1.2.840.99.1")
    named = {"candidates": folder / f"{canary}_marks.csv", "annotations": folder / f"{canary}_nodules.csv"}
    inputs = inputs_of(folder, model=model, **named)
    page_of(folder, inputs)
    hidden = (folder / "report.html").read_text()
    assert (canary in hidden, "1.2.840" in hidden) == (False, False)
    assert short_hash(canary) in hidden
    page_of(folder, inputs, show_ids=True)
    assert canary in (folder / "report.html").read_text()


def test_an_unreadable_scan_costs_its_pictures_only(tmp_path: Path) -> None:
    """Half of b's voxels are missing: its miss has no picture and says why; a's examples have theirs."""
    folder = write_case(tmp_path)
    data = next(path for path in (folder / "scans").glob("b.*raw"))
    data.write_bytes(data.read_bytes()[:50])
    summary = write_report(folder / "r.html", inputs_of(folder), OPTIONS)
    assert (summary.n_examples, summary.n_pictures, len(summary.unread)) == (3, 2, 1)
    assert f"No picture: the scan could not be read ({summary.unread[0]})" in Page(folder / "r.html").text


def test_scans_that_were_never_searched_are_named_as_such(tmp_path: Path) -> None:
    """The record says that b failed: its nodule counts as missed, and the page says that nobody looked."""
    folder = write_case(tmp_path)
    marks = (folder / "marks.csv").read_text().splitlines()
    (folder / "marks.csv").write_text("\n".join(marks[:-1]) + "\n")
    write_record(folder, done=("a", "c"), failed={"b.mhd": "E_DATA_SIZE"})
    text = page_of(folder).text
    assert "1 listed scan has no result in the record" in text
    assert f"{short_hash('b')} E_DATA_SIZE 1" in text
    assert "Not searched no result for this scan (E_DATA_SIZE)" in text


def test_a_searched_scan_without_marks_is_not_called_unsearched(tmp_path: Path) -> None:
    """C has no mark and is in the record: nothing is said of it."""
    folder = write_case(tmp_path)
    write_record(folder, done=("a", "b", "c"), failed={})
    assert "no result in the record" not in page_of(folder).text


def test_scans_may_be_missing(tmp_path: Path) -> None:
    """Without a's scan the choice is made among b's, and the page says so; without any, there are no pictures."""
    folder = write_case(tmp_path)
    for path in (folder / "scans").glob("a.*"):
        path.unlink()
    text = page_of(folder).text
    assert "its scan is not among those given" in text
    assert page_of(folder, inputs_of(folder, scans=None)).tags.count("image") == 0


def test_a_position_outside_of_the_scan_is_told(tmp_path: Path) -> None:
    """A mark far away, as of a mirrored table, has no picture but a reason."""
    folder = write_case(tmp_path)
    with (folder / "marks.csv").open("a") as stream:
        stream.write("c,-300,-300,20,0.6,5\n")
    assert "No picture: the position lies outside the scan" in page_of(folder).text


def test_the_list_of_scans_must_be_known(tmp_path: Path) -> None:
    """Without a list and without scans nothing is guessed: the divisor would be wrong."""
    folder = write_case(tmp_path)
    with pytest.raises(SettingsError, match="--seriesuids"):
        write_report(folder / "r.html", inputs_of(folder, seriesuids=None, scans=None), OPTIONS)
    assert "in 3 scans" in page_of(folder, inputs_of(folder, seriesuids=None)).text


def test_training_on_judged_scans_is_told(tmp_path: Path) -> None:
    """The model lists a among its training scans, b among those it was chosen on; c is new."""
    folder = write_case(tmp_path)
    model = model_file(tmp_path / "m.safetensors", train_series=[short_hash("a")], val_series=[short_hash("b")])
    text = page_of(folder, inputs_of(folder, model=model)).text
    assert "1 of the 3 judged scans are among those that the model was trained on" in text
    assert "1 of the 3 judged scans are among those that the model was chosen on" in text
    clean = model_file(tmp_path / "clean.safetensors", train_series=[short_hash("x")])
    assert "among those" not in page_of(folder, inputs_of(folder, model=clean)).text.replace("among those given", "")


def test_limits_come_from_the_model_card(tmp_path: Path) -> None:
    """The bundled model's card is quoted; a model without a card has none, and the page says what that means."""
    folder = write_case(tmp_path)
    assert "never run on the full LUNA16 set" in page_of(folder, inputs_of(folder, model="default")).text
    bare = page_of(folder, inputs_of(folder, model=model_file(tmp_path / "m.safetensors"))).text
    assert "This model has no model card" in bare
    (tmp_path / "MODEL_CARD.md").write_text("# Model card: tiny\n\n## Known failures\n\n- Everything *small*.\n")
    assert "Everything small." in page_of(folder, inputs_of(folder, model=model_file(tmp_path / "m.safetensors"))).text
    (tmp_path / "MODEL_CARD.md").write_text("# Model card: another\n\nSafe for all.\n")
    other = page_of(folder, inputs_of(folder, model=model_file(tmp_path / "m.safetensors"))).text
    assert "Safe for all" not in other


def test_the_record_names_the_bundled_model(tmp_path: Path) -> None:
    """Without --model, the model of the detection run is found by its hash; another one is told apart."""
    folder = write_case(tmp_path)
    (folder / "marks.run.json").write_text(json.dumps({"model": {"sha256": find_model().sha256}, "scans": []}))
    assert find_model().name in page_of(folder).text
    other = model_file(tmp_path / "m.safetensors")
    assert "made by another model" in page_of(folder, inputs_of(folder, model=other)).text


def test_a_report_of_froc_json_alone(tmp_path: Path) -> None:
    """Figures, curve and sizes; no examples, and it says so."""
    folder = write_case(tmp_path)
    froc_of(folder)
    page = page_of(folder, ReportInputs(froc_dir=folder / "froc"))
    assert "Only the figures of froc.json were at hand" in page.text
    assert ("image" in page.tags, page.tags.count("img")) == (False, 1)


def test_evaluation_and_learning_curves(tmp_path: Path) -> None:
    """Figures with intervals, plots that are PNG, and the curves of the log; a half-written row is left out."""
    folder = write_case(tmp_path)
    froc_of(folder)
    ev = tmp_path / "eval"
    ev.mkdir()
    figures = {
        "auc": 0.9,
        "auc_ci95": [0.8, 0.95],
        "counts": {"n_patches": 7},
        "notes": ["Rough."],
        "by_size": [{"a": 1}],
    }
    (ev / "metrics.json").write_text(json.dumps(figures))
    (ev / "roc.png").write_bytes((folder / "froc" / "froc.png").read_bytes())
    (tmp_path / "log.csv").write_text(
        "epoch,train_loss,val_loss,val_auc,learning_rate\n1,.7,.6,.8,.001\n2,.5,.5,nan,.0005\n3,.4"
    )
    page = page_of(folder, ReportInputs(eval_dir=ev, train_dir=tmp_path))
    assert "auc 0.9 (95 % CI 0.8 to 0.95)" in page.text
    assert "counts, n patches 7" in page.text
    assert page.tags.count("img") == 2


def test_a_cross_validation_has_its_folds_and_no_model_of_its_own(tmp_path: Path) -> None:
    """Folds with their CPM; the list says that b failed; froc.json's notes stay; no fold's log is the run's."""
    folder = write_case(tmp_path / "joined")
    marks = (folder / "marks.csv").read_text().splitlines()
    (folder / "marks.csv").write_text("\n".join(marks[:-1]) + "\n")
    (folder / "scans.csv").write_text("seriesuid,status,code\na,done,\nb,failed,E_DATA_SIZE\nc,done,\n")
    document = froc_of(folder)
    document["notes"] = ["2 of 10 folds were tested", *document["notes"]]
    (folder / "froc" / "froc.json").write_text(json.dumps(document))
    fold = {"fold": 3, "val_fold": 4, "n_train": 8, "n_test": 2, "n_failed": 1, "cpm": 0.25, "cpm_ci95": [0.1, 0.5]}
    (folder / "froc" / "joined.json").write_text(json.dumps({"folds": [fold]}))
    (tmp_path / "fold3" / "first_stage").mkdir(parents=True)
    (tmp_path / "fold3" / "first_stage" / "log.csv").write_text("step,total,rate\n20,0.5,0.001\n40,0.4,0.001\n")
    page = page_of(folder, find_run(tmp_path))
    assert "3 4 8 2 1 0.250 0.100 to 0.500" in page.text
    assert "2 of 10 folds were tested" in page.text
    assert f"{short_hash('b')} E_DATA_SIZE 1" in page.text
    assert "Learning curves" not in page.text


def test_a_detectors_training_has_curves_of_its_stages(tmp_path: Path) -> None:
    """The only model file there, and the logs of first stage, validation and second look."""
    run = tmp_path / "run"
    for name, text in (
        ("first_stage/log.csv", "step,total,rate\n20,0.5,0.001\n40,0.4,0.001\n"),
        ("first_stage/validation.csv", "step,cpm,cpm_low,cpm_high\n20,0.5,0.4,0.6\n"),
        ("second_look/log.csv", "step,total,rate\n20,0.5,0.001\n"),
    ):
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        (run / name).write_text(text)
    model_file(run / "mine.safetensors", name="mine")
    found = find_run(run)
    page = page_of(tmp_path, found)
    assert found.train_dir == run
    assert page.tags.count("img") == 3
    assert "Name mine" in page.text


def test_nothing_to_report_is_refused(tmp_path: Path) -> None:
    """No inputs, or an empty training folder: one sentence, no file."""
    for inputs in (ReportInputs(), ReportInputs(train_dir=tmp_path)):
        with pytest.raises(SettingsError, match="nothing to report on"):
            write_report(tmp_path / "r.html", inputs, OPTIONS)
    assert list(tmp_path.iterdir()) == []


def test_cancelling_leaves_the_older_file(tmp_path: Path) -> None:
    """Stopped at the second scan, the page of before stands; nothing else is left."""
    folder = write_case(tmp_path)
    (folder / "report.html").write_text("before")
    names = sorted(path.name for path in folder.iterdir())
    asked: list[int] = []
    with pytest.raises(JobCancelled):
        write_report(
            folder / "report.html", inputs_of(folder), OPTIONS, is_cancelled=lambda: asked.append(1) or len(asked) > 1
        )
    assert (folder / "report.html").read_text() == "before"
    assert sorted(path.name for path in folder.iterdir()) == names


def test_the_same_inputs_give_the_same_page(tmp_path: Path) -> None:
    """Byte for byte, apart from the day."""
    folder = write_case(tmp_path)
    write_report(folder / "1.html", inputs_of(folder), OPTIONS)
    write_report(folder / "2.html", inputs_of(folder), OPTIONS)
    assert (folder / "1.html").read_bytes() == (folder / "2.html").read_bytes()


def test_progress_counts_scans(tmp_path: Path) -> None:
    """Two scans hold examples, each is read once."""
    folder = write_case(tmp_path)
    seen: list[tuple[int, int]] = []
    write_report(folder / "r.html", inputs_of(folder), OPTIONS, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(0, 2), (1, 2), (2, 2)]


def test_a_run_folder_is_searched(tmp_path: Path) -> None:
    """Model, log, metrics and froc.json at any depth to three; tables by the hashes in froc.json."""
    folder = write_case(tmp_path / "run" / "tables")
    froc_of(folder)
    run = tmp_path / "run"
    (run / "models" / "trials" / "0001").mkdir(parents=True)
    for place in ("models", "models/trials/0001"):
        model_file(run / place / "best.safetensors")
    (run / "eval").mkdir()
    (run / "eval" / "metrics.json").write_text("{}")
    found = find_run(run)
    assert (found.candidates, found.annotations) == (folder / "marks.csv", folder / "nodules.csv")
    assert (found.train_dir, found.eval_dir, found.froc_dir) == (run / "models", run / "eval", folder / "froc")
    (folder / "marks.csv").write_text((folder / "marks.csv").read_text() + "c,1,1,1,0.1,4\n")
    assert find_run(run).candidates is None
    own = merged(ReportInputs(candidates=tmp_path / "other.csv"), found)
    assert (own.candidates, own.froc_dir, own.train_dir) == (tmp_path / "other.csv", None, run / "models")


def test_an_empty_run_folder_is_refused(tmp_path: Path) -> None:
    """One sentence that says what was looked for."""
    with pytest.raises(SettingsError, match=r"best\.safetensors"):
        find_run(tmp_path)
