"""The subcommand ``phantom``: writes a data set, says where, refuses nonsense with exit code 2."""

from __future__ import annotations

from pathlib import Path

import pytest

from napari_alnct.cli.app import dispatch


def test_command_writes_a_data_set_and_says_where(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One tiny scan with --no-masks; the last line of stdout ends with the folder."""
    out = tmp_path / "made"
    code = dispatch(
        ["phantom", "--out", str(out), "--scans", "1", "--seed", "3", "--shape", "64", "96", "96", "--no-masks"]
    )
    assert code == 0
    assert len(list(out.glob("subset0/*.mhd"))) == 1
    assert not (out / "seg-lungs-LUNA16").exists()
    assert capsys.readouterr().out.splitlines()[-1].endswith(str(out.resolve()))


def test_help_shows_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    """--help names the flags and a full command line."""
    assert dispatch(["phantom", "--help"]) == 0
    shown = capsys.readouterr().out
    assert "napari-alnct-train phantom --out phantoms --scans 10 --seed 1" in " ".join(shown.split())
    assert all(flag in shown for flag in ("--scans", "--seed", "--shape", "--no-masks", "--jobs"))


@pytest.mark.parametrize(
    "arguments",
    [["--scans", "0"], ["--seed", "-1"], ["--shape", "8", "96", "96"], ["--scans", "many"], ["--nodules", "5", "2"]],
    ids=["no scans", "negative seed", "too few slices", "not a number", "fewest above most"],
)
def test_bad_arguments_end_with_code_2(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is written and stderr holds the reason."""
    assert dispatch(["phantom", "--out", str(tmp_path / "made"), *arguments]) == 2
    assert capsys.readouterr().err.strip()
    assert not (tmp_path / "made").exists()
