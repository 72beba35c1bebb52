"""The rules of the house, checked: import directions, lazy imports, sizes, names, docstrings."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "napari_alnct"
MODULES = sorted(PACKAGE.rglob("*.py"))
TORCH_MODULES = {
    "network",
    "second_look",
    "targets",
    "checkpoint",
    "state_dicts",
    "inference",
    "dense",
    "detector",
    "explain",
}
GUI_PACKAGES = ("napari", "qtpy", "magicgui", "superqt", "psygnal", "vispy", "PyQt5", "PyQt6", "PySide2", "PySide6")
FORBIDDEN_NAMES = {"utils", "util", "helpers", "helper", "tools", "misc", "common"}
MODULE_LINES, FUNCTION_LINES, SHORT_FUNCTION_LINES = 400, 50, 25

Function = ast.FunctionDef | ast.AsyncFunctionDef


def module_id(path: Path) -> str:
    """Give the path inside the package, for readable test ids."""
    return path.relative_to(PACKAGE).as_posix()


def functions(tree: ast.AST) -> Iterator[Function]:
    """Give every function and method of a module, nested ones too."""
    return (node for node in ast.walk(tree) if isinstance(node, Function))


def body_lines(function: Function) -> int:
    """Give the lines of a function's body, its docstring not counted."""
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


def public_parts(tree: ast.Module) -> Iterator[tuple[str, ast.AST]]:
    """Give the public classes and functions of a module, and the public methods of its public classes."""
    for node in tree.body:
        if isinstance(node, Function | ast.ClassDef) and not node.name.startswith("_"):
            yield node.name, node
            for part in node.body if isinstance(node, ast.ClassDef) else ():
                if isinstance(part, Function) and not part.name.startswith("_"):
                    yield f"{node.name}.{part.name}", part


def importlinter_contracts() -> dict[str, dict[str, object]]:
    """Give the import contracts of pyproject.toml by name."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return {contract["name"]: contract for contract in settings["tool"]["importlinter"]["contracts"]}


def test_import_contracts_are_kept() -> None:
    """All contracts of pyproject.toml hold for the present code."""
    from importlinter.cli import lint_imports

    assert lint_imports(config_filename=str(ROOT / "pyproject.toml"), no_cache=True) == 0, "run lint-imports"


def test_contract_of_torch_free_modules_is_complete() -> None:
    """Each core module is one of the torch modules or is held free of torch."""
    sources = importlinter_contracts()["review needs no torch"]["source_modules"]
    assert isinstance(sources, list)
    free = {name.removeprefix("napari_alnct.core.") for name in sources if name.startswith("napari_alnct.core.")}
    present = {path.stem for path in (PACKAGE / "core").glob("*.py")} - {"__init__"}
    assert present - TORCH_MODULES == free


@pytest.mark.parametrize(
    ("statement", "unwanted"),
    [
        ("import napari_alnct.cli.app", (*GUI_PACKAGES, "torch", "SimpleITK", "matplotlib", "scipy")),
        ("import napari_alnct.core.detector", GUI_PACKAGES),
        ("import napari_alnct.core.geometry", ("torch", "SimpleITK", *GUI_PACKAGES)),
        ("import napari_alnct.io.images", ("torch", *GUI_PACKAGES)),
        ("import napari_alnct.evaluation.froc", ("torch", *GUI_PACKAGES)),
        ("import napari_alnct.models.catalogue", ("torch", *GUI_PACKAGES)),
        ("import napari_alnct.data.phantom", ("torch", *GUI_PACKAGES)),
        ("import napari_alnct.plugin._reader", ("torch", "qtpy", "SimpleITK")),
        ("import napari_alnct.plugin._detect_widget", ("torch",)),
        ("import napari_alnct.plugin._prepare_widget", ("torch",)),
    ],
    ids=lambda value: value.split(".", 1)[-1] if isinstance(value, str) else "",
)
def test_import_loads_nothing_heavy(statement: str, unwanted: tuple[str, ...]) -> None:
    """A fresh interpreter that imports the module has not loaded the unwanted packages."""
    code = f"import sys\n{statement}\nprint(*(name for name in {unwanted!r} if name in sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.split() == []


def test_help_loads_no_torch() -> None:
    """`napari-alnct-train --help` shows the help without loading torch, SimpleITK or a GUI."""
    unwanted = ("torch", "SimpleITK", "matplotlib", *GUI_PACKAGES)
    code = (
        "import sys\nfrom napari_alnct.cli.app import run\nsys.argv = ['napari-alnct-train', '--help']\n"
        "try:\n    run()\nexcept SystemExit:\n    pass\n"
        f"print('LOADED', *(name for name in {unwanted!r} if name in sys.modules))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "detect" in result.stdout
    assert result.stdout.splitlines()[-1] == "LOADED"


@pytest.mark.parametrize("path", MODULES, ids=module_id)
def test_module_is_short_and_well_named(path: Path) -> None:
    """A module has at most 400 lines, a docstring, and a name that says what is in it."""
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= MODULE_LINES
    assert ast.get_docstring(ast.parse(text))
    assert path.stem not in FORBIDDEN_NAMES


@pytest.mark.parametrize("path", [p for p in MODULES if p.name == "__init__.py"], ids=module_id)
def test_package_file_holds_a_docstring_only(path: Path) -> None:
    """An __init__.py re-exports nothing (a re-export would load torch); the top one holds the version."""
    code = [ast.unparse(node) for node in ast.parse(path.read_text(encoding="utf-8")).body[1:]]
    assert [line for line in code if not re.fullmatch(r"__version__ = '[\w.]+'", line)] == []


@pytest.mark.parametrize("path", MODULES, ids=module_id)
def test_functions_are_short_and_typed(path: Path) -> None:
    """A function body has at most 50 lines, and every function says what it returns."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    too_long = [f"{f.name}: {body_lines(f)} lines" for f in functions(tree) if body_lines(f) > FUNCTION_LINES]
    untyped = [f.name for f in functions(tree) if f.returns is None]
    assert (too_long, untyped) == ([], [])


def test_body_lines_leaves_the_docstring_out() -> None:
    """A docstring and two statements count as two lines."""
    tree = ast.parse('def f():\n    "Doc."\n    a = 1\n    return a\n')
    assert [body_lines(function) for function in functions(tree)] == [2]


def test_nine_of_ten_functions_are_very_short() -> None:
    """90 % of all function bodies have at most 25 lines."""
    lengths = [body_lines(f) for path in MODULES for f in functions(ast.parse(path.read_text(encoding="utf-8")))]
    assert sum(length <= SHORT_FUNCTION_LINES for length in lengths) / len(lengths) >= 0.9


@pytest.mark.parametrize("path", [p for p in MODULES if "plugin" not in p.parts], ids=module_id)
def test_public_parts_are_documented(path: Path) -> None:
    """Every public class, function and method has a docstring; none is called main."""
    parts = list(public_parts(ast.parse(path.read_text(encoding="utf-8"))))
    bare = [name for name, node in parts if ast.get_docstring(node) is None]  # type: ignore[arg-type]
    assert (bare, [name for name, _ in parts if name == "main"]) == ([], [])
