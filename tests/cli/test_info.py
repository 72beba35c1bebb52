"""`info`: what it says about a scan, to people and as JSON, and how it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from napari_alnct.cli.app import dispatch
from napari_alnct.cli.info import hu_statistics
from napari_alnct.core.geometry import Geometry
from napari_alnct.core.notice import NOTICE
from napari_alnct.io.metaimage import write_metaimage

GRID = Geometry(shape_zyx=(4, 6, 8), spacing_zyx_mm=(2.5, 0.5, 0.75), origin_xyz_mm=(-10.0, 20.0, -300.0))
FLIPPED = (-1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 1.0)


def save_chest(path: Path, **changes: object) -> Path:
    """Write a scan of half lung (-900), half tissue (40), one voxel each of 1000 and -1000."""
    hu = np.full(GRID.shape_zyx, -900, np.int16)
    hu[..., 4:] = 40
    hu[0, 0, 0], hu[3, 5, 7] = -1000, 1000
    fields = {"shape_zyx": GRID.shape_zyx, "spacing_zyx_mm": GRID.spacing_zyx_mm, "origin_xyz_mm": GRID.origin_xyz_mm}
    write_metaimage(path, hu, Geometry(**(fields | changes)))
    return path


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = dispatch(["info", *map(str, arguments)])
    out, err = capsys.readouterr()
    return code, out, err


def test_json_of_one_scan(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Geometry and statistics, worked out by hand: 96 lung, 96 tissue voxels; box from -10.375 to -4.375 mm."""
    code, out, err = run(capsys, save_chest(tmp_path / "case.mhd"), "--json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert found["notice"] == NOTICE
    assert (found["file"], found["format"], found["series_uid"]) == ("case.mhd", "MetaImage", "case")
    grid = found["geometry"]
    assert grid["size_xyz"] == [8, 6, 4]
    assert grid["spacing_xyz_mm"] == [0.75, 0.5, 2.5]
    assert grid["origin_xyz_mm"] == [-10.0, 20.0, -300.0]
    assert grid["extent_xyz_mm"] == [6.0, 3.0, 10.0]
    assert grid["world_box_xyz_mm"] == {"low": [-10.375, 19.75, -301.25], "high": [-4.375, 22.75, -291.25]}
    assert not grid["in_file"]["is_reoriented"]
    assert found["hu"]["min"] == -1000
    assert found["hu"]["max"] == 1000
    assert found["hu"]["mean"] == round((-900 * 95 - 1000 + 40 * 95 + 1000) / 192, 3)
    assert found["hu"]["p50"] == -900
    assert found["hu"]["below_minus_500"] == 0.5
    assert len(found["checks_passed"]) == 4
    assert found["flags"] == []
    assert len(found["voxel_sha256"]) == 64


def test_flipped_scan_shows_both_grids(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A LUNA16-style flipped scan is shown in LPS (same box), its own direction beside it."""
    path = save_chest(tmp_path / "a.mha", direction=FLIPPED, origin_xyz_mm=(-4.75, 22.5, -300.0))
    _, out, _ = run(capsys, path, "--json")
    grid = json.loads(out)["geometry"]
    assert grid["direction"] == [1, 0, 0, 0, 1, 0, 0, 0, 1]
    assert grid["origin_xyz_mm"] == [-10.0, 20.0, -300.0]
    assert grid["in_file"]["direction"] == list(FLIPPED)
    assert grid["in_file"]["is_reoriented"]


def test_table_for_people(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The table names size, spacing, box, HU, checks, and the notice stands below."""
    code, out, _ = run(capsys, save_chest(tmp_path / "case.mhd", spacing_zyx_mm=(5.0, 0.5, 0.75)))
    assert code == 0
    for text in (
        "case.mhd",
        "8 x 6 x 4 voxels",
        "0.75 x 0.5 x 5 mm",
        "-1000 to 1000",
        "Hounsfield",
        "[thick_slices]",
        NOTICE,
    ):
        assert text in " ".join(out.split())


def test_bad_file_gives_three_and_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A refused scan: exit code 3, nothing on stdout, one line with the code on stderr, no path."""
    path = save_chest(tmp_path / "case.mhd")
    data = next(tmp_path.glob("case.*raw"))
    data.write_bytes(data.read_bytes()[:-3])
    for flags in ([], ["--json"]):
        code, out, err = run(capsys, path, *flags)
        assert (code, out) == (3, "")
        assert err.count("\n") == 1
        assert "[E_DATA_" in err
        assert str(tmp_path) not in err


def test_permissions_reach_the_reader(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--allow-left-handed and --allow-non-hu open what is refused without; the flags are told."""
    mirrored = save_chest(tmp_path / "a.mha", direction=(-1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0))
    assert run(capsys, mirrored)[0] == 3
    code, out, _ = run(capsys, mirrored, "--json", "--allow-left-handed")
    assert code == 0
    assert [flag["code"] for flag in json.loads(out)["flags"]] == ["left_handed"]
    write_metaimage(tmp_path / "b.mha", np.zeros(GRID.shape_zyx, np.int16), GRID)
    code, _, err = run(capsys, tmp_path / "b.mha")
    assert code == 3
    assert "--allow-non-hu" in err
    code, out, _ = run(capsys, tmp_path / "b.mha", "--allow-non-hu", "--json")
    found = json.loads(out)
    assert code == 0
    assert [flag["code"] for flag in found["flags"]] == ["not_hu"]
    assert len(found["checks_passed"]) == 3


def test_folder_with_a_bad_scan(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of three scans in a folder one is refused: exit code 4, two reports and one error in the list."""
    for name in ("a.mha", "b.mha", "c.mha"):
        save_chest(tmp_path / name)
    (tmp_path / "b.mha").write_text("<html>not found</html>")
    code, out, err = run(capsys, tmp_path, "--json")
    found = json.loads(out)
    assert code == 4
    assert [report["file"] for report in found] == ["a.mha", "b.mha", "c.mha"]
    assert found[1]["error"]["code"] == "E_HEADER_SYNTAX"
    assert err.startswith("b.mha: ")
    assert run(capsys, tmp_path / "a.mha", tmp_path / "c.mha")[0] == 0


def test_what_is_refused_in_a_batch_names_its_flag(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As for a single scan: the hint on mirrored axes comes with the flag that allows them."""
    save_chest(tmp_path / "good.mhd")
    save_chest(tmp_path / "mirrored.mhd", direction=(-1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0))
    code, _, err = run(capsys, tmp_path)
    assert code == 4
    assert "allow left-handed scans (--allow-left-handed)" in err


def test_series_of_a_dicom_folder_is_chosen(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--series-uid reaches the reader: an unknown one is refused."""
    (tmp_path / "1").write_bytes(bytes(128) + b"DICM")
    code, out, err = run(capsys, tmp_path, "--series-uid", "1.2.3")
    assert (code, out) == (3, "")
    assert "[E_HEADER_SYNTAX]" in err


def test_statistics_are_exact() -> None:
    """Percentiles of 0..999 by hand: the lowest value with that share of voxels at or below it."""
    found = hu_statistics(np.arange(1000, dtype=np.int16).reshape(10, 10, 10))
    assert found["mean"] == 499.5
    assert [found[f"p{p}"] for p in ("0.1", "5", "50", "95", "99.9")] == [0, 49, 499, 949, 998]
    assert hu_statistics(np.array([[[-32768, 32767]]], np.int16))["min"] == -32768


def test_identifiers_stay_whole_in_a_pipe(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A series UID of the greatest length, 64 characters, stands on one line where there is no terminal."""
    uid = "1." + "2" * 62
    assert f" {uid} " in run(capsys, save_chest(tmp_path / f"{uid}.mhd"))[1]
