"""explain-eval from patches to page, with an untrained model on small scans. CPU: about 15 s."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from napari_alnct.batch.explain_eval import evaluate_to_folder, without_nan
from napari_alnct.batch.explain_eval_cases import PHANTOM_SEED, MaskSource, nodules_of, on_grid
from napari_alnct.batch.explain_eval_journal import FILE, ExplainJournal
from napari_alnct.batch.explain_eval_measuring import MEASURES, nodule_record, occlusion_numbers
from napari_alnct.batch.explain_eval_pack import PackSource, outlines
from napari_alnct.batch.explain_eval_patches import centred_patch, jittered_patch, middle_of
from napari_alnct.batch.explain_eval_pictures import draw_slice
from napari_alnct.batch.explain_eval_plan import ExplainEvalWish, Models, make_bench, map_rows
from napari_alnct.batch.explain_eval_randomised import randomised_checkpoints
from napari_alnct.batch.explain_eval_views import check_views, number, shown_row
from napari_alnct.core.checkpoint import Checkpoint, Recipe
from napari_alnct.core.errors import JobCancelled, ModelError, SettingsError, TableError
from napari_alnct.core.evidence import CAPTION, EvidenceMap
from napari_alnct.core.explain.explainer import Explainer
from napari_alnct.core.geometry import Geometry
from napari_alnct.evaluation.explanation_baselines import BASELINES
from napari_alnct.io.images import ReadOptions
from napari_alnct.training.insertion import Donor
from napari_alnct.training.placement import Placed
from tests.batch.explained_lungs import SmallSource, small_scan, tiny_checkpoint
from tests.core.tiny_models import PREPARE, tiny_detector

SECOND = "second look"
MODELS = Models(checkpoint=tiny_checkpoint(), name="tiny")
BRIEF = ExplainEvalWish(
    methods=("hirescam",),
    layers=("encoder.stages.1",),
    measures=("localisation",),
    nodules_per_scan=2,
    jitter_mm=4.0,
    n_samples=50,
    device="cpu",
)


@pytest.fixture(scope="module")
def explainer() -> Explainer:
    return Explainer(MODELS.checkpoint, device="cpu")


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    """Give the result of every measure but occlusion on one scan, and its folder."""
    folder = tmp_path_factory.mktemp("whole")
    wish = ExplainEvalWish(
        methods=("hirescam", "gradcam"), measures=("localisation", "removal", "randomisation", "stability"),
        nodules_per_scan=1, jitter_mm=4.0, n_samples=20, device="cpu",
    )  # fmt: skip
    models = Models(checkpoint=MODELS.checkpoint, name="tiny", shuffled=tiny_checkpoint(5), seeds=(tiny_checkpoint(6),))
    document, _, _ = evaluate_to_folder(folder, models, SmallSource(1), wish)
    return document, folder


def test_every_measure_has_a_figure(whole_run: tuple[dict[str, Any], Path]) -> None:
    """One nodule: all rows that were asked for have n 1; occlusion, which was not, is not run."""
    document, _ = whole_run
    row = shown_row(document)
    counts = {(check["id"], check["label"]): check["n"] for check in row["checks"]}
    never = {key for key, n in counts.items() if n == 0}
    small = {("L1", "the same, 3 to 6 mm"), ("F5", "own over other nodule")}
    areas = {key for key in counts if key[0] == "F1" or key[0] == "F2" or key[0] == "F6"}
    assert never - small - areas == {
        ("F9", "rho with occlusion, median"),
        ("F9", "share without a reliable map, Pearson's r below 0.2"),
        ("F9", "Pearson's r with occlusion, median"),
        ("F9", "maximum within 8 mm of occlusion's"),
    }
    assert row["name"] == "hirescam @ encoder.stages.0"


def test_baselines_stand_beside_every_map(whole_run: tuple[dict[str, Any], Path]) -> None:
    """Two methods at two layers, then random, centre prior and input intensity."""
    names = [row["name"] for row in whole_run[0]["table"]["rows"]]
    assert names[-3:] == list(BASELINES)
    assert len(names) == 7


def test_the_page_needs_nothing_but_itself(whole_run: tuple[dict[str, Any], Path]) -> None:
    """Its policy forbids every request, there is no script and no address outside; the statement stands on it."""
    page = (whole_run[1] / "explain_eval.html").read_text(encoding="utf-8")
    assert "default-src 'none'" in page
    assert "<script" not in page
    assert "http" not in page.replace("http-equiv", "")
    assert "network&#39;s score for this candidate came from" in page
    assert CAPTION.split(".")[1].strip() in page
    assert page.count("<figure>") >= 1


def test_figures_are_plain_json(whole_run: tuple[dict[str, Any], Path]) -> None:
    """The file holds what was given back, with no NaN in it, and the journal is gone."""
    document, folder = whole_run
    text = (folder / "explain_eval.json").read_text(encoding="utf-8")
    assert json.loads(text) == json.loads(json.dumps(document))
    assert "NaN" not in text
    assert sorted(path.name for path in folder.iterdir()) == ["explain_eval.html", "explain_eval.json"]


def test_a_stopped_run_goes_on(tmp_path: Path) -> None:
    """Cancelled while the second scan is measured, the first is kept and not loaded again."""
    first, calls = SmallSource(2), []

    def stop() -> bool:
        calls.append(None)
        return len(first.loaded) == 2

    with pytest.raises(JobCancelled, match="go on"):
        evaluate_to_folder(tmp_path, MODELS, first, BRIEF, is_cancelled=stop)
    again = SmallSource(2)
    document, _, notes = evaluate_to_folder(tmp_path, MODELS, again, BRIEF)
    assert again.loaded[0] == "scan 1"
    assert notes == [f"1 scan was finished before ({FILE})"]
    fresh, _, _ = evaluate_to_folder(tmp_path, MODELS, SmallSource(2), BRIEF)
    assert fresh["records"] == document["records"]


def test_a_journal_of_another_run_is_begun_afresh(tmp_path: Path) -> None:
    """Another identity, or a damaged line: what cannot be used is left out, and said."""
    with ExplainJournal(tmp_path, {"model": "a"}) as journal:
        journal.record("one", [{"x": 1}])
        journal.record("two", [{"x": 2}])
    path = tmp_path / FILE
    path.write_bytes(path.read_bytes()[:-5])
    with ExplainJournal(tmp_path, {"model": "a"}) as journal:
        assert (journal.find("one"), journal.find("two")) == ([{"x": 1}], None)
    with ExplainJournal(tmp_path, {"model": "b"}) as journal:
        assert journal.find("one") is None
        assert journal.notes == [f"{FILE} is of another run; all scans are measured afresh"]
    assert not path.exists()


def test_two_runs_cannot_write_one_folder(tmp_path: Path) -> None:
    """The second is refused while the first is at work."""
    with ExplainJournal(tmp_path, {}), pytest.raises(SettingsError, match="is at this work"):
        ExplainJournal(tmp_path, {}).__enter__()


def test_a_model_that_finds_nothing_is_told(tmp_path: Path) -> None:
    """Without a true positive there is nothing to explain."""
    silent = tiny_checkpoint()
    assert silent.classifier is not None
    torch.nn.init.constant_(silent.classifier.head.bias, -50.0)
    with pytest.raises(TableError, match="no true positive"):
        evaluate_to_folder(tmp_path, Models(checkpoint=silent, name="silent"), SmallSource(1), BRIEF)


def test_patches_lie_off_centre_with_the_whole_nodule(explainer: Explainer) -> None:
    """Within the jitter along each axis, the mask in the patch is the nodule, its HU are the scan's."""
    scan = small_scan(3)
    patch = jittered_patch(explainer, scan, scan.nodules[0], SECOND, seed=4, jitter_mm=4.0)
    assert patch is not None
    off = np.subtract(middle_of(patch.geometry), patch.position_xyz_mm)
    assert 0.5 < np.abs(off).max() <= 4.5
    assert patch.mask.sum() == (scan.labels == 1).sum()
    x, y, z = patch.geometry.index_to_world(np.argwhere(patch.mask)[0])
    there = np.rint(scan.geometry.world_to_index((x, y, z))).astype(int)
    assert scan.labels[tuple(there)] == 1
    assert np.array_equal(np.sort(patch.cube[patch.mask]), np.sort(scan.hu[scan.labels == 1]))


def test_a_step_of_the_patch_moves_its_content_the_other_way(explainer: Explainer) -> None:
    """The cube that begins one slice later holds the same voxels one slice earlier, at the same place in the world."""
    scan = small_scan(3)
    place = scan.nodules[0].position_xyz_mm
    patch = centred_patch(explainer, scan, place, 1, SECOND, place)
    moved, grid = patch.moved(scan, (1, 0, 0), -1000.0)
    assert np.array_equal(moved[:-1], patch.cube[1:])
    assert np.allclose(grid.index_to_world([0, 0, 0]), patch.geometry.index_to_world([1, 0, 0]))


def test_occlusion_is_compared_with_every_other_map() -> None:
    """With an occlusion row every activation map of the nodule has its rho; the occlusion map itself has none."""
    wish = ExplainEvalWish(
        methods=("hirescam", "occlusion"), layers=("encoder.stages.1",), measures=("localisation", "occlusion"),
        device="cpu",
    )  # fmt: skip
    bench, scan = make_bench(MODELS, wish), small_scan(3)
    patch = centred_patch(
        bench.explainer, scan, scan.nodules[0].position_xyz_mm, 1, SECOND, scan.nodules[0].position_xyz_mm
    )
    rows = nodule_record(bench, scan, scan.nodules[0], patch, with_occlusion=True)["rows"]
    assert -1 <= rows["hirescam @ encoder.stages.1"]["rho_occlusion"] <= 1
    assert "rho_occlusion" not in rows["occlusion"]
    assert "occlusion" not in nodule_record(bench, scan, scan.nodules[0], patch, with_occlusion=False)["rows"]


def test_the_first_stage_is_judged_off_centre_too() -> None:
    """The detector's cube moves, the candidate stays: its map explains the cell at the candidate."""
    detector = tiny_detector()
    torch.nn.init.constant_(detector.centre.bias, 30.0)
    models = Models(
        checkpoint=Checkpoint(Recipe(name="eager", prepare=PREPARE), "0" * 64, detector, None), name="eager"
    )
    wish = ExplainEvalWish(methods=("hirescam",), layers=("merges.1",), measures=("localisation",), device="cpu")
    bench, scan = make_bench(models, wish), small_scan(3)
    assert bench.score_name == "first stage"
    nodule = scan.nodules[0]
    patch = jittered_patch(bench.explainer, scan, nodule, bench.score_name, seed=1, jitter_mm=12.0)
    assert patch is not None
    assert not np.allclose(middle_of(patch.geometry), nodule.position_xyz_mm, atol=2)
    assert (patch.cube[patch.mask] == scan.hu[scan.labels == 1]).all()
    one = bench.map_of(bench.rows[0], patch, patch.cube)
    assert one.logit == pytest.approx(patch.logit, abs=1e-3)
    assert one.position_xyz_mm == nodule.position_xyz_mm
    record = nodule_record(bench, scan, nodule, patch, with_occlusion=False)
    assert record["rows"]["hirescam @ merges.1"]["chance"] == patch.mask.mean()


def test_agreement_with_occlusion_has_three_sides() -> None:
    """A map equal to the occlusion map agrees in all; its negative disagrees, its maximum lies elsewhere."""
    grid = Geometry(shape_zyx=(6, 6, 6), spacing_zyx_mm=(4.0, 4.0, 4.0))
    values = np.random.default_rng(0).standard_normal((6, 6, 6)).astype(np.float32)
    values[1, 1, 1], values[5, 5, 5] = 30, -40
    facts: dict[str, Any] = {
        "geometry": grid, "position_xyz_mm": (0.0, 0.0, 0.0), "layer": "x", "score_name": SECOND, "logit": 1.0,
    }  # fmt: skip
    boxes = EvidenceMap(values=values, method="occlusion", **facts)
    same = occlusion_numbers(EvidenceMap(values=2 * values, method="hirescam", **facts), boxes)
    assert (same["rho_occlusion"], same["near_occlusion"], same["is_unreliable"]) == (pytest.approx(1), 1, 0)
    assert same["r_occlusion"] == pytest.approx(1)
    other = occlusion_numbers(EvidenceMap(values=-values, method="hirescam", **facts), boxes)
    assert (other["rho_occlusion"], other["near_occlusion"], other["is_unreliable"]) == (pytest.approx(-1), 0, 1)


def test_randomisation_goes_from_the_output_to_the_input() -> None:
    """Step by step more layers differ; at the end every convolution does, and the model itself is as it was."""
    checkpoint = tiny_checkpoint()
    assert checkpoint.classifier is not None
    before = {key: value.clone() for key, value in checkpoint.classifier.state_dict().items()}
    steps = randomised_checkpoints(checkpoint, SECOND, seed=1)
    assert [name for name, _ in steps] == ["head", "encoder.stages.1", "encoder.stages.0"]
    changed = []
    for _, destroyed in steps:
        assert destroyed.classifier is not None
        weights = {k: v for k, v in destroyed.classifier.state_dict().items() if v.ndim > 1}
        changed.append({k.rpartition(".")[0] for k, v in weights.items() if not torch.equal(v, before[k])})
    assert changed[0] == {"head"}
    assert changed[0] < changed[1] < changed[2]
    assert len(changed[2]) == sum(value.ndim > 1 for value in before.values())
    assert all(torch.equal(value, before[key]) for key, value in checkpoint.classifier.state_dict().items())


def test_unknown_names_are_refused(explainer: Explainer) -> None:
    """Method, layer and group of measures: each message says what is offered."""
    for wish, known in (
        (ExplainEvalWish(methods=("lime",)), "hirescam"),
        (ExplainEvalWish(layers=("nowhere",)), "encoder.stages.0"),
    ):
        with pytest.raises(SettingsError, match=known):
            map_rows(explainer, SECOND, wish)
    with pytest.raises(SettingsError, match="removal"):
        make_bench(MODELS, ExplainEvalWish(measures=("taste",)))


def test_no_recipe_trains_on_the_phantoms_judged_here() -> None:
    """The seeds of every recipe end below those that are kept for this."""
    recipes = Path(__file__).parents[2] / "src" / "napari_alnct" / "training" / "recipes"
    from napari_alnct.training.settings import BuildSettings

    for path in recipes.glob("*.yaml"):
        values = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        first = values.get("phantom_seed", BuildSettings().phantom_seed)
        count = values.get("n_phantoms", BuildSettings().n_phantoms) + values.get("n_phantoms_held_out", 100)
        assert first + count < PHANTOM_SEED, path.name


def test_labels_keep_their_place_on_another_grid() -> None:
    """A voxel of 2 mm becomes 8 of 1 mm at the same place; outside the source is 0."""
    source = Geometry(shape_zyx=(4, 4, 4), spacing_zyx_mm=(2.0, 2.0, 2.0), origin_xyz_mm=(1.0, 1.0, 1.0))
    target = Geometry(shape_zyx=(10, 10, 10), spacing_zyx_mm=(1.0, 1.0, 1.0), origin_xyz_mm=(0.5, 0.5, 0.5))
    labels = np.zeros((4, 4, 4), np.uint8)
    labels[1, 2, 3] = 7
    found = on_grid(labels, source, target)
    assert np.argwhere(found == 7).tolist() == [[z, y, x] for z in (2, 3) for y in (4, 5) for x in (6, 7)]
    (nodule,) = nodules_of(found, target, {7: "solid"})
    assert nodule.position_xyz_mm == (7.0, 5.0, 3.0)
    assert nodule.diameter_mm == pytest.approx((6 / np.pi * 8) ** (1 / 3))


def test_each_scan_needs_its_mask() -> None:
    """One mask for two scans is refused, and two scans of one name."""
    prepare, reading = MODELS.checkpoint.recipe.prepare, ReadOptions()
    with pytest.raises(SettingsError, match="one mask per scan"):
        MaskSource.of([Path("a.mha"), Path("b.mha")], [Path("m.mha")], prepare, reading)
    with pytest.raises(SettingsError, match="same file name"):
        MaskSource.of([Path("a.mha"), Path("x/a.mha")], [Path("m.mha")] * 2, prepare, reading)


def test_outlines_of_placed_donors_skip_those_without_a_place() -> None:
    """Of three donors drawn the second found no place; the outlines of the others lie around their centres."""
    soft = np.zeros((9, 9, 9), np.float32)
    soft[2:7, 2:7, 2:7] = 1
    drawn = [
        Donor(soft * 500, soft, np.full(3, 4.0), -850.0, size, name)
        for name, size in zip("aba", (5.0, 6.0, 7.0), strict=True)
    ]
    nowhere = np.zeros((0, 3))
    placed = Placed(
        np.array([[10.0, 10, 10], [20, 20, 20]]), np.array([5.0, 7.0]), ("aerated",) * 2, ("a", "a"), (1.0, 1.4),
        nowhere, np.zeros(0),
    )  # fmt: skip
    labels = outlines(drawn, placed, (30, 30, 30))
    assert [(labels == number).sum() for number in (1, 2)] == [27, 27]
    assert np.argwhere(labels == 2).mean(axis=0).tolist() == [20, 20, 20]


@pytest.mark.data
def test_a_model_that_held_out_nothing_is_refused(data_pack: Path) -> None:
    """Held-out nodules are those that the file names; a file that names none cannot be judged on the pack."""
    with pytest.raises(ModelError, match="held out 0 scans and 0 nodules"):
        PackSource.of(data_pack, MODELS.checkpoint.recipe)


@pytest.mark.data
def test_inserted_nodules_lie_under_their_masks(data_pack: Path) -> None:
    """Where the masks are, the scan became denser by 100 HU or more in the mean; elsewhere hardly anything changed."""
    from napari_alnct.training.sources import cube_names, load_pack_cases, pack_case_names

    name = "LIDC-IDRI-0028"
    source = PackSource(
        pack=data_pack, cases=(name,), cubes=tuple(cube_names(data_pack)[:12]), ceiling_hu=400.0, n_turns=1
    )
    scan = source.load(f"{name} turn 1")
    (case,) = load_pack_cases(data_pack, leave_out=set(pack_case_names(data_pack)) - {name})
    gain = scan.hu.astype(float) - case.hu
    assert len(scan.nodules) >= 5
    for nodule in scan.nodules:
        assert gain[scan.labels == nodule.number].mean() > 100
    assert np.abs(gain[scan.labels == 0]).mean() < 1


def test_pictures_tell_support_from_evidence_against() -> None:
    """Support turns a pixel orange, evidence against blue; the outline is cyan; the rest stays grey."""
    hu = np.full((8, 8), -600, np.int16)
    values, mask = np.zeros((8, 8), np.float32), np.zeros((8, 8), bool)
    values[1, 1:3], values[6, 1:3], mask[1:4, 5:8] = 1, -1, True
    picture = draw_slice(hu, values, mask, 1.0).astype(int)
    assert picture.shape == (32, 32, 3)
    assert picture[6, 8, 0] > picture[6, 8, 2] + 80
    assert picture[26, 8, 2] > picture[26, 8, 0] + 80
    assert picture[4, 20].tolist() == [0, 220, 220]
    assert len(set(picture[16, 4].tolist())) == 1


def test_texts_of_checks(whole_run: tuple[dict[str, Any], Path]) -> None:
    """What was not run says so; what has a target has a verdict."""
    views = check_views(shown_row(whole_run[0]))
    not_run = [view for view in views if view.value == number(None)]
    assert all(view.verdict == "" for view in not_run)
    assert all(view.verdict in ("pass", "miss") for view in views if view.target and view.value != number(None))


def test_numbers_that_are_not_finite_become_none() -> None:
    """Anywhere in a record."""
    assert without_nan({"a": [1.0, float("nan")], "b": {"c": float("inf")}}) == {"a": [1.0, None], "b": {"c": None}}


def test_measures_are_named_once() -> None:
    """The groups that the command offers."""
    assert MEASURES == ("localisation", "removal", "randomisation", "stability", "occlusion")
