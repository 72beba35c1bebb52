"""The manifest: valid, complete, and every entry leads somewhere."""

from __future__ import annotations

import tomllib
from importlib import import_module
from pathlib import Path

from npe2 import PluginManifest

import napari_alnct
from napari_alnct.plugin._reader import SCAN_SUFFIXES

ROOT = Path(__file__).resolve().parents[2]
MANIFEST = Path(napari_alnct.__file__).with_name("napari.yaml")


def manifest() -> PluginManifest:
    """Give the manifest in the package, checked by npe2."""
    loaded = PluginManifest.from_file(MANIFEST)
    loaded.validate_imports()
    return loaded


def test_manifest_is_valid_and_all_commands_import() -> None:
    """npe2 accepts the manifest and every python_name leads to a callable."""
    for command in manifest().contributions.commands:
        module, name = command.python_name.split(":")
        assert callable(getattr(import_module(module), name))


def test_manifest_at_the_top_is_the_same_text() -> None:
    """`napari.yaml` at the top of the project is the manifest of the package (a link, or its text)."""
    top = ROOT / "napari.yaml"
    text = top.read_text(encoding="utf-8")
    if text.strip() == MANIFEST.relative_to(ROOT).as_posix():  # a link checked out where links are not supported
        return
    assert text == MANIFEST.read_text(encoding="utf-8")


def test_every_suffix_has_its_pattern() -> None:
    """Each kind of scan that the reader knows, and CSV, is in the manifest; folders are accepted."""
    (reader,) = manifest().contributions.readers
    assert set(reader.filename_patterns) == {f"*{suffix}" for suffix in (*SCAN_SUFFIXES, ".csv")}
    assert reader.accepts_directories


def test_menus_are_ones_that_napari_fills() -> None:
    """Entries outside napari's contributable menus would be dropped in silence."""
    from napari._app_model.constants._menus import is_menu_contributable

    menus = manifest().contributions.menus
    assert menus
    assert all(is_menu_contributable(menu) for menu in menus)


def test_plugin_is_declared_in_the_package() -> None:
    """The entry point and the classifier that napari's plugin list looks for are there."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["entry-points"]["napari.manifest"] == {"napari-alnct": "napari_alnct:napari.yaml"}
    assert "Framework :: napari" in project["classifiers"]
    assert manifest().name == project["name"]
