"""``gradcam``: the documented lines, files, messages and exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from napari_alnct.cli.app import dispatch
from napari_alnct.core.explain.explainer import DEFAULT_METHOD
from napari_alnct.core.findings import Candidate
from napari_alnct.io.evidence import read_evidence
from napari_alnct.io.metaimage import write_metaimage
from napari_alnct.io.tables import write_candidates
from tests.batch.tiny_patches import write_patches, write_small_model
from tests.core.chest import chest_geometry, chest_hu
from tests.core.tiny_models import write_tiny_model

BALL = ((60.0, 5.0, 10.0), 6.0, 40)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Give patches and a classifier."""
    write_patches(tmp_path / "patches" / "val")
    write_small_model(tmp_path / "models" / "best.safetensors")
    return tmp_path


@pytest.fixture(scope="module")
def scan_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a small chest with a ball, candidates here, far away and of another scan, and a two-stage model."""
    folder = tmp_path_factory.mktemp("scan")
    grid = chest_geometry((4.0, 3.0, 3.0))
    write_metaimage(folder / "scan.mhd", chest_hu(grid, [BALL]), grid)
    places = {"scan": [(BALL[0], 0.9), ((-60.0, 0.0, 0.0), 0.4), ((60.0, 10.0, -20.0), 0.7)], "other": [(BALL[0], 1.0)]}
    rows = [
        (uid, Candidate(position_xyz_mm=place, score=score, diameter_mm=8.0))
        for uid, found in places.items()
        for place, score in found
    ]
    write_candidates(folder / "candidates.csv", rows)
    far = Candidate(position_xyz_mm=(60.0, 5.0, 900.0), score=0.5, diameter_mm=8.0)
    write_candidates(folder / "far.csv", [("scan", far), rows[0]])
    write_tiny_model(folder / "tiny.safetensors")
    return folder


def run(folder: Path, *arguments: object, ckpt: str = "models/best.safetensors") -> int:
    fixed = ["--ckpt", folder / ckpt, "--out-dir", folder / "out", "--device", "cpu"]
    return dispatch(["gradcam", *map(str, [*fixed, *arguments])])


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "out").iterdir())


@pytest.mark.parametrize(
    ("patch", "stem"), [("example_pos.npy", "example_pos"), ("patch_map.csv:5", "patch_00005")], ids=["file", "row"]
)
def test_the_documented_lines_explain_a_patch(
    folder: Path, capsys: pytest.CaptureFixture[str], patch: str, stem: str
) -> None:
    """Four files; the default method and layer; a line with score, logit, method and layer, and the notice."""
    assert run(folder, "--patch", folder / "patches" / "val" / patch) == 0
    assert names(folder) == [*(f"{stem}{suffix}" for suffix in (".json", ".mha", ".png")), "summary.json"]
    one = read_evidence(folder / "out" / f"{stem}.mha")
    assert (one.method, one.layer, one.score_name) == (DEFAULT_METHOD, "encoder.stages.0", "second look")
    out = capsys.readouterr().out
    assert f"{patch}: second look, logit {one.logit:+.2f}; {DEFAULT_METHOD} at encoder.stages.0" in out
    assert "Not a medical device" in out


@pytest.mark.parametrize(
    "method", ["gradcam", "gradcam++", "hirescam", "layercam", "integrated-gradients", "occlusion"]
)
def test_every_method_can_be_asked_for(folder: Path, method: str) -> None:
    """Names with a hyphen where the map's has a space."""
    assert run(folder, "--patch", folder / "patches" / "val" / "patch_map.csv:0", "--method", method) == 0
    assert read_evidence(folder / "out" / "patch_00000.mha").method == method.replace("-", " ")


def test_the_check_by_occlusion_is_told(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In the line and in the facts."""
    row = folder / "patches" / "val" / "patch_map.csv:0"
    assert run(folder, "--patch", row, "--method", "gradcam", "--layer", "encoder.stages.0", "--occlusion") == 0
    facts = json.loads((folder / "out" / "patch_00000.json").read_text(encoding="utf-8"))
    assert f"agreement with occlusion {facts['checks']['agreement_with_occlusion']:.2f}" in capsys.readouterr().out
    assert facts["layer"] == "encoder.stages.0"


def test_candidates_of_a_scan_the_strongest_first(scan_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Only rows of this scan, by score; what is left out is told; the first stage can be asked for."""
    table = scan_folder / "candidates.csv"
    flags = ["--scan", scan_folder / "scan.mhd", "--candidates", table, "--max-candidates", 2]
    assert run(scan_folder, *flags, ckpt="tiny.safetensors") == 0
    summary = json.loads((scan_folder / "out" / "summary.json").read_text(encoding="utf-8"))
    assert [entry["candidate"] for entry in summary["candidates"]] == [
        "candidates.csv row 1 (score 0.900)",
        "candidates.csv row 3 (score 0.700)",
    ]
    assert (summary["n_left_out"], summary["series_uid"]) == (1, "scan")
    assert "weaker candidates left out: 1" in capsys.readouterr().out
    one = read_evidence(scan_folder / "out" / "candidate_001.mha")
    assert one.position_xyz_mm == BALL[0]
    assert one.geometry.contains(BALL[0])
    flags[-1] = 1
    assert run(scan_folder, *flags, "--score", "first-stage", ckpt="tiny.safetensors") == 0
    one = read_evidence(scan_folder / "out" / "candidate_001.mha")
    assert (one.score_name, one.layer) == ("first stage", "merges.1")


def test_a_candidate_outside_the_scan_fails_alone(scan_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 4, its reason on a line, the other one explained."""
    flags = ["--scan", scan_folder / "scan.mhd", "--candidates", scan_folder / "far.csv"]
    assert run(scan_folder, *flags, ckpt="tiny.safetensors") == 4
    out = capsys.readouterr().out
    assert "failed: far.csv row 1 (score 0.500): x, y, z 60.0, 5.0, 900.0 mm lies outside" in out
    assert "far.csv row 2 (score 0.900): second look" in out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "give either --patch FILE.npy"),
        (["--patch", "a.npy", "--scan", "b.mhd"], "give either --patch"),
        (["--scan", "b.mhd"], "--scan and --candidates belong together"),
        (
            ["--patch", "{val}/patch_map.csv:0", "--layer", "encoder"],
            "choose one of encoder.stages.0, encoder.stages.1",
        ),
        (
            ["--patch", "{val}/patch_map.csv:0", "--score", "first-stage"],
            "no score 'first stage'; choose one of second look",
        ),
        (["--patch", "{val}/patch_map.csv:99"], "patch_map.csv lists patches 0 to 23, not 99"),
        (["--patch", "{val}/patch_map.csv:0", "--method", "guided"], "gradcam"),
        (["--patch", "{val}/absent.npy"], "absent.npy: no such patch file"),
    ],
)
def test_wrong_wishes_get_one_sentence(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], sentence: str
) -> None:
    """Exit code 2, and nothing is written."""
    assert run(folder, *(part.format(val=folder / "patches" / "val") for part in arguments)) == 2
    assert sentence in capsys.readouterr().err
    assert not (folder / "out").exists()


def test_a_table_of_other_scans_is_refused(
    scan_folder: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """With how many it lists and what to give."""
    write_candidates(
        tmp_path / "c.csv", [("other", Candidate(position_xyz_mm=(0, 0, 0), score=1.0, diameter_mm=1.0))] * 2
    )
    flags = ["--scan", scan_folder / "scan.mhd", "--candidates", tmp_path / "c.csv"]
    assert run(scan_folder, *flags, ckpt="tiny.safetensors") == 2
    assert "c.csv lists 2 candidates of 1 scans and none of scan" in capsys.readouterr().err


def test_a_missing_model_is_told(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By name, without a traceback."""
    assert run(folder, "--patch", "a.npy", ckpt="models/none.safetensors") == 2
    assert "none.safetensors: no such model file" in capsys.readouterr().err
