"""Every command line that the documents show is one that the program takes."""

from __future__ import annotations

import re
import shlex
from functools import cache
from pathlib import Path

import pytest
from cyclopts import App, CycloptsError

from napari_alnct.cli.app import NAME, SUBCOMMANDS, make_app

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "src").rglob("*.md")])
BLOCK = re.compile(r"^```\w*\n(.*?)^```", re.MULTILINE | re.DOTALL)


def command_lines(text: str) -> list[list[str]]:
    """Give the words of every line of the program in the code blocks of a document.

    Parameters
    ----------
    text : str
        Markdown.

    Returns
    -------
    list of list of str
        Without the program's name; comments removed, continued lines joined.
    """
    found = []
    for block in BLOCK.findall(text):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line.strip().removeprefix("$ "), comments=True)
            if words[:1] == [NAME]:
                found.append(words[1:])
            elif "napari_alnct.cli.app" in words:
                found.append(words[words.index("napari_alnct.cli.app") + 1 :])
    return found


@cache
def parser(subcommand: str) -> App:
    return make_app(subcommand)


def shown() -> list[tuple[str, list[str]]]:
    return [(path.name, words) for path in DOCUMENTS for words in command_lines(path.read_text(encoding="utf-8"))]


def test_the_finder_sees_continued_and_commented_lines() -> None:
    """A hand-worked document gives its two lines."""
    text = "x\n```bash\n$ napari-alnct-train info a.mhd  # note\nls\nnapari-alnct-train froc --a \\\n    'b c'\n```\n"
    assert command_lines(text) == [["info", "a.mhd"], ["froc", "--a", "b c"]]


@pytest.mark.parametrize(("document", "words"), shown(), ids=lambda value: str(value)[:60])
def test_shown_command_lines_are_understood(document: str, words: list[str]) -> None:
    """The parser takes the subcommand, each option and each value; nothing is run."""
    if "--help" in words or "--version" in words:
        words = [word for word in words if word not in ("--help", "--version")]
        assert not words or words[0] in SUBCOMMANDS
        return
    try:
        parser(words[0]).parse_args(words)
    except CycloptsError as error:
        pytest.fail(f"{document}: {' '.join(words)}: {error}")


TEST_NAME = re.compile(r"`(tests/[\w/]+\.py)?::(test_\w+)`")


def named_tests(text: str) -> list[tuple[str, str]]:
    """Give (file, test) of every test that a document names; ``::test`` alone is of the file named before it.

    Parameters
    ----------
    text : str
        Markdown.

    Returns
    -------
    list of tuple of str
    """
    found, file = [], ""
    for match in TEST_NAME.finditer(text):
        file = match[1] or file
        found.append((file, match[2]))
    return found


def test_named_tests_are_found_with_their_files() -> None:
    """A test without a file is of the file named before it."""
    text = "`tests/a.py::test_x`, `::test_y` and `tests/b/c.py::test_x`"
    assert named_tests(text) == [("tests/a.py", "test_x"), ("tests/a.py", "test_y"), ("tests/b/c.py", "test_x")]


def test_every_test_that_a_document_names_exists() -> None:
    """What the documents call tested has a test of that name, and the reading room names more than forty."""
    named = [(path.name, *one) for path in DOCUMENTS for one in named_tests(path.read_text(encoding="utf-8"))]
    missing = [one for one in named if not re.search(rf"^def {one[2]}\(", read_text(one[1]), re.MULTILINE)]
    assert missing == []
    assert sum(one[0] == "reading-checks.md" for one in named) > 40


@cache
def read_text(file: str) -> str:
    path = ROOT / file
    return path.read_text(encoding="utf-8") if path.is_file() else ""
