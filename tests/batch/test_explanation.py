"""Explaining patches and candidates: the network's own input, the right place, clear refusals, whole runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from napari_alnct.batch import explanation
from napari_alnct.batch.explanation import (
    ExplainWish,
    explain_case,
    load_explainer,
    write_explanations,
)
from napari_alnct.batch.explanation_inputs import ExplainCase, ToExplain, patch_case
from napari_alnct.core.config import PrepareSettings
from napari_alnct.core.errors import JobCancelled, SettingsError, TableError
from napari_alnct.core.evidence import EvidenceMap, agreement, rank_agreement
from napari_alnct.core.explain.explainer import Explainer
from napari_alnct.core.network import scale_hu
from napari_alnct.core.volume import Volume
from napari_alnct.io.evidence import read_evidence
from napari_alnct.io.patch_store import PatchStore
from tests.batch.tiny_patches import EDGE, PREPARE, small_network, write_patches, write_small_model
from tests.core.explain.linear_networks import checkpoint_of
from tests.core.explain.small_networks import ISOTROPIC, classifier, noise_scan

HIRESCAM = ExplainWish(method="hirescam", layer="encoder.stages.1")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> PatchStore:
    return write_patches(tmp_path_factory.mktemp("patches") / "val")


@pytest.fixture(scope="module")
def explainer(tmp_path_factory: pytest.TempPathFactory) -> Explainer:
    path = tmp_path_factory.mktemp("model") / "best.safetensors"
    write_small_model(path)
    return load_explainer(str(path), "cpu")


def case_of(wish: Path | str, settings: PrepareSettings = PREPARE, edge: int = EDGE) -> ExplainCase:
    return patch_case(str(wish), settings, edge, "best.safetensors")


def noise_case(*places: tuple[float, float, float]) -> ExplainCase:
    hu = noise_scan()
    wanted = tuple(ToExplain(name=f"mark {k}", stem=f"m{k}", position_xyz_mm=p) for k, p in enumerate(places))
    return ExplainCase(hu=hu, geometry=ISOTROPIC, volume=Volume(hu, ISOTROPIC, ISOTROPIC), candidates=wanted)


@pytest.mark.parametrize("row", [0, 7, 23])
def test_a_row_gets_the_logit_that_eval_gives(store: PatchStore, explainer: Explainer, row: int) -> None:
    """The network sees exactly the patch without its margin; the map lies around the patch's place in the scan."""
    (one,) = explain_case(case_of(f"{store.table}:{row}"), explainer, HIRESCAM)
    x = scale_hu(torch.from_numpy(store.cube(row)), PREPARE.low_hu, PREPARE.high_hu)[None, None]
    with torch.inference_mode():
        expected = float(small_network()(x))
    assert one.evidence is not None
    assert one.evidence.logit == pytest.approx(expected, abs=1e-4)
    assert one.evidence.position_xyz_mm == pytest.approx(store.rows[row].position_xyz_mm)
    assert one.evidence.candidate == f"patch_map.csv:{row}"
    cells = one.evidence.geometry  # 4 cells of 4 voxels; the centre voxel is voxel 8 of 16, the cells' middle 7.5
    middle = cells.index_to_world((np.array(cells.shape_zyx) - 1) / 2)
    assert middle == pytest.approx(np.array(store.rows[row].position_xyz_mm) - 0.5)


def test_an_example_file_finds_its_row(store: PatchStore, tmp_path: Path) -> None:
    """Beside its table it is that row, with the margin around it; a changed copy has a place of its own."""
    found = case_of(store.folder / "example_neg.npy")
    row = next(k for k, one in enumerate(store.rows) if one.label == 0)
    assert found.notes == (f"example_neg.npy is row {row} of patch_map.csv.", *found.notes[1:])
    assert found.candidates[0].position_xyz_mm == pytest.approx(store.rows[row].position_xyz_mm)
    assert found.hu.shape == (store.stored_vox,) * 3
    np.save(tmp_path / "example_neg.npy", store.cube(row))
    alone = case_of(tmp_path / "example_neg.npy")
    assert alone.geometry.origin_xyz_mm == (0.0, 0.0, 0.0)
    assert alone.candidates[0].position_xyz_mm == (8.0, 8.0, 8.0)
    assert "does not say where it lies" in alone.notes[-1]


@pytest.mark.parametrize(
    ("shape", "sentence"),
    [
        ((16, 16, 16), None),
        ((20, 18, 16), "p.npy has 20 x 18 x 16 voxels, the network looks at 16 around their middle."),
        ((12, 16, 20), "p.npy has 12 x 16 x 20 voxels, the network looks at 16: the rest is filled with -1200 HU."),
    ],
)
def test_other_sizes_are_told(
    tmp_path: Path, explainer: Explainer, shape: tuple[int, ...], sentence: str | None
) -> None:
    """A patch of the network's size says nothing; larger and smaller ones say what is done, and are explained."""
    np.save(tmp_path / "p.npy", np.full(shape, -800, np.int16))
    case = case_of(tmp_path / "p.npy")
    assert list(case.notes[:-1]) == ([sentence] if sentence else [])
    (one,) = explain_case(case, explainer, HIRESCAM)
    assert one.evidence is not None
    assert one.evidence.values.shape == (4, 4, 4)


@pytest.mark.parametrize(
    ("edge", "sentence"),
    [
        (EDGE, None),
        (8, "patch_map.csv:0 has 20 x 20 x 20 voxels with its margin, the network looks at 8 around their middle."),
        (32, "patch_map.csv:0 has 20 x 20 x 20 voxels with its margin, the network looks at 32: the rest is filled"),
    ],
)
def test_the_margin_of_a_stored_patch_is_no_other_size(store: PatchStore, edge: int, sentence: str | None) -> None:
    """Patches of 16 voxels are stored with 2 around: for a network of 16 there is nothing to say."""
    notes = case_of(f"{store.table}:0", edge=edge).notes
    assert len(notes) == (sentence is not None)
    assert sentence is None or notes[0].startswith(sentence)


def test_what_is_no_patch_in_hu_is_refused(tmp_path: Path, store: PatchStore) -> None:
    """One sentence with the next step each."""
    np.save(tmp_path / "scaled.npy", np.linspace(0, 1, 4096, dtype=np.float32).reshape(16, 16, 16))
    np.save(tmp_path / "many.npy", np.zeros((3, 16, 16, 16), np.int16))
    np.save(tmp_path / "nan.npy", np.full((16, 16, 16), np.nan))
    (tmp_path / "text.npy").write_text("hello")
    for wish, sentence in (
        (tmp_path / "scaled.npy", "scaled.npy holds numbers from 0 to 1, expected Hounsfield units"),
        (
            tmp_path / "many.npy",
            r"many.npy holds int16 of shape \(3, 16, 16, 16\), not one patch; .* patch_map.csv:ROW",
        ),
        (tmp_path / "nan.npy", "not finite"),
        (tmp_path / "text.npy", "text.npy cannot be read as a NumPy array"),
        (tmp_path / "none.npy", "none.npy: no such patch file"),
        (store.table, "patch_map.csv is no patch; .* patch_map.csv:0"),
        (f"{store.table}:24", "patch_map.csv lists patches 0 to 23, not 24"),
    ):
        with pytest.raises(TableError, match=sentence):
            case_of(wish)


def test_patches_of_other_voxels_are_refused_other_windows_told(store: PatchStore) -> None:
    """2 mm where the model wants 1 mm ends; a narrower window of the patches is a note."""
    with pytest.raises(SettingsError, match="the patches have 1 mm voxels, the model wants 2 mm"):
        case_of(f"{store.table}:0", PrepareSettings(spacing_mm=2.0))
    notes = case_of(f"{store.table}:0", PrepareSettings(low_hu=-1300.0)).notes
    assert "clipped to -1200 to 600 HU" in notes[0]


def test_hu_in_any_number_type(tmp_path: Path) -> None:
    """Float HU are rounded."""
    np.save(tmp_path / "p.npy", np.full((16, 16, 16), -700.4, np.float64))
    assert set(case_of(tmp_path / "p.npy").hu.ravel()) == {-700}


def test_one_candidate_that_cannot_be_explained_leaves_the_others(tmp_path: Path) -> None:
    """Its reason stands in the summary, in order; the others have their three files and one scale."""
    case = noise_case((10.2, 50.7, -210.0), (900.0, 0.0, 0.0), (0.0, 40.0, -222.4))
    explainer = Explainer(checkpoint_of(classifier()), device="cpu")
    found = explain_case(case, explainer, ExplainWish(method="gradcam", layer="encoder.stages.2"))
    assert [one.evidence is None for one in found] == [False, True, False]
    assert "lies outside what the network sees" in found[1].remark
    wish = ExplainWish(method="gradcam")
    summary = json.loads(write_explanations(tmp_path / "out", case, found, wish, explainer).read_text(encoding="utf-8"))
    entries = summary["candidates"]
    assert [entry["candidate"] for entry in entries] == ["mark 0", "mark 1", "mark 2"]
    assert [len(entry["files"]) for entry in entries] == [3, 0, 3]
    assert "lies outside" in entries[1]["reason"]
    assert (summary["layer"], summary["model"]["sha256"]) == ("encoder.stages.2", "ab" * 32)
    strongest = max(float(np.abs(one.evidence.values).max()) for one in found if one.evidence)
    assert summary["scale_limit"] == strongest
    for one in (found[0], found[2]):
        back = read_evidence(tmp_path / "out" / f"{one.wanted.stem}.mha")
        assert np.array_equal(back.values, one.evidence.values)
        facts = json.loads((tmp_path / "out" / f"{one.wanted.stem}.json").read_text(encoding="utf-8"))
        assert facts["scale"] == {"limit": strongest, "n_maps": 2}
        assert (tmp_path / "out" / f"{one.wanted.stem}.png").read_bytes().startswith(b"\x89PNG")


def test_checks_are_made_where_they_mean_something() -> None:
    """Completeness for HiResCAM at the deepest stage and integrated gradients; occlusion when it was asked for."""
    case = noise_case((10.2, 50.7, -210.0))
    explainer = Explainer(checkpoint_of(classifier()), device="cpu")

    def checks(**how: object) -> tuple[float | None, float | None]:
        (one,) = explain_case(case, explainer, ExplainWish(**how))  # type: ignore[arg-type]
        return one.checks.completeness_error, one.checks.agreement_with_occlusion

    deepest, rho = checks(method="hirescam", layer="encoder.stages.3", has_occlusion_check=True)
    assert deepest is not None
    assert deepest < 1e-5
    assert rho is not None
    assert -1 <= rho <= 1
    assert checks(method="hirescam", layer="encoder.stages.1") == (None, None)
    assert checks(method="gradcam", layer="encoder.stages.3") == (None, None)
    voxels, rho = checks(method="integrated gradients")
    assert voxels is not None
    assert voxels < 0.05  # 32 steps
    assert rho is None
    assert checks(method="occlusion", has_occlusion_check=True) == (None, None)


def test_both_correlations_with_occlusion_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pearson's r, by which the badge judges, and Spearman's rho; the same two in the run's summary."""
    seen: dict[str, EvidenceMap] = {}
    made = explanation._checked

    def checked(case: Any, explainer: Any, evidence: EvidenceMap, boxes: Any) -> Any:
        seen.update(evidence=evidence, boxes=boxes)
        return made(case, explainer, evidence, boxes)

    monkeypatch.setattr(explanation, "_checked", checked)
    explainer = Explainer(checkpoint_of(classifier()), device="cpu")
    wish = ExplainWish(method="gradcam", layer="encoder.stages.1", has_occlusion_check=True)
    (one,) = explain_case(noise_case((10.2, 50.7, -210.0)), explainer, wish)
    r, rho = (judge(seen["evidence"], seen["boxes"]) for judge in (agreement, rank_agreement))
    assert r != rho
    assert (one.checks.agreement_with_occlusion, one.checks.rank_agreement_with_occlusion) == (r, rho)
    entry = explanation._entry(one)
    assert (entry["agreement_with_occlusion"], entry["rank_agreement_with_occlusion"]) == (r, rho)


def test_progress_runs_to_the_end_and_cancel_leaves_nothing(tmp_path: Path) -> None:
    """Shares grow from 0 within each stage; what the progress raises stops the run before a file is written."""
    case = noise_case((10.2, 50.7, -210.0), (0.0, 40.0, -222.4))
    explainer = Explainer(checkpoint_of(classifier()), device="cpu")
    seen: list[tuple[str, float]] = []
    wish = ExplainWish(method="hirescam", has_occlusion_check=True)
    explain_case(case, explainer, wish, lambda stage, share: seen.append((stage, share)))
    assert [stage for stage, share in seen if share == 0] == ["maps", "occlusion", "occlusion"]
    shares = [share for stage, share in seen if stage == "occlusion"]
    assert shares == sorted(shares)
    assert 0.5 <= shares[-1] < 1

    def stop(stage: str, share: float) -> None:
        if stage == "occlusion" and share >= 0.5:
            raise JobCancelled("cancelled; nothing was written")

    with pytest.raises(JobCancelled):
        explain_case(case, explainer, wish, stop)


def test_weights_of_a_pth_file_can_be_explained(tmp_path: Path, store: PatchStore) -> None:
    """As eval takes them: with their shape in a JSON file beside them."""
    network = small_network()
    torch.save(network.state_dict(), tmp_path / "best.pth")
    settings = {"network": {"widths": [8, 8], "depths": [1, 1], "patch_vox": EDGE}}
    (tmp_path / "best.json").write_text(json.dumps(settings))
    explainer = load_explainer(str(tmp_path / "best.pth"), "cpu")
    (one,) = explain_case(case_of(f"{store.table}:0"), explainer, HIRESCAM)
    assert one.evidence is not None
    assert one.evidence.model_name == "best"
