"""The tutorial for radiologists tells the keys, files and colours that the program has."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from napari_alnct.core.notice import NOTICE
from napari_alnct.io.review_exports import ENDINGS, REMARKS
from napari_alnct.plugin._keys import KEY_TABLE

TUTORIAL = Path(__file__).resolve().parents[2] / "docs" / "tutorial-reading.md"


@pytest.fixture(scope="module")
def text() -> str:
    return TUTORIAL.read_text(encoding="utf-8")


def test_the_table_of_keys_is_that_of_the_program(text: str) -> None:
    """Every key with its words, none that does not exist."""
    table = text.partition("| key | what it does |")[2].partition("\n\n")[0]
    rows = re.findall(r"^\| (\S+) \| (.+) \|$", table, re.MULTILINE)
    assert sorted(rows) == sorted((action.key, action.text) for action in KEY_TABLE)


def test_keys_in_the_sentences_exist(text: str) -> None:
    """What stands in bold as a key is one; ``Alt+8 / 9 / 0`` names three."""
    keys = {action.key for action in KEY_TABLE}
    named = set(re.findall(r"\*\*((?:Alt\+)?[A-Z0-9]|Alt\+[A-Z]\w+)\*\*", text))
    assert named
    assert named <= keys
    assert {"Alt+8", "Alt+9", "Alt+0"} <= keys


def test_every_file_of_an_export_is_explained(text: str) -> None:
    """By its ending; and the notice is there."""
    for ending in (*ENDINGS.values(), REMARKS):
        assert re.search(rf"^\| `(\.\.\.)?{re.escape(ending)}` \|", text, re.MULTILINE)
    assert NOTICE in text
