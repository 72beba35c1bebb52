"""``models``: list, info, verify."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from napari_alnct.cli.app import dispatch
from napari_alnct.models.catalogue import list_models
from tests.core.tiny_models import write_tiny_model


def test_list_names_the_default(capsys: pytest.CaptureFixture[str]) -> None:
    """Every bundled model is a line, the first is marked as default."""
    assert dispatch(["models"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(list_models())
    assert lines[0].startswith(f"{list_models()[0].name} (default)")


def test_info_tells_thresholds_for_people_and_programs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Text and JSON hold the stored operating points."""
    path = tmp_path / "tiny.safetensors"
    write_tiny_model(path)
    assert dispatch(["models", "info", str(path)]) == 0
    assert "    1: 0.300" in capsys.readouterr().out
    assert dispatch(["models", "info", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["operating_points"]["1"] == 0.3


def test_verify_passes_the_bundled_and_refuses_a_damaged_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit 0 with the hash; exit 2 and one sentence for a file cut short."""
    assert dispatch(["models", "verify"]) == 0
    assert str(list_models()[0].sha256) in capsys.readouterr().out
    path = tmp_path / "tiny.safetensors"
    write_tiny_model(path)
    path.write_bytes(path.read_bytes()[:-50])
    assert dispatch(["models", "verify", str(path)]) == 2
    assert "expected a safetensors model" in capsys.readouterr().err
